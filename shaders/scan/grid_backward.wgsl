// scan/grid_backward: many time steps backward of one layer in one dispatch; the workgroups of a crew share the units of ROWS
// rows.
//
//   dh = d_out(t) + d_pre(t+1) U^T (+ d_pre(t+k) S^T)      (d_pre(t), carry) = cell_backward(saved(t), ..., dh, carry)
//
// The same steps as in scan_backward, for cells of one stage whose rows hold nothing but h, but with the units of a row spread
// over workgroups. They exchange d_pre through the buffer of the gates, where it takes the place of what was saved: every step
// has a slot, written once, and read by others after the crew has arrived. What the cell carries stays in registers.
// Joined with one of the gates files, with one cell, with rows, units, slots, order, outside, grid_wait and grid_tile, and with
// one of grid_subgroup and grid_single. Writes each element of its steps once: zeros for rows that are not active, whose carry
// stays as it is.
// Mirror: gatefold-reference, scan::step_backward, step after step.
struct GridBackward {
    first: u32,  // steps of the scan, from its end, before this dispatch
    count: u32,  // steps of this dispatch
    steps: u32,  // T
    batch: u32,  // B
    hidden: u32, // HIDDEN
    history: u32,
    reverse: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,  // the column of this scan's part
    spins: u32,    // turns that a workgroup waits in all
    units_at: u32, // 0, for own_of and from_outside, like the next two
    d_out_at: u32,
    carry_at: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       ut:      array<Gates>; // [SEGMENTS, H, H]  K-major over the receiving units
@group(0) @binding(1) var<storage, read>       units:   array<f32>;   // [UNITS, H]
@group(0) @binding(2) var<storage, read>       lengths: array<u32>;   // [B]           read with LENGTHS
@group(0) @binding(3) var<storage, read>       state:   array<f32>;   // [slots, B, H] read with HAS_STATE
@group(0) @binding(4) var<storage, read>       h:       array<f32>;   // [T + history, B, H]
@group(0) @binding(5) var<storage, read>       d_out:   array<f32>;   // [T, B, d_stride]
@group(0) @binding(6) @coherent var<storage, read_write> gates: array<Slot>; // [T, B, H]     saved in, d_pre out
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;   // [B, H], then with FINALS [history, B, H] of the final h
@group(0) @binding(8) @coherent var<storage, read_write> sync: array<atomic<u32>>; // [1 + crews, SYNC_STRIDE]

alias Staged = Slot;
alias Weights = Gates;
alias Sum = f32;

fn source(at: u32) -> Staged {
    return gates[at];
}

fn weights_at(segment: u32, k: u32, unit: u32) -> Weights {
    return ut[(segment * HIDDEN + min(k, HIDDEN - 1u)) * HIDDEN + unit];
}

fn times(value: Staged, weights: Weights) -> Sum {
    return through_weights(value, weights);
}

fn kernel(group: vec3<u32>, local: u32) {
    let member = group.x;
    let crew = group.y;
    let first_row = crew * ROWS;
    let step_len = params.batch * HIDDEN;
    let until = longest(params, first_row);

    var kept = keep_weights(member, local);
    var carries: array<f32, CELLS>;
    if CARRIES {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there {
                carries[cell] = carry[place.row * HIDDEN + place.unit];
            }
        }
    }

    var spent = 0u;
    for (var step = 0u; step < params.count; step++) {
        let nth = params.steps - 1u - params.first - step;
        let t = step_at(params, nth);
        let some_active = t < until;

        // Asked for before the wait, which hides theirs.
        var saved: array<Slot, CELLS>;
        var h_prev: array<f32, CELLS>;
        var state_prev: array<f32, CELLS>;
        var state_now: array<f32, CELLS>;
        var outside: array<f32, CELLS>;
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there && some_active {
                let at = place.row * HIDDEN + place.unit;
                saved[cell] = gates[t * step_len + at];
                h_prev[cell] = h[h_before(params, t) * step_len + at];
                if HAS_STATE {
                    state_prev[cell] = state[state_before(params, t) * step_len + at];
                    state_now[cell] = state[state_after(params, t) * step_len + at];
                }
                outside[cell] = from_outside(params, t, place.row, place.unit);
            }
        }
        if !wait_for(crew, (params.first + step) * SHARERS, local, &spent) {
            return;
        }

        var sums: array<Sum, SUMS>;
        if some_active {
            if nth + 1u < params.steps {
                sums = add_product(0u, step_at(params, nth + 1u) * step_len, member, first_row, local, &kept, sums);
            }
            if SEGMENTS > 1u && nth + params.history < params.steps {
                let reads = step_at(params, nth + params.history) * step_len;
                sums = add_product(1u, reads, member, first_row, local, &kept, sums);
            }
            meet(local, sums);
        }

        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there {
                var d_pre = Slot();
                if is_active(t, place.row) {
                    let dh = met_sum(place) + outside[cell];
                    let grad = cell_backward(
                        saved[cell], h_prev[cell], state_prev[cell], state_now[cell], dh, carries[cell],
                        own_of(params, place.unit),
                    );
                    d_pre = grad.pre;
                    carries[cell] = grad.carry;
                }
                gates[t * step_len + place.row * HIDDEN + place.unit] = d_pre;
            }
        }
        arrive(crew, local);
    }

    if CARRIES {
        for (var cell = 0u; cell < CELLS; cell++) {
            let place = place_of(cell, member, first_row, local);
            if place.is_there {
                carry[place.row * HIDDEN + place.unit] = carries[cell];
            }
        }
    }
}
