use ndarray::{Array2, Array3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::ops::Range;

/// Random numbers determined by a seed and a stream, the same on every machine.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// A generator for a seed and a stream. Cases that share a seed take a stream each.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Random(random)
    }

    /// Uniform in -1 to 1.
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        self.within(-1.0..1.0, len)
    }

    /// [`Random::values`] for a case with `results` results. A lone result must not be a small difference of large
    /// terms: nothing else in its tensor would show how large they were. So its terms are all above zero.
    pub(crate) fn values_for(&mut self, results: usize, len: usize) -> Vec<f32> {
        if results == 1 { self.within(0.1..1.0, len) } else { self.values(len) }
    }

    /// Uniform in a range.
    pub fn within(&mut self, range: Range<f32>, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.0.random_range(range.clone())).collect()
    }

    /// `[T, B, F]`, uniform in -1 to 1.
    pub fn sequence(&mut self, shape: (usize, usize, usize)) -> Array3<f32> {
        Array3::from_shape_simple_fn(shape, || self.0.random_range(-1.0..1.0))
    }
}

/// A batch to train on: a sine of its own pitch in every row and feature, `input [T, B, I]`, and its next values,
/// `target [1, B, O]`. `number` counts batches, each a bit later than the one before.
pub fn waves(
    number: usize,
    (steps, batch): (usize, usize),
    (input, output): (usize, usize),
) -> (Array3<f32>, Array3<f32>) {
    let value = |t: usize, row: usize, feature: usize| {
        ((t + 5 * row + 3 * number) as f32 * (0.3 + 0.2 * feature as f32)).sin()
    };
    let next = Array3::from_shape_fn((1, batch, output), |(_, row, k)| value(steps, row, k));
    (Array3::from_shape_fn((steps, batch, input), |(t, row, k)| value(t, row, k)), next)
}

/// The same numbers in `f64`.
pub(crate) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The same numbers in `f64`, as a matrix.
pub(crate) fn matrix(values: &[f32], rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_vec((rows, columns), wide(values)).expect("as many numbers as the shape has")
}

/// A matrix's numbers, row after row.
pub(crate) fn flat(matrix: &Array2<f64>) -> Vec<f64> {
    matrix.iter().copied().collect()
}
