//! The adding problem (Hochreiter and Schmidhuber 1997), which shows what gates are for.
//!
//! A sequence has 200 steps, each with a number between 0 and 1 and a mark. Two steps are marked, one in each half. The
//! answer, due after the last step, is the sum of their numbers. Always answering 1 has a mean squared error of 0.167.
//! To do better, a network must remember a number for a hundred steps and more, and its gradient must reach back as
//! far. An LSTM and a GRU do so; a vanilla RNN of the same width, trained the same way, does not.
//!
//! ```text
//! cargo run --release --example adding_problem
//! ```

mod arguments;

use arguments::{Arguments, cosine, print_network};
use clap::Parser;
use gatefold::layers::{DenseConfig, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use ndarray::{Array3, Zip};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const HIDDEN: usize = 32;
const BATCH: usize = 32;
/// Forget gates begin nearly open, at sigmoid(4) = 0.982, so before training a memory has a half-life of 38 steps. With
/// the usual bias of 1, a half-life of two steps, even the LSTM had learned nothing after 2000 updates.
const FORGET_BIAS: f32 = 4.0;
const LEARNING_RATE: f32 = 0.01;
const TEST_SEQUENCES: usize = 1000;
/// The seed of the test sequences, the same for every `--seed` and different from those of training.
const TEST_SEED: u64 = u64::MAX;

/// Sequences `[steps, batch, 2]` and their answers `[1, batch, 1]`.
fn sequences(steps: usize, batch: usize, random: &mut ChaCha8Rng) -> (Array3<f32>, Array3<f32>) {
    let mut input = Array3::zeros((steps, batch, 2));
    let mut answer = Array3::zeros((1, batch, 1));
    for row in 0..batch {
        for step in 0..steps {
            input[[step, row, 0]] = random.random_range(0.0..1.0);
        }
        for half in [0..steps / 2, steps / 2..steps] {
            let marked = random.random_range(half);
            input[[marked, row, 1]] = 1.0;
            answer[[0, row, 0]] += input[[marked, row, 0]];
        }
    }
    (input, answer)
}

fn squared_error(answer: &Array3<f32>, truth: &Array3<f32>) -> f64 {
    Zip::from(answer).and(truth).fold(0.0, |sum, a, t| sum + f64::from(a - t).powi(2)) / truth.len() as f64
}

/// Trains a cell on new sequences in each batch; returns its error on the test sequences.
fn score(
    device: &Device,
    cell: LayerConfig,
    steps: usize,
    updates: usize,
    seed: u64,
) -> Result<f64, Box<dyn Error>> {
    let config = NetworkConfig::new(2, [cell, LayerConfig::LastStep, DenseConfig::new(1).into()])?;
    println!();
    print_network(&config);
    let training = TrainConfig::new().learning_rate(LEARNING_RATE).clip_norm(Some(1.0));
    let mut trainer = Trainer::new(Network::new(device, &config, seed)?, training)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for update in 0..updates {
        let (input, answer) = sequences(steps, BATCH, &mut random);
        trainer.set_learning_rate(cosine(LEARNING_RATE, update, updates));
        trainer.step(input.view(), answer.view())?;
        if (update + 1) % (updates / 10) == 0 {
            let losses = trainer.take_losses()?;
            println!("{:>6} {:>9.4}", update + 1, losses.iter().sum::<f32>() / losses.len() as f32);
        }
    }
    let (input, truth) = sequences(steps, TEST_SEQUENCES, &mut ChaCha8Rng::seed_from_u64(TEST_SEED));
    Ok(squared_error(&trainer.network().predict(input.view())?, &truth))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let (steps, updates) = (arguments.choose(200, 20), arguments.choose(3000, 500));
    println!("task     {steps} steps, {updates} updates of {BATCH} sequences; mean loss of each tenth");

    let cells: [(&str, LayerConfig); 3] = [
        ("rnn", RnnConfig::new(HIDDEN).into()),
        ("lstm", LstmConfig::new(HIDDEN).forget_bias(FORGET_BIAS).into()),
        ("gru", GruConfig::new(HIDDEN).into()),
    ];
    let mut scores = Vec::new();
    for (name, cell) in cells {
        scores.push((name, score(&device, cell, steps, updates, arguments.seed)?));
    }
    let (_, truth) = sequences(steps, TEST_SEQUENCES, &mut ChaCha8Rng::seed_from_u64(TEST_SEED));
    scores.push(("always 1", squared_error(&Array3::ones(truth.dim()), &truth)));
    println!("\nmean squared error on {TEST_SEQUENCES} other sequences");
    for (name, error) in scores {
        println!("{name:<10} {error:>8.5}");
    }
    arguments.print_seconds();
    Ok(())
}
