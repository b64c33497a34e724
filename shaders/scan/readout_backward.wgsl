// scan/readout_backward: the gradient with respect to a step's readout, and to the part of its row that recurs.
//
//   d_row = d_pre(t+1) U^T (+ d_pre(t+k) S^T)      d_readout(t) = (d_row + d_out(t)) act'
//
// The recurrent part of a row is h, then the readout; or only the readout, where readout_from is 0. The part that belongs
// to h is left for step_backward in the buffer of carry. So is d_readout, which has a place of its own as well.
// Joined with gates_vec4 or gates_f32, with recurrent_gradient, rows and slots, and with one of the lanes files.
// One invocation per (ROWS rows, one column). No barriers. Zeros for rows that are not active.
// Mirror: gatefold-reference, scan::readout_backward.
struct ReadoutBackward {
    t: u32,
    batch: u32,        // B
    hidden: u32,       // H
    columns: u32,      // C, of the part that recurs
    skip_columns: u32, // of the part that a skip reads
    own: u32,          // columns with a final value in each history slot; the others have only one
    readout_from: u32, // the first column of the readout
    next: u32,         // the step that follows in the scan, or NO_STEP
    skip_next: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,
    history: u32,
    steps: u32, // T
    reverse: u32,
    inner_to: u32,  // where d_readout goes in the buffer of carry, followed by d_row
    finals_at: u32, // where the gradients of the final values are in it
    ut_at: u32,     // where the member begins in the bindings
    gates_at: u32,
    d_out_at: u32,
    readout_at: u32,
    carry_at: u32,
    _pad0: u32,
    _pad1: u32,
    _pad2: u32,
}

@group(0) @binding(0) var<storage, read>       ut:      array<Gates>; // [H, C], [H, skip_columns]  K-major over the receiving units
@group(0) @binding(1) var<storage, read>       lengths: array<u32>;   // [B]            read with LENGTHS
@group(0) @binding(2) var<storage, read>       gates:   array<Slot>;  // [T, B, H]      d_pre of the following steps
@group(0) @binding(3) var<storage, read>       d_out:   array<f32>;   // [T, B, d_stride]
@group(0) @binding(4) var<storage, read_write> readout: array<f32>;   // [T, B, R]      saved in, d_readout out
@group(0) @binding(5) var<storage, read_write> carry:   array<f32>;   // [B, H], d_readout [B, R], d_row [B, H], final values

fn final_gradient(params: Params, row: u32, column: u32) -> f32 {
    let slot = final_slot(params, params.t, row);
    if column < params.own {
        if slot < params.history {
            return carry[params.carry_at + params.finals_at + (slot * params.batch + row) * params.own + column];
        }
    } else if slot == nearest_slot(params) {
        let lone = params.columns - params.own;
        let first = params.history * params.batch * params.own;
        return carry[params.carry_at + params.finals_at + first + row * lone + column - params.own];
    }
    return 0.0;
}

fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let params = member(group.z);
    let column = group.x * WG_SIZE + local;
    let outputs = params.columns - params.readout_from;
    let first_row = group.y * ROWS;

    var d_row: array<f32, ROWS>;
    if any_active(params, params.t, first_row) {
        var steps: array<u32, ROWS>;
        if params.next != NO_STEP {
            for (var n = 0u; n < ROWS; n++) {
                steps[n] = params.next;
            }
            d_row = recurrent_gradient(params, first_row, min(column, params.columns - 1u), lane, steps, 0u, params.columns, d_row);
        }
        if SEGMENTS > 1u && params.skip_next != NO_STEP {
            for (var n = 0u; n < ROWS; n++) {
                steps[n] = params.skip_next;
            }
            let by_skip = recurrent_gradient(
                params, first_row, min(column, params.skip_columns - 1u), lane, steps, params.hidden * params.columns,
                params.skip_columns, array<f32, ROWS>(),
            );
            for (var n = 0u; n < ROWS; n++) {
                d_row[n] += select(0.0, by_skip[n], column < params.skip_columns);
            }
        }
    }

    if column < params.columns {
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch {
                let active_row = is_active(params.t, row);
                var d = select(0.0, d_row[n], active_row);
                if FINALS && active_row {
                    d += final_gradient(params, row, column);
                }
                if column < params.readout_from {
                    carry[params.carry_at + params.inner_to + params.batch * outputs + row * params.hidden + column] = d;
                } else {
                    let output = column - params.readout_from;
                    let here = (params.t * params.batch + row) * outputs + output;
                    if active_row {
                        d += d_out[params.d_out_at + (params.t * params.batch + row) * params.d_stride + params.d_begin + output];
                        let saved = readout[params.readout_at + here];
                        var y = saved;
                        if KEEP_PRE {
                            y = activate(ACTIVATION, ALPHA, BETA, saved);
                        }
                        d *= activation_slope(ACTIVATION, ALPHA, BETA, saved, y);
                    }
                    readout[params.readout_at + here] = d;
                    carry[params.carry_at + params.inner_to + row * outputs + output] = d;
                }
            }
        }
    }
}
