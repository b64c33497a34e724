//! Classification by the nearest training sequence, the baseline that needs no training.

use ndarray::{Array2, ArrayView2, Axis};

/// The most products that dynamic time warping may take; more are left out.
const MOST_PRODUCTS: f64 = 4e9;

/// Mean and standard deviation of each channel over all steps.
pub(crate) fn mean_and_deviation(values: ArrayView2<f32>) -> Vec<f32> {
    let mean = values.mean_axis(Axis(0)).map_or_else(Vec::new, |mean| mean.to_vec());
    let deviation = values.std_axis(Axis(0), 0.0);
    mean.into_iter().chain(deviation).collect()
}

/// The place in `known` of the vector nearest to `wanted`, by Euclidean distance; the first if several are.
pub(crate) fn nearest(known: &[Vec<f32>], wanted: &[f32]) -> usize {
    let distance = |found: &[f32]| -> f32 { found.iter().zip(wanted).map(|(a, b)| (a - b) * (a - b)).sum() };
    least(known.iter().map(|found| f64::from(distance(found))))
}

/// The place in `known` of the sequence nearest to each of `wanted` by dynamic time warping (Sakoe and Chiba 1978), the
/// square root of the least sum of squared distances along a path; `None` where that would take too long.
pub(crate) fn nearest_warped(known: &[Array2<f32>], wanted: &[Array2<f32>]) -> Option<Vec<usize>> {
    let steps = |sequences: &[Array2<f32>]| sequences.iter().map(|one| one.nrows() as f64).sum::<f64>();
    let channels = known.first().map_or(0, Array2::ncols) as f64;
    if steps(known) * steps(wanted) * channels > MOST_PRODUCTS {
        return None;
    }
    Some(wanted.iter().map(|one| least(known.iter().map(|other| warped(one.view(), other.view())))).collect())
}

fn warped(a: ArrayView2<f32>, b: ArrayView2<f32>) -> f64 {
    let mut before = vec![f32::INFINITY; b.nrows() + 1];
    before[0] = 0.0;
    for x in a.rows() {
        let mut now = vec![f32::INFINITY; b.nrows() + 1];
        for (j, y) in b.rows().into_iter().enumerate() {
            let squares = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
            now[j + 1] = squares + before[j].min(before[j + 1]).min(now[j]);
        }
        before = now;
    }
    f64::from(before[b.nrows()])
}

fn least(distances: impl Iterator<Item = f64>) -> usize {
    distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn warping_forgives_other_speeds() {
        let rise = array![[0.0], [1.0], [2.0], [3.0]];
        let slow = array![[0.0], [0.0], [1.0], [1.0], [2.0], [3.0], [3.0]];
        let fall = array![[3.0], [2.0], [1.0], [0.0]];
        assert_eq!(warped(rise.view(), slow.view()), 0.0);
        // By hand: the diagonal costs 9 + 1 + 1 + 9, and no other path less.
        assert_eq!(warped(rise.view(), fall.view()), 20.0);
        assert_eq!(nearest_warped(&[fall, rise], &[slow]), Some(vec![1]));
        assert_eq!(nearest(&[vec![0.0, 1.0], vec![2.0, 2.0]], &[1.5, 1.4]), 1);
    }
}
