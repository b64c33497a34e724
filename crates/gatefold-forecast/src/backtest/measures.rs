//! Measures of a backtest: of everything, of one step ahead, of one series, of one window.

use super::{Backtest, Rolling, band_at};
use crate::compare::Part;
use crate::{Calibration, ForecastError};
use gatefold_series::{ErrorOrder, crps_of_quantiles, interval_score, mean_of, quantile_loss};
use ndarray::{Array2, ArrayView1};
use serde::Serialize;

/// The levels of the quantiles that give the CRPS: the middles of twenty equal parts of 0 to 1.
pub const CRPS_LEVELS: [f64; 20] = [
    0.025, 0.075, 0.125, 0.175, 0.225, 0.275, 0.325, 0.375, 0.425, 0.475, 0.525, 0.575, 0.625, 0.675, 0.725,
    0.775, 0.825, 0.875, 0.925, 0.975,
];
const DECILES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Means over the forecasts whose truth is known; NaN without any. Those of the quantiles and intervals leave out forecasts
/// without, for want of known errors, and are `None` if none has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Mean absolute error.
    pub mae: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute error over that of the naive forecast at the plan's lag, on the samples before the first window.
    pub mase: f64,
    /// Mean of `200 |y - f| / (|y| + |f|)`; 0 where both are 0.
    pub smape: f64,
    /// Mean of forecast minus truth.
    pub bias: f64,
    /// Mean quantile (pinball) loss over the deciles 0.1 to 0.9.
    pub quantile_loss: Option<f64>,
    /// Continuous ranked probability score, from the quantiles at [`CRPS_LEVELS`].
    pub crps: Option<f64>,
    /// Mean scaled interval score: width and penalties of the intervals, scaled as the MASE is.
    pub msis: Option<f64>,
    /// The share of true values within their interval.
    pub coverage: Option<f64>,
    /// The number of forecasts.
    pub forecasts: usize,
    /// The number of them that have intervals.
    pub with_intervals: usize,
}

/// The terms of one forecast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    error: f64,
    scaled: f64,
    smape: f64,
    /// The scaled interval score, and whether the interval holds the truth.
    interval: Option<(f64, bool)>,
    /// The quantile loss and the CRPS.
    quantiles: Option<(f64, f64)>,
}

/// The multiples of a model's band that the intervals and quantiles of a window reach; `None` for want of known errors.
struct Spread<'a> {
    known: &'a Calibration,
    interval: Option<f64>,
    /// Between levels `q` and `1 - q`, for the first half of [`CRPS_LEVELS`].
    crps: Option<Vec<f64>>,
    /// The same for the deciles below the median.
    deciles: Option<Vec<f64>>,
}

impl Spread<'_> {
    fn of(known: &Calibration, level: f64) -> Spread<'_> {
        let between = |lower: &f64| known.factor(1.0 - 2.0 * lower);
        Spread {
            known,
            interval: known.factor(level),
            crps: CRPS_LEVELS[..10].iter().map(between).collect(),
            deciles: DECILES[..4].iter().map(between).collect(),
        }
    }
}

/// A forecast, its truth, the unit of its series, and how far its band lies below and above.
struct Place {
    forecast: f64,
    y: f64,
    unit: f64,
    band: [f64; 2],
}

impl Place {
    fn interval(&self, plan: &Rolling, factor: f64) -> Result<(f64, bool), ForecastError> {
        let (lower, upper) = self.ends(plan, factor);
        let score = interval_score(&[self.y], &[lower], &[upper], plan.level)? / self.unit;
        Ok((score, (lower..=upper).contains(&self.y)))
    }

    fn ends(&self, plan: &Rolling, factor: f64) -> (f64, f64) {
        let [below, above] = self.band.map(|band| factor * band);
        (plan.kept(self.forecast - below), plan.kept(self.forecast + above))
    }

    /// The quantiles on both sides of the forecast, lowest first; the widest pair is given first.
    fn quantiles(&self, plan: &Rolling, factors: &[f64]) -> Vec<f64> {
        let above = factors.iter().rev().map(|factor| self.ends(plan, *factor).1);
        factors.iter().map(|factor| self.ends(plan, *factor).0).chain(above).collect()
    }

    fn term(&self, plan: &Rolling, spread: Option<&Spread>) -> Result<Term, ForecastError> {
        let interval = spread.and_then(|spread| spread.interval);
        let interval = interval.map(|factor| self.interval(plan, factor)).transpose()?;
        let mut quantiles = None;
        if let Some(Spread { crps: Some(crps), deciles: Some(deciles), .. }) = spread {
            let mut values = self.quantiles(plan, deciles);
            values.insert(4, self.forecast);
            let mut loss = 0.0;
            for (value, level) in values.iter().zip(DECILES) {
                loss += quantile_loss(&[self.y], &[*value], level)? / DECILES.len() as f64;
            }
            quantiles = Some((loss, crps_of_quantiles(self.y, &CRPS_LEVELS, &self.quantiles(plan, crps))?));
        }
        let (error, size) = (self.forecast - self.y, self.forecast.abs() + self.y.abs());
        let smape = if size > 0.0 { 200.0 * error.abs() / size } else { 0.0 };
        Ok(Term { error, scaled: error.abs() / self.unit, smape, interval, quantiles })
    }
}

/// The terms of every forecast of each series, `[windows, horizon]`; `None` where the truth is not known.
pub(super) fn terms(
    plan: &Rolling,
    part: &Part,
    truth: &[Array2<f64>],
    units: &[f64],
    calibrations: &[Option<Calibration>],
) -> Result<Vec<Array2<Option<Term>>>, ForecastError> {
    let spreads: Vec<Option<Spread>> =
        calibrations.iter().map(|known| known.as_ref().map(|known| Spread::of(known, plan.level))).collect();
    let mut all = Vec::with_capacity(part.forecasts.len());
    for (series, forecasts) in part.forecasts.iter().enumerate() {
        let (truth, unit) = (&truth[series], units[series]);
        let mut terms = Vec::with_capacity(forecasts.len());
        for ((window, k), &forecast) in forecasts.indexed_iter() {
            let spread = spreads[window].as_ref();
            let given = band_at(part.bands.as_deref(), series, window, k);
            let band = spread.map_or([f64::NAN; 2], |spread| spread.known.band(k, unit, given));
            let y = truth[[window, k]];
            let place = (!y.is_nan()).then_some(Place { forecast, y, unit, band });
            terms.push(place.map(|place| place.term(plan, spread)).transpose()?);
        }
        all.push(Array2::from_shape_vec(forecasts.dim(), terms).expect("one term for each forecast"));
    }
    Ok(all)
}

impl Measures {
    fn of<'t>(terms: impl Iterator<Item = &'t Option<Term>>) -> Measures {
        let (mut sums, mut of_intervals, mut of_quantiles) = (Measures::default(), [0.0; 3], [0.0; 3]);
        for term in terms.flatten() {
            sums.mae += term.error.abs();
            sums.rmse += term.error * term.error;
            sums.mase += term.scaled;
            sums.smape += term.smape;
            sums.bias += term.error;
            sums.forecasts += 1;
            if let Some((score, covered)) = term.interval {
                add(&mut of_intervals, [score, f64::from(u8::from(covered)), 1.0]);
            }
            if let Some((loss, crps)) = term.quantiles {
                add(&mut of_quantiles, [loss, crps, 1.0]);
            }
        }
        let n = sums.forecasts as f64;
        let mean = |sums: &[f64; 3], at: usize| (sums[2] > 0.0).then(|| sums[at] / sums[2]);
        Measures {
            mae: sums.mae / n,
            rmse: (sums.rmse / n).sqrt(),
            mase: sums.mase / n,
            smape: sums.smape / n,
            bias: sums.bias / n,
            quantile_loss: mean(&of_quantiles, 0),
            crps: mean(&of_quantiles, 1),
            msis: mean(&of_intervals, 0),
            coverage: mean(&of_intervals, 1),
            forecasts: sums.forecasts,
            with_intervals: of_intervals[2] as usize,
        }
    }
}

fn add(sums: &mut [f64; 3], values: [f64; 3]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

impl Backtest {
    /// The measures of a model over all series, windows and steps. Every series has as many forecasts, apart from those without
    /// a truth, so each counts the same.
    pub fn measures(&self, model: usize) -> Measures {
        Measures::of(self.models[model].terms.iter().flatten())
    }

    /// The mean scaled error of a model at each window, one series after another: what [`gatefold_series::clearly_better`]
    /// compares, in the order of [`Backtest::order`]; NaN where the truth is not known.
    pub fn errors(&self, model: usize) -> Vec<f64> {
        let of_series = |terms: &Array2<Option<Term>>| -> Vec<f64> {
            let mean = |row: ArrayView1<Option<Term>>| mean_of(row.iter().flatten().map(|term| term.scaled));
            terms.rows().into_iter().map(mean).collect()
        };
        self.models[model].terms.iter().flat_map(of_series).collect()
    }

    /// How the errors of [`Backtest::errors`] follow each other.
    pub fn order(&self) -> ErrorOrder {
        let Rolling { horizon, windows, step, .. } = self.plan;
        ErrorOrder::new(windows * self.truth.len(), self.truth.len(), horizon, step)
    }

    /// The measures at each step ahead, one step first.
    pub fn by_step(&self, model: usize) -> Vec<Measures> {
        let terms = &self.models[model].terms;
        (0..self.plan.horizon).map(|k| Measures::of(terms.iter().flat_map(|terms| terms.column(k)))).collect()
    }

    /// The measures of each series.
    pub fn by_series(&self, model: usize) -> Vec<Measures> {
        self.models[model].terms.iter().map(|terms| Measures::of(terms.iter())).collect()
    }

    /// The measures of each window, the oldest first.
    pub fn by_window(&self, model: usize) -> Vec<Measures> {
        let terms = &self.models[model].terms;
        (0..self.plan.windows)
            .map(|window| Measures::of(terms.iter().flat_map(|terms| terms.row(window))))
            .collect()
    }
}
