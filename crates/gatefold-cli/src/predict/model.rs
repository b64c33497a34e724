//! A saved model, and its forecasts of any series.

use crate::failure::Failure;
use crate::forecast::{Folder, SavedModel};
use gatefold::Device;
use gatefold_forecast::{
    Beside, Candidate, Fitted, MODELS, NETWORKS, Seasons, Settings, Unseen, candidates, mean_band,
};
use gatefold_series::Model;
use ndarray::{Array2, Array3, s};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One block of the horizon after each series, or from each place.
pub(super) struct Block {
    /// `[rows, horizon]`; NaN for the series that could not be forecast.
    pub(super) forecasts: Array2<f64>,
    /// Their bands, `[2, rows, horizon]`, if the model has some.
    pub(super) bands: Option<Array3<f64>>,
    /// Series that could not be forecast, and why.
    pub(super) failed: BTreeMap<usize, String>,
}

/// A saved model, and what it may read beside the series.
pub(super) struct Models<'a> {
    folder: &'a Folder,
    saved: &'a SavedModel,
    networks: Vec<(String, Fitted)>,
    beside: Beside,
    /// The samples by which each series starts later than the one that the model was fitted on.
    delays: Vec<usize>,
}

/// The samples that a network needs before a forecast. What comes before a short series is taken for its first season, which
/// it must have.
fn least(fitted: &Fitted) -> usize {
    let settings = fitted.settings();
    if settings.shared { settings.season.unwrap_or(1).max(2) } else { fitted.needed() }
}

fn too_short(least: usize, found: usize) -> String {
    format!("a forecast needs {least} samples before it; found {found}; give a table with more rows")
}

impl<'a> Models<'a> {
    pub(super) fn load(device: &Device, folder: &'a Folder, saved: &'a SavedModel) -> Result<Self, Failure> {
        let mut models =
            Models { folder, saved, networks: Vec::new(), beside: Beside::default(), delays: Vec::new() };
        for name in models.names().iter().filter(|name| NETWORKS.contains(&name.as_str())) {
            models.networks.push((name.clone(), Fitted::load(device, folder.path(), name)?));
        }
        Ok(models)
    }

    /// The models whose mean is taken.
    fn names(&self) -> &'a [String] {
        if self.saved.members.is_empty() {
            std::slice::from_ref(&self.saved.best)
        } else {
            &self.saved.members
        }
    }

    /// How series that the model was not fitted on are forecast, in words; `None` if they cannot be: networks that do not share
    /// their units have a regression for each series.
    pub(super) fn takes_new(&self) -> Option<&'static str> {
        match self.networks.as_slice() {
            [] => Some("fitted to their own rows"),
            networks => networks
                .iter()
                .all(|(_, fitted)| fitted.settings().shared)
                .then_some("scaled by their own rows"),
        }
    }

    /// Whether forecasts depend on the moment at which the model's table began.
    pub(super) fn counts_moments(&self) -> bool {
        self.networks.iter().any(|(_, fitted)| !fitted.settings().shared)
    }

    /// Takes the series of a table: what is known beside them, their numbers among those before (at first those of the
    /// training), their lengths and delays.
    pub(super) fn put(
        &mut self,
        beside: Beside,
        from: &[Option<usize>],
        lengths: &[usize],
        delays: Vec<usize>,
    ) -> Result<(), Failure> {
        let lengths: Vec<usize> = lengths.iter().zip(&delays).map(|(len, by)| len + by).collect();
        for (_, fitted) in &mut self.networks {
            fitted.put_series(&beside.delayed(&delays), from, &lengths)?;
        }
        (self.beside, self.delays) = (beside, delays);
        Ok(())
    }

    /// The constant values that the training did not have.
    pub(super) fn unseen(&self, series: usize) -> Vec<Unseen> {
        self.networks.first().map_or_else(Vec::new, |(_, fitted)| fitted.unseen(series))
    }

    /// Forecasts the block after each series.
    pub(super) fn forecast(&self, series: &[&[f64]]) -> Result<Block, Failure> {
        let size = (series.len(), self.saved.horizon);
        let mut block = Block { forecasts: Array2::zeros(size), bands: None, failed: BTreeMap::new() };
        let mut bands = Vec::new();
        for name in self.names() {
            let forecasts = match self.networks.iter().find(|(network, _)| network == name) {
                Some((_, fitted)) => {
                    let (forecasts, own) = self.by_network(fitted, series, &mut block.failed)?;
                    bands.push(own);
                    forecasts
                }
                None => self.by_model(name, series, &mut block.failed)?,
            };
            block.forecasts += &forecasts;
        }
        block.forecasts /= self.names().len() as f64;
        block.bands = mean_band(bands.iter());
        Ok(block)
    }

    /// Forecasts from these places, series and origins. Classical models are fitted to the samples of each series before its end
    /// in `ends`; a series that is too short there fails with all its places.
    ///
    /// # Errors
    /// Those of the networks and the device.
    pub(super) fn forecast_from(
        &self,
        series: &[&[f64]],
        places: &[(usize, usize)],
        ends: &[usize],
    ) -> Result<Block, Failure> {
        let horizon = self.saved.horizon;
        let mut sum = Array2::zeros((places.len(), horizon));
        let (mut bands, mut failed) = (Vec::new(), BTreeMap::new());
        for name in self.names() {
            if let Some((_, fitted)) = self.networks.iter().find(|(network, _)| network == name) {
                let delayed = self.delayed(series);
                let least = least(fitted);
                let is_long = |row: &usize| ends[places[*row].0] >= least;
                let (long, short): (Vec<usize>, Vec<usize>) = (0..places.len()).partition(is_long);
                for row in short {
                    let at = places[row].0;
                    failed.entry(at).or_insert_with(|| too_short(least, ends[at]));
                }
                let known = |row: &usize| {
                    let (at, origin) = places[*row];
                    (at, &delayed[at][..self.delays[at] + origin])
                };
                let known: Vec<(usize, &[f64])> = long.iter().map(known).collect();
                let (forecasts, own) = self.of_rows(fitted, &known, &long, places.len())?;
                sum += &forecasts;
                bands.push(own);
                continue;
            }
            let (model, beside) = self.classical(name, series)?;
            let mut row = 0;
            for run in places.chunk_by(|one, next| one.0 == next.0) {
                let (at, covariates) = (run[0].0, beside.covariates(run[0].0));
                let found = model.fit_with(&series[at][..ends[at]], covariates).and_then(|fitted| {
                    let from = |(_, origin): &(usize, usize)| {
                        let known = &series[at][..*origin];
                        fitted.forecasts_with(known, covariates, *origin..*origin + 1, horizon)
                    };
                    run.iter().map(from).collect::<Result<Vec<_>, _>>()
                });
                match found {
                    Ok(found) => found.iter().zip(row..).for_each(|(found, row)| {
                        sum.row_mut(row).zip_mut_with(&found.row(0), |sum, value| *sum += value);
                    }),
                    Err(error) => {
                        failed.entry(at).or_insert_with(|| error.to_string());
                        sum.slice_mut(s![row..row + run.len(), ..]).fill(f64::NAN);
                    }
                }
                row += run.len();
            }
        }
        Ok(Block { forecasts: sum / self.names().len() as f64, bands: mean_band(bands.iter()), failed })
    }

    /// Each series after the moments by which it starts later than that of the training.
    fn delayed<'s>(&self, series: &[&'s [f64]]) -> Vec<Cow<'s, [f64]>> {
        let delayed = |(at, by): (usize, &usize)| match by {
            0 => Cow::Borrowed(series[at]),
            by => Cow::Owned([vec![f64::NAN; *by].as_slice(), series[at]].concat()),
        };
        self.delays.iter().enumerate().map(delayed).collect()
    }

    /// A network counts moments from the first sample that it was trained on.
    fn by_network(
        &self,
        fitted: &Fitted,
        series: &[&[f64]],
        failed: &mut BTreeMap<usize, String>,
    ) -> Result<(Array2<f64>, Array3<f64>), Failure> {
        let least = least(fitted);
        let delayed = self.delayed(series);
        let (long, short): (Vec<usize>, Vec<usize>) =
            (0..series.len()).partition(|at| series[*at].len() >= least);
        for at in short {
            let found = series[at].len();
            failed.entry(at).or_insert_with(|| too_short(least, found));
        }
        let known: Vec<(usize, &[f64])> = long.iter().map(|at| (*at, delayed[*at].as_ref())).collect();
        self.of_rows(fitted, &known, &long, series.len())
    }

    /// The forecasts and bands of a network from what is known before each of some of `count` rows; NaN for the others.
    fn of_rows(
        &self,
        fitted: &Fitted,
        known: &[(usize, &[f64])],
        rows: &[usize],
        count: usize,
    ) -> Result<(Array2<f64>, Array3<f64>), Failure> {
        let horizon = self.saved.horizon;
        let mut forecasts = Array2::from_elem((count, horizon), f64::NAN);
        let mut bands = Array3::from_elem((2, count, horizon), f64::NAN);
        if known.is_empty() {
            return Ok((forecasts, bands));
        }
        let (some, some_bands) = fitted.forecast_bands(known)?;
        for (row, at) in rows.iter().copied().enumerate() {
            forecasts.row_mut(at).assign(&some.row(row));
            for end in 0..2 {
                for k in 0..horizon {
                    bands[[end, at, k]] = some_bands[[end, row, k]];
                }
            }
        }
        Ok((forecasts, bands))
    }

    /// A classical model is fitted to the table again.
    fn by_model(
        &self,
        name: &str,
        series: &[&[f64]],
        failed: &mut BTreeMap<usize, String>,
    ) -> Result<Array2<f64>, Failure> {
        let (model, beside) = self.classical(name, series)?;
        let mut forecasts = Array2::from_elem((series.len(), self.saved.horizon), f64::NAN);
        for (at, (mut row, values)) in forecasts.rows_mut().into_iter().zip(series).enumerate() {
            let (covariates, end) = (beside.covariates(at), values.len());
            let found = model.fit_with(values, covariates).and_then(|fitted| {
                fitted.forecasts_with(values, covariates, end..end + 1, self.saved.horizon)
            });
            match found {
                Ok(found) => row.assign(&found.row(0)),
                Err(error) => {
                    failed.entry(at).or_insert_with(|| error.to_string());
                }
            }
        }
        Ok(forecasts)
    }

    /// A classical model of the run, and what it may read.
    fn classical(&self, name: &str, series: &[&[f64]]) -> Result<(Box<dyn Model>, Beside), Failure> {
        let saved = self.saved;
        let seasons = Seasons::new(&saved.seasons);
        // As many series as the run had: the regression is a quicker one for many.
        let series: Vec<&[f64]> = (0..saved.names.len()).map(|at| series[at % series.len()]).collect();
        let lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
        let settings = Settings {
            beside: self.beside.clone(),
            ..Settings::new(saved.horizon, seasons.shortest(), &lengths)
        };
        let names = MODELS.map(str::to_owned);
        let all = candidates(Some(&names), &seasons, &settings, &series)?;
        let found = all.into_iter().find_map(|candidate| match candidate {
            Candidate::PerSeries(model, beside) if model.name() == name => Some((model, beside)),
            _ => None,
        });
        found.ok_or_else(|| {
            Failure::failed(format!(
                "{}: the model {name} is not known to this version; train the model again",
                self.folder.path().display()
            ))
        })
    }
}
