use crate::{Activation, Bridge, Conv1d, Expansion, Init, LayerNorm, Merge, Pooling, Recurrent, Timing};
use std::fmt;

/// A layer with its widths and parameters worked out.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its index in the network, from 0.
    pub index: usize,
    /// Its kind; that of the repeated layer for a tied one.
    pub kind: LayerKind,
    /// The layer that owns its parameters: itself, or the one it is tied to.
    pub owner: usize,
    /// The input width: values per time step. Of a merge, that of the branches.
    pub input: usize,
    /// The output width: values per time step.
    pub output: usize,
    /// The time axis of its output.
    pub timeline: Timeline,
    /// Its parameters in storage order.
    pub parameters: Vec<ParameterSpec>,
}

/// The time axis of a layer's output: whose steps it has, and whose lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// The steps of the network's input; before a decoder, those of the encoder's.
    Input,
    /// The steps that convolutions leave of the network's input; rows end at their own lengths, made shorter likewise.
    Convolved(Timing),
    /// One step.
    Single,
    /// This many steps, all present in every row.
    Expanded(usize),
    /// The steps of the decoder's input.
    Decoder,
}

impl Timeline {
    /// The number of steps when `given` go in.
    pub fn steps(self, given: usize) -> usize {
        match self {
            Timeline::Input | Timeline::Decoder => given,
            Timeline::Convolved(timing) => timing.steps(given),
            Timeline::Single => 1,
            Timeline::Expanded(steps) => steps,
        }
    }

    /// Its steps in a few words.
    pub(crate) fn describe(self) -> String {
        match self {
            Timeline::Input => "the steps of the input".into(),
            Timeline::Convolved(timing) => timing.describe(),
            Timeline::Single => "one step".into(),
            Timeline::Expanded(steps) => format!("{steps} steps"),
            Timeline::Decoder => "the steps of the decoder's input".into(),
        }
    }

    /// Whether rows end at the lengths of an input.
    pub fn has_lengths(self) -> bool {
        matches!(self, Timeline::Input | Timeline::Convolved(_) | Timeline::Decoder)
    }

    /// The steps of the network's input that are left, unless the axis is another one.
    pub(crate) fn timing(self) -> Option<Timing> {
        match self {
            Timeline::Input => Some(Timing::ALL),
            Timeline::Convolved(timing) => Some(timing),
            Timeline::Single | Timeline::Expanded(_) | Timeline::Decoder => None,
        }
    }

    /// The time axis after a convolution.
    pub(crate) fn convolved(self, conv: &Conv1d) -> Timeline {
        match self {
            Timeline::Input | Timeline::Convolved(_) => {
                let before = self.timing().expect("it is that of the network's input");
                match before.then(conv.timing()) {
                    Timing::ALL => Timeline::Input,
                    timing => Timeline::Convolved(timing),
                }
            }
            Timeline::Single | Timeline::Expanded(_) => match conv.steps(self.steps(1)) {
                1 => Timeline::Single,
                steps => Timeline::Expanded(steps),
            },
            Timeline::Decoder => Timeline::Decoder,
        }
    }
}

/// The computation of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LayerKind {
    /// A recurrent layer of any cell.
    Recurrent(Recurrent),
    /// `act(x W^T + b)`, step by step.
    Dense {
        /// The function applied to each output.
        activation: Activation,
        /// Whether there is a `b`.
        bias: bool,
    },
    /// A dense layer over several steps at a time.
    Conv1d(Conv1d),
    /// Rows of a table, looked up by token.
    Embedding {
        /// The number of tokens.
        tokens: usize,
    },
    /// Random zeros during training.
    Dropout {
        /// The probability of a zero.
        rate: f32,
    },
    /// The softmax of each step.
    Softmax,
    /// The values of each step with mean 0 and variance 1, times a weight, plus a bias.
    Normalise {
        /// Added to the variance.
        epsilon: f32,
    },
    /// The sum of its input and an earlier layer's input.
    Residual {
        /// The earlier layer.
        from: usize,
    },
    /// Only each row's last time step.
    LastStep,
    /// The final h of the layer before.
    FinalState,
    /// One value of each row's own steps, for each feature.
    Pool(Pooling),
    /// One step turned into several.
    Expand {
        /// The number of steps.
        steps: usize,
        /// The content of the other steps.
        fill: Expansion,
    },
    /// The beginning of a decoder.
    Decoder {
        /// The way states are handed over.
        bridge: Bridge,
    },
    /// The end of parallel branches, whose outputs become one. The layers of the branches come before it.
    Merge(Merge),
}

/// One named parameter of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's name, such as `rnn0.weight_ih_l0`.
    pub name: String,
    /// `[rows, columns]`, `[length]`, or `[output, input, kernel]`.
    pub shape: Vec<usize>,
    /// Its role in the layer.
    pub role: Role,
    /// Whether it belongs to the reverse scan of a recurrent layer.
    pub reverse: bool,
    /// Its initialisation, to which a forget gate's bias is added.
    pub init: Init,
}

/// The role of a parameter, which decides how it is initialised and packed. G counts gates, H units, I inputs; R is the
/// width of h, O that of a readout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// `weight_ih`, `[G H, I]`.
    InputWeight,
    /// `weight_hh`, `[G H, R]`.
    RecurrentWeight,
    /// `bias_ih`, `[G H]`.
    InputBias,
    /// `bias_hh`, `[G H]`.
    RecurrentBias,
    /// `weight_hr`, `[R, H]`: an LSTM's projection.
    ProjectionWeight,
    /// `peephole`, `[3 H]`: blocks for the input, forget and output gate.
    Peephole,
    /// `gain_ih`, `[G H]`: the gain of the normalised part from the input.
    InputGain,
    /// `gain_hh`, `[G H]`: the gain of the normalised part from h.
    RecurrentGain,
    /// `gain_c`, `[H]`: the gain of an LSTM's normalised cell state.
    CellGain,
    /// `bias_c`, `[H]`: its bias.
    CellBias,
    /// `weight_sh`, `[G H, R]`: the recurrence from h(t-k).
    SkipWeight,
    /// `weight_yh`, `[G H, O]`: the recurrence from the readout.
    FeedbackWeight,
    /// `weight_hy`, `[O, H]`: the readout.
    ReadoutWeight,
    /// `bias_y`, `[O]`: the readout's bias.
    ReadoutBias,
    /// `h0`, `[R]`: a learned initial h.
    InitialH,
    /// `c0`, `[H]`: a learned initial c.
    InitialC,
    /// A dense layer's `weight`, `[output, input]`.
    DenseWeight,
    /// A dense layer's `bias`, `[output]`.
    DenseBias,
    /// A convolution's `weight`, `[output, input, kernel]`.
    ConvWeight,
    /// A convolution's `bias`, `[output]`.
    ConvBias,
    /// A normalisation's `weight`, `[width]`.
    NormaliseWeight,
    /// A normalisation's `bias`, `[width]`.
    NormaliseBias,
    /// An embedding's `weight`, `[tokens, width]`.
    EmbeddingWeight,
    /// A bridge's weight for h or c of a recurrent layer of the decoder, counted from 0: `[state, encoder's state]`.
    BridgeWeight(usize, StateKind),
    /// A bridge's bias, `[state]`.
    BridgeBias(usize, StateKind),
}

/// One of the states of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// h
    Hidden,
    /// c
    Cell,
}

impl StateKind {
    /// `h` or `c`.
    pub fn name(self) -> &'static str {
        match self {
            StateKind::Hidden => "h",
            StateKind::Cell => "c",
        }
    }
}

impl ParameterSpec {
    /// The count of its numbers, at most `usize::MAX`.
    #[expect(clippy::len_without_is_empty, reason = "no width is zero, so no parameter is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |len: usize, &width| len.saturating_mul(width))
    }
}

impl Layer {
    /// Its name in errors, such as `layer 2 (dense)`.
    pub fn place(&self) -> String {
        place(self.index, self.kind.name())
    }

    /// Its name in the buffers of schedules, such as `layer2`.
    pub fn label(&self) -> String {
        format!("layer{}", self.index)
    }

    /// Its recurrent description, if it is a recurrent layer.
    pub fn recurrent(&self) -> Option<&Recurrent> {
        match &self.kind {
            LayerKind::Recurrent(recurrent) => Some(recurrent),
            _ => None,
        }
    }

    /// The parameter of the first scan with this role.
    ///
    /// # Panics
    /// If the layer has no such parameter.
    pub fn parameter(&self, role: Role) -> &ParameterSpec {
        let found = self.parameters.iter().find(|spec| spec.role == role);
        found.unwrap_or_else(|| panic!("{} has no {role:?}", self.place()))
    }

    /// The parameter of the forward or reverse scan with this role, if the layer has one.
    pub fn find(&self, role: Role, reverse: bool) -> Option<&ParameterSpec> {
        self.parameters.iter().find(|spec| spec.role == role && spec.reverse == reverse)
    }
}

/// Its options in a few words, such as `lstm 32 peephole` or `dense 100 relu`.
impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.describe(self.output))
    }
}

impl LayerKind {
    /// Its name: `lstm`, `dense`, `last step` and so on.
    pub fn name(&self) -> &'static str {
        match self {
            LayerKind::Recurrent(recurrent) => recurrent.cell.name(),
            LayerKind::Dense { .. } => "dense",
            LayerKind::Conv1d(_) => "conv1d",
            LayerKind::Embedding { .. } => "embedding",
            LayerKind::Dropout { .. } => "dropout",
            LayerKind::Softmax => "softmax",
            LayerKind::Normalise { .. } => "normalise",
            LayerKind::Residual { .. } => "residual",
            LayerKind::LastStep => "last step",
            LayerKind::FinalState => "final state",
            LayerKind::Pool(Pooling::Max) => "max pool",
            LayerKind::Pool(Pooling::Mean) => "mean pool",
            LayerKind::Expand { .. } => "expand",
            LayerKind::Decoder { .. } => "decoder",
            LayerKind::Merge(Merge::Sum) => "parallel sum",
            LayerKind::Merge(Merge::Concatenate) => "parallel concatenation",
        }
    }

    /// Its options in a few words; `output` is its width.
    pub(crate) fn describe(&self, output: usize) -> String {
        match self {
            LayerKind::Recurrent(recurrent) => recurrent.to_string(),
            LayerKind::Dense { activation, bias } => {
                let function = (*activation != Activation::Identity).then(|| activation.to_string());
                let options: Vec<String> =
                    function.into_iter().chain((!bias).then(|| "no bias".into())).collect();
                format!("dense {output} {}", options.join(", ")).trim_end().into()
            }
            LayerKind::Conv1d(conv) => format!("conv1d {output}, {conv}"),
            LayerKind::Embedding { tokens } => format!("embedding {output} of {tokens} tokens"),
            LayerKind::Dropout { rate } => format!("dropout {rate}"),
            LayerKind::Normalise { epsilon } if *epsilon != LayerNorm::default().epsilon => {
                format!("normalise with epsilon {epsilon}")
            }
            LayerKind::Residual { from } => format!("residual from layer {from}"),
            LayerKind::Expand { steps, fill: Expansion::Zeros } => format!("expand to {steps} steps"),
            LayerKind::Expand { steps, fill: Expansion::Repeat } => format!("repeat to {steps} steps"),
            LayerKind::Decoder { bridge: Bridge::Same } => format!("decoder of {output}"),
            LayerKind::Decoder { bridge: Bridge::Dense { activation } } => {
                format!("decoder of {output}, bridge {activation}")
            }
            kind => kind.name().into(),
        }
    }
}

pub(crate) fn place(index: usize, name: &str) -> String {
    format!("layer {index} ({name})")
}
