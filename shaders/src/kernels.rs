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
    /// How the cell's gates lie side by side.
    Gates,
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
    /// `const NAME: f32`; a variant gives its bits.
    F32(&'static str),
}

impl Const {
    /// The constant's name.
    pub fn name(self) -> &'static str {
        match self {
            Const::U32(name) | Const::Bool(name) | Const::F32(name) => name,
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

/// A recurrent cell that a scan can be joined with, or a stage of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cell {
    /// The vanilla cell.
    Rnn,
    /// Long short-term memory.
    Lstm,
    /// The gated recurrent unit, its reset gate behind the product.
    Gru,
    /// The first stage of a gated recurrent unit whose reset gate acts in front of the product.
    GruReset,
    /// Its second stage.
    GruUpdate,
    /// What is read out of h within a step; forward alone.
    Readout,
}

/// The consts of one function of a cell.
macro_rules! function {
    ($name:literal) => {
        [
            Const::U32(concat!($name, "_FUNCTION")),
            Const::F32(concat!($name, "_ALPHA")),
            Const::F32(concat!($name, "_BETA")),
        ]
    };
}

const GATE: [Const; 3] = function!("GATE");
const CANDIDATE: [Const; 3] = function!("CANDIDATE");
const OUTPUT: [Const; 3] = function!("OUTPUT");

impl Cell {
    /// Every cell.
    pub const ALL: [Cell; 6] =
        [Cell::Rnn, Cell::Lstm, Cell::Gru, Cell::GruReset, Cell::GruUpdate, Cell::Readout];

    /// The cell's WGSL.
    pub fn text(self) -> &'static str {
        match self {
            Cell::Rnn => include_str!("../cells/rnn.wgsl"),
            Cell::Lstm => include_str!("../cells/lstm.wgsl"),
            Cell::Gru => include_str!("../cells/gru.wgsl"),
            Cell::GruReset => include_str!("../cells/gru_reset.wgsl"),
            Cell::GruUpdate => include_str!("../cells/gru_update.wgsl"),
            Cell::Readout => include_str!("../cells/readout.wgsl"),
        }
    }

    /// Lanes of a unit, side by side on the device: one for each gate, and more where a gate needs them.
    pub fn lanes(self) -> u32 {
        match self {
            Cell::Rnn | Cell::Readout => 1,
            Cell::Lstm | Cell::Gru | Cell::GruReset | Cell::GruUpdate => 4,
        }
    }

    /// Of them, those that the recurrent product of a step adds to; `Product` in the cell's text has as many.
    pub fn product_lanes(self) -> u32 {
        if self == Cell::GruUpdate { 1 } else { self.lanes() }
    }

    /// Whether there is a state beside h.
    pub fn has_state(self) -> bool {
        self == Cell::Lstm
    }

    /// Whether it has a backward of its own.
    pub fn has_backward(self) -> bool {
        self != Cell::Readout
    }

    /// What a variant must say of the cell.
    pub fn consts(self) -> Vec<Const> {
        let own: &[&[Const]] = match self {
            Cell::Rnn | Cell::Readout => &[&CANDIDATE],
            Cell::Lstm => &[&GATE, &CANDIDATE, &OUTPUT, &[Const::U32("COUPLED"), Const::Bool("SQUASHED")]],
            Cell::Gru | Cell::GruUpdate => &[&GATE, &CANDIDATE],
            Cell::GruReset => &[&GATE],
        };
        [own.concat(), vec![Const::F32("CLIP"), Const::Bool("KEEP_PRE")]].concat()
    }

    /// `lstm`
    pub fn name(self) -> &'static str {
        match self {
            Cell::Rnn => "rnn",
            Cell::Lstm => "lstm",
            Cell::Gru => "gru",
            Cell::GruReset => "gru_reset",
            Cell::GruUpdate => "gru_update",
            Cell::Readout => "readout",
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
    /// One time step backward, behind a readout or a second stage of the same step.
    StepBackwardInner,
    /// The gradient of a step's readout.
    ReadoutBackward,
    /// The gradient of the initial h.
    InitialBackward,
    /// Initial values at each row's own first step.
    StartRows,
    /// Final values of each row.
    FinalRows,
    /// One scan's part of its layer's output.
    ScanOutput,
    /// The gradient of an LSTM's peepholes.
    PeepholeGradient,
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
const ANY_CELL: Part = Text(include_str!("../cells/cell.wgsl"));
const ROWS_OF_STEP: Part = Text(include_str!("../scan/rows.wgsl"));
const OWN_UNITS: Part = Text(include_str!("../scan/units.wgsl"));
const ENDS_OF_ROWS: Part = Text(include_str!("../scan/ends.wgsl"));
const RECURRENT_GRADIENT: Part = Text(include_str!("../scan/recurrent_gradient.wgsl"));
const FROM_RECURRENCE: Part = Text(include_str!("../scan/from_recurrence.wgsl"));
const FROM_INNER: Part = Text(include_str!("../scan/from_inner.wgsl"));
const STEP_BACKWARD: Part = Text(include_str!("../scan/step_backward.wgsl"));
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
const ALPHA: Const = Const::F32("ALPHA");
const BETA: Const = Const::F32("BETA");
const KEEP_PRE: Const = Const::Bool("KEEP_PRE");
const UNITS: Const = Const::U32("UNITS");
const SEGMENTS: Const = Const::U32("SEGMENTS");
const LENGTHS: Const = Const::Bool("LENGTHS");
const ENDS: Const = Const::Bool("ENDS");

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
    pub const ALL: [KernelId; 39] = [
        KernelId::StepForward,
        KernelId::StepBackward,
        KernelId::StepBackwardInner,
        KernelId::ReadoutBackward,
        KernelId::InitialBackward,
        KernelId::StartRows,
        KernelId::FinalRows,
        KernelId::ScanOutput,
        KernelId::PeepholeGradient,
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
                [
                    ACTIVATIONS,
                    Part::Gates,
                    ANY_CELL,
                    Part::Cell,
                    Part::Lanes,
                    ROWS_OF_STEP,
                    OWN_UNITS,
                    Text(include_str!("../scan/step_forward.wgsl"))
                ],
                [Read, Read, Read, Write, Write, Write],
                [ROWS, UNITS, SEGMENTS, LENGTHS, Const::Bool("SAVE")]
            ),
            KernelId::StepBackward => row!(
                "step_backward",
                StepBackward,
                [
                    ACTIVATIONS,
                    Part::Gates,
                    ANY_CELL,
                    Part::Cell,
                    Part::Lanes,
                    ROWS_OF_STEP,
                    OWN_UNITS,
                    ENDS_OF_ROWS,
                    RECURRENT_GRADIENT,
                    FROM_RECURRENCE,
                    STEP_BACKWARD
                ],
                [Read, Read, Read, Read, Read, Read, Write, Write],
                [ROWS, UNITS, SEGMENTS, LENGTHS, ENDS]
            ),
            KernelId::StepBackwardInner => row!(
                "step_backward_inner",
                StepBackwardInner,
                [
                    ACTIVATIONS,
                    Part::Gates,
                    ANY_CELL,
                    Part::Cell,
                    Part::Lanes,
                    ROWS_OF_STEP,
                    OWN_UNITS,
                    FROM_INNER,
                    STEP_BACKWARD
                ],
                [Read, Read, Read, Read, Read, Write, Write],
                [ROWS, UNITS, LENGTHS, Const::Bool("WITH_ROW")]
            ),
            KernelId::ReadoutBackward => row!(
                "readout_backward",
                ReadoutBackward,
                [
                    ACTIVATIONS,
                    Part::Gates,
                    Part::Lanes,
                    ROWS_OF_STEP,
                    ENDS_OF_ROWS,
                    RECURRENT_GRADIENT,
                    Text(include_str!("../scan/readout_backward.wgsl"))
                ],
                [Read, Read, Read, Read, Write, Write],
                [ROWS, SEGMENTS, LENGTHS, ENDS, ACTIVATION, ALPHA, BETA, KEEP_PRE]
            ),
            KernelId::InitialBackward => row!(
                "initial_backward",
                InitialBackward,
                [
                    Part::Gates,
                    Part::Lanes,
                    ENDS_OF_ROWS,
                    RECURRENT_GRADIENT,
                    Text(include_str!("../scan/initial_backward.wgsl"))
                ],
                [Read, Read, Read, Read, Write],
                [ROWS, SEGMENTS, LENGTHS, ENDS]
            ),
            KernelId::StartRows => row!(
                "start_rows",
                StartRows,
                [ENDS_OF_ROWS, Text(include_str!("../scan/start_rows.wgsl"))],
                [Read, Read, Write],
                [LENGTHS, Const::Bool("WITH_START")]
            ),
            KernelId::FinalRows => row!(
                "final_rows",
                FinalRows,
                [ENDS_OF_ROWS, Text(include_str!("../scan/final_rows.wgsl"))],
                [Read, Read, Write],
                [LENGTHS]
            ),
            KernelId::ScanOutput => row!(
                "scan_output",
                ScanOutput,
                [Text(include_str!("../scan/scan_output.wgsl"))],
                [Read, Read, Write],
                [LENGTHS, Const::Bool("ADD")]
            ),
            KernelId::PeepholeGradient => row!(
                "peephole_gradient",
                PeepholeGradient,
                [Text(include_str!("../scan/peephole_gradient.wgsl"))],
                [Read, Read, Write],
                []
            ),
            KernelId::MatMul => row!(
                "matmul",
                MatMul,
                [ACTIVATIONS, Part::Lanes, Part::Columns, Text(include_str!("../linear/matmul.wgsl"))],
                [Read, Read, Read, Read, Write],
                [
                    ROWS,
                    Const::U32("COLUMNS"),
                    Const::Bool("BIAS"),
                    Const::Bool("SKIP_ROWS"),
                    Const::Bool("SKIP_INNER"),
                    ACTIVATION,
                    ALPHA,
                    BETA
                ]
            ),
            KernelId::SumSlices => row!(
                "sum_slices",
                SumSlices,
                [ACTIVATIONS, Text(include_str!("../linear/sum_slices.wgsl"))],
                [Read, Read, Write],
                [Const::Bool("BIAS"), ACTIVATION, ALPHA, BETA]
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
                [ACTIVATION, ALPHA, BETA, KEEP_PRE]
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
