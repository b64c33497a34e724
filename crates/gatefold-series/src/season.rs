use std::ops::RangeInclusive;

/// The autocorrelation that a season needs after one period and after two, and its lead over the lags halfway between.
/// A clear rhythm reaches it; noise of a few hundred samples (standard error `1 / sqrt(n)`) does not.
const NEEDED: f64 = 0.2;
/// Every lag is tried, about n^2 / 3 products, which takes a fraction of a second for this many samples.
const MOST_SAMPLES: usize = 32_768;

/// The number of samples after which the training part repeats itself; `None` if no season is clear.
///
/// Uses the autocorrelation `r` of the first differences, in which a trend or a random walk leaves no trace. If that
/// shows no season (a slow cycle under noise), uses the residual of a parabola fitted by least squares instead. A lag
/// `m` is a season when
///
/// - at least three periods fit into the series, `2 <= m <= n / 3`,
/// - it is the lag past the first trough with the largest `r`, or the shortest peak near a whole fraction of that lag
///   whose `r` is at most 0.1 smaller,
/// - `r(m)` and `r(2 m)` (its peak within an eighth of a period) are at least 0.2, and at least 0.2 above `r`
///   around `m / 2` and `3 m / 2`: the peak must return, which a chance bump does not.
///
/// Of the lags within an eighth of a period, the one whose multiples have the largest mean `r`, weighted by their
/// numbers of pairs, is returned. About one random walk in twenty still seems to have a season, of nearly a third of
/// its length.
///
/// Only the newest 32,768 samples are used.
pub fn find_season(train: &[f64]) -> Option<usize> {
    let train = &train[train.len().saturating_sub(MOST_SAMPLES)..];
    let differences: Vec<f64> = train.windows(2).map(|pair| pair[1] - pair[0]).collect();
    season_of(&differences).or_else(|| season_of(&without_parabola(train)))
}

fn season_of(values: &[f64]) -> Option<usize> {
    let longest = values.len() / 3;
    if longest < 2 {
        return None;
    }
    let r = autocorrelation(values, 2 * longest + longest / 4)?;
    // r falls from 1 at lag 0. Lags count once it has clearly risen from its first trough.
    let mut lowest = 1.0f64;
    let risen = (1..=longest).find(|&lag| {
        lowest = lowest.min(r[lag]);
        r[lag] >= lowest + NEEDED
    })?;
    let largest = |lags: RangeInclusive<usize>| {
        lags.filter(|lag| *lag < r.len()).max_by(|a, b| r[*a].total_cmp(&r[*b]))
    };
    let peak = |lag: usize| r[lag] > r[lag - 1] && r.get(lag + 1).is_some_and(|next| r[lag] >= *next);
    let highest = largest(risen..=longest)?;
    // Every multiple of a season correlates as well as the season itself; the shortest of them is the season.
    let near = |lag: f64| (0.9 * lag).round() as usize..=(1.1 * lag).round() as usize;
    let season = (2..=highest / 2)
        .rev()
        .filter_map(|parts| largest(near(highest as f64 / parts as f64)))
        .find(|&lag| lag >= risen && peak(lag) && r[lag] >= r[highest] - NEEDED / 2.0)
        .unwrap_or(highest);
    let around = |lag: usize| lag.saturating_sub(season / 8).max(1)..=lag + season / 8;
    let again = largest(around(2 * season))?;
    let lowest = |lag: usize| around(lag).filter_map(|lag| r.get(lag)).copied().fold(f64::INFINITY, f64::min);
    let valley = lowest(season / 2).max(lowest(3 * season / 2));
    let clear = |r: f64| r >= NEEDED && r >= valley + NEEDED;
    // At the end of the range the highest may lie on the slope of a longer cycle and be no peak.
    if season < 2 || !peak(season) || !clear(r[season]) || !clear(r[again]) {
        return None;
    }
    // Noise shifts a single peak by some lags, but the mean over its multiples by fewer. Each is weighted by its pairs.
    let comb = |lag: usize| -> f64 {
        let multiples = (1..).map(|k| k * lag).take_while(|multiple| *multiple < r.len());
        let (sum, pairs) = multiples.fold((0.0, 0.0), |(sum, pairs), multiple| {
            let more = (values.len() - multiple) as f64;
            (sum + more * r[multiple], pairs + more)
        });
        sum / pairs
    };
    around(season).filter(|lag| *lag >= 2).max_by(|a, b| comb(*a).total_cmp(&comb(*b)))
}

/// `r(k)` for lags 0 to `longest`: the mean product over the existing pairs, divided by the variance. The usual
/// estimator divides by n instead, which would bury `r(2 m)` in a series of only three periods.
fn autocorrelation(values: &[f64], longest: usize) -> Option<Vec<f64>> {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let variance = centred.iter().map(|value| value * value).sum::<f64>() / n as f64;
    if !variance.is_normal() {
        return None;
    }
    let mean_product = |lag: usize| {
        centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum::<f64>() / ((n - lag) as f64 * variance)
    };
    Some((0..=longest.min(n - 1)).map(mean_product).collect())
}

fn without_parabola(values: &[f64]) -> Vec<f64> {
    // Powers on [-1, 1], made orthogonal by Gram-Schmidt: nearly the Legendre polynomials.
    let n = values.len();
    let x = |t: usize| if n > 1 { 2.0 * t as f64 / (n - 1) as f64 - 1.0 } else { 0.0 };
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut rest = values.to_vec();
    let take_away = |from: &mut [f64], vector: &[f64]| {
        let overlap: f64 = from.iter().zip(vector).map(|(a, b)| a * b).sum();
        from.iter_mut().zip(vector).for_each(|(a, b)| *a -= overlap * b);
    };
    for power in 0..3 {
        let mut vector: Vec<f64> = (0..n).map(|t| x(t).powi(power)).collect();
        basis.iter().for_each(|earlier| take_away(&mut vector, earlier));
        let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
        if norm > 1e-9 {
            vector.iter_mut().for_each(|value| *value /= norm);
            take_away(&mut rest, &vector);
            basis.push(vector);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use std::f64::consts::TAU;

    fn noise(seed: u64, n: usize) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0).collect()
    }

    #[test]
    fn a_rhythm_under_trend_and_noise_is_found() {
        let found = [(2, 40), (7, 100), (12, 150), (24, 700), (52, 400)].map(|(season, n)| {
            let noise = noise(season as u64, n);
            let series: Vec<f64> = (0..n)
                .map(|t| 0.001 * (t * t) as f64 + (TAU * t as f64 / season as f64).cos() + 0.3 * noise[t])
                .collect();
            (season, find_season(&series).unwrap_or(0))
        });
        assert!(found.iter().all(|(season, found)| found.abs_diff(*season) <= season / 12), "{found:?}");
    }

    #[test]
    fn noise_walks_and_trends_have_no_season() {
        let mut found = [0, 0];
        for seed in 0..200 {
            let noise = noise(seed, 600);
            let walk: Vec<f64> = noise
                .iter()
                .scan(0.0, |sum, step| {
                    *sum += step;
                    Some(*sum)
                })
                .collect();
            found[0] += usize::from(find_season(&noise).is_some());
            found[1] += usize::from(find_season(&walk).is_some());
        }
        assert!(found[0] <= 2 && found[1] <= 16, "{found:?} of 200 noises and walks");
        assert_eq!(find_season(&(0..100).map(f64::from).collect::<Vec<_>>()), None);
        assert_eq!(find_season(&(0..100).map(|t| f64::from(t * t)).collect::<Vec<_>>()), None);
        assert_eq!(find_season(&[1.0; 50]), None);
        for n in 0..8 {
            assert_eq!(find_season(&vec![0.5; n]), None);
        }
    }
}
