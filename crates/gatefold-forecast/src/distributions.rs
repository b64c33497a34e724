//! Distributions of counts: likelihoods with their derivatives, and quantiles.

/// The 0.975 quantile of the standard normal distribution.
pub(crate) const QUANTILE_975: f64 = 1.959_963_984_540_054;
/// Means from which quantiles are those of a normal distribution: sums over counts would take long, and the difference is
/// below a thousandth of the deviation's distance from the mean.
const LARGE: f64 = 1e5;

/// Counts around a rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poisson {
    pub(crate) rate: f64,
}

/// Counts with the variance `mean + dispersion mean^2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NegativeBinomial {
    pub(crate) mean: f64,
    pub(crate) dispersion: f64,
}

impl Poisson {
    /// The negative log-likelihood of a count, and its derivative with respect to the rate.
    pub(crate) fn loss(self, count: f64) -> (f64, f64) {
        (self.rate - count * self.rate.ln() + log_gamma(count + 1.0), 1.0 - count / self.rate)
    }

    /// The 0.025 and 0.975 quantiles.
    pub(crate) fn interval(self) -> [f64; 2] {
        if self.rate > LARGE {
            return normal(self.rate, self.rate.sqrt());
        }
        interval(|count| -self.loss(count).0, self.rate, self.rate.sqrt())
    }
}

impl NegativeBinomial {
    /// The negative log-likelihood of a count, and its derivatives with respect to mean and dispersion.
    pub(crate) fn loss(self, count: f64) -> (f64, [f64; 2]) {
        let (m, r) = (self.mean, 1.0 / self.dispersion);
        let value = log_gamma(r) + log_gamma(count + 1.0) - log_gamma(count + r)
            + r * (m / r).ln_1p()
            + count * ((r + m).ln() - m.ln());
        let by_mean = r * (m - count) / (m * (r + m));
        let by_r = digamma(r) - digamma(count + r) + (m / r).ln_1p() - (m - count) / (r + m);
        (value, [by_mean, -by_r * r * r])
    }

    /// The 0.025 and 0.975 quantiles.
    pub(crate) fn interval(self) -> [f64; 2] {
        let deviation = (self.mean + self.dispersion * self.mean * self.mean).sqrt();
        if self.mean > LARGE {
            return gamma_like(self.mean, deviation);
        }
        interval(|count| -self.loss(count).0, self.mean, deviation)
    }
}

fn normal(mean: f64, deviation: f64) -> [f64; 2] {
    [-1.0, 1.0].map(|sign| (mean + sign * QUANTILE_975 * deviation).max(0.0))
}

/// The quantiles of a gamma distribution, which a negative binomial with a large mean approaches, by the cube-root rule of
/// Wilson and Hilferty (1931).
fn gamma_like(mean: f64, deviation: f64) -> [f64; 2] {
    let ninth = (deviation / mean).powi(2) / 9.0;
    [-1.0, 1.0].map(|sign| {
        let root = 1.0 - ninth + sign * QUANTILE_975 * ninth.sqrt();
        mean * root.max(0.0).powi(3)
    })
}

/// The 0.025 and 0.975 quantiles by summing probabilities from 0.
fn interval(log_probability: impl Fn(f64) -> f64, mean: f64, deviation: f64) -> [f64; 2] {
    let (mut sum, mut low) = (0.0, None);
    // Nothing lies beyond: a bound against rounding that would keep the sum below 0.975.
    let last = (mean + 60.0 * deviation + 60.0).ceil();
    let mut count = 0.0;
    loop {
        sum += log_probability(count).exp();
        if low.is_none() && sum >= 0.025 {
            low = Some(count);
        }
        if sum >= 0.975 || count >= last {
            return [low.unwrap_or(count), count];
        }
        count += 1.0;
    }
}

/// `ln(gamma(x))` for positive `x`: Stirling's series from 20 on (Abramowitz and Stegun 1964, 6.1.41), and the recurrence
/// below.
fn log_gamma(mut x: f64) -> f64 {
    let mut product = 1.0;
    while x < 20.0 {
        product *= x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - product.ln()
}

/// The derivative of [`log_gamma`] (6.3.18).
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 20.0 {
        sum += 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = square * (1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square / 240.0)));
    x.ln() - 0.5 / x - series - sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn the_logarithm_of_the_gamma_function_is_that_of_factorials() {
        let mut factorial = 1.0f64;
        for n in 1..=20 {
            assert_relative_eq!(
                log_gamma(f64::from(n)),
                factorial.ln(),
                epsilon = 1e-12,
                max_relative = 1e-13
            );
            factorial *= f64::from(n);
        }
        assert_relative_eq!(log_gamma(0.5), 0.5 * std::f64::consts::PI.ln(), max_relative = 1e-13);
        // Minus Euler's constant, and the recurrence.
        assert_relative_eq!(digamma(1.0), -0.577_215_664_901_532_9, max_relative = 1e-12);
        assert_relative_eq!(digamma(7.3) - digamma(6.3), 1.0 / 6.3, max_relative = 1e-12);
    }

    #[test]
    fn derivatives_are_those_of_differences() {
        for count in [0.0, 1.0, 9.0, 250.0] {
            for mean in [0.3, 4.0, 220.0] {
                let by = 1e-5 * mean;
                let value = |mean: f64| Poisson { rate: mean }.loss(count).0;
                let difference = (value(mean + by) - value(mean - by)) / (2.0 * by);
                assert_relative_eq!(
                    Poisson { rate: mean }.loss(count).1,
                    difference,
                    epsilon = 1e-6,
                    max_relative = 1e-6
                );
                for dispersion in [1e-3, 0.2, 3.0] {
                    let value =
                        |mean: f64, dispersion: f64| NegativeBinomial { mean, dispersion }.loss(count).0;
                    let (_, [by_mean, by_dispersion]) = NegativeBinomial { mean, dispersion }.loss(count);
                    let difference =
                        (value(mean + by, dispersion) - value(mean - by, dispersion)) / (2.0 * by);
                    assert_relative_eq!(by_mean, difference, epsilon = 1e-5, max_relative = 1e-5);
                    let by = 1e-3 * dispersion;
                    let difference =
                        (value(mean, dispersion + by) - value(mean, dispersion - by)) / (2.0 * by);
                    assert_relative_eq!(by_dispersion, difference, epsilon = 1e-3, max_relative = 1e-4);
                }
            }
        }
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        // Sums of the textbook's probabilities in Python, with math.lgamma.
        assert_eq!(Poisson { rate: 4.2 }.interval(), [1.0, 9.0]);
        assert_eq!(Poisson { rate: 300.0 }.interval(), [267.0, 334.0]);
        assert_eq!(NegativeBinomial { mean: 10.0, dispersion: 0.5 }.interval(), [0.0, 30.0]);
        // Where the approximations take over they agree with the sums to a thousandth.
        let (mean, deviation) = (9e4, 3e2);
        for (found, expected) in (Poisson { rate: mean }).interval().iter().zip(normal(mean, deviation)) {
            assert_relative_eq!(*found, expected, max_relative = 1e-4);
        }
        let counts = NegativeBinomial { mean: 9e4, dispersion: 0.02 };
        let deviation = (9e4f64 + 0.02 * 81e8).sqrt();
        for (found, expected) in counts.interval().iter().zip(gamma_like(9e4, deviation)) {
            assert_relative_eq!(*found, expected, max_relative = 1e-3);
        }
    }
}
