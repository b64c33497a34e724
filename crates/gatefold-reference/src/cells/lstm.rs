//! The LSTM cell: one unit of one row at one time step.
//!
//! With the pre-activations `a` (input and recurrent part together), the gate function `s`, the candidate's `t` and
//! the output's `u`, by default sigmoid, tanh and tanh:
//!
//! ```text
//! i = s(a_i + p_i c_prev)   f = s(a_f + p_f c_prev)   g = t(a_g)   o = s(a_o + p_o c)
//! c = f c_prev + i g        squashed: c = sigmoid(f c_prev + i g)
//! h = o u(c)
//! ```
//!
//! The terms with `p` belong to peepholes (Gers and Schmidhuber 2000); a clip bounds the terms in brackets. Coupled
//! gates: `f = 1 - i` or `i = 1 - f`. A mask multiplies `g` (Semeniuta et al. 2016), and with layer normalisation the
//! output sees the normalised `c` instead of `c`: [`output`] takes it as `shown`. Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000.

use super::Gating;
use crate::Real;
use crate::activation::{apply, sigmoid, slope};
use gatefold_model::{Coupling, LstmCell, LstmGate};

/// One value per gate, in the order of [`LstmGate`].
pub type Gates<R> = [R; LstmGate::COUNT];

/// A unit's peepholes `p_i`, `p_f`, `p_o`.
pub type Peephole<R> = [R; 3];

/// The gates with peepholes, in storage order.
pub const PEEPHOLE_GATES: [LstmGate; 3] = [LstmGate::Input, LstmGate::Forget, LstmGate::Output];

/// The result of one step of one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellForward<R> {
    /// The numbers kept for the gates i, f, g, o. For the one that a coupling leaves out, its value if gates are kept,
    /// and 0 if pre-activations are.
    pub saved: Gates<R>,
    /// The cell state after the step.
    pub c: R,
    /// The output.
    pub h: R,
}

/// The cotangents that one step of one unit hands back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellBackward<R> {
    /// The cotangent of the pre-activations; 0 for a gate that a coupling leaves out.
    pub d_pre: Gates<R>,
    /// The cotangent of the cell state before the step.
    pub d_c_prev: R,
}

/// The gates i, f, g, o from the numbers kept.
fn gates<R: Real>(gating: Gating<R>, cell: &LstmCell, saved: Gates<R>) -> Gates<R> {
    let [i, f, g, o] = saved;
    let gate = |kept| gating.value(cell.activations.gate, kept);
    let (i, f) = match cell.coupling {
        None => (gate(i), gate(f)),
        Some(Coupling::Input) => (gate(i), R::ONE - gate(i)),
        Some(Coupling::Forget) => (R::ONE - gate(f), gate(f)),
    };
    [i, f, gating.value(cell.activations.candidate, g), gate(o)]
}

/// Gates, cell state and output from the pre-activations and the previous cell state; `peephole` is zeros where the
/// cell has none.
pub fn cell_forward<R: Real>(
    gating: Gating<R>,
    cell: &LstmCell,
    pre: Gates<R>,
    peephole: Peephole<R>,
    c_prev: R,
) -> CellForward<R> {
    let (saved, c) = gates_forward(gating, cell, pre, peephole, c_prev, R::ONE);
    CellForward { saved, c, h: output(gating, cell, saved, c) }
}

/// The numbers kept for the gates, and the cell state; `mask` multiplies the candidate.
pub fn gates_forward<R: Real>(
    gating: Gating<R>,
    cell: &LstmCell,
    pre: Gates<R>,
    peephole: Peephole<R>,
    c_prev: R,
    mask: R,
) -> (Gates<R>, R) {
    let [a_i, a_f, a_g, a_o] = pre;
    let [p_i, p_f, p_o] = peephole;
    let mut saved = [
        gating.kept(cell.activations.gate, a_i + p_i * c_prev),
        gating.kept(cell.activations.gate, a_f + p_f * c_prev),
        gating.kept(cell.activations.candidate, a_g),
        R::ZERO, // the output gate waits for c
    ];
    let c = state(gating, cell, saved, c_prev, mask);
    saved[LstmGate::Output as usize] = gating.kept(cell.activations.gate, a_o + p_o * c);
    let [i, f, ..] = gates(gating, cell, saved);
    if let Some(coupling) = cell.coupling {
        let (left_out, value) = match coupling {
            Coupling::Input => (LstmGate::Forget, f),
            Coupling::Forget => (LstmGate::Input, i),
        };
        saved[left_out as usize] = if gating.keeps_pre { R::ZERO } else { value };
    }
    (saved, c)
}

/// The cell state after the step, from the numbers kept.
pub fn state<R: Real>(gating: Gating<R>, cell: &LstmCell, saved: Gates<R>, c_prev: R, mask: R) -> R {
    let [i, f, g, _] = gates(gating, cell, saved);
    let sum = f * c_prev + i * (mask * g);
    if cell.squashed { sigmoid(sum) } else { sum }
}

/// The output, from the numbers kept and the cell state as it is shown.
pub fn output<R: Real>(gating: Gating<R>, cell: &LstmCell, saved: Gates<R>, shown: R) -> R {
    let [.., o] = gates(gating, cell, saved);
    o * apply(cell.activations.output, shown)
}

/// The cotangent of the cell state as it is shown, through [`output`]: `d_h o u'(shown)`.
pub fn output_backward<R: Real>(gating: Gating<R>, cell: &LstmCell, saved: Gates<R>, shown: R, d_h: R) -> R {
    let [.., o] = gates(gating, cell, saved);
    d_h * o * slope(cell.activations.output, shown)
}

/// The chain rule through [`cell_forward`].
///
/// `saved` and `c` come from the forward step, `d_h` is the whole cotangent of `h`, and `d_c` the cotangent of `c` from
/// the following step:
///
/// ```text
/// d_a_o = d_h u(c) o'         d_c' = d_c + d_h o u'(c) + d_a_o p_o
/// squashed: d_c' = d_c' c (1 - c), now by the sum inside
/// d_a_i = d_c' g i'           d_a_f = d_c' c_prev f'           d_a_g = d_c' i g'
/// coupled, f = 1 - i:         d_a_i = d_c' (g - c_prev) i'     d_a_f = 0
/// coupled, i = 1 - f:         d_a_f = d_c' (c_prev - g) f'     d_a_i = 0
/// d_c_prev = d_c' f + d_a_i p_i + d_a_f p_f
/// ```
pub fn cell_backward<R: Real>(
    gating: Gating<R>,
    cell: &LstmCell,
    saved: Gates<R>,
    peephole: Peephole<R>,
    (c_prev, c): (R, R),
    d_h: R,
    d_c: R,
) -> CellBackward<R> {
    let d_c = d_c + output_backward(gating, cell, saved, c, d_h);
    gates_backward(gating, cell, saved, peephole, (c_prev, c, c), R::ONE, d_h, d_c)
}

/// The chain rule through [`gates_forward`] and the output gate; `d_c` has its part through [`output`] already.
#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
pub fn gates_backward<R: Real>(
    gating: Gating<R>,
    cell: &LstmCell,
    saved: Gates<R>,
    peephole: Peephole<R>,
    (c_prev, c, shown): (R, R, R),
    mask: R,
    d_h: R,
    d_c: R,
) -> CellBackward<R> {
    let [i, f, g, _] = gates(gating, cell, saved);
    let g = mask * g;
    let [p_i, p_f, p_o] = peephole;
    let functions = cell.activations;
    let slope_of = |gate: LstmGate, function| gating.slope(function, saved[gate as usize]);
    let d_o = d_h * apply(functions.output, shown) * slope_of(LstmGate::Output, functions.gate);
    let mut d_c = d_c + d_o * p_o;
    if cell.squashed {
        d_c = d_c * c * (R::ONE - c);
    }
    let through = |d: R, gate| d * slope_of(gate, functions.gate);
    let (d_i, d_f) = match cell.coupling {
        None => (through(d_c * g, LstmGate::Input), through(d_c * c_prev, LstmGate::Forget)),
        Some(Coupling::Input) => (through(d_c * (g - c_prev), LstmGate::Input), R::ZERO),
        Some(Coupling::Forget) => (R::ZERO, through(d_c * (c_prev - g), LstmGate::Forget)),
    };
    let d_g = d_c * i * mask * slope_of(LstmGate::Cell, functions.candidate);
    CellBackward { d_pre: [d_i, d_f, d_g, d_o], d_c_prev: d_c * f + d_i * p_i + d_f * p_f }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::abs_diff_eq;
    use gatefold_model::{Activation, Cell, LstmActivations};

    fn plain() -> LstmCell {
        let activations = LstmActivations::default();
        LstmCell { activations, peephole: false, coupling: None, squashed: false }
    }

    /// All combinations of options.
    #[test]
    fn backward_matches_central_differences() {
        let odd = LstmActivations {
            gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            candidate: Activation::LeakyRelu { alpha: -0.4 },
            output: Activation::Softsign,
        };
        let (pre, c_prev) = ([0.3, -0.8, 1.1, 0.5], -0.6);
        let (weight_h, weight_c) = (1.7, -0.4);
        let mut failures = Failures::new();
        for peephole in [[0.0; 3], [0.7, -0.4, 0.9]] {
            for coupling in [None, Some(Coupling::Input), Some(Coupling::Forget)] {
                for (squashed, clip) in [(false, None), (true, None), (false, Some(0.6)), (true, Some(0.9))] {
                    for activations in [LstmActivations::default(), odd] {
                        let cell = LstmCell { activations, peephole: true, coupling, squashed };
                        failures.check(format!("{cell:?}, {peephole:?}, {clip:?}"), || {
                            let gating = Gating::new(&Cell::Lstm(cell), clip);
                            let loss = |x: [f64; 5]| {
                                let pre = [x[0], x[1], x[2], x[3]];
                                let out = cell_forward(gating, &cell, pre, peephole, x[4]);
                                weight_h * out.h + weight_c * out.c
                            };
                            let out = cell_forward(gating, &cell, pre, peephole, c_prev);
                            let states = (c_prev, out.c);
                            let back =
                                cell_backward(gating, &cell, out.saved, peephole, states, weight_h, weight_c);
                            let at = [pre[0], pre[1], pre[2], pre[3], c_prev];
                            let found = [&back.d_pre[..], &[back.d_c_prev]].concat();
                            for k in 0..5 {
                                let shifted = |by: f64| {
                                    let mut x = at;
                                    x[k] += by;
                                    loss(x)
                                };
                                let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                                assert!(
                                    abs_diff_eq!(found[k], difference, epsilon = 1e-9),
                                    "argument {k}: {} and {difference}",
                                    found[k]
                                );
                            }
                        });
                    }
                }
            }
        }
        failures.finish();
    }

    #[test]
    fn a_wide_open_forget_gate_keeps_the_cell() {
        let gating = Gating::new(&Cell::Lstm(plain()), None);
        let out = cell_forward(gating, &plain(), [-1e4f32, 1e4, 3.0, 1e4], [0.0; 3], 0.25);
        assert_eq!((out.c, out.h), (0.25, 0.25f32.tanh()));
    }

    /// A squashed cell stays in (0, 1) where the plain one goes below zero.
    #[test]
    fn a_squashed_cell_is_never_negative() {
        let squashed = LstmCell { squashed: true, ..plain() };
        let (mut c, mut plain_c) = (0.0, 0.0);
        for t in 0..100 {
            let pre = [2.0, 1.0, -3.0 + f64::from(t % 3), 0.5];
            let step = |cell: &LstmCell, c| {
                cell_forward(Gating::new(&Cell::Lstm(*cell), None), cell, pre, [0.0; 3], c)
            };
            let out = step(&squashed, c);
            (c, plain_c) = (out.c, step(&plain(), plain_c).c);
            assert!(c > 0.0 && c < 1.0 && out.h > 0.0, "step {t}: c {c}, h {}", out.h);
            assert!(plain_c < 0.0, "step {t}: the plain cell is {plain_c}");
        }
    }
}
