//! Params of what goes before and after the steps of a scan.

use super::Params;
use crate::extents::{end, product, rows_end};
use crate::{CellStage, Extents, KernelVariant};

params! {
    /// The gradient with respect to the initial h; see `scan/initial_backward.wgsl`.
    InitialBackward {
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Columns.
        columns: u32,
        /// Columns that a skip reads.
        skip_columns: u32,
        /// Columns with a value in each slot of the history.
        own: u32,
        /// Slots before the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// 1 where carry is part of the gradient of h.
        carries_h: u32,
        /// Where the gradients of the final values are in the buffer of carry.
        finals_at: u32,
        /// Where the packed weights begin in their binding.
        ut_at: u32,
        /// Where the gates begin in their binding, in slots.
        gates_at: u32,
    }

    /// Initial values of rows; see `scan/initial_rows.wgsl`.
    InitialRows {
        /// The first slot.
        first_slot: u32,
        /// Slots.
        slots: u32,
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// Slots before the first step.
        history: u32,
        /// Values of each row and column, in slots of their own.
        values: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Final values of rows; see `scan/final_rows.wgsl`.
    FinalRows {
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// Slots before the first step.
        history: u32,
        /// Values of each row and column, in slots of their own.
        values: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// Lengths of interleaved sequences; see `scan/interleaved_lengths.wgsl`.
    InterleavedLengths {
        /// B
        batch: u32,
        /// d
        dilation: u32,
        /// T
        steps: u32,
        /// Workgroups along x.
        groups_x: u32,
    }

    /// States by sequence or by time; see `scan/interleaved_rows.wgsl`.
    InterleavedRows {
        /// B
        batch: u32,
        /// H
        columns: u32,
        /// d
        dilation: u32,
        /// T
        steps: u32,
        /// 1 from sequences to time.
        back: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// A scan's part of the output; see `scan/scan_output.wgsl`.
    ScanOutput {
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// The first slot.
        first_slot: u32,
        /// Elements of a row of out.
        out_width: u32,
        /// The first column in a row of out.
        out_begin: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// The gradient with respect to peepholes; see `scan/peephole_gradient.wgsl`.
    PeepholeGradient {
        /// Rows of all steps.
        rows: u32,
        /// H
        hidden: u32,
        /// The first row of the state before step 0.
        before: u32,
        /// The first row of the state after step 0.
        after: u32,
        /// Rows of one slice.
        slice_len: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }
}

/// Elements of gates `[B, H, lanes]` in `steps` steps.
pub(super) fn gates(steps: u64, step: u64, cell: CellStage) -> u64 {
    steps * step * u64::from(cell.lanes())
}

/// Initial or final values: `own` columns have one in every slot of the history, the others have one alone.
pub(super) fn values([history, batch]: [u32; 2], own: u32, columns: u32) -> u64 {
    product(&[history, batch, own]) + product(&[batch, columns - own])
}

impl Params for InitialBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let segments = u64::from(kernel.constant("SEGMENTS"));
        let skip_columns = if segments == 2 { self.skip_columns } else { 0 };
        let values = values([self.history, self.batch], self.own, self.columns);
        // A reverse scan begins at each row's last step, and a skip can reach any step.
        let steps = if self.reverse == 1 || segments == 2 { self.steps } else { 1 };
        let carried = if self.carries_h == 1 { step } else { 0 };
        let per_k = u64::from(kernel.iterations_per_k());
        Extents {
            lens: vec![
                product(&[self.hidden, self.columns + skip_columns, cell.lanes()]),
                kernel.len_if("LENGTHS", self.batch.into()),
                gates(steps.into(), step, cell),
                carried.max(kernel.len_if("FINALS", end(self.finals_at, values))),
                values,
            ],
            iterations: segments * (u64::from(self.hidden) * per_k + 2 * rows) + rows,
        }
        .begun_at(&[
            product(&[self.ut_at, cell.lanes()]),
            0,
            product(&[self.gates_at, cell.lanes()]),
        ])
    }
}

impl Params for InitialRows {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let last = (self.first_slot + self.slots).saturating_sub(1);
        Extents {
            lens: vec![
                kernel.len_if("WITH_INITIAL", product(&[self.values, self.batch, self.columns])),
                kernel.len_if("LENGTHS", self.batch.into()),
                rows_end(last, self.batch, self.width, &[self.begin + self.columns]),
            ],
            iterations: 0,
        }
    }
}

impl Params for FinalRows {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let last = if self.reverse == 1 { self.values - 1 } else { self.steps + self.history - 1 };
        Extents {
            lens: vec![
                rows_end(last, self.batch, self.width, &[self.begin + self.columns]),
                kernel.len_if("LENGTHS", self.batch.into()),
                product(&[self.values, self.batch, self.columns]),
            ],
            iterations: 0,
        }
    }
}

impl Params for InterleavedLengths {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let lengths = kernel.len_if("LENGTHS", self.batch.into());
        Extents { lens: vec![lengths, product(&[self.dilation, self.batch])], iterations: 0 }
    }
}

impl Params for InterleavedRows {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let all = product(&[self.dilation, self.batch, self.columns]);
        Extents { lens: vec![all, kernel.len_if("LENGTHS", self.batch.into()), all], iterations: 0 }
    }
}

impl Params for ScanOutput {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (last, last_slot) = (self.steps - 1, self.steps + self.first_slot - 1);
        Extents {
            lens: vec![
                rows_end(last_slot, self.batch, self.width, &[self.begin + self.columns]),
                kernel.len_if("LENGTHS", self.batch.into()),
                rows_end(last, self.batch, self.out_width, &[self.out_begin + self.columns]),
            ],
            iterations: 0,
        }
    }
}

impl Params for PeepholeGradient {
    fn extents(&self, _: &KernelVariant, groups: [u32; 3]) -> Extents {
        let (rows, last) = (u64::from(self.rows), self.before.max(self.after));
        Extents {
            lens: vec![
                product(&[self.rows, self.hidden, 4]),
                end(last, rows) * u64::from(self.hidden),
                product(&[groups[1], 3, self.hidden]),
            ],
            iterations: u64::from(self.slice_len.min(self.rows)),
        }
    }
}
