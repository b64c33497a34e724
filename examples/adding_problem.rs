//! The adding problem (Hochreiter and Schmidhuber 1997): what gates are for.
//!
//! 200 steps, each a number between 0 and 1 and a mark; two of the steps are marked, one in each half, and the answer,
//! due behind the last step, is the sum of their numbers. Whoever always answers 1 has a mean squared error of 0.167. To
//! do better a network must hold a number for a hundred steps and more, and its gradient must reach back as far: an
//! LSTM and a GRU do, a vanilla RNN of the same width and with the same training does not.
//!
//! ```text
//! cargo run --release --example adding_problem
//! ```

mod arguments;

use arguments::{Arguments, cosine, print_network};
use clap::Parser;
use gatefold::{DenseConfig, Device, GruConfig, LayerConfig, LstmConfig, Network, NetworkConfig, RnnConfig};
use gatefold::{TrainConfig, Trainer};
use ndarray::{Array3, Zip};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const HIDDEN: usize = 32;
const BATCH: usize = 32;
/// Forget gates that begin nearly open, at sigmoid(4) = 0.982: half of a memory lasts 38 steps before anything is learned.
/// From the usual 1, where half lasts two steps, the LSTM too had learned nothing after 2000 updates.
const FORGET_BIAS: f32 = 4.0;
const LEARNING_RATE: f32 = 0.01;
const TEST_SEQUENCES: usize = 1000;
/// The test's sequences are the same whatever the seed, and no seed of a training.
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

/// Trains a cell on sequences that are never the same twice; gives its error on the test's.
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
    println!("task     {steps} steps, {updates} updates of {BATCH} sequences; loss of each tenth of them");

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
