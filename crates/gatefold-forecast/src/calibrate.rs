//! Intervals from the errors that a model made on samples it had not seen.

use serde::{Deserialize, Serialize};

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
}

impl Calibration {
    /// Measures errors `[origin][step]` that are divided by their series' unit. `None` without any.
    pub fn new(errors: &[Vec<f64>]) -> Option<Calibration> {
        let horizon = errors.first()?.len();
        let mean = |k: usize| errors.iter().map(|row| row[k].abs()).sum::<f64>() / errors.len() as f64;
        let mut spread: Vec<f64> = (0..horizon).map(mean).collect();
        monotonous(&mut spread);
        let least = spread.iter().fold(0.0f64, |most, value| most.max(*value)) * 1e-9;
        spread.iter_mut().for_each(|value| *value = value.max(least).max(f64::MIN_POSITIVE));
        let scores =
            errors.iter().flat_map(|row| row.iter().zip(&spread).map(|(error, spread)| error.abs() / spread));
        let scores = sorted(scores.filter(|score| score.is_finite()));
        (!scores.is_empty()).then_some(Calibration { spread, scores })
    }

    /// Measures errors, forecast minus truth, beside the model's own bands: how far they reach below and above the forecast.
    /// `None` without any.
    pub fn of_bands(errors: impl Iterator<Item = (f64, [f64; 2])>) -> Option<Calibration> {
        let score = |(error, [below, above]): (f64, [f64; 2])| {
            let band = if error > 0.0 { below } else { above };
            error.abs() / band.max(f64::MIN_POSITIVE)
        };
        let scores = sorted(errors.map(score).filter(|score| !score.is_nan()));
        (!scores.is_empty()).then_some(Calibration { spread: Vec::new(), scores })
    }

    /// The multiple of the band that an interval of this probability reaches. `None` if there are too few errors for it: an
    /// interval of 95 % needs 19.
    pub fn factor(&self, probability: f64) -> Option<f64> {
        let rank = (probability * (self.scores.len() + 1) as f64).ceil() as usize;
        self.scores.get(rank.max(1) - 1).copied().filter(|factor| factor.is_finite())
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

    /// Half the width of the interval of this probability at each step, in the unit of the errors. `None` if there are too few
    /// errors for it, or the model gives bands of its own.
    pub fn half_widths(&self, probability: f64) -> Option<Vec<f64>> {
        let factor = self.factor(probability).filter(|_| !self.spread.is_empty())?;
        Some(self.spread.iter().map(|spread| factor * spread).collect())
    }
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
        let calibration = Calibration::of_bands(errors).unwrap();
        for probability in [0.5f64, 0.8, 0.95] {
            // The rank among 99 scores of at / 20.
            let expected = (100.0 * probability).ceil() / 20.0;
            assert!((calibration.factor(probability).unwrap() - expected).abs() < 1e-12);
        }
        assert_eq!(calibration.factor(0.999), None, "99 errors say nothing about one in a thousand");
        assert_eq!(calibration.half_widths(0.5), None);
        assert_eq!(calibration.band(0, 7.0, Some([1.0, 2.0])), [1.0, 2.0]);
        // A band without width holds nothing: no finite multiple of it is an interval.
        let flat = Calibration::of_bands((0..40).map(|_| (1e300, [0.0; 2]))).unwrap();
        assert_eq!(flat.factor(0.95), None);
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
}
