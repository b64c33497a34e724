//! Units of values and of covariates.

use serde::{Deserialize, Serialize};

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
    pub(super) fn level(series: &[f64]) -> ValueUnit {
        let mean = series.iter().sum::<f64>() / series.len() as f64;
        let variance = series.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / series.len() as f64;
        ValueUnit { logarithm: false, relative: false, offset: mean, scale: positive(variance.sqrt()) }
    }

    pub(super) fn relative(series: &[f64]) -> ValueUnit {
        let changes = series.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>();
        let scale = positive((changes / (series.len().max(2) - 1) as f64).sqrt());
        ValueUnit { logarithm: false, relative: true, offset: 0.0, scale }
    }

    pub(super) fn logarithm(series: &[f64], relative: bool) -> ValueUnit {
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

/// The mean and the standard deviation of a covariate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CovariateUnit {
    mean: f64,
    scale: f64,
}

impl CovariateUnit {
    /// The unit of values that were seen.
    pub fn of(values: &[f64]) -> CovariateUnit {
        let ValueUnit { offset: mean, scale, .. } = ValueUnit::level(values);
        CovariateUnit { mean, scale }
    }

    /// A value in this unit.
    pub fn scaled(&self, value: f64) -> f64 {
        (value - self.mean) / self.scale
    }
}
