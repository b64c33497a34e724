use crate::SeriesError;

/// The mean quantile (pinball) loss of forecasts of the `level` quantile: `level (y - q)` where the truth is above the
/// forecast, `(1 - level) (q - y)` below (Koenker and Bassett 1978, "Regression quantiles"). At level 0.5 it is half the
/// mean absolute error.
///
/// # Errors
/// [`SeriesError::Metric`] when there are no values, the lengths differ, or the level lies outside 0 to 1.
pub fn quantile_loss(truth: &[f64], quantile: &[f64], level: f64) -> Result<f64, SeriesError> {
    check_lengths(truth, &[("quantile forecasts", quantile)])?;
    check_share("the level of a quantile", level)?;
    Ok(mean(truth.iter().zip(quantile).map(|(y, q)| pinball(*y, *q, level)), truth.len()))
}

/// The share of true values within their interval, ends included. An interval of 95 % should cover 0.95.
///
/// # Errors
/// [`SeriesError::Metric`] when there are no values, or the lengths differ.
pub fn coverage(truth: &[f64], lower: &[f64], upper: &[f64]) -> Result<f64, SeriesError> {
    check_lengths(truth, &[("lower ends", lower), ("upper ends", upper)])?;
    let covered = truth.iter().zip(lower).zip(upper).filter(|((y, l), u)| *l <= y && y <= u).count();
    Ok(covered as f64 / truth.len() as f64)
}

/// The mean interval score `u - l + 2 / a max(l - y, 0) + 2 / a max(y - u, 0)` of intervals that should cover
/// `1 - a = share` of the true values (Gneiting and Raftery 2007, "Strictly proper scoring rules"): their width, and a
/// penalty for each value outside. Divided by the scale of the MASE it is the M4 competition's MSIS, which
/// [`Panel`](crate::Panel) gives.
///
/// # Errors
/// [`SeriesError::Metric`] when there are no values, the lengths differ, or the share lies outside 0 to 1.
pub fn interval_score(truth: &[f64], lower: &[f64], upper: &[f64], share: f64) -> Result<f64, SeriesError> {
    check_lengths(truth, &[("lower ends", lower), ("upper ends", upper)])?;
    check_share("the share that an interval covers", share)?;
    let scores = truth.iter().zip(lower).zip(upper).map(|((y, l), u)| interval_penalty(*y, *l, *u, share));
    Ok(mean(scores, truth.len()))
}

/// The continuous ranked probability score of one true value, from samples of its forecast:
/// `mean |x - y| - mean |x - x'| / 2` over all samples `x` and all pairs (Gneiting and Raftery 2007). With a single
/// sample it is the absolute error; it has the unit of the series.
///
/// # Errors
/// [`SeriesError::Metric`] when there are no samples, or one is NaN.
pub fn crps_of_samples(truth: f64, samples: &[f64]) -> Result<f64, SeriesError> {
    if samples.is_empty() || samples.iter().any(|sample| sample.is_nan()) {
        let found = if samples.is_empty() { "none" } else { "NaN among them" };
        return Err(SeriesError::Metric(format!("the CRPS needs samples that are numbers; found {found}")));
    }
    let n = samples.len() as f64;
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let error = mean(sorted.iter().map(|x| (x - truth).abs()), sorted.len());
    // In order, sample i (from 0) is above i samples and below n - 1 - i: its weight in the sum over pairs i < j.
    let pairs: f64 = sorted.iter().enumerate().map(|(i, x)| (2.0 * i as f64 - n + 1.0) * x).sum();
    Ok(error - pairs / (n * n))
}

/// The continuous ranked probability score of one true value, from quantiles of its forecast: twice the mean quantile
/// loss over the levels, which should spread evenly over 0 to 1. It approaches the score as they become more.
///
/// # Errors
/// [`SeriesError::Metric`] when there are no quantiles, there is not one for each level, or a level lies outside 0 to 1.
pub fn crps_of_quantiles(truth: f64, levels: &[f64], quantiles: &[f64]) -> Result<f64, SeriesError> {
    check_lengths(levels, &[("quantiles", quantiles)])?;
    levels.iter().try_for_each(|level| check_share("the level of a quantile", *level))?;
    let losses = levels.iter().zip(quantiles).map(|(level, q)| pinball(truth, *q, *level));
    Ok(2.0 * mean(losses, levels.len()))
}

fn pinball(y: f64, q: f64, level: f64) -> f64 {
    if y >= q { level * (y - q) } else { (1.0 - level) * (q - y) }
}

pub(super) fn interval_penalty(y: f64, lower: f64, upper: f64, share: f64) -> f64 {
    let outside = (lower - y).max(0.0) + (y - upper).max(0.0);
    upper - lower + 2.0 / (1.0 - share) * outside
}

pub(super) fn mean(values: impl Iterator<Item = f64>, n: usize) -> f64 {
    values.sum::<f64>() / n as f64
}

pub(super) fn check_share(what: &str, share: f64) -> Result<(), SeriesError> {
    if share > 0.0 && share < 1.0 {
        return Ok(());
    }
    Err(SeriesError::Metric(format!("{what} lies between 0 and 1; found {share}")))
}

/// Checks that there are values, and as many of each of the others.
pub(super) fn check_lengths(truth: &[f64], others: &[(&str, &[f64])]) -> Result<(), SeriesError> {
    if truth.is_empty() {
        return Err(SeriesError::Metric("a metric needs at least one value; found none".into()));
    }
    match others.iter().find(|(_, values)| values.len() != truth.len()) {
        None => Ok(()),
        Some((name, values)) => Err(SeriesError::Metric(format!(
            "expected {} {name}, one for each value; found {}",
            truth.len(),
            values.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn known_values() {
        let (truth, forecast) = ([1.0, 5.0], [2.0, 1.0]);
        assert_relative_eq!(quantile_loss(&truth, &forecast, 0.9).unwrap(), (0.1 + 3.6) / 2.0);
        assert_relative_eq!(quantile_loss(&truth, &forecast, 0.5).unwrap(), 5.0 / 4.0);
        let (lower, upper) = ([1.0, 0.0], [3.0, 4.5]);
        assert_eq!(coverage(&truth, &lower, &upper).unwrap(), 0.5);
        assert_relative_eq!(
            interval_score(&truth, &lower, &upper, 0.95).unwrap(),
            (2.0 + 4.5 + 40.0 * 0.5) / 2.0,
            max_relative = 1e-12
        );
        assert_eq!(crps_of_samples(3.0, &[1.0]).unwrap(), 2.0);
    }

    #[test]
    fn the_score_of_samples_is_the_sum_over_pairs() {
        let samples = [3.0, -1.0, 4.5, 0.25, 3.0];
        let n = samples.len() as f64;
        let pairs: f64 = samples.iter().flat_map(|a| samples.map(|b| f64::abs(a - b))).sum();
        let error = samples.iter().map(|x| (x - 1.5f64).abs()).sum::<f64>() / n;
        let expected = error - pairs / (2.0 * n * n);
        assert_relative_eq!(crps_of_samples(1.5, &samples).unwrap(), expected, max_relative = 1e-14);
    }

    /// A forecast that is even over 0 to 1 has the quantile `p` at level `p`, and at `y` in it the score
    /// `y^2 - y + 1/3`.
    #[test]
    fn both_scores_approach_that_of_an_even_distribution() {
        let n = 4000;
        let even: Vec<f64> = (0..n).map(|i| (f64::from(i) + 0.5) / f64::from(n)).collect();
        for y in [0.0f64, 0.3, 1.0] {
            let expected = y * y - y + 1.0 / 3.0;
            assert_relative_eq!(crps_of_samples(y, &even).unwrap(), expected, epsilon = 1e-6);
            assert_relative_eq!(crps_of_quantiles(y, &even, &even).unwrap(), expected, epsilon = 1e-6);
        }
    }

    #[test]
    fn unfit_input_is_refused() {
        let message = |result: Result<f64, SeriesError>| result.unwrap_err().to_string();
        assert_eq!(
            message(quantile_loss(&[1.0], &[1.0, 2.0], 0.5)),
            "expected 1 quantile forecasts, one for each value; found 2"
        );
        assert_eq!(
            message(quantile_loss(&[1.0], &[1.0], 1.0)),
            "the level of a quantile lies between 0 and 1; found 1"
        );
        assert_eq!(message(coverage(&[], &[], &[])), "a metric needs at least one value; found none");
        assert!(message(interval_score(&[1.0], &[1.0], &[1.0], f64::NAN)).contains("found NaN"));
        assert!(message(crps_of_samples(1.0, &[f64::NAN])).contains("NaN among them"));
        assert!(message(crps_of_samples(1.0, &[])).contains("found none"));
        assert!(crps_of_quantiles(1.0, &[0.5], &[]).is_err());
    }
}
