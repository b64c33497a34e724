//! Who is speaking? Nine speakers and 640 utterances of two Japanese vowels, each of 7 to 29 steps of twelve numbers
//! (Kudo, Toyama and Shimbo 1999): sequences of many lengths in one batch.
//!
//! A bidirectional GRU reads each utterance. Padded steps have no effect, and the reverse direction begins at each
//! row's own end. The final states of both directions tell the speaker. The baseline is the speaker of the nearest
//! training utterance, by mean and standard deviation of the twelve channels.
//!
//! ```text
//! cargo run --release --example classify_vowels
//! ```

mod arguments;

use arguments::{Arguments, cosine, data, largest, print_network};
use clap::Parser;
use gatefold::layers::{DenseConfig, Direction, GruConfig, LayerConfig};
use gatefold::{Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig, Trainer};
use gatefold_series::{Fill, Table, TableOptions};
use ndarray::{Array1, Array2, Axis, concatenate};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::StandardNormal;
use std::error::Error;

const CHANNELS: usize = 12;
const SPEAKERS: usize = 9;
const TRAINING: usize = 270;
const BATCH: usize = 30;
const LEARNING_RATE: f32 = 3e-3;
/// The noise added to each value in training, in standard deviations of its channel.
const NOISE: f32 = 0.3;

struct Utterance {
    /// `[steps, channels]`
    values: Array2<f32>,
    speaker: i64,
}

/// All utterances, the training ones first.
fn read() -> Result<Vec<Utterance>, Box<dyn Error>> {
    let table = Table::read(data("japanese_vowels.csv"), &TableOptions::new())?;
    let column = |name: &str| table.numbers(name, Fill::Refuse);
    let (speakers, steps) = (column("speaker")?, column("t")?);
    let channels: Vec<Vec<f64>> =
        (0..CHANNELS).map(|channel| column(&format!("lpc{channel}"))).collect::<Result<_, _>>()?;
    let mut begins: Vec<usize> = (0..steps.len()).filter(|&row| steps[row] == 0.0).collect();
    begins.push(steps.len());
    let utterance = |rows: &[usize]| Utterance {
        values: Array2::from_shape_fn((rows[1] - rows[0], CHANNELS), |(t, c)| {
            channels[c][rows[0] + t] as f32
        }),
        speaker: speakers[rows[0]] as i64 - 1,
    };
    Ok(begins.windows(2).map(utterance).collect())
}

/// Scales each channel to mean 0 and standard deviation 1 over the training steps.
fn standardise(utterances: &mut [Utterance]) -> Result<(), Box<dyn Error>> {
    let views: Vec<_> = utterances[..TRAINING].iter().map(|utterance| utterance.values.view()).collect();
    let steps = concatenate(Axis(0), &views)?;
    let (mean, deviation) = (steps.mean_axis(Axis(0)).ok_or("no steps")?, steps.std_axis(Axis(0), 0.0));
    for utterance in utterances {
        utterance.values = (&utterance.values - &mean) / &deviation;
    }
    Ok(())
}

/// The share of `test` whose nearest utterance in `training` has the same speaker.
fn nearest_neighbour(training: &[Utterance], test: &[Utterance]) -> f64 {
    let features = |utterance: &Utterance| -> Array1<f32> {
        let values = &utterance.values;
        let mean = values.mean_axis(Axis(0)).expect("no utterance is empty");
        concatenate![Axis(0), mean, values.std_axis(Axis(0), 0.0)]
    };
    let known: Vec<_> = training.iter().map(|utterance| (features(utterance), utterance.speaker)).collect();
    let right = |utterance: &&Utterance| {
        let wanted = features(utterance);
        let distance = |(found, _): &&(Array1<f32>, i64)| (found - &wanted).mapv(|d| d * d).sum();
        let nearest = known.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.is_some_and(|(_, speaker)| *speaker == utterance.speaker)
    };
    test.iter().filter(right).count() as f64 / test.len() as f64
}

/// The share of `test` that the network gives to the right speaker.
fn accuracy(network: &Network, test: &[Utterance]) -> Result<f64, Box<dyn Error>> {
    let rows: Vec<_> = test.iter().map(|utterance| utterance.values.view()).collect();
    let output = network.forward(&Sequences::of_rows(&rows)?, None)?.output;
    let right = (0..test.len()).filter(|&row| {
        let logits = output.index_axis(Axis(0), 0).index_axis_move(Axis(0), row);
        largest(logits) as i64 == test[row].speaker
    });
    Ok(right.count() as f64 / test.len() as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let mut utterances = read()?;
    standardise(&mut utterances)?;
    let (training, test) = utterances.split_at(TRAINING);

    let config = NetworkConfig::new(
        CHANNELS,
        [
            GruConfig::new(64).direction(Direction::Bidirectional).into(),
            LayerConfig::FinalState,
            LayerConfig::Dropout { rate: 0.5 },
            DenseConfig::new(SPEAKERS).into(),
        ],
    )?;
    print_network(&config);
    let rule = TrainConfig::new()
        .loss(Loss::CrossEntropy)
        .optimizer(Optimizer::adamw())
        .clip_norm(Some(1.0))
        .dropout_seed(arguments.seed);
    let mut trainer = Trainer::new(Network::new(&device, &config, arguments.seed)?, rule)?;

    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let epochs = arguments.choose(100, 8);
    let mut order: Vec<usize> = (0..training.len()).collect();
    println!("\nepoch      loss");
    for epoch in 0..epochs {
        trainer.set_learning_rate(cosine(LEARNING_RATE, epoch, epochs));
        order.shuffle(&mut random);
        for batch in order.chunks(BATCH) {
            let noisy = |&row: &usize| {
                training[row].values.mapv(|x| x + NOISE * random.sample::<f32, _>(StandardNormal))
            };
            let values: Vec<Array2<f32>> = batch.iter().map(noisy).collect();
            let rows: Vec<_> = values.iter().map(|values| values.view()).collect();
            let speakers = Array2::from_shape_fn((1, batch.len()), |(_, row)| training[batch[row]].speaker);
            trainer.step(&Sequences::of_rows(&rows)?, Targets::labels(speakers.view()))?;
        }
        if (epoch + 1) % (epochs / 8) == 0 {
            let losses = trainer.take_losses()?;
            println!("{:>5} {:>9.4}", epoch + 1, losses.iter().sum::<f32>() / losses.len() as f32);
        }
    }

    println!("\n% of {} other utterances given to the right speaker", test.len());
    println!("gru                 {:>6.1}", 100.0 * accuracy(trainer.network(), test)?);
    println!("nearest neighbour   {:>6.1}", 100.0 * nearest_neighbour(training, test));
    let largest_share =
        (0..SPEAKERS as i64).map(|speaker| test.iter().filter(|u| u.speaker == speaker).count());
    let majority = largest_share.max().unwrap_or(0) as f64 / test.len() as f64;
    println!("most frequent class {:>6.1}", 100.0 * majority);
    arguments.print_seconds();
    Ok(())
}
