//! Names of states: those of an input and of the output that carries it on, as exporters and authors write them.

/// Words that tell only the direction.
const DIRECTIONS: [&str; 18] = [
    "in", "input", "inputs", "out", "output", "outputs", "new", "next", "old", "prev", "previous", "past",
    "present", "init", "initial", "cur", "current", "updated",
];

/// A name without the words that tell its direction: `in_state_1` and `out_state_1` are `state 1`. None for `input_1`,
/// which tells nothing else.
pub(super) fn canonical(name: &str) -> Option<String> {
    let kept: Vec<String> =
        words(name).into_iter().filter(|word| !DIRECTIONS.contains(&word.as_str())).collect();
    kept.iter().any(|word| word.contains(char::is_alphabetic)).then(|| kept.join(" "))
}

/// The same without numbers and the letters that stand for them: `h0` and `hn` are `h`.
pub(super) fn without_numbers(name: &str) -> Option<String> {
    let name = canonical(name)?;
    let letters = |word: &str| word.trim_end_matches(|letter: char| letter.is_ascii_digit()).to_owned();
    let mut kept: Vec<String> =
        name.split(' ').map(letters).filter(|word| !["", "n", "t"].contains(&word.as_str())).collect();
    for word in &mut kept {
        // hn, cn
        if word.len() == 2 && word.is_ascii() && word.ends_with('n') {
            word.truncate(1);
        }
    }
    (!kept.is_empty()).then(|| kept.join(" "))
}

/// The words of a name in lower case: `stateN` has two.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        let begins = letter.is_uppercase() && before.is_lowercase();
        if begins || !letter.is_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            let last = words.last_mut().expect("it begins with one");
            last.extend(letter.to_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_state_are_equal() {
        for (input, output) in [
            ("in_state_1", "out_state_1"),
            ("conv_cache", "conv_cache_out"),
            ("hidden.input", "hidden.output"),
        ] {
            assert_eq!(canonical(input), canonical(output), "{input}");
        }
        for (input, output) in
            [("state", "stateN"), ("h0", "hn"), ("h_0", "h_n"), ("c", "cn"), ("state", "new_state")]
        {
            assert_eq!(without_numbers(input), without_numbers(output), "{input}");
        }
        assert_ne!(canonical("in_state_1"), canonical("out_state_2"));
        assert_ne!(without_numbers("h0"), without_numbers("cn"));
        for name in ["input_1", "output_1", "input", "in.0"] {
            assert_eq!((canonical(name), without_numbers(name)), (None, None), "{name}");
        }
    }
}
