//! Failures on a GPU: poisoned data, updates that overflow, a lost device, no memory, tensors that are too large. None
//! may panic, and none may pass unnoticed.

use gatefold::devices::GpuOptions;
use gatefold::layers::{Activation, DenseConfig, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use gatefold::schedule::{Shape, Target, memory_need};
use gatefold::training::ParameterGroup;
use gatefold::{
    Device, DeviceChoice, Error, Gpu, Network, NetworkConfig, Optimizer, Parameters, TrainConfig, Trainer,
};
use gatefold_check::{Failures, test_gpu, test_gpu_with, waves};
use ndarray::{Array3, arr3};
use std::collections::BTreeMap;

const SHAPE: (usize, usize) = (7, 5);

fn stacked() -> NetworkConfig {
    NetworkConfig::new(
        2,
        [
            LstmConfig::new(8).into(),
            LstmConfig::new(5).into(),
            LayerConfig::LastStep,
            DenseConfig::new(6).activation(Activation::Relu).into(),
            DenseConfig::new(1).into(),
        ],
    )
    .unwrap()
}

fn trainer(device: &Device, options: TrainConfig) -> Trainer {
    Trainer::new(Network::new(device, &stacked(), 1).unwrap(), options).unwrap()
}

/// `update 4, layer 1 (lstm)`
fn failure<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::NotFinite { step, layer }) => format!("update {step}, {layer}"),
        Err(Error::Overflow { step, parameter }) => format!("update {step}, {parameter}"),
        Err(error) => panic!("{error}"),
        Ok(_) => "none".into(),
    }
}

#[derive(Clone, Copy, Debug)]
enum Poison {
    Input(f32),
    Target(f32),
}

/// The third batch is poisoned, and the report must name the right layer.
#[test]
fn poisoned_data_stops_training_and_keeps_the_parameters() {
    let Some(gpu) = test_gpu() else { return };
    let adam = TrainConfig::new().clip_norm(Some(1.0));
    let sgd =
        TrainConfig::new().optimizer(Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.1 });
    // If only a lower layer is trained, only that layer has a gradient.
    let low = adam
        .clone()
        .group(ParameterGroup::new("dense").frozen())
        .group(ParameterGroup::new("rnn1.").frozen());
    let mut failures = Failures::new();
    let cases = [
        ("adam", adam, "layer 4 (dense)"),
        ("sgd", sgd, "layer 4 (dense)"),
        ("a lower layer", low, "layer 0 (lstm)"),
    ];
    for (trained, options, layer) in cases {
        for poison in [Poison::Input(f32::NAN), Poison::Target(f32::NAN), Poison::Target(f32::INFINITY)] {
            failures.check(format!("{trained}, {poison:?}"), || {
                let run = |device: &Device| {
                    let mut trainer = trainer(device, options.clone());
                    for number in 0..2 {
                        let (input, target) = waves(number, SHAPE, (2, 1));
                        trainer.step(input.view(), target.view()).unwrap();
                    }
                    let good = trainer.network().parameters().unwrap();
                    let (mut input, mut target) = waves(2, SHAPE, (2, 1));
                    match poison {
                        Poison::Input(value) => input[[3, 4, 1]] = value,
                        Poison::Target(value) => target[[0, 2, 0]] = value,
                    }
                    // On the CPU the update itself reports the failure, on a GPU the next read-back.
                    let first = trainer.step(input.view(), target.view());
                    let first = first.and_then(|()| trainer.take_losses().map(|_| ()));
                    let first = failure(first);
                    // Good data does not resume training, and later poison does not change the report.
                    let (input, mut target) = waves(3, SHAPE, (2, 1));
                    for _ in 0..2 {
                        let _ = trainer.step(input.view(), target.view());
                        target.fill(f32::NAN);
                        let again = trainer.update().and_then(|()| trainer.take_losses().map(|_| ()));
                        assert_eq!(failure(again), first, "the first report stays");
                    }
                    assert_eq!(trainer.network().parameters().unwrap(), good, "the parameters");
                    first
                };
                let found = run(&Device::Gpu(gpu.clone()));
                assert_eq!(found, format!("update 3, {layer}"));
                assert_eq!(run(&Device::cpu().unwrap()), found, "both devices report the same");
            });
        }
    }
    failures.finish();
}

/// Every optimiser, in every form that keeps other moments.
fn optimizers() -> [Optimizer; 8] {
    let sgd = |momentum, nesterov| Optimizer::Sgd { momentum, nesterov, weight_decay: 0.01 };
    let rmsprop = |momentum, centered| Optimizer::RmsProp {
        alpha: 0.9,
        epsilon: 1e-6,
        momentum,
        centered,
        weight_decay: 0.0,
    };
    [
        sgd(0.0, false),
        sgd(0.9, false),
        sgd(0.9, true),
        rmsprop(0.0, false),
        rmsprop(0.8, false),
        rmsprop(0.8, true),
        Optimizer::adam(),
        Optimizer::adamw(),
    ]
}

/// An update, and on a GPU the read-back that reports its failure.
fn updated(trainer: &mut Trainer, update: impl FnOnce(&mut Trainer) -> Result<(), Error>) -> String {
    failure(update(trainer).and_then(|()| trainer.take_losses().map(|_| ())))
}

/// After two good updates the learning rate, or the gradient, is so large that the third overflows. It changes nothing,
/// and training goes on as if it had never been tried.
#[test]
fn an_update_that_overflows_is_reported_itself_and_changes_nothing() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    for optimizer in optimizers() {
        let is_sgd = matches!(optimizer, Optimizer::Sgd { .. });
        // A gradient of 1e30 overflows squared. A rate of 1e38 overflows with gradients near 1e3, and a share of Adam's
        // correction; RMSprop's first steps are longer than 1.
        let ways = [(f32::MAX, 1e3), (0.01, 1e30)];
        for (rate, offset) in ways.into_iter().filter(|&(rate, _)| !(is_sgd && rate < 1.0)) {
            for device in [Device::cpu().unwrap(), Device::Gpu(gpu.clone())] {
                let case = format!("{optimizer:?} at {rate:e}, {offset:e}, {}", device.summary());
                failures.check(case, || {
                    let options = TrainConfig::new().optimizer(optimizer).learning_rate(0.01);
                    let [mut trainer, mut undisturbed] = [0; 2].map(|_| trainer(&device, options.clone()));
                    let good = |trainer: &mut Trainer, number| {
                        let (input, target) = waves(number, SHAPE, (2, 1));
                        trainer.step(input.view(), target.view()).unwrap();
                    };
                    (0..2).for_each(|number| good(&mut trainer, number));
                    let before = trainer.checkpoint(0, BTreeMap::new()).unwrap();
                    trainer.take_losses().unwrap();

                    let (input, target) = waves(2, SHAPE, (2, 1));
                    let masks = trainer.dropout();
                    trainer.set_learning_rate(rate);
                    let found = updated(&mut trainer, |trainer| trainer.step(&input, &target + offset));
                    assert_eq!(found, "update 3, dense1.bias");
                    let after = trainer.checkpoint(0, BTreeMap::new()).unwrap();
                    assert_eq!(after.parameters, before.parameters, "the parameters");
                    assert_eq!(after.optimizer, before.optimizer, "the moments");
                    assert_eq!((after.step, trainer.steps()), (2, 2));
                    assert_eq!(trainer.dropout(), masks, "the next batch has the masks of this one");
                    let gradients = trainer.gradients().unwrap();
                    assert!(gradients.iter().all(|(_, gradient)| gradient.iter().all(|&g| g == 0.0)));
                    assert_eq!(trainer.take_losses().unwrap().len(), 1, "the loss of the batch");

                    trainer.set_learning_rate(0.01);
                    (2..4).for_each(|number| good(&mut trainer, number));
                    (0..4).for_each(|number| good(&mut undisturbed, number));
                    let (found, expected) = (
                        trainer.checkpoint(0, BTreeMap::new()).unwrap(),
                        undisturbed.checkpoint(0, BTreeMap::new()).unwrap(),
                    );
                    assert_eq!(found.parameters, expected.parameters);
                    assert_eq!((found.optimizer, found.step), (expected.optimizer, expected.step));
                });
            }
        }
    }
    failures.finish();
}

/// One huge element anywhere is found, and its parameter named, whichever door the gradient came through.
#[test]
fn the_parameter_that_overflows_is_named_at_every_door() {
    let Some(gpu) = test_gpu() else { return };
    let config = NetworkConfig::with_input(2).lstm(24).gru(20).last_step().dense(6).dense(1).build().unwrap();
    // Room for the norms of eleven parameters, but not for all parameters, so these lie in several buffers.
    let small = GpuOptions::new().binding_limit_bytes(Some(4 * 11 * 256));
    let Some(split) = test_gpu_with(&small) else { return };
    let mut failures = Failures::new();
    for (name, device) in
        [("cpu", Device::cpu().unwrap()), ("gpu", Device::Gpu(gpu)), ("split", Device::Gpu(split))]
    {
        failures.check(name, || {
            // Groups make several runs of parameters. Of these two, one is too slow to overflow and one is not trained.
            let options = TrainConfig::new()
                .optimizer(Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 })
                .learning_rate(10.0)
                .group(ParameterGroup::new("rnn1.").learning_rate_factor(1e-3))
                .group(ParameterGroup::new("dense0.bias").frozen());
            let network = Network::new(&device, &config, 1).unwrap();
            let mut trainer = Trainer::new(network, options).unwrap();
            let before = trainer.network().parameters().unwrap();
            let names: Vec<String> = before.iter().map(|(name, _)| name.to_owned()).collect();
            for name in names {
                let mut gradients = before.clone();
                let last = gradients.get_mut(&name).unwrap().iter_mut().last().unwrap();
                *last = 3e38;
                trainer.accumulate_parameters(&gradients).unwrap();
                let found = updated(&mut trainer, Trainer::update);
                if name.starts_with("rnn1.") || name == "dense0.bias" {
                    assert_eq!(found, "none", "{name}");
                    trainer.set_parameters(&before).unwrap();
                    continue;
                }
                assert_eq!(found, format!("update {}, {name}", trainer.steps() + 1));
                assert_eq!(trainer.network().parameters().unwrap(), before, "{name}");
            }
            let (input, target) = waves(0, (4, 3), (2, 1));
            trainer.set_learning_rate(f32::MAX);
            let expected = format!("update {}, dense1.bias", trainer.steps() + 1);
            let tape = trainer.network().forward_training(&input, None, None).unwrap();
            let d_output = tape.output().mapv(|_| 1e3);
            let gradients = trainer.network().backward(tape, d_output.view(), None).unwrap();
            assert_eq!(updated(&mut trainer, |trainer| trainer.apply(&gradients)), expected);
            let found = updated(&mut trainer, |trainer| {
                trainer.accumulate(&input, &target + 1e3)?;
                trainer.update()
            });
            assert_eq!(found, expected);
            assert_eq!(trainer.network().parameters().unwrap(), before, "no door lets it pass");
        });
    }
    failures.finish();
}

/// Truncation makes an update for each window. The first that overflows ends it; a GPU withholds the others.
#[test]
fn a_window_that_overflows_is_reported() {
    let Some(gpu) = test_gpu() else { return };
    for device in [Device::cpu().unwrap(), Device::Gpu(gpu)] {
        let config = NetworkConfig::with_input(2).lstm(3).dense(1).build().unwrap();
        let options = TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(1e36);
        let mut trainer = Trainer::new(Network::new(&device, &config, 1).unwrap(), options).unwrap();
        let before = trainer.network().parameters().unwrap();
        let (input, _) = waves(0, (6, 3), (2, 1));
        let mut target = Array3::zeros((6, 3, 1));
        target.fill(1e4);
        let truncation = gatefold::training::Truncation { horizon: 2, stride: 2 };
        let found = updated(&mut trainer, |trainer| trainer.step_truncated(&input, &target, truncation));
        assert_eq!(found, "update 1, dense0.bias", "{}", device.summary());
        assert_eq!(trainer.network().parameters().unwrap(), before, "{}", device.summary());
        assert_eq!(trainer.steps(), 0);
    }
}

/// A GPU reports an overflow when something is read back. Until then it withholds what follows, even NaN; a checkpoint
/// reports it too, once.
#[test]
fn a_gpu_withholds_updates_until_an_overflow_is_reported() {
    let Some(gpu) = test_gpu() else { return };
    let device = Device::Gpu(gpu);
    let mut trainer = trainer(&device, TrainConfig::new());
    let before = trainer.network().parameters().unwrap();
    let (input, target) = waves(0, SHAPE, (2, 1));
    for by_checkpoint in [false, true] {
        trainer.set_learning_rate(f32::MAX);
        trainer.step(&input, &target + 1e3).unwrap();
        trainer.set_learning_rate(0.01);
        trainer.step(&input, &target).unwrap();
        trainer.step(&input, &target + f32::NAN).unwrap();
        assert_eq!(trainer.steps(), 3, "nobody knows yet");
        let report = |trainer: &mut Trainer| match by_checkpoint {
            true => trainer.checkpoint(0, BTreeMap::new()).map(|_| ()),
            false => trainer.take_losses().map(|_| ()),
        };
        assert_eq!(failure(report(&mut trainer)), "update 1, dense1.bias");
        assert_eq!(trainer.steps(), 0);
        assert_eq!(trainer.checkpoint(0, BTreeMap::new()).unwrap().step, 0);
        assert_eq!(trainer.network().parameters().unwrap(), before);
        assert_eq!(trainer.take_losses().unwrap().len(), 3);
    }
    trainer.step(&input, &target).unwrap();
    trainer.take_losses().unwrap();
    assert_eq!(trainer.steps(), 1);
    assert_ne!(trainer.network().parameters().unwrap(), before, "updates are made again");
}

#[test]
fn an_overflow_says_what_to_do() {
    let mut trainer = trainer(&Device::cpu().unwrap(), TrainConfig::new().learning_rate(f32::MAX));
    let (input, target) = waves(0, SHAPE, (2, 1));
    assert_eq!(
        trainer.step(&input, &target).unwrap_err().to_string(),
        "update 1: dense1.bias or a moment of it would not be finite, so the update has not been made and \
         nothing has changed; lower the learning rate or clip the gradient, and go on"
    );
}

/// No update leaves an infinite parameter, even one that was so before; freezing it lets the others train.
#[test]
fn a_parameter_that_is_infinite_already_is_named_unless_it_is_frozen() {
    let Some(gpu) = test_gpu() else { return };
    for device in [Device::cpu().unwrap(), Device::Gpu(gpu)] {
        let config = NetworkConfig::with_input(2).dense(3).build().unwrap();
        let mut parameters = Parameters::initial(&config, 1).unwrap();
        let gradients = parameters.clone();
        parameters.get_mut("dense0.bias").unwrap()[[1]] = f32::NEG_INFINITY;
        let bare = TrainConfig::new().optimizer(Optimizer::sgd());
        let frozen = bare.clone().group(ParameterGroup::new("dense0.bias").frozen());
        for (options, expected) in [(bare, "update 1, dense0.bias"), (frozen, "none")] {
            let network = Network::with_parameters(&device, &config, &parameters).unwrap();
            let mut trainer = Trainer::new(network, options).unwrap();
            trainer.accumulate_parameters(&gradients).unwrap();
            assert_eq!(updated(&mut trainer, Trainer::update), expected, "{}", device.summary());
            let after = trainer.network().parameters().unwrap();
            assert_eq!(after["dense0.bias"], parameters["dense0.bias"]);
            assert_eq!(after["dense0.weight"] == parameters["dense0.weight"], expected != "none");
        }
    }
}

#[test]
fn a_checkpoint_of_failed_training_is_refused() {
    let Some(gpu) = test_gpu() else { return };
    let mut trainer = trainer(&Device::Gpu(gpu), TrainConfig::new());
    let (input, mut target) = waves(0, SHAPE, (2, 1));
    target.fill(f32::NAN);
    trainer.step(input.view(), target.view()).unwrap();
    assert_eq!(failure(trainer.checkpoint(0, BTreeMap::new())), "update 1, layer 4 (dense)");
}

/// NaN passes through every activation, so predictions from poisoned data are NaN, on both devices.
#[test]
fn predictions_from_poisoned_data_are_nan() {
    let Some(gpu) = test_gpu() else { return };
    let mut layers: Vec<LayerConfig> = vec![LstmConfig::new(3).into()];
    layers.push(GruConfig::new(3).into());
    layers.push(RnnConfig::new(3).into());
    layers.extend(Activation::ALL.map(|activation| DenseConfig::new(3).activation(activation).into()));
    let mut failures = Failures::new();
    for layer in layers {
        let config = NetworkConfig::new(2, [layer]).unwrap();
        let (mut input, _) = waves(0, (4, 3), (2, 1));
        input[[1, 1, 0]] = f32::NAN;
        for device in [Device::cpu().unwrap(), Device::Gpu(gpu.clone())] {
            failures.check(format!("{config} on {}", device.summary()), || {
                let output = Network::new(&device, &config, 0).unwrap().predict(input.view()).unwrap();
                for ((t, row, unit), value) in output.indexed_iter() {
                    let poisoned = row == 1 && (t == 1 || t > 1 && config.recurrent_layers().count() > 0);
                    assert_eq!(value.is_nan(), poisoned, "step {t}, row {row}, unit {unit}: {value}");
                }
            });
        }
    }
    failures.finish();
}

/// Gradients of 1e30 are finite: clipped they train, and their squares do not overflow.
#[test]
fn huge_gradients_are_not_a_failure() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    for device in [Device::cpu().unwrap(), Device::Gpu(gpu)] {
        failures.check(device.summary(), || {
            let options =
                TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(0.5).clip_norm(Some(1.0));
            let mut trainer = trainer(&device, options);
            let (input, target) = waves(0, SHAPE, (2, 1));
            let before = trainer.network().parameters().unwrap();
            trainer.accumulate(input.view(), (&target + 1e30).view()).unwrap();
            let gradients = trainer.gradients().unwrap();
            let largest = |parameters: &Parameters| {
                parameters
                    .iter()
                    .flat_map(|(_, tensor)| tensor)
                    .fold(0.0, |largest: f32, g| largest.max(g.abs()))
            };
            assert!(largest(&gradients) > 1e29 && largest(&gradients).is_finite());
            trainer.update().unwrap();
            trainer.take_losses().unwrap();
            let after = trainer.network().parameters().unwrap();
            let square =
                |name: &str| (&after[name] - &before[name]).iter().map(|d| f64::from(d * d)).sum::<f64>();
            let length = after.iter().map(|(name, _)| square(name)).sum::<f64>().sqrt();
            assert!((length / 0.5 - 1.0).abs() < 1e-4, "moved by {length}");
        });
    }
    failures.finish();
}

/// Arguments at which a careless `exp` overflows.
#[test]
fn far_arguments_saturate() {
    let Some(gpu) = test_gpu() else { return };
    let input = arr3(&[[[-1e4], [1e4], [-80.5], [80.5], [-f32::MAX], [f32::MAX], [0.0], [-0.5]]]);
    let input = input.into_shape_with_order((1, 8, 1)).unwrap();
    let mut failures = Failures::new();
    for activation in [Activation::Sigmoid, Activation::Tanh] {
        failures.check(activation.to_string(), || {
            let config = NetworkConfig::new(1, [DenseConfig::new(1).activation(activation).into()]).unwrap();
            let mut parameters = Parameters::zeros(&config).unwrap();
            parameters.get_mut("dense0.weight").unwrap().fill(1.0);
            let device = Device::Gpu(gpu.clone());
            let network = Network::with_parameters(&device, &config, &parameters).unwrap();
            let found = network.predict(input.view()).unwrap();
            for (&x, &y) in input.iter().zip(&found) {
                let expected: f64 = gatefold_reference::activation::apply(activation, f64::from(x));
                assert!((f64::from(y) - expected).abs() < 1e-6, "of {x}: {y}, expected {expected}");
            }
        });
    }
    failures.finish();
    // The gates of an LSTM with arguments as large, forward and backward.
    let config = NetworkConfig::new(1, [LstmConfig::new(4).into()]).unwrap();
    let mut parameters = Parameters::initial(&config, 3).unwrap();
    let weights = parameters.get_mut("rnn0.weight_ih_l0").unwrap();
    weights.mapv_inplace(f32::signum);
    let device = Device::Gpu(gpu);
    let network = Network::with_parameters(&device, &config, &parameters).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    let input = Array3::from_shape_fn((6, 2, 1), |(t, row, _)| if (t + row) % 2 == 0 { 1e4 } else { -1e4 });
    let output = trainer.network().predict(input.view()).unwrap();
    assert!(output.iter().all(|h| h.abs() <= 1.0), "{output}");
    trainer.step(input.view(), Array3::zeros((6, 2, 4)).view()).unwrap();
    trainer.take_losses().unwrap();
}

#[test]
fn a_lost_device_is_an_error_everywhere() {
    let Some(gpu) = test_gpu_with(&GpuOptions::new()) else { return };
    let device = Device::Gpu(gpu.clone());
    let mut network = Network::new(&device, &stacked(), 1).unwrap();
    let (input, target) = waves(0, SHAPE, (2, 1));
    network.predict(input.view()).unwrap();
    let parameters = network.parameters().unwrap();
    let mut trainer = trainer(&device, TrainConfig::new());
    trainer.step(input.view(), target.view()).unwrap();
    let other_shape = Array3::zeros((3, 2, 2));

    gpu.device().destroy();
    let lost = |what: &str, result: Result<(), Error>| {
        let error = result.expect_err(what);
        assert!(matches!(error, Error::DeviceLost(_)), "{what}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("the device was lost: "), "{text}");
        assert!(text.ends_with("start again from the last checkpoint"), "{text}");
    };
    for _ in 0..2 {
        lost("predict", network.predict(input.view()).map(|_| ()));
        lost("predict another shape", network.predict(other_shape.view()).map(|_| ()));
        lost("parameters", network.parameters().map(|_| ()));
        lost("set_parameters", network.set_parameters(&parameters));
        lost("accumulate", trainer.accumulate(input.view(), target.view()));
        lost("update", trainer.update());
        lost("step", trainer.step(input.view(), target.view()));
        lost("take_losses", trainer.take_losses().map(|_| ()));
        lost("gradients", trainer.gradients().map(|_| ()));
        lost("checkpoint", trainer.checkpoint(0, BTreeMap::new()).map(|_| ()));
        lost("a new network", Network::new(&device, &stacked(), 1).map(|_| ()));
    }
    // Another device still works.
    let Some(gpu) = test_gpu_with(&GpuOptions::new()) else { return };
    Network::new(&Device::Gpu(gpu), &stacked(), 1).unwrap().predict(input.view()).unwrap();
}

/// On an idle device the very next call reports the loss, even if it reads nothing back.
#[test]
fn the_loss_of_an_idle_device_is_seen_at_once() {
    let Some(gpu) = test_gpu_with(&GpuOptions::new()) else { return };
    let mut trainer = trainer(&Device::Gpu(gpu.clone()), TrainConfig::new());
    let (input, target) = waves(0, SHAPE, (2, 1));
    trainer.step(input.view(), target.view()).unwrap();
    trainer.take_losses().unwrap();
    gpu.device().destroy();
    let error = trainer.accumulate(input.view(), target.view()).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
}

/// The limit is twice what the parameters and a small batch need.
#[test]
fn out_of_memory_names_the_buffer_and_leaves_the_engine_usable() {
    let shape = Shape::plain(&stacked(), SHAPE.0, SHAPE.1);
    let small = memory_need(&stacked(), &Target::webgpu(), shape, None).unwrap().bytes;
    let options = GpuOptions::new().memory_limit_bytes(Some(2 * small));
    let Some(gpu) = test_gpu_with(&options) else { return };
    let network = Network::new(&Device::Gpu(gpu), &stacked(), 1).unwrap();
    let (input, _) = waves(0, SHAPE, (2, 1));
    let expected = network.predict(input.view()).unwrap();
    let (large, _) = waves(0, (50, 200), (2, 1));
    for _ in 0..10 {
        match network.predict(large.view()) {
            Err(error @ Error::OutOfMemory { .. }) => {
                let text = error.to_string();
                let named = ["layer0.gates", "input"].iter().any(|name| text.contains(name));
                assert!(named && text.ends_with("use a smaller batch or network"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    // The memory for the large batch was given back.
    assert_eq!(network.predict(input.view()).unwrap(), expected);
    let (other, _) = waves(0, (3, 2), (2, 1));
    network.predict(other.view()).unwrap();
}

#[test]
fn no_memory_for_the_parameters_or_for_training() {
    let Some(gpu) = test_gpu_with(&GpuOptions::new().memory_limit_bytes(Some(1 << 12))) else { return };
    let device = Device::Gpu(gpu);
    let error = Network::new(&device, &stacked(), 1).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert!(error.to_string().contains("parameters needs"), "{error}");
    // A smaller network fits; its training does not.
    let config = NetworkConfig::new(2, [LstmConfig::new(2).into()]).unwrap();
    let network = Network::new(&device, &config, 1).unwrap();
    let error = Trainer::new(network, TrainConfig::new()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    // The engine still works.
    let network = Network::new(&device, &config, 1).unwrap();
    network.predict(Array3::zeros((1, 1, 2)).view()).unwrap();
}

#[test]
fn too_large_a_tensor_is_refused_by_name_before_anything_runs() {
    // Without a device: 5,000 steps of 64 rows of 64 units take 328 MB, and WebGPU's binding limit is 128 MiB.
    let config = NetworkConfig::new(4, [LstmConfig::new(64).into(), DenseConfig::new(1).into()]).unwrap();
    let shape = Shape::plain(&config, 5_000, 64);
    let error = Error::from(memory_need(&config, &Target::webgpu(), shape, None).unwrap_err());
    match &error {
        Error::TooLarge { tensor, needed_bytes, buffer_bytes, binding_bytes } => {
            assert_eq!((tensor.as_str(), *needed_bytes), ("layer0.gates", 4 * 5_000 * 64 * 64 * 4));
            assert_eq!((*buffer_bytes, *binding_bytes), (256 << 20, 128 << 20));
        }
        error => panic!("{error}"),
    }
    assert!(
        error.to_string().starts_with(
            "layer0.gates needs 327680000 bytes; the device allows 268435456 in a buffer and 134217728"
        ),
        "{error}"
    );

    let Some(gpu) = test_gpu_with(&GpuOptions::new().webgpu_limits(true)) else { return };
    let device = Device::Gpu(gpu);
    let network = Network::new(&device, &config, 1).unwrap();
    let (steps, batch) = (1_000, 512);
    let long = Array3::zeros((steps, batch, 4));
    let refused = |error: Error| match error {
        Error::TooLarge { tensor, .. } => assert_eq!(tensor, "layer0.gates"),
        error => panic!("{error}"),
    };
    refused(network.predict(long.view()).unwrap_err());
    let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    refused(trainer.step(long.view(), Array3::zeros((steps, batch, 1)).view()).unwrap_err());
    // The refused step was not counted, and smaller ones still run.
    let (input, target) = (Array3::zeros((2, 3, 4)), Array3::zeros((2, 3, 1)));
    trainer.step(input.view(), target.view()).unwrap();
    assert_eq!((trainer.take_losses().unwrap().len(), trainer.steps()), (1, 1));

    // One parameter above the binding limit; several that are so only together lie in several buffers.
    let wide = NetworkConfig::new(6_000, [DenseConfig::new(6_000).into()]).unwrap();
    let error =
        Network::with_parameters(&device, &wide, &Parameters::zeros(&wide).unwrap()).map(|_| ()).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { tensor, .. } if tensor == "dense0.weight"), "{error}");
}

#[test]
fn a_missing_adapter_is_named() {
    let choice = DeviceChoice::Named("no such adapter".into());
    let error = Gpu::request(&choice, &GpuOptions::new()).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NoAdapter { .. }), "{error}");
    assert!(error.to_string().contains("no GPU adapter matches \"no such adapter\""), "{error}");
}
