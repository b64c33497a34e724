use super::ets::{Ets, FittedEts};
use super::recursion::{Recursion, check, check_origins};
use super::{FittedModel, Model};
use crate::SeriesError;
use ndarray::Array2;
use std::ops::Range;
use stlrs::Mstl as Decomposition;

/// Decomposes a series into a trend, one season or several, and a remainder, by locally weighted regression (Cleveland et
/// al. 1990, "STL"; Bandara, Hyndman and Bergmeir 2021, "MSTL", whose windows it takes). The last season of each repeats;
/// the rest is forecast by exponential smoothing without season, its form chosen as in [`Ets`].
///
/// As samples follow the fitted ones, the parameters of the smoothing stay, and the decomposition is done again after each
/// of the longest seasons. A season that does not fit into the series twice is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mstl {
    seasons: Vec<usize>,
}

impl Mstl {
    /// A model of the given seasons, in samples, such as 24 and 168 for hours.
    pub fn new(seasons: &[usize]) -> Self {
        let mut seasons: Vec<usize> = seasons.iter().copied().filter(|season| *season >= 2).collect();
        seasons.sort_unstable();
        seasons.dedup();
        Mstl { seasons }
    }
}

impl Model for Mstl {
    fn name(&self) -> String {
        "mstl".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        check(&self.name(), series, 1)?;
        let seasons: Vec<usize> =
            self.seasons.iter().copied().filter(|season| series.len() >= 2 * season).collect();
        let parts = Seasons::of(series, &seasons)?;
        let rest: Vec<f64> = series.iter().enumerate().map(|(t, y)| y - parts.at(t)).collect();
        Ok(Box::new(FittedMstl { smoothing: Ets::automatic(1).fit_form(&rest)?, parts, seasons }))
    }
}

/// The seasonal parts of the first samples.
#[derive(Clone, Debug)]
struct Seasons {
    samples: usize,
    /// Each season's length and its part of every sample.
    parts: Vec<(usize, Vec<f64>)>,
}

impl Seasons {
    fn of(series: &[f64], seasons: &[usize]) -> Result<Seasons, SeriesError> {
        let mut parts = Vec::new();
        if !seasons.is_empty() {
            let found = Decomposition::fit(series, seasons).map_err(|error| {
                SeriesError::Series(format!("the model 'mstl' cannot decompose: {error}"))
            })?;
            parts = seasons.iter().copied().zip(found.seasonal().iter().map(|part| part.to_vec())).collect();
        }
        Ok(Seasons { samples: series.len(), parts })
    }

    /// The sum of all seasons at sample `t`; past the decomposed samples, the last of each season repeats.
    fn at(&self, t: usize) -> f64 {
        let of = |(season, part): &(usize, Vec<f64>)| match part.get(t) {
            Some(value) => *value,
            None => part[self.samples - season + (t - self.samples) % season],
        };
        self.parts.iter().map(of).sum()
    }
}

#[derive(Clone, Debug)]
struct FittedMstl {
    seasons: Vec<usize>,
    parts: Seasons,
    smoothing: FittedEts,
}

impl FittedMstl {
    /// The number of samples to decompose before a forecast: the fitted ones and the longest seasons after them.
    fn decomposed(&self, origin: usize) -> usize {
        let fitted = self.parts.samples;
        let longest = self.seasons.last().copied().unwrap_or(usize::MAX);
        fitted + origin.saturating_sub(fitted) / longest * longest
    }
}

impl FittedModel for FittedMstl {
    fn describe(&self) -> Option<String> {
        let seasons: Vec<String> = self.seasons.iter().map(ToString::to_string).collect();
        Some(format!("seasons of {}, ets {}", seasons.join(" and "), self.smoothing.form()))
    }

    fn forecasts(
        &self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        let mut out = Array2::zeros((origins.len(), horizon));
        if origins.is_empty() {
            return Ok(out);
        }
        check_origins("mstl", 1, series, &origins)?;
        check("mstl", &series[..origins.end - 1], 1)?;
        let mut parts = self.parts.clone();
        let (mut states, mut followed) = (self.smoothing.start(), 0);
        let mut block = vec![0.0; horizon];
        for (mut row, origin) in out.rows_mut().into_iter().zip(origins) {
            if parts.samples != self.decomposed(origin) {
                parts = Seasons::of(&series[..self.decomposed(origin)], &self.seasons)?;
                (states, followed) = (self.smoothing.start(), 0);
            }
            for (t, sample) in (followed..origin).zip(&series[followed..]) {
                self.smoothing.follow(&mut states, sample - parts.at(t));
            }
            followed = origin;
            self.smoothing.ahead(&states, &mut block);
            for (k, value) in row.iter_mut().enumerate() {
                *value = block[k] + parts.at(origin + k);
            }
        }
        Ok(out)
    }
}
