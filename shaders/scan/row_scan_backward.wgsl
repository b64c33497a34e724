// scan/row_scan_backward: many time steps backward of one layer in one dispatch, each as in row_backward, and the product
// after it; a workgroup runs a row of the batch.
//
//   row_step_backward, then through = d_r(t) U^T
//
// d_r stays in workgroup memory, through in carry. U^T is among the fixed numbers, from weights_at on: [H, lanes, H], from the
// unit and lane whose gradient it is to the unit that it read.
// Joined with one of the gates files, with one cell of one stage, and with rows, slots, order, row and row_step_backward.
// Two barriers a step, and those within the sums.
// Mirror: gatefold-reference, scan::row::backward, step after step.
struct RowScanBackward {
    first: u32,  // steps of the scan, from its end, before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,  // the column of this scan's part
    x_at: u32,     // see row_backward
    masks_at: u32,
    stats_at: u32,
    weights_at: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>;  // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       state:   array<f32>;  // [slots, B, H] as in row_backward, like the others
@group(0) @binding(3) var<storage, read>       h:       array<f32>;  // [T + history, B, H]
@group(0) @binding(4) var<storage, read>       d_out:   array<f32>;  // [T, B, d_stride]
@group(0) @binding(5) var<storage, read_write> gates:   array<Slot>; // [T, B, H]
@group(0) @binding(6) var<storage, read_write> normal:  array<Slot>; // [T, B, H]
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;

var<workgroup> d_row: array<Slot, HIDDEN>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x;
    let first = row * HIDDEN;
    let step_len = params.batch * HIDDEN;
    for (var step = 0u; step < params.count; step++) {
        let t = step_at(params, params.steps - 1u - params.first - step);
        let here = t * step_len + first;
        row_step_backward(local, RowBack(
            t,
            row,
            true,
            is_active(t, row),
            here,
            params.x_at + here,
            h_before(params, t) * step_len + first,
            state_before(params, t) * step_len + first,
            (t * params.batch + row) * params.d_stride + params.d_begin,
        ));
        for (var unit = local; unit < HIDDEN; unit += WG_SIZE) {
            if NORM {
                d_row[unit] = normal[here + unit];
            } else {
                d_row[unit] = gates[here + unit];
            }
        }
        workgroupBarrier();
        for (var column = local; column < HIDDEN; column += WG_SIZE) {
            var sum = 0.0;
            for (var unit = 0u; unit < HIDDEN; unit++) {
                let at = params.weights_at + unit * SLOT_LANES * HIDDEN + column;
                for (var lane = 0u; lane < SLOT_LANES; lane++) {
                    sum += lane_of(d_row[unit], lane) * fixed[at + lane * HIDDEN];
                }
            }
            carry[first + column] = sum;
        }
        workgroupBarrier();
    }
}
