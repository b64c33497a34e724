use gatefold_model::{CustomCell, UnitFunctions};
use ndarray::{LinalgScalar, ScalarOperand};
use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{AddAssign, Neg};

/// `f32`, `f64`, or a [`Dual`](crate::Dual) of the latter, and nothing else.
pub trait Real:
    sealed::Sealed
    + LinalgScalar
    + ScalarOperand
    + AddAssign
    + Neg<Output = Self>
    + Sum
    + PartialOrd
    + Default
    + Debug
    + Display
    + Send
    + Sync
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// Rounds to the nearest value of this type.
    fn from_f64(value: f64) -> Self;
    /// Converts to the same value in `f64`.
    fn to_f64(self) -> f64;
    /// `e^x`
    fn exp(self) -> Self;
    /// `e^x - 1`, exact near 0.
    fn exp_m1(self) -> Self;
    /// `ln(1 + x)`, exact near 0.
    fn ln_1p(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// `tanh(x)`
    fn tanh(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// Whether it is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The functions of a custom cell for numbers of this type.
    #[doc(hidden)]
    fn functions_of(cell: &CustomCell) -> UnitFunctions<Self>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for crate::Dual {}
}

macro_rules! real {
    ($type:ident, $functions:ident) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn exp_m1(self) -> Self {
                self.exp_m1()
            }
            fn ln_1p(self) -> Self {
                self.ln_1p()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn abs(self) -> Self {
                self.abs()
            }
            fn is_finite(self) -> bool {
                self.is_finite()
            }
            fn functions_of(cell: &CustomCell) -> UnitFunctions<Self> {
                cell.parts().$functions
            }
        }
    };
}

real!(f32, single);
real!(f64, double);
