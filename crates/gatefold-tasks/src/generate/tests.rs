use super::*;
use crate::CellKind;
use crate::fit::tests::StopAfter;
use std::collections::BTreeSet;

const WORDS: [&str; 8] = ["Ein", "blauer", "Vogel", "sah", "den", "großen", "Fluss", "heute"];

/// Sentences of words in a fixed order, each left out now and then, so that spelling is learnt at once.
fn text(sentences: usize, seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut text = String::new();
    for _ in 0..sentences {
        let words: Vec<&str> = WORDS.into_iter().filter(|_| random.random::<f32>() < 0.8).collect();
        text += &words.join(" ");
        text += ".\n";
    }
    text
}

fn settings(updates: u64) -> GenerateSettings {
    let fit = FitSettings { learning_rate: 0.01, looks: 4, ..FitSettings::new(updates) };
    GenerateSettings {
        recurrent: Recurrent { cell: CellKind::Gru, hidden: 24, layers: 1 },
        fit,
        dropout: 0.0,
    }
}

fn trained(parts: &TextParts, updates: u64) -> Generator {
    let fitted = parts.fit(&Device::cpu().unwrap(), &settings(updates), &mut ()).unwrap();
    Generator { network: fitted.network, vocabulary: parts.vocabulary.clone() }
}

#[test]
fn a_text_is_learnt_written_and_measured() {
    let parts = TextParts::new(&text(300, 1), Unit::Char).unwrap();
    let generator = trained(&parts, 150);
    let scores = generator.scores(&parts).unwrap();
    let n_gram = |order| scores.n_gram_bits.iter().find(|(found, _)| *found == order).unwrap().1;
    assert!(scores.bits < 0.7, "{scores:?}");
    // What comes next depends on few characters before, so n-grams know all that there is to know.
    assert!(n_gram(1) > 5.0 * scores.bits && n_gram(3) > n_gram(5), "{scores:?}");

    let write = |mut sampler: Sampler| generator.write("Ein ", 60, &mut sampler).unwrap();
    let sampled = write(Sampler::new(3));
    assert_eq!(sampled.chars().count(), 60);
    assert_eq!(sampled, write(Sampler::new(3)));
    assert_ne!(sampled, write(Sampler::new(4)));
    assert!(write(Sampler::greedy()).contains("großen Fluss"), "{}", write(Sampler::greedy()));
    let refused = generator.write("Ein Ä", 9, &mut Sampler::new(1)).unwrap_err().to_string();
    assert!(refused.starts_with("the character \"Ä\" (U+00C4) is too rare"), "{refused}");
    assert!(generator.write("", 9, &mut Sampler::new(1)).is_err());
}

/// The measure is the mean over all tokens of the part, however they are spread over rows and chunks.
#[test]
fn bits_are_those_of_one_row_read_token_by_token() {
    let parts = TextParts::new(&text(400, 2), Unit::Char).unwrap();
    let generator = trained(&parts, 20);
    let tokens = &parts.tokens[..3000];
    for first in [501, 1777, 2999] {
        let mut stream = generator.network.stream(1).unwrap();
        let mut bits = 0.0;
        for at in 0..tokens.len() - 1 {
            let output = stream.step(ArrayView1::from(&[tokens[at] as f32]).insert_axis(Axis(0))).unwrap();
            let exp: Vec<f64> = output.iter().map(|logit| f64::from(*logit).exp()).collect();
            if at + 1 >= first {
                bits -= (exp[tokens[at + 1] as usize] / exp.iter().sum::<f64>()).log2();
            }
        }
        let expected = bits / (tokens.len() - first) as f64;
        let found = mean_bits(&generator.network, tokens, first).unwrap();
        // After 500 units, the network has forgotten what came before them.
        assert!((found - expected).abs() < 1e-4, "from {first}: {found}, not {expected}");
    }
}

#[test]
fn training_never_sees_the_parts_held_out() {
    let device = Device::cpu().unwrap();
    let whole = text(300, 5);
    let parts = TextParts::new(&whole, Unit::Char).unwrap();
    let settings = settings(12);
    let fitted = parts.fit(&device, &settings, &mut ()).unwrap();

    // Another test part changes nothing in network and looks.
    let at = whole.char_indices().nth(parts.test).unwrap().0;
    let reversed: String = whole[at..].chars().rev().collect();
    let other = TextParts::new(&(whole[..at].to_owned() + &reversed), Unit::Char).unwrap();
    assert_ne!(other.test(), parts.test());
    let same = other.fit(&device, &settings, &mut ()).unwrap();
    assert_eq!(same.network.parameters().unwrap(), fitted.network.parameters().unwrap());
    assert_eq!(same.looks, fitted.looks);

    // Batches hold tokens of the training part alone: all others are marked as unknown here.
    let mut marked = parts.clone();
    marked.tokens[parts.validation..].fill(UnitVocabulary::UNKNOWN);
    let task = Writing { parts: &marked, settings: &settings };
    let mut seen = BTreeSet::new();
    for update in 0..3 * marked.batches() {
        let (input, targets) = task.batch(update, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        seen.extend(input.values().iter().map(|token| *token as u32));
        // The labels are the inputs of the next step.
        let shifted = Array2::from_shape_fn((STEPS - 1, marked.strips()), |(t, row)| {
            i64::from(input.values()[[t + 1, row, 0]] as u32)
        });
        let mut labels = Array2::from_elem((STEPS, marked.strips()), -1);
        labels.slice_mut(ndarray::s![..STEPS - 1, ..]).assign(&shifted);
        let sure = ndarray::Array3::from_shape_fn(
            (STEPS, marked.strips(), marked.vocabulary.tokens()),
            |(t, row, k)| {
                if t + 1 < STEPS && labels[[t, row]] == k as i64 { 30.0 } else { 0.0 }
            },
        );
        let loss = targets.loss(&Loss::CrossEntropy, Reduction::Sum, sure.view()).unwrap();
        let last_step = marked.strips() as f64 * (marked.vocabulary.tokens() as f64).ln();
        assert!(
            (loss - last_step).abs() < 1e-3,
            "update {update}: the labels are not the next tokens ({loss})"
        );
    }
    assert!(!seen.contains(&UnitVocabulary::UNKNOWN));
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let device = Device::cpu().unwrap();
    let parts = TextParts::new(&text(120, 1), Unit::Char).unwrap();
    let settings = settings(40);
    let whole = parts.fit(&device, &settings, &mut ()).unwrap();
    let mut watch = StopAfter { updates: 23, kept: None };
    assert!(matches!(parts.fit(&device, &settings, &mut watch), Err(TaskError::Stopped)));
    watch.updates = 0;
    let resumed = parts.fit(&device, &settings, &mut watch).unwrap();
    assert_eq!(resumed.network.parameters().unwrap(), whole.network.parameters().unwrap());
}

#[test]
fn words_are_units_too() {
    let parts = TextParts::new(&text(300, 1), Unit::Word).unwrap();
    let generator = trained(&parts, 100);
    let scores = generator.scores(&parts).unwrap();
    assert!(scores.bits < 1.5, "{scores:?}");
    let written = generator.write("Ein", 30, &mut Sampler::new(2)).unwrap();
    let known = |word: &str| WORDS.contains(&word.trim_end_matches('.'));
    assert!(written.split_whitespace().all(known), "{written}");
}

#[test]
fn texts_that_are_too_short_or_too_plain_are_refused() {
    let refused = |text: &str| TextParts::new(text, Unit::Char).unwrap_err().to_string();
    assert_eq!(refused(&"ä".repeat(999)), "the text has 999 characters; expected at least 1000");
    assert_eq!(refused(&"a".repeat(2000)), "the text has 1 characters that occur twice; expected at least 2");
    // The shortest text that is taken has room for every batch.
    let shortest: String = text(40, 1).chars().take(1000).collect();
    let parts = TextParts::new(&shortest, Unit::Char).unwrap();
    trained(&parts, 9);
}

/// Bits are measured by another way through the text.
#[test]
fn the_loss_of_examples_is_the_measure_in_other_units() {
    let parts = TextParts::new(&text(400, 2), Unit::Char).unwrap();
    let generator = trained(&parts, 20);
    let piece: String = text(40, 3).chars().take(151).collect();
    let tokens = generator.vocabulary.encode(&piece);
    let flow = generator.examples(&piece, 9).unwrap().gradient_flow(&generator.network).unwrap();
    let expected = mean_bits(&generator.network, &tokens, 1).unwrap() * std::f64::consts::LN_2;
    assert!((flow.loss - expected).abs() < 1e-5, "{} and {expected}", flow.loss);
    assert_eq!(generator.examples(&text(40, 3), 3).unwrap().input.values().dim(), (200, 3, 1));
    assert!(generator.examples("E", 3).is_err());
}
