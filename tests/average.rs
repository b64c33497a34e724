//! The moving average of the parameters, on both devices: against a plain recomputation, across checkpoints and updates
//! that are not made.

use gatefold::file::Checkpoint;
use gatefold::layers::{DenseConfig, GruConfig, LayerConfig};
use gatefold::training::ParameterGroup;
use gatefold::{Device, Error, Network, NetworkConfig, Optimizer, Parameters, Refusal, TrainConfig, Trainer};
use gatefold_check::{Failures, Tolerance, assert_close, test_gpu, waves};
use std::collections::BTreeMap;

const SHAPE: (usize, usize) = (5, 3);
const DECAY: f32 = 0.7;

/// Two recurrent layers share their parameters.
fn network() -> NetworkConfig {
    let layers = [
        GruConfig::new(3).into(),
        LayerConfig::Tied { to: 0 },
        LayerConfig::LastStep,
        DenseConfig::new(130).into(),
        DenseConfig::new(1).into(),
    ];
    NetworkConfig::new(3, layers).unwrap()
}

fn options() -> TrainConfig {
    TrainConfig::new().learning_rate(0.02).average(Some(DECAY))
}

fn trainer(device: &Device, options: TrainConfig) -> Trainer {
    Trainer::new(Network::new(device, &network(), 3).unwrap(), options).unwrap()
}

fn train(trainer: &mut Trainer, batches: std::ops::Range<usize>) {
    for number in batches {
        let (input, target) = waves(number, SHAPE, (3, 1));
        trainer.step(&input, &target).unwrap();
    }
}

/// The CPU, and a GPU if there is one.
fn devices() -> Vec<Device> {
    [Some(Device::cpu().unwrap()), test_gpu().map(Device::Gpu)].into_iter().flatten().collect()
}

/// The average of the parameters after each of some updates, in `f64`.
fn averaged(history: &[Parameters], name: &str) -> Vec<f64> {
    let mut values = history.iter().map(|parameters| parameters[name].mapv(f64::from));
    let mut average = values.next().unwrap();
    let decay = f64::from(DECAY);
    for value in values {
        average = average * decay + value * (1.0 - decay);
    }
    average.into_iter().collect()
}

fn assert_average(trainer: &Trainer, history: &[Parameters]) {
    let found = trainer.averaged_parameters().unwrap();
    found.check(&network()).unwrap();
    for (name, found) in found.iter() {
        // Three roundings an update, of terms no larger than the largest element.
        let tolerance = Tolerance::product(3 * history.len());
        let found: Vec<f32> = found.iter().copied().collect();
        assert_close(name, &[("element", found.len())], &found, &averaged(history, name), tolerance);
    }
}

#[test]
fn the_average_is_that_of_a_plain_recomputation() {
    let optimizers = [
        Optimizer::sgd(),
        Optimizer::RmsProp { alpha: 0.9, epsilon: 1e-3, momentum: 0.5, centered: true, weight_decay: 0.0 },
        Optimizer::AdamW { beta1: 0.8, beta2: 0.999, epsilon: 1e-6, weight_decay: 0.1 },
    ];
    let mut failures = Failures::new();
    for device in devices() {
        for optimizer in optimizers {
            failures.check(format!("{}, {optimizer:?}", device.summary()), || {
                let frozen = ParameterGroup::new("dense1.").frozen();
                let mut trainer = trainer(&device, options().optimizer(optimizer).group(frozen));
                let before = trainer.network().parameters().unwrap();
                assert_eq!(trainer.averaged_parameters().unwrap(), before, "before the first update");
                let mut history = Vec::new();
                for update in 0..6 {
                    match update {
                        // Gradients of the caller's own.
                        2 => {
                            let (input, _) = waves(update, SHAPE, (3, 1));
                            let tape = trainer.network().forward_training(&input, None, None).unwrap();
                            let d = tape.output().mapv(|y| 4.0 * y.powi(3));
                            let gradients = trainer.network().backward(tape, d.view(), None).unwrap();
                            trainer.apply(&gradients).unwrap();
                        }
                        // Several batches for one update, of which the average knows nothing.
                        3 => {
                            let (input, target) = waves(update, SHAPE, (3, 1));
                            trainer.accumulate(&input, &target).unwrap();
                            assert_average(&trainer, &history);
                            trainer.step(&input, &target).unwrap();
                        }
                        _ => train(&mut trainer, update..update + 1),
                    }
                    history.push(trainer.network().parameters().unwrap());
                    assert_average(&trainer, &history);
                }
                let average = trainer.averaged_parameters().unwrap();
                for (name, value) in history[5].iter() {
                    let is_frozen = name.starts_with("dense1.");
                    assert_eq!(average[name] == *value, is_frozen, "{name}");
                    assert_eq!(before[name] == *value, is_frozen, "{name}");
                }
            });
        }
    }
    failures.finish();
}

#[test]
fn the_first_update_is_copied_and_training_is_as_without_an_average() {
    for device in devices() {
        let (mut with, mut without) =
            (trainer(&device, options()), trainer(&device, options().average(None)));
        train(&mut with, 0..1);
        let parameters = with.network().parameters().unwrap();
        assert_eq!(with.averaged_parameters().unwrap(), parameters);
        train(&mut with, 1..5);
        train(&mut without, 0..5);
        assert_eq!(with.network().parameters().unwrap(), without.network().parameters().unwrap());
        assert_eq!(with.take_losses().unwrap(), without.take_losses().unwrap());
        // With a decay of 0 the average is the last parameters, up to the rounding of the sum.
        let mut none = trainer(&device, options().average(Some(0.0)));
        train(&mut none, 0..5);
        for (name, found) in none.averaged_parameters().unwrap().iter() {
            let found: Vec<f32> = found.iter().copied().collect();
            let expected: Vec<f64> =
                none.network().parameters().unwrap()[name].iter().map(|&p| f64::from(p)).collect();
            assert_close(name, &[("element", found.len())], &found, &expected, Tolerance::product(1));
        }
    }
}

#[test]
fn a_resumed_average_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for device in devices() {
        for stop in [0, 1, 4] {
            let options = || options().group(ParameterGroup::new("dense0.bias").frozen());
            let mut whole = trainer(&device, options());
            train(&mut whole, 0..9);
            let mut first = trainer(&device, options());
            train(&mut first, 0..stop);
            first.checkpoint(9, BTreeMap::new()).unwrap().save(&path).unwrap();
            let checkpoint = Checkpoint::load(&path).unwrap();
            assert_eq!(checkpoint.optimizer.contains_key("average"), stop > 0, "an average that has begun");
            let mut second = Trainer::resume(&device, &checkpoint, options()).unwrap();
            assert_eq!(second.averaged_parameters().unwrap(), first.averaged_parameters().unwrap());
            train(&mut second, stop..9);
            assert_eq!(second.averaged_parameters().unwrap(), whole.averaged_parameters().unwrap());
            assert_eq!(second.network().parameters().unwrap(), whole.network().parameters().unwrap());

            // Without an average in the options the one in the file is ignored.
            let resumed = Trainer::resume(&device, &checkpoint, options().average(None)).unwrap();
            assert!(!resumed.checkpoint(0, BTreeMap::new()).unwrap().optimizer.contains_key("average"));
        }
    }
}

#[test]
fn an_average_may_begin_in_a_resumed_run() {
    for device in devices() {
        let mut plain = trainer(&device, options().average(None));
        train(&mut plain, 0..4);
        let checkpoint = plain.checkpoint(0, BTreeMap::new()).unwrap();
        let mut resumed = Trainer::resume(&device, &checkpoint, options()).unwrap();
        assert_eq!(resumed.averaged_parameters().unwrap(), checkpoint.parameters);
        let again = resumed.checkpoint(0, BTreeMap::new()).unwrap();
        let mut resumed_again = Trainer::resume(&device, &again, options()).unwrap();
        for trainer in [&mut resumed, &mut resumed_again] {
            let mut history = Vec::new();
            for update in 4..7 {
                train(trainer, update..update + 1);
                history.push(trainer.network().parameters().unwrap());
                assert_average(trainer, &history);
            }
        }
    }
}

#[test]
fn a_checkpoint_whose_average_does_not_fit_is_refused() {
    for device in devices() {
        let mut trainer = trainer(&device, options());
        train(&mut trainer, 0..1);
        let mut checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
        let average = checkpoint.optimizer.get_mut("average").unwrap();
        average.insert("dense1.bias", ndarray::ArrayD::zeros(vec![2]));
        let refused = Trainer::resume(&device, &checkpoint, options()).unwrap_err().to_string();
        assert!(refused.contains("dense1.bias"), "{refused}");
    }
}

/// Updates that overflow, that are withheld, or whose gradient is not finite.
#[test]
fn an_update_that_is_not_made_does_not_change_the_average() {
    for device in devices() {
        let is_gpu = matches!(device, Device::Gpu(_));
        let mut trainer = trainer(&device, options());
        let initial = trainer.network().parameters().unwrap();
        let mut history = Vec::new();
        for bad in 0..3 {
            let before = trainer.averaged_parameters().unwrap();
            let (input, target) = waves(bad, SHAPE, (3, 1));
            trainer.set_learning_rate(f32::MAX);
            let overflowed = trainer.step(&input, &(&target + 1e3));
            trainer.set_learning_rate(0.02);
            if is_gpu {
                overflowed.unwrap();
                trainer.step(&input, &target).unwrap();
                assert_eq!(trainer.averaged_parameters().unwrap(), before, "not reported yet");
                assert!(matches!(trainer.take_losses(), Err(Error::Overflow { .. })));
            } else {
                assert!(matches!(overflowed, Err(Error::Overflow { .. })));
            }
            assert_eq!(trainer.averaged_parameters().unwrap(), before);
            if bad == 0 {
                assert_eq!(before, initial);
            }
            train(&mut trainer, bad..bad + 1);
            trainer.take_losses().unwrap();
            history.push(trainer.network().parameters().unwrap());
            assert_average(&trainer, &history);
        }
        let (input, target) = waves(0, SHAPE, (3, 1));
        let stopped = trainer.step(&input, &(&target + f32::NAN)).and_then(|()| trainer.take_losses());
        assert!(matches!(stopped, Err(Error::NotFinite { .. })));
        assert_average(&trainer, &history);
    }
}

/// A second trainer on the same network begins an average of its own.
#[test]
fn a_second_trainer_begins_anew() {
    for device in devices() {
        let mut first = trainer(&device, options());
        train(&mut first, 0..3);
        let second = Trainer::new(first.into_network(), options()).unwrap();
        assert_eq!(second.averaged_parameters().unwrap(), second.network().parameters().unwrap());
    }
}

#[test]
fn options_out_of_range_and_no_average_are_refused() {
    let device = Device::cpu().unwrap();
    for decay in [-0.1, 1.0, f32::NAN] {
        let network = Network::new(&device, &network(), 3).unwrap();
        let refused = Trainer::new(network, options().average(Some(decay))).unwrap_err().to_string();
        let expected =
            format!("the decay of the average is {decay}; expected a number of at least 0 and below 1");
        assert_eq!(refused, expected);
    }
    let refused = trainer(&device, options().average(None)).averaged_parameters().unwrap_err();
    assert!(matches!(refused, Error::Refused { kind: Refusal::Option, .. }), "{refused:?}");
}
