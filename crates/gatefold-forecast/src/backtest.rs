//! Forecasts from a rolling origin: every model again and again, with nothing known but the samples before each origin.

mod fit;
mod measures;
#[cfg(test)]
mod tests;

pub use measures::{CRPS_LEVELS, Measures};

use crate::compare::{Part, combined, mean_band, mean_sizes, naive_error};
use crate::plan::{MANY, MOST_ORIGINS, TEST, VALIDATION, kept};
use crate::{Calibration, Candidate, ForecastError, MadeUp, Watcher};
use fit::{Fits, Rolls};
use gatefold::Device;
use gatefold_series::{ErrorOrder, choose, mean_of};
use measures::Term;
use ndarray::{Array2, Array3};
use std::time::{Duration, Instant};

/// The most windows by default.
const MOST_WINDOWS: usize = 20;
/// The errors that an interval of 95 % needs.
const ERRORS: usize = 19;

/// How often models are fitted in a backtest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refit {
    /// For each window, on everything before it.
    Always,
    /// Once, on everything before the first window; later windows only add to the known samples.
    #[default]
    Never,
}

/// The windows of a backtest, counted from the end of each series, and what comes before them.
///
/// ```text
/// | fitted on to choose | calibration | window 0 |          |
/// |           known to window 1 ...        step | window 1 |
/// ```
///
/// A model is fitted on the samples before the calibration part, and forecasts that part from every origin in it. The errors
/// choose the best model, say how long to train a network, and give the intervals of the first window. Later windows add the
/// errors of those earlier ones whose last sample comes before their own origin. So nothing that lies after an origin touches
/// a forecast from it, its interval, or the choice of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rolling {
    /// Samples to forecast from each origin.
    pub horizon: usize,
    /// The lag of the naive forecast that scales errors: the season, or 1.
    pub lag: usize,
    /// Origins to forecast from.
    pub windows: usize,
    /// Samples from one origin to the next.
    pub step: usize,
    /// Samples before the first origin that choose the model and give the first intervals.
    pub calibration: usize,
    /// Samples from one origin to the next in the calibration part.
    pub stride: usize,
    /// How often models are fitted.
    pub refit: Refit,
    /// The probability of the intervals, such as 0.95.
    pub level: f64,
    /// The least and the greatest value that a forecast may have; infinite for none.
    pub limits: (f64, f64),
    /// Samples at which no error is measured; none unless they are given.
    pub made_up: MadeUp,
}

impl Rolling {
    /// As many windows as the last fifth of the shortest series has room for, at most 20, one horizon apart; intervals of
    /// 95 %. The calibration part is 15 % of what comes before them, and one horizon of each of ten series or more; it is
    /// longer, up to a third, where an interval would otherwise have too few errors.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] when windows and horizon do not fit, with what does.
    pub fn new(
        series: &[&[f64]],
        horizon: usize,
        season: Option<usize>,
        windows: Option<usize>,
        step: Option<usize>,
    ) -> Result<Rolling, ForecastError> {
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let step = step.unwrap_or(horizon).max(1);
        let room = ((shortest as f64 * TEST).ceil() as usize).saturating_sub(horizon) / step + 1;
        let windows = windows.unwrap_or(room.min(MOST_WINDOWS));
        let mut rolling = Rolling {
            horizon,
            lag: season.unwrap_or(1),
            windows,
            step,
            calibration: horizon,
            stride: 1,
            refit: Refit::default(),
            level: 0.95,
            limits: (f64::NEG_INFINITY, f64::INFINITY),
            made_up: MadeUp::default(),
        };
        let before = shortest.saturating_sub(rolling.evaluated());
        // Overlapping origins, where there is room, until there are enough errors for an interval of 95 %.
        let origins = ERRORS.div_ceil((series.len() * horizon).max(1));
        let enough = (horizon + origins - 1).min(before / 3);
        let share = if series.len() < MANY { (before as f64 * VALIDATION).ceil() as usize } else { horizon };
        rolling.calibration = share.max(horizon).max(enough);
        rolling.stride = (series.len() * rolling.calibration).div_ceil(MOST_ORIGINS).max(1);
        rolling.check(series)?;
        Ok(rolling)
    }

    /// Checks that there are windows, that something to fit comes before them, and that windows and calibration part hold
    /// samples to measure forecasts by.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] with what does not fit.
    pub fn check(&self, series: &[&[f64]]) -> Result<(), ForecastError> {
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let refuse = |problem: String| Err(ForecastError::Settings(problem));
        if self.horizon == 0 || self.windows == 0 || self.step == 0 || self.stride == 0 {
            return refuse("a backtest needs a horizon, a window and a step of one sample or more".into());
        }
        if self.calibration < self.horizon || !(0.0 < self.level && self.level < 1.0) {
            return refuse(format!(
                "a backtest needs a calibration part of a horizon ({}) or more, and a level between 0 and 1; found {} and {}",
                self.horizon, self.calibration, self.level
            ));
        }
        if shortest < self.evaluated() + self.calibration + 2 {
            let room = shortest.saturating_sub(self.calibration + 2);
            let advice = match room.checked_sub(self.horizon).map(|room| room / self.step + 1) {
                Some(most) if most < self.windows => format!("use --windows {most} or less, or add rows"),
                _ => "use a shorter horizon, or add rows".into(),
            };
            return refuse(format!(
                "{} windows of {} samples, {} apart, and {} samples to choose the model before them do not fit into \
                 {shortest} samples; {advice}",
                self.windows, self.horizon, self.step, self.calibration
            ));
        }
        let nothing = |origins: fn(&Rolling, usize) -> Vec<usize>| {
            self.made_up.leaves_nothing(series, self.horizon, |len| origins(self, len))
        };
        let part = match () {
            () if nothing(Rolling::calibration_origins) => "the calibration part has",
            () if nothing(Rolling::origins) => "the windows have",
            () => return Ok(()),
        };
        refuse(format!(
            "{part} only values that were made up to fill gaps, which measure nothing; use other windows, or give a table with \
             true ones"
        ))
    }

    /// Samples from the first origin to the end of a series.
    pub fn evaluated(&self) -> usize {
        self.horizon + self.windows.saturating_sub(1) * self.step
    }

    /// The number of known samples at each window's origin, in a series of `len` samples.
    pub fn origins(&self, len: usize) -> Vec<usize> {
        (0..self.windows).map(|window| len - self.evaluated() + window * self.step).collect()
    }

    /// The origins of the calibration part, all of whose forecasts end before the first window.
    fn calibration_origins(&self, len: usize) -> Vec<usize> {
        let first = len - self.evaluated();
        let mut origins: Vec<usize> =
            (first - self.calibration..=first - self.horizon).rev().step_by(self.stride).collect();
        origins.reverse();
        origins
    }

    /// Earlier windows whose last sample is known at the origin of this one.
    fn ended_before(&self, window: usize) -> usize {
        (window * self.step).checked_sub(self.horizon).map_or(0, |room| room / self.step + 1)
    }
}

/// A model's forecasts from every window.
#[derive(Debug)]
pub struct Rolled {
    /// The model's name.
    pub name: String,
    /// Its mean scaled error on the calibration part, which chooses the best model.
    pub validation: f64,
    /// The same at each origin.
    calibration_errors: Vec<f64>,
    /// Its forecasts of each series, `[windows, horizon]`.
    pub forecasts: Vec<Array2<f64>>,
    /// The bands of its forecasts of each series, `[2, windows, horizon]`, below and above the forecast; `None` for a model that
    /// forecasts points.
    pub bands: Option<Vec<Array3<f64>>>,
    /// The errors known at each window's origin, which make its intervals; `None` where there are none.
    pub calibrations: Vec<Option<Calibration>>,
    /// The time that fitting and forecasting took.
    pub took: Duration,
    /// Members of a combination, by their place.
    pub members: Vec<usize>,
    on_calibration: Part,
    terms: Vec<Array2<Option<Term>>>,
}

/// The results of a backtest.
#[derive(Debug)]
pub struct Backtest {
    /// The windows.
    pub plan: Rolling,
    /// The models, as given, then the combination of the best.
    pub models: Vec<Rolled>,
    /// The place of the model that the calibration part, before the first window, chooses: the one with the least error,
    /// unless the combination is within one standard error of it.
    pub best: usize,
    /// Models that could not be fitted, and why.
    pub left_out: Vec<(String, String)>,
    /// The unit of each series' errors: that of the naive forecast on the samples before the first window.
    pub units: Vec<f64>,
    /// The true samples of each series, `[windows, horizon]`; NaN where no error is measured.
    pub truth: Vec<Array2<f64>>,
    /// The known samples at the origin of each series' windows.
    pub origins: Vec<Vec<usize>>,
}

impl Backtest {
    /// The forecasts of a model from one window of one series, and the ends of its intervals at the plan's level; NaN where
    /// too few errors are known. `[forecast, lower, upper]` for each step.
    pub fn interval(&self, model: usize, series: usize, window: usize) -> Vec<[f64; 3]> {
        let rolled = &self.models[model];
        let known = rolled.calibrations[window].as_ref();
        let reach = known.and_then(|known| Some((known, known.factor(self.plan.level)?)));
        let forecasts = rolled.forecasts[series].row(window);
        let ends = forecasts.iter().enumerate().map(|(k, forecast)| {
            let given = band_at(rolled.bands.as_deref(), series, window, k);
            let [below, above] = match reach {
                Some((known, factor)) => known.band(k, self.units[series], given).map(|band| factor * band),
                None => [f64::NAN; 2],
            };
            [*forecast, self.plan.kept(forecast - below), self.plan.kept(forecast + above)]
        });
        ends.collect()
    }
}

/// How far a model's own band lies below and above one forecast of a series.
fn band_at(bands: Option<&[Array3<f64>]>, series: usize, row: usize, k: usize) -> Option<[f64; 2]> {
    bands.map(|bands| [0, 1].map(|end| bands[series][[end, row, k]]))
}

impl Rolling {
    /// A value within the limits.
    fn kept(&self, value: f64) -> f64 {
        kept(value, self.limits)
    }
}

/// Fits and measures every model from every window. A model that cannot be fitted to the series is left out, with its
/// reason.
///
/// # Errors
/// [`ForecastError::Settings`] when the plan does not fit the series, or no model can be fitted; [`ForecastError::Stopped`];
/// failures of the device.
pub fn backtest(
    device: &Device,
    series: &[&[f64]],
    plan: &Rolling,
    candidates: &[Candidate],
    watcher: &mut dyn Watcher,
) -> Result<Backtest, ForecastError> {
    plan.check(series)?;
    let origins: Vec<Vec<usize>> = series.iter().map(|values| plan.origins(values.len())).collect();
    let before = series.iter().zip(&origins).map(|(values, origins)| &values[..origins[0]]).enumerate();
    let units = before.map(|(at, values)| naive_error(values, plan.lag, at, &plan.made_up)).collect();
    let truth = series.iter().zip(&origins).enumerate().map(|(at, (values, origins))| {
        Array2::from_shape_fn((plan.windows, plan.horizon), |(window, k)| {
            plan.made_up.truth(at, values, origins[window], k)
        })
    });
    let truth = truth.collect();
    let mut results = Backtest {
        plan: plan.clone(),
        models: Vec::new(),
        best: 0,
        left_out: Vec::new(),
        units,
        truth,
        origins,
    };
    let fits = Fits { device, series, plan };
    for candidate in candidates {
        let began = Instant::now();
        let rolled = fits
            .roll(candidate, watcher)
            .and_then(|rolls| results.rolled(candidate.name(), rolls, Vec::new(), series, began));
        match rolled {
            Ok(rolled) => results.models.push(rolled),
            // The series do not suit the model. Failures of a device are no reason to go on without it.
            Err(error @ (ForecastError::Series(_) | ForecastError::Settings(_))) => {
                results.left_out.push((candidate.name(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    if results.models.is_empty() {
        let (name, why) =
            results.left_out.first().map_or(("no model", ""), |(name, why)| (name.as_str(), why.as_str()));
        return Err(ForecastError::Settings(format!("no model can be fitted; {name}: {why}")));
    }
    let combination = results.combination(series)?;
    let place = combination.as_ref().map(|_| results.models.len());
    results.models.extend(combination);
    let errors: Vec<&[f64]> =
        results.models.iter().map(|model| model.calibration_errors.as_slice()).collect();
    let order = ErrorOrder::new(errors[0].len(), series.len(), plan.horizon, plan.stride);
    results.best = choose(&errors, place, order).expect("there is a model");
    Ok(results)
}

impl Backtest {
    /// Measures a model's forecasts, and calibrates its intervals on the errors that each origin knows.
    fn rolled(
        &self,
        name: String,
        mut rolls: Rolls,
        members: Vec<usize>,
        series: &[&[f64]],
        began: Instant,
    ) -> Result<Rolled, ForecastError> {
        let finite = |part: &Part| part.forecasts.iter().flatten().all(|value| value.is_finite());
        if !finite(&rolls.calibration) || !finite(&rolls.windows) {
            return Err(ForecastError::Settings("a forecast is not finite".into()));
        }
        for forecasts in rolls.calibration.forecasts.iter_mut().chain(&mut rolls.windows.forecasts) {
            forecasts.mapv_inplace(|value| self.plan.kept(value));
        }
        let mut known = Known::default();
        for (at, values) in series.iter().enumerate() {
            for (row, origin) in self.plan.calibration_origins(values.len()).into_iter().enumerate() {
                let truth = |k: usize| self.plan.made_up.truth(at, values, origin, k);
                known.add(&rolls.calibration, at, row, &truth, self.units[at]);
            }
        }
        let calibration_errors = mean_sizes(&known.scaled);
        let validation = mean_of(calibration_errors.iter().copied());
        let mut calibrations = Vec::with_capacity(self.plan.windows);
        let mut ended = 0;
        for window in 0..self.plan.windows {
            let newly = self.plan.ended_before(window);
            for earlier in ended..newly {
                for (at, truth) in self.truth.iter().enumerate() {
                    known.add(&rolls.windows, at, earlier, &|k| truth[[earlier, k]], self.units[at]);
                }
            }
            // The errors change only when a window has ended.
            let last = calibrations.last().filter(|_| newly == ended).cloned();
            calibrations.push(last.unwrap_or_else(|| known.calibration()));
            ended = newly;
        }
        let terms = measures::terms(&self.plan, &rolls.windows, &self.truth, &self.units, &calibrations)?;
        Ok(Rolled {
            name,
            validation,
            calibration_errors,
            forecasts: rolls.windows.forecasts,
            bands: rolls.windows.bands,
            calibrations,
            took: began.elapsed(),
            members,
            on_calibration: rolls.calibration,
            terms,
        })
    }

    /// The mean of the models that came close to the best on the calibration part; `None` if there is only one.
    fn combination(&self, series: &[&[f64]]) -> Result<Option<Rolled>, ForecastError> {
        let members = combined(&self.models.iter().map(|model| model.validation).collect::<Vec<_>>());
        if members.len() < 2 {
            return Ok(None);
        }
        let count = members.len() as f64;
        let mean = |of: fn(&Rolled) -> &Vec<Array2<f64>>| -> Vec<Array2<f64>> {
            let mut sum = of(&self.models[members[0]]).clone();
            for member in &members[1..] {
                sum.iter_mut().zip(of(&self.models[*member])).for_each(|(sum, forecasts)| *sum += forecasts);
            }
            sum.iter().map(|sum| sum / count).collect()
        };
        let bands = |of: fn(&Rolled) -> &Option<Vec<Array3<f64>>>| -> Option<Vec<Array3<f64>>> {
            let known: Vec<_> =
                members.iter().filter_map(|member| of(&self.models[*member]).as_ref()).collect();
            (0..series.len()).map(|at| mean_band(known.iter().map(|bands| &bands[at]))).collect()
        };
        let calibration = Part {
            forecasts: mean(|rolled| &rolled.on_calibration.forecasts),
            bands: bands(|rolled| &rolled.on_calibration.bands),
        };
        let windows =
            Part { forecasts: mean(|rolled| &rolled.forecasts), bands: bands(|rolled| &rolled.bands) };
        let rolls = Rolls { calibration, windows };
        self.rolled("combination".into(), rolls, members, series, Instant::now()).map(Some)
    }
}

/// The errors of one model that are known at an origin.
#[derive(Default)]
struct Known {
    /// In units of their series, `[origin][step]`; NaN where the truth is not known.
    scaled: Vec<Vec<f64>>,
    /// As they are, with the model's bands; empty for a model that forecasts points.
    beside: Vec<(f64, [f64; 2])>,
}

impl Known {
    /// Adds the forecasts from one origin of a series, `k` samples after which `truth(k)` lies.
    fn add(&mut self, part: &Part, series: usize, row: usize, truth: &dyn Fn(usize) -> f64, unit: f64) {
        let forecasts = part.forecasts[series].row(row);
        let errors: Vec<f64> =
            forecasts.iter().enumerate().map(|(k, forecast)| forecast - truth(k)).collect();
        for (k, error) in errors.iter().enumerate() {
            self.beside.extend(band_at(part.bands.as_deref(), series, row, k).map(|band| (*error, band)));
        }
        self.scaled.push(errors.into_iter().map(|error| error / unit).collect());
    }

    fn calibration(&self) -> Option<Calibration> {
        match self.beside.as_slice() {
            [] => Calibration::new(&self.scaled),
            beside => Calibration::of_bands(beside.iter().copied(), self.scaled[0].len()),
        }
    }
}
