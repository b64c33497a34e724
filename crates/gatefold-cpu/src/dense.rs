//! `y = activation(x W^T + b)`; the equations are those of the reference's `linear` module.

use crate::functions::{apply, reads_argument, times_slope};
use crate::threads::{Product, Threads, add_product};
use gatefold_model::Activation;
use ndarray::{Array2, ArrayView1, ArrayView2};

/// The tape of a dense layer.
#[derive(Clone, Debug)]
pub(crate) struct DenseTape {
    /// `[M, O]`
    pub(crate) y: Array2<f32>,
    /// `[M, O]`: the pre-activations, kept where the slope does not follow from y.
    pre: Option<Array2<f32>>,
}

/// `x [M, I]`, `weight [O, I]`, `bias [O]` or none to `[M, O]`.
pub(crate) fn forward(
    threads: Threads,
    x: ArrayView2<f32>,
    weight: ArrayView2<f32>,
    bias: Option<ArrayView1<f32>>,
    activation: Activation,
) -> DenseTape {
    let mut y = bias_rows(bias, x.nrows(), weight.nrows());
    add_product(threads, x, weight.t(), y.view_mut());
    let pre = reads_argument(activation).then(|| y.clone());
    apply(activation, elements_mut(&mut y));
    DenseTape { y, pre }
}

/// [`forward`] for the few rows of a streaming step, without a tape.
pub(crate) fn step(
    product: Product,
    x: ArrayView2<f32>,
    weight: ArrayView2<f32>,
    bias: Option<ArrayView1<f32>>,
    activation: Activation,
) -> Array2<f32> {
    let mut y = bias_rows(bias, x.nrows(), weight.nrows());
    product.add(x, weight, y.view_mut());
    apply(activation, elements_mut(&mut y));
    y
}

/// Turns the gradient with respect to `y` into that with respect to the pre-activations.
pub(crate) fn backward(tape: &DenseTape, activation: Activation, d_y: &mut Array2<f32>) {
    let x = tape.pre.as_ref().map_or(&[][..], |pre| pre.as_slice().expect("it was made so"));
    times_slope(activation, x, tape.y.as_slice().expect("it was made so"), elements_mut(d_y));
}

/// The bias in every row, or zeros.
fn bias_rows(bias: Option<ArrayView1<f32>>, rows: usize, width: usize) -> Array2<f32> {
    bias.map_or_else(|| Array2::zeros((rows, width)), |bias| rows_of(bias, rows))
}

fn elements_mut(matrix: &mut Array2<f32>) -> &mut [f32] {
    matrix.as_slice_mut().expect("matrices are kept in standard layout")
}

/// A matrix with `count` copies of a row.
pub(crate) fn rows_of(row: ArrayView1<f32>, count: usize) -> Array2<f32> {
    row.broadcast((count, row.len())).expect("a row fits every row").to_owned()
}
