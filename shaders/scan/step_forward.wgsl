// scan/step_forward: one time step of one layer, recurrent product and cell in one dispatch.
//
//   r = h(t-1) U (+ h(t-k) S)        (h(t), state(t), saved(t)) = cell_forward(x(t), r, h(t-1), state(t-1))
//
// h and state are rings of slots; the step reads slot `*_from` and writes slot `*_to`. Training keeps a slot per step;
// inference keeps a single slot of state. A row of h may hold more than h, [width] in all. The product reads a part of one
// slot, with SEGMENTS 2 also a part of another; the cell's result goes to column to_begin.
// Joined with one of the gates files, with one cell, with rows and units, and with one of the lanes files.
// One invocation per (ROWS rows, one unit); a workgroup shares its rows. No barriers. Writes each element of step t once,
// and nothing in rows that are not active.
// Mirror: gatefold-reference, scan::step_forward.
struct StepForward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    width: u32,  // of a row of h
    r_slot: u32, // of the product
    r_begin: u32,
    r_len: u32,
    skip_slot: u32, // of its second segment
    skip_begin: u32,
    skip_len: u32,
    h_from: u32,
    h_begin: u32, // the column of h(t-1)
    h_to: u32,
    to_begin: u32, // the column of the result
    state_from: u32,
    state_to: u32,
    u_at: u32, // where the member begins in the bindings
    units_at: u32,
    gates_at: u32,
    state_at: u32,
    h_at: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       u:       array<Product>; // [r_len + skip_len, H]  K-major, packed
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>;  // [T, B, H]     x in, saved out
@group(0) @binding(4) var<storage, read_write> state:   array<f32>;   // [slots, B, H] touched with HAS_STATE
@group(0) @binding(5) var<storage, read_write> h:       array<f32>;   // [slots, B, width]

// Adds to r the product of a part of a slot of h and the rows of u from u_begin on.
fn recurrent(
    params: Params, first_row: u32, column: u32, lane: u32, slot: u32, begin: u32, len: u32, u_begin: u32,
    before: array<Product, ROWS>,
) -> array<Product, ROWS> {
    var r = before;
    for (var k = 0u; k < len; k += LANES) {
        let mine = k + lane;
        let inside = f32(mine < len);
        var h_prev: array<f32, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            let at = (slot * params.batch + row) * params.width + begin + min(mine, len - 1u);
            h_prev[n] = h[params.h_at + at] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weights = u[params.u_at + (u_begin + min(k + j, len - 1u)) * params.hidden + column];
            for (var n = 0u; n < ROWS; n++) {
                r[n] += spread(h_prev[n], j) * weights;
            }
        }
    }
    return r;
}

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let params = member(group.z);
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let unit = group.x * WG_SIZE + local;
    let column = min(unit, hidden - 1u);
    let first_row = group.y * ROWS;

    var r: array<Product, ROWS>;
    if any_active(params, params.t, first_row) {
        r = recurrent(params, first_row, column, lane, params.r_slot, params.r_begin, params.r_len, 0u, r);
        if SEGMENTS > 1u {
            r = recurrent(
                params, first_row, column, lane, params.skip_slot, params.skip_begin, params.skip_len, params.r_len, r,
            );
        }
    }

    if unit < hidden {
        let own = own_of(params, unit);
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch && is_active(params.t, row) {
                let at = row * hidden + unit;
                let from_at = (params.h_from * params.batch + row) * params.width + params.h_begin + unit;
                let h_prev = h[params.h_at + from_at];
                var state_prev = 0.0;
                if HAS_STATE {
                    state_prev = state[params.state_at + params.state_from * step_len + at];
                }
                var x: Gates;
                if READS_GATES {
                    x = gates[params.gates_at + params.t * step_len + at];
                }
                let stepped = cell_forward(x, r[n], h_prev, state_prev, own);
                if SAVE {
                    gates[params.gates_at + params.t * step_len + at] = stepped.saved;
                }
                if HAS_STATE {
                    state[params.state_at + params.state_to * step_len + at] = stepped.state;
                }
                let to_at = (params.h_to * params.batch + row) * params.width + params.to_begin + unit;
                h[params.h_at + to_at] = stepped.h;
            }
        }
    }
}
