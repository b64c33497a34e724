use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// A season that is not a whole number of steps, such as a year in weeks, moves by a phase of this share before it is told
/// from the whole number.
const GAIN: f64 = 1.02;

/// The season of all series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rhythm {
    /// Whole steps per season; 1 for none.
    pub season: usize,
    /// Steps per season, near that number: a year has 52.18 weeks.
    pub period: f64,
}

impl Rhythm {
    /// The period near a whole season whose first two harmonics are the strongest, for a series without gaps.
    pub(super) fn near(season: usize, values: &[f64]) -> Rhythm {
        let whole = Rhythm { season, period: season as f64 };
        let n = values.len();
        if season < 2 || n < 3 * season {
            return whole;
        }
        let centred = without_mean(values, season);
        let power = |frequency: f64| -> f64 {
            let harmonic = |k: f64| {
                let sum = centred.iter().enumerate().fold((0.0, 0.0), |(s, c), (t, x)| {
                    let (sine, cosine) = (TAU * (k * frequency * t as f64).fract()).sin_cos();
                    (s + x * sine, c + x * cosine)
                });
                sum.0 * sum.0 + sum.1 * sum.1
            };
            harmonic(1.0) + if season >= 4 { harmonic(2.0) } else { 0.0 }
        };
        // Half a step at most, and one in a hundred; an eighth of a turn over all values between candidates.
        let reach = (0.5f64).min(0.01 * season as f64);
        let middle = 1.0 / season as f64;
        let step = 1.0 / (8.0 * n as f64);
        let steps = ((1.0 / (season as f64 - reach) - middle) / step).floor() as i32;
        let powers =
            (-steps..=steps).map(|j| (middle + f64::from(j) * step, power(middle + f64::from(j) * step)));
        let best = powers.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|best| best.1 > GAIN * power(middle));
        best.map_or(whole, |(frequency, _)| Rhythm { season, period: 1.0 / frequency })
    }
}

/// The values without the mean of the season around each.
fn without_mean(values: &[f64], season: usize) -> Vec<f64> {
    let n = values.len();
    let mut sums = vec![0.0; n + 1];
    values.iter().enumerate().for_each(|(t, x)| sums[t + 1] = sums[t] + x);
    let mean = |t: usize| {
        let (from, to) = (t.saturating_sub(season / 2), (t + season.div_ceil(2)).min(n));
        (sums[to] - sums[from]) / (to - from) as f64
    };
    (0..n).map(|t| values[t] - mean(t)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_of_weeks_is_not_a_whole_number() {
        let of = |period: f64, n: usize| -> Vec<f64> {
            let value = |t: f64| (TAU * t / period).sin() + 0.3 * (2.0 * TAU * t / period).cos() + 0.01 * t;
            (0..n).map(|t| value(t as f64)).collect()
        };
        let found = Rhythm::near(52, &of(52.18, 2000));
        assert_eq!(found.season, 52);
        assert!((found.period - 52.18).abs() < 0.1, "{found:?}");
        let whole = Rhythm::near(52, &of(52.0, 2000)).period;
        assert!((whole - 52.0).abs() < 0.02, "{whole}");
        assert_eq!(Rhythm::near(1, &of(52.0, 200)).period, 1.0);
        assert_eq!(Rhythm::near(52, &of(52.18, 120)).period, 52.0);
    }
}
