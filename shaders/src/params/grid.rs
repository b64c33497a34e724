//! Params of kernels whose workgroups wait for each other.

use super::{Params, ScanBackward, ScanForward};
use crate::{Extents, KernelVariant, SYNC_STRIDE};

params! {
    /// Many time steps forward, the units spread over workgroups; see `scan/grid_forward.wgsl`.
    GridForward {
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
        /// Turns that a workgroup waits in all before it gives up.
        spins: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// Many time steps backward, likewise; see `scan/grid_backward.wgsl`.
    GridBackward {
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
        /// Turns that a workgroup waits in all before it gives up.
        spins: u32,
        /// Where the units' own numbers begin in their binding.
        units_at: u32,
        /// Where d_out begins in its binding.
        d_out_at: u32,
        /// Where carry begins in its binding.
        carry_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// A try of a number of workgroups; see `scan/grid_probe.wgsl`.
    GridProbe {
        /// Workgroups.
        groups: u32,
        /// Turns that a workgroup waits in all before it gives up.
        spins: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }
}

/// Words up to the counter of the last of so many crews; see `scan/grid_wait.wgsl`.
fn sync(crews: u32) -> u64 {
    u64::from(crews) * u64::from(SYNC_STRIDE) + 1
}

/// The loops of a kernel that runs a share of the units of a tile of rows; see `scan/grid_tile.wgsl`.
struct Loops {
    /// Before and after the steps.
    around: u64,
    /// Of a product over one segment.
    product: u64,
    /// Of adding its parts and running the cells, a step.
    cells: u64,
    segments: u64,
    /// Of a turn of waiting, with the pass that ends its looks.
    turn: u64,
}

impl Loops {
    fn of(kernel: &KernelVariant) -> Loops {
        let constant = |name| u64::from(kernel.constant(name));
        let (rows, invocations, parts) = (constant("ROWS"), constant("WG_SIZE"), constant("PARTS"));
        let (hidden, staged, splits) = (constant("HIDDEN"), constant("STAGED"), constant("SPLITS"));
        let slices = parts * splits;
        let share = hidden.div_ceil(constant("SHARERS"));
        let blocks = share.div_ceil(invocations / slices);
        let cells = (share * rows).div_ceil(invocations);
        let stages = hidden.div_ceil(slices).div_ceil(staged);
        let held = constant("KEPT") + constant("PARKED");
        let loaded = (rows * staged * slices).div_ceil(invocations);
        let combined = u64::from(parts.ilog2()) * (1 + blocks * rows);
        Loops {
            around: rows + held * (1 + blocks) + 2 * cells,
            product: stages * (1 + loaded + staged * (1 + blocks * (1 + rows))),
            cells: combined + blocks * (1 + rows) + cells * (2 + splits),
            segments: constant("SEGMENTS"),
            turn: 2 + constant("POLLS"),
        }
    }

    /// All of a dispatch of so many steps that waits so many turns. A driver that ends loops also counts the pass in which a loop
    /// finds that it is over, at most as many as there are others.
    fn iterations(&self, count: u32, spins: u32) -> u64 {
        let step = 1 + self.segments * self.product + self.cells;
        let turns = u64::from(count) + u64::from(spins);
        2 * (self.around + u64::from(count) * step) + turns * self.turn
    }
}

impl GridForward {
    /// The steps of a workgroup that runs all units, which touches the same elements.
    fn whole(&self) -> ScanForward {
        let &GridForward { first, count, steps, batch, hidden, history, reverse, .. } = self;
        ScanForward { first, count, steps, batch, hidden, history, reverse, ..Default::default() }
    }
}

impl Params for GridForward {
    fn extents(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Extents {
        let mut lens = self.whole().extents(kernel, groups).lens;
        lens.push(sync(groups[1]));
        Extents { lens, iterations: Loops::of(kernel).iterations(self.count, self.spins) }
    }

    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let mut lens = self.whole().touched(kernel, groups);
        lens.push(u64::from(groups[1]) + 1);
        lens
    }
}

impl GridBackward {
    /// The steps of a workgroup that runs all units, which touches the same elements.
    fn whole(&self) -> ScanBackward {
        let &GridBackward { first, count, steps, batch, hidden, history, reverse, d_stride, d_begin, .. } =
            self;
        ScanBackward {
            first,
            count,
            steps,
            batch,
            hidden,
            history,
            reverse,
            d_stride,
            d_begin,
            ..Default::default()
        }
    }
}

impl Params for GridBackward {
    fn extents(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Extents {
        let mut lens = self.whole().extents(kernel, groups).lens;
        lens.push(sync(groups[1]));
        Extents { lens, iterations: Loops::of(kernel).iterations(self.count, self.spins) }
    }

    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let mut lens = self.whole().touched(kernel, groups);
        lens.push(u64::from(groups[1]) + 1);
        lens
    }
}

impl Params for GridProbe {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let constant = |name| u64::from(kernel.constant(name));
        let turns = 1 + u64::from(self.spins);
        let iterations = constant("FILLED").div_ceil(constant("WG_SIZE")) + turns * (2 + constant("POLLS"));
        Extents { lens: vec![sync(1)], iterations }
    }
}
