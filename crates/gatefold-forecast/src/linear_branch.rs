//! The weights that a network's linear branch starts from: those of a regression, as a convolution of the window.

use crate::ForecastError;
use gatefold::{NetworkConfig, Parameters};
use gatefold_model::{LayerKind, Role};
use ndarray::{Array1, Array3, s};

/// Weights and biases of a convolution that reads the whole window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinearStart {
    /// `[horizon, width, steps]`
    pub(crate) weight: Array3<f32>,
    /// `[horizon]`
    pub(crate) bias: Array1<f32>,
}

impl LinearStart {
    /// Zeros for windows of this many steps and values per step.
    pub(crate) fn zeros((steps, width): (usize, usize), horizon: usize) -> Self {
        LinearStart { weight: Array3::zeros((horizon, width, steps)), bias: Array1::zeros(horizon) }
    }

    /// Initial parameters of a network: its first outputs are those of this regression. The linear branch has these
    /// weights for the medians and zeros for the other outputs, and the last layer of the other branch has zeros.
    pub(crate) fn parameters(&self, config: &NetworkConfig, seed: u64) -> Result<Parameters, ForecastError> {
        let mut parameters = Parameters::initial(config, seed)?;
        let layers = config.layers();
        let last = layers.iter().rfind(|layer| matches!(layer.kind, LayerKind::Dense { .. }));
        let linear = layers.iter().find(|layer| matches!(layer.kind, LayerKind::Conv1d(_)));
        for spec in last.into_iter().chain(linear).flat_map(|layer| &layer.parameters) {
            let parameter = parameters.get_mut(&spec.name).expect("it is one of the network's");
            parameter.fill(0.0);
            let horizon = self.bias.len();
            match spec.role {
                Role::ConvWeight => parameter.slice_mut(s![..horizon, .., ..]).assign(&self.weight),
                Role::ConvBias => parameter.slice_mut(s![..horizon]).assign(&self.bias),
                _ => {}
            }
        }
        Ok(parameters)
    }
}

/// Sets the biases of the linear branch's outputs after the first of each step: `raw[output][step]`.
pub(crate) fn set_bands(parameters: &mut Parameters, config: &NetworkConfig, raw: &[Vec<f32>]) {
    let linear = config.layers().iter().find(|layer| matches!(layer.kind, LayerKind::Conv1d(_)));
    for spec in linear.into_iter().flat_map(|layer| &layer.parameters) {
        if spec.role == Role::ConvBias {
            let bias = parameters.get_mut(&spec.name).expect("it is one of the network's");
            let horizon = bias.len() / (raw.len() + 1);
            bias.iter_mut().skip(horizon).zip(raw.iter().flatten()).for_each(|(to, value)| *to = *value);
        }
    }
}
