// cells/gru_update: the second stage of a GRU that resets before the product.
//
//   n = candidate(x_n + r_n)     h = (1 - z) n + z h(t-1)
//
// x is the slot of the first stage, r the product of r h(t-1) and the weights of n. Its slot: r, z, n, or their
// pre-activations. Backward leaves r's lane as it is for the first stage, and passes on the gradient with respect to n's
// pre-activation.
// Mirror: gatefold-reference, cells::gru.
alias Product = f32; // only n has a part from r h(t-1)
const READS_GATES: bool = true;
const HAS_STATE: bool = false;
const CARRIES: bool = true;
const GIVES_INNER: bool = true;
const GATE = Function(GATE_FUNCTION, GATE_ALPHA, GATE_BETA);
const CANDIDATE = Function(CANDIDATE_FUNCTION, CANDIDATE_ALPHA, CANDIDATE_BETA);
// Lanes, in the order of gatefold_model::GruGate.
const GATE_RESET: u32 = 0u;
const GATE_UPDATE: u32 = 1u;
const GATE_NEW: u32 = 2u;

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let z = restored(GATE, x[GATE_UPDATE]);
    let a_n = clipped(x[GATE_NEW] + r);
    let n = apply(CANDIDATE, a_n);
    var saved = x;
    saved[GATE_NEW] = select(n, a_n, KEEP_PRE);
    return Stepped(saved, (1.0 - z) * n + z * h_prev, 0.0);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    let z = restored(GATE, saved[GATE_UPDATE]);
    let n = restored(CANDIDATE, saved[GATE_NEW]);
    let d_all = dh + carry;
    let d_n = d_all * (1.0 - z) * slope(CANDIDATE, saved[GATE_NEW], n);
    let d_z = d_all * (h_prev - n) * slope(GATE, saved[GATE_UPDATE], z);
    return Grad(Slot(saved[GATE_RESET], d_z, d_n, 0.0), d_all * z, d_n);
}

// x is the slot that the first stage left: the tangents of the pre-activations so far.
fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, state: f32, own: vec4<f32>) -> Moved {
    let z = restored(GATE, saved[GATE_UPDATE]);
    let n = restored(CANDIDATE, saved[GATE_NEW]);
    let d_z = x[GATE_UPDATE] * slope(GATE, saved[GATE_UPDATE], z);
    let d_n = (x[GATE_NEW] + r) * slope(CANDIDATE, saved[GATE_NEW], n);
    return Moved(x, (1.0 - z) * d_n + d_z * (before.h - n) + z * before.h_dot, 0.0);
}
