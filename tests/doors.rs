//! The doors of the engine as a user walks through them: custom losses, learning-rate schedules, shared handles, files,
//! async calls; on the CPU and on a GPU.

use gatefold::devices::{GpuOptions, adapters, adapters_async};
use gatefold::layers::{InitialState, LayerConfig, LstmConfig};
use gatefold::training::{GradientArrays, ParameterGroup, Schedule};
use gatefold::{
    Device, DeviceChoice, Error, Loss, Network, NetworkConfig, Optimizer, Refusal, Sequences, States,
    Targets, TrainConfig, Trainer,
};
use gatefold_check::{
    Failures, NetworkCase, Tolerance, assert_array, assert_parameters, gradient_terms, test_devices,
    test_gpu, test_gpu_with,
};
use ndarray::{Array2, Array3, Axis};
use pollster::block_on;
use std::collections::BTreeMap;

const STEPS: usize = 5;
const BATCH: usize = 3;

fn config() -> NetworkConfig {
    NetworkConfig::with_input(2).lstm(6).gru(5).dense(3).build().unwrap()
}

fn case() -> NetworkCase {
    NetworkCase { config: config(), steps: STEPS, batch: BATCH, seed: 9 }
}

fn network(device: &Device) -> Network {
    Network::with_parameters(device, &config(), &case().parameters()).unwrap()
}

fn input() -> Array3<f32> {
    case().input()
}

fn target() -> Array3<f32> {
    Array3::from_shape_fn((STEPS, BATCH, 3), |(t, b, f)| ((t + 2 * b + 3 * f) as f32).sin() / 2.0)
}

/// The gradients of the mean squared error, computed through a tape.
fn own_loss(network: &Network) -> gatefold::training::Gradients {
    let tape = network.forward_training(input(), None, None).unwrap();
    let elements = (STEPS * BATCH * 3) as f32;
    let d_output = (&tape.output() - &target()) * (2.0 / elements);
    network.backward(tape, d_output.view(), None).unwrap()
}

/// Runs a check on every device and lists all that fail.
fn on_each(check: impl Fn(&Device) + std::panic::RefUnwindSafe) {
    let mut failures = Failures::new();
    for (name, device) in &test_devices() {
        failures.check(*name, || check(device));
    }
    failures.finish();
}

#[test]
fn a_loss_of_ones_own_trains_like_the_engines() {
    let tolerance = Tolerance::gradient(gradient_terms(&config(), STEPS, BATCH));
    on_each(|device| {
        let options =
            || TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(0.5).clip_norm(Some(0.1));
        let mut own = Trainer::new(network(device), options()).unwrap();
        let mut engines = Trainer::new(network(device), options()).unwrap();
        for _ in 0..3 {
            let gradients = own_loss(own.network());
            own.accumulate_gradients(&gradients).unwrap();
            engines.accumulate(input(), target()).unwrap();
            let (found, want) = (own.gradients().unwrap(), engines.gradients().unwrap());
            assert_parameters("gradients", &found, &want, tolerance);
            own.update().unwrap();
            engines.update().unwrap();
        }
        let (found, want) = (own.network().parameters().unwrap(), engines.network().parameters().unwrap());
        assert_parameters("parameters", &found, &want, tolerance.times(3));
        assert!(own.take_losses().unwrap().is_empty(), "gradients carry no loss");
    });
}

#[test]
fn gradients_add_up_wherever_they_come_from() {
    on_each(|device| {
        let frozen = ParameterGroup::new("rnn0.").frozen();
        let mut trainer = Trainer::new(network(device), TrainConfig::new().group(frozen)).unwrap();
        let gradients = own_loss(trainer.network());
        let read = gradients.parameters().unwrap();
        trainer.accumulate_gradients(&gradients).unwrap();
        trainer.accumulate_parameters(&read).unwrap();
        let sum = trainer.gradients().unwrap();
        for (name, gradient) in sum.iter() {
            let factor = if name.starts_with("rnn0.") { 0.0 } else { 2.0 };
            assert_eq!(gradient, &(&read[name] * factor), "{name}");
        }
        let before = trainer.network().parameters().unwrap();
        trainer.update().unwrap();
        for (name, after) in trainer.network().parameters().unwrap().iter() {
            assert_eq!(after == before[name], name.starts_with("rnn0."), "{name}");
        }
        let other = own_loss(&network(device));
        match trainer.apply(&other).unwrap_err() {
            Error::Refused { kind: Refusal::ForeignTape, .. } => {}
            error => panic!("{error}"),
        }
    });
}

#[test]
fn a_missing_gradient_of_the_output_is_zeros() {
    on_each(|device| {
        let network = network(device);
        let tape = || network.forward_training(input(), None, None).unwrap();
        let mut d_states = States::zeros(&config(), BATCH);
        d_states.layers[1].h.fill(0.3);
        let read = |gradients: gatefold::training::Gradients| -> GradientArrays { gradients.read().unwrap() };
        let zeros = Array3::zeros((STEPS, BATCH, 3));
        let found = read(network.backward(tape(), None, Some(&d_states)).unwrap());
        assert_eq!(found, read(network.backward(tape(), zeros.view(), Some(&d_states)).unwrap()));
        assert!(found.parameters["rnn0.weight_ih_l0"].iter().any(|&d| d != 0.0));
    });
}

#[test]
fn a_schedule_changes_the_rate_and_survives_a_resume() {
    on_each(|device| {
        let schedule = Schedule::plateau(0, 0.5).warm_up(2);
        let options = || TrainConfig::new().learning_rate(0.1).schedule(schedule);
        let mut trainer = Trainer::new(network(device), options()).unwrap();
        let mut rates = Vec::new();
        let step = |trainer: &mut Trainer, rates: &mut Vec<f32>| {
            rates.push(trainer.learning_rate());
            trainer.step(input(), target()).unwrap();
            trainer.observe(1.0);
        };
        (0..3).for_each(|_| step(&mut trainer, &mut rates));
        let checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
        (0..2).for_each(|_| step(&mut trainer, &mut rates));
        assert_eq!(rates, [0.05, 0.1, 0.05, 0.025, 0.0125]);

        let mut resumed = Trainer::resume(device, &checkpoint, options()).unwrap();
        let mut again = Vec::new();
        (0..2).for_each(|_| step(&mut resumed, &mut again));
        assert_eq!(again, rates[3..]);
        let bits = |trainer: &Trainer| trainer.network().parameters().unwrap();
        assert_eq!(bits(&resumed), bits(&trainer));
    });
}

/// A checkpoint may hold more than moments; the command's also holds the best epoch's parameters.
#[test]
fn a_checkpoint_with_other_tensors_is_resumed() {
    let mut trainer = Trainer::new(network(&Device::cpu().unwrap()), TrainConfig::new()).unwrap();
    trainer.step(input(), target()).unwrap();
    let mut checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
    checkpoint.optimizer.insert("best".into(), checkpoint.parameters.clone());
    let resumed = Trainer::resume(&Device::cpu().unwrap(), &checkpoint, TrainConfig::new()).unwrap();
    assert_eq!(resumed.steps(), 1);
    checkpoint.optimizer.remove("v");
    let error = Trainer::resume(&Device::cpu().unwrap(), &checkpoint, TrainConfig::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { kind: Refusal::Checkpoint, .. }), "{error}");
    assert!(error.to_string().contains("the moments [m, v], found [m]"), "{error}");
}

/// With a gradient of zero, an update is the decay alone: `p - rate decay p`.
#[test]
fn a_group_has_a_weight_decay_of_its_own() {
    on_each(|device| {
        for optimizer in [Optimizer::sgd(), Optimizer::adamw()] {
            let decayed = ParameterGroup::new("dense").weight_decay(0.5);
            let kept = ParameterGroup::new("rnn").weight_decay(0.0);
            let options =
                TrainConfig::new().optimizer(optimizer).learning_rate(0.25).group(decayed).group(kept);
            let mut trainer = Trainer::new(network(device), options).unwrap();
            let before = trainer.network().parameters().unwrap();
            trainer.update().unwrap();
            for (name, after) in trainer.network().parameters().unwrap().iter() {
                let factor = if name.starts_with("dense") { 1.0 - 0.25 * 0.5 } else { 1.0 };
                for (after, before) in after.iter().zip(&before[name]) {
                    assert!(
                        (after - factor * before).abs() <= 2e-7,
                        "{optimizer:?}, {name}: {before} to {after}"
                    );
                }
            }
        }
    });
}

#[test]
fn handles_outlive_the_network_and_run_side_by_side() {
    on_each(|device| {
        let network = network(device);
        let whole = network.predict(input()).unwrap();
        let mut stream = network.stream(BATCH).unwrap();
        let (input, expected) = (&input(), &whole);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(network.predict(input).unwrap(), *expected));
            }
        });
        drop(network);
        let tolerance = Tolerance::output(gradient_terms(&config(), STEPS, BATCH));
        for t in 0..STEPS {
            let found = stream.step(input.index_axis(Axis(0), t)).unwrap();
            assert_array(&format!("step {t}"), found.view(), whole.index_axis(Axis(0), t), tolerance);
        }
    });
}

#[test]
fn training_starts_from_given_states_once() {
    on_each(|device| {
        let network = network(device);
        let mut states = States::zeros(&config(), BATCH);
        states.layers[0].h.fill(0.4);
        let tape = network.forward_training(input(), Some(&states), None).unwrap();
        let given =
            Targets::from(&target()).loss(&Loss::SquaredError, Default::default(), tape.output()).unwrap();
        let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.0)).unwrap();
        trainer.step(input(), target()).unwrap();
        trainer.set_states(&states).unwrap();
        trainer.step(input(), target()).unwrap();
        trainer.step(input(), target()).unwrap();
        let losses = trainer.take_losses().unwrap();
        assert!((f64::from(losses[1]) - given).abs() < 1e-5 * given, "{losses:?}, {given}");
        assert_eq!(losses[0], losses[2], "the states were for one batch");
        assert_ne!(losses[0], losses[1]);
        let wrong =
            trainer.set_states(&States::zeros(&NetworkConfig::with_input(1).gru(2).build().unwrap(), 1));
        assert!(matches!(wrong, Err(Error::Refused { kind: Refusal::States, .. })));
    });
}

#[test]
fn files_come_and_go_from_this_crate_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    on_each(|device| {
        let ours = network(device);
        ours.save(&path).unwrap();
        let back = Network::load(device, &path).unwrap();
        assert_eq!((back.config(), back.parameters().unwrap()), (ours.config(), ours.parameters().unwrap()));
        let missing = Network::load(device, folder.path().join("none.safetensors")).unwrap_err();
        assert!(missing.to_string().contains("none.safetensors"), "{missing}");
    });
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pytorch");
    for name in ["lstm_2.safetensors", "gru.safetensors"] {
        let network = Network::load(&Device::cpu().unwrap(), format!("{fixtures}/{name}")).unwrap();
        assert!(network.parameters().unwrap().iter().count() > 0, "{name}");
    }
}

#[test]
fn what_converts_is_taken_as_it_is() {
    let words = NetworkConfig::with_input(1).embedding(7, 3).lstm(4).dense(7).build().unwrap();
    on_each(|device| {
        let network = Network::new(device, &words, 1).unwrap();
        let tokens = Array2::from_shape_fn((STEPS, BATCH), |(t, b)| ((3 * t + b) % 7) as u32);
        let labels = tokens.mapv(i64::from);
        let options = TrainConfig::new().loss(Loss::CrossEntropy);
        let mut trainer = Trainer::new(network, options).unwrap();
        trainer.step(&tokens, &labels).unwrap();
        let sequences = Sequences::tokens(tokens.view()).with_lengths([5, 2, 0]).unwrap();
        trainer.accumulate(&sequences, Targets::labels(labels.view())).unwrap();
        trainer.accumulate(tokens.view(), labels.view()).unwrap();
        trainer.update().unwrap();
        assert_eq!(trainer.take_losses().unwrap().len(), 3);
        assert_eq!(trainer.network().predict(&tokens).unwrap().dim(), (STEPS, BATCH, 7));
    });
}

/// Every call that waits has a twin that does not block, over the same code.
#[test]
fn async_twins_give_the_same() {
    on_each(|device| {
        let learned = LstmConfig::new(4).initial_state(InitialState::Learned);
        let config = NetworkConfig::with_input(2).layer(learned).dense(2).build().unwrap();
        let (input, target) = (input(), target().slice_move(ndarray::s![.., .., ..2]));
        let blocking = Network::new(device, &config, 5).unwrap();
        let network = block_on(Network::new_async(device, &config, 5)).unwrap();
        assert_eq!(block_on(network.predict_async(&input)).unwrap(), blocking.predict(&input).unwrap());
        let (a, b) =
            (block_on(network.forward_async(&input, None)).unwrap(), blocking.forward(&input, None).unwrap());
        assert_eq!(a, b);
        let tape = block_on(network.forward_training_async(&input, None, None)).unwrap();
        let gradients = block_on(network.backward_async(tape, target.view(), None)).unwrap();
        let tape = blocking.forward_training(&input, None, None).unwrap();
        let expected = blocking.backward(tape, target.view(), None).unwrap();
        assert_eq!(block_on(gradients.read_async()).unwrap(), expected.read().unwrap());
        let mut stream = block_on(network.stream_async(BATCH)).unwrap();
        let step = block_on(stream.step_async(input.index_axis(Axis(0), 0))).unwrap();
        let mut other = blocking.stream(BATCH).unwrap();
        assert_eq!(step, other.step(input.index_axis(Axis(0), 0)).unwrap());
        assert_eq!(block_on(stream.states_async()).unwrap(), other.states().unwrap());
        drop(gradients);
        let mut trainer = block_on(Trainer::new_async(network, TrainConfig::new())).unwrap();
        let mut expected = Trainer::new(blocking, TrainConfig::new()).unwrap();
        block_on(trainer.step_async(&input, target.view())).unwrap();
        expected.step(&input, target.view()).unwrap();
        assert_eq!(block_on(trainer.take_losses_async()).unwrap(), expected.take_losses().unwrap());
        let checkpoint = block_on(trainer.checkpoint_async(0, BTreeMap::new())).unwrap();
        assert_eq!(checkpoint.parameters, expected.network().parameters().unwrap());
        block_on(Trainer::resume_async(device, &checkpoint, TrainConfig::new())).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.safetensors");
        block_on(expected.network().save_async(&path)).unwrap();
        let loaded = block_on(Network::load_async(device, &path)).unwrap();
        assert_eq!(loaded.parameters().unwrap(), expected.network().parameters().unwrap());
    });
    let opened = block_on(Device::open_async(&DeviceChoice::Gpu)).map(|device| device.summary());
    let expected = Device::open(&DeviceChoice::Gpu).map(|device| device.summary());
    assert_eq!(opened.is_ok(), test_gpu().is_some());
    assert_eq!(format!("{opened:?}"), format!("{expected:?}"));
    assert_eq!(format!("{:?}", block_on(adapters_async())), format!("{:?}", adapters()));
}

/// Parameters too large for one binding lie in several buffers; training produces the same bits.
#[test]
fn parameters_beyond_a_binding_lie_in_several_buffers() {
    let Some(gpu) = test_gpu() else { return };
    let config = NetworkConfig::with_input(2).lstm(24).gru(20).dense(3).build().unwrap();
    let bytes = 4 * 10 * 256; // what the norm of ten parameters takes; the largest parameter takes less
    let options = GpuOptions::new().binding_limit_bytes(Some(bytes));
    let Some(narrow) = test_gpu_with(&options) else { return };
    let elements: usize = config.parameter_specs().map(|spec| spec.len().next_multiple_of(64)).sum();
    let mut found = Vec::new();
    for device in [Device::Gpu(gpu), Device::Gpu(narrow)] {
        let clipped =
            TrainConfig::new().clip_norm(Some(0.05)).group(ParameterGroup::new("rnn1.bias").frozen());
        let mut trainer = Trainer::new(Network::new(&device, &config, 9).unwrap(), clipped).unwrap();
        for _ in 0..3 {
            trainer.step(input(), target()).unwrap();
        }
        let gradients = own_loss(trainer.network()).parameters().unwrap();
        let checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
        let resumed = Trainer::resume(&device, &checkpoint, TrainConfig::new()).unwrap();
        found.push((
            trainer.network().parameters().unwrap(),
            gradients,
            resumed.checkpoint(0, BTreeMap::new()).unwrap().optimizer,
        ));
    }
    assert!(4 * elements as u64 > bytes, "{} bytes need more than one buffer of {bytes}", 4 * elements);
    assert!(found[0] == found[1], "the same bits");
}

#[test]
fn absurd_widths_are_errors_on_the_cpu() {
    let device = Device::open(&DeviceChoice::Cpu).unwrap();
    let layers: Vec<LayerConfig> = vec![LstmConfig::new(1 << 24).into(), LstmConfig::new(1 << 24).into()];
    let config = NetworkConfig::new(1, layers).unwrap();
    let error = Network::new(&device, &config, 1).unwrap_err().to_string();
    assert!(error.contains("bytes"), "{error}");
}
