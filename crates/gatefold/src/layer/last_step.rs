//! The last time step alone: forward only looks elsewhere, backward spreads zeros before it.

use super::Sequence;
use crate::plan::Plan;
use gatefold_model::Layer;

pub(crate) fn forward(x: Sequence) -> Sequence {
    let step_len = x.batch * x.width;
    Sequence { span: x.span.part((x.steps - 1) * step_len, step_len), steps: 1, ..x }
}

pub(crate) fn backward(plan: &mut Plan, layer: &Layer, x: Sequence, d_y: Sequence) -> Sequence {
    if x.steps == 1 {
        return d_y;
    }
    let d_x = plan.scratch(format!("{}.d_x", layer.label()), x.len());
    plan.clear(d_x);
    plan.copy(d_y.span, d_x.part(x.len() - d_y.len(), d_y.len()));
    Sequence { span: d_x, ..x }
}
