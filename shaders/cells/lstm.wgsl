// cells/lstm: long short-term memory (Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000).
//
//   i, f, o = sigmoid(x + r)     g = tanh(x + r)     c = f c(t-1) + i g     h = o tanh(c)
//
// x is a unit's input part with its bias, r its recurrent part; the state is c. Saved for backward: i, f, g, o; backward
// replaces them by the gradient of the pre-activations, which is the same for x and for r.
// Mirror: gatefold-reference, lstm.
alias Gates = vec4<f32>; // the order of gatefold_model::LstmGate
alias Slot = vec4<f32>;  // what is kept of a step: the saved gates, then their gradients
const GATE_INPUT: u32 = 0u;
const GATE_FORGET: u32 = 1u;
const GATE_CELL: u32 = 2u;
const GATE_OUTPUT: u32 = 3u;

struct Stepped { saved: Slot, h: f32, state: f32 }
struct Grad { pre: Slot, carry: f32 } // carry: dc handed to t-1

fn cell_forward(x: Gates, r: Gates, h_prev: f32, c_prev: f32) -> Stepped {
    let pre = x + r;
    let i = sigmoid(pre[GATE_INPUT]);
    let f = sigmoid(pre[GATE_FORGET]);
    let g = bounded_tanh(pre[GATE_CELL]);
    let o = sigmoid(pre[GATE_OUTPUT]);
    let c = f * c_prev + i * g;
    return Stepped(Slot(i, f, g, o), o * bounded_tanh(c), c);
}

fn cell_backward(saved: Slot, h_prev: f32, c_prev: f32, c: f32, dh: f32, dc_next: f32) -> Grad {
    let i = saved[GATE_INPUT];
    let f = saved[GATE_FORGET];
    let g = saved[GATE_CELL];
    let o = saved[GATE_OUTPUT];
    let tanh_c = bounded_tanh(c);
    let dc = dc_next + dh * o * (1.0 - tanh_c * tanh_c);
    let d_pre = Slot(
        dc * g * i * (1.0 - i),
        dc * c_prev * f * (1.0 - f),
        dc * i * (1.0 - g * g),
        dh * tanh_c * o * (1.0 - o),
    );
    return Grad(d_pre, dc * f);
}

// What a unit's slot adds to dh(t-1) of another unit through the recurrent weights between them.
fn through_weights(d_pre: Slot, weights: Gates) -> f32 {
    return dot(d_pre, weights);
}
