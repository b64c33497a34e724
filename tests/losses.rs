//! Every loss with masks, weights and both reductions, on every device, compared with the reference in `f64`.

use gatefold::layers::{Activation, DenseConfig, LayerConfig, LstmConfig};
use gatefold::training::{ParameterGroup, Reduction};
use gatefold::{
    Device, Loss, Network, NetworkConfig, Optimizer, Parameters, Sequences, Targets, TrainConfig, Trainer,
};
use gatefold_check::{
    Failures, Random, Tolerance, assert_close, assert_parameters, gradient_terms, output_terms, test_gpu,
};
use gatefold_reference::loss::Loss as Reference;
use ndarray::{Array2, Array3};

const STEPS: usize = 5;
const BATCH: usize = 7;
const FEATURES: usize = 2;

fn devices() -> Vec<Device> {
    let gpu = test_gpu().map(Device::Gpu);
    [Device::cpu().unwrap()].into_iter().chain(gpu).collect()
}

/// Each loss, the same loss of the reference, and its number of outputs.
fn losses() -> Vec<(Loss, Reference<f64>, usize)> {
    let levels = [0.1f32, 0.5, 0.9];
    vec![
        (Loss::SquaredError, Reference::Squared, FEATURES),
        (Loss::AbsoluteError, Reference::Absolute, FEATURES),
        (Loss::Huber { delta: 2.5 }, Reference::Huber { delta: 2.5 }, FEATURES),
        (
            Loss::Quantile { levels: levels.into() },
            Reference::Quantile { levels: levels.map(f64::from).into() },
            levels.len() * FEATURES,
        ),
        (Loss::GaussianLikelihood, Reference::Gaussian, 2 * FEATURES),
        (Loss::CrossEntropy, Reference::CrossEntropy, 6),
        // More classes than a workgroup has invocations.
        (Loss::CrossEntropy, Reference::CrossEntropy, 131),
    ]
}

/// A network with outputs at every step, or at the last one only.
fn network(outputs: usize, every_step: bool) -> NetworkConfig {
    let mut layers: Vec<LayerConfig> = vec![LstmConfig::new(8).into()];
    if !every_step {
        layers.push(LayerConfig::LastStep);
    }
    layers.push(DenseConfig::new(5).activation(Activation::Tanh).into());
    layers.push(DenseConfig::new(outputs).into());
    NetworkConfig::new(3, layers).unwrap()
}

/// Values 2 to 3 away from zero, or labels, some of which are ignored.
fn targets(loss: &Loss, outputs: usize, steps: usize) -> (Targets<'static>, Array3<f64>) {
    let mut random = Random::new(40, 0);
    if *loss == Loss::CrossEntropy {
        let labels = Array2::from_shape_fn((steps, BATCH), |(t, row)| match (t * BATCH + row) * 5 {
            at if at % 4 == 3 => -100,
            at => (at % outputs) as i64,
        });
        let values = labels.mapv(|label| label as f64).into_shape_with_order((steps, BATCH, 1)).unwrap();
        return (Targets::labels(labels.view()), values);
    }
    let width = loss.target_width(outputs).unwrap();
    let values = random.sequence((steps, BATCH, width)).mapv(|value| value + 2f32.copysign(value));
    (Targets::values(values.clone()), values.mapv(f64::from))
}

/// Weights between 0.5 and 2; every third is 0.
fn weights(steps: usize) -> Array2<f32> {
    let weights = Random::new(41, 0).within(0.5..2.0, steps * BATCH);
    let mut weights = Array2::from_shape_vec((steps, BATCH), weights).unwrap();
    weights.iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    weights
}

/// The factor of each row, from the definition: its weight, for a mean divided by the elements that count.
fn counted(
    reduction: Reduction,
    reference: &Reference<f64>,
    target: &Array3<f64>,
    outputs: usize,
    weights: Option<&Array2<f32>>,
) -> Vec<f64> {
    let (steps, batch, features) = target.dim();
    let labels = *reference == Reference::CrossEntropy;
    let elements = match reference {
        Reference::CrossEntropy => 1,
        Reference::Gaussian => features,
        _ => outputs,
    };
    let mut found = Vec::new();
    for t in 0..steps {
        for row in 0..batch {
            let ignored = labels && target[[t, row, 0]] < 0.0;
            let weight = weights.map_or(1.0, |weights| f64::from(weights[[t, row]]));
            found.push(if ignored { 0.0 } else { weight });
        }
    }
    let total: f64 = found.iter().sum();
    if reduction == Reduction::Mean {
        found.iter_mut().for_each(|weight| *weight /= total * elements as f64);
    }
    found
}

#[test]
fn losses_and_gradients_are_those_of_the_reference() {
    let mut failures = Failures::new();
    for device in devices() {
        for (loss, reference, outputs) in losses() {
            for (every_step, reduction, weighted) in [
                (true, Reduction::Mean, false),
                (true, Reduction::Mean, true),
                (true, Reduction::Sum, true),
                (false, Reduction::Sum, false),
                (false, Reduction::Mean, true),
            ] {
                let what =
                    format!("{loss:?} {outputs} {reduction:?}, every step {every_step}, weighted {weighted}");
                failures.check(format!("{what}, on {device:?}"), || {
                    let config = network(outputs, every_step);
                    let steps = config.output_steps(STEPS);
                    let (mut targets, target) = targets(&loss, outputs, steps);
                    let weights = weighted.then(|| weights(steps));
                    if let Some(weights) = &weights {
                        targets = targets.with_weights(weights.clone()).unwrap();
                    }
                    let network = Network::new(&device, &config, 5).unwrap();
                    let parameters = Parameters::initial(&config, 5).unwrap();
                    let options = TrainConfig::new().loss(loss.clone()).reduction(reduction);
                    let mut trainer = Trainer::new(network, options).unwrap();
                    let input = Random::new(42, 0).sequence((STEPS, BATCH, 3));
                    trainer.accumulate(input.view(), &targets).unwrap();
                    let (found, losses) = (trainer.gradients().unwrap(), trainer.take_losses().unwrap());

                    let model = gatefold_reference::Network::<f64>::new(&config, &parameters).unwrap();
                    let tape = model.forward(&gatefold_reference::Batch::new(input.mapv(f64::from).view()));
                    let counted = counted(reduction, &reference, &target, outputs, weights.as_ref());
                    let (want, d) = reference.weighted(tape.output(), target.view(), &counted);
                    let want_gradients = model.backward(&tape, d.view(), None);
                    let terms = output_terms(&config) + steps * BATCH * outputs;
                    assert_close(
                        "loss",
                        &[("batch", 1)],
                        &losses,
                        &[want],
                        Tolerance::output(terms).times(4),
                    );
                    let terms = gradient_terms(&config, STEPS, BATCH);
                    for (name, want) in &want_gradients.parameters {
                        let want: Vec<f64> = want.iter().copied().collect();
                        let found: Vec<f32> = found[name].iter().copied().collect();
                        let tolerance = Tolerance::gradient(terms).times(2);
                        assert_close(name, &[("element", want.len())], &found, &want, tolerance);
                    }

                    // Validation on the host gives the same loss for the network's predictions.
                    let output = trainer.network().predict(input.view()).unwrap();
                    let evaluated = targets.loss(&loss, reduction, output.view()).unwrap();
                    assert!((evaluated / f64::from(losses[0]) - 1.0).abs() < 1e-5, "{evaluated}, {losses:?}");
                });
            }
        }
    }
    failures.finish();
}

/// After a convolution, a row counts as many steps as are left of its own.
#[test]
fn steps_that_a_convolution_leaves_are_those_that_count() {
    let config = NetworkConfig::with_input(3).conv1d(4, 3).lstm(5).dense(2).build().unwrap();
    let lengths = [STEPS, 4, 0, 3];
    let ends = lengths.map(|length| config.output_steps(length));
    assert_eq!(ends, [STEPS - 2, 2, 0, 1]);
    let mut random = Random::new(47, 0);
    let input = random.sequence((STEPS, 4, 3));
    let target = random.sequence((STEPS - 2, 4, 2));
    let counted = ends.iter().sum::<usize>() as f32;
    let mut failures = Failures::new();
    for device in devices() {
        failures.check(format!("{device:?}"), || {
            let sequences = Sequences::from(&input).with_lengths(lengths).unwrap();
            let network = || Network::new(&device, &config, 5).unwrap();
            let mut trainer = Trainer::new(network(), TrainConfig::new()).unwrap();
            trainer.accumulate(&sequences, target.view()).unwrap();
            let (found, loss) = (trainer.gradients().unwrap(), trainer.take_losses().unwrap()[0]);

            let other = network();
            let tape = other.forward_training(&sequences, None, None).unwrap();
            let error = Array3::from_shape_fn(target.dim(), |(t, row, k)| {
                if t < ends[row] { tape.output()[[t, row, k]] - target[[t, row, k]] } else { 0.0 }
            });
            let want = error.iter().map(|error| error * error).sum::<f32>() / (2.0 * counted);
            assert!((loss - want).abs() <= 1e-5 * want, "loss {loss}, by hand {want}");
            let d_output = error * (1.0 / counted);
            let gradients = other.backward(tape, d_output.view(), None).unwrap().parameters().unwrap();
            let tolerance = Tolerance::gradient(gradient_terms(&config, STEPS, 4)).times(2);
            assert_parameters("gradients", &found, &gradients, tolerance);
        });
    }
    failures.finish();
}

/// Masked steps may hold any value without changing a bit.
#[test]
fn masked_steps_have_no_gradient() {
    let mut failures = Failures::new();
    for device in devices() {
        for (loss, _, outputs) in losses() {
            failures.check(format!("{loss:?} on {device:?}"), || {
                let config = network(outputs, true);
                let (targets, _) = targets(&loss, outputs, STEPS);
                let input = Random::new(42, 0).sequence((STEPS, BATCH, 3));
                let run = |targets: &Targets, mask: &Array2<f32>| {
                    let options = TrainConfig::new().loss(loss.clone()).reduction(Reduction::Sum);
                    let mut trainer =
                        Trainer::new(Network::new(&device, &config, 5).unwrap(), options).unwrap();
                    let targets = targets.clone().with_weights(mask.clone()).unwrap();
                    trainer.accumulate(input.view(), &targets).unwrap();
                    (trainer.take_losses().unwrap(), trainer.gradients().unwrap())
                };
                let nothing = run(&targets, &Array2::zeros((STEPS, BATCH)));
                assert_eq!(nothing, (vec![0.0], Parameters::zeros(&config).unwrap()), "everything masked");

                let mask = weights(STEPS).mapv(|weight| f32::from(u8::from(weight > 0.0)));
                let width = loss.target_width(outputs).unwrap();
                let values = Array3::from_shape_fn((STEPS, BATCH, width), |(t, row, k)| {
                    if loss == Loss::CrossEntropy {
                        ((t + row) % outputs) as f32
                    } else {
                        (t + row + k) as f32
                    }
                });
                let mut holes = values.clone();
                for ((t, row, _), value) in holes.indexed_iter_mut() {
                    if mask[[t, row]] == 0.0 {
                        *value = f32::NAN;
                    }
                }
                let (whole, holes) = (Targets::values(values), Targets::values(holes));
                assert_eq!(run(&whole, &mask), run(&holes, &mask), "NaN in masked steps");
                assert_ne!(run(&whole, &mask), run(&whole, &Array2::ones((STEPS, BATCH))), "no mask");
            });
        }
    }
    failures.finish();
}

/// The weights on the device are those of each batch, and none again for a batch without weights.
#[test]
fn weights_may_change_from_batch_to_batch() {
    let mut failures = Failures::new();
    for device in devices() {
        failures.check(format!("{device:?}"), || {
            let config = network(FEATURES, true);
            let (targets, _) = targets(&Loss::SquaredError, FEATURES, STEPS);
            let input = Random::new(42, 0).sequence((STEPS, BATCH, 3));
            let masked = targets.clone().with_weights(weights(STEPS)).unwrap();
            let doubled = targets.clone().with_weights(weights(STEPS) * 2.0).unwrap();
            let options = TrainConfig::new().reduction(Reduction::Sum);
            let fresh = |targets: &Targets| {
                let network = Network::new(&device, &config, 5).unwrap();
                let mut trainer = Trainer::new(network, options.clone()).unwrap();
                trainer.accumulate(input.view(), targets).unwrap();
                trainer.take_losses().unwrap()[0]
            };
            let order = [&targets, &masked, &masked, &targets, &doubled, &masked];
            let mut trainer =
                Trainer::new(Network::new(&device, &config, 5).unwrap(), options.clone()).unwrap();
            for targets in order {
                trainer.accumulate(input.view(), targets).unwrap();
            }
            let want: Vec<f32> = order.into_iter().map(fresh).collect();
            assert_eq!(trainer.take_losses().unwrap(), want);
            assert_eq!(want[4], 2.0 * want[1], "doubled weights");
        });
    }
    failures.finish();
}

/// The output is the network's bias, so training finds the known minimiser of each loss.
#[test]
fn each_loss_has_its_known_minimiser() {
    let sample = [0.0f32, 1.0, 2.0, 3.0, 10.0];
    let mean = 16.0 / 5.0;
    let variance: f32 = sample.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 5.0;
    let cases: [(Loss, Vec<f32>); 5] = [
        (Loss::SquaredError, vec![mean]),
        (Loss::AbsoluteError, vec![2.0]),
        // At 2 the residuals clipped to +-1 sum to zero: 0 and 1 both pull down by 1, 3 and 10 both pull up by 1.
        (Loss::Huber { delta: 1.0 }, vec![2.0]),
        (Loss::Quantile { levels: vec![0.3, 0.7] }, vec![1.0, 3.0]),
        (Loss::GaussianLikelihood, vec![mean, variance.ln()]),
    ];
    let mut failures = Failures::new();
    for device in devices() {
        for (loss, want) in &cases {
            failures.check(format!("{loss:?} on {device:?}"), || {
                let config = NetworkConfig::new(1, [DenseConfig::new(want.len()).into()]).unwrap();
                let network =
                    Network::with_parameters(&device, &config, &Parameters::zeros(&config).unwrap()).unwrap();
                let options = TrainConfig::new().loss(loss.clone()).optimizer(Optimizer::adam());
                let mut trainer = Trainer::new(network, options).unwrap();
                let input = Array3::zeros((1, 5, 1));
                let target = Array3::from_shape_fn((1, 5, 1), |(_, row, _)| sample[row]);
                for update in 0..600 {
                    trainer.set_learning_rate(0.2 * 0.99f32.powi(update));
                    trainer.step(input.view(), target.view()).unwrap();
                }
                let found = trainer.network().parameters().unwrap()["dense0.bias"].clone();
                for (found, want) in found.iter().zip(want) {
                    assert!((found - want).abs() < 0.02, "{found}, expected {want}");
                }
            });
        }
    }
    failures.finish();
}

/// Clipping by value comes before clipping by norm, on both devices.
#[test]
fn values_are_clipped_before_the_norm() {
    let config = network(FEATURES, true);
    let (targets, _) = targets(&Loss::SquaredError, FEATURES, STEPS);
    let input = Random::new(42, 0).sequence((STEPS, BATCH, 3));
    let (limit, norm) = (0.02f32, 0.1f32);
    let mut failures = Failures::new();
    for device in devices() {
        for clip_norm in [None, Some(norm)] {
            failures.check(format!("norm {clip_norm:?} on {device:?}"), || {
                let options = TrainConfig::new()
                    .optimizer(Optimizer::sgd())
                    .learning_rate(1.0)
                    .clip_value(Some(limit))
                    .clip_norm(clip_norm)
                    .group(ParameterGroup::new("rnn0.bias").frozen());
                let mut trainer = Trainer::new(Network::new(&device, &config, 5).unwrap(), options).unwrap();
                trainer.accumulate(input.view(), &targets).unwrap();
                let gradients = trainer.gradients().unwrap();
                let before = trainer.network().parameters().unwrap();
                trainer.update().unwrap();
                let after = trainer.network().parameters().unwrap();

                let held = |g: f32| f64::from(g).clamp(-f64::from(limit), f64::from(limit));
                let squares = gradients.iter().map(|(_, g)| g.iter().map(|g| held(*g).powi(2)).sum::<f64>());
                let length = squares.sum::<f64>().sqrt();
                let scale = clip_norm.map_or(1.0, |norm| (f64::from(norm) / (length + 1e-6)).min(1.0));
                assert!(clip_norm.is_none() || scale < 0.9, "the norm is not clipped: {length}");
                let mut clipped = 0;
                for (name, gradient) in gradients.iter() {
                    clipped += gradient.iter().filter(|g| g.abs() > limit).count();
                    let want: Vec<f64> = before[name]
                        .iter()
                        .zip(gradient)
                        .map(|(p, g)| f64::from(*p) - scale * held(*g))
                        .collect();
                    let found: Vec<f32> = after[name].iter().copied().collect();
                    let axes = [("element", want.len())];
                    assert_close(name, &axes, &found, &want, Tolerance::product(64));
                }
                assert!(
                    clipped > 0 && clipped < 100,
                    "{clipped} elements are clipped, expected some but not all"
                );
            });
        }
    }
    failures.finish();
}

/// Every optimiser applies the limit itself and not only the norm's scale: with it, Adam and RMSprop end elsewhere.
#[test]
fn every_optimizer_clips_by_value() {
    let (targets, _) = targets(&Loss::SquaredError, FEATURES, STEPS);
    let input = Random::new(42, 0).sequence((STEPS, BATCH, 3));
    let centred =
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, centered: true, weight_decay: 0.0 };
    let mut failures = Failures::new();
    for optimizer in [Optimizer::sgd(), Optimizer::adam(), Optimizer::adamw(), Optimizer::rmsprop(), centred]
    {
        let run = |device: &Device, limit: Option<f32>| {
            let options = TrainConfig::new().optimizer(optimizer).clip_value(limit);
            let mut trainer =
                Trainer::new(Network::new(device, &network(FEATURES, true), 5).unwrap(), options).unwrap();
            let mut losses = Vec::new();
            for rate in [0.05, 0.02, 0.01] {
                trainer.set_learning_rate(rate);
                trainer.accumulate(input.view(), &targets).unwrap();
                trainer.update().unwrap();
                losses.extend(trainer.take_losses().unwrap());
            }
            losses
        };
        let want: Vec<f64> = run(&Device::cpu().unwrap(), Some(0.01)).into_iter().map(f64::from).collect();
        for device in devices() {
            failures.check(format!("{optimizer:?} on {device:?}"), || {
                let found = run(&device, Some(0.01));
                assert_ne!(found, run(&device, None), "no limit");
                let terms = gradient_terms(&network(FEATURES, true), STEPS, BATCH);
                let tolerance = Tolerance::gradient(terms).times(6);
                assert_close("loss", &[("update", 3)], &found, &want, tolerance);
            });
        }
    }
    failures.finish();
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |outputs: usize, options: TrainConfig| {
        let network = Network::new(&Device::cpu().unwrap(), &network(outputs, true), 5).unwrap();
        Trainer::new(network, options).unwrap_err().to_string()
    };
    let loss = |loss| TrainConfig::new().loss(loss);
    for (found, want) in [
        (
            refused(3, loss(Loss::GaussianLikelihood)),
            "loss gaussian likelihood: expected 2 outputs for each target, found 3 outputs; make the last layer a \
             multiple of 2 wide",
        ),
        (
            refused(1, loss(Loss::Huber { delta: 0.0 })),
            "loss huber: delta is 0; expected a finite number above 0",
        ),
        (
            refused(2, loss(Loss::Quantile { levels: vec![0.5, 1.0] })),
            "loss quantile: a level is 1; expected above 0 and below 1",
        ),
        (
            refused(2, loss(Loss::Quantile { levels: vec![] })),
            "loss quantile: there is no level; expected one or more",
        ),
        (
            refused(1, TrainConfig::new().clip_value(Some(f32::NAN))),
            "the value to clip at is NaN; expected a finite number above 0",
        ),
        (
            refused(
                1,
                TrainConfig::new().optimizer(Optimizer::RmsProp {
                    alpha: 1.0,
                    epsilon: 1e-8,
                    momentum: 0.0,
                    centered: false,
                    weight_decay: 0.0,
                }),
            ),
            "optimizer: alpha is 1; expected at least 0 and below 1",
        ),
    ] {
        assert_eq!(found, want);
    }
    // A wrong label is refused with its place before anything runs.
    let options = TrainConfig::new().loss(Loss::CrossEntropy);
    for device in devices() {
        let network = Network::new(&device, &network(4, true), 5).unwrap();
        let mut trainer = Trainer::new(network, options.clone()).unwrap();
        let mut labels = Array2::zeros((STEPS, BATCH));
        labels[[3, 2]] = 4;
        let input = Array3::zeros((STEPS, BATCH, 3));
        let error = trainer.accumulate(input.view(), Targets::labels(labels.view())).unwrap_err();
        let want =
            "label at step 3, row 2: expected a whole number below 4, or a negative one for none, found 4";
        assert_eq!(error.to_string(), want);
        assert!(trainer.take_losses().unwrap().is_empty());
    }
}
