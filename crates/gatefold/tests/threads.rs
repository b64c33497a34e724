//! The number of threads of the CPU device changes no bit.

use gatefold::layers::{DenseConfig, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use gatefold::{Device, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
use gatefold_reference::Failures;
use ndarray::Array3;

const STEPS: usize = 9;
const ROWS: usize = 50;
const INPUTS: usize = 61;
/// So large that three threads share the parts of the batch, and the product of each gradient.
const HIDDEN: usize = 61;

/// Every loss of a hundred equal steps, every parameter after them, and the network's outputs, as bits.
fn train(layer: &LayerConfig, ragged: bool, threads: usize) -> Vec<u32> {
    let config = NetworkConfig::new(INPUTS, [layer.clone(), DenseConfig::new(2).into()]).unwrap();
    let device = Device::cpu_with_threads(threads).unwrap();
    let network = Network::new(&device, &config, 5).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.01)).unwrap();
    let wave = |(t, row, k): (usize, usize, usize)| ((t * 5 + row * 3 + k * 2) as f32 * 0.37).sin();
    let (input, target) =
        (Array3::from_shape_fn((STEPS, ROWS, INPUTS), wave), Array3::from_shape_fn((STEPS, ROWS, 2), wave));
    let lengths = || (0..ROWS).map(|row| if ragged { 1 + (row * 7) % STEPS } else { STEPS });
    let input = Sequences::from(&input).with_lengths(lengths().collect::<Vec<_>>()).unwrap();
    let target = Targets::from(&target);
    for _ in 0..100 {
        trainer.step(&input, &target).unwrap();
    }
    let losses = trainer.take_losses().unwrap();
    assert!(losses.len() == 100 && losses[99] < 0.5 * losses[0], "{losses:?}");
    let parameters = trainer.network().parameters().unwrap();
    let outputs = trainer.network().predict(&input).unwrap();
    let numbers = losses.iter().chain(parameters.iter().flat_map(|(_, tensor)| tensor)).chain(&outputs);
    numbers.map(|number| number.to_bits()).collect()
}

#[test]
fn a_hundred_steps_give_the_same_bits_on_any_number_of_threads() {
    let mut failures = Failures::new();
    let layers: [(&str, LayerConfig); 3] = [
        ("lstm", LstmConfig::new(HIDDEN).into()),
        ("gru", GruConfig::new(HIDDEN).into()),
        ("rnn", RnnConfig::new(HIDDEN).into()),
    ];
    for (name, layer) in &layers {
        for ragged in [false, true] {
            let one = train(layer, ragged, 1);
            for threads in [2, 3] {
                failures.check(format!("{name}, {threads} threads, lengths {ragged}"), || {
                    let found = train(layer, ragged, threads);
                    let other = one.iter().zip(&found).filter(|(one, found)| one != found).count();
                    assert_eq!(
                        (found.len(), other),
                        (one.len(), 0),
                        "of {} numbers, {other} differ",
                        one.len()
                    );
                });
            }
        }
    }
    failures.finish();
}
