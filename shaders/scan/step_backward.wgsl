// scan/step_backward: one time step backward of one layer: the product that carries dh back, then the cell.
//
//   dh = d_out(t) + d_pre(t+1) U^T (+ d_pre(t+k) S^T)      (d_pre(t), carry) = cell_backward(saved(t), ..., dh, carry)
//
// Joined with one cell, with rows and units, with one of the lanes files, and with from_recurrence or from_inner, which
// declare params and buffers and compute dh.
// One invocation per (ROWS rows, one unit); a workgroup shares its rows. No barriers. Writes each element of step t
// once: zeros for rows that are not active, whose carry stays as it is.
// Mirror: gatefold-reference, scan::step_backward.
fn kernel(group: vec3<u32>, local: u32, lane: u32) {
    let params = member(group.z);
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let unit = group.x * WG_SIZE + local;
    let column = min(unit, hidden - 1u);
    let first_row = group.y * ROWS;

    var through: array<f32, ROWS>;
    if any_active(params, params.t, first_row) {
        through = incoming(params, first_row, column, lane);
    }

    if unit < hidden {
        let own = own_of(params, unit);
        for (var n = 0u; n < ROWS; n++) {
            let row = first_row + n;
            if row < params.batch {
                let at = row * hidden + unit;
                let here = params.gates_at + params.t * step_len + at;
                if is_active(params.t, row) {
                    let from_at = (params.h_from * params.batch + row) * params.width + params.h_begin + unit;
                    let h_prev = h[params.h_at + from_at];
                    var state_prev = 0.0;
                    var state_now = 0.0;
                    if HAS_STATE {
                        state_prev = state[params.state_at + params.state_from * step_len + at];
                        state_now = state[params.state_at + params.state_to * step_len + at];
                    }
                    var carried = 0.0;
                    if CARRIES {
                        carried = carry[params.carry_at + at];
                    }
                    let dh = through[n] + beside(params, row, unit);
                    let grad = cell_backward(gates[here], h_prev, state_prev, state_now, dh, carried, own);
                    gates[here] = grad.pre;
                    if CARRIES {
                        carry[params.carry_at + at] = grad.carry;
                    }
                    if GIVES_INNER {
                        carry[params.carry_at + params.inner_to + at] = grad.inner;
                    }
                } else {
                    gates[here] = Slot();
                }
            }
        }
    }
}
