//! Forecasts of one model: whatever it is given ends at the origin.

use super::{Refit, Rolling};
use crate::compare::{Part, naive_error};
use crate::ids::Trial;
use crate::{Beside, Candidate, Fitted, ForecastError, Forecaster, Settings, Stage, Validation, Watcher};
use gatefold::Device;
use gatefold_series::{Covariates, FittedModel, Model};
use ndarray::{Array2, Array3, s};

/// A model's forecasts of the calibration part and from the windows.
pub(super) struct Rolls {
    pub(super) calibration: Part,
    pub(super) windows: Part,
}

pub(super) struct Fits<'a> {
    pub(super) device: &'a Device,
    pub(super) series: &'a [&'a [f64]],
    pub(super) plan: &'a Rolling,
}

impl<'a> Fits<'a> {
    pub(super) fn roll(
        &self,
        candidate: &Candidate,
        watcher: &mut dyn Watcher,
    ) -> Result<Rolls, ForecastError> {
        match candidate {
            Candidate::PerSeries(model, beside) => {
                watcher.begin(&model.name(), Stage::Validation);
                self.roll_each(model.as_ref(), beside)
            }
            Candidate::Network(name, settings) => self.roll_networks(name, settings, watcher),
        }
    }

    fn roll_each(&self, model: &dyn Model, beside: &Beside) -> Result<Rolls, ForecastError> {
        let plan = self.plan;
        let (mut calibration, mut windows) = (Vec::new(), Vec::new());
        for (at, values) in self.series.iter().enumerate() {
            let covariates = beside.covariates(at);
            let fit = |end: usize| model.fit_with(&values[..end], covariates);
            let (origins, first) = (plan.calibration_origins(values.len()), plan.origins(values.len())[0]);
            let fitted = fit(first - plan.calibration)?;
            calibration.push(self.forecasts_of(fitted.as_ref(), values, covariates, &origins)?);
            let origins = plan.origins(values.len());
            windows.push(match plan.refit {
                Refit::Never => self.forecasts_of(fit(first)?.as_ref(), values, covariates, &origins)?,
                Refit::Always => {
                    let mut out = Array2::zeros((origins.len(), plan.horizon));
                    for (mut row, &origin) in out.rows_mut().into_iter().zip(&origins) {
                        let fitted = fit(origin)?;
                        row.assign(
                            &self.forecasts_of(fitted.as_ref(), values, covariates, &[origin])?.row(0),
                        );
                    }
                    out
                }
            });
        }
        Ok(Rolls { calibration: Part::points(calibration), windows: Part::points(windows) })
    }

    /// `[origins, horizon]`
    fn forecasts_of(
        &self,
        fitted: &dyn FittedModel,
        values: &[f64],
        covariates: &Covariates,
        origins: &[usize],
    ) -> Result<Array2<f64>, ForecastError> {
        let (first, last, horizon) = (origins[0], origins[origins.len() - 1], self.plan.horizon);
        if last - first + 1 == origins.len() {
            return Ok(fitted.forecasts_with(&values[..last], covariates, first..last + 1, horizon)?);
        }
        let mut out = Array2::zeros((origins.len(), horizon));
        for (mut row, origin) in out.rows_mut().into_iter().zip(origins) {
            let one = *origin..*origin + 1;
            row.assign(&fitted.forecasts_with(&values[..*origin], covariates, one, horizon)?.row(0));
        }
        Ok(out)
    }

    fn roll_networks(
        &self,
        name: &str,
        settings: &Settings,
        watcher: &mut dyn Watcher,
    ) -> Result<Rolls, ForecastError> {
        let plan = self.plan;
        let to_choose = self.places(|len| plan.calibration_origins(len));
        let known = self.cut(|len| len - plan.evaluated());
        let made_up = plan.made_up.clone();
        let validation = Validation { series: &known, origins: to_choose.clone(), made_up };
        let unit = |(at, values): (usize, &&[f64])| naive_error(values, plan.lag, at, &plan.made_up);
        let train = self.cut(|len| len - plan.evaluated() - plan.calibration);
        let trial = Trial {
            device: self.device,
            train: &train,
            validation: &validation,
            units: &known.iter().enumerate().map(unit).collect::<Vec<_>>(),
            stride: plan.stride,
        };
        let settings = trial.chosen(name, settings, watcher)?;
        watcher.begin(name, Stage::Validation);
        let watch = watcher.watch(name, Stage::Validation);
        let fitted = Forecaster::new(settings.clone()).fit(self.device, &train, Some(&validation), watch)?;
        let calibration = self.medians(&fitted, &to_choose)?;
        let settings = Settings { stop_after: Some(fitted.best_updates()), ..settings };
        let fits = match plan.refit {
            Refit::Never => 1,
            Refit::Always => plan.windows,
        };
        let mut windows = vec![Array2::zeros((plan.windows, plan.horizon)); self.series.len()];
        let mut bands = vec![Array3::zeros((2, plan.windows, plan.horizon)); self.series.len()];
        for fit in 0..fits {
            let stage = Stage::Window(fit);
            watcher.begin(name, stage);
            let fitted = Forecaster::new(settings.clone()).fit(
                self.device,
                &self.cut(|len| plan.origins(len)[fit]),
                None,
                watcher.watch(name, stage),
            )?;
            // A fit serves its own window, and all the later ones if it is the only fit.
            let served = if fits == 1 { 0..plan.windows } else { fit..fit + 1 };
            let places = self.places(|len| plan.origins(len)[served.clone()].to_vec());
            let part = self.medians(&fitted, &places)?;
            for (windows, medians) in windows.iter_mut().zip(part.forecasts) {
                windows.slice_mut(s![served.clone(), ..]).assign(&medians);
            }
            for (bands, own) in bands.iter_mut().zip(part.bands.into_iter().flatten()) {
                bands.slice_mut(s![.., served.clone(), ..]).assign(&own);
            }
        }
        let bands = calibration.bands.is_some().then_some(bands);
        Ok(Rolls { calibration, windows: Part { forecasts: windows, bands } })
    }

    /// The start of each series, up to a number of samples that follows from its length.
    fn cut(&self, end: impl Fn(usize) -> usize) -> Vec<&'a [f64]> {
        self.series.iter().map(|values| &values[..end(values.len())]).collect()
    }

    /// Series numbers and origins, the origins of a series one after another.
    fn places(&self, origins: impl Fn(usize) -> Vec<usize>) -> Vec<(usize, usize)> {
        let of = |(at, values): (usize, &&[f64])| {
            origins(values.len()).into_iter().map(move |origin| (at, origin))
        };
        self.series.iter().enumerate().flat_map(of).collect()
    }

    /// The medians after these places, and their bands.
    fn medians(&self, fitted: &Fitted, places: &[(usize, usize)]) -> Result<Part, ForecastError> {
        let known: Vec<(usize, &[f64])> =
            places.iter().map(|(series, origin)| (*series, &self.series[*series][..*origin])).collect();
        let (medians, bands) = fitted.forecast_bands(&known)?;
        let mut first = 0;
        let of_series = places.chunk_by(|one, next| one.0 == next.0).map(|places| {
            let rows = first..first + places.len();
            first = rows.end;
            (medians.slice(s![rows.clone(), ..]).to_owned(), bands.slice(s![.., rows, ..]).to_owned())
        });
        let (forecasts, bands) = of_series.unzip();
        let given = fitted.settings().gives_bands(self.series.len());
        Ok(Part { forecasts, bands: given.then_some(bands) })
    }
}
