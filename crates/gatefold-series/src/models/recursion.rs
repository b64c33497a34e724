use super::FittedModel;
use crate::SeriesError;
use ndarray::Array2;
use std::fmt::Debug;
use std::ops::Range;

/// The largest magnitude of a sample. Its square, summed over a series, is still far from overflow.
const LARGEST: f64 = 1e100;

/// Forecasts of an unstable recursion end this many spans of the fitted series away from its mean, short of overflow.
const MOST_SPANS: f64 = 1e6;

/// The ends between which the forecasts of a recursion stay, though it may be unstable.
pub(crate) fn bounds(series: &[f64]) -> (f64, f64) {
    let low = series.iter().copied().fold(f64::INFINITY, f64::min);
    let high = series.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let centre = series.iter().sum::<f64>() / series.len() as f64;
    let room = MOST_SPANS * (high - low).max(high.abs()).max(low.abs());
    (centre - room, centre + room)
}

/// Checks that a series has at least `least` samples, all of them finite numbers.
pub(crate) fn check(model: &str, series: &[f64], least: usize) -> Result<(), SeriesError> {
    check_numbers(model, series, least, false)
}

/// As [`check`]; NaN passes, where it means a missing sample.
pub(crate) fn check_with_gaps(model: &str, series: &[f64], least: usize) -> Result<(), SeriesError> {
    check_numbers(model, series, least, true)
}

fn check_numbers(model: &str, series: &[f64], least: usize, gaps: bool) -> Result<(), SeriesError> {
    let refuse = |problem: String| Err(SeriesError::Series(format!("the model '{model}' {problem}")));
    let known = series.iter().filter(|sample| !sample.is_nan()).count();
    if series.len() < least || (gaps && known < least) {
        let found = if gaps { known } else { series.len() };
        return refuse(format!("needs at least {least} samples; found {found}; add samples"));
    }
    match series.iter().position(|sample| sample.abs() > LARGEST || (sample.is_nan() && !gaps)) {
        None => Ok(()),
        Some(at) if series[at].is_nan() => refuse(format!(
            "needs a number for every sample; found NaN at sample {} of {}; fill the gaps first, or use 'kalman'",
            at + 1,
            series.len()
        )),
        Some(at) => refuse(format!(
            "needs samples between -{LARGEST:e} and {LARGEST:e}; found {} at sample {} of {}; scale the series",
            series[at],
            at + 1,
            series.len()
        )),
    }
}

/// Checks that every origin has `needed` samples before it and lies within the series. There must be origins.
pub(crate) fn check_origins(
    model: &str,
    needed: usize,
    series: &[f64],
    origins: &Range<usize>,
) -> Result<(), SeriesError> {
    let last = origins.end - 1;
    if last <= series.len() && origins.start >= needed {
        return Ok(());
    }
    Err(SeriesError::Series(format!(
        "the model '{model}' needs {needed} samples before its first forecast, and no origin past the end of the series; \
         found origins {} to {last} in {} samples",
        origins.start,
        series.len()
    )))
}

/// A fitted model that carries a state from sample to sample. Every such model is a [`FittedModel`].
pub(crate) trait Recursion: Debug + Send + Sync {
    /// Whatever is carried through time: a level, a season, the last samples.
    type State;

    /// The model's name, for messages.
    fn name(&self) -> String;

    /// The number of samples that a forecast needs before it.
    fn needed(&self) -> usize {
        1
    }

    /// Whether NaN means a missing sample; otherwise it is refused.
    fn takes_gaps(&self) -> bool {
        false
    }

    /// The state before the first sample.
    fn start(&self) -> Self::State;

    /// Takes in the next sample.
    fn follow(&self, state: &mut Self::State, sample: f64);

    /// Writes the forecasts of the next samples.
    fn ahead(&self, state: &Self::State, out: &mut [f64]);

    /// The choices that the fit made, in a few words.
    fn choice(&self) -> Option<String> {
        None
    }
}

impl<R: Recursion> FittedModel for R {
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
        let last = origins.end - 1;
        check_origins(&self.name(), self.needed(), series, &origins)?;
        check_numbers(&self.name(), &series[..last], 0, self.takes_gaps())?;
        let mut state = self.start();
        series[..origins.start].iter().for_each(|sample| self.follow(&mut state, *sample));
        let mut block = vec![0.0; horizon];
        for (mut row, origin) in out.rows_mut().into_iter().zip(origins) {
            self.ahead(&state, &mut block);
            row.iter_mut().zip(&block).for_each(|(to, from)| *to = *from);
            if origin < last {
                self.follow(&mut state, series[origin]);
            }
        }
        Ok(out)
    }

    fn describe(&self) -> Option<String> {
        self.choice()
    }
}
