// cells/gru: the gated recurrent unit that resets after the product (Cho et al. 2014, as in cuDNN).
//
//   r, z = gate(x + r)     n = candidate(x_n + r (x_h + r_h))     h = (1 - z) n + z h(t-1)
//
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

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec3<f32>) -> Stepped {
    let pre = x + r;
    let a_r = clipped(pre[GATE_RESET]);
    let a_z = clipped(pre[GATE_UPDATE]);
    let reset = apply(GATE, a_r);
    let z = apply(GATE, a_z);
    let a_n = clipped(pre[GATE_NEW] + reset * pre[RECURRENT_NEW]);
    let n = apply(CANDIDATE, a_n);
    let r_h = pre[RECURRENT_NEW];
    let saved = select(Slot(reset, z, n, r_h), Slot(a_r, a_z, a_n, r_h), KEEP_PRE);
    return Stepped(saved, (1.0 - z) * n + z * h_prev, 0.0);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec3<f32>,
) -> Grad {
    let reset = restored(GATE, saved[GATE_RESET]);
    let z = restored(GATE, saved[GATE_UPDATE]);
    let n = restored(CANDIDATE, saved[GATE_NEW]);
    let d_all = dh + carry;
    let d_n = d_all * (1.0 - z) * slope(CANDIDATE, saved[GATE_NEW], n);
    let d_r = d_n * saved[RECURRENT_NEW] * slope(GATE, saved[GATE_RESET], reset);
    let d_z = d_all * (h_prev - n) * slope(GATE, saved[GATE_UPDATE], z);
    return Grad(Slot(d_r, d_z, d_n, d_n * reset), d_all * z, 0.0);
}
