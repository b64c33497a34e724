//! The gated recurrent unit, `h = (1 - z) n + z h'`, in two forms.
//!
//! With the reset after the product there are four lanes, n, r, z and `u = U_n h' + b_n`, ordered so that everything
//! from h' is one block. With the reset before the product there are three, r, z, n, and `r h'` beside them. The lanes
//! keep the activated gates of a plain cell and the clipped pre-activations of any other; u stays unchanged.

use super::{Block, blocks, scratch_blocks};
use crate::functions::{apply, clip, times_clip_slope, times_slope};
use crate::math::{sigmoid, tanh};
use gatefold_model::{GruCell, GruGate, Reset};

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

pub(super) fn plain_after(lanes: &mut [f32], h_prev: &[f32], h: &mut [f32]) {
    let [n, r, z, u] = blocks(lanes);
    plain_after_units(n, r, z, u, h_prev, h);
}

/// A separate function tells the compiler that no two slices overlap; likewise below.
fn plain_after_units(n: &mut [f32], r: &mut [f32], z: &mut [f32], u: &[f32], h_prev: &[f32], h: &mut [f32]) {
    let hidden = h.len();
    let (n, r, z) = (&mut n[..hidden], &mut r[..hidden], &mut z[..hidden]);
    let (u, h_prev) = (&u[..hidden], &h_prev[..hidden]);
    for k in 0..hidden {
        r[k] = sigmoid(r[k]);
        z[k] = sigmoid(z[k]);
        n[k] = tanh(n[k] + r[k] * u[k]);
        h[k] = (1.0 - z[k]) * n[k] + z[k] * h_prev[k];
    }
}

pub(super) fn plain_after_backward(lanes: &mut [f32], h_prev: &[f32], d_h: &[f32], d_prev: &mut [f32]) {
    let [n, r, z, u] = blocks(lanes);
    plain_after_backward_units(n, r, z, u, h_prev, d_h, d_prev);
}

fn plain_after_backward_units(
    n: &mut [f32],
    r: &mut [f32],
    z: &mut [f32],
    u: &mut [f32],
    h_prev: &[f32],
    d_h: &[f32],
    d_prev: &mut [f32],
) {
    let hidden = d_h.len();
    let (n, r, z, u) = (&mut n[..hidden], &mut r[..hidden], &mut z[..hidden], &mut u[..hidden]);
    let (h_prev, d_prev) = (&h_prev[..hidden], &mut d_prev[..hidden]);
    for k in 0..hidden {
        let d_n = d_h[k] * (1.0 - z[k]) * (1.0 - n[k] * n[k]);
        let d_r = d_n * u[k];
        let d_z = d_h[k] * (h_prev[k] - n[k]);
        d_prev[k] += d_h[k] * z[k];
        u[k] = d_n * r[k];
        n[k] = d_n;
        r[k] = d_r * r[k] * (1.0 - r[k]);
        z[k] = d_z * z[k] * (1.0 - z[k]);
    }
}

pub(super) fn plain_reset(lanes: &mut [f32], h_prev: &[f32], reset: &mut [f32]) {
    let [r, z, _] = blocks(lanes);
    plain_reset_units(r, z, h_prev, reset);
}

fn plain_reset_units(r: &mut [f32], z: &mut [f32], h_prev: &[f32], reset: &mut [f32]) {
    let hidden = reset.len();
    let (r, z, h_prev) = (&mut r[..hidden], &mut z[..hidden], &h_prev[..hidden]);
    for k in 0..hidden {
        r[k] = sigmoid(r[k]);
        z[k] = sigmoid(z[k]);
        reset[k] = r[k] * h_prev[k];
    }
}

pub(super) fn plain_before(lanes: &mut [f32], h_prev: &[f32], h: &mut [f32]) {
    let [_, z, n] = blocks(lanes);
    plain_before_units(z, n, h_prev, h);
}

fn plain_before_units(z: &[f32], n: &mut [f32], h_prev: &[f32], h: &mut [f32]) {
    let hidden = h.len();
    let (z, n, h_prev) = (&z[..hidden], &mut n[..hidden], &h_prev[..hidden]);
    for k in 0..hidden {
        n[k] = tanh(n[k]);
        h[k] = (1.0 - z[k]) * n[k] + z[k] * h_prev[k];
    }
}

pub(super) fn plain_before_backward(lanes: &mut [f32], h_prev: &[f32], d_h: &[f32], d_prev: &mut [f32]) {
    let [_, z, n] = blocks(lanes);
    plain_before_backward_units(z, n, h_prev, d_h, d_prev);
}

fn plain_before_backward_units(
    z: &mut [f32],
    n: &mut [f32],
    h_prev: &[f32],
    d_h: &[f32],
    d_prev: &mut [f32],
) {
    let hidden = d_h.len();
    let (z, n, h_prev, d_prev) =
        (&mut z[..hidden], &mut n[..hidden], &h_prev[..hidden], &mut d_prev[..hidden]);
    for k in 0..hidden {
        let d_z = d_h[k] * (h_prev[k] - n[k]);
        d_prev[k] += d_h[k] * z[k];
        n[k] = d_h[k] * (1.0 - z[k]) * (1.0 - n[k] * n[k]);
        z[k] = d_z * z[k] * (1.0 - z[k]);
    }
}

pub(super) fn plain_reset_backward(lanes: &mut [f32], h_prev: &[f32], d_reset: &[f32], d_prev: &mut [f32]) {
    let [r, _, _] = blocks(lanes);
    plain_reset_backward_units(r, h_prev, d_reset, d_prev);
}

fn plain_reset_backward_units(r: &mut [f32], h_prev: &[f32], d_reset: &[f32], d_prev: &mut [f32]) {
    let hidden = d_reset.len();
    let (r, h_prev, d_prev) = (&mut r[..hidden], &h_prev[..hidden], &mut d_prev[..hidden]);
    for k in 0..hidden {
        d_prev[k] += d_reset[k] * r[k];
        r[k] = d_reset[k] * h_prev[k] * r[k] * (1.0 - r[k]);
    }
}

/// The lanes n, r, z and, with the reset after the product, u.
fn gates<'a>(cell: &GruCell, lanes: &'a mut [f32]) -> ([&'a mut [f32]; 3], Option<&'a mut [f32]>) {
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

/// Clips the pre-activations of r and z; `reset = r h'`.
pub(super) fn reset(
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    reset: &mut [f32],
) {
    let ([_, r, _], _) = gates(cell, lanes);
    clip(bound, r);
    reset.copy_from_slice(r);
    apply(cell.activations.gate, reset);
    reset.iter_mut().zip(h_prev).for_each(|(reset, h)| *reset *= h);
}

pub(super) fn forward(
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    h: &mut [f32],
    scratch: &mut [f32],
) {
    let ([a_n, a_r, a_z], u) = gates(cell, lanes);
    let [y] = scratch_blocks(scratch, h.len());
    if let Some(u) = u {
        clip(bound, a_r);
        y.copy_from_slice(a_r);
        apply(cell.activations.gate, y);
        for ((a_n, r), u) in a_n.iter_mut().zip(&*y).zip(u) {
            *a_n += r * *u;
        }
    }
    clip(bound, a_z);
    clip(bound, a_n);
    y.copy_from_slice(a_z);
    apply(cell.activations.gate, y);
    h.copy_from_slice(a_n);
    apply(cell.activations.candidate, h);
    for ((h, z), h_prev) in h.iter_mut().zip(y).zip(h_prev) {
        *h = (1.0 - *z) * *h + *z * h_prev;
    }
}

pub(super) fn backward(
    cell: &GruCell,
    bound: Option<f32>,
    lanes: &mut [f32],
    h_prev: &[f32],
    d_h: &[f32],
    d_prev: &mut [f32],
    scratch: &mut [f32],
) {
    let hidden = d_h.len();
    let ([a_n, a_r, a_z], u) = gates(cell, lanes);
    let [n, r, z, d] = scratch_blocks(scratch, hidden);
    n.copy_from_slice(a_n);
    apply(cell.activations.candidate, n);
    z.copy_from_slice(a_z);
    apply(cell.activations.gate, z);
    for k in 0..hidden {
        d[k] = d_h[k] * (h_prev[k] - n[k]);
        d_prev[k] += d_h[k] * z[k];
    }
    times_slope(cell.activations.gate, a_z, z, d);
    times_clip_slope(bound, a_z, d);
    a_z.copy_from_slice(d);
    for k in 0..hidden {
        d[k] = d_h[k] * (1.0 - z[k]);
    }
    times_slope(cell.activations.candidate, a_n, n, d);
    times_clip_slope(bound, a_n, d);
    a_n.copy_from_slice(d);
    if let Some(u) = u {
        r.copy_from_slice(a_r);
        apply(cell.activations.gate, r);
        for k in 0..hidden {
            d[k] = a_n[k] * u[k];
            u[k] = a_n[k] * r[k];
        }
        times_slope(cell.activations.gate, a_r, r, d);
        times_clip_slope(bound, a_r, d);
        a_r.copy_from_slice(d);
    }
}

pub(super) fn reset_backward(
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
    apply(cell.activations.gate, r);
    for k in 0..hidden {
        d_prev[k] += d_reset[k] * r[k];
        d[k] = d_reset[k] * h_prev[k];
    }
    times_slope(cell.activations.gate, a_r, r, d);
    times_clip_slope(bound, a_r, d);
    a_r.copy_from_slice(d);
}
