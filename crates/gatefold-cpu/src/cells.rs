//! One step of one row: what each cell does between the products. The equations are those of docs/numerics.md.
//!
//! A row's lanes are its pre-activations, one block of H for each sum: r, z and so on. Forward leaves there what backward
//! needs, and backward the loss's derivatives by the pre-activations. Cells with their usual functions have loops of
//! their own over the units, which the compiler turns into vectors; all others go through [`crate::functions`], a block
//! at a time.

mod gru;
mod lstm;
mod rnn;

use gatefold_model::{
    Activation, Cell, GruActivations, GruCell, GruGate, LstmActivations, LstmCell, LstmGate, Reset,
};
use std::ops::Range;

/// What a row's step computes; the same for all rows and steps of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellStep<'a> {
    pub(crate) cell: Cell,
    pub(crate) hidden: usize,
    pub(crate) clip: Option<f32>,
    /// `[3 H]`: input, forget, output.
    pub(crate) peephole: Option<&'a [f32]>,
}

/// A row in front of its step. What a cell has no use for is empty.
#[derive(Debug)]
pub(crate) struct ForwardRow<'a> {
    /// `[L H]`: pre-activations, replaced by what backward needs.
    pub(crate) lanes: &'a mut [f32],
    /// `[R]`
    pub(crate) h_prev: &'a [f32],
    /// `[H]`
    pub(crate) c_prev: &'a [f32],
    /// `[H]`, written.
    pub(crate) c: &'a mut [f32],
    /// `[H]`, written: h, or what is projected to h.
    pub(crate) out: &'a mut [f32],
}

/// A row on the way back.
#[derive(Debug)]
pub(crate) struct BackwardRow<'a> {
    /// `[L H]`: what forward left, replaced by the derivatives by the pre-activations.
    pub(crate) lanes: &'a mut [f32],
    /// `[R]`
    pub(crate) h_prev: &'a [f32],
    /// `[H]`
    pub(crate) c_prev: &'a [f32],
    /// `[H]`
    pub(crate) c: &'a [f32],
    /// `[H]`: h, or what is projected to h.
    pub(crate) out: &'a [f32],
    /// `[H]`: the derivative by `out`.
    pub(crate) d_out: &'a [f32],
    /// `[R]`: the derivative by `h_prev` that goes past the weights is added here.
    pub(crate) d_prev: &'a mut [f32],
    /// `[H]`: the derivative by `c`, replaced by the one by `c_prev`.
    pub(crate) d_c: &'a mut [f32],
}

/// Blocks of H lanes and the block of H rows of the weights that is added there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Columns of the lanes.
    pub(crate) lanes: Range<usize>,
    /// Rows of the weights.
    pub(crate) rows: Range<usize>,
}

/// Room that a row's step needs beside the row, in blocks of H.
const SCRATCH: usize = 8;

impl CellStep<'_> {
    /// L, blocks of lanes.
    pub(crate) fn lanes(&self) -> usize {
        match self.cell {
            Cell::Rnn { .. } => 1,
            Cell::Lstm(_) => LstmGate::COUNT,
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::AFTER_LANES,
            Cell::Gru(GruCell { reset: Reset::Before, .. }) => GruGate::COUNT,
        }
    }

    /// Whether the candidate's recurrent product is of `r h'`, so that it comes behind the reset gate.
    pub(crate) fn resets_before(&self) -> bool {
        matches!(self.cell, Cell::Gru(GruCell { reset: Reset::Before, .. }))
    }

    /// Where `W x` goes.
    pub(crate) fn input_blocks(&self) -> Vec<Block> {
        let all = self.cell.gates() * self.hidden;
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::after_input_blocks(self.hidden).into(),
            _ => vec![Block { lanes: 0..all, rows: 0..all }],
        }
    }

    /// Where `U h'` goes; for a reset in front of the product, without the candidate's rows.
    pub(crate) fn recurrent_block(&self) -> Block {
        let h = self.hidden;
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::after_recurrent_block(h),
            Cell::Gru(_) => Block { lanes: 0..2 * h, rows: 0..2 * h },
            _ => Block { lanes: 0..self.cell.gates() * h, rows: 0..self.cell.gates() * h },
        }
    }

    /// Where `U (r h')` goes.
    pub(crate) fn reset_block(&self) -> Block {
        let new = GruGate::New as usize * self.hidden..GruGate::COUNT * self.hidden;
        Block { lanes: new.clone(), rows: new }
    }

    /// Where the recurrent bias goes.
    pub(crate) fn recurrent_bias_block(&self) -> Block {
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::Before, .. }) => {
                let all = 0..GruGate::COUNT * self.hidden;
                Block { lanes: all.clone(), rows: all }
            }
            _ => self.recurrent_block(),
        }
    }

    pub(crate) fn scratch(&self) -> Vec<f32> {
        vec![0.0; SCRATCH * self.hidden]
    }

    /// The first half of a step with the reset in front of the product: gates r and z, and `reset = r h'`.
    pub(crate) fn forward_reset(&self, lanes: &mut [f32], h_prev: &[f32], reset: &mut [f32]) {
        let Cell::Gru(gru) = self.cell else { unreachable!("only GRUs reset") };
        if self.is_plain() {
            gru::plain_reset(lanes, h_prev, reset);
        } else {
            gru::reset(&gru, self.clip, lanes, h_prev, reset);
        }
    }

    /// One row's step.
    pub(crate) fn forward(&self, row: ForwardRow, scratch: &mut [f32]) {
        let ForwardRow { lanes, h_prev, c_prev, c, out } = row;
        match (self.cell, self.is_plain()) {
            (Cell::Rnn { activation }, _) => rnn::forward(activation, self.clip, lanes, out),
            (Cell::Lstm(_), true) => lstm::plain_forward(lanes, c_prev, c, out),
            (Cell::Lstm(cell), false) => {
                lstm::forward(&cell, self.clip, self.peephole, lanes, c_prev, c, out, scratch);
            }
            (Cell::Gru(GruCell { reset: Reset::After, .. }), true) => gru::plain_after(lanes, h_prev, out),
            (Cell::Gru(GruCell { reset: Reset::Before, .. }), true) => gru::plain_before(lanes, h_prev, out),
            (Cell::Gru(cell), false) => gru::forward(&cell, self.clip, lanes, h_prev, out, scratch),
        }
    }

    /// One row's step back.
    pub(crate) fn backward(&self, row: BackwardRow, scratch: &mut [f32]) {
        let BackwardRow { lanes, h_prev, c_prev, c, out, d_out, d_prev, d_c } = row;
        match (self.cell, self.is_plain()) {
            (Cell::Rnn { activation }, _) => rnn::backward(activation, self.clip, lanes, out, d_out, scratch),
            (Cell::Lstm(_), true) => lstm::plain_backward(lanes, c_prev, c, d_out, d_c),
            (Cell::Lstm(cell), false) => {
                lstm::backward(&cell, self.clip, self.peephole, lanes, c_prev, c, d_out, d_c, scratch);
            }
            (Cell::Gru(GruCell { reset: Reset::After, .. }), true) => {
                gru::plain_after_backward(lanes, h_prev, d_out, d_prev);
            }
            (Cell::Gru(GruCell { reset: Reset::Before, .. }), true) => {
                gru::plain_before_backward(lanes, h_prev, d_out, d_prev);
            }
            (Cell::Gru(cell), false) => {
                gru::backward(&cell, self.clip, lanes, h_prev, d_out, d_prev, scratch)
            }
        }
    }

    /// The second half of a step back with the reset in front of the product; `d_reset` is the derivative by `r h'`.
    pub(crate) fn backward_reset(
        &self,
        lanes: &mut [f32],
        h_prev: &[f32],
        d_reset: &[f32],
        d_prev: &mut [f32],
        scratch: &mut [f32],
    ) {
        let Cell::Gru(gru) = self.cell else { unreachable!("only GRUs reset") };
        if self.is_plain() {
            gru::plain_reset_backward(lanes, h_prev, d_reset, d_prev);
        } else {
            gru::reset_backward(&gru, self.clip, lanes, h_prev, d_reset, d_prev, scratch);
        }
    }

    /// Whether the cell has its usual functions and no options.
    fn is_plain(&self) -> bool {
        self.clip.is_none()
            && match self.cell {
                Cell::Rnn { activation } => activation == Activation::Tanh,
                Cell::Lstm(cell) => {
                    let LstmCell { activations, peephole, coupling, squashed } = cell;
                    activations == LstmActivations::default() && !peephole && coupling.is_none() && !squashed
                }
                Cell::Gru(cell) => cell.activations == GruActivations::default(),
            }
    }
}

/// The blocks of H lanes of a row.
fn blocks<const L: usize>(lanes: &mut [f32]) -> [&mut [f32]; L] {
    let hidden = lanes.len() / L;
    let mut rest = lanes;
    std::array::from_fn(|_| {
        let (block, behind) = std::mem::take(&mut rest).split_at_mut(hidden);
        rest = behind;
        block
    })
}

/// `N` blocks of scratch.
fn scratch_blocks<const N: usize>(scratch: &mut [f32], hidden: usize) -> [&mut [f32]; N] {
    blocks(&mut scratch[..N * hidden])
}
