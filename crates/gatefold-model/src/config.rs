use crate::resolve::resolve;
use crate::{
    Activation, Graph, GruConfig, Init, Layer, LayerKind, LstmConfig, ModelError, NetworkBuilder, RnnConfig,
    Timeline,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A dense layer, applied to every time step alike: `y = act(x W^T + b)`, or without `b`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseConfig {
    pub(crate) output: usize,
    pub(crate) activation: Activation,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(crate) bias: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(bias: &bool) -> bool {
    *bias
}

impl DenseConfig {
    /// A dense layer with a bias and no activation: `[T, B, input]` in, `[T, B, output]` out.
    pub fn new(output: usize) -> Self {
        DenseConfig { output, activation: Activation::Identity, bias: true, init: None }
    }

    /// How `weight` begins; by default He in front of a relu, else Glorot. `bias` begins at zero.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// The function applied to each output; the identity by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Whether there is a `b`; there is by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// A table of vectors, one for each token: `[T, B, 1]` of token numbers in, `[T, B, width]` out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingConfig {
    pub(crate) tokens: usize,
    pub(crate) output: usize,
    #[serde(default = "unit_normal")]
    pub(crate) init: Init,
}

fn unit_normal() -> Init {
    Init::Normal(1.0)
}

impl EmbeddingConfig {
    /// Vectors of `width` numbers for tokens `0..tokens`.
    pub fn new(tokens: usize, width: usize) -> Self {
        EmbeddingConfig { tokens, output: width, init: unit_normal() }
    }

    /// How the vectors begin; Gaussian with standard deviation 1 by default, as in PyTorch.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }
}

/// Where the encoder ends and the decoder begins: layers behind it read the decoder's own input, and their recurrent
/// layers start from the final states of the encoder's.
///
/// The j-th recurrent layer of the decoder starts from the j-th of the encoder, or from its last if it has fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    pub(crate) input: usize,
    #[serde(default)]
    pub(crate) bridge: Bridge,
}

/// How final states of an encoder become initial states of a decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bridge {
    /// As they are; the widths must be equal. Directions lie side by side, forward first.
    #[default]
    Same,
    /// A dense layer for each state; c comes from h where the encoder has no c.
    Dense {
        /// Its function.
        activation: Activation,
    },
}

impl DecoderConfig {
    /// A decoder whose input has `input` values a step; states are handed over as they are.
    pub fn new(input: usize) -> Self {
        DecoderConfig { input, bridge: Bridge::Same }
    }

    /// How states are handed over; as they are by default.
    pub fn bridge(mut self, bridge: Bridge) -> Self {
        self.bridge = bridge;
        self
    }
}

/// What stands in the steps behind the first of an expanded sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expansion {
    /// Zeros.
    #[default]
    Zeros,
    /// The first step again.
    Repeat,
}

/// One layer as its maker writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerConfig {
    /// A vanilla recurrent layer.
    Rnn(RnnConfig),
    /// A long short-term memory layer.
    Lstm(LstmConfig),
    /// A gated recurrent unit layer.
    Gru(GruConfig),
    /// A dense layer.
    Dense(DenseConfig),
    /// A table of vectors for tokens.
    Embedding(EmbeddingConfig),
    /// In training, sets values to zero with probability `rate` and divides the others by `1 - rate` (Srivastava et al.
    /// 2014); in inference, nothing.
    Dropout {
        /// From 0 to below 1.
        rate: f32,
    },
    /// `exp(x_k) / sum_j exp(x_j)` over the values of a step.
    Softmax,
    /// Adds what layer `from` got as its input, from 0: a connection around the layers from there to here.
    Residual {
        /// The layer whose input is added.
        from: usize,
    },
    /// Keeps the last time step alone, each row's own: `[T, B, F]` to `[1, B, F]`.
    LastStep,
    /// Keeps the final h of the recurrent layer before it, both directions side by side: `[T, B, F]` to `[1, B, D R]`.
    FinalState,
    /// Makes one step into several: `[1, B, F]` to `[steps, B, F]`.
    Expand {
        /// How many.
        steps: usize,
        /// What the others hold.
        #[serde(default)]
        fill: Expansion,
    },
    /// The end of an encoder and the beginning of a decoder.
    Decoder(DecoderConfig),
    /// The same layer as an earlier one, sharing its parameters; their gradients add up.
    Tied {
        /// The earlier layer, counted from 0.
        to: usize,
    },
}

/// A layer's own config as a layer of a network.
macro_rules! layers {
    ($($config:ident => $layer:ident),*) => {$(
        impl From<$config> for LayerConfig {
            fn from(config: $config) -> Self {
                LayerConfig::$layer(config)
            }
        }
    )*};
}

layers!(
    RnnConfig => Rnn,
    LstmConfig => Lstm,
    GruConfig => Gru,
    DenseConfig => Dense,
    EmbeddingConfig => Embedding,
    DecoderConfig => Decoder
);

/// A whole network: how wide its input is, and its layers in order. Valid by construction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct NetworkConfig {
    input: usize,
    configs: Vec<LayerConfig>,
    layers: Vec<Layer>,
    graph: Graph,
}

/// What stands in a file before it is checked.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    input: usize,
    layers: Vec<LayerConfig>,
}

impl NetworkConfig {
    /// Begins a network for inputs of `input` values a step, to be written layer by layer.
    ///
    /// ```
    /// use gatefold_model::{Activation, DenseConfig, NetworkConfig};
    ///
    /// let relu = DenseConfig::new(20).activation(Activation::Relu);
    /// let config = NetworkConfig::with_input(1).lstm(32).dropout(0.1).last_step().layer(relu).dense(1).build()?;
    /// assert_eq!(config.output(), 1);
    /// # Ok::<(), gatefold_model::ModelError>(())
    /// ```
    pub fn with_input(input: usize) -> NetworkBuilder {
        NetworkBuilder::new(input)
    }

    /// A network for inputs of `input` values a step, from a list of layers.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the layer and says what is wrong: a width of zero, a layer tied to one that does not
    /// come before it, options that make no sense together, or no layer at all.
    pub fn new(input: usize, layers: impl Into<Vec<LayerConfig>>) -> Result<Self, ModelError> {
        let configs = layers.into();
        let (layers, graph) = resolve(input, &configs)?;
        Ok(NetworkConfig { input, configs, layers, graph })
    }

    /// Values a time step that go in.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Values a time step that come out.
    pub fn output(&self) -> usize {
        self.layers.last().map_or(self.input, |layer| layer.output)
    }

    /// How many time steps come out when `steps` go in; behind an encoder, when `steps` go into the decoder.
    pub fn output_steps(&self, steps: usize) -> usize {
        self.timeline().steps(steps)
    }

    /// The time axis of the output.
    pub fn timeline(&self) -> Timeline {
        self.layers.last().map_or(Timeline::Input, |layer| layer.timeline)
    }

    /// The index of the layer at which the decoder begins, if there is one.
    pub fn decoder(&self) -> Option<usize> {
        self.layers.iter().position(|layer| matches!(layer.kind, LayerKind::Decoder { .. }))
    }

    /// The recurrent layers, in order.
    pub fn recurrent_layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.recurrent().is_some())
    }

    /// The layers, with shapes and parameters worked out and ties resolved.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The connections between the layers: what each reads, who reads its output, and how states pass between them.
    pub fn graph(&self) -> &Graph {
        &self.graph
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
        for (layer, config) in self.layers.iter().zip(&self.configs) {
            match (config, layer.kind) {
                (LayerConfig::Tied { to }, _) => write!(f, " -> tied to layer {to}")?,
                (_, kind) => write!(f, " -> {}", kind.describe(layer.output))?,
            }
        }
        Ok(())
    }
}
