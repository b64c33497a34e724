// scan/grid_forward: many time steps of one layer in one dispatch; the workgroups of a crew share the units of ROWS rows.
//
//   r = h(t-1) U (+ h(t-k) S)        (h(t), state(t), saved(t)) = cell_forward(x(t), r, h(t-1), state(t-1))
//
// The same steps as in scan_forward, for cells of one stage whose rows hold nothing but h, but with the units of a row spread
// over workgroups. They exchange h through its own buffer: every step has a slot, written once, and read after the crew has
// arrived. The state stays in registers. Slots as in scan/slots. With SAVE the state has a slot per step, else a single one.
// Joined with one of the gates files, with one cell, with rows, units, slots, order, grid_wait and grid_tile, and with one of
// grid_subgroup and grid_single. Steps past the end of the tile's longest row are left out.
// Mirror: gatefold-reference, scan::step_forward, step after step.
struct GridForward {
    first: u32,  // steps of the scan before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    spins: u32, // turns that a workgroup waits in all
    units_at: u32, // 0, for own_of
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       u:       array<Product>; // [SEGMENTS H, H]  K-major, packed
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>;  // [T, B, H]     x in, saved out
@group(0) @binding(4) var<storage, read_write> state:   array<f32>;   // [slots, B, H] touched with HAS_STATE
@group(0) @binding(5) @coherent var<storage, read_write> h:    array<f32>;         // [T + history, B, H]
@group(0) @binding(6) @coherent var<storage, read_write> sync: array<atomic<u32>>; // [1 + crews, SYNC_STRIDE]

alias Staged = f32;
alias Weights = Product;
alias Sum = Product;

fn source(at: u32) -> Staged {
    return h[at];
}

fn weights_at(segment: u32, k: u32, unit: u32) -> Weights {
    return u[(segment * HIDDEN + min(k, HIDDEN - 1u)) * HIDDEN + unit];
}

fn times(value: Staged, weights: Weights) -> Sum {
    return value * weights;
}

fn kernel(group: vec3<u32>, local: u32) {
    let member = group.x;
    let crew = group.y;
    let first_row = crew * ROWS;
    let step_len = params.batch * HIDDEN;
    let until = longest(params, first_row);
    // The scan's first step that some row of the tile has.
    let origin = select(0u, params.steps - until, params.reverse == 1u);
    let begin = max(params.first, origin);
    var end = params.first + params.count;
    if params.reverse == 0u {
        end = min(end, until);
    }

    var kept = keep_weights(member, local);
    var states: array<f32, CELLS>;
    if HAS_STATE {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there && begin < end {
                let slot = select(0u, state_before(params, step_at(params, begin)), SAVE);
                states[cell] = state[slot * step_len + place.row * HIDDEN + place.unit];
            }
        }
    }

    var spent = 0u;
    for (var step = begin; step < end; step++) {
        let t = step_at(params, step);
        // Asked for before the wait, which hides theirs.
        var x: array<Gates, CELLS>;
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there {
                x[cell] = gates[t * step_len + place.row * HIDDEN + place.unit];
            }
        }
        if !wait_for(crew, (step - origin) * SHARERS, local, &spent) {
            return;
        }

        var sums: array<Sum, SUMS>;
        sums = add_product(0u, h_before(params, t) * step_len, member, first_row, local, &kept, sums);
        if SEGMENTS > 1u {
            sums = add_product(1u, h_skipped(params, t) * step_len, member, first_row, local, &kept, sums);
        }
        meet(local, sums);

        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there {
                let at = place.row * HIDDEN + place.unit;
                if is_active(t, place.row) {
                    let h_prev = h[h_before(params, t) * step_len + at];
                    let stepped = cell_forward(x[cell], met_sum(place), h_prev, states[cell], own_of(params, place.unit));
                    if SAVE {
                        gates[t * step_len + at] = stepped.saved;
                    }
                    if HAS_STATE {
                        states[cell] = stepped.state;
                        if SAVE {
                            state[state_after(params, t) * step_len + at] = stepped.state;
                        }
                    }
                    h[h_after(params, t) * step_len + at] = stepped.h;
                } else if HAS_STATE && SAVE {
                    // A reverse scan has not come to the row's last step yet: its initial values follow that step.
                    states[cell] = state[state_after(params, t) * step_len + at];
                }
            }
        }
        arrive(crew, local);
    }

    if HAS_STATE && !SAVE {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there && begin < end {
                state[place.row * HIDDEN + place.unit] = states[cell];
            }
        }
    }
}
