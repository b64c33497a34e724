// scan/row_step_backward: one time step backward of one row. Joined with row, and with a kernel that declares state, h, d_out,
// gates, normal and carry.
const SHOWS_STATE: bool = NORM && HAS_STATE;

// Adds to one of the sums; begin counts elements for each unit of each row before it.
fn add_to_sum(begin: u32, row: u32, unit: u32, value: f32) {
    carry[(3u + begin) * params.batch * params.hidden + row * params.hidden + unit] += value;
}

fn add_lanes_to_sum(begin: u32, row: u32, unit: u32, value: Slot) {
    let at = (3u + begin) * params.batch * params.hidden + (row * params.hidden + unit) * SLOT_LANES;
    for (var lane = 0u; lane < SLOT_LANES; lane++) {
        carry[at + lane] += lane_of(value, lane);
    }
}

// A row at a step, and where its first elements are.
struct RowBack {
    t: u32,
    row: u32,
    is_row: bool,     // not past the end of the batch
    takes_part: bool,
    here: u32,        // in gates and normal
    x_here: u32,      // in gates, of x
    h_prev: u32,      // in h
    state_prev: u32,  // in state
    d_out: u32,
}

// All invocations of the workgroup call this together.
fn row_step_backward(local: u32, at: RowBack) {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let first = at.row * hidden;
    var scale: vec4<f32>;
    var state_mean = 0.0;
    var state_scale = 0.0;
    if NORM {
        let stats = params.stats_at + (at.t * params.batch + at.row) * 6u;
        scale = vec4(state[stats], state[stats + 1u], state[stats + 2u], state[stats + 3u]);
        if SHOWS_STATE {
            state_mean = state[stats + 4u];
            state_scale = state[stats + 5u];
        }
    }

    // The mean of the gradient of the normalised state, and that of its product with it.
    var state_means = vec4<f32>();
    if SHOWS_STATE {
        var sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if at.takes_part {
                let norm = state_norm_of(unit);
                let c = cell_state(gates[at.here + unit], state[at.state_prev + unit], own_in_row(at.t, at.row, unit));
                let y = (c - state_mean) * state_scale;
                let dh = (carry[first + unit] + carry[step_len + first + unit] + d_out[at.d_out + unit])
                    * (1.0 - share_of_h(at.t, at.row, unit));
                let d_shown = output_backward(gates[at.here + unit], norm.x * y + norm.y, dh);
                add_to_sum(UNITS + 2u * SLOT_LANES, at.row, unit, d_shown * y);
                add_to_sum(UNITS + 2u * SLOT_LANES + 1u, at.row, unit, d_shown);
                sums += vec4(d_shown * norm.x, d_shown * norm.x * y, 0.0, 0.0);
            }
        }
        state_means = row_sum(local, sums) / f32(hidden);
    }

    // The groups of x, then those of r: sums of the gradients of what was normalised, and of their products with it.
    var along = vec4<f32>();
    var sums = vec4<f32>();
    for (var unit = local; unit < hidden; unit += WG_SIZE) {
        if at.takes_part {
            let own = own_in_row(at.t, at.row, unit);
            let saved = gates[at.here + unit];
            let h_prev = h[at.h_prev + unit];
            let share = share_of_h(at.t, at.row, unit);
            let dh = carry[first + unit] + carry[step_len + first + unit] + d_out[at.d_out + unit];
            var state_prev = 0.0;
            var c = 0.0;
            var shown = 0.0;
            var d_state = 0.0;
            var state_past = 0.0;
            if HAS_STATE {
                state_prev = state[at.state_prev + unit];
                c = cell_state(saved, state_prev, own);
                shown = c;
                let carried = carry[2u * step_len + first + unit];
                let state_share = share_of_state(at.t, at.row, unit);
                state_past = carried * state_share;
                d_state = carried * (1.0 - state_share);
            }
            if SHOWS_STATE {
                let norm = state_norm_of(unit);
                let y = (c - state_mean) * state_scale;
                shown = norm.x * y + norm.y;
                let d_y = norm.x * output_backward(saved, shown, dh * (1.0 - share));
                d_state += state_scale * (d_y - state_means.x - y * state_means.y);
            } else if HAS_STATE {
                d_state += output_backward(saved, shown, dh * (1.0 - share));
            }
            let grad = inner_backward(saved, h_prev, state_prev, c, shown, dh * (1.0 - share), d_state, own);
            gates[at.here + unit] = grad.pre;
            if HAS_STATE {
                carry[step_len + first + unit] = dh * share;
                carry[2u * step_len + first + unit] = state_past + grad.carry;
            } else {
                carry[step_len + first + unit] = dh * share + grad.carry;
            }
            if UNITS > 0u {
                add_to_sum(0u, at.row, unit, lane_of(grad.pre, 0u) * state_prev);
                add_to_sum(1u, at.row, unit, lane_of(grad.pre, 1u) * state_prev);
                add_to_sum(2u, at.row, unit, lane_of(grad.pre, 3u) * c);
            }
            if NORM {
                let x = gates[at.x_here + unit];
                let r = normal[at.here + unit];
                add_lanes_to_sum(UNITS, at.row, unit, grad.pre * x);
                add_lanes_to_sum(UNITS + SLOT_LANES, at.row, unit, grad.pre * r);
                let d_x = gain_of_input(unit) * grad.pre;
                let d_r = gain_of_recurrent(unit) * grad.pre;
                sums += vec4(input_groups(d_x), recurrent_groups(d_r));
                along += vec4(input_groups(d_x * x), recurrent_groups(d_r * r));
            }
        } else if at.is_row {
            gates[at.here + unit] = Slot();
            carry[step_len + first + unit] += carry[first + unit];
        }
    }
    if NORM {
        let counts = vec4(GROUP_LANES, GROUP_LANES) * f32(hidden);
        let mean = row_sum(local, sums) / counts;
        let mean_along = row_sum(local, along) / counts;
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if at.takes_part {
                let d_pre = gates[at.here + unit];
                let x = gates[at.x_here + unit];
                let r = normal[at.here + unit];
                gates[at.x_here + unit] = of_input(scale.xy)
                    * (gain_of_input(unit) * d_pre - of_input(mean.xy) - x * of_input(mean_along.xy));
                normal[at.here + unit] = of_recurrent(scale.zw)
                    * (gain_of_recurrent(unit) * d_pre - of_recurrent(mean.zw) - r * of_recurrent(mean_along.zw));
            } else if at.is_row {
                gates[at.x_here + unit] = Slot();
                normal[at.here + unit] = Slot();
            }
        }
    }
}
