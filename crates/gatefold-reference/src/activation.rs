//! The functions of gates and dense layers, safe from overflow for every finite argument.

use crate::Real;
use gatefold_model::Activation;

/// `1 / (1 + exp(-x))`.
///
/// The exponential is taken of `-|x|`, which can underflow to 0 but never overflow; the other half follows from
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

/// `y = activation(x)`.
#[inline]
pub fn apply<R: Real>(activation: Activation, x: R) -> R {
    match activation {
        Activation::Identity => x,
        // Not a maximum: that would turn NaN into 0 and hide it.
        Activation::Relu if x < R::ZERO => R::ZERO,
        Activation::Relu => x,
        Activation::Tanh => tanh(x),
        Activation::Sigmoid => sigmoid(x),
    }
}

/// `dy/dx` in terms of `y`, which is all that the backward pass has kept; relu's derivative at 0 is 0, as in PyTorch.
#[inline]
pub fn derivative<R: Real>(activation: Activation, y: R) -> R {
    match activation {
        Activation::Identity => R::ONE,
        Activation::Relu if y <= R::ZERO => R::ZERO,
        Activation::Relu => R::ONE,
        Activation::Tanh => R::ONE - y * y,
        Activation::Sigmoid => y * (R::ONE - y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for activation in Activation::ALL {
            assert!(apply(activation, f32::NAN).is_nan(), "{activation}");
        }
    }

    #[test]
    fn derivatives_match_central_differences() {
        let step = 1e-5;
        for activation in Activation::ALL {
            for x in [-3.0, -0.7, 0.4, 2.5] {
                let difference = (apply(activation, x + step) - apply(activation, x - step)) / (2.0 * step);
                let found: f64 = derivative(activation, apply(activation, x));
                assert!((found - difference).abs() < 1e-9, "{activation} at {x}: {found}, {difference}");
            }
        }
    }
}
