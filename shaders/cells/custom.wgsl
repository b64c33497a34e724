// cells/custom: a cell from outside of this crate, as scans call it.
//
//   (saved, h, state) = custom_forward(x + r, prev)      (d_pre, d_prev) = custom_backward(saved, prev, state, d_h, d_state)
//
// prev is the number that a unit carries around the weights: with HAS_STATE its state, which backward carries the gradient of,
// else h(t-1), whose share of the gradient joins dh in the step before. Four lanes, of which LANES_USED are the cell's; W and U
// have zeros in the others, and so have their gradients. A gate whose parts from x and r stay apart has two lanes.
// Joined with cells/custom_unit and with the text that has the two functions; its names begin with custom_, and no other
// part of a kernel has such names. It has no tangent and none of what a step with layer normalisation asks for.
// Mirror: gatefold-reference, cells::custom.
alias Product = Gates;
const READS_GATES: bool = true;
const CARRIES: bool = true;
const GIVES_INNER: bool = false;

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let step = custom_forward(x + r, select(h_prev, state_prev, HAS_STATE));
    return Stepped(step.saved, step.h, step.state);
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    var found: CustomGradient;
    if HAS_STATE {
        found = custom_backward(saved, state_prev, state, dh, carry);
    } else {
        found = custom_backward(saved, h_prev, 0.0, dh + carry, 0.0);
    }
    let used = vec4(0u, 1u, 2u, 3u) < vec4(LANES_USED);
    return Grad(select(Slot(), found.pre, used), found.prev, 0.0);
}
