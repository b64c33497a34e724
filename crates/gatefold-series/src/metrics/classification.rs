use crate::SeriesError;
use std::collections::BTreeMap;

/// The share of predictions that are right, `sum [predicted = truth] / n`.
///
/// Labels are class numbers, `usize`, or `Option<usize>` where some are to be ignored: a pair whose label is `None`
/// does not count, whatever was predicted for it. The engine's labels are `i64`, negative where ignored, so
/// `usize::try_from(label).ok()` converts them:
///
/// ```
/// let labels = [0i64, 2, -1, 1]; // the third step has no label
/// let truth: Vec<Option<usize>> = labels.iter().map(|&label| usize::try_from(label).ok()).collect();
/// assert_eq!(gatefold_series::accuracy(&truth, &[0, 2, 2, 2])?, 2.0 / 3.0);
/// # Ok::<(), gatefold_series::SeriesError>(())
/// ```
///
/// # Errors
/// [`SeriesError::Metric`] when there are not as many predictions as labels, or no label counts.
pub fn accuracy<L: Copy + Into<Option<usize>>>(truth: &[L], predicted: &[usize]) -> Result<f64, SeriesError> {
    let (mut right, mut total) = (0u64, 0u64);
    for (truth, predicted) in counted(truth, predicted)? {
        right += u64::from(truth == predicted);
        total += 1;
    }
    if total == 0 { Err(nothing_counts(truth.len())) } else { Ok(right as f64 / total as f64) }
}

/// The mean recall over the classes that occur in `truth` (Brodersen et al. 2010, "The balanced accuracy and its
/// posterior distribution", for two classes; scikit-learn's `balanced_accuracy_score`). Every class weighs the same,
/// however rare it is: with `k` classes, always predicting the most frequent one gives `1 / k`.
///
/// `None` marks a label to ignore, as in [`accuracy`].
///
/// # Errors
/// As [`accuracy`].
pub fn balanced_accuracy<L: Copy + Into<Option<usize>>>(
    truth: &[L],
    predicted: &[usize],
) -> Result<f64, SeriesError> {
    let mut classes: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (truth, predicted) in counted(truth, predicted)? {
        let (right, total) = classes.entry(truth).or_default();
        *right += u64::from(truth == predicted);
        *total += 1;
    }
    if classes.is_empty() { Err(nothing_counts(truth.len())) } else { Ok(mean_recall(classes.into_values())) }
}

/// The perplexity `exp(H)` of a model whose mean cross-entropy is `H` nats a label (Jelinek et al. 1977,
/// "Perplexity: a measure of the difficulty of speech recognition tasks"). The model is as uncertain as one that
/// chooses evenly between that many classes.
///
/// The engine's cross-entropy loss with a mean, its default, is `H`; ignored labels are left out of it. From
/// probabilities `p` that the model gave to the true labels, `H` is the mean of `-ln p`. Average the losses of
/// batches, weighted by their labels, before calling this, since a mean of perplexities is not the perplexity.
///
/// # Errors
/// [`SeriesError::Metric`] when `mean_cross_entropy` is negative or NaN. An infinite one, from a true label of
/// probability 0, has infinite perplexity.
pub fn perplexity(mean_cross_entropy: f64) -> Result<f64, SeriesError> {
    if mean_cross_entropy >= 0.0 {
        return Ok(mean_cross_entropy.exp());
    }
    Err(SeriesError::Metric(format!(
        "perplexity needs a mean cross-entropy of at least 0 nats; found {mean_cross_entropy}"
    )))
}

/// Label and prediction wherever the label is not ignored.
pub(super) fn counted<'a, L: Copy + Into<Option<usize>>>(
    truth: &'a [L],
    predicted: &'a [usize],
) -> Result<impl Iterator<Item = (usize, usize)> + use<'a, L>, SeriesError> {
    if truth.len() != predicted.len() {
        return Err(SeriesError::Metric(format!(
            "expected one prediction for each of {} labels, ignored ones included; found {}",
            truth.len(),
            predicted.len()
        )));
    }
    let pairs = truth.iter().zip(predicted);
    Ok(pairs.filter_map(|(&truth, &predicted)| truth.into().map(|truth| (truth, predicted))))
}

/// From the right predictions and the labels of each class; NaN when no class has a label.
pub(super) fn mean_recall(classes: impl Iterator<Item = (u64, u64)>) -> f64 {
    let recalls = classes.filter(|(_, total)| *total > 0).map(|(right, total)| right as f64 / total as f64);
    let (sum, count) = recalls.fold((0.0, 0u64), |(sum, count), recall| (sum + recall, count + 1));
    sum / count as f64
}

fn nothing_counts(labels: usize) -> SeriesError {
    SeriesError::Metric(if labels == 0 {
        "there are no labels to compare predictions with".into()
    } else {
        format!("all {labels} labels are ignored; at least one must count")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    // The numbers are scikit-learn 1.9.1's:
    //   truth = [2, 0, 1, 1, 3, 0, 2, 2, 1, 0, 3, 1]; predicted = [2, 0, 1, 4, 1, 0, 1, 2, 1, 2, 1, 1]
    //   accuracy_score(truth, predicted), balanced_accuracy_score(truth, predicted)
    const TRUTH: [usize; 12] = [2, 0, 1, 1, 3, 0, 2, 2, 1, 0, 3, 1];
    const PREDICTED: [usize; 12] = [2, 0, 1, 4, 1, 0, 1, 2, 1, 2, 1, 1];
    const ACCURACY: f64 = 0.5833333333333334;
    const BALANCED: f64 = 0.5208333333333333;

    #[test]
    fn accuracies_are_those_of_scikit_learn() {
        assert_relative_eq!(accuracy(&TRUTH, &PREDICTED).unwrap(), ACCURACY, max_relative = 1e-15);
        assert_relative_eq!(balanced_accuracy(&TRUTH, &PREDICTED).unwrap(), BALANCED, max_relative = 1e-15);
    }

    #[test]
    fn ignored_labels_do_not_count() {
        let mut truth: Vec<Option<usize>> = TRUTH.into_iter().map(Some).collect();
        let mut predicted = PREDICTED.to_vec();
        for (at, class) in [(0, 0), (5, usize::MAX), (14, 3)] {
            truth.insert(at, None);
            predicted.insert(at, class);
        }
        assert_relative_eq!(accuracy(&truth, &predicted).unwrap(), ACCURACY, max_relative = 1e-15);
        assert_relative_eq!(balanced_accuracy(&truth, &predicted).unwrap(), BALANCED, max_relative = 1e-15);
    }

    #[test]
    fn one_guess_for_all_is_balanced_to_one_over_the_classes() {
        let truth = [vec![0; 97], vec![1; 2], vec![2; 1]].concat();
        assert_relative_eq!(accuracy(&truth, &[0; 100]).unwrap(), 0.97);
        assert_relative_eq!(balanced_accuracy(&truth, &[0; 100]).unwrap(), 1.0 / 3.0);
    }

    #[test]
    fn labels_that_cannot_be_compared_are_refused() {
        let both = |truth: &[Option<usize>], predicted: &[usize]| {
            let (first, second) = (accuracy(truth, predicted), balanced_accuracy(truth, predicted));
            let message = first.unwrap_err().to_string();
            assert_eq!(message, second.unwrap_err().to_string());
            message
        };
        assert_eq!(both(&[], &[]), "there are no labels to compare predictions with");
        assert_eq!(both(&[None, None], &[1, 2]), "all 2 labels are ignored; at least one must count");
        assert_eq!(
            both(&[Some(1), None], &[1]),
            "expected one prediction for each of 2 labels, ignored ones included; found 1"
        );
    }

    #[test]
    fn perplexity_is_that_of_scikit_learns_log_loss() {
        // p = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.05, 0.9, 0.05]]
        // math.exp(log_loss([0, 2, 2, 1], p, labels=[0, 1, 2])), scikit-learn 1.9.1
        let of_truth = [0.7f64, 0.3, 0.5, 0.9];
        let mean_cross_entropy = of_truth.iter().map(|p| -p.ln()).sum::<f64>() / 4.0;
        assert_relative_eq!(
            perplexity(mean_cross_entropy).unwrap(),
            1.8036075635131323,
            max_relative = 1e-14
        );
        // An even choice between 65 characters.
        assert_relative_eq!(perplexity(65f64.ln()).unwrap(), 65.0, max_relative = 1e-14);
        assert_eq!(perplexity(0.0).unwrap(), 1.0);
        assert_eq!(perplexity(f64::INFINITY).unwrap(), f64::INFINITY);
    }

    #[test]
    fn a_log_likelihood_is_no_cross_entropy() {
        let message = perplexity(-0.5).unwrap_err().to_string();
        assert_eq!(message, "perplexity needs a mean cross-entropy of at least 0 nats; found -0.5");
        assert!(perplexity(f64::NAN).is_err());
    }
}
