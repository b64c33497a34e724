//! Steps of a scan whose units are spread over workgroups that wait for each other.

use super::Access::{Read, Write};
use super::Part::Text;
use super::scan::{
    ANY_CELL, FINALS, HIDDEN, KEPT, LENGTHS, ORDER, OUTSIDE, OWN_UNITS, PARTS, ROWS_OF_STEP, SEGMENTS,
    SLOTS_OF_ROWS, UNITS,
};
use super::{ACTIVATIONS, Const, KernelSpec, Part, ROWS, WG_SIZE};
use crate::params;

const WAIT: Part = Text(include_str!("../../scan/grid_wait.wgsl"));
const TILE: Part = Text(include_str!("../../scan/grid_tile.wgsl"));
const SHARERS: Const = Const::U32("SHARERS");
const SPLITS: Const = Const::U32("SPLITS");
const PARKED: Const = Const::U32("PARKED");
const STAGED: Const = Const::U32("STAGED");
const POLLS: Const = Const::U32("POLLS");

pub(super) static GRID_FORWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        OWN_UNITS,
        SLOTS_OF_ROWS,
        ORDER,
        WAIT,
        TILE,
        Part::GridParts,
        Text(include_str!("../../scan/grid_forward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Write, Write, Write, Write],
    consts: &[
        WG_SIZE,
        ROWS,
        SHARERS,
        PARTS,
        SPLITS,
        HIDDEN,
        KEPT,
        PARKED,
        STAGED,
        POLLS,
        UNITS,
        SEGMENTS,
        LENGTHS,
        Const::Bool("SAVE"),
    ],
    ..KernelSpec::of::<params::GridForward>("grid_forward")
};

pub(super) static GRID_BACKWARD: KernelSpec = KernelSpec {
    parts: &[
        ACTIVATIONS,
        Part::Gates,
        ANY_CELL,
        Part::Cell,
        ROWS_OF_STEP,
        OWN_UNITS,
        SLOTS_OF_ROWS,
        ORDER,
        OUTSIDE,
        WAIT,
        TILE,
        Part::GridParts,
        Text(include_str!("../../scan/grid_backward.wgsl")),
    ],
    bindings: &[Read, Read, Read, Read, Read, Read, Write, Write, Write],
    consts: &[
        WG_SIZE, ROWS, SHARERS, PARTS, SPLITS, HIDDEN, KEPT, PARKED, STAGED, POLLS, UNITS, SEGMENTS, LENGTHS,
        FINALS,
    ],
    ..KernelSpec::of::<params::GridBackward>("grid_backward")
};

pub(super) static GRID_PROBE: KernelSpec = KernelSpec {
    parts: &[WAIT, Text(include_str!("../../scan/grid_probe.wgsl"))],
    bindings: &[Write],
    consts: &[WG_SIZE, POLLS, Const::U32("FILLED")],
    ..KernelSpec::of::<params::GridProbe>("grid_probe")
};
