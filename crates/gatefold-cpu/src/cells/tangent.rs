//! Forward-mode derivatives of a step between the products. Gates and slopes come from what forward kept, by the formulas
//! that backward uses.

use super::{CellStep, blocks, gru, lstm, scratch_blocks};
use crate::functions::{add_product, apply, times_clip_slope, times_slope};
use crate::instructions::Instructions;
use gatefold_model::{Activation, Cell, Coupling, GruCell, LstmCell, Reset};

/// Rows of a step that forward has run, with their tangents. Parts that the cell does not use are empty.
#[derive(Debug)]
pub(crate) struct TangentRows<'a> {
    /// `[rows, L H]`: what forward kept.
    pub(crate) lanes: &'a [f32],
    /// `[rows, L H]`: the tangents of the pre-activations before peepholes and clip; what they hold afterwards does not
    /// matter.
    pub(crate) dots: &'a mut [f32],
    /// `[rows, R]`
    pub(crate) h_prev: &'a [f32],
    /// `[rows, R]`
    pub(crate) h_prev_dot: &'a [f32],
    /// `[rows, H]`
    pub(crate) c_prev: &'a [f32],
    /// `[rows, H]`
    pub(crate) c_prev_dot: &'a [f32],
    /// `[rows, H]`
    pub(crate) c: &'a [f32],
    /// `[rows, H]`, written.
    pub(crate) c_dot: &'a mut [f32],
    /// `[rows, H]`: h, or the input of the projection to h.
    pub(crate) out: &'a [f32],
    /// `[rows, H]`, written.
    pub(crate) out_dot: &'a mut [f32],
}

impl CellStep<'_> {
    /// The tangents of a step. `peephole_dot` is that of the peepholes.
    pub(crate) fn tangent(
        &self,
        set: Instructions,
        rows: TangentRows,
        peephole_dot: Option<&[f32]>,
        scratch: &mut [f32],
    ) {
        let (hidden, width) = (self.hidden, self.lanes() * self.hidden);
        let TangentRows { lanes, dots, h_prev, h_prev_dot, c_prev, c_prev_dot, c, c_dot, out, out_dot } =
            rows;
        match self.cell {
            Cell::Rnn { activation } => {
                times_slope(set, activation, lanes, out, dots);
                times_clip_slope(self.clip, lanes, dots);
                out_dot.copy_from_slice(dots);
            }
            Cell::Lstm(cell) => {
                for row in 0..out.len() / hidden {
                    let (at, all) = (row * hidden..(row + 1) * hidden, row * width..(row + 1) * width);
                    let states = [&c_prev[at.clone()], &c_prev_dot[at.clone()], &c[at.clone()]];
                    let results = [&mut c_dot[at.clone()], &mut out_dot[at]];
                    let (lanes, dots) = (&lanes[all.clone()], &mut dots[all]);
                    self.lstm_tangent(set, &cell, lanes, dots, states, peephole_dot, results, scratch);
                }
            }
            Cell::Custom(_) => unreachable!("NetworkConfig::check_forward_mode refuses custom cells"),
            Cell::Gru(cell) => {
                for row in 0..out.len() / hidden {
                    let (at, all) = (row * hidden..(row + 1) * hidden, row * width..(row + 1) * width);
                    let h_prev = [&h_prev[at.clone()], &h_prev_dot[at.clone()]];
                    let (lanes, dots) = (&lanes[all.clone()], &mut dots[all]);
                    self.gru_tangent(set, &cell, lanes, dots, h_prev, &mut out_dot[at], scratch);
                }
            }
        }
    }

    /// A gate from what forward kept of it.
    fn restore(&self, set: Instructions, activation: Activation, kept: &[f32], gate: &mut [f32]) {
        gate.copy_from_slice(kept);
        if !self.is_plain() {
            apply(set, activation, gate);
        }
    }

    /// `d *= act'`, from what forward kept of a gate, and its value.
    fn times_gate_slope(
        &self,
        set: Instructions,
        activation: Activation,
        kept: &[f32],
        gate: &[f32],
        d: &mut [f32],
    ) {
        times_slope(set, activation, kept, gate, d);
        times_clip_slope(self.clip, kept, d);
    }

    /// One row: `[c', tangent of c', c]` to the tangents `[c, out]`.
    #[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
    fn lstm_tangent(
        &self,
        set: Instructions,
        cell: &LstmCell,
        lanes: &[f32],
        dots: &mut [f32],
        [c_prev, c_prev_dot, c]: [&[f32]; 3],
        peephole_dot: Option<&[f32]>,
        [c_dot, out_dot]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (hidden, functions) = (self.hidden, cell.activations);
        let lane = |n: usize| &lanes[n * hidden..(n + 1) * hidden];
        let [a_i, a_f, a_g, a_o] = std::array::from_fn(lane);
        let [i, f, g, o, shown, shown_dot] = scratch_blocks(scratch, hidden);
        if self.is_plain() {
            i.copy_from_slice(a_i);
            f.copy_from_slice(a_f);
            g.copy_from_slice(a_g);
        } else {
            lstm::gates(set, cell, [a_i, a_f, a_g], [&mut *i, &mut *f, &mut *g]);
        }
        self.restore(set, functions.gate, a_o, o);
        let [d_i, d_f, d_g, d_o] = blocks(dots);
        if let Some(p) = self.peephole {
            add_product(set, d_i, &p[..hidden], c_prev_dot);
            add_product(set, d_f, &p[hidden..], c_prev_dot);
        }
        if let Some(p_dot) = peephole_dot {
            add_product(set, d_i, &p_dot[..hidden], c_prev);
            add_product(set, d_f, &p_dot[hidden..], c_prev);
        }
        self.times_gate_slope(set, functions.gate, a_i, i, d_i);
        self.times_gate_slope(set, functions.gate, a_f, f, d_f);
        self.times_gate_slope(set, functions.candidate, a_g, g, d_g);
        let complement = |of: &[f32], to: &mut [f32]| to.iter_mut().zip(of).for_each(|(to, of)| *to = -of);
        match cell.coupling {
            None => {}
            Some(Coupling::Input) => complement(d_i, d_f),
            Some(Coupling::Forget) => complement(d_f, d_i),
        }
        for k in 0..hidden {
            c_dot[k] = d_f[k] * c_prev[k] + f[k] * c_prev_dot[k] + d_i[k] * g[k] + i[k] * d_g[k];
        }
        if cell.squashed {
            times_slope(set, Activation::Sigmoid, &[], c, c_dot);
        }
        if let Some(p) = self.peephole {
            add_product(set, d_o, &p[2 * hidden..], c_dot);
        }
        if let Some(p_dot) = peephole_dot {
            add_product(set, d_o, &p_dot[2 * hidden..], c);
        }
        self.times_gate_slope(set, functions.gate, a_o, o, d_o);
        shown.copy_from_slice(c);
        apply(set, functions.output, shown);
        shown_dot.copy_from_slice(c_dot);
        times_slope(set, functions.output, c, shown, shown_dot);
        for k in 0..hidden {
            out_dot[k] = d_o[k] * shown[k] + o[k] * shown_dot[k];
        }
    }

    /// One row: `[h', its tangent]` to the tangent of h. With the reset before the product, the candidate's lane has the
    /// part through it already.
    #[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
    fn gru_tangent(
        &self,
        set: Instructions,
        cell: &GruCell,
        lanes: &[f32],
        dots: &mut [f32],
        [h_prev, h_prev_dot]: [&[f32]; 2],
        out_dot: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (hidden, functions) = (self.hidden, cell.activations);
        let ([d_n, d_r, d_z], d_u) = gru::gates(cell, dots);
        let [at_n, at_r, at_z] = gru::gate_lanes(cell);
        let lane = |n: usize| &lanes[n * hidden..(n + 1) * hidden];
        let (a_n, a_r, a_z) = (lane(at_n), lane(at_r), lane(at_z));
        let [n, r, z] = scratch_blocks(scratch, hidden);
        self.restore(set, functions.candidate, a_n, n);
        self.restore(set, functions.gate, a_z, z);
        if let Some(d_u) = d_u {
            let u = lane(gru::AFTER_LANES - 1);
            self.restore(set, functions.gate, a_r, r);
            self.times_gate_slope(set, functions.gate, a_r, r, d_r);
            add_product(set, d_n, d_r, u);
            add_product(set, d_n, r, d_u);
        }
        self.times_gate_slope(set, functions.gate, a_z, z, d_z);
        self.times_gate_slope(set, functions.candidate, a_n, n, d_n);
        for k in 0..hidden {
            let beside = d_z[k] * (h_prev[k] - n[k]) + z[k] * h_prev_dot[k];
            out_dot[k] = (1.0 - z[k]) * d_n[k] + beside;
        }
    }

    /// The tangents of `r h'`, with the reset before the product, from those of the pre-activations so far.
    pub(crate) fn tangent_reset(
        &self,
        set: Instructions,
        lanes: &[f32],
        dots: &mut [f32],
        [h_prev, h_prev_dot]: [&[f32]; 2],
        reset_dot: &mut [f32],
        scratch: &mut [f32],
    ) {
        let Cell::Gru(GruCell { activations, reset: Reset::Before, .. }) = self.cell else {
            unreachable!("only GRUs reset before the product");
        };
        let (hidden, width) = (self.hidden, self.lanes() * self.hidden);
        for row in 0..reset_dot.len() / hidden {
            let at = row * hidden..(row + 1) * hidden;
            let (a_r, d_r) = (&lanes[row * width..][..hidden], &mut dots[row * width..][..hidden]);
            let [r] = scratch_blocks(scratch, hidden);
            self.restore(set, activations.gate, a_r, r);
            self.times_gate_slope(set, activations.gate, a_r, r, d_r);
            for (k, to) in reset_dot[at.clone()].iter_mut().enumerate() {
                *to = d_r[k] * h_prev[at.start + k] + r[k] * h_prev_dot[at.start + k];
            }
        }
    }
}
