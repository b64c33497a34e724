/// A Dickey-Fuller statistic below this counts as a return to a level. 1 % of random walks fall below it (Fuller 1976,
/// table 8.5.2, with a constant, for many samples).
const RETURNS: f64 = -3.43;

/// Tells whether a series keeps returning to a level of its own, which then helps to forecast it. A trend or a random
/// walk has no such level: its future values differ from its past ones.
///
/// Uses the test of Dickey and Fuller (1979): `y(t+1) - y(t) = a + b y(t) + e(t)` is fitted by least squares, and `b`
/// must be further below zero than a random walk would plausibly give.
pub fn returns_to_level(train: &[f64]) -> bool {
    statistic(train).is_some_and(|statistic| statistic < RETURNS)
}

/// `b` divided by its standard error; `None` if there are too few samples or the fit leaves no residual.
fn statistic(train: &[f64]) -> Option<f64> {
    let pairs = train.len().checked_sub(1).filter(|pairs| *pairs > 2)?;
    let n = pairs as f64;
    let changes = || train.windows(2).map(|pair| pair[1] - pair[0]);
    let mean_y = train[..pairs].iter().sum::<f64>() / n;
    let mean_change = changes().sum::<f64>() / n;
    let spread: f64 = train[..pairs].iter().map(|y| (y - mean_y).powi(2)).sum();
    let together: f64 =
        train.iter().zip(changes()).map(|(y, change)| (y - mean_y) * (change - mean_change)).sum();
    let b = together / spread;
    let residual = |(y, change): (&f64, f64)| (change - mean_change - b * (y - mean_y)).powi(2);
    let unexplained: f64 = train.iter().zip(changes()).map(residual).sum();
    let error = (unexplained / (n - 2.0) / spread).sqrt();
    error.is_normal().then(|| b / error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn autoregressive(seed: u64, n: usize, memory: f64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut y = 0.0;
        (0..n)
            .map(|_| {
                y = memory * y + random.random_range(-1.0..1.0);
                100.0 + y
            })
            .collect()
    }

    #[test]
    fn the_statistic_matches_a_worked_example() {
        // y = 0 2 1 3 2 with changes 2 -1 2 -1 gives b = -1.2, a = 2.3 and residuals -0.3 -0.9 0.9 0.3. Their squares
        // sum to 1.8 with 2 degrees of freedom, and the squared deviations of the first four y sum to 5, so the
        // standard error is sqrt(0.18).
        let statistic = statistic(&[0.0, 2.0, 1.0, 3.0, 2.0]).unwrap();
        assert_relative_eq!(statistic, -1.2 / 0.18f64.sqrt(), max_relative = 1e-13);
    }

    #[test]
    fn walks_and_trends_have_no_level() {
        let walks = (0..400).filter(|&seed| returns_to_level(&autoregressive(seed, 300, 1.0))).count();
        // 1 % of 400 is 4, with a standard deviation of 2; the limit is three standard deviations above.
        assert!(walks <= 10, "{walks} of 400 random walks");
        assert!((0..400).all(|seed| returns_to_level(&autoregressive(seed, 300, 0.5))));
        assert!(!returns_to_level(&(0..100).map(|t| f64::from(t * t)).collect::<Vec<_>>()));
        for n in 0..6 {
            assert!(!returns_to_level(&vec![1.0; n]));
        }
    }
}
