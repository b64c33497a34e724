// cells/lstm: long short-term memory (Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000).
//
//   i, f, o = gate(x + r)     g = candidate(x + r)     c = f c(t-1) + i g     h = o output(c)
//
// With own numbers the gates see the cell (peepholes): own.x c(t-1) is added to i, own.y c(t-1) to f, own.z c to o.
// COUPLED 1: f = 1 - i; 2: i = 1 - f. SQUASHED: c = sigmoid(f c(t-1) + i g). MASKED: own.w g in place of g in c.
// Layer normalisation takes all gates together; h then comes from the normalised c.
// The state is c. Saved for backward: i, f, g, o, or their pre-activations.
// Mirror: gatefold-reference, cells::lstm.
alias Product = Gates;
const READS_GATES: bool = true;
const HAS_STATE: bool = true;
const CARRIES: bool = true;
const GIVES_INNER: bool = false;
const GATE = Function(GATE_FUNCTION, GATE_ALPHA, GATE_BETA);
const CANDIDATE = Function(CANDIDATE_FUNCTION, CANDIDATE_ALPHA, CANDIDATE_BETA);
const OUTPUT = Function(OUTPUT_FUNCTION, OUTPUT_ALPHA, OUTPUT_BETA);
const COUPLED_INPUT: u32 = 1u;
const COUPLED_FORGET: u32 = 2u;
// Lanes, in the order of gatefold_model::LstmGate.
const GATE_INPUT: u32 = 0u;
const GATE_FORGET: u32 = 1u;
const GATE_CELL: u32 = 2u;
const GATE_OUTPUT: u32 = 3u;

fn coupled(gates: Gates) -> Gates {
    var coupled = gates;
    if COUPLED == COUPLED_INPUT {
        coupled[GATE_FORGET] = 1.0 - gates[GATE_INPUT];
    }
    if COUPLED == COUPLED_FORGET {
        coupled[GATE_INPUT] = 1.0 - gates[GATE_FORGET];
    }
    return coupled;
}

fn next_state(gates: Gates, c_prev: f32, own: vec4<f32>) -> f32 {
    var g = gates[GATE_CELL];
    if MASKED {
        g *= own.w;
    }
    let c = gates[GATE_FORGET] * c_prev + gates[GATE_INPUT] * g;
    if SQUASHED {
        return sigmoid(c);
    }
    return c;
}

fn restored_gates(saved: Slot) -> Gates {
    return coupled(Gates(
        restored(GATE, saved[GATE_INPUT]),
        restored(GATE, saved[GATE_FORGET]),
        restored(CANDIDATE, saved[GATE_CELL]),
        restored(GATE, saved[GATE_OUTPUT]),
    ));
}

fn cell_state(saved: Slot, c_prev: f32, own: vec4<f32>) -> f32 {
    return next_state(restored_gates(saved), c_prev, own);
}

fn cell_output(saved: Slot, shown: f32) -> f32 {
    return restored(GATE, saved[GATE_OUTPUT]) * apply(OUTPUT, shown);
}

fn output_backward(saved: Slot, shown: f32, dh: f32) -> f32 {
    let slope = activation_slope(OUTPUT.code, OUTPUT.alpha, OUTPUT.beta, shown, apply(OUTPUT, shown));
    return dh * restored(GATE, saved[GATE_OUTPUT]) * slope;
}

const GROUP_LANES = vec2<f32>(4.0, 1.0);

fn input_groups(x: Slot) -> vec2<f32> {
    return vec2(x[GATE_INPUT] + x[GATE_FORGET] + x[GATE_CELL] + x[GATE_OUTPUT], 0.0);
}

fn recurrent_groups(r: Slot) -> vec2<f32> {
    return input_groups(r);
}

fn of_input(groups: vec2<f32>) -> Slot {
    return Slot(groups.x);
}

fn of_recurrent(groups: vec2<f32>) -> Slot {
    return Slot(groups.x);
}

fn cell_forward(x: Gates, r: Product, h_prev: f32, c_prev: f32, own: vec4<f32>) -> Stepped {
    var pre = x + r;
    if UNITS > 0u {
        pre[GATE_INPUT] += own.x * c_prev;
        pre[GATE_FORGET] += own.y * c_prev;
    }
    pre[GATE_INPUT] = clipped(pre[GATE_INPUT]);
    pre[GATE_FORGET] = clipped(pre[GATE_FORGET]);
    pre[GATE_CELL] = clipped(pre[GATE_CELL]);
    // The gate that is not computed has no pre-activation.
    if COUPLED == COUPLED_INPUT {
        pre[GATE_FORGET] = 0.0;
    }
    if COUPLED == COUPLED_FORGET {
        pre[GATE_INPUT] = 0.0;
    }
    var gates = coupled(Gates(
        apply(GATE, pre[GATE_INPUT]),
        apply(GATE, pre[GATE_FORGET]),
        apply(CANDIDATE, pre[GATE_CELL]),
        0.0,
    ));
    let c = next_state(gates, c_prev, own);
    if UNITS > 0u {
        pre[GATE_OUTPUT] += own.z * c;
    }
    pre[GATE_OUTPUT] = clipped(pre[GATE_OUTPUT]);
    gates[GATE_OUTPUT] = apply(GATE, pre[GATE_OUTPUT]);
    return Stepped(select(gates, pre, KEEP_PRE), gates[GATE_OUTPUT] * apply(OUTPUT, c), c);
}

fn cell_backward(
    saved: Slot, h_prev: f32, c_prev: f32, c: f32, dh: f32, dc_next: f32, own: vec4<f32>,
) -> Grad {
    return inner_backward(saved, h_prev, c_prev, c, c, dh, dc_next + output_backward(saved, c, dh), own);
}

fn inner_backward(
    saved: Slot, h_prev: f32, c_prev: f32, c: f32, shown: f32, dh: f32, d_c: f32, own: vec4<f32>,
) -> Grad {
    var gates = restored_gates(saved);
    let d_pre_o = dh * apply(OUTPUT, shown) * slope(GATE, saved[GATE_OUTPUT], gates[GATE_OUTPUT]);
    var dc = d_c;
    if UNITS > 0u {
        dc += d_pre_o * own.z;
    }
    if SQUASHED {
        dc *= c * (1.0 - c);
    }
    let g = gates[GATE_CELL];
    var d_g = dc * gates[GATE_INPUT];
    if MASKED {
        gates[GATE_CELL] *= own.w;
        d_g *= own.w;
    }
    var d_i = dc * gates[GATE_CELL];
    var d_f = dc * c_prev;
    if COUPLED == COUPLED_INPUT {
        d_i -= d_f;
        d_f = 0.0;
    }
    if COUPLED == COUPLED_FORGET {
        d_f -= d_i;
        d_i = 0.0;
    }
    let d_pre = Slot(
        d_i * slope(GATE, saved[GATE_INPUT], gates[GATE_INPUT]),
        d_f * slope(GATE, saved[GATE_FORGET], gates[GATE_FORGET]),
        d_g * slope(CANDIDATE, saved[GATE_CELL], g),
        d_pre_o,
    );
    var carry = dc * gates[GATE_FORGET];
    if UNITS > 0u {
        carry += d_pre[GATE_INPUT] * own.x + d_pre[GATE_FORGET] * own.y;
    }
    return Grad(d_pre, carry, 0.0);
}

fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, c: f32, own: vec4<f32>) -> Moved {
    let gates = restored_gates(saved);
    var pre = x + r;
    if UNITS > 0u {
        pre[GATE_INPUT] += own.x * before.state_dot + before.own_dot.x * before.state;
        pre[GATE_FORGET] += own.y * before.state_dot + before.own_dot.y * before.state;
    }
    var d_i = pre[GATE_INPUT] * slope(GATE, saved[GATE_INPUT], gates[GATE_INPUT]);
    var d_f = pre[GATE_FORGET] * slope(GATE, saved[GATE_FORGET], gates[GATE_FORGET]);
    let d_g = pre[GATE_CELL] * slope(CANDIDATE, saved[GATE_CELL], gates[GATE_CELL]);
    if COUPLED == COUPLED_INPUT {
        d_f = -d_i;
    }
    if COUPLED == COUPLED_FORGET {
        d_i = -d_f;
    }
    var d_c = d_f * before.state + gates[GATE_FORGET] * before.state_dot + d_i * gates[GATE_CELL] + gates[GATE_INPUT] * d_g;
    if SQUASHED {
        d_c *= c * (1.0 - c);
    }
    if UNITS > 0u {
        pre[GATE_OUTPUT] += own.z * d_c + before.own_dot.z * c;
    }
    let d_o = pre[GATE_OUTPUT] * slope(GATE, saved[GATE_OUTPUT], gates[GATE_OUTPUT]);
    return Moved(pre, d_o * apply(OUTPUT, c) + output_backward(saved, c, d_c), d_c);
}
