//! Steps that run row by row: every cell, with and without layer normalisation, lengths, and every mask.

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
    let mut found = Vec::new();
    for (turn, subject) in subjects.into_iter().enumerate() {
        // Every choice of the first few subjects of a cell, and some of each option's.
        for choice in if turn < 3 { 0..24 } else { (turn % 7)..(turn % 7 + 2) } {
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
        KernelVariant { id, cell, lanes: Lanes::Single, columns: Columns::F32, consts }
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
        // With a norm, x lies behind the gates; in inference it is overwritten.
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

/// A whole scan of a case's cell.
struct Scan {
    case: Case,
    reverse: bool,
    /// `[H, H, L]`
    weights: Vec<f32>,
    /// `[T, B, H, L]`
    x: Vec<f32>,
    /// `[B, H]`
    h0: Vec<f32>,
    c0: Vec<f32>,
}

/// A step of the mirror, with the states before it.
struct Kept {
    t: usize,
    forward: RowForward<f64>,
    h_prev: Vec<f64>,
    state_prev: Vec<f64>,
}

fn scans() -> Vec<Scan> {
    let wide_enough = cases().into_iter().enumerate().filter(|(number, _)| number % 3 == 0);
    let scan = |(number, mut case): (usize, Case)| {
        let (len, lanes) = (case.batch * case.hidden, case.lanes());
        let bound = 1.7 / (case.hidden as f32).sqrt();
        let weights = case.random.values(case.hidden * case.hidden * lanes);
        Scan {
            reverse: number % 2 == 1,
            weights: weights.into_iter().map(|weight| weight * bound).collect(),
            x: case.random.values(STEPS * len * lanes),
            h0: case.random.values(len),
            c0: case.random.values(len),
            case,
        }
    };
    wide_enough.map(scan).collect()
}

impl Scan {
    fn len(&self, row: usize) -> usize {
        if self.case.lengths { [STEPS, 1, 2, 0][row % 4] } else { STEPS }
    }

    fn device_lengths(&self) -> Vec<f32> {
        (0..self.case.batch).map(|row| f32::from_bits(self.len(row) as u32)).collect()
    }

    fn order(&self) -> Vec<usize> {
        if self.reverse { (0..STEPS).rev().collect() } else { (0..STEPS).collect() }
    }

    /// Slots before and after a step.
    fn slots(&self, t: usize) -> (usize, usize) {
        if self.reverse { (t + 1, t) } else { (t, t + 1) }
    }

    /// `[T + 1, B, H]` with each row's initial values before its first step.
    fn with_initial(&mut self, initial: &[f32]) -> Vec<f32> {
        let (batch, hidden) = (self.case.batch, self.case.hidden);
        let mut all = self.case.random.values((STEPS + 1) * batch * hidden);
        for row in 0..batch {
            // Until a reverse scan comes to the row, its slots hold initial values or zeros; any will do.
            let slot = if self.reverse { self.len(row) } else { 0 };
            let to = (slot * batch + row) * hidden;
            all[to..to + hidden].copy_from_slice(&initial[row * hidden..(row + 1) * hidden]);
        }
        all
    }

    /// The mirror's steps over buffers of h and of the state, `[T + 1, B, H]`, which it fills.
    fn run(&mut self, h: &mut [f64], state: &mut [f64]) -> Vec<Kept> {
        let (batch, hidden, lanes) = (self.case.batch, self.case.hidden, self.case.lanes());
        let (len, weights) = (batch * hidden, wide(&self.weights));
        let mut kept = Vec::new();
        for t in self.order() {
            let (from, to) = self.slots(t);
            let (h_prev, state_prev) =
                (h[from * len..(from + 1) * len].to_vec(), state[from * len..(from + 1) * len].to_vec());
            let mut r = vec![0.0; len * lanes];
            for (at, r) in r.iter_mut().enumerate() {
                let (row, column) = (at / (hidden * lanes), at % (hidden * lanes));
                let terms =
                    (0..hidden).map(|k| h_prev[row * hidden + k] * weights[k * hidden * lanes + column]);
                *r = terms.sum();
            }
            let case = &mut self.case;
            (case.t, case.r) = (t, r);
            case.x = wide(&self.x[t * len * lanes..(t + 1) * len * lanes]);
            (case.h_prev, case.state_prev) = (h_prev.clone(), state_prev.clone());
            let forward = case.with_step(row::forward);
            for row in (0..batch).filter(|&row| t < self.len(row)) {
                for k in 0..hidden {
                    let at = to * len + row * hidden + k;
                    (h[at], state[at]) = (forward.h[[row, k]], forward.state[[row, k]]);
                }
            }
            kept.push(Kept { t, forward, h_prev, state_prev });
        }
        kept
    }

    fn kernel(&self, id: KernelId, own: &[(&'static str, u32)]) -> KernelVariant {
        let own = [&[("HIDDEN", self.case.hidden as u32)], own].concat();
        self.case.kernel(id, &own)
    }

    /// The terms of the sums of all steps.
    fn terms(&self) -> usize {
        STEPS * (self.case.terms() + self.case.lanes() * self.case.hidden)
    }

    fn describe(&self) -> String {
        let reverse = if self.reverse { " reverse" } else { "" };
        format!("{}{reverse}", self.case.describe())
    }

    /// Writes a step's rows into a buffer of steps, of those rows that have it.
    fn put(&self, all: &mut [f64], begin: usize, t: usize, values: &[f64]) {
        let width = values.len() / self.case.batch;
        for row in (0..self.case.batch).filter(|&row| t < self.len(row)) {
            let to = begin + t * values.len() + row * width;
            all[to..to + width].copy_from_slice(&values[row * width..(row + 1) * width]);
        }
    }
}

pub(super) fn row_scan_forward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut scan in scans() {
        let (batch, hidden, lanes) = (scan.case.batch, scan.case.hidden, scan.case.lanes());
        let len = batch * hidden;
        let (fixed, masks_at) = scan.case.fixed();
        let norm = scan.case.norm;
        // With a norm, x lies behind the gates.
        let other = scan.case.random.values(STEPS * len * lanes);
        let gates = if norm { [&other[..], &scan.x].concat() } else { scan.x.clone() };
        let x_at = if norm { STEPS * len } else { 0 };
        let normal = scan.case.random.values(STEPS * len * lanes);
        let (h0, c0) = (scan.h0.clone(), scan.c0.clone());
        let (h, states) = (scan.with_initial(&h0), scan.with_initial(&c0));
        let stats_at = states.len();
        let state = [states.clone(), scan.case.random.values(STEPS * batch * ROW_STATS)].concat();
        let params = params::RowScanForward {
            count: STEPS as u32,
            steps: STEPS as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            history: HISTORY as u32,
            reverse: u32::from(scan.reverse),
            x_at: x_at as u32,
            masks_at: masks_at as u32,
            stats_at: stats_at as u32,
            ..Default::default()
        };
        let kernel = scan.kernel(KernelId::RowScanForward, &[("SAVE", 1)]);
        let lengths = scan.device_lengths();
        let bindings: [&[f32]; 7] = [&fixed, &lengths, &scan.weights, &gates, &normal, &state, &h];
        // In two dispatches, where the second begins with what the first left.
        let halves = [(0, 1), (1, STEPS as u32 - 1)];
        let mut found: Vec<Vec<f32>> = bindings.iter().map(|binding| binding.to_vec()).collect();
        for (first, count) in halves {
            let bindings: Vec<&[f32]> = found.iter().map(Vec::as_slice).collect();
            let params = params::RowScanForward { first, count, ..params };
            let bindings: [&[f32]; 7] = bindings.try_into().expect("seven");
            found = run_kernel(gpu, &kernel, params, &bindings, [batch as u32, 1, 1])?.to_vec();
        }

        let (mut w_h, mut w_states) = (wide(&h), wide(&states));
        let kept = scan.run(&mut w_h, &mut w_states);
        let (mut w_gates, mut w_normal, mut w_state) = (wide(&gates), wide(&normal), wide(&state));
        let has_state = scan.case.subject.cell().has_state();
        if has_state {
            w_state[..stats_at].copy_from_slice(&w_states);
        }
        for Kept { t, forward, .. } in &kept {
            scan.put(&mut w_gates, 0, *t, &flat(&forward.saved));
            if norm {
                scan.put(&mut w_gates, x_at * lanes, *t, &flat(&forward.x));
                scan.put(&mut w_normal, 0, *t, &flat(&forward.r));
                for row in (0..batch).filter(|&row| *t < scan.len(row)) {
                    let at = stats_at + (t * batch + row) * ROW_STATS;
                    for k in 0..if has_state { ROW_STATS } else { 4 } {
                        w_state[at + k] = forward.stats[[row, k]];
                    }
                }
            }
        }
        checks.case(scan.describe());
        let tolerance = Tolerance::gradient(scan.terms());
        for (name, binding, want) in
            [("gates", 3, &w_gates), ("normal", 4, &w_normal), ("state", 5, &w_state), ("h", 6, &w_h)]
        {
            checks.tensor(name, &[("element", want.len())], &found[binding], want, tolerance);
        }
    }
    Ok(())
}

pub(super) fn row_scan_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut scan in scans() {
        let (batch, hidden, lanes) = (scan.case.batch, scan.case.hidden, scan.case.lanes());
        let (len, norm) = (batch * hidden, scan.case.norm);
        let (fixed, masks_at) = scan.case.fixed();
        let weights_at = fixed.len();
        // From the unit and lane to the unit that it read.
        let weight = |k: usize, unit: usize, lane: usize| scan.weights[(k * hidden + unit) * lanes + lane];
        let turned = (0..hidden * lanes * hidden)
            .map(|at| weight(at % hidden, at / hidden / lanes, at / hidden % lanes))
            .collect::<Vec<f32>>();
        let fixed = [fixed, turned].concat();
        let (h0, c0) = (scan.h0.clone(), scan.c0.clone());
        let (h, states) = (scan.with_initial(&h0), scan.with_initial(&c0));
        let (mut w_h, mut w_states) = (wide(&h), wide(&states));
        let kept = scan.run(&mut w_h, &mut w_states);
        let stats_at = states.len();
        let mut saved = vec![0.5; STEPS * len * lanes * if norm { 2 } else { 1 }];
        let x_at = if norm { STEPS * len } else { 0 };
        let mut normal = vec![0.5; STEPS * len * lanes];
        let mut stats = vec![0.5; STEPS * batch * ROW_STATS];
        for Kept { t, forward, .. } in &kept {
            scan.put(&mut saved, 0, *t, &flat(&forward.saved));
            if norm {
                scan.put(&mut saved, x_at * lanes, *t, &flat(&forward.x));
            }
            scan.put(&mut normal, 0, *t, &flat(&forward.r));
            scan.put(&mut stats, 0, *t, &flat(&forward.stats));
        }
        let (gates, normal) = (narrow(&saved), narrow(&normal));
        let state = [narrow(&w_states), narrow(&stats)].concat();
        let (d_stride, d_begin) = (hidden + 2, 1);
        let d_out = scan.case.random.values(STEPS * batch * d_stride);
        let sums = sum_rows(scan.case.subject.units as u32, norm, lanes as u32) as usize;
        let carry = scan.case.random.values((3 + sums) * len);
        let params = params::RowScanBackward {
            steps: STEPS as u32,
            batch: batch as u32,
            hidden: hidden as u32,
            history: HISTORY as u32,
            reverse: u32::from(scan.reverse),
            d_stride: d_stride as u32,
            d_begin: d_begin as u32,
            x_at: x_at as u32,
            masks_at: masks_at as u32,
            stats_at: stats_at as u32,
            weights_at: weights_at as u32,
            ..Default::default()
        };
        let kernel = scan.kernel(KernelId::RowScanBackward, &[]);
        let (lengths, h) = (scan.device_lengths(), narrow(&w_h));
        let bindings: [&[f32]; 8] = [&fixed, &lengths, &state, &h, &d_out, &gates, &normal, &carry];
        let mut found: Vec<Vec<f32>> = bindings.iter().map(|binding| binding.to_vec()).collect();
        for (first, count) in [(0, 2), (2, STEPS as u32 - 2)] {
            let bindings: Vec<&[f32]> = found.iter().map(Vec::as_slice).collect();
            let params = params::RowScanBackward { first, count, ..params };
            let bindings: [&[f32]; 8] = bindings.try_into().expect("eight");
            found = run_kernel(gpu, &kernel, params, &bindings, [batch as u32, 1, 1])?.to_vec();
        }

        let (mut w_gates, mut w_normal, mut w_carry) = (wide(&gates), wide(&normal), wide(&carry));
        w_gates[..STEPS * len * lanes].fill(0.0);
        if norm {
            w_gates[x_at * lanes..].fill(0.0);
            w_normal.fill(0.0);
        }
        let weights = wide(&scan.weights);
        for Kept { t, forward, h_prev, state_prev } in kept.into_iter().rev() {
            let case = &mut scan.case;
            case.t = t;
            (case.h_prev, case.state_prev) = (h_prev, state_prev);
            let part = |nth: usize| {
                let part = w_carry[nth * len..(nth + 1) * len].to_vec();
                Array2::from_shape_vec((batch, hidden), part).expect("as many")
            };
            let d_outs = matrix(&d_out[t * batch * d_stride..(t + 1) * batch * d_stride], batch, d_stride);
            let d_h = part(0) + part(1) + d_outs.slice(s![.., d_begin..d_begin + hidden]);
            let want = case.with_step(|step| row::backward(step, &forward, d_h.view(), part(2).view()));
            add_sums(&scan.case, &want, |row| t < scan.len(row), &mut w_carry);
            for row in 0..batch {
                let units = row * hidden..(row + 1) * hidden;
                let takes_part = t < scan.len(row);
                for (k, at) in units.clone().enumerate() {
                    w_carry[len + at] =
                        if takes_part { want.carry_h[[row, k]] } else { w_carry[len + at] + w_carry[at] };
                    if takes_part && scan.case.subject.cell().has_state() {
                        w_carry[2 * len + at] = want.carry_state[[row, k]];
                    }
                }
                for (k, at) in units.enumerate() {
                    let through = |unit: usize| {
                        let lane = |lane: usize| {
                            want.d_r[[row, unit, lane]] * weights[(k * hidden + unit) * lanes + lane]
                        };
                        (0..lanes).map(lane).sum::<f64>()
                    };
                    w_carry[at] = if takes_part { (0..hidden).map(through).sum() } else { 0.0 };
                }
            }
            scan.put(&mut w_gates, 0, t, &flat(&want.d_pre));
            if norm {
                scan.put(&mut w_gates, x_at * lanes, t, &flat(&want.d_x));
                scan.put(&mut w_normal, 0, t, &flat(&want.d_r));
            }
        }
        checks.case(scan.describe());
        let tolerance = Tolerance::gradient(scan.terms());
        for (name, binding, want) in
            [("gates", 5, &w_gates), ("normal", 6, &w_normal), ("carry", 7, &w_carry)]
        {
            checks.tensor(name, &[("element", want.len())], &found[binding], want, tolerance);
        }
    }
    Ok(())
}
