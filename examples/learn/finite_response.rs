//! A predictor that sees a window of the past.

use crate::parts::{head, network, plot, row, sequence, steps};
use gatefold::layers::Conv1dConfig;
use std::error::Error;
use std::f64::consts::TAU;

const STEPS: usize = 200;

/// Two waves, one twice as high as the other.
fn signal(t: usize) -> f64 {
    (TAU * t as f64 / 20.0).sin() + 0.5 * (TAU * t as f64 / 7.0).sin()
}

/// The weights w_1 .. w_k of the prediction `y(t) = w_1 x(t-1) + .. + w_k x(t-k)` with the least squared error.
fn fit(values: &[f64], width: usize) -> Vec<f64> {
    let mut equations = vec![vec![0.0; width + 1]; width];
    for t in width..values.len() {
        for (i, row) in equations.iter_mut().enumerate() {
            for (j, sum) in row.iter_mut().enumerate() {
                let other = if j == width { values[t] } else { values[t - 1 - j] };
                *sum += values[t - 1 - i] * other;
            }
        }
    }
    solve(equations)
}

/// Solves linear equations, given as rows with the right side last, by elimination.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let count = rows.len();
    for at in 0..count {
        let pivot = (at..count).max_by(|a, b| rows[*a][at].abs().total_cmp(&rows[*b][at].abs()));
        rows.swap(at, pivot.expect("there are rows"));
        let chosen = rows[at].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(other, _)| *other != at) {
            let factor = row[at] / chosen[at];
            row.iter_mut().zip(&chosen).for_each(|(value, chosen)| *value -= factor * chosen);
        }
    }
    (0..count).map(|at| rows[at][count] / rows[at][at]).collect()
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let values: Vec<f64> = (0..STEPS).map(signal).collect();
    println!("window   root mean squared error");
    let mut shown = Vec::new();
    for width in 1..=4 {
        let weights = fit(&values, width);
        // A convolution's weights begin with the oldest sample of its window.
        let kernel: Vec<f32> = weights.iter().rev().map(|weight| *weight as f32).collect();
        let network = network(1, vec![Conv1dConfig::new(1, width).into()], &[("conv0.weight", &kernel)])?;
        let past: Vec<f32> = values[..STEPS - 1].iter().map(|value| *value as f32).collect();
        let predicted = steps(&network.predict(sequence(&past))?);
        let errors: Vec<f64> =
            predicted.iter().zip(&values[width..]).map(|(found, truth)| f64::from(*found) - truth).collect();
        let mean = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
        println!("{width:>6}   {:.3}", mean.sqrt());
        shown.push(errors);
        if width == 4 {
            println!();
            head("sample", ["t-1", "t-2", "t-3", "t-4"]);
            row("weight", weights);
        }
    }
    let lines: Vec<(&str, Vec<f64>)> = [("window of 1", 0), ("window of 2", 1), ("window of 4", 3)]
        .map(|(name, at)| (name, shown[at][..60].to_vec()))
        .to_vec();
    plot("finite-response", ("Error of the prediction of two waves", "time step", "error"), &lines)
}
