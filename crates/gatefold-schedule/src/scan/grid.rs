//! Many steps in one dispatch, with the units of a row spread over workgroups that wait for each other after each step.
//!
//! The workgroups that share a tile of rows are a crew. Each keeps its part of the recurrent weights for all steps, and they
//! exchange h, or d_pre, through coherent storage. That works only if a whole crew runs at the same time, which no API promises:
//! a device has to have shown it in a probe ([`Target::resident_groups`]), waits are bounded, and a workgroup that gives up sets
//! the first word of [`Given::Sync`]. Whoever runs a plan that has this buffer looks there before using any of its results.

use super::workgroup::{MAX_GROUP_FLOPS, MAX_STEPS, row_flops};
use super::{CarriedGradients, Form, Pass, Scan};
use crate::layer::{Lowering, Sequence};
use crate::plan::{Element, MAX_GROUPS};
use crate::{Binding, Error, Given, Plan, Span, Target};
use gatefold_model::{Layer, Role};
use gatefold_shaders::params::{self, Params};
use gatefold_shaders::{Columns, KernelId, KernelVariant, Lanes, SUBGROUP_LANES, SYNC_STRIDE};

/// The work of a crew, of its workgroups and of their invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GridTile {
    /// Rows of the batch that a crew runs.
    pub rows: u32,
    /// Workgroups of a crew.
    pub sharers: u32,
    /// Neighbouring invocations that share the product of a unit; a power of two, and 1 without subgroups.
    pub parts: u32,
    /// Groups of such neighbours that share it.
    pub splits: u32,
    /// Invocations of a workgroup, a multiple of `parts` times `splits`.
    pub invocations: u32,
    /// Weights of each unit that an invocation keeps in registers.
    pub kept: u32,
}

/// Turns of waiting after which a workgroup gives up, all waits of a dispatch together: some 50 ms, so that no driver takes
/// the device for hung.
const SPINS: u32 = 4096;
/// Looks at the counter in a turn. A turn ends with barriers, so that the invocations stay together.
const POLLS: u32 = 16;
/// The same on a software driver, whose barriers take longer than a look. Where its threads share a core, each step of each
/// workgroup waits for a time slice, which is thousands of turns.
const SOFTWARE_SPINS: u32 = 1 << 14;
const SOFTWARE_POLLS: u32 = 1;
/// The most steps of a dispatch on a driver that ends loops, whose turns have to last for all of them.
const LIMITED_STEPS: usize = 3;
/// Units of a workgroup below which more workgroups only have more to wait for.
const MIN_SHARE: usize = 4;
/// The most rows of a crew: their sums are in registers.
const MAX_ROWS: usize = 16;
/// Invocations of a usual tile. A probe runs workgroups as large as the device allows, so that those of a scan, with their
/// registers, have room where those of the probe had.
const USUAL_INVOCATIONS: usize = 256;
const SOFTWARE_INVOCATIONS: usize = 64;
/// Registers of an invocation that hold weights.
const WEIGHT_REGISTERS: usize = 96;
/// Workgroup memory that is used for something else: the verdict of a wait, and gaps between variables.
const OTHER_BYTES: usize = 64;

/// Turns of all slices that are staged at a time, and those whose weights stay in workgroup memory.
struct Memory {
    staged: usize,
    parked: usize,
}

impl GridTile {
    fn slices(&self) -> usize {
        self.parts as usize * self.splits as usize
    }

    /// Units of a workgroup.
    fn share(&self, form: &Form) -> usize {
        form.hidden().div_ceil(self.sharers as usize)
    }

    /// Units of an invocation.
    fn blocks(&self, form: &Form) -> usize {
        self.share(form).div_ceil(self.invocations as usize / self.slices())
    }

    /// Weights of a unit in the slice of an invocation.
    fn turns(&self, form: &Form) -> usize {
        form.hidden().div_ceil(self.slices())
    }

    /// The use of workgroup memory; `None` if there is too little.
    fn memory(&self, target: &Target, form: &Form, pass: Pass) -> Option<Memory> {
        let (rows, invocations, slices) = (self.rows as usize, self.invocations as usize, self.slices());
        let lanes = form.lanes();
        let (value, sum) = if pass == Pass::Forward { (1, lanes) } else { (lanes, 1) };
        let (blocks, turns) = (self.blocks(form), self.turns(form));
        let met = blocks * (invocations / slices) * rows * self.splits as usize * sum;
        let free = (target.max_workgroup_bytes as usize).checked_sub(4 * met + OTHER_BYTES)? / 4;
        // Half for the values: staging them in pieces costs two barriers each.
        let turn = rows * slices * value;
        let staged =
            turns.min(if turns * turn <= free { turns } else { (free / 2).max(turn.min(free)) / turn });
        if staged == 0 {
            return None;
        }
        let left = free - staged * turn;
        let rest = turns - turns.min(self.kept as usize);
        let parked = if target.software { 0 } else { rest.min(left / (blocks * invocations * lanes)) };
        Some(Memory { staged, parked })
    }

    /// Crews for a batch.
    fn crews(&self, batch: usize) -> usize {
        batch.div_ceil(self.rows as usize)
    }

    /// Whether a device can run a pass over a batch so.
    fn fits(&self, target: &Target, form: &Form, pass: Pass, batch: usize) -> bool {
        let GridTile { rows, sharers, parts, splits, invocations, kept } = *self;
        let parts_fit = parts == 1 || target.lanes == Lanes::Subgroup && parts <= SUBGROUP_LANES;
        let counts = [rows, sharers, parts, splits, invocations];
        counts.iter().all(|&count| count > 0)
            && form.is_plain()
            && !form.recurrent.is_dressed()
            && parts_fit
            && parts.is_power_of_two()
            && parts.checked_mul(splits).is_some_and(|slices| invocations.is_multiple_of(slices))
            && invocations <= target.max_invocations
            && kept as usize <= self.turns(form)
            && rows as usize <= batch.next_power_of_two()
            && self.crews(batch) * sharers as usize <= target.resident_groups as usize
            && sharers as usize <= MAX_GROUPS as usize
            && self.memory(target, form, pass).is_some()
    }
}

/// The tile for a batch by rule of thumb, if any fits: as few crews as can be, so that as many workgroups as run at the same time
/// share the weights of each.
pub(super) fn usual_tile(target: &Target, form: &Form, pass: Pass, batch: usize) -> Option<GridTile> {
    let mut rows = MAX_ROWS.min(batch.next_power_of_two());
    while rows > 0 {
        let found = tile_of(target, form, batch, (rows, usize::MAX, USUAL_INVOCATIONS));
        if let Some(tile) = found.filter(|tile| can_run(target, form, pass, batch, tile)) {
            return Some(tile);
        }
        rows /= 2; // fewer rows need less memory, though more crews
    }
    None
}

/// Tiles worth timing: the usual one, and others with smaller crews, smaller workgroups, fewer rows, or weights that come from
/// a cache.
pub(super) fn candidate_tiles(target: &Target, form: &Form, pass: Pass, batch: usize) -> Vec<GridTile> {
    let Some(usual) = usual_tile(target, form, pass, batch) else { return Vec::new() };
    let (rows, sharers) = (usual.rows as usize, usual.sharers as usize);
    let others = [
        (rows, sharers / 2, USUAL_INVOCATIONS),
        (rows, sharers, USUAL_INVOCATIONS / 2),
        (rows / 2, usize::MAX, USUAL_INVOCATIONS),
    ];
    let mut found = vec![usual];
    found.extend(others.into_iter().filter_map(|numbers| tile_of(target, form, batch, numbers)));
    found.push(GridTile { kept: 0, ..usual });
    let mut distinct = Vec::new();
    for tile in found {
        if !distinct.contains(&tile) && can_run(target, form, pass, batch, &tile) {
            distinct.push(tile);
        }
    }
    distinct
}

/// A tile of so many rows, at most so many workgroups in a crew, and at most so many invocations; `None` if a crew would be a
/// single workgroup, which has nobody to wait for.
fn tile_of(
    target: &Target,
    form: &Form,
    batch: usize,
    (rows, most_sharers, invocations): (usize, usize, usize),
) -> Option<GridTile> {
    let hidden = form.hidden();
    let resident = target.resident_groups as usize / batch.div_ceil(rows.max(1));
    let least_share = if target.software { 1 } else { MIN_SHARE };
    let sharers = resident.min(most_sharers).min(hidden.div_ceil(least_share));
    if rows == 0 || sharers < 2 {
        return None;
    }
    let share = hidden.div_ceil(sharers);
    let most = if target.software { SOFTWARE_INVOCATIONS } else { invocations };
    let invocations = most.min(target.max_invocations as usize);
    let slices = 1 << (invocations / share).clamp(1, hidden).ilog2();
    let parts = if target.lanes == Lanes::Subgroup { slices.min(SUBGROUP_LANES as usize) } else { 1 };
    let mut tile = GridTile {
        rows: rows as u32,
        sharers: hidden.div_ceil(share) as u32,
        parts: parts as u32,
        splits: (slices / parts) as u32,
        invocations: invocations as u32,
        kept: 0,
    };
    if !target.software {
        // The registers of a software driver are memory.
        let weights = WEIGHT_REGISTERS / (form.lanes() * tile.blocks(form));
        tile.kept = tile.turns(form).min(weights) as u32;
    }
    Some(tile)
}

/// Whether a device can run a pass over a batch with a tile.
pub(super) fn can_run(target: &Target, form: &Form, pass: Pass, batch: usize, tile: &GridTile) -> bool {
    tile.fits(target, form, pass, batch) && most_steps(target, form, pass, tile) > 0
}

/// Turns that a workgroup waits, and looks in a turn. Those of a driver that ends loops leave it a quarter of its loops for the
/// steps.
fn patience(target: &Target) -> (u32, u32) {
    let (spins, polls) = if target.software { (SOFTWARE_SPINS, SOFTWARE_POLLS) } else { (SPINS, POLLS) };
    let most = target.max_loop_iterations.map_or(u32::MAX, |limit| limit / 4 * 3 / (2 + polls));
    (spins.min(most), polls)
}

/// The steps of a dispatch: none if the device's loops are too short even for one.
fn most_steps(target: &Target, form: &Form, pass: Pass, tile: &GridTile) -> usize {
    let flops = tile.rows as usize * row_flops(form) / tile.sharers as usize;
    let most = (MAX_GROUP_FLOPS / flops.max(1)).clamp(1, MAX_STEPS);
    let Some(limit) = target.max_loop_iterations else { return most };
    let kernel = kernel(target, form, pass, tile, [false, false]);
    let (spins, _) = patience(target);
    let iterations = |count| match pass {
        Pass::Forward => {
            params::GridForward { count, spins, batch: 1, ..Default::default() }
                .extents(&kernel, [1; 3])
                .iterations
        }
        Pass::Backward => {
            params::GridBackward { count, spins, batch: 1, ..Default::default() }
                .extents(&kernel, [1; 3])
                .iterations
        }
    };
    let (around, per_step) = (iterations(0), iterations(1) - iterations(0));
    (u64::from(limit).saturating_sub(around) / per_step).min(most.min(LIMITED_STEPS) as u64) as usize
}

/// The kernel of a pass, with or without lengths and with or without what is optional in the pass: the values saved, or
/// the gradients with respect to the final values.
fn kernel(
    target: &Target,
    form: &Form,
    pass: Pass,
    tile: &GridTile,
    [lengths, option]: [bool; 2],
) -> KernelVariant {
    let (id, optional) = match pass {
        Pass::Forward => (KernelId::GridForward, "SAVE"),
        Pass::Backward => (KernelId::GridBackward, "FINALS"),
    };
    let Memory { staged, parked } = tile.memory(target, form, pass).expect("a tile that fits has its memory");
    let own = [
        ("WG_SIZE", tile.invocations),
        ("ROWS", tile.rows),
        ("SHARERS", tile.sharers),
        ("PARTS", tile.parts),
        ("SPLITS", tile.splits),
        ("HIDDEN", form.hidden() as u32),
        ("KEPT", tile.kept),
        ("PARKED", parked as u32),
        ("STAGED", staged as u32),
        ("POLLS", patience(target).1),
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

/// Words of [`Given::Sync`] on a device: what all plans share, so that whoever runs them finds one buffer.
fn sync_len(target: &Target) -> usize {
    (1 + target.resident_groups as usize) * SYNC_STRIDE as usize
}

/// The buffer of a plan through which its workgroups find each other, with the counters of a scan's crews at zero.
fn cleared_sync(low: &mut Lowering<'_>, crews: usize) -> Span {
    let sync = low.plan.given_as(Given::Sync, Element::U32, sync_len(low.target));
    // Not the word before them: that some workgroup of the plan gave up stays known.
    low.plan.clear(sync.part(SYNC_STRIDE as usize, crews * SYNC_STRIDE as usize));
    sync
}

/// All steps forward.
pub(super) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    tile: &GridTile,
) -> Result<(), Error> {
    let form = &scan.form;
    let kernel = kernel(low.target, form, Pass::Forward, tile, [scan.lengths.is_some(), scan.saves]);
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let sync = cleared_sync(low, tile.crews(scan.batch));
    let bindings = [
        scan.packed.u.into(),
        peepholes.into(),
        scan.lengths(),
        scan.gates.into(),
        scan.state.into(),
        scan.h.into(),
        sync.into(),
    ];
    for (first, count) in stretches(low, scan, Pass::Forward, tile) {
        let params = params::GridForward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            spins: patience(low.target).0,
            ..Default::default()
        };
        dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
    Ok(())
}

/// All steps backward.
pub(super) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    scan: &Scan,
    tile: &GridTile,
    carried: &CarriedGradients,
    (d_out, d_begin): (Sequence, usize),
) -> Result<(), Error> {
    let form = &scan.form;
    let kernel = kernel(low.target, form, Pass::Backward, tile, [scan.lengths.is_some(), carried.given]);
    let peepholes = low.parameters.find(low.plan, layer, Role::Peephole, form.reverse);
    let sync = cleared_sync(low, tile.crews(scan.batch));
    let bindings = [
        scan.transposed().u.into(),
        peepholes.into(),
        scan.lengths(),
        scan.state.into(),
        scan.h.into(),
        d_out.span.into(),
        scan.gates.into(),
        carried.carry.into(),
        sync.into(),
    ];
    for (first, count) in stretches(low, scan, Pass::Backward, tile) {
        let params = params::GridBackward {
            first: first as u32,
            count: count as u32,
            steps: scan.steps as u32,
            batch: scan.batch as u32,
            hidden: form.hidden() as u32,
            history: form.history() as u32,
            reverse: u32::from(form.reverse),
            d_stride: d_out.width as u32,
            d_begin: d_begin as u32,
            spins: patience(low.target).0,
            ..Default::default()
        };
        dispatch(low, scan, tile, (kernel.clone(), params), &bindings, (first, count));
    }
    Ok(())
}

/// The dispatches of a pass: the first step and the number of steps of each.
fn stretches(
    low: &Lowering<'_>,
    scan: &Scan,
    pass: Pass,
    tile: &GridTile,
) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (steps, most) = (scan.steps, most_steps(low.target, &scan.form, pass, tile));
    (0..steps).step_by(most).map(move |first| (first, most.min(steps - first)))
}

fn dispatch<P: Params + bytemuck::Pod>(
    low: &mut Lowering<'_>,
    scan: &Scan,
    tile: &GridTile,
    (kernel, params): (KernelVariant, P),
    bindings: &[Binding],
    (first, count): (usize, usize),
) {
    let groups = [tile.sharers, tile.crews(scan.batch) as u32, 1];
    low.plan
        .dispatch(kernel, params, bindings, groups)
        .note(format!("steps {first}..{}", first + count))
        .flops(scan.batch * count * row_flops(&scan.form));
}

/// A plan that tries whether so many workgroups run at the same time. Each is as large as the device allows, and takes all of
/// its workgroup memory, so that no more of them fit where those of a scan must. [`Given::Sync`] then has the answer.
pub fn probe(target: &Target, groups: u32) -> Plan {
    let mut plan = Plan::default();
    let (spins, polls) = patience(target);
    // On a software driver, invocations cost time and no room.
    let invocations = if target.software { SOFTWARE_INVOCATIONS as u32 } else { target.max_invocations };
    let filled = target.max_workgroup_bytes / 4 - OTHER_BYTES as u32 / 4;
    let consts = [("WG_SIZE", invocations), ("POLLS", polls), ("FILLED", filled)];
    let sync = plan.given_as(Given::Sync, Element::U32, 2 * SYNC_STRIDE as usize);
    let params = params::GridProbe { groups, spins, ..Default::default() };
    plan.dispatch(KernelVariant::new(KernelId::GridProbe, &consts), params, &[sync.into()], [groups, 1, 1]);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{LayerConfig, LstmConfig, NetworkConfig};

    fn form(hidden: usize) -> Form {
        let layers: Vec<LayerConfig> = vec![LstmConfig::new(hidden).into()];
        let config = NetworkConfig::new(3, layers).unwrap();
        let recurrent = *config.layers()[0].recurrent().unwrap();
        Form { recurrent, reverse: false, input: 3 }
    }

    /// A card with 132 places of 48 KiB.
    fn card() -> Target {
        Target {
            lanes: Lanes::Subgroup,
            max_invocations: 1024,
            max_workgroup_bytes: 48 << 10,
            resident_groups: 132,
            ..Target::webgpu()
        }
    }

    #[test]
    fn a_crew_has_as_many_workgroups_as_are_resident_and_no_more() {
        let tile = usual_tile(&card(), &form(768), Pass::Forward, 16).unwrap();
        // 6 units each; 32 invocations to a unit, whose 24 weights of four lanes are registers.
        let expected = GridTile { rows: 16, sharers: 128, parts: 8, splits: 4, invocations: 256, kept: 24 };
        assert_eq!(tile, expected);
        let back = usual_tile(&card(), &form(768), Pass::Backward, 16).unwrap();
        assert_eq!(back, expected);
        let half =
            usual_tile(&Target { resident_groups: 66, ..card() }, &form(768), Pass::Forward, 16).unwrap();
        assert_eq!((half.sharers, half.kept), (64, 24));
        // 4 crews of 33, which share 256 units.
        let four = usual_tile(&card(), &form(256), Pass::Forward, 64).unwrap();
        assert_eq!((four.rows, four.sharers), (16, 32));
    }

    #[test]
    fn workgroup_memory_is_not_exceeded() {
        let (target, form) = (card(), form(768));
        for pass in Pass::ALL {
            for rows in [1, 2, 4, 8, 16] {
                let tile = tile_of(&target, &form, rows, (rows, usize::MAX, 256)).unwrap();
                let Memory { staged, parked } = tile.memory(&target, &form, pass).unwrap();
                let (value, sum) = if pass == Pass::Forward { (1, 4) } else { (4, 1) };
                let rows = tile.rows as usize;
                let words = staged * rows * tile.slices() * value
                    + tile.blocks(&form) * 8 * rows * tile.splits as usize * sum
                    + parked * tile.blocks(&form) * 256 * 4;
                assert!(4 * words + 4 <= 48 << 10, "{pass:?} {rows} rows: {words} words");
                assert!(staged > 0 && staged <= tile.turns(&form), "{pass:?} {rows} rows: {staged} staged");
            }
        }
    }

    #[test]
    fn nothing_fits_a_device_without_a_probe() {
        for (target, batch) in [
            (Target { resident_groups: 0, ..card() }, 16),
            (Target { resident_groups: 1, ..card() }, 16),
            (card(), 132 * 16), // a workgroup for each crew
        ] {
            assert_eq!(usual_tile(&target, &form(768), Pass::Forward, batch), None);
            assert!(candidate_tiles(&target, &form(768), Pass::Forward, batch).is_empty());
        }
        let tile = usual_tile(&card(), &form(768), Pass::Forward, 16).unwrap();
        let fewer = Target { resident_groups: 127, ..card() };
        assert!(can_run(&card(), &form(768), Pass::Forward, 16, &tile));
        assert!(!can_run(&fewer, &form(768), Pass::Forward, 16, &tile));
        let single = Target { lanes: Lanes::Single, ..card() };
        assert!(
            !can_run(&single, &form(768), Pass::Forward, 16, &tile),
            "its neighbours cannot add their parts"
        );
    }

    #[test]
    fn a_wait_and_the_steps_fit_the_loops_that_a_driver_bears() {
        let limit = 65_535;
        let target = Target {
            software: true,
            max_loop_iterations: Some(limit),
            resident_groups: 2,
            ..Target::webgpu()
        };
        let form = form(33);
        for pass in Pass::ALL {
            let tile = usual_tile(&target, &form, pass, 5).unwrap();
            let (steps, (spins, _)) = (most_steps(&target, &form, pass, &tile), patience(&target));
            assert!(steps == LIMITED_STEPS && spins > 16_000, "{steps} steps, {spins} turns");
            let kernel = kernel(&target, &form, pass, &tile, [false, false]);
            let iterations = |count| match pass {
                Pass::Forward => {
                    let params = params::GridForward { count, spins, batch: 5, ..Default::default() };
                    params.extents(&kernel, [2, 1, 1]).iterations
                }
                Pass::Backward => {
                    let params = params::GridBackward { count, spins, batch: 5, ..Default::default() };
                    params.extents(&kernel, [2, 1, 1]).iterations
                }
            };
            assert!(iterations(steps as u32) <= u64::from(limit));
            // So wide that neither its loops nor its memory leave room.
            assert_eq!(usual_tile(&target, &self::form(4096), pass, 16), None);
        }
    }
}
