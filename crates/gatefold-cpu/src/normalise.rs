//! Layer normalisation as a layer, row by row; the equations are those of the reference's `norm` module.

use crate::buffers::Matrix;
use crate::dressed::{normalise_group, normalise_group_backward};
use crate::network::Context;
use crate::tensors::{Sums, Values};
use gatefold_model::{Layer, Role};
use ndarray::ArrayView2;

/// The material of the gradients of weight and bias.
#[derive(Debug)]
pub(crate) struct NormaliseGradients {
    /// The normalised rows.
    normal: Matrix,
    /// The gradient with respect to the output.
    d_y: Matrix,
}

/// The weight and the bias.
fn parameters<'a>(values: Values<'a>, layer: &Layer) -> [&'a [f32]; 2] {
    [Role::NormaliseWeight, Role::NormaliseBias]
        .map(|role| values.elements(layer, role, false).expect("normalisations have both"))
}

pub(crate) fn forward(context: Context, layer: &Layer, epsilon: f32, x: ArrayView2<f32>) -> Matrix {
    let [weight, bias] = parameters(context.values, layer);
    let mut y = context.buffers.copy(x);
    context.set.compile(|| {
        for row in y.elements_mut().chunks_exact_mut(weight.len()) {
            normalise_group(row, epsilon);
            row.iter_mut()
                .zip(weight.iter().zip(bias))
                .for_each(|(y, (weight, bias))| *y = *y * weight + bias);
        }
    });
    y
}

/// The gradient with respect to the input, if wanted, and the material of those of the parameters.
pub(crate) fn backward(
    context: Context,
    layer: &Layer,
    epsilon: f32,
    x: ArrayView2<f32>,
    d_y: Matrix,
    wants_input: bool,
) -> (Option<Matrix>, NormaliseGradients) {
    let [weight, _] = parameters(context.values, layer);
    let mut normal = context.buffers.copy(x);
    let mut d_x = wants_input.then(|| d_y.clone());
    let width = weight.len();
    context.set.compile(|| {
        let mut d_rows = d_x.as_mut().map(|d_x| d_x.elements_mut().chunks_exact_mut(width));
        for row in normal.elements_mut().chunks_exact_mut(width) {
            let scale = normalise_group(row, epsilon);
            if let Some(d) = d_rows.as_mut().and_then(Iterator::next) {
                d.iter_mut().zip(weight).for_each(|(d, weight)| *d *= weight);
                normalise_group_backward(row, scale, d);
            }
        }
    });
    (d_x, NormaliseGradients { normal, d_y })
}

pub(crate) fn add_gradients(layer: &Layer, found: &NormaliseGradients, sums: &mut Sums) {
    let NormaliseGradients { normal, d_y } = found;
    sums.add_products(layer.find(Role::NormaliseWeight, false), d_y.view(), normal.view());
    sums.add_bias(layer.find(Role::NormaliseBias, false), d_y.view());
}

/// The tangent of the output, from that of the input, if it moves, and `along`, those of the parameters.
pub(crate) fn tangent(
    context: Context,
    along: Values,
    layer: &Layer,
    epsilon: f32,
    x: ArrayView2<f32>,
    x_dot: Option<Matrix>,
) -> Matrix {
    let ([weight, _], [weight_dot, bias_dot]) = (parameters(context.values, layer), parameters(along, layer));
    let mut normal = context.buffers.copy(x);
    let mut dot = x_dot.unwrap_or_else(|| context.buffers.zeros(x.nrows(), x.ncols()));
    let rows = normal.elements_mut().chunks_exact_mut(weight.len());
    for (normal, dot) in rows.zip(dot.elements_mut().chunks_exact_mut(weight.len())) {
        let scale = normalise_group(normal, epsilon);
        // The Jacobian of a normalisation is symmetric.
        normalise_group_backward(normal, scale, dot);
        for (k, dot) in dot.iter_mut().enumerate() {
            *dot = *dot * weight[k] + normal[k] * weight_dot[k] + bias_dot[k];
        }
    }
    dot
}
