// scan/step_backward: one time step backward of one layer: the product that carries dh back, then the cell.
//
//   dh = d_out(t) + d_r(t+1) U^T        (d_pre(t), carry) = cell_backward(saved(t), ..., dh, carry)
//
// At the last step, where there is no d_r(t+1), d_h holds the gradient of the final h.
// Joined with recurrent_gradient and what that needs. h and state hold the initial values in slot 0, step t in slot t + 1.
// One invocation per (ROWS rows, one unit); a workgroup shares its rows. No barriers. Writes each element of step t once.
// Mirror: gatefold-reference, scan::step_backward.
struct StepBackward {
    t: u32,
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // H
}

@group(0) @binding(0) var<storage, read>       ut:    array<Gates>; // [H, H]       K-major over the units that receive
@group(0) @binding(1) var<storage, read>       state: array<f32>;   // [T+1, B, H]
@group(0) @binding(2) var<storage, read>       h:     array<f32>;   // [T+1, B, H]
@group(0) @binding(3) var<storage, read>       d_out: array<f32>;   // [T, B, H]
@group(0) @binding(4) var<storage, read>       d_h:   array<f32>;   // [B, H]       gradient of the final h
@group(0) @binding(5) var<storage, read_write> gates: array<Slot>;  // [T, B, H]    saved in, d_pre out
@group(0) @binding(6) var<storage, read_write> carry: array<f32>;   // [B, H]       gradient of the state

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let unit = group.x * WG_SIZE + local;
    let column = min(unit, hidden - 1u);
    let first_row = group.y * ROWS;
    let last = params.t + 1u == params.steps;

    var through: array<f32, ROWS>;
    if !last {
        through = recurrent_gradient(params.t + 1u, first_row, column, lane);
    }

    if unit < hidden {
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch {
                let at = row * hidden + unit;
                let before = params.t * step_len + at;
                let after = before + step_len;
                var dh = d_out[before] + through[n];
                if last {
                    dh += d_h[at];
                }
                let grad = cell_backward(gates[before], h[before], state[before], state[after], dh, carry[at]);
                gates[before] = grad.pre;
                carry[at] = grad.carry;
            }
        }
    }
}
