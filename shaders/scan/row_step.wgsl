// scan/row_step: one time step of one row, with sums over the row within the step. Joined with row, and with a kernel that
// declares gates, normal, state and h, and gives the recurrent product by product_of.
const SHOWS_STATE: bool = NORM && HAS_STATE;

// A row at a step, and where its first elements are.
struct RowAt {
    t: u32,
    row: u32,
    takes_part: bool,
    here: u32,   // in gates and normal
    x_here: u32, // in gates, of x
    h_prev: u32, // in h
    h: u32,
    state_prev: u32, // in state
    state: u32,
}

// All invocations of the workgroup call this together.
fn row_step(local: u32, at: RowAt) {
    let hidden = params.hidden;
    // The groups of x, then those of r.
    var mean: vec4<f32>;
    var scale: vec4<f32>;
    if NORM {
        let counts = vec4(GROUP_LANES, GROUP_LANES) * f32(hidden);
        var sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            sums += vec4(input_groups(gates[at.x_here + unit]), recurrent_groups(product_of(at.row, unit)));
        }
        mean = row_sum(local, sums) / counts;
        sums = vec4<f32>();
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            let x = gates[at.x_here + unit] - of_input(mean.xy);
            let r = product_of(at.row, unit) - of_recurrent(mean.zw);
            sums += vec4(input_groups(x * x), recurrent_groups(r * r));
        }
        scale = 1.0 / sqrt(row_sum(local, sums) / counts + EPSILON);
    }

    var state_sum = 0.0;
    for (var unit = local; unit < hidden; unit += WG_SIZE) {
        if at.takes_part {
            var x = gates[at.x_here + unit];
            var r = product_of(at.row, unit);
            if NORM {
                x = (x - of_input(mean.xy)) * of_input(scale.xy);
                r = (r - of_recurrent(mean.zw)) * of_recurrent(scale.zw);
                if SAVE {
                    gates[at.x_here + unit] = x;
                    normal[at.here + unit] = r;
                }
                x = gain_of_input(unit) * x + bias_of(unit);
                r = gain_of_recurrent(unit) * r;
            }
            let h_prev = h[at.h_prev + unit];
            var state_prev = 0.0;
            if HAS_STATE {
                state_prev = state[at.state_prev + unit];
            }
            let stepped = cell_forward(x, r, h_prev, state_prev, own_in_row(at.t, at.row, unit));
            gates[at.here + unit] = stepped.saved;
            if SHOWS_STATE {
                // The slot may be that of the state before, whose share is added here; what the sums need stays in h.
                h[at.h + unit] = stepped.state;
                state_sum += stepped.state;
            }
            if HAS_STATE {
                let share = share_of_state(at.t, at.row, unit);
                state[at.state + unit] = share * state_prev + (1.0 - share) * stepped.state;
            }
            if !SHOWS_STATE {
                let share = share_of_h(at.t, at.row, unit);
                h[at.h + unit] = share * h_prev + (1.0 - share) * stepped.h;
            }
        }
    }

    if SHOWS_STATE {
        let state_mean = row_sum(local, vec4(state_sum)).x / f32(hidden);
        var squares = 0.0;
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            let centred = h[at.h + unit] - state_mean;
            squares += centred * centred;
        }
        let state_scale = 1.0 / sqrt(row_sum(local, vec4(squares)).x / f32(hidden) + EPSILON);
        for (var unit = local; unit < hidden; unit += WG_SIZE) {
            if at.takes_part {
                let norm = state_norm_of(unit);
                let shown = norm.x * ((h[at.h + unit] - state_mean) * state_scale) + norm.y;
                let share = share_of_h(at.t, at.row, unit);
                let new_h = cell_output(gates[at.here + unit], shown);
                h[at.h + unit] = share * h[at.h_prev + unit] + (1.0 - share) * new_h;
            }
        }
        if SAVE && at.takes_part && local == 0u {
            let stats = params.stats_at + (at.t * params.batch + at.row) * 6u;
            state[stats + 4u] = state_mean;
            state[stats + 5u] = state_scale;
        }
    }
    if NORM && SAVE && at.takes_part && local < 4u {
        state[params.stats_at + (at.t * params.batch + at.row) * 6u + local] = scale[local];
    }
}
