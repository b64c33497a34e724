//! Recurrent steps, and the kernels that run before and after them.

use super::Access::{Read, Write};
use super::Part::Text;
use super::Place::{Products, Shared, Slots, Values};
use super::{ACTIVATION, ACTIVATIONS, ALPHA, BETA, Const, KEEP_PRE, KernelSpec, Part, ROWS, WG_SIZE};
use crate::params;

pub(super) const ANY_CELL: Part = Text(include_str!("../../cells/cell.wgsl"));
pub(super) const ROWS_OF_STEP: Part = Text(include_str!("../../scan/rows.wgsl"));
pub(super) const OWN_UNITS: Part = Text(include_str!("../../scan/units.wgsl"));
pub(super) const SLOTS_OF_ROWS: Part = Text(include_str!("../../scan/slots.wgsl"));
const RECURRENT_GRADIENT: Part = Text(include_str!("../../scan/recurrent_gradient.wgsl"));
const FROM_RECURRENCE: Part = Text(include_str!("../../scan/from_recurrence.wgsl"));
const FROM_INNER: Part = Text(include_str!("../../scan/from_inner.wgsl"));
const BACKWARD_OF_STEP: Part = Text(include_str!("../../scan/step_backward.wgsl"));
pub(super) const OUTSIDE: Part = Text(include_str!("../../scan/outside.wgsl"));
pub(super) const ORDER: Part = Text(include_str!("../../scan/order.wgsl"));
const TILE: Part = Text(include_str!("../../scan/tile.wgsl"));
const ROW: Part = Text(include_str!("../../scan/row.wgsl"));
pub(super) const PARTS: Const = Const::U32("PARTS");
pub(super) const HIDDEN: Const = Const::U32("HIDDEN");
pub(super) const KEPT: Const = Const::U32("KEPT");
pub(super) const UNITS: Const = Const::U32("UNITS");
pub(super) const SEGMENTS: Const = Const::U32("SEGMENTS");
pub(super) const LENGTHS: Const = Const::Bool("LENGTHS");
pub(super) const FINALS: Const = Const::Bool("FINALS");

pub(super) static STEP_FORWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        Part::Lanes,
        ROWS_OF_STEP,
        OWN_UNITS,
        Text(include_str!("../../scan/step_forward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Write, Write, Write],
    consts: &[WG_SIZE, ROWS, UNITS, SEGMENTS, LENGTHS, Const::Bool("SAVE")],
    places: &[
        Products("u_at"),
        Values("units_at"),
        Shared,
        Slots("gates_at"),
        Values("state_at"),
        Values("h_at"),
    ],
    ..KernelSpec::of::<params::StepForward>("step_forward")
};

pub(super) static STEP_TANGENT: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        Part::Lanes,
        ROWS_OF_STEP,
        OWN_UNITS,
        Text(include_str!("../../scan/step_tangent.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, ROWS, UNITS, SEGMENTS, LENGTHS, Const::Bool("SAVE")],
    ..KernelSpec::of::<params::StepTangent>("step_tangent")
};

pub(super) static STEP_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        Part::Lanes,
        ROWS_OF_STEP,
        OWN_UNITS,
        SLOTS_OF_ROWS,
        Part::Spread,
        RECURRENT_GRADIENT,
        OUTSIDE,
        FROM_RECURRENCE,
        BACKWARD_OF_STEP,
    ],
    bindings: &[Read, Read, Read, Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, ROWS, UNITS, SEGMENTS, LENGTHS, FINALS],
    places: &[
        Slots("ut_at"),
        Values("units_at"),
        Shared,
        Values("state_at"),
        Values("h_at"),
        Values("d_out_at"),
        Slots("gates_at"),
        Values("carry_at"),
    ],
    ..KernelSpec::of::<params::StepBackward>("step_backward")
};

pub(super) static STEP_BACKWARD_INNER: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        Part::Lanes,
        ROWS_OF_STEP,
        OWN_UNITS,
        FROM_INNER,
        BACKWARD_OF_STEP,
    ],
    bindings: &[Read, Read, Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, ROWS, UNITS, LENGTHS, Const::Bool("WITH_ROW")],
    places: &[
        Values("weights_at"),
        Values("units_at"),
        Shared,
        Values("state_at"),
        Values("h_at"),
        Slots("gates_at"),
        Values("carry_at"),
    ],
    ..KernelSpec::of::<params::StepBackwardInner>("step_backward_inner")
};

pub(super) static ROW_FORWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        ROW,
        Text(include_str!("../../scan/row_step.wgsl")),
        Text(include_str!("../../scan/row_forward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Write, Write, Write, Write],
    consts: &[
        WG_SIZE,
        ROWS,
        UNITS,
        LENGTHS,
        Const::Bool("NORM"),
        Const::F32("EPSILON"),
        Const::Bool("NOISE"),
        Const::F32("ZONEOUT"),
        Const::F32("ZONEOUT_CELL"),
        Const::Bool("CANDIDATE_MASK"),
        Const::Bool("SAVE"),
    ],
    ..KernelSpec::of::<params::RowForward>("row_forward")
};

pub(super) static ROW_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        ROW,
        Text(include_str!("../../scan/row_step_backward.wgsl")),
        Text(include_str!("../../scan/row_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Read, Write, Write, Write],
    consts: &[
        WG_SIZE,
        ROWS,
        UNITS,
        LENGTHS,
        Const::Bool("NORM"),
        Const::F32("EPSILON"),
        Const::Bool("NOISE"),
        Const::F32("ZONEOUT"),
        Const::F32("ZONEOUT_CELL"),
        Const::Bool("CANDIDATE_MASK"),
    ],
    ..KernelSpec::of::<params::RowBackward>("row_backward")
};

pub(super) static ROW_SCAN_FORWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        SLOTS_OF_ROWS,
        ORDER,
        ROW,
        Text(include_str!("../../scan/row_step.wgsl")),
        Text(include_str!("../../scan/row_scan_forward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Write, Write, Write, Write],
    consts: &[
        WG_SIZE,
        ROWS,
        HIDDEN,
        UNITS,
        LENGTHS,
        Const::Bool("NORM"),
        Const::F32("EPSILON"),
        Const::Bool("NOISE"),
        Const::F32("ZONEOUT"),
        Const::F32("ZONEOUT_CELL"),
        Const::Bool("CANDIDATE_MASK"),
        Const::Bool("SAVE"),
    ],
    ..KernelSpec::of::<params::RowScanForward>("row_scan_forward")
};

pub(super) static ROW_SCAN_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        SLOTS_OF_ROWS,
        ORDER,
        ROW,
        Text(include_str!("../../scan/row_step_backward.wgsl")),
        Text(include_str!("../../scan/row_scan_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Read, Write, Write, Write],
    consts: &[
        WG_SIZE,
        ROWS,
        HIDDEN,
        UNITS,
        LENGTHS,
        Const::Bool("NORM"),
        Const::F32("EPSILON"),
        Const::Bool("NOISE"),
        Const::F32("ZONEOUT"),
        Const::F32("ZONEOUT_CELL"),
        Const::Bool("CANDIDATE_MASK"),
    ],
    ..KernelSpec::of::<params::RowScanBackward>("row_scan_backward")
};

pub(super) static SCAN_FORWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        OWN_UNITS,
        SLOTS_OF_ROWS,
        ORDER,
        TILE,
        Part::Parts,
        Text(include_str!("../../scan/scan_forward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Write, Write, Write],
    consts: &[WG_SIZE, ROWS, PARTS, HIDDEN, KEPT, UNITS, SEGMENTS, LENGTHS, Const::Bool("SAVE")],
    places: &[
        Products("u_at"),
        Values("units_at"),
        Shared,
        Slots("gates_at"),
        Values("state_at"),
        Values("h_at"),
    ],
    ..KernelSpec::of::<params::ScanForward>("scan_forward")
};

pub(super) static SCAN_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        OWN_UNITS,
        SLOTS_OF_ROWS,
        ORDER,
        TILE,
        OUTSIDE,
        Part::Parts,
        Text(include_str!("../../scan/scan_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, ROWS, PARTS, HIDDEN, KEPT, UNITS, SEGMENTS, LENGTHS, FINALS],
    places: &[
        Slots("ut_at"),
        Values("units_at"),
        Shared,
        Values("state_at"),
        Values("h_at"),
        Values("d_out_at"),
        Slots("gates_at"),
        Values("carry_at"),
    ],
    ..KernelSpec::of::<params::ScanBackward>("scan_backward")
};

pub(super) static READOUT_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        Part::Lanes,
        ROWS_OF_STEP,
        SLOTS_OF_ROWS,
        Part::Spread,
        RECURRENT_GRADIENT,
        Text(include_str!("../../scan/readout_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Write, Write],
    consts: &[WG_SIZE, ROWS, SEGMENTS, LENGTHS, FINALS, ACTIVATION, ALPHA, BETA, KEEP_PRE],
    places: &[
        Slots("ut_at"),
        Shared,
        Slots("gates_at"),
        Values("d_out_at"),
        Values("readout_at"),
        Values("carry_at"),
    ],
    ..KernelSpec::of::<params::ReadoutBackward>("readout_backward")
};

pub(super) static INITIAL_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        Part::Gates,
        Part::Lanes,
        SLOTS_OF_ROWS,
        Part::Spread,
        RECURRENT_GRADIENT,
        Text(include_str!("../../scan/initial_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Write],
    consts: &[WG_SIZE, ROWS, SEGMENTS, LENGTHS, FINALS],
    ..KernelSpec::of::<params::InitialBackward>("initial_backward")
};

pub(super) static INITIAL_ROWS: KernelSpec = KernelSpec {
    parts: &[SLOTS_OF_ROWS, Text(include_str!("../../scan/initial_rows.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, LENGTHS, Const::Bool("WITH_INITIAL")],
    ..KernelSpec::of::<params::InitialRows>("initial_rows")
};

pub(super) static FINAL_ROWS: KernelSpec = KernelSpec {
    parts: &[SLOTS_OF_ROWS, Text(include_str!("../../scan/final_rows.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, LENGTHS],
    ..KernelSpec::of::<params::FinalRows>("final_rows")
};

pub(super) static INTERLEAVED_LENGTHS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../scan/interleaved_lengths.wgsl"))],
    bindings: &[Read, Write],
    consts: &[WG_SIZE, LENGTHS],
    ..KernelSpec::of::<params::InterleavedLengths>("interleaved_lengths")
};

pub(super) static INTERLEAVED_ROWS: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../scan/interleaved_rows.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, LENGTHS],
    ..KernelSpec::of::<params::InterleavedRows>("interleaved_rows")
};

pub(super) static SCAN_OUTPUT: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../scan/scan_output.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE, LENGTHS, Const::Bool("ADD")],
    ..KernelSpec::of::<params::ScanOutput>("scan_output")
};

pub(super) static PEEPHOLE_GRADIENT: KernelSpec = KernelSpec {
    parts: &[Text(include_str!("../../scan/peephole_gradient.wgsl"))],
    bindings: &[Read, Read, Write],
    consts: &[WG_SIZE],
    ..KernelSpec::of::<params::PeepholeGradient>("peephole_gradient")
};
