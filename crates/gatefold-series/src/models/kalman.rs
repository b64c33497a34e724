use super::ar::Ar;
use super::recursion::{Recursion, bounds, check_with_gaps};
use super::{FittedModel, Model};
use crate::SeriesError;
use em::Free;
use matrix::Matrix;
use std::f64::consts::TAU;
use system::{Belief, System};

mod em;
mod matrix;
mod system;

/// A season is a sum of at most this many harmonics.
const MOST_HARMONICS: usize = 6;
/// The variances of the first level, slope and season, in units of the series' variance: large enough to tell nothing.
const FIRST_LEVEL: f64 = 100.0;
const FIRST_SLOPE: f64 = 1.0;
const FIRST_SEASON: f64 = 10.0;

/// The states of a [`Kalman`] model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KalmanForm {
    /// A level that wanders: exponential smoothing as a filter.
    LocalLevel,
    /// A level and a slope that both wander.
    LocalTrend,
    /// The given number of states, with any transition between them. The mean of the fitted series is taken away before.
    General(usize),
}

/// A linear dynamic system `x(t) = A x(t-1) + w`, `y(t) = c x(t) + v` with Gaussian noise: the Kalman filter forecasts, and
/// the Rauch-Tung-Striebel smoother says what lies between samples (Shumway and Stoffer, "Time series analysis and its
/// applications", chapter 6). Samples may be missing, as NaN.
///
/// The variances of the noise, and for [`KalmanForm::General`] the transition too, are fitted by expectation and
/// maximisation (Shumway and Stoffer 1982). A season is a sum of up to 6 harmonics that wander (Harvey 1989, "Forecasting,
/// structural time series models and the Kalman filter", section 2.3.4); it needs two seasons of samples, and is otherwise
/// left out. The automatic choice is between a local level and a local trend, with and without the season, by the AIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kalman {
    form: Option<KalmanForm>,
    season: usize,
}

impl Kalman {
    /// The form with the smallest AIC, for series that may repeat after `season` samples; 1 for none.
    pub fn automatic(season: usize) -> Self {
        Kalman { form: None, season }
    }

    /// The given form, with a season of `season` samples if it has a level; 1 for none.
    pub fn of_form(form: KalmanForm, season: usize) -> Self {
        Kalman { form: Some(form), season }
    }

    /// Fits as [`Model::fit`] does, and returns the smoother too. NaN is a missing sample.
    ///
    /// # Errors
    /// Those of [`Model::fit`]; [`SeriesError::Series`] too when a general form has no state or more than 16.
    pub fn fit_form(&self, series: &[f64]) -> Result<FittedKalman, SeriesError> {
        check_with_gaps(&self.name(), series, 1)?;
        if let Some(KalmanForm::General(states @ (0 | 17..))) = self.form {
            return Err(SeriesError::Series(format!(
                "the model 'kalman' has 1 to 16 states; found {states}"
            )));
        }
        let known: Vec<f64> = series.iter().copied().filter(|sample| !sample.is_nan()).collect();
        let n = known.len() as f64;
        let mean = known.iter().sum::<f64>() / n;
        let deviation = (known.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n).sqrt();
        let scale = if deviation > 1e-12 * mean.abs() { deviation } else { mean.abs().max(1.0) };
        let scaled: Vec<f64> = series.iter().map(|y| (y - mean) / scale).collect();
        let season = if known.len() >= 2 * self.season { self.season } else { 1 };
        let fit = |form: KalmanForm, season: usize| {
            let (mut system, free) = start(form, season, &scaled);
            let log_likelihood = em::fit(&mut system, &scaled, &free, season);
            (log_likelihood - 2.0 * f64::from(u8::from(season >= 2)), form, system) // 2: twice a variance's 1 in the AIC
        };
        let system = match self.form {
            Some(form) => fit(form, season).2,
            None => {
                let level = fit(KalmanForm::LocalLevel, 1);
                let trend = fit(KalmanForm::LocalTrend, 1);
                let best = if trend.0 - 1.0 > level.0 { trend } else { level };
                let with_season = (season >= 2).then(|| fit(best.1, season));
                with_season.filter(|with| with.0 > best.0).unwrap_or(best).2
            }
        };
        Ok(FittedKalman { system, mean, scale, bounds: bounds(&known) })
    }
}

impl Model for Kalman {
    fn name(&self) -> String {
        "kalman".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_form(series)?))
    }
}

/// A system to start the fit from, and its free parameters.
fn start(form: KalmanForm, season: usize, scaled: &[f64]) -> (System, Free) {
    if let KalmanForm::General(states) = form {
        return (general(states, scaled), Free::All);
    }
    // One row for each state: the output's factor, the first variance, the noise's variance and its group.
    let mut states = vec![(1.0, FIRST_LEVEL, 0.1, 0)];
    let mut turns = vec![(0, 0, 1.0)];
    if form == KalmanForm::LocalTrend {
        states.push((0.0, FIRST_SLOPE, 1e-4, 1));
        turns.extend([(0, 1, 1.0), (1, 1, 1.0)]);
    }
    for harmonic in 1..=(season / 2).min(MOST_HARMONICS) {
        let at = states.len();
        states.push((1.0, FIRST_SEASON, 1e-4, 2));
        let (sine, cosine) = (TAU * harmonic as f64 / season as f64).sin_cos();
        if 2 * harmonic == season {
            turns.push((at, at, -1.0)); // alternates, without a partner
        } else {
            states.push((0.0, FIRST_SEASON, 1e-4, 2));
            turns.extend([
                (at, at, cosine),
                (at, at + 1, sine),
                (at + 1, at, -sine),
                (at + 1, at + 1, cosine),
            ]);
        }
    }
    let n = states.len();
    let mut transition = Matrix::zeros(n, n);
    turns.into_iter().for_each(|(row, column, value)| transition[(row, column)] = value);
    let column = |of: fn(&(f64, f64, f64, usize)) -> f64| -> Vec<f64> { states.iter().map(of).collect() };
    let system = System {
        transition,
        output: column(|state| state.0),
        state_noise: Matrix::diagonal(&column(|state| state.2)),
        output_noise: 0.1,
        first: Belief { mean: vec![0.0; n], covariance: Matrix::diagonal(&column(|state| state.1)) },
    };
    (system, Free::Variances(states.iter().map(|state| state.3).collect()))
}

/// Starts from an autoregression of the same order as a companion matrix, whose first state is the output. Any other
/// system that can be told from its output has the same form after a change of the states.
fn general(states: usize, scaled: &[f64]) -> System {
    let mut transition = Matrix::zeros(states, states);
    (1..states).for_each(|i| transition[(i, i - 1)] = 1.0);
    let mut last = 0.0;
    let filled: Vec<f64> = scaled
        .iter()
        .map(|sample| {
            last = if sample.is_nan() { last } else { *sample };
            last
        })
        .collect();
    let order = states.min(filled.len().saturating_sub(2) / 2);
    let coefficients = Ar::coefficients(&filled, order);
    coefficients.iter().enumerate().for_each(|(lag, value)| transition[(0, lag)] = *value);
    let mut noise = vec![1e-3; states];
    noise[0] = 0.1;
    let mut output = vec![0.0; states];
    output[0] = 1.0;
    System {
        transition,
        output,
        state_noise: Matrix::diagonal(&noise),
        output_noise: 0.1,
        first: Belief { mean: vec![0.0; states], covariance: Matrix::diagonal(&vec![1.0; states]) },
    }
}

/// A linear dynamic system with its parameters.
#[derive(Clone, Debug)]
pub struct FittedKalman {
    /// In units of `scale`, from `mean`.
    system: System,
    mean: f64,
    scale: f64,
    bounds: (f64, f64),
}

/// A series without its noise, given all its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothedSeries {
    /// The expected value of each sample.
    pub mean: Vec<f64>,
    /// The variance of each sample about it: that of the states, and for a missing sample that of the noise too.
    pub variance: Vec<f64>,
}

impl FittedKalman {
    /// Says what lies under the noise and between samples; NaN is a missing sample. The series may be another than the
    /// fitted one.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no sample is known, or one is infinite.
    pub fn smooth(&self, series: &[f64]) -> Result<SmoothedSeries, SeriesError> {
        check_with_gaps("kalman", series, 1)?;
        let scaled: Vec<f64> = series.iter().map(|y| self.scaled(*y)).collect();
        let smoothed = self.system.smooth(&scaled);
        let outputs = smoothed.beliefs.iter().zip(series).map(|(belief, sample)| {
            let (mean, variance) = self.system.output_of(belief);
            let noise = if sample.is_nan() { self.system.output_noise } else { 0.0 };
            (self.mean + self.scale * mean, self.scale * self.scale * (variance.max(0.0) + noise))
        });
        let (mean, variance) = outputs.unzip();
        Ok(SmoothedSeries { mean, variance })
    }

    /// The logarithm of the likelihood of the known samples of a series.
    ///
    /// # Errors
    /// Those of [`FittedKalman::smooth`].
    pub fn log_likelihood(&self, series: &[f64]) -> Result<f64, SeriesError> {
        check_with_gaps("kalman", series, 1)?;
        let scaled: Vec<f64> = series.iter().map(|y| self.scaled(*y)).collect();
        let known = series.iter().filter(|sample| !sample.is_nan()).count() as f64;
        Ok(self.system.log_likelihood(&scaled) - known * self.scale.ln())
    }

    fn scaled(&self, sample: f64) -> f64 {
        (sample - self.mean) / self.scale
    }
}

impl Recursion for FittedKalman {
    /// The state of the next sample.
    type State = Belief;

    fn choice(&self) -> Option<String> {
        let states = self.system.output.len();
        Some(if states == 1 { "local level".into() } else { format!("{states} states") })
    }

    fn name(&self) -> String {
        "kalman".into()
    }

    fn takes_gaps(&self) -> bool {
        true
    }

    fn start(&self) -> Belief {
        self.system.first.clone()
    }

    fn follow(&self, belief: &mut Belief, sample: f64) {
        self.system.update(belief, self.scaled(sample));
        *belief = self.system.predict(belief);
    }

    fn ahead(&self, belief: &Belief, out: &mut [f64]) {
        let mut state = belief.mean.clone();
        for value in out {
            let sample = self.mean + self.scale * system::dot(&self.system.output, &state);
            *value = sample.clamp(self.bounds.0, self.bounds.1);
            let next = self.system.transition.times_vector(&state);
            if next.iter().all(|value| value.abs() < 1e100) {
                state = next; // else a transition that grows has left the bounds long ago
            }
        }
    }
}
