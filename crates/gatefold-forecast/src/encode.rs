//! Windows of a series as a network's input, and the units of its output.

use crate::columns::{Columns, Unseen};
use crate::linear_branch::LinearStart;
use crate::settings::MOST_CHOSEN;
use crate::shared::Shared;
use crate::{Beside, ForecastError, Settings};
use gatefold_series::{FittedLinear, Linear, fourier, returns_to_level};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// One window as the network sees it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// `[steps, width]`
    pub(crate) input: Vec<f32>,
    /// The part of the forecast that is not the network's, in the window's unit, `[horizon]`; empty if it is all the
    /// network's.
    pub(crate) base: Vec<f32>,
    pub(crate) unit: WindowUnit,
    /// Weights of its errors in the loss, whose two halves count the same: by the level, and by the series' seasonal naive
    /// error.
    pub(crate) weights: [f32; 2],
}

impl Window {
    /// The part of step `k` that is not the network's.
    pub(crate) fn base(&self, k: usize) -> f32 {
        self.base.get(k).copied().unwrap_or(0.0)
    }
}

/// Units of one window: `value = inverse(zero + scale * output)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowUnit {
    pub(crate) zero: f64,
    pub(crate) scale: f64,
    pub(crate) logarithm: bool,
}

impl WindowUnit {
    pub(crate) fn encoded(&self, value: f64) -> f32 {
        let value = if self.logarithm { value.ln() } else { value };
        ((value - self.zero) / self.scale) as f32
    }

    pub(crate) fn decoded(&self, value: f64) -> f64 {
        let value = value * self.scale + self.zero;
        if self.logarithm { value.exp() } else { value }
    }
}

/// Encodes the windows of the series that it was fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Encoder {
    /// Each series has a regression and a unit of its own.
    Own(Own),
    /// All share one regression; each window has a unit of its own.
    Shared(Shared),
}

impl Encoder {
    pub(crate) fn fit(settings: &Settings, series: &[&[f64]]) -> Result<Encoder, ForecastError> {
        match settings.shared {
            true => Ok(Encoder::Shared(Shared::fit(settings, series)?)),
            false => Ok(Encoder::Own(Own::fit(settings, series)?)),
        }
    }

    /// The samples that must be known before a forecast.
    pub(crate) fn needed(&self) -> usize {
        match self {
            Encoder::Own(own) => own.needed(),
            Encoder::Shared(_) => 1,
        }
    }

    /// The samples of a whole window, as training has them.
    pub(crate) fn whole(&self) -> usize {
        match self {
            Encoder::Own(own) => own.needed(),
            Encoder::Shared(shared) => shared.window,
        }
    }

    /// Time steps and values per time step of the network's input.
    pub(crate) fn shape(&self) -> (usize, usize) {
        match self {
            Encoder::Own(own) => (own.window, own.width()),
            Encoder::Shared(shared) => shared.shape(),
        }
    }

    /// Replaces what is known beside the series.
    pub(crate) fn put(&mut self, beside: &Beside) {
        match self {
            Encoder::Own(own) => own.columns.put(beside),
            Encoder::Shared(shared) => shared.columns.put(beside),
        }
    }

    /// Takes other series: `known` has the number of each among those it had, `None` for a new one.
    pub(crate) fn put_series(
        &mut self,
        beside: &Beside,
        known: &[Option<usize>],
        lengths: &[usize],
    ) -> Result<(), ForecastError> {
        match self {
            Encoder::Own(own) => {
                let line = |known: &Option<usize>| known.map(|known| own.series[known].clone());
                own.series = known.iter().map(line).collect::<Option<_>>().ok_or_else(|| {
                    ForecastError::Settings(
                        "these networks forecast with a regression of each series, which a new one has not; train again"
                            .into(),
                    )
                })?;
                own.columns.put_series(beside, known, lengths);
            }
            Encoder::Shared(shared) => shared.put_series(beside, known, lengths),
        }
        Ok(())
    }

    /// The constant values of the first `series` series that the training did not have, and that the network reads.
    pub(crate) fn unseen(&self, series: usize) -> Vec<Unseen> {
        match self {
            Encoder::Own(_) => Vec::new(),
            Encoder::Shared(shared) => shared.columns.unseen(series),
        }
    }

    /// The weights that the network's linear branch starts from.
    pub(crate) fn linear(&self, horizon: usize) -> LinearStart {
        match self {
            Encoder::Own(own) => own.linear(horizon),
            Encoder::Shared(shared) => shared.linear(horizon),
        }
    }

    /// Checks that covariates reach as far as a forecast of series number `series` from `origin` reads them.
    pub(crate) fn check(&self, series: usize, origin: usize) -> Result<(), ForecastError> {
        let (columns, horizon) = match self {
            Encoder::Own(own) => (&own.columns, own.horizon),
            Encoder::Shared(shared) => (&shared.columns, shared.horizon),
        };
        columns.check(series, origin, horizon)
    }

    /// Encodes the samples of series number `series` that are known.
    pub(crate) fn window(&self, series: usize, past: &[f64]) -> Window {
        match self {
            Encoder::Own(own) => own.window(series, past),
            Encoder::Shared(shared) => shared.window(series, past),
        }
    }
}

/// A regression and a unit for each series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Own {
    window: usize,
    pairs: usize,
    /// Whether the network sees the level beside the value relative to the last one.
    levels: bool,
    horizon: usize,
    columns: Columns,
    series: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    linear: FittedLinear,
    mean: f64,
    deviation: f64,
}

impl Own {
    fn fit(settings: &Settings, series: &[&[f64]]) -> Result<Own, ForecastError> {
        let mut model = Linear::new(settings.horizon).season(settings.longest_season);
        if settings.logarithm {
            model = model.logarithm();
        }
        let mut lines = Vec::with_capacity(series.len());
        let lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
        let columns = Columns::fit(&settings.beside, &lengths)?;
        for (at, values) in series.iter().enumerate() {
            let linear = model.fit_linear_with(values, columns.covariates(at))?;
            let values = linear.unit().transformed(values);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let deviation = (variance / values.len() as f64).sqrt();
            lines.push(Line { linear, mean, deviation: if deviation > 0.0 { deviation } else { 1.0 } });
        }
        let mut windows: Vec<usize> = lines.iter().map(|line| line.linear.window()).collect();
        windows.sort_unstable();
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let window = settings.window.unwrap_or_else(|| {
            let most = (shortest.saturating_sub(settings.horizon) / 2).clamp(1, MOST_CHOSEN);
            // A long series has windows enough to learn from more than the regression needs.
            let least = if shortest >= 5_000 { 96 } else { 24 };
            // A covariate of the last moment to forecast is seen at the last step, one of the first a horizon before it.
            let least = if columns.reads_ahead() { least.max(settings.horizon) } else { least };
            windows[windows.len() / 2].clamp(least.min(most), most)
        });
        let longest = windows[windows.len() - 1].max(window);
        if let Some(short) = series.iter().position(|values| values.len() < longest + settings.horizon) {
            return Err(ForecastError::Settings(format!(
                "a window of {longest} samples and a horizon of {} do not fit into the {} samples of series {}; use a \
                 shorter window or horizon",
                settings.horizon,
                series[short].len(),
                short + 1
            )));
        }
        let pairs = lines.iter().map(|line| line.linear.fourier().map_or(0, |(_, pairs)| pairs)).max();
        let levels = series.iter().all(|values| returns_to_level(values))
            && lines.iter().any(|line| line.linear.unit().relative);
        let horizon = settings.horizon;
        Ok(Own { window, horizon, pairs: pairs.unwrap_or(0), levels, series: lines, columns })
    }

    fn needed(&self) -> usize {
        self.series.iter().map(|line| line.linear.window()).fold(self.window, usize::max)
    }

    /// Whether the network's linear branch starts as the regression: one series, whose regression sees no more than the
    /// network. Several regressions, and one with a longer window or with covariates, stay outside and are not trained.
    fn inside(&self) -> bool {
        let linear = &self.series[0].linear;
        self.series.len() == 1 && linear.window() <= self.window && !linear.uses_covariates()
    }

    /// The regression as a convolution of the window. Its Fourier terms belong to the step after the window: those of the
    /// window's last step, turned by one step.
    fn linear(&self, horizon: usize) -> LinearStart {
        let mut start = LinearStart::zeros((self.window, self.width()), horizon);
        if !self.inside() {
            return start;
        }
        let linear = &self.series[0].linear;
        for ((lag, k), weight) in linear.lag_weights().indexed_iter() {
            start.weight[[k, 0, self.window - 1 - lag]] = *weight as f32;
        }
        let (free, last, first) = (linear.free_weights(), self.window - 1, 1 + usize::from(self.levels));
        for k in 0..horizon {
            start.bias[k] = free[[0, k]] as f32;
            let Some((season, pairs)) = linear.fourier() else { continue };
            for pair in 0..pairs {
                let (sin, cos) = (TAU * (pair + 1) as f64 / season).sin_cos();
                let (of_sin, of_cos) = (free[[1 + 2 * pair, k]], free[[2 + 2 * pair, k]]);
                start.weight[[k, first + 2 * pair, last]] = (of_sin * cos - of_cos * sin) as f32;
                start.weight[[k, first + 2 * pair + 1, last]] = (of_sin * sin + of_cos * cos) as f32;
            }
        }
        start
    }

    fn width(&self) -> usize {
        1 + usize::from(self.levels) + 2 * self.pairs + self.columns.per_moment()
    }

    fn window(&self, series: usize, past: &[f64]) -> Window {
        let line = &self.series[series];
        let (unit, origin) = (line.linear.unit(), past.len());
        let tail = unit.transformed(&past[origin - self.needed()..]);
        let zero = unit.zero(tail[tail.len() - 1]);
        let base = match self.inside() {
            true => Vec::new(),
            false => line.linear.forecast_in_unit(
                &tail[tail.len() - line.linear.window()..],
                self.columns.covariates(series),
                origin,
            ),
        };
        let mut input = Vec::with_capacity(self.window * self.width());
        for (at, value) in tail[tail.len() - self.window..].iter().enumerate() {
            input.push(((value - zero) / unit.scale) as f32);
            if self.levels {
                input.push(((value - line.mean) / line.deviation) as f32);
            }
            if self.pairs > 0 {
                let season = line.linear.fourier().map_or(f64::INFINITY, |(season, _)| season);
                fourier(origin - self.window + at, season, self.pairs, |_, term| input.push(term as f32));
            }
            self.columns.moment(series, origin - self.window + at, self.horizon, |value| input.push(value));
        }
        let unit = WindowUnit { zero, scale: unit.scale, logarithm: unit.logarithm };
        Window { input, base: base.iter().map(|value| *value as f32).collect(), unit, weights: [1.0; 2] }
    }
}
