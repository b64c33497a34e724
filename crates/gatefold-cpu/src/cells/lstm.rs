//! Long short-term memory. The lanes i, f, g, o keep the activated gates of the plain cell, and the clipped
//! pre-activations of any other, from which backward recomputes the gates.

use super::{blocks, scratch_blocks};
use crate::functions::{add_product, apply, carry, clip, times_clip_slope, times_slope};
use crate::instructions::{Instructions, load, mul_add, store, vectors};
use crate::math::{sigmoid, tanh};
use gatefold_model::{Activation, Coupling, LstmCell};
use pulp::{Simd, WithSimd};

/// Turns pre-activations into activated gates, for any number of rows.
pub(super) struct PlainForward<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) c_prev: &'a [f32],
    pub(super) c: &'a mut [f32],
    pub(super) h: &'a mut [f32],
}

impl WithSimd for PlainForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let rows = self.lanes.chunks_exact_mut(4 * hidden).zip(self.c_prev.chunks_exact(hidden));
        let rows = rows.zip(self.c.chunks_exact_mut(hidden)).zip(self.h.chunks_exact_mut(hidden));
        for (((lanes, c_prev), c), h) in rows {
            let [i, f, g, o] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let i_on = sigmoid(simd, value(i));
                let f_on = sigmoid(simd, value(f));
                let g_on = tanh(simd, value(g));
                let o_on = sigmoid(simd, value(o));
                let c_on = mul_add(simd, f_on, value(c_prev), simd.mul_f32s(i_on, g_on));
                let h_on = simd.mul_f32s(o_on, tanh(simd, c_on));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(i, i_on);
                put(f, f_on);
                put(g, g_on);
                put(o, o_on);
                put(c, c_on);
                put(h, h_on);
            });
        }
    }
}

/// Turns activated gates into the gradients of the pre-activations, for any number of rows.
pub(super) struct PlainBackward<'a> {
    pub(super) hidden: usize,
    pub(super) lanes: &'a mut [f32],
    pub(super) c_prev: &'a [f32],
    pub(super) c: &'a [f32],
    pub(super) d_h: &'a [f32],
    pub(super) d_c: &'a mut [f32],
}

impl WithSimd for PlainBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.hidden;
        let one = simd.splat_f32s(1.0);
        let mul = |a, b| simd.mul_f32s(a, b);
        let rows = self.lanes.chunks_exact_mut(4 * hidden).zip(self.c_prev.chunks_exact(hidden));
        let rows = rows.zip(self.c.chunks_exact(hidden)).zip(self.d_h.chunks_exact(hidden));
        for ((((lanes, c_prev), c), d_h), d_c) in rows.zip(self.d_c.chunks_exact_mut(hidden)) {
            let [i, f, g, o] = blocks(lanes);
            vectors!(S, hidden, at => {
                let value = |of: &[f32]| load(simd, &of[at.clone()]);
                let (i_on, f_on, g_on, o_on) = (value(i), value(f), value(g), value(o));
                let d_h = value(d_h);
                let tanh_c = tanh(simd, value(c));
                let d_o = mul(d_h, tanh_c);
                let shown = mul_add(simd, simd.neg_f32s(tanh_c), tanh_c, one);
                let d_cell = mul_add(simd, mul(d_h, o_on), shown, value(d_c));
                // y (1 - y)
                let gate = |d, y| mul(d, mul(y, simd.sub_f32s(one, y)));
                let d_g = mul(mul(d_cell, i_on), mul_add(simd, simd.neg_f32s(g_on), g_on, one));
                let put = |to: &mut [f32], value| store(simd, &mut to[at.clone()], value);
                put(i, gate(mul(d_cell, g_on), i_on));
                put(f, gate(mul(d_cell, value(c_prev)), f_on));
                put(g, d_g);
                put(o, gate(d_o, o_on));
                put(d_c, mul(d_cell, f_on));
            });
        }
    }
}

/// The gates from their clipped pre-activations; a coupled gate is 1 minus the other.
pub(super) fn gates(
    set: Instructions,
    cell: &LstmCell,
    [a_i, a_f, a_g]: [&[f32]; 3],
    [i, f, g]: [&mut [f32]; 3],
) {
    let complement = |of: &[f32], to: &mut [f32]| to.iter_mut().zip(of).for_each(|(to, of)| *to = 1.0 - of);
    let activated = |a: &[f32], to: &mut [f32]| {
        to.copy_from_slice(a);
        apply(set, cell.activations.gate, to);
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
    apply(set, cell.activations.candidate, g);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn forward(
    set: Instructions,
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
        add_product(set, a_i, &p[..hidden], c_prev);
        add_product(set, a_f, &p[hidden..], c_prev);
    }
    for a in [&mut *a_i, &mut *a_f, &mut *a_g] {
        clip(bound, a);
    }
    gates(set, cell, [a_i, a_f, a_g], [i, f, g]);
    carry(set, c, f, c_prev, i, g);
    if cell.squashed {
        apply(set, Activation::Sigmoid, c);
    }
    if let Some(p) = peephole {
        add_product(set, a_o, &p[2 * hidden..], c);
    }
    clip(bound, a_o);
    let o = f;
    o.copy_from_slice(a_o);
    apply(set, cell.activations.gate, o);
    m.copy_from_slice(c);
    apply(set, cell.activations.output, m);
    m.iter_mut().zip(o).for_each(|(m, o)| *m *= *o);
}

#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub(super) fn backward(
    set: Instructions,
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
    gates(set, cell, [a_i, a_f, a_g], [i, f, g]);
    o.copy_from_slice(a_o);
    apply(set, functions.gate, o);
    out.copy_from_slice(c);
    apply(set, functions.output, out);

    let d_o = &mut *d_i;
    for (k, d_o) in d_o.iter_mut().enumerate() {
        *d_o = d_m[k] * out[k];
    }
    times_slope(set, functions.gate, a_o, o, d_o);
    times_clip_slope(bound, a_o, d_o);
    a_o.copy_from_slice(d_o);

    let d_shown = &mut *d_f;
    for (k, d_shown) in d_shown.iter_mut().enumerate() {
        *d_shown = d_m[k] * o[k];
    }
    times_slope(set, functions.output, c, out, d_shown);
    for (d_c, d_shown) in d_c.iter_mut().zip(d_shown) {
        *d_c += *d_shown;
    }
    if let Some(p) = peephole {
        add_product(set, d_c, &p[2 * hidden..], a_o);
    }
    if cell.squashed {
        times_slope(set, Activation::Sigmoid, &[], c, d_c);
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
        times_slope(set, activation, a, y, d);
        times_clip_slope(bound, a, d);
        a.copy_from_slice(d);
    }
    if let Some(p) = peephole {
        let [d_i, d_f, ..] = blocks::<4>(lanes);
        add_product(set, d_c, &p[..hidden], d_i);
        add_product(set, d_c, &p[hidden..], d_f);
    }
}

/// `to -= from`, and zeros in `from`.
pub(super) fn hand_over(from: &mut [f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to -= std::mem::take(from));
}
