// scan/from_inner: for step_backward, dh from a result that the step itself computed from h: a readout, or a second stage of
// the cell.
//
//   dh = d_inner V (+ d_row)
//
// d_inner [B, inner_len] and d_row [B, H] are in the buffer of carry, where the kernel before this one left them.
struct StepBackwardInner {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    width: u32,  // of a row of h
    h_from: u32, // the slot of h(t-1)
    h_begin: u32,
    state_from: u32,
    state_to: u32,
    inner_to: u32,   // where the cell leaves its own inner gradient
    inner_from: u32, // where d_inner is
    inner_len: u32,
    row_from: u32, // where d_row is
    weights_at: u32, // where the member begins in the bindings
    units_at: u32,
    state_at: u32,
    h_at: u32,
    gates_at: u32,
    carry_at: u32,
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       weights: array<f32>;  // [inner_len, H]
@group(0) @binding(1) var<storage, read>       units:   array<f32>;  // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;  // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read>       state:   array<f32>;  // [slots, B, H] read with HAS_STATE
@group(0) @binding(4) var<storage, read>       h:       array<f32>;  // [slots, B, width]
@group(0) @binding(5) var<storage, read_write> gates:   array<Slot>; // [T, B, H]     saved in, d_pre out
@group(0) @binding(6) var<storage, read_write> carry:   array<f32>;  // [B, H], then d_inner and d_row

fn incoming(params: Params, first_row: u32, column: u32, lane: u32) -> array<f32, ROWS> {
    let len = params.inner_len;
    var sums: array<f32, ROWS>;
    for (var k = 0u; k < len; k += LANES) {
        let mine = k + lane;
        let inside = f32(mine < len);
        var inner: array<f32, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            let at = params.inner_from + row * len + min(mine, len - 1u);
            inner[n] = carry[params.carry_at + at] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weight = weights[params.weights_at + min(k + j, len - 1u) * params.hidden + column];
            for (var n = 0u; n < ROWS; n++) {
                sums[n] += spread(inner[n], j) * weight;
            }
        }
    }
    return sums;
}

fn beside(params: Params, row: u32, unit: u32) -> f32 {
    if WITH_ROW {
        return carry[params.carry_at + params.row_from + row * params.hidden + unit];
    }
    return 0.0;
}
