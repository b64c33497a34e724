//! All steps in one dispatch: a workgroup runs every unit of its rows of the batch.

use super::{CarriedGradients, Form, Pass, Scan, dressed};
use crate::layer::{Lowering, Sequence};
use crate::plan::MAX_GROUPS;
use crate::{Error, Target};
use gatefold_model::{Layer, Role};
use gatefold_shaders::params::{self, Params};
use gatefold_shaders::{Columns, KernelId, KernelVariant, Lanes, SUBGROUP_LANES};
use std::ops::Range;

/// The work of a workgroup and of its invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the batch in a workgroup.
    pub rows: u32,
    /// Invocations that share the product of a unit; a power of two.
    pub parts: u32,
    /// Invocations of a workgroup, a multiple of `parts`.
    pub invocations: u32,
    /// Weights of each unit that an invocation keeps in registers: forward in fours.
    pub kept: u32,
}

/// Steps in a dispatch, so that no driver takes it for hung.
pub(super) const MAX_STEPS: usize = 1024;
/// Work of a workgroup in a dispatch, for the same reason: it has one core of the device, and may run at a fiftieth of
/// its rate, 20 GFLOP/s, since its weights come from a cache.
pub(super) const MAX_GROUP_FLOPS: usize = 1_000_000_000;
/// Most invocations of a usual tile: their registers hold the weights of a small network.
const USUAL_INVOCATIONS: usize = 512;
/// Registers of an invocation that hold weights.
const WEIGHT_REGISTERS: usize = 64;
/// Invocations are a multiple of this, so that workgroups are whole subgroups.
const GRANULE: usize = 64;

impl Tile {
    /// Whether a workgroup may run a scan so on a device.
    pub fn fits(&self, target: &Target, form: &Form, pass: Pass) -> bool {
        if form.recurrent.is_dressed() {
            return dressed::tile_fits(target, form, pass, self);
        }
        let Tile { rows, parts, invocations, .. } = *self;
        let lanes_fit = target.lanes == Lanes::Single || parts <= SUBGROUP_LANES;
        form.is_plain()
            && lanes_fit
            && parts.is_power_of_two()
            && rows > 0
            && invocations > 0
            && self.kept <= self.most_kept(form, pass)
            && invocations.is_multiple_of(parts)
            && invocations <= target.max_invocations
            && self.workgroup_bytes(target, form, pass) <= u64::from(target.max_workgroup_bytes)
    }

    /// Bytes of workgroup memory: two turns of the rows, and without subgroups the parts of the sums.
    fn workgroup_bytes(&self, target: &Target, form: &Form, pass: Pass) -> u64 {
        let (lanes, hidden) = (form.lanes(), form.hidden());
        let (multiple, row_lanes, sum_lanes) = match pass {
            Pass::Forward => (4 * self.parts as usize, 1, lanes),
            Pass::Backward => (self.parts as usize, lanes, 1),
        };
        let (rows, invocations) = (self.rows as usize, self.invocations as usize);
        let turns = 2 * rows * hidden.next_multiple_of(multiple) * row_lanes;
        let shared = match target.lanes {
            Lanes::Subgroup => 0,
            Lanes::Single => invocations * self.blocks(hidden) * rows * sum_lanes,
        };
        4 * (turns + shared) as u64
    }

    /// Fours of weights, or backward weights, in the part of an invocation.
    fn most_kept(&self, form: &Form, pass: Pass) -> u32 {
        let step = if pass == Pass::Forward { 4 * self.parts } else { self.parts };
        (form.hidden() as u32).div_ceil(step)
    }

    /// Units of an invocation.
    fn blocks(&self, hidden: usize) -> usize {
        hidden.div_ceil((self.invocations / self.parts) as usize)
    }
}

/// The tile for a batch by rule of thumb, if any fits: one row a workgroup until workgroups are many, as many parts as
/// invocations allow, and as many weights in registers as they hold.
pub(super) fn usual_tile(target: &Target, form: &Form, pass: Pass, batch: usize) -> Option<Tile> {
    if form.recurrent.is_dressed() {
        return Some(dressed::usual_tile(target, form))
            .filter(|tile| can_run(target, form, pass, batch, tile));
    }
    let hidden = form.hidden();
    let rows = match batch {
        0..=256 => 1,
        257..=1024 => 2,
        _ => 4,
    };
    let most = USUAL_INVOCATIONS.min(target.max_invocations as usize);
    let wanted = if target.lanes == Lanes::Subgroup { SUBGROUP_LANES as usize } else { 1 };
    let mut parts = wanted;
    while parts > 1 && hidden * parts > most {
        parts /= 2;
    }
    let invocations = (hidden * parts).next_multiple_of(GRANULE).min(most / GRANULE * GRANULE).max(GRANULE);
    let mut tile = Tile { rows, parts: parts as u32, invocations: invocations as u32, kept: 0 };
    let weights = WEIGHT_REGISTERS / (form.lanes() * tile.blocks(hidden));
    let weights = if pass == Pass::Forward { weights / 4 } else { weights };
    tile.kept = tile.most_kept(form, pass).min(weights as u32);
    if target.software {
        tile.kept = 0; // its registers are memory
    }
    Some(tile).filter(|tile| can_run(target, form, pass, batch, tile))
}

/// Tiles worth timing: the usual one, and others with more rows, fewer parts, or weights read from the cache.
pub(super) fn candidate_tiles(target: &Target, form: &Form, pass: Pass, batch: usize) -> Vec<Tile> {
    let Some(usual) = usual_tile(target, form, pass, batch) else { return Vec::new() };
    if form.recurrent.is_dressed() {
        return vec![usual];
    }
    let fewer = |parts: u32| {
        let invocations = (form.hidden() * parts as usize).next_multiple_of(GRANULE) as u32;
        Tile { parts, invocations: invocations.min(usual.invocations), kept: 0, ..usual }
    };
    let mut found = vec![usual, Tile { kept: 0, ..usual }];
    found.extend([2, 4].map(|times| Tile { rows: usual.rows * times, ..usual }));
    found.extend([1, 2, 4].into_iter().filter(|&parts| parts < usual.parts).map(fewer));
    found.retain(|tile| {
        tile.rows as usize <= batch.next_power_of_two() && can_run(target, form, pass, batch, tile)
    });
    let mut distinct = Vec::new();
    for tile in found {
        if !distinct.contains(&tile) {
            distinct.push(tile);
        }
    }
    distinct
}

/// Whether a device can run a pass over a batch with a tile.
pub(super) fn can_run(target: &Target, form: &Form, pass: Pass, batch: usize, tile: &Tile) -> bool {
    tile.fits(target, form, pass)
        && batch.div_ceil(tile.rows as usize) <= MAX_GROUPS as usize
        && most_steps(target, form, pass, tile) > 0
}

/// The steps of a dispatch: none if the device's loops are too short even for one.
fn most_steps(target: &Target, form: &Form, pass: Pass, tile: &Tile) -> usize {
    let most = (MAX_GROUP_FLOPS / (tile.rows as usize * row_flops(form))).clamp(1, MAX_STEPS);
    let Some(limit) = target.max_loop_iterations else { return most };
    if form.recurrent.is_dressed() {
        let iterations = |count| dressed::iterations(form, pass, tile, count);
        let (around, per_step) = (iterations(0), iterations(1) - iterations(0));
        return (u64::from(limit).saturating_sub(around) / per_step).min(most as u64) as usize;
    }
    let kernel = kernel(target, form, pass, tile, [false, false]);
    let iterations = |count| match pass {
        Pass::Forward => {
            params::ScanForward { count, batch: 1, ..Default::default() }.extents(&kernel, [1; 3]).iterations
        }
        Pass::Backward => {
            params::ScanBackward { count, batch: 1, ..Default::default() }.extents(&kernel, [1; 3]).iterations
        }
    };
    let (around, per_step) = (iterations(0), iterations(1) - iterations(0));
    (u64::from(limit).saturating_sub(around) / per_step).min(most as u64) as usize
}

/// The products of a step for one row.
pub(super) fn row_flops(form: &Form) -> usize {
    let segments = if form.recurrent.skip.is_some() { 2 } else { 1 };
    2 * segments * form.hidden() * form.hidden() * form.lanes()
}

/// The kernel of a pass, with or without lengths and with or without what is optional in the pass: the values saved, or
/// the gradients with respect to the final values.
fn kernel(
    target: &Target,
    form: &Form,
    pass: Pass,
    tile: &Tile,
    [lengths, option]: [bool; 2],
) -> KernelVariant {
    let (id, optional) = match pass {
        Pass::Forward => (KernelId::ScanForward, "SAVE"),
        Pass::Backward => (KernelId::ScanBackward, "FINALS"),
    };
    let own = [
        ("WG_SIZE", tile.invocations),
        ("ROWS", tile.rows),
        ("PARTS", tile.parts),
        ("HIDDEN", form.hidden() as u32),
        ("KEPT", tile.kept),
        ("UNITS", form.units() as u32),
        ("SEGMENTS", if form.recurrent.skip.is_some() { 2 } else { 1 }),
        ("LENGTHS", u32::from(lengths)),
        (optional, u32::from(option)),
    ];
    let consts = [&own[..], &form.consts(form.cell())].concat();
    KernelVariant {
        id,
        cell: Some(form.cell()),
        lanes: target.lanes,
        columns: Columns::F32,
        consts,
        members: 1,
    }
}

/// The dispatches that run some steps of a pass, counted in the order in which it runs them: the first step and the number
/// of steps of each.
pub(super) fn stretches(
    low: &Lowering<'_>,
    scan: &Scan,
    pass: Pass,
    tile: &Tile,
    steps: Range<usize>,
) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (end, most) = (steps.end, most_steps(low.target, &scan.form, pass, tile));
    steps.step_by(most).map(move |first| (first, most.min(end - first)))
}

/// Some steps forward.
pub(super) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    tile: &Tile,
    steps: Range<usize>,
) -> Result<(), Error> {
    let form = &scan.form;
    let kernel = kernel(low.target, form, Pass::Forward, tile, [scan.lengths.is_some(), scan.saves]);
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let bindings = [
        scan.packed.u.into(),
        peepholes.into(),
        scan.lengths(),
        scan.gates.into(),
        scan.state.into(),
        scan.h.into(),
    ];
    for (first, count) in stretches(low, scan, Pass::Forward, tile, steps) {
        let params = params::ScanForward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            ..Default::default()
        };
        dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
    Ok(())
}

/// Some steps backward, counted in the order of the scan.
pub(super) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    tile: &Tile,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
    steps: Range<usize>,
) -> Result<(), Error> {
    let form = &scan.form;
    let kernel = kernel(low.target, form, Pass::Backward, tile, [scan.lengths.is_some(), carried.given]);
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let bindings = [
        scan.transposed().u.into(),
        peepholes.into(),
        scan.lengths(),
        scan.state.into(),
        scan.h.into(),
        d_out.span.into(),
        scan.gates.into(),
        carried.carry.into(),
    ];
    let from_end = scan.steps - steps.end..scan.steps - steps.start;
    for (first, count) in stretches(low, scan, Pass::Backward, tile, from_end) {
        let params = params::ScanBackward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            d_stride: d_out.width as u32,
            d_begin: d_begin as u32,
            ..Default::default()
        };
        dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
    Ok(())
}

pub(super) fn dispatch<P: Params + bytemuck::Pod>(
    low: &mut Lowering<'_>,
    scan: &Scan,
    tile: &Tile,
    (kernel, params): (KernelVariant, P),
    bindings: &[crate::Binding],
    (first, count): (usize, usize),
) {
    let groups = [scan.batch.div_ceil(tile.rows as usize) as u32, 1, 1];
    low.plan
        .dispatch(kernel, params, bindings, groups)
        .note(format!("steps {first}..{}", first + count))
        .flops(scan.batch * count * row_flops(&scan.form));
}
