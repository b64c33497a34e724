//! Whether the network that many series share reads which series a window is of.

use crate::{ForecastError, Forecaster, Settings, Stage, Validation, Watcher};
use gatefold::Device;
use gatefold_series::{ErrorOrder, clearly_better, mean_of};
use serde::{Deserialize, Serialize};

/// The most series whose ids are tried: each is a column of every step.
const MOST: usize = 200;
/// The share of the error without ids that the error with them must stay below: columns for series take time, and the errors of
/// two networks that start alike are so close that a gain of a thousandth can be a clear one.
const PAYS: f64 = 0.98;

/// Whether the network that many series share reads which series a window is of: one column for each, whose weights in the
/// first layer are the series' embedding. A series that was not in the training has the mean of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ids {
    /// If that is better on the validation part by 2 % and more than one standard error, and there are 200 series or fewer.
    /// One network more is trained to tell. [`Forecaster`] alone, which compares nothing, leaves them out.
    #[default]
    Validated,
    /// No.
    Never,
    /// Yes.
    Always,
}

/// The name that a network with ids has in the validation stage, where one without them may stand beside it.
pub(crate) fn name_of(name: &str, settings: &Settings) -> String {
    match settings.ids {
        Ids::Always if settings.shared => format!("{name}-ids"),
        _ => name.to_owned(),
    }
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
        let mut errors = |settings: &Settings| self.errors(&name_of(name, settings), settings, watcher);
        let (others, errors) = (errors(&without)?, errors(&ids)?);
        let order = ErrorOrder::new(errors.len(), self.train.len(), settings.horizon, self.stride);
        let mean = |errors: &[f64]| mean_of(errors.iter().copied());
        let pays = mean(&errors) < PAYS * mean(&others) && clearly_better(&errors, &others, order);
        Ok(if pays { ids } else { without })
    }

    /// The mean scaled error of one network at each origin of the validation part.
    fn errors(
        &self,
        name: &str,
        settings: &Settings,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<f64>, ForecastError> {
        watcher.begin(name, Stage::Validation);
        let one = Settings { members: 1, ..settings.clone() };
        let watch = watcher.watch(name, Stage::Validation);
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
    use crate::MadeUp;

    /// Series whose next sample follows the last with a factor of their own, or with one factor for all.
    fn series(own: bool) -> Vec<Vec<f64>> {
        let mut state = 7u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        let of = |at: usize| {
            let factor = if own && at % 2 == 1 { -0.9 } else { 0.9 };
            let mut value = 0.0;
            let step = |_| {
                value = factor * value + noise();
                10.0 + value
            };
            (0..140).map(step).collect()
        };
        (0..10).map(of).collect()
    }

    fn trial(own: bool) -> (Ids, f64) {
        let series = series(own);
        let series: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let train: Vec<&[f64]> = series.iter().map(|values| &values[..110]).collect();
        let settings = Settings {
            shared: true,
            window: Some(2),
            hidden: 12,
            members: 1,
            updates: 250,
            batch: 32,
            mixing: 0.0,
            learning_rate: 0.01,
            ..Settings::new(1, Some(2), &[110; 10])
        };
        let origins = (0..10).flat_map(|at| (110..140).map(move |origin| (at, origin))).collect();
        let validation = Validation { series: &series, origins, made_up: MadeUp::default() };
        let device = Device::cpu().unwrap();
        let trial =
            Trial { device: &device, train: &train, validation: &validation, units: &[1.0; 10], stride: 1 };
        let chosen = trial.chosen("network", &settings, &mut ()).unwrap();
        let mean = |errors: Vec<f64>| errors.iter().sum::<f64>() / errors.len() as f64;
        let error = |ids: Ids| {
            let settings = Settings { ids, ..settings.clone() };
            mean(trial.errors("network", &settings, &mut ()).unwrap())
        };
        (chosen.ids, error(Ids::Always) / error(Ids::Never))
    }

    #[test]
    fn ids_are_read_where_they_pay() {
        let (chosen, ratio) = trial(true);
        assert!(chosen == Ids::Always && ratio < 0.8, "{chosen:?} {ratio}");
        // Series that all follow one rule.
        let (chosen, ratio) = trial(false);
        assert!(chosen == Ids::Never, "{chosen:?} {ratio}");
    }
}
