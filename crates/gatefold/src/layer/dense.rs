//! A dense layer, the same for every step: `y = act(x W^T + b)`.

use super::Sequence;
use super::elementwise::aligned;
use crate::Error;
use crate::gpu::Target;
use crate::parameters::ParameterSpans;
use crate::plan::Plan;
use crate::product::{self, Matrix, Order};
use gatefold_model::{Activation, Layer, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

pub(crate) fn forward(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    activation: Activation,
    parameters: &ParameterSpans<'_>,
    x: Sequence,
) -> Result<Sequence, Error> {
    let weight = parameters.values(plan, layer, Role::DenseWeight);
    let bias = parameters.values(plan, layer, Role::DenseBias);
    let weight = Matrix::new(weight, layer.output, layer.input).transposed();
    let rows = x.steps * x.batch;
    let y = plan.scratch(format!("{}.y", layer.label()), rows * layer.output);
    let what = layer.label();
    product::matmul(plan, target, &what, (x.matrix(), weight), Some(bias), activation, y)?;
    Ok(Sequence { span: y, width: layer.output, ..x })
}

/// The gradient in front of an activation whose result is `y`.
pub(crate) fn in_front_of_activation(
    plan: &mut Plan,
    label: &str,
    activation: Activation,
    y: Sequence,
    d_y: Sequence,
) -> Sequence {
    if activation == Activation::Identity {
        return d_y;
    }
    let y = aligned(plan, format!("{label}.y_aligned"), y);
    let d_y = aligned(plan, format!("{label}.d_y_aligned"), d_y);
    let d_pre = plan.scratch(format!("{label}.d_pre"), y.len());
    let (groups, groups_x) = product::element_groups(y.len());
    plan.dispatch(
        KernelVariant::new(
            KernelId::ActivationBackward,
            &[("WG_SIZE", ELEMENT_WG_SIZE), ("ACTIVATION", activation.code())],
        ),
        params::ActivationBackward { len: y.len() as u32, groups_x, ..Default::default() },
        &[y.span, d_y.span, d_pre],
        groups,
    );
    Sequence { span: d_pre, ..y }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the layer, its tape and the gradient, each under its own name"
)]
pub(crate) fn backward(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    activation: Activation,
    parameters: &ParameterSpans<'_>,
    (x, y): (Sequence, Sequence),
    d_y: Sequence,
    wants_input: bool,
) -> Result<Option<Sequence>, Error> {
    let label = layer.label();
    let d_pre = in_front_of_activation(plan, &label, activation, y, d_y).matrix();
    if let Some(d_weight) = parameters.gradient(plan, layer, Role::DenseWeight) {
        let (what, order) =
            (format!("{label}.weight"), Order::columns_units_gates(1, layer.output, layer.input));
        product::add_gradient(plan, target, &what, (x.matrix().transposed(), d_pre), order, d_weight)?;
    }
    if let Some(d_bias) = parameters.gradient(plan, layer, Role::DenseBias) {
        let (what, order) = (format!("{label}.bias"), Order::same(d_bias.len));
        product::add_column_sums(plan, target, &what, d_pre, order, &[d_bias])?;
    }
    if !wants_input {
        return Ok(None);
    }
    let weight = parameters.values(plan, layer, Role::DenseWeight);
    let weight = Matrix::new(weight, layer.output, layer.input);
    let d_x = plan.scratch(format!("{label}.d_x"), x.len());
    product::matmul(plan, target, &format!("{label}.d_x"), (d_pre, weight), None, Activation::Identity, d_x)?;
    Ok(Some(Sequence { span: d_x, ..x }))
}
