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

fn cell_forward(x: Gates, r: Product, h_prev: f32, state_prev: f32, own: vec4<f32>) -> Stepped {
    let a = clipped(x + r);
    let h = apply(CANDIDATE, a);
    return Stepped(select(h, a, KEEP_PRE), h, 0.0);
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

const GROUP_LANES = vec2<f32>(1.0, 1.0);

fn input_groups(x: Slot) -> vec2<f32> {
    return vec2(x, 0.0);
}

fn recurrent_groups(r: Slot) -> vec2<f32> {
    return vec2(r, 0.0);
}

fn of_input(groups: vec2<f32>) -> Slot {
    return groups.x;
}

fn of_recurrent(groups: vec2<f32>) -> Slot {
    return groups.x;
}

fn cell_backward(
    saved: Slot, h_prev: f32, state_prev: f32, state: f32, dh: f32, carry: f32, own: vec4<f32>,
) -> Grad {
    return Grad(dh * slope(CANDIDATE, saved, restored(CANDIDATE, saved)), 0.0, 0.0);
}

fn cell_tangent(saved: Slot, x: Gates, r: Product, before: Before, state: f32, own: vec4<f32>) -> Moved {
    return Moved(x + r, (x + r) * slope(CANDIDATE, saved, restored(CANDIDATE, saved)), 0.0);
}
