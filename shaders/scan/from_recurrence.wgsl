// scan/from_recurrence: for step_backward, dh from the steps that follow in the scan, from the layer's output, and with
// FINALS from the final h.
struct StepBackward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    width: u32,  // of a row of h
    h_from: u32, // the slot of h(t-1)
    h_begin: u32,
    state_from: u32,
    state_to: u32,
    inner_to: u32,  // see from_inner
    next: u32,      // the step that follows in the scan, or NO_STEP
    skip_next: u32, // the step that reads this one's h by a skip, or NO_STEP
    d_stride: u32,  // of a row of d_out
    d_begin: u32,   // the column of this scan's part
    history: u32,
    steps: u32, // T
    reverse: u32,
    ut_at: u32, // where the member begins in the bindings
    units_at: u32,
    state_at: u32,
    h_at: u32,
    d_out_at: u32,
    gates_at: u32,
    carry_at: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       ut:      array<Gates>; // [SEGMENTS, H, H]  K-major over the receiving units
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read>       state:   array<f32>;   // [slots, B, H] read with HAS_STATE
@group(0) @binding(4) var<storage, read>       h:       array<f32>;   // [slots, B, width]
@group(0) @binding(5) var<storage, read>       d_out:   array<f32>;   // [T, B, d_stride]
@group(0) @binding(6) var<storage, read_write> gates:   array<Slot>;  // [T, B, H]     saved in, d_pre out
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;   // [B, H], then with FINALS [history, B, H] of the final h

fn incoming(params: Params, first_row: u32, column: u32, lane: u32) -> array<f32, ROWS> {
    var sums: array<f32, ROWS>;
    var steps: array<u32, ROWS>;
    if params.next != NO_STEP {
        for (var n = 0u; n < ROWS; n++) {
            steps[n] = params.next;
        }
        sums = recurrent_gradient(params, first_row, column, lane, steps, 0u, params.hidden, sums);
    }
    if SEGMENTS > 1u && params.skip_next != NO_STEP {
        for (var n = 0u; n < ROWS; n++) {
            steps[n] = params.skip_next;
        }
        let ut_begin = params.hidden * params.hidden;
        sums = recurrent_gradient(params, first_row, column, lane, steps, ut_begin, params.hidden, sums);
    }
    return sums;
}

fn beside(params: Params, row: u32, unit: u32) -> f32 {
    return from_outside(params, params.t, row, unit);
}
