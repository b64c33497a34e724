//! Linear regression of the next samples on a window of past ones: ridge regression, one output for each step ahead.

use super::recursion::check_origins;
use super::ridge::{Ridge, Sums};
use crate::{FittedModel, Model, SeriesError};
use ndarray::{Array1, Array2, s};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::ops::Range;

/// The newest share of the series that chooses window, unit, Fourier terms and penalty.
const CHOOSING: f64 = 0.3;
/// Penalties to choose from, per sample.
const PENALTIES: [f64; 5] = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1];
/// Windows to choose from, besides those of one and two seasons.
const WINDOWS: [usize; 7] = [4, 8, 15, 30, 60, 106, 168];
/// Pairs of sine and cosine to choose from, where there is a season.
const PAIRS: [usize; 2] = [0, 2];
/// Windows regressed at a time: bounds memory.
const ROWS: usize = 1024;

/// Linear regression of each of the next `horizon` samples on the samples of a window and, where the series has a
/// season, on two pairs of Fourier terms (the direct strategy with dynamic harmonic regression; Hyndman and
/// Athanasopoulos, "Forecasting: principles and practice", 3rd edition, sections 10.5 and 13.3).
///
/// The length of the window, the penalty on the weights, whether values are taken as they are or relative to the last
/// one, and their logarithm where all are positive, are chosen on the newest three tenths of the series to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    horizon: usize,
    season: Option<f64>,
    quick: bool,
    logarithm: bool,
}

impl Linear {
    /// A regression for forecasts of `horizon` samples; without Fourier terms.
    pub fn new(horizon: usize) -> Self {
        Linear { horizon, season: None, quick: false, logarithm: false }
    }

    /// Offers Fourier terms of this many samples a season, such as 365.25, and windows of one and two seasons.
    pub fn season(mut self, samples: Option<f64>) -> Self {
        self.season = samples.filter(|samples| *samples > 1.5);
        self
    }

    /// Chooses among a few windows of whole seasons alone, without Fourier terms and logarithms: what many series have
    /// time for.
    pub fn quick(mut self) -> Self {
        self.quick = true;
        self
    }

    /// Takes logarithms in any case. A series with values of 0 or less is then refused.
    pub fn logarithm(mut self) -> Self {
        self.logarithm = true;
        self
    }

    /// Fits the regression, and keeps its own type: its windows and units serve the network beside it.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when the series is too short for a window of one sample, or not finite.
    pub fn fit_linear(&self, series: &[f64]) -> Result<FittedLinear, SeriesError> {
        if self.horizon == 0 {
            return Err(SeriesError::Series("the horizon is 0; expected at least 1".into()));
        }
        if let Some(at) = series.iter().position(|value| !value.is_finite()) {
            return Err(SeriesError::Series(format!("sample {} is {}; fill it first", at + 1, series[at])));
        }
        if let Some(at) = series.iter().position(|value| *value <= 0.0).filter(|_| self.logarithm) {
            return Err(SeriesError::Series(format!(
                "there is no logarithm of sample {}, which is {}",
                at + 1,
                series[at]
            )));
        }
        let needed = self.horizon + 4;
        if series.len() < needed {
            return Err(SeriesError::Series(format!(
                "a linear regression needs {needed} samples for a horizon of {}; found {}",
                self.horizon,
                series.len()
            )));
        }
        let kept = series.len() - ((series.len() as f64 * CHOOSING) as usize).max(self.horizon);
        let mut best: Option<(f64, Terms, f64)> = None;
        for terms in self.candidates(series, kept.max(self.horizon + 2)) {
            // Rows that end before the part that chooses, then the errors on it.
            let fit = terms.window..kept.saturating_sub(self.horizon) + 1;
            let choose = kept.max(terms.window)..series.len() - self.horizon + 1;
            let values = terms.unit.transformed(series);
            let sums = terms.sums(&values, fit, self.horizon);
            for &penalty in if self.quick { &PENALTIES[3..] } else { &PENALTIES[..] } {
                let Some(ridge) = sums.solve(penalty) else { continue };
                let error = terms.mean_absolute_error(series, &values, &ridge, choose.clone());
                if error.is_finite() && best.as_ref().is_none_or(|(least, ..)| error < *least) {
                    best = Some((error, terms.clone(), penalty));
                }
            }
        }
        let (_, terms, penalty) = best.ok_or_else(|| {
            SeriesError::Series(format!("no linear regression fits into {} samples; give more", series.len()))
        })?;
        let terms = Terms { unit: terms.unit.fitted_on(series), ..terms };
        let values = terms.unit.transformed(series);
        let all = terms.window..series.len() - self.horizon + 1;
        let ridge = terms.sums(&values, all, self.horizon).solve(penalty).ok_or_else(|| {
            SeriesError::Series("the values are too large or too close together to regress on".into())
        })?;
        Ok(FittedLinear { terms, ridge })
    }

    /// The terms to try. Each leaves more rows to fit than it has windows, as far as the series allows.
    fn candidates(&self, series: &[f64], kept: usize) -> Vec<Terms> {
        let longest = (kept.saturating_sub(self.horizon) / 2).max(1);
        let mut windows: Vec<usize> = WINDOWS.to_vec();
        if let Some(season) = self.season {
            windows.extend([1.0, 2.0].map(|times| (times * season).round() as usize + 1));
        }
        if self.quick {
            let season = self.season.unwrap_or(4.0);
            windows = [1.0, 7.0].map(|times| (times * season).round() as usize + 1).to_vec();
        }
        windows.retain(|window| *window <= longest && *window <= 2 * WINDOWS[WINDOWS.len() - 1] + 1);
        if windows.is_empty() {
            windows.push(longest.min(WINDOWS[0]));
        }
        windows.sort_unstable();
        windows.dedup();
        let mut units = match self.logarithm {
            true => Vec::new(),
            false => vec![ValueUnit::level(&series[..kept]), ValueUnit::relative(&series[..kept])],
        };
        if (!self.quick || self.logarithm) && series.iter().all(|value| *value > 0.0) {
            units.extend([false, true].map(|relative| ValueUnit::logarithm(&series[..kept], relative)));
        }
        // Two seasons at least, so that the terms do not describe a trend.
        let season = self.season.filter(|season| !self.quick && 2.0 * season <= kept as f64);
        let pairs: &[usize] = if season.is_some() { &PAIRS } else { &PAIRS[..1] };
        let mut all = Vec::new();
        for &window in &windows {
            for &unit in &units {
                for &pairs in pairs {
                    all.push(Terms { window, unit, pairs, season: season.unwrap_or(1.0) });
                }
            }
        }
        all
    }
}

/// The unit of values for a regression or a network: a transform, and the affine map of each window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueUnit {
    /// Whether logarithms are taken first.
    pub logarithm: bool,
    /// Whether values are taken relative to the last one of the window, since a trend leads to values never seen before.
    pub relative: bool,
    /// The value to subtract from each one unless it is `relative`, after the logarithm.
    pub offset: f64,
    /// The divisor of each difference.
    pub scale: f64,
}

impl ValueUnit {
    fn level(series: &[f64]) -> ValueUnit {
        let mean = series.iter().sum::<f64>() / series.len() as f64;
        let variance = series.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / series.len() as f64;
        ValueUnit { logarithm: false, relative: false, offset: mean, scale: positive(variance.sqrt()) }
    }

    fn relative(series: &[f64]) -> ValueUnit {
        let changes = series.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>();
        let scale = positive((changes / (series.len().max(2) - 1) as f64).sqrt());
        ValueUnit { logarithm: false, relative: true, offset: 0.0, scale }
    }

    fn logarithm(series: &[f64], relative: bool) -> ValueUnit {
        let logarithms: Vec<f64> = series.iter().map(|value| value.ln()).collect();
        let unit = if relative { ValueUnit::relative(&logarithms) } else { ValueUnit::level(&logarithms) };
        ValueUnit { logarithm: true, ..unit }
    }

    /// The same kind of unit, measured on another series.
    #[must_use]
    pub fn fitted_on(&self, series: &[f64]) -> ValueUnit {
        match (self.logarithm, self.relative) {
            (true, relative) => ValueUnit::logarithm(series, relative),
            (false, true) => ValueUnit::relative(series),
            (false, false) => ValueUnit::level(series),
        }
    }

    /// The values, or their logarithms.
    pub fn transformed(&self, series: &[f64]) -> Vec<f64> {
        if self.logarithm { series.iter().map(|value| value.ln()).collect() } else { series.to_vec() }
    }

    /// The value that becomes 0 for a window whose last transformed value is `last`.
    pub fn zero(&self, last: f64) -> f64 {
        if self.relative { last } else { self.offset }
    }

    /// A value of the series from one in this unit.
    pub fn restored(&self, value: f64, last: f64) -> f64 {
        let value = value * self.scale + self.zero(last);
        if self.logarithm { value.exp() } else { value }
    }
}

fn positive(scale: f64) -> f64 {
    if scale.is_normal() { scale } else { 1.0 }
}

/// The terms of the regression: a constant, Fourier terms of the moment, and the window, newest sample first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Terms {
    window: usize,
    unit: ValueUnit,
    pairs: usize,
    season: f64,
}

impl Terms {
    fn count(&self) -> usize {
        1 + 2 * self.pairs + self.window
    }

    /// The terms at these origins, `[origins, terms]`. An origin is the number of known values.
    fn rows(&self, values: &[f64], origins: Range<usize>) -> Array2<f64> {
        let mut rows = Array2::zeros((origins.len(), self.count()));
        for (mut row, origin) in rows.rows_mut().into_iter().zip(origins) {
            row.assign(&self.row(&values[origin - self.window..origin], origin));
        }
        rows
    }

    /// The terms of one window at this origin, `[terms]`.
    fn row(&self, window: &[f64], origin: usize) -> Array1<f64> {
        let mut row = Array1::zeros(self.count());
        let zero = self.unit.zero(window[window.len() - 1]);
        row[0] = 1.0;
        fourier(origin, self.season, self.pairs, |at, term| row[1 + at] = term);
        let lags = window.iter().rev().map(|value| (value - zero) / self.unit.scale);
        row.iter_mut().skip(1 + 2 * self.pairs).zip(lags).for_each(|(to, lag)| *to = lag);
        row
    }

    /// The sums that a regression needs, over the origins of a part.
    fn sums(&self, values: &[f64], origins: Range<usize>, horizon: usize) -> Sums {
        // The constant and the Fourier terms are free: only weights on past samples are penalised.
        let mut sums = Sums::new(self.count(), horizon, 1 + 2 * self.pairs);
        for from in origins.clone().step_by(ROWS) {
            let part = from..(from + ROWS).min(origins.end);
            let targets = Array2::from_shape_fn((part.len(), horizon), |(row, ahead)| {
                let origin = from + row;
                (values[origin + ahead] - self.unit.zero(values[origin - 1])) / self.unit.scale
            });
            sums.add(&self.rows(values, part), &targets);
        }
        sums
    }

    /// Forecasts in the unit of the series, `[origins, horizon]`.
    fn forecasts(&self, values: &[f64], ridge: &Ridge, origins: Range<usize>) -> Array2<f64> {
        let mut out = Array2::zeros((origins.len(), ridge.outputs()));
        for from in origins.clone().step_by(ROWS) {
            let part = from..(from + ROWS).min(origins.end);
            let mut forecasts = ridge.predict(&self.rows(values, part.clone()));
            for (mut row, origin) in forecasts.rows_mut().into_iter().zip(part.clone()) {
                row.mapv_inplace(|value| self.unit.restored(value, values[origin - 1]));
            }
            let at = from - origins.start;
            out.slice_mut(s![at..at + part.len(), ..]).assign(&forecasts);
        }
        out
    }

    fn mean_absolute_error(
        &self,
        series: &[f64],
        values: &[f64],
        ridge: &Ridge,
        origins: Range<usize>,
    ) -> f64 {
        let forecasts = self.forecasts(values, ridge, origins.clone());
        let mut sum = 0.0;
        for (row, origin) in forecasts.rows().into_iter().zip(origins) {
            sum += row.iter().zip(&series[origin..]).map(|(f, y)| (f - y).abs()).sum::<f64>();
        }
        sum / forecasts.len() as f64
    }
}

/// Gives the sines and cosines of a moment, in order: `sin(2 pi k t / season)` and `cos(2 pi k t / season)` for each
/// `k` from 1 to `pairs`.
pub fn fourier(moment: usize, season: f64, pairs: usize, mut give: impl FnMut(usize, f64)) {
    for pair in 0..pairs {
        let angle = TAU * ((pair + 1) as f64 * (moment as f64 / season)).fract();
        give(2 * pair, angle.sin());
        give(2 * pair + 1, angle.cos());
    }
}

/// A linear regression whose weights are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedLinear {
    terms: Terms,
    ridge: Ridge,
}

impl FittedLinear {
    /// The number of past samples that it looks at.
    pub fn window(&self) -> usize {
        self.terms.window
    }

    /// The unit that it computes in.
    pub fn unit(&self) -> ValueUnit {
        self.terms.unit
    }

    /// The samples per season and the pairs of its Fourier terms; `None` without any.
    pub fn fourier(&self) -> Option<(f64, usize)> {
        (self.terms.pairs > 0).then_some((self.terms.season, self.terms.pairs))
    }

    /// The weight of each past sample, newest first, `[window, horizon]`.
    pub fn lag_weights(&self) -> Array2<f64> {
        self.ridge.weights().slice(s![1 + 2 * self.terms.pairs.., ..]).to_owned()
    }

    /// The constants and the weights of the Fourier terms, `[1 + 2 pairs, horizon]`.
    pub fn free_weights(&self) -> Array2<f64> {
        self.ridge.weights().slice(s![..1 + 2 * self.terms.pairs, ..]).to_owned()
    }

    /// The number of samples that it forecasts.
    pub fn horizon(&self) -> usize {
        self.ridge.outputs()
    }

    /// Forecasts in [`FittedLinear::unit`] from the last `window` values, already transformed, at the given origin.
    ///
    /// # Panics
    /// If `window` has another length than [`FittedLinear::window`].
    pub fn forecast_in_unit(&self, window: &[f64], origin: usize) -> Vec<f64> {
        assert_eq!(window.len(), self.terms.window, "one window of past values");
        let row = self.terms.row(window, origin);
        row.dot(self.ridge.weights()).into_raw_vec_and_offset().0
    }
}

impl Model for Linear {
    fn name(&self) -> String {
        "linear".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_linear(series)?))
    }
}

impl FittedModel for FittedLinear {
    fn describe(&self) -> Option<String> {
        let ValueUnit { logarithm, relative, .. } = self.terms.unit;
        let mut text = format!("window {}", self.terms.window);
        if self.terms.pairs > 0 {
            text += &format!(", {} Fourier pairs", self.terms.pairs);
        }
        text += if logarithm { ", logarithms" } else { "" };
        text += if relative { ", relative to the last value" } else { "" };
        Some(text)
    }

    fn forecasts(
        &self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        if origins.is_empty() {
            return Ok(Array2::zeros((0, horizon)));
        }
        check_origins("linear", self.terms.window, series, &origins)?;
        if horizon > self.horizon() {
            return Err(SeriesError::Series(format!(
                "the model 'linear' was fitted for a horizon of {}; found {horizon}; fit it again",
                self.horizon()
            )));
        }
        let known = &series[..series.len().min(origins.end)];
        if self.terms.unit.logarithm && known.iter().any(|value| *value <= 0.0) {
            return Err(SeriesError::Series(
                "this model takes logarithms, and the series now has values of 0 or less; fit it again"
                    .into(),
            ));
        }
        let values = self.terms.unit.transformed(known);
        let forecasts = self.terms.forecasts(&values, &self.ridge, origins);
        Ok(forecasts.slice_move(s![.., ..horizon]).as_standard_layout().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// Deterministic values between -1 and 1 that look like noise.
    fn noise(at: usize) -> f64 {
        ((at * at * 7919 + at * 104_729) % 2000) as f64 / 1000.0 - 1.0
    }

    #[test]
    fn a_recursion_of_two_samples_is_found() {
        // y(t) = 1.2 y(t-1) - 0.5 y(t-2) + 3, with hardly any noise: two steps ahead follow from one.
        let mut series = vec![10.0, 12.0];
        for t in 2..400 {
            series.push(1.2 * series[t - 1] - 0.5 * series[t - 2] + 3.0 + 1e-6 * noise(t));
        }
        // Without noise the recursion comes to rest; a kick now and then keeps it moving.
        for t in (20..400).step_by(20) {
            series[t] += noise(t);
            for at in t + 1..(t + 20).min(400) {
                series[at] = 1.2 * series[at - 1] - 0.5 * series[at - 2] + 3.0;
            }
        }
        let fitted = Linear::new(2).fit_linear(&series).unwrap();
        // The last samples after the last kick.
        let forecast = fitted.forecast(&series[..390], 2).unwrap();
        assert_relative_eq!(forecast[0], series[390], max_relative = 2e-2);
        assert_relative_eq!(forecast[1], series[391], max_relative = 2e-2);
    }

    #[test]
    fn a_trend_with_a_season_goes_on() {
        let series: Vec<f64> =
            (0..300).map(|t| 5.0 + 0.3 * t as f64 + 8.0 * (TAU * t as f64 / 12.0).sin()).collect();
        let fitted = Linear::new(12).season(Some(12.0)).fit_linear(&series[..240]).unwrap();
        for (forecast, truth) in fitted.forecast(&series[..280], 12).unwrap().iter().zip(&series[280..]) {
            assert_relative_eq!(forecast, truth, max_relative = 1e-3);
        }
    }

    #[test]
    fn growth_by_a_factor_is_forecast_by_logarithms() {
        let series: Vec<f64> =
            (0..144).map(|t| 100.0 * 1.03f64.powi(t) * (1.0 + 0.01 * noise(t as usize))).collect();
        let fitted = Linear::new(6).fit_linear(&series).unwrap();
        assert!(fitted.unit().logarithm, "{:?}", fitted.unit());
        let truth = 100.0 * 1.03f64.powi(149);
        assert_relative_eq!(fitted.forecast(&series, 6).unwrap()[5], truth, max_relative = 0.05);
        assert!(fitted.forecast(&[-1.0; 200], 6).is_err(), "there is no logarithm of it");
    }

    #[test]
    fn forecasts_in_the_unit_are_those_of_the_series() {
        let series: Vec<f64> = (0..200).map(|t| 50.0 + noise(t) + (TAU * t as f64 / 7.0).cos()).collect();
        let fitted = Linear::new(3).season(Some(7.0)).fit_linear(&series).unwrap();
        let window = fitted.unit().transformed(&series[150 - fitted.window()..150]);
        let in_unit = fitted.forecast_in_unit(&window, 150);
        let restored = in_unit.iter().map(|value| fitted.unit().restored(*value, window[window.len() - 1]));
        for (restored, forecast) in restored.zip(fitted.forecast(&series[..150], 3).unwrap()) {
            assert_relative_eq!(restored, forecast, max_relative = 1e-12);
        }
        let text = serde_json::to_string(&fitted).unwrap();
        assert_eq!(serde_json::from_str::<FittedLinear>(&text).unwrap(), fitted);
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let refused = |series: &[f64], text: &str| {
            let error = Linear::new(2).fit_linear(series).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(&[1.0; 5], "needs 6 samples");
        refused(&[1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0, 7.0], "sample 3 is NaN");
        let fitted = Linear::new(2).fit_linear(&[3.0; 40]).unwrap();
        assert_eq!(fitted.forecast(&[3.0; 40], 2).unwrap(), [3.0, 3.0]);
        assert!(fitted.forecast(&[3.0; 40], 3).is_err(), "it was fitted for two");
    }
}
