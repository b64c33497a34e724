use crate::{Activation, Conv1dConfig, LayerConfig};

/// Everything that a state_dict leaves out: the order of the modules, and the layers between them that have no tensors.
///
/// As text, steps are separated by commas. A step is a module, named by the prefix of its tensors (`.` for a bare
/// module, whose tensors have none) and followed by optional words:
///
/// | words after a module | |
/// |---|---|
/// | `embedding`, `linear` | the kind of a weight without a bias |
/// | `layer_norm` | the kind of a lone weight with one axis: an `nn.LayerNorm` with `bias=False` |
/// | a function | the `nonlinearity` of an `nn.RNN`; after any other module, the function of its output |
/// | `dropout RATE` | between the layers of a stack |
/// | `stride STEPS`, `dilation STEPS`, `padding LEFT RIGHT`, `causal` | of an `nn.Conv1d` |
/// | `eps VALUE` | of an `nn.LayerNorm` or an `nn.BatchNorm1d` |
///
/// Or it is one of these, without tensors:
///
/// | step | |
/// |---|---|
/// | `last_step`, `final_state`, `max_pool`, `mean_pool`, `softmax`, `dropout RATE` | the layer of this name |
/// | `decoder WIDTH` | the beginning of a decoder, whose modules read inputs of that width (1 for tokens) |
/// | a function | applied to the output of the step before it |
/// | `residual NAME`, `residual` | adds the input of an earlier module; without a name, of the last one listed before it |
/// | `layer_norm`, `layer_norm eps VALUE` | an `nn.LayerNorm` with `elementwise_affine=False` |
///
/// Functions are `identity`, `relu`, `tanh`, `sigmoid`, `softsign`, `softplus`, `leaky_relu(SLOPE)`, `elu(ALPHA)`,
/// `hard_sigmoid(SLOPE, OFFSET)`, `thresholded_relu(THRESHOLD)`, `affine(SLOPE, OFFSET)` and `scaled_tanh(BOUND, FACTOR)`.
/// The names `leaky_relu`, `elu` and `hard_sigmoid` alone have PyTorch's defaults: 0.01, 1, and 1/6 with 0.5.
///
/// A word that is also a module of the file, such as `decoder` or `softmax`, is the module. A dot before it makes it one
/// in any case (`.softmax`), parentheses after it a step (`softmax()`, `decoder(3)`).
///
/// An example: `table embedding, rnn relu dropout 0.1, last_step, head relu, answer, softmax`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    steps: Vec<Given>,
    pub(super) ignored: Vec<String>,
}

/// A step as it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Step(Step),
    /// Words that mean a module where the file has it, and else a step of its own, if they mean one.
    Either(ModuleStep, Result<Box<Step>, String>),
}

impl ReadOptions {
    /// The default: only the modules, in the one order that fits.
    pub fn new() -> Self {
        ReadOptions::default()
    }

    /// Sets the order: each module once, as data passes through them, with the layers in between.
    pub fn steps(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps = steps.into().into_iter().map(Given::Step).collect();
        self
    }

    /// Leaves out tensors, each name being that of a tensor or of a module.
    pub fn ignore<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ignored = names.into_iter().map(Into::into).collect();
        self
    }

    /// The options of steps that were given as text.
    pub(super) fn of_given(steps: Vec<Given>) -> Self {
        ReadOptions { steps, ignored: Vec::new() }
    }

    /// The steps for a file with these modules; empty if no order was given.
    pub(super) fn steps_for(&self, is_module: impl Fn(&str) -> bool) -> Result<Vec<Step>, String> {
        let step = |given: &Given| match given {
            Given::Step(step) => Ok(step.clone()),
            Given::Either(module, _) if is_module(&module.prefix) => Ok(Step::Module(module.clone())),
            Given::Either(_, step) => step.clone().map(|step| *step),
        };
        self.steps.iter().map(step).collect()
    }
}

/// One step of the network to read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A module of the state_dict.
    Module(ModuleStep),
    /// A layer without parameters, such as [`LayerConfig::LastStep`].
    Layer(LayerConfig),
    /// A function of the output of the step before it.
    Function(Activation),
    /// Adds the input of an earlier module, named by its prefix; `None` for the last one before it.
    Residual(Option<String>),
    /// An `nn.LayerNorm` with `elementwise_affine=False`, which has no tensors; its epsilon, 1e-5 by default.
    LayerNorm(Option<f64>),
}

impl Step {
    /// The module whose tensors have this prefix, without the dot after it; empty for a bare module.
    pub fn module(prefix: impl Into<String>) -> ModuleStep {
        ModuleStep {
            prefix: prefix.into(),
            activation: None,
            embedding: None,
            dropout: None,
            eps: None,
            conv: Vec::new(),
            layer_norm: false,
        }
    }
}

impl From<ModuleStep> for Step {
    fn from(step: ModuleStep) -> Self {
        Step::Module(step)
    }
}

impl From<LayerConfig> for Step {
    fn from(layer: LayerConfig) -> Self {
        Step::Layer(layer)
    }
}

/// A module of a state_dict, with the properties that its tensors do not show.
#[derive(Clone, Debug, PartialEq)]
pub struct ModuleStep {
    pub(super) prefix: String,
    pub(super) activation: Option<Activation>,
    /// Whether a weight without a bias belongs to an Embedding or to a Linear.
    pub(super) embedding: Option<bool>,
    pub(super) dropout: Option<f32>,
    pub(super) eps: Option<f64>,
    pub(super) conv: Vec<ConvOption>,
    /// Whether a lone weight with one axis is that of an `nn.LayerNorm`.
    pub(super) layer_norm: bool,
}

/// An option of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ConvOption {
    Stride(usize),
    Dilation(usize),
    Padding(usize, usize),
    Causal,
}

impl ConvOption {
    pub(super) fn apply(self, conv: Conv1dConfig) -> Conv1dConfig {
        match self {
            ConvOption::Stride(steps) => conv.stride(steps),
            ConvOption::Dilation(steps) => conv.dilation(steps),
            ConvOption::Padding(left, right) => conv.padding(left, right),
            ConvOption::Causal => conv.causal(),
        }
    }
}

impl ModuleStep {
    /// Sets the `nonlinearity` of an `nn.RNN`, tanh by default, or the activation after an `nn.Linear`, an `nn.Conv1d`, an
    /// `nn.BatchNorm1d` or an `nn.LayerNorm`. Between two `nn.Linear`s it must be said, if only as the identity.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Declares a `weight` without a bias to be an `nn.Embedding`.
    pub fn embedding(mut self) -> Self {
        self.embedding = Some(true);
        self
    }

    /// Declares a `weight` without a bias to be an `nn.Linear`.
    pub fn linear(mut self) -> Self {
        self.embedding = Some(false);
        self
    }

    /// Declares a lone weight with one axis to be that of an `nn.LayerNorm` with `bias=False`; an `nn.RMSNorm` or an
    /// `nn.PReLU` has such a weight too.
    pub fn layer_norm(mut self) -> Self {
        self.layer_norm = true;
        self
    }

    /// Sets the stride of an `nn.Conv1d`, 1 by default.
    pub fn stride(self, steps: usize) -> Self {
        self.conv_option(ConvOption::Stride(steps))
    }

    /// Sets the dilation of an `nn.Conv1d`, 1 by default.
    pub fn dilation(self, steps: usize) -> Self {
        self.conv_option(ConvOption::Dilation(steps))
    }

    /// Sets the steps of zeros before and after the sequence that an `nn.Conv1d` reads, none by default; a padding of one
    /// number is that many on both sides.
    pub fn padding(self, left: usize, right: usize) -> Self {
        self.conv_option(ConvOption::Padding(left, right))
    }

    /// Puts as many steps of zeros before the sequence that an `nn.Conv1d` reads as make it causal, and none after it.
    pub fn causal(self) -> Self {
        self.conv_option(ConvOption::Causal)
    }

    /// Sets the epsilon of an `nn.LayerNorm` or an `nn.BatchNorm1d`, 1e-5 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = Some(eps);
        self
    }

    /// Whether zeros are put beside what it reads.
    pub(super) fn is_padded(&self) -> bool {
        let pads = |option: &ConvOption| matches!(option, ConvOption::Causal | ConvOption::Padding(..));
        self.conv.iter().any(|option| pads(option) && *option != ConvOption::Padding(0, 0))
    }

    /// Whether a stride, a dilation and a padding were said.
    pub(super) fn said_of_conv(&self) -> [bool; 3] {
        let said = |of: fn(&ConvOption) -> bool| self.conv.iter().any(of);
        [
            said(|option| matches!(option, ConvOption::Stride(_))),
            said(|option| matches!(option, ConvOption::Dilation(_))),
            said(|option| matches!(option, ConvOption::Padding(..) | ConvOption::Causal)),
        ]
    }

    fn conv_option(mut self, option: ConvOption) -> Self {
        self.conv.push(option);
        self
    }

    /// Sets the dropout between the layers of a recurrent module; none by default.
    pub fn dropout(mut self, rate: f32) -> Self {
        self.dropout = Some(rate);
        self
    }
}
