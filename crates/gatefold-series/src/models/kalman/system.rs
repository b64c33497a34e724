use super::matrix::Matrix;
use std::f64::consts::PI;

/// A linear dynamic system of one output: `x(t) = A x(t-1) + w`, `y(t) = c x(t) + v`, with Gaussian noise of covariance
/// `Q` and variance `r`. The first state has a mean and a covariance before any sample is seen.
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) transition: Matrix,
    pub(crate) output: Vec<f64>,
    pub(crate) state_noise: Matrix,
    pub(crate) output_noise: f64,
    pub(crate) first: Belief,
}

/// The mean and the covariance of a state.
#[derive(Clone, Debug)]
pub(crate) struct Belief {
    pub(crate) mean: Vec<f64>,
    pub(crate) covariance: Matrix,
}

/// The states of a series given all its samples, in the notation of Shumway and Stoffer `x(t|n)` and `P(t|n)`.
pub(crate) struct Smoothed {
    pub(crate) beliefs: Vec<Belief>,
    /// `P(t, t-1 | n)` for every sample but the first.
    pub(crate) lagged: Vec<Matrix>,
    pub(crate) log_likelihood: f64,
}

impl System {
    /// The mean and the variance of the output, without its noise.
    pub(crate) fn output_of(&self, belief: &Belief) -> (f64, f64) {
        let spread = belief.covariance.times_vector(&self.output);
        (dot(&self.output, &belief.mean), dot(&self.output, &spread))
    }

    /// Takes in a sample; NaN tells nothing. Returns the logarithm of its likelihood.
    pub(crate) fn update(&self, belief: &mut Belief, sample: f64) -> f64 {
        if sample.is_nan() {
            return 0.0;
        }
        let spread = belief.covariance.times_vector(&self.output);
        let variance = dot(&self.output, &spread) + self.output_noise;
        let error = sample - dot(&self.output, &belief.mean);
        let gain: Vec<f64> = spread.iter().map(|value| value / variance).collect();
        belief.mean.iter_mut().zip(&gain).for_each(|(mean, gain)| *mean += gain * error);
        belief.covariance.add_outer(-1.0, &gain, &spread);
        belief.covariance.symmetrise();
        -0.5 * ((2.0 * PI * variance).ln() + error * error / variance)
    }

    /// The state one step later.
    pub(crate) fn predict(&self, belief: &Belief) -> Belief {
        let mean = self.transition.times_vector(&belief.mean);
        // The covariance is symmetric, so `A P A' = A (A P)'`.
        let mut covariance = self.transition.times(&self.transition.times(&belief.covariance).transposed());
        covariance.add(1.0, &self.state_noise);
        covariance.symmetrise();
        Belief { mean, covariance }
    }

    /// The logarithm of the likelihood of a series, by the filter alone.
    pub(crate) fn log_likelihood(&self, series: &[f64]) -> f64 {
        let mut belief = self.first.clone();
        let steps = series.iter().map(|sample| {
            let term = self.update(&mut belief, *sample);
            belief = self.predict(&belief);
            term
        });
        steps.sum()
    }

    /// The Kalman filter forward, then the Rauch-Tung-Striebel smoother back (Shumway and Stoffer, "Time series analysis
    /// and its applications", properties 6.1 to 6.3).
    pub(crate) fn smooth(&self, series: &[f64]) -> Smoothed {
        let mut predicted: Vec<Belief> = Vec::with_capacity(series.len());
        let mut beliefs: Vec<Belief> = Vec::with_capacity(series.len());
        let mut log_likelihood = 0.0;
        for sample in series {
            let ahead = beliefs.last().map_or_else(|| self.first.clone(), |before| self.predict(before));
            let mut belief = ahead.clone();
            log_likelihood += self.update(&mut belief, *sample);
            predicted.push(ahead);
            beliefs.push(belief);
        }
        let mut lagged = Vec::with_capacity(series.len());
        for t in (1..series.len()).rev() {
            let (before, after) = beliefs.split_at_mut(t);
            let (belief, next, ahead) = (&mut before[t - 1], &after[0], &predicted[t]);
            // J' = P(t+1|t)^-1 A P(t|t)
            let back = ahead.covariance.solve(&self.transition.times(&belief.covariance));
            let gain = back.transposed();
            let off: Vec<f64> = next.mean.iter().zip(&ahead.mean).map(|(next, ahead)| next - ahead).collect();
            let moved = gain.times_vector(&off);
            belief.mean.iter_mut().zip(moved).for_each(|(mean, moved)| *mean += moved);
            let mut change = next.covariance.clone();
            change.add(-1.0, &ahead.covariance);
            belief.covariance.add(1.0, &gain.times(&change.times(&back)));
            belief.covariance.symmetrise();
            lagged.push(next.covariance.times(&back));
        }
        lagged.reverse();
        Smoothed { beliefs, lagged, log_likelihood }
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
