//! Params of kernels that run many steps of a scan.

use super::Params;
use crate::extents::{product, rows_end};
use crate::{Extents, KernelVariant};

params! {
    /// Many time steps forward; see `scan/scan_forward.wgsl`.
    ScanForward {
        /// Steps of the scan before this dispatch.
        first: u32,
        /// Steps of this dispatch.
        count: u32,
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Slots before the first step.
        history: u32,
        /// 1 for a reverse scan.
        reverse: u32,
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
    }

    /// Many time steps backward; see `scan/scan_backward.wgsl`.
    ScanBackward {
        /// Steps of the scan, counted from its end, before this dispatch.
        first: u32,
        /// Steps of this dispatch.
        count: u32,
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Slots before the first step.
        history: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
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
    }
}

/// The loops of a kernel that runs all units of a tile of rows; see `scan/tile.wgsl`.
struct Loops {
    rows: u64,
    parts: u64,
    invocations: u64,
    hidden: u64,
    /// Of the units of an invocation.
    blocks: u64,
    cells: u64,
    segments: u64,
    /// Of the skipped part of a product, a step.
    skipped: u64,
    /// Of adding the parts of a product, a step.
    combined: u64,
}

impl Loops {
    fn of(kernel: &KernelVariant) -> Loops {
        let constant = |name| u64::from(kernel.constant(name));
        let (rows, parts, invocations) = (constant("ROWS"), constant("PARTS"), constant("WG_SIZE"));
        let (hidden, segments) = (constant("HIDDEN"), constant("SEGMENTS"));
        let blocks = hidden.div_ceil(invocations / parts);
        let sums = blocks * rows;
        Loops {
            rows,
            parts,
            invocations,
            hidden,
            blocks,
            cells: blocks * rows.div_ceil(parts),
            segments,
            skipped: (segments - 1) * hidden.div_ceil(parts) * (1 + blocks * (1 + rows)),
            combined: sums * (2 + parts),
        }
    }

    /// Those before and after the steps, for rows of so many elements of workgroup memory.
    fn around(&self, stride: u64) -> u64 {
        let loaded = (2 * self.rows * stride).div_ceil(self.invocations);
        loaded + 2 * self.hidden * self.blocks + 2 * self.cells + self.rows
    }
}

impl Params for ScanForward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, loops) = (kernel.needed_cell(), Loops::of(kernel));
        let step = product(&[self.batch, self.hidden]);
        let saves = kernel.constant("SAVE") == 1;
        let slots = if saves { u64::from(self.steps) + 1 } else { 1 };
        let quads = loops.hidden.div_ceil(4 * loops.parts);
        let products = quads * (1 + 4 * (1 + loops.blocks * (1 + loops.rows)));
        let per_step = 1 + products + loops.skipped + loops.combined + 2 * loops.cells;
        Extents {
            lens: vec![
                loops.segments * product(&[self.hidden, self.hidden, cell.product_lanes()]),
                product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                product(&[self.steps, cell.lanes()]) * step,
                if cell.has_state() { slots * step } else { 0 },
                u64::from(self.steps + self.history) * step,
            ],
            iterations: u64::from(self.count) * per_step + loops.around(4 * loops.parts * quads),
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
        let (cell, count) = (kernel.needed_cell(), u64::from(self.count));
        let step = product(&[self.batch, self.hidden]);
        let slots = if kernel.constant("SAVE") == 1 { count + 1 } else { 1 };
        let reached = self.extents(kernel, groups).lens;
        let gates = product(&[self.count, cell.lanes()]) * step;
        let state = if cell.has_state() { slots * step } else { 0 };
        vec![reached[0], reached[1], reached[2], gates, state, (count + u64::from(self.history)) * step]
    }
}

impl Params for ScanBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (cell, loops) = (kernel.needed_cell(), Loops::of(kernel));
        let step = product(&[self.batch, self.hidden]);
        let turns = loops.hidden.div_ceil(loops.parts);
        let products = turns * (1 + loops.blocks * (1 + loops.rows));
        let per_step = 1 + products + loops.skipped + loops.combined + 2 * loops.cells;
        let carried = if cell.carries() { step } else { 0 };
        let finals = kernel.len_if("FINALS", (1 + u64::from(self.history)) * step);
        Extents {
            lens: vec![
                loops.segments * product(&[self.hidden, self.hidden, cell.lanes()]),
                product(&[kernel.constant("UNITS"), self.hidden]),
                kernel.len_if("LENGTHS", self.batch.into()),
                if cell.has_state() { (u64::from(self.steps) + 1) * step } else { 0 },
                u64::from(self.steps + self.history) * step,
                rows_end(
                    self.steps.saturating_sub(1),
                    self.batch,
                    self.d_stride,
                    &[self.d_begin + self.hidden],
                ),
                product(&[self.steps, cell.lanes()]) * step,
                carried.max(finals),
            ],
            iterations: u64::from(self.count) * per_step + loops.around(loops.parts * turns),
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
        let (cell, count) = (kernel.needed_cell(), u64::from(self.count));
        let step = product(&[self.batch, self.hidden]);
        let reached = self.extents(kernel, groups).lens;
        let state = if cell.has_state() { (count + 1) * step } else { 0 };
        // The gradients of the steps that follow came from the dispatch before.
        let gates = product(&[self.count + self.first.min(self.history), cell.lanes()]) * step;
        vec![reached[0], reached[1], reached[2], state, count * step, count * step, gates, reached[7]]
    }
}
