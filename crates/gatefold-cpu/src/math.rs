//! `exp`, `sigmoid` and `tanh` of a vector, without branches or calls.
//!
//! All come from `e^y = 2^k e^r` with `k` the whole number nearest `y / ln 2`, so that `|r| <= ln 2 / 2`. There the
//! Taylor series of `e^r - 1` up to the 7th power leaves an error of `r^8 / 8! < 6e-9`, a tenth of `f32`'s rounding.

use crate::instructions::mul_add;
use pulp::Simd;

/// `1.5 * 2^23`: added to a number below 2^22 it leaves no bits for a fraction, so the sum is rounded to a whole
/// number, whose two's complement is in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; the first has 10 bits, so that its products with whole numbers are exact.
const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
/// Below this, `e^y` would no longer be a normal number.
const LOWEST: f32 = -87.0;
const SIGN: u32 = 1 << 31;

/// `2^k` and `e^r - 1`, for `y` at most 0.
#[inline(always)]
fn exp_parts<S: Simd>(simd: S, y: S::f32s) -> (S::f32s, S::f32s) {
    let number = |x: f32| simd.splat_f32s(x);
    // Written so that NaN passes through.
    let y = simd.select_f32s(simd.less_than_f32s(y, number(LOWEST)), number(LOWEST), y);
    let shifted = mul_add(simd, y, number(std::f32::consts::LOG2_E), number(ROUND));
    let k = simd.sub_f32s(shifted, number(ROUND));
    let exponent = simd.sub_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(ROUND.to_bits() - 127));
    let power = simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23)));
    let r = mul_add(simd, k, number(-LN2.0), y);
    let r = mul_add(simd, k, number(-LN2.1), r);
    let mut series = number(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        series = mul_add(simd, r, series, number(coefficient));
    }
    (power, mul_add(simd, simd.mul_f32s(r, r), series, r))
}

/// `e^y` for `y` at most 0; 0 below -87, where it would no longer be a normal number.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, y: S::f32s) -> S::f32s {
    let (power, above_one) = exp_parts(simd, y);
    let vanishes = simd.less_than_f32s(y, simd.splat_f32s(LOWEST));
    simd.select_f32s(vanishes, simd.splat_f32s(0.0), mul_add(simd, power, above_one, power))
}

/// `1 / (1 + e^-x)`; never below `e^-87`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let (power, above_one) = exp_parts(simd, with_sign_bit(simd, x));
    let e = mul_add(simd, power, above_one, power);
    let negative = simd.less_than_f32s(x, simd.splat_f32s(0.0));
    simd.div_f32s(simd.select_f32s(negative, e, one), simd.add_f32s(one, e))
}

/// `tanh(x) = (1 - e^-2|x|) / (1 + e^-2|x|)` with the sign of `x`. The numerator is assembled from its parts, since
/// near 0 a difference from 1 would cancel.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, two) = (simd.splat_f32s(1.0), simd.splat_f32s(2.0));
    let (power, above_one) = exp_parts(simd, with_sign_bit(simd, simd.add_f32s(x, x)));
    let below_one = simd.sub_f32s(simd.sub_f32s(one, power), simd.mul_f32s(power, above_one));
    let magnitude = simd.div_f32s(below_one, simd.sub_f32s(two, below_one));
    let sign = simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(SIGN));
    simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(magnitude), sign))
}

/// `-|x|`
#[inline(always)]
fn with_sign_bit<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(SIGN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::{Instructions, load, store, vectors};
    use gatefold_reference::Failures;
    use pulp::WithSimd;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Function {
        /// Of `-|x|`, since it takes nothing above 0.
        Exp,
        Sigmoid,
        Tanh,
    }

    /// Replaces each element by the function's value.
    struct Apply<'a> {
        x: &'a mut [f32],
        function: Function,
    }

    impl WithSimd for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            vectors!(S, self.x.len(), at => {
                let x = load(simd, &self.x[at.clone()]);
                let y = match self.function {
                    Function::Exp => super::exp(simd, with_sign_bit(simd, x)),
                    Function::Sigmoid => super::sigmoid(simd, x),
                    Function::Tanh => super::tanh(simd, x),
                };
                store(simd, &mut self.x[at], y);
            });
        }
    }

    fn one(set: Instructions, function: Function, x: f32) -> f32 {
        let mut x = [x];
        set.run(Apply { x: &mut x, function });
        x[0]
    }

    fn exact(function: Function, x: f64) -> f64 {
        match (function, x.abs() < 1.0 / 8192.0) {
            // The next terms are below 2e-21 of these.
            (Function::Tanh, true) => x - x * x * x / 3.0,
            (Function::Sigmoid, true) => 0.5 + x / 4.0 - x * x * x / 48.0,
            (Function::Tanh, false) => x.tanh(),
            (Function::Sigmoid, false) => 1.0 / (1.0 + (-x).exp()),
            (Function::Exp, _) => (-x.abs()).exp(),
        }
    }

    /// The largest error over every `stride`-th number up to `range`, positive and negative, in units of the result's
    /// last place.
    fn worst_error(set: Instructions, function: Function, range: f32, stride: usize) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        let (mut x, mut y) = (vec![0.0; 4096], vec![0.0; 4096]);
        let count = range.to_bits() as usize / stride;
        for sign in [0, SIGN] {
            for first in (0..count).step_by(x.len()) {
                for (n, x) in x.iter_mut().enumerate() {
                    *x = f32::from_bits(((first + n).min(count) * stride) as u32 | sign);
                }
                y.copy_from_slice(&x);
                set.run(Apply { x: &mut y, function });
                for (&x, &y) in x.iter().zip(&y) {
                    let expected = exact(function, f64::from(x));
                    let nearest = (expected as f32).abs().max(f32::MIN_POSITIVE);
                    let place = f64::from(f32::from_bits(nearest.to_bits() + 1) - nearest);
                    let error = (f64::from(y) - expected).abs() / place;
                    if error > worst.0 || error.is_nan() {
                        worst = (error, x);
                    }
                }
            }
        }
        worst
    }

    /// Relative errors, for small arguments too: tanh(1e-6) is 1e-6 to the last places. A prime stride meets all
    /// patterns of the low bits.
    fn errors_stay_below_three_units(sets: &[Instructions], stride: usize) {
        let mut failures = Failures::new();
        for &set in sets {
            for (function, range) in
                [(Function::Exp, -LOWEST), (Function::Sigmoid, 80.0), (Function::Tanh, 16.0)]
            {
                failures.check(format!("{set}, {function:?}"), || {
                    let (error, at) = worst_error(set, function, range, stride);
                    println!("{set}: {error:.2} at {at:e}");
                    assert!(error < 3.0, "{error} at {at:e}");
                });
            }
        }
        failures.finish();
    }

    #[test]
    fn errors_stay_below_three_units_of_the_last_place() {
        errors_stay_below_three_units(&Instructions::available(), 97);
    }

    /// Every number up to where the functions are constant.
    #[test]
    #[ignore = "takes minutes; run it after a change of these functions"]
    fn errors_stay_below_three_units_of_the_last_place_at_every_number() {
        errors_stay_below_three_units(&Instructions::available(), 1);
    }

    #[test]
    fn far_arguments_saturate_and_nan_stays() {
        for set in Instructions::available() {
            let (sigmoid, tanh) = (|x| one(set, Function::Sigmoid, x), |x| one(set, Function::Tanh, x));
            let exp = |x| one(set, Function::Exp, x);
            for far in (16.0_f32.to_bits()..f32::INFINITY.to_bits()).step_by(9973).map(f32::from_bits) {
                assert_eq!((tanh(far), tanh(-far)), (1.0, -1.0), "{set}: {far}");
                assert!(far < 20.0 || (sigmoid(far) == 1.0 && sigmoid(-far) < 3e-9), "{set}: {far}");
            }
            assert!(sigmoid(-1e4) < 2e-38);
            assert_eq!((sigmoid(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
            assert_eq!((sigmoid(0.0), tanh(0.0), tanh(-0.0).to_bits()), (0.5, 0.0, SIGN));
            assert_eq!((exp(0.0), exp(-87.1), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0), "{set}");
            assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        }
    }
}
