//! A dense layer, the same for every step: `y = act(x W^T + b)`, or without `b`.

use super::elementwise::aligned;
use super::{Lowering, Purpose, Sequence};
use crate::Error;
use crate::ParameterSpans;
use crate::Target;
use crate::product::{self, LaneMap, Matrix, Order};
use crate::{Plan, Span};
use gatefold_model::{Activation, Layer, Role};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};

/// The output, and the value that backward takes the slope from: the output again or, if the slope does not follow from
/// it, the value before the activation.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// The output.
    pub y: Sequence,
    /// The value that the slope is computed from.
    pub kept: Sequence,
}

/// The parameters and the function of `act(x W^T + b)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    pub(crate) weight: Role,
    pub(crate) bias: Role,
    pub(crate) activation: Activation,
}

impl Affine {
    /// Those of a dense layer.
    pub(crate) fn dense(activation: Activation) -> Affine {
        Affine { weight: Role::DenseWeight, bias: Role::DenseBias, activation }
    }
}

pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    Affine { weight, bias, activation }: Affine,
    x: Sequence,
    lengths: Option<Span>,
) -> Result<Saved, Error> {
    let weight = low.parameters.values(low.plan, layer, weight);
    let bias = low.parameters.find(low.plan, layer, bias, false);
    let weight = Matrix::new(weight, layer.output, x.width).transposed();
    let y = Sequence { width: layer.output, ..x };
    product(low, &layer.label(), (x.rows(lengths), weight), bias, activation, y)
}

/// `act(a b + bias)` and what backward needs of it; the output has the shape of `y`.
///
/// # Errors
/// [`Error::Limit`] for a product that needs more workgroups than the device has.
pub fn product(
    low: &mut Lowering<'_>,
    what: &str,
    factors: (Matrix, Matrix),
    bias: Option<Span>,
    activation: Activation,
    y: Sequence,
) -> Result<Saved, Error> {
    let out = low.plan.scratch(format!("{what}.y"), y.len());
    let sequence = |span| Sequence { span, ..y };
    if low.purpose == Purpose::Inference || activation.slope_from_output() {
        product::matmul(low.plan, low.target, what, factors, bias, activation, out)?;
        return Ok(Saved { y: sequence(out), kept: sequence(out) });
    }
    let pre = low.plan.scratch(format!("{what}.pre"), out.len);
    product::matmul(low.plan, low.target, what, factors, bias, Activation::Identity, pre)?;
    product::activate(low.plan, pre, activation, out);
    Ok(Saved { y: sequence(out), kept: sequence(pre) })
}

/// The gradient before an activation, from the value that [`Saved`] kept.
pub fn before_activation(
    plan: &mut Plan,
    label: &str,
    activation: Activation,
    kept: Sequence,
    d_y: Sequence,
) -> Sequence {
    if activation == Activation::Identity {
        return d_y;
    }
    let kept = aligned(plan, format!("{label}.y_aligned"), kept);
    let d_y = aligned(plan, format!("{label}.d_y_aligned"), d_y);
    let d_pre = plan.scratch(format!("{label}.d_pre"), kept.len());
    let (groups, groups_x) = product::element_groups(kept.len());
    let keep_pre = u32::from(!activation.slope_from_output());
    let own = [("WG_SIZE", ELEMENT_WG_SIZE), ("KEEP_PRE", keep_pre)];
    let consts = [&own[..], &product::activation_consts(activation)].concat();
    plan.dispatch(
        KernelVariant::new(KernelId::ActivationBackward, &consts),
        params::ActivationBackward { len: kept.len() as u32, groups_x, ..Default::default() },
        &[kept.span.into(), d_y.span.into(), d_pre.into()],
        groups,
    );
    Sequence { span: d_pre, ..kept }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the layer, its tape and the gradient, each under its own name"
)]
pub(crate) fn backward(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    affine: Affine,
    parameters: &ParameterSpans<'_>,
    (x, lengths, saved): (Sequence, Option<Span>, Saved),
    d_y: Sequence,
    wants_input: bool,
) -> Result<Option<Sequence>, Error> {
    let label = layer.label();
    let d_pre = before_activation(plan, &label, affine.activation, saved.kept, d_y).rows(lengths);
    if let Some(d_weight) = parameters.gradient(plan, layer, affine.weight) {
        let what = format!("{label}.weight");
        let order = Order::columns_units_lanes(LaneMap::same(1), layer.output, x.width);
        product::add_gradient(plan, target, &what, (x.matrix().transposed(), d_pre), order, d_weight)?;
    }
    if let Some(d_bias) = parameters.find_gradient(plan, layer, affine.bias, false) {
        let what = format!("{label}.bias");
        product::add_column_sums(plan, target, &what, d_pre, &[(Order::same(d_bias.len), d_bias)])?;
    }
    if !wants_input {
        return Ok(None);
    }
    let weight = parameters.values(plan, layer, affine.weight);
    let weight = Matrix::new(weight, layer.output, x.width);
    let d_x = plan.scratch(format!("{label}.d_x"), x.len());
    product::matmul(plan, target, &format!("{label}.d_x"), (d_pre, weight), None, Activation::Identity, d_x)?;
    Ok(Some(Sequence { span: d_x, ..x }))
}

/// The tangent of the output, `act' (x_dot W^T + x W_dot^T + b_dot)`.
pub(crate) fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    Affine { weight, bias, activation }: Affine,
    (x, lengths, saved): (Sequence, Option<Span>, Saved),
    x_dot: Sequence,
) -> Result<Sequence, Error> {
    let label = layer.label();
    let factor = |span| Matrix::new(span, layer.output, x.width).transposed();
    let w_dot = factor(along.values(low.plan, layer, weight));
    let b_dot = along.find(low.plan, layer, bias, false);
    let w = factor(low.parameters.values(low.plan, layer, weight));
    let mut product = |name: &str, factors, bias| {
        let what = format!("{label}.{name}");
        let out = low.plan.scratch(what.clone(), saved.y.len());
        product::matmul(low.plan, low.target, &what, factors, bias, Activation::Identity, out)?;
        Ok::<Span, Error>(out)
    };
    let dot = product("dot", (x.rows(lengths), w_dot), b_dot)?;
    let through = product("dot_through", (x_dot.rows(lengths), w), None)?;
    super::add_into(low.plan, through, dot);
    let dot = Sequence { span: dot, ..saved.y };
    Ok(before_activation(low.plan, &format!("{label}.dot"), activation, saved.kept, dot))
}
