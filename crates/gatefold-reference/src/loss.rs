//! Losses: one number from outputs and targets, and its derivative by the outputs.

use crate::Real;
use ndarray::{Array3, ArrayView3, Zip};

/// The mean of `(output - target)^2` over every element.
///
/// Summed in `f64` whatever the type: a long sum of small squares in `f32` would lose its last digits.
///
/// # Panics
/// If the shapes differ.
pub fn squared_error<R: Real>(output: ArrayView3<R>, target: ArrayView3<R>) -> R {
    let mut sum = 0.0;
    Zip::from(output).and(target).for_each(|&y, &t| {
        let residual = (y - t).to_f64();
        sum += residual * residual;
    });
    R::from_f64(sum / output.len() as f64)
}

/// The derivative of [`squared_error`] by the output: `2 (output - target) / elements`.
///
/// # Panics
/// If the shapes differ.
pub fn squared_error_gradient<R: Real>(output: ArrayView3<R>, target: ArrayView3<R>) -> Array3<R> {
    let scale = R::from_f64(2.0 / output.len() as f64);
    Zip::from(output).and(target).map_collect(|&y, &t| (y - t) * scale)
}

/// The sum of `(output - target)^2` by parts: part `p` has the elements `p`, `p + parts`, `p + 2 parts`, ...
///
/// # Panics
/// If there is no part.
pub fn squared_error_parts<R: Real>(output: &[R], target: &[R], parts: usize) -> Vec<R> {
    let squares = output.iter().zip(target).map(|(&y, &t)| (y - t) * (y - t)).collect::<Vec<R>>();
    (0..parts).map(|part| squares.iter().skip(part).step_by(parts).copied().sum()).collect()
}

/// The parts of a loss added in order, divided.
pub fn mean_loss<R: Real>(parts: &[R], divisor: usize) -> R {
    parts.iter().copied().sum::<R>() / R::from_f64(divisor as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr3;

    #[test]
    fn a_mean_over_every_element() {
        let (output, target) = (arr3(&[[[1.0, 2.0]], [[3.0, 5.0]]]), arr3(&[[[1.0, 1.0]], [[1.0, 1.0]]]));
        assert_eq!(squared_error(output.view(), target.view()), (0.0 + 1.0 + 4.0 + 16.0) / 4.0);
        let gradient = squared_error_gradient(output.view(), target.view());
        assert_eq!(gradient, arr3(&[[[0.0, 0.5]], [[1.0, 2.0]]]));
    }

    #[test]
    fn the_parts_make_up_the_mean() {
        let (output, target) = ([1.0, 2.0, 3.0, 5.0, 0.5], [1.0, 1.0, 1.0, 1.0, 0.0]);
        let parts = squared_error_parts(&output, &target, 2);
        assert_eq!(parts, [0.0 + 4.0 + 0.25, 1.0 + 16.0]);
        assert_eq!(mean_loss(&parts, 5), 21.25 / 5.0);
    }
}
