use super::filter::States;
use super::{EtsError, EtsForm, EtsParameters, EtsSeason, EtsTrend};
use crate::models::decompose::{Join, Seasonal};
use crate::models::least_squares::least_squares;
use crate::models::minimise::{bfgs, nelder_mead};
use std::f64::consts::PI;

/// The first states are fitted with the smoothing parameters up to this season. Those of longer ones come from the
/// first seasons alone: hundreds of free parameters take long and say little.
const LONGEST_FREE_SEASON: usize = 24;
/// With more first states than this, only the best start is followed to its end.
const MANY_STATES: usize = 14;
/// Fewer samples cannot fit the first states too.
const FEWEST_FOR_STATES: usize = 8;
/// The first states come from at most this many seasons and samples.
const FIRST_SEASONS: usize = 3;
const FIRST_SAMPLES: usize = 10;
/// The root mean square error, as a share of the series' deviation, below which a fit is exact.
const EXACT: f64 = 1e-10;

/// Where the search starts: `alpha`, `gamma`, `beta` and `phi` on the logistic scale. The likelihood often has several
/// maxima: slow states, fast ones, and a fast level with a fast slope.
const STARTS: [[f64; 4]; 4] =
    [[0.0, -2.0, -2.0, 1.0], [-2.0, -2.0, -2.0, 1.0], [2.5, -3.0, -3.0, 1.0], [3.0, -3.0, 2.0, -2.0]];

/// Parameters fitted to a series.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) parameters: EtsParameters,
    pub(crate) log_likelihood: f64,
    /// The number of parameters that were free.
    pub(crate) free: usize,
}

/// Maximises the likelihood of a form: first over the smoothing parameters, then with the first states as well.
pub(crate) fn fit(form: EtsForm, series: &[f64], season: usize) -> Fit {
    let problem = Problem::new(form, series, season);
    let smoothings = form.smoothings();
    let mut parameters = problem.first.clone();
    let mut states = States::first(&parameters);
    let mut cost = |x: &[f64]| {
        problem.write(x, &mut parameters);
        -problem.likelihood.log(&parameters, &mut states)
    };
    let mut found: Vec<(f64, Vec<f64>)> = STARTS
        .iter()
        .map(|start| {
            let x = nelder_mead(&mut cost, &problem.place(start), 1.0, 50 * smoothings);
            (cost(&x), x)
        })
        .collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    if problem.free_states > 0 {
        found.truncate(if problem.free_states > MANY_STATES { 1 } else { 2 });
        for (value, x) in &mut found {
            // At a limit a parameter has no slope, and could not leave when the states move.
            x.iter_mut().for_each(|x| *x = x.clamp(-2.0, 2.0));
            x.resize(smoothings + problem.free_states, 0.0);
            *x = bfgs(&mut cost, x, 60);
            *value = cost(x);
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let x = found.swap_remove(0).1;
    let log_likelihood = -cost(&x);
    Fit { parameters, log_likelihood, free: smoothings + problem.first_states() + 1 } // the errors' variance too
}

/// A place `x` holds the smoothing parameters on a logistic scale, in the order of [`Problem::write`], then moves of the
/// first states from a guess, in units of the series' deviation.
struct Problem<'a> {
    likelihood: Likelihood<'a>,
    first: EtsParameters,
    free_states: usize,
}

impl<'a> Problem<'a> {
    fn new(form: EtsForm, series: &'a [f64], season: usize) -> Self {
        let first = first_states(form, series, season);
        let free = first.season.len() <= LONGEST_FREE_SEASON && series.len() >= FEWEST_FOR_STATES;
        let mut problem = Problem { likelihood: Likelihood::new(form, series), first, free_states: 0 };
        problem.free_states = if free { problem.first_states() } else { 0 };
        problem
    }

    /// A start among the smoothing parameters, in the order of [`Problem::write`].
    fn place(&self, [alpha, gamma, beta, phi]: &[f64; 4]) -> Vec<f64> {
        let EtsForm { trend, season, .. } = self.likelihood.form;
        let in_use = [true, season != EtsSeason::None, trend != EtsTrend::None, trend == EtsTrend::Damped];
        let all = [*alpha, *gamma, *beta, *phi];
        all.into_iter().zip(in_use).filter_map(|(value, used)| used.then_some(value)).collect()
    }

    /// The level, the slope, and all of a season's states but one, since their sum or mean is given.
    fn first_states(&self) -> usize {
        let trend = self.likelihood.form.trend != EtsTrend::None;
        1 + usize::from(trend) + self.first.season.len().saturating_sub(1)
    }

    /// Writes the parameters at a place. Smoothing parameters lie in the usual region: `0 < beta < alpha < 1`,
    /// `0 < gamma < 1 - alpha`, `0.8 < phi < 0.98` (Hyndman et al. 2008, section 2.7.1).
    fn write(&self, x: &[f64], parameters: &mut EtsParameters) {
        let EtsForm { trend, season, .. } = self.likelihood.form;
        let (smoothing, moves) = x.split_at(self.likelihood.form.smoothings());
        let mut smoothing = smoothing.iter();
        let mut between = |low: f64, high: f64| {
            low + (high - low) / (1.0 + (-smoothing.next().copied().unwrap_or(0.0)).exp())
        };
        parameters.alpha = between(1e-4, 0.9999);
        if season != EtsSeason::None {
            parameters.gamma = between(0.0, 1.0 - parameters.alpha);
        }
        if trend != EtsTrend::None {
            parameters.beta = between(0.0, parameters.alpha);
        }
        if trend == EtsTrend::Damped {
            parameters.phi = between(0.8, 0.98);
        }
        let scale = self.likelihood.scale;
        let mut moves = moves.iter();
        parameters.level = self.first.level + scale * moves.next().unwrap_or(&0.0);
        if trend != EtsTrend::None {
            parameters.slope = self.first.slope + 0.1 * scale * moves.next().unwrap_or(&0.0);
        }
        parameters.season.clone_from(&self.first.season);
        if moves.len() > 0 {
            let (unit, join) = match season {
                EtsSeason::Multiplicative => (0.1, Join::Product),
                _ => (scale, Join::Sum),
            };
            let states = &mut parameters.season;
            states.iter_mut().zip(moves).for_each(|(state, step)| *state += unit * step);
            let mean = states.iter().sum::<f64>() / states.len() as f64;
            states.iter_mut().for_each(|state| *state = join.remove(*state, mean));
        }
    }
}

/// The likelihood of a series.
pub(crate) struct Likelihood<'a> {
    form: EtsForm,
    series: &'a [f64],
    /// The series' deviation; its size where it is constant.
    scale: f64,
}

impl<'a> Likelihood<'a> {
    pub(crate) fn new(form: EtsForm, series: &'a [f64]) -> Self {
        let n = series.len() as f64;
        let mean = series.iter().sum::<f64>() / n;
        let deviation = (series.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / n).sqrt();
        let scale =
            if deviation > EXACT * mean.abs() { deviation } else { mean.abs().max(f64::MIN_POSITIVE) };
        Likelihood { form, series, scale }
    }

    /// The Gaussian log-likelihood with the errors' variance at its maximum (Hyndman et al. 2008, section 5.1); minus
    /// infinity where the model is not defined. `states` is room to work in.
    pub(crate) fn log(&self, parameters: &EtsParameters, states: &mut States) -> f64 {
        states.start_again(parameters);
        let factors = self.form.season == EtsSeason::Multiplicative;
        let relative = self.form.error == EtsError::Multiplicative;
        if factors && states.season.iter().any(|factor| *factor <= 0.0) {
            return f64::NEG_INFINITY;
        }
        let (mut squares, mut logarithms) = (0.0, 0.0);
        for y in self.series {
            let ahead = states.ahead(self.form, parameters);
            let error = y - ahead;
            if relative {
                if ahead <= 0.0 {
                    return f64::NEG_INFINITY;
                }
                squares += (error / ahead).powi(2);
                logarithms += ahead.ln();
            } else {
                squares += (error / self.scale).powi(2);
            }
            states.follow(self.form, parameters, error);
        }
        let n = self.series.len() as f64;
        // A fit that is exact but for rounding must not win by its rounding errors.
        let exact = if relative { EXACT * (self.scale.ln() - logarithms / n).exp().min(1.0) } else { EXACT };
        let variance = (squares / n).max(exact * exact);
        let unit = if relative { logarithms } else { n * self.scale.ln() };
        -0.5 * n * ((2.0 * PI * variance).ln() + 1.0) - unit
    }
}

/// Guesses the first states from the first samples (Hyndman et al. 2008, section 2.6.1): the season by the classical
/// decomposition of the first seasons, level and slope by a line through the first samples without it.
fn first_states(form: EtsForm, series: &[f64], season: usize) -> EtsParameters {
    let seasonal = match form.season {
        EtsSeason::None => Seasonal::none(),
        kind => {
            let join = if kind == EtsSeason::Additive { Join::Sum } else { Join::Product };
            let first = &series[..series.len().min(FIRST_SEASONS * season)];
            let found = Seasonal::classical(first, season, join);
            let neutral = vec![if join == Join::Sum { 0.0 } else { 1.0 }; season];
            if found.indices.len() == season { found } else { Seasonal { indices: neutral, join } }
        }
    };
    let n = series.len().min(FIRST_SAMPLES.max(season));
    let rest: Vec<f64> = series[..n].iter().enumerate().map(|(t, y)| seasonal.remove(t, *y)).collect();
    let (level, slope) = if form.trend == EtsTrend::None || n < 3 {
        (rest.iter().sum::<f64>() / n as f64, 0.0)
    } else {
        let steps = (1..=n).map(|t| t as f64).collect();
        let line = least_squares(vec![vec![1.0; n], steps], rest).coefficients;
        (line[0], line[1])
    };
    let season = if form.season == EtsSeason::None { Vec::new() } else { seasonal.indices };
    EtsParameters { alpha: 0.5, beta: 0.0, gamma: 0.0, phi: 1.0, level, slope, season }
}
