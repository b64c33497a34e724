use super::task::tests::inputs;
use super::*;
use crate::{CellKind, FitSettings, LongSequence, Recurrent, fit};
use gatefold::Device;

/// Two channels of a rhythm of 12 with some noise, the second with the opposite sign, and some gaps.
fn long(steps: usize, gaps: &[usize]) -> Long {
    let value = |t: usize, channel: usize| {
        let noise = (t * t * 7919 % 1000) as f64 / 1000.0 - 0.5;
        let wave = 5.0 * (t as f64 * std::f64::consts::TAU / 12.0).sin() + noise;
        if channel == 0 { 100.0 + wave } else { 0.5 - 0.01 * wave }
    };
    let mut values = Array2::from_shape_fn((steps, 2), |(t, channel)| value(t, channel));
    gaps.iter().for_each(|at| values[[*at, 0]] = f64::NAN);
    let columns = LongColumns { channels: vec!["x".into(), "y".into()], ..Default::default() };
    let sequence = LongSequence {
        id: Vec::new(),
        rows: (0..steps).collect(),
        values,
        labels: vec![None; steps],
        part: None,
    };
    Long { columns, ignored: Vec::new(), sequences: vec![sequence] }
}

fn settings() -> ImputeSettings {
    let recurrent = Recurrent { cell: CellKind::Gru, hidden: 6, layers: 1 };
    ImputeSettings { recurrent, dropout: 0.0, window: 40, batch: 8, seed: 1 }
}

#[test]
fn hidden_values_are_known_ones_and_in_one_set_each() {
    let gaps = [20, 21, 22, 90, 150];
    let data = ImputeData::new(&long(300, &gaps), None, Some(25), 1).unwrap();
    assert_eq!((data.targets.as_slice(), data.gaps.as_slice()), (&[0][..], &[3, 1, 1][..]));
    assert_eq!((data.rhythm.season, data.missing()), (12, 5));
    assert_eq!(data.count(Hidden::Points), 25);
    let sets = [Hidden::Points, Hidden::Blocks, Hidden::Validation].map(|set| data.places(set)[0][0].clone());
    assert!(sets.iter().all(|set| set.len() >= 20), "{sets:?}");
    let mut all = sets.concat();
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]) && all.iter().all(|at| !gaps.contains(at)));
    // A test hides its own values alone; training and validation see no hidden value.
    let hidden =
        |set: Hidden| data.visible(set)[0][0].iter().filter(|value| value.is_nan()).count() - gaps.len();
    assert_eq!(hidden(Hidden::Points), sets[0].len());
    assert_eq!(hidden(Hidden::Validation), all.len());
    let other = ImputeData::new(&long(300, &gaps), None, Some(25), 2).unwrap();
    assert_ne!(other.points, data.points);
}

/// Training must not depend on what it is measured on, not even in one bit.
#[test]
fn values_hidden_for_the_test_are_not_seen_in_training() {
    let data = ImputeData::new(&long(200, &[50, 51]), None, None, 1).unwrap();
    let inputs_of = |data: &ImputeData| inputs(&ImputeTask::new(data, settings()).unwrap());
    let before = inputs_of(&data);
    assert!(!before.is_empty());
    for set in [Hidden::Points, Hidden::Blocks] {
        let mut changed = data.clone();
        assert!(!data.places(set)[0][0].is_empty());
        data.places(set)[0][0].iter().for_each(|at| changed.series[0][0][*at] += 1e4);
        assert!(inputs_of(&changed) == before, "{set:?}");
    }
    // One value that is not hidden changes what is learnt.
    let mut changed = data.clone();
    let seen = (0..200).find(|at| !data.visible(Hidden::Validation)[0][0][*at].is_nan()).unwrap();
    changed.series[0][0][seen] += 10.0;
    assert!(inputs_of(&changed) != before);
}

#[test]
fn the_other_channel_and_the_season_fill_what_a_line_cannot() {
    let device = Device::cpu().unwrap();
    let gaps: Vec<usize> = (40..46).chain(100..106).chain([150]).collect();
    let table = long(240, &gaps);
    let truth = long(240, &[]);
    let data = ImputeData::new(&table, None, None, 1).unwrap();
    let task = ImputeTask::new(&data, settings()).unwrap();
    let fitted = fit(&device, &task, &FitSettings { looks: 6, ..FitSettings::new(120) }, &mut ()).unwrap();
    let imputer = Imputer::chosen(&data, &task, vec![fitted.network]).unwrap();
    let found = imputer.fill_gaps(&table).unwrap();
    assert_eq!(found.iter().map(|filled| filled.step).collect::<Vec<_>>(), gaps);
    let error = |method: usize| {
        let pairs =
            found.iter().map(|filled| (truth.sequences[0].values[[filled.step, 0]], filled.values[method]));
        ImputeErrors::of(pairs).mae
    };
    assert!(error(2) < 0.2 * error(0), "the other channel is the same wave: {} of {}", error(2), error(0));
    assert!(error(3) < 0.25 * error(0), "network: {} of {}", error(3), error(0));
    assert!(!matches!(imputer.data.method, Method::Linear | Method::Kalman), "{:?}", imputer.data.method);
    let of_chosen = METHODS.iter().position(|method| *method == imputer.data.method).unwrap();
    let least = imputer.data.validation.iter().copied().fold(f64::INFINITY, f64::min);
    let chosen = imputer.data.validation[of_chosen];
    assert!(chosen == least || imputer.data.method == Method::Combination, "the best, or the combination");
    assert!((imputer.data.weights.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", imputer.data.weights);
    for filled in &found {
        let values = filled.values.iter().zip(&imputer.data.weights);
        let mean = values.map(|(value, weight)| value * weight).sum::<f64>();
        assert!((filled.values[4] - mean).abs() < 1e-9, "{:?}", filled.values);
    }
    // As many of the validation errors are inside as the level says, and one more at most.
    let hidden = imputer.hidden(&data, Hidden::Validation).unwrap();
    let inside = hidden.iter().filter(|filled| {
        let [_, low, high] = imputer.interval(filled, 0.8);
        (low - 1e-9..=high + 1e-9).contains(&data.series[0][0][filled.step])
    });
    let share = inside.count() as f64 / hidden.len() as f64;
    assert!((0.8..0.8 + 1.5 / hidden.len() as f64 + 0.02).contains(&share), "{share}");
}

#[test]
fn a_series_that_says_nothing_is_refused() {
    let mut table = long(50, &[]);
    table.sequences[0].values.column_mut(1).fill(f64::NAN);
    let message = ImputeData::new(&table, None, None, 1).unwrap_err().to_string();
    assert!(message.starts_with("column y has no value at all"), "{message}");
    let message = ImputeData::new(&long(100, &[]), None, Some(101), 1).unwrap_err().to_string();
    assert!(message.contains("101 of 200 known values cannot be hidden"), "{message}");
    let message = ImputeData::new(&long(8, &[]), None, None, 1).unwrap_err().to_string();
    assert!(message.contains("expected at least 10"), "{message}");
}

/// Known values of the first channel are hidden, filled by the network, and the loss is the mean error.
#[test]
fn the_loss_of_examples_is_the_error_of_what_is_filled() {
    let table = long(150, &[40, 41, 100]);
    let data = ImputeData::new(&table, None, None, 1).unwrap();
    let task = ImputeTask::new(&data, settings()).unwrap();
    let fitted = fit(&Device::cpu().unwrap(), &task, &FitSettings::new(20), &mut ()).unwrap();
    let imputer = Imputer::chosen(&data, &task, vec![fitted.network]).unwrap();
    assert_eq!(imputer.data.targets, [0]);
    let examples = imputer.examples(&table, 5).unwrap();
    // The second value of a step says that the first is known.
    assert_eq!((examples.input.steps(), examples.input.batch()), (150, 1));
    let flag = |step: &usize| examples.input.values()[[*step, 0, 1]] == 0.0;
    let truth = table.sequences[0].values.column(0).to_vec();
    let hidden: Vec<usize> = (0..150).filter(flag).filter(|step| !truth[*step].is_nan()).collect();
    assert_eq!(hidden.len(), 14);
    let mut visible: Vec<Vec<f64>> = channels_of(&table.sequences[0]);
    hidden.iter().for_each(|step| visible[0][*step] = f64::NAN);
    let filled = imputer.fill(0, &visible, &[hidden, Vec::new()]).unwrap();
    let error = |one: &Filled| (one.values[3] - truth[one.step]).abs() / one.unit;
    let expected = filled.iter().map(error).sum::<f64>() / filled.len() as f64;
    let flow = examples.gradient_flow(&imputer.networks[0]).unwrap();
    assert!((flow.loss - expected).abs() < 1e-5 * expected.max(1.0), "{} and {expected}", flow.loss);
}
