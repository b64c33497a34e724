use super::*;
use crate::CellKind;
use rand_chacha::rand_core::SeedableRng;

const DIGITS: [(&str, &str); 10] = [
    ("null", "zero"),
    ("eins", "one"),
    ("zwei", "two"),
    ("drei", "three"),
    ("vier", "four"),
    ("fünf", "five"),
    ("sechs", "six"),
    ("sieben", "seven"),
    ("acht", "eight"),
    ("neun", "nine"),
];

/// 400 numbers of three digits in German, and in English with the digits in the opposite order.
fn pairs() -> Vec<Pair> {
    let pair = |number: usize| {
        let digits = [number / 100, number / 10 % 10, number % 10];
        let words = |language: fn(usize) -> &'static str, digits: [usize; 3]| digits.map(language).join(" ");
        let [a, b, c] = digits;
        Pair {
            source: words(|digit| DIGITS[digit].0, digits),
            target: words(|digit| DIGITS[digit].1, [c, b, a]),
        }
    };
    (0..400).map(|k| pair(k * 7919 % 1000)).collect()
}

fn settings(updates: u64) -> TranslateSettings {
    let fit = FitSettings { learning_rate: 0.007, looks: 4, ..FitSettings::new(updates) };
    TranslateSettings {
        recurrent: Recurrent { cell: CellKind::Lstm, hidden: 48, layers: 1 },
        fit,
        dropout: 0.0,
    }
}

fn trained(parts: &PairParts, unit: Unit, updates: u64) -> Translator {
    let languages = Languages::new(&parts.training, unit);
    let device = Device::cpu().unwrap();
    let fitted = fit_translator(&device, parts, &languages, &settings(updates), &mut ()).unwrap();
    Translator { network: fitted.network, languages }
}

fn sources(pairs: &[Pair]) -> Vec<String> {
    pairs.iter().map(|pair| pair.source.clone()).collect()
}

fn texts(translations: &[Translation]) -> Vec<String> {
    translations.iter().map(|translation| translation.text.clone()).collect()
}

#[test]
fn new_combinations_are_translated_in_both_units() {
    let words = pairs();
    // In characters: the words of a number in figures.
    let figures = |pair: &Pair| {
        let figure = |word| DIGITS.iter().position(|(german, _)| *german == word).unwrap().to_string();
        Pair { source: pair.source.split(' ').map(figure).collect(), ..pair.clone() }
    };
    let characters: Vec<Pair> = words.iter().map(figures).collect();
    for (unit, pairs) in [(Unit::Word, &words), (Unit::Char, &characters)] {
        let parts = PairParts::new(pairs, 99, 1).unwrap();
        let translator = trained(&parts, unit, 400);
        let sources = sources(&parts.test);
        let scores = TranslateScores::new(&texts(&translator.translate(&sources, 1).unwrap()), &parts.test);
        let nearest = TranslateScores::new(&nearest_translations(&parts.training, &sources), &parts.test);
        let copied = TranslateScores::new(&sources, &parts.test);
        assert!(scores.exact >= 70.0, "{unit}: {scores:?}");
        assert!(scores.chrf > nearest.chrf && nearest.chrf > copied.chrf, "{nearest:?} {copied:?}");
        assert_eq!((nearest.exact, copied.exact), (0.0, 0.0));
    }
}

#[test]
fn a_beam_is_never_ranked_below_greedy_and_its_probability_is_the_networks() {
    let parts = PairParts::new(&pairs(), 99, 1).unwrap();
    // Hardly trained, so that greedy choices are often wrong ones.
    let translator = trained(&parts, Unit::Char, 40);
    let sources = sources(&parts.test);
    let rows: Vec<Vec<u32>> = sources.iter().map(|text| translator.languages.source_tokens(text)).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let greedy = translator.search(&rows, 1).unwrap();
    let mut better = 0;
    for width in [2, 5] {
        let found = translator.search(&rows, width).unwrap();
        for (found, greedy) in found.iter().zip(&greedy) {
            assert!(rank(found) >= rank(greedy), "{found:?} for {greedy:?}");
            better += usize::from(rank(found) > rank(greedy));
        }
    }
    assert!(better > 20, "a beam finds better translations than greedy choices do: {better}");

    // The same, step by step from the encoder's states.
    let marks = translator.languages.marks();
    for (at, (tokens, log_probability)) in greedy.iter().enumerate().take(5) {
        let encoded = translator.network.encode(sequences(&rows[at..=at]).unwrap()).unwrap();
        let mut stream = translator.network.stream(1).unwrap();
        stream.set_states(&encoded).unwrap();
        let (mut sum, mut last) = (0.0, marks.begin);
        for token in tokens.iter().copied().chain([marks.end]) {
            let output = stream.step(Array2::from_elem((1, 1), last as f32).view()).unwrap();
            sum += log_share(output.row(0), token);
            last = token;
        }
        assert!((sum - log_probability).abs() < 1e-4, "{sum}, not {log_probability}");
        let text = &translator.translate(&sources[at..=at], 1).unwrap()[0];
        assert!((text.log_probability - log_probability).abs() < 1e-4);
    }
}

/// The labels are the target, one unit after what the decoder reads, then the end mark, then nothing.
#[test]
fn the_decoder_reads_the_target_one_step_late() {
    let parts = PairParts::new(&pairs(), 99, 1).unwrap();
    let languages = Languages::new(&parts.training, Unit::Word);
    let marks = languages.marks();
    let long = languages.target_tokens("one two");
    let short = languages.target_tokens("six");
    assert_eq!((long.len(), short.len()), (2, 1));
    let (input, labels) = languages.batch(&[&[1, 2], &[3]], &[&long, &short]).unwrap();
    let read = input.decoder().unwrap().values().mapv(|token| token as u32);
    assert_eq!(read.as_slice().unwrap(), [marks.begin, marks.begin, long[0], short[0], long[1], 0]);
    let right = [[long[0], short[0]], [long[1], marks.end], [marks.end, 0]];
    let sure = ndarray::Array3::from_shape_fn((3, 2, languages.target.tokens() + 1), |(t, row, token)| {
        if right[t][row] == token as u32 { 30.0 } else { 0.0 }
    });
    assert!(labels.loss(&Loss::CrossEntropy, Reduction::Sum, sure.view()).unwrap() < 1e-9);
}

#[test]
fn training_never_sees_the_test() {
    let mut parts = PairParts::new(&pairs(), 99, 3).unwrap();
    let fitted = trained(&parts, Unit::Char, 6);
    for pair in &mut parts.test {
        pair.target = "something else".into();
    }
    let same = trained(&parts, Unit::Char, 6);
    assert_eq!(same.network.parameters().unwrap(), fitted.network.parameters().unwrap());
    let task = |languages| Translating::new(&parts, languages, Box::leak(Box::new(settings(1))));
    let languages = fitted.languages.clone();
    let task = task(&languages);
    let known: Vec<Vec<u32>> =
        parts.training.iter().map(|pair| languages.source_tokens(&pair.source)).collect();
    let (input, _) = task.batch(0, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    let lengths = input.lengths().unwrap();
    for (row, length) in lengths.iter().enumerate() {
        let read: Vec<u32> = (0..*length).map(|t| input.values()[[t, row, 0]] as u32).collect();
        assert!(known.contains(&read));
    }
}

#[test]
fn the_nearest_source_lends_its_translation() {
    let training = [("abc", "1"), ("abd", "2"), ("xyzxyz", "3"), ("", "4")];
    let pairs = training.map(|(source, target)| Pair { source: source.into(), target: target.into() });
    let of = |source: &str| nearest_translations(&pairs, &[source.to_owned()]).remove(0);
    assert_eq!([of("abc"), of("abdd"), of("ab"), of("xyz"), of("q")], ["1", "2", "1", "1", "4"]);
}

#[test]
fn words_are_chosen_where_they_are_known() {
    let parts = PairParts::new(&pairs(), 99, 1).unwrap();
    assert_eq!(suited_pair_unit(&parts).0, Unit::Word);
    let reason = |parts: &PairParts| {
        let (unit, reason) = suited_pair_unit(parts);
        assert_eq!(unit, Unit::Char);
        reason
    };
    let (mut rare_targets, mut rare_sources) = (parts.clone(), parts);
    for (k, pair) in rare_targets.validation.iter_mut().enumerate() {
        pair.target = format!("unseen{k} {}", pair.target);
    }
    let occur = "occur twice in training";
    assert_eq!(
        reason(&rare_targets),
        format!("100 % of the words of new sources and 75 % of new targets {occur}")
    );
    // Figures: each source is one word, and none occurs twice.
    for (k, pair) in rare_sources.training.iter_mut().chain(&mut rare_sources.validation).enumerate() {
        pair.source = k.to_string();
    }
    assert_eq!(
        reason(&rare_sources),
        format!("0 % of the words of new sources and 100 % of new targets {occur}")
    );
}

#[test]
fn what_cannot_be_translated_is_refused() {
    let parts = PairParts::new(&pairs(), 99, 1).unwrap();
    let translator = trained(&parts, Unit::Char, 1);
    let refused = |texts: &[&str], beam| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        translator.translate(&texts, beam).unwrap_err().to_string()
    };
    assert_eq!(refused(&["eins", " "], 1), "text 2 is empty; expected something to translate");
    assert!(refused(&["eins"], 0).contains("a beam of width 0"));
    // Unknown characters are read as unknown.
    assert_eq!(translator.translate(&["Ω".into()], 1).unwrap().len(), 1);
}

/// Log-probabilities are found by another way through the outputs.
#[test]
fn the_loss_of_examples_is_that_of_their_translations() {
    let parts = PairParts::new(&pairs(), 99, 1).unwrap();
    let translator = trained(&parts, Unit::Char, 10);
    let pairs = &parts.test;
    let flow = translator.examples(pairs, 1000).unwrap().gradient_flow(&translator.network).unwrap();
    let tokens = |texts: Vec<String>, of: &dyn Fn(&str) -> Vec<u32>| -> Vec<Vec<u32>> {
        texts.iter().map(|text| of(text)).collect()
    };
    let read = tokens(sources(pairs), &|text| translator.languages.source_tokens(text));
    let targets = pairs.iter().map(|pair| pair.target.clone()).collect();
    let written = tokens(targets, &|text| translator.languages.target_tokens(text));
    let read: Vec<&[u32]> = read.iter().map(Vec::as_slice).collect();
    let rows: Vec<&[u32]> = written.iter().map(Vec::as_slice).collect();
    let found = translator.log_probabilities(&read, &rows).unwrap();
    let units: usize = written.iter().map(|tokens| tokens.len() + 1).sum();
    let expected = -found.iter().sum::<f64>() / units as f64;
    assert!((flow.loss - expected).abs() < 1e-5, "{} and {expected}", flow.loss);
}
