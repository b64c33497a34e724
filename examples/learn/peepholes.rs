//! A cell that counts, and a peephole through which a gate sees the count.

use crate::parts::{head, network, plot, row, sequence, steps};
use gatefold::layers::LstmConfig;
use std::error::Error;

const STEPS: usize = 20;

/// An LSTM that adds 0.1 to its cell at every step, and whose output gate opens at 1 if the peephole shows it the cell.
fn counter(peephole: bool) -> Result<Vec<f32>, Box<dyn Error>> {
    // The candidate is tanh(0.1) times an open input gate; nothing is forgotten.
    let biases = [20.0, 20.0, 0.1f32.atanh(), if peephole { -50.0 } else { 0.0 }];
    let mut given: Vec<(&str, &[f32])> = vec![("rnn0.bias_ih_l0", &biases)];
    let mut layer = LstmConfig::new(1);
    if peephole {
        layer = layer.peephole();
        given.push(("rnn0.peephole_l0", &[0.0, 0.0, 50.0])); // of the input, forget and output gate
    }
    let network = network(1, vec![layer.into()], &given)?;
    Ok(steps(&network.predict(sequence(&[0.0; STEPS]))?))
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let shown = [0, 4, 7, 8, 9, 10, 14, 19];
    head("step", shown.map(|t| t + 1));
    row("cell c", shown.map(|t| 0.1 * (t as f64 + 1.0)));
    let (with, without) = (counter(true)?, counter(false)?);
    row("h, with a peephole", shown.map(|t| with[t]));
    row("h, without", shown.map(|t| without[t]));
    // The lines begin with the state before step 1.
    let wide = |values: Vec<f32>| std::iter::once(0.0).chain(values.into_iter().map(f64::from)).collect();
    let cell = (0..=STEPS).map(|t| 0.1 * t as f64).collect();
    let lines = vec![("cell c", cell), ("h, with a peephole", wide(with)), ("h, without", wide(without))];
    plot(
        "peepholes",
        ("A gate that sees the cell opens when the count is full", "time step", "value"),
        &lines,
    )
}
