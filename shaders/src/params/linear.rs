//! Params of matrix products, packing and sums.

use super::Params;
use crate::extents::{end, product, walk_end};
use crate::{Extents, KernelVariant};

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
        /// Sequences, where rows are their steps and may lie past their ends.
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
        /// Slices.
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
        /// Elements of the source from one index of the first axis to the next.
        stride0: u32,
        /// The same for the second axis.
        stride1: u32,
        /// The same for the third axis.
        stride2: u32,
        /// The axis that counts lanes, 1 or 2; 0 for none.
        lane_axis: u32,
        /// The gate of each lane, four bits each; 15 for none.
        map: u32,
        /// The same for the other source.
        other_map: u32,
        /// The first element of the output.
        out_begin: u32,
        /// Elements of the output from one index of the first axis to the next.
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
        /// Elements of the parameter from one index of the first axis to the next.
        stride0: u32,
        /// The same for the second axis.
        stride1: u32,
        /// The same for the third axis.
        stride2: u32,
        /// Slices.
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

    /// The gradient with respect to a pre-activation; see `linear/activation_backward.wgsl`.
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

impl Params for MatMul {
    fn extents(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Extents {
        let width = kernel.columns.width();
        let columns = product(&[self.n, width]);
        let b = end(self.b_offset, walk_end([self.k, self.n, 1], [self.b_k_stride, self.b_column_stride, 0]));
        let batch = u64::from(self.batch);
        let (rows, blocks) = (u64::from(kernel.constant("ROWS")), u64::from(kernel.constant("COLUMNS")));
        Extents {
            lens: vec![
                end(self.a_offset, walk_end([self.m, self.k, 1], [self.a_row_stride, self.a_k_stride, 0])),
                b * u64::from(width),
                kernel.len_if("BIAS", columns),
                kernel.len_if("SKIP_ROWS", batch).max(kernel.len_if("SKIP_INNER", batch)),
                product(&[groups[2], self.m]) * columns,
            ],
            iterations: u64::from(self.slice_len.min(self.k)) * u64::from(kernel.iterations_per_k())
                + blocks * (1 + rows)
                + rows,
        }
    }
}

impl Params for SumSlices {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (slices, len) = (u64::from(self.slices), product(&[self.m, self.n]));
        Extents {
            lens: vec![slices * len, kernel.len_if("BIAS", u64::from(self.n)), len],
            iterations: slices,
        }
    }
}

/// The sizes with the axis of lanes, if any, counting gates instead: as many as the maps name.
fn by_gates(mut sizes: [u32; 3], lane_axis: u32, maps: &[u32]) -> [u32; 3] {
    if lane_axis > 0 {
        let size = &mut sizes[lane_axis as usize];
        let gates = maps.iter().flat_map(|map| (0..(*size).min(8)).map(move |lane| (map >> (4 * lane)) & 15));
        *size = gates.filter(|&gate| gate != 15).max().map_or(0, |gate| gate + 1);
    }
    sizes
}

impl Params for Pack {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let gates =
            by_gates([self.size0, self.size1, self.size2], self.lane_axis, &[self.map, self.other_map]);
        let source = walk_end(gates, [self.stride0, self.stride1, self.stride2]);
        let last_row = u64::from(self.size0.max(1) - 1) * u64::from(self.out_stride);
        let out = end(self.out_begin, last_row + product(&[self.size1, self.size2]));
        Extents { lens: vec![source, kernel.len_if("WITH_OTHER", source), out], iterations: 0 }
    }
}

impl Params for UnpackGradient {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let sizes = [self.size0, self.size1, self.size2];
        let gates = by_gates(sizes, self.lane_axis, &[self.map]);
        let slices = u64::from(self.slices);
        Extents {
            lens: vec![slices * product(&sizes), walk_end(gates, [self.stride0, self.stride1, self.stride2])],
            iterations: slices,
        }
    }
}

impl Params for ColumnSum {
    fn extents(&self, _: &KernelVariant, groups: [u32; 3]) -> Extents {
        Extents {
            lens: vec![end(self.x_offset, product(&[self.m, self.n])), product(&[groups[1], self.n])],
            iterations: u64::from(self.slice_len.min(self.m)),
        }
    }
}

impl Params for ActivationBackward {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        Extents { lens: vec![u64::from(self.len); 3], iterations: 0 }
    }
}
