//! `h = act(a)`. The lane keeps the clipped a.

use crate::functions::{apply, clip, times_clip_slope, times_slope};
use gatefold_model::Activation;

pub(super) fn forward(activation: Activation, bound: Option<f32>, a: &mut [f32], h: &mut [f32]) {
    clip(bound, a);
    h.copy_from_slice(a);
    apply(activation, h);
}

pub(super) fn backward(
    activation: Activation,
    bound: Option<f32>,
    a: &mut [f32],
    h: &[f32],
    d_h: &[f32],
    scratch: &mut [f32],
) {
    let d = &mut scratch[..a.len()];
    d.copy_from_slice(d_h);
    times_slope(activation, a, h, d);
    times_clip_slope(bound, a, d);
    a.copy_from_slice(d);
}
