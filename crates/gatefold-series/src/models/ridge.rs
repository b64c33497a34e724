//! Ridge regression through its normal equations.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array3, Axis, concatenate, s};
use serde::{Deserialize, Serialize};

/// `X' X` and `X' Y` over rows of terms X and targets Y. All outputs share the terms, and each may have a few of its own.
#[derive(Clone, Debug)]
pub struct Sums {
    terms: Array2<f64>,
    targets: Array2<f64>,
    own: Vec<OwnSums>,
    rows: usize,
    free: usize,
}

/// The sums of one output's own terms Z: `X' Z`, `Z' Z` and `Z' y`.
#[derive(Clone, Debug)]
struct OwnSums {
    shared: Array2<f64>,
    own: Array2<f64>,
    targets: Array2<f64>,
}

/// The weights of a regression, `[terms, outputs]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Rows", try_from = "Rows")]
pub struct Ridge {
    weights: Array2<f64>,
}

/// The weights as a file has them.
#[derive(Serialize, Deserialize)]
struct Rows(Vec<Vec<f64>>);

impl From<Ridge> for Rows {
    fn from(ridge: Ridge) -> Rows {
        Rows(ridge.weights.rows().into_iter().map(|row| row.to_vec()).collect())
    }
}

impl TryFrom<Rows> for Ridge {
    type Error = String;

    fn try_from(Rows(rows): Rows) -> Result<Ridge, String> {
        let outputs = rows.first().map_or(0, Vec::len);
        let shape = (rows.len(), outputs);
        Array2::from_shape_vec(shape, rows.into_iter().flatten().collect())
            .map(|weights| Ridge { weights })
            .map_err(|_| format!("expected {} rows of {outputs} weights", shape.0))
    }
}

impl Sums {
    /// No rows yet. The first `free` terms are not penalised.
    pub fn new(terms: usize, outputs: usize, free: usize) -> Self {
        let targets = Array2::zeros((terms, outputs));
        Sums { terms: Array2::zeros((terms, terms)), targets, own: Vec::new(), rows: 0, free }
    }

    /// No rows yet. Each output has `count` terms of its own besides those that all share.
    pub fn with_own_terms(mut self, count: usize) -> Self {
        let (shared, outputs) = self.targets.dim();
        let own = OwnSums {
            shared: Array2::zeros((shared, count)),
            own: Array2::zeros((count, count)),
            targets: Array2::zeros((count, 1)),
        };
        self.own = if count == 0 { Vec::new() } else { vec![own; outputs] };
        self
    }

    /// Adds rows of terms `[rows, terms]` and targets `[rows, outputs]`.
    pub fn add(&mut self, terms: &Array2<f64>, targets: &Array2<f64>) {
        general_mat_mul(1.0, &terms.t(), terms, 1.0, &mut self.terms);
        general_mat_mul(1.0, &terms.t(), targets, 1.0, &mut self.targets);
        self.rows += terms.nrows();
    }

    /// Adds rows of terms `[rows, terms]`, of each output's own terms `[outputs, rows, own terms]`, and of targets
    /// `[rows, outputs]`.
    pub fn add_with_own(&mut self, terms: &Array2<f64>, own: &Array3<f64>, targets: &Array2<f64>) {
        self.add(terms, targets);
        for (output, (sums, own)) in self.own.iter_mut().zip(own.outer_iter()).enumerate() {
            let target = targets.slice(s![.., output..=output]);
            general_mat_mul(1.0, &terms.t(), &own, 1.0, &mut sums.shared);
            general_mat_mul(1.0, &own.t(), &own, 1.0, &mut sums.own);
            general_mat_mul(1.0, &own.t(), &target, 1.0, &mut sums.targets);
        }
    }

    /// Solves `(X' X + n penalty I) W = X' Y`, where `I` leaves out the free terms but for a trace that keeps the matrix
    /// definite. `None` without rows, or when the values are too extreme to solve for.
    pub fn solve(&self, penalty: f64) -> Option<Ridge> {
        if self.rows == 0 {
            return None;
        }
        let weights = if self.own.is_empty() {
            self.solved(self.terms.clone(), self.targets.clone(), penalty)?
        } else {
            let columns: Vec<Array2<f64>> = (0..self.own.len())
                .map(|output| {
                    let (matrix, targets) = self.of_output(output);
                    self.solved(matrix, targets, penalty)
                })
                .collect::<Option<_>>()?;
            let views: Vec<_> = columns.iter().map(|column| column.view()).collect();
            concatenate(Axis(1), &views).expect("one column of all terms for each output")
        };
        weights.iter().all(|value| value.is_finite()).then_some(Ridge { weights })
    }

    /// The sums of the shared terms and one output's own, and its targets.
    fn of_output(&self, output: usize) -> (Array2<f64>, Array2<f64>) {
        let (own, shared) = (&self.own[output], self.terms.nrows());
        let count = shared + own.own.nrows();
        let (mut matrix, mut targets) = (Array2::zeros((count, count)), Array2::zeros((count, 1)));
        matrix.slice_mut(s![..shared, ..shared]).assign(&self.terms);
        matrix.slice_mut(s![..shared, shared..]).assign(&own.shared);
        matrix.slice_mut(s![shared.., ..shared]).assign(&own.shared.t());
        matrix.slice_mut(s![shared.., shared..]).assign(&own.own);
        targets.slice_mut(s![..shared, ..]).assign(&self.targets.slice(s![.., output..=output]));
        targets.slice_mut(s![shared.., ..]).assign(&own.targets);
        (matrix, targets)
    }

    fn solved(&self, mut matrix: Array2<f64>, targets: Array2<f64>, penalty: f64) -> Option<Array2<f64>> {
        let trace = matrix.diag().iter().fold(0.0, |most: f64, value| most.max(*value));
        for (at, value) in matrix.diag_mut().iter_mut().enumerate() {
            *value += if at < self.free { 1e-9 * trace } else { penalty * self.rows as f64 };
        }
        solve_definite(matrix, targets)
    }
}

impl Ridge {
    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.weights.ncols()
    }

    /// The weights, `[terms, outputs]`, those of an output's own terms last.
    pub fn weights(&self) -> &Array2<f64> {
        &self.weights
    }

    /// `X W`
    pub fn predict(&self, terms: &Array2<f64>) -> Array2<f64> {
        terms.dot(&self.weights)
    }

    /// The outputs for shared terms `[rows, terms]` and each output's own `[outputs, rows, own terms]`.
    pub fn predict_with_own(&self, terms: &Array2<f64>, own: &Array3<f64>) -> Array2<f64> {
        let mut outputs = terms.dot(&self.weights.slice(s![..terms.ncols(), ..]));
        for (output, own) in own.outer_iter().enumerate() {
            let weights = self.weights.slice(s![terms.ncols().., output]);
            outputs.column_mut(output).scaled_add(1.0, &own.dot(&weights));
        }
        outputs
    }
}

/// Solves `A W = B` for a symmetric positive definite A by its Cholesky factor (Golub and Van Loan, "Matrix
/// computations", 4th edition, section 4.2); `None` if A is not positive definite.
fn solve_definite(mut a: Array2<f64>, mut b: Array2<f64>) -> Option<Array2<f64>> {
    let n = a.nrows();
    for column in 0..n {
        let (left, mut right) = a.view_mut().split_at(ndarray::Axis(1), column);
        let known = left.row(column).to_owned();
        let mut below = right.slice_mut(s![column.., 0usize]);
        below -= &left.slice(s![column.., ..]).dot(&known);
        let pivot = below[0];
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        below /= pivot.sqrt();
    }
    for row in 0..n {
        let (solved, mut rest) = b.view_mut().split_at(ndarray::Axis(0), row);
        let mut now = rest.row_mut(0);
        now -= &a.slice(s![row, ..row]).dot(&solved);
        now /= a[[row, row]];
    }
    for row in (0..n).rev() {
        let (mut rest, solved) = b.view_mut().split_at(ndarray::Axis(0), row + 1);
        let mut now = rest.row_mut(row);
        now -= &a.slice(s![row + 1.., row]).dot(&solved);
        now /= a[[row, row]];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use ndarray::array;

    #[test]
    fn a_definite_system_is_solved() {
        let a = array![[4.0, 2.0, 0.6], [2.0, 3.0, 0.4], [0.6, 0.4, 1.0]];
        let w = array![[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]];
        let solved = solve_definite(a.clone(), a.dot(&w)).unwrap();
        for (found, expected) in solved.iter().zip(&w) {
            assert_relative_eq!(found, expected, max_relative = 1e-12);
        }
        assert!(solve_definite(array![[1.0, 2.0], [2.0, 1.0]], array![[1.0], [1.0]]).is_none());
    }

    #[test]
    fn outputs_with_terms_of_their_own_are_solved_as_if_alone() {
        let at = |k: usize| ((k * k * 37 + k * 11) % 101) as f64 / 50.0 - 1.0;
        let terms = Array2::from_shape_fn((30, 3), |(r, c)| if c == 0 { 1.0 } else { at(7 * r + c) });
        let own = Array3::from_shape_fn((2, 30, 2), |(o, r, c)| at(500 + 90 * o + 3 * r + c));
        let targets = Array2::from_shape_fn((30, 2), |(r, o)| at(1000 + 2 * r + o));
        let mut sums = Sums::new(3, 2, 1).with_own_terms(2);
        sums.add_with_own(&terms, &own, &targets);
        let ridge = sums.solve(0.01).unwrap();
        let forecasts = ridge.predict_with_own(&terms, &own);
        for output in 0..2 {
            let own = own.index_axis(Axis(0), output);
            let all = concatenate(Axis(1), &[terms.view(), own]).unwrap();
            let mut alone = Sums::new(5, 1, 1);
            alone.add(&all, &targets.slice(s![.., output..=output]).to_owned());
            let alone = alone.solve(0.01).unwrap();
            for (found, expected) in forecasts.column(output).iter().zip(&alone.predict(&all)) {
                assert_relative_eq!(found, expected, max_relative = 1e-9, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn the_penalty_shrinks_all_but_the_free_terms() {
        // y = 10 + 2 x: with the penalty n p and sum x^2 = n v around a mean of 0, the slope is 2 v / (v + p).
        let x = array![[1.0, -1.0], [1.0, 1.0], [1.0, -2.0], [1.0, 2.0]];
        let mut sums = Sums::new(2, 1, 1);
        sums.add(&x, &x.dot(&array![[10.0], [2.0]]));
        let ridge = sums.solve(0.5).unwrap();
        assert_relative_eq!(ridge.weights()[[0, 0]], 10.0, max_relative = 1e-7);
        assert_relative_eq!(ridge.weights()[[1, 0]], 2.0 * 2.5 / 3.0, max_relative = 1e-12);
    }
}
