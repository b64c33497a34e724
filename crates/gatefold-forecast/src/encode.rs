//! Windows of a series as a network's input, and the units of its output.

use crate::shared::Shared;
use crate::{ForecastError, Settings};
use gatefold_series::{FittedLinear, Linear, fourier, returns_to_level};
use serde::{Deserialize, Serialize};

/// One window as the network sees it.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// `[steps, width]`
    pub(crate) input: Vec<f32>,
    /// The linear forecast in the window's unit, `[horizon]`. The network forecasts the rest.
    pub(crate) base: Vec<f32>,
    pub(crate) unit: WindowUnit,
    /// The weight of its errors in the loss.
    pub(crate) weight: f32,
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
        let model = Linear::new(settings.horizon).season(settings.longest_season);
        let mut lines = Vec::with_capacity(series.len());
        for values in series {
            let linear = model.fit_linear(values)?;
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
            let most = (shortest.saturating_sub(settings.horizon) / 2).clamp(1, 120);
            // A long series has windows enough to learn from more than the regression needs.
            let least = if shortest >= 5_000 { 96 } else { 24 };
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
        Ok(Own { window, pairs: pairs.unwrap_or(0), levels, series: lines })
    }

    fn needed(&self) -> usize {
        self.series.iter().map(|line| line.linear.window()).fold(self.window, usize::max)
    }

    fn width(&self) -> usize {
        1 + usize::from(self.levels) + 2 * self.pairs
    }

    fn window(&self, series: usize, past: &[f64]) -> Window {
        let line = &self.series[series];
        let (unit, origin) = (line.linear.unit(), past.len());
        let tail = unit.transformed(&past[origin - self.needed()..]);
        let zero = unit.zero(tail[tail.len() - 1]);
        let base = line.linear.forecast_in_unit(&tail[tail.len() - line.linear.window()..], origin);
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
        }
        let unit = WindowUnit { zero, scale: unit.scale, logarithm: unit.logarithm };
        Window { input, base: base.iter().map(|value| *value as f32).collect(), unit, weight: 1.0 }
    }
}
