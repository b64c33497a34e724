//! The classical seasonal decomposition, and the test for a season that goes before it.

/// The normal quantile of a two-sided test at 90 %.
const NORMAL_90: f64 = 1.645;

/// How a season joins the rest of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// `y = rest + season`
    Sum,
    /// `y = rest * season`
    Product,
}

impl Join {
    /// Products for positive series, sums for others.
    pub(crate) fn for_series(series: &[f64]) -> Join {
        if series.iter().all(|sample| *sample > 0.0) { Join::Product } else { Join::Sum }
    }

    pub(crate) fn add(self, rest: f64, season: f64) -> f64 {
        match self {
            Join::Sum => rest + season,
            Join::Product => rest * season,
        }
    }

    pub(crate) fn remove(self, sample: f64, season: f64) -> f64 {
        match self {
            Join::Sum => sample - season,
            Join::Product => sample / season,
        }
    }
}

/// The seasonal indices of a series; the index of sample `t` is `indices[t % indices.len()]`.
#[derive(Clone, Debug)]
pub(crate) struct Seasonal {
    pub(crate) indices: Vec<f64>,
    pub(crate) join: Join,
}

impl Seasonal {
    /// No season: one index that changes nothing.
    pub(crate) fn none() -> Seasonal {
        Seasonal { indices: vec![0.0], join: Join::Sum }
    }

    /// The season as the M4 competition's benchmarks have it (Makridakis, Spiliotis and Assimakopoulos 2020, "The M4
    /// competition"): if [`is_seasonal`], the indices of the classical decomposition, a product for a positive series
    /// and a sum for others; none otherwise.
    pub(crate) fn of_m4(series: &[f64], season: usize) -> Seasonal {
        if is_seasonal(series, season) {
            Seasonal::classical(series, season, Join::for_series(series))
        } else {
            Seasonal::none()
        }
    }

    /// The indices of the classical decomposition: the mean, over the seasons, of each sample beside the centred
    /// moving average of one season; scaled to a mean of 1, or moved to a mean of 0. Needs two seasons.
    pub(crate) fn classical(series: &[f64], season: usize, join: Join) -> Seasonal {
        let mut sums = vec![(0.0, 0u32); season];
        for (t, trend) in moving_average(series, season) {
            let (sum, count) = &mut sums[t % season];
            *sum += join.remove(series[t], trend);
            *count += 1;
        }
        let mut indices: Vec<f64> =
            sums.iter().map(|(sum, count)| sum / f64::from(*count).max(1.0)).collect();
        let mean = indices.iter().sum::<f64>() / season as f64;
        indices.iter_mut().for_each(|index| *index = join.remove(*index, mean));
        let usable = |index: &f64| index.is_finite() && (join == Join::Sum || *index > 0.0);
        if indices.iter().all(usable) { Seasonal { indices, join } } else { Seasonal::none() }
    }

    pub(crate) fn at(&self, t: usize) -> f64 {
        self.indices[t % self.indices.len()]
    }

    /// Sample `t` without its season.
    pub(crate) fn remove(&self, t: usize, sample: f64) -> f64 {
        self.join.remove(sample, self.at(t))
    }

    /// A forecast of sample `t` with its season.
    pub(crate) fn add(&self, t: usize, rest: f64) -> f64 {
        self.join.add(rest, self.at(t))
    }
}

/// The centred moving average over one season, with each moment that has one. An even season takes half of both ends.
fn moving_average(series: &[f64], season: usize) -> impl Iterator<Item = (usize, f64)> {
    let half = season / 2;
    let even = season.is_multiple_of(2);
    (half..series.len().saturating_sub(half)).map(move |t| {
        let window = &series[t - half..=t + half];
        let sum: f64 = window.iter().sum();
        let ends = if even { 0.5 * (window[0] + window[2 * half]) } else { 0.0 };
        (t, (sum - ends) / season as f64)
    })
}

/// The strength of a season, from 0 to 1: the share of the variance about the trend that the season takes away (Wang, Smith
/// and Hyndman 2006, "Characteristic-based clustering for time series data"). Needs two seasons.
pub(crate) fn seasonal_strength(series: &[f64], season: usize) -> f64 {
    let seasonal = Seasonal::classical(series, season, Join::Sum);
    let rest: Vec<(f64, f64)> = moving_average(series, season)
        .map(|(t, trend)| (series[t] - trend, series[t] - trend - seasonal.at(t)))
        .collect();
    let variance = |of: fn(&(f64, f64)) -> f64| {
        let mean = rest.iter().map(of).sum::<f64>() / rest.len() as f64;
        rest.iter().map(|pair| (of(pair) - mean).powi(2)).sum::<f64>()
    };
    let (with, without) = (variance(|pair| pair.0), variance(|pair| pair.1));
    if with > 0.0 { (1.0 - without / with).max(0.0) } else { 0.0 }
}

/// Tests for a season as the M4 competition did: the autocorrelation at the season's lag lies outside its 90 % limits
/// under the hypothesis that no longer lag correlates, `1.645 sqrt((1 + 2 sum r(k)^2, k < m) / n)` (Bartlett 1946).
/// A season of 1, a constant series and one of fewer than three seasons have none.
pub(crate) fn is_seasonal(series: &[f64], season: usize) -> bool {
    let n = series.len();
    if season < 2 || n < 3 * season {
        return false;
    }
    let mean = series.iter().sum::<f64>() / n as f64;
    let centred: Vec<f64> = series.iter().map(|sample| sample - mean).collect();
    let product = |lag: usize| centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>();
    let variance = product(0);
    if !variance.is_normal() {
        return false;
    }
    let r: Vec<f64> = (1..=season).map(|lag| product(lag) / variance).collect();
    let before: f64 = r[..season - 1].iter().map(|r| r * r).sum();
    r[season - 1].abs() > NORMAL_90 * ((1.0 + 2.0 * before) / n as f64).sqrt()
}
