//! The activations of gates and dense layers, safe from overflow for every finite argument.

use crate::Real;
use gatefold_model::Activation;

/// `1 / (1 + exp(-x))`.
///
/// The exponential of `-|x|` can underflow to 0 but never overflow; negative `x` follow from
/// `sigmoid(x) = exp(x) / (1 + exp(x))`.
#[inline]
pub fn sigmoid<R: Real>(x: R) -> R {
    let e = (-x.abs()).exp();
    let numerator = if x < R::ZERO { e } else { R::ONE };
    numerator / (R::ONE + e)
}

/// `tanh(x)`; saturates at -1 and 1.
#[inline]
pub fn tanh<R: Real>(x: R) -> R {
    x.tanh()
}

/// `y = activation(x)`. Branches end where [`slope`] changes sides, so that a [`Dual`](crate::Dual) has its slope at a
/// kink too.
#[inline]
pub fn apply<R: Real>(activation: Activation, x: R) -> R {
    match activation {
        Activation::Identity => x,
        // Not `max`, which would turn NaN into 0 and hide it.
        Activation::Relu if x <= R::ZERO => R::ZERO,
        Activation::Relu => x,
        Activation::Tanh => tanh(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Affine { alpha, beta } => real::<R>(alpha) * x + real(beta),
        Activation::LeakyRelu { alpha } if x <= R::ZERO => real::<R>(alpha) * x,
        Activation::LeakyRelu { .. } => x,
        // NaN fails both comparisons, and stays.
        Activation::ThresholdedRelu { alpha } if x <= real(alpha) => R::ZERO,
        Activation::ThresholdedRelu { .. } => x,
        Activation::ScaledTanh { alpha, beta } => real::<R>(alpha) * tanh(real::<R>(beta) * x),
        Activation::HardSigmoid { alpha, beta } => {
            let y = real::<R>(alpha) * x + real(beta);
            if y <= R::ZERO {
                R::ZERO
            } else if y >= R::ONE {
                R::ONE
            } else {
                y
            }
        }
        Activation::Elu { alpha } if x <= R::ZERO => real::<R>(alpha) * x.exp_m1(),
        Activation::Elu { .. } => x,
        Activation::Softsign => x / (R::ONE + x.abs()),
        // max(x, 0) + ln(1 + exp(-|x|)), which takes no exponential of a positive number.
        Activation::Softplus => (if x < R::ZERO { R::ZERO } else { x }) + (-x.abs()).exp().ln_1p(),
    }
}

/// `dy/dx` in terms of `x`; at a kink, the slope on the side of smaller `x`, but 0 at both kinks of a hard sigmoid, as
/// in PyTorch.
pub fn slope<R: Real>(activation: Activation, x: R) -> R {
    match activation {
        Activation::LeakyRelu { alpha } if x <= R::ZERO => real(alpha),
        Activation::LeakyRelu { .. } => R::ONE,
        Activation::ThresholdedRelu { alpha } if x <= real(alpha) => R::ZERO,
        Activation::ThresholdedRelu { .. } => R::ONE,
        Activation::ScaledTanh { alpha, beta } => {
            let y = tanh(real::<R>(beta) * x);
            real::<R>(alpha) * real(beta) * (R::ONE - y * y)
        }
        Activation::Elu { alpha } if x <= R::ZERO => real::<R>(alpha) * x.exp(),
        Activation::Elu { .. } => R::ONE,
        Activation::Softsign => R::ONE / ((R::ONE + x.abs()) * (R::ONE + x.abs())),
        Activation::Softplus => sigmoid(x),
        // The slopes of the others follow from y without loss.
        _ => derivative(activation, apply(activation, x)),
    }
}

/// `dy/dx` in terms of `y`, for activations with [`Activation::slope_from_output`], of which the backward pass keeps
/// only `y`. Relu's derivative at 0 is 0, as in PyTorch.
#[inline]
pub fn derivative<R: Real>(activation: Activation, y: R) -> R {
    match activation {
        Activation::Identity => R::ONE,
        Activation::Relu if y <= R::ZERO => R::ZERO,
        Activation::Relu => R::ONE,
        Activation::Tanh => R::ONE - y * y,
        Activation::Sigmoid => y * (R::ONE - y),
        Activation::Affine { alpha, .. } => real(alpha),
        Activation::LeakyRelu { alpha } if y <= R::ZERO => real(alpha),
        Activation::LeakyRelu { .. } => R::ONE,
        Activation::ThresholdedRelu { .. } if y == R::ZERO => R::ZERO,
        Activation::ThresholdedRelu { .. } => R::ONE,
        Activation::ScaledTanh { alpha, beta } => real::<R>(beta) * (real::<R>(alpha) - y * y / real(alpha)),
        Activation::HardSigmoid { .. } if y <= R::ZERO || y >= R::ONE => R::ZERO,
        Activation::HardSigmoid { alpha, .. } => real(alpha),
        Activation::Elu { alpha } if y <= R::ZERO => y + real(alpha),
        Activation::Elu { .. } => R::ONE,
        Activation::Softsign => (R::ONE - y.abs()) * (R::ONE - y.abs()),
        Activation::Softplus => -(-y).exp_m1(),
    }
}

fn real<R: Real>(value: f32) -> R {
    R::from_f64(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use approx::assert_abs_diff_eq;

    #[test]
    fn far_arguments_saturate() {
        fn check<R: Real>() {
            let (far, zero) = (R::from_f64(1e4), R::ZERO);
            assert_eq!((sigmoid(far), sigmoid(-far)), (R::ONE, zero));
            assert_eq!((tanh(far), tanh(-far)), (R::ONE, -R::ONE));
            assert_eq!(sigmoid(zero), R::from_f64(0.5));
            assert_eq!(tanh(zero), zero);
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn nan_stays_nan() {
        let mut failures = Failures::new();
        for activation in Activation::ALL {
            failures.check(activation.to_string(), || {
                assert!(apply(activation, f32::NAN).is_nan());
            });
        }
        failures.finish();
    }

    #[test]
    fn derivatives_match_central_differences() {
        let step = 1e-5;
        // Values of alpha for which the slope does not follow from y.
        let odd = [
            Activation::LeakyRelu { alpha: -0.5 },
            Activation::ThresholdedRelu { alpha: -1.5 },
            Activation::ScaledTanh { alpha: 0.0, beta: 2.0 },
            Activation::Elu { alpha: -1.5 },
            Activation::HardSigmoid { alpha: -0.2, beta: 0.5 },
        ];
        let mut failures = Failures::new();
        for activation in Activation::ALL.into_iter().chain(odd) {
            for x in [-3.0, -0.7, 0.4, 2.6] {
                failures.check(format!("{activation} at {x}"), || {
                    let difference =
                        (apply(activation, x + step) - apply(activation, x - step)) / (2.0 * step);
                    let found: f64 = slope(activation, x);
                    assert_abs_diff_eq!(found, difference, epsilon = 1e-9);
                    if activation.slope_from_output() {
                        let found: f64 = derivative(activation, apply(activation, x));
                        assert_abs_diff_eq!(found, difference, epsilon = 1e-9);
                    }
                });
            }
        }
        failures.finish();
    }

    #[test]
    fn both_slopes_agree_at_a_kink() {
        let mut failures = Failures::new();
        for activation in
            [Activation::Relu, Activation::LeakyRelu { alpha: 0.1 }, Activation::Elu { alpha: 0.1 }]
        {
            failures.check(activation.to_string(), || {
                assert_eq!(
                    slope(activation, 0.0),
                    derivative(activation, apply(activation, 0.0)),
                    "{activation}"
                );
            });
        }
        failures.finish();
    }
}
