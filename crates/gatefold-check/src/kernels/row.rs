//! Steps that run row by row: every cell, with and without layer normalisation, lengths, and every mask.

mod scans;

pub(super) use scans::{row_scan_backward, row_scan_forward};

use super::scan::{STEPS, T, flat};
use super::stages::Subject;
use crate::Random;
use crate::compare::Tolerance;
use crate::data::{matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::kernel::Stage;
use gatefold_reference::scan::row::{self, RowForward, RowNorm, RowStep};
use gatefold_shaders::params::{self, ROW_STATS, own_rows, sum_rows};
use gatefold_shaders::{Columns, ELEMENT_WG_SIZE, KernelId, KernelVariant, Lanes};
use ndarray::{Array2, Array3, ArrayView3, s};

const EPSILON: f32 = 0.02;
/// Slots before the first step; a forward scan.
const HISTORY: usize = 1;

/// One step of a dressed cell.
struct Case {
    subject: Subject,
    batch: usize,
    hidden: usize,
    norm: bool,
    /// Whether masks are drawn; else zoneout has its rates.
    noise: bool,
    zoneout: f32,
    zoneout_cell: f32,
    candidate: bool,
    lengths: bool,
    random: Random,
    /// Peepholes, then, with a norm, bias, gains, and gain and bias of the state.
    own: Vec<f32>,
    masks: Vec<f32>,
    x: Vec<f64>,
    r: Vec<f64>,
    /// `[B, H]`
    h_prev: Vec<f64>,
    state_prev: Vec<f64>,
    /// The step, by which masks are found.
    t: usize,
}

/// Subjects and choices in turn, over sizes of 1, a prime, and one above and below a workgroup and twice that.
fn cases() -> Vec<Case> {
    let sizes = [(1, 1), (3, 63), (2, 65), (5, 7), (4, 129), (7, 16)];
    let subjects: Vec<Subject> =
        Subject::with_recurrence().into_iter().filter(|subject| subject.cell().is_whole()).collect();
    let (mut found, plain) = (Vec::new(), Subject::plain().len());
    for (turn, subject) in subjects.into_iter().enumerate() {
        // Every choice of the plain cells, and some of each option's.
        for choice in if turn < plain { 0..24 } else { (turn % 7)..(turn % 7 + 2) } {
            let (batch, hidden) = sizes[(turn + choice) % sizes.len()];
            let mut case = Case {
                subject,
                batch,
                hidden,
                norm: choice % 2 == 1,
                noise: choice % 3 != 1,
                zoneout: [0.0, 0.3][choice / 2 % 2],
                zoneout_cell: if subject.cell().has_state() { [0.4, 0.0][choice / 3 % 2] } else { 0.0 },
                candidate: choice % 5 < 3 && subject.cell().lanes() > 1,
                lengths: choice % 4 > 1 && batch > 1,
                random: Random::new(12, found.len() as u64),
                own: Vec::new(),
                masks: Vec::new(),
                x: Vec::new(),
                r: Vec::new(),
                h_prev: Vec::new(),
                state_prev: Vec::new(),
                t: T,
            };
            case.fill();
            found.push(case);
        }
    }
    found
}

impl Case {
    fn lanes(&self) -> usize {
        self.subject.stage.lanes()
    }

    fn fill(&mut self) {
        let (len, lanes) = (self.batch * self.hidden, self.lanes());
        let rows = own_rows(self.subject.units as u32, self.norm, lanes as u32) as usize;
        let count = self.mask_count() * STEPS * len;
        let mut values = |len: usize| self.random.values(len);
        self.own = values(rows * self.hidden);
        (self.x, self.r) = (wide(&values(len * lanes)), wide(&values(len * lanes)));
        (self.h_prev, self.state_prev) = (wide(&values(len)), wide(&values(len)));
        // A third of every mask is zero, the others are factors.
        self.masks = values(count).into_iter().map(|v| if v < -0.33 { 0.0 } else { 1.5 }).collect();
    }

    fn mask_count(&self) -> usize {
        let there = [self.zoneout > 0.0, self.zoneout_cell > 0.0, self.candidate];
        if self.noise { there.into_iter().filter(|&there| there).count() } else { 0 }
    }

    fn is_active(&self, row: usize) -> bool {
        !self.lengths || row % 3 != 1
    }

    /// The lengths that the kernel reads.
    fn device_lengths(&self) -> Vec<f32> {
        let len = |row: usize| if self.is_active(row) { STEPS } else { T };
        (0..self.batch).map(|row| f32::from_bits(len(row) as u32)).collect()
    }

    /// `[B, H]` of step T of the nth mask.
    fn mask(&self, nth: usize) -> Array2<f64> {
        let len = self.batch * self.hidden;
        let first = (nth * STEPS + self.t) * len;
        matrix(&self.masks[first..first + len], self.batch, self.hidden)
    }

    /// The shares of h and of the state, and the factors of the candidate.
    fn masks(&self) -> [Array2<f64>; 3] {
        let full = |value: f64| Array2::from_elem((self.batch, self.hidden), value);
        let mut nth = 0;
        let mut share = |rate: f32| match rate {
            0.0 => full(0.0),
            rate if !self.noise => full(f64::from(rate)),
            _ => {
                nth += 1;
                self.mask(nth - 1).mapv(|kept| f64::from(u8::from(kept == 0.0)))
            }
        };
        let shares = [share(self.zoneout), share(self.zoneout_cell)];
        let candidate = if self.candidate && self.noise { self.mask(nth) } else { full(1.0) };
        let [h, state] = shares;
        [h, state, candidate]
    }

    /// Rows of lanes among the unit's own numbers, `[H, L]`.
    fn own_lanes(&self, nth: usize) -> Array2<f64> {
        let (lanes, begin) = (self.lanes(), self.subject.units * self.hidden);
        let len = lanes * self.hidden;
        matrix(&self.own[begin + nth * len..begin + (nth + 1) * len], self.hidden, lanes)
    }

    /// Calls `work` with the step for the mirror.
    fn with_step<Out>(&self, work: impl FnOnce(&RowStep<f64>) -> Out) -> Out {
        let (batch, hidden, lanes) = (self.batch, self.hidden, self.lanes());
        let cell = match self.subject.stage {
            Stage::Cell(cell) => cell,
            _ => unreachable!("only whole cells run row by row"),
        };
        let three = |values: &[f64]| {
            Array3::from_shape_vec((batch, hidden, lanes), values.to_vec()).expect("as many")
        };
        let two = |values: &[f64]| Array2::from_shape_vec((batch, hidden), values.to_vec()).expect("as many");
        let [share, state_share, candidate] = self.masks();
        let (x, r) = (three(&self.x), three(&self.r));
        let rows: Vec<Array2<f64>> =
            if self.norm { (0..3).map(|nth| self.own_lanes(nth)).collect() } else { Vec::new() };
        let state = self.norm.then(|| {
            let begin = (self.subject.units + 3 * lanes) * hidden;
            matrix(&self.own[begin..begin + 2 * hidden], 2, hidden)
        });
        let norm = state.as_ref().map(|state| RowNorm {
            epsilon: f64::from(EPSILON),
            bias: rows[0].view(),
            gain_x: rows[1].view(),
            gain_r: rows[2].view(),
            state: state.view(),
        });
        let peephole = match self.subject.units {
            3 => matrix(&self.own[..3 * hidden], 3, hidden),
            _ => Array2::zeros((3, hidden)),
        };
        let (h_prev, state_prev) = (two(&self.h_prev), two(&self.state_prev));
        work(&RowStep {
            cell,
            clip: self.subject.clip.map(f64::from),
            norm,
            peephole: peephole.view(),
            share: share.view(),
            state_share: state_share.view(),
            candidate: candidate.view(),
            x: x.view(),
            r: r.view(),
            h_prev: h_prev.view(),
            state_prev: state_prev.view(),
        })
    }

    fn kernel(&self, id: KernelId, own: &[(&'static str, u32)]) -> KernelVariant {
        let consts = [
            ("WG_SIZE", ELEMENT_WG_SIZE),
            ("ROWS", 1),
            ("UNITS", self.subject.units as u32),
            ("LENGTHS", u32::from(self.lengths)),
            ("NORM", u32::from(self.norm)),
            ("EPSILON", EPSILON.to_bits()),
            ("NOISE", u32::from(self.noise)),
            ("ZONEOUT", self.zoneout.to_bits()),
            ("ZONEOUT_CELL", self.zoneout_cell.to_bits()),
            ("CANDIDATE_MASK", u32::from(self.candidate)),
        ];
        let consts = [&consts[..], own, &self.subject.consts()].concat();
        let cell = Some(self.subject.cell());
        KernelVariant { id, cell, lanes: Lanes::Single, columns: Columns::F32, consts, members: 1 }
    }

    /// Units' own numbers and masks in one buffer, and where the masks begin.
    fn fixed(&self) -> (Vec<f32>, usize) {
        let gap = 3;
        ([&self.own[..], &vec![9.0; gap], &self.masks].concat(), self.own.len() + gap)
    }

    /// More rows than workgroups along x.
    fn groups(&self) -> ([u32; 3], u32) {
        let x = (self.batch as u32).min(2);
        ([x, (self.batch as u32).div_ceil(x), 1], x)
    }

    fn describe(&self) -> String {
        let Case { subject, batch, hidden, norm, noise, zoneout, zoneout_cell, candidate, .. } = self;
        let lengths = if self.lengths { " lengths" } else { "" };
        format!(
            "{} B {batch} H {hidden} norm {norm} noise {noise} zoneout {zoneout} {zoneout_cell} candidate \
             {candidate}{lengths}",
            subject.name
        )
    }

    /// The terms of the sums: of a step, and over a row.
    fn terms(&self) -> usize {
        if self.norm { 3 * self.lanes() * self.hidden } else { 8 }
    }

    /// Values of step T of a buffer of steps, with others around them.
    fn at_step(&mut self, values: &[f32]) -> Vec<f32> {
        let mut all = self.random.values(STEPS * values.len());
        all[T * values.len()..(T + 1) * values.len()].copy_from_slice(values);
        all
    }
}

/// Replaces the rows that take the step in a buffer of steps, from the `begin`th element on.
fn put(case: &Case, all: &mut [f64], begin: usize, values: &[f64]) {
    let width = values.len() / case.batch;
    for row in (0..case.batch).filter(|&row| case.is_active(row)) {
        let (from, to) = (row * width, begin + row * width);
        all[to..to + width].copy_from_slice(&values[from..from + width]);
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

pub(super) fn row_forward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for (number, mut case) in cases().into_iter().enumerate() {
        let (batch, hidden, lanes) = (case.batch, case.hidden, case.lanes());
        let (len, saves) = (batch * hidden, number % 4 != 3);
        let (fixed, masks_at) = case.fixed();
        let ((groups, groups_x), product) = (case.groups(), narrow(&case.r));
        let x = narrow(&case.x);
        let step = case.at_step(&x);
        // With a norm, x follows the gates; in inference it is overwritten.
        let keeps = case.norm && saves;
        let before = case.random.values(STEPS * len * lanes);
        let gates = if keeps { [before, step].concat() } else { step };
        let x_at = if keeps { STEPS * len } else { 0 };
        let normal = case.random.values(STEPS * len * lanes);
        let (h_prev, state_prev) = (narrow(&case.h_prev), narrow(&case.state_prev));
        let h = [&case.at_step(&h_prev)[..], &case.random.values(len)].concat();
        let state = [&case.at_step(&state_prev)[..], &case.random.values(len)].concat();
        let stats_at = state.len();
        let state = [state, case.random.values(STEPS * batch * ROW_STATS)].concat();
        let params = params::RowForward {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            steps: STEPS as u32,
            h_from: T as u32,
            h_to: (T + HISTORY) as u32,
            state_from: T as u32,
            state_to: (T + HISTORY) as u32,
            x_at: x_at as u32,
            masks_at: masks_at as u32,
            stats_at: stats_at as u32,
            groups_x,
        };
        let kernel = case.kernel(KernelId::RowForward, &[("SAVE", u32::from(saves))]);
        let lengths = case.device_lengths();
        let bindings: [&[f32]; 7] = [&fixed, &lengths, &product, &gates, &normal, &state, &h];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let want: RowForward<f64> = case.with_step(row::forward);
        let (mut w_gates, mut w_normal) = (wide(&gates), wide(&normal));
        let (mut w_state, mut w_h) = (wide(&state), wide(&h));
        put(&case, &mut w_gates, T * len * lanes, &flat(&want.saved));
        if keeps {
            put(&case, &mut w_gates, (x_at + T * len) * lanes, &flat(&want.x));
            put(&case, &mut w_normal, T * len * lanes, &flat(&want.r));
            for row in (0..batch).filter(|&row| case.is_active(row)) {
                let at = stats_at + (T * batch + row) * ROW_STATS;
                let count = if case.subject.cell().has_state() { ROW_STATS } else { 4 };
                for k in 0..count {
                    w_state[at + k] = want.stats[[row, k]];
                }
            }
        }
        if case.subject.cell().has_state() {
            put(&case, &mut w_state, (T + HISTORY) * len, &flat(&want.state));
        }
        put(&case, &mut w_h, (T + HISTORY) * len, &flat(&want.h));
        checks.case(case.describe());
        let tolerance = Tolerance::gradient(case.terms());
        for (name, binding, want) in
            [("gates", 3, &w_gates), ("normal", 4, &w_normal), ("state", 5, &w_state), ("h", 6, &w_h)]
        {
            checks.tensor(name, &[("element", want.len())], &found[binding], want, tolerance);
        }
    }
    Ok(())
}

pub(super) fn row_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut case in cases() {
        let (batch, hidden, lanes) = (case.batch, case.hidden, case.lanes());
        let (len, units) = (batch * hidden, case.subject.units as u32);
        let (fixed, masks_at) = case.fixed();
        let (groups, groups_x) = case.groups();
        let forward: RowForward<f64> = case.with_step(row::forward);
        let step = |case: &mut Case, values: &ArrayView3<f64>| {
            let values: Vec<f64> = values.iter().copied().collect();
            case.at_step(&narrow(&values))
        };
        let mut gates = step(&mut case, &forward.saved.view());
        let x_at = if case.norm { STEPS * len } else { 0 };
        if case.norm {
            gates.extend(step(&mut case, &forward.x.view()));
        }
        let normal = step(&mut case, &forward.r.view());
        let (h_prev, state_prev) = (narrow(&case.h_prev), narrow(&case.state_prev));
        let (h, mut state) = (case.at_step(&h_prev), case.at_step(&state_prev));
        let stats_at = state.len();
        let stats = narrow(&flat(&forward.stats));
        state.extend(case.at_step(&stats));
        let (d_stride, d_begin) = (hidden + 2, 1);
        let d_out = case.random.values(STEPS * batch * d_stride);
        let sums = sum_rows(units, case.norm, lanes as u32) as usize;
        let carry = case.random.values((3 + sums) * len);
        let params = params::RowBackward {
            t: T as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            steps: STEPS as u32,
            h_from: T as u32,
            state_from: T as u32,
            d_stride: d_stride as u32,
            d_begin: d_begin as u32,
            x_at: x_at as u32,
            masks_at: masks_at as u32,
            stats_at: stats_at as u32,
            groups_x,
        };
        let kernel = case.kernel(KernelId::RowBackward, &[]);
        let lengths = case.device_lengths();
        let bindings: [&[f32]; 8] = [&fixed, &lengths, &state, &h, &d_out, &gates, &normal, &carry];
        let found = run_kernel(gpu, &kernel, params, &bindings, groups)?;

        let part = |nth: usize| matrix(&carry[nth * len..(nth + 1) * len], batch, hidden);
        let d_outs = Array3::from_shape_vec((STEPS, batch, d_stride), wide(&d_out)).expect("as many");
        let d_h = part(0) + part(1) + d_outs.slice(s![T, .., d_begin..d_begin + hidden]);
        let want = case.with_step(|step| row::backward(step, &forward, d_h.view(), part(2).view()));
        let (mut w_gates, mut w_normal, mut w_carry) = (wide(&gates), wide(&normal), wide(&carry));
        let begin = T * len * lanes;
        w_gates[begin..begin + len * lanes].fill(0.0);
        put(&case, &mut w_gates, begin, &flat(&want.d_pre));
        if case.norm {
            let x_begin = (x_at + T * len) * lanes;
            w_gates[x_begin..x_begin + len * lanes].fill(0.0);
            w_normal[begin..begin + len * lanes].fill(0.0);
            put(&case, &mut w_gates, x_begin, &flat(&want.d_x));
            put(&case, &mut w_normal, begin, &flat(&want.d_r));
        }
        // A row that has ended hands its gradient on.
        for row in (0..batch).filter(|&row| !case.is_active(row)) {
            for k in row * hidden..(row + 1) * hidden {
                w_carry[len + k] += w_carry[k];
            }
        }
        put(&case, &mut w_carry, len, &flat(&want.carry_h));
        if case.subject.cell().has_state() {
            put(&case, &mut w_carry, 2 * len, &flat(&want.carry_state));
        }
        add_sums(&case, &want, |row| case.is_active(row), &mut w_carry);
        checks.case(case.describe());
        let tolerance = Tolerance::gradient(case.terms() + lanes * hidden);
        for (name, binding, want) in
            [("gates", 5, &w_gates), ("normal", 6, &w_normal), ("carry", 7, &w_carry)]
        {
            checks.tensor(name, &[("element", want.len())], &found[binding], want, tolerance);
        }
    }
    Ok(())
}

/// Adds the sums of the rows that take the step.
fn add_sums(case: &Case, want: &row::RowBackward<f64>, is_active: impl Fn(usize) -> bool, carry: &mut [f64]) {
    let len = case.batch * case.hidden;
    let mut parts: Vec<Vec<f64>> = Vec::new();
    if case.subject.units == 3 {
        parts.push(flat(&want.peephole));
    }
    if case.norm {
        let has_state = case.subject.cell().has_state();
        let state = if has_state { flat(&want.state) } else { vec![0.0; 2 * len] };
        parts.extend([flat(&want.gain_x), flat(&want.gain_r), state]);
    }
    let mut begin = 3 * len;
    for part in parts {
        // Parts hold whole tensors of `[B, H]`, or one of `[B, H, L]`.
        let tensors = if part.len() == len * case.lanes() && case.lanes() > 1 && part.len() != 3 * len {
            1
        } else {
            part.len() / len
        };
        let of_tensor = part.len() / tensors;
        let width = of_tensor / case.batch;
        for (at, value) in part.into_iter().enumerate() {
            if is_active(at % of_tensor / width) {
                carry[begin + at] += value;
            }
        }
        begin += tensors * of_tensor;
    }
}
