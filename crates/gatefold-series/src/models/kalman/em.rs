use super::matrix::Matrix;
use super::system::{Smoothed, System};

/// Variances stay above this share of the series' variance, so that no state becomes certain for good.
const LEAST_VARIANCE: f64 = 1e-10;
/// An iteration that gains less log-likelihood is the last.
const LEAST_GAIN: f64 = 1e-3;
const MOST_ITERATIONS: usize = 150;
/// The most that a step is lengthened.
const LONGEST_STEP: f64 = 4.0;

/// The parameters that are fitted, besides the variance of the output's noise.
#[derive(Clone, Debug)]
pub(crate) enum Free {
    /// The variances of the states' noise: states of the same number share one.
    Variances(Vec<usize>),
    /// The transition and the covariance of the states' noise.
    All,
}

/// Fits a system by expectation and maximisation (Shumway and Stoffer 1982, "An approach to time series smoothing and
/// forecasting using the EM algorithm"), and returns the log-likelihood. Steps of variances are lengthened on their
/// logarithms while that helps (Salakhutdinov and Roweis 2003, "Adaptive overrelaxed bound optimization methods").
pub(crate) fn fit(system: &mut System, series: &[f64], free: &Free) -> f64 {
    let mut plain = system.clone(); // where the last iteration led without lengthening
    let mut before = f64::NEG_INFINITY;
    let mut length = 1.0;
    for _ in 0..MOST_ITERATIONS {
        let mut smoothed = system.smooth(series);
        if smoothed.log_likelihood < before {
            system.clone_from(&plain);
            length = 1.0;
            smoothed = system.smooth(series);
        }
        let gained = smoothed.log_likelihood - before;
        if !(gained > LEAST_GAIN) {
            return smoothed.log_likelihood;
        }
        before = smoothed.log_likelihood;
        plain = maximise(system, series, &smoothed, free);
        let Free::Variances(_) = free else {
            system.clone_from(&plain);
            continue;
        };
        let along = |old: f64, new: f64| (old * (new / old).powf(length)).clamp(LEAST_VARIANCE, 1e6);
        let mut next = plain.clone();
        next.output_noise = along(system.output_noise, plain.output_noise);
        for i in 0..next.output.len() {
            next.state_noise[(i, i)] = along(system.state_noise[(i, i)], plain.state_noise[(i, i)]);
        }
        *system = next;
        length = (1.2 * length).min(LONGEST_STEP);
    }
    system.smooth(series).log_likelihood
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
