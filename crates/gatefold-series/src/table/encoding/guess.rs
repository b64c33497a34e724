//! A guess of the encoding of bytes that are no Unicode.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GBK, ISO_8859_2, MACINTOSH, SHIFT_JIS, WINDOWS_1250, WINDOWS_1252,
};

/// Bytes that are looked at, from the first word that is not ASCII.
const LOOKED: usize = 1 << 20;
/// Letters beyond ASCII from which a guess is likely to be right.
const ENOUGH: usize = 12;
/// The length of a line of the report.
const ROOM: usize = 66;
/// The letters beyond a to z of languages written in Windows-1252, and in Windows-1250 or ISO-8859-2.
const WEST: [&str; 10] = [
    "äöüß",
    "éèêëàâçîïôûùüœæ",
    "áéíóúüñªº",
    "ãõáéíóúâêôçàü",
    "àèéìíòóùú",
    "åäöæøéü",
    "ëïéèöü",
    "áéíóúýþæðö",
    "õäöüšž",
    "àèéíòóúïüç",
];
const EAST: [&str; 6] =
    ["áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "ąćęłńóśźż", "áéíóöőúüű", "čćđšž", "ăâîşţșț"];
/// The share of letters by which a language must fit better.
const BETTER: f64 = 0.15;
const PAIRS: [&Encoding; 5] = [SHIFT_JIS, EUC_JP, GBK, BIG5, EUC_KR];

/// A guess, and what speaks for it.
#[derive(Debug)]
pub(super) struct Guess {
    pub(super) encoding: &'static Encoding,
    /// Whether most characters take two bytes.
    pub(super) pairs: bool,
    /// Letters beyond ASCII.
    letters: usize,
    /// Whether the text reads well: no letter stands where none should.
    well: bool,
    /// A word with such a letter as it is read, and as another encoding would have it.
    example: Option<(String, Option<String>)>,
}

impl Guess {
    /// How sure it is, in one line of the report.
    pub(super) fn doubt(&self) -> String {
        let name = super::Encoding::of(self.encoding);
        let sure = match (self.well, self.letters) {
            (_, 0) => "by signs alone",
            (false, _) => "badly",
            (true, ENOUGH..) => "likely",
            (true, _) => "few letters",
        };
        let line = |example: &str| format!("{name} guessed, {sure}{example}; or --encoding");
        let (word, both) = match &self.example {
            Some((word, Some(other))) => (format!(": '{word}'"), format!(": '{word}', not '{other}'")),
            Some((word, None)) => (format!(": '{word}'"), format!(": '{word}'")),
            None => Default::default(),
        };
        let fits = [both, word].iter().map(|example| line(example)).find(|line| line.chars().count() <= ROOM);
        fits.unwrap_or_else(|| line(""))
    }
}

/// Guesses the encoding. The detector of Firefox knows the languages and letters of each, but not that of old Macs, whose
/// letters are the signs of others.
pub(super) fn of(bytes: &[u8]) -> Guess {
    let (bytes, last) = looked_at(bytes);
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, last);
    let found = dated(bytes).unwrap_or_else(|| detector.guess(None, Utf8Detection::Deny));
    let pairs = PAIRS.contains(&found);
    let encoding = match pairs {
        true => found,
        // Where it does not matter, or reads no worse, the most usual one.
        false => {
            [found, WINDOWS_1250, ISO_8859_2, MACINTOSH].into_iter().fold(WINDOWS_1252, |best, other| {
                let (old, new) = (Read::of(best, bytes), Read::of(other, bytes));
                let wins = match () {
                    () if other == MACINTOSH => new.odd + 1 < old.odd || old.odd > 0 && new.odd == 0,
                    () if other == found => new.text != old.text && new.odd <= old.odd,
                    () => {
                        old.latin
                            && new.odd <= old.odd
                            && new.fit(&EAST) > old.fit(&WEST).max(old.fit(&EAST)) + BETTER
                    }
                };
                if wins { other } else { best }
            })
        }
    };
    let read = Read::of(encoding, bytes);
    let rival = if encoding == WINDOWS_1252 { found } else { WINDOWS_1252 };
    let other = Read::of(rival, bytes);
    let example = read.word().map(|(at, word)| {
        let other = other.words().nth(at).filter(|other| *other != word && rival != encoding);
        (word.to_owned(), other.map(str::to_owned))
    });
    Guess { encoding, pairs, letters: read.letters, well: read.odd == 0, example }
}

/// The encoding of pairs of bytes that alone has years, months and days as Chinese, Japanese and Korean write them after
/// numbers: a few dates are too little text for the detector.
fn dated(bytes: &[u8]) -> Option<&'static Encoding> {
    const SIGNS: [char; 6] = ['年', '月', '日', '년', '월', '일'];
    let dates = |encoding: &&&'static Encoding| {
        let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes) else {
            return false;
        };
        let after_digit = |at: usize| text[..at].trim_end().ends_with(|c: char| c.is_ascii_digit());
        let signs = text.match_indices(SIGNS).filter(|(at, _)| after_digit(*at)).map(|(_, sign)| sign);
        signs.collect::<std::collections::HashSet<_>>().len() >= 2
    };
    let mut found = PAIRS.iter().filter(dates);
    found.next().filter(|_| found.next().is_none()).copied()
}

/// The bytes that are looked at, which end with a line if any ends among them, and whether the text ends with them.
fn looked_at(bytes: &[u8]) -> (&[u8], bool) {
    let first = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(0);
    let start = bytes[..first].iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    let bytes = &bytes[start..];
    if bytes.len() <= LOOKED {
        return (bytes, true);
    }
    // No character of these encodings has the byte of a line's end within it.
    let end = bytes[..LOOKED].iter().rposition(|byte| *byte == b'\n').map_or(LOOKED, |at| at + 1);
    (&bytes[..end], false)
}

/// Bytes as an encoding reads them.
struct Read {
    text: String,
    /// Letters beyond ASCII.
    letters: usize,
    /// Places that no writer means: a sign within a word, a capital within small letters, letters of two scripts in a word,
    /// and bytes that are no character.
    odd: usize,
    /// Whether no letter is of another script.
    latin: bool,
}

impl Read {
    fn of(encoding: &'static Encoding, bytes: &[u8]) -> Read {
        let (text, _) = encoding.decode_without_bom_handling(bytes);
        let text = text.into_owned();
        let (mut letters, mut odd, mut latin) = (0, 0, true);
        let all: Vec<char> = text.chars().collect();
        for (at, c) in all.iter().enumerate().filter(|(_, c)| !c.is_ascii()) {
            let before = if at > 0 { all[at - 1] } else { ' ' };
            let after = all.get(at + 1).copied().unwrap_or(' ');
            letters += usize::from(c.is_alphabetic());
            latin &= !c.is_alphabetic() || script(*c) == 1 || is_mark(*c);
            odd += usize::from(is_odd(before, *c, after));
        }
        Read { text, letters, odd, latin }
    }

    /// The greatest share of the letters beyond ASCII that one of these languages has.
    fn fit(&self, languages: &[&str]) -> f64 {
        let letters = self.text.chars().filter(|c| !c.is_ascii() && c.is_alphabetic() && !is_mark(*c));
        let letters: Vec<char> = letters.flat_map(char::to_lowercase).collect();
        let share = |language: &&str| letters.iter().filter(|c| language.contains(**c)).count() as f64;
        languages.iter().map(share).fold(0.0, f64::max) / letters.len().max(1) as f64
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
    }

    /// The first word with a letter beyond ASCII, and its place among the words.
    fn word(&self) -> Option<(usize, &str)> {
        let foreign = |c: char| !c.is_ascii() && c.is_alphabetic();
        self.words().enumerate().find(|(_, word)| word.contains(foreign) && word.chars().count() <= 16)
    }
}

/// A number for each script that is told apart; 0 for others.
fn script(c: char) -> u8 {
    match c {
        'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => 1,
        '\u{370}'..='\u{3ff}' => 2,
        '\u{400}'..='\u{4ff}' => 3,
        _ => 0,
    }
}

/// Letters that are used as signs.
fn is_mark(c: char) -> bool {
    matches!(c, 'ª' | 'º' | 'µ' | 'ƒ')
}

fn is_odd(before: char, c: char, after: char) -> bool {
    if c == '\u{fffd}' || c.is_control() && c != '\u{85}' {
        return true;
    }
    if !c.is_alphabetic() {
        // Apostrophes and hyphens stand within words, and so do the marks after abbreviations.
        let joins = matches!(c, '’' | '‘' | '–' | '—' | '·' | '\u{a0}' | '\u{ad}' | '°');
        return !joins && before.is_alphabetic() && after.is_alphabetic();
    }
    let mixed = |other: char| script(other) != 0 && script(c) != 0 && script(other) != script(c);
    let capital_within = c.is_uppercase() && before.is_lowercase();
    // A small letter between capitals, or alone among signs.
    let small_within = c.is_lowercase() && before.is_uppercase() && after.is_uppercase();
    !is_mark(c) && c != 'ß' && (mixed(before) || mixed(after) || capital_within || small_within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_within_a_word_is_odd_and_a_letter_is_not() {
        let odd = ["Gr§e", "M‰rz", "GrŸn", "датаa", "naÏve", "PRêT"];
        let well = ["Größe", "l’été", "25 °C", "ÉTÉ", "Łódź", "дата", "º", "5 µm", "Žlutý", "STRAßE"];
        let count = |text: &str| {
            let all: Vec<char> = format!(" {text} ").chars().collect();
            all.windows(3)
                .filter(|three| !three[1].is_ascii() && is_odd(three[0], three[1], three[2]))
                .count()
        };
        assert_eq!(odd.map(count), [1, 1, 1, 1, 1, 1]);
        assert_eq!(well.map(count), [0; 10]);
    }
}
