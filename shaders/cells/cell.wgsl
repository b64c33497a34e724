// cells/cell: the interface of every cell.
//
//   cell_forward(x, r, h_prev, state_prev, own) -> Stepped
//   cell_backward(saved, h_prev, state_prev, state, dh, carry, own) -> Grad
//   cell_tangent(saved, x, r, before, state, own) -> Moved
//   alias Product              a unit's part of the recurrent product
//   const READS_GATES: bool    whether there is an x
//   const HAS_STATE: bool      whether there is a state beside h
//   const CARRIES: bool        backward passes something to step t-1 around all weights: the gradient with respect to
//                              the state, or a part of dh
//   const GIVES_INNER: bool    backward passes something to the next kernel of the step, for from_inner
//
//   const MASKED: bool         whether own.w multiplies the candidate; given by the file that has own_of
//
// A cell of one stage also gives what a step with layer normalisation asks for:
//
//   cell_state(saved, state_prev, own) -> f32       the state, from what was saved
//   cell_output(saved, shown) -> f32                h from the state as it is shown, that is, normalised
//   output_backward(saved, shown, dh) -> f32        the gradient with respect to it
//   inner_backward(saved, h_prev, state_prev, state, shown, dh, carry, own) -> Grad
//                                                   cell_backward, whose carry has that gradient already
//   input_groups, recurrent_groups, of_input, of_recurrent, GROUP_LANES
//                                                   sums of a slot's lanes over each of two groups that are normalised
//                                                   together, numbers of the groups spread over the lanes, lanes of a group
//
// x is a unit's input part with its bias, r its recurrent part; own holds up to three numbers of the unit's own.
// saved are the activated gates, or with KEEP_PRE the clipped pre-activations: the slopes then do not follow from the gates.
// Backward replaces saved by the gradient with respect to the pre-activations. The tangent of a step takes those of x and r,
// and before, what the step started from; Moved is the tangent of its results.
struct Stepped { saved: Slot, h: f32, state: f32 }
struct Grad { pre: Slot, carry: f32, inner: f32 }
struct Before { h: f32, h_dot: f32, state: f32, state_dot: f32, own_dot: vec4<f32> }
struct Moved { pre: Slot, h: f32, state: f32 }

// The pre-activation that a function sees.
fn clipped(a: f32) -> f32 {
    if CLIP > 0.0 {
        return unless_nan(a, clamp(a, -CLIP, CLIP));
    }
    return a;
}

// A function with its parameters.
struct Function { code: u32, alpha: f32, beta: f32 }

fn apply(f: Function, a: f32) -> f32 {
    return activate(f.code, f.alpha, f.beta, a);
}

// The value of a function, from what was saved of it.
fn restored(f: Function, saved: f32) -> f32 {
    if KEEP_PRE {
        return apply(f, saved);
    }
    return saved;
}

// The slope of a function, from what was saved of it and from its value.
fn slope(f: Function, saved: f32, y: f32) -> f32 {
    let slope = activation_slope(f.code, f.alpha, f.beta, saved, y);
    if CLIP > 0.0 {
        return select(slope, 0.0, abs(saved) >= CLIP);
    }
    return slope;
}
