/// The part of a column's length that earlier columns must leave; below, rounding is all that is left of it.
const INDEPENDENT: f64 = 1e-10;

/// A least-squares fit `y = sum of coefficients * columns`, and what is left after each column.
pub(crate) struct LeastSquares {
    /// A coefficient for each column; 0 for a column that depends on those before it.
    pub(crate) coefficients: Vec<f64>,
    /// The residual sum of squares with the first `k` columns, for `k` from 0 to all of them.
    pub(crate) residual: Vec<f64>,
}

/// Fits columns to `y` by Householder's QR decomposition (Golub and Van Loan, "Matrix computations", 5.2-5.3). Columns
/// may depend on one another, and may be as many as there are rows.
pub(crate) fn least_squares(mut columns: Vec<Vec<f64>>, mut y: Vec<f64>) -> LeastSquares {
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let mut residual = vec![squares(&y)];
    let mut pivots = Vec::new(); // the columns in use, in order
    for k in 0..columns.len() {
        let rank = pivots.len();
        let (done, rest) = columns.split_at_mut(k + 1);
        let column = &mut done[k];
        let length = squares(&column[rank.min(column.len())..]).sqrt();
        if rank < y.len() && length > INDEPENDENT * squares(column).sqrt() {
            let mut reflector = column[rank..].to_vec();
            let diagonal = if reflector[0] > 0.0 { -length } else { length };
            reflector[0] -= diagonal;
            let half = 0.5 * squares(&reflector);
            for other in rest.iter_mut().chain([&mut y]) {
                let tail = &mut other[rank..];
                let overlap = reflector.iter().zip(&*tail).map(|(a, b)| a * b).sum::<f64>() / half;
                tail.iter_mut().zip(&reflector).for_each(|(value, part)| *value -= overlap * part);
            }
            column[rank] = diagonal;
            pivots.push(k);
        }
        residual.push(squares(&y[pivots.len()..]));
    }
    let mut coefficients = vec![0.0; columns.len()];
    for (row, &k) in pivots.iter().enumerate().rev() {
        let known: f64 =
            pivots[row + 1..].iter().map(|&later| columns[later][row] * coefficients[later]).sum();
        coefficients[k] = (y[row] - known) / columns[k][row];
    }
    LeastSquares { coefficients, residual }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn a_known_fit() {
        // y = 2 a - 3 b + 0.5 r, with r at right angles to both.
        let (a, b, r) = ([1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0], [1.0, -1.0, -1.0, 1.0]);
        let y = (0..4).map(|t| 2.0 * a[t] - 3.0 * b[t] + 0.5 * r[t]).collect();
        let fit = least_squares(vec![a.to_vec(), b.to_vec()], y);
        assert_relative_eq!(fit.coefficients[0], 2.0, max_relative = 1e-13);
        assert_relative_eq!(fit.coefficients[1], -3.0, max_relative = 1e-13);
        assert_relative_eq!(fit.residual[2], 1.0, max_relative = 1e-12);
        assert_relative_eq!(fit.residual[1], 1.0 + 9.0 * 5.0, max_relative = 1e-12);
    }

    #[test]
    fn a_dependent_column_gets_no_coefficient() {
        let a = vec![1.0, 2.0, 4.0];
        let double = a.iter().map(|value| 2.0 * value).collect();
        let fit = least_squares(vec![a.clone(), double, vec![0.0; 3], vec![1.0; 3]], a);
        assert_eq!(fit.coefficients[1..3], [0.0, 0.0]);
        assert_relative_eq!(fit.coefficients[0], 1.0, max_relative = 1e-13);
        assert_relative_eq!(fit.coefficients[3], 0.0, epsilon = 1e-13);
        let wide = least_squares(vec![vec![1.0], vec![2.0]], vec![3.0]);
        assert_eq!((wide.coefficients, wide.residual[1]), (vec![3.0, 0.0], 0.0));
    }
}
