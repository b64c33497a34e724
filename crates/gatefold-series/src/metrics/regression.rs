use crate::SeriesError;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Errors of a forecast, averaged over every step of every block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean absolute error.
    pub mae: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute scaled error: the mean absolute error divided by that of the one-step naive forecast on the
    /// training part (Hyndman and Koehler 2006, "Another look at measures of forecast accuracy"). At horizon 1, a
    /// value below 1 beats repeating the last value, as that did on the training part. Seasonal series are scaled by
    /// the same naive forecast, so that the number keeps this meaning. NaN if the training part is constant.
    pub mase: f64,
    /// Symmetric mean absolute percentage error: the mean of `200 |y - f| / (|y| + |f|)`, between 0 and 200. A step
    /// where truth and forecast are both 0 contributes 0.
    pub smape: f64,
}

impl Metrics {
    /// Compares a forecast with the truth, value by value; `train` gives the scale of the MASE.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when there are no values, the two lengths differ, or `train` has fewer than two values.
    pub fn new(truth: &[f64], forecast: &[f64], train: &[f64]) -> Result<Metrics, SeriesError> {
        if truth.is_empty() || truth.len() != forecast.len() || train.len() < 2 {
            return Err(SeriesError::Series(format!(
                "metrics need one forecast per true value, at least one of them, and two training values; found {} \
                 forecasts, {} true values and {} training values",
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

    /// Compares forecast blocks `[origins, horizon]` with the samples of `series` that follow each origin.
    ///
    /// # Errors
    /// Those of [`Metrics::new`]; [`SeriesError::Series`] too when there is not one block for each origin, or the
    /// series ends before a block does.
    pub fn of_forecasts(
        series: &[f64],
        origins: Range<usize>,
        forecasts: &Array2<f64>,
        train: &[f64],
    ) -> Result<Metrics, SeriesError> {
        let (rows, horizon) = forecasts.dim();
        if rows != origins.len() || (rows > 0 && origins.end - 1 + horizon > series.len()) {
            return Err(SeriesError::Series(format!(
                "found {rows} forecast blocks of {horizon} steps; expected {} that end within {} samples",
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
    use approx::assert_relative_eq;
    use ndarray::array;

    #[test]
    fn known_values() {
        let metrics = Metrics::new(&[1.0, 2.0, 3.0, 0.0], &[2.0, 2.0, 1.0, 0.0], &[0.0, 1.0, 3.0]).unwrap();
        assert_eq!(metrics.mae, 0.75);
        assert_eq!(metrics.rmse, (5.0f64 / 4.0).sqrt());
        assert_eq!(metrics.mase, 0.75 / 1.5);
        assert_relative_eq!(metrics.smape, 200.0 * (1.0 / 3.0 + 2.0 / 4.0) / 4.0, max_relative = 1e-14);
    }

    #[test]
    fn blocks_are_compared_with_the_samples_after_their_origin() {
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
    fn empty_input_is_refused_and_a_constant_training_part_gives_nan() {
        assert!(Metrics::new(&[], &[], &[1.0, 2.0]).is_err());
        assert!(Metrics::new(&[1.0], &[1.0], &[1.0]).is_err());
        assert!(Metrics::new(&[1.0], &[1.0], &[1.0, 1.0]).unwrap().mase.is_nan());
    }
}
