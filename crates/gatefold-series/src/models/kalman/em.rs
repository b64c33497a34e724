use super::matrix::Matrix;
use super::system::{Smoothed, System};
use crate::models::minimise::bfgs;

/// Variances stay above this share of the series' variance, so that no state becomes certain for good.
const LEAST_VARIANCE: f64 = 1e-10;
/// An iteration that gains less log-likelihood is the last.
const LEAST_GAIN: f64 = 2e-3;
/// EM soon nears the maximum and then creeps: this many iterations before BFGS goes on with variances, or alone.
const FIRST_ITERATIONS: usize = 12;
const MOST_ITERATIONS: usize = 100;
const BFGS_ITERATIONS: usize = 20;
/// A longer series is fitted on its newest samples, or on its newest seasons if those are longer: they tell the variances
/// well enough.
const NEWEST_SAMPLES: usize = 3000;
const NEWEST_SEASONS: usize = 4;

/// The parameters that are fitted, besides the variance of the output's noise.
#[derive(Clone, Debug)]
pub(crate) enum Free {
    /// The variances of the states' noise: states of the same number share one.
    Variances(Vec<usize>),
    /// The transition and the covariance of the states' noise.
    All,
}

/// Fits a system by expectation and maximisation (Shumway and Stoffer 1982, "An approach to time series smoothing and
/// forecasting using the EM algorithm"), and returns the log-likelihood. Where only variances are free, BFGS ends the
/// search on their logarithms (as Watson and Engle 1983 end theirs by scoring).
pub(crate) fn fit(system: &mut System, series: &[f64], free: &Free, season: usize) -> f64 {
    let newest = NEWEST_SAMPLES.max(NEWEST_SEASONS.saturating_mul(season));
    let series = &series[series.len().saturating_sub(newest)..];
    let iterations = if matches!(free, Free::All) { MOST_ITERATIONS } else { FIRST_ITERATIONS };
    let mut before = f64::NEG_INFINITY;
    for _ in 0..iterations {
        let smoothed = system.smooth(series);
        if smoothed.log_likelihood - before <= LEAST_GAIN {
            break;
        }
        before = smoothed.log_likelihood;
        *system = maximise(system, series, &smoothed, free);
    }
    if let Free::Variances(groups) = free {
        polish(system, series, groups);
    }
    system.log_likelihood(series)
}

fn polish(system: &mut System, series: &[f64], groups: &[usize]) {
    let last = groups.iter().copied().max().unwrap_or(0) + 1; // the place of the output's noise
    let mut start = vec![0.0; last + 1];
    groups.iter().enumerate().for_each(|(i, group)| start[*group] = system.state_noise[(i, i)].ln());
    start[last] = system.output_noise.ln();
    let mut at = |x: &[f64]| {
        let variance = |x: f64| x.exp().clamp(LEAST_VARIANCE, 1e6);
        groups.iter().enumerate().for_each(|(i, group)| system.state_noise[(i, i)] = variance(x[*group]));
        system.output_noise = variance(x[last]);
        -system.log_likelihood(series)
    };
    let best = bfgs(&mut at, &start, BFGS_ITERATIONS);
    at(&best);
}

/// The parameters with the largest expected likelihood (equations 6.62 to 6.65 of Shumway and Stoffer's book; the variance
/// of the output's noise is a mean over the samples that are known).
fn maximise(system: &System, series: &[f64], smoothed: &Smoothed, free: &Free) -> System {
    let n = system.output.len();
    let [mut now, mut lagged, mut before] = [(); 3].map(|()| Matrix::zeros(n, n)); // S11, S10, S00
    for (pair, covariance) in smoothed.beliefs.windows(2).zip(&smoothed.lagged) {
        now.add(1.0, &pair[1].covariance);
        now.add_outer(1.0, &pair[1].mean, &pair[1].mean);
        lagged.add(1.0, covariance);
        lagged.add_outer(1.0, &pair[1].mean, &pair[0].mean);
        before.add(1.0, &pair[0].covariance);
        before.add_outer(1.0, &pair[0].mean, &pair[0].mean);
    }
    let mut out = system.clone();
    if matches!(free, Free::All) {
        out.transition = before.solve(&lagged.transposed()).transposed();
    }
    // Q = S11 - S10 A' - A S10' + A S00 A', over the number of steps
    let transition = &out.transition;
    let mixed = transition.times(&lagged.transposed());
    let mut noise = transition.times(&transition.times(&before).transposed());
    noise.add(1.0, &now);
    noise.add(-1.0, &mixed);
    noise.add(-1.0, &mixed.transposed());
    noise.scale(1.0 / smoothed.lagged.len().max(1) as f64);
    noise.symmetrise();
    out.state_noise = match free {
        Free::All => {
            (0..n).for_each(|i| noise[(i, i)] = noise[(i, i)].max(0.0) + LEAST_VARIANCE);
            noise
        }
        Free::Variances(groups) => {
            let of_group = |group: usize| {
                let all: Vec<f64> = (0..n).filter(|i| groups[*i] == group).map(|i| noise[(i, i)]).collect();
                (all.iter().sum::<f64>() / all.len() as f64).max(LEAST_VARIANCE)
            };
            Matrix::diagonal(&groups.iter().map(|group| of_group(*group)).collect::<Vec<_>>())
        }
    };
    let (mut squares, mut known) = (0.0, 0u32);
    for (sample, belief) in series.iter().zip(&smoothed.beliefs).filter(|(sample, _)| !sample.is_nan()) {
        let (mean, variance) = system.output_of(belief);
        squares += (sample - mean).powi(2) + variance;
        known += 1;
    }
    out.output_noise = (squares / f64::from(known.max(1))).max(LEAST_VARIANCE);
    out
}

#[cfg(test)]
mod tests {
    use super::super::{KalmanForm, start};
    use super::*;

    /// Each iteration must raise the likelihood, which wrong moments or a wrong update soon lower.
    #[test]
    fn iterations_raise_the_likelihood() {
        let series: Vec<f64> = (0..90)
            .map(|t| if t % 11 == 4 { f64::NAN } else { (0.7 * t as f64).sin() + f64::from(t * t % 7) / 9.0 })
            .collect();
        let forms = [(KalmanForm::LocalTrend, 9), (KalmanForm::LocalLevel, 1), (KalmanForm::General(3), 1)];
        for (form, season) in forms {
            let (mut system, free) = start(form, season, &series);
            let mut before = f64::NEG_INFINITY;
            for iteration in 0..40 {
                let smoothed = system.smooth(&series);
                let now = smoothed.log_likelihood;
                assert!((now - system.log_likelihood(&series)).abs() < 1e-9);
                assert!(now > before - 1e-9, "{form:?}, iteration {iteration}: {before}, then {now}");
                before = now;
                system = maximise(&system, &series, &smoothed, &free);
            }
        }
    }
}
