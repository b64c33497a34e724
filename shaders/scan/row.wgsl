// scan/row: sums over a row within a step, and the numbers that a unit has by itself, for the kernels of a step whose
// workgroups run a row each: row_forward and row_backward, which declare fixed, lengths and their params.
//
// fixed holds, one after another, what is the same for all steps, [H] or [H] of lanes: with UNITS 3 the peepholes, three
// rows of [H]; with NORM the bias, the gain of x, the gain of r, of lanes each, then the gain and bias of the state. From
// masks_at on, with NOISE, it holds the masks that there are, [T, B, H] each: zeros where a unit keeps its h, zeros where it
// keeps its state, the factors of the candidate.
const MASKED: bool = NOISE && CANDIDATE_MASK;
const ZONES_H: bool = ZONEOUT > 0.0;
const ZONES_STATE: bool = HAS_STATE && ZONEOUT_CELL > 0.0;

var<workgroup> row_parts: array<vec4<f32>, WG_SIZE>;

// The sum over all invocations, which are a power of two; for all of them.
fn row_sum(local: u32, part: vec4<f32>) -> vec4<f32> {
    row_parts[local] = part;
    workgroupBarrier();
    for (var half = WG_SIZE / 2u; half > 0u; half /= 2u) {
        if local < half {
            row_parts[local] += row_parts[local + half];
        }
        workgroupBarrier();
    }
    let sum = row_parts[0];
    workgroupBarrier();
    return sum;
}

// The nth of the rows of lanes that come with NORM.
fn lanes_of(nth: u32, unit: u32) -> Slot {
    let at = (UNITS + nth * SLOT_LANES) * params.hidden + unit * SLOT_LANES;
    let last = SLOT_LANES - 1u;
    return slot_of(fixed[at], fixed[at + min(1u, last)], fixed[at + min(2u, last)], fixed[at + min(3u, last)]);
}

fn bias_of(unit: u32) -> Slot {
    return lanes_of(0u, unit);
}

fn gain_of_input(unit: u32) -> Slot {
    return lanes_of(1u, unit);
}

fn gain_of_recurrent(unit: u32) -> Slot {
    return lanes_of(2u, unit);
}

// The gain and the bias of the state.
fn state_norm_of(unit: u32) -> vec2<f32> {
    let at = (UNITS + 3u * SLOT_LANES) * params.hidden + unit;
    return vec2(fixed[at], fixed[at + params.hidden]);
}

fn mask_at(nth: u32, t: u32, row: u32, unit: u32) -> f32 {
    let step_len = params.batch * params.hidden;
    return fixed[params.masks_at + (nth * params.steps + t) * step_len + row * params.hidden + unit];
}

// The share of h(t-1) that a unit keeps.
fn share_of_h(t: u32, row: u32, unit: u32) -> f32 {
    if ZONES_H {
        if NOISE {
            return select(0.0, 1.0, mask_at(0u, t, row, unit) == 0.0);
        }
        return ZONEOUT;
    }
    return 0.0;
}

// The share of the state before that a unit keeps.
fn share_of_state(t: u32, row: u32, unit: u32) -> f32 {
    if ZONES_STATE {
        if NOISE {
            return select(0.0, 1.0, mask_at(u32(ZONES_H), t, row, unit) == 0.0);
        }
        return ZONEOUT_CELL;
    }
    return 0.0;
}

// A unit's own numbers, and the factor of its candidate.
fn own_in_row(t: u32, row: u32, unit: u32) -> vec4<f32> {
    var own = vec4<f32>();
    if UNITS > 0u {
        own.x = fixed[unit];
        own.y = fixed[params.hidden + unit];
        own.z = fixed[2u * params.hidden + unit];
    }
    if MASKED {
        own.w = mask_at(u32(ZONES_H) + u32(ZONES_STATE), t, row, unit);
    }
    return own;
}
