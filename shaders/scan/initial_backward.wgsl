// scan/initial_backward: the gradient of the initial h, once the steps are done.
//
//   d_h = d_r(0) U^T
//
// The gradient of the initial state is what step_backward left in carry.
// Joined with recurrent_gradient and what that needs. One invocation per (ROWS rows, one unit). No barriers.
// Mirror: gatefold-reference, scan::initial_backward.
struct InitialBackward {
    batch: u32,  // B
    hidden: u32, // H
    _pad0: u32,
    _pad1: u32,
}

@group(0) @binding(0) var<storage, read>       ut:    array<Gates>; // [H, H]     K-major over the units that receive
@group(0) @binding(1) var<storage, read>       gates: array<Slot>;  // [T, B, H]  d_pre
@group(0) @binding(2) var<storage, read_write> d_h:   array<f32>;   // [B, H]

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let unit = group.x * WG_SIZE + local;
    let first_row = group.y * ROWS;
    let dh = recurrent_gradient(0u, first_row, min(unit, params.hidden - 1u), lane);
    if unit < params.hidden {
        for (var n = 0u; n < ROWS; n++) {
            if first_row + n < params.batch {
                d_h[(first_row + n) * params.hidden + unit] = dh[n];
            }
        }
    }
}
