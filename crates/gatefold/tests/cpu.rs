//! Networks and trainers on the CPU device.

use gatefold::file::Checkpoint;
use gatefold::layers::{Activation, DenseConfig, LayerConfig, LstmConfig};
use gatefold::training::ParameterGroup;
use gatefold::{Device, Error, Loss, Network, NetworkConfig, Optimizer, Parameters, TrainConfig, Trainer};
use gatefold_reference::{loss, optim};
use ndarray::{Array3, ArrayD};
use std::collections::BTreeMap;
use std::path::Path;

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

/// Two sines of different pitch and phase in every row, and the first one's next value.
fn batch(number: usize) -> (Array3<f32>, Array3<f32>) {
    let (steps, rows) = (7, 4);
    let value =
        |t: usize, row: usize, k: usize| ((t + 5 * row + 3 * number) as f32 * (0.3 + 0.2 * k as f32)).sin();
    let input = Array3::from_shape_fn((steps, rows, 2), |(t, row, k)| value(t, row, k));
    (input, Array3::from_shape_fn((1, rows, 1), |(_, row, _)| value(steps, row, 0)))
}

fn trainer(options: TrainConfig) -> Trainer {
    Trainer::new(Network::new(&Device::cpu().unwrap(), &stacked(), 1).unwrap(), options).unwrap()
}

fn train(trainer: &mut Trainer, batches: std::ops::Range<usize>) {
    for number in batches {
        let (input, target) = batch(number);
        trainer.step(input.view(), target.view()).unwrap();
    }
}

fn parameters(trainer: &mut Trainer) -> Parameters {
    trainer.network().parameters().unwrap()
}

fn gradients_of(options: &TrainConfig, batches: &[usize]) -> Parameters {
    let mut trainer = trainer(options.clone());
    for &number in batches {
        let (input, target) = batch(number);
        trainer.accumulate(input.view(), target.view()).unwrap();
    }
    trainer.gradients().unwrap()
}

fn optimizers() -> [Optimizer; 6] {
    [
        Optimizer::sgd(),
        Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-3 },
        Optimizer::rmsprop(),
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-4, momentum: 0.5, centered: true, weight_decay: 1e-3 },
        Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 1e-3 },
        Optimizer::adamw(),
    ]
}

#[test]
fn the_loss_falls() {
    let mut trainer = trainer(TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)));
    train(&mut trainer, 0..300);
    let losses = trainer.take_losses().unwrap();
    assert_eq!(losses.len(), 300);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    let (early, late) = (mean(&losses[..20]), mean(&losses[280..]));
    assert!(late < early / 20.0, "from {early} to {late}");
    assert!(trainer.take_losses().unwrap().is_empty());
    assert_eq!(trainer.steps(), 300);
}

#[test]
fn a_hundred_steps_repeat_bit_for_bit() {
    let run = || {
        let mut trainer = trainer(TrainConfig::new().clip_norm(Some(0.1)));
        train(&mut trainer, 0..100);
        parameters(&mut trainer)
    };
    assert_eq!(run(), run());
}

/// Ten steps with clipping, against the reference's networks and optimisers in f64.
#[test]
fn training_follows_the_reference() {
    let rate = 0.02;
    let options = TrainConfig::new().learning_rate(rate).clip_norm(Some(0.3));
    let mut trainer = trainer(options);
    train(&mut trainer, 0..10);
    let losses = trainer.take_losses().unwrap();

    let rate = f64::from(rate);
    let mut network =
        gatefold_reference::Network::<f64>::new(&stacked(), &Parameters::initial(&stacked(), 1).unwrap())
            .unwrap();
    let zeros: BTreeMap<String, ArrayD<f64>> = network
        .parameters()
        .iter()
        .map(|(name, tensor)| (name.clone(), ArrayD::zeros(tensor.raw_dim())))
        .collect();
    let (mut m, mut v) = (zeros.clone(), zeros);
    let adam = optim::Adam {
        beta1: f64::from(0.9f32),
        beta2: f64::from(0.999f32),
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    for (number, &found) in losses.iter().enumerate() {
        let (input, target) = batch(number);
        let tape = network.forward(&gatefold_reference::Batch::new(input.mapv(f64::from).view()));
        let target = target.mapv(f64::from);
        let expected = loss::squared_error(tape.output(), target.view());
        // Rounding in f32 is 6e-8; ten steps of Adam multiply it where a gradient's sign is in doubt.
        assert!((f64::from(found) - expected).abs() < 1e-5 * expected, "batch {number}: {found}, {expected}");
        let d_output = loss::squared_error_gradient(tape.output(), target.view());
        let gradients = network.backward(&tape, d_output.view(), None).parameters;
        let norm = optim::global_norm(gradients.values().map(|g| g.as_slice().unwrap()));
        let factor = optim::clip_factor(norm, f64::from(0.3f32));
        assert!(number > 0 || factor < 1.0, "the clip is meant to bite");
        for (name, p) in network.parameters_mut() {
            let g = &gradients[name] * factor;
            let (m, v) = (m.get_mut(name).unwrap(), v.get_mut(name).unwrap());
            let step = number as u64 + 1;
            optim::adam(
                p.as_slice_mut().unwrap(),
                g.as_slice().unwrap(),
                m.as_slice_mut().unwrap(),
                v.as_slice_mut().unwrap(),
                rate,
                step,
                &adam,
            );
        }
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    for (k, optimizer) in optimizers().into_iter().enumerate() {
        let options = TrainConfig::new()
            .optimizer(optimizer)
            .learning_rate(0.01)
            .clip_norm(Some(0.5))
            .group(ParameterGroup::new("rnn0.weight_ih").frozen());
        let mut whole = trainer(options.clone());
        train(&mut whole, 0..40);

        let mut first = trainer(options.clone());
        train(&mut first, 0..17);
        let metadata = BTreeMap::from([("note".to_owned(), "opaque".to_owned())]);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("resume-{k}.safetensors"));
        first.checkpoint(9, metadata.clone()).unwrap().save(&path).unwrap();
        drop(first);

        let checkpoint = Checkpoint::load(&path).unwrap();
        assert_eq!((checkpoint.step, checkpoint.seed, &checkpoint.metadata), (17, 9, &metadata));
        let mut second = Trainer::resume(&Device::cpu().unwrap(), &checkpoint, options).unwrap();
        assert_eq!(second.steps(), 17);
        train(&mut second, 17..40);
        assert_eq!(second.steps(), 40);
        assert_eq!(parameters(&mut second), parameters(&mut whole), "{optimizer:?}");
    }
}

#[test]
fn a_checkpoint_of_another_optimizer_is_refused() {
    let checkpoint = trainer(TrainConfig::new()).checkpoint(0, BTreeMap::new()).unwrap();
    let error =
        Trainer::resume(&Device::cpu().unwrap(), &checkpoint, TrainConfig::new().optimizer(Optimizer::sgd()))
            .unwrap_err();
    assert_eq!(
        error.to_string(),
        "checkpoint: the optimizer needs the moments [], found [m, v]; resume with the optimizer that wrote it"
    );
}

/// As `Checkpoint` says of its moments.
#[test]
fn what_is_not_trained_needs_no_moments() {
    let frozen = || TrainConfig::new().group(ParameterGroup::new("rnn0").frozen());
    let mut whole = trainer(frozen());
    train(&mut whole, 0..3);
    let mut checkpoint = whole.checkpoint(0, BTreeMap::new()).unwrap();
    for moments in checkpoint.optimizer.values_mut() {
        let trained = moments.iter().filter(|(name, _)| !name.starts_with("rnn0"));
        *moments = trained.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    }
    let mut second = Trainer::resume(&Device::cpu().unwrap(), &checkpoint, frozen()).unwrap();
    train(&mut whole, 3..6);
    train(&mut second, 3..6);
    assert_eq!(parameters(&mut second), parameters(&mut whole));
    assert!(
        Trainer::resume(&Device::cpu().unwrap(), &checkpoint, TrainConfig::new()).is_err(),
        "all of it is trained"
    );
}

/// A broken file makes nothing panic, nor divide by Adam's corrections for update 0.
#[test]
fn a_checkpoint_of_the_last_update_that_can_be_counted_goes_on() {
    let mut checkpoint = trainer(TrainConfig::new()).checkpoint(0, BTreeMap::new()).unwrap();
    checkpoint.step = u64::MAX - 1;
    let mut trainer = Trainer::resume(&Device::cpu().unwrap(), &checkpoint, TrainConfig::new()).unwrap();
    train(&mut trainer, 0..3);
    assert_eq!(trainer.steps(), u64::MAX);
    let parameters = parameters(&mut trainer);
    assert!(parameters.iter().all(|(_, tensor)| tensor.iter().all(|value| value.is_finite())));
}

#[test]
fn accumulated_gradients_are_sums() {
    let options = TrainConfig::new();
    let (first, second) = (gradients_of(&options, &[0]), gradients_of(&options, &[1]));
    let both = gradients_of(&options, &[0, 1]);
    for (name, found) in both.iter() {
        let expected = &first[name] + &second[name];
        let scale = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        assert!(scale > 0.0, "{name}");
        assert!((found - &expected).iter().all(|error| error.abs() <= 1e-6 * scale), "{name}");
    }
}

#[test]
fn an_update_clears_the_gradients() {
    let mut trainer = trainer(TrainConfig::new());
    train(&mut trainer, 0..1);
    assert_eq!(trainer.gradients().unwrap(), Parameters::zeros(&stacked()).unwrap());
}

#[test]
fn frozen_parameters_do_not_move() {
    for optimizer in optimizers() {
        let frozen = ["rnn0.", "dense0.bias"];
        let options = frozen.iter().fold(TrainConfig::new().optimizer(optimizer), |options, prefix| {
            options.group(ParameterGroup::new(*prefix).frozen())
        });
        let mut trainer = trainer(options);
        let before = parameters(&mut trainer);
        train(&mut trainer, 0..5);
        for (name, tensor) in parameters(&mut trainer).iter() {
            let is_frozen = frozen.iter().any(|prefix| name.starts_with(prefix));
            assert_eq!(tensor == before[name], is_frozen, "{name}, {optimizer:?}");
        }
        let (input, target) = batch(0);
        trainer.accumulate(input.view(), target.view()).unwrap();
        for (name, gradient) in trainer.gradients().unwrap().iter() {
            let is_frozen = frozen.iter().any(|prefix| name.starts_with(prefix));
            assert_eq!(gradient.iter().all(|g| *g == 0.0), is_frozen, "{name}");
        }
    }
}

/// One step of plain gradient descent is `-rate factor gradient`; the first group that fits applies.
#[test]
fn groups_have_rates_of_their_own() {
    let rate = 0.5;
    let options = TrainConfig::new()
        .optimizer(Optimizer::sgd())
        .learning_rate(rate)
        .group(ParameterGroup::new("rnn0.weight_hh_l1").learning_rate_factor(4.0))
        .group(ParameterGroup::new("rnn0.").learning_rate_factor(0.0))
        .group(ParameterGroup::new("dense0.").learning_rate_factor(0.25));
    let gradients = gradients_of(&options, &[0]);
    let mut trainer = trainer(options);
    let before = parameters(&mut trainer);
    train(&mut trainer, 0..1);
    for (name, after) in parameters(&mut trainer).iter() {
        let factor = match name {
            "rnn0.weight_hh_l1" => 4.0,
            name if name.starts_with("rnn0.") => 0.0,
            name if name.starts_with("dense0.") => 0.25,
            _ => 1.0,
        };
        assert_eq!(after, before[name].clone() - &gradients[name] * (rate * factor), "{name}");
    }
}

#[test]
fn a_changed_learning_rate_holds_from_the_next_update() {
    let mut trainer = trainer(TrainConfig::new().optimizer(Optimizer::sgd()));
    trainer.set_learning_rate(0.0);
    let before = parameters(&mut trainer);
    train(&mut trainer, 0..1);
    assert_eq!(parameters(&mut trainer), before);
    trainer.set_learning_rate(f32::NAN);
    let error = trainer.update().unwrap_err().to_string();
    assert_eq!(error, "the learning rate is NaN; expected a finite number, 0 or more");
    // A step that is refused leaves no gradient behind, which would count again with the next.
    let (input, target) = batch(1);
    let error = trainer.step(input.view(), target.view()).unwrap_err().to_string();
    assert_eq!(error, "the learning rate is NaN; expected a finite number, 0 or more");
    for (name, gradient) in trainer.gradients().unwrap().iter() {
        assert!(gradient.iter().all(|&element| element == 0.0), "{name}");
    }
}

/// Frozen parameters do not count for the norm.
#[test]
fn clipping_bounds_the_step() {
    let clip = 0.01;
    for frozen in ["rnn0.", "dense1."] {
        let options = TrainConfig::new()
            .optimizer(Optimizer::sgd())
            .learning_rate(1.0)
            .clip_norm(Some(clip))
            .group(ParameterGroup::new(frozen).frozen());
        let mut trainer = trainer(options);
        let before = parameters(&mut trainer);
        train(&mut trainer, 0..1);
        let after = parameters(&mut trainer);
        let change =
            |name: &str| (&after[name] - &before[name]).iter().map(|d| f64::from(d * d)).sum::<f64>();
        let length = after.iter().map(|(name, _)| change(name)).sum::<f64>().sqrt() as f32;
        assert!((length / clip - 1.0).abs() < 1e-3, "length {length}, frozen {frozen}");
    }
}

#[test]
fn wrong_shapes_are_named() {
    let mut trainer = trainer(TrainConfig::new());
    let (input, target) = batch(0);
    let wide = Array3::zeros((7, 4, 3));
    let error = trainer.step(wide.view(), target.view()).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }));
    assert_eq!(
        error.to_string(),
        "input: expected [steps, batch, features 2], none of them 0, found [7, 4, 3]"
    );
    let error = trainer.step(input.view(), Array3::zeros((7, 4, 1)).view()).unwrap_err();
    assert_eq!(error.to_string(), "target: expected [steps 1, batch 4, features 1], found [7, 4, 1]");
    for empty in [(0, 4, 2), (7, 0, 2)] {
        let error = trainer.network().predict(Array3::zeros(empty).view()).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    assert_eq!(trainer.take_losses().unwrap(), [] as [f32; 0]);
}

#[test]
fn not_finite_stops_training_and_keeps_the_parameters() {
    let mut trainer = trainer(TrainConfig::new().clip_norm(Some(1.0)));
    train(&mut trainer, 0..3);
    let before = parameters(&mut trainer);
    let (mut input, target) = batch(3);
    input[[2, 1, 0]] = f32::NAN;
    for _ in 0..2 {
        let error = trainer.step(input.view(), target.view()).unwrap_err();
        assert!(
            matches!(&error, Error::NotFinite { step: 4, layer } if layer == "layer 4 (dense)"),
            "{error}"
        );
    }
    // A good batch does not start it again.
    let (input, target) = batch(4);
    assert!(matches!(trainer.step(input.view(), target.view()), Err(Error::NotFinite { step: 4, .. })));
    assert_eq!(parameters(&mut trainer), before);
    assert_eq!(trainer.steps(), 3);
}

/// A product that overflows in the first layer alone.
#[test]
fn the_layer_that_overflows_is_named() {
    let config = NetworkConfig::new(1, [DenseConfig::new(1).into(), DenseConfig::new(1).into()]).unwrap();
    let mut values = Parameters::zeros(&config).unwrap();
    values.get_mut("dense0.weight").unwrap().fill(1e-30);
    values.get_mut("dense1.weight").unwrap().fill(1e10);
    let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &values).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    let error =
        trainer.step(Array3::from_elem((1, 1, 1), 1e30).view(), Array3::zeros((1, 1, 1)).view()).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { step: 1, layer } if layer == "layer 0 (dense)"), "{error}");
    // The first report stays, whatever comes after it.
    let nan = Array3::from_elem((1, 1, 1), f32::NAN);
    assert_eq!(trainer.step(nan.view(), nan.view()).unwrap_err().to_string(), error.to_string());
}

#[test]
fn a_tied_layer_goes_by_its_owner() {
    let config = NetworkConfig::new(2, [LstmConfig::new(2).into(), LayerConfig::Tied { to: 0 }]).unwrap();
    let mut trainer =
        Trainer::new(Network::new(&Device::cpu().unwrap(), &config, 0).unwrap(), TrainConfig::new()).unwrap();
    let target = Array3::from_elem((3, 1, 2), f32::INFINITY);
    let error = trainer.step(Array3::zeros((3, 1, 2)).view(), target.view()).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { layer, .. } if layer == "layer 0 (lstm)"), "{error}");
}

#[test]
fn options_out_of_range_are_refused() {
    let refusal = |options: TrainConfig| {
        let network = Network::new(&Device::cpu().unwrap(), &stacked(), 1).unwrap();
        Trainer::new(network, options).expect_err("it should be refused").to_string()
    };
    assert_eq!(
        refusal(TrainConfig::new().learning_rate(-1.0)),
        "the learning rate is -1; expected a finite number, 0 or more"
    );
    assert_eq!(
        refusal(TrainConfig::new().clip_norm(Some(0.0))),
        "the norm to clip at is 0; expected a finite number above 0"
    );
    assert_eq!(
        refusal(TrainConfig::new().optimizer(Optimizer::Sgd {
            momentum: 1.0,
            nesterov: false,
            weight_decay: 0.0
        })),
        "optimizer: momentum is 1; expected at least 0 and below 1"
    );
    assert_eq!(
        refusal(TrainConfig::new().optimizer(Optimizer::Sgd {
            momentum: 0.0,
            nesterov: true,
            weight_decay: 0.0
        })),
        "optimizer: momentum is 0; expected more than 0 for nesterov"
    );
    let unknown = refusal(TrainConfig::new().group(ParameterGroup::new("lstm.").frozen()));
    assert!(unknown.starts_with("parameter group \"lstm.\": no parameter's name starts so; there are rnn0."));
}

#[test]
fn parameters_can_be_replaced_and_wrong_ones_are_refused() {
    let mut network = Network::new(&Device::cpu().unwrap(), &stacked(), 1).unwrap();
    let other = Parameters::initial(&stacked(), 2).unwrap();
    network.set_parameters(&other).unwrap();
    assert_eq!(network.parameters().unwrap(), other);
    let mut short = other.clone();
    short.insert("dense1.bias", ArrayD::zeros(vec![2]));
    let error = network.set_parameters(&short).unwrap_err().to_string();
    assert_eq!(error, "dense1.bias: expected shape [1], found [2]");
    assert_eq!(network.parameters().unwrap(), other);
}

/// Arrays of a caller may lie in memory in any order.
#[test]
fn parameters_in_any_layout_are_the_same_parameters() {
    let plain = Parameters::initial(&stacked(), 3).unwrap();
    let mut across = plain.clone();
    for name in ["rnn0.weight_ih_l0", "rnn0.weight_hh_l1", "dense0.weight"] {
        let transposed = plain[name].t().as_standard_layout().into_owned();
        *across.get_mut(name).unwrap() = transposed.reversed_axes();
    }
    let (input, target) = batch(0);
    let mut trained = [plain, across].map(|parameters| {
        let network = Network::with_parameters(&Device::cpu().unwrap(), &stacked(), &parameters).unwrap();
        let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
        trainer.step(input.view(), target.view()).unwrap();
        trainer.network().parameters().unwrap()
    });
    let [plain, across] = &mut trained;
    assert_eq!(plain, across);
}

#[test]
fn a_softmax_in_front_of_cross_entropy_is_refused() {
    let config = NetworkConfig::new(2, [DenseConfig::new(3).into(), LayerConfig::Softmax]).unwrap();
    let network = Network::new(&Device::cpu().unwrap(), &config, 1).unwrap();
    let error = Trainer::new(network, TrainConfig::new().loss(Loss::CrossEntropy)).unwrap_err().to_string();
    let expected = "loss cross-entropy: it takes logits, and layer 1 (softmax) makes probabilities of them; leave that layer out";
    assert_eq!(error, expected);
}

#[test]
fn absurd_widths_are_an_error() {
    let config = NetworkConfig::with_input(1).lstm(1 << 24).lstm(1 << 24).build().unwrap();
    let error = Network::new(&Device::cpu().unwrap(), &config, 1).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("the parameters need 13510800224288768 bytes"), "{error}");
}

#[test]
fn everything_can_go_to_another_thread() {
    fn check<T: Send + Sync>() {}
    check::<Device>();
    check::<Network>();
    check::<Trainer>();
    check::<Error>();
}
