//! Errors on the rows that came after the model was fitted.

use super::model::{Block, Models};
use crate::failure::Failure;
use crate::forecast::{Data, Interval, SavedModel};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// Origins beyond which only some of them are forecast from.
const MOST_ORIGINS: usize = 2_000;

/// Forecasts of rows that the model was not fitted on, from the end of those that it was.
pub(super) struct Later {
    /// Series and origin of each row of the forecasts; those of a series follow each other.
    pub(super) places: Vec<(usize, usize)>,
    horizon: usize,
    /// A forecast with its interval, and the truth, by place and step; NaN where there is no truth.
    rows: Vec<Vec<([f64; 3], f64)>>,
    units: Vec<f64>,
    /// Later samples of the series that has most.
    pub(super) samples: usize,
}

/// Means over forecasts.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Errors {
    pub(super) mae: f64,
    pub(super) rmse: f64,
    pub(super) mase: f64,
    pub(super) smape: f64,
    pub(super) bias: f64,
    /// The share of true values within their interval; `None` without intervals.
    pub(super) coverage: Option<f64>,
    pub(super) forecasts: usize,
}

/// The samples of each series that came after the last one that the model was fitted on; 0 for a new series, and where that
/// sample is not in the table.
fn later_samples(saved: &SavedModel, data: &Data, known: &[Option<usize>]) -> Vec<usize> {
    let all = data.series();
    let of = |(series, number): (usize, &Option<usize>)| {
        let last = number.and_then(|number| saved.last.get(number))?;
        let len = all[series].len();
        let labels = data.labels(series, 0..len);
        let at = labels.iter().rposition(|label| label == last)?;
        Some(len - 1 - at)
    };
    known.iter().enumerate().map(|place| of(place).unwrap_or(0)).collect()
}

impl Later {
    /// Forecasts later rows, with the intervals of the model; `None` if there are none, or none of them was measured. The series
    /// whose later rows could not be forecast are left out, and come with the reason.
    ///
    /// # Errors
    /// Those of the models and the device.
    pub(super) fn of(
        models: &Models,
        saved: &SavedModel,
        (data, known): (&Data, &[Option<usize>]),
        interval: &Interval,
        units: &[f64],
    ) -> Result<(Option<Later>, BTreeMap<usize, String>), Failure> {
        let mut later = later_samples(saved, data, known);
        let stride = later.iter().sum::<usize>().div_ceil(MOST_ORIGINS).max(1);
        let series = data.series();
        let ends: Vec<usize> =
            series.iter().zip(&later).map(|(values, later)| values.len() - later).collect();
        let origins = |(at, end): (usize, &usize)| {
            (*end..series[at].len()).step_by(stride).map(move |origin| (at, origin)).collect::<Vec<_>>()
        };
        let places: Vec<(usize, usize)> = ends.iter().enumerate().flat_map(origins).collect();
        if places.is_empty() {
            return Ok((None, BTreeMap::new()));
        }
        let Block { forecasts, bands, failed } = models.forecast_from(&series, &places, &ends)?;
        let made_up = saved.options.made_up(data);
        let row = |(row, (at, origin)): (usize, &(usize, usize))| {
            let step = |k: usize| {
                let truth = match origin + k < series[*at].len() {
                    true => made_up.truth(*at, series[*at], *origin, k),
                    false => f64::NAN,
                };
                let band = bands.as_ref().map(|bands| [0, 1].map(|end| bands[[end, row, k]]));
                (interval.around(forecasts[[row, k]], (*at, k), units[*at], band), truth)
            };
            (0..saved.horizon).map(step).collect::<Vec<_>>()
        };
        let measured = places.iter().enumerate().filter(|(_, (at, _))| !failed.contains_key(at));
        let rows: Vec<Vec<_>> = measured.map(row).collect();
        let places: Vec<_> = places.iter().copied().filter(|(at, _)| !failed.contains_key(at)).collect();
        if rows.iter().flatten().all(|(_, truth)| truth.is_nan()) {
            return Ok((None, failed));
        }
        later
            .iter_mut()
            .enumerate()
            .filter(|(at, _)| failed.contains_key(at))
            .for_each(|(_, later)| *later = 0);
        let samples = later.into_iter().max().unwrap_or(0);
        let units = units.to_vec();
        Ok((Some(Later { places, horizon: saved.horizon, rows, units, samples }), failed))
    }

    /// The errors of these rows, at one step ahead or at all.
    fn errors(&self, of: Range<usize>, only: Option<usize>) -> Errors {
        let (mut sums, mut inside, mut bounded) = (Errors::default(), 0usize, 0usize);
        for (row, (series, _)) in self.rows[of.clone()].iter().zip(&self.places[of]) {
            for (k, ([forecast, low, high], truth)) in row.iter().enumerate() {
                if truth.is_nan() || only.is_some_and(|only| only != k) {
                    continue;
                }
                let error = forecast - truth;
                let size = forecast.abs() + truth.abs();
                sums.mae += error.abs();
                sums.rmse += error * error;
                sums.mase += error.abs() / self.units[*series];
                sums.smape += if size > 0.0 { 200.0 * error.abs() / size } else { 0.0 };
                sums.bias += error;
                sums.forecasts += 1;
                bounded += usize::from(low.is_finite());
                inside += usize::from((low..=high).contains(&truth));
            }
        }
        let n = sums.forecasts as f64;
        Errors {
            mae: sums.mae / n,
            rmse: (sums.rmse / n).sqrt(),
            mase: sums.mase / n,
            smape: sums.smape / n,
            bias: sums.bias / n,
            coverage: (bounded > 0).then(|| inside as f64 / bounded as f64),
            forecasts: sums.forecasts,
        }
    }

    /// The errors of all forecasts.
    pub(super) fn all(&self) -> Errors {
        self.errors(0..self.rows.len(), None)
    }

    /// The errors at each step ahead that was measured.
    pub(super) fn by_step(&self) -> Vec<Errors> {
        let steps = (0..self.horizon).map(|k| self.errors(0..self.rows.len(), Some(k)));
        steps.take_while(|errors| errors.forecasts > 0).collect()
    }

    /// The errors of each series that was measured, by its place.
    pub(super) fn by_series(&self) -> Vec<(usize, Errors)> {
        let mut next = 0;
        let of = |run: &[(usize, usize)]| {
            let first = next;
            next += run.len();
            (run[0].0, self.errors(first..next, None))
        };
        self.places
            .chunk_by(|one, next| one.0 == next.0)
            .map(of)
            .filter(|(_, errors)| errors.forecasts > 0)
            .collect()
    }

    /// Of the first series with later rows: its place, its first later sample, and forecast and interval of each, from origins a
    /// horizon apart.
    pub(super) fn first(&self) -> (usize, usize, Vec<[f64; 3]>) {
        let (series, start) = self.places[0];
        let (horizon, mut next, mut out) = (self.horizon, start, Vec::new());
        for ((at, origin), row) in self.places.iter().zip(&self.rows) {
            if *at == series && *origin >= next {
                out.extend(std::iter::repeat_n([f64::NAN; 3], origin - next));
                out.extend(row.iter().map(|(around, _)| *around));
                next = origin + horizon;
            }
        }
        (series, start, out)
    }
}
