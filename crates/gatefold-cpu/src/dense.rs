//! `y = activation(x W^T + b)`; the equations are those of the reference's `linear` module.

use crate::functions::{apply, reads_argument, times_slope};
use crate::instructions::Instructions;
use crate::product::{Columns, ColumnsMut, Packed, Start};
use crate::scan::{elements, elements_mut};
use gatefold_model::Activation;
use ndarray::{Array2, ArrayView2};

/// The tape of a dense layer.
#[derive(Clone, Debug)]
pub(crate) struct DenseTape {
    /// `[M, O]`
    pub(crate) y: Array2<f32>,
    /// `[M, O]`: the pre-activations, kept where the slope does not follow from y.
    pre: Option<Array2<f32>>,
}

/// `x [M, I]`, `weight = W^T [I, O]`, `bias [O]` or none to `[M, O]`.
pub(crate) fn forward(
    set: Instructions,
    x: ArrayView2<f32>,
    weight: &Packed,
    bias: Option<&[f32]>,
    activation: Activation,
) -> DenseTape {
    let mut y = product(set, x, weight, bias);
    let pre = reads_argument(activation).then(|| y.clone());
    apply(set, activation, elements_mut(&mut y));
    DenseTape { y, pre }
}

/// `x W^T + b`, or `d W`, for whatever is packed.
pub(crate) fn product(set: Instructions, x: ArrayView2<f32>, weight: &Packed, bias: Option<&[f32]>) -> Array2<f32> {
    let mut y = Array2::zeros((x.nrows(), weight.width()));
    let to = ColumnsMut::all(elements_mut(&mut y), weight.width());
    weight.multiply(set, Columns::all(x.to_slice().expect("values are kept in standard layout"), x.ncols()), bias.map_or(Start::Zero, Start::Row), to);
    y
}

/// Turns the gradient with respect to `y` into that with respect to the pre-activations.
pub(crate) fn backward(set: Instructions, tape: &DenseTape, activation: Activation, d_y: &mut Array2<f32>) {
    let x = tape.pre.as_ref().map_or(&[][..], elements);
    times_slope(set, activation, x, elements(&tape.y), elements_mut(d_y));
}
