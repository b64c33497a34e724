use super::*;
use crate::{CellKind, FitSettings, LongSequence, fit};
use gatefold::Device;
use rand_chacha::rand_core::SeedableRng;

/// Sequences whose label at each step is the sign of the value before it; every seventh step has none.
fn long(sequences: usize, steps: usize, test_value: f64) -> Long {
    let sequence = |at: usize| {
        let test = at == 0;
        let value = |t: usize| {
            let sign = if (t * (3 + at) + t * t * 7) % 5 < 2 { 1.0 } else { -1.0 };
            sign + if test { test_value } else { 0.0 }
        };
        let label = |t: usize| if t > 0 && value(t - 1) > 0.0 { "up" } else { "down" };
        LongSequence {
            id: vec![at.to_string()],
            rows: (0..steps).collect(),
            values: Array2::from_shape_fn((steps, 1), |(t, _)| value(t)),
            labels: (0..steps).map(|t| (t % 7 != 6).then(|| label(t).to_owned())).collect(),
            part: Some(if test { Part::Test } else { Part::Training }),
        }
    };
    let columns =
        LongColumns { channels: vec!["x".into()], split: Some("part".into()), ..Default::default() };
    Long { columns, ignored: Vec::new(), sequences: (0..sequences).map(sequence).collect() }
}

fn settings() -> LabelSettings {
    let recurrent = Recurrent { cell: CellKind::Gru, hidden: 8, layers: 1 };
    LabelSettings { recurrent, embedding: 8, dropout: 0.1, noise: 0.05, window: 20, batch: 6, seed: 1 }
}

#[test]
fn the_scale_is_that_of_the_training_steps() {
    let scale = |value: f64| match LabelData::of_table(&long(6, 30, value), 0.2, 1).unwrap().reader {
        Reader::Numbers { scale, .. } => scale,
        Reader::Words { .. } => unreachable!("it is a table"),
    };
    assert_eq!(scale(0.0), scale(1000.0));
    // With few sequences the test is the end of each, and its steps are left out too.
    let mut table = long(2, 50, 0.0);
    table.columns.split = None;
    table.sequences.iter_mut().for_each(|one| one.part = None);
    let before = LabelData::of_table(&table, 0.2, 1).unwrap();
    assert_eq!(before.test, [0, 1].map(|sequence| Piece { sequence, steps: 40..50 }));
    table.sequences.iter_mut().for_each(|one| one.values.slice_mut(s![40.., ..]).fill(1e3));
    assert_eq!(LabelData::of_table(&table, 0.2, 1).unwrap().reader, before.reader);
}

/// Only labelled steps within a row are learnt: neither padding nor a step without a label has one.
#[test]
fn padded_and_unlabelled_steps_do_not_count() {
    let mut table = long(8, 30, 0.0);
    let short = &mut table.sequences[3];
    short.rows.truncate(9);
    short.labels.truncate(9);
    short.values = short.values.slice(s![..9, ..]).to_owned();
    let data = LabelData::of_table(&table, 0.2, 1).unwrap();
    let task = LabelTask::new(&data, settings(), 0);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let (mut padded, mut without) = (0, 0);
    for update in 0..40 {
        let mut again = random.clone();
        let (input, targets) = task.batch(update, &mut random).unwrap();
        let pieces: Vec<Piece> = (0..6).map(|_| task.window(&mut again)).collect();
        let output = ndarray::Array3::<f32>::zeros((input.steps(), input.batch(), 2));
        let labelled: usize = pieces.iter().map(|piece| data.count(std::slice::from_ref(piece))).sum();
        padded += pieces.iter().filter(|piece| piece.steps.len() < input.steps()).count();
        without += pieces.iter().map(|piece| piece.steps.len()).sum::<usize>() - labelled;
        // The loss of equal logits is ln 2 for each label that counts.
        let sum =
            targets.loss(&Loss::CrossEntropy, gatefold::training::Reduction::Sum, output.view()).unwrap();
        approx::assert_relative_eq!(sum, labelled as f64 * 2f64.ln(), max_relative = 1e-6);
    }
    assert!(padded > 0 && without > 0, "both kinds of steps occurred");
    let all = vec![1; data.test[0].steps.len()];
    assert_eq!(data.confusion(&all).unwrap().total() as usize, data.count(&data.test));
}

#[test]
fn labels_are_learnt_and_do_not_depend_on_other_rows() {
    let device = Device::cpu().unwrap();
    let data = LabelData::of_table(&long(8, 40, 0.0), 0.2, 1).unwrap();
    let fitted =
        fit(&device, &LabelTask::new(&data, settings(), 0), &FitSettings::new(200), &mut ()).unwrap();
    let facts = LabellerData { reader: data.reader.clone(), classes: data.classes.clone() };
    let labeller = Labeller { data: facts, networks: vec![fitted.network] };
    let found = labeller.probabilities(&data.test_inputs()).unwrap();
    let accuracy = data.confusion(&most_probable(&found)).unwrap().accuracy();
    assert!(accuracy > 0.95, "{accuracy}");
    let mut inputs = data.test_inputs();
    let longer = Array2::zeros((90, 1));
    inputs.push(longer.view());
    let beside = &labeller.probabilities(&inputs).unwrap()[0];
    assert!(found[0].iter().zip(beside).all(|(a, b)| (a - b).abs() < 1e-5));
    let (name, nearest) = data.nearest();
    assert_eq!((name.as_str(), nearest.len()), ("nearest, 25 steps", 40));
}

/// Words of the test sentences are unknown to the network, as words of new texts are.
#[test]
fn the_vocabulary_is_that_of_the_training_sentences() {
    let sentence = |at: usize| Sentence {
        line: 1,
        words: vec!["the".into(), format!("word{at}x")],
        tags: vec![Some("D".into()), Some(if at.is_multiple_of(2) { "N" } else { "V" }.into())],
    };
    let sentences: Vec<Sentence> = (0..20).map(sentence).collect();
    let data = LabelData::of_sentences(&sentences, WordColumns::default(), 0.2, 1).unwrap();
    let Reader::Words { vocabulary, .. } = &data.reader else { unreachable!("they are words") };
    assert_eq!(data.test.len(), 4);
    assert_eq!(vocabulary.words(), 1 + 16);
    for piece in &data.test {
        let word = &sentences[piece.sequence].words[1];
        assert_eq!(vocabulary.token(word), vocabulary.shape(word));
    }
    for piece in &data.training {
        let word = &sentences[piece.sequence].words[1];
        assert_ne!(vocabulary.token(word), vocabulary.shape(word));
    }
    let (_, found) = data.nearest();
    assert_eq!(found.len(), 8);
    assert_eq!(data.classes[found[0]], "D");
}
