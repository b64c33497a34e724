//! `sigmoid` and `tanh` without branches or calls, so that the compiler vectorises them.
//!
//! Both come from `e^y = 2^k e^r` with `k` the whole number nearest `y / ln 2`, so that `|r| <= ln 2 / 2`. There the
//! Taylor series of `e^r - 1` up to the 7th power leaves an error of `r^8 / 8! < 6e-9`, a tenth of `f32`'s rounding.

/// `1.5 * 2^23`: added to a number below 2^22 it leaves no bits for a fraction, so the sum is rounded to a whole
/// number, whose two's complement is in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// `ln 2` in two parts; the first has 10 bits, so that its products with whole numbers are exact.
const LN2: (f32, f32) = (355.0 / 512.0, -2.121_944_4e-4);
/// Below this, `e^y` would no longer be a normal number.
const LOWEST: f32 = -87.0;

/// `2^k` and `e^r - 1`, for `y` at most 0.
#[inline(always)]
fn exp_parts(y: f32) -> (f32, f32) {
    // Written so that NaN passes through.
    let y = if y < LOWEST { LOWEST } else { y };
    let shifted = y * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let power = f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23);
    let r = (y - k * LN2.0) - k * LN2.1;
    let series = 1.0 / 720.0 + r * (1.0 / 5040.0);
    let series = 1.0 / 120.0 + r * series;
    let series = 1.0 / 24.0 + r * series;
    let series = 1.0 / 6.0 + r * series;
    let series = 0.5 + r * series;
    (power, r + r * r * series)
}

/// `1 / (1 + e^-x)`; never below `e^-87`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let (power, above_one) = exp_parts(-x.abs());
    let e = power + power * above_one;
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// `tanh(x) = (1 - e^-2|x|) / (1 + e^-2|x|)` with the sign of `x`. The numerator is assembled from its parts, since
/// near 0 a difference from 1 would cancel.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let (power, above_one) = exp_parts(-2.0 * x.abs());
    let below_one = (1.0 - power) - power * above_one;
    (below_one / (2.0 - below_one)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` over the numbers in `+-range`, in units of the result's last place.
    fn worst_error(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, range: f32) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        // Every 97th number; a prime stride meets all patterns of the low bits.
        for bits in (0..range.to_bits()).step_by(97) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let expected = exact(f64::from(x));
                let nearest = (expected as f32).abs().max(f32::MIN_POSITIVE);
                let place = f64::from(f32::from_bits(nearest.to_bits() + 1) - nearest);
                let error = (f64::from(f(x)) - expected).abs() / place;
                if error > worst.0 {
                    worst = (error, x);
                }
            }
        }
        worst
    }

    #[test]
    fn errors_stay_below_three_units_of_the_last_place() {
        let (error, at) = worst_error(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 80.0);
        println!("sigmoid: {error:.2} at {at}");
        assert!(error < 3.0, "sigmoid: {error} at {at}");
        let (error, at) = worst_error(tanh, f64::tanh, 100.0);
        println!("tanh: {error:.2} at {at}");
        assert!(error < 3.0, "tanh: {error} at {at}");
    }

    #[test]
    fn far_arguments_saturate_and_nan_stays() {
        assert_eq!((sigmoid(1e4), tanh(1e4), tanh(-1e4)), (1.0, 1.0, -1.0));
        assert!(sigmoid(-1e4) < 2e-38);
        assert_eq!((sigmoid(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert_eq!((sigmoid(0.0), tanh(0.0)), (0.5, 0.0));
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
