use crate::{Activation, Init, Layer, LayerKind, ModelError, layer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A long short-term memory layer; the equations are in docs/numerics.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmConfig {
    pub(crate) hidden: usize,
    pub(crate) forget_bias: f32,
    #[serde(default = "glorot")]
    pub(crate) input_init: Init,
    #[serde(default = "orthogonal")]
    pub(crate) recurrent_init: Init,
}

fn glorot() -> Init {
    Init::Glorot
}

fn orthogonal() -> Init {
    Init::Orthogonal
}

impl LstmConfig {
    /// An LSTM with `hidden` units: `[T, B, input]` in, `[T, B, hidden]` out.
    pub fn new(hidden: usize) -> Self {
        LstmConfig { hidden, forget_bias: 1.0, input_init: glorot(), recurrent_init: orthogonal() }
    }

    /// How `weight_ih` begins, each gate's rows as a matrix of its own; Glorot by default.
    pub fn input_init(mut self, init: Init) -> Self {
        self.input_init = init;
        self
    }

    /// How `weight_hh` begins, each gate's rows as a matrix of its own; orthogonal by default.
    pub fn recurrent_init(mut self, init: Init) -> Self {
        self.recurrent_init = init;
        self
    }

    /// The forget gate's bias before training, 1 by default (Gers et al. 2000; Jozefowicz et al. 2015). It is put
    /// into `bias_ih`; `bias_hh` starts at zero, since only their sum counts.
    pub fn forget_bias(mut self, value: f32) -> Self {
        self.forget_bias = value;
        self
    }

    /// The number of units.
    pub fn hidden(&self) -> usize {
        self.hidden
    }
}

/// A dense layer, applied to every time step alike: `y = act(x W^T + b)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseConfig {
    pub(crate) output: usize,
    pub(crate) activation: Activation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
}

impl DenseConfig {
    /// A dense layer with `output` values a step and no activation.
    pub fn new(output: usize) -> Self {
        DenseConfig { output, activation: Activation::Identity, init: None }
    }

    /// How `weight` begins; by default He in front of a relu, else Glorot.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// The function applied to each output; the identity by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }
}

/// One layer as its maker writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerConfig {
    /// A long short-term memory layer.
    Lstm(LstmConfig),
    /// A dense layer.
    Dense(DenseConfig),
    /// Keeps the last time step alone: `[T, B, F]` to `[1, B, F]`.
    LastStep,
    /// The same layer as an earlier one, sharing its parameters; their gradients add up.
    Tied {
        /// The earlier layer, counted from 0.
        to: usize,
    },
}

impl From<LstmConfig> for LayerConfig {
    fn from(config: LstmConfig) -> Self {
        LayerConfig::Lstm(config)
    }
}

impl From<DenseConfig> for LayerConfig {
    fn from(config: DenseConfig) -> Self {
        LayerConfig::Dense(config)
    }
}

/// A whole network: how wide its input is, and its layers in order. Valid by construction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct NetworkConfig {
    input: usize,
    configs: Vec<LayerConfig>,
    layers: Vec<Layer>,
}

/// What stands in a file before it is checked.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    input: usize,
    layers: Vec<LayerConfig>,
}

impl NetworkConfig {
    /// A network for inputs of `input` values a step.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the layer: a width of zero, a second `LastStep`, a layer tied to one that does
    /// not come before it or whose input is of another width, or no layer at all.
    pub fn new(input: usize, layers: impl Into<Vec<LayerConfig>>) -> Result<Self, ModelError> {
        let configs = layers.into();
        let layers = layer::resolve(input, &configs)?;
        Ok(NetworkConfig { input, configs, layers })
    }

    /// Values a time step that go in.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Values a time step that come out.
    pub fn output(&self) -> usize {
        self.layers.last().map_or(self.input, |layer| layer.output)
    }

    /// How many time steps come out when `steps` go in.
    pub fn output_steps(&self, steps: usize) -> usize {
        if self.layers.iter().any(|layer| layer.kind == LayerKind::LastStep) { 1 } else { steps }
    }

    /// The layers, with shapes and parameters worked out and ties resolved.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The layers as they were written.
    pub fn layer_configs(&self) -> &[LayerConfig] {
        &self.configs
    }

    /// Numbers that training can change; a tied layer adds none.
    pub fn parameter_count(&self) -> usize {
        self.parameter_specs().map(|spec| spec.len()).sum()
    }

    /// Every parameter once, in the order of the layers that own them.
    pub fn parameter_specs(&self) -> impl Iterator<Item = &crate::ParameterSpec> {
        self.layers.iter().filter(|layer| layer.owner == layer.index).flat_map(|layer| &layer.parameters)
    }
}

impl TryFrom<Unchecked> for NetworkConfig {
    type Error = ModelError;
    fn try_from(found: Unchecked) -> Result<Self, ModelError> {
        NetworkConfig::new(found.input, found.layers)
    }
}

impl From<NetworkConfig> for Unchecked {
    fn from(config: NetworkConfig) -> Self {
        Unchecked { input: config.input, layers: config.configs }
    }
}

/// `100 -> lstm 100 -> lstm 100 -> last step -> dense 100 relu -> dense 100`
impl fmt::Display for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.input)?;
        for layer in &self.configs {
            match layer {
                LayerConfig::Lstm(lstm) => write!(f, " -> lstm {}", lstm.hidden)?,
                LayerConfig::Dense(DenseConfig { output, activation: Activation::Identity, .. }) => {
                    write!(f, " -> dense {output}")?;
                }
                LayerConfig::Dense(dense) => write!(f, " -> dense {} {}", dense.output, dense.activation)?,
                LayerConfig::LastStep => write!(f, " -> last step")?,
                LayerConfig::Tied { to } => write!(f, " -> tied to layer {to}")?,
            }
        }
        Ok(())
    }
}
