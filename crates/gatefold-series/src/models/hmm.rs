use super::recursion::{Recursion, check};
use super::{FittedModel, Model};
use crate::SeriesError;
use std::f64::consts::PI;

/// The numbers of states that the automatic choice tries.
const MOST_STATES: usize = 6;
/// States that a series must have room for: this many samples each.
const SAMPLES_A_STATE: usize = 5;
/// The share of the samples, the newest, on which numbers of states are compared.
const VALIDATION: f64 = 0.2;
/// The smallest variance of a state, as a share of the series' variance: a state must not settle on a single sample.
const LEAST_VARIANCE: f64 = 1e-4;
/// The smallest probability of a transition: a state that was never left in the fitted series may be left later.
const LEAST_PROBABILITY: f64 = 1e-10;
const MOST_ITERATIONS: usize = 200;
/// An iteration that gains less log-likelihood is the last.
const LEAST_GAIN: f64 = 1e-4;

/// A hidden Markov model with a Gaussian for each state (Rabiner 1989, "A tutorial on hidden Markov models and selected
/// applications in speech recognition"): an unseen state jumps by the transition matrix `A`, and each sample is drawn from
/// its state's Gaussian.
///
/// Baum and Welch's algorithm fits it, with every step of the forward and backward passes scaled to sum to 1 (Rabiner,
/// section V.A). It starts from Gaussians of equal shares of the sorted samples. A forecast is the mean of the states'
/// means, weighted by the filtered probabilities after `k` transitions, `p(t) A^k`. It suits series that jump between
/// levels, and not those with a trend.
///
/// The number of states is given, or the one from 1 to 6 that gives the newest fifth of the series the largest likelihood
/// when fitted on the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hmm {
    states: Option<usize>,
}

impl Hmm {
    /// The number of states that forecasts the newest fifth of a series best.
    pub fn automatic() -> Self {
        Hmm { states: None }
    }

    /// The given number of states.
    pub fn of_states(states: usize) -> Self {
        Hmm { states: Some(states) }
    }

    /// Fits as [`Model::fit`] does, and returns the states too.
    ///
    /// # Errors
    /// Those of [`Model::fit`].
    pub fn fit_states(&self, series: &[f64]) -> Result<FittedHmm, SeriesError> {
        check(&self.name(), series, 1)?;
        let n = series.len();
        if let Some(states) = self.states {
            if states == 0 || n < states {
                return Err(SeriesError::Series(format!(
                    "the model '{}' needs at least one state, and a sample for each; found {n} samples",
                    self.name()
                )));
            }
            return Ok(FittedHmm::fit(series, states));
        }
        let kept = n - (VALIDATION * n as f64) as usize;
        let tried = (1..=MOST_STATES).filter(|states| *states == 1 || states * SAMPLES_A_STATE <= kept);
        let scored = tried.map(|states| {
            let fitted = FittedHmm::fit(&series[..kept], states);
            (fitted.log_likelihood(series) - fitted.log_likelihood(&series[..kept]), states)
        });
        let best = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        Ok(FittedHmm::fit(series, best.map_or(1, |(_, states)| states)))
    }
}

impl Model for Hmm {
    fn name(&self) -> String {
        self.states.map_or_else(|| "hmm".into(), |states| format!("hmm ({states})"))
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        Ok(Box::new(self.fit_states(series)?))
    }
}

/// A hidden Markov model with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedHmm {
    /// The probability of each state at the first sample.
    first: Vec<f64>,
    /// `transition[i][j]` from state `i` to state `j`.
    transition: Vec<Vec<f64>>,
    means: Vec<f64>,
    variances: Vec<f64>,
}

/// The passes over a series: `forward[t]` and the products of `forward` and `backward` are distributions over the states.
struct Passes {
    /// Densities of each sample in each state, divided by the largest of them.
    densities: Vec<Vec<f64>>,
    forward: Vec<Vec<f64>>,
    backward: Vec<Vec<f64>>,
    /// The sum of each step's forward probabilities before they were scaled.
    scales: Vec<f64>,
    log_likelihood: f64,
}

impl FittedHmm {
    /// The mean of each state, smallest first.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// The variance of each state.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// The probabilities of the transitions, those from one state in one row.
    pub fn transition(&self) -> &[Vec<f64>] {
        &self.transition
    }

    /// The logarithm of the likelihood of a series.
    pub fn log_likelihood(&self, series: &[f64]) -> f64 {
        self.forward(series).log_likelihood
    }

    /// The most likely sequence of states, by Viterbi's algorithm on logarithms (Rabiner 1989, section III.B).
    ///
    /// # Errors
    /// [`SeriesError::Series`] when a sample is no number.
    pub fn decode(&self, series: &[f64]) -> Result<Vec<usize>, SeriesError> {
        check("hmm", series, 0)?;
        let Some(&sample) = series.first() else { return Ok(Vec::new()) };
        let states = 0..self.means.len();
        let mut best: Vec<f64> =
            states.clone().map(|i| self.first[i].ln() + self.log_density(i, sample)).collect();
        let mut back: Vec<Vec<usize>> = Vec::with_capacity(series.len());
        for sample in &series[1..] {
            let path = |j: usize| {
                let through = states.clone().map(|i| (best[i] + self.transition[i][j].ln(), i));
                through.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NEG_INFINITY, j))
            };
            let paths: Vec<(f64, usize)> = states.clone().map(path).collect();
            best = paths.iter().enumerate().map(|(j, path)| path.0 + self.log_density(j, *sample)).collect();
            back.push(paths.into_iter().map(|path| path.1).collect());
        }
        let mut state = states.max_by(|a, b| best[*a].total_cmp(&best[*b])).unwrap_or(0);
        let mut out = vec![state];
        for from in back.iter().rev() {
            state = from[state];
            out.push(state);
        }
        out.reverse();
        Ok(out)
    }

    fn fit(series: &[f64], states: usize) -> FittedHmm {
        let mut model = FittedHmm::start(series, states);
        let least = LEAST_VARIANCE * model.variances[0];
        let mut before = f64::NEG_INFINITY;
        for _ in 0..MOST_ITERATIONS {
            let passes = model.passes(series);
            if passes.log_likelihood - before <= LEAST_GAIN {
                break;
            }
            before = passes.log_likelihood;
            model.maximise(series, &passes, least);
        }
        model
    }

    /// Sorted samples in equal shares give the means; all states start with the variance of the series.
    fn start(series: &[f64], states: usize) -> FittedHmm {
        let n = series.len();
        let mut sorted = series.to_vec();
        sorted.sort_by(f64::total_cmp);
        let mean = |samples: &[f64]| samples.iter().sum::<f64>() / samples.len() as f64;
        let centre = mean(series);
        let variance = mean(&series.iter().map(|y| (y - centre).powi(2)).collect::<Vec<_>>());
        // A constant series has no variance; its size gives the unit.
        let least = (1e-12 * centre.abs()).powi(2).max(f64::MIN_POSITIVE);
        let share = |k: usize| &sorted[k * n / states..(k + 1) * n / states];
        let stay = if states == 1 { 1.0 } else { 0.8 };
        let others = (1.0 - stay) / (states - 1).max(1) as f64;
        let row = |i: usize| (0..states).map(|j| if i == j { stay } else { others }).collect();
        FittedHmm {
            first: vec![1.0 / states as f64; states],
            transition: (0..states).map(row).collect(),
            means: (0..states).map(|k| mean(share(k))).collect(),
            variances: vec![variance.max(least); states],
        }
    }

    fn log_density(&self, state: usize, sample: f64) -> f64 {
        let (off, variance) = (sample - self.means[state], self.variances[state]);
        -0.5 * ((2.0 * PI * variance).ln() + off * off / variance)
    }

    /// The densities of a sample, divided by the largest, whose logarithm is returned too. A sample far from every mean
    /// thus still says which state is the nearest.
    fn densities(&self, sample: f64) -> (Vec<f64>, f64) {
        let logarithms: Vec<f64> = (0..self.means.len()).map(|i| self.log_density(i, sample)).collect();
        let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (logarithms.iter().map(|value| (value - largest).exp()).collect(), largest)
    }

    /// One transition.
    fn step(&self, from: &[f64]) -> Vec<f64> {
        let mut to = vec![0.0; from.len()];
        for (from, row) in from.iter().zip(&self.transition) {
            to.iter_mut().zip(row).for_each(|(to, probability)| *to += from * probability);
        }
        to
    }

    fn forward(&self, series: &[f64]) -> Passes {
        let mut out = Passes {
            densities: vec![],
            forward: vec![],
            backward: vec![],
            scales: vec![],
            log_likelihood: 0.0,
        };
        for sample in series {
            let mut now = out.forward.last().map_or_else(|| self.first.clone(), |before| self.step(before));
            let (densities, largest) = self.densities(*sample);
            now.iter_mut().zip(&densities).for_each(|(now, density)| *now *= density);
            let scale = normalise(&mut now);
            out.log_likelihood += scale.ln() + largest;
            out.forward.push(now);
            out.densities.push(densities);
            out.scales.push(scale);
        }
        out
    }

    fn passes(&self, series: &[f64]) -> Passes {
        let mut out = self.forward(series);
        let mut after = vec![1.0; self.means.len()];
        out.backward.push(after.clone());
        for t in (1..series.len()).rev() {
            let seen: Vec<f64> =
                after.iter().zip(&out.densities[t]).map(|(b, density)| b * density).collect();
            let of_row = |row: &Vec<f64>| row.iter().zip(&seen).map(|(a, seen)| a * seen).sum::<f64>();
            after = self.transition.iter().map(|row| of_row(row) / out.scales[t]).collect();
            out.backward.push(after.clone());
        }
        out.backward.reverse();
        out
    }

    /// The parameters with the largest expected likelihood (Rabiner 1989, equations 40, 53 and 54).
    fn maximise(&mut self, series: &[f64], passes: &Passes, least: f64) {
        let states = self.means.len();
        let shares: Vec<Vec<f64>> = passes
            .forward
            .iter()
            .zip(&passes.backward)
            .map(|(forward, backward)| forward.iter().zip(backward).map(|(a, b)| a * b).collect())
            .collect();
        let mut jumps = vec![vec![0.0; states]; states];
        for t in 1..series.len() {
            for (i, row) in jumps.iter_mut().enumerate() {
                for (j, jump) in row.iter_mut().enumerate() {
                    let seen = passes.densities[t][j] * passes.backward[t][j] / passes.scales[t];
                    *jump += passes.forward[t - 1][i] * self.transition[i][j] * seen;
                }
            }
        }
        self.first.clone_from(&shares[0]);
        for (row, jumps) in self.transition.iter_mut().zip(&jumps) {
            let sum: f64 = jumps.iter().sum();
            if sum > 0.0 {
                row.iter_mut().zip(jumps).for_each(|(to, jump)| *to = (jump / sum).max(LEAST_PROBABILITY));
                normalise(row);
            }
        }
        for i in 0..states {
            let weight: f64 = shares.iter().map(|shares| shares[i]).sum();
            if weight > 1e-9 {
                let mean = |term: &dyn Fn(f64) -> f64| {
                    series.iter().zip(&shares).map(|(y, shares)| shares[i] * term(*y)).sum::<f64>() / weight
                };
                let centre = mean(&|y| y);
                self.means[i] = centre;
                self.variances[i] = mean(&|y| (y - centre).powi(2)).max(least).max(f64::MIN_POSITIVE);
            }
        }
    }
}

/// Scales values to a sum of 1, and returns what it was.
fn normalise(values: &mut [f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    if sum > 0.0 {
        values.iter_mut().for_each(|value| *value /= sum);
        return sum;
    }
    // Every state that the sample allows was ruled out before: start anew.
    values.fill(1.0 / values.len() as f64);
    f64::MIN_POSITIVE
}

impl Recursion for FittedHmm {
    /// The probabilities of the states at the next sample, before it is seen.
    type State = Vec<f64>;

    fn choice(&self) -> Option<String> {
        Some(format!("{} states", self.means.len()))
    }

    fn name(&self) -> String {
        "hmm".into()
    }

    fn start(&self) -> Self::State {
        self.first.clone()
    }

    fn follow(&self, next: &mut Self::State, sample: f64) {
        let (densities, _) = self.densities(sample);
        next.iter_mut().zip(&densities).for_each(|(now, density)| *now *= density);
        normalise(next);
        *next = self.step(next);
    }

    fn ahead(&self, next: &Self::State, out: &mut [f64]) {
        let mut shares = next.clone();
        for value in out {
            *value = shares.iter().zip(&self.means).map(|(share, mean)| share * mean).sum();
            shares = self.step(&shares);
        }
    }
}
