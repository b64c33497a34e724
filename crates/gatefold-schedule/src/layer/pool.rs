//! Pooling over time: the largest value or the mean of each row's own steps.

use super::Sequence;
use super::elementwise::kernel;
use crate::product::element_groups;
use crate::{Binding, Plan, Span};
use gatefold_model::{Layer, Pooling};
use gatefold_shaders::{KernelId, KernelVariant, params};

fn variant(id: KernelId, pooling: Pooling, lengths: Option<Span>) -> KernelVariant {
    let mean = u32::from(pooling == Pooling::Mean);
    kernel(id, &[("LENGTHS", u32::from(lengths.is_some())), ("MEAN", mean)])
}

/// x, if the kernel reads it, and where it begins.
fn largest_of(plan: &Plan, pooling: Pooling, x: Sequence) -> (Binding, u32) {
    match pooling {
        Pooling::Mean => (Binding::Unused, 0),
        Pooling::Max => {
            let (span, offset) = plan.bind(x.span);
            (span.into(), offset)
        }
    }
}

fn params(x: Sequence, (x_offset, v_offset): (u32, u32), groups_x: u32) -> params::Pool {
    let [steps, batch, width] = [x.steps, x.batch, x.width].map(|size| size as u32);
    params::Pool { steps, batch, width, x_offset, v_offset, groups_x, ..Default::default() }
}

/// Pools `values`, by x: x itself or, for the tangent of the output, the tangent of x.
pub(crate) fn forward(
    plan: &mut Plan,
    (layer, what): (&Layer, &str),
    pooling: Pooling,
    (x, lengths): (Sequence, Option<Span>),
    values: Sequence,
) -> Sequence {
    let y = plan.scratch(format!("{}.{what}", layer.label()), x.batch * x.width);
    let ((largest, x_offset), (span, v_offset)) = (largest_of(plan, pooling, x), plan.bind(values.span));
    let (groups, groups_x) = element_groups(y.len);
    plan.dispatch(
        variant(KernelId::Pool, pooling, lengths),
        params(x, (x_offset, v_offset), groups_x),
        &[lengths.into(), largest, span.into(), y.into()],
        groups,
    );
    Sequence { span: y, steps: 1, ..x }
}

pub(crate) fn backward(
    plan: &mut Plan,
    layer: &Layer,
    pooling: Pooling,
    (x, lengths): (Sequence, Option<Span>),
    d_y: Sequence,
) -> Sequence {
    let d_x = plan.scratch(format!("{}.d_x", layer.label()), x.len());
    let ((largest, x_offset), (span, v_offset)) = (largest_of(plan, pooling, x), plan.bind(d_y.span));
    let (groups, groups_x) = element_groups(d_y.len());
    plan.dispatch(
        variant(KernelId::PoolBackward, pooling, lengths),
        params(x, (x_offset, v_offset), groups_x),
        &[lengths.into(), largest, span.into(), d_x.into()],
        groups,
    );
    Sequence { span: d_x, ..x }
}
