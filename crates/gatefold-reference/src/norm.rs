//! Layer normalisation (Ba, Kiros and Hinton 2016): `(x - mean) / sqrt(variance + epsilon)` over parts of a row.

use crate::Real;
use gatefold_model::{Cell, GruGate};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};
use std::ops::Range;

/// The gates of a cell that are normalised together: all, but in a GRU the candidate by itself.
pub fn norm_groups(cell: &Cell) -> Vec<Range<usize>> {
    match cell {
        Cell::Gru(_) => {
            let new = GruGate::New as usize;
            vec![0..new, new..GruGate::COUNT]
        }
        cell => vec![0..cell.gates(); 1],
    }
}

/// The normalised row, and `1 / sqrt(variance + epsilon)`.
pub fn normalise<R: Real>(x: ArrayView1<R>, epsilon: R) -> (Array1<R>, R) {
    let count = R::from_f64(x.len() as f64);
    let mean = x.sum() / count;
    let centred = x.mapv(|x| x - mean);
    let scale = R::ONE / (centred.dot(&centred) / count + epsilon).sqrt();
    (centred.mapv(|x| x * scale), scale)
}

/// The chain rule through [`normalise`], from the normalised row and its scale:
/// `d_x = scale (d_y - mean(d_y) - y mean(d_y y))`.
pub fn normalise_backward<R: Real>(y: ArrayView1<R>, scale: R, d_y: ArrayView1<R>) -> Array1<R> {
    let count = R::from_f64(y.len() as f64);
    let (mean, along) = (d_y.sum() / count, d_y.dot(&y) / count);
    Array1::from_shape_fn(y.len(), |k| scale * (d_y[k] - mean - y[k] * along))
}

/// `y = normal weight + bias` for every row of `[N, F]`, where normal is the [normalised](normalise) row.
pub fn normalise_rows<R: Real>(
    x: ArrayView2<R>,
    epsilon: R,
    weight: ArrayView1<R>,
    bias: ArrayView1<R>,
) -> Array2<R> {
    let mut y = Array2::zeros(x.dim());
    for (x, mut y) in x.rows().into_iter().zip(y.rows_mut()) {
        y.assign(&(normalise(x, epsilon).0 * weight + bias));
    }
    y
}

/// The backward of [`normalise_rows`] with respect to x, and `d_y normal`, whose columns add up to `d_weight`.
pub fn normalise_rows_backward<R: Real>(
    x: ArrayView2<R>,
    epsilon: R,
    weight: ArrayView1<R>,
    d_y: ArrayView2<R>,
) -> (Array2<R>, Array2<R>) {
    let (mut d_x, mut products) = (Array2::zeros(x.dim()), Array2::zeros(x.dim()));
    for (row, (x, d_y)) in x.rows().into_iter().zip(d_y.rows()).enumerate() {
        let (normal, scale) = normalise(x, epsilon);
        products.row_mut(row).assign(&(&normal * &d_y));
        let d = normalise_backward(normal.view(), scale, (&d_y * &weight).view());
        d_x.row_mut(row).assign(&d);
    }
    (d_x, products)
}

/// The derivative of [`normalise_rows`] along tangents of x, weight and bias.
pub fn normalise_rows_tangent<R: Real>(
    x: ArrayView2<R>,
    epsilon: R,
    weight: ArrayView1<R>,
    (x_dot, weight_dot, bias_dot): (ArrayView2<R>, ArrayView1<R>, ArrayView1<R>),
) -> Array2<R> {
    let mut y_dot = Array2::zeros(x.dim());
    for (row, (x, x_dot)) in x.rows().into_iter().zip(x_dot.rows()).enumerate() {
        let (normal, scale) = normalise(x, epsilon);
        // The Jacobian of a normalisation is symmetric.
        let through = normalise_backward(normal.view(), scale, x_dot) * weight;
        y_dot.row_mut(row).assign(&(through + &normal * &weight_dot + bias_dot));
    }
    y_dot
}

/// Normalises the groups of gates of rows `[B, G H]`.
pub fn normalise_gates<R: Real>(cell: &Cell, x: ArrayView2<R>, epsilon: R) -> Array2<R> {
    let mut y = Array2::zeros(x.dim());
    each_group(cell, x.ncols(), |columns| {
        for row in 0..x.nrows() {
            let (normal, _) = normalise(x.slice(s![row, columns.clone()]), epsilon);
            y.slice_mut(s![row, columns.clone()]).assign(&normal);
        }
    });
    y
}

/// The chain rule through [`normalise_gates`].
pub fn normalise_gates_backward<R: Real>(
    cell: &Cell,
    x: ArrayView2<R>,
    epsilon: R,
    d_y: ArrayView2<R>,
) -> Array2<R> {
    let mut d_x = Array2::zeros(x.dim());
    each_group(cell, x.ncols(), |columns| {
        for row in 0..x.nrows() {
            let (y, scale) = normalise(x.slice(s![row, columns.clone()]), epsilon);
            let d = normalise_backward(y.view(), scale, d_y.slice(s![row, columns.clone()]));
            d_x.slice_mut(s![row, columns.clone()]).assign(&d);
        }
    });
    d_x
}

fn each_group(cell: &Cell, columns: usize, mut work: impl FnMut(Range<usize>)) {
    let hidden = columns / cell.gates();
    for gates in norm_groups(cell) {
        work(gates.start * hidden..gates.end * hidden);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    #[test]
    fn a_normalised_row_has_mean_zero_and_nearly_unit_variance() {
        let (y, scale) = normalise(array![1.0, -2.0, 4.0, 0.5].view(), 1e-5);
        assert_abs_diff_eq!(y.sum(), 0.0, epsilon = 1e-15);
        // variance / (variance + epsilon)
        assert_abs_diff_eq!(y.dot(&y) / 4.0, 1.0 - 1e-5 * scale * scale, epsilon = 1e-15);
        assert_eq!(normalise(array![3.0, 3.0].view(), 1e-5).0, array![0.0, 0.0]);
    }

    #[test]
    fn the_tangent_of_rows_is_their_derivative_in_dual_numbers() {
        use crate::Dual;
        let (x, x_dot) =
            (array![[0.3, -1.2, 0.8], [2.0, 0.1, -0.4]], array![[0.5, 0.2, -1.0], [0.7, -0.3, 0.9]]);
        let (weight, weight_dot) = (array![1.1, -0.6, 0.4], array![0.2, 0.9, -0.5]);
        let (bias, bias_dot) = (array![0.1, 0.2, -0.3], array![-0.8, 0.3, 0.6]);
        let found = normalise_rows_tangent(
            x.view(),
            0.1,
            weight.view(),
            (x_dot.view(), weight_dot.view(), bias_dot.view()),
        );
        let dual = normalise_rows(
            Dual::join(&x, &x_dot).view(),
            Dual::from_f64(0.1),
            Dual::join(&weight, &weight_dot).view(),
            Dual::join(&bias, &bias_dot).view(),
        );
        for (found, want) in found.iter().zip(&dual) {
            assert_abs_diff_eq!(*found, want.tangent, epsilon = 1e-14);
        }
    }

    #[test]
    fn backward_matches_central_differences() {
        let (x, weights) = (array![0.3, -1.2, 0.8, 2.1, -0.4], array![0.7, -0.2, 1.1, 0.4, -0.9]);
        let loss = |x: &Array1<f64>| normalise(x.view(), 0.1).0.dot(&weights);
        let (y, scale) = normalise(x.view(), 0.1);
        let d_x = normalise_backward(y.view(), scale, weights.view());
        for k in 0..x.len() {
            let moved = |by: f64| {
                let mut moved = x.clone();
                moved[k] += by;
                loss(&moved)
            };
            assert_abs_diff_eq!(d_x[k], (moved(1e-5) - moved(-1e-5)) / 2e-5, epsilon = 1e-9);
        }
    }
}
