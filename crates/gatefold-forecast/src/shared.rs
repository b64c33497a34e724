//! One window and one regression for many series: each window in units of its own mean and deviation.

use crate::columns::Columns;
use crate::encode::{Window, WindowUnit};
use crate::linear_branch::LinearStart;
use crate::{Beside, ForecastError, Ids, MOST_IDS, Settings};
use gatefold_series::{Ridge, Sums};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// Penalties to choose from, per window.
const PENALTIES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];
/// The most windows that the regression takes: more change nothing and cost time.
const MOST_WINDOWS: usize = 60_000;
/// The limit of the logarithm of a window's deviation beside its level. Values need none: in deviations, none of `n` lies more
/// than the root of `n` from their mean.
const LIMIT: f64 = 8.0;

/// Each step is one season of samples, and the logarithm of the window's deviation beside its level. The linear branch starts
/// as the last season, repeated, and a regression on the window of what that leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) window: usize,
    season: usize,
    /// Whether windows are of logarithms.
    #[serde(default)]
    logarithm: bool,
    weights: Vec<f32>,
    pub(crate) horizon: usize,
    pub(crate) columns: Columns,
    /// The regression that the linear branch starts from; a trained network needs it no more.
    #[serde(skip)]
    start: Option<Ridge>,
}

impl Shared {
    pub(crate) fn fit(settings: &Settings, series: &[&[f64]]) -> Result<Shared, ForecastError> {
        let season = settings.season.unwrap_or(1).max(1);
        let window = settings.window.unwrap_or(7 * season);
        let (horizon, needed) = (settings.horizon, window + settings.horizon);
        if !window.is_multiple_of(season) || window == 0 {
            return Err(ForecastError::Settings(format!(
                "a window of {window} samples is no whole number of seasons of {season}; use a multiple"
            )));
        }
        let longest = series.iter().map(|values| values.len()).max().unwrap_or(0);
        if longest < needed {
            return Err(ForecastError::Settings(format!(
                "a window of {window} samples and a horizon of {horizon} do not fit into the {longest} samples of the \
                 longest series; use a shorter window or horizon"
            )));
        }
        if settings.ids == Ids::Always && series.len() > MOST_IDS {
            return Err(ForecastError::Settings(format!(
                "ids of {} series would be as many inputs at every step; they are read of at most {MOST_IDS}",
                series.len()
            )));
        }
        let weights = error_weights(series, season);
        let lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
        let columns = Columns::fit(&settings.beside, &lengths)?;
        let columns = if settings.ids == Ids::Always { columns.with_ids() } else { columns };
        let logarithms: Vec<Vec<f64>> = match settings.logarithm {
            true => series.iter().map(|values| values.iter().map(|value| value.ln()).collect()).collect(),
            false => Vec::new(),
        };
        let logarithms: Vec<&[f64]> = logarithms.iter().map(Vec::as_slice).collect();
        let series = if settings.logarithm { &logarithms } else { series };
        // Series that hold no window and horizon are forecast, but nothing is learnt from them.
        let series = series.iter().filter(|values| values.len() >= needed);
        // The newest block of each series chooses the penalty; without older windows, all are fitted on.
        let total: usize = series.clone().map(|values| values.len() - needed + 1).sum();
        let stride = total.div_ceil(MOST_WINDOWS);
        let (mut older, mut newest) = (Sums::new(window + 1, horizon, 1), Vec::new());
        let mut all = Sums::new(window + 1, horizon, 1);
        for values in series {
            let origins: Vec<usize> = (window..=values.len() - horizon).rev().step_by(stride).collect();
            for (sums, blocks) in [(&mut older, horizon), (&mut all, 0)] {
                let known: Vec<usize> = origins.iter().map(|o| o.saturating_sub(blocks)).collect();
                let known: Vec<usize> = known.into_iter().filter(|origin| *origin >= window).collect();
                let (terms, targets) = rows(values, &known, window, season, horizon);
                sums.add(&terms, &targets);
            }
            newest.push(rows(values, &origins[..1], window, season, horizon));
        }
        let error = |penalty: f64| {
            let ridge = older.solve(penalty)?;
            let errors =
                newest.iter().map(|(terms, targets)| (ridge.predict(terms) - targets).mapv(f64::abs).sum());
            Some((penalty, errors.sum::<f64>()))
        };
        let best = PENALTIES.into_iter().filter_map(error).min_by(|a, b| a.1.total_cmp(&b.1));
        let penalty = best.map_or(PENALTIES[2], |(penalty, _)| penalty);
        let ridge = all.solve(penalty).ok_or_else(|| {
            ForecastError::Settings("the values are too large or too close together to regress on".into())
        })?;
        let logarithm = settings.logarithm;
        Ok(Shared { window, season, logarithm, weights, horizon, columns, start: Some(ridge) })
    }

    /// Takes other series. The weight of a new one's errors is 1; forecasts do not depend on it.
    pub(crate) fn put_series(&mut self, beside: &Beside, known: &[Option<usize>], lengths: &[usize]) {
        let weight = |known: &Option<usize>| known.and_then(|known| self.weights.get(known).copied());
        self.weights = known.iter().map(|known| weight(known).unwrap_or(1.0)).collect();
        self.columns.put_series(beside, known, lengths);
    }

    pub(crate) fn shape(&self) -> (usize, usize) {
        let beside = self.season * self.columns.per_moment() + self.columns.constants();
        (self.window / self.season, self.season + 1 + beside)
    }

    /// The last season, repeated, and the regression on the window.
    pub(crate) fn linear(&self, horizon: usize) -> LinearStart {
        let (steps, width) = self.shape();
        let mut start = LinearStart::zeros((steps, width), horizon);
        for k in 0..horizon {
            if let Some(ridge) = &self.start {
                let weights = ridge.weights();
                start.bias[k] = weights[[0, k]] as f32;
                for at in 0..self.window {
                    start.weight[[k, at % self.season, at / self.season]] = weights[[1 + at, k]] as f32;
                }
            }
            start.weight[[k, k % self.season, steps - 1]] += 1.0;
        }
        start
    }

    /// The samples of the window before an origin. Those before the first sample are those of the first season, again and
    /// again.
    fn samples(&self, past: &[f64]) -> Vec<f64> {
        // A table that starts later than the one of the training has NaN before it.
        let past = &past[past.iter().position(|value| !value.is_nan()).unwrap_or(0)..];
        let Some(missing) = self.window.checked_sub(past.len()).filter(|missing| *missing > 0) else {
            return past[past.len() - self.window..].to_vec();
        };
        let season = self.season.min(past.len());
        let before = (0..missing).map(|at| past[(season - 1) - (missing - 1 - at) % season]);
        before.chain(past.iter().copied()).collect()
    }

    pub(crate) fn window(&self, series: usize, past: &[f64]) -> Window {
        let mut window = self.samples(past);
        if self.logarithm {
            window.iter_mut().for_each(|value| *value = value.ln());
        }
        let (unit, spread) = unit(&window, self.logarithm);
        let scaled: Vec<f64> = window.iter().map(|value| (value - unit.zero) / unit.scale).collect();
        let (steps, width) = self.shape();
        let mut input = Vec::with_capacity(steps * width);
        for (at, step) in scaled.chunks(self.season).enumerate() {
            input.extend(step.iter().map(|value| *value as f32));
            input.push(spread as f32);
            for moment in (past.len() + at * self.season..).take(self.season) {
                let moment = moment.saturating_sub(self.window); // before the first one, what the first has beside it
                self.columns.moment(series, moment, self.horizon, |value| input.push(value));
            }
            self.columns.constant(series, |value| input.push(value));
        }
        // The size of one unit of the window in units of the level, and in those of the series.
        let (by_level, size) = match self.logarithm {
            true => (unit.scale, unit.scale * unit.zero.exp()),
            false => (unit.scale / (unit.zero.abs() + unit.scale), unit.scale),
        };
        let by_error = self.weights.get(series).copied().unwrap_or(1.0) * size as f32;
        let by_level = by_level as f32;
        Window { input, base: Vec::new(), unit, weights: [by_level, by_error] }
    }
}

/// The unit of a window: its mean, and its standard deviation with a thousandth of the mean, so that a window that hardly
/// moves is not blown up. Beside it, the logarithm of deviation over level.
fn unit(window: &[f64], logarithm: bool) -> (WindowUnit, f64) {
    let mean = window.iter().sum::<f64>() / window.len() as f64;
    let variance = window.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / window.len() as f64;
    let scale = variance.sqrt() + 1e-3 * mean.abs();
    let scale = if scale.is_normal() { scale } else { 1.0 };
    let spread = (scale / (mean.abs() + scale)).ln().max(-LIMIT);
    (WindowUnit { zero: mean, scale, logarithm }, spread)
}

/// The value of the last season that lies whole seasons before step `k` of the horizon.
fn repeated(scaled: &[f64], season: usize, k: usize) -> f64 {
    scaled[scaled.len() - season + k % season]
}

/// A constant, and the window.
fn terms(scaled: &[f64]) -> Array1<f64> {
    [1.0].iter().chain(scaled).copied().collect()
}

/// Terms and targets of the regression: what the last season, repeated, leaves.
fn rows(
    values: &[f64],
    origins: &[usize],
    window: usize,
    season: usize,
    horizon: usize,
) -> (Array2<f64>, Array2<f64>) {
    let (mut x, mut y) =
        (Array2::zeros((origins.len(), window + 1)), Array2::zeros((origins.len(), horizon)));
    for (row, &origin) in origins.iter().enumerate() {
        let (unit, _) = unit(&values[origin - window..origin], false);
        let scaled: Vec<f64> = values[origin - window..origin + horizon]
            .iter()
            .map(|value| (value - unit.zero) / unit.scale)
            .collect();
        x.row_mut(row).assign(&terms(&scaled[..window]));
        for k in 0..horizon {
            y[[row, k]] = scaled[window + k] - repeated(&scaled[..window], season, k);
        }
    }
    (x, y)
}

/// One over the error that repeating the last season makes on each series.
fn error_weights(series: &[&[f64]], season: usize) -> Vec<f32> {
    let weight = |values: &&[f64]| {
        let lag = season.min(values.len() - 1).max(1);
        let changes = values.iter().zip(&values[lag..]).map(|(before, now)| (now - before).abs());
        let error = changes.sum::<f64>() / (values.len() - lag) as f64;
        if error > 0.0 { (1.0 / error) as f32 } else { 0.0 }
    };
    series.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_more_series_than_the_limit_are_refused() {
        let values: Vec<f64> = (0..16).map(|t| f64::from(t * t % 7)).collect();
        let fit = |count: usize, ids: Ids| {
            let mut settings = Settings::new(2, Some(2), &vec![values.len(); count]);
            (settings.window, settings.ids) = (Some(4), ids);
            Shared::fit(&settings, &vec![values.as_slice(); count]).map(|shared| shared.shape().1)
        };
        assert_eq!(fit(MOST_IDS, Ids::Always).unwrap(), 3 + MOST_IDS);
        assert_eq!(fit(MOST_IDS + 1, Ids::Never).unwrap(), 3);
        let error = fit(MOST_IDS + 1, Ids::Always).unwrap_err().to_string();
        assert!(error.contains("ids of 1001 series") && error.contains("at most 1000"), "{error}");
    }
}
