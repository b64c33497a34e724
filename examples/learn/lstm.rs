//! An LSTM whose gates are set by hand: it writes, keeps and reads one number.

use crate::parts::{head, network, plot, row, steps};
use gatefold::layers::LstmConfig;
use ndarray::Array3;
use std::error::Error;

/// The number of each step, whether to write it, and whether to read what was written.
const NUMBERS: [f32; 10] = [0.3, -0.8, 0.6, 0.1, -0.4, 0.9, -0.2, 0.5, -0.9, 0.7];
const WRITE: usize = 1;
const READ: usize = 8;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // Rows of the gates in the order input, forget, candidate, output; columns: number, write, read.
    let weights = [
        [0.0, 20.0, 0.0],  // the input gate opens to write
        [0.0, -20.0, 0.0], // the forget gate closes to write
        [1.0, 0.0, 0.0],   // the candidate is the number
        [0.0, 0.0, 20.0],  // the output gate opens to read
    ];
    let biases = [-10.0, 10.0, 0.0, -10.0];
    let given: &[(&str, &[f32])] =
        &[("rnn0.weight_ih_l0", weights.as_flattened()), ("rnn0.bias_ih_l0", &biases)];
    let network = network(3, vec![LstmConfig::new(1).into()], given)?;
    let marks = |t: usize| [NUMBERS[t], f32::from(u8::from(t == WRITE)), f32::from(u8::from(t == READ))];
    let input = Array3::from_shape_fn((10, 1, 3), |(t, _, k)| marks(t)[k]);
    let output = steps(&network.predict(&input)?);
    // The same by the equations.
    let (mut c, mut cells, mut gates) = (0.0f32, Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    let mut h = Vec::new();
    for t in 0..10 {
        let sum = |gate: usize| {
            let products = weights[gate].iter().zip(marks(t)).map(|(weight, value)| weight * value);
            products.sum::<f32>() + biases[gate]
        };
        let (i, f, g, o) = (sigmoid(sum(0)), sigmoid(sum(1)), sum(2).tanh(), sigmoid(sum(3)));
        c = f * c + i * g;
        h.push(o * c.tanh());
        cells.push(c);
        [i, f, o].into_iter().zip(&mut gates).for_each(|(gate, of)| of.push(gate));
    }
    let shown = [0, 1, 2, 5, 7, 8, 9];
    head("step", shown);
    row("number", shown.map(|t| NUMBERS[t]));
    for (name, values) in ["input gate i", "forget gate f", "output gate o"].iter().zip(&gates) {
        row(name, shown.map(|t| values[t]));
    }
    row("cell c", shown.map(|t| cells[t]));
    row("h, by the equations", shown.map(|t| h[t]));
    row("h, by the library", shown.map(|t| output[t]));
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let lines = vec![
        ("number", wide(&NUMBERS)),
        ("cell c", wide(&cells)),
        ("output gate o", wide(&gates[2])),
        ("h", wide(&output)),
    ];
    plot("lstm", ("A number is written at step 1 and read at step 8", "time step", "value"), &lines)
}
