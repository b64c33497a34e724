//! The targets of a network's outputs, and the weight of each row of them.

use crate::loss::reference_loss;
use crate::sequences::check_lengths;
use crate::{Error, Refusal};
use gatefold_model::{Loss, Reduction};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, CowArray, Ix2, Ix3, s};
use std::ops::Range;

/// The targets of a network's outputs `[T', B, O]`: values, or labels of classes; and the weight of each row.
///
/// ```
/// use gatefold::Targets;
/// use ndarray::{Array2, Array3};
///
/// let values = Array3::<f32>::zeros((5, 4, 2));
/// let targets = Targets::from(&values).with_weights(Array2::ones((5, 4)))?;
/// let labels = Targets::from(&Array2::<i64>::zeros((5, 4)));
/// # let _ = (targets, labels);
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Targets<'a> {
    /// `[T', B, F]`
    values: CowArray<'a, f32, Ix3>,
    labels: bool,
    /// `[T', B]`
    weights: Option<CowArray<'a, f32, Ix2>>,
}

/// Values `[T', B, F]`, borrowed.
impl<'a> From<ArrayView3<'a, f32>> for Targets<'a> {
    fn from(values: ArrayView3<'a, f32>) -> Self {
        Targets { values: values.into(), labels: false, weights: None }
    }
}

/// Values `[T', B, F]`, borrowed.
impl<'a> From<&'a Array3<f32>> for Targets<'a> {
    fn from(values: &'a Array3<f32>) -> Self {
        Targets::from(values.view())
    }
}

/// Values `[T', B, F]`.
impl From<Array3<f32>> for Targets<'_> {
    fn from(values: Array3<f32>) -> Self {
        Targets::values(values)
    }
}

/// Labels `[T', B]`; see [`Targets::labels`].
impl From<ArrayView2<'_, i64>> for Targets<'_> {
    fn from(labels: ArrayView2<i64>) -> Self {
        Targets::labels(labels)
    }
}

/// Labels `[T', B]`; see [`Targets::labels`].
impl From<&Array2<i64>> for Targets<'_> {
    fn from(labels: &Array2<i64>) -> Self {
        Targets::labels(labels.view())
    }
}

/// The same targets, borrowed.
impl<'a> From<&'a Targets<'_>> for Targets<'a> {
    fn from(given: &'a Targets<'_>) -> Self {
        Targets {
            values: given.values.view().into(),
            labels: given.labels,
            weights: given.weights.as_ref().map(|weights| weights.view().into()),
        }
    }
}

impl Targets<'_> {
    /// Values `[T', B, F]`; [`Loss::target_width`] says how many features `F` there are.
    pub fn values(values: Array3<f32>) -> Self {
        Targets { values: values.into(), labels: false, weights: None }
    }

    /// Class numbers `[T', B]`, counted from 0; a negative number means no label.
    pub fn labels(labels: ArrayView2<i64>) -> Self {
        let (steps, batch) = labels.dim();
        // Exact up to 2^24, which is more classes than any device holds; larger numbers stay out of range.
        let values = Array3::from_shape_fn((steps, batch, 1), |(t, row, _)| labels[[t, row]].max(-1) as f32);
        Targets { values: values.into(), labels: true, weights: None }
    }

    /// Sets the weight of each row, `[T', B]`; a mask is made of zeros and ones. A row of weight 0 contributes nothing,
    /// whatever its target holds. Weights given before are multiplied by these.
    ///
    /// # Errors
    /// [`Error::Shape`] for weights not shaped like the targets; [`Error::Value`] for a weight, or a product of
    /// weights, that is negative or not finite.
    pub fn with_weights(mut self, mut weights: Array2<f32>) -> Result<Self, Error> {
        let (steps, batch, _) = self.values.dim();
        if weights.dim() != (steps, batch) {
            let (found_steps, found_batch) = weights.dim();
            return Err(Error::Shape {
                what: "weights".into(),
                expected: format!("[steps {steps}, batch {batch}]"),
                found: format!("[{found_steps}, {found_batch}]"),
            });
        }
        check_weights("weight", &weights)?;
        if let Some(before) = &self.weights {
            weights *= &before.view();
            check_weights("product of the weights", &weights)?;
        }
        self.weights = Some(weights.into());
        Ok(self)
    }

    /// Ignores steps past the end of each row; `lengths [B]` count steps of the output. [`Targets::loss`] needs this, a
    /// trainer does not: it knows the lengths of its sequences.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one length for each row, or one is above `T'`.
    pub fn with_lengths(self, lengths: impl AsRef<[usize]>) -> Result<Self, Error> {
        let lengths = lengths.as_ref();
        let (steps, batch, _) = self.values.dim();
        check_lengths(lengths, steps, batch, None)?;
        let within = |(t, row): (usize, usize)| f32::from(u8::from(t < lengths[row]));
        self.with_weights(Array2::from_shape_fn((steps, batch), within))
    }

    /// The loss of outputs `[T', B, O]`, for validation; computed on the host in `f64`. It does not know where rows
    /// end: if they are padded, call [`Targets::with_lengths`] first.
    ///
    /// # Errors
    /// [`Error::Model`] for an option of the loss out of its range; [`Error::Shape`], [`Error::Value`] and
    /// [`Error::Refused`] as in training.
    pub fn loss(&self, loss: &Loss, reduction: Reduction, output: ArrayView3<f32>) -> Result<f64, Error> {
        loss.check()?;
        let weights = RowWeights::new(loss, reduction, &self.view(), None, output.dim())?;
        let (output, target) = (output.mapv(f64::from), self.values.mapv(f64::from));
        Ok(reference_loss::<f64>(loss).weighted(output.view(), target.view(), weights.values()).0)
    }

    pub(crate) fn view(&self) -> TargetsView<'_> {
        TargetsView {
            values: self.values.view(),
            labels: self.labels,
            weights: self.weights.as_ref().map(|weights| weights.view()),
            skipped: 0,
        }
    }
}

fn check_weights(what: &str, weights: &Array2<f32>) -> Result<(), Error> {
    let found = weights.indexed_iter().find(|(_, weight)| !(**weight >= 0.0 && weight.is_finite()));
    found.map_or(Ok(()), |((t, row), weight)| {
        Err(Error::Value {
            what: format!("{what} at step {t}, row {row}"),
            expected: "a finite number, 0 or more".into(),
            found: weight.to_string(),
        })
    })
}

/// Some steps of [`Targets`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetsView<'a> {
    pub(crate) values: ArrayView3<'a, f32>,
    labels: bool,
    weights: Option<ArrayView2<'a, f32>>,
    /// The number of leading steps that have no weight.
    skipped: usize,
}

impl<'a> TargetsView<'a> {
    /// Some of the steps; those before `counted` have no weight.
    pub(crate) fn window(self, steps: Range<usize>, counted: usize) -> TargetsView<'a> {
        let skipped = counted.saturating_sub(steps.start);
        TargetsView {
            values: self.values.slice_move(s![steps.clone(), .., ..]),
            weights: self.weights.map(|weights| weights.slice_move(s![steps, ..])),
            skipped: self.skipped.max(skipped),
            ..self
        }
    }
}

/// The factor of each row, `[T' B]`: its weight, or zero if it does not count, divided by the mean's denominator.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RowWeights(Vec<f64>);

impl RowWeights {
    /// The factors for outputs of this shape, `[T', B, O]`. A row counts if its label is not negative and if it lies
    /// within its sequence; `lengths [B]` count steps of the output.
    ///
    /// # Errors
    /// [`Error::Shape`] for targets that do not belong to such outputs, [`Error::Value`] for a label that is not a
    /// class, [`Error::Refused`] if the loss takes other targets or outputs.
    pub(crate) fn new(
        loss: &Loss,
        reduction: Reduction,
        targets: &TargetsView,
        lengths: Option<&[usize]>,
        output: (usize, usize, usize),
    ) -> Result<RowWeights, Error> {
        let mut weights = RowWeights::default();
        weights.refill(loss, reduction, targets, lengths, output)?;
        Ok(weights)
    }

    /// Replaces the factors, as [`RowWeights::new`] makes them, in the same memory.
    ///
    /// # Errors
    /// Those of [`RowWeights::new`].
    pub(crate) fn refill(
        &mut self,
        loss: &Loss,
        reduction: Reduction,
        targets: &TargetsView,
        lengths: Option<&[usize]>,
        (steps, batch, width): (usize, usize, usize),
    ) -> Result<(), Error> {
        let (found_steps, found_batch, features) = targets.values.dim();
        let classes = (*loss == Loss::CrossEntropy).then_some(width);
        if targets.labels && classes.is_none() {
            return Err(Error::refused(
                Refusal::Targets,
                format!(
                    "loss {}: the targets are labels; give values, or use the loss cross-entropy",
                    loss.name()
                ),
            ));
        }
        let wanted = loss.target_width(width)?;
        if (found_steps, found_batch, features) != (steps, batch, wanted) {
            return Err(Error::Shape {
                what: "target".into(),
                expected: format!("[steps {steps}, batch {batch}, features {wanted}]"),
                found: format!("[{found_steps}, {found_batch}, {features}]"),
            });
        }
        let RowWeights(weights) = self;
        weights.clear();
        for t in 0..steps {
            for row in 0..batch {
                let within = t >= targets.skipped && lengths.is_none_or(|lengths| t < lengths[row]);
                let weight = targets.weights.map_or(1.0, |weights| f64::from(weights[[t, row]]));
                let counts = within && weight > 0.0;
                let counts = match classes {
                    Some(classes) if counts => is_label(targets.values[[t, row, 0]], classes, t, row)?,
                    _ => counts,
                };
                weights.push(if counts { weight } else { 0.0 });
            }
        }
        let total: f64 = weights.iter().sum();
        if reduction == Reduction::Mean && total > 0.0 {
            let denominator = total * loss.elements(width) as f64;
            weights.iter_mut().for_each(|weight| *weight /= denominator);
        }
        Ok(())
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// Replaces what is in the list by the factors in `f32`, as devices use them.
    pub(crate) fn put_single(&self, to: &mut Vec<f32>) {
        to.clear();
        to.extend(self.0.iter().map(|&weight| weight as f32));
    }
}

/// Whether there is a label; refuses one that is not a class.
fn is_label(label: f32, classes: usize, t: usize, row: usize) -> Result<bool, Error> {
    if label < 0.0 {
        return Ok(false);
    }
    if label.fract() == 0.0 && f64::from(label) < classes as f64 {
        return Ok(true);
    }
    Err(Error::Value {
        what: format!("label at step {t}, row {row}"),
        expected: format!("a whole number below {classes}, or a negative one for none"),
        found: label.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{arr2, arr3};

    fn weights(
        loss: &Loss,
        reduction: Reduction,
        targets: &Targets,
        lengths: Option<&[usize]>,
        width: usize,
    ) -> Result<Vec<f64>, Error> {
        let (steps, batch, _) = targets.values.dim();
        let found = RowWeights::new(loss, reduction, &targets.view(), lengths, (steps, batch, width))?;
        Ok(found.values().to_vec())
    }

    #[test]
    fn a_mean_is_over_every_element_that_counts() {
        let mean = |loss: &Loss, features, width| {
            let targets = Targets::values(Array3::zeros((2, 2, features)));
            weights(loss, Reduction::Mean, &targets, Some(&[2, 1]), width).unwrap()
        };
        let of = |elements: f64| vec![1.0 / elements, 1.0 / elements, 1.0 / elements, 0.0];
        assert_eq!(mean(&Loss::SquaredError, 5, 5), of(15.0));
        assert_eq!(mean(&Loss::Quantile { levels: vec![0.1, 0.5, 0.9] }, 2, 6), of(18.0));
        assert_eq!(mean(&Loss::GaussianLikelihood, 2, 4), of(6.0));
    }

    #[test]
    fn weights_masks_lengths_and_ignored_labels_are_one() {
        let labels = arr2(&[[2, -7], [0, 1], [3, 3]]);
        let mask = arr2(&[[2.0, 1.0], [1.0, 0.0], [1.0, 5.0]]);
        let targets = Targets::labels(labels.view()).with_weights(mask).unwrap();
        let lengths = [3, 2];
        let sum = weights(&Loss::CrossEntropy, Reduction::Sum, &targets, Some(&lengths), 4).unwrap();
        assert_eq!(sum, [2.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let mean = weights(&Loss::CrossEntropy, Reduction::Mean, &targets, Some(&lengths), 4).unwrap();
        assert_eq!(mean, [0.5, 0.0, 0.25, 0.0, 0.25, 0.0]);
    }

    #[test]
    fn where_nothing_counts_all_is_zero() {
        let targets = Targets::labels(arr2(&[[-1, -1]]).view());
        assert_eq!(weights(&Loss::CrossEntropy, Reduction::Mean, &targets, None, 4).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name_and_place() {
        let values = |values| Targets::values(values);
        let labels = |label: i64| Targets::labels(arr2(&[[0], [label]]).view());
        let quantiles = Loss::Quantile { levels: vec![0.1, 0.9] };
        let cases = [
            (
                weights(&Loss::CrossEntropy, Reduction::Mean, &labels(4), None, 4),
                "label at step 1, row 0: expected a whole number below 4, or a negative one for none, found 4",
            ),
            (
                weights(&Loss::CrossEntropy, Reduction::Mean, &values(arr3(&[[[0.5]]])), None, 4),
                "label at step 0, row 0: expected a whole number below 4, or a negative one for none, found 0.5",
            ),
            (
                weights(&Loss::CrossEntropy, Reduction::Mean, &values(arr3(&[[[f32::NAN]]])), None, 4),
                "label at step 0, row 0: expected a whole number below 4, or a negative one for none, found NaN",
            ),
            (
                weights(&Loss::AbsoluteError, Reduction::Mean, &labels(0), None, 2),
                "loss absolute error: the targets are labels; give values, or use the loss cross-entropy",
            ),
            (
                weights(&quantiles, Reduction::Mean, &values(Array3::zeros((1, 2, 2))), None, 3),
                "loss quantile: expected 2 outputs for each target, found 3 outputs; make the last layer a multiple of 2 \
                 wide",
            ),
            (
                weights(&quantiles, Reduction::Mean, &values(Array3::zeros((1, 2, 2))), None, 6),
                "target: expected [steps 1, batch 2, features 3], found [1, 2, 2]",
            ),
            (
                labels(0).with_weights(Array2::zeros((1, 2))).map(|_| vec![]),
                "weights: expected [steps 2, batch 1], found [1, 2]",
            ),
            (
                labels(0).with_weights(arr2(&[[1.0], [f32::NAN]])).map(|_| vec![]),
                "weight at step 1, row 0: expected a finite number, 0 or more, found NaN",
            ),
            (
                // A mean would divide by the infinite product, and make NaN of what counts.
                labels(0)
                    .with_weights(arr2(&[[1.0], [1e30]]))
                    .and_then(|targets| targets.with_weights(arr2(&[[1e30], [1e30]])))
                    .map(|_| vec![]),
                "product of the weights at step 1, row 0: expected a finite number, 0 or more, found inf",
            ),
            (
                weights(&Loss::CrossEntropy, Reduction::Mean, &labels(-1), None, 0),
                "loss cross-entropy: there are no outputs; expected at least 1",
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found.unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn lengths_and_weights_multiply() {
        let targets = || Targets::values(Array3::zeros((2, 2, 1)));
        let mask = arr2(&[[2.0, 3.0], [4.0, 5.0]]);
        let both = [
            targets().with_lengths([2, 1]).and_then(|targets| targets.with_weights(mask.clone())),
            targets().with_weights(mask).and_then(|targets| targets.with_lengths([2, 1])),
        ];
        for found in both {
            assert_eq!(found.unwrap().weights, Some(arr2(&[[2.0, 3.0], [4.0, 0.0]]).into()));
        }
        let problem = |lengths: &[usize]| targets().with_lengths(lengths).unwrap_err().to_string();
        assert_eq!(problem(&[1]), "lengths: expected one for each of 2 rows, found 1");
        assert_eq!(problem(&[1, 3]), "length of row 1: expected 0 to 2, found 3");
    }

    /// A label of weight 0 may be anything.
    #[test]
    fn a_masked_label_is_not_looked_at() {
        let targets =
            Targets::values(arr3(&[[[f32::NAN], [1.0]]])).with_weights(arr2(&[[0.0, 1.0]])).unwrap();
        assert_eq!(weights(&Loss::CrossEntropy, Reduction::Mean, &targets, None, 2).unwrap(), [0.0, 1.0]);
    }

    #[test]
    fn labels_in_any_layout_keep_their_places() {
        let labels = arr2(&[[0, 1, 2], [3, 4, -5]]);
        let across = Targets::labels(labels.t());
        assert_eq!(across.values, arr3(&[[[0.0], [3.0]], [[1.0], [4.0]], [[2.0], [-1.0]]]));
    }
}
