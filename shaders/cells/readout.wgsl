// cells/readout: a readout of h within the step, which may recur with it: a projection (Sak et al. 2014), or an output that
// joins the next step's input.
//
//   p = act(own.x + r)
//
// r is the product with this step's h; own.x is the bias. Saved for backward: p, or its pre-activation. Backward is a kernel
// of its own, readout_backward.
// Mirror: gatefold-reference, scan::readout_forward and scan::readout_backward.
alias Product = Gates;
const READS_GATES: bool = false;
const HAS_STATE: bool = false;
const CANDIDATE = Function(CANDIDATE_FUNCTION, CANDIDATE_ALPHA, CANDIDATE_BETA);

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let a = own.x + r;
    let p = apply(CANDIDATE, a);
    return Stepped(select(p, a, KEEP_PRE), p, 0.0);
}

// x has the tangent of the bias already.
fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, state: f32, own: vec4<f32>) -> Moved {
    let slope = activation_slope(CANDIDATE.code, CANDIDATE.alpha, CANDIDATE.beta, saved, restored(CANDIDATE, saved));
    return Moved(x + r, (x + r) * slope, 0.0);
}
