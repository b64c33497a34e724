//! Ridge regression through its normal equations.

use ndarray::{Array2, s};
use serde::{Deserialize, Serialize};

/// `X' X` and `X' Y` over rows of terms X and targets Y.
#[derive(Clone, Debug)]
pub struct Sums {
    terms: Array2<f64>,
    targets: Array2<f64>,
    rows: usize,
    free: usize,
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
        Sums { terms: Array2::zeros((terms, terms)), targets: Array2::zeros((terms, outputs)), rows: 0, free }
    }

    /// Adds rows of terms `[rows, terms]` and targets `[rows, outputs]`.
    pub fn add(&mut self, terms: &Array2<f64>, targets: &Array2<f64>) {
        ndarray::linalg::general_mat_mul(1.0, &terms.t(), terms, 1.0, &mut self.terms);
        ndarray::linalg::general_mat_mul(1.0, &terms.t(), targets, 1.0, &mut self.targets);
        self.rows += terms.nrows();
    }

    /// Solves `(X' X + n penalty I) W = X' Y`, where `I` leaves out the free terms but for a trace that keeps the matrix
    /// definite. `None` without rows, or when the values are too extreme to solve for.
    pub fn solve(&self, penalty: f64) -> Option<Ridge> {
        if self.rows == 0 {
            return None;
        }
        let mut matrix = self.terms.clone();
        let trace = self.terms.diag().iter().fold(0.0, |most: f64, value| most.max(*value));
        for (at, value) in matrix.diag_mut().iter_mut().enumerate() {
            *value += if at < self.free { 1e-9 * trace } else { penalty * self.rows as f64 };
        }
        let weights = solve_definite(matrix, self.targets.clone())?;
        weights.iter().all(|value| value.is_finite()).then_some(Ridge { weights })
    }
}

impl Ridge {
    /// The number of outputs.
    pub fn outputs(&self) -> usize {
        self.weights.ncols()
    }

    /// The weights, `[terms, outputs]`.
    pub fn weights(&self) -> &Array2<f64> {
        &self.weights
    }

    /// `X W`
    pub fn predict(&self, terms: &Array2<f64>) -> Array2<f64> {
        terms.dot(&self.weights)
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
