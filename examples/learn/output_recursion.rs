//! A recursion from the output: an infinite response from one weight.

use crate::parts::{head, network, plot, row, sequence, steps};
use gatefold::layers::{Activation, Conv1dConfig, RnnConfig};
use std::error::Error;

const COUNT: usize = 60;
const KEPT: f32 = 0.9;

/// `y(t) = x(t) + 0.9 y(t-1)`: a recurrent layer whose state forgets at once, and whose output is fed back.
fn recursive(input: &[f32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let layer = RnnConfig::new(1).activation(Activation::Identity).feedback(1, Activation::Identity);
    let network = network(
        1,
        vec![layer.into()],
        &[("rnn0.weight_ih_l0", &[1.0]), ("rnn0.weight_yh_l0", &[KEPT]), ("rnn0.weight_hy_l0", &[1.0])],
    )?;
    Ok(steps(&network.predict(sequence(input))?))
}

/// The same with a window of `width` samples: `y(t) = x(t) + 0.9 x(t-1) + .. `.
fn finite(input: &[f32], width: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let kernel: Vec<f32> = (0..width).rev().map(|ago| KEPT.powi(ago as i32)).collect();
    let layer = Conv1dConfig::new(1, width).causal();
    let network = network(1, vec![layer.into()], &[("conv0.weight", &kernel)])?;
    Ok(steps(&network.predict(sequence(input))?))
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let mut pulse = vec![0.0; COUNT];
    pulse[0] = 1.0;
    let mut lines = Vec::new();
    head("answer to a pulse", [0, 1, 2, 5, 10, 20, 40]);
    for (name, width) in [("recursion, 1 weight", None), ("window of 5", Some(5)), ("window of 20", Some(20))]
    {
        let response = width.map_or_else(|| recursive(&pulse), |width| finite(&pulse, width))?;
        row(name, [0, 1, 2, 5, 10, 20, 40].map(|at| response[at]));
        lines.push((name, response.iter().map(|value| f64::from(*value)).collect()));
    }
    println!();
    // A constant input of 1: the sum of the whole response, 1 / (1 - 0.9) = 10, is what it leads to.
    let ones = [1.0; 400];
    head("input held at 1", ["endless", "5", "20"]);
    row("output", [recursive(&ones)?[399], finite(&ones, 5)?[399], finite(&ones, 20)?[399]]);
    plot("output-recursion", ("Finite and infinite responses", "time step", "y"), &lines)
}
