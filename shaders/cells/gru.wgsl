// cells/gru: the gated recurrent unit that resets after the product (Cho et al. 2014, as in cuDNN).
//
//   r, z = gate(x + r)     n = candidate(x_n + r (x_h + r_h))     h = (1 - z) n + z h(t-1)
//
// MASKED: own.w n in place of n in h. Layer normalisation takes r and z together, and n by itself.
// Four lanes: n has one for its input part and one for its recurrent part, so W has zeros in the last lane and U in the
// third. Saved for backward: r, z, n, or their pre-activations, and the recurrent part of n.
// Mirror: gatefold-reference, cells::gru.
alias Product = Gates;
const READS_GATES: bool = true;
const HAS_STATE: bool = false;
const CARRIES: bool = true;
const GIVES_INNER: bool = false;
const GATE = Function(GATE_FUNCTION, GATE_ALPHA, GATE_BETA);
const CANDIDATE = Function(CANDIDATE_FUNCTION, CANDIDATE_ALPHA, CANDIDATE_BETA);
// Lanes, in the order of gatefold_model::GruGate, then the recurrent part of n.
const GATE_RESET: u32 = 0u;
const GATE_UPDATE: u32 = 1u;
const GATE_NEW: u32 = 2u;
const RECURRENT_NEW: u32 = 3u;

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let pre = x + r;
    let a_r = clipped(pre[GATE_RESET]);
    let a_z = clipped(pre[GATE_UPDATE]);
    let reset = apply(GATE, a_r);
    let z = apply(GATE, a_z);
    let a_n = clipped(pre[GATE_NEW] + reset * pre[RECURRENT_NEW]);
    var n = apply(CANDIDATE, a_n);
    let r_h = pre[RECURRENT_NEW];
    let saved = select(Slot(reset, z, n, r_h), Slot(a_r, a_z, a_n, r_h), KEEP_PRE);
    if MASKED {
        n *= own.w;
    }
    return Stepped(saved, (1.0 - z) * n + z * h_prev, 0.0);
}

fn cell_state(saved: Slot, state_prev: f32, own: vec4<f32>) -> f32 {
    return 0.0;
}

fn cell_output(saved: Slot, shown: f32) -> f32 {
    return 0.0;
}

fn output_backward(saved: Slot, shown: f32, dh: f32) -> f32 {
    return 0.0;
}

fn inner_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, shown: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    return cell_backward(saved, h_prev, state_prev, state, dh, carry, own);
}

const GROUP_LANES = vec2<f32>(2.0, 1.0);

fn input_groups(x: Slot) -> vec2<f32> {
    return vec2(x[GATE_RESET] + x[GATE_UPDATE], x[GATE_NEW]);
}

fn recurrent_groups(r: Slot) -> vec2<f32> {
    return vec2(r[GATE_RESET] + r[GATE_UPDATE], r[RECURRENT_NEW]);
}

fn of_input(groups: vec2<f32>) -> Slot {
    return Slot(groups.x, groups.x, groups.y, 0.0);
}

fn of_recurrent(groups: vec2<f32>) -> Slot {
    return Slot(groups.x, groups.x, 0.0, groups.y);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    let reset = restored(GATE, saved[GATE_RESET]);
    let z = restored(GATE, saved[GATE_UPDATE]);
    let n = restored(CANDIDATE, saved[GATE_NEW]);
    let d_all = dh + carry;
    var d_n = d_all * (1.0 - z) * slope(CANDIDATE, saved[GATE_NEW], n);
    var masked_n = n;
    if MASKED {
        d_n *= own.w;
        masked_n *= own.w;
    }
    let d_r = d_n * saved[RECURRENT_NEW] * slope(GATE, saved[GATE_RESET], reset);
    let d_z = d_all * (h_prev - masked_n) * slope(GATE, saved[GATE_UPDATE], z);
    return Grad(Slot(d_r, d_z, d_n, d_n * reset), d_all * z, 0.0);
}

fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, state: f32, own: vec4<f32>) -> Moved {
    let reset = restored(GATE, saved[GATE_RESET]);
    let z = restored(GATE, saved[GATE_UPDATE]);
    let n = restored(CANDIDATE, saved[GATE_NEW]);
    let pre = x + r;
    let d_r = pre[GATE_RESET] * slope(GATE, saved[GATE_RESET], reset);
    let d_z = pre[GATE_UPDATE] * slope(GATE, saved[GATE_UPDATE], z);
    let through = pre[GATE_NEW] + d_r * saved[RECURRENT_NEW] + reset * pre[RECURRENT_NEW];
    let d_n = through * slope(CANDIDATE, saved[GATE_NEW], n);
    return Moved(pre, (1.0 - z) * d_n + d_z * (before.h - n) + z * before.h_dot, 0.0);
}
