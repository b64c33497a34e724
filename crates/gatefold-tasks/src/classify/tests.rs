use super::*;
use crate::{CellKind, FitSettings, fit};
use gatefold::Device;

/// Sequences of `lengths` steps whose class is the sign of their slope; `value` is added to those of the test.
fn long(lengths: impl Iterator<Item = usize>, value: f64, split: bool) -> Long {
    let sequences = lengths.enumerate().map(|(at, steps)| {
        let (rises, test) = (at % 2 == 0, at % 4 == 3 || at % 8 == 0);
        let slope = if rises { 1.0 } else { -1.0 };
        LongSequence {
            id: vec![at.to_string()],
            rows: (0..steps).collect(),
            values: Array2::from_shape_fn((steps, 1), |(t, _)| {
                0.2 * (at * 7 % 5) as f64 + slope * t as f64 + if test { value } else { 0.0 }
            }),
            labels: vec![Some(if rises { "10" } else { "9" }.to_owned()); steps],
            part: split.then_some(if test { Part::Test } else { Part::Training }),
        }
    });
    let columns =
        LongColumns { channels: vec!["x".into()], split: split.then(|| "part".into()), ..Default::default() };
    Long { columns, ignored: Vec::new(), sequences: sequences.collect() }
}

fn settings() -> ClassifySettings {
    let recurrent = Recurrent { cell: CellKind::Gru, hidden: 8, layers: 1 };
    ClassifySettings { recurrent, dropout: 0.2, noise: 0.05, batch: 8, seed: 1 }
}

/// A leak of the test into the scaling would make the results look better than they are.
#[test]
fn the_scale_is_that_of_the_training_sequences() {
    let lengths = || (0..40).map(|at| 4 + at % 5);
    let data = ClassifyData::new(&long(lengths(), 0.0, true), 0.2, 1).unwrap();
    let moved = ClassifyData::new(&long(lengths(), 1000.0, true), 0.2, 1).unwrap();
    assert_eq!(data.scale, moved.scale);
    let steps: Vec<f64> = data
        .training
        .iter()
        .flat_map(|at| long(lengths(), 0.0, true).sequences[*at].values.column(0).to_vec())
        .collect();
    let mean = steps.iter().sum::<f64>() / steps.len() as f64;
    approx::assert_relative_eq!(data.scale.mean[0], mean, max_relative = 1e-12);
    assert!(data.test.iter().all(|at| !data.training.contains(at)));
}

#[test]
fn no_network_learns_from_the_test_or_from_its_own_validation_part() {
    let data = ClassifyData::new(&long((0..64).map(|_| 5), 0.0, false), 0.25, 3).unwrap();
    assert_eq!(data.test.len(), 16);
    for member in 0..3 {
        let task = ClassifyTask::new(&data, settings(), member);
        assert!(!task.validated.is_empty());
        for update in 0..30 {
            let drawn = of_epoch(&task.learnt, 8, update, 1);
            assert!(drawn.iter().all(|at| !data.test.contains(at) && !task.validated.contains(at)));
        }
        // Each epoch sees every sequence once.
        let per_epoch = task.learnt.len().div_ceil(8) as u64;
        let mut seen: Vec<usize> =
            (0..per_epoch).flat_map(|update| of_epoch(&task.learnt, 8, update, 1)).collect();
        seen.sort_unstable();
        assert_eq!(seen, task.learnt);
    }
}

#[test]
fn a_sequence_is_classified_alone_as_beside_longer_ones() {
    let device = Device::cpu().unwrap();
    let data = ClassifyData::new(&long((0..40).map(|at| 3 + at % 9), 0.0, false), 0.2, 1).unwrap();
    let task = ClassifyTask::new(&data, settings(), 0);
    let fitted = fit(&device, &task, &FitSettings { looks: 5, ..FitSettings::new(200) }, &mut ()).unwrap();
    let facts = ClassifierData {
        columns: data.columns.clone(),
        classes: data.classes.clone(),
        scale: data.scale.clone(),
    };
    let classifier = Classifier { data: facts, networks: vec![fitted.network] };
    let all: Vec<ArrayView2<f32>> = data.scaled.iter().map(|values| values.view()).collect();
    let together = classifier.probabilities(&all).unwrap();
    for (at, values) in all.iter().enumerate() {
        let alone = classifier.probabilities(&[*values]).unwrap();
        assert!((alone[[0, 0]] - together[[at, 0]]).abs() < 1e-5, "sequence {at}");
    }
    let predicted: Vec<usize> = data.test.iter().map(|at| largest(together.row(*at))).collect();
    let accuracy = data.confusion(&predicted).unwrap().accuracy();
    assert!(accuracy >= 0.9, "{accuracy}");
    assert_eq!(data.classes, ["9", "10"], "numbers are in order of size");
    let majority = data.confusion(&vec![data.majority(); data.test.len()]).unwrap();
    assert!((majority.accuracy() - 0.5).abs() < 1e-12);
    assert_eq!(data.nearest_by_features().len(), data.test.len());
}

#[test]
fn classes_that_cannot_be_learnt_are_refused() {
    let table = long((0..20).map(|_| 4), 0.0, true);
    let problem = |change: &dyn Fn(&mut Long)| {
        let mut table = table.clone();
        change(&mut table);
        ClassifyData::new(&table, 0.2, 1).unwrap_err().to_string()
    };
    let all = |label: &'static str| {
        move |table: &mut Long| {
            table.sequences.iter_mut().for_each(|one| one.labels.fill(Some(label.into())));
        }
    };
    assert!(problem(&all("9")).contains("every sequence has the class 9"));
    assert!(problem(&|table| table.sequences[3].labels[0] = None).contains("the sequence 3 has no class"));
    assert!(
        problem(&|table| table.sequences[3].labels[2] = None)
            .contains("the class 9 at one step and none at another")
    );
    assert!(
        problem(&|table| table.sequences[3].labels.fill(Some("11".into())))
            .contains("no training sequence has the class 11")
    );
    let own = |table: &mut Long| {
        table.sequences.iter_mut().enumerate().for_each(|(at, one)| one.labels.fill(Some(format!("c{at}"))));
    };
    assert!(problem(&own).contains("a class of its own"));
    let none = |table: &mut Long| table.sequences.iter_mut().for_each(|one| one.part = Some(Part::Test));
    assert!(problem(&none).contains("0 sequences for training and 20 for the test"));
}
