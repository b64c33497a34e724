//! Kernels that run many steps of a scan, against the steps' mirror, step after step.

use super::lanes;
use super::scan::{Case, flat};
use super::stages::Subject;
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::{Given, probe, probed, run_plan};
use gatefold::schedule::Plan;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::kernel::{self, Slots, StageInput, StageSaved};
use gatefold_shaders::params::{self, Params};
use gatefold_shaders::{Columns, GAVE_UP, KernelId, KernelVariant, Lanes, SEEN, SYNC_STRIDE};
use ndarray::{Array2, Array3, Array4, Axis, concatenate, s};

/// Steps of a case, in two dispatches.
const STEPS: usize = 5;
const FIRST: usize = 2;
/// Turns that a workgroup waits for others, and looks in a turn.
const SPINS: u32 = 16_000;
const POLLS: u32 = 1;
/// Tries of a case whose workgroups give up.
const TRIES: usize = 10;

/// The work of a workgroup: rows, parts, invocations, weights kept.
#[derive(Clone, Copy)]
struct Tile(u32, u32, u32, u32);

/// The work of the workgroups that share a tile of rows: their number, groups of `parts` that share a product, weights kept in
/// workgroup memory, and turns staged at a time.
#[derive(Clone, Copy)]
struct Crew {
    sharers: u32,
    splits: u32,
    parked: u32,
    staged: u32,
}

struct ScanCase {
    case: Case,
    tile: Tile,
    /// If several workgroups share the rows of a tile.
    crew: Option<Crew>,
    reverse: bool,
}

/// Every cell of one stage, then every option of every cell.
pub(super) fn subjects() -> Vec<Subject> {
    Subject::with_recurrence().into_iter().filter(|subject| !subject.cell().gives_inner()).collect()
}

/// Some of them, for kernels that run the same cells in another order of work: every cell, and every third option.
pub(super) fn some_subjects() -> Vec<Subject> {
    let plain = Subject::plain().len();
    let taken = |at: usize| at < plain || at.is_multiple_of(3);
    let all = subjects().into_iter().enumerate();
    all.filter(|&(at, _)| taken(at)).map(|(_, subject)| subject).collect()
}

/// The first subjects in tiles of all kinds, with batches and widths that they do not divide; one such case of each of the
/// others.
fn scan_cases(gpu: &Gpu, subjects: &[Subject]) -> Vec<ScanCase> {
    let shapes = [
        (1, 1, Tile(1, 1, 64, 0)),
        (3, 5, Tile(1, 4, 64, 1)),
        (5, 31, Tile(2, 2, 64, 3)),
        (7, 33, Tile(4, 8, 64, 1)),
        (3, 65, Tile(1, 8, 256, 2)),
        (9, 8, Tile(4, 1, 64, 2)),
    ];
    let all_lanes = lanes(gpu);
    let plain = Subject::plain().len();
    let mut found: Vec<ScanCase> = Vec::new();
    for (turn, &subject) in subjects.iter().enumerate() {
        let chosen = if turn < plain { &shapes[..] } else { &shapes[1 + turn % 5..][..1] };
        for (at, &(batch, hidden, tile)) in chosen.iter().enumerate() {
            for &lanes in
                if turn < plain { &all_lanes[..] } else { &all_lanes[turn % all_lanes.len()..][..1] }
            {
                let choice = turn + at;
                let of_row = |row: usize| [0, STEPS, 2, 1, 4][row % 5];
                let case = Case {
                    subject,
                    batch,
                    hidden,
                    rows: tile.0,
                    lanes,
                    lengths: choice.is_multiple_of(2).then(|| (0..batch).map(of_row).collect()),
                    segments: 1 + usize::from(choice % 3 == 2),
                    flag: choice % 5 < 3,
                    random: Random::new(17, found.len() as u64),
                };
                found.push(ScanCase { case, tile, crew: None, reverse: choice % 4 > 1 });
            }
        }
    }
    found
}

/// The same cases with crews of as many workgroups as the device runs at the same time: products in pieces that cross the
/// subgroup, weights in registers, in workgroup memory and in neither, values staged in one and in several pieces.
fn grid_cases(gpu: &Gpu, subjects: &[Subject]) -> Vec<ScanCase> {
    let crew = |splits, parked, staged| Crew { sharers: 0, splits, parked, staged };
    let crews = [crew(1, 0, 1), crew(2, 0, 1), crew(4, 2, 2), crew(1, 1, 3), crew(4, 0, 2), crew(8, 1, 1)];
    let mut cases = scan_cases(gpu, subjects);
    for (turn, scan) in cases.iter_mut().enumerate() {
        let Crew { splits, .. } = crews[turn % crews.len()];
        let Tile(_, parts, invocations, _) = scan.tile;
        // One crew of two tiles' rows, or several crews.
        let rows = if turn % 3 == 2 { scan.tile.0 } else { (scan.case.batch as u32).next_power_of_two() };
        let alone = scan.case.lanes == Lanes::Single;
        let (parts, splits) = if alone { (1, parts * splits) } else { (parts, splits) };
        let slices = parts * splits;
        let kept = (turn as u32 % 2).min((scan.case.hidden as u32).div_ceil(slices));
        scan.tile = Tile(rows, parts, invocations, kept);
        scan.case.rows = rows;
        let resident = gpu.target().resident_groups / (scan.case.batch as u32).div_ceil(rows);
        let sharers = resident.clamp(1, scan.case.hidden as u32);
        let crew = Crew { sharers, splits, ..crews[turn % crews.len()] };
        // Where few workgroups share many units, memory is short: for weights, for values staged ahead, for parts of sums.
        let less = |splits, staged| Crew { parked: 0, staged, splits, ..crew };
        let smaller = [crew, less(splits, crew.staged), less(splits, 1), less(1, 1)];
        let fits = |crew: &Crew| scan.workgroup_bytes(crew) <= gpu.target().max_workgroup_bytes;
        scan.crew = Some(smaller.into_iter().find(fits).expect("so few rows fit into any device"));
    }
    cases
}

impl ScanCase {
    fn history(&self) -> usize {
        self.case.segments
    }

    /// The most workgroup memory that a pass takes with a crew: the values staged, the sums that meet and the weights parked, each
    /// as wide as all lanes together, and 64 bytes for the rest (`shaders/scan/grid_tile.wgsl`).
    fn workgroup_bytes(&self, crew: &Crew) -> u32 {
        let Tile(rows, parts, invocations, _) = self.tile;
        let slices = parts * crew.splits;
        let teams = invocations / slices;
        let blocks = (self.case.hidden as u32).div_ceil(crew.sharers).div_ceil(teams);
        let staged = rows * crew.staged * slices;
        let met = blocks * teams * rows * crew.splits;
        let parked = crew.parked * blocks * invocations;
        64 + 4 * self.case.stage().lanes() as u32 * (staged + met + parked)
    }

    fn kernel(&self, id: KernelId, option: &'static str) -> KernelVariant {
        let Tile(rows, parts, invocations, kept) = self.tile;
        let shared = self.crew.map(|Crew { sharers, splits, parked, staged }| {
            [
                ("SHARERS", sharers),
                ("SPLITS", splits),
                ("PARKED", parked),
                ("STAGED", staged),
                ("POLLS", POLLS),
            ]
        });
        let own = [
            ("WG_SIZE", invocations),
            ("ROWS", rows),
            ("PARTS", parts),
            ("HIDDEN", self.case.hidden as u32),
            ("KEPT", kept),
            ("UNITS", self.case.subject.units as u32),
            ("SEGMENTS", self.case.segments as u32),
            ("LENGTHS", u32::from(self.case.lengths.is_some())),
            (option, u32::from(self.case.flag)),
        ];
        let (cell, lanes) = (Some(self.case.subject.cell()), self.case.lanes);
        let shared = shared.as_ref().map_or(&[][..], |shared| shared);
        let consts = [&own[..], shared, &self.case.subject.consts()].concat();
        KernelVariant { id, cell, lanes, columns: Columns::F32, consts, members: 1 }
    }

    fn describe(&self) -> String {
        let Tile(_, parts, invocations, kept) = self.tile;
        let reverse = if self.reverse { " reverse" } else { "" };
        let shared = self.crew.map(|Crew { sharers, splits, parked, staged }| {
            format!(" sharers {sharers} splits {splits} parked {parked} staged {staged}")
        });
        let shared = shared.unwrap_or_default();
        format!("{} parts {parts} of {invocations} kept {kept}{shared}{reverse}", self.case.describe())
    }

    /// Workgroups of a dispatch.
    fn groups(&self) -> [u32; 3] {
        let tiles = (self.case.batch as u32).div_ceil(self.tile.0);
        self.crew.map_or([tiles, 1, 1], |crew| [crew.sharers, tiles, 1])
    }

    /// [`ScanCase::run`] of workgroups that wait for each other; again where one gave up, since a thread of a software driver may
    /// have had to wait for a core.
    fn run_grid<P: Params>(
        &self,
        gpu: &Gpu,
        kernel: &KernelVariant,
        params: impl Fn(u32, u32) -> P,
        bindings: &[&[f32]],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let sync = vec![0.0; (1 + self.groups()[1] as usize) * SYNC_STRIDE as usize];
        let bindings = [bindings, &[&sync]].concat();
        for _ in 0..TRIES {
            let mut found = self.run(gpu, kernel, &params, &bindings)?;
            let sync = found.pop().expect("a result for each binding");
            if sync[GAVE_UP].to_bits() == 0 {
                return Ok(found);
            }
        }
        Err(Error::Device(format!("{}: workgroups gave up waiting {TRIES} times", self.describe())))
    }

    /// Two dispatches over the bindings; what each holds afterwards.
    fn run<P: Params>(
        &self,
        gpu: &Gpu,
        kernel: &KernelVariant,
        params: impl Fn(u32, u32) -> P,
        bindings: &[&[f32]],
    ) -> Result<Vec<Vec<f32>>, Error> {
        let mut plan = Plan::default();
        let given = Given::Argument;
        let spans: Vec<_> = bindings
            .iter()
            .enumerate()
            .map(|(index, values)| plan.given(given(index), values.len()).into())
            .collect();
        let groups = self.groups();
        for (first, count) in [(0, FIRST), (FIRST, STEPS - FIRST)] {
            plan.dispatch(kernel.clone(), params(first as u32, count as u32), &spans, groups);
        }
        let content: Vec<_> =
            bindings.iter().enumerate().map(|(index, values)| (given(index), *values)).collect();
        run_plan(gpu, &plan, &content)
    }

    fn slots(&self) -> Slots<'_> {
        let lengths = self.case.lengths.as_deref();
        Slots { steps: STEPS, history: self.history(), reverse: self.reverse, lengths }
    }

    /// The step that comes n-th.
    fn step(&self, n: usize) -> usize {
        if self.reverse { STEPS - 1 - n } else { n }
    }

    /// The slots of h(t-1), h(t) and h(t-k), and those of the state before and after step t.
    fn places(&self, t: usize) -> (usize, usize, usize, usize, usize) {
        let k = self.history();
        if self.reverse { (t + 1, t, t + k, t + 1, t) } else { (t + k - 1, t + k, t, t, t + 1) }
    }

    /// `[state slots, B, H]` of random values; a single element where the cell has no state.
    fn state(&mut self, slots: usize) -> Vec<f32> {
        let len = slots * self.case.batch * self.case.hidden;
        self.case.values(if self.case.subject.cell().has_state() { len } else { 1 })
    }

    /// Reads that buffer as the mirror sees it.
    fn states(&self, state: &[f32], slots: usize) -> Array3<f64> {
        let (batch, hidden) = (self.case.batch, self.case.hidden);
        match self.case.subject.cell().has_state() {
            true => self.case.slots(state, hidden),
            false => Array3::zeros((slots, batch, hidden)),
        }
    }
}

pub(super) fn scan_forward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    forward(gpu, checks, scan_cases(gpu, subjects))
}

pub(super) fn grid_forward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    let gpu = probed(gpu)?;
    forward(&gpu, checks, grid_cases(&gpu, subjects))
}

fn forward(gpu: &Gpu, checks: &mut Checks, cases: Vec<ScanCase>) -> Result<(), Error> {
    for mut scan in cases {
        let (history, state_slots) = (scan.history(), if scan.case.flag { STEPS + 1 } else { 1 });
        let state = scan.state(state_slots);
        let Case { batch, hidden, segments, flag: saves, .. } = scan.case;
        let (lanes, step) = (scan.case.stage().lanes(), batch * hidden);
        let weights = scan.case.weights(segments * hidden, segments * hidden * hidden * lanes);
        let (own, gates) = (scan.case.own(), scan.case.values(STEPS * step * lanes));
        let h = scan.case.values((STEPS + history) * step);
        let lengths = scan.case.device_lengths();
        let params = |first, count| params::ScanForward {
            first,
            count,
            steps: STEPS as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            history: history as u32,
            reverse: u32::from(scan.reverse),
            ..Default::default()
        };
        let bindings: [&[f32]; 6] = [&weights, &own, &lengths, &gates, &state, &h];
        let found = if scan.crew.is_none() {
            scan.run(gpu, &scan.kernel(KernelId::ScanForward, "SAVE"), params, &bindings)?
        } else {
            let params = |first, count| {
                let params::ScanForward { steps, batch, hidden, history, reverse, .. } = params(first, count);
                let rest = params::GridForward::default();
                params::GridForward {
                    first,
                    count,
                    steps,
                    batch,
                    hidden,
                    history,
                    reverse,
                    spins: SPINS,
                    ..rest
                }
            };
            scan.run_grid(gpu, &scan.kernel(KernelId::GridForward, "SAVE"), params, &bindings)?
        };

        let weights =
            Array3::from_shape_vec((segments * hidden, hidden, lanes), wide(&weights)).expect("as many");
        let (mut h, mut gates) = (scan.case.slots(&h, hidden), scan.case.gates(&gates));
        let mut states = scan.states(&state, state_slots);
        let own = matrix(&own, scan.case.subject.units.max(1), hidden);
        for t in (0..STEPS).map(|n| scan.step(n)) {
            let (before, after, skipped, state_from, state_to) = scan.places(t);
            let (state_from, state_to) = if saves { (state_from, state_to) } else { (0, 0) };
            let near = h.slice(s![before, .., ..]);
            let far = if segments == 2 { h.slice(s![skipped, .., ..]) } else { h.slice(s![before, .., ..0]) };
            let want = kernel::step_forward(
                scan.case.stage(),
                scan.case.subject.clip.map(f64::from),
                &StageInput {
                    weights: weights.view(),
                    read: concatenate![Axis(1), near, far].view(),
                    x: gates.slice(s![t, .., .., ..]),
                    h_prev: near,
                    state_prev: states.slice(s![state_from, .., ..]),
                    own: scan.case.own_view(&own),
                },
            );
            for row in (0..batch).filter(|&row| scan.case.is_active(t, row)) {
                h.slice_mut(s![after, row, ..]).assign(&want.h.row(row));
                if saves {
                    gates.slice_mut(s![t, row, .., ..]).assign(&want.saved.slice(s![row, .., ..]));
                }
                states.slice_mut(s![state_to, row, ..]).assign(&want.state.row(row));
            }
        }
        checks.case(scan.describe());
        // An error of a step is in every later one, so the sums of all steps count as one.
        let tolerance = Tolerance::output(STEPS * segments * hidden);
        let axes = [("slot", STEPS + history), ("row", batch), ("unit", hidden)];
        checks.tensor("h", &axes, &found[5], &flat(&h), tolerance);
        let axes = [("step", STEPS), ("row", batch), ("unit", hidden), ("lane", lanes)];
        checks.tensor("gates", &axes, &found[3], &flat(&gates), tolerance);
        if scan.case.subject.cell().has_state() {
            let axes = [("slot", state_slots), ("row", batch), ("unit", hidden)];
            checks.tensor("state", &axes, &found[4], &flat(&states), tolerance);
        }
    }
    Ok(())
}

pub(super) fn scan_backward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    backward(gpu, checks, scan_cases(gpu, subjects))
}

pub(super) fn grid_backward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    let gpu = probed(gpu)?;
    backward(&gpu, checks, grid_cases(&gpu, subjects))
}

/// The probe with a single workgroup, and with as many as the device is said to run.
pub(super) fn grid_probe(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    let gpu = probed(gpu)?;
    for groups in [1, gpu.target().resident_groups] {
        let plan = probe(gpu.target(), groups);
        let mut found = vec![f32::NAN; 2];
        for _ in 0..TRIES {
            found = run_plan(&gpu, &plan, &[(Given::Sync, &[0.0; 2 * SYNC_STRIDE as usize])])?.remove(0);
            if found[GAVE_UP].to_bits() == 0 {
                break;
            }
        }
        let numbers: Vec<f32> = found[..2].iter().map(|word| word.to_bits() as f32).collect();
        checks.case(format!("groups {groups}"));
        checks.tensor("gave up", &[("word", 1)], &numbers[GAVE_UP..=GAVE_UP], &[0.0], Tolerance::EXACT);
        checks.tensor("seen", &[("word", 1)], &numbers[SEEN..=SEEN], &[f64::from(groups)], Tolerance::EXACT);
    }
    Ok(())
}

fn backward(gpu: &Gpu, checks: &mut Checks, cases: Vec<ScanCase>) -> Result<(), Error> {
    for mut scan in cases {
        let (history, state) = (scan.history(), scan.state(STEPS + 1));
        let Case { batch, hidden, segments, .. } = scan.case;
        let (lanes, step) = (scan.case.stage().lanes(), batch * hidden);
        let weights = scan.case.weights(hidden * lanes, segments * hidden * hidden * lanes);
        let drawn = scan.case.values(STEPS * step * lanes);
        let gates = scan.case.subject.saved(&drawn);
        let (own, h) = (scan.case.own(), scan.case.values((STEPS + history) * step));
        let (d_stride, d_begin) = (hidden + 2, 1);
        let d_out = scan.case.values(STEPS * batch * d_stride);
        let carry = scan.case.values((1 + history) * step);
        let lengths = scan.case.device_lengths();
        let params = |first, count| params::ScanBackward {
            first,
            count,
            steps: STEPS as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            history: history as u32,
            reverse: u32::from(scan.reverse),
            d_stride: d_stride as u32,
            d_begin: d_begin as u32,
            ..Default::default()
        };
        let bindings: [&[f32]; 8] = [&weights, &own, &lengths, &state, &h, &d_out, &gates, &carry];
        let found = if scan.crew.is_none() {
            scan.run(gpu, &scan.kernel(KernelId::ScanBackward, "FINALS"), params, &bindings)?
        } else {
            let params = |first, count| {
                let params::ScanBackward { steps, batch, hidden, history, reverse, .. } =
                    params(first, count);
                let (d_stride, d_begin) = (d_stride as u32, d_begin as u32);
                let spins = SPINS;
                let rest = params::GridBackward::default();
                params::GridBackward {
                    first,
                    count,
                    steps,
                    batch,
                    hidden,
                    history,
                    reverse,
                    d_stride,
                    d_begin,
                    spins,
                    ..rest
                }
            };
            scan.run_grid(gpu, &scan.kernel(KernelId::GridBackward, "FINALS"), params, &bindings)?
        };

        let want = backward_mirror(&scan, &bindings, (d_stride, d_begin));
        checks.case(scan.describe());
        let tolerance = Tolerance::gradient(STEPS * segments * lanes * hidden);
        let axes = [("step", STEPS), ("row", batch), ("unit", hidden), ("lane", lanes)];
        checks.tensor("d_pre", &axes, &found[6], &flat(&want.0), tolerance);
        if scan.case.subject.carries() {
            checks.tensor(
                "carry",
                &[("row", batch), ("unit", hidden)],
                &found[7][..step],
                &flat(&want.1),
                tolerance,
            );
        }
        let untouched = if scan.case.subject.carries() { step } else { 0 };
        let rest = &carry[untouched..];
        checks.tensor(
            "final values",
            &[("element", rest.len())],
            &found[7][untouched..],
            &wide(rest),
            Tolerance::EXACT,
        );
    }
    Ok(())
}

/// The gradients with respect to the pre-activations of all steps, and what the first step carries on.
fn backward_mirror(
    scan: &ScanCase,
    bindings: &[&[f32]; 8],
    (d_stride, d_begin): (usize, usize),
) -> (Array4<f64>, Array2<f64>) {
    let [weights, own, _, state, h, d_out, gates, carry] = bindings;
    let Case { batch, hidden, segments, flag: with_finals, .. } = scan.case;
    let (lanes, history, step) = (scan.case.stage().lanes(), scan.history(), batch * hidden);
    let weights = Array4::from_shape_vec((segments, hidden, hidden, lanes), wide(weights)).expect("as many");
    let (saved, h, states) =
        (scan.case.gates(gates), scan.case.slots(h, hidden), scan.states(state, STEPS + 1));
    let own = matrix(own, scan.case.subject.units.max(1), hidden);
    let d_out = scan.case.slots(d_out, d_stride);
    let finals = scan.case.slots(&carry[step..], hidden);
    let mut carried = matrix(&carry[..step], batch, hidden);
    let mut d_pre = Array4::zeros(saved.dim());
    for n in (0..STEPS).rev() {
        let t = scan.step(n);
        let (before, after, _, state_from, state_to) = scan.places(t);
        let mut d_h = d_out.slice(s![t, .., d_begin..d_begin + hidden]).to_owned();
        for (segment, later) in [(0, n + 1), (1, n + history)] {
            if segment < segments && later < STEPS {
                let of_later = d_pre.slice(s![scan.step(later), .., .., ..]);
                d_h += &kernel::recurrent_gradient(of_later, weights.slice(s![segment, .., .., ..]));
            }
        }
        for row in (0..batch).filter(|_| with_finals) {
            let place = after.checked_sub(scan.slots().end(row, history)).filter(|&place| place < history);
            if let Some(place) = place {
                d_h.row_mut(row).zip_mut_with(&finals.slice(s![place, row, ..]), |d, &end| *d += end);
            }
        }
        let kept = StageSaved {
            saved: saved.slice(s![t, .., .., ..]),
            h_prev: h.slice(s![before, .., ..]),
            state_prev: states.slice(s![state_from, .., ..]),
            state: states.slice(s![state_to, .., ..]),
            own: scan.case.own_view(&own),
        };
        let clip = scan.case.subject.clip.map(f64::from);
        let want = kernel::step_backward(scan.case.stage(), clip, &kept, d_h.view(), carried.view());
        for row in (0..batch).filter(|&row| scan.case.is_active(t, row)) {
            d_pre.slice_mut(s![t, row, .., ..]).assign(&want.d_pre.slice(s![row, .., ..]));
            carried.row_mut(row).assign(&want.carry.row(row));
        }
    }
    (d_pre, carried)
}
