/// The autocorrelation of a series at the lags 1 to `lags`, with the mean and the variance of the whole series; 0 throughout
/// for a constant one. There are never more lags than pairs. A sample that is NaN is not known, and adds nothing.
///
/// For noise without memory it lies within `1.96 / sqrt(n)` of zero at 95 % of the lags.
pub fn autocorrelation(series: &[f64], lags: usize) -> Vec<f64> {
    let n = series.len();
    let known = || series.iter().filter(|value| !value.is_nan());
    let mean = known().sum::<f64>() / known().count() as f64;
    let spread: f64 = known().map(|value| (value - mean).powi(2)).sum();
    let at = |lag: usize| {
        let pairs = series.iter().zip(&series[lag..]);
        let products = pairs.map(|(before, now)| (before - mean) * (now - mean));
        let together: f64 = products.filter(|product| !product.is_nan()).sum();
        if spread > 0.0 { together / spread } else { 0.0 }
    };
    (1..=lags.min(n.saturating_sub(1))).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn known_values() {
        // Deviations -1.5 -0.5 0.5 1.5 with squares that sum to 5: pairs at lag 1 sum to 0.75 - 0.25 + 0.75.
        let found = autocorrelation(&[1.0, 2.0, 3.0, 4.0], 9);
        assert_eq!(found.len(), 3);
        for (found, expected) in found.into_iter().zip([0.25, -0.3, -0.45]) {
            assert_relative_eq!(found, expected, max_relative = 1e-14);
        }
        assert_eq!(autocorrelation(&[7.0; 5], 2), [0.0, 0.0]);
        // Deviations -1, none, 1, -1, 1: the pairs at lag 1 sum to -2, of squares that sum to 4.
        let gap = [1.0, f64::NAN, 3.0, 1.0, 3.0];
        assert_eq!(autocorrelation(&gap, 2), [-0.5, 0.0]);
        assert!(autocorrelation(&[], 3).is_empty() && autocorrelation(&[1.0], 3).is_empty());
    }
}
