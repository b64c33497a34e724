//! Pooling over time, between packed rows and one row of each sequence; the equations are those of the reference's `pool`
//! module.
//!
//! The largest value is not kept with its step: of the steps whose value equals it, the first is meant.

use crate::buffers::{Buffers, Matrix};
use crate::packing::Packing;
use gatefold_model::Pooling;
use ndarray::ArrayView2;
use std::sync::Arc;

/// The elements of a step's rows.
fn step<'a>(packing: &Packing, elements: &'a [f32], t: usize, width: usize) -> &'a [f32] {
    let rows = packing.at(t);
    &elements[rows.start * width..rows.end * width]
}

/// Whether a value is the largest, where both may be NaN.
fn is_largest(x: f32, largest: f32) -> bool {
    x == largest || x.is_nan() && largest.is_nan()
}

/// Divides the values of each row by its number of steps.
fn divide_by_lengths(packing: &Packing, values: &mut Matrix) {
    for (place, mut row) in values.rows_mut().into_iter().enumerate() {
        let length = packing.length(place).max(1) as f32;
        row.mapv_inplace(|value| value / length);
    }
}

/// The largest value or the mean of each row's steps, `[N, F]` to `[B, F]`; zeros for a row without steps.
pub(crate) fn forward(
    buffers: &Arc<Buffers>,
    packing: &Packing,
    x: ArrayView2<f32>,
    pooling: Pooling,
) -> Matrix {
    let (width, elements) = (x.ncols(), x.to_slice().expect("values are kept in standard layout"));
    let mut y = buffers.zeros(packing.batch(), width);
    for t in 0..packing.steps() {
        let pairs = y.elements_mut().iter_mut().zip(step(packing, elements, t, width));
        match pooling {
            Pooling::Mean => pairs.for_each(|(sum, &x)| *sum += x),
            Pooling::Max if t == 0 => pairs.for_each(|(y, &x)| *y = x),
            Pooling::Max => pairs.for_each(|(y, &x)| {
                if !y.is_nan() && (x > *y || x.is_nan()) {
                    *y = x;
                }
            }),
        }
    }
    if pooling == Pooling::Mean {
        divide_by_lengths(packing, &mut y);
    }
    y
}

/// The gradient with respect to x; `y` is what forward gave.
pub(crate) fn backward(
    buffers: &Arc<Buffers>,
    packing: &Packing,
    (x, y): (ArrayView2<f32>, ArrayView2<f32>),
    mut d: Matrix,
    pooling: Pooling,
) -> Matrix {
    let (width, elements) = (x.ncols(), x.to_slice().expect("values are kept in standard layout"));
    let largest = y.to_slice().expect("values are kept in standard layout");
    let mut d_x = buffers.zeros(packing.len(), width);
    if pooling == Pooling::Mean {
        divide_by_lengths(packing, &mut d);
    }
    for t in 0..packing.steps() {
        let (rows, x) = (packing.at(t), step(packing, elements, t, width));
        let d_x = &mut d_x.elements_mut()[rows.start * width..rows.end * width];
        if pooling == Pooling::Mean {
            d_x.copy_from_slice(&d.elements()[..d_x.len()]);
            continue;
        }
        for (((d_x, &x), &largest), d) in d_x.iter_mut().zip(x).zip(largest).zip(d.elements_mut()) {
            // Taken by the first step that has the value, so that no later one gets it too.
            if is_largest(x, largest) {
                *d_x = std::mem::take(d);
            }
        }
    }
    d_x
}

/// The tangent of the output, from that of x; `y` is what forward gave.
pub(crate) fn tangent(
    buffers: &Arc<Buffers>,
    packing: &Packing,
    (x, y): (ArrayView2<f32>, ArrayView2<f32>),
    x_dot: ArrayView2<f32>,
    pooling: Pooling,
) -> Matrix {
    if pooling == Pooling::Mean {
        return forward(buffers, packing, x_dot, pooling);
    }
    let width = x.ncols();
    let [x, y, x_dot] =
        [x, y, x_dot].map(|rows| rows.to_slice().expect("values are kept in standard layout"));
    let mut dot = buffers.zeros(packing.batch(), width);
    // Backward, so that the first of several steps is the last to be written.
    for t in (0..packing.steps()).rev() {
        let steps = step(packing, x, t, width).iter().zip(step(packing, x_dot, t, width));
        for ((dot, largest), (x, x_dot)) in dot.elements_mut().iter_mut().zip(y).zip(steps) {
            if is_largest(*x, *largest) {
                *dot = *x_dot;
            }
        }
    }
    dot
}
