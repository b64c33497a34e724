//! Embeddings, softmax and dropout, and kernels that move rows and elements.

use super::Access::{Read, Write};
use super::Part::Text;
use super::{ACTIVATIONS, Const, KernelSpec, Part, WG_SIZE};
use crate::params;

const TOKEN: Part = Text(include_str!("../../sequence/token.wgsl"));
const SORT_ROWS: Part = Text(include_str!("../../sequence/sort_rows.wgsl"));
const RUNS: Part = Text(include_str!("../../sequence/runs.wgsl"));
const TEAM: Part = Text(include_str!("../../sequence/team.wgsl"));
const NORMALISE: Part = Text(include_str!("../../sequence/normalise.wgsl"));
const POOL_ROWS: Part = Text(include_str!("../../sequence/pool_rows.wgsl"));
const THREEFRY: Part = Text(include_str!("../../sequence/threefry.wgsl"));
const CONVOLUTION: Part = Text(include_str!("../../sequence/convolution.wgsl"));
const ROW_ENDS: Part = Text(include_str!("../../sequence/row_ends.wgsl"));

pub(super) static GATHER_ROWS: KernelSpec = KernelSpec {
    parts: &[TOKEN, Text(include_str!("../../sequence/gather_rows.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::GatherRows>("gather_rows")
};

pub(super) static ROW_COUNTS: KernelSpec = KernelSpec {
    parts: &[TOKEN, SORT_ROWS, Text(include_str!("../../sequence/row_counts.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("FIRST")],
    ..KernelSpec::of::<params::SortRows>("row_counts")
};

pub(super) static ROW_PLACES: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/row_places.wgsl"))],
    bindings: &[Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::RowPlaces>("row_places")
};

pub(super) static PLACE_ROWS: KernelSpec = KernelSpec {
    parts: &[TOKEN, SORT_ROWS, Text(include_str!("../../sequence/place_rows.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("FIRST")],
    ..KernelSpec::of::<params::SortRows>("place_rows")
};

pub(super) static RUN_SUMS: KernelSpec = KernelSpec {
    parts: &[TOKEN, RUNS, Text(include_str!("../../sequence/run_sums.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Runs>("run_sums")
};

pub(super) static ADD_RUNS: KernelSpec = KernelSpec {
    parts: &[TOKEN, RUNS, Text(include_str!("../../sequence/add_runs.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Runs>("add_runs")
};

pub(super) static SOFTMAX: KernelSpec = KernelSpec {
    parts: &[ACTIVATIONS, TEAM, Text(include_str!("../../sequence/softmax.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE, Const::U32("TEAM")],
    ..KernelSpec::of::<params::Softmax>("softmax")
};

pub(super) static SOFTMAX_BACKWARD: KernelSpec = KernelSpec {
    parts: &[TEAM, Text(include_str!("../../sequence/softmax_backward.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, Const::U32("TEAM")],
    ..KernelSpec::of::<params::SoftmaxBackward>("softmax_backward")
};

pub(super) static NORMALISE_ROWS: KernelSpec = KernelSpec {
    parts: &[TEAM, NORMALISE, Text(include_str!("../../sequence/normalise_rows.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::U32("TEAM")],
    ..KernelSpec::of::<params::NormaliseRows>("normalise_rows")
};

pub(super) static NORMALISE_ROWS_BACKWARD: KernelSpec = KernelSpec {
    parts: &[TEAM, NORMALISE, Text(include_str!("../../sequence/normalise_rows_backward.wgsl"))],
    bindings: &[Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, Const::U32("TEAM"), Const::Bool("PRODUCTS")],
    ..KernelSpec::of::<params::NormaliseRows>("normalise_rows_backward")
};

pub(super) static NORMALISE_ROWS_TANGENT: KernelSpec = KernelSpec {
    parts: &[TEAM, NORMALISE, Text(include_str!("../../sequence/normalise_rows_tangent.wgsl"))],
    bindings: &[Read, Read, Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::U32("TEAM")],
    ..KernelSpec::of::<params::NormaliseRows>("normalise_rows_tangent")
};

pub(super) static POOL: KernelSpec = KernelSpec {
    parts: &[POOL_ROWS, Text(include_str!("../../sequence/pool.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("LENGTHS"), Const::Bool("MEAN")],
    ..KernelSpec::of::<params::Pool>("pool")
};

pub(super) static POOL_BACKWARD: KernelSpec = KernelSpec {
    parts: &[POOL_ROWS, Text(include_str!("../../sequence/pool_backward.wgsl"))],
    bindings: &[Read, Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("LENGTHS"), Const::Bool("MEAN")],
    ..KernelSpec::of::<params::Pool>("pool_backward")
};

pub(super) static DROPOUT: KernelSpec = KernelSpec {
    parts: &[THREEFRY, Text(include_str!("../../sequence/dropout.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Dropout>("dropout")
};

pub(super) static ADD: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/add.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("INTO")],
    ..KernelSpec::of::<params::Add>("add")
};

pub(super) static MASK_ROWS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/mask_rows.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::MaskRows>("mask_rows")
};

pub(super) static LAST_ROWS: KernelSpec = KernelSpec {
    parts: &[ROW_ENDS, Text(include_str!("../../sequence/last_rows.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::RowEnds>("last_rows")
};

pub(super) static LAST_ROWS_BACKWARD: KernelSpec = KernelSpec {
    parts: &[ROW_ENDS, Text(include_str!("../../sequence/last_rows_backward.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::RowEnds>("last_rows_backward")
};

pub(super) static UNFOLD: KernelSpec = KernelSpec {
    parts: &[CONVOLUTION, Text(include_str!("../../sequence/unfold.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("LENGTHS")],
    ..KernelSpec::of::<params::Convolution>("unfold")
};

pub(super) static FOLD: KernelSpec = KernelSpec {
    parts: &[CONVOLUTION, Text(include_str!("../../sequence/fold.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, Const::Bool("LENGTHS")],
    ..KernelSpec::of::<params::Convolution>("fold")
};

pub(super) static CONVOLVED_LENGTHS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/convolved_lengths.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::ConvolvedLengths>("convolved_lengths")
};

pub(super) static COPY_BLOCK: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/copy_block.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::CopyBlock>("copy_block")
};

pub(super) static REPEAT: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/repeat.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Repeat>("repeat")
};

pub(super) static FILL: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../sequence/fill.wgsl"))],
    bindings: &[Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::Fill>("fill")
};
