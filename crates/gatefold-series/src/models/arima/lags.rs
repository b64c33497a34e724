//! Polynomials in the lag, differences, and the sum of squares given nothing before the first sample.

use super::ArimaOrder;

/// The limit of the test at 5 % (Kwiatkowski, Phillips, Schmidt and Shin 1992, table 1).
const KPSS_5: f64 = 0.463;

/// The lags that an order has terms for.
#[derive(Clone, Debug)]
pub(super) struct Lags {
    order: ArimaOrder,
    season: usize,
    /// `y(t) = w(t) + a(1) y(t-1) + ...`
    differences: Vec<f64>,
}

impl Lags {
    pub(super) fn new(order: ArimaOrder, season: usize) -> Lags {
        let mut differences = Vec::new();
        for _ in 0..order.d {
            differences = product(&differences, &[1.0], 1);
        }
        for _ in 0..order.seasonal.1 {
            differences = product(&differences, &[1.0], season);
        }
        Lags { order, season, differences }
    }

    pub(super) fn season(&self) -> usize {
        self.season
    }

    /// The factors of earlier samples that differences take away, that of the sample before first.
    pub(super) fn differences(&self) -> &[f64] {
        &self.differences
    }

    /// Samples that the model reaches back.
    pub(super) fn reach(&self) -> usize {
        let ArimaOrder { p, q, seasonal: (sp, _, sq), .. } = self.order;
        self.differences.len() + (p + self.season * sp).max(q + self.season * sq)
    }

    /// Parameters to start from: the likelihood has several maxima where differences leave a root of the moving average
    /// near 1. Small ones, and a moving average that undoes most of a difference.
    pub(super) fn starts(&self) -> [Vec<f64>; 2] {
        let ArimaOrder { p, q, seasonal: (sp, _, sq), .. } = self.order;
        let mut undoing = vec![0.0; self.parameters()];
        undoing[p + sp..p + sp + q + sq].fill(1.0);
        [vec![0.0; self.parameters()], undoing]
    }

    /// Whether a partial autocorrelation of the terms without season is so near to 1 that a root is at the unit circle:
    /// such a model takes noise for a wave that never ends.
    pub(super) fn is_at_the_edge(&self, x: &[f64]) -> bool {
        let ArimaOrder { p, q, seasonal: (sp, ..), .. } = self.order;
        x[..p].iter().chain(&x[p + sp..p + sp + q]).any(|x| x.tanh().abs() > EDGE)
    }

    pub(super) fn has_mean(&self) -> bool {
        self.order.d + self.order.seasonal.1 < 2
    }

    pub(super) fn parameters(&self) -> usize {
        let ArimaOrder { p, q, seasonal: (sp, _, sq), .. } = self.order;
        p + q + sp + sq + usize::from(self.has_mean())
    }

    /// The factors of earlier values and of earlier errors, and the mean, from parameters that may be any numbers.
    pub(super) fn polynomials(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
        let ArimaOrder { p, q, seasonal: (sp, _, sq), .. } = self.order;
        let (ar, rest) = x.split_at(p);
        let (seasonal_ar, rest) = rest.split_at(sp);
        let (ma, rest) = rest.split_at(q);
        let (seasonal_ma, mean) = rest.split_at(sq);
        let phi = product(&stationary(ar), &stationary(seasonal_ar), self.season);
        let theta = product(&stationary(ma), &stationary(seasonal_ma), self.season);
        (phi, theta.iter().map(|theta| -theta).collect(), mean.first().copied().unwrap_or(0.0))
    }
}

/// `1 - c(1) B - ... = (1 - a(1) B - ...) (1 - b(1) B^m - ...)`
fn product(a: &[f64], b: &[f64], m: usize) -> Vec<f64> {
    let mut c = vec![0.0; a.len() + m * b.len()];
    c[..a.len()].copy_from_slice(a);
    for (j, b) in b.iter().enumerate() {
        c[(j + 1) * m - 1] += b;
        for (i, a) in a.iter().enumerate() {
            c[(j + 1) * m + i] -= a * b;
        }
    }
    c
}

/// Partial autocorrelations beyond this are at the edge: a root of 1.01, the limit of R's `auto.arima`, is one of 0.99.
const EDGE: f64 = 0.99;

/// The limit of partial autocorrelations: at 1, the variance of a process is infinite.
const MOST_PARTIAL: f64 = 1.0 - 1e-6;

/// The coefficients of a stationary autoregression from any numbers: partial autocorrelations between -1 and 1, through the
/// recursion of Durbin and Levinson (Monahan 1984).
fn stationary(x: &[f64]) -> Vec<f64> {
    let mut a: Vec<f64> = Vec::with_capacity(x.len());
    for x in x {
        let partial = MOST_PARTIAL * x.tanh();
        let before = a.clone();
        for (j, a) in a.iter_mut().enumerate() {
            *a -= partial * before[before.len() - 1 - j];
        }
        a.push(partial);
    }
    a
}

/// `(1 - B)^d (1 - B^m)^D y`
pub(super) fn differenced(series: &[f64], d: usize, seasons: usize, season: usize) -> Vec<f64> {
    let mut w = series.to_vec();
    for lag in std::iter::repeat_n(season, seasons).chain(std::iter::repeat_n(1, d)) {
        w = w.iter().zip(w.iter().skip(lag)).map(|(before, now)| now - before).collect();
    }
    w
}

/// The sum of squared errors, with nothing but the mean before the first value.
pub(super) fn conditional_squares(w: &[f64], phi: &[f64], theta: &[f64], mean: f64) -> f64 {
    let terms = |of: &[f64]| -> Vec<(usize, f64)> {
        (1..).zip(of.iter().copied()).filter(|(_, factor)| *factor != 0.0).collect()
    };
    let (phi, theta) = (terms(phi), terms(theta));
    let mut errors = Vec::with_capacity(w.len());
    let mut sum = 0.0;
    for (t, value) in w.iter().enumerate() {
        let of = |terms: &[(usize, f64)], at: &dyn Fn(usize) -> f64| -> f64 {
            terms.iter().filter(|(lag, _)| *lag <= t).map(|(lag, factor)| factor * at(t - lag)).sum()
        };
        let error = value - mean - of(&phi, &|at| w[at] - mean) - of(&theta, &|at| errors[at]);
        sum += error * error;
        errors.push(error);
    }
    sum
}

/// Whether values keep to a level, by the test of Kwiatkowski and others at 5 %, with `4 (n / 100)^(1/4)` lags.
pub(super) fn is_level(w: &[f64]) -> bool {
    let n = w.len();
    if n < 3 {
        return true;
    }
    let mean = w.iter().sum::<f64>() / n as f64;
    let e: Vec<f64> = w.iter().map(|w| w - mean).collect();
    let most = (4.0 * (n as f64 / 100.0).powf(0.25)) as usize;
    let at_lag = |lag: usize| e.iter().zip(e.iter().skip(lag)).map(|(a, b)| a * b).sum::<f64>();
    let shared: f64 = (1..=most).map(|lag| (1.0 - lag as f64 / (most + 1) as f64) * at_lag(lag)).sum();
    let variance = at_lag(0) + 2.0 * shared;
    let mut sum = 0.0;
    let squares: f64 = e
        .iter()
        .map(|e| {
            sum += e;
            sum * sum
        })
        .sum();
    let limit = KPSS_5 * n as f64 * variance;
    variance <= 0.0 || squares <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_multiply_and_differences_are_undone() {
        // (1 - B)(1 - B^3) = 1 - B - B^3 + B^4
        let order = ArimaOrder { d: 1, seasonal: (0, 1, 0), ..ArimaOrder::default() };
        let lags = Lags::new(order, 3);
        assert_eq!(lags.differences(), [1.0, 0.0, 1.0, -1.0]);
        let y: Vec<f64> = (0..12).map(|t| (t * t * 7 % 11) as f64).collect();
        let w = differenced(&y, 1, 1, 3);
        let back = |t: usize| w[t - 4] + y[t - 1] + y[t - 3] - y[t - 4];
        assert!((4..12).all(|t| back(t) == y[t]), "{w:?}");
        // Roots outside the unit circle: the sum of an AR(1) is below 1.
        let one = stationary(&[50.0]);
        assert!(one[0] > 0.99 && one[0] < 1.0);
        // Partial autocorrelations of 0.5 and 0.2 are the coefficients 0.5 - 0.2 * 0.5 and 0.2.
        let x = [0.5f64, 0.2].map(|partial| partial.atanh());
        let two = stationary(&x);
        assert!((two[0] - 0.4).abs() < 1e-6 && (two[1] - 0.2).abs() < 1e-6, "{two:?}");
    }

    #[test]
    fn a_walk_has_no_level_and_noise_has() {
        let noise: Vec<f64> = (1..=200).map(|t| (t as f64 * 0.618_033_988_749_894_9).fract() - 0.5).collect();
        let slow: Vec<f64> = (0..200).map(|t| (t as f64 * 0.03).sin() + 0.01 * t as f64).collect();
        assert!(is_level(&noise) && !is_level(&slow) && is_level(&[2.0; 50]));
    }
}
