//! Masks of recurrent layers in training: the same on every device, after a resume, and for each tape its own; none in
//! inference. And what layer normalisation and noise refuse.

use gatefold::devices::ScanChoice;
use gatefold::layers::{
    Activation, DenseConfig, Direction, GruConfig, LayerConfig, LayerNorm, LstmConfig, Reset, RnnConfig,
};
use gatefold::schedule::{Shape, Target, schedule};
use gatefold::training::Dropout;
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_check::{
    Failures, NetworkCase, Tolerance, assert_array, assert_parameters, gradient_terms, output_terms,
    test_devices,
};
use ndarray::{Array3, s};
use std::collections::BTreeMap;

const BATCH: usize = 5;
const STEPS: usize = 6;

fn config(layer: impl Into<LayerConfig>) -> NetworkConfig {
    NetworkConfig::new(3, [layer.into(), DenseConfig::new(2).into()]).unwrap()
}

/// Each kind of noise alone, and all with layer normalisation in both directions.
fn networks() -> Vec<NetworkConfig> {
    vec![
        config(LstmConfig::new(7).zoneout(0.3).zoneout_cell(0.5)),
        config(GruConfig::new(6).recurrent_dropout(0.4)),
        config(LstmConfig::new(7).candidate_dropout(0.4)),
        config(RnnConfig::new(6).drop_connect(0.5)),
        config(
            LstmConfig::new(5)
                .layer_norm(LayerNorm { epsilon: 0.05 })
                .peephole()
                .zoneout(0.2)
                .zoneout_cell(0.3)
                .recurrent_dropout(0.3)
                .candidate_dropout(0.2)
                .drop_connect(0.3)
                .direction(Direction::Bidirectional),
        ),
    ]
}

fn case(config: &NetworkConfig) -> NetworkCase {
    NetworkCase { config: config.clone(), steps: STEPS, batch: BATCH, seed: 40 }
}

fn network(device: &Device, config: &NetworkConfig) -> Network {
    Network::with_parameters(device, config, &case(config).parameters()).unwrap()
}

fn trainer(device: &Device, config: &NetworkConfig) -> Trainer {
    Trainer::new(network(device, config), options()).unwrap()
}

fn options() -> TrainConfig {
    TrainConfig::new().learning_rate(0.01).dropout_seed(11 << 33)
}

fn train(trainer: &mut Trainer, config: &NetworkConfig, updates: usize) -> Vec<f32> {
    let (input, target) = (case(config).input(), case(config).target());
    (0..updates).for_each(|_| trainer.step(input.view(), target.view()).unwrap());
    trainer.take_losses().unwrap()
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        for config in &networks() {
            failures.check(format!("{name}, {config}"), || {
                let mut whole = trainer(device, config);
                let expected = train(&mut whole, config, 4);
                assert!(expected[0] != expected[1]);
                let mut first = trainer(device, config);
                let mut found = train(&mut first, config, 2);
                let checkpoint = first.checkpoint(0, BTreeMap::new()).unwrap();
                let mut second = Trainer::resume(device, &checkpoint, options()).unwrap();
                found.extend(train(&mut second, config, 2));
                assert_eq!(found, expected, "the losses");
                let parameters = |trainer: &mut Trainer| trainer.network().parameters().unwrap();
                assert_eq!(parameters(&mut second), parameters(&mut whole), "the parameters");
            });
        }
    }
    failures.finish();
}

/// Two batches have different masks, and each the same on all devices: another mask would change a gradient by far more than
/// rounding does.
#[test]
fn every_device_draws_the_same_masks() {
    let devices = test_devices();
    let mut failures = Failures::new();
    for config in &networks() {
        failures.check(config.to_string(), || {
            let tolerance = Tolerance::gradient(gradient_terms(config, STEPS, BATCH)).times(8);
            let (input, target) = (case(config).input(), case(config).target());
            let gradients = |device: &Device| {
                let mut trainer = trainer(device, config);
                [0, 1].map(|_| {
                    trainer.accumulate(input.view(), target.view()).unwrap();
                    trainer.gradients().unwrap()
                })
            };
            let found: Vec<_> = devices.iter().map(|(_, device)| gradients(device)).collect();
            for [one, two] in &found {
                // Gradients add up; equal masks would double them.
                let name = "rnn0.weight_ih_l0";
                assert!(two[name] != one[name].mapv(|d| 2.0 * d), "two batches have the same masks");
            }
            for others in &found[1..] {
                for (other, one) in others.iter().zip(&found[0]) {
                    assert_parameters("gradient", other, one, tolerance);
                }
            }
        });
    }
    failures.finish();
}

/// A tape keeps its own masks, weights included, while others come and go, and inference has none.
#[test]
fn tapes_keep_their_masks_and_inference_has_none() {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        for config in &networks() {
            failures.check(format!("{name}, {config}"), || {
                let network = network(device, config);
                let input = case(config).input();
                let plain = network.predict(input.view()).unwrap();
                let dropout = |batch| Some(Dropout { seed: 3, batch, first_step: 0 });
                let tape = |batch| network.forward_training(input.view(), None, dropout(batch)).unwrap();
                let d_output = Array3::from_elem(plain.dim(), 0.7);
                let back = |tape| network.backward(tape, d_output.view(), None).unwrap().read().unwrap();
                let (alone, other) = (back(tape(1)), back(tape(2)));
                assert!(alone.parameters != other.parameters, "other masks give other gradients");
                let (first, second) = (tape(1), tape(2));
                assert_eq!(network.predict(input.view()).unwrap(), plain, "inference after masks");
                assert_eq!(back(first).parameters, alone.parameters, "the first of two tapes");
                assert_eq!(back(second).parameters, other.parameters, "the second of two tapes");
            });
        }
    }
    failures.finish();
}

/// One step at a time gives what whole sequences do, with layer normalisation and the expectation of zoneout.
#[test]
fn streams_normalise_and_zone_out() {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        for config in [
            config(LstmConfig::new(9).layer_norm(LayerNorm::default()).peephole()),
            config(GruConfig::new(9).layer_norm(LayerNorm::default())),
            config(LstmConfig::new(9).zoneout(0.3).zoneout_cell(0.2)),
            config(RnnConfig::new(9).zoneout(0.4).recurrent_dropout(0.3)),
        ] {
            failures.check(format!("{name}, {config}"), || {
                let network = network(device, &config);
                let input = case(&config).input();
                let whole = network.predict(input.view()).unwrap();
                let mut stream = network.stream(BATCH).unwrap();
                for t in 0..STEPS {
                    let output = stream.step(input.slice(s![t, .., ..])).unwrap();
                    let expected = whole.slice(s![t, .., ..]);
                    let tolerance = Tolerance::output(output_terms(&config) + 5 * 9);
                    assert_array("output", output.view(), expected, tolerance);
                }
            });
        }
    }
    failures.finish();
}

#[test]
fn what_does_not_combine_is_refused_by_name() {
    let norm = LayerNorm::default();
    let gru = || GruConfig::new(3).reset(Reset::Before);
    let tanh = Activation::Tanh;
    let before = "Reset::Before; use Reset::After";
    for (layer, problem) in [
        (LayerConfig::from(gru().layer_norm(norm)), format!("layer norm is not available with {before}")),
        (gru().zoneout(0.1).into(), format!("zoneout is not available with {before}")),
        (
            LstmConfig::new(3).layer_norm(norm).skip(2).into(),
            "layer norm is not available with a skip connection; choose one".into(),
        ),
        (
            LstmConfig::new(3).recurrent_dropout(0.1).feedback(2, tanh).into(),
            "recurrent dropout is not available with feedback; choose one".into(),
        ),
        (
            LstmConfig::new(3).candidate_dropout(0.1).projection(2).into(),
            "dropout of the candidate is not available with a projection; use a dense layer after it".into(),
        ),
        (
            LstmConfig::new(3).layer_norm(LayerNorm { epsilon: 0.0 }).into(),
            "layer norm's epsilon is 0; expected a finite number above 0".into(),
        ),
        (
            GruConfig::new(3).zoneout(1.0).into(),
            "the rate of zoneout is 1; expected at least 0 and below 1".into(),
        ),
        (
            RnnConfig::new(3).drop_connect(f32::NAN).into(),
            "the rate of DropConnect is NaN; expected at least 0 and below 1".into(),
        ),
    ] {
        let error = NetworkConfig::new(2, [layer]).expect_err("it is refused").to_string();
        assert!(error.ends_with(&format!(": {problem}")), "{error}");
    }
}

/// The kernels that steps are run with: two dispatches a step, or all steps in one; recurrent dropout masks h between the
/// steps, and only training has it.
#[test]
fn steps_are_spread_over_dispatches_as_asked() {
    let norm = || LstmConfig::new(7).layer_norm(LayerNorm::default());
    for (layer, scan, trains, expected) in [
        (norm(), ScanChoice::Step, false, ["lstm_row_forward", ""]),
        (norm(), ScanChoice::Workgroup, false, ["lstm_row_scan_forward", ""]),
        (norm(), ScanChoice::Workgroup, true, ["lstm_row_scan_forward", "lstm_row_scan_backward"]),
        (norm(), ScanChoice::Step, true, ["lstm_row_forward", "lstm_row_backward"]),
        (
            norm().recurrent_dropout(0.1),
            ScanChoice::Workgroup,
            true,
            ["lstm_row_forward", "lstm_row_backward"],
        ),
        (LstmConfig::new(7).recurrent_dropout(0.1), ScanChoice::Step, false, ["lstm_step_forward", ""]),
        (
            LstmConfig::new(7).drop_connect(0.1),
            ScanChoice::Workgroup,
            true,
            ["lstm_scan_forward", "lstm_scan_backward"],
        ),
    ] {
        let config = config(layer);
        let target = Target { scan, ..Target::webgpu() };
        let training = trains.then(options);
        let shape = Shape::plain(&config, STEPS, BATCH);
        let plan = schedule(&config, &target, shape, training.as_ref()).unwrap();
        let names: Vec<String> = plan.kernels().map(|kernel| kernel.to_string()).collect();
        let of_scan = |name: &&String| name.starts_with("lstm_");
        let mut found: Vec<&String> = names.iter().filter(of_scan).collect();
        found.dedup();
        let expected: Vec<&str> = expected.into_iter().filter(|name| !name.is_empty()).collect();
        // The update and the gradients of the initial states run other kernels.
        assert_eq!(found, expected, "{config}, {scan}, training {trains}");
    }
}
