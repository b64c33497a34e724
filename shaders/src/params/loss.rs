//! Params of losses.

use super::Params;
use crate::extents::{end, product};
use crate::{ElementLossKind, Extents, KernelVariant};

params! {
    /// A loss of each target by itself; see `loss/element_loss.wgsl`.
    ElementLoss {
        /// Targets.
        len: u32,
        /// Targets of a row.
        features: u32,
        /// Outputs of a row.
        stride: u32,
        /// The first output of a row that takes part.
        offset: u32,
        /// Partial sums.
        parts: u32,
        /// The first of them.
        first_part: u32,
        /// Huber's delta, the quantile's level.
        option: f32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Softmax and cross-entropy; see `loss/cross_entropy.wgsl`.
    CrossEntropy {
        /// Rows of all steps.
        rows: u32,
        /// Outputs of a row.
        classes: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// The sum of a loss's parts; see `loss/sum_loss.wgsl`.
    SumLoss {
        /// Partial sums.
        parts: u32,
        /// Losses that the list holds.
        capacity: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }
}

impl Params for ElementLoss {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        // A Gaussian takes two blocks of outputs.
        let blocks = 1 + u64::from(kernel.constant("LOSS") == ElementLossKind::Gaussian as u32);
        let rows = self.len.div_ceil(self.features.max(1));
        let last_row = product(&[rows.saturating_sub(1), self.stride]);
        let outputs = end(self.offset, last_row + blocks * u64::from(self.features));
        let parts = end(self.first_part, u64::from(self.parts));
        Extents {
            lens: vec![outputs, u64::from(self.len), u64::from(rows), outputs, parts],
            iterations: u64::from(self.len.div_ceil(self.parts.max(1))),
        }
    }
}

impl Params for CrossEntropy {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (rows, logits) = (u64::from(self.rows), product(&[self.rows, self.classes]));
        let size = u64::from(kernel.constant("WG_SIZE"));
        let (lanes, shared) = if kernel.constant("WIDE") == 1 { (size, 2 * size) } else { (1, 0) };
        Extents {
            lens: vec![logits, rows, rows, logits, rows],
            iterations: 3 * u64::from(self.classes).div_ceil(lanes) + shared,
        }
    }
}

impl Params for SumLoss {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (parts, size) = (u64::from(self.parts), u64::from(kernel.constant("WG_SIZE")));
        Extents { lens: vec![parts, u64::from(self.capacity) + 1], iterations: parts / size + 1 + size }
    }
}
