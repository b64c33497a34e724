//! Params of matrix products, packing and sums.

use super::Params;
use crate::extents::{end, product, walk_end};
use crate::{Extents, JOINED, KernelId, KernelVariant, STAGED_SIDE};

params! {
    /// A matrix product; see `linear/matmul.wgsl` and `linear/matmul_staged.wgsl`.
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
        /// Jobs in the table.
        jobs: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// Outputs that are bound, 1 to [`JOINED`](crate::JOINED).
        outs: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// A tensor to pack, a row of the kernel's table.
    PackJob {
        /// Its first workgroup.
        first_group: u32,
        /// Length of the packed tensor's first axis.
        size0: u32,
        /// Length of its second axis.
        size1: u32,
        /// Length of its third axis.
        size2: u32,
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
        /// The first element of the source.
        from_begin: u32,
        /// The first element of the other source, in the same buffer; [`NO_OTHER`](crate::NO_OTHER) for none.
        other: u32,
        /// The output that it is packed into, by its number.
        out_number: u32,
        /// The first element there.
        out_begin: u32,
        /// Elements of the output from one index of the first axis to the next.
        out_stride: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Packed gradients put back; see `linear/unpack_gradient.wgsl`.
    UnpackGradient {
        /// Jobs in the table.
        jobs: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// Sources that are bound, 1 to [`JOINED`](crate::JOINED).
        sources: u32,
        /// The most slices of a job.
        most_slices: u32,
    }

    /// A gradient to put back, a row of the kernel's table.
    UnpackJob {
        /// Its first workgroup.
        first_group: u32,
        /// Length of the packed tensor's first axis.
        size0: u32,
        /// Length of its second axis.
        size1: u32,
        /// Length of its third axis.
        size2: u32,
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
        /// The source that holds it, by its number.
        source_number: u32,
        /// The parameter's first element among the gradients.
        d_begin: u32,
        /// Its elements.
        d_len: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
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
        Extents {
            lens: vec![
                end(self.a_offset, walk_end([self.m, self.k, 1], [self.a_row_stride, self.a_k_stride, 0])),
                b * u64::from(width),
                kernel.len_if("BIAS", columns),
                kernel.len_if("SKIP_ROWS", batch).max(kernel.len_if("SKIP_INNER", batch)),
                product(&[groups[2], self.m]) * columns,
            ],
            iterations: self.iterations(kernel),
        }
    }

    /// Without what lies before the first element of either side.
    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        let mut reached = self.extents(kernel, groups).lens;
        reached[0] -= u64::from(self.a_offset);
        reached[1] -= product(&[self.b_offset, kernel.columns.width()]);
        reached
    }
}

impl MatMul {
    fn iterations(&self, kernel: &KernelVariant) -> u64 {
        let constant = |name: &str| u64::from(kernel.constant(name));
        let (walk, per_k) = (u64::from(self.slice_len.min(self.k)), u64::from(kernel.iterations_per_k()));
        if kernel.id == KernelId::MatMulStaged {
            let (rows, columns) = (constant("ROW_QUADS"), constant("COLUMN_QUADS"));
            let tile_rows = 4 * u64::from(STAGED_SIDE) * rows;
            let first = constant("SKIP_ROWS") * tile_rows + rows + columns;
            let whole_blocks = walk.next_multiple_of(u64::from(kernel.inner_block()));
            return whole_blocks * per_k + first + rows * (1 + 4 * (1 + columns));
        }
        let (rows, blocks) = (constant("ROWS"), constant("COLUMNS"));
        walk * per_k + blocks * (1 + rows) + rows
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

/// The extents of kernels that bind up to [`JOINED`] buffers, of which `bound` are touched.
fn joined(jobs: u32, bound: u32) -> impl Iterator<Item = u64> {
    (0..JOINED as u32).map(move |number| u64::from(jobs > 0 && number < bound))
}

impl PackJob {
    /// The elements of the source, from its begin on, and those of the output, from the start of its buffer, that the job
    /// needs.
    pub fn reach(&self) -> (u64, u64) {
        let sizes = [self.size0, self.size1, self.size2];
        let gates = by_gates(sizes, self.lane_axis, &[self.map, self.other_map]);
        let source = walk_end(gates, [self.stride0, self.stride1, self.stride2]);
        let last_row = u64::from(self.size0.max(1) - 1) * u64::from(self.out_stride);
        (source, end(self.out_begin, last_row + product(&[self.size1, self.size2])))
    }
}

impl Params for Pack {
    /// The jobs lie in a buffer, so their reach is not known here: the kernel bounds itself by the lengths of the others.
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let table = u64::from(self.jobs) * size_of::<PackJob>() as u64 / 4;
        let lens = [table, u64::from(self.jobs.min(1))].into_iter().chain(joined(self.jobs, self.outs));
        Extents {
            lens: lens.collect(),
            iterations: u64::from(self.jobs) + u64::from(kernel.constant("EACH")),
        }
    }
}

impl UnpackJob {
    /// The elements of the source and of the parameter that the job needs.
    pub fn reach(&self) -> (u64, u64) {
        let sizes = [self.size0, self.size1, self.size2];
        let gates = by_gates(sizes, self.lane_axis, &[self.map]);
        let d = walk_end(gates, [self.stride0, self.stride1, self.stride2]);
        (u64::from(self.slices) * product(&sizes), d)
    }
}

impl Params for UnpackGradient {
    /// As for [`Pack`].
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let table = u64::from(self.jobs) * size_of::<UnpackJob>() as u64 / 4;
        let lens =
            [table].into_iter().chain(joined(self.jobs, self.sources)).chain([u64::from(self.jobs.min(1))]);
        let each = u64::from(kernel.constant("EACH"));
        let iterations = u64::from(self.jobs) + each * (1 + u64::from(self.most_slices));
        Extents { lens: lens.collect(), iterations }
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
