//! Only the last time step. If all rows are equally long, forward only takes another part of the buffer, and backward
//! puts zeros before it. If rows end at different steps, they are gathered from their ends.

use super::Sequence;
use super::elementwise::kernel;
use crate::product::element_groups;
use crate::{Plan, Span};
use gatefold_model::Layer;
use gatefold_shaders::{KernelId, params};

pub(crate) fn forward(plan: &mut Plan, layer: &Layer, x: Sequence, lengths: Option<Span>) -> Sequence {
    let step_len = x.batch * x.width;
    let Some(lengths) = lengths else {
        return Sequence { span: x.span.part((x.steps - 1) * step_len, step_len), steps: 1, ..x };
    };
    let y = plan.scratch(format!("{}.y", layer.label()), step_len);
    let (x_span, offset) = plan.bind(x.span);
    let (groups, groups_x) = element_groups(y.len);
    plan.dispatch(
        kernel(KernelId::LastRows, &[]),
        row_ends(x, offset, groups_x),
        &[lengths.into(), x_span.into(), y.into()],
        groups,
    );
    Sequence { span: y, steps: 1, ..x }
}

pub(crate) fn backward(
    plan: &mut Plan,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
    d_y: Sequence,
) -> Sequence {
    if lengths.is_none() && x.steps == 1 {
        return d_y;
    }
    let d_x = plan.scratch(format!("{}.d_x", layer.label()), x.len());
    if let Some(lengths) = lengths {
        let (d_span, offset) = plan.bind(d_y.span);
        let (groups, groups_x) = element_groups(d_x.len);
        plan.dispatch(
            kernel(KernelId::LastRowsBackward, &[]),
            row_ends(x, offset, groups_x),
            &[lengths.into(), d_span.into(), d_x.into()],
            groups,
        );
    } else {
        plan.clear(d_x);
        plan.copy(d_y.span, d_x.part(x.len() - d_y.len(), d_y.len()));
    }
    Sequence { span: d_x, ..x }
}

fn row_ends(x: Sequence, offset: u32, groups_x: u32) -> params::RowEnds {
    let [steps, batch, width] = [x.steps, x.batch, x.width].map(|size| size as u32);
    params::RowEnds { steps, batch, width, offset, groups_x, ..Default::default() }
}
