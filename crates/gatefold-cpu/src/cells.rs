//! One step of some rows: the work of each cell between the products. The equations are in docs/numerics.md.
//!
//! A row's lanes are its pre-activations, one block of H per sum: r, z and so on. Forward replaces them by what
//! backward needs, and backward by the gradients of the pre-activations. Cells with their usual activations have
//! dedicated loops over vectors of units; all others go through [`crate::functions`], row by row and block by block.

mod custom;
pub(crate) mod dressed;
mod gru;
mod lstm;
mod rnn;
pub(crate) mod tangent;

use crate::instructions::Instructions;
use crate::outer::Left;
use gatefold_model::{
    Activation, CUSTOM_LANES, Cell, GruActivations, GruCell, GruGate, LstmActivations, LstmCell, LstmGate,
    Reset,
};
use std::ops::Range;

/// The computation of a row's step, the same for all rows and steps of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellStep<'a> {
    pub(crate) cell: Cell,
    pub(crate) hidden: usize,
    pub(crate) clip: Option<f32>,
    /// `[3 H]`: input, forget, output.
    pub(crate) peephole: Option<&'a [f32]>,
}

/// Rows before their step. Parts that the cell does not use are empty.
#[derive(Debug)]
pub(crate) struct ForwardRows<'a> {
    /// `[rows, L H]`: pre-activations, replaced by what backward needs.
    pub(crate) lanes: &'a mut [f32],
    /// `[rows, R]`
    pub(crate) h_prev: &'a [f32],
    /// `[rows, H]`
    pub(crate) c_prev: &'a [f32],
    /// `[rows, H]`, written.
    pub(crate) c: &'a mut [f32],
    /// `[rows, H]`, written: h, or the input of the projection to h.
    pub(crate) out: &'a mut [f32],
}

/// Rows during backward.
#[derive(Debug)]
pub(crate) struct BackwardRows<'a> {
    /// `[rows, L H]`: the lanes left by forward, replaced by the gradients of the pre-activations.
    pub(crate) lanes: &'a mut [f32],
    /// `[rows, R]`
    pub(crate) h_prev: &'a [f32],
    /// `[rows, H]`
    pub(crate) c_prev: &'a [f32],
    /// `[rows, H]`
    pub(crate) c: &'a [f32],
    /// `[rows, H]`: h, or the input of the projection to h.
    pub(crate) out: &'a [f32],
    /// `[rows, H]`: the gradient with respect to `out`.
    pub(crate) d_out: &'a [f32],
    /// `[rows, R]`: gets the gradient with respect to `h_prev` that bypasses the weights, added.
    pub(crate) d_prev: &'a mut [f32],
    /// `[rows, H]`: the gradient with respect to `c`, replaced by that with respect to `c_prev`.
    pub(crate) d_c: &'a mut [f32],
}

/// Blocks of H lanes, and the rows of the weights whose products are added there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Columns of the lanes.
    pub(crate) lanes: Range<usize>,
    /// Rows of the weights.
    pub(crate) rows: Range<usize>,
}

/// The scratch space of a row's step, in blocks of H.
const SCRATCH: usize = 8;

impl CellStep<'_> {
    /// L, the number of blocks of lanes.
    pub(crate) fn lanes(&self) -> usize {
        match self.cell {
            Cell::Rnn { .. } => 1,
            Cell::Lstm(_) => LstmGate::COUNT,
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::AFTER_LANES,
            Cell::Gru(GruCell { reset: Reset::Before, .. }) => GruGate::COUNT,
            Cell::Custom(_) => CUSTOM_LANES,
        }
    }

    /// Whether the candidate's recurrent product reads `r h'`, so that it has to follow the reset gate.
    pub(crate) fn resets_before(&self) -> bool {
        matches!(self.cell, Cell::Gru(GruCell { reset: Reset::Before, .. }))
    }

    /// The lanes of `W x`; the second block may be empty.
    fn both_input_blocks(&self) -> [Block; 2] {
        let all = self.cell.gates() * self.hidden;
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::after_input_blocks(self.hidden),
            Cell::Custom(cell) => custom::input_blocks(&cell, self.hidden),
            _ => [Block { lanes: 0..all, rows: 0..all }, Block { lanes: all..all, rows: all..all }],
        }
    }

    /// The lanes of `W x`.
    pub(crate) fn input_blocks(&self) -> impl Iterator<Item = Block> + use<> {
        self.both_input_blocks().into_iter().filter(|block| !block.lanes.is_empty())
    }

    /// The rows of W in the order of the lanes that they go to, which are the first ones.
    pub(crate) fn input_rows(&self) -> [Range<usize>; 2] {
        let mut blocks = self.both_input_blocks();
        blocks.sort_by_key(|block| block.lanes.start);
        blocks.map(|block| block.rows)
    }

    /// The lanes of `U h'`; with the reset before the product, without the candidate's rows.
    pub(crate) fn recurrent_block(&self) -> Block {
        let h = self.hidden;
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::after_recurrent_block(h),
            Cell::Custom(cell) => custom::recurrent_block(&cell, h),
            Cell::Gru(_) => Block { lanes: 0..2 * h, rows: 0..2 * h },
            _ => Block { lanes: 0..self.cell.gates() * h, rows: 0..self.cell.gates() * h },
        }
    }

    /// The lanes of `W x` and `U h'`, in ranges that belong to one of them or to both, with the first of their rows of W
    /// and of U.
    pub(crate) fn weight_lanes(&self) -> [Left; 5] {
        let ([one, two], recurrent) = (self.both_input_blocks(), self.recurrent_block());
        let blocks = [&one, &one, &two, &two, &recurrent, &recurrent];
        let mut ends: [usize; 6] =
            std::array::from_fn(|n| if n % 2 == 0 { blocks[n].lanes.start } else { blocks[n].lanes.end });
        ends.sort_unstable();
        let row = |block: &Block, lane: usize| {
            block.lanes.contains(&lane).then(|| block.rows.start + lane - block.lanes.start)
        };
        std::array::from_fn(|n| {
            let lane = ends[n];
            let of_input = row(&one, lane).or_else(|| row(&two, lane));
            Left { columns: lane..ends[n + 1], rows: [of_input, row(&recurrent, lane)] }
        })
    }

    /// The lanes of `U (r h')`.
    pub(crate) fn reset_block(&self) -> Block {
        let new = GruGate::New as usize * self.hidden..GruGate::COUNT * self.hidden;
        Block { lanes: new.clone(), rows: new }
    }

    /// The lanes of the recurrent bias.
    pub(crate) fn recurrent_bias_block(&self) -> Block {
        match self.cell {
            Cell::Gru(GruCell { reset: Reset::Before, .. }) => {
                let all = 0..GruGate::COUNT * self.hidden;
                Block { lanes: all.clone(), rows: all }
            }
            _ => self.recurrent_block(),
        }
    }

    /// The lengths of the groups of `W x`'s lanes that layer normalisation takes together, in the order of the lanes.
    pub(crate) fn input_groups(&self) -> Vec<usize> {
        match self.cell {
            Cell::Gru(_) => vec![self.hidden, 2 * self.hidden],
            _ => vec![self.cell.gates() * self.hidden],
        }
    }

    /// The same for `U h'`.
    pub(crate) fn recurrent_groups(&self) -> Vec<usize> {
        match self.cell {
            Cell::Gru(_) => vec![2 * self.hidden, self.hidden],
            _ => vec![self.cell.gates() * self.hidden],
        }
    }

    /// The elements that a step of one row needs room for.
    pub(crate) fn scratch_len(&self) -> usize {
        SCRATCH * self.hidden
    }

    /// The first half of a step with the reset before the product: gates r and z, and `reset = r h'`.
    pub(crate) fn forward_reset(
        &self,
        set: Instructions,
        lanes: &mut [f32],
        h_prev: &[f32],
        reset: &mut [f32],
    ) {
        let Cell::Gru(gru) = self.cell else { unreachable!("only GRUs reset") };
        if self.is_plain() {
            return set.run(gru::PlainReset { hidden: self.hidden, lanes, h_prev, reset });
        }
        let (width, hidden) = (self.lanes() * self.hidden, self.hidden);
        let rows = lanes.chunks_exact_mut(width).zip(h_prev.chunks_exact(hidden));
        for ((lanes, h_prev), reset) in rows.zip(reset.chunks_exact_mut(hidden)) {
            gru::reset(set, &gru, self.clip, lanes, h_prev, reset);
        }
    }

    /// A step.
    pub(crate) fn forward(&self, set: Instructions, rows: ForwardRows, scratch: &mut [f32]) {
        let hidden = self.hidden;
        match self.cell {
            Cell::Rnn { activation } => rnn::forward(set, activation, self.clip, rows.lanes, rows.out),
            Cell::Lstm(_) if self.is_plain() => {
                let ForwardRows { lanes, h_prev: _, c_prev, c, out } = rows;
                set.run(lstm::PlainForward { hidden, lanes, c_prev, c, h: out });
            }
            Cell::Gru(GruCell { reset, .. }) if self.is_plain() => {
                let ForwardRows { lanes, h_prev, out, .. } = rows;
                match reset {
                    Reset::After => set.run(gru::PlainAfter { hidden, lanes, h_prev, h: out }),
                    Reset::Before => set.run(gru::PlainBefore { hidden, lanes, h_prev, h: out }),
                }
            }
            Cell::Lstm(cell) => {
                let ForwardRows { lanes, h_prev: _, c_prev, c, out } = rows;
                let rows = lanes.chunks_exact_mut(self.lanes() * hidden).zip(c_prev.chunks_exact(hidden));
                let rows = rows.zip(c.chunks_exact_mut(hidden)).zip(out.chunks_exact_mut(hidden));
                for (((lanes, c_prev), c), out) in rows {
                    lstm::forward(set, &cell, self.clip, self.peephole, lanes, c_prev, c, out, scratch);
                }
            }
            Cell::Gru(cell) => {
                let ForwardRows { lanes, h_prev, out, .. } = rows;
                let rows = lanes.chunks_exact_mut(self.lanes() * hidden).zip(h_prev.chunks_exact(hidden));
                for ((lanes, h_prev), out) in rows.zip(out.chunks_exact_mut(hidden)) {
                    gru::forward(set, &cell, self.clip, lanes, h_prev, None, out, scratch);
                }
            }
            Cell::Custom(cell) => custom::forward(&cell, hidden, rows),
        }
    }

    /// A backward step.
    pub(crate) fn backward(&self, set: Instructions, rows: BackwardRows, scratch: &mut [f32]) {
        let hidden = self.hidden;
        let BackwardRows { lanes, h_prev, c_prev, c, out, d_out, d_prev, d_c } = rows;
        match self.cell {
            Cell::Rnn { .. } if self.is_plain() => set.run(rnn::PlainBackward { lanes, h: out, d_h: d_out }),
            Cell::Lstm(_) if self.is_plain() => {
                set.run(lstm::PlainBackward { hidden, lanes, c_prev, c, d_h: d_out, d_c });
            }
            Cell::Gru(GruCell { reset, .. }) if self.is_plain() => match reset {
                Reset::After => {
                    set.run(gru::PlainAfterBackward { hidden, lanes, h_prev, d_h: d_out, d_prev })
                }
                Reset::Before => {
                    set.run(gru::PlainBeforeBackward { hidden, lanes, h_prev, d_h: d_out, d_prev })
                }
            },
            Cell::Rnn { activation } => {
                let rows = lanes.chunks_exact_mut(hidden).zip(out.chunks_exact(hidden));
                for ((a, h), d_h) in rows.zip(d_out.chunks_exact(hidden)) {
                    rnn::backward(set, activation, self.clip, a, h, d_h, scratch);
                }
            }
            Cell::Lstm(cell) => {
                let rows = lanes.chunks_exact_mut(self.lanes() * hidden).zip(c_prev.chunks_exact(hidden));
                let rows = rows.zip(c.chunks_exact(hidden)).zip(d_out.chunks_exact(hidden));
                for ((((lanes, c_prev), c), d_out), d_c) in rows.zip(d_c.chunks_exact_mut(hidden)) {
                    lstm::backward(
                        set,
                        &cell,
                        self.clip,
                        self.peephole,
                        lanes,
                        c_prev,
                        c,
                        d_out,
                        d_c,
                        scratch,
                    );
                }
            }
            Cell::Gru(cell) => {
                let rows = lanes.chunks_exact_mut(self.lanes() * hidden).zip(h_prev.chunks_exact(hidden));
                let rows = rows.zip(d_out.chunks_exact(hidden)).zip(d_prev.chunks_exact_mut(hidden));
                for (((lanes, h_prev), d_out), d_prev) in rows {
                    gru::backward(set, &cell, self.clip, lanes, h_prev, (d_out, None), d_prev, scratch);
                }
            }
            Cell::Custom(cell) => {
                let rows = BackwardRows { lanes, h_prev, c_prev, c, out, d_out, d_prev, d_c };
                custom::backward(&cell, hidden, rows);
            }
        }
    }

    /// The second half of a backward step with the reset before the product; `d_reset` is the gradient with respect to
    /// `r h'`.
    pub(crate) fn backward_reset(
        &self,
        set: Instructions,
        lanes: &mut [f32],
        h_prev: &[f32],
        d_reset: &[f32],
        d_prev: &mut [f32],
        scratch: &mut [f32],
    ) {
        let Cell::Gru(gru) = self.cell else { unreachable!("only GRUs reset") };
        let hidden = self.hidden;
        if self.is_plain() {
            return set.run(gru::PlainResetBackward { hidden, lanes, h_prev, d_reset, d_prev });
        }
        let rows = lanes.chunks_exact_mut(self.lanes() * hidden).zip(h_prev.chunks_exact(hidden));
        let rows = rows.zip(d_reset.chunks_exact(hidden)).zip(d_prev.chunks_exact_mut(hidden));
        for (((lanes, h_prev), d_reset), d_prev) in rows {
            gru::reset_backward(set, &gru, self.clip, lanes, h_prev, d_reset, d_prev, scratch);
        }
    }

    /// Whether the cell has its usual activations and no options.
    fn is_plain(&self) -> bool {
        self.clip.is_none()
            && match self.cell {
                Cell::Rnn { activation } => activation == Activation::Tanh,
                Cell::Lstm(cell) => {
                    let LstmCell { activations, peephole, coupling, squashed } = cell;
                    activations == LstmActivations::default() && !peephole && coupling.is_none() && !squashed
                }
                Cell::Gru(cell) => cell.activations == GruActivations::default(),
                Cell::Custom(_) => false,
            }
    }
}

/// The blocks of H lanes of a row.
fn blocks<const L: usize>(lanes: &mut [f32]) -> [&mut [f32]; L] {
    let hidden = lanes.len() / L;
    let mut rest = lanes;
    std::array::from_fn(|_| {
        let (block, others) = std::mem::take(&mut rest).split_at_mut(hidden);
        rest = others;
        block
    })
}

/// `N` blocks of scratch.
fn scratch_blocks<const N: usize>(scratch: &mut [f32], hidden: usize) -> [&mut [f32]; N] {
    blocks(&mut scratch[..N * hidden])
}
