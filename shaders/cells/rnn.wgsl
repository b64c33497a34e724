// cells/rnn: the vanilla recurrent cell (Elman 1990).
//
//   h = act(x + r)
//
// Saved for backward: h, or x + r.
// Mirror: gatefold-reference, cells::rnn.
alias Product = Gates;
const READS_GATES: bool = true;
const HAS_STATE: bool = false;
const CARRIES: bool = false;
const GIVES_INNER: bool = false;
const CANDIDATE = Function(CANDIDATE_FUNCTION, CANDIDATE_ALPHA, CANDIDATE_BETA);

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec3<f32>) -> Stepped {
    let a = clipped(x + r);
    let h = apply(CANDIDATE, a);
    return Stepped(select(h, a, KEEP_PRE), h, 0.0);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec3<f32>,
) -> Grad {
    return Grad(dh * slope(CANDIDATE, saved, restored(CANDIDATE, saved)), 0.0, 0.0);
}
