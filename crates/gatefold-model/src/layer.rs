use crate::{Activation, Bridge, Expansion, Init, Recurrent};

/// A layer with its widths and parameters worked out.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Its place in the network, from 0.
    pub index: usize,
    /// What it computes; for a tied layer, what the layer that it repeats computes.
    pub kind: LayerKind,
    /// The layer that owns its parameters: itself, or the one it is tied to.
    pub owner: usize,
    /// Values a time step that go in.
    pub input: usize,
    /// Values a time step that come out.
    pub output: usize,
    /// The time axis of its output.
    pub timeline: Timeline,
    /// Its parameters in the order in which they are stored.
    pub parameters: Vec<ParameterSpec>,
}

/// Whose steps a layer's output has, and whose lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// Those of the network's input; in front of a decoder, of the encoder's.
    Input,
    /// One step.
    Single,
    /// So many steps, all of them there for every row.
    Expanded(usize),
    /// Those of the decoder's input.
    Decoder,
}

impl Timeline {
    /// How many steps, when `given` go in.
    pub fn steps(self, given: usize) -> usize {
        match self {
            Timeline::Input | Timeline::Decoder => given,
            Timeline::Single => 1,
            Timeline::Expanded(steps) => steps,
        }
    }

    /// Whether rows end where the lengths of the input say.
    pub fn has_lengths(self) -> bool {
        matches!(self, Timeline::Input | Timeline::Decoder)
    }
}

/// What a layer computes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum LayerKind {
    /// A recurrent layer of any cell.
    Recurrent(Recurrent),
    /// `act(x W^T + b)`, a step at a time.
    Dense {
        /// The function applied to each output.
        activation: Activation,
        /// Whether there is a `b`.
        bias: bool,
    },
    /// Rows of a table, by token.
    Embedding {
        /// How many tokens there are.
        tokens: usize,
    },
    /// Random zeros in training.
    Dropout {
        /// The share of zeros.
        rate: f32,
    },
    /// The softmax of each step.
    Softmax,
    /// The sum with an earlier layer's input.
    Residual {
        /// That layer.
        from: usize,
    },
    /// Each row's last time step alone.
    LastStep,
    /// The final h of the layer before.
    FinalState,
    /// One step made into several.
    Expand {
        /// How many.
        steps: usize,
        /// What the others hold.
        fill: Expansion,
    },
    /// Where a decoder begins.
    Decoder {
        /// How states are handed over.
        bridge: Bridge,
    },
}

/// One named parameter of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's name, such as `rnn0.weight_ih_l0`.
    pub name: String,
    /// Rows and columns, or a length.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// Whether it belongs to the reverse scan of a recurrent layer.
    pub reverse: bool,
    /// How it begins; a forget gate's bias is added to it.
    pub init: Init,
}

/// What a parameter is for; decides how it is initialised and packed. G gates, H units, I inputs, R the width of h.
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
    /// How many numbers it holds.
    #[expect(clippy::len_without_is_empty, reason = "no width is zero, so no parameter is empty")]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Layer {
    /// `layer 2 (dense)`, as errors name it.
    pub fn place(&self) -> String {
        place(self.index, self.kind.name())
    }

    /// `layer2`, as schedules name its buffers.
    pub fn label(&self) -> String {
        format!("layer{}", self.index)
    }

    /// What it is, if it is recurrent.
    pub fn recurrent(&self) -> Option<&Recurrent> {
        match &self.kind {
            LayerKind::Recurrent(recurrent) => Some(recurrent),
            _ => None,
        }
    }

    /// The parameter with this role, of the first scan.
    ///
    /// # Panics
    /// If layers of this kind have no such parameter.
    pub fn parameter(&self, role: Role) -> &ParameterSpec {
        let found = self.parameters.iter().find(|spec| spec.role == role);
        found.unwrap_or_else(|| panic!("{} has no {role:?}", self.place()))
    }

    /// The parameter with this role of one of the scans, if the layer has it.
    pub fn find(&self, role: Role, reverse: bool) -> Option<&ParameterSpec> {
        self.parameters.iter().find(|spec| spec.role == role && spec.reverse == reverse)
    }
}

impl LayerKind {
    /// `lstm`, `dense`, `last step` and so on.
    pub fn name(&self) -> &'static str {
        match self {
            LayerKind::Recurrent(recurrent) => recurrent.cell.name(),
            LayerKind::Dense { .. } => "dense",
            LayerKind::Embedding { .. } => "embedding",
            LayerKind::Dropout { .. } => "dropout",
            LayerKind::Softmax => "softmax",
            LayerKind::Residual { .. } => "residual",
            LayerKind::LastStep => "last step",
            LayerKind::FinalState => "final state",
            LayerKind::Expand { .. } => "expand",
            LayerKind::Decoder { .. } => "decoder",
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
            LayerKind::Embedding { tokens } => format!("embedding {output} of {tokens} tokens"),
            LayerKind::Dropout { rate } => format!("dropout {rate}"),
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
