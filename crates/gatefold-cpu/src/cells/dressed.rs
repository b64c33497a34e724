//! One row of a step with layer normalisation or noise, in blocks of H, as the other cells with options go.

use super::gru::multiply;
use super::{CellStep, blocks, gru, lstm};
use crate::dressed::{DressedSums, Norm, normalise_group, normalise_group_backward};
use crate::functions::{add_product, apply, carry, clip, times_clip_slope, times_slope};
use crate::instructions::Instructions;
use gatefold_model::{Activation, Cell, Coupling, LstmCell};

/// A row before its step. Masks are `None` where they change nothing.
pub(crate) struct Row<'a> {
    pub(crate) cell: &'a CellStep<'a>,
    pub(crate) norm: Option<Norm<'a>>,
    /// `[H]`: the share of h(t-1) that a unit keeps, and that of c(t-1).
    pub(crate) zoneout: Option<&'a [f32]>,
    pub(crate) zoneout_cell: Option<&'a [f32]>,
    /// `[H]`: the factors of the candidate.
    pub(crate) candidate: Option<&'a [f32]>,
    pub(crate) h_prev: &'a [f32],
    pub(crate) c_prev: &'a [f32],
}

/// A row backward.
pub(crate) struct BackRow<'a> {
    /// `[L H]`: what forward kept, replaced by the gradients of the pre-activations.
    pub(crate) lanes: &'a mut [f32],
    pub(crate) d_h: &'a [f32],
    /// `[H]`: gets the gradient with respect to h(t-1) that bypasses the weights, added.
    pub(crate) d_prev: &'a mut [f32],
    /// `[H]`: with respect to c, replaced by that with respect to c(t-1).
    pub(crate) d_c: &'a mut [f32],
}

/// `new = share prev + (1 - share) new`
fn keep(share: Option<&[f32]>, prev: &[f32], new: &mut [f32]) {
    if let Some(share) = share {
        let kept = share.iter().zip(prev);
        new.iter_mut().zip(kept).for_each(|(new, (share, prev))| *new = share * prev + (1.0 - share) * *new);
    }
}

/// Runs the row's cell: lanes are pre-activations, replaced by what backward needs.
pub(crate) fn forward_row(
    set: Instructions,
    row: &Row,
    lanes: &mut [f32],
    c: &mut [f32],
    h: &mut [f32],
    scratch: &mut [f32],
) {
    let clip = row.cell.clip;
    match row.cell.cell {
        Cell::Rnn { activation } => super::rnn::forward(set, activation, clip, lanes, h),
        Cell::Custom(_) => unreachable!("the model refuses layer normalisation and noise in custom cells"),
        Cell::Gru(cell) => {
            gru::forward(set, &cell, clip, lanes, row.h_prev, row.candidate, h, scratch);
        }
        Cell::Lstm(cell) => {
            lstm_forward(set, &cell, row, lanes, c, h, scratch);
            keep(row.zoneout_cell, row.c_prev, c);
        }
    }
    keep(row.zoneout, row.h_prev, h);
}

/// The cell state as the output sees it, and the factor of its normalisation.
fn show(norm: Option<Norm>, c: &[f32], normal: &mut [f32], shown: &mut [f32]) -> f32 {
    let cell = norm.and_then(|norm| Some((norm.epsilon, norm.cell?)));
    let Some((epsilon, (gain, bias))) = cell else {
        shown.copy_from_slice(c);
        return 1.0;
    };
    normal.copy_from_slice(c);
    let scale = normalise_group(normal, epsilon);
    for (k, shown) in shown.iter_mut().enumerate() {
        *shown = normal[k] * gain[k] + bias.map_or(0.0, |bias| bias[k]);
    }
    scale
}

fn lstm_forward(
    set: Instructions,
    cell: &LstmCell,
    row: &Row,
    lanes: &mut [f32],
    c: &mut [f32],
    h: &mut [f32],
    scratch: &mut [f32],
) {
    let (hidden, bound) = (h.len(), row.cell.clip);
    let [a_i, a_f, a_g, a_o] = blocks(lanes);
    let [i, f, g, shown, ..] = super::scratch_blocks::<6>(scratch, hidden);
    if let Some(p) = row.cell.peephole {
        add_product(set, a_i, &p[..hidden], row.c_prev);
        add_product(set, a_f, &p[hidden..], row.c_prev);
    }
    for a in [&mut *a_i, &mut *a_f, &mut *a_g] {
        clip(bound, a);
    }
    lstm::gates(set, cell, [a_i, a_f, a_g], [i, f, g]);
    multiply(g, row.candidate);
    carry(set, c, f, row.c_prev, i, g);
    if cell.squashed {
        apply(set, Activation::Sigmoid, c);
    }
    if let Some(p) = row.cell.peephole {
        add_product(set, a_o, &p[2 * hidden..], c);
    }
    clip(bound, a_o);
    let o = f;
    o.copy_from_slice(a_o);
    apply(set, cell.activations.gate, o);
    show(row.norm, c, g, shown);
    h.copy_from_slice(shown);
    apply(set, cell.activations.output, h);
    multiply(h, Some(o));
}

/// Turns what forward kept of the row into the gradients of the pre-activations.
pub(crate) fn backward_row(
    set: Instructions,
    row: &Row,
    back: BackRow,
    sums: &mut DressedSums,
    scratch: &mut [f32],
) {
    let BackRow { lanes, d_h, d_prev, d_c } = back;
    let hidden = d_h.len();
    let (d_new, scratch) = scratch.split_at_mut(hidden);
    d_new.copy_from_slice(d_h);
    if let Some(share) = row.zoneout {
        for (k, share) in share.iter().enumerate() {
            d_prev[k] += d_h[k] * share;
            d_new[k] *= 1.0 - share;
        }
    }
    let clip = row.cell.clip;
    match row.cell.cell {
        Cell::Rnn { activation } => {
            let (h, scratch) = scratch.split_at_mut(hidden);
            h.copy_from_slice(lanes);
            apply(set, activation, h);
            super::rnn::backward(set, activation, clip, lanes, h, d_new, scratch);
        }
        Cell::Custom(_) => unreachable!("the model refuses layer normalisation and noise in custom cells"),
        Cell::Gru(cell) => {
            let masked = (&*d_new, row.candidate);
            gru::backward(set, &cell, clip, lanes, row.h_prev, masked, d_prev, scratch);
        }
        Cell::Lstm(cell) => lstm_backward(set, &cell, row, (lanes, d_new, d_c), sums, scratch),
    }
}

fn lstm_backward(
    set: Instructions,
    cell: &LstmCell,
    row: &Row,
    (lanes, d_h, d_c): (&mut [f32], &[f32], &mut [f32]),
    sums: &mut DressedSums,
    scratch: &mut [f32],
) {
    let (hidden, bound, functions) = (d_h.len(), row.cell.clip, cell.activations);
    let [a_i, a_f, a_g, a_o] = blocks(lanes);
    let [i, f, g, o, c, normal, shown, out, d_i, d_f, d_g] = super::scratch_blocks::<11>(scratch, hidden);
    // Forward, from what was kept.
    lstm::gates(set, cell, [a_i, a_f, a_g], [i, f, g]);
    o.copy_from_slice(a_o);
    apply(set, functions.gate, o);
    let unmasked = &mut *d_g;
    unmasked.copy_from_slice(g);
    multiply(g, row.candidate);
    carry(set, c, f, row.c_prev, i, g);
    if cell.squashed {
        apply(set, Activation::Sigmoid, c);
    }
    let scale = show(row.norm, c, normal, shown);
    out.copy_from_slice(shown);
    apply(set, functions.output, out);

    let d_o = &mut *d_i;
    d_o.iter_mut().enumerate().for_each(|(k, d_o)| *d_o = d_h[k] * out[k]);
    times_slope(set, functions.gate, a_o, o, d_o);
    times_clip_slope(bound, a_o, d_o);
    a_o.copy_from_slice(d_o);

    let d_shown = &mut *d_f;
    d_shown.iter_mut().enumerate().for_each(|(k, d_shown)| *d_shown = d_h[k] * o[k]);
    times_slope(set, functions.output, shown, out, d_shown);
    if let Some((gain, _)) = row.norm.and_then(|norm| norm.cell) {
        for k in 0..hidden {
            sums.gain_c[k] += f64::from(d_shown[k]) * f64::from(normal[k]);
            sums.bias_c[k] += f64::from(d_shown[k]);
            d_shown[k] *= gain[k];
        }
        normalise_group_backward(normal, scale, d_shown);
    }
    // Of c before zoneout, and the part that bypasses the cell.
    let past = &mut *out;
    for k in 0..hidden {
        let share = row.zoneout_cell.map_or(0.0, |share| share[k]);
        past[k] = d_c[k] * share;
        d_c[k] = d_c[k] * (1.0 - share) + d_shown[k];
    }
    if let Some(p) = row.cell.peephole {
        add_product(set, d_c, &p[2 * hidden..], a_o);
    }
    if cell.squashed {
        times_slope(set, Activation::Sigmoid, &[], c, d_c);
    }
    for k in 0..hidden {
        (d_i[k], d_f[k]) = (d_c[k] * g[k], d_c[k] * row.c_prev[k]);
        (g[k], d_g[k]) = (d_g[k], d_c[k] * i[k]);
        d_c[k] = past[k] + d_c[k] * f[k];
    }
    multiply(d_g, row.candidate);
    match cell.coupling {
        None => {}
        Some(Coupling::Input) => lstm::hand_over(d_f, d_i),
        Some(Coupling::Forget) => lstm::hand_over(d_i, d_f),
    }
    for (activation, a, y, d) in [
        (functions.gate, &mut *a_i, &*i, &mut *d_i),
        (functions.gate, a_f, f, d_f),
        (functions.candidate, a_g, g, d_g),
    ] {
        times_slope(set, activation, a, y, d);
        times_clip_slope(bound, a, d);
        a.copy_from_slice(d);
    }
    if let Some(p) = row.cell.peephole {
        let [d_i, d_f, _, d_o] = blocks::<4>(lanes);
        add_product(set, d_c, &p[..hidden], d_i);
        add_product(set, d_c, &p[hidden..], d_f);
        for k in 0..hidden {
            let [at_i, at_f, at_o] = [k, hidden + k, 2 * hidden + k];
            sums.peephole[at_i] += f64::from(d_i[k]) * f64::from(row.c_prev[k]);
            sums.peephole[at_f] += f64::from(d_f[k]) * f64::from(row.c_prev[k]);
            sums.peephole[at_o] += f64::from(d_o[k]) * f64::from(c[k]);
        }
    }
}
