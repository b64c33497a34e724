//! Every model on the same samples: chosen on a validation part, measured on a test part, then fitted on everything.

use crate::ids::{Ids, Trial};
use crate::plan::kept;
use crate::{
    Beside, Calibration, Calibrations, Fitted, ForecastError, Forecaster, MadeUp, Plan, Settings, Validation,
    Watch,
};
use gatefold::Device;
use gatefold_series::{Covariates, ErrorOrder, FittedModel, Model, choose, mean_of};
use ndarray::{Array2, Array3, s};
use serde::Serialize;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The most models that the combination averages.
const COMBINED: usize = 4;
/// Models whose validation error is up to this many times the least one take part in the combination.
const CLOSE: f64 = 1.2;

/// A model that takes part.
#[derive(Debug)]
pub enum Candidate {
    /// A model that is fitted to each series on its own, and what it may read beside them.
    PerSeries(Box<dyn Model>, Beside),
    /// Networks that are fitted to all series together.
    Network(String, Settings),
}

impl Candidate {
    /// The name in tables.
    pub fn name(&self) -> String {
        match self {
            Candidate::PerSeries(model, _) => model.name(),
            Candidate::Network(name, _) => name.clone(),
        }
    }
}

/// The purpose of fitting a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To tell whether the network that many series share should read which series it is: one network with `ids`, and one
    /// without.
    Trial {
        /// Whether this one reads them.
        ids: bool,
    },
    /// To be compared on the validation part.
    Validation,
    /// To be measured on the test part.
    Test,
    /// To forecast the future.
    Future,
    /// To forecast from a window of a backtest, the oldest being 0, and the later ones if it is not fitted again.
    Window(usize),
}

/// Whoever watches a comparison.
pub trait Watcher {
    /// A model begins a stage.
    fn begin(&mut self, _model: &str, _stage: Stage) {}

    /// The watch over the networks of this model and stage.
    fn watch(&mut self, model: &str, stage: Stage) -> &mut dyn Watch;
}

/// Watches nothing.
impl Watcher for () {
    fn watch(&mut self, _model: &str, _stage: Stage) -> &mut dyn Watch {
        self
    }
}

/// Mean errors of a model over series, origins and steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Mean absolute error.
    pub mae: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute error over that of the naive forecast at the plan's lag on the samples before the part (Hyndman and
    /// Koehler 2006), averaged over series; constant series are left out.
    pub mase: f64,
    /// Mean of `200 |y - f| / (|y| + |f|)`.
    pub smape: f64,
    /// The mean of forecast minus truth.
    pub bias: f64,
}

/// A model's forecasts and their errors.
#[derive(Debug)]
pub struct Judged {
    /// The model's name.
    pub name: String,
    /// Its mean scaled error on the validation part, which chooses the best model.
    pub validation: f64,
    /// The same at each origin.
    validation_errors: Vec<f64>,
    /// Its errors on the test part.
    pub scores: Scores,
    /// Its forecasts of the test part for each series, `[origins, horizon]`.
    pub forecasts: Vec<Array2<f64>>,
    /// The bands of its forecasts of the test part for each series, `[2, origins, horizon]`, below and above the forecast;
    /// `None` for a model that forecasts points.
    pub bands: Option<Vec<Array3<f64>>>,
    /// Its intervals.
    pub calibrations: Calibrations,
    /// The time that fitting and forecasting took.
    pub took: Duration,
    /// The choices that fitting made, in a few words; of several series, the most frequent ones.
    pub choice: Option<String>,
    /// Members of a combination, by their place.
    pub members: Vec<usize>,
    validation_forecasts: Vec<Array2<f64>>,
    validation_bands: Option<Vec<Array3<f64>>>,
    /// Updates, and whether ids are read, of networks.
    trained: Option<(u64, Ids)>,
}

/// The results of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The plan.
    pub plan: Plan,
    /// The models, as given, then the combination of the best.
    pub models: Vec<Judged>,
    /// The place of the model that the validation part chooses: the one with the least error, unless the combination is
    /// within one standard error of it.
    pub best: usize,
    /// Models that could not be fitted, and why.
    pub left_out: Vec<(String, String)>,
    /// The unit of each series' errors.
    pub units: Vec<f64>,
}

/// Forecasts past the end of the series.
#[derive(Debug)]
pub struct Future {
    /// For each series, `[series, horizon]`.
    pub forecasts: Array2<f64>,
    /// Their bands, `[2, series, horizon]`, below and above the forecast; `None` for models that forecast points.
    pub bands: Option<Array3<f64>>,
    /// The fitted networks that the forecast needed, by the names of their models.
    pub networks: Vec<(String, Fitted)>,
}

/// Fits and measures every model. A model that cannot be fitted to the series is left out, with its reason.
///
/// # Errors
/// [`ForecastError::Settings`] when the plan does not fit the series, or no model can be fitted; [`ForecastError::Stopped`];
/// failures of the device and of kept checkpoints.
pub fn compare(
    device: &Device,
    series: &[&[f64]],
    plan: &Plan,
    candidates: &[Candidate],
    watcher: &mut dyn Watcher,
) -> Result<Comparison, ForecastError> {
    plan.check(series)?;
    let units = series
        .iter()
        .enumerate()
        .map(|(at, values)| naive_error(&values[plan.past(values.len())], plan.lag, at, &plan.made_up));
    let units: Vec<f64> = units.collect();
    let comparing = Comparing { device, series, plan, units: &units };
    let (mut models, mut left_out) = (Vec::new(), Vec::new());
    for candidate in candidates {
        match comparing.judge(candidate, watcher) {
            Ok(judged) => models.push(judged),
            // The series do not suit the model. Failures of a device or a file are no reason to go on without it.
            Err(error @ (ForecastError::Series(_) | ForecastError::Settings(_))) => {
                left_out.push((candidate.name(), error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    if models.is_empty() {
        let (name, why) =
            left_out.first().map_or(("no model", ""), |(name, why)| (name.as_str(), why.as_str()));
        return Err(ForecastError::Settings(format!("no model can be fitted; {name}: {why}")));
    }
    let combination = comparing.combine(&models);
    let place = combination.as_ref().map(|_| models.len());
    models.extend(combination);
    let errors: Vec<&[f64]> = models.iter().map(|model| model.validation_errors.as_slice()).collect();
    let order = ErrorOrder::new(errors[0].len(), series.len(), plan.horizon, plan.stride);
    let best = choose(&errors, place, order).expect("there is a model");
    Ok(Comparison { plan: plan.clone(), models, best, left_out, units })
}

/// Fits a judged model on everything, and forecasts what follows the last sample.
///
/// # Errors
/// Those of the models and the device; [`ForecastError::Stopped`].
pub fn future(
    device: &Device,
    series: &[&[f64]],
    comparison: &Comparison,
    model: usize,
    candidates: &[Candidate],
    watcher: &mut dyn Watcher,
) -> Result<Future, ForecastError> {
    let judged = &comparison.models[model];
    let horizon = comparison.plan.horizon;
    if !judged.members.is_empty() {
        let mut sum = Array2::zeros((series.len(), horizon));
        let (mut bands, mut networks) = (Vec::new(), Vec::new());
        for &member in &judged.members {
            let future = future(device, series, comparison, member, candidates, watcher)?;
            sum += &future.forecasts;
            bands.extend(future.bands);
            networks.extend(future.networks);
        }
        let bands = mean_band(bands.iter());
        return Ok(Future { forecasts: sum / judged.members.len() as f64, bands, networks });
    }
    let candidate = candidates.iter().find(|candidate| candidate.name() == judged.name).ok_or_else(|| {
        ForecastError::Settings(format!("the model {} is not among the candidates", judged.name))
    })?;
    watcher.begin(&judged.name, Stage::Future);
    match candidate {
        Candidate::PerSeries(model, beside) => {
            let mut forecasts = Array2::zeros((series.len(), horizon));
            for (at, (mut row, values)) in forecasts.rows_mut().into_iter().zip(series).enumerate() {
                let (covariates, end) = (beside.covariates(at), values.len());
                let fitted = model.fit_with(values, covariates)?;
                row.assign(&fitted.forecasts_with(values, covariates, end..end + 1, horizon)?.row(0));
            }
            forecasts.mapv_inplace(|value| kept(value, comparison.plan.limits));
            Ok(Future { forecasts, bands: None, networks: Vec::new() })
        }
        Candidate::Network(name, settings) => {
            let mut settings = settings.clone();
            if let Some((updates, ids)) = judged.trained {
                (settings.stop_after, settings.ids) = (Some(updates), ids);
            }
            let fitted =
                Forecaster::new(settings).fit(device, series, None, watcher.watch(name, Stage::Future))?;
            let known: Vec<(usize, &[f64])> = series.iter().copied().enumerate().collect();
            let (mut forecasts, bands) = fitted.forecast_bands(&known)?;
            forecasts.mapv_inplace(|value| kept(value, comparison.plan.limits));
            Ok(Future { forecasts, bands: Some(bands), networks: vec![(name.clone(), fitted)] })
        }
    }
}

/// The mean of the bands of those members of a combination that have any.
pub fn mean_band<'a>(bands: impl ExactSizeIterator<Item = &'a Array3<f64>>) -> Option<Array3<f64>> {
    let count = bands.len() as f64;
    let sum = bands.cloned().reduce(|sum, band| sum + band)?;
    Some(sum / count)
}

/// The most frequent of these choices, and of how many it is so if not of all.
fn most_frequent(mut choices: Vec<String>) -> Option<String> {
    choices.sort_unstable();
    let runs = choices.chunk_by(|one, next| one == next);
    let most = runs.max_by_key(|run| run.len())?;
    Some(match most.len() == choices.len() {
        true => most[0].clone(),
        false => format!("{} for {} of {} series", most[0], most.len(), choices.len()),
    })
}

/// The unit of a series' errors: the mean absolute error of the naive forecast at a lag on the past of series number `series`,
/// between samples that were measured, if there are such pairs; 1 for a constant series.
pub fn naive_error(past: &[f64], lag: usize, series: usize, made_up: &MadeUp) -> f64 {
    let lag = if past.len() > 2 * lag { lag.max(1) } else { 1 };
    let mean = |measured: &dyn Fn(usize) -> bool| {
        let pairs = (lag..past.len()).filter(|at| measured(*at - lag) && measured(*at));
        mean_of(pairs.map(|at| (past[at] - past[at - lag]).abs()))
    };
    let error = mean(&|at| !made_up.has(series, at));
    let error = if error.is_nan() { mean(&|_| true) } else { error };
    if error > 0.0 { error } else { 1.0 }
}

/// The mean absolute error at each origin; NaN for one without any truth.
pub(crate) fn mean_sizes(errors: &[Vec<f64>]) -> Vec<f64> {
    errors.iter().map(|errors| mean_of(errors.iter().map(|error| error.abs()))).collect()
}

/// The models that a combination averages, by their validation errors: the least first.
pub(crate) fn combined(validation: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..validation.len()).collect();
    order.sort_by(|a, b| validation[*a].total_cmp(&validation[*b]));
    let limit = order.first().map_or(0.0, |least| CLOSE * validation[*least]);
    // Two models with the same error to the last digit are one, such as a regression and a network that could not better it.
    order.dedup_by(|a, b| validation[*a] == validation[*b]);
    order.into_iter().filter(|place| validation[*place] <= limit).take(COMBINED).collect()
}

/// Forecasts of a part for each series, `[origins, horizon]`, and their bands, `[2, origins, horizon]`.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) forecasts: Vec<Array2<f64>>,
    pub(crate) bands: Option<Vec<Array3<f64>>>,
}

impl Part {
    pub(crate) fn points(forecasts: Vec<Array2<f64>>) -> Part {
        Part { forecasts, bands: None }
    }
}

/// A model's forecasts of the validation and the test part.
struct Parts {
    validation: Part,
    test: Part,
    /// Updates, and whether ids are read, of networks.
    trained: Option<(u64, Ids)>,
    choice: Option<String>,
}

struct Comparing<'a> {
    device: &'a Device,
    series: &'a [&'a [f64]],
    plan: &'a Plan,
    units: &'a [f64],
}

impl Comparing<'_> {
    fn judge(&self, candidate: &Candidate, watcher: &mut dyn Watcher) -> Result<Judged, ForecastError> {
        let began = Instant::now();
        let name = candidate.name();
        let parts = match candidate {
            Candidate::PerSeries(model, beside) => {
                watcher.begin(&name, Stage::Validation);
                self.fit_each(model.as_ref(), beside)?
            }
            Candidate::Network(name, settings) => self.fit_networks(name, settings, watcher)?,
        };
        self.judged(name, parts, Vec::new(), began.elapsed())
    }

    fn judged(
        &self,
        name: String,
        parts: Parts,
        members: Vec<usize>,
        took: Duration,
    ) -> Result<Judged, ForecastError> {
        let finite = |forecasts: &[Array2<f64>]| forecasts.iter().flatten().all(|value| value.is_finite());
        let Parts { validation: mut on_validation, mut test, trained, choice } = parts;
        if !finite(&on_validation.forecasts) || !finite(&test.forecasts) {
            return Err(ForecastError::Settings("a forecast is not finite".into()));
        }
        for forecasts in on_validation.forecasts.iter_mut().chain(&mut test.forecasts) {
            forecasts.mapv_inplace(|value| kept(value, self.plan.limits));
        }
        let errors = self.errors(&on_validation.forecasts, |len| self.plan.validation_origins(len));
        let validation_errors = mean_sizes(&errors);
        Ok(Judged {
            name,
            validation: mean_of(validation_errors.iter().copied()),
            validation_errors,
            scores: self.scores(&test.forecasts),
            calibrations: self.calibrations(&errors, on_validation.bands.as_deref()),
            forecasts: test.forecasts,
            bands: test.bands,
            validation_forecasts: on_validation.forecasts,
            validation_bands: on_validation.bands,
            trained,
            choice,
            took,
            members,
        })
    }

    fn fit_each(&self, model: &dyn Model, beside: &Beside) -> Result<Parts, ForecastError> {
        let (mut validation, mut test, mut choices) = (Vec::new(), Vec::new(), Vec::new());
        for (at, values) in self.series.iter().enumerate() {
            let (len, covariates) = (values.len(), beside.covariates(at));
            let rolling = |fitted: &dyn FittedModel, origins: &[usize]| {
                self.rolling(fitted, values, covariates, origins)
            };
            let fitted = model.fit_with(&values[self.plan.train(len)], covariates)?;
            validation.push(rolling(fitted.as_ref(), &self.plan.validation_origins(len))?);
            let fitted = model.fit_with(&values[self.plan.past(len)], covariates)?;
            test.push(rolling(fitted.as_ref(), &self.plan.test_origins(len))?);
            choices.extend(fitted.describe());
        }
        Ok(Parts {
            validation: Part::points(validation),
            test: Part::points(test),
            trained: None,
            choice: most_frequent(choices),
        })
    }

    fn rolling(
        &self,
        fitted: &dyn FittedModel,
        values: &[f64],
        covariates: &Covariates,
        origins: &[usize],
    ) -> Result<Array2<f64>, ForecastError> {
        let horizon = self.plan.horizon;
        if self.plan.stride <= 1 {
            let all = origins[0]..origins[origins.len() - 1] + 1;
            return Ok(fitted.forecasts_with(values, covariates, all, horizon)?);
        }
        let mut out = Array2::zeros((origins.len(), horizon));
        for (mut row, origin) in out.rows_mut().into_iter().zip(origins) {
            let one = *origin..*origin + 1;
            row.assign(&fitted.forecasts_with(&values[..*origin], covariates, one, horizon)?.row(0));
        }
        Ok(out)
    }

    fn fit_networks(
        &self,
        name: &str,
        settings: &Settings,
        watcher: &mut dyn Watcher,
    ) -> Result<Parts, ForecastError> {
        let (plan, series) = (self.plan, self.series);
        let cut = |range: fn(&Plan, usize) -> Range<usize>| -> Vec<&[f64]> {
            series.iter().map(|values| &values[range(plan, values.len())]).collect()
        };
        let places = |origins: &dyn Fn(usize) -> Vec<usize>| -> Vec<(usize, usize)> {
            let of = |(at, values): (usize, &&[f64])| {
                origins(values.len()).into_iter().map(move |origin| (at, origin))
            };
            series.iter().enumerate().flat_map(of).collect()
        };
        let to_choose = places(&|len| plan.validation_origins(len));
        let to_test = places(&|len| plan.test_origins(len));
        let made_up = plan.made_up.clone();
        let validation = Validation { series, origins: to_choose.clone(), made_up };
        let train = cut(Plan::train);
        let trial = Trial {
            device: self.device,
            train: &train,
            validation: &validation,
            units: self.units,
            stride: plan.stride,
        };
        let settings = &trial.chosen(name, settings, watcher)?;
        watcher.begin(name, Stage::Validation);
        let watch = watcher.watch(name, Stage::Validation);
        let forecaster = Forecaster::new(settings.clone());
        let mut fitted = forecaster.fit(self.device, &train, Some(&validation), watch)?;
        let (updates, choice) = (fitted.best_updates(), fitted.describe());
        let on_validation = self.forecasts(&fitted, &to_choose)?;
        if plan.refit {
            watcher.begin(name, Stage::Test);
            let settings = Settings { stop_after: Some(updates), ..settings.clone() };
            fitted = Forecaster::new(settings).fit(
                self.device,
                &cut(Plan::past),
                None,
                watcher.watch(name, Stage::Test),
            )?;
        }
        let on_test = self.forecasts(&fitted, &to_test)?;
        let trained = Some((updates, settings.ids));
        Ok(Parts { validation: on_validation, test: on_test, trained, choice: Some(choice) })
    }

    /// The medians after these places, and their bands.
    fn forecasts(&self, fitted: &Fitted, places: &[(usize, usize)]) -> Result<Part, ForecastError> {
        let known: Vec<(usize, &[f64])> =
            places.iter().map(|(series, origin)| (*series, &self.series[*series][..*origin])).collect();
        let (medians, bands) = fitted.forecast_bands(&known)?;
        // The places of a series follow each other.
        let mut first = 0;
        let rows = places.chunk_by(|one, next| one.0 == next.0).map(|places| {
            let rows = first..first + places.len();
            first = rows.end;
            rows
        });
        let of_series = rows.map(|rows| {
            (medians.slice(s![rows.clone(), ..]).to_owned(), bands.slice(s![.., rows, ..]).to_owned())
        });
        let (forecasts, bands) = of_series.unzip();
        let given = fitted.settings().gives_bands(self.series.len());
        Ok(Part { forecasts, bands: given.then_some(bands) })
    }

    /// The mean of the models that came close to the best on the validation part, which often beats each of them
    /// (Makridakis, Spiliotis and Assimakopoulos 2020, "The M4 competition"). `None` if there is only one.
    fn combine(&self, models: &[Judged]) -> Option<Judged> {
        let members = combined(&models.iter().map(|model| model.validation).collect::<Vec<_>>());
        if members.len() < 2 {
            return None;
        }
        let names: Vec<&str> = members.iter().map(|member| models[*member].name.as_str()).collect();
        let count = members.len() as f64;
        let mean = |of: fn(&Judged) -> &Vec<Array2<f64>>| -> Vec<Array2<f64>> {
            let mut sum = of(&models[members[0]]).clone();
            for member in &members[1..] {
                sum.iter_mut().zip(of(&models[*member])).for_each(|(sum, forecasts)| *sum += forecasts);
            }
            sum.iter().map(|sum| sum / count).collect()
        };
        let bands = |of: fn(&Judged) -> &Option<Vec<Array3<f64>>>| -> Option<Vec<Array3<f64>>> {
            let known: Vec<_> = members.iter().filter_map(|member| of(&models[*member]).as_ref()).collect();
            (0..self.series.len()).map(|at| mean_band(known.iter().map(|bands| &bands[at]))).collect()
        };
        let part = |forecasts, bands| Part { forecasts, bands };
        let parts = Parts {
            validation: part(
                mean(|judged| &judged.validation_forecasts),
                bands(|judged| &judged.validation_bands),
            ),
            test: part(mean(|judged| &judged.forecasts), bands(|judged| &judged.bands)),
            trained: None,
            choice: Some(names.join(", ")),
        };
        self.judged("combination".into(), parts, members, Duration::ZERO).ok()
    }

    /// Errors in units of their series, for each origin of every series; NaN where there is no truth.
    fn errors(&self, forecasts: &[Array2<f64>], origins: impl Fn(usize) -> Vec<usize>) -> Vec<Vec<f64>> {
        let mut errors = Vec::new();
        for (at, (forecasts, values)) in forecasts.iter().zip(self.series).enumerate() {
            for (row, origin) in forecasts.rows().into_iter().zip(origins(values.len())) {
                let truth = |k: usize| self.plan.made_up.truth(at, values, origin, k);
                errors.push(row.iter().enumerate().map(|(k, f)| (f - truth(k)) / self.units[at]).collect());
            }
        }
        errors
    }

    /// Calibrates intervals on the errors of [`Comparing::errors`].
    fn calibrations(&self, errors: &[Vec<f64>], bands: Option<&[Array3<f64>]>) -> Calibrations {
        let origins = errors.len() / self.series.len().max(1);
        let known = |errors: &[Vec<f64>]| errors.iter().flatten().filter(|error| !error.is_nan()).count();
        let fewest = errors.chunks(origins.max(1)).map(known).min().unwrap_or(0);
        Calibrations::new((self.series.len(), fewest), |series| {
            let (rows, places) = match series {
                Some(at) => (at * origins..(at + 1) * origins, at..at + 1),
                None => (0..errors.len(), 0..self.series.len()),
            };
            match bands {
                Some(bands) => {
                    let beside = self.beside(&errors[rows], &bands[places.clone()], &self.units[places]);
                    Calibration::of_bands(beside, self.plan.horizon)
                }
                None => Calibration::new(&errors[rows]),
            }
        })
    }

    /// The errors of [`Comparing::errors`] in their series' own unit, each with its band.
    fn beside<'a>(
        &'a self,
        errors: &'a [Vec<f64>],
        bands: &'a [Array3<f64>],
        units: &'a [f64],
    ) -> impl Iterator<Item = (f64, [f64; 2])> + 'a {
        let of_series = bands
            .iter()
            .zip(units)
            .flat_map(|(bands, unit)| (0..bands.dim().1).map(move |row| (bands, *unit, row)));
        errors.iter().zip(of_series).flat_map(|(errors, (bands, unit, row))| {
            let band = move |k: usize| [bands[[0, row, k]], bands[[1, row, k]]];
            errors.iter().enumerate().map(move |(k, error)| (error * unit, band(k)))
        })
    }

    fn scores(&self, forecasts: &[Array2<f64>]) -> Scores {
        let (mut absolute, mut squared, mut signed, mut symmetric, mut count) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut scaled = Vec::new();
        for (at, (forecasts, values)) in forecasts.iter().zip(self.series).enumerate() {
            let (mut own, before) = (0.0, count);
            for (row, origin) in forecasts.rows().into_iter().zip(self.plan.test_origins(values.len())) {
                for (k, f) in row.iter().enumerate() {
                    let y = self.plan.made_up.truth(at, values, origin, k);
                    if y.is_nan() {
                        continue;
                    }
                    let error = f - y;
                    count += 1.0;
                    own += error.abs();
                    squared += error * error;
                    signed += error;
                    let size = f.abs() + y.abs();
                    symmetric += if size > 0.0 { 200.0 * error.abs() / size } else { 0.0 };
                }
            }
            absolute += own;
            if count > before {
                scaled.push(own / (count - before) / self.units[at]);
            }
        }
        Scores {
            mae: absolute / count,
            rmse: (squared / count).sqrt(),
            mase: scaled.iter().sum::<f64>() / scaled.len() as f64,
            smape: symmetric / count,
            bias: signed / count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_series::Baseline;

    /// Thirty samples of a season with noise: fewer than a regression needs not to follow the noise.
    fn short(series: usize) -> Vec<Vec<f64>> {
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        let value =
            |t: usize, noise: f64| 20.0 + 5.0 * (t as f64 * std::f64::consts::TAU / 6.0).sin() + 3.0 * noise;
        (0..series).map(|_| (0..40).map(|t| value(t, noise())).collect()).collect()
    }

    /// A series that falls to 0 and stays there: a trend that goes on lies below.
    #[test]
    fn limits_hold_in_every_part_and_are_measured() {
        let series: Vec<f64> = (0..200).map(|t| (150.0 - t as f64).max(0.0)).collect();
        let series = [series.as_slice()];
        let free = Plan::new(&series, 7, Some(7), None).unwrap();
        let bounded = Plan { limits: (0.0, 40.0), ..free.clone() };
        let candidate = |model| Candidate::PerSeries(Box::new(model), Beside::default());
        let all = [candidate(Baseline::Drift), candidate(Baseline::SeasonalNaive(7))];
        let device = Device::cpu().unwrap();
        let run = |plan: &Plan| compare(&device, &series, plan, &all, &mut ()).unwrap();
        let (free, bounded) = (run(&free), run(&bounded));
        // Without the combination, which averages bounded forecasts.
        for (free, bounded) in free.models.iter().zip(&bounded.models).take(all.len()) {
            let truth =
                |row: usize, k: usize| series[0][series[0].len() - free.forecasts[0].nrows() - 6 + row + k];
            let mut sum = 0.0;
            for ((row, k), forecast) in bounded.forecasts[0].indexed_iter() {
                assert_eq!(*forecast, free.forecasts[0][[row, k]].clamp(0.0, 40.0), "{}", free.name);
                sum += (forecast - truth(row, k)).abs();
            }
            let mae = sum / bounded.forecasts[0].len() as f64;
            assert!((mae - bounded.scores.mae).abs() < 1e-12, "{mae} {}", bounded.scores.mae);
        }
        assert!(free.models[0].forecasts[0].iter().any(|f| *f < 0.0));
        assert!(
            bounded.models[0].validation < free.models[0].validation,
            "the choice is made within the limits"
        );
        let future = future(&device, &series, &bounded, 0, &all, &mut ()).unwrap();
        assert!(future.forecasts.iter().all(|f| (0.0..=40.0).contains(f)));
    }

    #[test]
    fn intervals_of_many_short_series_hold_what_they_should() {
        let series = short(60);
        let series: Vec<&[f64]> = series.iter().map(Vec::as_slice).collect();
        let plan = Plan::new(&series, 9, Some(6), None).unwrap();
        let lengths: Vec<usize> = series.iter().map(|values| plan.train(values.len()).len()).collect();
        // The longest horizon: a regression of 10 steps does not fit into the 20 samples that would be left.
        assert_eq!(lengths[0], 22);
        let mut settings = Settings::new(9, Some(6), &lengths);
        (settings.members, settings.updates, settings.hidden) = (1, 150, 8);
        assert!(!settings.shared, "each series has its regression");
        let device = Device::cpu().unwrap();
        let all = [
            Candidate::PerSeries(Box::new(Baseline::Mean), Beside::default()),
            Candidate::Network("network".into(), settings),
        ];
        let comparison = compare(&device, &series, &plan, &all, &mut ()).unwrap();
        assert!(comparison.left_out.is_empty(), "{:?}", comparison.left_out);
        let network = &comparison.models[1];
        assert!(
            network.bands.is_none(),
            "bands learnt on what regressions leave of their own samples are too narrow"
        );
        let factor = network.calibrations.of(0).unwrap().factor(0.95).unwrap();
        let (mut inside, mut count) = (0, 0);
        for (at, forecasts) in network.forecasts.iter().enumerate() {
            for (row, origin) in forecasts.rows().into_iter().zip(plan.test_origins(series[at].len())) {
                for (k, forecast) in row.iter().enumerate() {
                    let given =
                        network.bands.as_ref().map(|bands| [bands[at][[0, 0, k]], bands[at][[1, 0, k]]]);
                    let [below, above] =
                        network.calibrations.of(at).unwrap().band(k, comparison.units[at], given);
                    let error = series[at][origin + k] - forecast;
                    inside += usize::from((-factor * below..=factor * above).contains(&error));
                    count += 1;
                }
            }
        }
        let coverage = inside as f64 / count as f64;
        assert!(coverage >= 0.93, "{coverage}");
    }
}
