//! What is the arm doing? A label for every step of a smart watch's signal: six people, seven shoulder exercises, three
//! channels of acceleration and three of rotation at 12.5 Hz (Burns et al. 2018).
//!
//! The network learns from four people and is tested on two it never saw. A bidirectional GRU reads windows of 16 s and
//! answers at every step. The baselines are the most frequent exercise and a softmax regression, trained the same way,
//! that sees one step at a time and so has no memory.
//!
//! ```text
//! cargo run --release --example label_activity
//! ```

mod arguments;

use arguments::{Arguments, cosine, data, largest, print_network};
use clap::Parser;
use gatefold::layers::{DenseConfig, Direction, GruConfig, LayerConfig};
use gatefold::{Device, Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig, Trainer};
use ndarray::{Array2, ArrayView1, Axis, concatenate, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;

const CHANNELS: usize = 6;
const LABELS: [&str; 7] = ["ABD", "ER", "FEL", "IR", "PEN", "ROW", "TRAP"];
/// The test subjects; the others are for training.
const TEST: [&str; 2] = ["5", "6"];
const WINDOW: usize = 200;
const BATCH: usize = 16;

struct Subject {
    /// `[steps, channels]`
    values: Array2<f32>,
    labels: Vec<i64>,
}

/// Reads the training subjects and the test subjects.
fn read() -> Result<(Vec<Subject>, Vec<Subject>), Box<dyn Error>> {
    let table = std::fs::read_to_string(data("watch_exercise_labels.csv"))?;
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for rows in rows.chunk_by(|a, b| a[0] == b[0]) {
        let label = |row: &Vec<&str>| LABELS.iter().position(|label| *label == row[2]).map(|at| at as i64);
        let labels =
            rows.iter().map(label).collect::<Option<_>>().ok_or("a label is not one of the seven")?;
        let mut values = Array2::zeros((rows.len(), CHANNELS));
        for ((t, channel), value) in values.indexed_iter_mut() {
            *value = rows[t][3 + channel].parse()?;
        }
        let people = if TEST.contains(&rows[0][0]) { &mut test } else { &mut training };
        people.push(Subject { values, labels });
    }
    Ok((training, test))
}

/// Scales each channel to mean 0 and standard deviation 1 over the training steps.
fn standardise(training: &mut [Subject], test: &mut [Subject]) -> Result<(), Box<dyn Error>> {
    let views: Vec<_> = training.iter().map(|subject| subject.values.view()).collect();
    let steps = concatenate(Axis(0), &views)?;
    let (mean, deviation) = (steps.mean_axis(Axis(0)).ok_or("no steps")?, steps.std_axis(Axis(0), 0.0));
    for subject in training.iter_mut().chain(test) {
        subject.values = (&subject.values - &mean) / &deviation;
    }
    Ok(())
}

/// A batch of windows that begin at random steps, and their labels.
fn windows(
    subjects: &[Subject],
    random: &mut ChaCha8Rng,
) -> Result<(Sequences<'static>, Targets<'static>), Box<dyn Error>> {
    let (mut rows, mut labels) = (Vec::new(), Array2::zeros((WINDOW, BATCH)));
    for row in 0..BATCH {
        let subject = &subjects[random.random_range(0..subjects.len())];
        let begin = random.random_range(0..=subject.labels.len() - WINDOW);
        rows.push(subject.values.slice(s![begin..begin + WINDOW, ..]));
        labels.column_mut(row).assign(&ArrayView1::from(&subject.labels[begin..begin + WINDOW]));
    }
    Ok((Sequences::of_rows(&rows)?, Targets::labels(labels.view())))
}

/// The share of all steps of `subjects` that the network labels correctly. It reads each person's whole signal.
fn accuracy(network: &Network, subjects: &[Subject]) -> Result<f64, Box<dyn Error>> {
    let rows: Vec<_> = subjects.iter().map(|subject| subject.values.view()).collect();
    let output = network.forward(&Sequences::of_rows(&rows)?, None)?.output;
    let mut right = Vec::new();
    for (row, subject) in subjects.iter().enumerate() {
        let answers = output.index_axis(Axis(1), row);
        right.extend(
            subject.labels.iter().zip(answers.rows()).map(|(&label, logits)| largest(logits) as i64 == label),
        );
    }
    Ok(right.iter().filter(|right| **right).count() as f64 / right.len() as f64)
}

fn train(
    device: &Device,
    (layers, learning_rate): (&[LayerConfig], f32),
    training: &[Subject],
    updates: usize,
    seed: u64,
) -> Result<Network, Box<dyn Error>> {
    let config = NetworkConfig::new(CHANNELS, layers)?;
    println!();
    print_network(&config);
    let rule = TrainConfig::new()
        .loss(Loss::CrossEntropy)
        .optimizer(Optimizer::adamw())
        .clip_norm(Some(1.0))
        .dropout_seed(seed);
    let mut trainer = Trainer::new(Network::new(device, &config, seed)?, rule)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for update in 0..updates {
        trainer.set_learning_rate(cosine(learning_rate, update, updates));
        let (input, labels) = windows(training, &mut random)?;
        trainer.step(&input, &labels)?;
        if (update + 1) % (updates / 5) == 0 {
            let losses = trainer.take_losses()?;
            println!("{:>6} {:>9.4}", update + 1, losses.iter().sum::<f32>() / losses.len() as f32);
        }
    }
    Ok(trainer.into_network())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let (mut training, mut test) = read()?;
    standardise(&mut training, &mut test)?;
    let updates = arguments.choose(200, 25);
    println!(
        "task     {} training subjects, {} test subjects; mean loss of each fifth of {updates} updates",
        training.len(),
        test.len()
    );

    let recurrent = [
        LayerConfig::Dropout { rate: 0.2 },
        GruConfig::new(64).direction(Direction::Bidirectional).into(),
        LayerConfig::Dropout { rate: 0.5 },
        DenseConfig::new(LABELS.len()).into(),
    ];
    let one_step = [DenseConfig::new(LABELS.len()).into()];
    let network = train(&device, (&recurrent, 3e-3), &training, updates, arguments.seed)?;
    // The regression's seven hyperplanes need larger steps, and tolerate them.
    let regression = train(&device, (&one_step, 0.1), &training, updates, arguments.seed)?;

    let share = |subjects: &[Subject], label: i64| {
        let labels = || subjects.iter().flat_map(|subject| &subject.labels);
        labels().filter(|found| **found == label).count() as f64 / labels().count() as f64
    };
    let commonest =
        (0..LABELS.len() as i64).max_by(|&a, &b| share(&training, a).total_cmp(&share(&training, b)));
    println!("\n% of steps of the test subjects labelled correctly");
    println!("gru                 {:>6.1}", 100.0 * accuracy(&network, &test)?);
    println!("softmax regression  {:>6.1}", 100.0 * accuracy(&regression, &test)?);
    println!("most frequent class {:>6.1}", 100.0 * share(&test, commonest.unwrap_or(0)));
    arguments.print_seconds();
    Ok(())
}
