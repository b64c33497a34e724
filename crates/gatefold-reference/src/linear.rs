//! Matrix products and dense layers.

use crate::Real;
use crate::activation;
use gatefold_model::Activation;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, Zip};

/// `A B`: `[M, K]` and `[K, N]` to `[M, N]`.
pub fn matmul<R: Real>(a: ArrayView2<R>, b: ArrayView2<R>) -> Array2<R> {
    a.dot(&b)
}

/// `A^T B`: `[K, M]` and `[K, N]` to `[M, N]`.
pub fn matmul_at<R: Real>(a: ArrayView2<R>, b: ArrayView2<R>) -> Array2<R> {
    standard(a.t().dot(&b))
}

/// `A B^T`: `[M, K]` and `[N, K]` to `[M, N]`.
pub fn matmul_bt<R: Real>(a: ArrayView2<R>, b: ArrayView2<R>) -> Array2<R> {
    standard(a.dot(&b.t()))
}

/// ndarray may give a product of transposed matrices in column-major layout.
fn standard<R: Real>(a: Array2<R>) -> Array2<R> {
    if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() }
}

/// The sum of every column: `[M, N]` to `[N]`, rows added in order.
pub fn column_sum<R: Real>(a: ArrayView2<R>) -> Array1<R> {
    a.sum_axis(Axis(0))
}

/// `y = activation(x W^T + b)`: `x [M, I]`, `W [O, I]`, `b [O]` or none to `[M, O]`.
pub fn dense_forward<R: Real>(
    x: ArrayView2<R>,
    weight: ArrayView2<R>,
    bias: Option<ArrayView1<R>>,
    activation: Activation,
) -> Array2<R> {
    let mut y = matmul_bt(x, weight);
    if let Some(bias) = bias {
        y += &bias;
    }
    if activation != Activation::Identity {
        y.mapv_inplace(|pre| activation::apply(activation, pre));
    }
    y
}

/// The second pass of a product whose inner axis was split: `activation(sum over z of slices[z] + bias)`, slices
/// added in order, `[Z, M, N]` to `[M, N]`.
pub fn sum_slices<R: Real>(
    slices: ArrayView3<R>,
    bias: Option<ArrayView1<R>>,
    activation: Activation,
) -> Array2<R> {
    let mut sum = slices.sum_axis(Axis(0));
    if let Some(bias) = bias {
        sum += &bias;
    }
    sum.mapv_inplace(|pre| activation::apply(activation, pre));
    sum
}

/// A tensor `[size0, size1, size2]` whose element `i0, i1, i2` is element `i0 s0 + i1 s1 + i2 s2` of `source`, plus
/// that element of `other` if given.
///
/// # Panics
/// If an element lies outside.
pub fn pack<R: Real>(source: &[R], other: Option<&[R]>, sizes: [usize; 3], strides: [usize; 3]) -> Vec<R> {
    let places = places(sizes, strides);
    places.map(|at| source[at] + other.map_or(R::ZERO, |other| other[at])).collect()
}

/// The inverse of [`pack`], added: `d[i0 s0 + i1 s1 + i2 s2] += sum over z of slices[z, i0, i1, i2]`.
///
/// # Panics
/// If an element lies outside, or a slice is incomplete.
pub fn unpack_gradient<R: Real>(slices: &[R], sizes: [usize; 3], strides: [usize; 3], d: &mut [R]) {
    let len = sizes.iter().product();
    assert_eq!(slices.len() % len, 0, "every slice is whole");
    for (i, at) in places(sizes, strides).enumerate() {
        d[at] += slices.chunks(len).map(|slice| slice[i]).sum();
    }
}

/// The source places of a packed tensor's elements, in its order.
fn places(sizes: [usize; 3], strides: [usize; 3]) -> impl Iterator<Item = usize> {
    let [size0, size1, size2] = sizes;
    (0..size0 * size1 * size2).map(move |i| {
        let (i0, i1, i2) = (i / (size1 * size2), i / size2 % size1, i % size2);
        i0 * strides[0] + i1 * strides[1] + i2 * strides[2]
    })
}

/// `d_pre = d_y act'(y)`, the cotangent of the pre-activations of `y`.
pub fn activation_backward<R: Real>(
    y: ArrayView2<R>,
    d_y: ArrayView2<R>,
    activation: Activation,
) -> Array2<R> {
    Zip::from(&d_y).and(&y).map_collect(|&d, &y| d * activation::derivative(activation, y))
}

/// The result of [`dense_backward`].
#[derive(Clone, Debug)]
pub struct DenseBackward<R> {
    /// `[M, O]`, the cotangent of the pre-activations.
    pub d_pre: Array2<R>,
    /// `[O, I]`
    pub d_weight: Array2<R>,
    /// `[O]`
    pub d_bias: Array1<R>,
    /// `[M, I]`
    pub d_x: Array2<R>,
}

/// The chain rule through [`dense_forward`], whose result is `y`:
/// `d_pre = d_y act'(y)`, `d_W = d_pre^T x`, `d_b = column sums of d_pre`, `d_x = d_pre W`.
pub fn dense_backward<R: Real>(
    x: ArrayView2<R>,
    weight: ArrayView2<R>,
    y: ArrayView2<R>,
    activation: Activation,
    d_y: ArrayView2<R>,
) -> DenseBackward<R> {
    let d_pre = activation_backward(y, d_y, activation);
    DenseBackward {
        d_weight: matmul_at(d_pre.view(), x),
        d_bias: column_sum(d_pre.view()),
        d_x: matmul(d_pre.view(), weight),
        d_pre,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::{Array3, array};

    /// Transposes `[2, 3]`, and back.
    #[test]
    fn unpacking_undoes_packing() {
        let (source, sizes, strides) = ([0., 1., 2., 3., 4., 5.], [1, 3, 2], [0, 1, 3]);
        let packed = pack(&source, None, sizes, strides);
        assert_eq!(packed, [0., 3., 1., 4., 2., 5.]);
        assert_eq!(pack(&source, Some(&source), sizes, strides), [0., 6., 2., 8., 4., 10.]);
        let mut d = [10.; 6];
        unpack_gradient(&[packed.clone(), packed].concat(), sizes, strides, &mut d);
        assert_eq!(d, [10., 12., 14., 16., 18., 20.]);
    }

    #[test]
    fn slices_sum_to_the_dense_layer() {
        let x = array![[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]];
        let (weight, bias) = (array![[0.5, 1.0, -1.0], [2.0, -0.5, 0.25]], array![0.1, -0.2]);
        let mut slices = Array3::zeros((2, 2, 2));
        for (z, columns) in [0..2, 2..3].into_iter().enumerate() {
            let part = ndarray::s![.., columns];
            slices.index_axis_mut(Axis(0), z).assign(&matmul_bt(x.slice(&part), weight.slice(part)));
        }
        let expected = dense_forward(x.view(), weight.view(), Some(bias.view()), Activation::Tanh);
        let found = sum_slices(slices.view(), Some(bias.view()), Activation::Tanh);
        assert_eq!(found.dim(), expected.dim());
        for (found, expected) in found.iter().zip(&expected) {
            assert_abs_diff_eq!(found, expected, epsilon = 1e-15);
        }
    }
}
