/// The Dickey-Fuller statistic below which a series is taken to return to its level: 1 % of random walks reach it
/// (Fuller 1976, table 8.5.2, with a constant, for many samples).
const RETURNS: f64 = -3.43;

/// Whether a series comes back to a level of its own, so that the level says where it will go next; a trend or a
/// random walk does not, and its values in the future are not those of the past.
///
/// The test of Dickey and Fuller (1979): in `y(t+1) - y(t) = a + b y(t) + e(t)`, fitted by least squares, `b` is so
/// far below zero that a random walk would hardly have it.
pub fn returns_to_level(train: &[f64]) -> bool {
    statistic(train).is_some_and(|statistic| statistic < RETURNS)
}

/// `b` over its standard error; none where there is too little to fit, or nothing left to explain.
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
    fn the_statistic_is_that_of_a_worked_case() {
        // y = 0 2 1 3 2 and changes 2 -1 2 -1 give b = -1.2, a = 2.3, residuals -0.3 -0.9 0.9 0.3: the sum of their
        // squares is 1.8 with 2 degrees of freedom, the spread of the first four y is 5, so the error is sqrt(0.18).
        let statistic = statistic(&[0.0, 2.0, 1.0, 3.0, 2.0]).unwrap();
        assert!((statistic + 1.2 / 0.18f64.sqrt()).abs() < 1e-12, "{statistic}");
    }

    #[test]
    fn walks_and_trends_have_no_level() {
        let walks = (0..400).filter(|&seed| returns_to_level(&autoregressive(seed, 300, 1.0))).count();
        // 1 % of 400 is 4, with a standard deviation of 2: three of them above.
        assert!(walks <= 10, "{walks} of 400 random walks");
        assert!((0..400).all(|seed| returns_to_level(&autoregressive(seed, 300, 0.5))));
        assert!(!returns_to_level(&(0..100).map(|t| f64::from(t * t)).collect::<Vec<_>>()));
        for n in 0..6 {
            assert!(!returns_to_level(&vec![1.0; n]));
        }
    }
}
