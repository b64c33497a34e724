//! A network that writes: each letter is drawn from its own distribution, and read as the next input.

use crate::parts::plot;
use gatefold::layers::{DenseConfig, EmbeddingConfig, GruConfig};
use gatefold::{Device, Loss, Network, NetworkConfig, Targets, TrainConfig, Trainer};
use ndarray::{Array2, Array3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const TEXT: &str = "the cat sat on the mat and the rat ran to the hat. ";
const STEPS: usize = 30;

/// The letters that occur.
fn letters() -> Vec<char> {
    let mut letters: Vec<char> = TEXT.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    letters
}

/// Writes 51 letters after a space, each drawn at this temperature.
fn write(network: &Network, temperature: f32) -> Result<String, Box<dyn Error>> {
    let letters = letters();
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut stream = network.stream(1)?;
    let mut written = String::new();
    let mut token = letters.iter().position(|letter| *letter == ' ').expect("there are spaces");
    while written.len() < TEXT.len() {
        let scores = stream.step(Array2::from_elem((1, 1), token as f32).view())?;
        let most = scores.iter().copied().fold(f32::MIN, f32::max);
        let shares: Vec<f32> = scores.iter().map(|score| ((score - most) / temperature).exp()).collect();
        let mut left = random.random::<f32>() * shares.iter().sum::<f32>();
        token = shares
            .iter()
            .position(|share| {
                left -= share;
                left < 0.0
            })
            .unwrap_or(shares.len() - 1);
        written.push(letters[token]);
    }
    Ok(written)
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let letters = letters();
    let text: Vec<usize> = TEXT
        .chars()
        .map(|letter| letters.iter().position(|other| *other == letter).expect("it occurs"))
        .collect();
    let config = NetworkConfig::new(
        1,
        [
            EmbeddingConfig::new(letters.len(), 8).into(),
            GruConfig::new(32).into(),
            DenseConfig::new(letters.len()).into(),
        ],
    )?;
    let options = TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)).loss(Loss::CrossEntropy);
    let mut trainer = Trainer::new(Network::new(&Device::cpu()?, &config, 1)?, options)?;
    let at = |place: usize| text[place % text.len()];
    for update in 0..250 {
        let place = |t: usize, row: usize| t + 7 * row + 13 * update;
        let input = Array3::from_shape_fn((STEPS, 8, 1), |(t, row, _)| at(place(t, row)) as f32);
        let labels = Array2::from_shape_fn((STEPS, 8), |(t, row)| at(place(t, row) + 1) as i64);
        trainer.step(&input, Targets::from(&labels))?;
    }
    let losses = trainer.take_losses()?;
    let bits = |loss: f32| f64::from(loss) / std::f64::consts::LN_2;
    println!("bits a letter, before training   {:.1}", bits(losses[0]));
    println!("bits a letter, after it          about {:.2}", bits(losses[losses.len() - 1]));
    println!("\nthe text         {TEXT}");
    println!("temperature 0.1  {}", write(trainer.network(), 0.1)?);
    let wild = write(trainer.network(), 3.0)?;
    assert_ne!(wild, TEXT, "a high temperature makes mistakes");
    plot(
        "generation",
        ("Learning one sentence", "update", "bits a letter"),
        &[("loss", losses.iter().map(|loss| bits(*loss)).collect())],
    )
}
