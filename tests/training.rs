//! Training on the GPU: the same curves as on the CPU, and the same bits every time.

use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::file::Checkpoint;
use gatefold::layers::{Activation, DenseConfig, LayerConfig, LstmConfig};
use gatefold::training::ParameterGroup;
use gatefold::{Device, Gpu, Network, NetworkConfig, Optimizer, Parameters, TrainConfig, Trainer};
use gatefold_check::{
    Failures, Tolerance, assert_close, gradient_terms, output_terms, test_gpu, test_gpu_with, waves,
};
use std::collections::BTreeMap;

const STEPS: usize = 7;
const BATCH: usize = 5;

fn stacked() -> NetworkConfig {
    NetworkConfig::new(
        2,
        [
            LstmConfig::new(8).into(),
            LstmConfig::new(8).into(),
            LayerConfig::LastStep,
            DenseConfig::new(5).activation(Activation::Tanh).into(),
            DenseConfig::new(1).into(),
        ],
    )
    .unwrap()
}

fn trainer(device: &Device, options: &TrainConfig) -> Trainer {
    Trainer::new(Network::new(device, &stacked(), 1).unwrap(), options.clone()).unwrap()
}

fn train(trainer: &mut Trainer, batches: std::ops::Range<usize>) {
    for number in batches {
        let (input, target) = waves(number, (STEPS, BATCH), (2, 1));
        trainer.step(input.view(), target.view()).unwrap();
    }
}

fn accumulate(trainer: &mut Trainer, batches: &[usize]) {
    for &number in batches {
        let (input, target) = waves(number, (STEPS, BATCH), (2, 1));
        trainer.accumulate(input.view(), target.view()).unwrap();
    }
}

fn parameters(trainer: &mut Trainer) -> Parameters {
    trainer.network().parameters().unwrap()
}

fn optimizers() -> [Optimizer; 9] {
    [
        Optimizer::sgd(),
        Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
        Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        Optimizer::Sgd { momentum: 0.8, nesterov: true, weight_decay: 1e-2 },
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-6, momentum: 0.0, centered: false, weight_decay: 1e-2 },
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, centered: false, weight_decay: 0.0 },
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, centered: true, weight_decay: 0.0 },
        Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 1e-2 },
        Optimizer::AdamW { beta1: 0.8, beta2: 0.999, epsilon: 1e-6, weight_decay: 0.1 },
    ]
}

/// Compares element by element, in the order of the names.
fn assert_parameters_close(what: &str, found: &Parameters, expected: &Parameters, tolerance: Tolerance) {
    for (name, found) in found.iter() {
        let found: Vec<f32> = found.iter().copied().collect();
        let expected: Vec<f64> = expected[name].iter().map(|&value| f64::from(value)).collect();
        assert_close(&format!("{name} {what}"), &[("element", found.len())], &found, &expected, tolerance);
    }
}

/// Ten updates with one batch on both devices. An update changes the loss by at most the loss itself, and a relative
/// error of the gradient shifts that by the same share; both devices err, and the updates add up.
#[test]
fn the_curves_of_gpu_and_cpu_agree() {
    let Some(gpu) = test_gpu() else { return };
    let updates = 10;
    let gradient = Tolerance::gradient(gradient_terms(&stacked(), STEPS, BATCH)).times(2 * updates);
    let mut failures = Failures::new();
    for optimizer in optimizers() {
        for clip in [None, Some(0.2)] {
            failures.check(format!("{optimizer:?}, clip {clip:?}"), || {
                let rate = if matches!(optimizer, Optimizer::Sgd { .. }) { 0.1 } else { 0.01 };
                let options = TrainConfig::new().optimizer(optimizer).learning_rate(rate).clip_norm(clip);
                let run = |device: &Device| {
                    let mut trainer = trainer(device, &options);
                    (0..updates).for_each(|_| train(&mut trainer, 0..1));
                    (trainer.take_losses().unwrap(), parameters(&mut trainer))
                };
                let (found, expected) = (run(&Device::Gpu(gpu.clone())), run(&Device::cpu().unwrap()));
                let curve: Vec<f64> = expected.0.iter().map(|&loss| f64::from(loss)).collect();
                assert!(curve[9] < 0.9 * curve[0], "it does not learn: {curve:?}");
                assert_close("loss", &[("update", updates)], &found.0, &curve, gradient);
                // Adam divides by a gradient's size: near zero the sign alone decides, and rounding decides the sign.
                if matches!(optimizer, Optimizer::Sgd { .. }) {
                    assert_parameters_close("trained", &found.1, &expected.1, gradient);
                }
            });
        }
    }
    failures.finish();
}

#[test]
fn a_hundred_updates_repeat_bit_for_bit() {
    let Some(gpu) = test_gpu() else { return };
    let run = || {
        let mut trainer =
            trainer(&Device::Gpu(gpu.clone()), &TrainConfig::new().learning_rate(0.01).clip_norm(Some(0.1)));
        train(&mut trainer, 0..100);
        (trainer.take_losses().unwrap(), parameters(&mut trainer))
    };
    let ((losses, found), again) = (run(), run());
    assert!(losses[99] < losses[0], "it does not learn: {losses:?}");
    assert_eq!((losses, found), again);
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let Some(gpu) = test_gpu() else { return };
    let device = Device::Gpu(gpu);
    let folder = tempfile::tempdir().unwrap();
    let mut failures = Failures::new();
    for (k, optimizer) in optimizers().into_iter().enumerate() {
        failures.check(format!("{optimizer:?}"), || {
            let options = TrainConfig::new()
                .optimizer(optimizer)
                .learning_rate(0.01)
                .clip_norm(Some(0.5))
                .group(ParameterGroup::new("rnn0.weight_ih").frozen());
            let mut whole = trainer(&device, &options);
            train(&mut whole, 0..30);

            let mut first = trainer(&device, &options);
            train(&mut first, 0..13);
            let path = folder.path().join(format!("{k}.safetensors"));
            first.checkpoint(9, BTreeMap::new()).unwrap().save(&path).unwrap();
            drop(first);

            let mut second = Trainer::resume(&device, &Checkpoint::load(&path).unwrap(), options).unwrap();
            assert_eq!(second.steps(), 13);
            train(&mut second, 13..30);
            assert_eq!(parameters(&mut second), parameters(&mut whole));
        });
    }
    failures.finish();
}

/// Strategies of scans may round differently, so a checkpoint keeps its own, whatever a device would choose now; unless the
/// device was opened with another.
#[test]
fn a_resumed_run_keeps_its_scans() {
    let opened = |choice| test_gpu_with(&GpuOptions::new().scan(choice)).map(Device::Gpu);
    let Some(in_workgroups) = opened(ScanChoice::Workgroup) else { return };
    let Some(as_it_likes) = opened(ScanChoice::Auto) else { return };
    let Some(by_steps) = opened(ScanChoice::Step) else { return };
    let run = |device: &Device, batches| {
        let mut trainer = trainer(device, &TrainConfig::new());
        train(&mut trainer, batches);
        trainer
    };
    // A scan is one dispatch in workgroups, else a dispatch for each step.
    let dispatches =
        |trainer: &Trainer| trainer.network().inference_dispatches(STEPS, BATCH).unwrap().unwrap();
    let first = run(&in_workgroups, 0..4);
    assert_eq!(dispatches(&run(&by_steps, 0..1)), dispatches(&first) + 2 * (STEPS - 1));
    let checkpoint = first.checkpoint(0, BTreeMap::new()).unwrap();
    let mut failures = Failures::new();
    for (name, device, of) in [
        ("auto", &as_it_likes, &in_workgroups),
        ("workgroup", &in_workgroups, &in_workgroups),
        ("step", &by_steps, &by_steps),
    ] {
        failures.check(name, || {
            let mut resumed = Trainer::resume(device, &checkpoint, TrainConfig::new()).unwrap();
            assert_eq!(dispatches(&resumed), dispatches(&run(of, 0..1)));
            train(&mut resumed, 4..8);
            if name != "step" {
                assert_eq!(parameters(&mut resumed), parameters(&mut run(&in_workgroups, 0..8)));
            }
        });
    }
    failures.finish();
}

/// Training continues from a checkpoint of another device: a GPU, a GPU with fewer features, the CPU.
#[test]
fn a_run_continues_on_another_device() {
    let Some(gpu) = test_gpu() else { return };
    let Some(least) = test_gpu_with(&GpuOptions::new().immediates(false).subgroups(false)) else { return };
    let devices = [Device::Gpu(gpu), Device::cpu().unwrap(), Device::Gpu(least)];
    let options = TrainConfig::new()
        .optimizer(Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 })
        .learning_rate(0.05);
    let mut whole = trainer(&Device::cpu().unwrap(), &options);
    train(&mut whole, 0..10);
    let tolerance = Tolerance::gradient(gradient_terms(&stacked(), STEPS, BATCH)).times(20);
    let mut failures = Failures::new();
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
        failures.check(format!("from {} to {}", devices[from].summary(), devices[to].summary()), || {
            let mut first = trainer(&devices[from], &options);
            train(&mut first, 0..5);
            let checkpoint = first.checkpoint(0, BTreeMap::new()).unwrap();
            let mut second = Trainer::resume(&devices[to], &checkpoint, options.clone()).unwrap();
            train(&mut second, 5..10);
            assert_parameters_close("resumed", &parameters(&mut second), &parameters(&mut whole), tolerance);
        });
    }
    failures.finish();
}

#[test]
fn accumulated_gradients_are_sums() {
    let Some(gpu) = test_gpu() else { return };
    let of = |batches: &[usize]| {
        let mut trainer = trainer(&Device::Gpu(gpu.clone()), &TrainConfig::new());
        accumulate(&mut trainer, batches);
        trainer.gradients().unwrap()
    };
    let (first, second, both) = (of(&[0]), of(&[1]), of(&[0, 1]));
    for (name, found) in both.iter() {
        // The second batch's sum is added to the first's as a whole: one rounding, the same on any device.
        assert_eq!(found, &(&first[name] + &second[name]), "{name}");
        assert!(found.iter().any(|g| *g != 0.0), "{name}");
    }
}

#[test]
fn an_update_clears_the_gradients() {
    let Some(gpu) = test_gpu() else { return };
    let mut trainer = trainer(&Device::Gpu(gpu), &TrainConfig::new());
    train(&mut trainer, 0..1);
    assert_eq!(trainer.gradients().unwrap(), Parameters::zeros(&stacked()).unwrap());
}

#[test]
fn frozen_parameters_do_not_move() {
    let Some(gpu) = test_gpu() else { return };
    let frozen = ["rnn0.", "dense0.bias"];
    let mut failures = Failures::new();
    for optimizer in optimizers() {
        failures.check(format!("{optimizer:?}"), || {
            let options = frozen.iter().fold(TrainConfig::new().optimizer(optimizer), |options, prefix| {
                options.group(ParameterGroup::new(*prefix).frozen())
            });
            let mut trainer = trainer(&Device::Gpu(gpu.clone()), &options);
            let before = parameters(&mut trainer);
            train(&mut trainer, 0..3);
            accumulate(&mut trainer, &[0]);
            let (after, gradients) = (parameters(&mut trainer), trainer.gradients().unwrap());
            for (name, tensor) in after.iter() {
                let is_frozen = frozen.iter().any(|prefix| name.starts_with(prefix));
                assert_eq!(tensor == before[name], is_frozen, "{name}");
                assert_eq!(gradients[name].iter().all(|g| *g == 0.0), is_frozen, "{name}");
            }
        });
    }
    failures.finish();
}

#[test]
fn nothing_to_train_is_not_an_error() {
    let Some(gpu) = test_gpu() else { return };
    let device = Device::Gpu(gpu);
    let mut frozen = trainer(&device, &TrainConfig::new().group(ParameterGroup::new("").frozen()));
    let before = parameters(&mut frozen);
    train(&mut frozen, 0..2);
    assert_eq!(parameters(&mut frozen), before);
    assert_eq!(frozen.take_losses().unwrap().len(), 2);
    // A network without parameters.
    let config = NetworkConfig::new(2, [LayerConfig::LastStep]).unwrap();
    let mut bare = Trainer::new(Network::new(&device, &config, 0).unwrap(), TrainConfig::new()).unwrap();
    let (input, _) = waves(0, (STEPS, BATCH), (2, 1));
    let last = input.slice(ndarray::s![STEPS - 1.., .., ..]);
    bare.step(input.view(), (&last + 2.0).view()).unwrap();
    // Ten times a tenth, each rounded.
    assert_close("loss", &[("batch", 1)], &bare.take_losses().unwrap(), &[4.0], Tolerance::product(10));
    assert_eq!(bare.network().predict(input.view()).unwrap(), last);
}

/// One step of plain gradient descent is `-rate factor gradient`. The first matching group applies.
#[test]
fn groups_have_rates_of_their_own() {
    let Some(gpu) = test_gpu() else { return };
    let options = TrainConfig::new()
        .optimizer(Optimizer::sgd())
        .learning_rate(0.5)
        .group(ParameterGroup::new("rnn0.weight_hh_l1").learning_rate_factor(4.0))
        .group(ParameterGroup::new("rnn0.").learning_rate_factor(0.0))
        .group(ParameterGroup::new("dense0.").learning_rate_factor(0.25));
    let mut trainer = trainer(&Device::Gpu(gpu), &options);
    accumulate(&mut trainer, &[0]);
    let (before, gradients) = (parameters(&mut trainer), trainer.gradients().unwrap());
    trainer.update().unwrap();
    let mut expected = before.clone();
    for (name, gradient) in gradients.iter() {
        let factor = match name {
            "rnn0.weight_hh_l1" => 4.0,
            name if name.starts_with("rnn0.") => 0.0,
            name if name.starts_with("dense0.") => 0.25,
            _ => 1.0,
        };
        *expected.get_mut(name).unwrap() -= &(gradient * (0.5 * factor));
    }
    assert_ne!(expected, before);
    assert_parameters_close("after", &parameters(&mut trainer), &expected, Tolerance::product(1));
}

/// Frozen parameters do not count for the norm.
#[test]
fn clipping_bounds_the_step() {
    let Some(gpu) = test_gpu() else { return };
    let clip = 0.01;
    let mut failures = Failures::new();
    for frozen in ["rnn0.", "dense1."] {
        failures.check(format!("frozen {frozen}"), || {
            let options = TrainConfig::new()
                .optimizer(Optimizer::sgd())
                .learning_rate(1.0)
                .clip_norm(Some(clip))
                .group(ParameterGroup::new(frozen).frozen());
            let mut trainer = trainer(&Device::Gpu(gpu.clone()), &options);
            let before = parameters(&mut trainer);
            train(&mut trainer, 0..1);
            let after = parameters(&mut trainer);
            let square =
                |name: &str| (&after[name] - &before[name]).iter().map(|d| f64::from(d * d)).sum::<f64>();
            let length = after.iter().map(|(name, _)| square(name)).sum::<f64>().sqrt() as f32;
            assert!((length / clip - 1.0).abs() < 1e-3, "length {length}");
        });
    }
    failures.finish();
}

/// The list on the device holds 1024 losses; with more, it is fetched in between.
#[test]
fn no_loss_is_forgotten() {
    let Some(gpu) = test_gpu() else { return };
    let config = NetworkConfig::new(1, [DenseConfig::new(1).into()]).unwrap();
    let network =
        Network::with_parameters(&Device::Gpu(gpu), &config, &Parameters::zeros(&config).unwrap()).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    let one = ndarray::Array3::from_elem((1, 1, 1), 1.0);
    let count = 1024 + 7;
    for number in 0..count {
        // The loss is the number squared, exact in f32.
        trainer.accumulate(one.view(), (&one * number as f32).view()).unwrap();
    }
    let losses = trainer.take_losses().unwrap();
    assert_eq!(losses.len(), count);
    for (number, &loss) in losses.iter().enumerate() {
        assert_eq!(loss, (number * number) as f32, "batch {number}");
    }
    assert!(trainer.take_losses().unwrap().is_empty());
}

/// Back and forth between more shapes than plans are kept: each gives the results of a fresh network.
#[test]
fn shapes_may_change_back_and_forth() {
    let Some(gpu) = test_gpu() else { return };
    let device = Device::Gpu(gpu);
    let shapes = [(7, 5), (1, 1), (9, 33), (3, 2), (20, 4), (2, 70)];
    let order = [0, 1, 2, 3, 4, 5, 0, 3, 5, 1, 4, 2, 2, 0];
    let network = Network::new(&device, &stacked(), 1).unwrap();
    let mut trainer = trainer(&device, &TrainConfig::new());
    let mut fresh = BTreeMap::new();
    let mut failures = Failures::new();
    for shape in order {
        failures.check(format!("{:?}", shapes[shape]), || {
            let (input, target) = waves(shape, shapes[shape], (2, 1));
            let found = network.predict(input.view()).unwrap();
            trainer.accumulate(input.view(), target.view()).unwrap();
            let gradients = trainer.gradients().unwrap();
            let losses = trainer.take_losses().unwrap();
            // An update at a learning rate of zero clears the gradients.
            trainer.set_learning_rate(0.0);
            trainer.update().unwrap();
            let (first_output, first_gradients, first_losses) = fresh.entry(shape).or_insert_with(|| {
                let other = Network::new(&device, &stacked(), 1).unwrap();
                let output = other.predict(input.view()).unwrap();
                let mut other = Trainer::new(other, TrainConfig::new()).unwrap();
                other.accumulate(input.view(), target.view()).unwrap();
                (output, other.gradients().unwrap(), other.take_losses().unwrap())
            });
            assert_eq!(&found, first_output, "output");
            assert_eq!((&gradients, &losses), (&*first_gradients, &*first_losses), "gradients and losses");
        });
    }
    failures.finish();
}

/// Predictions follow the parameters, however those change.
#[test]
fn predictions_use_the_current_parameters() {
    let Some(gpu) = test_gpu() else { return };
    let mut trainer = trainer(&Device::Gpu(gpu), &TrainConfig::new().learning_rate(0.05));
    let (input, _) = waves(3, (STEPS, BATCH), (2, 1));
    let tolerance = Tolerance::output(output_terms(&stacked()));
    let check = |trainer: &mut Trainer, what: &str| {
        let found = trainer.network().predict(input.view()).unwrap();
        let parameters = trainer.network().parameters().unwrap();
        let reference = gatefold_reference::Network::<f64>::new(&stacked(), &parameters).unwrap();
        let tape = reference.forward(&gatefold_reference::Batch::new(input.mapv(f64::from).view()));
        let expected: Vec<f64> = tape.output().iter().copied().collect();
        assert_close(what, &[("row", BATCH)], found.as_slice().unwrap(), &expected, tolerance);
        found
    };
    let fresh = check(&mut trainer, "fresh");
    train(&mut trainer, 0..3);
    let trained = check(&mut trainer, "trained");
    assert_ne!(fresh, trained);
    trainer.set_parameters(&Parameters::initial(&stacked(), 1).unwrap()).unwrap();
    assert_eq!(check(&mut trainer, "set"), fresh);
}

/// A second trainer begins from scratch.
#[test]
fn a_second_trainer_inherits_nothing() {
    let Some(gpu) = test_gpu() else { return };
    let device = Device::Gpu(gpu);
    let options = TrainConfig::new().learning_rate(0.01);
    let mut first = trainer(&device, &options);
    train(&mut first, 0..4);
    accumulate(&mut first, &[4]);
    let network = first.into_network();
    let parameters_then = network.parameters().unwrap();
    let mut second = Trainer::new(network, options.clone()).unwrap();
    train(&mut second, 0..4);
    let fresh = Network::with_parameters(&device, &stacked(), &parameters_then).unwrap();
    let mut fresh = Trainer::new(fresh, options).unwrap();
    train(&mut fresh, 0..4);
    assert_eq!(second.take_losses().unwrap(), fresh.take_losses().unwrap());
    assert_eq!(parameters(&mut second), parameters(&mut fresh));
}

/// Devices that run the same kernels in other ways compute nearly the same numbers, and the same bits every time.
#[test]
fn every_kind_of_device_trains_alike() {
    let Some(shared) = test_gpu() else { return };
    let run = |gpu: &Gpu| {
        let mut trainer = trainer(&Device::Gpu(gpu.clone()), &TrainConfig::new().learning_rate(0.01));
        train(&mut trainer, 0..10);
        trainer.take_losses().unwrap()
    };
    let expected: Vec<f64> = run(&shared).into_iter().map(f64::from).collect();
    let tolerance = Tolerance::gradient(gradient_terms(&stacked(), STEPS, BATCH)).times(20);
    let all = GpuOptions::new();
    let mut failures = Failures::new();
    for options in [
        all.clone().immediates(false),
        all.clone().subgroups(false),
        all.clone().immediates(false).subgroups(false),
        all.webgpu_limits(true),
    ] {
        failures.check(format!("{options:?}"), || {
            let Some(gpu) = test_gpu_with(&options) else { return };
            let found = run(&gpu);
            assert_eq!(found, run(&gpu), "a second run");
            assert_close("loss", &[("update", 10)], &found, &expected, tolerance);
        });
    }
    failures.finish();
}
