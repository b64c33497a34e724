//! Layers without a product: embedding, dropout, softmax and expansion.

use crate::buffers::{Buffers, Matrix};
use crate::instructions::Instructions;
use crate::loss::{exponentials, largest};
use crate::packing::Packing;
use gatefold_model::{Dropout, Expansion, Layer, Timeline};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use std::ops::Range;
use std::sync::Arc;

/// The rows of `table [V, F]` for the tokens `[N, 1]`.
///
/// # Panics
/// If a token is not in the table.
pub(crate) fn embed(buffers: &Arc<Buffers>, table: ArrayView2<f32>, tokens: ArrayView2<f32>) -> Matrix {
    let mut rows = buffers.matrix(tokens.nrows(), table.ncols());
    for (&token, mut row) in tokens.iter().zip(rows.rows_mut()) {
        row.assign(&table.row(token as usize));
    }
    rows
}

/// Adds each row of `d` to that of its token, in order.
pub(crate) fn embed_backward(tokens: ArrayView2<f32>, d: ArrayView2<f32>, mut d_table: ArrayViewMut2<f32>) {
    for (&token, d) in tokens.iter().zip(d.rows()) {
        let mut to = d_table.row_mut(token as usize);
        to += &d;
    }
}

/// `y_k = exp(x_k) / sum_j exp(x_j)`, relative to the largest x, so that no exponential overflows.
pub(crate) fn softmax(set: Instructions, buffers: &Arc<Buffers>, x: ArrayView2<f32>) -> Matrix {
    let mut y = buffers.matrix(x.nrows(), x.ncols());
    for (x, mut y) in x.rows().into_iter().zip(y.rows_mut()) {
        let (x, y) = (x.to_slice().expect("rows"), y.as_slice_mut().expect("rows"));
        let sum = exponentials(set, x, largest(set, x), y) as f32;
        set.compile(|| y.iter_mut().for_each(|y| *y /= sum));
    }
    y
}

/// `d_x = y (d_y - sum_j d_y_j y_j)`
pub(crate) fn softmax_backward(y: ArrayView2<f32>, d: &mut Array2<f32>) {
    for (y, mut d) in y.rows().into_iter().zip(d.rows_mut()) {
        let along = y.dot(&d);
        d.zip_mut_with(&y, |d, &y| *d = y * (*d - along));
    }
}

/// The first of `steps` equal parts of the rows and, with [`Expansion::Repeat`], the same in the others.
pub(crate) fn expand(buffers: &Arc<Buffers>, x: ArrayView2<f32>, steps: usize, fill: Expansion) -> Matrix {
    let mut y = buffers.zeros(steps * x.nrows(), x.ncols());
    for (n, mut part) in y.axis_chunks_iter_mut(Axis(0), x.nrows()).enumerate() {
        if n == 0 || fill == Expansion::Repeat {
            part.assign(&x);
        }
    }
    y
}

/// The first part of `d`, or with [`Expansion::Repeat`] the sum of all.
pub(crate) fn expand_backward(
    buffers: &Arc<Buffers>,
    d: ArrayView2<f32>,
    rows: usize,
    fill: Expansion,
) -> Matrix {
    let mut d_x = buffers.copy(d.slice(s![..rows, ..]));
    if fill == Expansion::Repeat {
        for part in d.axis_chunks_iter(Axis(0), rows).skip(1) {
            *d_x += &part;
        }
    }
    d_x
}

/// Sets values of some steps, or their gradients, to zero where the layer's mask does, and divides the others by `1 - rate`.
///
/// Element `n` of the padded sequence `[T, B, F]` is kept if its random number `u` in [0, 1) is at least `rate`. The
/// generator is counter-based, so the masks depend only on the key and the counter. `dropout` is that
/// [of the layer](dropout_of).
pub(crate) fn drop_out(
    dropout: Dropout,
    layer: usize,
    rate: f32,
    packing: &Packing,
    steps: Range<usize>,
    values: &mut Array2<f32>,
) {
    let (batch, width) = (packing.whole(), values.ncols());
    let key = [dropout.seed as u32, (dropout.seed >> 32) as u32];
    // An odd multiplier: no two batches get the same number, and small batch numbers move to the high bits, away from
    // the layer's index.
    let stream = dropout.batch.wrapping_mul(0x9E37_79B9) ^ layer as u32;
    let scale = 1.0 / (1.0 - rate);
    for ((t, row), mut values) in packing.places(steps).zip(values.rows_mut()) {
        let first = ((dropout.first_step + t) * batch + row) * width;
        let mut pair = (usize::MAX, [0, 0]);
        for (k, value) in values.iter_mut().enumerate() {
            let element = first + k;
            if pair.0 != element / 2 {
                pair = (element / 2, threefry(key, [(element / 2) as u32, stream]));
            }
            let u = (pair.1[element % 2] >> 8) as f32 / (1 << 24) as f32;
            *value = if u >= rate { *value * scale } else { 0.0 };
        }
    }
}

/// A pass's dropout as one of its layers draws it: a layer on another time axis than the input's sees whole values,
/// wherever the sequence is cut.
pub(crate) fn dropout_of(dropout: Dropout, layer: &Layer) -> Dropout {
    match layer.timeline {
        Timeline::Input => dropout,
        _ => Dropout { first_step: 0, ..dropout },
    }
}

/// Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
pub(crate) fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    const PARITY: u32 = 0x1BD1_1BDA;
    let keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        let next = group + 1;
        x[0] = x[0].wrapping_add(keys[next % 3]);
        x[1] = x[1].wrapping_add(keys[(next + 1) % 3]).wrapping_add(next as u32);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers from the authors' library Random123, `kat_vectors`.
    #[test]
    fn threefry_gives_its_authors_numbers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(
            threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]),
            [0xc492_3a9c, 0x483d_f7a0]
        );
    }

    #[test]
    fn softmax_holds_far_arguments_and_keeps_nan() {
        let x = ndarray::array![[1e4, 1e4, -1e4], [f32::NAN, 0.0, 0.0]];
        let y = softmax(Instructions::widest(), &Arc::new(Buffers::default()), x.view());
        assert_eq!(y.row(0).to_vec(), [0.5, 0.5, 0.0]);
        assert!(y.row(1).iter().all(|y| y.is_nan()));
    }
}
