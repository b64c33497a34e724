use crate::resolve::resolve;
use crate::{
    Activation, Conv1dConfig, CustomConfig, Graph, GruConfig, Init, Layer, LayerKind, LayerNorm, LstmConfig,
    ModelError, NetworkBuilder, ParallelConfig, RnnConfig, Source, Timeline,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A dense layer, applied to each time step: `y = act(x W^T + b)`, or without `b`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseConfig {
    pub(crate) output: usize,
    pub(crate) activation: Activation,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub(crate) bias: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Init>,
}

fn epsilon() -> f32 {
    LayerNorm::default().epsilon
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

    /// Sets how `weight` is initialised: by default He if a relu follows, else Glorot. `bias` is initialised to zero.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// Sets the function applied to each output; the identity by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Adds or removes `b`; it is there by default.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }
}

/// A table of vectors, one per token: `[T, B, 1]` of token numbers in, `[T, B, width]` out.
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
    /// A table of vectors of `width` numbers for the tokens `0..tokens`.
    pub fn new(tokens: usize, width: usize) -> Self {
        EmbeddingConfig { tokens, output: width, init: unit_normal() }
    }

    /// Sets how the vectors are initialised; Gaussian with standard deviation 1 by default, as in PyTorch.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }
}

/// The boundary between encoder and decoder: layers after it read the decoder's own input, and its recurrent layers
/// take their initial states from the encoder's final states.
///
/// The j-th recurrent layer of the decoder takes the states of the j-th of the encoder, or of its last if it has fewer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    pub(crate) input: usize,
    #[serde(default)]
    pub(crate) bridge: Bridge,
}

/// The way final states of an encoder become initial states of a decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bridge {
    /// Unchanged; the widths must be equal. Directions lie side by side, forward first.
    #[default]
    Same,
    /// Through a dense layer per state; c is made from h where the encoder has no c.
    Dense {
        /// The layer's activation.
        activation: Activation,
    },
}

impl DecoderConfig {
    /// A decoder whose input has `input` values per step; states are handed over unchanged.
    pub fn new(input: usize) -> Self {
        DecoderConfig { input, bridge: Bridge::Same }
    }

    /// Sets how states are handed over; unchanged by default.
    pub fn bridge(mut self, bridge: Bridge) -> Self {
        self.bridge = bridge;
        self
    }
}

/// The content of an expanded sequence after its first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expansion {
    /// Zeros.
    #[default]
    Zeros,
    /// The first step, repeated.
    Repeat,
}

/// One layer, as written by whoever describes a network.
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
    /// A layer of a cell that the program brought along.
    Custom(CustomConfig),
    /// A dense layer.
    Dense(DenseConfig),
    /// A convolution over time.
    Conv1d(Conv1dConfig),
    /// A table of vectors, one per token.
    Embedding(EmbeddingConfig),
    /// In training, sets values to zero with probability `rate` and divides the others by `1 - rate` (Srivastava et al.
    /// 2014); in inference, does nothing.
    Dropout {
        /// The probability, at least 0 and below 1.
        rate: f32,
    },
    /// `exp(x_k) / sum_j exp(x_j)` over the values of a step.
    Softmax,
    /// Layer normalisation (Ba, Kiros and Hinton 2016) as a layer, PyTorch's `nn.LayerNorm`:
    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the values of a step. [`LayerNorm`] is another thing: it
    /// normalises within the steps of a recurrent layer.
    Normalise {
        /// Added to the variance; 1e-5 by default, as in PyTorch.
        #[serde(default = "epsilon")]
        epsilon: f32,
    },
    /// Adds the input of layer `from` to its own: a connection around the layers in between.
    Residual {
        /// The layer whose input is added, counted from 0 through all branches; of a merge, the input of its branches.
        from: usize,
    },
    /// Keeps only each row's own last time step: `[T, B, F]` to `[1, B, F]`.
    LastStep,
    /// Keeps only the final h of the recurrent layer before it, both directions side by side: `[T, B, F]` to
    /// `[1, B, D R]`.
    FinalState,
    /// Keeps the largest value of each row's own steps, for each feature: `[T, B, F]` to `[1, B, F]`. A row without steps gets
    /// zeros.
    MaxPool,
    /// Keeps the mean over each row's own steps, for each feature: `[T, B, F]` to `[1, B, F]`. A row without steps gets zeros.
    MeanPool,
    /// Turns one step into several: `[1, B, F]` to `[steps, B, F]`.
    Expand {
        /// The number of steps.
        steps: usize,
        /// The content of the other steps.
        #[serde(default)]
        fill: Expansion,
    },
    /// The end of an encoder and the beginning of a decoder.
    Decoder(DecoderConfig),
    /// The same layer as an earlier one, sharing its parameters; their gradients add up.
    Tied {
        /// The earlier layer, counted from 0 through all branches.
        to: usize,
    },
    /// Branches that read the same input, and whose outputs become one.
    Parallel(ParallelConfig),
}

/// Converts a layer's own config to a layer of a network.
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
    CustomConfig => Custom,
    DenseConfig => Dense,
    Conv1dConfig => Conv1d,
    EmbeddingConfig => Embedding,
    DecoderConfig => Decoder,
    ParallelConfig => Parallel
);

/// A whole network: its input width and its layers in order. Valid by construction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct NetworkConfig {
    input: usize,
    configs: Vec<LayerConfig>,
    layers: Vec<Layer>,
    graph: Graph,
}

/// The content of a file before it is checked.
#[derive(Serialize, Deserialize)]
struct Unchecked {
    input: usize,
    layers: Vec<LayerConfig>,
}

impl NetworkConfig {
    /// Begins a network for inputs of `input` values per step, to be written layer by layer.
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

    /// A network for inputs of `input` values per step, from a list of layers.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the layer and the problem: a width of zero, a layer tied to one that does not come
    /// before it, options that exclude each other, or no layer at all.
    pub fn new(input: usize, layers: impl Into<Vec<LayerConfig>>) -> Result<Self, ModelError> {
        let configs = layers.into();
        let (layers, graph) = resolve(input, &configs)?;
        Ok(NetworkConfig { input, configs, layers, graph })
    }

    /// The input width: values per time step.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The output width: values per time step.
    pub fn output(&self) -> usize {
        self.layers.last().map_or(self.input, |layer| layer.output)
    }

    /// The number of time steps that come out when `steps` go in; with a decoder, when `steps` go into the decoder.
    pub fn output_steps(&self, steps: usize) -> usize {
        self.timeline().steps(steps)
    }

    /// Checks that a row of `steps` steps is long enough for the convolutions that read the network's input. A row without
    /// steps stays without steps.
    ///
    /// # Errors
    /// The number of steps expected, and for which layer: `at least 6 steps for layer 2 (conv1d)`.
    pub fn check_steps(&self, steps: usize) -> Result<(), String> {
        let mut needed = None;
        for layer in &self.layers {
            let read = self.graph.node(layer.index).inputs.first();
            let timing = read.and_then(|&source| self.timeline_of(source).timing());
            if let (LayerKind::Conv1d(conv), Some(timing)) = (layer.kind, timing) {
                let least = timing.least(conv.least());
                needed =
                    Some((least, layer)).filter(|_| needed.is_none_or(|(most, _)| least > most)).or(needed);
            }
        }
        match needed.filter(|&(least, _)| 0 < steps && steps < least) {
            Some((least, layer)) => Err(format!("at least {least} steps for {}", layer.place())),
            None => Ok(()),
        }
    }

    /// The time axis of the output.
    pub fn timeline(&self) -> Timeline {
        self.layers.last().map_or(Timeline::Input, |layer| layer.timeline)
    }

    /// The time axis of a value.
    fn timeline_of(&self, source: Source) -> Timeline {
        match source {
            Source::Input => Timeline::Input,
            Source::DecoderInput => Timeline::Decoder,
            Source::Output(layer) => self.layers[layer].timeline,
            Source::FinalHidden(_) => Timeline::Single,
        }
    }

    /// The index of the layer at which the decoder begins, if there is one.
    pub fn decoder(&self) -> Option<usize> {
        self.layers.iter().position(|layer| matches!(layer.kind, LayerKind::Decoder { .. }))
    }

    /// The recurrent layers, in order.
    pub fn recurrent_layers(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.recurrent().is_some())
    }

    /// Whether training draws random masks: in dropout layers, or within recurrent ones.
    pub fn has_noise(&self) -> bool {
        self.layers.iter().any(|layer| match layer.kind {
            LayerKind::Dropout { .. } => true,
            LayerKind::Recurrent(recurrent) => recurrent.noise.is_on(),
            _ => false,
        })
    }

    /// The layers, with shapes and parameters worked out and ties resolved. Those of parallel branches lie one branch
    /// after another, and then comes the [`LayerKind::Merge`] that joins them.
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

    /// The count of trainable numbers, at most `usize::MAX`; a tied layer adds none.
    pub fn parameter_count(&self) -> usize {
        self.parameter_specs().fold(0, |count: usize, spec| count.saturating_add(spec.len()))
    }

    /// Each parameter once, in the order of the layers that own them.
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

/// `100 -> lstm 100 -> lstm 100 -> last step -> dense 100 relu -> dense 100`, and for parallel branches
/// `4 -> parallel sum (gru 16 -> last step -> dense 3 | last step -> dense 3)`
impl fmt::Display for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.input, described(&self.configs, &mut self.layers.iter()))
    }
}

/// Layers in a few words each; their resolved forms are the next of `layers`.
fn described<'a>(configs: &[LayerConfig], layers: &mut impl Iterator<Item = &'a Layer>) -> String {
    let mut words = Vec::with_capacity(configs.len());
    for config in configs {
        let branches: Vec<String> = match config {
            LayerConfig::Parallel(parallel) => {
                parallel.branches.iter().map(|branch| described(branch, layers)).collect()
            }
            _ => Vec::new(),
        };
        let layer = layers.next().expect("every layer was resolved");
        let own = layer.kind.describe(layer.output);
        words.push(match config {
            LayerConfig::Tied { to } => format!("tied to layer {to}"),
            LayerConfig::Parallel(_) => format!("{own} ({})", branches.join(" | ")),
            _ => own,
        });
    }
    // A branch without layers passes its input on.
    if words.is_empty() { "identity".into() } else { words.join(" -> ") }
}
