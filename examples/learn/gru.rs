//! A GRU whose gates are set by hand: it keeps, mixes and resets.

use crate::parts::{head, network, plot, row, steps};
use gatefold::NetworkConfig;
use gatefold::layers::{GruConfig, LayerConfig, LstmConfig, RnnConfig};
use ndarray::Array3;
use std::error::Error;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    // Columns: a number, and a mark that says to take it. Rows of the gates: reset, update, new.
    let weights = [[0.0, 0.0], [0.0, -20.0], [2.0, 0.0]];
    let biases = [0.0, 10.0, 0.0]; // z = 1 keeps the state
    let given: &[(&str, &[f32])] =
        &[("rnn0.weight_ih_l0", weights.as_flattened()), ("rnn0.bias_ih_l0", &biases)];
    let network = network(2, vec![GruConfig::new(1).into()], given)?;
    let numbers = [0.5f32, 0.2, -0.9, 0.7, 0.3, -0.6, 0.8, 0.1];
    let marks = [1.0f32, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let input = Array3::from_shape_fn((8, 1, 2), |(t, _, k)| if k == 0 { numbers[t] } else { marks[t] });
    let h = steps(&network.predict(&input)?);
    head("step", 0..8);
    row("number", numbers);
    row("mark", marks);
    row("h", h.iter().copied());
    println!("\n{:<22}{:>12}{:>12}", "parameters", "2 to 8", "2 to 100");
    let layers = |width: usize| -> [(&str, LayerConfig); 3] {
        [
            ("rnn", RnnConfig::new(width).into()),
            ("gru", GruConfig::new(width).into()),
            ("lstm", LstmConfig::new(width).into()),
        ]
    };
    let count = |layer| NetworkConfig::new(2, [layer]).map(|config| config.parameter_count());
    for ((name, small), (_, large)) in layers(8).into_iter().zip(layers(100)) {
        println!("{name:<22}{:>12}{:>12}", count(small)?, count(large)?);
    }
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let lines = vec![("number", wide(&numbers)), ("mark", wide(&marks)), ("h", wide(&h))];
    plot("gru", ("The update gate lets in what is marked", "time step", "value"), &lines)
}
