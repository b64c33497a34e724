//! Params of embeddings, softmax, dropout, and of rows and elements moved about.

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

    /// Where rows go; see `sequence/row_places.wgsl`.
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
        /// Places that are added up at a time.
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

    /// Its gradient; see `sequence/softmax_backward.wgsl`.
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

    /// Random zeros; see `sequence/dropout.wgsl`.
    Dropout {
        /// Elements.
        len: u32,
        /// The first element of x.
        x_offset: u32,
        /// The index of the layer.
        layer: u32,
        /// The share of zeros.
        rate: f32,
        /// What kept elements are multiplied by: `1 / (1 - rate)`.
        scale: f32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
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

    /// Zeros behind the end of rows; see `sequence/mask_rows.wgsl`.
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

    /// Elements again and again; see `sequence/repeat.wgsl`.
    Repeat {
        /// Elements.
        len: u32,
        /// Elements before they begin again.
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

    /// One number everywhere; see `sequence/fill.wgsl`.
    Fill {
        /// Elements.
        len: u32,
        /// The first element.
        offset: u32,
        /// The number.
        value: f32,
        /// Workgroups along x.
        groups_x: u32,
    }
}
