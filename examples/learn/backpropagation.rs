//! Backpropagation through time, by hand and by the library.

use crate::parts::{head, network, plot, row, sequence};
use gatefold::layers::RnnConfig;
use gatefold::training::Reduction;
use gatefold::{Loss, Network};
use ndarray::Array3;
use std::error::Error;

const INPUT: [f32; 5] = [1.0, 0.5, -0.5, 0.0, 0.8];
const TARGET: f32 = 0.2;
const U: f32 = 0.8;
const W: f32 = 0.9;

/// `h(t) = tanh(U x(t) + W h(t-1))`.
fn one_unit(w: f32) -> Result<Network, Box<dyn Error>> {
    let given: &[(&str, &[f32])] = &[("rnn0.weight_ih_l0", &[U]), ("rnn0.weight_hh_l0", &[w])];
    network(1, vec![RnnConfig::new(1).into()], given)
}

/// The squared error of the last step.
fn loss(w: f32) -> Result<f64, Box<dyn Error>> {
    let output = one_unit(w)?.predict(sequence(&INPUT))?;
    Ok(f64::from(output[[4, 0, 0]] - TARGET).powi(2))
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // Forward, by hand.
    let mut h = vec![0.0f64];
    for x in INPUT {
        h.push((f64::from(U) * f64::from(x) + f64::from(W) * h[h.len() - 1]).tanh());
    }
    // Backward: d_a(t) is the derivative with respect to the sum inside tanh at step t.
    let mut d_h = [0.0; 6];
    let mut d_a = [0.0; 6];
    d_h[5] = 2.0 * (h[5] - f64::from(TARGET));
    for t in (1..=5).rev() {
        d_a[t] = d_h[t] * (1.0 - h[t] * h[t]);
        d_h[t - 1] = d_a[t] * f64::from(W);
    }
    let shares: Vec<f64> = (1..=5).map(|t| d_a[t] * h[t - 1]).collect();
    head("step", 1..=5);
    row("h(t)", h[1..].iter().copied());
    row("dL/dh(t)", d_h[1..].iter().copied());
    row("share of dL/dW", shares.iter().copied());
    println!();
    row("sum of the shares", [shares.iter().sum::<f64>()]);

    let network = one_unit(W)?;
    let tape = network.forward_training(sequence(&INPUT), None, None)?;
    let mut d_output = Array3::zeros((5, 1, 1));
    d_output[[4, 0, 0]] = 2.0 * (tape.output()[[4, 0, 0]] - TARGET);
    let found = network.backward(tape, d_output.view(), None)?.parameters()?;
    row("by the library", [found.get("rnn0.weight_hh_l0").expect("it has one")[[0, 0]]]);
    row("by two losses", [(loss(W + 0.01)? - loss(W - 0.01)?) / 0.02]);

    // The loss of every step reaches back as far as it can: the norms that `gradient_flow` finds.
    let target = Array3::from_elem((5, 1, 1), TARGET);
    let flow = network.gradient_flow(sequence(&INPUT), &target, &Loss::SquaredError, Reduction::Sum)?;
    println!();
    row("all losses, h(t-1)", flow.layers[0].hidden.iter().copied());
    let lines = vec![
        ("of the last step's loss", d_h[..5].iter().map(|d| d.abs()).collect()),
        ("of all steps' losses", flow.layers[0].hidden.clone()),
    ];
    plot("backpropagation", ("Size of the gradient with respect to h(t)", "t", "size"), &lines)
}
