use crate::SeriesError;
use ndarray::Array2;
use std::fmt;
use std::ops::Range;

/// A forecast that learns nothing: the one to beat before claiming anything.
///
/// Forecasts `k` steps ahead of `t` known samples, `y(1)` to `y(t)`:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Baseline {
    /// `y(t)`, the naive forecast.
    RepeatLast,
    /// The mean of `y(1)` to `y(t)`.
    Mean,
    /// `y(t) + k (y(t) - y(1)) / (t - 1)`: the line through the first and the last sample.
    Drift,
    /// `y(t + k - m n)` for a season of `m` samples, with the smallest `n` that reaches a known sample.
    SeasonalNaive(usize),
}

impl Baseline {
    /// Every baseline for a series; the seasonal one only if there is a season.
    pub fn all(season: Option<usize>) -> Vec<Baseline> {
        let mut all = vec![Baseline::RepeatLast, Baseline::Mean, Baseline::Drift];
        all.extend(season.map(Baseline::SeasonalNaive));
        all
    }

    /// Forecasts of the `horizon` samples that follow each origin, `[origins, horizon]`. An origin is the number of
    /// known samples; later ones are not used.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when the series ends before an origin, or too few samples precede it: at least one is
    /// needed, two for the drift, a whole season for the seasonal forecast.
    pub fn forecasts(
        self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        let needed = match self {
            Baseline::RepeatLast | Baseline::Mean => 1,
            Baseline::Drift => 2,
            Baseline::SeasonalNaive(season) => season.max(1),
        };
        if !origins.is_empty() && (origins.start < needed || origins.end > series.len() + 1) {
            return Err(SeriesError::Series(format!(
                "the baseline '{self}' needs {needed} samples before its first forecast, and no origin past the end of \
                 the series; found origins {} to {} in {} samples",
                origins.start,
                origins.end - 1,
                series.len()
            )));
        }
        let mut sum: f64 = series[..origins.start.min(series.len())].iter().sum();
        let mut out = Array2::zeros((origins.len(), horizon));
        for (mut row, t) in out.rows_mut().into_iter().zip(origins) {
            let past = &series[..t];
            let last = past[t - 1];
            for (ahead, value) in row.iter_mut().enumerate() {
                let k = ahead + 1;
                *value = match self {
                    Baseline::RepeatLast => last,
                    Baseline::Mean => sum / t as f64,
                    Baseline::Drift => last + k as f64 * (last - past[0]) / (t - 1) as f64,
                    Baseline::SeasonalNaive(season) => past[t - season + ahead % season],
                };
            }
            sum += series.get(t).copied().unwrap_or(0.0);
        }
        Ok(out)
    }
}

/// `seasonal naive (132)`
impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Baseline::RepeatLast => f.pad("repeat last"),
            Baseline::Mean => f.pad("mean"),
            Baseline::Drift => f.pad("drift"),
            Baseline::SeasonalNaive(season) => f.pad(&format!("seasonal naive ({season})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::relative_eq;
    use ndarray::array;

    #[test]
    fn known_blocks() {
        let series = [1.0, 3.0, 2.0, 5.0, 4.0];
        let from = |baseline: Baseline| baseline.forecasts(&series, 3..5, 3).unwrap();
        assert_eq!(from(Baseline::RepeatLast), array![[2.0, 2.0, 2.0], [5.0, 5.0, 5.0]]);
        assert_eq!(from(Baseline::Mean), array![[2.0, 2.0, 2.0], [2.75, 2.75, 2.75]]);
        assert_eq!(from(Baseline::Drift), array![[2.5, 3.0, 3.5], [5.0 + 4.0 / 3.0, 5.0 + 8.0 / 3.0, 9.0]]);
        assert_eq!(from(Baseline::SeasonalNaive(2)), array![[3.0, 2.0, 3.0], [2.0, 5.0, 2.0]]);
    }

    #[test]
    fn the_future_changes_no_forecast() {
        let series: Vec<f64> = (0..40).map(|t| f64::from(t * t % 17)).collect();
        for baseline in Baseline::all(Some(7)) {
            let all = baseline.forecasts(&series, 10..41, 4).unwrap();
            for (row, t) in all.rows().into_iter().zip(10..41) {
                let alone = baseline.forecasts(&series[..t], t..t + 1, 4).unwrap();
                for (all, alone) in row.iter().zip(&alone) {
                    // The mean sums in another order.
                    assert!(
                        relative_eq!(all, alone, max_relative = 1e-13),
                        "{baseline} at {t}: {all}, {alone}"
                    );
                }
            }
        }
    }

    #[test]
    fn too_little_past_is_refused() {
        let series = [1.0, 2.0, 3.0];
        assert!(Baseline::RepeatLast.forecasts(&series, 0..1, 1).is_err());
        assert!(Baseline::Drift.forecasts(&series, 1..2, 1).is_err());
        let error = Baseline::SeasonalNaive(4).forecasts(&series, 3..4, 1).unwrap_err().to_string();
        assert!(error.contains("'seasonal naive (4)' needs 4 samples"), "{error}");
        assert!(Baseline::Mean.forecasts(&series, 3..5, 1).is_err());
    }
}
