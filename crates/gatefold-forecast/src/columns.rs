//! The columns that a network sees beside the series itself.

use crate::{Beside, ForecastError};
use gatefold_series::{CovariateUnit, Covariates, StaticValue};
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
    units: Vec<Vec<CovariateUnit>>,
    past: usize,
    future: usize,
    statics: Vec<Constant>,
    /// Series that have a column each; 0 for no such columns.
    #[serde(default)]
    ids: usize,
    /// The number in the training of each series, where they are others.
    #[serde(skip)]
    numbers: Option<Vec<Option<usize>>>,
}

/// A value of a column that does not change within a series, which the training did not have.
#[derive(Clone, Debug, PartialEq)]
pub struct Unseen {
    /// The column, by its place among the constant ones.
    pub column: usize,
    /// The value.
    pub value: String,
    /// The series, by its place.
    pub series: usize,
    /// The categories of the training, whose mean it is taken for; 0 for a column of numbers, whose mean it is taken for.
    pub categories: usize,
}

/// A value that does not change within a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Constant {
    Number(CovariateUnit),
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
            units.push(past.iter().chain(future).map(|column| CovariateUnit::of(&column[..*len])).collect());
        }
        let statics = (0..beside.statics(0).len()).map(|at| constant(beside, lengths.len(), at));
        let statics = statics.collect::<Result<_, _>>()?;
        Ok(Columns { beside: beside.clone(), units, past, future, statics, ids: 0, numbers: None })
    }

    /// The same with a column for each series.
    pub(crate) fn with_ids(mut self) -> Columns {
        self.ids = self.units.len();
        self
    }

    /// The same columns of the same series with more samples.
    pub(crate) fn put(&mut self, beside: &Beside) {
        self.beside = beside.clone();
    }

    /// The same columns of other series: `known` has the number of each among those it had, `None` for a new one.
    /// Covariates of new series are scaled by their own values beside its samples, `lengths` of them.
    pub(crate) fn put_series(&mut self, beside: &Beside, known: &[Option<usize>], lengths: &[usize]) {
        let units = known.iter().zip(lengths).enumerate().map(|(at, (known, len))| match known {
            Some(known) => self.units[*known].clone(),
            None => {
                let Covariates { past, future } = beside.covariates(at);
                let unit = |column: &Vec<f64>| CovariateUnit::of(&column[..column.len().min(*len)]);
                past.iter().chain(future).map(unit).collect()
            }
        });
        self.units = units.collect();
        self.numbers = Some(known.iter().map(|known| self.number((*known)?)).collect());
        self.put(beside);
    }

    /// The number of a series in the training; `None` for a new one.
    fn number(&self, series: usize) -> Option<usize> {
        match &self.numbers {
            Some(numbers) => numbers.get(series).copied().flatten(),
            None => Some(series).filter(|series| *series < self.ids),
        }
    }

    /// The constant values of the first `series` series that the training did not have.
    pub(crate) fn unseen(&self, series: usize) -> Vec<Unseen> {
        let mut found = Vec::new();
        for series in 0..series {
            for (column, (constant, value)) in
                self.statics.iter().zip(self.beside.statics(series)).enumerate()
            {
                let categories = match (constant, value) {
                    (Constant::Number(_), StaticValue::Number(_)) => continue,
                    (Constant::Number(_), _) => 0,
                    (Constant::Categories(names), value) if names.contains(&value.to_string()) => continue,
                    (Constant::Categories(names), _) => names.len(),
                };
                found.push(Unseen { column, value: value.to_string(), series, categories });
            }
        }
        found
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
        self.ids + self.statics.iter().map(width).sum::<usize>()
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
            give(unit.scaled(column[moment]) as f32);
        }
        for (column, unit) in covariates.future.iter().zip(&units[self.past..]) {
            give(unit.scaled(column[moment]) as f32);
            give(unit.scaled(column[moment + horizon]) as f32);
        }
    }

    /// Gives the values of a series that do not change. A category that was not seen in training is the mean of those that were,
    /// whose embedding is the mean of theirs; so is what should be a number and is none. A series that was not seen is a part of
    /// each, so that what the first layer makes of it is the mean over all.
    pub(crate) fn constant(&self, series: usize, mut give: impl FnMut(f32)) {
        for (constant, value) in self.statics.iter().zip(self.beside.statics(series)) {
            match (constant, value) {
                (Constant::Number(unit), StaticValue::Number(value)) => give(unit.scaled(*value) as f32),
                (Constant::Number(_), _) => give(0.0),
                (Constant::Categories(names), value) => {
                    let text = value.to_string();
                    if names.contains(&text) {
                        names.iter().for_each(|name| give(f32::from(u8::from(*name == text))));
                    } else {
                        names.iter().for_each(|_| give(1.0 / names.len() as f32));
                    }
                }
            }
        }
        let number = self.number(series);
        let of_all = if number.is_some() { 0.0 } else { 1.0 / self.ids.max(1) as f32 };
        (0..self.ids).for_each(|id| give(if Some(id) == number { 1.0 } else { of_all }));
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
        return Ok(Constant::Number(CovariateUnit::of(&numbers)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Forecaster, Settings};
    use gatefold::Device;

    fn noise(at: usize) -> f64 {
        ((at * at * 7919 + at * 104_729) % 2000) as f64 / 1000.0 - 1.0
    }

    /// A series that a plan drives, through a function that is not linear, and what is known of the plan.
    fn driven(samples: usize, known: usize) -> (Vec<f64>, Beside) {
        let plan: Vec<f64> = (0..known).map(|t| noise(3 + 17 * t)).collect();
        let series = (0..samples).map(|t| 20.0 + 4.0 * plan[t].abs() + 0.05 * noise(t)).collect();
        let covariates = Covariates { past: vec![], future: vec![plan] };
        (series, Beside::new([(covariates, vec![])]))
    }

    #[test]
    fn a_network_reads_what_is_known_ahead() {
        let (series, beside) = driven(600, 603);
        let mut settings = Settings::new(3, None, &[500]);
        (settings.members, settings.updates, settings.window, settings.hidden) = (1, 2000, Some(4), 32);
        settings.beside = beside.clone();
        let device = Device::cpu().unwrap();
        let mut fitted = Forecaster::new(settings).fit(&device, &[&series[..500]], None, &mut ()).unwrap();
        let known: Vec<(usize, &[f64])> = (500..598).map(|origin| (0, &series[..origin])).collect();
        let forecasts = fitted.forecast(&known).unwrap();
        let errors = (0..98).flat_map(|row| {
            let (forecasts, series) = (&forecasts, &series);
            (0..3).map(move |k| (forecasts[[0, row, k]] - series[500 + row + k]).abs())
        });
        // Without the plan, nothing is better than the mean, 1.0 off.
        let error = errors.sum::<f64>() / (98.0 * 3.0);
        assert!(error < 0.4, "{error}");
        // Nothing past the forecast is read, and a plan that ends too early is refused.
        let (_, cut) = driven(0, 553);
        fitted.put_beside(&cut);
        let same = fitted.forecast(&[(0, &series[..550])]).unwrap();
        assert_eq!(same[[0, 0, 2]], forecasts[[0, 50, 2]]);
        let error = fitted.forecast(&[(0, &series[..551])]).unwrap_err().to_string();
        assert!(error.contains("1 are missing"), "{error}");
        fitted.put_beside(&Beside::default());
        assert!(fitted.forecast(&[(0, &series[..550])]).unwrap_err().to_string().contains("1 future"));
    }

    #[test]
    fn moments_before_a_later_table_change_nothing() {
        let (series, beside) = driven(300, 303);
        let mut settings = Settings::new(3, None, &[300]);
        (settings.members, settings.updates, settings.window) = (1, 30, Some(6));
        settings.beside = beside.clone();
        let device = Device::cpu().unwrap();
        let mut fitted = Forecaster::new(settings).fit(&device, &[&series], None, &mut ()).unwrap();
        let whole = fitted.forecast(&[(0, &series)]).unwrap();
        // The table starts with its 101st row.
        let Covariates { future, .. } = beside.covariates(0).clone();
        let later = Covariates { past: vec![], future: vec![future[0][100..].to_vec()] };
        fitted.put_beside(&Beside::new([(later, vec![])]).delayed(&[100]));
        let known = [vec![f64::NAN; 100], series[100..].to_vec()].concat();
        assert_eq!(fitted.forecast(&[(0, &known)]).unwrap(), whole);
    }

    #[test]
    fn categories_have_a_column_each() {
        let of = |kind: &str, size: f64| {
            (Covariates::default(), vec![StaticValue::Text(kind.into()), StaticValue::Number(size)])
        };
        let beside = Beside::new([of("shop", 1.0), of("kiosk", 3.0), of("shop", 5.0)]);
        let mut columns = Columns::fit(&beside, &[9, 9, 9]).unwrap();
        assert_eq!(columns.constants(), 3);
        let values = |columns: &Columns, series: usize| {
            let mut values = Vec::new();
            columns.constant(series, |value| values.push(value));
            values
        };
        assert_eq!(values(&columns, 1)[..2], [1.0, 0.0]); // in the order of their names
        assert_eq!(values(&columns, 2)[..2], [0.0, 1.0]);
        assert_eq!(values(&columns, 1)[2], 0.0); // the mean size
        columns.put(&Beside::new([of("kiosk", 3.0), of("stall", 3.0)]));
        assert_eq!(values(&columns, 1), [0.5, 0.5, 0.0]);
        let unseen = Unseen { column: 0, value: "stall".into(), series: 1, categories: 2 };
        assert_eq!(columns.unseen(2), [unseen]);
        let text = vec![StaticValue::Text("shop".into()), StaticValue::Text("large".into())];
        columns.put(&Beside::new([(Covariates::default(), text)]));
        assert_eq!(values(&columns, 0), [0.0, 1.0, 0.0]);
        let unseen = Unseen { column: 1, value: "large".into(), series: 0, categories: 0 };
        assert_eq!(columns.unseen(1), [unseen]);
        // A column for each series, and a series that was not there is the mean of all.
        let mut columns = columns.with_ids();
        assert_eq!(columns.constants(), 6);
        assert_eq!(values(&columns, 2)[values(&columns, 2).len() - 3..], [0.0, 0.0, 1.0]);
        assert_eq!(values(&columns, 7), [1.0 / 3.0; 3]);
        // Of another table, whose series have other places; and again of that one.
        columns.put_series(&Beside::default(), &[Some(2), None, Some(0)], &[9; 3]);
        let found = [0, 1, 2].map(|series| values(&columns, series));
        assert_eq!(found, [[0.0, 0.0, 1.0], [1.0 / 3.0; 3], [1.0, 0.0, 0.0]]);
        columns.put_series(&Beside::default(), &[Some(2), Some(0)], &[9; 2]);
        assert_eq!([0, 1].map(|series| values(&columns, series)), [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
        let many = (0..65).map(|at| of(&at.to_string(), 1.0));
        assert!(
            Columns::fit(&Beside::new(many), &[9; 65]).unwrap_err().to_string().contains("65 categories")
        );
    }
}
