//! Linear regression of the next samples on a window of past ones: ridge regression, one output for each step ahead.

mod terms;
mod unit;

use super::recursion::check_origins;
use super::ridge::Ridge;
use crate::{Covariates, FittedModel, Model, SeriesError};
use ndarray::{Array2, s};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use terms::{Known, Terms};

pub use terms::fourier;
pub use unit::{CovariateUnit, ValueUnit};

/// The newest share of the series that chooses window, unit, Fourier terms and penalty.
const CHOOSING: f64 = 0.3;
/// Penalties to choose from, per sample.
const PENALTIES: [f64; 5] = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1];
/// Windows to choose from, besides those of one and two seasons.
const WINDOWS: [usize; 7] = [4, 8, 15, 30, 60, 106, 168];
/// Pairs of sine and cosine to choose from, where there is a season.
const PAIRS: [usize; 2] = [0, 2];

/// Linear regression of each of the next `horizon` samples on the samples of a window and, where the series has a
/// season, on two pairs of Fourier terms (the direct strategy with dynamic harmonic regression; Hyndman and
/// Athanasopoulos, "Forecasting: principles and practice", 3rd edition, sections 10.5 and 13.3). Covariates add their
/// newest eight moments, and future ones the moment that is forecast with the three before it; they take no part where forecasts are no better for
/// them.
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
        self.fit_linear_with(series, Covariates::none())
    }

    /// [`Linear::fit_linear`] with covariates.
    ///
    /// # Errors
    /// Those of [`Linear::fit_linear`], and of [`Covariates::check`].
    pub fn fit_linear_with(
        &self,
        series: &[f64],
        covariates: &Covariates,
    ) -> Result<FittedLinear, SeriesError> {
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
        covariates.check(series.len(), 0)?;
        let kept = series.len() - ((series.len() as f64 * CHOOSING) as usize).max(self.horizon);
        let mut best: Option<(f64, Terms, f64)> = None;
        for terms in self.candidates(series, covariates, kept.max(self.horizon + 2)) {
            // Rows that end before the part that chooses, then the errors on it.
            let fit = terms.window..kept.saturating_sub(self.horizon) + 1;
            let choose = kept.max(terms.window)..series.len() - self.horizon + 1;
            let known = Known { values: &terms.unit.transformed(series), covariates };
            let sums = terms.sums(known, fit, self.horizon);
            for &penalty in if self.quick { &PENALTIES[3..] } else { &PENALTIES[..] } {
                let Some(ridge) = sums.solve(penalty) else { continue };
                let error = terms.mean_absolute_error(series, known, &ridge, choose.clone());
                if error.is_finite() && best.as_ref().is_none_or(|(least, ..)| error < *least) {
                    best = Some((error, terms.clone(), penalty));
                }
            }
        }
        let (_, terms, penalty) = best.ok_or_else(|| {
            SeriesError::Series(format!("no linear regression fits into {} samples; give more", series.len()))
        })?;
        let used = if terms.uses_covariates() { covariates } else { Covariates::none() };
        let terms = Terms { unit: terms.unit.fitted_on(series), ..terms }.with_covariates(used, series.len());
        let known = Known { values: &terms.unit.transformed(series), covariates };
        let all = terms.window..series.len() - self.horizon + 1;
        let ridge = terms.sums(known, all, self.horizon).solve(penalty).ok_or_else(|| {
            SeriesError::Series("the values are too large or too close together to regress on".into())
        })?;
        Ok(FittedLinear { terms, ridge })
    }

    /// The terms to try. Each leaves more rows to fit than it has windows, as far as the series allows.
    fn candidates(&self, series: &[f64], covariates: &Covariates, kept: usize) -> Vec<Terms> {
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
                    let season = season.unwrap_or(1.0);
                    let alone = Terms { window, unit, pairs, season, past: vec![], future: vec![] };
                    if !covariates.is_empty() {
                        all.push(alone.clone().with_covariates(covariates, kept));
                    }
                    all.push(alone);
                }
            }
        }
        all
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
        let first = self.terms.free();
        self.ridge.weights().slice(s![first..first + self.terms.window, ..]).to_owned()
    }

    /// The constants and the weights of the Fourier terms, `[1 + 2 pairs, horizon]`.
    pub fn free_weights(&self) -> Array2<f64> {
        self.ridge.weights().slice(s![..self.terms.free(), ..]).to_owned()
    }

    /// The number of samples that it forecasts.
    pub fn horizon(&self) -> usize {
        self.ridge.outputs()
    }

    /// Whether covariates take part.
    pub fn uses_covariates(&self) -> bool {
        self.terms.uses_covariates()
    }

    /// Forecasts in [`FittedLinear::unit`] from the last `window` values, already transformed, and the covariates, at the
    /// given origin.
    ///
    /// # Panics
    /// If `window` has another length than [`FittedLinear::window`], or the covariates do not reach as far as
    /// [`Covariates::check`] asks for.
    pub fn forecast_in_unit(&self, window: &[f64], covariates: &Covariates, origin: usize) -> Vec<f64> {
        assert_eq!(window.len(), self.terms.window, "one window of past values");
        let (row, own) = self.terms.row(window, covariates, origin, self.horizon());
        self.ridge.predict_with_own(&row, &own).into_raw_vec_and_offset().0
    }
}

impl Model for Linear {
    fn name(&self) -> String {
        "linear".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_linear(series)?))
    }

    fn fit_with(&self, series: &[f64], covariates: &Covariates) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_linear_with(series, covariates)?))
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
        text += if self.uses_covariates() { ", covariates" } else { "" };
        Some(text)
    }

    fn forecasts(
        &self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        self.forecasts_with(series, Covariates::none(), origins, horizon)
    }

    fn forecasts_with(
        &self,
        series: &[f64],
        covariates: &Covariates,
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
        if self.uses_covariates() {
            let (past, future) = (self.terms.past.len(), self.terms.future.len());
            if (covariates.past.len(), covariates.future.len()) != (past, future) {
                return Err(SeriesError::Series(format!(
                    "the model 'linear' was fitted with {past} past and {future} future covariates; found {} and {}",
                    covariates.past.len(),
                    covariates.future.len()
                )));
            }
            covariates.check(origins.end - 1, horizon)?;
        }
        let known = &series[..series.len().min(origins.end)];
        if self.terms.unit.logarithm && known.iter().any(|value| *value <= 0.0) {
            return Err(SeriesError::Series(
                "this model takes logarithms, and the series now has values of 0 or less; fit it again"
                    .into(),
            ));
        }
        let known = Known { values: &self.terms.unit.transformed(known), covariates };
        Ok(self.terms.forecasts(known, &self.ridge, origins, horizon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use std::f64::consts::TAU;

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
        let in_unit = fitted.forecast_in_unit(&window, Covariates::none(), 150);
        let restored = in_unit.iter().map(|value| fitted.unit().restored(*value, window[window.len() - 1]));
        for (restored, forecast) in restored.zip(fitted.forecast(&series[..150], 3).unwrap()) {
            assert_relative_eq!(restored, forecast, max_relative = 1e-12);
        }
        let text = serde_json::to_string(&fitted).unwrap();
        assert_eq!(serde_json::from_str::<FittedLinear>(&text).unwrap(), fitted);
    }

    #[test]
    fn covariates_say_what_the_past_does_not() {
        // A measurement leads by two samples; a plan has its effect at once; the rest is an autoregression.
        let (n, horizon) = (400, 3);
        let column =
            |seed: usize| (0..n + horizon).map(|t| 4.0 + 3.0 * noise(seed + 31 * t)).collect::<Vec<_>>();
        let covariates = Covariates { past: vec![column(5)], future: vec![column(77)] };
        let mut series = vec![0.0, 0.0];
        for t in 2..n {
            let known = 2.0 * covariates.past[0][t - 2] - 1.5 * covariates.future[0][t];
            series.push(0.5 * series[t - 1] + known + 0.01 * noise(t));
        }
        let fitted = Linear::new(horizon).fit_linear_with(&series[..300], &covariates).unwrap();
        assert!(fitted.uses_covariates());
        let forecasts = fitted.forecasts_with(&series, &covariates, 300..398, horizon).unwrap();
        let worst = |ahead: usize| {
            (0..98).map(|at| (forecasts[[at, ahead]] - series[300 + at + ahead]).abs()).fold(0.0, f64::max)
        };
        // Two steps ahead the leading measurement is known; one more, and its next value is news.
        assert!(worst(0) < 0.2 && worst(1) < 0.2, "{} and {}", worst(0), worst(1));
        assert!(worst(2) > 1.0, "{}", worst(2));
        // Nothing later than the forecast is read.
        let mut later = covariates.clone();
        later.past[0][350..].fill(1e6);
        later.future[0][350 + horizon..].fill(1e6);
        let same = fitted.forecasts_with(&series, &later, 350..351, horizon).unwrap();
        assert_eq!(same.row(0), forecasts.row(50));
        let short = Covariates { future: vec![covariates.future[0][..352].to_vec()], ..covariates.clone() };
        let error = fitted.forecasts_with(&series, &short, 350..351, horizon).unwrap_err().to_string();
        assert!(error.contains("1 are missing"), "{error}");
        assert!(fitted.forecasts(&series, 350..351, horizon).is_err(), "it was fitted with covariates");
    }

    #[test]
    fn covariates_that_say_nothing_take_no_part() {
        let series: Vec<f64> = (0..300).map(|t| (TAU * t as f64 / 12.0).sin() + 0.3 * noise(t)).collect();
        let column = (0..310).map(|t| noise(9000 + 17 * t)).collect();
        let covariates = Covariates { past: vec![column], future: vec![] };
        let alone = Linear::new(2).fit_linear(&series).unwrap();
        let fitted = Linear::new(2).fit_linear_with(&series, &covariates).unwrap();
        assert_eq!(fitted, alone);
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
