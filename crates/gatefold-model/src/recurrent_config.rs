//! The configurations of recurrent layers, one call per option.

use crate::{
    Activation, Biases, Cell, Coupling, CustomCell, Direction, Feedback, GruActivations, GruCell, Init,
    InitialState, LayerNorm, LstmActivations, LstmCell, Noise, Recurrent, Reset,
};
use serde::{Deserialize, Serialize};

/// The options that every kind of recurrent layer has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) hidden: usize,
    #[serde(default = "glorot")]
    pub(crate) input_init: Init,
    #[serde(default = "orthogonal")]
    pub(crate) recurrent_init: Init,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) direction: Direction,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) biases: Biases,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) clip: Option<f32>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) initial: InitialState,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) skip: Option<usize>,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) dilation: usize,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) feedback: Option<Feedback>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) norm: Option<LayerNorm>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) noise: Noise,
}

fn glorot() -> Init {
    Init::Glorot
}

fn orthogonal() -> Init {
    Init::Orthogonal
}

fn one() -> usize {
    1
}

fn is_one(dilation: &usize) -> bool {
    *dilation == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Options {
    fn new(hidden: usize) -> Options {
        Options {
            hidden,
            input_init: glorot(),
            recurrent_init: orthogonal(),
            direction: Direction::default(),
            biases: Biases::default(),
            clip: None,
            initial: InitialState::default(),
            skip: None,
            dilation: one(),
            feedback: None,
            norm: None,
            noise: Noise::default(),
        }
    }

    fn resolve(&self, cell: Cell, reverse_cell: Cell) -> Recurrent {
        Recurrent {
            cell,
            reverse_cell,
            hidden: self.hidden,
            projection: None,
            clip: self.clip,
            biases: self.biases,
            direction: self.direction,
            initial: self.initial,
            skip: self.skip,
            dilation: self.dilation,
            feedback: self.feedback,
            forget_bias: 0.0,
            norm: self.norm,
            noise: self.noise,
        }
    }
}

/// The setters of these options.
macro_rules! options {
    ($config:ident) => {
        impl $config {
            /// Sets how `weight_ih` is initialised, each gate's rows as a matrix of its own; Glorot by default.
            pub fn input_init(mut self, init: Init) -> Self {
                self.options.input_init = init;
                self
            }

            /// Sets how `weight_hh` is initialised, each gate's rows as a matrix of its own; orthogonal by default.
            pub fn recurrent_init(mut self, init: Init) -> Self {
                self.options.recurrent_init = init;
                self
            }

            /// Sets the direction through time; forward by default. [`Direction::Bidirectional`] doubles the output
            /// width.
            pub fn direction(mut self, direction: Direction) -> Self {
                self.options.direction = direction;
                self
            }

            /// Runs both ways through time: [`Direction::Bidirectional`].
            pub fn bidirectional(self) -> Self {
                self.direction(Direction::Bidirectional)
            }

            /// Sets the number of biases; two by default, as in PyTorch.
            pub fn biases(mut self, biases: Biases) -> Self {
                self.options.biases = biases;
                self
            }

            /// Clips every pre-activation to `+-bound`, which must be above 0; no clipping by default. Clipped values
            /// have slope 0.
            pub fn clip(mut self, bound: f32) -> Self {
                self.options.clip = Some(bound);
                self
            }

            /// Sets the initial states that are used where the caller gives none; zeros by default.
            pub fn initial_state(mut self, initial: InitialState) -> Self {
                self.options.initial = initial;
                self
            }

            /// Adds a second recurrence, from `h(t-k)`, with weights `weight_sh` of its own; `k` is at least 2. Every h
            /// before the first step is the initial one. Not available with [`Reset::Before`].
            pub fn skip(mut self, k: usize) -> Self {
                self.options.skip = Some(k);
                self
            }

            /// Dilates the recurrence (Chang et al. 2017): step t reads h and c of step `t - d` instead of `t - 1`, so
            /// that `d` interleaved sequences share the weights; 1 by default. The layer has `d` initial and final
            /// values of h and c for each row, see [`LayerState`](crate::LayerState). Not available with a skip
            /// connection or feedback.
            pub fn dilation(mut self, d: usize) -> Self {
                self.options.dilation = d;
                self
            }

            /// Adds a readout of `output` values, `y = activation(V h + c)`, which is the layer's output and feeds back
            /// into the next step through weights `weight_yh` of its own. Before the first step y is zero. Not
            /// available in two directions or with a projection.
            pub fn feedback(mut self, output: usize, activation: Activation) -> Self {
                self.options.feedback = Some(Feedback { output, activation });
                self
            }

            /// Normalises within the step; see [`LayerNorm`], which has the epsilon. Adds the parameters `gain_ih` and
            /// `gain_hh`, in an LSTM also `gain_c` and `bias_c`. Not available with [`Reset::Before`], a skip connection,
            /// feedback or a projection.
            pub fn layer_norm(mut self, norm: LayerNorm) -> Self {
                self.options.norm = Some(norm);
                self
            }

            /// Sets the probability that a unit keeps its h(t-1) in training (Krueger et al. 2016); inference mixes both
            /// by this rate. Not available with what [`layer_norm`](Self::layer_norm) excludes.
            pub fn zoneout(mut self, rate: f32) -> Self {
                self.options.noise.zoneout = rate;
                self
            }

            /// Sets the rate of dropout of h(t-1) in the recurrent product, one mask for all steps of a sequence (Gal and
            /// Ghahramani 2016). Not available with what [`layer_norm`](Self::layer_norm) excludes.
            pub fn recurrent_dropout(mut self, rate: f32) -> Self {
                self.options.noise.recurrent = rate;
                self
            }

            /// Sets the rate of dropout of the recurrent weights `weight_hh`, one mask per batch (Merity et al. 2018).
            pub fn drop_connect(mut self, rate: f32) -> Self {
                self.options.noise.weights = rate;
                self
            }

            /// The number of units.
            pub fn hidden(&self) -> usize {
                self.options.hidden
            }
        }
    };
}

/// A vanilla recurrent layer (Elman 1990): `h = act(W x + U h' + b)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RnnConfig {
    #[serde(flatten)]
    pub(crate) options: Options,
    #[serde(default = "tanh", skip_serializing_if = "is_tanh")]
    pub(crate) activation: Activation,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) reverse_activation: Option<Activation>,
}

fn tanh() -> Activation {
    Activation::Tanh
}

fn is_tanh(activation: &Activation) -> bool {
    *activation == Activation::Tanh
}

options!(RnnConfig);

impl RnnConfig {
    /// A layer with `hidden` units, `h = tanh(..)`: `[T, B, input]` in, `[T, B, hidden]` out.
    pub fn new(hidden: usize) -> Self {
        RnnConfig { options: Options::new(hidden), activation: tanh(), reverse_activation: None }
    }

    /// Sets the activation; tanh by default.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// Sets the activation of the reverse scan; the same as forward by default.
    pub fn reverse_activation(mut self, activation: Activation) -> Self {
        self.reverse_activation = Some(activation);
        self
    }

    pub(crate) fn resolve(&self) -> Recurrent {
        let cell = |activation| Cell::Rnn { activation };
        let reverse = self.reverse_activation.unwrap_or(self.activation);
        self.options.resolve(cell(self.activation), cell(reverse))
    }
}

/// A long short-term memory layer (Hochreiter and Schmidhuber 1997; Gers et al. 2000): `c = f c' + i g`,
/// `h = o tanh(c)`, with `i, f, o = sigmoid(W x + U h' + b)` and `g = tanh(W x + U h' + b)`, each with rows of its own.
/// docs/numerics.md has the equations with all options, forward and backward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmConfig {
    #[serde(flatten)]
    pub(crate) options: Options,
    pub(crate) forget_bias: f32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) activations: LstmActivations,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) reverse_activations: Option<LstmActivations>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) peephole: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) coupling: Option<Coupling>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) squashed: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) projection: Option<usize>,
}

options!(LstmConfig);

impl LstmConfig {
    /// An LSTM with `hidden` units: `[T, B, input]` in, `[T, B, hidden]` out.
    pub fn new(hidden: usize) -> Self {
        LstmConfig {
            options: Options::new(hidden),
            forget_bias: 1.0,
            activations: LstmActivations::default(),
            reverse_activations: None,
            peephole: false,
            coupling: None,
            squashed: false,
            projection: None,
        }
    }

    /// Sets the forget gate's initial bias; 1 by default (Gers et al. 2000; Jozefowicz et al. 2015). It goes into
    /// `bias_ih`; `bias_hh` is initialised to zero, since only their sum matters. Ignored without biases.
    pub fn forget_bias(mut self, value: f32) -> Self {
        self.forget_bias = value;
        self
    }

    /// Sets the activations of gates, candidate and output; sigmoid, tanh, tanh by default.
    pub fn activations(mut self, activations: LstmActivations) -> Self {
        self.activations = activations;
        self
    }

    /// Sets the activations of the reverse scan; the same as forward by default.
    pub fn reverse_activations(mut self, activations: LstmActivations) -> Self {
        self.reverse_activations = Some(activations);
        self
    }

    /// Lets the gates see the cell state (Gers and Schmidhuber 2000): adds `peephole`, three numbers per unit.
    pub fn peephole(mut self) -> Self {
        self.peephole = true;
        self
    }

    /// Makes the input or the forget gate 1 minus the other.
    pub fn coupled(mut self, coupling: Coupling) -> Self {
        self.coupling = Some(coupling);
        self
    }

    /// Chooses the variant with a squashed cell and no biases: `c = sigmoid(f c' + i g)`, which keeps the cell in (0,
    /// 1). A later [`LstmConfig::biases`] brings the biases back.
    pub fn squashed(mut self) -> Self {
        self.squashed = true;
        self.options.biases = Biases::None;
        self
    }

    /// Sets the probability that a unit keeps its c(t-1) in training, as [`LstmConfig::zoneout`] does for h.
    pub fn zoneout_cell(mut self, rate: f32) -> Self {
        self.options.noise.zoneout_cell = rate;
        self
    }

    /// Sets the rate of dropout of the candidate g, a mask for each step (Semeniuta et al. 2016). Not available with what
    /// [`LstmConfig::layer_norm`] excludes.
    pub fn candidate_dropout(mut self, rate: f32) -> Self {
        self.options.noise.candidate = rate;
        self
    }

    /// Projects the output to `width` values, which the recurrent weights read (Sak et al. 2014): `h = P (o tanh(c))`,
    /// `[T, B, width]` out.
    pub fn projection(mut self, width: usize) -> Self {
        self.projection = Some(width);
        self
    }

    pub(crate) fn resolve(&self) -> Recurrent {
        let LstmConfig { peephole, coupling, squashed, .. } = *self;
        let cell = |activations| Cell::Lstm(LstmCell { activations, peephole, coupling, squashed });
        let reverse = self.reverse_activations.unwrap_or(self.activations);
        Recurrent {
            projection: self.projection,
            forget_bias: self.forget_bias,
            ..self.options.resolve(cell(self.activations), cell(reverse))
        }
    }
}

/// A gated recurrent unit layer (Cho et al. 2014): `h = (1 - z) n + z h'`.
///
/// Some sources give z the opposite meaning, `h = z n + (1 - z) h'` (Chung et al. 2014). To read their weights, negate
/// z's rows of all weights and biases, since `sigmoid(-a) = 1 - sigmoid(a)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GruConfig {
    #[serde(flatten)]
    pub(crate) options: Options,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) activations: GruActivations,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) reverse_activations: Option<GruActivations>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) reset: Reset,
}

options!(GruConfig);

impl GruConfig {
    /// A GRU with `hidden` units: `[T, B, input]` in, `[T, B, hidden]` out.
    pub fn new(hidden: usize) -> Self {
        GruConfig {
            options: Options::new(hidden),
            activations: GruActivations::default(),
            reverse_activations: None,
            reset: Reset::default(),
        }
    }

    /// Sets the activations of gates and candidate; sigmoid, tanh by default.
    pub fn activations(mut self, activations: GruActivations) -> Self {
        self.activations = activations;
        self
    }

    /// Sets the activations of the reverse scan; the same as forward by default.
    pub fn reverse_activations(mut self, activations: GruActivations) -> Self {
        self.reverse_activations = Some(activations);
        self
    }

    /// Sets the rate of dropout of the candidate n, a mask for each step (Semeniuta et al. 2016). Not available with what
    /// [`GruConfig::layer_norm`] excludes.
    pub fn candidate_dropout(mut self, rate: f32) -> Self {
        self.options.noise.candidate = rate;
        self
    }

    /// Sets the place of the reset gate; after the product by default.
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    pub(crate) fn resolve(&self) -> Recurrent {
        let cell = |activations| Cell::Gru(GruCell { activations, reset: self.reset });
        let reverse = self.reverse_activations.unwrap_or(self.activations);
        self.options.resolve(cell(self.activations), cell(reverse))
    }
}

/// A layer of a cell that the program brought along; see [`CustomCell`].
///
/// Not available: [`clip`](Self::clip), [`layer_norm`](Self::layer_norm), [`zoneout`](Self::zoneout) and
/// [`recurrent_dropout`](Self::recurrent_dropout), which reach into the functions of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomConfig {
    #[serde(flatten)]
    pub(crate) options: Options,
    pub(crate) cell: CustomCell,
}

options!(CustomConfig);

impl CustomConfig {
    /// A layer of `hidden` units of this cell: `[T, B, input]` in, `[T, B, hidden]` out.
    pub fn new(cell: CustomCell, hidden: usize) -> Self {
        CustomConfig { options: Options::new(hidden), cell }
    }

    /// Its cell.
    pub fn cell(&self) -> CustomCell {
        self.cell
    }

    pub(crate) fn resolve(&self) -> Recurrent {
        let cell = Cell::Custom(self.cell);
        self.options.resolve(cell, cell)
    }
}
