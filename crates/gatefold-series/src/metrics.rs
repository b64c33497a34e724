use crate::SeriesError;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How far a forecast is from the truth, over every step of every block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean absolute error.
    pub mae: f64,
    /// Square root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error, divided by that of the one-step naive forecast within the training part (Hyndman and
    /// Koehler 2006, "Another look at measures of forecast accuracy"): at horizon 1, below 1 is better than
    /// repeating the last value was there. The naive forecast is the scale for series with a season too, so that
    /// the number keeps that meaning. NaN where the training part is constant.
    pub mase: f64,
    /// Symmetric mean absolute percentage error, `200 |y - f| / (|y| + |f|)`, 0 to 200; a step where truth and
    /// forecast are both 0 counts as 0.
    pub smape: f64,
}

impl Metrics {
    /// Of pairs of truth and forecast; `train` gives the scale of the MASE.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when there are no pairs, unequally many values, or fewer than two in `train`.
    pub fn new(truth: &[f64], forecast: &[f64], train: &[f64]) -> Result<Metrics, SeriesError> {
        if truth.is_empty() || truth.len() != forecast.len() || train.len() < 2 {
            return Err(SeriesError::Series(format!(
                "metrics need as many forecasts as true values, at least one, and two training values; found {}, {} \
                 and {}",
                forecast.len(),
                truth.len(),
                train.len()
            )));
        }
        let mean = |term: fn(f64, f64) -> f64| {
            truth.iter().zip(forecast).map(|(y, f)| term(*y, *f)).sum::<f64>() / truth.len() as f64
        };
        let naive =
            train.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f64>() / (train.len() - 1) as f64;
        let mae = mean(|y, f| (y - f).abs());
        Ok(Metrics {
            mae,
            rmse: mean(|y, f| (y - f).powi(2)).sqrt(),
            mase: if naive > 0.0 { mae / naive } else { f64::NAN },
            smape: mean(
                |y, f| if y == 0.0 && f == 0.0 { 0.0 } else { 200.0 * (y - f).abs() / (y.abs() + f.abs()) },
            ),
        })
    }

    /// Of the blocks `[origins, horizon]` that were forecast from each origin on.
    ///
    /// # Errors
    /// As [`Metrics::new`], and when the series ends before a block does.
    pub fn of_forecasts(
        series: &[f64],
        origins: Range<usize>,
        forecasts: &Array2<f64>,
        train: &[f64],
    ) -> Result<Metrics, SeriesError> {
        let (rows, horizon) = forecasts.dim();
        if rows != origins.len() || (rows > 0 && origins.end - 1 + horizon > series.len()) {
            return Err(SeriesError::Series(format!(
                "{rows} blocks of {horizon} steps were forecast; expected {} that end within {} samples",
                origins.len(),
                series.len()
            )));
        }
        let truth: Vec<f64> = origins.flat_map(|origin| &series[origin..origin + horizon]).copied().collect();
        let forecast: Vec<f64> = forecasts.iter().copied().collect();
        Metrics::new(&truth, &forecast, train)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn known_values() {
        let metrics = Metrics::new(&[1.0, 2.0, 3.0, 0.0], &[2.0, 2.0, 1.0, 0.0], &[0.0, 1.0, 3.0]).unwrap();
        assert_eq!(metrics.mae, 0.75);
        assert_eq!(metrics.rmse, (5.0f64 / 4.0).sqrt());
        assert_eq!(metrics.mase, 0.75 / 1.5);
        assert!((metrics.smape - 200.0 * (1.0 / 3.0 + 2.0 / 4.0) / 4.0).abs() < 1e-12);
    }

    #[test]
    fn blocks_are_compared_with_what_follows_their_origin() {
        let series = [9.0, 9.5, 1.0, 2.0, 4.0];
        let forecasts = array![[1.0, 2.0], [2.0, 4.0]];
        assert_eq!(Metrics::of_forecasts(&series, 2..4, &forecasts, &series).unwrap().mae, 0.0);
        assert!(
            Metrics::of_forecasts(&series, 3..5, &forecasts, &series).is_err(),
            "the last block is cut off"
        );
        assert!(Metrics::of_forecasts(&series, 2..5, &forecasts, &series).is_err());
    }

    #[test]
    fn nothing_to_compare_is_refused_and_a_constant_scale_is_nan() {
        assert!(Metrics::new(&[], &[], &[1.0, 2.0]).is_err());
        assert!(Metrics::new(&[1.0], &[1.0], &[1.0]).is_err());
        assert!(Metrics::new(&[1.0], &[1.0], &[1.0, 1.0]).unwrap().mase.is_nan());
    }
}
