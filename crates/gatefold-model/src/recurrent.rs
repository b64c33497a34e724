//! Recurrent layers: the options of a cell, and of its way through time.

use crate::{Activation, CustomCell, GruGate, LstmConfig, LstmGate, Noise};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The computation of one time step in one direction; the equations are in docs/numerics.md.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// `h = act(W x + U h' + b)`
    Rnn {
        /// The activation.
        activation: Activation,
    },
    /// Long short-term memory.
    Lstm(LstmCell),
    /// The gated recurrent unit.
    Gru(GruCell),
    /// A cell that the program brought along.
    Custom(CustomCell),
}

/// The options of an LSTM's cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmCell {
    /// Its functions.
    pub activations: LstmActivations,
    /// Whether the gates see the cell state.
    pub peephole: bool,
    /// Whether the input or the forget gate is 1 minus the other, and which one is computed.
    pub coupling: Option<Coupling>,
    /// Whether the new cell state passes through a sigmoid, which keeps it in (0, 1).
    pub squashed: bool,
}

/// The options of a GRU's cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GruCell {
    /// Its functions.
    pub activations: GruActivations,
    /// The place of the reset gate.
    pub reset: Reset,
}

/// The activations of an LSTM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LstmActivations {
    /// Activation of the input, forget and output gates; ONNX calls it f.
    pub gate: Activation,
    /// Activation of the candidate; ONNX calls it g.
    pub candidate: Activation,
    /// Activation of the cell state on its way out; ONNX calls it h.
    pub output: Activation,
}

impl Default for LstmActivations {
    /// Sigmoid, tanh, tanh.
    fn default() -> Self {
        let (gate, tanh) = (Activation::Sigmoid, Activation::Tanh);
        LstmActivations { gate, candidate: tanh, output: tanh }
    }
}

/// The activations of a GRU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GruActivations {
    /// Activation of the reset and update gates; ONNX calls it f.
    pub gate: Activation,
    /// Activation of the candidate; ONNX calls it g.
    pub candidate: Activation,
}

impl Default for GruActivations {
    /// Sigmoid, tanh.
    fn default() -> Self {
        GruActivations { gate: Activation::Sigmoid, candidate: Activation::Tanh }
    }
}

/// The gate of a coupled LSTM that is computed; the other is 1 minus it. The other's rows of the weights are kept, but
/// never read, and get zero gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coupling {
    /// `f = 1 - i` (ONNX's `input_forget`; Greff et al. 2017).
    Input,
    /// `i = 1 - f`
    Forget,
}

/// The place of a GRU's reset gate: after or before the recurrent product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// `n = tanh(W x + b + r * (U h' + b_h))`: PyTorch, cuDNN, ONNX's `linear_before_reset = 1`.
    #[default]
    After,
    /// `n = tanh(W x + b + U (r * h') + b_h)`: Cho et al. 2014, ONNX's default.
    Before,
}

/// The biases of a recurrent layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// `bias_ih` and `bias_hh`, as PyTorch and ONNX have them.
    #[default]
    Two,
    /// `bias_ih` only.
    One,
    /// None at all.
    None,
}

/// The direction of a layer through time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From each row's last step to the first.
    Reverse,
    /// Both ways, each with weights of its own; the outputs side by side, forward first.
    Bidirectional,
    /// Both ways, each with weights of its own; the outputs added.
    BidirectionalSum,
}

impl Direction {
    /// The scans of the layer: for each, whether it is reversed.
    pub fn scans(self) -> &'static [bool] {
        match self {
            Direction::Forward => &[false],
            Direction::Reverse => &[true],
            Direction::Bidirectional | Direction::BidirectionalSum => &[false, true],
        }
    }
}

/// The initial states, used where the caller gives none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialState {
    /// Zeros.
    #[default]
    Zeros,
    /// This number in every element of h, and of an LSTM's c.
    Constant(f32),
    /// The parameters `h0` and `c0`, shared by all rows and initialised to zero.
    Learned,
}

/// A readout that feeds back into the next step: `y = act(V h + c)`, and `W_y y(t-1)` is added to `W x(t)`. The layer's
/// output is `y`. The network of Jordan 1986 keeps `h` out of the recurrence; here both recur.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// O, the width of y.
    pub output: usize,
    /// Its activation.
    pub activation: Activation,
}

/// Layer normalisation within the step (Ba, Kiros and Hinton 2016). The parts from the input and from h are normalised
/// apart, each over all gates of a row; in a GRU the gates r and z and the candidate are, too. Each has a gain, and the
/// layer's biases are theirs. An LSTM's cell state is normalised on its way to the output, with a gain and bias of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Added to the variance, so that its root is never zero.
    pub epsilon: f32,
}

impl Default for LayerNorm {
    /// An epsilon of 1e-5, as in PyTorch.
    fn default() -> Self {
        LayerNorm { epsilon: 1e-5 }
    }
}

/// A resolved recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recurrent {
    /// The cell of the forward scan.
    pub cell: Cell,
    /// The cell of the reverse scan, which may differ in its activations.
    pub reverse_cell: Cell,
    /// H, the number of units.
    pub hidden: usize,
    /// R, the width that an LSTM's output is projected to.
    pub projection: Option<usize>,
    /// The bound of the pre-activations.
    pub clip: Option<f32>,
    /// Its biases.
    pub biases: Biases,
    /// Its direction through time.
    pub direction: Direction,
    /// Its initial states.
    pub initial: InitialState,
    /// k of a second recurrence from h(t-k); at least 2.
    pub skip: Option<usize>,
    /// d of a recurrence from h(t-d) and c(t-d); 1 for the step before.
    pub dilation: usize,
    /// A readout that feeds back into the next step.
    pub feedback: Option<Feedback>,
    /// An LSTM's initial forget bias.
    pub forget_bias: f32,
    /// Layer normalisation within the step.
    pub norm: Option<LayerNorm>,
    /// Its random masks in training.
    pub noise: Noise,
}

impl Cell {
    /// The number of gates per unit: blocks of H rows in the weights.
    pub fn gates(&self) -> usize {
        match self {
            Cell::Rnn { .. } => 1,
            Cell::Lstm(_) => LstmGate::COUNT,
            Cell::Gru(_) => GruGate::COUNT,
            Cell::Custom(cell) => cell.gates().len(),
        }
    }

    /// Whether there is a cell state besides h.
    pub fn has_state(&self) -> bool {
        match self {
            Cell::Lstm(_) => true,
            Cell::Custom(cell) => cell.has_state(),
            Cell::Rnn { .. } | Cell::Gru(_) => false,
        }
    }

    /// Its name: `rnn`, `lstm`, `gru`, or that of a custom cell.
    pub fn name(&self) -> &'static str {
        match self {
            Cell::Rnn { .. } => "rnn",
            Cell::Lstm(_) => "lstm",
            Cell::Gru(_) => "gru",
            Cell::Custom(cell) => cell.name(),
        }
    }

    /// All its activations; none of a custom cell, whose functions are its own.
    pub fn activations(&self) -> Vec<Activation> {
        match self {
            Cell::Rnn { activation } => vec![*activation],
            Cell::Lstm(LstmCell { activations: a, .. }) => vec![a.gate, a.candidate, a.output],
            Cell::Gru(GruCell { activations: a, .. }) => vec![a.gate, a.candidate],
            Cell::Custom(_) => Vec::new(),
        }
    }
}

impl Recurrent {
    /// The cell of the forward or reverse scan.
    pub fn cell_of(&self, reverse: bool) -> &Cell {
        if reverse { &self.reverse_cell } else { &self.cell }
    }

    /// R, the width of h, which the recurrent weights read; H without a projection.
    pub fn recurrent_width(&self) -> usize {
        self.projection.unwrap_or(self.hidden)
    }

    /// The width of one scan's output: the readout's with feedback, else that of h.
    pub fn scan_width(&self) -> usize {
        self.feedback.map_or(self.recurrent_width(), |feedback| feedback.output)
    }

    /// The layer's output width.
    pub fn output(&self) -> usize {
        match self.direction {
            Direction::Bidirectional => 2 * self.scan_width(),
            _ => self.scan_width(),
        }
    }

    /// Whether a step needs more than the plain cell, in training or in inference: layer normalisation, or a mask other
    /// than that of DropConnect.
    pub fn is_dressed(&self) -> bool {
        self.norm.is_some() || self.noise.in_steps().is_some()
    }

    /// The number of initial values of h: 1, or k with a skip connection, or d with a dilation.
    pub fn history(&self) -> usize {
        self.skip.unwrap_or(self.dilation)
    }

    /// Whether it reads the step d before instead of the last.
    pub fn is_dilated(&self) -> bool {
        self.dilation > 1
    }

    /// Whether it is PyTorch's plain LSTM, in one direction and from zeros, with no option but its width.
    pub fn is_plain_lstm(&self) -> bool {
        let plain = LstmConfig::new(self.hidden).resolve();
        Recurrent { forget_bias: plain.forget_bias, ..*self } == plain
    }
}

/// `lstm 100`, `gru 20 reset before, bidirectional`, `rnn 5 relu, skip 3`
impl fmt::Display for Recurrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cell.name(), self.hidden)?;
        let mut said: Vec<String> = Vec::new();
        match self.cell {
            Cell::Rnn { activation: Activation::Tanh } | Cell::Custom(_) => {}
            Cell::Rnn { activation } => said.push(activation.to_string()),
            Cell::Lstm(LstmCell { activations: a, peephole, coupling, squashed }) => {
                if a != LstmActivations::default() {
                    said.push(format!("{} {} {}", a.gate, a.candidate, a.output));
                }
                said.extend(peephole.then(|| "peephole".into()));
                said.extend(coupling.map(|coupling| match coupling {
                    Coupling::Input => "f = 1 - i".into(),
                    Coupling::Forget => "i = 1 - f".into(),
                }));
                said.extend(squashed.then(|| "squashed cell".into()));
            }
            Cell::Gru(GruCell { activations: a, reset }) => {
                if a != GruActivations::default() {
                    said.push(format!("{} {}", a.gate, a.candidate));
                }
                said.extend((reset == Reset::Before).then(|| "reset before".into()));
            }
        }
        if self.reverse_cell != self.cell {
            let names: Vec<String> = self.reverse_cell.activations().iter().map(|a| a.to_string()).collect();
            said.push(format!("reversed {}", names.join(" ")));
        }
        said.extend(self.projection.map(|width| format!("projected to {width}")));
        said.extend(self.clip.map(|bound| format!("clip {bound}")));
        said.extend(self.norm.map(|norm| match norm {
            norm if norm == LayerNorm::default() => "layer norm".into(),
            LayerNorm { epsilon } => format!("layer norm with epsilon {epsilon}"),
        }));
        said.extend(self.noise.is_on().then(|| self.noise.to_string()));
        said.extend(match self.biases {
            Biases::Two => None,
            Biases::One => Some("one bias".into()),
            Biases::None => Some("no biases".into()),
        });
        said.extend(match self.direction {
            Direction::Forward => None,
            Direction::Reverse => Some("reverse".into()),
            Direction::Bidirectional => Some("bidirectional".into()),
            Direction::BidirectionalSum => Some("bidirectional sum".into()),
        });
        said.extend(match self.initial {
            InitialState::Zeros => None,
            InitialState::Constant(value) => Some(format!("from {value}")),
            InitialState::Learned => Some("learned initial state".into()),
        });
        said.extend(self.skip.map(|k| format!("skip {k}")));
        said.extend(self.is_dilated().then(|| format!("dilation {}", self.dilation)));
        said.extend(self.feedback.map(|y| format!("feedback {} {}", y.output, y.activation)));
        if said.is_empty() { Ok(()) } else { write!(f, " {}", said.join(", ")) }
    }
}
