//! The LSTM cell: one unit of one row at one time step.
//!
//! With the pre-activations `a` (input and recurrent part together):
//!
//! ```text
//! i = sigmoid(a_i)   f = sigmoid(a_f)   g = tanh(a_g)   o = sigmoid(a_o)
//! c = f c_prev + i g
//! h = o tanh(c)
//! ```
//!
//! Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000.

use crate::Real;
use crate::activation::{sigmoid, tanh};
use gatefold_model::LstmGate;

/// A value for each gate, in the order of [`LstmGate`].
pub type Gates<R> = [R; LstmGate::COUNT];

/// What one step of one unit computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellForward<R> {
    /// The activated gates i, f, g, o.
    pub gates: Gates<R>,
    /// The cell state after the step.
    pub c: R,
    /// The output.
    pub h: R,
}

/// What one step of one unit hands back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellBackward<R> {
    /// The cotangent of the pre-activations.
    pub d_pre: Gates<R>,
    /// The cotangent of the cell state before the step.
    pub d_c_prev: R,
}

/// Gates, cell state and output from the pre-activations and the previous cell state.
#[inline]
pub fn cell_forward<R: Real>(pre: Gates<R>, c_prev: R) -> CellForward<R> {
    let i = sigmoid(pre[LstmGate::Input as usize]);
    let f = sigmoid(pre[LstmGate::Forget as usize]);
    let g = tanh(pre[LstmGate::Cell as usize]);
    let o = sigmoid(pre[LstmGate::Output as usize]);
    let c = f * c_prev + i * g;
    CellForward { gates: [i, f, g, o], c, h: o * tanh(c) }
}

/// The chain rule through [`cell_forward`].
///
/// `gates` and `c` are what the forward step returned, `d_h` is the whole cotangent of `h`, and `d_c` what the step
/// after this one hands back for `c`:
///
/// ```text
/// d_o = d_h tanh(c)           d_c' = d_c + d_h o (1 - tanh(c)^2)
/// d_i = d_c' g                d_f = d_c' c_prev                d_g = d_c' i
/// d_a_s = d_s s (1 - s)  for s = i, f, o;      d_a_g = d_g (1 - g^2)
/// d_c_prev = d_c' f
/// ```
#[inline]
pub fn cell_backward<R: Real>(gates: Gates<R>, c_prev: R, c: R, d_h: R, d_c: R) -> CellBackward<R> {
    let [i, f, g, o] = gates;
    let tanh_c = tanh(c);
    let d_o = d_h * tanh_c;
    let d_c = d_c + d_h * o * (R::ONE - tanh_c * tanh_c);
    let (d_i, d_f, d_g) = (d_c * g, d_c * c_prev, d_c * i);
    CellBackward {
        d_pre: [
            d_i * i * (R::ONE - i),
            d_f * f * (R::ONE - f),
            d_g * (R::ONE - g * g),
            d_o * o * (R::ONE - o),
        ],
        d_c_prev: d_c * f,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backward_matches_central_differences() {
        let (pre, c_prev): (Gates<f64>, f64) = ([0.3, -0.8, 1.1, 0.5], -0.6);
        let (weight_h, weight_c) = (1.7, -0.4);
        let loss = |x: [f64; 5]| {
            let out = cell_forward([x[0], x[1], x[2], x[3]], x[4]);
            weight_h * out.h + weight_c * out.c
        };
        let out = cell_forward(pre, c_prev);
        let back = cell_backward(out.gates, c_prev, out.c, weight_h, weight_c);
        let at = [pre[0], pre[1], pre[2], pre[3], c_prev];
        let found = [back.d_pre[0], back.d_pre[1], back.d_pre[2], back.d_pre[3], back.d_c_prev];
        for k in 0..5 {
            let shifted = |by: f64| {
                let mut x = at;
                x[k] += by;
                loss(x)
            };
            let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((found[k] - difference).abs() < 1e-9, "argument {k}: {} and {difference}", found[k]);
        }
    }

    #[test]
    fn a_wide_open_forget_gate_keeps_the_cell() {
        let out = cell_forward([-1e4f32, 1e4, 3.0, 1e4], 0.25);
        assert_eq!((out.c, out.h), (0.25, 0.25f32.tanh()));
    }
}
