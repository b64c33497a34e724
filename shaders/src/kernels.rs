//! The table of kernels, one row each.

mod grid;
mod linear;
mod loss;
mod optim;
mod scan;
mod sequence;

pub use loss::ElementLossKind;

use crate::params::Params;

/// A kernel's use of a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and written.
    Write,
}

/// A piece of a kernel's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text that is the same in every variant.
    Text(&'static str),
    /// The type of a unit's gates: `gates_f32` or `gates_vec4`.
    Gates,
    /// A slot passed around among lanes: `spread_f32` or `spread_vec4`.
    Spread,
    /// The cell's file.
    Cell,
    /// `lanes_subgroup` or `lanes_single`.
    Lanes,
    /// `columns_vec4` or `columns_f32`.
    Columns,
    /// `parts_subgroup` or `parts_shared`.
    Parts,
    /// `grid_subgroup` or `grid_single`.
    GridParts,
}

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
    /// The fields of the params struct, name and type, each of four bytes.
    pub fields: &'static [(&'static str, &'static str)],
    /// The constants that a variant must give.
    pub consts: &'static [Const],
    /// The place of a member in each binding; empty for kernels that run alone.
    pub places: &'static [Place],
}

/// The place of a member in a binding, for kernels that can run several members in one dispatch: the same work on other
/// parts of the same buffers, one member to each workgroup along z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All members bind the same part.
    Shared,
    /// The field that says where a member's part begins, in single values.
    Values(&'static str),
    /// The same in slots: the lanes of a unit.
    Slots(&'static str),
    /// The same in products: the lanes of a unit that a product fills.
    Products(&'static str),
}

impl KernelSpec {
    /// The index of a field of the params.
    ///
    /// # Panics
    /// If they have no such field.
    pub fn field(&self, name: &str) -> usize {
        let found = self.fields.iter().position(|(field, _)| *field == name);
        found.unwrap_or_else(|| panic!("{} has no field {name}", self.params))
    }

    /// A row with params `P`, and without text, bindings and constants.
    const fn of<P: Params>(name: &'static str) -> KernelSpec {
        KernelSpec {
            name,
            parts: &[],
            bindings: &[],
            params: P::WGSL_NAME,
            params_bytes: size_of::<P>(),
            fields: P::FIELDS,
            consts: &[],
            places: &[],
        }
    }
}

/// Every kernel of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelId {
    /// One time step forward.
    StepForward,
    /// The tangent of one time step.
    StepTangent,
    /// One time step backward.
    StepBackward,
    /// One time step backward, after a readout or a second stage of the same step.
    StepBackwardInner,
    /// One time step forward after its product, a row at a time.
    RowForward,
    /// One time step backward before its product, a row at a time.
    RowBackward,
    /// Many time steps forward, a row in each workgroup, with sums over it.
    RowScanForward,
    /// Many time steps backward, likewise.
    RowScanBackward,
    /// Many time steps forward.
    ScanForward,
    /// Many time steps backward.
    ScanBackward,
    /// Many time steps forward, their units spread over workgroups that wait for each other.
    GridForward,
    /// Many time steps backward, likewise.
    GridBackward,
    /// A try whether so many workgroups run at the same time.
    GridProbe,
    /// The gradient of a step's readout.
    ReadoutBackward,
    /// The gradient with respect to the initial h.
    InitialBackward,
    /// Initial values, before each row's own first step.
    InitialRows,
    /// Final values of each row.
    FinalRows,
    /// The lengths of the sequences that a dilated scan interleaves.
    InterleavedLengths,
    /// The states of a dilated scan by sequence instead of by time, or back.
    InterleavedRows,
    /// One scan's part of its layer's output.
    ScanOutput,
    /// The gradient with respect to an LSTM's peepholes.
    PeepholeGradient,
    /// A matrix product, or a slice of one.
    MatMul,
    /// The same through workgroup memory.
    MatMulStaged,
    /// The second pass of a split matrix product.
    SumSlices,
    /// A tensor with its axes in the order in which a kernel walks it.
    Pack,
    /// Slices of a packed gradient added into the parameter's gradient.
    UnpackGradient,
    /// Sums of columns.
    ColumnSum,
    /// The gradient with respect to a pre-activation.
    ActivationBackward,
    /// A loss that treats each target on its own, and its gradient.
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
    /// The moving average of the parameters.
    Average,
    /// Rows of a table, by token.
    GatherRows,
    /// The count of rows of each block with each digit.
    RowCounts,
    /// The places that rows of each digit move to.
    RowPlaces,
    /// Rows put in order of a digit.
    PlaceRows,
    /// Sums of the rows of one token, by stretches.
    RunSums,
    /// Those sums added to the table's gradient.
    AddRuns,
    /// The softmax of each row.
    Softmax,
    /// The gradient of the softmax.
    SoftmaxBackward,
    /// Layer normalisation of each row.
    NormaliseRows,
    /// The gradient of the layer normalisation.
    NormaliseRowsBackward,
    /// The tangent of the layer normalisation.
    NormaliseRowsTangent,
    /// The largest value or the mean of each row's steps.
    Pool,
    /// The gradient of those.
    PoolBackward,
    /// Dropout.
    Dropout,
    /// The sum of two tensors, or one added to another.
    Add,
    /// Zeros past the end of each row.
    MaskRows,
    /// The last step of each row.
    LastRows,
    /// The gradient of the last step.
    LastRowsBackward,
    /// The values that each output step of a convolution reads.
    Unfold,
    /// The gradient of those values, added up.
    Fold,
    /// The length of each row after a convolution.
    ConvolvedLengths,
    /// A block of columns copied between tensors of different width.
    CopyBlock,
    /// A block repeated.
    Repeat,
    /// A constant.
    Fill,
}

const ACTIVATIONS: Part = Part::Text(include_str!("../shared/activations.wgsl"));
const WG_SIZE: Const = Const::U32("WG_SIZE");
const ROWS: Const = Const::U32("ROWS");
const ACTIVATION: Const = Const::U32("ACTIVATION");
const ALPHA: Const = Const::F32("ALPHA");
const BETA: Const = Const::F32("BETA");
const KEEP_PRE: Const = Const::Bool("KEEP_PRE");

impl KernelId {
    /// Every kernel.
    pub const ALL: [KernelId; 61] = [
        KernelId::StepForward,
        KernelId::StepTangent,
        KernelId::StepBackward,
        KernelId::StepBackwardInner,
        KernelId::RowForward,
        KernelId::RowBackward,
        KernelId::RowScanForward,
        KernelId::RowScanBackward,
        KernelId::ScanForward,
        KernelId::ScanBackward,
        KernelId::GridForward,
        KernelId::GridBackward,
        KernelId::GridProbe,
        KernelId::ReadoutBackward,
        KernelId::InitialBackward,
        KernelId::InitialRows,
        KernelId::FinalRows,
        KernelId::InterleavedLengths,
        KernelId::InterleavedRows,
        KernelId::ScanOutput,
        KernelId::PeepholeGradient,
        KernelId::MatMul,
        KernelId::MatMulStaged,
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
        KernelId::Average,
        KernelId::GatherRows,
        KernelId::RowCounts,
        KernelId::RowPlaces,
        KernelId::PlaceRows,
        KernelId::RunSums,
        KernelId::AddRuns,
        KernelId::Softmax,
        KernelId::SoftmaxBackward,
        KernelId::NormaliseRows,
        KernelId::NormaliseRowsBackward,
        KernelId::NormaliseRowsTangent,
        KernelId::Pool,
        KernelId::PoolBackward,
        KernelId::Dropout,
        KernelId::Add,
        KernelId::MaskRows,
        KernelId::LastRows,
        KernelId::LastRowsBackward,
        KernelId::Unfold,
        KernelId::Fold,
        KernelId::ConvolvedLengths,
        KernelId::CopyBlock,
        KernelId::Repeat,
        KernelId::Fill,
    ];

    /// The kernel's row.
    pub fn spec(self) -> &'static KernelSpec {
        match self {
            KernelId::StepForward => &scan::STEP_FORWARD,
            KernelId::StepTangent => &scan::STEP_TANGENT,
            KernelId::StepBackward => &scan::STEP_BACKWARD,
            KernelId::StepBackwardInner => &scan::STEP_BACKWARD_INNER,
            KernelId::RowForward => &scan::ROW_FORWARD,
            KernelId::RowBackward => &scan::ROW_BACKWARD,
            KernelId::RowScanForward => &scan::ROW_SCAN_FORWARD,
            KernelId::RowScanBackward => &scan::ROW_SCAN_BACKWARD,
            KernelId::ScanForward => &scan::SCAN_FORWARD,
            KernelId::ScanBackward => &scan::SCAN_BACKWARD,
            KernelId::GridForward => &grid::GRID_FORWARD,
            KernelId::GridBackward => &grid::GRID_BACKWARD,
            KernelId::GridProbe => &grid::GRID_PROBE,
            KernelId::ReadoutBackward => &scan::READOUT_BACKWARD,
            KernelId::InitialBackward => &scan::INITIAL_BACKWARD,
            KernelId::InitialRows => &scan::INITIAL_ROWS,
            KernelId::FinalRows => &scan::FINAL_ROWS,
            KernelId::InterleavedLengths => &scan::INTERLEAVED_LENGTHS,
            KernelId::InterleavedRows => &scan::INTERLEAVED_ROWS,
            KernelId::ScanOutput => &scan::SCAN_OUTPUT,
            KernelId::PeepholeGradient => &scan::PEEPHOLE_GRADIENT,
            KernelId::MatMul => &linear::MATMUL,
            KernelId::MatMulStaged => &linear::MATMUL_STAGED,
            KernelId::SumSlices => &linear::SUM_SLICES,
            KernelId::Pack => &linear::PACK,
            KernelId::UnpackGradient => &linear::UNPACK_GRADIENT,
            KernelId::ColumnSum => &linear::COLUMN_SUM,
            KernelId::ActivationBackward => &linear::ACTIVATION_BACKWARD,
            KernelId::ElementLoss => &loss::ELEMENT_LOSS,
            KernelId::CrossEntropy => &loss::CROSS_ENTROPY,
            KernelId::SumLoss => &loss::SUM_LOSS,
            KernelId::GradientNorm => &optim::GRADIENT_NORM,
            KernelId::FinishNorm => &optim::FINISH_NORM,
            KernelId::Sgd => &optim::SGD,
            KernelId::RmsProp => &optim::RMSPROP,
            KernelId::Adam => &optim::ADAM,
            KernelId::Average => &optim::AVERAGE,
            KernelId::GatherRows => &sequence::GATHER_ROWS,
            KernelId::RowCounts => &sequence::ROW_COUNTS,
            KernelId::RowPlaces => &sequence::ROW_PLACES,
            KernelId::PlaceRows => &sequence::PLACE_ROWS,
            KernelId::RunSums => &sequence::RUN_SUMS,
            KernelId::AddRuns => &sequence::ADD_RUNS,
            KernelId::Softmax => &sequence::SOFTMAX,
            KernelId::SoftmaxBackward => &sequence::SOFTMAX_BACKWARD,
            KernelId::NormaliseRows => &sequence::NORMALISE_ROWS,
            KernelId::NormaliseRowsBackward => &sequence::NORMALISE_ROWS_BACKWARD,
            KernelId::NormaliseRowsTangent => &sequence::NORMALISE_ROWS_TANGENT,
            KernelId::Pool => &sequence::POOL,
            KernelId::PoolBackward => &sequence::POOL_BACKWARD,
            KernelId::Dropout => &sequence::DROPOUT,
            KernelId::Add => &sequence::ADD,
            KernelId::MaskRows => &sequence::MASK_ROWS,
            KernelId::LastRows => &sequence::LAST_ROWS,
            KernelId::LastRowsBackward => &sequence::LAST_ROWS_BACKWARD,
            KernelId::Unfold => &sequence::UNFOLD,
            KernelId::Fold => &sequence::FOLD,
            KernelId::ConvolvedLengths => &sequence::CONVOLVED_LENGTHS,
            KernelId::CopyBlock => &sequence::COPY_BLOCK,
            KernelId::Repeat => &sequence::REPEAT,
            KernelId::Fill => &sequence::FILL,
        }
    }

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether its workgroups wait for each other, which takes coherent storage and a device that runs all at the same time.
    pub fn waits(self) -> bool {
        matches!(self, KernelId::GridForward | KernelId::GridBackward | KernelId::GridProbe)
    }
}
