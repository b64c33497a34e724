// scan/initial_backward: the gradient with respect to the values before the first step, once the steps are done.
//
//   d_initial = d_pre(first step) U^T (+ d_pre(t) S^T of the step t that reads the slot by a skip)
//
// Added to it are the part that the cell passed back around all weights (carries_h), and with FINALS, in rows so short that
// an initial slot is a final one too, the gradient with respect to the final value. The gradient with respect to the initial
// state is what step_backward left in carry.
// Joined with gates_vec4 or gates_f32, with recurrent_gradient and slots, and with one of the lanes files.
// One invocation per (ROWS rows, one column) of one slot. No barriers.
// Mirror: gatefold-reference, scan::initial_backward.
struct InitialBackward {
    batch: u32,        // B
    hidden: u32,       // H
    columns: u32,      // C, of the part of a row that recurs
    skip_columns: u32, // of the part that a skip reads
    own: u32,          // columns with a value in each history slot; the others have one in the nearest slot only
    history: u32,
    steps: u32, // T
    reverse: u32,
    carries_h: u32,
    finals_at: u32, // where the gradients of the final values are in the buffer of carry
    ut_at: u32,    // 0, for recurrent_gradient
    gates_at: u32, // 0
}

@group(0) @binding(0) var<storage, read>       ut:        array<Gates>; // [H, C], [H, skip_columns]  K-major over the receiving units
@group(0) @binding(1) var<storage, read>       lengths:   array<u32>;   // [B]        read with LENGTHS
@group(0) @binding(2) var<storage, read>       gates:     array<Slot>;  // [T, B, H]  d_pre
@group(0) @binding(3) var<storage, read>       carry:     array<f32>;   // [B, H], ..., final values
@group(0) @binding(4) var<storage, read_write> d_initial: array<f32>;   // [history, B, own], then [B, C - own]

// The place of a slot's value among the initial or final values.
fn place(params: Params, slot: u32, row: u32, column: u32) -> u32 {
    if column < params.own {
        return (slot * params.batch + row) * params.own + column;
    }
    let first = params.history * params.batch * params.own;
    return first + row * (params.columns - params.own) + column - params.own;
}

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let column = group.x * WG_SIZE + local;
    let slot = group.z;
    let first_row = group.y * ROWS;
    let nearest = slot == nearest_slot(params);

    var d: array<f32, ROWS>;
    var steps: array<u32, ROWS>;
    if nearest {
        for (var n = 0u; n < ROWS; n++) {
            let len = length_of(params, min(first_row + n, params.batch - 1u));
            steps[n] = select(0u, max(len, 1u) - 1u, params.reverse == 1u);
        }
        d = recurrent_gradient(params, first_row, min(column, params.columns - 1u), lane, steps, 0u, params.columns, d);
    }
    if SEGMENTS > 1u {
        for (var n = 0u; n < ROWS; n++) {
            let len = length_of(params, min(first_row + n, params.batch - 1u));
            let at = select(slot + params.history, len + slot, params.reverse == 1u);
            let reads = at >= params.history && at - params.history < params.steps;
            steps[n] = select(NO_STEP, at - params.history, reads);
        }
        let by_skip = recurrent_gradient(
                params, first_row, min(column, params.skip_columns - 1u), lane, steps, params.hidden * params.columns,
                params.skip_columns, array<f32, ROWS>(),
            );
        for (var n = 0u; n < ROWS; n++) {
            d[n] += select(0.0, by_skip[n], column < params.skip_columns);
        }
    }

    if column < params.columns && (column < params.own || nearest) {
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch {
                var sum = d[n];
                if params.carries_h == 1u && nearest && column < params.hidden {
                    sum += carry[row * params.hidden + column];
                }
                if FINALS {
                    let len = length_of(params, row);
                    if column >= params.own {
                        if len == 0u {
                            sum += carry[params.finals_at + place(params, slot, row, column)];
                        }
                    } else {
                        let among = select(slot - len, slot + len, params.reverse == 1u);
                        if among < params.history {
                            sum += carry[params.finals_at + place(params, among, row, column)];
                        }
                    }
                }
                d_initial[place(params, slot, row, column)] = sum;
            }
        }
    }
}
