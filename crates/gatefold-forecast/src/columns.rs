//! The columns that a network sees beside the series itself.

use crate::{Beside, ForecastError};
use gatefold_series::{Covariates, StaticValue};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// More categories than this are no longer told apart by a column each.
const MOST_CATEGORIES: usize = 64;

/// Covariates in units of each series, and constant values as numbers: a column for each category, whose weights in the
/// first layer are its embedding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Columns {
    #[serde(skip)]
    beside: Beside,
    /// For each series, the units of its past covariates, then of its future ones.
    units: Vec<Vec<Unit>>,
    past: usize,
    future: usize,
    statics: Vec<Constant>,
}

/// The mean and the standard deviation of a covariate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Unit {
    mean: f64,
    deviation: f64,
}

impl Unit {
    fn of(values: &[f64]) -> Unit {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        let deviation = variance.sqrt();
        Unit { mean, deviation: if deviation.is_normal() { deviation } else { 1.0 } }
    }

    fn scaled(&self, value: f64) -> f32 {
        ((value - self.mean) / self.deviation) as f32
    }
}

/// A value that does not change within a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Constant {
    Number(Unit),
    Categories(Vec<String>),
}

impl Columns {
    /// The columns of what is known beside series, of which so many samples may be seen.
    pub(crate) fn fit(beside: &Beside, lengths: &[usize]) -> Result<Columns, ForecastError> {
        let first = beside.covariates(0);
        let (past, future) = (first.past.len(), first.future.len());
        let mut units = Vec::new();
        for (series, len) in lengths.iter().enumerate() {
            let Covariates { past, future } = beside.covariates(series);
            beside.covariates(series).check(*len, 0)?;
            units.push(past.iter().chain(future).map(|column| Unit::of(&column[..*len])).collect());
        }
        let statics = (0..beside.statics(0).len()).map(|at| constant(beside, lengths.len(), at));
        let statics = statics.collect::<Result<_, _>>()?;
        Ok(Columns { beside: beside.clone(), units, past, future, statics })
    }

    /// The same columns of other series, or of the same ones with more samples.
    pub(crate) fn put(&mut self, beside: &Beside) {
        self.beside = beside.clone();
    }

    /// Checks that covariates reach as far as forecasts of `horizon` samples from `origin` read them.
    pub(crate) fn check(&self, series: usize, origin: usize, horizon: usize) -> Result<(), ForecastError> {
        let covariates = self.covariates(series);
        if (covariates.past.len(), covariates.future.len()) != (self.past, self.future) {
            return Err(ForecastError::Settings(format!(
                "the networks were trained with {} past and {} future covariates; found {} and {}",
                self.past,
                self.future,
                covariates.past.len(),
                covariates.future.len()
            )));
        }
        Ok(covariates.check(origin, horizon)?)
    }

    pub(crate) fn covariates(&self, series: usize) -> &Covariates {
        self.beside.covariates(series)
    }

    /// Values per moment: past covariates, and future ones at the moment and a horizon later.
    pub(crate) fn per_moment(&self) -> usize {
        self.past + 2 * self.future
    }

    /// Values that do not change.
    pub(crate) fn constants(&self) -> usize {
        let width = |constant: &Constant| match constant {
            Constant::Number(_) => 1,
            Constant::Categories(names) => names.len(),
        };
        self.statics.iter().map(width).sum()
    }

    pub(crate) fn reads_ahead(&self) -> bool {
        self.future > 0
    }

    /// Gives the values of a moment of a series, [`Columns::per_moment`] of them.
    pub(crate) fn moment(&self, series: usize, moment: usize, horizon: usize, mut give: impl FnMut(f32)) {
        if self.per_moment() == 0 {
            return;
        }
        let (covariates, units) = (self.covariates(series), &self.units[series]);
        for (column, unit) in covariates.past.iter().zip(units) {
            give(unit.scaled(column[moment]));
        }
        for (column, unit) in covariates.future.iter().zip(&units[self.past..]) {
            give(unit.scaled(column[moment]));
            give(unit.scaled(column[moment + horizon]));
        }
    }

    /// Gives the values of a series that do not change. A category that was not seen in training is none of them.
    pub(crate) fn constant(&self, series: usize, mut give: impl FnMut(f32)) {
        for (constant, value) in self.statics.iter().zip(self.beside.statics(series)) {
            match (constant, value) {
                (Constant::Number(unit), StaticValue::Number(value)) => give(unit.scaled(*value)),
                (Constant::Number(_), _) => give(0.0),
                (Constant::Categories(names), value) => {
                    let text = value.to_string();
                    names.iter().for_each(|name| give(f32::from(u8::from(*name == text))));
                }
            }
        }
    }
}

/// The constant in a place, as the series have it.
fn constant(beside: &Beside, series: usize, at: usize) -> Result<Constant, ForecastError> {
    let values = (0..series).map(|series| &beside.statics(series)[at]);
    let numbers: Option<Vec<f64>> = values
        .clone()
        .map(|value| match value {
            StaticValue::Number(value) => Some(*value),
            _ => None,
        })
        .collect();
    if let Some(numbers) = numbers {
        return Ok(Constant::Number(Unit::of(&numbers)));
    }
    let names: BTreeSet<String> = values.map(ToString::to_string).collect();
    if names.len() > MOST_CATEGORIES {
        return Err(ForecastError::Settings(format!(
            "constant column {} has {} categories; expected at most {MOST_CATEGORIES}",
            at + 1,
            names.len()
        )));
    }
    Ok(Constant::Categories(names.into_iter().collect()))
}
