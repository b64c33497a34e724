//! Dropout: random zeros in training, nothing in inference. Backward draws the same zeros again, so nothing is saved.

use super::elementwise::kernel;
use super::{Lowering, Sequence};
use crate::product::element_groups;
use crate::{Element, Given, Span};
use gatefold_model::{Layer, Timeline};
use gatefold_shaders::{KernelId, params};

/// Elements of [`Given::DropoutKey`].
pub const DROPOUT_KEY_LEN: usize = 4;

/// The layer's output, or the gradient with respect to its input; `name` says which.
pub(crate) fn apply(low: &mut Lowering<'_>, layer: &Layer, rate: f32, x: Sequence, name: &str) -> Sequence {
    if rate == 0.0 {
        return x;
    }
    let y = low.plan.scratch(format!("{}.{name}", layer.label()), x.len());
    mask(low, layer.index as u32, rate, x.span, y, step_len(layer, x.batch * x.width));
    Sequence { span: y, ..x }
}

/// Elements of a step, by which masks know the place of a chunk in its sequence. Layers on another time axis see whole
/// values, in whichever chunk.
pub(crate) fn step_len(layer: &Layer, len: usize) -> usize {
    if layer.timeline == Timeline::Input { len } else { 0 }
}

/// `y = x` with random zeros, drawn from the stream with this number, and the other elements divided by `1 - rate`.
/// Without a step's length, the same elements are zero in every chunk.
pub(crate) fn mask(low: &mut Lowering<'_>, stream: u32, rate: f32, x: Span, y: Span, step_len: usize) {
    let seed = low.plan.given_as(Given::DropoutKey, Element::U32, DROPOUT_KEY_LEN);
    let (x_span, x_offset) = low.plan.bind(x);
    // A chunk may begin with the second of two elements that share a counter.
    let pairs = if step_len.is_multiple_of(2) { x.len.div_ceil(2) } else { x.len / 2 + 1 };
    let (groups, groups_x) = element_groups(pairs);
    let params = params::Dropout {
        len: x.len as u32,
        x_offset,
        layer: stream,
        rate,
        scale: 1.0 / (1.0 - rate),
        groups_x,
        step_len: step_len as u32,
        ..Default::default()
    };
    low.plan.dispatch(
        kernel(KernelId::Dropout, &[]),
        params,
        &[seed.into(), x_span.into(), y.into()],
        groups,
    );
}
