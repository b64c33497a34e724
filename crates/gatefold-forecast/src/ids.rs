//! Whether the network that many series share reads which series a window is of.

use crate::{ForecastError, Forecaster, Settings, Stage, Validation, Watcher};
use gatefold::Device;
use gatefold_series::{ErrorOrder, clearly_better, mean_of};
use serde::{Deserialize, Serialize};

/// The most series whose ids are tried: each is a column of every step.
const MOST: usize = 200;
/// The most series whose ids a network reads at all: its inputs have a column for each at every step of every window.
pub const MOST_IDS: usize = 1_000;
/// Ids are read if the error with them is less than this many times the error without. Columns for series take time, and the
/// errors of two networks that start alike are so close that a gain of a thousandth can be a clear one.
const PAYS: f64 = 0.98;

/// Whether the network that many series share reads which series a window is of: one column for each, whose weights in the
/// first layer are the series' embedding. A series that was not in the training has the mean of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// If that is better on the validation part by 2 % and more than one standard error, and there are 200 series or fewer.
    /// Two networks more are trained to tell, in a stage of their own. [`Forecaster`] alone, which compares nothing, leaves ids
    /// out.
    #[default]
    Validated,
    /// No.
    Never,
    /// Yes, of [`MOST_IDS`] series or fewer.
    Always,
}

/// Whether the errors with ids say that they pay, beside those without.
fn pays(errors: &[f64], others: &[f64], order: ErrorOrder) -> bool {
    let mean = |errors: &[f64]| mean_of(errors.iter().copied());
    mean(errors) < PAYS * mean(others) && clearly_better(errors, others, order)
}

/// The parts of the series that say whether ids pay.
pub(crate) struct Trial<'a> {
    pub(crate) device: &'a Device,
    pub(crate) train: &'a [&'a [f64]],
    pub(crate) validation: &'a Validation<'a>,
    /// The unit of each series' errors.
    pub(crate) units: &'a [f64],
    /// Samples from one origin to the next.
    pub(crate) stride: usize,
}

impl Trial<'_> {
    /// The settings with the choice made: one network with ids and one without, compared on the validation part.
    pub(crate) fn chosen(
        &self,
        name: &str,
        settings: &Settings,
        watcher: &mut dyn Watcher,
    ) -> Result<Settings, ForecastError> {
        let with = |ids: Ids| Settings { ids, ..settings.clone() };
        if settings.ids != Ids::Validated {
            return Ok(settings.clone());
        }
        if !settings.shared || !(2..=MOST).contains(&self.train.len()) {
            return Ok(with(Ids::Never));
        }
        let (without, ids) = (with(Ids::Never), with(Ids::Always));
        let mut errors = |settings: &Settings| self.errors(name, settings, watcher);
        let (others, errors) = (errors(&without)?, errors(&ids)?);
        let order = ErrorOrder::new(errors.len(), self.train.len(), settings.horizon, self.stride);
        Ok(if pays(&errors, &others, order) { ids } else { without })
    }

    /// The mean scaled error of one network at each origin of the validation part.
    fn errors(
        &self,
        name: &str,
        settings: &Settings,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<f64>, ForecastError> {
        let stage = Stage::Trial { ids: settings.ids == Ids::Always };
        watcher.begin(name, stage);
        let one = Settings { members: 1, ..settings.clone() };
        let watch = watcher.watch(name, stage);
        let fitted = Forecaster::new(one).fit(self.device, self.train, Some(self.validation), watch)?;
        let Validation { series, origins, made_up } = self.validation;
        let known: Vec<(usize, &[f64])> =
            origins.iter().map(|(at, origin)| (*at, &series[*at][..*origin])).collect();
        let (medians, _) = fitted.forecast_bands(&known)?;
        let error = |(row, (at, origin)): (ndarray::ArrayView1<f64>, &(usize, usize))| {
            let size =
                |(k, forecast): (usize, &f64)| (forecast - made_up.truth(*at, series[*at], *origin, k)).abs();
            mean_of(row.iter().enumerate().map(size)) / self.units[*at]
        };
        Ok(medians.rows().into_iter().zip(origins).map(error).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_pay_by_a_clear_gain_of_two_per_cent() {
        let order = ErrorOrder { origins: 100, overlap: 1 };
        let noise = |at: usize| (at as f64 * 0.618_033_988_749_894_9).fract() - 0.5;
        let others = vec![1.0; 100];
        let errors = |gain: f64, size: f64| -> Vec<f64> {
            (1..=100).map(|at| 1.0 - gain + size * noise(at)).collect()
        };
        assert!(pays(&errors(0.05, 0.1), &others, order));
        // The standard error of the first is 0.0003 and of the second 0.14.
        assert!(!pays(&errors(0.01, 0.01), &others, order), "clear, and hardly a gain");
        assert!(!pays(&errors(0.05, 5.0), &others, order), "a gain, and not clear");
        assert!(!pays(&others, &others, order));
        // Origins without a truth say nothing.
        let gap = |mut errors: Vec<f64>| {
            errors[40] = f64::NAN;
            errors
        };
        assert!(pays(&gap(errors(0.05, 0.1)), &gap(others.clone()), order));
        assert!(!pays(&gap(errors(0.01, 0.01)), &gap(others), order));
    }
}
