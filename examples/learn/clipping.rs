//! A cliff in the loss, and a step of gradient descent at its edge.

use crate::parts::{draw, network};
use gatefold::layers::{InitialState, RnnConfig};
use gatefold_series::plot::LinesPlot;
use ndarray::Array3;
use std::error::Error;

const STEPS: usize = 30;
const RATE: f64 = 0.5;

/// `h(t) = tanh(1.5 h(t-1) + b)` from h = 0.5, and the squared distance of the last h from 0.5; its derivative with respect
/// to b.
fn loss(b: f64) -> Result<(f64, f64), Box<dyn Error>> {
    let layer = RnnConfig::new(1).initial_state(InitialState::Constant(0.5));
    let network =
        network(1, vec![layer.into()], &[("rnn0.weight_hh_l0", &[1.5]), ("rnn0.bias_ih_l0", &[b as f32])])?;
    let tape = network.forward_training(Array3::zeros((STEPS, 1, 1)), None, None)?;
    let error = f64::from(tape.output()[[STEPS - 1, 0, 0]]) - 0.5;
    let mut d_output = Array3::zeros((STEPS, 1, 1));
    d_output[[STEPS - 1, 0, 0]] = 2.0 * error as f32;
    let gradients = network.backward(tape, d_output.view(), None)?.parameters()?;
    Ok((error * error, f64::from(gradients.get("rnn0.bias_ih_l0").expect("it has one")[[0]])))
}

/// The bias after some steps of gradient descent whose gradient is clipped.
fn descend(mut b: f64, steps: usize, most: f64) -> Result<f64, Box<dyn Error>> {
    for _ in 0..steps {
        b -= RATE * loss(b)?.1.clamp(-most, most);
    }
    Ok(b)
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    println!("{:<28}{:>8}{:>8}{:>10}", "", "b", "loss", "gradient");
    let line = |name: &str, b: f64| -> Result<(), Box<dyn Error>> {
        let (loss, slope) = loss(b)?;
        println!("{name:<28}{b:>8.4}{loss:>8.3}{slope:>10.3}");
        Ok(())
    };
    // tanh(1.5 * 0.5 + b) = 0.5
    line("the edge", 0.5f64.atanh() - 0.75)?;
    let (start, clip) = (-0.195, 0.004);
    for (name, steps, most) in [
        ("start", 0, f64::INFINITY),
        ("1 step", 1, f64::INFINITY),
        ("20 steps", 20, f64::INFINITY),
        ("1 step, clipped to 0.004", 1, clip),
        ("20 steps, clipped to 0.004", 20, clip),
    ] {
        line(name, descend(start, steps, most)?)?;
    }
    let points: Vec<(f64, f64)> = (-50..=50)
        .map(|at| Ok((f64::from(at), loss(0.01 * f64::from(at))?.0)))
        .collect::<Result<_, Box<dyn Error>>>()?;
    let title = "The loss of the 30th step, and its cliff";
    let lines: &[(&str, &[(f64, f64)])] = &[("loss", &points)];
    draw("clipping", &LinesPlot { title, x: "100 b", y: "loss", lines })
}
