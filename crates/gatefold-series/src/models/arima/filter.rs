//! The Kalman filter of an autoregressive moving average in Harvey's form.

use std::f64::consts::TAU;

/// From this variance of an error on, in units of the noise's, the filter has forgotten how it began.
const SETTLED: f64 = 1e-10;
/// Doublings of the first variance, at most: as many steps as 2 to this power.
const DOUBLINGS: usize = 40;

/// `w(t) - mean = phi(1) (w(t-1) - mean) + ... + e(t) + theta(1) e(t-1) + ...`
///
/// The state is `[r]`: the value, then what is known of the values after it. A step is `a <- T a + R e`, with `phi` in T's
/// first column, ones above its diagonal, and `R = (1, theta)`.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// `[r]`
    phi: Vec<f64>,
    /// `[r]`
    noise: Vec<f64>,
    mean: f64,
    /// `[r, r]`, in units of the noise's variance
    first: Vec<f64>,
}

/// The state before the next value.
#[derive(Clone, Debug)]
pub(super) struct Belief {
    state: Vec<f64>,
    /// Its variance; `None` once an error is the noise alone.
    variance: Option<Vec<f64>>,
}

impl Filter {
    /// `None` for a model that is not stationary.
    pub(super) fn new(mut phi: Vec<f64>, theta: Vec<f64>, mean: f64) -> Option<Filter> {
        let r = phi.len().max(theta.len() + 1);
        let mut noise = vec![1.0];
        noise.extend(theta);
        phi.resize(r, 0.0);
        noise.resize(r, 0.0);
        let first = stationary_variance(&phi, &noise)?;
        Some(Filter { phi, noise, mean, first })
    }

    pub(super) fn start(&self) -> Belief {
        Belief { state: vec![0.0; self.phi.len()], variance: Some(self.first.clone()) }
    }

    /// The next value.
    pub(super) fn expected(&self, belief: &Belief) -> f64 {
        self.mean + belief.state[0]
    }

    /// Takes in the next value: its error, and the error's variance in units of the noise's.
    pub(super) fn follow(&self, belief: &mut Belief, value: f64) -> (f64, f64) {
        let (r, error) = (self.phi.len(), value - self.expected(belief));
        let Some(variance) = belief.variance.take() else {
            // Only the noise of this step is left unknown.
            belief.state.iter_mut().zip(&self.noise).for_each(|(state, noise)| *state += noise * error);
            self.turn(&mut belief.state);
            return (error, 1.0);
        };
        let f = variance[0];
        let gain: Vec<f64> = (0..r).map(|i| variance[i * r] / f).collect();
        belief.state.iter_mut().zip(&gain).for_each(|(state, gain)| *state += gain * error);
        self.turn(&mut belief.state);
        if f - 1.0 > SETTLED {
            let left = |i: usize, j: usize| variance[i * r + j] - gain[i] * variance[j];
            belief.variance = Some(self.turned(left));
        }
        (error, f)
    }

    /// Goes on without a value.
    pub(super) fn skip(&self, belief: &mut Belief) {
        self.turn(&mut belief.state);
    }

    /// `T a`
    fn turn(&self, state: &mut [f64]) {
        let value = state[0];
        for i in 0..state.len() {
            state[i] = self.phi[i] * value + state.get(i + 1).copied().unwrap_or(0.0);
        }
    }

    /// `T P T' + R R'`
    fn turned(&self, p: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let r = self.phi.len();
        let after = |i: usize, j: usize| if i < r && j < r { p(i, j) } else { 0.0 };
        let mut out = vec![0.0; r * r];
        for i in 0..r {
            for j in 0..=i {
                let (a, b) = (self.phi[i], self.phi[j]);
                let value = a * b * p(0, 0)
                    + a * after(0, j + 1)
                    + b * after(i + 1, 0)
                    + after(i + 1, j + 1)
                    + self.noise[i] * self.noise[j];
                (out[i * r + j], out[j * r + i]) = (value, value);
            }
        }
        out
    }

    /// The natural logarithm of the likelihood of values, with the noise's variance that maximises it.
    pub(super) fn log_likelihood(&self, values: &[f64]) -> f64 {
        let mut belief = self.start();
        let (mut squares, mut logs) = (0.0, 0.0);
        for value in values {
            let (error, f) = self.follow(&mut belief, *value);
            squares += error * error / f;
            logs += f.ln();
        }
        let n = values.len() as f64;
        -0.5 * (n * ((TAU * squares / n).ln() + 1.0) + logs)
    }
}

/// `P = T P T' + R R'`, by doubling: after `k` rounds it is the sum over the first `2^k` steps.
fn stationary_variance(phi: &[f64], noise: &[f64]) -> Option<Vec<f64>> {
    let r = phi.len();
    let mut power = vec![0.0; r * r];
    for i in 0..r {
        power[i * r] = phi[i];
        if i + 1 < r {
            power[i * r + i + 1] = 1.0;
        }
    }
    let mut p: Vec<f64> = (0..r * r).map(|at| noise[at / r] * noise[at % r]).collect();
    for _ in 0..DOUBLINGS {
        let transposed: Vec<f64> = (0..r * r).map(|at| power[at % r * r + at / r]).collect();
        let added = multiplied(&multiplied(&power, &p, r), &transposed, r);
        let most = |values: &[f64]| values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        let (more, size) = (most(&added), most(&p));
        p.iter_mut().zip(&added).for_each(|(p, added)| *p += added);
        if more <= 1e-14 * size {
            return Some(p);
        }
        if !more.is_finite() {
            return None;
        }
        power = multiplied(&power, &power, r);
    }
    None
}

/// `A B` of square matrices `[r, r]`.
fn multiplied(a: &[f64], b: &[f64], r: usize) -> Vec<f64> {
    let mut c = vec![0.0; r * r];
    for (row, a) in c.chunks_exact_mut(r).zip(a.chunks_exact(r)) {
        for (a, b) in a.iter().zip(b.chunks_exact(r)).filter(|(a, _)| **a != 0.0) {
            row.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variance_is_that_of_an_endless_past() {
        // AR(1) with 0.8: 1 / (1 - 0.64). MA(2): 1 + 0.25 + 0.09.
        let variance = |phi: &[f64], theta: &[f64]| {
            Filter::new(phi.to_vec(), theta.to_vec(), 0.0).map(|filter| filter.first[0])
        };
        assert!((variance(&[0.8], &[]).unwrap() - 1.0 / 0.36).abs() < 1e-12);
        assert!((variance(&[], &[0.5, -0.3]).unwrap() - 1.34).abs() < 1e-12);
        assert!(variance(&[1.01], &[]).is_none());
    }

    #[test]
    fn a_settled_filter_is_the_whole_one() {
        let values: Vec<f64> = (1..=60).map(|t| (t as f64 * 0.618_033_988_749_894_9).fract() - 0.5).collect();
        let filter = Filter::new(vec![0.5, 0.2], vec![0.4], 0.1).unwrap();
        let mut belief = filter.start();
        // The likelihood by the joint covariance, without any filter: the innovations algorithm (Brockwell and Davis 1991).
        let mut weights = vec![1.0];
        for j in 1..400usize {
            let before = |lag: usize| j.checked_sub(lag).map_or(0.0, |at: usize| weights[at]);
            let own = if j == 1 { 0.4 } else { 0.0 };
            weights.push(own + 0.5 * before(1) + 0.2 * before(2));
        }
        let covariance =
            |lag: usize| -> f64 { weights.iter().zip(&weights[lag..]).map(|(a, b)| a * b).sum() };
        let (mut thetas, mut variances): (Vec<Vec<f64>>, Vec<f64>) = (Vec::new(), vec![covariance(0)]);
        for n in 1..values.len() {
            let mut row = vec![0.0; n];
            for k in 0..n {
                let known: f64 =
                    (0..k).map(|j| thetas[k - 1][k - 1 - j] * row[n - 1 - j] * variances[j]).sum();
                row[n - 1 - k] = (covariance(n - k) - known) / variances[k];
            }
            variances
                .push(covariance(0) - (0..n).map(|j| row[n - 1 - j].powi(2) * variances[j]).sum::<f64>());
            thetas.push(row);
        }
        let mut errors: Vec<f64> = Vec::new();
        for (n, value) in values.iter().enumerate() {
            let known: f64 = (0..n).map(|j| thetas[n - 1][j] * errors[n - 1 - j]).sum();
            let expected = 0.1 + known;
            let (error, f) = filter.follow(&mut belief, *value);
            assert!((error - (value - expected)).abs() < 1e-7, "{n}: {error} {}", value - expected);
            assert!((f - variances[n]).abs() < 1e-7, "{n}: {f} {}", variances[n]);
            errors.push(value - expected);
        }
        assert!(belief.variance.is_none(), "it settles");
    }
}
