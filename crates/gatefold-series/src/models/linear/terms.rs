//! The terms of the regression, and the sums over them.

use super::super::ridge::{Ridge, Sums};
use super::unit::{CovariateUnit, ValueUnit};
use crate::Covariates;
use ndarray::{Array2, Array3, ArrayViewMut1, s};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;
use std::ops::Range;

/// Windows regressed at a time: bounds memory.
const ROWS: usize = 1024;
/// The newest moments of a covariate that the regression reads; no more than the window.
const LAGS: usize = 8;
/// The moments of a future covariate that a forecast reads besides: its own and those just before it.
const OWN: usize = 4;

/// The terms of the regression: a constant, Fourier terms of the moment, the window, newest sample first, and the newest
/// moments of each covariate, the past ones first. Each output also has the future covariates at its own moment and the three before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Terms {
    pub(super) window: usize,
    pub(super) unit: ValueUnit,
    pub(super) pairs: usize,
    pub(super) season: f64,
    /// The units of the covariates that take part.
    pub(super) past: Vec<CovariateUnit>,
    pub(super) future: Vec<CovariateUnit>,
}

/// A series, transformed, with its covariates.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) values: &'a [f64],
    pub(super) covariates: &'a Covariates,
}

impl Terms {
    /// The same terms with covariates, in units of their first `samples` values.
    pub(super) fn with_covariates(mut self, covariates: &Covariates, samples: usize) -> Terms {
        let units = |columns: &[Vec<f64>]| {
            columns.iter().map(|column| CovariateUnit::of(&column[..samples])).collect()
        };
        (self.past, self.future) = (units(&covariates.past), units(&covariates.future));
        self
    }

    pub(super) fn uses_covariates(&self) -> bool {
        !self.past.is_empty() || !self.future.is_empty()
    }

    /// The constant and the Fourier terms, which are not penalised.
    pub(super) fn free(&self) -> usize {
        1 + 2 * self.pairs
    }

    fn lags(&self) -> usize {
        self.window.min(LAGS)
    }

    fn count(&self) -> usize {
        self.free() + self.window + self.lags() * (self.past.len() + self.future.len())
    }

    /// Writes the terms at an origin, the number of known samples; `window` has the samples before it.
    fn write(&self, mut row: ArrayViewMut1<f64>, window: &[f64], covariates: &Covariates, origin: usize) {
        let zero = self.unit.zero(window[window.len() - 1]);
        row[0] = 1.0;
        fourier(origin, self.season, self.pairs, |at, term| row[1 + at] = term);
        let lags = window.iter().rev().map(|value| (value - zero) / self.unit.scale);
        let units = self.past.iter().chain(&self.future);
        let columns = covariates.past.iter().chain(&covariates.future);
        let covariates = units.zip(columns).flat_map(|(unit, column)| {
            column[origin - self.lags()..origin].iter().rev().map(|value| unit.scaled(*value))
        });
        row.iter_mut().skip(self.free()).zip(lags.chain(covariates)).for_each(|(to, term)| *to = term);
    }

    /// The terms of one window at this origin, `[1, terms]`, and the own ones of each output, `[outputs, 1, own terms]`.
    pub(super) fn row(
        &self,
        window: &[f64],
        covariates: &Covariates,
        origin: usize,
        horizon: usize,
    ) -> (Array2<f64>, Array3<f64>) {
        let mut row = Array2::zeros((1, self.count()));
        self.write(row.row_mut(0), window, covariates, origin);
        (row, self.own(covariates, origin..origin + 1, horizon))
    }

    /// The terms at these origins, `[origins, terms]`.
    fn rows(&self, known: Known, origins: Range<usize>) -> Array2<f64> {
        let mut rows = Array2::zeros((origins.len(), self.count()));
        for (row, origin) in rows.rows_mut().into_iter().zip(origins) {
            self.write(row, &known.values[origin - self.window..origin], known.covariates, origin);
        }
        rows
    }

    /// The moments of each future covariate that an output has to itself; none lies before the window.
    fn own_moments(&self) -> usize {
        self.lags().min(OWN - 1) + 1
    }

    fn own_count(&self) -> usize {
        self.own_moments() * self.future.len()
    }

    /// The future covariates at the moment of each output and just before it, `[outputs, origins, own terms]`.
    fn own(&self, covariates: &Covariates, origins: Range<usize>, horizon: usize) -> Array3<f64> {
        let moments = self.own_moments();
        Array3::from_shape_fn((horizon, origins.len(), self.own_count()), |(ahead, row, at)| {
            let (column, back) = (at / moments, at % moments);
            self.future[column].scaled(covariates.future[column][origins.start + row + ahead - back])
        })
    }

    /// The sums that a regression needs, over the origins of a part.
    pub(super) fn sums(&self, known: Known, origins: Range<usize>, horizon: usize) -> Sums {
        let mut sums = Sums::new(self.count(), horizon, self.free()).with_own_terms(self.own_count());
        for part in parts(origins) {
            let targets = Array2::from_shape_fn((part.len(), horizon), |(row, ahead)| {
                let (origin, values) = (part.start + row, known.values);
                (values[origin + ahead] - self.unit.zero(values[origin - 1])) / self.unit.scale
            });
            let own = self.own(known.covariates, part.clone(), horizon);
            sums.add_with_own(&self.rows(known, part), &own, &targets);
        }
        sums
    }

    /// Forecasts in the unit of the series, `[origins, horizon]`.
    pub(super) fn forecasts(
        &self,
        known: Known,
        ridge: &Ridge,
        origins: Range<usize>,
        horizon: usize,
    ) -> Array2<f64> {
        let mut out = Array2::zeros((origins.len(), horizon));
        let mut at = 0;
        for part in parts(origins) {
            let own = self.own(known.covariates, part.clone(), horizon);
            let forecasts = ridge.predict_with_own(&self.rows(known, part.clone()), &own);
            let mut rows = out.slice_mut(s![at..at + part.len(), ..]);
            rows.assign(&forecasts.slice(s![.., ..horizon]));
            for (mut row, origin) in rows.rows_mut().into_iter().zip(part.clone()) {
                row.mapv_inplace(|value| self.unit.restored(value, known.values[origin - 1]));
            }
            at += part.len();
        }
        out
    }

    /// The mean absolute error of the forecasts of a series, which `known` has transformed.
    pub(super) fn mean_absolute_error(
        &self,
        series: &[f64],
        known: Known,
        ridge: &Ridge,
        origins: Range<usize>,
    ) -> f64 {
        let forecasts = self.forecasts(known, ridge, origins.clone(), ridge.outputs());
        let mut sum = 0.0;
        for (row, origin) in forecasts.rows().into_iter().zip(origins) {
            sum += row.iter().zip(&series[origin..]).map(|(f, y)| (f - y).abs()).sum::<f64>();
        }
        sum / forecasts.len() as f64
    }
}

/// Origins in parts of bounded length.
fn parts(origins: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    origins.clone().step_by(ROWS).map(move |from| from..(from + ROWS).min(origins.end))
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
