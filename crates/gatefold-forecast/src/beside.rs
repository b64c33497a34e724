use gatefold_series::{Covariates, StaticValue};
use std::sync::Arc;

/// Covariates of each series, and its values that do not change; none by default.
///
/// Covariates are given from a series' first sample to the horizon past its last one. Models read past covariates before a
/// forecast's origin only, and future ones up to the moments that it forecasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beside {
    series: Arc<[Known]>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    covariates: Covariates,
    statics: Vec<StaticValue>,
}

impl Beside {
    /// Covariates and constant values of each series, in the order of the series. Every series has the same columns.
    pub fn new(series: impl IntoIterator<Item = (Covariates, Vec<StaticValue>)>) -> Self {
        let known = series.into_iter().map(|(covariates, statics)| Known { covariates, statics });
        Beside { series: known.collect() }
    }

    /// The same with so many moments put before each series, which no model reads: where a table starts later than the one
    /// that a model was fitted to.
    pub fn delayed(&self, by: &[usize]) -> Beside {
        let delayed = self.series.iter().zip(by).map(|(known, by)| {
            let column = |column: &Vec<f64>| [vec![0.0; *by], column.clone()].concat();
            let Covariates { past, future } = &known.covariates;
            let covariates = Covariates {
                past: past.iter().map(column).collect(),
                future: future.iter().map(column).collect(),
            };
            (covariates, known.statics.clone())
        });
        Beside::new(delayed)
    }

    /// The covariates of a series, by its number.
    pub fn covariates(&self, series: usize) -> &Covariates {
        self.series.get(series).map_or(Covariates::none(), |known| &known.covariates)
    }

    /// The values of a series that do not change.
    pub fn statics(&self, series: usize) -> &[StaticValue] {
        self.series.get(series).map_or(&[], |known| &known.statics)
    }
}
