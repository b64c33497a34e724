//! The parts of each series: what models are fitted on, what chooses the best, and what measures them.

use crate::{ForecastError, MadeUp};
use std::ops::Range;

/// The newest share of a series that is held out for the test, and of the rest that chooses.
pub(crate) const TEST: f64 = 0.2;
pub(crate) const VALIDATION: f64 = 0.15;
/// Series from which one block of each is enough.
pub(crate) const MANY: usize = 10;
/// Origins beyond which only some of them are forecast from.
pub(crate) const MOST_ORIGINS: usize = 4_000;

/// The parts of each series, counted from its end: the same number of samples of every series.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Samples to forecast at once.
    pub horizon: usize,
    /// The lag of the naive forecast that scales errors: the season, or 1.
    pub lag: usize,
    /// Samples of the test part.
    pub test: usize,
    /// Samples of the validation part, before it.
    pub validation: usize,
    /// Samples from one origin to the next in both parts.
    pub stride: usize,
    /// Whether networks are trained again for the test part, on training and validation part together.
    pub refit: bool,
    /// Samples at which no error is measured; none unless they are given.
    pub made_up: MadeUp,
    /// The least and the greatest value of a forecast; none unless they are given.
    pub limits: (f64, f64),
}

/// A forecast within limits; a NaN stays one.
pub(crate) fn kept(value: f64, (least, greatest): (f64, f64)) -> f64 {
    if value.is_nan() { value } else { value.clamp(least, greatest) }
}

impl Plan {
    /// Holds out the last fifth of the shortest series, or `test` samples, and before it 15 % of the rest to choose with. Of
    /// ten series or more, one block of each says enough. Networks are trained again for the test part.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] when the horizon does not fit, with one that does.
    pub fn new(
        series: &[&[f64]],
        horizon: usize,
        season: Option<usize>,
        test: Option<usize>,
    ) -> Result<Plan, ForecastError> {
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let share = |len: usize, share: f64| {
            if series.len() < MANY { (len as f64 * share).ceil() as usize } else { horizon }
        };
        let test = test.unwrap_or_else(|| share(shortest, TEST).max(horizon));
        let rest = shortest.saturating_sub(test);
        let validation = share(rest, VALIDATION).max(horizon);
        let stride = (series.len() * (test + validation)).div_ceil(MOST_ORIGINS).max(1);
        let (lag, made_up) = (season.unwrap_or(1), MadeUp::default());
        let limits = (f64::NEG_INFINITY, f64::INFINITY);
        let plan = Plan { horizon, lag, test, validation, stride, refit: true, made_up, limits };
        if plan.check(series).is_err() || rest.saturating_sub(validation) < 2 {
            let most = (shortest.saturating_sub(2) / 3).min(horizon.saturating_sub(1));
            let advice = match most {
                0 => "add rows".to_owned(),
                most => format!("use --horizon {most} or less, or add rows"),
            };
            return Err(ForecastError::Settings(format!(
                "a horizon of {horizon} does not fit into {shortest} samples, of which {test} test and {validation} choose \
                 the model; {advice}"
            )));
        }
        Ok(plan)
    }

    /// Checks that the parts leave something to fit, and that each holds a horizon.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] with the longest horizon that would do, or the part that holds nothing but made-up samples.
    pub fn check(&self, series: &[&[f64]]) -> Result<(), ForecastError> {
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let parts = self.test + self.validation;
        if self.horizon == 0
            || self.test < self.horizon
            || self.validation < self.horizon
            || shortest <= parts
        {
            return Err(ForecastError::Settings(format!(
                "{shortest} samples are too few for a horizon of {}, a test part of {} and a validation part of {}; use a \
                 shorter horizon, or a table with more rows",
                self.horizon, self.test, self.validation
            )));
        }
        self.check_truth(series)
    }

    /// Checks that both parts hold a sample to measure a forecast by.
    fn check_truth(&self, series: &[&[f64]]) -> Result<(), ForecastError> {
        let nothing = |origins: fn(&Plan, usize) -> Vec<usize>| {
            self.made_up.leaves_nothing(series, self.horizon, |len| origins(self, len))
        };
        let part = match () {
            () if nothing(Plan::validation_origins) => "validation",
            () if nothing(Plan::test_origins) => "test",
            () => return Ok(()),
        };
        Err(ForecastError::Settings(format!(
            "the {part} part has only values that were made up to fill gaps, which measure nothing; hold out more samples, or \
             give a table with true ones"
        )))
    }

    /// The samples before the validation part.
    pub fn train(&self, len: usize) -> Range<usize> {
        0..len - self.test - self.validation
    }

    /// The samples before the test part.
    pub fn past(&self, len: usize) -> Range<usize> {
        0..len - self.test
    }

    /// The origins of a part that ends at `end` samples; the last one is always among them.
    fn origins(&self, start: usize, end: usize) -> Vec<usize> {
        let mut origins: Vec<usize> =
            (start..=end - self.horizon).rev().step_by(self.stride.max(1)).collect();
        origins.reverse();
        origins
    }

    pub(crate) fn validation_origins(&self, len: usize) -> Vec<usize> {
        self.origins(len - self.test - self.validation, len - self.test)
    }

    /// The origins of the test part of a series of this length.
    pub fn test_origins(&self, len: usize) -> Vec<usize> {
        self.origins(len - self.test, len)
    }
}
