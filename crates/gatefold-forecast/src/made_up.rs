use std::ops::Range;
use std::sync::Arc;

/// The samples of each series that no one measured: values that were made up to fill gaps. Models are fitted on them, read
/// them, and choose their own options (a window, a penalty, an order) by errors at them too. But no error is measured at them
/// that touches a score, an interval, the updates of a network or the choice between models.
///
/// A fill that looks ahead, such as a straight line to the next value, lets the samples before an origin know the samples
/// after it. No error is measured after an origin whose newest sample, or that of a column read beside it, was made up in this
/// way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MadeUp {
    /// The places in each series, in order; empty if there are none at all.
    series: Arc<[Box<[usize]>]>,
    looks_ahead: bool,
    /// Places of made-up values in the columns that are read beside each series, in order, if their fill looks ahead.
    beside: Arc<[Box<[usize]>]>,
}

fn has(series: &[Box<[usize]>], at: usize, sample: usize) -> bool {
    series.get(at).is_some_and(|places| places.binary_search(&sample).is_ok())
}

impl MadeUp {
    /// The places of made-up samples in each series, in order; `looks_ahead` tells whether the fill knew what comes after them.
    pub fn new<'a>(series: impl IntoIterator<Item = &'a [usize]>, looks_ahead: bool) -> MadeUp {
        let series: Vec<Box<[usize]>> = series.into_iter().map(Box::from).collect();
        match series.iter().all(|places| places.is_empty()) {
            true => MadeUp { looks_ahead, ..MadeUp::default() },
            false => MadeUp { series: series.into(), looks_ahead, beside: Arc::default() },
        }
    }

    /// The same with the places of made-up values in the columns that models read beside each series up to an origin, filled
    /// in the same way. They are no truth, so only a fill that looks ahead matters.
    pub fn beside(self, series: impl IntoIterator<Item = Vec<usize>>) -> MadeUp {
        if !self.looks_ahead {
            return self;
        }
        let sorted = series.into_iter().map(|mut places| {
            places.sort_unstable();
            places.into()
        });
        let beside: Vec<Box<[usize]>> = sorted.collect();
        match beside.iter().all(|places| places.is_empty()) {
            true => self,
            false => MadeUp { beside: beside.into(), ..self },
        }
    }

    /// Whether no sample of any series was made up.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn places(&self, series: usize) -> &[usize] {
        self.series.get(series).map_or(&[], |places| places)
    }

    /// Whether a sample of a series was made up.
    pub fn has(&self, series: usize, sample: usize) -> bool {
        has(&self.series, series, sample)
    }

    /// The made-up samples of a series within a range.
    pub fn within(&self, series: usize, range: Range<usize>) -> usize {
        let before = |end: usize| self.places(series).partition_point(|place| *place < end);
        before(range.end).saturating_sub(before(range.start))
    }

    /// Whether a forecast of `sample` from `origin`, the number of known samples, is measured.
    pub fn counts(&self, series: usize, origin: usize, sample: usize) -> bool {
        let ahead =
            |newest: usize| self.looks_ahead && self.has(series, newest) || has(&self.beside, series, newest);
        let knows = origin.checked_sub(1).is_some_and(ahead);
        !knows && !self.has(series, sample)
    }

    /// Whether no forecast of `horizon` samples from these origins, which follow from the length of a series, is measured.
    pub(crate) fn leaves_nothing(
        &self,
        series: &[&[f64]],
        horizon: usize,
        origins: impl Fn(usize) -> Vec<usize>,
    ) -> bool {
        let measured = |(at, values): (usize, &&[f64])| {
            let counts = |origin: usize| (0..horizon).any(|k| self.counts(at, origin, origin + k));
            origins(values.len()).into_iter().any(counts)
        };
        let none = self.is_empty() && self.beside.is_empty();
        !none && !series.iter().enumerate().any(measured)
    }

    /// The sample that lies `k` samples after `origin`, to measure a forecast by: NaN where it does not count. `values` is the
    /// whole series.
    pub fn truth(&self, series: usize, values: &[f64], origin: usize, k: usize) -> f64 {
        if self.counts(series, origin, origin + k) { values[origin + k] } else { f64::NAN }
    }
}

#[cfg(test)]
mod tests;
