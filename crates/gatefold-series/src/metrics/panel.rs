use super::probabilistic::{check_lengths, check_share, interval_penalty};
use crate::SeriesError;
use serde::{Deserialize, Serialize};

/// The forecast of one series of a panel, beside what happened.
#[derive(Clone, Copy, Debug)]
pub struct SeriesForecast<'a> {
    /// The name of the series.
    pub name: &'a str,
    /// The samples before the forecast, which give the scale of the MASE.
    pub train: &'a [f64],
    /// The samples that were forecast, the first of them one step ahead.
    pub truth: &'a [f64],
    /// The forecast, one value for each true one.
    pub forecast: &'a [f64],
    /// An interval for each true value, where the forecast has any.
    pub interval: Option<Interval<'a>>,
}

/// Forecast intervals.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// The lower end at each step.
    pub lower: &'a [f64],
    /// The upper end at each step.
    pub upper: &'a [f64],
    /// The share of true values that should lie within, such as 0.95.
    pub share: f64,
}

/// Errors of the forecasts of a panel: of one series, of one step ahead, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PanelErrors {
    /// Mean absolute error, in the unit of the series.
    pub mae: f64,
    /// Mean of forecast minus truth, in the unit of the series: above 0 when forecasts are too high.
    pub bias: f64,
    /// Symmetric mean absolute percentage error, the mean of `200 |y - f| / (|y| + |f|)`; 0 where both are 0.
    pub smape: f64,
    /// Mean absolute scaled error: absolute errors divided by those of the seasonal naive forecast on the training
    /// part, `mean |y(t) - y(t - m)|`. NaN if no series has a scale.
    pub mase: f64,
    /// Mean scaled interval score, scaled as the MASE is; `None` where no series has intervals, NaN without a scale.
    pub msis: Option<f64>,
    /// The share of true values within their interval; `None` where no series has intervals.
    pub coverage: Option<f64>,
    /// The number of series.
    pub series: usize,
    /// The number of series without a scale, since their training part repeats itself or is no longer than a season.
    /// They are left out of `mase` and `msis`.
    pub unscaled: usize,
}

impl PanelErrors {
    /// The M4 competition's overall weighted average: the mean of sMAPE and MASE, each divided by that of a reference,
    /// which is [`Naive2`](crate::Naive2) there.
    pub fn owa(&self, reference: &PanelErrors) -> f64 {
        0.5 * (self.smape / reference.smape + self.mase / reference.mase)
    }
}

/// The measures of the M4 competition (Makridakis, Spiliotis and Assimakopoulos 2020, "The M4 competition: 100,000 time
/// series and 61 forecasting methods") over many series, each with a forecast from one origin.
///
/// Every series counts the same in [`Panel::mean`], whatever its horizon.
///
/// ```
/// use gatefold_series::{Model, Naive2, Panel, SeriesForecast};
///
/// let mut panel = Panel::new(4); // the season, in samples
/// for (name, series) in [("a", [1.0, 2.0, 5.0, 3.0, 2.0, 3.0]), ("b", [4.0, 4.5, 5.0, 4.0, 4.0, 5.0])] {
///     let (train, truth) = series.split_at(5);
///     let forecast = Naive2::new(4).fit(train)?.forecast(train, truth.len())?;
///     panel.add(SeriesForecast { name, train, truth, forecast: &forecast, interval: None })?;
/// }
/// assert_eq!(panel.mean()?.mae, 1.0);
/// # Ok::<(), gatefold_series::SeriesError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Panel {
    season: usize,
    series: Vec<(String, Vec<Step>)>,
}

/// The terms of one step of one series.
#[derive(Clone, Copy, Debug)]
struct Step {
    error: f64,
    smape: f64,
    /// The absolute error divided by the scale.
    scaled: Option<f64>,
    interval: Option<IntervalStep>,
}

#[derive(Clone, Copy, Debug)]
struct IntervalStep {
    scaled: Option<f64>,
    covered: bool,
}

impl Panel {
    /// An empty panel of series with a season of `season` samples, 1 for none.
    pub fn new(season: usize) -> Self {
        Panel { season: season.max(1), series: Vec::new() }
    }

    /// Adds a series with its forecast.
    ///
    /// # Errors
    /// [`SeriesError::Metric`] when there are no true values, or not one forecast and one interval for each; when a
    /// value is not finite; when an interval's share lies outside 0 to 1.
    pub fn add(&mut self, series: SeriesForecast<'_>) -> Result<(), SeriesError> {
        let SeriesForecast { name, train, truth, forecast, interval } = series;
        let of_series = |error: SeriesError| SeriesError::Metric(format!("series '{name}': {error}"));
        check_lengths(truth, &[("forecasts", forecast)]).map_err(of_series)?;
        let mut all = vec![("training part", train), ("truth", truth), ("forecast", forecast)];
        if let Some(Interval { lower, upper, share }) = interval {
            check_lengths(truth, &[("lower ends", lower), ("upper ends", upper)]).map_err(of_series)?;
            check_share("the share that an interval covers", share).map_err(of_series)?;
            all.extend([("lower end", lower), ("upper end", upper)]);
        }
        for (what, values) in all {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(SeriesError::Metric(format!(
                    "series '{name}': expected numbers in its {what}; found {} at sample {}",
                    values[at],
                    at + 1
                )));
            }
        }
        let scale = self.scale(train);
        let steps = (0..truth.len()).map(|k| {
            let (y, f) = (truth[k], forecast[k]);
            let error = f - y;
            let sizes = y.abs() + f.abs();
            Step {
                error,
                smape: if sizes == 0.0 { 0.0 } else { 200.0 * error.abs() / sizes },
                scaled: scale.map(|scale| error.abs() / scale),
                interval: interval.map(|Interval { lower, upper, share }| IntervalStep {
                    scaled: scale.map(|scale| interval_penalty(y, lower[k], upper[k], share) / scale),
                    covered: lower[k] <= y && y <= upper[k],
                }),
            }
        });
        self.series.push((name.to_owned(), steps.collect()));
        Ok(())
    }

    /// The mean absolute error of the seasonal naive forecast on the training part; `None` if it is 0 or there is none.
    fn scale(&self, train: &[f64]) -> Option<f64> {
        let pairs = train.len().checked_sub(self.season)?;
        let sum: f64 =
            train.iter().zip(&train[self.season..]).map(|(before, now)| (now - before).abs()).sum();
        (sum > 0.0).then(|| sum / pairs as f64)
    }

    /// The errors of each series, averaged over its steps, in the order in which they were added.
    pub fn by_series(&self) -> Vec<(&str, PanelErrors)> {
        self.series.iter().map(|(name, steps)| (name.as_str(), average(&[steps]))).collect()
    }

    /// The errors at each step ahead, averaged over the series that reach it; the first is one step ahead.
    pub fn by_horizon(&self) -> Vec<PanelErrors> {
        let longest = self.series.iter().map(|(_, steps)| steps.len()).max().unwrap_or(0);
        let at = |k: usize| -> Vec<&[Step]> {
            self.series.iter().filter_map(|(_, steps)| steps.get(k..=k)).collect()
        };
        (0..longest).map(|k| average(&at(k))).collect()
    }

    /// The errors averaged over each series' steps, then over the series.
    ///
    /// # Errors
    /// [`SeriesError::Metric`] when the panel is empty.
    pub fn mean(&self) -> Result<PanelErrors, SeriesError> {
        if self.series.is_empty() {
            return Err(SeriesError::Metric("a panel has no mean before a series is added".into()));
        }
        let all: Vec<&[Step]> = self.series.iter().map(|(_, steps)| steps.as_slice()).collect();
        Ok(average(&all))
    }
}

/// The mean over series of the means over steps.
fn average(series: &[&[Step]]) -> PanelErrors {
    let mean = |term: &dyn Fn(&Step) -> Option<f64>| -> Option<f64> {
        let means: Vec<f64> = series
            .iter()
            .filter_map(|steps| {
                steps.iter().map(term).sum::<Option<f64>>().map(|sum| sum / steps.len() as f64)
            })
            .collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    };
    let every = |term: fn(&Step) -> f64| mean(&|step| Some(term(step))).unwrap_or(f64::NAN);
    let has_intervals = series.iter().any(|steps| steps.iter().any(|step| step.interval.is_some()));
    let msis = mean(&|step| step.interval.and_then(|interval| interval.scaled));
    PanelErrors {
        mae: every(|step| step.error.abs()),
        bias: every(|step| step.error),
        smape: every(|step| step.smape),
        mase: mean(&|step| step.scaled).unwrap_or(f64::NAN),
        msis: has_intervals.then(|| msis.unwrap_or(f64::NAN)),
        coverage: mean(&|step| step.interval.map(|interval| f64::from(u8::from(interval.covered)))),
        series: series.len(),
        unscaled: series.iter().filter(|steps| steps.iter().any(|step| step.scaled.is_none())).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn panel() -> Panel {
        let mut panel = Panel::new(2);
        let interval = Interval { lower: &[4.0, 0.0], upper: &[6.0, 1.0], share: 0.95 };
        let forecast = SeriesForecast {
            name: "a",
            train: &[1.0, 2.0, 4.0, 3.0],
            truth: &[5.0, 2.0],
            forecast: &[4.0, 4.0],
            interval: Some(interval),
        };
        panel.add(forecast).unwrap();
        let flat = SeriesForecast { name: "b", train: &[1.0, 2.0, 1.0, 2.0], interval: None, ..forecast };
        panel.add(SeriesForecast { truth: &[0.0], forecast: &[0.0], ..flat }).unwrap();
        panel
    }

    #[test]
    fn known_values() {
        let panel = panel();
        let by_series = panel.by_series();
        let (name, a) = by_series[0];
        assert_eq!((name, a.mae, a.bias, a.mase, a.unscaled), ("a", 1.5, 0.5, 0.75, 0));
        assert_relative_eq!(a.smape, (200.0 / 9.0 + 400.0 / 6.0) / 2.0, max_relative = 1e-14);
        assert_relative_eq!(a.msis.unwrap(), (2.0 + 1.0 + 40.0) / 2.0 / 2.0, max_relative = 1e-12);
        assert_eq!(a.coverage, Some(0.5));
        let (name, b) = by_series[1];
        assert_eq!((name, b.mae, b.smape, b.unscaled, b.msis, b.coverage), ("b", 0.0, 0.0, 1, None, None));
        assert!(b.mase.is_nan());
    }

    #[test]
    fn every_series_counts_the_same_and_those_without_a_scale_are_counted() {
        let panel = panel();
        let mean = panel.mean().unwrap();
        assert_eq!((mean.mae, mean.mase, mean.coverage), (0.75, 0.75, Some(0.5)));
        assert_eq!((mean.series, mean.unscaled), (2, 1));
        let by_horizon = panel.by_horizon();
        let found: Vec<_> = by_horizon.iter().map(|step| (step.mae, step.bias, step.series)).collect();
        assert_eq!(found, [(0.5, -0.5, 2), (2.0, 2.0, 1)]);
        assert_relative_eq!(mean.owa(&mean), 1.0);
        let half = PanelErrors { smape: 2.0 * mean.smape, mase: 4.0 * mean.mase, ..mean };
        assert_relative_eq!(mean.owa(&half), 0.375);
    }

    #[test]
    fn unfit_series_are_refused_by_name() {
        let mut panel = Panel::new(0);
        assert!(panel.mean().is_err() && panel.by_horizon().is_empty());
        let forecast = SeriesForecast {
            name: "H1",
            train: &[1.0],
            truth: &[1.0, 2.0],
            forecast: &[1.0],
            interval: None,
        };
        let mut message = |series| panel.add(series).unwrap_err().to_string();
        assert_eq!(message(forecast), "series 'H1': expected 2 forecasts, one for each value; found 1");
        let gap = SeriesForecast { forecast: &[1.0, f64::NAN], ..forecast };
        assert_eq!(message(gap), "series 'H1': expected numbers in its forecast; found NaN at sample 2");
        let interval = Interval { lower: &[0.0; 2], upper: &[1.0; 2], share: 95.0 };
        let percent = SeriesForecast { forecast: &[1.0; 2], interval: Some(interval), ..forecast };
        assert!(
            message(percent).ends_with("the share that an interval covers lies between 0 and 1; found 95")
        );
    }
}
