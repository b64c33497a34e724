//! `y = activation(x W^T + b)`; the equations are those of the reference's `linear` module.

use crate::buffers::Matrix;
use crate::functions::{apply, reads_argument, times_slope};
use crate::instructions::Instructions;
use crate::network::Context;
use crate::product::{Columns, ColumnsMut, Packed, Start, TILE_ROWS};
use gatefold_model::Activation;
use ndarray::ArrayView2;

/// The tape of a dense layer.
#[derive(Clone, Debug)]
pub(crate) struct DenseTape {
    /// `[M, O]`
    pub(crate) y: Matrix,
    /// `[M, O]`: the pre-activations, kept where the slope does not follow from y.
    pre: Option<Matrix>,
}

/// `x [M, I]`, `weight = W^T [I, O]`, `bias [O]` or none to `[M, O]`.
pub(crate) fn forward(
    context: Context,
    x: ArrayView2<f32>,
    weight: &Packed,
    bias: Option<&[f32]>,
    activation: Activation,
) -> DenseTape {
    activate(context.set, product(context, x, weight, bias), activation)
}

/// Applies a function to pre-activations, and keeps what backward needs of them.
pub(crate) fn activate(set: Instructions, mut y: Matrix, activation: Activation) -> DenseTape {
    let pre = reads_argument(activation).then(|| y.clone());
    apply(set, activation, y.elements_mut());
    DenseTape { y, pre }
}

/// `x W^T + b`, or `d W`, for whatever is packed; threads share the rows.
pub(crate) fn product(context: Context, x: ArrayView2<f32>, weight: &Packed, bias: Option<&[f32]>) -> Matrix {
    let mut y = context.buffers.matrix(x.nrows(), weight.width());
    let (width, depth) = (weight.width(), x.ncols());
    let elements = x.to_slice().expect("values are kept in standard layout");
    let share = context.threads.share(x.nrows(), TILE_ROWS, x.len() * width);
    let parts = elements.chunks(share * depth).zip(y.elements_mut().chunks_mut(share * width));
    context.threads.run(parts, |(x, y)| {
        let start = bias.map_or(Start::Zero, Start::Row);
        weight.multiply(context.set, Columns::all(x, depth), start, ColumnsMut::all(y, width));
    });
    y
}

/// Turns the gradient with respect to `y` into that with respect to the pre-activations.
pub(crate) fn backward(set: Instructions, tape: &DenseTape, activation: Activation, d_y: &mut Matrix) {
    let x = tape.pre.as_ref().map_or(&[][..], Matrix::elements);
    times_slope(set, activation, x, tape.y.elements(), d_y.elements_mut());
}
