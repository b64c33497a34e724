//! A linear system with a state, which is a recurrent layer without a squashing function.

use crate::parts::{head, network, plot, row, sequence, steps};
use gatefold::layers::{Activation, DenseConfig, RnnConfig};
use std::error::Error;

/// Answers of `h(t) = A h(t-1) + B x(t)`, `y(t) = C h(t)` to a single pulse, where A turns by an angle and scales.
fn response(scale: f32, angle: f32, count: usize) -> Result<Vec<f32>, Box<dyn Error>> {
    let (sin, cos) = angle.sin_cos();
    let layers = vec![RnnConfig::new(2).activation(Activation::Identity).into(), DenseConfig::new(1).into()];
    let network = network(
        1,
        layers,
        &[
            ("rnn0.weight_hh_l0", &[scale * cos, -scale * sin, scale * sin, scale * cos]), // A
            ("rnn0.weight_ih_l0", &[0.0, 1.0]),                                            // B
            ("dense0.weight", &[0.0, 1.0]),                                                // C
        ],
    )?;
    let mut pulse = vec![0.0; count];
    pulse[0] = 1.0;
    Ok(steps(&network.predict(sequence(&pulse))?))
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let angle = std::f32::consts::TAU / 12.0;
    let scales = [("eigenvalues of size 0.9", 0.9), ("of size 1", 1.0), ("of size 1.05", 1.05)];
    head("step", (0..=24).step_by(4));
    let mut lines = Vec::new();
    for (name, scale) in scales {
        let response = response(scale, angle, 49)?;
        row(name.trim_start_matches("eigenvalues "), response.iter().step_by(4).take(7).copied());
        lines.push((name, response.iter().map(|value| f64::from(*value)).collect()));
    }
    plot("state-space", ("The answer of a state of two numbers to one pulse", "time step", "y"), &lines)
}
