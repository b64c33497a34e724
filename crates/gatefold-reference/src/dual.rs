//! Dual numbers: values that carry their derivative along one direction through every formula.

use crate::Real;
use gatefold_model::{CustomCell, UnitFunctions};
use ndarray::{ArrayBase, Data, Dimension, ScalarOperand, Zip};
use num_traits::{One, Zero};
use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A number `value + tangent e` with `e^2 = 0`. Computed in dual numbers, a function gives its value and its derivative
/// along the direction of its arguments' tangents, exact but for rounding. Comparisons see the value alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dual {
    /// The number.
    pub value: f64,
    /// Its derivative along the direction.
    pub tangent: f64,
}

impl Dual {
    /// `f(value)`, whose slope there is `slope`.
    fn chain(self, value: f64, slope: f64) -> Dual {
        Dual { value, tangent: self.tangent * slope }
    }

    /// An array of values with their tangents.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn join<S: Data<Elem = f64>, T: Data<Elem = f64>, D: Dimension>(
        values: &ArrayBase<S, D>,
        tangents: &ArrayBase<T, D>,
    ) -> ndarray::Array<Dual, D> {
        assert_eq!(values.shape(), tangents.shape(), "a tangent for each value");
        Zip::from(values).and(tangents).map_collect(|&value, &tangent| Dual { value, tangent })
    }

    /// An array of constants.
    pub fn constants<S: Data<Elem = f64>, D: Dimension>(values: &ArrayBase<S, D>) -> ndarray::Array<Dual, D> {
        values.map(|&value| Dual { value, tangent: 0.0 })
    }
}

impl PartialEq for Dual {
    fn eq(&self, other: &Dual) -> bool {
        self.value == other.value
    }
}

impl PartialOrd for Dual {
    fn partial_cmp(&self, other: &Dual) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl Add for Dual {
    type Output = Dual;
    fn add(self, b: Dual) -> Dual {
        Dual { value: self.value + b.value, tangent: self.tangent + b.tangent }
    }
}

impl Sub for Dual {
    type Output = Dual;
    fn sub(self, b: Dual) -> Dual {
        Dual { value: self.value - b.value, tangent: self.tangent - b.tangent }
    }
}

impl Mul for Dual {
    type Output = Dual;
    fn mul(self, b: Dual) -> Dual {
        Dual { value: self.value * b.value, tangent: self.tangent * b.value + self.value * b.tangent }
    }
}

impl Div for Dual {
    type Output = Dual;
    fn div(self, b: Dual) -> Dual {
        let value = self.value / b.value;
        Dual { value, tangent: (self.tangent - value * b.tangent) / b.value }
    }
}

impl Neg for Dual {
    type Output = Dual;
    fn neg(self) -> Dual {
        Dual { value: -self.value, tangent: -self.tangent }
    }
}

impl AddAssign for Dual {
    fn add_assign(&mut self, b: Dual) {
        *self = *self + b;
    }
}

impl Sum for Dual {
    fn sum<I: Iterator<Item = Dual>>(numbers: I) -> Dual {
        numbers.fold(Dual::ZERO, Add::add)
    }
}

impl Zero for Dual {
    fn zero() -> Dual {
        Dual::ZERO
    }
    fn is_zero(&self) -> bool {
        self.value == 0.0 && self.tangent == 0.0
    }
}

impl One for Dual {
    fn one() -> Dual {
        Dual::ONE
    }
}

impl ScalarOperand for Dual {}

impl fmt::Display for Dual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {} e", self.value, self.tangent)
    }
}

impl Real for Dual {
    const ZERO: Dual = Dual { value: 0.0, tangent: 0.0 };
    const ONE: Dual = Dual { value: 1.0, tangent: 0.0 };
    fn from_f64(value: f64) -> Dual {
        Dual { value, tangent: 0.0 }
    }
    fn to_f64(self) -> f64 {
        self.value
    }
    fn exp(self) -> Dual {
        self.chain(self.value.exp(), self.value.exp())
    }
    fn exp_m1(self) -> Dual {
        self.chain(self.value.exp_m1(), self.value.exp())
    }
    fn ln_1p(self) -> Dual {
        self.chain(self.value.ln_1p(), 1.0 / (1.0 + self.value))
    }
    fn ln(self) -> Dual {
        self.chain(self.value.ln(), 1.0 / self.value)
    }
    fn tanh(self) -> Dual {
        let y = self.value.tanh();
        self.chain(y, 1.0 - y * y)
    }
    fn sqrt(self) -> Dual {
        let root = self.value.sqrt();
        self.chain(root, 0.5 / root)
    }
    fn abs(self) -> Dual {
        if self.value < 0.0 { -self } else { self }
    }
    fn is_finite(self) -> bool {
        self.value.is_finite() && self.tangent.is_finite()
    }
    fn functions_of(_: &CustomCell) -> UnitFunctions<Dual> {
        unreachable!("NetworkConfig::check_forward_mode refuses custom cells")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use crate::activation::{apply, slope};
    use approx::assert_abs_diff_eq;
    use gatefold_model::Activation;

    /// A name, the function in dual numbers, and in `f64`.
    type Function = (&'static str, fn(Dual, Dual) -> Dual, fn(f64, f64) -> f64);

    #[test]
    fn arithmetic_matches_central_differences() {
        let functions: [Function; 11] = [
            ("+", |a, b| a + b, |a, b| a + b),
            ("-", |a, b| -a - b, |a, b| -a - b),
            ("*", |a, b| a * b, |a, b| a * b),
            ("/", |a, b| a / b, |a, b| a / b),
            ("exp", |a, _| a.exp(), |a, _| a.exp()),
            ("exp_m1", |a, _| a.exp_m1(), |a, _| a.exp_m1()),
            ("ln_1p", |a, _| a.ln_1p(), |a, _| a.ln_1p()),
            ("ln", |_, b| b.ln(), |_, b| b.ln()),
            ("tanh", |a, _| a.tanh(), |a, _| a.tanh()),
            ("sqrt", |_, b| b.sqrt(), |_, b| b.sqrt()),
            ("abs", |a, _| a.abs(), |a, _| a.abs()),
        ];
        let ((a, da), (b, db)) = ((-0.7, 1.3), (1.9, -0.4));
        let mut failures = Failures::new();
        for (name, dual, plain) in functions {
            failures.check(name, || {
                let found = dual(Dual { value: a, tangent: da }, Dual { value: b, tangent: db });
                let at = |h: f64| plain(a + h * da, b + h * db);
                assert_abs_diff_eq!(found.value, at(0.0), epsilon = 1e-15);
                assert_abs_diff_eq!(found.tangent, (at(1e-5) - at(-1e-5)) / 2e-5, epsilon = 1e-8);
            });
        }
        failures.finish();
    }

    #[test]
    fn activations_have_their_slopes_at_kinks_too() {
        let mut failures = Failures::new();
        for activation in Activation::ALL {
            // The places where some activation bends, and others.
            for x in [-3.0, -2.5, -0.4, 0.0, 0.3, 1.0, 2.5, 3.0] {
                failures.check(format!("{activation} at {x}"), || {
                    let found = apply(activation, Dual { value: x, tangent: 1.0 }).tangent;
                    assert_abs_diff_eq!(found, slope::<f64>(activation, x), epsilon = 1e-15);
                });
            }
        }
        failures.finish();
    }
}
