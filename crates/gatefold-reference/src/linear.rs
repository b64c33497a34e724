//! Matrix products and dense layers.

use crate::Real;
use crate::activation;
use gatefold_model::Activation;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};

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

/// `y = activation(x W^T + b)`: `x [M, I]`, `W [O, I]`, `b [O]` to `[M, O]`.
pub fn dense_forward<R: Real>(
    x: ArrayView2<R>,
    weight: ArrayView2<R>,
    bias: ArrayView1<R>,
    activation: Activation,
) -> Array2<R> {
    let mut y = matmul_bt(x, weight);
    y += &bias;
    if activation != Activation::Identity {
        y.mapv_inplace(|pre| activation::apply(activation, pre));
    }
    y
}

/// What [`dense_backward`] returns.
#[derive(Clone, Debug)]
pub struct DenseBackward<R> {
    /// `[M, O]`, the cotangent in front of the activation.
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
    let mut d_pre = d_y.to_owned();
    if activation != Activation::Identity {
        Zip::from(&mut d_pre).and(&y).for_each(|d, &y| *d = *d * activation::derivative(activation, y));
    }
    DenseBackward {
        d_weight: matmul_at(d_pre.view(), x),
        d_bias: column_sum(d_pre.view()),
        d_x: matmul(d_pre.view(), weight),
        d_pre,
    }
}
