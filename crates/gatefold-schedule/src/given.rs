//! The buffers that live outside plans, by what they hold.

use crate::states::StateSet;
use std::fmt;

/// One of the two inputs of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Half {
    /// The network's input; with a decoder, the encoder's.
    Input,
    /// The decoder's own.
    Decoder,
}

/// A buffer that lives outside plans. Plans that name the same one share it, unless their owner keeps it to one plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Given {
    /// The values of parameters, by the number of the buffer in [`ParameterLayout`](crate::ParameterLayout).
    Parameters(usize),
    /// Their gradients, likewise.
    Gradients(usize),
    /// The direction of a derivative in the space of the parameters, likewise.
    Tangents(usize),
    /// A moment of the optimiser by its name, likewise.
    Moment(&'static str, usize),
    /// The moving average of the parameters, likewise.
    Average(usize),
    /// Weights of one scan of the layer that owns them, in the order of the kernels.
    Packed {
        /// The layer.
        layer: usize,
        /// Whether they are those of its reverse scan alone.
        reverse: bool,
        /// The tensor.
        part: PackedPart,
    },
    /// Inputs, `[T, B, I]`.
    Input(Half),
    /// Lengths of rows, `[B]`.
    Lengths(Half),
    /// The tangent of an input.
    InputTangent(Half),
    /// Outputs, `[T', B, O]`.
    Output,
    /// The tangent of the outputs.
    OutputTangent,
    /// The gradient with respect to the outputs.
    DOutput,
    /// The gradient with respect to an input.
    DInput(Half),
    /// States of all layers; see [`StateLayout`](crate::StateLayout). Each batch size has its own buffer.
    States {
        /// The set of states.
        set: StateSet,
        /// B
        batch: usize,
    },
    /// One state of one scan, in a separate buffer.
    State {
        /// The set of states.
        set: StateSet,
        /// The layer.
        layer: usize,
        /// The scan, forward first.
        scan: usize,
        /// `h`, `c` or `y`.
        part: &'static str,
    },
    /// A buffer that a scan of a stream keeps from step to step, by its name.
    Stream {
        /// The layer.
        layer: usize,
        /// `gates`, `h` and so on.
        part: &'static str,
    },
    /// The key of dropout's masks: seed low, seed high, the batch's number, and the step with which the pass begins.
    DropoutKey,
    /// The targets of a batch, `[T' B, F]`.
    Target,
    /// The weight of each row, `[T' B]`.
    Weights,
    /// The numbers that the host sets for every update.
    Hyper,
    /// All that the host reads of training: the status, with the norm, the clipping factor and the first failure; then, from
    /// [`LOSSES_AT`](crate::LOSSES_AT) on, a count and that many losses.
    Report,
    /// The words through which workgroups of a dispatch wait for each other. The first is 1 once one of them gave up: whatever
    /// the plan has computed is then worthless.
    Sync,
    /// An argument of a kernel that runs alone.
    Argument(usize),
}

/// A tensor of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackedPart {
    /// Input weights, in the order of the walk forward.
    W,
    /// Recurrent weights.
    U,
    /// Recurrent weights of a second stage.
    UReset,
    /// The biases, added up.
    Bias,
    /// The weights of a readout.
    Readout,
    /// Input weights, in the order of the walk backward.
    WTransposed,
    /// Recurrent weights, likewise.
    UTransposed,
    /// Recurrent weights of a second stage, likewise.
    UResetTransposed,
}

impl PackedPart {
    /// Whether the steps of a scan read it; products over all steps read the others.
    pub(crate) fn is_of_steps(self) -> bool {
        !matches!(self, PackedPart::W | PackedPart::Bias | PackedPart::WTransposed)
    }

    fn name(self) -> &'static str {
        match self {
            PackedPart::W => "w",
            PackedPart::U => "u",
            PackedPart::UReset => "u_reset",
            PackedPart::Bias => "bias",
            PackedPart::Readout => "readout",
            PackedPart::WTransposed => "wt",
            PackedPart::UTransposed => "ut",
            PackedPart::UResetTransposed => "u_reset_t",
        }
    }
}

/// The name in plans: `parameters`, `packed0.reverse.w`, `decoder.input`.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first of several is called as if it were the only one.
        let number = |chunk: &usize| if *chunk == 0 { String::new() } else { chunk.to_string() };
        let prefix = |half: &Half| if *half == Half::Decoder { "decoder." } else { "" };
        match self {
            Given::Parameters(chunk) => write!(f, "parameters{}", number(chunk)),
            Given::Gradients(chunk) => write!(f, "gradients{}", number(chunk)),
            Given::Tangents(chunk) => write!(f, "tangents{}", number(chunk)),
            Given::Moment(name, chunk) => write!(f, "{name}{}", number(chunk)),
            Given::Average(chunk) => write!(f, "average{}", number(chunk)),
            Given::Packed { layer, reverse, part } => {
                let scan = if *reverse { ".reverse" } else { "" };
                write!(f, "packed{layer}{scan}.{}", part.name())
            }
            Given::Input(half) => write!(f, "{}input", prefix(half)),
            Given::Lengths(half) => write!(f, "{}lengths", prefix(half)),
            Given::InputTangent(half) => write!(f, "{}input_tangent", prefix(half)),
            Given::Output => f.write_str("output"),
            Given::OutputTangent => f.write_str("output_tangent"),
            Given::DOutput => f.write_str("d_output"),
            Given::DInput(half) => write!(f, "{}d_input", prefix(half)),
            Given::States { set, batch } => write!(f, "{}.b{batch}", set.name()),
            Given::State { set, layer, scan, part } => write!(f, "{}{layer}.{scan}.{part}", set.name()),
            Given::Stream { layer, part } => write!(f, "layer{layer}.{part}"),
            Given::DropoutKey => f.write_str("dropout"),
            Given::Target => f.write_str("target"),
            Given::Weights => f.write_str("weights"),
            Given::Hyper => f.write_str("hyper"),
            Given::Report => f.write_str("report"),
            Given::Sync => f.write_str("sync"),
            Given::Argument(number) => write!(f, "argument{number}"),
        }
    }
}
