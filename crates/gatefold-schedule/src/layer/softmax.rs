//! The softmax over the values of each step.

use super::elementwise::kernel;
use super::{Lowering, Sequence};
use crate::Target;
use crate::product::element_groups;
use gatefold_model::Layer;
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, params};

/// Invocations that share a row. A GPU reads neighbouring elements together; a software driver has few threads, and
/// shares only what would be one long walk.
pub(super) fn team(target: &Target, width: usize) -> u32 {
    match width {
        ..=8 => 1,
        9..=1024 if target.software => 1,
        9..=64 => 8,
        _ => ELEMENT_WG_SIZE,
    }
}

pub(crate) fn forward(low: &mut Lowering<'_>, layer: &Layer, x: Sequence) -> Sequence {
    let team = team(low.target, x.width);
    let y = low.plan.scratch(format!("{}.y", layer.label()), x.len());
    let (x_span, x_offset) = low.plan.bind(x.span);
    let rows = x.steps * x.batch;
    let (groups, groups_x) = element_groups(rows * team as usize);
    let params = params::Softmax { rows: rows as u32, width: x.width as u32, x_offset, groups_x };
    low.plan.dispatch(
        kernel(KernelId::Softmax, &[("TEAM", team)]),
        params,
        &[x_span.into(), y.into()],
        groups,
    );
    Sequence { span: y, ..x }
}

pub(crate) fn backward(low: &mut Lowering<'_>, layer: &Layer, y: Sequence, d_y: Sequence) -> Sequence {
    let team = team(low.target, y.width);
    let d_x = low.plan.scratch(format!("{}.d_x", layer.label()), y.len());
    let ((y_span, y_offset), (d_span, d_y_offset)) = (low.plan.bind(y.span), low.plan.bind(d_y.span));
    let rows = y.steps * y.batch;
    let (groups, groups_x) = element_groups(rows * team as usize);
    let params = params::SoftmaxBackward {
        rows: rows as u32,
        width: y.width as u32,
        y_offset,
        d_y_offset,
        groups_x,
        ..Default::default()
    };
    let kernel = kernel(KernelId::SoftmaxBackward, &[("TEAM", team)]);
    low.plan.dispatch(kernel, params, &[y_span.into(), d_span.into(), d_x.into()], groups);
    Sequence { span: d_x, ..y }
}
