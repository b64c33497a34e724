//! A product of many matrices vanishes or explodes.

use crate::parts::plot;
use gatefold::layers::{Activation, Init, LayerConfig, LstmConfig, RnnConfig};
use gatefold::training::Reduction;
use gatefold::{Device, Loss, Network, NetworkConfig};
use ndarray::Array3;
use std::error::Error;

const STEPS: usize = 60;
const HIDDEN: usize = 16;

/// The norm of the gradient of the last step's error with respect to h before each step, or to an LSTM's c.
fn norms(layer: LayerConfig, scale: f32) -> Result<Vec<f64>, Box<dyn Error>> {
    let config = NetworkConfig::new(1, [layer, LayerConfig::LastStep])?;
    let mut network = Network::new(&Device::cpu()?, &config, 1)?;
    let mut parameters = network.parameters()?;
    parameters.get_mut("rnn0.weight_hh_l0").expect("it has one").mapv_inplace(|weight| scale * weight);
    network.set_parameters(&parameters)?;
    let input = Array3::from_shape_fn((STEPS, 1, 1), |(t, _, _)| (0.7 * t as f32).sin());
    let target = Array3::from_elem((1, 1, HIDDEN), 3.0);
    let flow = network.gradient_flow(&input, &target, &Loss::SquaredError, Reduction::Mean)?;
    let layer = &flow.layers[0];
    Ok(layer.cell.as_ref().unwrap_or(&layer.hidden).clone())
}

pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let linear = || RnnConfig::new(HIDDEN).activation(Activation::Identity).recurrent_init(Init::Orthogonal);
    let tanh = || RnnConfig::new(HIDDEN).recurrent_init(Init::Orthogonal);
    let lstm = |bias| LstmConfig::new(HIDDEN).forget_bias(bias);
    let networks: [(&str, LayerConfig, f32); 7] = [
        ("linear, W scaled by 0.9", linear().into(), 0.9),
        ("linear, W orthogonal", linear().into(), 1.0),
        ("linear, W scaled by 1.1", linear().into(), 1.1),
        ("tanh, W orthogonal", tanh().into(), 1.0),
        ("lstm, forget bias 0", lstm(0.0).into(), 1.0),
        ("lstm, forget bias 1", lstm(1.0).into(), 1.0),
        ("lstm, forget bias 2", lstm(2.0).into(), 1.0),
    ];
    println!("{:<26}{:>14}", "", "kept a step");
    let mut lines = Vec::new();
    for (name, layer, scale) in networks {
        let norms = norms(layer, scale)?;
        // The mean factor from one step to the one before, over the first 50 steps.
        let kept = (norms[0] / norms[50]).powf(1.0 / 50.0);
        println!("{name:<26}{kept:>14.2}");
        lines.push((name, norms));
    }
    plot("vanishing", ("Gradient of the last step's error", "time step", "norm"), &lines)
}
