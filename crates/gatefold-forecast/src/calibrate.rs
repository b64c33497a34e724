//! Intervals from the errors that a model made on samples it had not seen.

use crate::plan::MANY;
use gatefold_series::mean_of;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Origins whose errors are kept as they follow each other, at most.
const PATHS: usize = 500;

/// How far intervals must reach, from errors on a validation part: multiples of a band around the forecast, and which
/// multiple held how many of the errors.
///
/// The band of a model that forecasts points is the mean error at each step, which never falls from step to step, times its
/// series' own unit (split conformal prediction; Vovk, Gammerman and Shafer 2005; Lei et al. 2018). A network gives the band
/// itself: how far its quantiles lie below and above its median at each step (conformalised quantile regression; Romano,
/// Patterson and Candes 2019, with the scores of Kivaranovic, Johnson and Leeb 2020, which stretch the band instead of
/// moving its ends, so that they serve series of every scale and intervals of every probability).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The band of each step in units; empty if the model gives its own.
    spread: Vec<f64>,
    scores: Vec<f64>,
    /// How far the truth lay from the forecast at each step after some origins, in multiples of the band on that side.
    /// `None` where the truth is not known.
    #[serde(default)]
    paths: Vec<Vec<Option<f32>>>,
}

/// The ends of intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intervals {
    /// The band, stretched by one factor so that it holds its share of all errors.
    #[default]
    Calibrated,
    /// Quantiles of the errors at each step, which may lie further on one side than on the other.
    Sampled,
}

impl Calibration {
    /// Measures errors `[origin][step]` that are divided by their series' unit; NaN stands for one that is not known. `None`
    /// without any.
    pub fn new(errors: &[Vec<f64>]) -> Option<Calibration> {
        let horizon = errors.first()?.len();
        let mean = |k: usize| mean_of(errors.iter().map(|row| row[k].abs()));
        let mut spread = bridged((0..horizon).map(mean).collect())?;
        monotonous(&mut spread);
        let least = spread.iter().fold(0.0f64, |most, value| most.max(*value)) * 1e-9;
        spread.iter_mut().for_each(|value| *value = value.max(least).max(f64::MIN_POSITIVE));
        let scores =
            errors.iter().flat_map(|row| row.iter().zip(&spread).map(|(error, spread)| error.abs() / spread));
        let scores = sorted(scores.filter(|score| score.is_finite()));
        let path = |row: &Vec<f64>| row.iter().zip(&spread).map(|(error, spread)| -error / spread).collect();
        let paths = paths(errors.iter().map(path).collect());
        (!scores.is_empty()).then_some(Calibration { spread, scores, paths })
    }

    /// Measures errors, forecast minus truth, beside the model's own bands: how far they reach below and above the forecast.
    /// Those of one origin's `horizon` steps follow each other. `None` without any.
    pub fn of_bands(errors: impl Iterator<Item = (f64, [f64; 2])>, horizon: usize) -> Option<Calibration> {
        let signed = |(error, [below, above]): (f64, [f64; 2])| {
            let band = if error > 0.0 { below } else { above };
            -error / band.max(f64::MIN_POSITIVE)
        };
        let signed: Vec<f64> = errors.map(signed).collect();
        let paths = paths(signed.chunks_exact(horizon.max(1)).map(<[f64]>::to_vec).collect());
        let scores = signed.iter().map(|multiple| multiple.abs()).filter(|score| !score.is_nan());
        let scores = sorted(scores.map(|score| score.min(f64::MAX))); // a file has no infinity
        (!scores.is_empty()).then_some(Calibration { spread: Vec::new(), scores, paths })
    }

    /// The multiple of the band that an interval of this probability reaches. `None` if there are too few errors for it: an
    /// interval of 95 % needs 19.
    pub fn factor(&self, probability: f64) -> Option<f64> {
        let rank = (probability * (self.scores.len() + 1) as f64).ceil() as usize;
        self.scores.get(rank.max(1) - 1).copied().filter(|factor| *factor < f64::MAX)
    }

    /// The band at step `k` of a series with this unit, below and above the forecast; `given` is that of the model, if it
    /// has one.
    ///
    /// # Panics
    /// If the model's own band is expected and not given.
    pub fn band(&self, k: usize, unit: f64, given: Option<[f64; 2]>) -> [f64; 2] {
        match self.spread.get(k) {
            Some(spread) => [spread * unit; 2],
            None => given.expect("a model that was calibrated with its bands gives them"),
        }
    }

    /// The multiples of the band, below and above the forecast, between which the errors at step `k` lie with this
    /// probability, as many beyond one end as beyond the other. `None` if there are too few origins for it: an interval of
    /// 95 % needs 39.
    pub fn sampled(&self, k: usize, probability: f64) -> Option<[f64; 2]> {
        let multiples = sorted(self.paths.iter().filter_map(|path| path[k].map(f64::from)));
        let beyond = ((1.0 - probability) / 2.0 * (multiples.len() + 1) as f64 + 1e-9).floor() as usize;
        Some([*multiples.get(beyond.checked_sub(1)?)?, multiples[multiples.len() - beyond]])
    }

    /// One future of a series: its forecast, changed as the truth differed from the forecasts after an origin that is drawn
    /// by `random`, so that its steps go together as the errors do. A step whose truth is not known differs as the nearest one
    /// does. `bands` are the model's own, for each step. `None` without errors.
    pub fn draw(
        &self,
        forecast: &[f64],
        unit: f64,
        bands: impl Fn(usize) -> Option<[f64; 2]>,
        random: &mut impl Rng,
    ) -> Option<Vec<f64>> {
        let path = self.paths.get(random.random_range(0..self.paths.len().max(1)))?;
        let nearest = |k: usize| {
            let known = (0..path.len()).filter_map(|at| Some((at.abs_diff(k), path[at]?)));
            known.min_by_key(|(away, _)| *away).map(|(_, multiple)| f64::from(multiple))
        };
        let step = |(k, forecast): (usize, &f64)| {
            let multiple = nearest(k)?;
            let side = usize::from(multiple > 0.0);
            Some(forecast + multiple * self.band(k, unit, bands(k))[side])
        };
        forecast.iter().enumerate().map(step).collect()
    }

    /// Half the width of the interval of this probability at each step, in the unit of the errors. `None` if there are too few
    /// errors for it, or the model gives bands of its own.
    pub fn half_widths(&self, probability: f64) -> Option<Vec<f64>> {
        let factor = self.factor(probability).filter(|_| !self.spread.is_empty())?;
        Some(self.spread.iter().map(|spread| factor * spread).collect())
    }
}

/// The calibrations of a model: one for all series, or one for each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibrations {
    of: Vec<Calibration>,
    /// The one for series that the errors do not come from, where each of those has its own.
    #[serde(default)]
    shared: Option<Calibration>,
}

/// Errors that a series must have for a calibration of its own: what an interval of 95 % needs on both sides.
const OWN: usize = 39;

impl Calibrations {
    /// One calibration for all series.
    pub fn shared(calibration: Option<Calibration>) -> Calibrations {
        Calibrations { of: calibration.into_iter().collect(), shared: None }
    }

    /// A calibration for each series where there are but a few, whose sizes may have nothing in common, and errors enough
    /// for each, `fewest` of one; else one for all.
    pub(crate) fn new(
        (series, fewest): (usize, usize),
        calibration: impl Fn(Option<usize>) -> Option<Calibration>,
    ) -> Calibrations {
        let each = (2..MANY).contains(&series) && fewest >= OWN;
        let of: Option<Vec<Calibration>> =
            each.then(|| (0..series).map(|at| calibration(Some(at))).collect()).flatten();
        let shared = calibration(None);
        match of {
            Some(of) => Calibrations { of, shared },
            None => Calibrations::shared(shared),
        }
    }

    /// The calibration for a series, by its number; `None` without errors.
    pub fn of(&self, series: usize) -> Option<&Calibration> {
        self.of.get(if self.of.len() == 1 { 0 } else { series })
    }

    /// The calibration for a series that no errors are known of: that of all; `None` without errors.
    pub fn of_new(&self) -> Option<&Calibration> {
        self.shared.as_ref().or_else(|| self.of.first().filter(|_| self.of.len() == 1))
    }
}

/// At most [`PATHS`] of these rows, evenly spread; those with an infinite number, or of NaN alone, are left out.
fn paths(rows: Vec<Vec<f64>>) -> Vec<Vec<Option<f32>>> {
    let every = rows.len().div_ceil(PATHS).max(1);
    let known = |multiple: f64| (!multiple.is_nan()).then_some(multiple as f32);
    let narrow = |row: Vec<f64>| row.into_iter().map(known).collect::<Vec<Option<f32>>>();
    let rows = rows.into_iter().step_by(every).map(narrow);
    rows.filter(|row| {
        row.iter().any(Option::is_some) && row.iter().flatten().all(|multiple| multiple.is_finite())
    })
    .collect()
}

/// These numbers, a NaN being the one before it, or the first that is none; `None` if all are NaN.
fn bridged(mut values: Vec<f64>) -> Option<Vec<f64>> {
    let mut last = *values.iter().find(|value| !value.is_nan())?;
    for value in &mut values {
        if value.is_nan() {
            *value = last;
        }
        last = *value;
    }
    Some(values)
}

fn sorted(scores: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut scores: Vec<f64> = scores.collect();
    scores.sort_unstable_by(f64::total_cmp);
    scores
}

/// The closest values that never fall, by pooling neighbours that do (Ayer et al. 1955).
fn monotonous(values: &mut [f64]) {
    let mut pools: Vec<(f64, usize)> = Vec::with_capacity(values.len());
    for value in values.iter() {
        let mut pool = (*value, 1);
        while let Some(&(mean, count)) = pools.last()
            && mean > pool.0
        {
            pool = ((mean * count as f64 + pool.0 * pool.1 as f64) / (count + pool.1) as f64, count + pool.1);
            pools.pop();
        }
        pools.push(pool);
    }
    let pooled = pools.iter().flat_map(|(mean, count)| std::iter::repeat_n(*mean, *count));
    values.iter_mut().zip(pooled).for_each(|(to, from)| *to = from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn neighbours_that_fall_are_pooled() {
        let mut values = [1.0, 3.0, 2.0, 2.0, 5.0, 4.0];
        monotonous(&mut values);
        assert_eq!(values, [1.0, 7.0 / 3.0, 7.0 / 3.0, 7.0 / 3.0, 4.5, 4.5]);
    }

    #[test]
    fn a_band_is_stretched_until_it_holds_its_share() {
        // Truths lie up to 10 above and 5 below forecasts, and the bands are a fifth of that: the factor of all is 5.
        let errors = (1..=99).map(|at| match at % 2 {
            0 => (0.05 * f64::from(at), [1.0, 2.0]),
            _ => (-0.1 * f64::from(at), [1.0, 2.0]),
        });
        let calibration = Calibration::of_bands(errors, 1).unwrap();
        for probability in [0.5f64, 0.8, 0.95] {
            // The rank among 99 scores of at / 20.
            let expected = (100.0 * probability).ceil() / 20.0;
            assert!((calibration.factor(probability).unwrap() - expected).abs() < 1e-12);
        }
        assert_eq!(calibration.factor(0.999), None, "99 errors say nothing about one in a thousand");
        assert_eq!(calibration.half_widths(0.5), None);
        assert_eq!(calibration.band(0, 7.0, Some([1.0, 2.0])), [1.0, 2.0]);
        // A band without width holds nothing: no finite multiple of it is an interval.
        let flat = Calibration::of_bands((0..40).map(|_| (1e300, [0.0; 2])), 1).unwrap();
        assert_eq!(flat.factor(0.95), None);
        let saved = serde_json::to_string(&flat).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&saved).unwrap(), flat);
    }

    #[test]
    fn an_interval_holds_its_share_of_the_errors() {
        // 200 origins of 3 steps, errors uniform in step k's own range.
        let errors: Vec<Vec<f64>> = (0..200)
            .map(|at| {
                (1..=3).map(|k| f64::from(k) * (f64::from((at * 77 + k * 13) % 200) / 100.0 - 1.0)).collect()
            })
            .collect();
        let calibration = Calibration::new(&errors).unwrap();
        for probability in [0.5, 0.8, 0.95] {
            let half = calibration.half_widths(probability).unwrap();
            let inside =
                errors.iter().flat_map(|row| row.iter().zip(&half)).filter(|(e, half)| e.abs() <= **half);
            let share = inside.count() as f64 / 600.0;
            assert!((probability..probability + 0.02).contains(&share), "{share} of {probability}");
        }
        let half = calibration.half_widths(0.8).unwrap();
        assert!(half.windows(2).all(|pair| pair[0] <= pair[1]));
        // 18 errors say nothing about one in 20.
        let few: Vec<Vec<f64>> = (1..=18).map(|error| vec![f64::from(error)]).collect();
        assert_eq!(Calibration::new(&few).unwrap().half_widths(0.95), None);
        assert_eq!(Calibration::new(&few).unwrap().half_widths(0.9), Some(vec![18.0]));
    }

    /// Errors that lean to one side, and whose two steps have opposite signs.
    fn leaning(origins: usize) -> Vec<Vec<f64>> {
        (0..origins)
            .map(|at| {
                let share = (at as f64 + 0.5) / origins as f64;
                vec![3.0 * share - 1.0, 2.0 * (1.0 - 3.0 * share)]
            })
            .collect()
    }

    #[test]
    fn sampled_ends_lie_where_the_errors_do() {
        let errors = leaning(199);
        let calibration = Calibration::new(&errors).unwrap();
        let by_bands = errors.iter().flatten().map(|error| (*error, [0.5, 2.0]));
        let by_bands = Calibration::of_bands(by_bands, 2).unwrap();
        for probability in [0.5, 0.8, 0.95] {
            // Errors of step 0 are even from -1 to 2: truths lie up to 1 above the forecast, and up to 2 below.
            let half = 1.5 * probability;
            let expected = [-0.5 - half, -0.5 + half];
            let unit = calibration.band(0, 1.0, None)[0];
            let ends = calibration.sampled(0, probability).unwrap().map(|end| end * unit);
            ends.iter()
                .zip(expected)
                .for_each(|(end, expected)| assert!((end - expected).abs() < 0.02, "{ends:?}"));
            let ends = by_bands.sampled(0, probability).unwrap();
            let ends = ends.map(|end| end * if end > 0.0 { 2.0 } else { 0.5 });
            ends.iter()
                .zip(expected)
                .for_each(|(end, expected)| assert!((end - expected).abs() < 0.02, "{ends:?}"));
        }
        assert_eq!(Calibration::new(&leaning(38)).unwrap().sampled(0, 0.95), None);
        assert!(Calibration::new(&leaning(39)).unwrap().sampled(0, 0.95).is_some());
    }

    #[test]
    fn paths_keep_how_steps_go_together() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let calibration = Calibration::new(&leaning(100)).unwrap();
        let mut sum = 0.0;
        for _ in 0..2000 {
            let path = calibration.draw(&[10.0, 20.0], 0.5, |_| None, &mut random).unwrap();
            // The second step goes twice as far to the other side.
            assert!((path[1] - 20.0 + 2.0 * (path[0] - 10.0)).abs() < 1e-5, "{path:?}");
            assert!((9.0..=10.5).contains(&path[0]), "{path:?}");
            sum += path[0] / 2000.0;
        }
        // The unit is one half, and the mean error 0.5.
        assert!((sum - 9.75).abs() < 0.04, "{sum}");
        // A band of the model's own is another one on each side: a path goes as far as the truth did.
        let errors = leaning(100).into_iter().flatten().map(|error| (error, [0.5, 2.0]));
        let calibration = Calibration::of_bands(errors, 2).unwrap();
        for _ in 0..200 {
            let path = calibration.draw(&[10.0, 20.0], 1.0, |_| Some([0.5, 2.0]), &mut random).unwrap();
            assert!((8.0..=11.0).contains(&path[0]) && (18.0..=24.0).contains(&path[1]), "{path:?}");
        }
    }
}
