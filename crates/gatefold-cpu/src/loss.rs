//! The loss of a batch's outputs and its gradient, by blocks of rows that threads share.

use crate::instructions::{Instructions, load, store, vectors};
use crate::math::exp;
use crate::network::{Network, Tape};
use crate::threads::Threads;
use gatefold_reference::loss::Loss;
use ndarray::ArrayView3;
use pulp::{Simd, WithSimd};

/// The outputs of a block. Blocks depend on the batch alone, so the order of the sum does too.
const BLOCK: usize = 1 << 13;
/// The multiplications and additions that take about as long as the loss of one output.
const WORK: usize = 16;
/// The vectors that are summed in `f32` before their sum goes to `f64`: each lane adds as many terms.
const SUMMED: usize = 32;

/// Room that losses need, kept from batch to batch.
#[derive(Clone, Debug, Default)]
pub struct LossRoom {
    d_output: Vec<f32>,
    /// One sum for each block.
    sums: Vec<f64>,
}

impl Network {
    /// The sum over rows of the loss of a pass's output, weighted by `[T B]` weights, and its gradient with respect to
    /// the output `[T, B, O]`. Rows of weight 0 give 0, whatever they hold.
    ///
    /// # Panics
    /// If the shapes do not match, or a label is not one of the classes.
    pub fn loss<'a>(
        &self,
        loss: &Loss<f32>,
        tape: &Tape,
        target: ArrayView3<f32>,
        weights: &[f32],
        room: &'a mut LossRoom,
    ) -> (f64, ArrayView3<'a, f32>) {
        let output = tape.output();
        let sum = weighted(self.instructions(), self.threads, loss, output, target, weights, room);
        (sum, ArrayView3::from_shape(output.dim(), &room.d_output).expect("it has that length"))
    }
}

fn weighted(
    set: Instructions,
    threads: Threads,
    loss: &Loss<f32>,
    output: ArrayView3<f32>,
    target: ArrayView3<f32>,
    weights: &[f32],
    room: &mut LossRoom,
) -> f64 {
    let (steps, batch, width) = output.dim();
    let rows = steps * batch;
    assert_eq!((steps, batch), (target.dim().0, target.dim().1), "a target for each row");
    assert_eq!(weights.len(), rows, "a weight for each row");
    let LossRoom { d_output, sums } = room;
    let (output, target) = (output.as_standard_layout(), target.as_standard_layout());
    let (y, t) = (output.as_slice().expect("standard"), target.as_slice().expect("standard"));
    let count = (BLOCK / width).max(1);
    d_output.resize(rows * width, 0.0);
    sums.clear();
    sums.resize(rows.div_ceil(count), 0.0);
    let given = y.chunks(count * width).zip(t.chunks(count * target.dim().2)).zip(weights.chunks(count));
    let blocks = given.zip(d_output.chunks_mut(count * width)).zip(&mut *sums);
    threads.worth(rows * width * WORK).run(blocks, |((((y, t), weights), d), sum)| {
        *sum = block(set, loss, width, (y, t, weights), d);
    });
    sums.iter().sum()
}

/// The loss of some rows: outputs, targets and weights.
fn block(
    set: Instructions,
    loss: &Loss<f32>,
    width: usize,
    (y, t, weights): (&[f32], &[f32], &[f32]),
    d: &mut [f32],
) -> f64 {
    let targets = t.chunks(t.len() / weights.len());
    let mut sum = 0.0;
    for (((y, t), d), &weight) in y.chunks(width).zip(targets).zip(d.chunks_mut(width)).zip(weights) {
        let is_class = *loss == Loss::CrossEntropy;
        if weight == 0.0 || (is_class && t[0] < 0.0) {
            d.fill(0.0);
        } else if is_class {
            sum += f64::from(weight) * cross_entropy(set, y, t[0] as usize, weight, d);
        } else {
            sum += f64::from(weight) * loss.row(y, t, d);
            d.iter_mut().for_each(|d| *d *= weight);
        }
    }
    sum
}

/// `log sum_c exp y_c - y_label`; `d` receives the weight times the softmax, less the weight at the label.
///
/// # Panics
/// If the label is not below the number of classes.
fn cross_entropy(set: Instructions, logits: &[f32], label: usize, weight: f32, d: &mut [f32]) -> f64 {
    let largest = largest(set, logits);
    let sum = exponentials(set, logits, largest, d);
    let at_label = f64::from(d[label]) / sum - 1.0;
    let scale = (f64::from(weight) / sum) as f32;
    set.compile(|| d.iter_mut().for_each(|d| *d *= scale));
    d[label] = (f64::from(weight) * at_label) as f32;
    sum.ln() - (f64::from(logits[label]) - f64::from(largest))
}

/// The largest element. NaN is never larger than another.
pub(crate) fn largest(set: Instructions, x: &[f32]) -> f32 {
    struct Largest<'a>(&'a [f32]);
    impl WithSimd for Largest<'_> {
        type Output = f32;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            let (vectors, rest) = S::as_simd_f32s(self.0);
            let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
            for &x in vectors {
                largest = simd.select_f32s(simd.less_than_f32s(largest, x), x, largest);
            }
            let lanes: &[f32] = bytemuck::cast_slice(std::slice::from_ref(&largest));
            let larger = |largest, &x| if x > largest { x } else { largest };
            lanes.iter().chain(rest).fold(f32::NEG_INFINITY, larger)
        }
    }
    set.run(Largest(x))
}

/// `to_k = exp(x_k - largest)`, and their sum. NaN stays.
pub(crate) fn exponentials(set: Instructions, x: &[f32], largest: f32, to: &mut [f32]) -> f64 {
    struct Exponentials<'a>(&'a [f32], f32, &'a mut [f32]);
    impl WithSimd for Exponentials<'_> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            let Exponentials(x, largest, to) = self;
            let largest = simd.splat_f32s(largest);
            let mut sum = 0.0;
            let length = SUMMED * S::F32_LANES;
            for (x, to) in x.chunks(length).zip(to.chunks_mut(length)) {
                let mut part = simd.splat_f32s(0.0);
                vectors!(S, x.len(), at => {
                    let y = exp(simd, simd.sub_f32s(load(simd, &x[at.clone()]), largest));
                    store(simd, &mut to[at.clone()], y);
                    // Read back, so that lanes past the end are 0.
                    part = simd.add_f32s(part, load(simd, &to[at]));
                });
                sum += f64::from(simd.reduce_sum_f32s(part));
            }
            sum
        }
    }
    set.run(Exponentials(x, largest, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::product::tests::numbers;
    use gatefold_reference::Failures;
    use ndarray::{Array1, Array3};

    /// A batch's loss and its gradient.
    fn run(
        set: Instructions,
        threads: usize,
        loss: &Loss<f32>,
        (output, target, weights): (&Array3<f32>, &Array3<f32>, &[f32]),
    ) -> (f64, Vec<f32>) {
        let mut room = LossRoom::default();
        let (threads, output, target) = (Threads::new(threads), output.view(), target.view());
        let sum = weighted(set, threads, loss, output, target, weights, &mut room);
        (sum, room.d_output)
    }

    /// Logits of this width for five steps of three rows, with labels of every kind and weights, one of them 0.
    fn batch(classes: usize) -> (Array3<f32>, Array3<f32>, Vec<f32>) {
        let logits = numbers(15, classes, classes).mapv(|x| 12.0 * x);
        let label = |n: usize| if n == 7 { -1.0 } else { (n * 31 % classes) as f32 };
        let labels = Array1::from_iter((0..15).map(label)).into_shape_with_order((5, 3, 1)).unwrap();
        let weights = (0..15).map(|n| if n == 4 { 0.0 } else { 0.25 + n as f32 / 7.0 }).collect();
        (logits.into_shape_with_order((5, 3, classes)).unwrap(), labels, weights)
    }

    /// Beside the reference in `f64`. An exponential has three units of the last place, 6u. Each of its lanes adds up to
    /// 32 of them in `f32`, and they are added up over at most 16 lanes: 36u more. The quotient adds a few.
    #[test]
    fn cross_entropy_is_that_of_the_reference() {
        let bound = 50.0 * f64::from(f32::EPSILON) / 2.0;
        let mut failures = Failures::new();
        for set in Instructions::available() {
            for classes in [1, 2, 15, 16, 17, 64, 515, 10_007] {
                failures.check(format!("{set}, {classes} classes"), || {
                    let (logits, labels, weights) = batch(classes);
                    let (sum, d) = run(set, 1, &Loss::CrossEntropy, (&logits, &labels, &weights));
                    let exact: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
                    let (want, want_d) = Loss::CrossEntropy.weighted(
                        logits.mapv(f64::from).view(),
                        labels.mapv(f64::from).view(),
                        &exact,
                    );
                    let all: f64 = exact.iter().sum();
                    assert!((sum - want).abs() <= bound * all, "{sum}, expected {want}");
                    for (n, (&d, &want)) in d.iter().zip(&want_d).enumerate() {
                        let (row, class) = (n / classes, n % classes);
                        let is_label = labels.as_slice().unwrap()[row] == class as f32;
                        let size = if is_label { exact[row] } else { want.abs() };
                        let error = (f64::from(d) - want).abs();
                        assert!(error <= bound * size + 1e-38, "row {row}, class {class}: {d}, {want}");
                    }
                });
            }
        }
        failures.finish();
    }

    /// Blocks of one row and of many, for every loss.
    #[test]
    fn threads_change_no_bit() {
        let set = Instructions::widest();
        let (logits, labels, weights) = batch(10_007);
        let (y, t) = (numbers(4096, 6, 1), numbers(4096, 3, 2));
        let (y, t) =
            (y.into_shape_with_order((64, 64, 6)).unwrap(), t.into_shape_with_order((64, 64, 3)).unwrap());
        let equal = vec![0.5; 4096];
        let quantile = Loss::Quantile { levels: vec![0.1, 0.9] };
        let batches = [
            (Loss::CrossEntropy, (&logits, &labels, &weights[..])),
            (Loss::Gaussian, (&y, &t, &equal[..])),
            (quantile, (&y, &t, &equal[..])),
            (Loss::Squared, (&y, &y, &equal[..])),
        ];
        for (loss, batch) in &batches {
            let (sum, d) = run(set, 1, loss, *batch);
            for threads in [2, 3] {
                let (also, also_d) = run(set, threads, loss, *batch);
                assert_eq!((sum.to_bits(), &d), (also.to_bits(), &also_d), "{loss:?}");
            }
        }
    }

    /// A class whose logit is minus infinity has no probability. NaN must not pass for a number, nor an infinite logit.
    #[test]
    fn logits_that_are_not_finite_are_taken_as_they_are() {
        let nan = f32::NAN;
        for set in Instructions::available() {
            let mut d = [nan; 20];
            let mut logits = [0.5; 20];
            logits[3] = f32::NEG_INFINITY;
            let cost = cross_entropy(set, &logits, 0, 1.0, &mut d);
            assert!((cost - 19f64.ln()).abs() < 1e-6 && d[3] == 0.0, "{cost}, {d:?}");
            assert_eq!(cross_entropy(set, &logits, 3, 1.0, &mut d), f64::INFINITY);
            for bad in [nan, f32::INFINITY] {
                for at in [0, 7, 19] {
                    let mut logits = logits;
                    logits[at] = bad;
                    assert!(cross_entropy(set, &logits, 1, 1.0, &mut d).is_nan(), "{bad} at {at}");
                    assert!(d.iter().all(|d| d.is_nan()), "{bad} at {at}: {d:?}");
                }
            }
        }
    }
}
