//! `h = act(a)`. The lane keeps the clipped a.

use crate::functions::{apply, clip, times_clip_slope, times_slope};
use crate::instructions::{Instructions, load, mul_add, store, vectors};
use gatefold_model::Activation;
use pulp::{Simd, WithSimd};

/// Any number of rows at once.
pub(super) fn forward(
    set: Instructions,
    activation: Activation,
    bound: Option<f32>,
    a: &mut [f32],
    h: &mut [f32],
) {
    clip(bound, a);
    h.copy_from_slice(a);
    apply(set, activation, h);
}

pub(super) fn backward(
    set: Instructions,
    activation: Activation,
    bound: Option<f32>,
    a: &mut [f32],
    h: &[f32],
    d_h: &[f32],
    scratch: &mut [f32],
) {
    let d = &mut scratch[..a.len()];
    d.copy_from_slice(d_h);
    times_slope(set, activation, a, h, d);
    times_clip_slope(bound, a, d);
    a.copy_from_slice(d);
}

/// Backward with tanh, for any number of rows.
pub(super) struct PlainBackward<'a> {
    pub(super) lanes: &'a mut [f32],
    pub(super) h: &'a [f32],
    pub(super) d_h: &'a [f32],
}

impl WithSimd for PlainBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PlainBackward { lanes, h, d_h } = self;
        vectors!(S, lanes.len(), at => {
            let (h, d) = (load(simd, &h[at.clone()]), load(simd, &d_h[at.clone()]));
            let slope = mul_add(simd, simd.neg_f32s(h), h, simd.splat_f32s(1.0));
            store(simd, &mut lanes[at], simd.mul_f32s(d, slope));
        });
    }
}
