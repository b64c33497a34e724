// scan/scan_forward: many time steps of one layer in one dispatch; a workgroup runs ROWS rows of the batch.
//
//   r = h(t-1) U (+ h(t-k) S)        (h(t), state(t), saved(t)) = cell_forward(x(t), r, h(t-1), state(t-1))
//
// The same step as in step_forward, for cells of one stage whose rows hold nothing but h. A unit's product is shared by PARTS
// invocations, a part of h for each; after combine, each of them runs the cell for its own rows of the tile. h stays in
// workgroup memory, in two turns; the state stays in registers, and so do the weights of the first KEPT quads of each part.
// Slots as in scan/slots. With SAVE the state has a slot per step, else a single one.
// Joined with one of the gates files, with one cell, with rows, units, slots, order and tile, and with one of the parts files.
// One barrier a step, and one more in parts_shared. Steps past the end of the tile's longest row are left out.
// Mirror: gatefold-reference, scan::step_forward, step after step.
struct ScanForward {
    first: u32,  // steps of the scan before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    u_at: u32, // where the member begins in the bindings
    units_at: u32,
    gates_at: u32,
    state_at: u32,
    h_at: u32,
}

@group(0) @binding(0) var<storage, read>       u:       array<Product>; // [SEGMENTS H, H]  K-major, packed
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>;  // [T, B, H]     x in, saved out
@group(0) @binding(4) var<storage, read_write> state:   array<f32>;   // [slots, B, H] touched with HAS_STATE
@group(0) @binding(5) var<storage, read_write> h:       array<f32>;   // [T + history, B, H]

alias Sum = Product;
const QUADS = (HIDDEN + 4u * PARTS - 1u) / (4u * PARTS); // of h, in a part
const STRIDE = 4u * PARTS * QUADS;                       // of a row in workgroup memory; zero past H
const TURN = ROWS * STRIDE;
const KEPT_LEN = max(KEPT * 4u * BLOCKS, 1u);

var<workgroup> rows: array<f32, 2u * TURN>;

fn weights_of(params: Params, k: u32, column: u32) -> Product {
    return u[params.u_at + min(k, HIDDEN - 1u) * HIDDEN + column];
}

fn kernel(group: vec3<u32>, local: u32) {
    let params = member(group.z);
    let part = local % PARTS;
    let first_row = group.x * ROWS;
    let step_len = params.batch * HIDDEN;
    let until = longest(params, first_row);
    var begin = params.first;
    var end = params.first + params.count;
    if params.reverse == 1u {
        begin = max(begin, params.steps - until);
    } else {
        end = min(end, until);
    }

    var kept: array<Product, KEPT_LEN>;
    for (var i = 0u; i < KEPT; i++) {
        for (var j = 0u; j < 4u; j++) {
            for (var block = 0u; block < BLOCKS; block++) {
                kept[(i * 4u + j) * BLOCKS + block] =
                    weights_of(params, (i * PARTS + part) * 4u + j, column_of(block, local));
            }
        }
    }
    // Both turns are zero past H; h before the first step goes to the first turn.
    for (var i = local; i < 2u * TURN; i += WG_SIZE) {
        let k = i % STRIDE;
        let row = first_row + i / STRIDE;
        var value = 0.0;
        if i < TURN && k < HIDDEN && row < params.batch && begin < end {
            value = h[params.h_at + h_before(params, step_at(params, begin)) * step_len + row * HIDDEN + k];
        }
        rows[i] = value;
    }
    var states: array<f32, CELLS>;
    if HAS_STATE {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there && begin < end {
                let slot = select(0u, state_before(params, step_at(params, begin)), SAVE);
                states[cell] = state[params.state_at + slot * step_len + place.row * HIDDEN + place.unit];
            }
        }
    }
    workgroupBarrier();

    for (var step = begin; step < end; step++) {
        let t = step_at(params, step);
        let here = (step - begin) % 2u * TURN;
        let there = TURN - here;

        // Asked for before the product, which hides the wait.
        var x: array<Gates, CELLS>;
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there {
                x[cell] = gates[params.gates_at + t * step_len + place.row * HIDDEN + place.unit];
            }
        }

        var sums: array<Sum, SUMS>;
        for (var i = 0u; i < KEPT; i++) {
            for (var j = 0u; j < 4u; j++) {
                let k = (i * PARTS + part) * 4u + j;
                for (var block = 0u; block < BLOCKS; block++) {
                    let weights = kept[(i * 4u + j) * BLOCKS + block];
                    for (var n = 0u; n < ROWS; n++) {
                        sums[block * ROWS + n] += rows[here + n * STRIDE + k] * weights;
                    }
                }
            }
        }
        for (var i = KEPT; i < QUADS; i++) {
            for (var j = 0u; j < 4u; j++) {
                let k = (i * PARTS + part) * 4u + j;
                for (var block = 0u; block < BLOCKS; block++) {
                    let weights = weights_of(params, k, column_of(block, local));
                    for (var n = 0u; n < ROWS; n++) {
                        sums[block * ROWS + n] += rows[here + n * STRIDE + k] * weights;
                    }
                }
            }
        }
        if SEGMENTS > 1u {
            for (var k = part; k < HIDDEN; k += PARTS) {
                for (var block = 0u; block < BLOCKS; block++) {
                    let weights = u[params.u_at + (HIDDEN + k) * HIDDEN + column_of(block, local)];
                    for (var n = 0u; n < ROWS; n++) {
                        let row = min(first_row + n, params.batch - 1u);
                        let h_at = params.h_at + h_skipped(params, t) * step_len + row * HIDDEN + k;
                        sums[block * ROWS + n] += h[h_at] * weights;
                    }
                }
            }
        }
        sums = combine(local, sums);

        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there {
                let at = place.row * HIDDEN + place.unit;
                let h_at = params.h_at + h_after(params, t) * step_len + at;
                let mine = place.n * STRIDE + place.unit;
                if is_active(t, place.row) {
                    let stepped = cell_forward(
                        x[cell], sums[place.sum], rows[here + mine], states[cell], own_of(params, place.unit),
                    );
                    if SAVE {
                        gates[params.gates_at + t * step_len + at] = stepped.saved;
                    }
                    if HAS_STATE {
                        states[cell] = stepped.state;
                        if SAVE {
                            state[params.state_at + state_after(params, t) * step_len + at] = stepped.state;
                        }
                    }
                    h[h_at] = stepped.h;
                    rows[there + mine] = stepped.h;
                } else {
                    // A reverse scan has not come to the row's last step yet: its initial values follow that step.
                    rows[there + mine] = h[h_at];
                    if HAS_STATE && SAVE {
                        states[cell] = state[params.state_at + state_after(params, t) * step_len + at];
                    }
                }
            }
        }
        workgroupBarrier();
        if SEGMENTS > 1u {
            storageBarrier();
        }
    }

    if HAS_STATE && !SAVE {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(params, cell, first_row, local);
            if place.is_there && begin < end {
                state[params.state_at + place.row * HIDDEN + place.unit] = states[cell];
            }
        }
    }
}
