//! Layer normalisation as a layer, over the values of each step.

use super::elementwise::kernel;
use super::softmax::team;
use super::{Lowering, Sequence};
use crate::product::{self, Order, element_groups};
use crate::{Binding, Error, ParameterSpans, Span};
use gatefold_model::{Layer, Role};
use gatefold_shaders::{KernelId, params};

/// Params for the rows of a sequence, and the number of workgroups.
fn rows(
    x: Sequence,
    (x_offset, d_offset): (u32, u32),
    epsilon: f32,
    team: u32,
) -> (params::NormaliseRows, [u32; 3]) {
    let rows = x.steps * x.batch;
    let (groups, groups_x) = element_groups(rows * team as usize);
    let (rows, width) = (rows as u32, x.width as u32);
    (
        params::NormaliseRows { rows, width, x_offset, d_offset, epsilon, groups_x, ..Default::default() },
        groups,
    )
}

pub(crate) fn forward(low: &mut Lowering<'_>, layer: &Layer, epsilon: f32, x: Sequence) -> Sequence {
    let team = team(low.target, x.width);
    let y = low.plan.scratch(format!("{}.y", layer.label()), x.len());
    let [weight, bias] =
        [Role::NormaliseWeight, Role::NormaliseBias].map(|role| low.parameters.values(low.plan, layer, role));
    let (x_span, x_offset) = low.plan.bind(x.span);
    let (params, groups) = rows(x, (x_offset, 0), epsilon, team);
    let bindings = [x_span.into(), weight.into(), bias.into(), y.into()];
    low.plan.dispatch(kernel(KernelId::NormaliseRows, &[("TEAM", team)]), params, &bindings, groups);
    Sequence { span: y, ..x }
}

pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    epsilon: f32,
    (x, lengths): (Sequence, Option<Span>),
    d_y: Sequence,
) -> Result<Sequence, Error> {
    let (team, label) = (team(low.target, x.width), layer.label());
    let d_weight = low.parameters.gradient(low.plan, layer, Role::NormaliseWeight);
    let products = d_weight.map(|_| low.plan.scratch(format!("{label}.products"), x.len()));
    let d_x = low.plan.scratch(format!("{label}.d_x"), x.len());
    let weight = low.parameters.values(low.plan, layer, Role::NormaliseWeight);
    let ((x_span, x_offset), (d_span, d_offset)) = (low.plan.bind(x.span), low.plan.bind(d_y.span));
    let (params, groups) = rows(x, (x_offset, d_offset), epsilon, team);
    let consts = [("TEAM", team), ("PRODUCTS", u32::from(products.is_some()))];
    let last = products.map_or(Binding::Unused, Into::into);
    let bindings = [x_span.into(), weight.into(), d_span.into(), d_x.into(), last];
    low.plan.dispatch(kernel(KernelId::NormaliseRowsBackward, &consts), params, &bindings, groups);
    let d_bias = low.parameters.gradient(low.plan, layer, Role::NormaliseBias);
    let products = products.map(|span| Sequence { span, ..x });
    for (name, rows, d) in [("weight", products, d_weight), ("bias", Some(d_y), d_bias)] {
        if let (Some(rows), Some(d)) = (rows, d) {
            let (what, into) = (format!("{label}.{name}"), [(Order::same(d.len), d)]);
            product::add_column_sums(low.plan, low.target, &what, rows.rows(lengths), &into)?;
        }
    }
    Ok(Sequence { span: d_x, ..x })
}

pub(crate) fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    epsilon: f32,
    x: Sequence,
    x_dot: Sequence,
) -> Sequence {
    let team = team(low.target, x.width);
    let dot = low.plan.scratch(format!("{}.dot", layer.label()), x.len());
    let weight = low.parameters.values(low.plan, layer, Role::NormaliseWeight);
    let [weight_dot, bias_dot] =
        [Role::NormaliseWeight, Role::NormaliseBias].map(|role| along.values(low.plan, layer, role));
    let ((x_span, x_offset), (dot_span, d_offset)) = (low.plan.bind(x.span), low.plan.bind(x_dot.span));
    let (params, groups) = rows(x, (x_offset, d_offset), epsilon, team);
    let bindings =
        [x_span.into(), weight.into(), dot_span.into(), weight_dot.into(), bias_dot.into(), dot.into()];
    low.plan.dispatch(kernel(KernelId::NormaliseRowsTangent, &[("TEAM", team)]), params, &bindings, groups);
    Sequence { span: dot, ..x }
}
