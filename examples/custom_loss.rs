//! A loss of your own, in a training loop that is written out.
//!
//! Sunspots disturb radio and pull satellites down, so a month that turns out worse than forecast costs more than one that
//! turns out quieter: here four times as much. An LSTM reads 24 months and forecasts the next one; the loss is the squared
//! error, times four where the forecast was too low (Newey and Powell 1987). Each batch goes forward, its loss and the
//! gradient with respect to the outputs are computed here, and the trainer applies what comes out of the backward pass:
//! clipped, at a learning rate that follows a cosine. The epoch that does best on the validation months is kept.
//!
//! The baselines are the same network trained on the plain squared error, and the last month repeated.
//!
//! ```text
//! cargo run --release --example custom_loss
//! ```

mod arguments;

use arguments::{Arguments, data, print_network};
use clap::Parser;
use gatefold::training::Schedule;
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_series::{Baseline, Fill, Scaler, Split, Table, TableOptions, WindowConfig, Windows};
use ndarray::{Array3, ArrayView3, Zip};
use std::error::Error;

const MONTHS: usize = 24;
const BATCH: usize = 32;
/// The cost of a forecast that is too low, against one that is as far too high.
const TOO_LOW: f32 = 4.0;

/// The mean loss of forecasts, and its gradient with respect to them.
fn asymmetric(forecast: ArrayView3<f32>, truth: ArrayView3<f32>, too_low: f32) -> (f32, Array3<f32>) {
    let error = &forecast - &truth;
    let weight = error.mapv(|error| if error < 0.0 { too_low } else { 1.0 });
    let count = error.len() as f32;
    let loss = Zip::from(&error).and(&weight).fold(0.0, |sum, e, w| sum + w * e * e) / count;
    (loss, 2.0 * weight * error / count)
}

/// A series, scaled, with the windows whose last months belong to each part.
struct Months<'a> {
    training: Windows<'a>,
    validation: Windows<'a>,
    test: Windows<'a>,
}

/// The mean loss over all of these windows.
fn validate(network: &Network, windows: &Windows, too_low: f32) -> Result<f32, Box<dyn Error>> {
    let all = windows.batch(&Vec::from_iter(0..windows.len()));
    let forecast = network.predict(&all.input)?;
    Ok(asymmetric(forecast.view(), all.target.view(), too_low).0)
}

/// Trains a network and returns its forecasts of the test months, `[1, months, 1]`.
fn train(
    device: &Device,
    config: &NetworkConfig,
    months: &Months,
    too_low: f32,
    epochs: usize,
    seed: u64,
) -> Result<Array3<f32>, Box<dyn Error>> {
    let updates = epochs * months.training.len().div_ceil(BATCH);
    let options = TrainConfig::new()
        .learning_rate(3e-3)
        .schedule(Schedule::cosine(updates as u64).warm_up(50))
        .clip_norm(Some(1.0));
    let mut trainer = Trainer::new(Network::new(device, config, seed)?, options)?;
    let (mut best, mut best_loss) = (trainer.network().parameters()?, f32::INFINITY);
    println!("\nepoch      loss   validation   (too low costs {too_low})");
    for epoch in 0..epochs {
        let mut sum = 0.0;
        for rows in months.training.order(seed, epoch as u64).chunks(BATCH) {
            let batch = months.training.batch(rows);
            // The key of the dropout masks; this network has none, and yours may.
            let tape = trainer.network().forward_training(&batch.input, None, Some(trainer.dropout()))?;
            let (loss, d_output) = asymmetric(tape.output(), batch.target.view(), too_low);
            let gradients = trainer.network().backward(tape, d_output.view(), None)?;
            trainer.apply(&gradients)?;
            sum += loss * rows.len() as f32;
        }
        let validation = validate(trainer.network(), &months.validation, too_low)?;
        if validation < best_loss {
            (best, best_loss) = (trainer.network().parameters()?, validation);
        }
        if (epoch + 1) % (epochs / 4) == 0 {
            println!("{:>5} {:>9.4} {validation:>12.4}", epoch + 1, sum / months.training.len() as f32);
        }
    }
    trainer.set_parameters(&best)?;
    let test = months.test.batch(&Vec::from_iter(0..months.test.len()));
    Ok(trainer.network().predict(&test.input)?)
}

/// Prints the mean loss of forecasts, in sunspots, and the share that was too low.
fn print_score(name: &str, forecasts: &[f64], truth: &[f64]) {
    let errors = || forecasts.iter().zip(truth).map(|(forecast, truth)| forecast - truth);
    let cost = |error: f64| if error < 0.0 { f64::from(TOO_LOW) * error * error } else { error * error };
    let mean = errors().map(cost).sum::<f64>() / truth.len() as f64;
    let low = errors().filter(|error| *error < 0.0).count() as f64 / truth.len() as f64;
    println!("{name:<14} {mean:>8.1} {:>12.1}", 100.0 * low);
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let table = Table::read(data("sunspots_monthly.csv"), &TableOptions::new())?;
    let series = table.numbers("sunspots", Fill::Refuse)?;
    let split = Split::new(series.len(), 0.2, 0.15)?;
    let scaler = Scaler::standard(&series[split.train()])?;
    let scaled = scaler.scale(&series);
    let windows = |part| Windows::new(&scaled, WindowConfig::new(MONTHS, 1, 1), part);
    let months = Months {
        training: windows(split.train())?,
        validation: windows(split.validation())?,
        test: windows(split.test())?,
    };

    let config = NetworkConfig::with_input(1).lstm(32).last_step().dense(1).build()?;
    print_network(&config);
    let epochs = arguments.choose(40, 8);
    let truth = &series[split.test()];
    let mut scores = Vec::new();
    for (name, too_low) in [("own loss", TOO_LOW), ("squared error", 1.0)] {
        let forecasts = train(&device, &config, &months, too_low, epochs, arguments.seed)?;
        scores.push((name, forecasts.iter().map(|&value| scaler.unscale(value)).collect::<Vec<f64>>()));
    }
    let repeated = Baseline::RepeatLast.forecasts(&series, split.origins(1), 1)?;
    scores.push(("repeat last", repeated.into_iter().collect()));

    println!("\n{} other months: mean loss, and % forecast too low", truth.len());
    for (name, forecasts) in scores {
        print_score(name, &forecasts, truth);
    }
    arguments.print_seconds();
    Ok(())
}
