// scan/row_forward: one time step of one layer, after its recurrent product r, with sums over the row within the step: layer
// normalisation of x, r and the state (Ba, Kiros and Hinton 2016), and zoneout and masks of the candidate.
//
//   x = gain_x norm(x) + bias     r = gain_r norm(r)     (h', state', saved) = cell_forward(x, r, ...)
//   with NORM and a state: h' = cell_output(saved, gain norm(state') + bias)
//   h = z h(t-1) + (1 - z) h'     state = z_c state(t-1) + (1 - z_c) state'
//
// Without NORM, x has its bias already. norm takes the groups of lanes that the cell names, over all units of the row.
// Joined with one of the gates files, with one cell of one stage, and with rows and row.
// A workgroup runs a row; workgroups in two axes. Barriers within the sums. Writes each element of step t once, and nothing in
// rows that are not active.
// Mirror: gatefold-reference, scan::row::forward.
struct RowForward {
    t: u32,
    batch: u32,  // B
    hidden: u32, // H
    steps: u32,  // T
    h_from: u32, // the slot of h(t-1)
    h_to: u32,
    state_from: u32,
    state_to: u32,
    x_at: u32,     // with NORM, where the products of the inputs are in gates
    masks_at: u32, // in fixed
    stats_at: u32, // with NORM and SAVE, where the factors and the state's mean are in state, [T, B, 6]
    groups_x: u32,
}

@group(0) @binding(0) var<storage, read>       fixed:   array<f32>;
@group(0) @binding(1) var<storage, read>       lengths: array<u32>; // [B]           read with LENGTHS
@group(0) @binding(2) var<storage, read>       product: array<Slot>; // [B, H]       the recurrent product
@group(0) @binding(3) var<storage, read_write> gates:   array<Slot>; // [T, B, H]    x in, saved out; with NORM x from x_at on
@group(0) @binding(4) var<storage, read_write> normal:  array<Slot>; // [T, B, H]    with NORM and SAVE: the normalised r
@group(0) @binding(5) var<storage, read_write> state:   array<f32>; // [slots, B, H] touched with HAS_STATE
@group(0) @binding(6) var<storage, read_write> h:       array<f32>; // [slots, B, H]

const SHOWS_STATE: bool = NORM && HAS_STATE;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let hidden = params.hidden;
    let step_len = params.batch * hidden;
    let nth = group.y * params.groups_x + group.x;
    let row = min(nth, params.batch - 1u);
    let takes_part = nth < params.batch && is_active(params.t, row);
    let here = params.t * step_len + row * hidden;
    let x_here = select(0u, params.x_at, NORM) + here;
    let h_prev_at = params.h_from * step_len + row * hidden;
    let h_at = params.h_to * step_len + row * hidden;
    let c_prev_at = params.state_from * step_len + row * hidden;
    let c_at = params.state_to * step_len + row * hidden;

    // The groups of x, then those of r.
    var mean: vec4<f32>;
    var scale: vec4<f32>;
    if NORM {
        let counts = vec4(GROUP_LANES, GROUP_LANES) * f32(hidden);
        var sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            sums += vec4(input_groups(gates[x_here + unit]), recurrent_groups(product[row * hidden + unit]));
        }
        mean = row_sum(local, sums) / counts;
        sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            let x = gates[x_here + unit] - of_input(mean.xy);
            let r = product[row * hidden + unit] - of_recurrent(mean.zw);
            sums += vec4(input_groups(x * x), recurrent_groups(r * r));
        }
        scale = 1.0 / sqrt(row_sum(local, sums) / counts + EPSILON);
    }

    var state_sum = 0.0;
    for (var unit = local; unit < hidden; unit += WG_SIZE) {
        if takes_part {
            var x = gates[x_here + unit];
            var r = product[row * hidden + unit];
            if NORM {
                x = (x - of_input(mean.xy)) * of_input(scale.xy);
                r = (r - of_recurrent(mean.zw)) * of_recurrent(scale.zw);
                if SAVE {
                    gates[x_here + unit] = x;
                    normal[here + unit] = r;
                }
                x = gain_of_input(unit) * x + bias_of(unit);
                r = gain_of_recurrent(unit) * r;
            }
            let h_prev = h[h_prev_at + unit];
            var state_prev = 0.0;
            if HAS_STATE {
                state_prev = state[c_prev_at + unit];
            }
            let stepped = cell_forward(x, r, h_prev, state_prev, own_in_row(row, unit));
            gates[here + unit] = stepped.saved;
            if SHOWS_STATE {
                // The slot may be that of the state before, whose share is added here; what the sums need stays in h.
                h[h_at + unit] = stepped.state;
                state_sum += stepped.state;
            }
            if HAS_STATE {
                let share = share_of_state(row, unit);
                state[c_at + unit] = share * state_prev + (1.0 - share) * stepped.state;
            }
            if !SHOWS_STATE {
                let share = share_of_h(row, unit);
                h[h_at + unit] = share * h_prev + (1.0 - share) * stepped.h;
            }
        }
    }

    if SHOWS_STATE {
        let state_mean = row_sum(local, vec4(state_sum)).x / f32(hidden);
        var squares = 0.0;
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            let centred = h[h_at + unit] - state_mean;
            squares += centred * centred;
        }
        let state_scale = 1.0 / sqrt(row_sum(local, vec4(squares)).x / f32(hidden) + EPSILON);
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if takes_part {
                let norm = state_norm_of(unit);
                let shown = norm.x * ((h[h_at + unit] - state_mean) * state_scale) + norm.y;
                let share = share_of_h(row, unit);
                let new_h = cell_output(gates[here + unit], shown);
                h[h_at + unit] = share * h[h_prev_at + unit] + (1.0 - share) * new_h;
            }
        }
        if SAVE && takes_part && local == 0u {
            let at = params.stats_at + (params.t * params.batch + row) * 6u;
            state[at + 4u] = state_mean;
            state[at + 5u] = state_scale;
        }
    }
    if NORM && SAVE && takes_part && local < 4u {
        state[params.stats_at + (params.t * params.batch + row) * 6u + local] = scale[local];
    }
}
