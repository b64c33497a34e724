//! Linear regression on the surroundings of a gap.

use super::input::{Guesses, Surroundings};
use gatefold_series::{Ridge, Sums, fourier};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// Values on each side.
const REACH: usize = 8;
/// Pairs of sine and cosine of the season, at most.
const PAIRS: usize = 4;
const PENALTY: f64 = 1e-3;
/// Rows for each term, at least.
const ROWS: usize = 5;

/// Ridge regressions of each channel: one for single missing values, one for all others. `None` where too few values could
/// be hidden.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Regressions(Vec<[Option<Ridge>; 2]>);

/// Rows for the regressions, as they are found.
pub(super) struct Rows {
    sums: Vec<[(Option<Sums>, usize); 2]>,
}

impl Rows {
    pub(super) fn new(channels: usize) -> Rows {
        Rows { sums: (0..channels).map(|_| [(None, 0), (None, 0)]).collect() }
    }

    /// Adds hidden values: what has to be added to a straight line at each place.
    pub(super) fn add(&mut self, around: &Surroundings, guesses: &Guesses, hidden: &[usize], truth: &[f64]) {
        for t in hidden {
            let terms = terms(around, guesses, *t);
            let target = Array2::from_elem((1, 1), (truth[*t] - guesses.linear[*t]) / around.change());
            let (sums, rows) = &mut self.sums[around.channel][kind(around, *t)];
            let row = ArrayView2::from_shape((1, terms.len()), &terms).expect("one row").to_owned();
            sums.get_or_insert_with(|| Sums::new(terms.len(), 1, 1)).add(&row, &target);
            *rows += 1;
        }
    }

    pub(super) fn solved(&self) -> Regressions {
        let solve = |(sums, rows): &(Option<Sums>, usize)| {
            let ridge = sums.as_ref()?.solve(PENALTY)?;
            (*rows >= ROWS * ridge.weights().nrows()).then_some(ridge)
        };
        Regressions(self.sums.iter().map(|sums| [solve(&sums[0]), solve(&sums[1])]).collect())
    }
}

impl Regressions {
    /// Guesses every missing value; smoothing where there is no regression.
    pub(super) fn guess(&self, around: &Surroundings, guesses: &mut Guesses) {
        let mut found = guesses.kalman.clone();
        for (t, value) in found.iter_mut().enumerate() {
            let missing = around.visible[around.channel][t].is_nan();
            let ridge = self.0.get(around.channel).and_then(|ridges| ridges[kind(around, t)].as_ref());
            if let (true, Some(ridge)) = (missing, ridge) {
                let terms = terms(around, guesses, t);
                let weights = ridge.weights().column(0);
                let added: f64 = terms.iter().zip(weights).map(|(term, weight)| term * weight).sum();
                *value = guesses.linear[t] + around.change() * added;
            }
        }
        guesses.regression = found;
    }
}

/// 0 for a missing value with known neighbours, 1 for any other.
fn kind(around: &Surroundings, t: usize) -> usize {
    usize::from(around.near[t].0 > 1 || around.near[t].1 > 1)
}

/// The surroundings of a missing value, in mean changes, about the straight line across the gap.
fn terms(around: &Surroundings, guesses: &Guesses, t: usize) -> Vec<f64> {
    let (linear, kalman) = (&guesses.linear, &guesses.kalman);
    let (last, middle, change) = (linear.len() - 1, linear[t], around.change());
    let mut terms = vec![1.0, (kalman[t] - middle) / change];
    for d in 1..=REACH {
        terms.push((linear[t.saturating_sub(d)] - middle) / change);
        terms.push((linear[(t + d).min(last)] - middle) / change);
    }
    terms.push((kalman[t.saturating_sub(1)] + kalman[(t + 1).min(last)] - 2.0 * kalman[t]) / change);
    let pairs = (around.rhythm.season / 2).min(PAIRS);
    let first = terms.len();
    terms.resize(first + 2 * pairs, 0.0);
    fourier(t, around.rhythm.period, pairs, |place, value| terms[first + place] = value);
    // The way the other channels go, against a straight line across the same gap.
    let (before, after) = around.near[t];
    for (other, lines) in &around.others {
        let (a, b) = (t.saturating_sub(before), (t + after).min(last));
        let share = if b > a { (t - a) as f64 / (b - a) as f64 } else { 0.0 };
        let line = lines[a] + share * (lines[b] - lines[a]);
        terms.push((lines[t] - line) / around.units[*other].change);
    }
    terms
}
