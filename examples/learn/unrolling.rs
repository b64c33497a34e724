//! A recurrent network is a deep one that uses its weights again and again.

use crate::parts::{OUT, head, network, row, sequence, steps};
use gatefold::layers::{DenseConfig, RnnConfig};
use ndarray::Array2;
use std::error::Error;

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let (u, w, v) = ([0.7f32], [0.5f32], [2.0f32]);
    let layers = vec![RnnConfig::new(1).into(), DenseConfig::new(1).into()];
    let network =
        network(1, layers, &[("rnn0.weight_ih_l0", &u), ("rnn0.weight_hh_l0", &w), ("dense0.weight", &v)])?;
    let input = [1.0, 0.0, -1.0, 0.5];
    head("step", 1..=4);
    row("x(t)", input);
    // Four copies of the same two layers, one on top of the other.
    let mut h = 0.0f32;
    let by_hand = input.map(|x| {
        h = (u[0] * x + w[0] * h).tanh();
        v[0] * h
    });
    row("y(t), by hand", by_hand);
    row("the whole sequence", steps(&network.predict(sequence(&input))?));
    let mut stream = network.stream(1)?;
    let mut streamed = Vec::new();
    for x in input {
        streamed.push(stream.step(Array2::from_elem((1, 1), x).view())?[[0, 0]]);
    }
    row("a step at a time", streamed);
    std::fs::create_dir_all(OUT)?;
    network.save(std::path::Path::new(OUT).join("unrolling.safetensors"))?;
    println!("\nmodel    {OUT}/unrolling.safetensors");
    Ok(())
}
