//! The GRU cell (Cho et al. 2014): one unit of one row at one time step.
//!
//! With the gate function `s` and the candidate's `t`, by default sigmoid and tanh, `a_n` the candidate's part from the
//! input and `b_n` that from the recurrence:
//!
//! ```text
//! r = s(a_r)   z = s(a_z)
//! n = t(a_n + r b_n)                  reset after the product, b_n = U_n h_prev + b_hn
//! n = t(a_n), U_n (r h_prev) in a_n   reset before it
//! h = (1 - z) n + z h_prev
//! ```
//!
//! A clip bounds the terms in brackets. A mask multiplies `n` in `h` (Semeniuta et al. 2016).

use super::Gating;
use crate::Real;
use gatefold_model::{Activation, GruActivations, GruGate};

/// The number of lanes with reset after the product: r, z, and the candidate's parts from the input and from the
/// recurrence.
pub const LANES_AFTER: usize = GruGate::COUNT + 1;

/// The lane of each gate's part from the recurrence, reset after the product.
pub const RECURRENT_LANES: [usize; GruGate::COUNT] = [0, 1, 3];

/// Reset after the product. Returns the kept r, z and n with the candidate's part from the recurrence unchanged, and h.
pub fn after_forward<R: Real>(
    gating: Gating<R>,
    functions: GruActivations,
    pre: [R; LANES_AFTER],
    h_prev: R,
    mask: R,
) -> ([R; LANES_AFTER], R) {
    let [a_r, a_z, a_n, b_n] = pre;
    let (r, z) = (gating.kept(functions.gate, a_r), gating.kept(functions.gate, a_z));
    let n = gating.kept(functions.candidate, a_n + gating.value(functions.gate, r) * b_n);
    let h = mix(gating.value(functions.gate, z), mask * gating.value(functions.candidate, n), h_prev);
    ([r, z, n, b_n], h)
}

/// The chain rule through [`after_forward`]: the cotangents of the lanes, and the part of `h_prev`'s that bypasses all
/// weights.
///
/// ```text
/// d_a_n = d_h (1 - z) n'    d_b_n = d_a_n r    d_a_r = d_a_n b_n r'    d_a_z = d_h (h_prev - n) z'
/// d_h_prev = d_h z
/// ```
pub fn after_backward<R: Real>(
    gating: Gating<R>,
    functions: GruActivations,
    saved: [R; LANES_AFTER],
    h_prev: R,
    d_h: R,
    mask: R,
) -> ([R; LANES_AFTER], R) {
    let [r, z, n, b_n] = saved;
    let (d_z, d_n, d_h_prev) = update_backward(gating, functions, (z, n), h_prev, d_h, mask);
    let d_r = d_n * b_n * gating.slope(functions.gate, r);
    ([d_r, d_z, d_n, d_n * gating.value(functions.gate, r)], d_h_prev)
}

/// Reset before the product, first half. Returns the kept r, and `r h_prev`, which the candidate's weights read.
pub fn reset_forward<R: Real>(gating: Gating<R>, gate: Activation, a_r: R, h_prev: R) -> (R, R) {
    let r = gating.kept(gate, a_r);
    (r, gating.value(gate, r) * h_prev)
}

/// Reset before the product, second half. Returns the kept z and n, and h.
pub fn update_forward<R: Real>(
    gating: Gating<R>,
    functions: GruActivations,
    (a_z, a_n): (R, R),
    h_prev: R,
) -> ((R, R), R) {
    let (z, n) = (gating.kept(functions.gate, a_z), gating.kept(functions.candidate, a_n));
    let h = mix(gating.value(functions.gate, z), gating.value(functions.candidate, n), h_prev);
    ((z, n), h)
}

/// The chain rule through [`update_forward`], with the candidate multiplied by `mask`: `d_a_z`, `d_a_n`, and the part of `h_prev`'s cotangent that bypasses all
/// weights.
///
/// ```text
/// d_a_z = d_h (h_prev - n) z'    d_a_n = d_h (1 - z) n'    d_h_prev = d_h z
/// ```
pub fn update_backward<R: Real>(
    gating: Gating<R>,
    functions: GruActivations,
    (kept_z, kept_n): (R, R),
    h_prev: R,
    d_h: R,
    mask: R,
) -> (R, R, R) {
    let (z, n) = (gating.value(functions.gate, kept_z), mask * gating.value(functions.candidate, kept_n));
    let d_z = d_h * (h_prev - n) * gating.slope(functions.gate, kept_z);
    let d_n = d_h * (R::ONE - z) * mask * gating.slope(functions.candidate, kept_n);
    (d_z, d_n, d_h * z)
}

/// The chain rule through [`reset_forward`], where `d_reset_h` is the cotangent of `r h_prev`: `d_a_r`, and the share
/// of `h_prev`.
///
/// ```text
/// d_a_r = d_reset_h h_prev r'    d_h_prev = d_reset_h r
/// ```
pub fn reset_backward<R: Real>(
    gating: Gating<R>,
    gate: Activation,
    kept_r: R,
    h_prev: R,
    d_reset_h: R,
) -> (R, R) {
    (d_reset_h * h_prev * gating.slope(gate, kept_r), d_reset_h * gating.value(gate, kept_r))
}

fn mix<R: Real>(z: R, n: R, h_prev: R) -> R {
    (R::ONE - z) * n + z * h_prev
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::abs_diff_eq;
    use gatefold_model::{Cell, GruCell, Reset};

    fn check(name: &str, at: &[f64], found: &[f64], loss: impl Fn(&[f64]) -> f64) {
        for k in 0..at.len() {
            let shifted = |by: f64| {
                let mut x = at.to_vec();
                x[k] += by;
                loss(&x)
            };
            let difference = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!(
                abs_diff_eq!(found[k], difference, epsilon = 1e-9),
                "{name}, argument {k}: {} and {difference}",
                found[k]
            );
        }
    }

    #[test]
    fn backward_matches_central_differences() {
        let odd = GruActivations {
            gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            candidate: Activation::Elu { alpha: -0.7 },
        };
        let (weight_h, weight_reset) = (1.7, -0.6);
        let mut failures = Failures::new();
        for activations in [GruActivations::default(), odd] {
            for clip in [None, Some(0.7)] {
                let name = format!("{activations:?}, {clip:?}");
                failures.check(name, || {
                    let cell = Cell::Gru(GruCell { activations, reset: Reset::After });
                    let gating = Gating::new(&cell, clip);
                    let at = [0.3, -0.8, 1.1, 0.5, -0.6];
                    for mask in [1.0, 1.25, 0.0] {
                        let after = |x: &[f64]| {
                            after_forward(gating, activations, [x[0], x[1], x[2], x[3]], x[4], mask)
                        };
                        let (d_pre, d_h) =
                            after_backward(gating, activations, after(&at).0, at[4], weight_h, mask);
                        let found = [&d_pre[..], &[d_h]].concat();
                        check("after", &at, &found, |x| weight_h * after(x).1);
                    }

                    let at = [-0.8, 0.4, -0.6];
                    let update = |x: &[f64]| update_forward(gating, activations, (x[0], x[1]), x[2]);
                    let (d_z, d_n, d_h) =
                        update_backward(gating, activations, update(&at).0, at[2], weight_h, 1.0);
                    check("update", &at, &[d_z, d_n, d_h], |x| weight_h * update(x).1);

                    let at = [0.3, -0.6];
                    let reset = |x: &[f64]| reset_forward(gating, activations.gate, x[0], x[1]);
                    let (d_r, d_h) =
                        reset_backward(gating, activations.gate, reset(&at).0, at[1], weight_reset);
                    check("reset", &at, &[d_r, d_h], |x| weight_reset * reset(x).1);
                });
            }
        }
        failures.finish();
    }
}
