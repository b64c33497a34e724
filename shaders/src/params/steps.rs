//! Params of single steps of a scan.

use super::Params;
use super::scan::{gates, values};
use crate::extents::{end, product, rows_end};
use crate::{CellStage, Extents, KernelVariant, NO_STEP};

params! {
    /// One time step forward; see `scan/step_forward.wgsl`.
    StepForward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that the product reads.
        r_slot: u32,
        /// The first column that it reads.
        r_begin: u32,
        /// Columns that it reads.
        r_len: u32,
        /// The slot that its second segment reads.
        skip_slot: u32,
        /// The first column that the second segment reads.
        skip_begin: u32,
        /// Columns that the second segment reads.
        skip_len: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of h that receives the result.
        h_to: u32,
        /// The column of the result.
        to_begin: u32,
        /// The slot of the state before the step.
        state_from: u32,
        /// The slot of the state after the step.
        state_to: u32,
        /// Where the packed weights begin in their binding.
        u_at: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        /// Where the gates begin in their binding, in slots.
        gates_at: u32,
        /// Where the state begins in its binding.
        state_at: u32,
        /// Where h begins in its binding.
        h_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// The tangent of one time step; see `scan/step_tangent.wgsl`.
    StepTangent {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// Elements of a row of tangents.
        dot_width: u32,
        /// The slot of tangents that the product reads.
        r_slot: u32,
        /// The first column that it reads.
        r_begin: u32,
        /// Columns that it reads.
        r_len: u32,
        /// The slot that its second segment reads.
        skip_slot: u32,
        /// The first column that the second segment reads.
        skip_begin: u32,
        /// Columns that the second segment reads.
        skip_len: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of tangents that receives the result.
        h_to: u32,
        /// The column of the result.
        to_begin: u32,
        /// Slots of h before the slot of the state at the same step.
        state_back: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// One time step backward; see `scan/from_recurrence.wgsl`.
    StepBackward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of the state before the step.
        state_from: u32,
        /// The slot of the state after the step.
        state_to: u32,
        /// Where the inner gradient goes in the buffer of carry.
        inner_to: u32,
        /// The step that follows in the scan, or `u32::MAX`.
        next: u32,
        /// The step that reads this one by a skip, or `u32::MAX`.
        skip_next: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
        /// Slots before the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Where the packed weights begin in their binding.
        ut_at: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        /// Where the state begins in its binding.
        state_at: u32,
        /// Where h begins in its binding.
        h_at: u32,
        /// Where d_out begins in its binding.
        d_out_at: u32,
        /// Where the gates begin in their binding, in slots.
        gates_at: u32,
        /// Where carry begins in its binding.
        carry_at: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// One time step backward, after a readout or a second stage; see `scan/from_inner.wgsl`.
    StepBackwardInner {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of the state before the step.
        state_from: u32,
        /// The slot of the state after the step.
        state_to: u32,
        /// Where the inner gradient goes in the buffer of carry.
        inner_to: u32,
        /// Where the inner gradient is in the buffer of carry.
        inner_from: u32,
        /// Its width.
        inner_len: u32,
        /// Where the gradient with respect to h through the recurrence is in the buffer of carry.
        row_from: u32,
        /// Where the weights begin in their binding.
        weights_at: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        /// Where the state begins in its binding.
        state_at: u32,
        /// Where h begins in its binding.
        h_at: u32,
        /// Where the gates begin in their binding, in slots.
        gates_at: u32,
        /// Where carry begins in its binding.
        carry_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// The gradient of a step's readout; see `scan/readout_backward.wgsl`.
    ReadoutBackward {
        /// The step.
        t: u32,
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
        /// The first column of the readout.
        readout_from: u32,
        /// The step that follows in the scan, or `u32::MAX`.
        next: u32,
        /// The step that reads this one by a skip, or `u32::MAX`.
        skip_next: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
        /// Slots before the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Where the inner gradient goes in the buffer of carry.
        inner_to: u32,
        /// Where the gradients of the final values are in the buffer of carry.
        finals_at: u32,
        /// Where the packed weights begin in their binding.
        ut_at: u32,
        /// Where the gates begin in their binding, in slots.
        gates_at: u32,
        /// Where d_out begins in its binding.
        d_out_at: u32,
        /// Where the readout begins in its binding.
        readout_at: u32,
        /// Where carry begins in its binding.
        carry_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }
}

/// Elements of the state up to the later of two slots.
fn state(slots: [u32; 2], step: u64, cell: CellStage) -> u64 {
    if cell.has_state() { (u64::from(slots[0].max(slots[1])) + 1) * step } else { 0 }
}

impl Params for StepForward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let skips = kernel.constant("SEGMENTS") == 2;
        let (skip_len, skip_slot) = if skips { (self.skip_len, self.skip_slot) } else { (0, 0) };
        let columns = [
            self.r_begin + self.r_len,
            self.skip_begin + skip_len,
            self.h_begin + self.hidden,
            self.to_begin + self.hidden,
        ];
        let slot = self.r_slot.max(skip_slot).max(self.h_from).max(self.h_to);
        let inner = u64::from(self.r_len) + u64::from(skip_len);
        let uses_gates = cell.reads_gates() || kernel.constant("SAVE") == 1;
        Extents {
            lens: vec![
                inner * product(&[self.hidden, cell.product_lanes()]),
                product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                if uses_gates { gates(u64::from(self.t) + 1, step, cell) } else { 0 },
                state([self.state_from, self.state_to], step, cell),
                rows_end(slot, self.batch, self.width, &columns),
            ],
            iterations: inner * u64::from(kernel.iterations_per_k()) + 2 * rows,
        }
        .begun_at(&[
            product(&[self.u_at, cell.product_lanes()]),
            self.units_at.into(),
            0,
            product(&[self.gates_at, cell.lanes()]),
            self.state_at.into(),
            self.h_at.into(),
        ])
    }

    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let (cell, batch) = (kernel.needed_cell(), u64::from(self.batch));
        let step = product(&[self.batch, self.hidden]);
        let skip_len = if kernel.constant("SEGMENTS") == 2 { self.skip_len } else { 0 };
        // h(t-1) is part of what the product reads, unless it begins in another place.
        let h_prev = if (self.h_from, self.h_begin) == (self.r_slot, self.r_begin) { 0 } else { self.hidden };
        let read = u64::from(self.r_len) + u64::from(skip_len) + u64::from(h_prev);
        let reached = self.extents(kernel, groups).lens;
        let gates = reached[3] / (u64::from(self.t) + 1);
        let state = states([self.state_from, self.state_to], step, cell);
        vec![reached[0], reached[1], reached[2], gates, state, batch * read + step]
    }
}

impl Params for StepTangent {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let skips = kernel.constant("SEGMENTS") == 2;
        let (skip_len, skip_slot) = if skips { (self.skip_len, self.skip_slot) } else { (0, 0) };
        let state_end = if cell.has_state() { self.width + self.hidden } else { 0 };
        let columns = [
            self.r_begin + self.r_len,
            self.skip_begin + skip_len,
            self.h_begin + self.hidden,
            self.to_begin + self.hidden,
            state_end,
        ];
        let slot = self.r_slot.max(skip_slot).max(self.h_from).max(self.h_to);
        let inner = u64::from(self.r_len) + u64::from(skip_len);
        let all_gates = gates(u64::from(self.t) + 1, step, cell);
        let states = [self.h_from, self.h_to].map(|slot| slot.saturating_sub(self.state_back));
        Extents {
            lens: vec![
                inner * product(&[self.hidden, cell.product_lanes()]),
                2 * product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                all_gates,
                state(states, step, cell),
                rows_end(self.h_from, self.batch, self.width, &[self.h_begin + self.hidden]),
                all_gates,
                rows_end(slot, self.batch, self.dot_width, &columns),
            ],
            iterations: inner * u64::from(kernel.iterations_per_k()) + 2 * rows,
        }
        .begun_at(&[0, self.units_at.into()])
    }

    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let (cell, batch) = (kernel.needed_cell(), u64::from(self.batch));
        let step = product(&[self.batch, self.hidden]);
        let skip_len = if kernel.constant("SEGMENTS") == 2 { self.skip_len } else { 0 };
        let apart = if (self.h_from, self.h_begin) == (self.r_slot, self.r_begin) { 0 } else { self.hidden };
        let read = u64::from(self.r_len) + u64::from(skip_len) + u64::from(apart);
        let reached = self.extents(kernel, groups).lens;
        let gates = reached[3] / (u64::from(self.t) + 1);
        let states = states([self.h_from, self.h_to], step, cell);
        vec![reached[0], reached[1], reached[2], gates, states, step, gates, batch * read + step + states]
    }
}

/// Elements of the states before and after a step.
fn states(slots: [u32; 2], step: u64, cell: CellStage) -> u64 {
    let distinct = if slots[0] == slots[1] { 1 } else { 2 };
    if cell.has_state() { distinct * step } else { 0 }
}

/// The later steps that this step's gradient comes from.
fn following(kernel: &KernelVariant, next: u32, skip_next: u32) -> impl Iterator<Item = u32> {
    let skip_next = if kernel.constant("SEGMENTS") == 2 { skip_next } else { NO_STEP };
    [next, skip_next].into_iter().filter(|&step| step != NO_STEP)
}

impl Params for StepBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let segments = u64::from(kernel.constant("SEGMENTS"));
        let last = following(kernel, self.next, self.skip_next).fold(self.t, u32::max);
        let carried = if cell.carries() { step } else { 0 };
        let inner = if cell.gives_inner() { end(self.inner_to, step) } else { 0 };
        let finals = kernel.len_if("FINALS", (1 + u64::from(self.history)) * step);
        let per_k = u64::from(kernel.iterations_per_k());
        Extents {
            lens: vec![
                segments * product(&[self.hidden, self.hidden, cell.lanes()]),
                product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                state([self.state_from, self.state_to], step, cell),
                rows_end(self.h_from, self.batch, self.width, &[self.h_begin + self.hidden]),
                rows_end(self.t, self.batch, self.d_stride, &[self.d_begin + self.hidden]),
                gates(u64::from(last) + 1, step, cell),
                carried.max(inner).max(finals),
            ],
            iterations: segments * (u64::from(self.hidden) * per_k + rows) + 2 * rows,
        }
        .begun_at(&[
            product(&[self.ut_at, cell.lanes()]),
            self.units_at.into(),
            0,
            self.state_at.into(),
            self.h_at.into(),
            self.d_out_at.into(),
            product(&[self.gates_at, cell.lanes()]),
            self.carry_at.into(),
        ])
    }

    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let cell = kernel.needed_cell();
        let step = product(&[self.batch, self.hidden]);
        let steps = 1 + following(kernel, self.next, self.skip_next).count() as u64;
        let reached = self.extents(kernel, groups).lens;
        let state = states([self.state_from, self.state_to], step, cell);
        vec![reached[0], reached[1], reached[2], state, step, step, gates(steps, step, cell), reached[7]]
    }
}

impl Params for StepBackwardInner {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let d_inner = end(self.inner_from, product(&[self.batch, self.inner_len]));
        let carried = if cell.carries() { step } else { 0 };
        let inner = if cell.gives_inner() { end(self.inner_to, step) } else { 0 };
        let d_row = kernel.len_if("WITH_ROW", end(self.row_from, step));
        Extents {
            lens: vec![
                product(&[self.inner_len, self.hidden]),
                product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                state([self.state_from, self.state_to], step, cell),
                rows_end(self.h_from, self.batch, self.width, &[self.h_begin + self.hidden]),
                gates(u64::from(self.t) + 1, step, cell),
                d_inner.max(carried).max(inner).max(d_row),
            ],
            iterations: u64::from(self.inner_len) * u64::from(kernel.iterations_per_k()) + 2 * rows,
        }
        .begun_at(&[
            self.weights_at.into(),
            self.units_at.into(),
            0,
            self.state_at.into(),
            self.h_at.into(),
            product(&[self.gates_at, cell.lanes()]),
            self.carry_at.into(),
        ])
    }
}

impl Params for ReadoutBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, rows) = (kernel.needed_cell(), u64::from(kernel.constant("ROWS")));
        let step = product(&[self.batch, self.hidden]);
        let segments = u64::from(kernel.constant("SEGMENTS"));
        let skip_columns = if segments == 2 { self.skip_columns } else { 0 };
        let steps = following(kernel, self.next, self.skip_next).map(|step| u64::from(step) + 1).max();
        let outputs = self.columns - self.readout_from;
        let readout = product(&[self.batch, outputs]);
        let d_row = if self.readout_from > 0 { step } else { 0 };
        let finals = values([self.history, self.batch], self.own, self.columns);
        let per_k = u64::from(kernel.iterations_per_k());
        Extents {
            lens: vec![
                product(&[self.hidden, self.columns + skip_columns, cell.lanes()]),
                kernel.len_if("LENGTHS", self.batch.into()),
                gates(steps.unwrap_or(0), step, cell),
                rows_end(self.t, self.batch, self.d_stride, &[self.d_begin + outputs]),
                (u64::from(self.t) + 1) * readout,
                end(self.inner_to, readout + d_row).max(kernel.len_if("FINALS", end(self.finals_at, finals))),
            ],
            iterations: segments * (u64::from(self.hidden) * per_k + 2 * rows) + 2 * rows,
        }
        .begun_at(&[
            product(&[self.ut_at, cell.lanes()]),
            0,
            product(&[self.gates_at, cell.lanes()]),
            self.d_out_at.into(),
            self.readout_at.into(),
            self.carry_at.into(),
        ])
    }
}
