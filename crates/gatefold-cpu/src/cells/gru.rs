//! The gated recurrent unit, `h = (1 - z) n + z h'`, in two forms.
//!
//! With the reset after the product there are four lanes, n, r, z and `u = U_n h' + b_n`, ordered so that everything
//! from h' is one block. With the reset before the product there are three, r, z, n, and `r h'` beside them. The lanes
//! keep the activated gates of a plain cell and the clipped pre-activations of any other; u stays unchanged.

use super::{Block, blocks, scratch_blocks};
use crate::functions::{self, add_product, apply, clip, times_clip_slope, times_slope};
use crate::instructions::{Instructions, load, mul_add, store, vectors};
use crate::math::{sigmoid, tanh};
use gatefold_model::{GruCell, GruGate, Reset};
use pulp::{Simd, WithSimd};

/// n, r, z, u
pub(super) const AFTER_LANES: usize = GruGate::COUNT + 1;

/// Weights' rows are r, z, n.
pub(super) fn after_input_blocks(h: usize) -> [Block; 2] {
    let new = GruGate::New as usize * h..GruGate::COUNT * h;
    [Block { lanes: h..3 * h, rows: 0..2 * h }, Block { lanes: 0..h, rows: new }]
}

pub(super) fn after_recurrent_block(h: usize) -> Block {
    Block { lanes: h..AFTER_LANES * h, rows: 0..GruGate::COUNT * h }
}

/// A step with the reset after the product, for any number of rows; likewise below.
pub(super) struct PlainAfter<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) h: &'a mut [f32],
}

impl WithSimd for PlainAfter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(AFTER_LANES * hidden).zip(self.h_prev.chunks_exact(hidden));
        for ((lanes, h_prev), h) in rows.zip(self.h.chunks_exact_mut(hidden)) {
            let [n, r, z, u] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let r_on = sigmoid(simd, value(r));
                let z_on = sigmoid(simd, value(z));
                let n_on = tanh(simd, mul_add(simd, r_on, value(u), value(n)));
                let h_on = mix(simd, z_on, n_on, value(h_prev));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(r, r_on);
                put(z, z_on);
                put(n, n_on);
                put(h, h_on);
            });
        }
    }
}

/// `(1 - z) n + z h'`
#[inline(always)]
fn mix<S: Simd>(simd: S, z: S::f32s, n: S::f32s, h_prev: S::f32s) -> S::f32s {
    mul_add(simd, simd.sub_f32s(simd.splat_f32s(1.0), z), n, simd.mul_f32s(z, h_prev))
}

pub(super) struct PlainAfterBackward<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) d_h: &'a [f32],
    pub(super) d_prev: &'a mut [f32],
}

impl WithSimd for PlainAfterBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let mul = |a, b| simd.mul_f32s(a, b);
        let rows = self.lanes.chunks_exact_mut(AFTER_LANES * hidden).zip(self.h_prev.chunks_exact(hidden));
        let rows = rows.zip(self.d_h.chunks_exact(hidden)).zip(self.d_prev.chunks_exact_mut(hidden));
        for (((lanes, h_prev), d_h), d_prev) in rows {
            let [n, r, z, u] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let (n_on, r_on, z_on, d_h) = (value(n), value(r), value(z), value(d_h));
                let d_n = candidate_slope(simd, d_h, z_on, n_on);
                let d_r = mul(d_n, value(u));
                let d_z = mul(d_h, simd.sub_f32s(value(h_prev), n_on));
                let d_past = mul_add(simd, d_h, z_on, value(d_prev));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(d_prev, d_past);
                put(u, mul(d_n, r_on));
                put(n, d_n);
                put(r, gate_slope(simd, d_r, r_on));
                put(z, gate_slope(simd, d_z, z_on));
            });
        }
    }
}

/// `d y (1 - y)`
#[inline(always)]
fn gate_slope<S: Simd>(simd: S, d: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_f32s(d, simd.mul_f32s(y, simd.sub_f32s(simd.splat_f32s(1.0), y)))
}

/// `d_h (1 - z) (1 - n^2)`
#[inline(always)]
fn candidate_slope<S: Simd>(simd: S, d_h: S::f32s, z: S::f32s, n: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let shown = simd.mul_f32s(d_h, simd.sub_f32s(one, z));
    simd.mul_f32s(shown, mul_add(simd, simd.neg_f32s(n), n, one))
}

pub(super) struct PlainReset<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) reset: &'a mut [f32],
}

impl WithSimd for PlainReset<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(3 * hidden).zip(self.h_prev.chunks_exact(hidden));
        for ((lanes, h_prev), reset) in rows.zip(self.reset.chunks_exact_mut(hidden)) {
            let [r, z, _] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let r_on = sigmoid(simd, value(r));
                let z_on = sigmoid(simd, value(z));
                let kept = simd.mul_f32s(r_on, value(h_prev));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(r, r_on);
                put(z, z_on);
                put(reset, kept);
            });
        }
    }
}

pub(super) struct PlainBefore<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) h: &'a mut [f32],
}

impl WithSimd for PlainBefore<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(3 * hidden).zip(self.h_prev.chunks_exact(hidden));
        for ((lanes, h_prev), h) in rows.zip(self.h.chunks_exact_mut(hidden)) {
            let [_, z, n] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let n_on = tanh(simd, value(n));
                let h_on = mix(simd, value(z), n_on, value(h_prev));
                store(simd, &mut n[at.clone()], n_on);
                store(simd, &mut h[at.clone()], h_on);
            });
        }
    }
}

pub(super) struct PlainBeforeBackward<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) d_h: &'a [f32],
    pub(super) d_prev: &'a mut [f32],
}

impl WithSimd for PlainBeforeBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(3 * hidden).zip(self.h_prev.chunks_exact(hidden));
        let rows = rows.zip(self.d_h.chunks_exact(hidden)).zip(self.d_prev.chunks_exact_mut(hidden));
        for (((lanes, h_prev), d_h), d_prev) in rows {
            let [_, z, n] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let (n_on, z_on, d_h) = (value(n), value(z), value(d_h));
                let d_z = simd.mul_f32s(d_h, simd.sub_f32s(value(h_prev), n_on));
                let d_past = mul_add(simd, d_h, z_on, value(d_prev));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(d_prev, d_past);
                put(n, candidate_slope(simd, d_h, z_on, n_on));
                put(z, gate_slope(simd, d_z, z_on));
            });
        }
    }
}

pub(super) struct PlainResetBackward<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) h_prev: &'a [f32],
    pub(super) d_reset: &'a [f32],
    pub(super) d_prev: &'a mut [f32],
}

impl WithSimd for PlainResetBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(3 * hidden).zip(self.h_prev.chunks_exact(hidden));
        let rows = rows.zip(self.d_reset.chunks_exact(hidden)).zip(self.d_prev.chunks_exact_mut(hidden));
        for (((lanes, h_prev), d_reset), d_prev) in rows {
            let [r, _, _] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let (r_on, d) = (value(r), value(d_reset));
                let d_past = mul_add(simd, d, r_on, value(d_prev));
                let d_r = gate_slope(simd, simd.mul_f32s(d, value(h_prev)), r_on);
                store(simd, &mut d_prev[at.clone()], d_past);
                store(simd, &mut r[at.clone()], d_r);
            });
        }
    }
}

/// The lanes n, r, z and, with the reset after the product, u.
pub(super) fn gates<'a>(cell: &GruCell, lanes: &'a mut [f32]) -> ([&'a mut [f32]; 3], Option<&'a mut [f32]>) {
    match cell.reset {
        Reset::After => {
            let [n, r, z, u] = blocks(lanes);
            ([n, r, z], Some(u))
        }
        Reset::Before => {
            let [r, z, n] = blocks(lanes);
            ([n, r, z], None)
        }
    }
}

/// The lanes of n, r and z.
pub(super) fn gate_lanes(cell: &GruCell) -> [usize; 3] {
    match cell.reset {
        Reset::After => [0, 1, 2],
        Reset::Before => [GruGate::New as usize, GruGate::Reset as usize, GruGate::Update as usize],
    }
}

/// Clips the pre-activations of r and z; `reset = r h'`.
pub(super) fn reset(
    set: Instructions,
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    reset: &mut [f32],
) {
    let ([_, r, _], _) = gates(cell, lanes);
    clip(bound, r);
    reset.copy_from_slice(r);
    apply(set, cell.activations.gate, reset);
    reset.iter_mut().zip(h_prev).for_each(|(reset, h)| *reset *= h);
}

/// The factors of the candidate, `mask`, are `None` without a mask.
#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn forward(
    set: Instructions,
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    mask: Option<&[f32]>,
    h: &mut [f32],
    scratch: &mut [f32],
) {
    let ([a_n, a_r, a_z], u) = gates(cell, lanes);
    let [y] = scratch_blocks(scratch, h.len());
    if let Some(u) = u {
        clip(bound, a_r);
        y.copy_from_slice(a_r);
        apply(set, cell.activations.gate, y);
        add_product(set, a_n, y, u);
    }
    clip(bound, a_z);
    clip(bound, a_n);
    y.copy_from_slice(a_z);
    apply(set, cell.activations.gate, y);
    h.copy_from_slice(a_n);
    apply(set, cell.activations.candidate, h);
    multiply(h, mask);
    functions::mix(set, h, y, h_prev);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn backward(
    set: Instructions,
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    (d_h, mask): (&[f32], Option<&[f32]>),
    d_prev: &mut [f32],
    scratch: &mut [f32],
) {
    let hidden = d_h.len();
    let ([a_n, a_r, a_z], u) = gates(cell, lanes);
    let [n, r, z, d] = scratch_blocks(scratch, hidden);
    n.copy_from_slice(a_n);
    apply(set, cell.activations.candidate, n);
    z.copy_from_slice(a_z);
    apply(set, cell.activations.gate, z);
    for k in 0..hidden {
        d[k] = d_h[k] * (h_prev[k] - mask.map_or(n[k], |mask| mask[k] * n[k]));
        d_prev[k] += d_h[k] * z[k];
    }
    times_slope(set, cell.activations.gate, a_z, z, d);
    times_clip_slope(bound, a_z, d);
    a_z.copy_from_slice(d);
    for k in 0..hidden {
        d[k] = d_h[k] * (1.0 - z[k]);
    }
    multiply(d, mask);
    times_slope(set, cell.activations.candidate, a_n, n, d);
    times_clip_slope(bound, a_n, d);
    a_n.copy_from_slice(d);
    if let Some(u) = u {
        r.copy_from_slice(a_r);
        apply(set, cell.activations.gate, r);
        for k in 0..hidden {
            d[k] = a_n[k] * u[k];
            u[k] = a_n[k] * r[k];
        }
        times_slope(set, cell.activations.gate, a_r, r, d);
        times_clip_slope(bound, a_r, d);
        a_r.copy_from_slice(d);
    }
}

/// `x *= factors`, if there are any.
pub(super) fn multiply(x: &mut [f32], factors: Option<&[f32]>) {
    if let Some(factors) = factors {
        x.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
    }
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn reset_backward(
    set: Instructions,
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    d_reset: &[f32],
    d_prev: &mut [f32],
    scratch: &mut [f32],
) {
    let hidden = d_reset.len();
    let ([_, a_r, _], _) = gates(cell, lanes);
    let [r, d] = scratch_blocks(scratch, hidden);
    r.copy_from_slice(a_r);
    apply(set, cell.activations.gate, r);
    for k in 0..hidden {
        d_prev[k] += d_reset[k] * r[k];
        d[k] = d_reset[k] * h_prev[k];
    }
    times_slope(set, cell.activations.gate, a_r, r, d);
    times_clip_slope(bound, a_r, d);
    a_r.copy_from_slice(d);
}
