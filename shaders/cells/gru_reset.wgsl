// cells/gru_reset: the first stage of a GRU that resets before the product (Cho et al. 2014).
//
//   r, z = gate(x + r)     result: r h(t-1), which the second stage multiplies by its own weights
//
// Its slot: r, z, or their pre-activations, and n so far. In backward, dh is the gradient with respect to r h(t-1), and the
// second stage has run already.
// Mirror: gatefold-reference, cells::gru.
alias Product = Gates;
const READS_GATES: bool = true;
const HAS_STATE: bool = false;
const CARRIES: bool = true;
const GIVES_INNER: bool = false;
const GATE = Function(GATE_FUNCTION, GATE_ALPHA, GATE_BETA);
// Lanes, in the order of gatefold_model::GruGate.
const GATE_RESET: u32 = 0u;
const GATE_UPDATE: u32 = 1u;
const GATE_NEW: u32 = 2u;

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let pre = x + r;
    let a_r = clipped(pre[GATE_RESET]);
    let a_z = clipped(pre[GATE_UPDATE]);
    let reset = apply(GATE, a_r);
    let so_far = pre[GATE_NEW];
    let saved = select(Slot(reset, apply(GATE, a_z), so_far, 0.0), Slot(a_r, a_z, so_far, 0.0), KEEP_PRE);
    return Stepped(saved, reset * h_prev, 0.0);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    let reset = restored(GATE, saved[GATE_RESET]);
    var d_pre = saved;
    d_pre[GATE_RESET] = dh * h_prev * slope(GATE, saved[GATE_RESET], reset);
    return Grad(d_pre, carry + dh * reset, 0.0);
}

fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, state: f32, own: vec4<f32>) -> Moved {
    let reset = restored(GATE, saved[GATE_RESET]);
    let pre = x + r;
    let d_r = pre[GATE_RESET] * slope(GATE, saved[GATE_RESET], reset);
    return Moved(pre, d_r * before.h + reset * before.h_dot, 0.0);
}
