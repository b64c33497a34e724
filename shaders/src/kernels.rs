//! One row per kernel.

use crate::params::{self, Params};

/// How a kernel uses a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read alone.
    Read,
    /// Read and written.
    Write,
}
use Access::{Read, Write};

/// A piece of a kernel's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The same in every variant.
    Text(&'static str),
    /// The cell's file.
    Cell,
    /// `lanes_subgroup` or `lanes_single`.
    Lanes,
    /// `columns_vec4` or `columns_f32`.
    Columns,
}
use Part::Text;

/// A constant that a variant must give, with its WGSL type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Const {
    /// `const NAME: u32`
    U32(&'static str),
    /// `const NAME: bool`
    Bool(&'static str),
}

impl Const {
    /// The constant's name.
    pub fn name(self) -> &'static str {
        match self {
            Const::U32(name) | Const::Bool(name) => name,
        }
    }
}

/// A row of the table of kernels.
#[derive(Debug)]
pub struct KernelSpec {
    /// The name that plans, tables and errors use.
    pub name: &'static str,
    /// The text, in order.
    pub parts: &'static [Part],
    /// The storage buffers of group 0, in order.
    pub bindings: &'static [Access],
    /// The name of the params struct.
    pub params: &'static str,
    /// Its size.
    pub params_bytes: usize,
    /// What a variant must say.
    pub consts: &'static [Const],
}

/// A recurrent cell that a scan can be joined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cell {
    /// Long short-term memory.
    Lstm,
}

impl Cell {
    /// Every cell.
    pub const ALL: [Cell; 1] = [Cell::Lstm];

    /// The cell's WGSL.
    pub fn text(self) -> &'static str {
        match self {
            Cell::Lstm => include_str!("../cells/lstm.wgsl"),
        }
    }

    /// Gates of a unit, side by side on the device.
    pub fn gates(self) -> u32 {
        match self {
            Cell::Lstm => 4,
        }
    }

    /// `lstm`
    pub fn name(self) -> &'static str {
        match self {
            Cell::Lstm => "lstm",
        }
    }
}

/// Every kernel of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelId {
    /// One time step forward.
    StepForward,
    /// One time step backward.
    StepBackward,
    /// The gradient of the initial h.
    InitialBackward,
    /// Matrix product, or a slice of one.
    MatMul,
    /// Second pass of a split matrix product.
    SumSlices,
    /// Axes reordered for a kernel's walk.
    Pack,
    /// Slices of a packed gradient added into the parameter's gradient.
    UnpackGradient,
    /// Sums of columns.
    ColumnSum,
    /// Gradient in front of an activation.
    ActivationBackward,
    /// A loss that treats every target by itself, and its gradient.
    ElementLoss,
    /// Softmax and cross-entropy, and their gradient.
    CrossEntropy,
    /// The sum of a loss's parts.
    SumLoss,
    /// The parts of the gradient's norm.
    GradientNorm,
    /// The norm, the clipping factor and the sticky failure.
    FinishNorm,
    /// SGD with momentum.
    Sgd,
    /// RMSprop.
    RmsProp,
    /// Adam and AdamW.
    Adam,
    /// Rows of a table, by token.
    GatherRows,
    /// How many rows of each block have each digit.
    RowCounts,
    /// Where rows of each digit go.
    RowPlaces,
    /// Rows put in the order of a digit.
    PlaceRows,
    /// Sums of rows of one token, by stretches.
    RunSums,
    /// Those sums added to the table's gradient.
    AddRuns,
    /// The softmax of each row.
    Softmax,
    /// Its gradient.
    SoftmaxBackward,
    /// Random zeros.
    Dropout,
    /// The sum of two tensors, or one added to another.
    Add,
    /// Zeros behind the end of each row.
    MaskRows,
    /// The last step of each row.
    LastRows,
    /// Its gradient.
    LastRowsBackward,
    /// A block of columns between tensors of different width.
    CopyBlock,
    /// The same elements again and again.
    Repeat,
    /// One number everywhere.
    Fill,
}

/// What [`KernelId::ElementLoss`] computes: its constant `LOSS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ElementLossKind {
    /// The square of the residual.
    Squared,
    /// Its magnitude.
    Absolute,
    /// A square near zero, a line further away.
    Huber,
    /// The pinball loss of one level.
    Quantile,
    /// The Gaussian negative log likelihood, from a mean and the logarithm of a variance.
    Gaussian,
}

impl ElementLossKind {
    /// Every kind.
    pub const ALL: [ElementLossKind; 5] = [
        ElementLossKind::Squared,
        ElementLossKind::Absolute,
        ElementLossKind::Huber,
        ElementLossKind::Quantile,
        ElementLossKind::Gaussian,
    ];

    /// The constant that stands for it in WGSL.
    pub fn wgsl_name(self) -> &'static str {
        match self {
            ElementLossKind::Squared => "SQUARED",
            ElementLossKind::Absolute => "ABSOLUTE",
            ElementLossKind::Huber => "HUBER",
            ElementLossKind::Quantile => "QUANTILE",
            ElementLossKind::Gaussian => "GAUSSIAN",
        }
    }
}

const ACTIVATIONS: Part = Text(include_str!("../shared/activations.wgsl"));
const RECURRENT_GRADIENT: Part = Text(include_str!("../scan/recurrent_gradient.wgsl"));
const PARTIAL: Part = Text(include_str!("../optim/partial.wgsl"));
const CLIP_VALUE: Part = Text(include_str!("../optim/clip_value.wgsl"));
const STATUS: Part = Text(include_str!("../optim/status.wgsl"));
const TOKEN: Part = Text(include_str!("../sequence/token.wgsl"));
const SORT_ROWS: Part = Text(include_str!("../sequence/sort_rows.wgsl"));
const RUNS: Part = Text(include_str!("../sequence/runs.wgsl"));
const TEAM: Part = Text(include_str!("../sequence/team.wgsl"));
const THREEFRY: Part = Text(include_str!("../sequence/threefry.wgsl"));
const ROW_ENDS: Part = Text(include_str!("../sequence/row_ends.wgsl"));
const WG_SIZE: Const = Const::U32("WG_SIZE");
const ROWS: Const = Const::U32("ROWS");
const ACTIVATION: Const = Const::U32("ACTIVATION");

/// A row whose params are `$params`.
macro_rules! row {
    ($name:literal, $params:ident, [$($part:expr),*], [$($access:expr),*], [$($const:expr),*]) => {
        &KernelSpec {
            name: $name,
            parts: &[$($part),*],
            bindings: &[$($access),*],
            params: <params::$params as Params>::WGSL_NAME,
            params_bytes: size_of::<params::$params>(),
            consts: &[WG_SIZE, $($const),*],
        }
    };
}

impl KernelId {
    /// Every kernel.
    pub const ALL: [KernelId; 33] = [
        KernelId::StepForward,
        KernelId::StepBackward,
        KernelId::InitialBackward,
        KernelId::MatMul,
        KernelId::SumSlices,
        KernelId::Pack,
        KernelId::UnpackGradient,
        KernelId::ColumnSum,
        KernelId::ActivationBackward,
        KernelId::ElementLoss,
        KernelId::CrossEntropy,
        KernelId::SumLoss,
        KernelId::GradientNorm,
        KernelId::FinishNorm,
        KernelId::Sgd,
        KernelId::RmsProp,
        KernelId::Adam,
        KernelId::GatherRows,
        KernelId::RowCounts,
        KernelId::RowPlaces,
        KernelId::PlaceRows,
        KernelId::RunSums,
        KernelId::AddRuns,
        KernelId::Softmax,
        KernelId::SoftmaxBackward,
        KernelId::Dropout,
        KernelId::Add,
        KernelId::MaskRows,
        KernelId::LastRows,
        KernelId::LastRowsBackward,
        KernelId::CopyBlock,
        KernelId::Repeat,
        KernelId::Fill,
    ];

    /// The kernel's row.
    pub fn spec(self) -> &'static KernelSpec {
        match self {
            KernelId::StepForward => row!(
                "step_forward",
                StepForward,
                [ACTIVATIONS, Part::Cell, Part::Lanes, Text(include_str!("../scan/step_forward.wgsl"))],
                [Read, Write, Write, Write],
                [ROWS, Const::Bool("SAVE")]
            ),
            KernelId::StepBackward => row!(
                "step_backward",
                StepBackward,
                [
                    ACTIVATIONS,
                    Part::Cell,
                    Part::Lanes,
                    RECURRENT_GRADIENT,
                    Text(include_str!("../scan/step_backward.wgsl"))
                ],
                [Read, Read, Read, Read, Read, Write, Write],
                [ROWS]
            ),
            KernelId::InitialBackward => row!(
                "initial_backward",
                InitialBackward,
                [
                    ACTIVATIONS,
                    Part::Cell,
                    Part::Lanes,
                    RECURRENT_GRADIENT,
                    Text(include_str!("../scan/initial_backward.wgsl"))
                ],
                [Read, Read, Write],
                [ROWS]
            ),
            KernelId::MatMul => row!(
                "matmul",
                MatMul,
                [ACTIVATIONS, Part::Lanes, Part::Columns, Text(include_str!("../linear/matmul.wgsl"))],
                [Read, Read, Read, Write],
                [ROWS, Const::U32("COLUMNS"), Const::Bool("BIAS"), ACTIVATION]
            ),
            KernelId::SumSlices => row!(
                "sum_slices",
                SumSlices,
                [ACTIVATIONS, Text(include_str!("../linear/sum_slices.wgsl"))],
                [Read, Read, Write],
                [Const::Bool("BIAS"), ACTIVATION]
            ),
            KernelId::Pack => row!(
                "pack",
                Pack,
                [Text(include_str!("../linear/pack.wgsl"))],
                [Read, Read, Write],
                [Const::Bool("WITH_OTHER")]
            ),
            KernelId::UnpackGradient => row!(
                "unpack_gradient",
                UnpackGradient,
                [Text(include_str!("../linear/unpack_gradient.wgsl"))],
                [Read, Write],
                []
            ),
            KernelId::ColumnSum => row!(
                "column_sum",
                ColumnSum,
                [Text(include_str!("../linear/column_sum.wgsl"))],
                [Read, Write],
                []
            ),
            KernelId::ActivationBackward => row!(
                "activation_backward",
                ActivationBackward,
                [ACTIVATIONS, Text(include_str!("../linear/activation_backward.wgsl"))],
                [Read, Read, Write],
                [ACTIVATION]
            ),
            KernelId::ElementLoss => row!(
                "element_loss",
                ElementLoss,
                [Text(include_str!("../loss/element_loss.wgsl"))],
                [Read, Read, Read, Write, Write],
                [Const::U32("LOSS")]
            ),
            KernelId::CrossEntropy => row!(
                "cross_entropy",
                CrossEntropy,
                [Text(include_str!("../loss/cross_entropy.wgsl"))],
                [Read, Read, Read, Write, Write],
                [Const::Bool("WIDE")]
            ),
            KernelId::SumLoss => {
                row!("sum_loss", SumLoss, [Text(include_str!("../loss/sum_loss.wgsl"))], [Read, Write], [])
            }
            KernelId::GradientNorm => row!(
                "gradient_norm",
                GradientNorm,
                [PARTIAL, CLIP_VALUE, Text(include_str!("../optim/gradient_norm.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::FinishNorm => row!(
                "finish_norm",
                FinishNorm,
                [STATUS, PARTIAL, Text(include_str!("../optim/finish_norm.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::Sgd => row!(
                "sgd",
                Sgd,
                [STATUS, CLIP_VALUE, Text(include_str!("../optim/sgd.wgsl"))],
                [Read, Read, Read, Write, Write],
                []
            ),
            KernelId::RmsProp => row!(
                "rmsprop",
                RmsProp,
                [STATUS, CLIP_VALUE, Text(include_str!("../optim/rmsprop.wgsl"))],
                [Read, Read, Read, Write, Write, Write, Write],
                [Const::Bool("CENTERED")]
            ),
            KernelId::Adam => row!(
                "adam",
                Adam,
                [STATUS, CLIP_VALUE, Text(include_str!("../optim/adam.wgsl"))],
                [Read, Read, Read, Write, Write, Write],
                [Const::Bool("DECOUPLED")]
            ),
            KernelId::GatherRows => row!(
                "gather_rows",
                GatherRows,
                [TOKEN, Text(include_str!("../sequence/gather_rows.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::RowCounts => row!(
                "row_counts",
                SortRows,
                [TOKEN, SORT_ROWS, Text(include_str!("../sequence/row_counts.wgsl"))],
                [Read, Read, Write],
                [Const::Bool("FIRST")]
            ),
            KernelId::RowPlaces => row!(
                "row_places",
                RowPlaces,
                [Text(include_str!("../sequence/row_places.wgsl"))],
                [Write],
                []
            ),
            KernelId::PlaceRows => row!(
                "place_rows",
                SortRows,
                [TOKEN, SORT_ROWS, Text(include_str!("../sequence/place_rows.wgsl"))],
                [Read, Read, Read, Write],
                [Const::Bool("FIRST")]
            ),
            KernelId::RunSums => row!(
                "run_sums",
                Runs,
                [TOKEN, RUNS, Text(include_str!("../sequence/run_sums.wgsl"))],
                [Read, Read, Read, Write],
                []
            ),
            KernelId::AddRuns => row!(
                "add_runs",
                Runs,
                [TOKEN, RUNS, Text(include_str!("../sequence/add_runs.wgsl"))],
                [Read, Read, Read, Write],
                []
            ),
            KernelId::Softmax => row!(
                "softmax",
                Softmax,
                [ACTIVATIONS, TEAM, Text(include_str!("../sequence/softmax.wgsl"))],
                [Read, Write],
                [Const::U32("TEAM")]
            ),
            KernelId::SoftmaxBackward => row!(
                "softmax_backward",
                SoftmaxBackward,
                [TEAM, Text(include_str!("../sequence/softmax_backward.wgsl"))],
                [Read, Read, Write],
                [Const::U32("TEAM")]
            ),
            KernelId::Dropout => row!(
                "dropout",
                Dropout,
                [THREEFRY, Text(include_str!("../sequence/dropout.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::Add => {
                row!(
                    "add",
                    Add,
                    [Text(include_str!("../sequence/add.wgsl"))],
                    [Read, Read, Write],
                    [Const::Bool("INTO")]
                )
            }
            KernelId::MaskRows => row!(
                "mask_rows",
                MaskRows,
                [Text(include_str!("../sequence/mask_rows.wgsl"))],
                [Read, Write],
                []
            ),
            KernelId::LastRows => row!(
                "last_rows",
                RowEnds,
                [ROW_ENDS, Text(include_str!("../sequence/last_rows.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::LastRowsBackward => row!(
                "last_rows_backward",
                RowEnds,
                [ROW_ENDS, Text(include_str!("../sequence/last_rows_backward.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::CopyBlock => row!(
                "copy_block",
                CopyBlock,
                [Text(include_str!("../sequence/copy_block.wgsl"))],
                [Read, Write],
                []
            ),
            KernelId::Repeat => {
                row!("repeat", Repeat, [Text(include_str!("../sequence/repeat.wgsl"))], [Read, Write], [])
            }
            KernelId::Fill => row!("fill", Fill, [Text(include_str!("../sequence/fill.wgsl"))], [Write], []),
        }
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }
}
