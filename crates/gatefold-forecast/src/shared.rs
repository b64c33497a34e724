//! One window and one regression for many series: each window in units of its own mean and deviation.

use crate::encode::{Window, WindowUnit};
use crate::{ForecastError, Settings};
use gatefold_series::{Ridge, Sums};
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

/// Penalties to choose from, per window.
const PENALTIES: [f64; 4] = [1e-4, 1e-3, 1e-2, 1e-1];
/// The most windows that the regression takes: more change nothing and cost time.
const MOST_WINDOWS: usize = 60_000;
/// Values that a window may reach away from its mean, in deviations.
const LIMIT: f64 = 8.0;

/// Each step is one season of samples, and the logarithm of the window's deviation beside its level. The forecast starts
/// from the last season, repeated, and a regression on the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shared {
    pub(crate) window: usize,
    season: usize,
    ridge: Ridge,
    weights: Vec<f32>,
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
        if let Some(short) = series.iter().position(|values| values.len() < needed) {
            return Err(ForecastError::Settings(format!(
                "a window of {window} samples and a horizon of {horizon} do not fit into the {} samples of series {}; use \
                 a shorter window or horizon",
                series[short].len(),
                short + 1
            )));
        }
        let weights = error_weights(series, season);
        // The newest block of each series chooses the penalty; without older windows, all are fitted on.
        let total: usize = series.iter().map(|values| values.len() - needed + 1).sum();
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
        Ok(Shared { window, season, ridge, weights })
    }

    pub(crate) fn shape(&self) -> (usize, usize) {
        (self.window / self.season, self.season + 1)
    }

    pub(crate) fn window(&self, series: usize, past: &[f64]) -> Window {
        let window = &past[past.len() - self.window..];
        let (unit, spread) = unit(window);
        let scaled: Vec<f64> = window.iter().map(|value| (value - unit.zero) / unit.scale).collect();
        let horizon = self.ridge.outputs();
        let correction = terms(&scaled).dot(self.ridge.weights());
        let base = (0..horizon).map(|k| (repeated(&scaled, self.season, k) + correction[k]) as f32);
        let mut input = Vec::with_capacity(self.window + self.window / self.season);
        for step in scaled.chunks(self.season) {
            input.extend(step.iter().map(|value| value.clamp(-LIMIT, LIMIT) as f32));
            input.push(spread as f32);
        }
        let weight = self.weights.get(series).copied().unwrap_or(1.0) * unit.scale as f32;
        let level = (unit.zero.abs() + unit.scale) as f32;
        Window { input, base: base.collect(), unit, weight: 0.5 * (weight + unit.scale as f32 / level) }
    }
}

/// The unit of a window: its mean, and its standard deviation with a thousandth of the mean, so that a window that hardly
/// moves is not blown up. Beside it, the logarithm of deviation over level.
fn unit(window: &[f64]) -> (WindowUnit, f64) {
    let mean = window.iter().sum::<f64>() / window.len() as f64;
    let variance = window.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / window.len() as f64;
    let scale = variance.sqrt() + 1e-3 * mean.abs();
    let scale = if scale.is_normal() { scale } else { 1.0 };
    let spread = (scale / (mean.abs() + scale)).ln().max(-LIMIT);
    (WindowUnit { zero: mean, scale, logarithm: false }, spread)
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
        let (unit, _) = unit(&values[origin - window..origin]);
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
