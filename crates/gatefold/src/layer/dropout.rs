//! Dropout: random zeros in training, nothing in inference. Backward draws the same zeros again, so nothing is saved.

use super::elementwise::kernel;
use super::{Lowering, Sequence};
use crate::product::element_groups;
use gatefold_model::Layer;
use gatefold_shaders::{KernelId, params};

/// The buffer that says which zeros: seed low, seed high and the batch's number as `u32`, and one word that is not used.
/// Written before every batch.
pub(crate) const DROPOUT: &str = "dropout";
/// Its length.
pub(crate) const DROPOUT_LEN: usize = 4;

/// The layer's output for its input, or the gradient of its input for that of its output: `name` says which.
pub(crate) fn apply(low: &mut Lowering<'_>, layer: &Layer, rate: f32, x: Sequence, name: &str) -> Sequence {
    if rate == 0.0 {
        return x;
    }
    let seed = low.plan.given(DROPOUT, DROPOUT_LEN);
    let y = low.plan.scratch(format!("{}.{name}", layer.label()), x.len());
    let (x_span, x_offset) = low.plan.bind(x.span);
    let (groups, groups_x) = element_groups(x.len().div_ceil(2));
    let params = params::Dropout {
        len: x.len() as u32,
        x_offset,
        layer: layer.index as u32,
        rate,
        scale: 1.0 / (1.0 - rate),
        groups_x,
        ..Default::default()
    };
    low.plan.dispatch(kernel(KernelId::Dropout, &[]), params, &[seed, x_span, y], groups);
    Sequence { span: y, ..x }
}
