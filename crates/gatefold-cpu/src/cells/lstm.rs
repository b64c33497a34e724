//! Long short-term memory. The lanes i, f, g, o keep the activated gates of the plain cell, and the clipped
//! pre-activations of any other, from which backward recomputes the gates.

use super::{blocks, scratch_blocks};
use crate::functions::{apply, clip, times_clip_slope, times_slope};
use crate::math::{sigmoid, tanh};
use gatefold_model::{Activation, Coupling, LstmCell};

/// Turns pre-activations into activated gates.
pub(super) fn plain_forward(lanes: &mut [f32], c_prev: &[f32], c: &mut [f32], h: &mut [f32]) {
    let [i, f, g, o] = blocks(lanes);
    plain_forward_units(i, f, g, o, c_prev, c, h);
}

/// A separate function tells the compiler that no two slices overlap.
fn plain_forward_units(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    c_prev: &[f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let hidden = h.len();
    // With one length for all, the loop has no bounds checks and can be vectorised.
    let (i, f, g, o) = (&mut i[..hidden], &mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_prev, c) = (&c_prev[..hidden], &mut c[..hidden]);
    for k in 0..hidden {
        i[k] = sigmoid(i[k]);
        f[k] = sigmoid(f[k]);
        g[k] = tanh(g[k]);
        o[k] = sigmoid(o[k]);
        c[k] = f[k] * c_prev[k] + i[k] * g[k];
        h[k] = o[k] * tanh(c[k]);
    }
}

/// Turns activated gates into the gradients of the pre-activations.
pub(super) fn plain_backward(lanes: &mut [f32], c_prev: &[f32], c: &[f32], d_h: &[f32], d_c: &mut [f32]) {
    let [i, f, g, o] = blocks(lanes);
    plain_backward_units(i, f, g, o, c_prev, c, d_h, d_c);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
fn plain_backward_units(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    c_prev: &[f32],
    c: &[f32],
    d_h: &[f32],
    d_c: &mut [f32],
) {
    let hidden = d_h.len();
    let (i, f, g, o) = (&mut i[..hidden], &mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_prev, c, d_c) = (&c_prev[..hidden], &c[..hidden], &mut d_c[..hidden]);
    for k in 0..hidden {
        let tanh_c = tanh(c[k]);
        let d_o = d_h[k] * tanh_c;
        let d_cell = d_c[k] + d_h[k] * o[k] * (1.0 - tanh_c * tanh_c);
        let (d_i, d_f, d_g) = (d_cell * g[k], d_cell * c_prev[k], d_cell * i[k]);
        d_c[k] = d_cell * f[k];
        i[k] = d_i * i[k] * (1.0 - i[k]);
        f[k] = d_f * f[k] * (1.0 - f[k]);
        g[k] = d_g * (1.0 - g[k] * g[k]);
        o[k] = d_o * o[k] * (1.0 - o[k]);
    }
}

/// The gates from their clipped pre-activations; a coupled gate is 1 minus the other.
fn gates(cell: &LstmCell, [a_i, a_f, a_g]: [&[f32]; 3], [i, f, g]: [&mut [f32]; 3]) {
    let complement = |of: &[f32], to: &mut [f32]| to.iter_mut().zip(of).for_each(|(to, of)| *to = 1.0 - of);
    let activated = |a: &[f32], to: &mut [f32]| {
        to.copy_from_slice(a);
        apply(cell.activations.gate, to);
    };
    match cell.coupling {
        None => {
            activated(a_i, i);
            activated(a_f, f);
        }
        Some(Coupling::Input) => {
            activated(a_i, i);
            complement(i, f);
        }
        Some(Coupling::Forget) => {
            activated(a_f, f);
            complement(f, i);
        }
    }
    g.copy_from_slice(a_g);
    apply(cell.activations.candidate, g);
}

/// `x += p y`
fn add_product(x: &mut [f32], p: &[f32], y: &[f32]) {
    x.iter_mut().zip(p).zip(y).for_each(|((x, p), y)| *x += p * y);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn forward(
    cell: &LstmCell,
    bound: Option<f32>,
    peephole: Option<&[f32]>,
    lanes: &mut [f32],
    c_prev: &[f32],
    c: &mut [f32],
    m: &mut [f32],
    scratch: &mut [f32],
) {
    let hidden = m.len();
    let [a_i, a_f, a_g, a_o] = blocks(lanes);
    let [i, f, g] = scratch_blocks(scratch, hidden);
    if let Some(p) = peephole {
        add_product(a_i, &p[..hidden], c_prev);
        add_product(a_f, &p[hidden..], c_prev);
    }
    for a in [&mut *a_i, &mut *a_f, &mut *a_g] {
        clip(bound, a);
    }
    gates(cell, [a_i, a_f, a_g], [i, f, g]);
    for (k, c) in c.iter_mut().enumerate() {
        *c = f[k] * c_prev[k] + i[k] * g[k];
    }
    if cell.squashed {
        c.iter_mut().for_each(|c| *c = sigmoid(*c));
    }
    if let Some(p) = peephole {
        add_product(a_o, &p[2 * hidden..], c);
    }
    clip(bound, a_o);
    let o = f;
    o.copy_from_slice(a_o);
    apply(cell.activations.gate, o);
    m.copy_from_slice(c);
    apply(cell.activations.output, m);
    m.iter_mut().zip(o).for_each(|(m, o)| *m *= *o);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn backward(
    cell: &LstmCell,
    bound: Option<f32>,
    peephole: Option<&[f32]>,
    lanes: &mut [f32],
    c_prev: &[f32],
    c: &[f32],
    d_m: &[f32],
    d_c: &mut [f32],
    scratch: &mut [f32],
) {
    let hidden = d_m.len();
    let [a_i, a_f, a_g, a_o] = blocks(lanes);
    let [i, f, g, o, out, d_i, d_f, d_g] = scratch_blocks(scratch, hidden);
    let functions = cell.activations;
    gates(cell, [a_i, a_f, a_g], [i, f, g]);
    o.copy_from_slice(a_o);
    apply(functions.gate, o);
    out.copy_from_slice(c);
    apply(functions.output, out);

    let d_o = &mut *d_i;
    for (k, d_o) in d_o.iter_mut().enumerate() {
        *d_o = d_m[k] * out[k];
    }
    times_slope(functions.gate, a_o, o, d_o);
    times_clip_slope(bound, a_o, d_o);
    a_o.copy_from_slice(d_o);

    let d_shown = &mut *d_f;
    for (k, d_shown) in d_shown.iter_mut().enumerate() {
        *d_shown = d_m[k] * o[k];
    }
    times_slope(functions.output, c, out, d_shown);
    for (d_c, d_shown) in d_c.iter_mut().zip(d_shown) {
        *d_c += *d_shown;
    }
    if let Some(p) = peephole {
        add_product(d_c, &p[2 * hidden..], a_o);
    }
    if cell.squashed {
        times_slope(Activation::Sigmoid, &[], c, d_c);
    }

    for k in 0..hidden {
        (d_i[k], d_f[k], d_g[k]) = (d_c[k] * g[k], d_c[k] * c_prev[k], d_c[k] * i[k]);
        d_c[k] *= f[k];
    }
    // The gate that is not computed gets no gradient; its share goes to the other, with the sign of 1 - x.
    match cell.coupling {
        None => {}
        Some(Coupling::Input) => hand_over(d_f, d_i),
        Some(Coupling::Forget) => hand_over(d_i, d_f),
    }
    for (activation, a, y, d) in
        [(functions.gate, a_i, i, d_i), (functions.gate, a_f, f, d_f), (functions.candidate, a_g, g, d_g)]
    {
        times_slope(activation, a, y, d);
        times_clip_slope(bound, a, d);
        a.copy_from_slice(d);
    }
    if let Some(p) = peephole {
        let [d_i, d_f, ..] = blocks::<4>(lanes);
        add_product(d_c, &p[..hidden], d_i);
        add_product(d_c, &p[hidden..], d_f);
    }
}

/// `to -= from`, and zeros in `from`.
fn hand_over(from: &mut [f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to -= std::mem::take(from));
}
