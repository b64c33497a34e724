//! Params of recurrent steps, and of what goes before and after them.

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
}
