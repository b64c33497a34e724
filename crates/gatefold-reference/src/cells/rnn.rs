//! The vanilla cell (Elman 1990): `h = act(a)` of the pre-activation `a`.

use super::Gating;
use crate::Real;
use gatefold_model::Activation;

/// The number kept, and h.
pub fn cell_forward<R: Real>(gating: Gating<R>, activation: Activation, pre: R) -> (R, R) {
    let kept = gating.kept(activation, pre);
    (kept, gating.value(activation, kept))
}

/// The cotangent of the pre-activation: `d_a = d_h act'(a)`.
pub fn cell_backward<R: Real>(gating: Gating<R>, activation: Activation, kept: R, d_h: R) -> R {
    d_h * gating.slope(activation, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::assert_abs_diff_eq;

    #[test]
    fn backward_matches_central_differences() {
        let mut failures = Failures::new();
        for (clip, activation) in
            [(None, Activation::Tanh), (Some(0.5), Activation::Tanh), (None, Activation::Elu { alpha: -0.3 })]
        {
            let gating = Gating { clip, keeps_pre: activation != Activation::Tanh || clip.is_some() };
            for pre in [-0.7, -0.2, 0.3, 0.9] {
                failures.check(format!("{activation}, clip {clip:?}, at {pre}"), || {
                    let h = |pre: f64| cell_forward(gating, activation, pre).1;
                    let difference = (h(pre + 1e-5) - h(pre - 1e-5)) / 2e-5;
                    let found =
                        cell_backward(gating, activation, cell_forward(gating, activation, pre).0, 1.7);
                    assert_abs_diff_eq!(found, 1.7 * difference, epsilon = 1e-9);
                });
            }
        }
        failures.finish();
    }
}
