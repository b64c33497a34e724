//! `y = activation(x W^T + b)`; the equations are those of the reference's `linear` module.

use crate::math::{sigmoid, tanh};
use crate::threads::{Threads, add_product};
use gatefold_model::Activation;
use gatefold_reference::activation::{apply, derivative};
use ndarray::{Array2, ArrayView1, ArrayView2};

/// `x [M, I]`, `weight [O, I]`, `bias [O]` to `[M, O]`.
pub(crate) fn forward(
    threads: Threads,
    x: ArrayView2<f32>,
    weight: ArrayView2<f32>,
    bias: ArrayView1<f32>,
    activation: Activation,
) -> Array2<f32> {
    let mut y = rows_of(bias, x.nrows());
    add_product(threads, x, weight.t(), y.view_mut());
    match activation {
        Activation::Identity => {}
        Activation::Relu => y.map_inplace(|y| *y = if *y < 0.0 { 0.0 } else { *y }),
        Activation::Tanh => y.map_inplace(|y| *y = tanh(*y)),
        Activation::Sigmoid => y.map_inplace(|y| *y = sigmoid(*y)),
        other => y.map_inplace(|y| *y = apply(other, *y)),
    }
    y
}

/// Turns the derivative by `y` into the one in front of the activation.
pub(crate) fn backward(y: ArrayView2<f32>, activation: Activation, d_y: &mut Array2<f32>) {
    match activation {
        Activation::Identity => {}
        // NaN passes, as in PyTorch.
        Activation::Relu => d_y.zip_mut_with(&y, |d, &y| *d = if y <= 0.0 { 0.0 } else { *d }),
        Activation::Tanh => d_y.zip_mut_with(&y, |d, &y| *d *= 1.0 - y * y),
        Activation::Sigmoid => d_y.zip_mut_with(&y, |d, &y| *d *= y * (1.0 - y)),
        other => d_y.zip_mut_with(&y, |d, &y| *d *= derivative(other, y)),
    }
}

/// A matrix of which every row is the same.
pub(crate) fn rows_of(row: ArrayView1<f32>, count: usize) -> Array2<f32> {
    row.broadcast((count, row.len())).expect("a row fits every row").to_owned()
}
