//! Intervals from the errors that a model made on samples it had not seen.

use serde::{Deserialize, Serialize};

/// The spread of a model's errors at each step ahead, and how far an interval of a given probability reaches in it.
///
/// Split conformal prediction (Vovk, Gammerman and Shafer 2005; Lei et al. 2018): the interval at step `k` is the forecast
/// plus and minus `quantile * spread(k) * scale`, where the quantile is that of the scaled absolute errors of a
/// validation part, `scale` a series' own unit, and the spread the mean error of step `k`, which never falls with `k`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
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
        let mut scores: Vec<f64> = scores.filter(|score| score.is_finite()).collect();
        scores.sort_unstable_by(f64::total_cmp);
        (!scores.is_empty()).then_some(Calibration { spread, scores })
    }

    /// Half the width of the interval of this probability at each step, in the unit of the errors. `None` if there are too few
    /// errors for it: an interval of 95 % needs 19.
    pub fn half_widths(&self, probability: f64) -> Option<Vec<f64>> {
        let rank = (probability * (self.scores.len() + 1) as f64).ceil() as usize;
        let quantile = self.scores.get(rank.max(1) - 1)?;
        Some(self.spread.iter().map(|spread| quantile * spread).collect())
    }
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
