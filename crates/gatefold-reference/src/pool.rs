//! Pooling over time: one value of each row's own steps, for each feature.

use crate::Real;
use gatefold_model::Pooling;
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};

/// The first step with the largest x of a row and feature; with a NaN, the first NaN.
fn first_largest<R: Real>(x: ArrayView3<R>, len: usize, (b, f): (usize, usize)) -> usize {
    let is_nan = |value: R| value.to_f64().is_nan();
    (1..len).fold(0, |best, t| {
        let (largest, value) = (x[[best, b, f]], x[[t, b, f]]);
        if !is_nan(largest) && (value > largest || is_nan(value)) { t } else { best }
    })
}

/// The mean over each row's steps of `values [T, B, F]`, or the value at the step with its largest x: `[B, F]`. In a
/// forward pass the values are x, in its derivative the tangents of x. Zeros for a row without steps.
pub fn pool<R: Real>(
    lengths: &[usize],
    x: ArrayView3<R>,
    values: ArrayView3<R>,
    pooling: Pooling,
) -> Array2<R> {
    let (steps, batch, width) = x.dim();
    Array2::from_shape_fn((batch, width), |(b, f)| match (lengths[b].min(steps), pooling) {
        (0, _) => R::ZERO,
        (len, Pooling::Max) => values[[first_largest(x, len, (b, f)), b, f]],
        (len, Pooling::Mean) => {
            let sum: R = (0..len).map(|t| values[[t, b, f]]).sum();
            sum / R::from_f64(len as f64)
        }
    })
}

/// The backward of [`pool`]: `d_y [B, F]` divided among a row's steps, or at the first of its largest x, zeros elsewhere.
pub fn pool_backward<R: Real>(
    lengths: &[usize],
    x: ArrayView3<R>,
    d_y: ArrayView2<R>,
    pooling: Pooling,
) -> Array3<R> {
    let (steps, _, _) = x.dim();
    let mut d_x = Array3::zeros(x.dim());
    for ((b, f), &d) in d_y.indexed_iter() {
        match (lengths[b].min(steps), pooling) {
            (0, _) => {}
            (len, Pooling::Max) => d_x[[first_largest(x, len, (b, f)), b, f]] = d,
            (len, Pooling::Mean) => {
                (0..len).for_each(|t| d_x[[t, b, f]] = d / R::from_f64(len as f64));
            }
        }
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, s};

    #[test]
    fn rows_are_pooled_over_their_own_steps() {
        let x =
            Array3::from_shape_vec((3, 3, 1), vec![1.0, 4.0, 7.0, 5.0, 2.0, f64::NAN, 3.0, 9.0, f64::NAN])
                .unwrap();
        let lengths = [9, 2, 0];
        let of = |pooling| pool(&lengths, x.view(), x.view(), pooling);
        assert_eq!(of(Pooling::Max), array![[5.0], [4.0], [0.0]]);
        assert_eq!(of(Pooling::Mean), array![[3.0], [3.0], [0.0]]);
        let d_y = array![[1.5], [2.0], [3.0]];
        let back = |pooling| pool_backward(&lengths, x.view(), d_y.view(), pooling);
        assert_eq!(
            back(Pooling::Max).slice(s![.., .., 0]),
            array![[0.0, 2.0, 0.0], [1.5, 0.0, 0.0], [0.0; 3]]
        );
        assert_eq!(
            back(Pooling::Mean).slice(s![.., .., 0]),
            array![[0.5, 1.0, 0.0], [0.5, 1.0, 0.0], [0.5, 0.0, 0.0]]
        );
    }

    /// Of equal values the first counts, and a NaN is never hidden by a larger number.
    #[test]
    fn ties_and_nan() {
        let x = Array3::from_shape_vec((4, 1, 2), vec![2.0, 1.0, 3.0, f64::NAN, 3.0, 8.0, 1.0, f64::NAN])
            .unwrap();
        let y = pool(&[4], x.view(), x.view(), Pooling::Max);
        assert!(y[[0, 0]] == 3.0 && y[[0, 1]].is_nan());
        let d_x = pool_backward(&[4], x.view(), array![[1.0, 2.0]].view(), Pooling::Max);
        assert_eq!(d_x.slice(s![.., 0, ..]), array![[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]);
    }
}
