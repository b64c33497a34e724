//! Steps forward and backward, stage by stage, with every cell and option.

use super::lanes;
use super::stages::Subject;
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::kernel::{self, Slots, Stage, StageInput, StageSaved};
use gatefold_shaders::{CellStage, Columns, KernelId, KernelVariant, Lanes, NO_STEP, TILE_WG_SIZE, params};
use ndarray::{Array2, Array3, Array4, ArrayView2, Axis, concatenate, s};

/// Steps in the buffers of a case; the middle one is run.
pub(super) const STEPS: usize = 3;
pub(super) const T: usize = 1;
/// Slots of h.
const SLOTS: usize = 5;
/// Columns that the second segment of a product reads.
const SKIPPED: usize = 3;

/// A subject with a batch and a width that some tile does not divide, and the choices of the kernel.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) subject: Subject,
    pub(super) batch: usize,
    pub(super) hidden: usize,
    pub(super) rows: u32,
    pub(super) lanes: Lanes,
    /// Steps of each row.
    pub(super) lengths: Option<Vec<usize>>,
    pub(super) segments: usize,
    /// Whether gates are saved, or whether final values have gradients.
    pub(super) flag: bool,
    pub(super) random: Random,
}

/// Plain cells with every tile and every way of sharing loads, over sizes of 1, primes, and one below and above tiles
/// and workgroups; then every option of every cell, alternately with and without lengths and a second segment.
pub(super) fn cases(gpu: &Gpu, subjects: &[Subject]) -> Vec<Case> {
    let mut found: Vec<Case> = Vec::new();
    let mut seen: Vec<CellStage> = Vec::new();
    let all_lanes = lanes(gpu);
    for subject in subjects {
        let is_plain = !seen.contains(&subject.cell());
        seen.push(subject.cell());
        let turn = seen.len();
        let tiles: Vec<(u32, Lanes)> = if is_plain {
            let tiles = [1, 2, 4, 8, 16].into_iter();
            tiles.flat_map(|rows| all_lanes.iter().map(move |&lanes| (rows, lanes))).collect()
        } else {
            vec![([2, 8][turn % 2], all_lanes[turn / 2 % all_lanes.len()])]
        };
        for (place, (rows, lanes)) in tiles.into_iter().enumerate() {
            let tile = rows as usize;
            let all = [(1, 1), (tile + 1, 31), (2 * tile - 1, 33), (3, 65), (tile, 8)];
            // The same for all sizes of a tile: each choice is a kernel to compile.
            let choice = turn + place;
            for &(batch, hidden) in if is_plain { &all[..] } else { &all[1..2] } {
                found.push(Case {
                    subject: *subject,
                    batch,
                    hidden,
                    rows,
                    lanes,
                    lengths: choice.is_multiple_of(3).then(|| lengths(batch)),
                    segments: 1 + usize::from(choice % 4 == 2),
                    flag: choice % 5 < 3,
                    random: Random::new(11, found.len() as u64),
                });
            }
        }
    }
    found
}

/// Lengths of every kind in turn, including none and all, and a tile's worth of rows that have ended. In a batch of
/// several rows, the first row of a tile ends before others.
fn lengths(batch: usize) -> Vec<usize> {
    let of_row = |row: usize| if row >= 8 { 0 } else { [0, STEPS, 2, 1][row % 4] };
    if batch == 1 { vec![STEPS] } else { (0..batch).map(of_row).collect() }
}

impl Case {
    pub(super) fn stage(&self) -> Stage {
        self.subject.stage
    }

    pub(super) fn kernel(&self, id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
        let own = [("WG_SIZE", TILE_WG_SIZE), ("ROWS", self.rows), ("UNITS", self.subject.units as u32)];
        let more = [("SEGMENTS", self.segments as u32), ("LENGTHS", u32::from(self.lengths.is_some()))];
        KernelVariant {
            id,
            members: 1,
            cell: Some(self.subject.cell()),
            lanes: self.lanes,
            columns: Columns::F32,
            consts: [&own[..], &more, &self.subject.consts(), consts].concat(),
        }
    }

    pub(super) fn groups(&self, columns: usize) -> [u32; 3] {
        [(columns as u32).div_ceil(TILE_WG_SIZE), (self.batch as u32).div_ceil(self.rows), 1]
    }

    pub(super) fn describe(&self) -> String {
        let Case { subject, batch, hidden, rows, lanes, segments, flag, .. } = self;
        let lengths = if self.lengths.is_some() { " lengths" } else { "" };
        let lanes = format!("{lanes:?}").to_lowercase();
        format!(
            "{} B {batch} H {hidden} rows {rows} {lanes} segments {segments} flag {flag}{lengths}",
            subject.name
        )
    }

    pub(super) fn values(&mut self, len: usize) -> Vec<f32> {
        self.random.values_for(self.batch * self.hidden, len)
    }

    /// Weights scaled so that sums of `terms` terms stay around 1.
    pub(super) fn weights(&mut self, terms: usize, len: usize) -> Vec<f32> {
        let bound = 1.7 / (terms as f32).sqrt();
        self.values(len).into_iter().map(|value| value * bound).collect()
    }

    pub(super) fn own(&mut self) -> Vec<f32> {
        self.values(self.subject.units.max(1) * self.hidden)
    }

    pub(super) fn is_active(&self, t: usize, row: usize) -> bool {
        self.lengths.as_ref().is_none_or(|lengths| t < lengths[row])
    }

    /// The lengths that the kernel reads; a placeholder where it reads none.
    pub(super) fn device_lengths(&self) -> Vec<f32> {
        match &self.lengths {
            Some(lengths) => lengths.iter().map(|&len| f32::from_bits(len as u32)).collect(),
            None => vec![0.0],
        }
    }

    /// `[slots, B, width]`
    pub(super) fn slots(&self, values: &[f32], width: usize) -> Array3<f64> {
        let slots = values.len() / (self.batch * width);
        Array3::from_shape_vec((slots, self.batch, width), wide(values)).expect("whole slots")
    }

    /// `[steps, B, H, L]`
    pub(super) fn gates(&self, values: &[f32]) -> Array4<f64> {
        let unit = self.stage().lanes() * self.hidden * self.batch;
        let shape = (values.len() / unit, self.batch, self.hidden, self.stage().lanes());
        Array4::from_shape_vec(shape, wide(values)).expect("whole steps")
    }

    pub(super) fn own_view<'a>(&self, own: &'a Array2<f64>) -> ArrayView2<'a, f64> {
        own.slice(s![..self.subject.units, ..])
    }
}

pub(super) fn flat<D: ndarray::Dimension>(values: &ndarray::Array<f64, D>) -> Vec<f64> {
    values.iter().copied().collect()
}

pub(super) fn step_forward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    for mut case in cases(gpu, subjects) {
        let Case { batch, hidden, segments, .. } = case;
        let (lanes, r_len) = (case.stage().lanes(), if hidden == 1 { 1 } else { hidden + 2 });
        let skip_len = if segments == 2 { SKIPPED } else { 0 };
        // The product, h(t-1) and the result have different columns.
        let (r_begin, h_begin, to_begin, width) = (2, 1, r_len + 1, r_len + hidden + 3);
        let shape = (r_len + skip_len, hidden, case.stage().product_lanes());
        let weights = case.weights(shape.0, shape.0 * shape.1 * shape.2);
        let (own, gates) = (case.own(), case.values(STEPS * batch * hidden * lanes));
        let h = case.values(SLOTS * batch * width);
        // Training keeps a slot of the state for each step, inference and streams keep one.
        let (state_from, state_to) = if case.flag { (T, T + 1) } else { (0, 0) };
        let state_len = if case.subject.cell().has_state() { (STEPS + 1) * batch * hidden } else { 1 };
        let state = case.values(state_len);
        // The second stage reads gates as the first stage saved them.
        let gates = if matches!(case.stage(), Stage::Update(_)) { case.subject.saved(&gates) } else { gates };
        let (r_slot, skip_slot, h_from, h_to) = (2, 0, 1, 3);
        let params = params::StepForward {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            width: width as u32,
            r_slot: r_slot as u32,
            r_begin: r_begin as u32,
            r_len: r_len as u32,
            skip_slot: skip_slot as u32,
            skip_begin: 1,
            skip_len: skip_len as u32,
            h_from: h_from as u32,
            h_begin: h_begin as u32,
            h_to: h_to as u32,
            to_begin: to_begin as u32,
            state_from: state_from as u32,
            state_to: state_to as u32,
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::StepForward, &[("SAVE", u32::from(case.flag))]);
        let lengths = case.device_lengths();
        let bindings: [&[f32]; 6] = [&weights, &own, &lengths, &gates, &state, &h];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups(hidden))?;

        let wide_weights = Array3::from_shape_vec(shape, wide(&weights)).expect("as many");
        let (mut h, mut gates) = (case.slots(&h, width), case.gates(&gates));
        let read = concatenate![
            Axis(1),
            h.slice(s![r_slot, .., r_begin..r_begin + r_len]),
            h.slice(s![skip_slot, .., 1..1 + skip_len])
        ];
        let own = matrix(&own, case.subject.units.max(1), hidden);
        let mut states =
            if state_len == 1 { Array3::zeros((1, batch, hidden)) } else { case.slots(&state, hidden) };
        let state_from = if state_len == 1 { 0 } else { state_from };
        let want = kernel::step_forward(
            case.stage(),
            case.subject.clip.map(f64::from),
            &StageInput {
                weights: wide_weights.view(),
                read: read.view(),
                x: gates.slice(s![T, .., .., ..]),
                h_prev: h.slice(s![h_from, .., h_begin..h_begin + hidden]),
                state_prev: states.slice(s![state_from, .., ..]),
                own: case.own_view(&own),
            },
        );
        for row in (0..batch).filter(|&row| case.is_active(T, row)) {
            h.slice_mut(s![h_to, row, to_begin..to_begin + hidden]).assign(&want.h.row(row));
            if case.flag {
                gates.slice_mut(s![T, row, .., ..]).assign(&want.saved.slice(s![row, .., ..]));
            }
            if state_len > 1 {
                states.slice_mut(s![state_to, row, ..]).assign(&want.state.row(row));
            }
        }
        checks.case(case.describe());
        let tolerance = Tolerance::output(r_len + skip_len);
        checks.tensor(
            "h",
            &[("slot", SLOTS), ("row", batch), ("column", width)],
            &found[5],
            &flat(&h),
            tolerance,
        );
        let axes = [("step", STEPS), ("row", batch), ("unit", hidden), ("lane", lanes)];
        checks.tensor("gates", &axes, &found[3], &flat(&gates), tolerance);
        if state_len > 1 {
            let axes = [("slot", STEPS + 1), ("row", batch), ("unit", hidden)];
            checks.tensor("state", &axes, &found[4], &flat(&states), tolerance);
        }
    }
    Ok(())
}

/// The inputs of a step's backward, in the layout of the device.
struct Saved {
    own: Vec<f32>,
    gates: Vec<f32>,
    state: Vec<f32>,
    h: Vec<f32>,
}

impl Saved {
    fn new(case: &mut Case, width: usize) -> Saved {
        let Case { batch, hidden, .. } = *case;
        let own = case.own();
        let gates = case.values(STEPS * batch * hidden * case.stage().lanes());
        // The step itself holds the gates that forward saved, the others hold gradients.
        let (step, mut gates) = (batch * hidden * case.stage().lanes(), gates);
        let saved = case.subject.saved(&gates[T * step..(T + 1) * step]);
        gates[T * step..(T + 1) * step].copy_from_slice(&saved);
        let state_len = if case.subject.cell().has_state() { (STEPS + 1) * batch * hidden } else { 1 };
        Saved { own, gates, state: case.values(state_len), h: case.values(SLOTS * batch * width) }
    }

    /// The mirror's backward of the step, from the whole gradient with respect to the stage's result.
    fn backward(
        &self,
        case: &Case,
        (width, h_from, h_begin): (usize, usize, usize),
        d_h: &Array2<f64>,
        carry: &Array2<f64>,
    ) -> kernel::StageBackward<f64> {
        let (gates, h) = (case.gates(&self.gates), case.slots(&self.h, width));
        let none = Array3::zeros((STEPS + 1, case.batch, case.hidden));
        let states = if self.state.len() == 1 { none } else { case.slots(&self.state, case.hidden) };
        let own = matrix(&self.own, case.subject.units.max(1), case.hidden);
        let kept = StageSaved {
            saved: gates.slice(s![T, .., .., ..]),
            h_prev: h.slice(s![h_from, .., h_begin..h_begin + case.hidden]),
            state_prev: states.slice(s![T, .., ..]),
            state: states.slice(s![T + 1, .., ..]),
            own: case.own_view(&own),
        };
        let clip = case.subject.clip.map(f64::from);
        kernel::step_backward(case.stage(), clip, &kept, d_h.view(), carry.view())
    }

    /// Compares the step's slot of gates, zero in rows that are not active, and checks that the others are as before.
    fn check_gates(
        &self,
        case: &Case,
        checks: &mut Checks,
        found: &[f32],
        d_pre: &Array3<f64>,
        tolerance: Tolerance,
    ) {
        let mut want = case.gates(&self.gates);
        let mut slot = want.slice_mut(s![T, .., .., ..]);
        slot.fill(0.0);
        for row in (0..case.batch).filter(|&row| case.is_active(T, row)) {
            slot.slice_mut(s![row, .., ..]).assign(&d_pre.slice(s![row, .., ..]));
        }
        let lanes = case.stage().lanes();
        let step = case.batch * case.hidden * lanes;
        let axes = [("row", case.batch), ("unit", case.hidden), ("lane", lanes)];
        let here = T * step..(T + 1) * step;
        checks.tensor("d_pre", &axes, &found[here.clone()], &flat(&want)[here.clone()], tolerance);
        let mut rest = self.gates.clone();
        rest[here.clone()].copy_from_slice(&found[here]);
        checks.tensor("gates elsewhere", &[("element", rest.len())], found, &wide(&rest), Tolerance::EXACT);
    }
}

/// Compares the buffer of carry: the stage's results in active rows, and the rest as before.
fn check_carry(
    case: &Case,
    checks: &mut Checks,
    found: &[f32],
    before: &[f32],
    want: &[(usize, &Array2<f64>)],
    tolerance: Tolerance,
) {
    let mut expected = wide(before);
    for (at, values) in want {
        for row in (0..case.batch).filter(|&row| case.is_active(T, row)) {
            for (column, &value) in values.row(row).iter().enumerate() {
                expected[at + row * values.ncols() + column] = value;
            }
        }
    }
    checks.tensor("carry", &[("element", before.len())], found, &expected, tolerance);
}

pub(super) fn step_backward(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    for mut case in cases(gpu, subjects) {
        let Case { batch, hidden, segments, flag: with_finals, .. } = case;
        let (lanes, len) = (case.stage().lanes(), batch * hidden);
        let history = segments + 1;
        let (width, h_begin, h_from, d_begin) = (hidden + 3, 2, 1, 1);
        let reverse = with_finals && case.lengths.is_some();
        let saved = Saved::new(&mut case, width);
        let weights = case.weights(hidden * lanes, segments * hidden * hidden * lanes);
        let d_stride = hidden + 2;
        let d_out = case.values(STEPS * batch * d_stride);
        let inner_to = (1 + history) * len;
        let carry = case.values(inner_to + len);
        // The next step of the scan; the last has none.
        let next = if reverse { T - 1 } else { T + 1 };
        let has_next = case.rows != 4;
        let params = params::StepBackward {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            width: width as u32,
            h_from: h_from as u32,
            h_begin: h_begin as u32,
            state_from: T as u32,
            state_to: T as u32 + 1,
            inner_to: inner_to as u32,
            next: if has_next { next as u32 } else { NO_STEP },
            skip_next: 2 - next as u32,
            d_stride: d_stride as u32,
            d_begin: d_begin as u32,
            history: history as u32,
            steps: STEPS as u32,
            reverse: u32::from(reverse),
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::StepBackward, &[("FINALS", u32::from(with_finals))]);
        let lengths = case.device_lengths();
        let Saved { own, gates, state, h } = &saved;
        let bindings: [&[f32]; 8] = [&weights, own, &lengths, state, h, &d_out, gates, &carry];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups(hidden))?;

        let d_out = case.slots(&d_out, d_stride);
        let mut d_h = d_out.slice(s![T, .., d_begin..d_begin + hidden]).to_owned();
        let all_gates = case.gates(gates);
        let shape = (segments, hidden, hidden, lanes);
        let weights = Array4::from_shape_vec(shape, wide(&weights)).expect("as many as the shape has");
        let sources = [(has_next, next, 0), (segments == 2, 2 - next, segments - 1)];
        for (_, step, segment) in sources.into_iter().filter(|(read, ..)| *read) {
            let d_pre = all_gates.slice(s![step, .., .., ..]);
            d_h += &kernel::recurrent_gradient(d_pre, weights.slice(s![segment, .., .., ..]));
        }
        let slots = Slots { steps: STEPS, history, reverse, lengths: case.lengths.as_deref() };
        let finals = case.slots(&carry[len..(1 + history) * len], hidden);
        if with_finals {
            for row in 0..batch {
                let own_slot = if reverse { T } else { T + history };
                let place = own_slot.checked_sub(slots.end(row, history)).filter(|&place| place < history);
                if let Some(place) = place {
                    d_h.row_mut(row).zip_mut_with(&finals.slice(s![place, row, ..]), |d, &end| *d += end);
                }
            }
        }
        let want =
            saved.backward(&case, (width, h_from, h_begin), &d_h, &matrix(&carry[..len], batch, hidden));
        checks.case(case.describe());
        let tolerance = Tolerance::gradient(segments * lanes * hidden);
        saved.check_gates(&case, checks, &found[6], &want.d_pre, tolerance);
        let mut left: Vec<(usize, &Array2<f64>)> = Vec::new();
        if case.subject.carries() {
            left.push((0, &want.carry));
        }
        if matches!(case.stage(), Stage::Update(_)) {
            left.push((inner_to, &want.inner));
        }
        check_carry(&case, checks, &found[7], &carry, &left, tolerance);
    }
    Ok(())
}

pub(super) fn step_backward_inner(gpu: &Gpu, checks: &mut Checks, subjects: &[Subject]) -> Result<(), Error> {
    for mut case in cases(gpu, subjects) {
        let Case { batch, hidden, flag: with_row, .. } = case;
        let (lanes, len) = (case.stage().lanes(), batch * hidden);
        let inner_len = if hidden == 1 { 1 } else { hidden - 3 };
        let (width, h_begin, h_from) = (hidden + 3, 2, 1);
        let saved = Saved::new(&mut case, width);
        let weights = case.weights(inner_len, inner_len * hidden);
        let (inner_from, row_from) = (len, len + batch * inner_len);
        let inner_to = row_from + len;
        let carry = case.values(inner_to + len);
        let params = params::StepBackwardInner {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            width: width as u32,
            h_from: h_from as u32,
            h_begin: h_begin as u32,
            state_from: T as u32,
            state_to: T as u32 + 1,
            inner_to: inner_to as u32,
            inner_from: inner_from as u32,
            inner_len: inner_len as u32,
            row_from: row_from as u32,
            ..Default::default()
        };
        let kernel = case.kernel(KernelId::StepBackwardInner, &[("WITH_ROW", u32::from(with_row))]);
        let lengths = case.device_lengths();
        let Saved { own, gates, state, h } = &saved;
        let bindings: [&[f32]; 7] = [&weights, own, &lengths, state, h, gates, &carry];
        let found = run_kernel(gpu, &kernel, params, &bindings, case.groups(hidden))?;

        let inner = matrix(&carry[inner_from..row_from], batch, inner_len);
        let mut d_h = inner.dot(&matrix(&weights, inner_len, hidden));
        if with_row {
            d_h += &matrix(&carry[row_from..inner_to], batch, hidden);
        }
        let want =
            saved.backward(&case, (width, h_from, h_begin), &d_h, &matrix(&carry[..len], batch, hidden));
        checks.case(case.describe());
        let tolerance = Tolerance::gradient(inner_len + lanes);
        saved.check_gates(&case, checks, &found[5], &want.d_pre, tolerance);
        let mut left: Vec<(usize, &Array2<f64>)> = Vec::new();
        if case.subject.carries() {
            left.push((0, &want.carry));
        }
        if matches!(case.stage(), Stage::Update(_)) {
            left.push((inner_to, &want.inner));
        }
        check_carry(&case, checks, &found[6], &carry, &left, tolerance);
    }
    Ok(())
}
