//! Params of matrix products, packing and sums.

params! {
    /// A matrix product; see `linear/matmul.wgsl`.
    MatMul {
        /// Rows of c.
        m: u32,
        /// Columns of c, counted in `Column`s.
        n: u32,
        /// Length of the inner axis.
        k: u32,
        /// Inner elements of one slice.
        slice_len: u32,
        /// The first element of a.
        a_offset: u32,
        /// From one row of a to the next.
        a_row_stride: u32,
        /// From one inner element of a to the next.
        a_k_stride: u32,
        /// From one inner element of b to the next, in `Column`s.
        b_k_stride: u32,
        /// From one column of b to the next, in `Column`s.
        b_column_stride: u32,
        /// The first element of b, in `Column`s.
        b_offset: u32,
        /// Sequences, where rows are their steps and may lie behind their ends.
        batch: u32,
        #[doc(hidden)]
        _pad0: u32,
    }

    /// The second pass of a split matrix product; see `linear/sum_slices.wgsl`.
    SumSlices {
        /// Rows.
        m: u32,
        /// Columns.
        n: u32,
        /// How many slices there are.
        slices: u32,
        /// Workgroups along x.
        groups_x: u32,
    }

    /// Reordered axes; see `linear/pack.wgsl`.
    Pack {
        /// Length of the packed tensor's first axis.
        size0: u32,
        /// Length of its second axis.
        size1: u32,
        /// Length of its third axis.
        size2: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// What a step along the first axis is in the source.
        stride0: u32,
        /// What a step along the second axis is in the source.
        stride1: u32,
        /// What a step along the third axis is in the source.
        stride2: u32,
        /// The axis that counts lanes, 1 or 2; 0 for none.
        lane_axis: u32,
        /// The gate of each lane, four bits each; 15 for none.
        map: u32,
        /// The same for the other source.
        other_map: u32,
        /// The first element of what is written.
        out_begin: u32,
        /// What a step along the first axis is in it.
        out_stride: u32,
    }

    /// A packed gradient put back; see `linear/unpack_gradient.wgsl`.
    UnpackGradient {
        /// Length of the packed tensor's first axis.
        size0: u32,
        /// Length of its second axis.
        size1: u32,
        /// Length of its third axis.
        size2: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// What a step along the first axis is in the parameter.
        stride0: u32,
        /// What a step along the second axis is in the parameter.
        stride1: u32,
        /// What a step along the third axis is in the parameter.
        stride2: u32,
        /// How many slices there are.
        slices: u32,
        /// The axis that counts lanes, 2, or 0 for none.
        lane_axis: u32,
        /// The gate of each lane, four bits each; 15 for none.
        map: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Sums of columns; see `linear/column_sum.wgsl`.
    ColumnSum {
        /// Rows.
        m: u32,
        /// Columns.
        n: u32,
        /// Rows of one slice.
        slice_len: u32,
        /// The first element of x.
        x_offset: u32,
    }

    /// The gradient in front of an activation; see `linear/activation_backward.wgsl`.
    ActivationBackward {
        /// Elements.
        len: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }
}
