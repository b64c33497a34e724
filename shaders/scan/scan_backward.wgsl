// scan/scan_backward: many time steps backward of one layer in one dispatch; a workgroup runs ROWS rows of the batch.
//
//   dh = d_out(t) + d_pre(t+1) U^T (+ d_pre(t+k) S^T)      (d_pre(t), carry) = cell_backward(saved(t), ..., dh, carry)
//
// The same step as in step_backward, for cells of one stage whose rows hold nothing but h. A unit's product is shared by PARTS
// invocations, as in scan_forward. d_pre stays in workgroup memory, in two turns; what the cell carries stays in registers,
// and so do the first KEPT weights of each part.
// Joined with one of the gates files, with one cell, with rows, units, slots, order, tile and outside, and with one of the parts
// files. One barrier a step, and one more in parts_shared. Writes each element of its steps once: zeros for rows that are not
// active, whose carry stays as it is.
// Mirror: gatefold-reference, scan::step_backward, step after step.
struct ScanBackward {
    first: u32,  // steps of the scan, from its end, before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,  // the column of this scan's part
    ut_at: u32,    // where the member begins in the bindings
    units_at: u32,
    state_at: u32,
    h_at: u32,
    d_out_at: u32,
    gates_at: u32,
    carry_at: u32,
}

@group(0) @binding(0) var<storage, read>       ut:      array<Gates>; // [SEGMENTS, H, H]  K-major over the receiving units
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read>       state:   array<f32>;   // [slots, B, H] read with HAS_STATE
@group(0) @binding(4) var<storage, read>       h:       array<f32>;   // [T + history, B, H]
@group(0) @binding(5) var<storage, read>       d_out:   array<f32>;   // [T, B, d_stride]
@group(0) @binding(6) var<storage, read_write> gates:   array<Slot>;  // [T, B, H]     saved in, d_pre out
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;   // [B, H], then with FINALS [history, B, H] of the final h

alias Sum = f32;
const TURNS = (HIDDEN + PARTS - 1u) / PARTS; // units whose gradients a part reads
const STRIDE = PARTS * TURNS;                // of a row in workgroup memory; zero past H
const TURN = ROWS * STRIDE;
const KEPT_LEN = max(KEPT * BLOCKS, 1u);

var<workgroup> rows: array<Slot, 2u * TURN>;

fn weights_of(params: Params, k: u32, column: u32) -> Gates {
    return ut[params.ut_at + min(k, HIDDEN - 1u) * HIDDEN + column];
}

fn kernel(group: vec3<u32>, local: u32) {
    let params = member(group.z);
    let part = local % PARTS;
    let first_row = group.x * ROWS;
    let step_len = params.batch * HIDDEN;
    let until = longest(params, first_row);

    var kept: array<Gates, KEPT_LEN>;
    for (var i = 0u; i < KEPT; i++) {
        for (var block = 0u; block < BLOCKS; block++) {
            kept[i * BLOCKS + block] = weights_of(params, i * PARTS + part, column_of(block, local));
        }
    }
    // Both turns are zero past H; the gradient of the step before this dispatch goes to the first turn.
    for (var i = local; i < 2u * TURN; i += WG_SIZE) {
        let k = i % STRIDE;
        let row = first_row + i / STRIDE;
        var value = Slot();
        if i < TURN && k < HIDDEN && row < params.batch && params.first > 0u {
            value = gates[params.gates_at + step_at(params, params.steps - params.first) * step_len + row * HIDDEN + k];
        }
        rows[i] = value;
    }
    var carries: array<f32, CELLS>;
    if CARRIES {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there {
                carries[cell] = carry[params.carry_at + place.row * HIDDEN + place.unit];
            }
        }
    }
    workgroupBarrier();

    for (var step = 0u; step < params.count; step++) {
        let nth = params.steps - 1u - params.first - step;
        let t = step_at(params, nth);
        let here = step % 2u * TURN;
        let there = TURN - here;
        let some_active = t < until;

        // Asked for before the product, which hides the wait.
        var saved: array<Slot, CELLS>;
        var h_prev: array<f32, CELLS>;
        var state_prev: array<f32, CELLS>;
        var state_now: array<f32, CELLS>;
        var outside: array<f32, CELLS>;
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there && some_active {
                let at = place.row * HIDDEN + place.unit;
                saved[cell] = gates[params.gates_at + t * step_len + at];
                h_prev[cell] = h[params.h_at + h_before(params, t) * step_len + at];
                if HAS_STATE {
                    state_prev[cell] = state[params.state_at + state_before(params, t) * step_len + at];
                    state_now[cell] = state[params.state_at + state_after(params, t) * step_len + at];
                }
                outside[cell] = from_outside(params, t, place.row, place.unit);
            }
        }

        var sums: array<Sum, SUMS>;
        if some_active {
            for (var i = 0u; i < KEPT; i++) {
                for (var block = 0u; block < BLOCKS; block++) {
                    let weights = kept[i * BLOCKS + block];
                    for (var n = 0u; n < ROWS; n++) {
                        let d_pre = rows[here + n * STRIDE + i * PARTS + part];
                        sums[block * ROWS + n] += through_weights(d_pre, weights);
                    }
                }
            }
            for (var i = KEPT; i < TURNS; i++) {
                let k = i * PARTS + part;
                for (var block = 0u; block < BLOCKS; block++) {
                    let weights = weights_of(params, k, column_of(block, local));
                    for (var n = 0u; n < ROWS; n++) {
                        sums[block * ROWS + n] += through_weights(rows[here + n * STRIDE + k], weights);
                    }
                }
            }
            if SEGMENTS > 1u && nth + params.history < params.steps {
                let reads = params.gates_at + step_at(params, nth + params.history) * step_len;
                for (var k = part; k < HIDDEN; k += PARTS) {
                    for (var block = 0u; block < BLOCKS; block++) {
                        let weights = ut[params.ut_at + (HIDDEN + k) * HIDDEN + column_of(block, local)];
                        for (var n = 0u; n < ROWS; n++) {
                            let row = min(first_row + n, params.batch - 1u);
                            sums[block * ROWS + n] += through_weights(gates[reads + row * HIDDEN + k], weights);
                        }
                    }
                }
            }
            sums = combine(local, sums);
        }

        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there {
                var d_pre = Slot();
                if is_active(t, place.row) {
                    let dh = sums[place.sum] + outside[cell];
                    let grad = cell_backward(
                        saved[cell], h_prev[cell], state_prev[cell], state_now[cell], dh, carries[cell],
                        own_of(params, place.unit),
                    );
                    d_pre = grad.pre;
                    carries[cell] = grad.carry;
                }
                gates[params.gates_at + t * step_len + place.row * HIDDEN + place.unit] = d_pre;
                rows[there + place.n * STRIDE + place.unit] = d_pre;
            }
        }
        workgroupBarrier();
        if SEGMENTS > 1u {
            storageBarrier();
        }
    }

    if CARRIES {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there {
                carry[params.carry_at + place.row * HIDDEN + place.unit] = carries[cell];
            }
        }
    }
}
