// scan/row_backward: one time step backward of one layer, before the product that takes d_r to h(t-1): the chain rule through
// row_forward.
//
//   dh = through + carry_h + d_out(t)     d_h' = (1 - z) dh     (d_pre, carry) = cell_backward(saved, ..., d_h', ...)
//   d_x = norm'(gain_x d_pre)     d_r = norm'(gain_r d_pre)     carry_h = z dh, and what the cell hands on
//
// where through is d_r(t+1) U^T and norm' the chain rule through a normalisation to y with its factor s:
// s (d - mean(d) - y mean(d y)). A row that is not active hands dh on without d_out.
// carry holds [B, H] each: through, carry_h, and the carry of the state; then sums over all steps so far, for the gradients:
// with UNITS 3 those of the peepholes, [3, B, H]; with NORM those of the gains of x and r, [B, H] of lanes each, and of the gain
// and the bias of the state, [B, H] each.
// Joined with one of the gates files, with one cell of one stage, and with rows and row.
// A workgroup runs a row; workgroups in two axes. Barriers within the sums. Writes each element of step t once: zeros for rows
// that are not active.
// Mirror: gatefold-reference, scan::row::backward.
struct RowBackward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    steps: u32,  // T
    h_from: u32, // the slot of h(t-1)
    state_from: u32,
    d_stride: u32, // of a row of d_out
    d_begin: u32,  // the column of this scan's part
    x_at: u32,     // with NORM, where the normalised x are in gates
    masks_at: u32, // in fixed
    stats_at: u32, // with NORM, where the factors and the state's mean are in state, [T, B, 6]
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       state:   array<f32>; // [slots, B, H] read with HAS_STATE
@group(0) @binding(3) var<storage, read>       h:       array<f32>; // [slots, B, H]
@group(0) @binding(4) var<storage, read>       d_out:   array<f32>; // [T, B, d_stride]
@group(0) @binding(5) var<storage, read_write> gates:   array<Slot>; // [T, B, H]    saved in, d_pre out; from x_at on d_x out
@group(0) @binding(6) var<storage, read_write> normal:  array<Slot>; // [T, B, H]    with NORM: the normalised r in, d_r out
@group(0) @binding(7) var<storage, read_write> carry:   array<f32>;

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

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let nth = group.y * params.groups_x + group.x;
    let row = min(nth, params.batch - 1u);
    let is_row = nth < params.batch;
    let takes_part = is_row && is_active(params.t, row);
    let first = row * hidden;
    let here = params.t * step_len + first;
    let x_here = params.x_at + here;
    let out_at = (params.t * params.batch + row) * params.d_stride + params.d_begin;
    var scale: vec4<f32>;
    var state_mean = 0.0;
    var state_scale = 0.0;
    if NORM {
        let at = params.stats_at + (params.t * params.batch + row) * 6u;
        scale = vec4(state[at], state[at + 1u], state[at + 2u], state[at + 3u]);
        if SHOWS_STATE {
            state_mean = state[at + 4u];
            state_scale = state[at + 5u];
        }
    }

    // The mean of the gradient of the normalised state, and that of its product with it.
    var state_means = vec4<f32>();
    if SHOWS_STATE {
        var sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if takes_part {
                let norm = state_norm_of(unit);
                let c = cell_state(gates[here + unit], state[params.state_from * step_len + first + unit], own_in_row(row, unit));
                let y = (c - state_mean) * state_scale;
                let dh = (carry[first + unit] + carry[step_len + first + unit] + d_out[out_at + unit])
                    * (1.0 - share_of_h(row, unit));
                let d_shown = output_backward(gates[here + unit], norm.x * y + norm.y, dh);
                add_to_sum(UNITS + 2u * SLOT_LANES, row, unit, d_shown * y);
                add_to_sum(UNITS + 2u * SLOT_LANES + 1u, row, unit, d_shown);
                sums += vec4(d_shown * norm.x, d_shown * norm.x * y, 0.0, 0.0);
            }
        }
        state_means = row_sum(local, sums) / f32(hidden);
    }

    // The groups of x, then those of r: sums of the gradients of what was normalised, and of their products with it.
    var along = vec4<f32>();
    var sums = vec4<f32>();
    for (var unit = local; unit < hidden; unit += WG_SIZE) {
        if takes_part {
            let own = own_in_row(row, unit);
            let saved = gates[here + unit];
            let h_prev = h[params.h_from * step_len + first + unit];
            let share = share_of_h(row, unit);
            let dh = carry[first + unit] + carry[step_len + first + unit] + d_out[out_at + unit];
            var state_prev = 0.0;
            var c = 0.0;
            var shown = 0.0;
            var d_state = 0.0;
            var state_past = 0.0;
            if HAS_STATE {
                state_prev = state[params.state_from * step_len + first + unit];
                c = cell_state(saved, state_prev, own);
                shown = c;
                let carried = carry[2u * step_len + first + unit];
                let state_share = share_of_state(row, unit);
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
            gates[here + unit] = grad.pre;
            if HAS_STATE {
                carry[step_len + first + unit] = dh * share;
                carry[2u * step_len + first + unit] = state_past + grad.carry;
            } else {
                carry[step_len + first + unit] = dh * share + grad.carry;
            }
            if UNITS > 0u {
                add_to_sum(0u, row, unit, lane_of(grad.pre, 0u) * state_prev);
                add_to_sum(1u, row, unit, lane_of(grad.pre, 1u) * state_prev);
                add_to_sum(2u, row, unit, lane_of(grad.pre, 3u) * c);
            }
            if NORM {
                let x = gates[x_here + unit];
                let r = normal[here + unit];
                add_lanes_to_sum(UNITS, row, unit, grad.pre * x);
                add_lanes_to_sum(UNITS + SLOT_LANES, row, unit, grad.pre * r);
                let d_x = gain_of_input(unit) * grad.pre;
                let d_r = gain_of_recurrent(unit) * grad.pre;
                sums += vec4(input_groups(d_x), recurrent_groups(d_r));
                along += vec4(input_groups(d_x * x), recurrent_groups(d_r * r));
            }
        } else if is_row {
            gates[here + unit] = Slot();
            carry[step_len + first + unit] += carry[first + unit];
        }
    }
    if NORM {
        let counts = vec4(GROUP_LANES, GROUP_LANES) * f32(hidden);
        let mean = row_sum(local, sums) / counts;
        let mean_along = row_sum(local, along) / counts;
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if takes_part {
                let d_pre = gates[here + unit];
                let x = gates[x_here + unit];
                let r = normal[here + unit];
                gates[x_here + unit] = of_input(scale.xy)
                    * (gain_of_input(unit) * d_pre - of_input(mean.xy) - x * of_input(mean_along.xy));
                normal[here + unit] = of_recurrent(scale.zw)
                    * (gain_of_recurrent(unit) * d_pre - of_recurrent(mean.zw) - r * of_recurrent(mean_along.zw));
            } else if is_row {
                gates[x_here + unit] = Slot();
                normal[here + unit] = Slot();
            }
        }
    }
}
