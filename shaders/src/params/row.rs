//! Params of steps whose workgroups run a row each.

use super::Params;
use crate::extents::product;
use crate::{Extents, KernelVariant};

params! {
    /// One time step forward after its product; see `scan/row_forward.wgsl`.
    RowForward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// T
        steps: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The slot of h that receives the result.
        h_to: u32,
        /// The slot of the state before the step.
        state_from: u32,
        /// The slot of the state after the step.
        state_to: u32,
        /// Where the products of the inputs are in gates, with layer normalisation.
        x_at: u32,
        /// Where the masks are among the fixed numbers.
        masks_at: u32,
        /// Where the factors of the normalisation are in the buffer of the state.
        stats_at: u32,
        /// Workgroups along x.
        groups_x: u32,
    }

    /// One time step backward before its product; see `scan/row_backward.wgsl`.
    RowBackward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// T
        steps: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The slot of the state before the step.
        state_from: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
        /// Where the normalised inputs are in gates, with layer normalisation.
        x_at: u32,
        /// Where the masks are among the fixed numbers.
        masks_at: u32,
        /// Where the factors of the normalisation are in the buffer of the state.
        stats_at: u32,
        /// Workgroups along x.
        groups_x: u32,
    }

    /// Many time steps forward; see `scan/row_scan_forward.wgsl`.
    RowScanForward {
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
        /// Where the products of the inputs are in gates, with layer normalisation.
        x_at: u32,
        /// Where the masks are among the fixed numbers.
        masks_at: u32,
        /// Where the factors of the normalisation are in the buffer of the state.
        stats_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Many time steps backward; see `scan/row_scan_backward.wgsl`.
    RowScanBackward {
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
        /// Where the normalised inputs are in gates, with layer normalisation.
        x_at: u32,
        /// Where the masks are among the fixed numbers.
        masks_at: u32,
        /// Where the factors of the normalisation are in the buffer of the state.
        stats_at: u32,
        /// Where the recurrent weights are among the fixed numbers.
        weights_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }
}

/// Factors of the groups of a row's lanes, and mean and factor of its state.
pub const ROW_STATS: usize = 6;

/// Rows of `[H]` that come first among the fixed numbers, for peepholes or not, with normalised cells of so many lanes or not.
pub fn own_rows(units: u32, norm: bool, lanes: u32) -> u32 {
    units + if norm { 3 * lanes + 2 } else { 0 }
}

/// Rows of `[B, H]` of sums in the buffer of carry, likewise.
pub fn sum_rows(units: u32, norm: bool, lanes: u32) -> u32 {
    units + if norm { 2 * lanes + 2 } else { 0 }
}

/// A kernel's choices.
struct Choices {
    units: u32,
    norm: bool,
    lanes: u32,
    has_state: bool,
    /// Masks of `[T, B, H]` that are there.
    masks: u32,
}

impl Choices {
    fn of(kernel: &KernelVariant) -> Choices {
        let cell = kernel.needed_cell();
        let rate = |name: &str| u32::from(f32::from_bits(kernel.constant(name)) > 0.0);
        let masks = rate("ZONEOUT")
            + if cell.has_state() { rate("ZONEOUT_CELL") } else { 0 }
            + kernel.constant("CANDIDATE_MASK");
        Choices {
            units: kernel.constant("UNITS"),
            norm: kernel.constant("NORM") == 1,
            lanes: cell.lanes(),
            has_state: cell.has_state(),
            masks: if kernel.constant("NOISE") == 1 { masks } else { 0 },
        }
    }

    /// The fixed numbers that a step reads.
    fn fixed(&self, [t, steps, batch, hidden, masks_at]: [u32; 5]) -> u64 {
        let own = u64::from(own_rows(self.units, self.norm, self.lanes)) * u64::from(hidden);
        match self.masks.checked_sub(1) {
            None => own,
            Some(before) => {
                let step = u64::from(before) * u64::from(steps) + u64::from(t) + 1;
                own.max(u64::from(masks_at) + step * product(&[batch, hidden]))
            }
        }
    }

    fn stats(&self, t: u32, batch: u32, stats_at: u32) -> u64 {
        u64::from(stats_at) + (u64::from(t) + 1) * u64::from(batch) * ROW_STATS as u64
    }
}

/// Iterations of loops over a row: of the sums, and of so many walks over the units.
fn row_iterations(kernel: &KernelVariant, hidden: u32, walks: u64) -> u64 {
    let invocations = kernel.constant("WG_SIZE");
    let lanes = u64::from(kernel.needed_cell().lanes());
    walks * (1 + 2 * lanes) * u64::from(hidden.div_ceil(invocations)) + 4 * u64::from(invocations.ilog2())
}

impl Params for RowForward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let choices = Choices::of(kernel);
        let (lanes, saves) = (u64::from(choices.lanes), kernel.constant("SAVE") == 1);
        let (step, steps) = (product(&[self.batch, self.hidden]), u64::from(self.t) + 1);
        let x_at = if choices.norm { u64::from(self.x_at) } else { 0 };
        let slots = u64::from(self.state_from.max(self.state_to)) + 1;
        let state = if choices.has_state { slots * step } else { 0 };
        let keeps_stats = choices.norm && saves;
        let stats = if keeps_stats { choices.stats(self.t, self.batch, self.stats_at) } else { 0 };
        Extents {
            lens: vec![
                choices.fixed([self.t, self.steps, self.batch, self.hidden, self.masks_at]),
                kernel.len_if("LENGTHS", self.batch.into()),
                step * lanes,
                (x_at + steps * step) * lanes,
                if keeps_stats { steps * step * lanes } else { 0 },
                state.max(stats),
                (u64::from(self.h_from.max(self.h_to)) + 1) * step,
            ],
            iterations: row_iterations(kernel, self.hidden, 5),
        }
    }
}

impl Params for RowBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let choices = Choices::of(kernel);
        let lanes = u64::from(choices.lanes);
        let (step, steps) = (product(&[self.batch, self.hidden]), u64::from(self.t) + 1);
        let x_at = if choices.norm { u64::from(self.x_at) } else { 0 };
        let state = if choices.has_state { (u64::from(self.state_from) + 1) * step } else { 0 };
        let stats = if choices.norm { choices.stats(self.t, self.batch, self.stats_at) } else { 0 };
        let sums = sum_rows(choices.units, choices.norm, choices.lanes);
        let carried = if sums > 0 { 3 + sums } else { 2 + u32::from(choices.has_state) };
        let last_row = steps * u64::from(self.batch) - 1;
        Extents {
            lens: vec![
                choices.fixed([self.t, self.steps, self.batch, self.hidden, self.masks_at]),
                kernel.len_if("LENGTHS", self.batch.into()),
                state.max(stats),
                (u64::from(self.h_from) + 1) * step,
                last_row * u64::from(self.d_stride) + u64::from(self.d_begin) + u64::from(self.hidden),
                (x_at + steps * step) * lanes,
                if choices.norm { steps * step * lanes } else { 0 },
                u64::from(carried) * step,
            ],
            iterations: row_iterations(kernel, self.hidden, 5),
        }
    }
}

/// Iterations of the product of one row with weights of `hidden` units and so many lanes, and of the walks around it.
fn product_iterations(kernel: &KernelVariant, hidden: u32, lanes: u64) -> u64 {
    let units = u64::from(hidden.div_ceil(kernel.constant("WG_SIZE")));
    units * (3 + u64::from(hidden) * (1 + lanes))
}

impl Params for RowScanForward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let choices = Choices::of(kernel);
        let (lanes, saves) = (u64::from(choices.lanes), kernel.constant("SAVE") == 1);
        let (step, steps) = (product(&[self.batch, self.hidden]), u64::from(self.steps));
        let last = self.steps.saturating_sub(1);
        let x_at = if choices.norm { u64::from(self.x_at) } else { 0 };
        let slots = if saves { steps + 1 } else { 1 };
        let state = if choices.has_state { slots * step } else { 0 };
        let keeps_stats = choices.norm && saves;
        let stats = if keeps_stats { choices.stats(last, self.batch, self.stats_at) } else { 0 };
        let per_step =
            1 + product_iterations(kernel, self.hidden, 0) + row_iterations(kernel, self.hidden, 5);
        Extents {
            lens: vec![
                choices.fixed([last, self.steps, self.batch, self.hidden, self.masks_at]),
                kernel.len_if("LENGTHS", self.batch.into()),
                product(&[self.hidden, self.hidden]) * lanes,
                (x_at + steps * step) * lanes,
                if keeps_stats { steps * step * lanes } else { 0 },
                state.max(stats),
                (steps + u64::from(self.history)) * step,
            ],
            iterations: u64::from(self.hidden) + u64::from(self.count) * per_step,
        }
    }
}

impl Params for RowScanBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let choices = Choices::of(kernel);
        let lanes = u64::from(choices.lanes);
        let (step, steps) = (product(&[self.batch, self.hidden]), u64::from(self.steps));
        let last = self.steps.saturating_sub(1);
        let x_at = if choices.norm { u64::from(self.x_at) } else { 0 };
        let state = if choices.has_state { (steps + 1) * step } else { 0 };
        let stats = if choices.norm { choices.stats(last, self.batch, self.stats_at) } else { 0 };
        let sums = sum_rows(choices.units, choices.norm, choices.lanes);
        let carried = if sums > 0 { 3 + sums } else { 2 + u32::from(choices.has_state) };
        let weights = u64::from(self.weights_at) + product(&[self.hidden, self.hidden]) * lanes;
        let last_row = steps * u64::from(self.batch) - 1;
        let per_step =
            1 + product_iterations(kernel, self.hidden, lanes) + row_iterations(kernel, self.hidden, 5);
        Extents {
            lens: vec![
                choices.fixed([last, self.steps, self.batch, self.hidden, self.masks_at]).max(weights),
                kernel.len_if("LENGTHS", self.batch.into()),
                state.max(stats),
                (steps + u64::from(self.history)) * step,
                last_row * u64::from(self.d_stride) + u64::from(self.d_begin) + u64::from(self.hidden),
                (x_at + steps * step) * lanes,
                if choices.norm { steps * step * lanes } else { 0 },
                u64::from(carried) * step,
            ],
            iterations: u64::from(self.count) * per_step,
        }
    }
}
