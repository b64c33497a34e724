//! A character model of Alice's Adventures in Wonderland (Lewis Carroll 1865).
//!
//! The network learns from ninety per cent of the 142,001 characters and is tested on the last ten per cent, in bits
//! per character. The text is cut into 32 strips. Each batch is the next 64 characters of every strip and continues
//! from the final states of the batch before, so the network remembers farther back than its gradient reaches. Dropout
//! keeps it from learning the book by heart. The baselines are n-grams of one, three and five characters, smoothed as
//! in Witten and Bell 1991.
//!
//! ```text
//! cargo run --release --example write_like_alice
//! ```

mod arguments;

use arguments::{Arguments, cosine, data, print_network};
use clap::Parser;
use gatefold::generate::Sampler;
use gatefold::layers::{DenseConfig, EmbeddingConfig, LayerConfig, LstmConfig};
use gatefold::training::Reduction;
use gatefold::{Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
use ndarray::{Array2, ArrayView2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;

const STRIPS: usize = 32;
const STEPS: usize = 64;
const LEARNING_RATE: f32 = 3e-3;
/// Characters of the training text that are read before the test text.
const LEAD: usize = 500;
const PROMPT: &str = "Alice ";

/// The bits per character of `test`, which follows `training`, under an n-gram model of this order (Witten and Bell
/// 1991): if a context was followed by `total` characters of `kinds` kinds, the shorter context counts `kinds` times.
fn n_gram_bits(order: usize, symbols: usize, training: &[u32], test: &[u32]) -> f64 {
    #[derive(Default)]
    struct Followers {
        total: f64,
        counts: BTreeMap<u32, f64>,
    }
    let mut contexts: HashMap<&[u32], Followers> = HashMap::new();
    for at in 0..training.len() {
        for context in 0..order.min(at + 1) {
            let followers = contexts.entry(&training[at - context..at]).or_default();
            followers.total += 1.0;
            *followers.counts.entry(training[at]).or_default() += 1.0;
        }
    }
    let text = [training, test].concat();
    let bits = (training.len()..text.len()).map(|at| {
        let p = (0..order).fold(1.0 / symbols as f64, |shorter, context| {
            let Some(followers) = contexts.get(&text[at - context..at]) else { return shorter };
            let (kinds, count) = (followers.counts.len() as f64, followers.counts.get(&text[at]));
            (count.unwrap_or(&0.0) + kinds * shorter) / (followers.total + kinds)
        });
        -p.log2()
    });
    bits.sum::<f64>() / test.len() as f64
}

/// The bits per character that the network needs for `test` after reading `lead`.
fn network_bits(network: &Network, lead: &[u32], test: &[u32]) -> Result<f64, Box<dyn Error>> {
    let column = |text: &[u32]| Array2::from_shape_fn((text.len(), 1), |(t, _)| text[t]);
    let all = [lead, test].concat();
    let mut states = None;
    let mut nats = 0.0;
    // Each output predicts the next character, so the last output is not used.
    for begin in (0..all.len() - 1).step_by(LEAD) {
        let end = (begin + LEAD).min(all.len() - 1);
        let read = network.forward(Sequences::tokens(column(&all[begin..end]).view()), states.as_ref())?;
        // The lead does not count.
        let label = |(t, _)| if begin + t + 1 < lead.len() { -1 } else { i64::from(all[begin + t + 1]) };
        let labels = Array2::from_shape_fn((end - begin, 1), label);
        nats += Targets::from(&labels).loss(&Loss::CrossEntropy, Reduction::Sum, read.output.view())?;
        states = Some(read.states);
    }
    Ok(nats / test.len() as f64 / std::f64::consts::LN_2)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let text = std::fs::read_to_string(data("alice.txt"))?;
    let symbols: Vec<char> = text.chars().collect::<BTreeSet<char>>().into_iter().collect();
    let token = |symbol| symbols.iter().position(|found| *found == symbol).map(|at| at as u32);
    let tokens: Vec<u32> = text.chars().filter_map(token).collect();
    let (training, test) = tokens.split_at(tokens.len() * 9 / 10);
    println!(
        "text     {} characters of {} kinds, the last {} for the test",
        tokens.len(),
        symbols.len(),
        test.len()
    );

    let config = NetworkConfig::new(
        1,
        [
            EmbeddingConfig::new(symbols.len(), 64).into(),
            LayerConfig::Dropout { rate: 0.2 },
            LstmConfig::new(arguments.choose(256, 128)).into(),
            LayerConfig::Dropout { rate: 0.5 },
            DenseConfig::new(symbols.len()).into(),
        ],
    )?;
    print_network(&config);
    let rule = TrainConfig::new().loss(Loss::CrossEntropy).clip_norm(Some(1.0)).dropout_seed(arguments.seed);
    let mut trainer = Trainer::new(Network::new(&device, &config, arguments.seed)?, rule)?;
    trainer.carry_state(true)?;

    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let strip = training.len() / STRIPS;
    // Every epoch begins up to one batch later, so that the borders between batches move.
    let batches = strip / STEPS - 1;
    let epochs = arguments.choose(25, 1);
    println!("\nepoch      bits per training character");
    for epoch in 0..epochs {
        trainer.reset_state();
        let offset = random.random_range(0..STEPS);
        for batch in 0..batches {
            let at = |t: usize, row: usize| training[row * strip + offset + batch * STEPS + t];
            let input = Array2::from_shape_fn((STEPS, STRIPS), |(t, row)| at(t, row));
            let next = Array2::from_shape_fn((STEPS, STRIPS), |(t, row)| i64::from(at(t + 1, row)));
            trainer.set_learning_rate(cosine(LEARNING_RATE, epoch * batches + batch, epochs * batches));
            trainer.step(Sequences::tokens(input.view()), Targets::labels(next.view()))?;
        }
        let losses = trainer.take_losses()?;
        let nats = f64::from(losses.iter().sum::<f32>()) / losses.len() as f64;
        println!("{:>5} {:>9.3}", epoch + 1, nats / std::f64::consts::LN_2);
    }

    let network = trainer.network();
    println!("\nbits per character of the test text");
    println!("lstm     {:>8.3}", network_bits(network, &training[training.len() - LEAD..], test)?);
    for order in [5, 3, 1] {
        println!("{order}-gram   {:>8.3}", n_gram_bits(order, symbols.len(), training, test));
    }

    let prompt: Vec<u32> = PROMPT.chars().filter_map(token).collect();
    let mut sampler = Sampler::new(arguments.seed).temperature(0.7)?.top_k(20)?;
    let prompt = ArrayView2::from_shape((prompt.len(), 1), &prompt)?;
    let written = network.generate(prompt, 400, &mut sampler)?;
    let written: String = written.iter().map(|&token| symbols[token as usize]).collect();
    println!("\n{PROMPT}{written}");
    arguments.print_seconds();
    Ok(())
}
