//! Params of embeddings, softmax and dropout, and of kernels that move rows and elements.

use super::Params;
use crate::extents::{end, product, walk_end};
use crate::{Extents, KernelId, KernelVariant};

params! {
    /// Rows by token; see `sequence/gather_rows.wgsl`.
    GatherRows {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// Rows of the table.
        tokens: u32,
        /// The first number.
        numbers_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// A pass of sorting rows by token; see `sequence/sort_rows.wgsl`.
    SortRows {
        /// Rows.
        rows: u32,
        /// Rows of the table.
        tokens: u32,
        /// The first number.
        numbers_offset: u32,
        /// Bits below the digit.
        shift: u32,
    }

    /// The places that rows move to; see `sequence/row_places.wgsl`.
    RowPlaces {
        /// Blocks of rows.
        blocks: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// Sums of rows of one token; see `sequence/runs.wgsl`.
    Runs {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// Rows of the table.
        tokens: u32,
        /// The first number.
        numbers_offset: u32,
        /// The first row of d.
        d_offset: u32,
        /// Places that are added up in one go.
        stretch: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Softmax of rows; see `sequence/softmax.wgsl`.
    Softmax {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// The first element of x.
        x_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
    }

    /// The gradient of the softmax; see `sequence/softmax_backward.wgsl`.
    SoftmaxBackward {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// The first element of y.
        y_offset: u32,
        /// The first element of d_y.
        d_y_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// Layer normalisation of rows, its backward or its tangent; see `sequence/normalise.wgsl`.
    NormaliseRows {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// The first element of x.
        x_offset: u32,
        /// The first element of d_y, or of x_dot.
        d_offset: u32,
        /// Added to the variance.
        epsilon: f32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Pooling over time, or its backward; see `sequence/pool_rows.wgsl`.
    Pool {
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// Values of a row.
        width: u32,
        /// The first element of x.
        x_offset: u32,
        /// The first of the values, or of d_y.
        v_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Dropout; see `sequence/dropout.wgsl`.
    Dropout {
        /// Elements.
        len: u32,
        /// The first element of x.
        x_offset: u32,
        /// The index of the layer.
        layer: u32,
        /// The share of zeros.
        rate: f32,
        /// Factor on the elements that are kept: `1 / (1 - rate)`.
        scale: f32,
        /// Workgroups along x.
        groups_x: u32,
        /// Elements of a step; 0 if x is whole, wherever the sequence is cut.
        step_len: u32,
        #[doc(hidden)]
        _pad0: u32,
    }

    /// A sum; see `sequence/add.wgsl`.
    Add {
        /// Elements.
        len: u32,
        /// The first element of a.
        a_offset: u32,
        /// The first element of b.
        b_offset: u32,
        /// The first element of out.
        out_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// Zeros past the end of rows; see `sequence/mask_rows.wgsl`.
    MaskRows {
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// Values of a row.
        width: u32,
        /// The first element of x.
        x_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// The windows that a convolution reads, or their gradient; see `sequence/convolution.wgsl`.
    Convolution {
        /// T
        steps: u32,
        /// T', the output's.
        out_steps: u32,
        /// B
        batch: u32,
        /// Values of a row.
        width: u32,
        /// K, steps that an output step reads.
        weights: u32,
        /// Steps from one output step to the next.
        stride: u32,
        /// Steps from one that an output step reads to the next.
        dilation: u32,
        /// Steps of padding before a row.
        left: u32,
        /// The first element of x, or of d.
        offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Lengths after a convolution; see `sequence/convolved_lengths.wgsl`.
    ConvolvedLengths {
        /// B
        batch: u32,
        /// Steps of padding before and after a row.
        padding: u32,
        /// Steps from the first to the last that an output step reads.
        reach: u32,
        /// Steps from one output step to the next.
        stride: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// The last steps of rows; see `sequence/row_ends.wgsl`.
    RowEnds {
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// Values of a row.
        width: u32,
        /// The first element of x, or of d_y.
        offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// A block of columns; see `sequence/copy_block.wgsl`.
    CopyBlock {
        /// Rows.
        rows: u32,
        /// Values of a row.
        width: u32,
        /// The first element that is read.
        from_offset: u32,
        /// From one row that is read to the next.
        from_stride: u32,
        /// The first element that is written.
        to_offset: u32,
        /// From one row that is written to the next.
        to_stride: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// A block repeated; see `sequence/repeat.wgsl`.
    Repeat {
        /// Elements.
        len: u32,
        /// Elements of the block.
        period: u32,
        /// The first element of x.
        x_offset: u32,
        /// The first element of out.
        out_offset: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// A constant; see `sequence/fill.wgsl`.
    Fill {
        /// Elements.
        len: u32,
        /// The first element.
        offset: u32,
        /// The constant.
        value: f32,
        /// Workgroups along x.
        groups_x: u32,
    }
}

impl Params for GatherRows {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let numbers = end(self.numbers_offset, u64::from(self.rows));
        Extents {
            lens: vec![numbers, product(&[self.tokens, self.width]), product(&[self.rows, self.width])],
            iterations: 0,
        }
    }
}

impl Params for SortRows {
    fn extents(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Extents {
        let (rows, size) = (u64::from(self.rows), u64::from(kernel.constant("WG_SIZE")));
        let numbers = end(self.numbers_offset, rows);
        let order = if kernel.constant("FIRST") == 1 { 0 } else { rows };
        let lens = match kernel.id {
            KernelId::PlaceRows => vec![numbers, order, (rows.div_ceil(size) + 1) * size, rows],
            _ => vec![numbers, order, u64::from(groups[0]) * size],
        };
        Extents { lens, iterations: size }
    }
}

impl Params for RowPlaces {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (blocks, size) = (u64::from(self.blocks), u64::from(kernel.constant("WG_SIZE")));
        Extents { lens: vec![(blocks + 1) * size], iterations: blocks + size }
    }
}

impl Params for Runs {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (rows, values) = (u64::from(self.rows), product(&[self.rows, self.width]));
        let numbers = end(self.numbers_offset, rows);
        match kernel.id {
            KernelId::AddRuns => Extents {
                lens: vec![numbers, rows, values, product(&[self.tokens, self.width])],
                iterations: u64::from(self.rows.div_ceil(self.stretch.max(1))) + 1,
            },
            _ => Extents {
                lens: vec![numbers, rows, end(self.d_offset, values), values],
                iterations: u64::from(self.stretch),
            },
        }
    }
}

impl Params for Softmax {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (len, team) = (product(&[self.rows, self.width]), kernel.constant("TEAM"));
        Extents {
            lens: vec![end(self.x_offset, len), len],
            iterations: 3 * u64::from(self.width.div_ceil(team)) + 2 * u64::from(team),
        }
    }
}

impl Params for SoftmaxBackward {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (len, team) = (product(&[self.rows, self.width]), kernel.constant("TEAM"));
        Extents {
            lens: vec![end(self.y_offset, len), end(self.d_y_offset, len), len],
            iterations: 2 * u64::from(self.width.div_ceil(team)) + u64::from(team),
        }
    }
}

impl Params for NormaliseRows {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (len, width) = (product(&[self.rows, self.width]), u64::from(self.width));
        let team = kernel.constant("TEAM");
        let (x, d) = (end(self.x_offset, len), end(self.d_offset, len));
        let (lens, loops) = match kernel.id {
            KernelId::NormaliseRows => (vec![x, width, width, len], (3, 2)),
            KernelId::NormaliseRowsBackward => {
                let products = if kernel.constant("PRODUCTS") == 1 { len } else { 0 };
                (vec![x, width, d, len, products], (4, 4))
            }
            _ => (vec![x, width, d, width, width, len], (4, 4)),
        };
        let (walks, sums) = loops;
        Extents { lens, iterations: walks * u64::from(self.width.div_ceil(team)) + sums * u64::from(team) }
    }
}

impl Params for Pool {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (step, batch) = (product(&[self.batch, self.width]), u64::from(self.batch));
        let all = u64::from(self.steps) * step;
        let lengths = if kernel.constant("LENGTHS") == 1 { batch } else { 0 };
        let x = if kernel.constant("MEAN") == 1 { 0 } else { end(self.x_offset, all) };
        let lens = match kernel.id {
            KernelId::PoolBackward => vec![lengths, x, end(self.v_offset, step), all],
            _ => vec![lengths, x, end(self.v_offset, all), step],
        };
        Extents { lens, iterations: u64::from(self.steps) }
    }
}

impl Params for Dropout {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let len = u64::from(self.len);
        Extents { lens: vec![4, end(self.x_offset, len), len], iterations: 0 }
    }
}

impl Params for Add {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let [a, b, out] =
            [self.a_offset, self.b_offset, self.out_offset].map(|offset| end(offset, u64::from(self.len)));
        let b = if kernel.constant("INTO") == 1 { 0 } else { b };
        Extents { lens: vec![a, b, out], iterations: 0 }
    }
}

impl Params for MaskRows {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let x = end(self.x_offset, product(&[self.steps, self.batch, self.width]));
        Extents { lens: vec![u64::from(self.batch), x], iterations: 0 }
    }
}

impl Params for RowEnds {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let (step, batch) = (product(&[self.batch, self.width]), u64::from(self.batch));
        let all = u64::from(self.steps) * step;
        let lens = match kernel.id {
            KernelId::LastRowsBackward => vec![batch, end(self.offset, step), all],
            _ => vec![batch, end(self.offset, all), step],
        };
        Extents { lens, iterations: 0 }
    }
}

impl Params for Convolution {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let lengths = kernel.len_if("LENGTHS", u64::from(self.batch));
        let x = product(&[self.steps, self.batch, self.width]);
        let read = product(&[self.out_steps, self.batch, self.width, self.weights]);
        match kernel.id {
            KernelId::Fold => Extents {
                lens: vec![lengths, end(self.offset, read), x],
                iterations: u64::from(self.weights),
            },
            _ => Extents { lens: vec![lengths, end(self.offset, x), read], iterations: 0 },
        }
    }
}

impl Params for ConvolvedLengths {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        Extents { lens: vec![u64::from(self.batch); 2], iterations: 0 }
    }
}

impl Params for CopyBlock {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let block = |offset, stride| end(offset, walk_end([self.rows, self.width, 1], [stride, 1, 0]));
        Extents {
            lens: vec![block(self.from_offset, self.from_stride), block(self.to_offset, self.to_stride)],
            iterations: 0,
        }
    }
}

impl Params for Repeat {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        let (x, out) = (end(self.x_offset, self.period.into()), end(self.out_offset, self.len.into()));
        Extents { lens: vec![x, out], iterations: 0 }
    }
}

impl Params for Fill {
    fn extents(&self, _: &KernelVariant, _: [u32; 3]) -> Extents {
        Extents { lens: vec![end(self.offset, u64::from(self.len))], iterations: 0 }
    }
}
