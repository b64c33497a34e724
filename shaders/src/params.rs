//! The parameters of every kernel, field by field as WGSL has them.
//!
//! They travel as immediates where the device has them, else in a uniform buffer; so every struct is a multiple of 16
//! bytes long and holds nothing but `u32` and `f32`. `layout_tests.rs` compares each with what naga reads in the shader.

use bytemuck::{Pod, Zeroable};

/// A struct that is some kernel's `params`.
pub trait Params: Pod {
    /// Its name in WGSL.
    const WGSL_NAME: &'static str;
    /// Its fields in order, name and type; each is four bytes long.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// Declares structs of four-byte fields and what they are called in WGSL, so that a name is written once.
macro_rules! params {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }

        impl Params for $name {
            const WGSL_NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), stringify!($kind))),*];
        }
    )*};
}

params! {
    /// One time step forward; see `scan/step_forward.wgsl`.
    StepForward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that the product reads.
        r_slot: u32,
        /// The first column that it reads.
        r_begin: u32,
        /// How many columns it reads.
        r_len: u32,
        /// The slot that its second segment reads.
        skip_slot: u32,
        /// The first column that the second segment reads.
        skip_begin: u32,
        /// How many columns the second segment reads.
        skip_len: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of h that receives the result.
        h_to: u32,
        /// The column of the result.
        to_begin: u32,
        /// The slot of state in front of the step.
        state_from: u32,
        /// The slot of state behind the step.
        state_to: u32,
    }

    /// One time step backward; see `scan/from_recurrence.wgsl`.
    StepBackward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of state in front of the step.
        state_from: u32,
        /// The slot of state behind the step.
        state_to: u32,
        /// Where in the buffer of carry the inner gradient goes.
        inner_to: u32,
        /// The step that follows in the scan, or `u32::MAX`.
        next: u32,
        /// The step that reads this one by a skip, or `u32::MAX`.
        skip_next: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
        /// Slots in front of the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
    }

    /// One time step backward, behind a readout or a second stage; see `scan/from_inner.wgsl`.
    StepBackwardInner {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Elements of a row of h.
        width: u32,
        /// The slot of h that holds h(t-1).
        h_from: u32,
        /// The column of h(t-1).
        h_begin: u32,
        /// The slot of state in front of the step.
        state_from: u32,
        /// The slot of state behind the step.
        state_to: u32,
        /// Where in the buffer of carry the inner gradient goes.
        inner_to: u32,
        /// Where in the buffer of carry the inner gradient is.
        inner_from: u32,
        /// Its width.
        inner_len: u32,
        /// Where in the buffer of carry the gradient of h by the recurrence is.
        row_from: u32,
    }

    /// The gradient of a readout; see `scan/readout_backward.wgsl`.
    ReadoutBackward {
        /// The step.
        t: u32,
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Columns.
        columns: u32,
        /// Columns of the part that a skip reads.
        skip_columns: u32,
        /// Columns with a value in each slot of the history.
        own: u32,
        /// The first column of the readout.
        readout_from: u32,
        /// The step that follows in the scan, or `u32::MAX`.
        next: u32,
        /// The step that reads this one by a skip, or `u32::MAX`.
        skip_next: u32,
        /// Elements of a row of d_out.
        d_stride: u32,
        /// The column of d_out at which the scan begins.
        d_begin: u32,
        /// Slots in front of the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Where in the buffer of carry the inner gradient goes.
        inner_to: u32,
        /// Where the gradients of the final values are in the buffer of carry.
        ends_at: u32,
    }

    /// The gradient of the initial h; see `scan/initial_backward.wgsl`.
    InitialBackward {
        /// B
        batch: u32,
        /// H
        hidden: u32,
        /// Columns.
        columns: u32,
        /// Columns of the part that a skip reads.
        skip_columns: u32,
        /// Columns with a value in each slot of the history.
        own: u32,
        /// Slots in front of the first step.
        history: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// 1 where carry is part of the gradient of h.
        carries_h: u32,
        /// Where the gradients of the final values are in the buffer of carry.
        ends_at: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Initial values of rows; see `scan/start_rows.wgsl`.
    StartRows {
        /// The first slot.
        first_slot: u32,
        /// How many slots.
        slots: u32,
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// Slots in front of the first step.
        history: u32,
        /// Slots that have a value.
        given: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Final values of rows; see `scan/final_rows.wgsl`.
    FinalRows {
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// Slots in front of the first step.
        history: u32,
        /// Slots that have a value.
        given: u32,
        /// T
        steps: u32,
        /// 1 for a reverse scan.
        reverse: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// A scan's part of the output; see `scan/scan_output.wgsl`.
    ScanOutput {
        /// T
        steps: u32,
        /// B
        batch: u32,
        /// Elements of a row of h.
        width: u32,
        /// The first column in a row of h.
        begin: u32,
        /// Columns.
        columns: u32,
        /// The first slot.
        first_slot: u32,
        /// Elements of a row of out.
        out_width: u32,
        /// The first column in a row of out.
        out_begin: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// The gradient of peepholes; see `scan/peephole_gradient.wgsl`.
    PeepholeGradient {
        /// Rows of all steps.
        rows: u32,
        /// H
        hidden: u32,
        /// The first row of state in front of step 0.
        before: u32,
        /// The first row of state behind step 0.
        after: u32,
        /// Rows of one slice.
        slice_len: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

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

    /// The parts of the gradient's norm; see `optim/gradient_norm.wgsl`.
    GradientNorm {
        /// How many pieces there are.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// The largest element allowed, 0 for any.
        clip_value: f32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// The gradient's norm; see `optim/finish_norm.wgsl`.
    FinishNorm {
        /// How many partials there are.
        partials: u32,
        /// The largest norm allowed, 0 for any.
        clip: f32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Stochastic gradient descent; see `optim/sgd.wgsl`.
    Sgd {
        /// The first element.
        offset: u32,
        /// Elements.
        len: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// 1 for Nesterov's momentum.
        nesterov: u32,
        /// By which the learning rate is multiplied.
        rate_factor: f32,
        /// How much of the old momentum stays.
        momentum: f32,
        /// Weight decay.
        decay: f32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// Adam and AdamW; see `optim/adam.wgsl`.
    Adam {
        /// The first element.
        offset: u32,
        /// Elements.
        len: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// By which the learning rate is multiplied.
        rate_factor: f32,
        /// How much of the old first moment stays.
        beta1: f32,
        /// How much of the old second moment stays.
        beta2: f32,
        /// Added to the denominator.
        epsilon: f32,
        /// Weight decay.
        decay: f32,
    }

    /// RMSprop; see `optim/rmsprop.wgsl`.
    RmsProp {
        /// The first element.
        offset: u32,
        /// Elements.
        len: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// By which the learning rate is multiplied.
        rate_factor: f32,
        /// How much of the old moments stays.
        alpha: f32,
        /// Added to the denominator.
        epsilon: f32,
        /// How much of the old momentum stays.
        momentum: f32,
        /// Weight decay.
        decay: f32,
    }

    /// What the host tells every update; see `optim/status.wgsl`.
    Hyper {
        /// The update, from 1.
        step: u32,
        /// The learning rate.
        learning_rate: f32,
        /// `1 - beta1^step`
        correction1: f32,
        /// `1 - beta2^step`
        correction2: f32,
        /// The largest element of the gradient, 0 for any.
        clip_value: f32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }

    /// What the device remembers across updates; see `optim/status.wgsl`.
    Status {
        /// The first update whose gradient was not finite, or 0.
        failed_step: u32,
        /// The layer nearest the loss whose gradient was not finite then.
        failed_layer: u32,
        /// The norm of the last gradient.
        norm: f32,
        /// By which clipping shrank it.
        scale: f32,
    }

    /// A stretch of the gradient within one layer; see `optim/gradient_norm.wgsl`.
    Piece {
        /// Its first element.
        offset: u32,
        /// Its elements.
        len: u32,
        /// Its layer.
        layer: u32,
        #[doc(hidden)]
        _pad: u32,
    }

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
