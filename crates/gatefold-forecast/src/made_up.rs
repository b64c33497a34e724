use std::ops::Range;
use std::sync::Arc;

/// The samples of each series that no one measured: values that were made up to fill gaps. Models are fitted on them and read
/// them, but no error is measured at them, so that they touch no score, no interval and no choice.
///
/// A fill that looks ahead, such as a straight line to the next value, lets the samples before an origin know the samples
/// after it. No error is measured after an origin whose newest sample was made up in this way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MadeUp {
    /// The places in each series, in order; empty if there are none at all.
    series: Arc<[Box<[usize]>]>,
    looks_ahead: bool,
}

impl MadeUp {
    /// The places of made-up samples in each series, in order; `looks_ahead` tells whether the fill knew what comes after them.
    pub fn new<'a>(series: impl IntoIterator<Item = &'a [usize]>, looks_ahead: bool) -> MadeUp {
        let series: Vec<Box<[usize]>> = series.into_iter().map(Box::from).collect();
        match series.iter().all(|places| places.is_empty()) {
            true => MadeUp::default(),
            false => MadeUp { series: series.into(), looks_ahead },
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn places(&self, series: usize) -> &[usize] {
        self.series.get(series).map_or(&[], |places| places)
    }

    /// Whether a sample of a series was made up.
    pub fn has(&self, series: usize, sample: usize) -> bool {
        self.places(series).binary_search(&sample).is_ok()
    }

    /// The made-up samples of a series within a range.
    pub fn within(&self, series: usize, range: Range<usize>) -> usize {
        let before = |end: usize| self.places(series).partition_point(|place| *place < end);
        before(range.end).saturating_sub(before(range.start))
    }

    /// Whether a forecast of `sample` from `origin`, the number of known samples, is measured.
    pub fn counts(&self, series: usize, origin: usize, sample: usize) -> bool {
        let knows = self.looks_ahead && origin > 0 && self.has(series, origin - 1);
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
        !self.is_empty() && !series.iter().enumerate().any(measured)
    }

    /// The sample that lies `k` samples after `origin`, to measure a forecast by: NaN where it does not count. `values` is the
    /// whole series.
    pub fn truth(&self, series: usize, values: &[f64], origin: usize, k: usize) -> f64 {
        if self.counts(series, origin, origin + k) { values[origin + k] } else { f64::NAN }
    }
}

#[cfg(test)]
mod tests;
