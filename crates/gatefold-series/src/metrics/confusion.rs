use super::classification::{counted, mean_recall};
use crate::SeriesError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most classes a confusion matrix has cells for: 128 MiB of them.
const MOST_CLASSES: usize = 4096;

/// Counts of predictions by true class (rows) and predicted class (columns).
///
/// It prints as a table with totals:
///
/// ```
/// use gatefold_series::ConfusionMatrix;
///
/// let truth = [Some(0), Some(1), None, Some(1), Some(0)]; // the third label is ignored
/// let matrix = ConfusionMatrix::new(2, &truth, &[0, 1, 1, 0, 0])?.with_names(["rest", "walk"])?;
/// assert_eq!(matrix.count(1, 0), 1); // one walk was taken for rest
/// assert_eq!((matrix.accuracy(), matrix.balanced_accuracy()), (0.75, 0.75));
/// let table = "\
/// truth \\ predicted  rest  walk  total
/// rest                  2     0      2
/// walk                  1     1      2
/// total                 3     1      4
/// ";
/// assert_eq!(matrix.to_string(), table);
/// # Ok::<(), gatefold_series::SeriesError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    /// `[truth, predicted]`
    counts: Vec<u64>,
    names: Vec<String>,
}

/// Precision, recall and F1 of one class against all others.
///
/// With `tp` right predictions of the class, `fp` predictions of it for other classes and `fn` labels of it that were
/// predicted as other classes (van Rijsbergen 1979, "Information Retrieval", chapter 7). Where a denominator is 0 the
/// value is NaN, as in scikit-learn with `zero_division=np.nan`; scikit-learn's own default is 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// `tp / (tp + fp)`: the share of the predictions of this class that are right. NaN when it was never predicted.
    pub precision: f64,
    /// `tp / (tp + fn)`: the share of the labels of this class that were found. NaN when it does not occur.
    pub recall: f64,
    /// `2 tp / (2 tp + fp + fn)`, the harmonic mean of the two. NaN when it neither occurs nor was predicted.
    pub f1: f64,
    /// `tp + fn`, the labels of this class.
    pub support: u64,
}

impl ConfusionMatrix {
    /// Counts predictions of the classes `0..classes`, one for each label of `truth`. `None` marks a label to ignore,
    /// as in [`accuracy`](crate::accuracy).
    ///
    /// # Errors
    /// [`SeriesError::Metric`] when there are not as many predictions as labels, for a class that is not below
    /// `classes`, and for no classes or more than 4,096. [`accuracy`](crate::accuracy) and
    /// [`balanced_accuracy`](crate::balanced_accuracy) take any number.
    pub fn new<L: Copy + Into<Option<usize>>>(
        classes: usize,
        truth: &[L],
        predicted: &[usize],
    ) -> Result<ConfusionMatrix, SeriesError> {
        if !(1..=MOST_CLASSES).contains(&classes) {
            return Err(SeriesError::Metric(format!(
                "a confusion matrix has 1 to {MOST_CLASSES} classes; found {classes}"
            )));
        }
        let names = (0..classes).map(|class| class.to_string()).collect();
        let mut matrix = ConfusionMatrix { counts: vec![0; classes * classes], names };
        for (truth, predicted) in counted(truth, predicted)? {
            for (what, class) in [("label", truth), ("prediction", predicted)] {
                if class >= classes {
                    return Err(SeriesError::Metric(format!(
                        "a {what} is class {class}; expected one below {classes}"
                    )));
                }
            }
            matrix.counts[truth * classes + predicted] += 1;
        }
        Ok(matrix)
    }

    /// Names the classes in the printed table; by default they are numbers.
    ///
    /// # Errors
    /// [`SeriesError::Metric`] when there is not one name for each class.
    pub fn with_names<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<ConfusionMatrix, SeriesError> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.len() != self.classes() {
            return Err(SeriesError::Metric(format!(
                "expected a name for each of {} classes; found {}",
                self.classes(),
                names.len()
            )));
        }
        self.names = names;
        Ok(self)
    }

    /// Adds the counts of another matrix, such as that of the next batch.
    ///
    /// # Errors
    /// [`SeriesError::Metric`] when it has another number of classes.
    pub fn add(&mut self, other: &ConfusionMatrix) -> Result<(), SeriesError> {
        if other.classes() != self.classes() {
            return Err(SeriesError::Metric(format!(
                "cannot add a confusion matrix of {} classes to one of {}",
                other.classes(),
                self.classes()
            )));
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        Ok(())
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.names.len()
    }

    /// The name of a class.
    ///
    /// # Panics
    /// If the matrix has no such class.
    pub fn name(&self, class: usize) -> &str {
        &self.names[class]
    }

    /// How often class `predicted` was predicted where the label was `truth`; 0 for classes the matrix does not have.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        let known = truth < self.classes() && predicted < self.classes();
        if known { self.counts[truth * self.classes() + predicted] } else { 0 }
    }

    /// The number of labels, ignored ones left out.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of predictions that are right, as [`accuracy`](crate::accuracy); NaN when nothing was counted.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.classes()).map(|class| self.count(class, class)).sum();
        right as f64 / self.total() as f64
    }

    /// The mean recall over the classes that occur, as [`balanced_accuracy`](crate::balanced_accuracy); NaN when
    /// nothing was counted.
    pub fn balanced_accuracy(&self) -> f64 {
        mean_recall((0..self.classes()).map(|class| (self.count(class, class), self.labelled(class))))
    }

    /// Precision, recall and F1 of one class; `None` for a class the matrix does not have.
    pub fn class(&self, class: usize) -> Option<ClassMetrics> {
        let right = (class < self.classes()).then(|| self.count(class, class))?;
        let (support, predictions) = (self.labelled(class), self.predicted(class));
        let share = |part: u64, whole: u64| part as f64 / whole as f64; // 0 / 0 is NaN
        Some(ClassMetrics {
            precision: share(right, predictions),
            recall: share(right, support),
            f1: share(2 * right, support + predictions),
            support,
        })
    }

    fn labelled(&self, class: usize) -> u64 {
        (0..self.classes()).map(|predicted| self.count(class, predicted)).sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes()).map(|truth| self.count(truth, class)).sum()
    }
}

/// A row for each true class, a column for each predicted one, and totals.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CORNER: &str = "truth \\ predicted";
        let names = || self.names.iter().map(String::as_str).chain(["total"]);
        let columns = |truth: Option<usize>| -> Vec<u64> {
            let cell = |predicted| match truth {
                Some(truth) => self.count(truth, predicted),
                None => self.predicted(predicted),
            };
            let mut cells: Vec<u64> = (0..self.classes()).map(cell).collect();
            cells.push(cells.iter().sum());
            cells
        };
        let totals = columns(None);
        // A column's total is its widest number.
        let widths: Vec<usize> = names()
            .zip(&totals)
            .map(|(name, total)| name.chars().count().max(total.to_string().len()))
            .collect();
        let first = names().map(|name| name.chars().count()).fold(CORNER.len(), usize::max);
        write!(f, "{CORNER:<first$}")?;
        for (name, width) in names().zip(&widths) {
            write!(f, "  {name:>width$}")?;
        }
        writeln!(f)?;
        for (row, name) in names().enumerate() {
            write!(f, "{name:<first$}")?;
            let cells = if row < self.classes() { &columns(Some(row)) } else { &totals };
            for (cell, width) in cells.iter().zip(&widths) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// The labels of the tests in `classification`; class 3 is never predicted, class 4 never occurs.
    fn matrix() -> ConfusionMatrix {
        let truth = [2usize, 0, 1, 1, 3, 0, 2, 2, 1, 0, 3, 1];
        ConfusionMatrix::new(5, &truth, &[2, 0, 1, 4, 1, 0, 1, 2, 1, 2, 1, 1]).unwrap()
    }

    // The numbers are scikit-learn 1.9.1's:
    //   confusion_matrix(truth, predicted, labels=range(5))
    //   precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=np.nan)
    #[test]
    fn counts_are_those_of_scikit_learn() {
        let expected = [[2, 0, 1, 0, 0], [0, 3, 0, 0, 1], [0, 1, 2, 0, 0], [0, 2, 0, 0, 0], [0, 0, 0, 0, 0]];
        let matrix = matrix();
        for (truth, row) in expected.iter().enumerate() {
            let found: Vec<u64> = (0..5).map(|predicted| matrix.count(truth, predicted)).collect();
            assert_eq!(found, row, "true class {truth}");
        }
        assert_eq!((matrix.classes(), matrix.total(), matrix.count(0, 5)), (5, 12, 0));
        assert_relative_eq!(matrix.accuracy(), 0.5833333333333334, max_relative = 1e-15);
        assert_relative_eq!(matrix.balanced_accuracy(), 0.5208333333333333, max_relative = 1e-15);
    }

    #[test]
    fn class_metrics_are_those_of_scikit_learn() {
        let nan = f64::NAN;
        let expected = [
            (1.0, 0.6666666666666666, 0.8, 3),
            (0.5, 0.75, 0.6, 4),
            (0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 3),
            (nan, 0.0, 0.0, 2),
            (0.0, nan, 0.0, 0),
        ];
        for (class, (precision, recall, f1, support)) in expected.into_iter().enumerate() {
            let found = matrix().class(class).unwrap();
            let pairs = [(found.precision, precision), (found.recall, recall), (found.f1, f1)];
            for (found, expected) in pairs {
                let both_nan = found.is_nan() && expected.is_nan();
                assert!(both_nan || approx::relative_eq!(found, expected), "class {class}: {pairs:?}");
            }
            assert_eq!(found.support, support, "class {class}");
        }
        assert_eq!(matrix().class(5), None);
    }

    #[test]
    fn batches_add_up() {
        let truth = [2usize, 0, 1, 1, 3, 0, 2, 2, 1, 0, 3, 1];
        let predicted = [2, 0, 1, 4, 1, 0, 1, 2, 1, 2, 1, 1];
        let mut sum = ConfusionMatrix::new::<usize>(5, &[], &[]).unwrap();
        assert!(sum.accuracy().is_nan() && sum.balanced_accuracy().is_nan());
        for (truth, predicted) in truth.chunks(5).zip(predicted.chunks(5)) {
            sum.add(&ConfusionMatrix::new(5, truth, predicted).unwrap()).unwrap();
        }
        assert_eq!(sum, matrix());
        let message = sum.add(&ConfusionMatrix::new::<usize>(4, &[], &[]).unwrap()).unwrap_err().to_string();
        assert_eq!(message, "cannot add a confusion matrix of 4 classes to one of 5");
    }

    #[test]
    fn a_table_is_aligned_by_its_widest_number_or_name() {
        let truth = [vec![Some(0); 1200], vec![Some(1); 5], vec![None; 7]].concat();
        let predicted = [vec![0; 1200], vec![0; 3], vec![1; 2], vec![9; 7]].concat();
        let matrix = ConfusionMatrix::new(2, &truth, &predicted).unwrap();
        let expected = "\
truth \\ predicted     0  1  total
0                  1200  0   1200
1                     3  2      5
total              1203  2   1205
";
        assert_eq!(matrix.to_string(), expected);
        let named = matrix.with_names(["größere Welle, von links", "b"]).unwrap();
        let expected = "\
truth \\ predicted         größere Welle, von links  b  total
größere Welle, von links                      1200  0   1200
b                                                3  2      5
total                                         1203  2   1205
";
        assert_eq!(named.to_string(), expected);
    }

    #[test]
    fn labels_that_do_not_fit_are_refused() {
        let message = |classes, truth: &[Option<usize>], predicted: &[usize]| {
            ConfusionMatrix::new(classes, truth, predicted).unwrap_err().to_string()
        };
        assert_eq!(message(3, &[Some(0), Some(3)], &[0, 1]), "a label is class 3; expected one below 3");
        assert_eq!(message(3, &[Some(0), Some(2)], &[7, 1]), "a prediction is class 7; expected one below 3");
        assert!(message(3, &[Some(0)], &[]).starts_with("expected one prediction for each of 1 labels"));
        assert_eq!(message(0, &[], &[]), "a confusion matrix has 1 to 4096 classes; found 0");
        assert_eq!(
            message(usize::MAX, &[], &[]),
            format!("a confusion matrix has 1 to 4096 classes; found {}", usize::MAX)
        );
        assert_eq!(
            matrix().with_names(["a", "b"]).unwrap_err().to_string(),
            "expected a name for each of 5 classes; found 2"
        );
    }
}
