//! Losses: one number from outputs and targets, and its derivative with respect to the outputs.
//!
//! A row is one time step of one sequence. Every loss is a weighted sum over rows; the weights turn it into a mean.

use crate::Real;
use ndarray::{Array3, ArrayView3};

/// The loss of a row of outputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss<R> {
    /// `sum (y - t)^2`
    Squared,
    /// `sum |y - t|`; the derivative at 0 is 0.
    Absolute,
    /// Squares near the target, a straight line further away (Huber 1964).
    Huber {
        /// The residual where the line begins.
        delta: R,
    },
    /// `log sum_c exp y_c - y_label`, which includes the softmax; the target is one label, or negative for none.
    CrossEntropy,
    /// The pinball loss (Koenker and Bassett 1978), summed over levels: outputs `[levels, features]`.
    Quantile {
        /// Between 0 and 1.
        levels: Vec<R>,
    },
    /// `sum (s + (mean - t)^2 e^-s) / 2` with `s = log sigma^2`: the Gaussian negative log likelihood without its
    /// constant (Nix and Weigend 1994); outputs `[mean | s]`.
    Gaussian,
}

/// The loss of one element, and its derivative with respect to the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term<R> {
    /// The loss.
    pub loss: R,
    /// Its derivative.
    pub slope: R,
}

/// `r^2` for a residual `r = y - t`.
pub fn squared<R: Real>(r: R) -> Term<R> {
    Term { loss: r * r, slope: r + r }
}

/// `|r|`
pub fn absolute<R: Real>(r: R) -> Term<R> {
    Term { loss: r.abs(), slope: side(r, -R::ONE, R::ONE) }
}

/// `r^2 / 2` within `+-delta`, else `delta (|r| - delta / 2)`.
pub fn huber<R: Real>(r: R, delta: R) -> Term<R> {
    let slope = if r > delta {
        delta
    } else if r < -delta {
        -delta
    } else {
        r
    };
    Term { loss: slope * (r - slope * R::from_f64(0.5)), slope }
}

/// `(1 - level) r` above the target, `-level r` below it.
pub fn quantile<R: Real>(r: R, level: R) -> Term<R> {
    let slope = side(r, -level, R::ONE - level);
    Term { loss: slope * r, slope }
}

/// A slope chosen by the sign of the residual: 0 at 0, NaN for NaN.
fn side<R: Real>(r: R, below: R, above: R) -> R {
    if r > R::ZERO {
        above
    } else if r < R::ZERO {
        below
    } else {
        r
    }
}

/// The loss, and its derivatives with respect to the mean and to the logarithm of the variance.
pub fn gaussian<R: Real>(mean: R, log_variance: R, target: R) -> (R, [R; 2]) {
    let half = R::from_f64(0.5);
    let (r, precision) = (mean - target, (-log_variance).exp());
    let square = r * r * precision;
    (half * (log_variance + square), [r * precision, half * (R::ONE - square)])
}

/// The loss of a row of logits under a label; `d` receives the softmax, minus 1 at the label.
///
/// # Panics
/// If the label is not below the number of classes.
pub fn cross_entropy<R: Real>(logits: &[R], label: usize, d: &mut [R]) -> R {
    // Minus the largest, no exponential overflows, and at least one of them is 1.
    let largest = logits.iter().fold(logits[0], |largest, &y| if y > largest { y } else { largest });
    let mut sum = R::ZERO;
    for (d, &y) in d.iter_mut().zip(logits) {
        *d = (y - largest).exp();
        sum += *d;
    }
    d.iter_mut().for_each(|d| *d = *d / sum);
    d[label] = d[label] - R::ONE;
    sum.ln() - (logits[label] - largest)
}

impl<R: Real> Loss<R> {
    /// The loss of a row; `d` receives its derivative with respect to the outputs.
    ///
    /// # Panics
    /// If outputs and targets do not match, or a label is not one of the classes.
    pub fn row(&self, y: &[R], target: &[R], d: &mut [R]) -> f64 {
        assert_eq!(y.len(), d.len(), "a derivative for each output");
        match self {
            Loss::Squared => elements(y, target, d, squared),
            Loss::Absolute => elements(y, target, d, absolute),
            Loss::Huber { delta } => elements(y, target, d, |r| huber(r, *delta)),
            Loss::Quantile { levels } => {
                assert_eq!(y.len(), levels.len() * target.len(), "an output for each level of each target");
                let blocks = y.chunks(target.len()).zip(d.chunks_mut(target.len()));
                let costs = levels.iter().zip(blocks);
                costs.map(|(level, (y, d))| elements(y, target, d, |r| quantile(r, *level))).sum()
            }
            Loss::Gaussian => {
                assert_eq!(y.len(), 2 * target.len(), "two outputs for each target");
                let (mean, log_variance) = y.split_at(target.len());
                let (d_mean, d_log_variance) = d.split_at_mut(target.len());
                let mut sum = 0.0;
                for (k, &t) in target.iter().enumerate() {
                    let (cost, slopes) = gaussian(mean[k], log_variance[k], t);
                    [d_mean[k], d_log_variance[k]] = slopes;
                    sum += cost.to_f64();
                }
                sum
            }
            Loss::CrossEntropy => {
                let label = target[0].to_f64();
                if label < 0.0 {
                    d.fill(R::ZERO);
                    return 0.0;
                }
                cross_entropy(y, label as usize, d).to_f64()
            }
        }
    }

    /// The sum over rows, weighted by `[T B]` weights, and its derivative with respect to `output [T, B, O]`. Rows of
    /// weight 0 give 0, whatever they hold. The sum is always in `f64`: a long sum of small terms in `f32` would lose
    /// its last digits.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub fn weighted(&self, output: ArrayView3<R>, target: ArrayView3<R>, weights: &[R]) -> (f64, Array3<R>) {
        let mut d = Array3::zeros(output.dim());
        let sum = self.weighted_into(output, target, weights, d.as_slice_mut().expect("standard"));
        (sum, d)
    }

    /// [`Loss::weighted`], with the derivative written to `d`, the elements of `[T, B, O]`.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub fn weighted_into(
        &self,
        output: ArrayView3<R>,
        target: ArrayView3<R>,
        weights: &[R],
        d: &mut [R],
    ) -> f64 {
        let (steps, batch, width) = output.dim();
        assert_eq!((steps, batch), (target.dim().0, target.dim().1), "a target for each row");
        assert_eq!(weights.len(), steps * batch, "a weight for each row");
        assert_eq!(d.len(), output.len(), "a derivative for each output");
        d.fill(R::ZERO);
        let (output, target) = (output.as_standard_layout(), target.as_standard_layout());
        let (y, t) = (output.as_slice().expect("standard"), target.as_slice().expect("standard"));
        let rows = y.chunks(width).zip(t.chunks(target.dim().2));
        let d_rows = d.chunks_mut(width);
        let mut sum = 0.0;
        for (((y, t), d), &weight) in rows.zip(d_rows).zip(weights) {
            if weight != R::ZERO {
                sum += weight.to_f64() * self.row(y, t, d);
                d.iter_mut().for_each(|d| *d = weight * *d);
            }
        }
        sum
    }
}

fn elements<R: Real>(y: &[R], target: &[R], d: &mut [R], term: impl Fn(R) -> Term<R>) -> f64 {
    assert_eq!(y.len(), target.len(), "a target for each output");
    let mut sum = 0.0;
    for ((d, &y), &t) in d.iter_mut().zip(y).zip(target) {
        let Term { loss, slope } = term(y - t);
        sum += loss.to_f64();
        *d = slope;
    }
    sum
}

/// Weights of `1 / elements` for every row.
fn equal_weights<R: Real>(output: ArrayView3<R>) -> Vec<R> {
    let (steps, batch, _) = output.dim();
    vec![R::from_f64(1.0 / output.len() as f64); steps * batch]
}

/// The mean of `(output - target)^2` over all elements.
///
/// # Panics
/// If the shapes differ.
pub fn squared_error<R: Real>(output: ArrayView3<R>, target: ArrayView3<R>) -> R {
    R::from_f64(Loss::Squared.weighted(output, target, &equal_weights(output)).0)
}

/// The derivative of [`squared_error`] with respect to the output: `2 (output - target) / elements`.
///
/// # Panics
/// If the shapes differ.
pub fn squared_error_gradient<R: Real>(output: ArrayView3<R>, target: ArrayView3<R>) -> Array3<R> {
    Loss::Squared.weighted(output, target, &equal_weights(output)).1
}

/// Terms summed by parts: part `p` has the terms `p`, `p + parts`, `p + 2 parts`, ...
///
/// # Panics
/// If there is no part.
pub fn by_parts<R: Real>(terms: &[R], parts: usize) -> Vec<R> {
    (0..parts).map(|part| terms.iter().skip(part).step_by(parts).copied().sum()).collect()
}

/// Sums the parts of a loss in order.
pub fn sum_loss<R: Real>(parts: &[R]) -> R {
    parts.iter().copied().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failures;
    use ndarray::arr3;

    #[test]
    fn a_mean_over_every_element() {
        let (output, target) = (arr3(&[[[1.0, 2.0]], [[3.0, 5.0]]]), arr3(&[[[1.0, 1.0]], [[1.0, 1.0]]]));
        assert_eq!(squared_error(output.view(), target.view()), (0.0 + 1.0 + 4.0 + 16.0) / 4.0);
        let gradient = squared_error_gradient(output.view(), target.view());
        assert_eq!(gradient, arr3(&[[[0.0, 0.5]], [[1.0, 2.0]]]));
    }

    #[test]
    fn the_parts_make_up_the_sum() {
        let parts = by_parts(&[0.0, 1.0, 4.0, 16.0, 0.25], 2);
        assert_eq!(parts, [0.0 + 4.0 + 0.25, 1.0 + 16.0]);
        assert_eq!(sum_loss(&parts), 21.25);
    }

    /// The published definitions, piece by piece.
    #[test]
    fn terms_are_those_of_the_definitions() {
        assert_eq!(absolute(-3.0), Term { loss: 3.0, slope: -1.0 });
        assert_eq!(absolute(0.0), Term { loss: 0.0, slope: 0.0 });
        assert_eq!(huber(0.25, 0.5), Term { loss: 0.03125, slope: 0.25 });
        assert_eq!(huber(-2.0, 0.5), Term { loss: 0.5 * (2.0 - 0.25), slope: -0.5 });
        assert_eq!(huber(2.0, 0.5), Term { loss: 0.5 * (2.0 - 0.25), slope: 0.5 });
        assert_eq!(quantile(-2.0, 0.75), Term { loss: 1.5, slope: -0.75 });
        assert_eq!(quantile(2.0, 0.75), Term { loss: 0.5, slope: 0.25 });
        assert_eq!(quantile(0.0, 0.75), Term { loss: 0.0, slope: 0.0 });
        let (cost, slopes) = gaussian(1.0f64, 4f64.ln(), 3.0);
        approx::assert_abs_diff_eq!(cost, 0.5 * (4f64.ln() + 1.0), epsilon = 1e-15);
        assert_eq!(slopes, [-0.5, 0.0]);
    }

    #[test]
    fn logits_of_any_size_neither_overflow_nor_vanish() {
        let mut d = [0.0; 3];
        assert_eq!(cross_entropy(&[1e30f64, -1e30, 0.0], 0, &mut d), 0.0);
        assert_eq!(d, [0.0, 0.0, 0.0]);
        assert_eq!(cross_entropy(&[1000.0f64, 1000.0, 1000.0], 1, &mut d), 3f64.ln());
        assert_eq!(d, [1.0 / 3.0, 1.0 / 3.0 - 1.0, 1.0 / 3.0]);
        assert_eq!(cross_entropy(&[-90.0f64, 10.0], 0, &mut d[..2]), 100.0);
        assert_eq!(cross_entropy(&[7.0f64], 0, &mut d[..1]), 0.0);
    }

    #[test]
    fn what_does_not_count_is_zero_whatever_it_holds() {
        let output = arr3(&[[[f64::NAN, 1.0], [0.5, 0.25]]]);
        let target = arr3(&[[[0.0, f64::INFINITY], [0.0, 0.0]]]);
        let (sum, d) = Loss::Squared.weighted(output.view(), target.view(), &[0.0, 2.0]);
        assert_eq!(sum, 2.0 * (0.25 + 0.0625));
        assert_eq!(d, arr3(&[[[0.0, 0.0], [2.0, 1.0]]]));
        let ignored = arr3(&[[[-1.0], [1.0]]]);
        let (sum, d) = Loss::CrossEntropy.weighted(output.view(), ignored.view(), &[3.0, 1.0]);
        assert_eq!(d.slice(ndarray::s![0, 0, ..]).to_vec(), [0.0, 0.0]);
        assert!(sum > 0.0);
    }

    /// NaN must not pass for a number.
    #[test]
    fn nan_stays_nan() {
        let mut failures = Failures::new();
        for loss in
            [Loss::Squared, Loss::Absolute, Loss::Huber { delta: 1.0 }, Loss::Quantile { levels: vec![0.5] }]
        {
            failures.check(format!("{loss:?}"), || {
                let mut d = [0.0];
                assert!(loss.row(&[f64::NAN], &[1.0], &mut d).is_nan());
                assert!(d[0].is_nan());
            });
        }
        failures.finish();
    }
}
