/// A small dense matrix, row after row. Products skip zeros, of which transitions have many.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    data: Vec<f64>,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Matrix {
        Matrix { rows, columns, data: vec![0.0; rows * columns] }
    }

    pub(crate) fn diagonal(values: &[f64]) -> Matrix {
        let mut out = Matrix::zeros(values.len(), values.len());
        values.iter().enumerate().for_each(|(i, value)| out[(i, i)] = *value);
        out
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.data[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn transposed(&self) -> Matrix {
        let mut out = Matrix::zeros(self.columns, self.rows);
        for i in 0..self.rows {
            self.row(i).iter().enumerate().for_each(|(j, value)| out[(j, i)] = *value);
        }
        out
    }

    pub(crate) fn times(&self, other: &Matrix) -> Matrix {
        let mut out = Matrix::zeros(self.rows, other.columns);
        for i in 0..self.rows {
            let to = &mut out.data[i * other.columns..(i + 1) * other.columns];
            for (k, factor) in self.row(i).iter().enumerate().filter(|(_, factor)| **factor != 0.0) {
                to.iter_mut().zip(other.row(k)).for_each(|(to, from)| *to += factor * from);
            }
        }
        out
    }

    pub(crate) fn times_vector(&self, vector: &[f64]) -> Vec<f64> {
        (0..self.rows).map(|i| self.row(i).iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
    }

    /// Adds `factor * other`.
    pub(crate) fn add(&mut self, factor: f64, other: &Matrix) {
        self.data.iter_mut().zip(&other.data).for_each(|(to, from)| *to += factor * from);
    }

    /// Adds `factor * a b'`.
    pub(crate) fn add_outer(&mut self, factor: f64, a: &[f64], b: &[f64]) {
        for (i, a) in a.iter().enumerate() {
            let row = &mut self.data[i * self.columns..(i + 1) * self.columns];
            row.iter_mut().zip(b).for_each(|(to, b)| *to += factor * a * b);
        }
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.data.iter_mut().for_each(|value| *value *= factor);
    }

    /// Removes the rounding by which a symmetric matrix has become unsymmetric.
    pub(crate) fn symmetrise(&mut self) {
        for i in 0..self.rows {
            for j in 0..i {
                let mean = 0.5 * (self[(i, j)] + self[(j, i)]);
                (self[(i, j)], self[(j, i)]) = (mean, mean);
            }
        }
    }

    /// `X` with `self X = right`, for a symmetric matrix that is positive definite, by Cholesky's decomposition. A pivot
    /// that rounding has made too small is replaced by a small positive one.
    pub(crate) fn solve(&self, right: &Matrix) -> Matrix {
        let n = self.rows;
        let mut root = self.clone();
        for j in 0..n {
            let square = root[(j, j)] - root.row(j)[..j].iter().map(|value| value * value).sum::<f64>();
            let pivot = square.max(1e-14 * self[(j, j)].abs()).max(f64::MIN_POSITIVE).sqrt();
            root[(j, j)] = pivot;
            for i in j + 1..n {
                let dot: f64 = root.row(i)[..j].iter().zip(root.row(j)).map(|(a, b)| a * b).sum();
                root[(i, j)] = (root[(i, j)] - dot) / pivot;
            }
        }
        let mut out = right.clone();
        let m = right.columns;
        for i in 0..n {
            let (done, rest) = out.data.split_at_mut(i * m);
            let row = &mut rest[..m];
            for k in 0..i {
                let factor = root[(i, k)];
                row.iter_mut().zip(&done[k * m..(k + 1) * m]).for_each(|(to, from)| *to -= factor * from);
            }
            row.iter_mut().for_each(|value| *value /= root[(i, i)]);
        }
        for i in (0..n).rev() {
            let (rest, done) = out.data.split_at_mut((i + 1) * m);
            let row = &mut rest[i * m..];
            for k in i + 1..n {
                let factor = root[(k, i)];
                let from = &done[(k - i - 1) * m..(k - i) * m];
                row.iter_mut().zip(from).for_each(|(to, from)| *to -= factor * from);
            }
            row.iter_mut().for_each(|value| *value /= root[(i, i)]);
        }
        out
    }
}

impl std::ops::Index<(usize, usize)> for Matrix {
    type Output = f64;

    fn index(&self, (row, column): (usize, usize)) -> &f64 {
        &self.data[row * self.columns + column]
    }
}

impl std::ops::IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, column): (usize, usize)) -> &mut f64 {
        &mut self.data[row * self.columns + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solution_solves() {
        let mut s = Matrix::diagonal(&[3.0, 2.0, 5.0]);
        s.add_outer(0.5, &[1.0, -2.0, 0.5], &[1.0, -2.0, 0.5]);
        let mut right = Matrix::zeros(3, 2);
        right.add_outer(1.0, &[1.0, 2.0, -3.0], &[2.0, 0.5]);
        let mut off = s.times(&s.solve(&right));
        off.add(-1.0, &right);
        assert!(off.data.iter().all(|value| value.abs() < 1e-13), "{off:?}");
        assert_eq!(right.transposed().times_vector(&[1.0, 0.0, 1.0]), [-4.0, -1.0]);
    }
}
