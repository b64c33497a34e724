//! Whole scans whose workgroups run a row each, in two dispatches, against the mirror of a step, step after step.

use super::super::scan::{STEPS, flat};
use super::{Case, HISTORY, add_sums, cases, narrow};
use crate::compare::Tolerance;
use crate::data::{matrix, wide};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::{Error, Gpu};
use gatefold_reference::scan::row::{self, RowForward};
use gatefold_shaders::params::{self, ROW_STATS, sum_rows};
use gatefold_shaders::{KernelId, KernelVariant};
use ndarray::{Array2, s};

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

pub(in crate::kernels) fn row_scan_forward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
    for mut scan in scans() {
        let (batch, hidden, lanes) = (scan.case.batch, scan.case.hidden, scan.case.lanes());
        let len = batch * hidden;
        let (fixed, masks_at) = scan.case.fixed();
        let norm = scan.case.norm;
        // With a norm, x follows the gates.
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

pub(in crate::kernels) fn row_scan_backward(gpu: &Gpu, checks: &mut Checks) -> Result<(), Error> {
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
