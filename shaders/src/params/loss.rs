//! Params of losses.

params! {
    /// A loss of each target by itself; see `loss/element_loss.wgsl`.
    ElementLoss {
        /// Targets.
        len: u32,
        /// Targets of a row.
        features: u32,
        /// Outputs of a row.
        stride: u32,
        /// The first output of a row that is taken.
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
