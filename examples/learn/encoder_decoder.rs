//! An encoder and a decoder that write a sequence backwards.

use crate::parts::{head, plot};
use gatefold::layers::{DecoderConfig, DenseConfig, EmbeddingConfig, GruConfig};
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
use ndarray::{Array2, Array3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const SYMBOLS: usize = 5;
/// The first token that the decoder reads.
const START: usize = SYMBOLS;
const LENGTH: usize = 4;
const BATCH: usize = 32;

/// The decoder's answer to one sequence when it reads its own output.
fn answer(network: &Network, input: [usize; LENGTH]) -> Result<Vec<usize>, Box<dyn Error>> {
    let input = Array3::from_shape_fn((LENGTH, 1, 1), |(t, _, _)| input[t] as f32);
    let mut stream = network.stream(1)?;
    stream.set_states(&network.encode(&input)?)?;
    let (mut token, mut found) = (START, Vec::new());
    for _ in 0..LENGTH {
        let scores = stream.step(Array2::from_elem((1, 1), token as f32).view())?;
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        token = best.expect("there are scores").0;
        found.push(token);
    }
    Ok(found)
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let config = NetworkConfig::new(
        1,
        [
            EmbeddingConfig::new(SYMBOLS, 8).into(),
            GruConfig::new(32).into(),
            DecoderConfig::new(1).into(),
            EmbeddingConfig::new(SYMBOLS + 1, 8).into(),
            GruConfig::new(32).into(),
            DenseConfig::new(SYMBOLS).into(),
        ],
    )?;
    let options = TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)).loss(Loss::CrossEntropy);
    let mut trainer = Trainer::new(Network::new(&Device::cpu()?, &config, 1)?, options)?;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..300 {
        let drawn = Array2::from_shape_simple_fn((LENGTH, BATCH), || random.random_range(0..SYMBOLS));
        let input = Array3::from_shape_fn((LENGTH, BATCH, 1), |(t, row, _)| drawn[[t, row]] as f32);
        let labels = Array2::from_shape_fn((LENGTH, BATCH), |(t, row)| drawn[[LENGTH - 1 - t, row]] as i64);
        // The decoder reads the right answer, one step late.
        let late = Array3::from_shape_fn((LENGTH, BATCH, 1), |(t, row, _)| match t {
            0 => START as f32,
            _ => labels[[t - 1, row]] as f32,
        });
        trainer.step(Sequences::from(&input).with_decoder(&late), Targets::from(&labels))?;
    }
    let losses = trainer.take_losses()?;
    let all = SYMBOLS.pow(LENGTH as u32);
    let mut right = 0;
    for number in 0..all {
        let input = std::array::from_fn(|at| number / SYMBOLS.pow(at as u32) % SYMBOLS);
        let reversed: Vec<usize> = input.iter().rev().copied().collect();
        right += usize::from(answer(trainer.network(), input)? == reversed);
    }
    head("read", [0, 1, 2, 4]);
    head("written", answer(trainer.network(), [0, 1, 2, 4])?);
    println!("\nof {all} sequences right     about {right}");
    plot(
        "encoder-decoder",
        ("Learning to write backwards", "update", "cross-entropy"),
        &[("loss", losses.iter().map(|loss| f64::from(*loss)).collect())],
    )
}
