// scan/step_tangent: the tangent of one time step of one layer, recurrent product and cell in one dispatch.
//
//   r = h_dot(t-1) U (+ h_dot(t-k) S)        (h_dot(t), state_dot(t)) = cell_tangent(saved(t), x_dot(t), r, ...)
//
// A row of dots holds the tangents of a row of h, [width], then those of the state, [H] with HAS_STATE; its slots are those
// of h. The product reads a part of one slot of dots, with SEGMENTS 2 also a part of another. The slot of h less
// state_back is that of the state. What forward left stays as it is.
// Joined with one of the gates files, with one cell, with rows and units, and with one of the lanes files.
// One invocation per (ROWS rows, one unit); a workgroup shares its rows. No barriers. Writes each element of step t once,
// and nothing in rows that are not active; x only with SAVE.
// Mirror: gatefold-reference, scan::kernel::step_forward in dual numbers.
struct StepTangent {
    t: u32,
    batch: u32,      // B
    hidden: u32,     // H
    width: u32,      // of a row of h
    dot_width: u32,  // of a row of dots
    r_slot: u32,     // of the product
    r_begin: u32,
    r_len: u32,
    skip_slot: u32,  // of its second segment
    skip_begin: u32,
    skip_len: u32,
    h_from: u32,
    h_begin: u32,    // the column of h(t-1)
    h_to: u32,
    to_begin: u32,   // the column of the result
    state_back: u32,
    units_at: u32, // where the unit's own numbers begin
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       u:       array<Product>; // [r_len + skip_len, H]  K-major, packed
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [2 UNITS, H]  the numbers, then their tangents
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read>       gates:   array<Slot>;  // [T, B, H]     saved
@group(0) @binding(4) var<storage, read>       state:   array<f32>;   // [slots, B, H] read with HAS_STATE
@group(0) @binding(5) var<storage, read>       h:       array<f32>;   // [slots, B, width]
@group(0) @binding(6) var<storage, read_write> x:       array<Slot>;  // [T, B, H]     the tangents of the sums over the input
@group(0) @binding(7) var<storage, read_write> dots:    array<f32>;   // [slots, B, dot_width]

// Adds to r the product of a part of a slot of dots and the rows of u from u_begin on.
fn recurrent(
    params: Params, first_row: u32, column: u32, lane: u32, slot: u32, begin: u32, len: u32, u_begin: u32,
    before: array<Product, ROWS>,
) -> array<Product, ROWS> {
    var r = before;
    for (var k = 0u; k < len; k += LANES) {
        let mine = k + lane;
        let inside = f32(mine < len);
        var read: array<f32, ROWS>;
        for (var n = 0u; n < ROWS; n++) {
            let row = min(first_row + n, params.batch - 1u);
            read[n] = dots[(slot * params.batch + row) * params.dot_width + begin + min(mine, len - 1u)] * inside;
        }
        for (var j = 0u; j < LANES; j++) {
            let weights = u[(u_begin + min(k + j, len - 1u)) * params.hidden + column];
            for (var n = 0u; n < ROWS; n++) {
                r[n] += spread(read[n], j) * weights;
            }
        }
    }
    return r;
}

// The tangents of a unit's own numbers.
fn own_dot_of(params: Params, unit: u32) -> vec4<f32> {
    var own_dot = vec4<f32>();
    if UNITS > 0u {
        own_dot.x = units[params.units_at + UNITS * params.hidden + unit];
    }
    if UNITS > 1u {
        own_dot.y = units[params.units_at + (UNITS + 1u) * params.hidden + unit];
        own_dot.z = units[params.units_at + (UNITS + 2u) * params.hidden + unit];
    }
    return own_dot;
}

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
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
                let here = params.t * step_len + at;
                let row_from = params.h_from * params.batch + row;
                let row_to = params.h_to * params.batch + row;
                var before: Before;
                before.h = h[row_from * params.width + params.h_begin + unit];
                before.h_dot = dots[row_from * params.dot_width + params.h_begin + unit];
                before.own_dot = own_dot_of(params, unit);
                var state_now = 0.0;
                if HAS_STATE {
                    before.state = state[(params.h_from - params.state_back) * step_len + at];
                    before.state_dot = dots[row_from * params.dot_width + params.width + unit];
                    state_now = state[(params.h_to - params.state_back) * step_len + at];
                }
                let moved = cell_tangent(gates[here], x[here], r[n], before, state_now, own);
                if SAVE {
                    x[here] = moved.pre;
                }
                if HAS_STATE {
                    dots[row_to * params.dot_width + params.width + unit] = moved.state;
                }
                dots[row_to * params.dot_width + params.to_begin + unit] = moved.h;
            }
        }
    }
}
