// scan/step_forward: one time step of one layer, recurrent product and cell in one dispatch.
//
//   r = h(t-1) U        (h(t), state(t), saved(t)) = cell_forward(pre_x(t), r, h(t-1), state(t-1))
//
// Joined with one cell, which gives Gates and cell_forward, and with one of the lanes files.
// h and state are rings of slots of [B, H]; the step reads slot `*_from` and writes slot `*_to`. Training keeps a slot
// per step; inference keeps one of state.
// One invocation per (ROWS rows, one unit); a workgroup shares its rows. No barriers. Writes each element of step t once.
// Mirror: gatefold-reference, scan::step_forward.
struct StepForward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    h_from: u32,
    h_to: u32,
    state_from: u32,
    state_to: u32,
    _pad: u32,
}

@group(0) @binding(0) var<storage, read>       u:     array<Gates>; // [H, H]         K-major, packed
@group(0) @binding(1) var<storage, read_write> gates: array<Slot>;  // [T, B, H]      pre_x in, saved out
@group(0) @binding(2) var<storage, read_write> state: array<f32>;   // [slots, B, H]
@group(0) @binding(3) var<storage, read_write> h:     array<f32>;   // [slots, B, H]

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let unit = group.x * WG_SIZE + local;
    let column = min(unit, hidden - 1u);
    let first_row = group.y * ROWS;

    var r: array<Gates, ROWS>;
    for (var k = 0u; k < hidden; k += LANES) {
        let mine = k + lane;
        let inside = f32(mine < hidden);
        var h_prev: array<f32, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            h_prev[n] = h[params.h_from * step_len + row * hidden + min(mine, hidden - 1u)] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weights = u[min(k + j, hidden - 1u) * hidden + column];
            for (var n = 0u; n < ROWS; n++) {
                r[n] += spread(h_prev[n], j) * weights;
            }
        }
    }

    if unit < hidden {
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch {
                let at = row * hidden + unit;
                let h_prev = h[params.h_from * step_len + at];
                let state_prev = state[params.state_from * step_len + at];
                let stepped = cell_forward(gates[params.t * step_len + at], r[n], h_prev, state_prev);
                if SAVE {
                    gates[params.t * step_len + at] = stepped.saved;
                }
                state[params.state_to * step_len + at] = stepped.state;
                h[params.h_to * step_len + at] = stepped.h;
            }
        }
    }
}
