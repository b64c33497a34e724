//! A convolution over time: a dense layer over the values that each output step reads. They are gathered side by side, in
//! the order of the weight, so products read the parameter as it lies; the gradient goes back the same way.

use super::dense::{self, Affine, Saved};
use super::elementwise::kernel;
use super::{Lowering, Sequence};
use crate::product::element_groups;
use crate::{Element, Error, Plan, Span};
use gatefold_model::{Conv1d, Layer, Role};
use gatefold_shaders::{KernelId, params};

/// The values that backward needs from forward.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    x: Sequence,
    lengths: Option<Span>,
    /// The values that each output step reads: `[T', B, I K]`.
    read: Sequence,
    /// The lengths of the output.
    pub(crate) ends: Option<Span>,
    saved: Saved,
}

fn affine(conv: &Conv1d) -> Affine {
    Affine { weight: Role::ConvWeight, bias: Role::ConvBias, activation: conv.activation }
}

pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    conv: &Conv1d,
    x: Sequence,
    lengths: Option<Span>,
) -> Result<(Sequence, Kept), Error> {
    let label = layer.label();
    let ends = lengths.map(|lengths| convolved_lengths(low.plan, &label, conv, lengths));
    let read = if conv.is_pointwise() { x } else { unfold(low.plan, &label, conv, x, lengths) };
    let saved = dense::forward(low, layer, affine(conv), read, ends)?;
    Ok((saved.y, Kept { x, lengths, read, ends, saved }))
}

pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    conv: &Conv1d,
    kept: &Kept,
    d_y: Sequence,
    wants_input: bool,
) -> Result<Option<Sequence>, Error> {
    let &Kept { x, lengths, read, ends, saved } = kept;
    let tape = (read, ends, saved);
    let d_read =
        dense::backward(low.plan, low.target, layer, affine(conv), low.parameters, tape, d_y, wants_input)?;
    let fold = |d| if conv.is_pointwise() { d } else { fold(low.plan, &layer.label(), conv, d, x, lengths) };
    Ok(d_read.map(fold))
}

/// The length of each row after the convolution.
fn convolved_lengths(plan: &mut Plan, label: &str, conv: &Conv1d, lengths: Span) -> Span {
    if conv.keeps_steps() {
        return lengths;
    }
    let ends = plan.scratch_as(format!("{label}.lengths"), Element::U32, lengths.len);
    let (groups, groups_x) = element_groups(lengths.len);
    let [batch, padding, reach, stride] =
        [lengths.len, conv.left + conv.right, conv.reach(), conv.stride].map(|size| size as u32);
    let params = params::ConvolvedLengths { batch, padding, reach, stride, groups_x, ..Default::default() };
    plan.dispatch(kernel(KernelId::ConvolvedLengths, &[]), params, &[lengths.into(), ends.into()], groups);
    ends
}

fn unfold(plan: &mut Plan, label: &str, conv: &Conv1d, x: Sequence, lengths: Option<Span>) -> Sequence {
    let read = Sequence { steps: conv.steps(x.steps), width: x.width * conv.kernel, ..x };
    let read = Sequence { span: plan.scratch(format!("{label}.read"), read.len()), ..read };
    let (span, offset) = plan.bind(x.span);
    let (groups, groups_x) = element_groups(read.len());
    plan.dispatch(
        kernel(KernelId::Unfold, &[("LENGTHS", u32::from(lengths.is_some()))]),
        convolution(conv, x, offset, groups_x),
        &[lengths.into(), span.into(), read.span.into()],
        groups,
    );
    read
}

fn fold(
    plan: &mut Plan,
    label: &str,
    conv: &Conv1d,
    d_read: Sequence,
    x: Sequence,
    lengths: Option<Span>,
) -> Sequence {
    let d_x = plan.scratch(format!("{label}.d_folded"), x.len());
    let (span, offset) = plan.bind(d_read.span);
    let (groups, groups_x) = element_groups(x.len());
    plan.dispatch(
        kernel(KernelId::Fold, &[("LENGTHS", u32::from(lengths.is_some()))]),
        convolution(conv, x, offset, groups_x),
        &[lengths.into(), span.into(), d_x.into()],
        groups,
    );
    Sequence { span: d_x, ..x }
}

fn convolution(conv: &Conv1d, x: Sequence, offset: u32, groups_x: u32) -> params::Convolution {
    let [steps, out_steps, batch, width] =
        [x.steps, conv.steps(x.steps), x.batch, x.width].map(|size| size as u32);
    let [weights, stride, dilation, left] =
        [conv.kernel, conv.stride, conv.dilation, conv.left].map(|size| size as u32);
    params::Convolution {
        steps,
        out_steps,
        batch,
        width,
        weights,
        stride,
        dilation,
        left,
        offset,
        groups_x,
        ..Default::default()
    }
}
