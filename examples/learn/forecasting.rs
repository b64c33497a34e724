//! A network that forecasts a signal in closed loop, and one that fills a gap in it from both sides.

use crate::parts::draw;
use gatefold::layers::{DenseConfig, Direction, GruConfig};
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_series::plot::LinesPlot;
use ndarray::{Array2, Array3, s};
use std::error::Error;
use std::f64::consts::TAU;

const WINDOW: usize = 40;
const BATCH: usize = 16;

fn signal(t: usize) -> f32 {
    let t = t as f64;
    (0.6 * (TAU * t / 20.0).sin() + 0.3 * (TAU * t / 7.0).sin()) as f32
}

/// Windows of the signal from different times on, `[WINDOW + 1, BATCH, 1]`.
fn windows(update: usize) -> Array3<f32> {
    Array3::from_shape_fn((WINDOW + 1, BATCH, 1), |(t, row, _)| signal(t + 17 * row + 31 * update))
}

fn trainer(config: &NetworkConfig) -> Result<Trainer, Box<dyn Error>> {
    let options = TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0));
    Ok(Trainer::new(Network::new(&Device::cpu()?, config, 1)?, options)?)
}

fn mean_absolute(errors: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = errors.fold((0.0, 0.0), |(sum, count), error| (sum + error.abs(), count + 1.0));
    sum / count
}

/// The next 60 values after sample 1000, each from the network's own one before.
fn forecast() -> Result<Vec<f32>, Box<dyn Error>> {
    let config = NetworkConfig::new(1, [GruConfig::new(16).into(), DenseConfig::new(1).into()])?;
    let mut trainer = trainer(&config)?;
    for update in 0..400 {
        let all = windows(update);
        let (past, next) =
            (all.slice(s![..WINDOW, .., ..]).to_owned(), all.slice(s![1.., .., ..]).to_owned());
        trainer.step(&past, &next)?;
    }
    let mut stream = trainer.network().stream(1)?;
    let mut step = |value: f32| -> Result<f32, Box<dyn Error>> {
        Ok(stream.step(Array2::from_elem((1, 1), value).view())?[[0, 0]])
    };
    let mut next = 0.0;
    for t in 900..1000 {
        next = step(signal(t))?;
    }
    let mut found = vec![next];
    while found.len() < 60 {
        next = step(next)?;
        found.push(next);
    }
    Ok(found)
}

/// Fills the ten samples in the middle of a window: a network that reads the window in both directions, with zeros in the
/// gap and a mark where it is.
fn fill() -> Result<[f32; 2], Box<dyn Error>> {
    let layers = [GruConfig::new(12).direction(Direction::Bidirectional).into(), DenseConfig::new(1).into()];
    let mut trainer = trainer(&NetworkConfig::new(2, layers)?)?;
    let inside = |t: usize| (15..25).contains(&t);
    let hidden = |all: &Array3<f32>| {
        Array3::from_shape_fn((WINDOW, BATCH, 2), |(t, row, k)| match (inside(t), k) {
            (true, 0) | (false, 1) => 0.0,
            (true, _) => 1.0,
            (false, _) => all[[t, row, 0]],
        })
    };
    for update in 0..300 {
        let all = windows(update);
        trainer.step(hidden(&all), all.slice(s![..WINDOW, .., ..]).to_owned())?;
    }
    let all = windows(1000);
    let output = trainer.network().predict(hidden(&all))?;
    let each = || (15..25).flat_map(|t| (0..BATCH).map(move |row| (t, row)));
    let network = mean_absolute(each().map(|(t, row)| output[[t, row, 0]] - all[[t, row, 0]]));
    let straight = mean_absolute(each().map(|(t, row)| {
        let (from, to) = (all[[14, row, 0]], all[[25, row, 0]]);
        from + (to - from) * (t - 14) as f32 / 11.0 - all[[t, row, 0]]
    }));
    Ok([network, straight])
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    println!("mean absolute error\n");
    let found = forecast()?;
    let error = |from: &dyn Fn(usize) -> f32| mean_absolute((0..60).map(|t| from(t) - signal(1000 + t)));
    println!("60 steps ahead, network in closed loop    about {:.2}", error(&|t| found[t]));
    println!("60 steps ahead, repeat the last value     {:.2}", error(&|_| signal(999)));
    let [network, straight] = fill()?;
    println!("a gap of 10, network in both directions   about {network:.2}");
    println!("a gap of 10, straight line                {straight:.2}");
    let ahead = |value: &dyn Fn(usize) -> f32| -> Vec<(f64, f64)> {
        (0..60).map(|t| (t as f64 + 1.0, f64::from(value(t)))).collect()
    };
    let (truth, found) = (ahead(&|t| signal(1000 + t)), ahead(&|t| found[t]));
    let lines: &[(&str, &[(f64, f64)])] = &[("truth", &truth), ("network, its own input", &found)];
    draw(
        "forecasting",
        &LinesPlot { title: "Sixty steps in closed loop", x: "steps ahead", y: "value", lines },
    )
}
