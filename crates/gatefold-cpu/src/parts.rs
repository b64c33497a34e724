//! The parts of a batch that go through a network on their own.

use crate::packing::Part;
use gatefold_model::{LayerState, NetworkConfig, States};
use ndarray::{Array2, Array3, Axis};
use std::cmp::Reverse;

/// The rows of a part, for weights that fit a core's second cache and for larger ones, which more rows have to share
/// while they pass through.
const ROWS: [usize; 3] = [8, 16, 32];
/// The weights of the widest layer up to which the first two of [`ROWS`] are right: 512 KiB and 2 MiB.
const WEIGHTS: [usize; 2] = [1 << 17, 1 << 19];

/// Divides a batch. Rows of similar length go together, the longest first.
pub(crate) fn divide(config: &NetworkConfig, batch: usize, lengths: Option<&[usize]>) -> Vec<Part> {
    let layer = |layer: &gatefold_model::Layer| layer.parameters.iter().map(|spec| spec.len()).sum();
    let weights: usize = config.layers().iter().map(layer).max().unwrap_or(0);
    let rows = ROWS[WEIGHTS.iter().filter(|&&most| weights > most).count()];
    let parts = batch.div_ceil(rows).max(1);
    let mut order: Vec<usize> = (0..batch).collect();
    if let Some(lengths) = lengths {
        order.sort_by_key(|&row| Reverse(lengths[row]));
    }
    let start = |n: usize| n * batch / parts;
    let part = |n: usize| {
        let mut rows = order[start(n)..start(n + 1)].to_vec();
        rows.sort_unstable();
        Part { rows: rows.into(), whole: batch }
    };
    (0..parts).map(part).collect()
}

/// A part's rows of the states of a batch.
pub(crate) fn take_states(states: &States, part: &Part) -> States {
    let three = |from: &Array3<f32>| from.select(Axis(1), &part.rows);
    let layer = |state: &LayerState| LayerState {
        h: three(&state.h),
        c: state.c.as_ref().map(three),
        y: state.y.as_ref().map(|y| y.select(Axis(0), &part.rows)),
    };
    States { layers: states.layers.iter().map(layer).collect() }
}

/// Writes a part's states to its rows of those of the batch.
pub(crate) fn put_states(from: &States, part: &Part, states: &mut States) {
    let three = |from: &Array3<f32>, to: &mut Array3<f32>| {
        for (mut to, from) in to.outer_iter_mut().zip(from.outer_iter()) {
            for (&row, from) in part.rows.iter().zip(from.rows()) {
                to.row_mut(row).assign(&from);
            }
        }
    };
    let two = |from: &Array2<f32>, to: &mut Array2<f32>| {
        for (&row, from) in part.rows.iter().zip(from.rows()) {
            to.row_mut(row).assign(&from);
        }
    };
    for (from, to) in from.layers.iter().zip(&mut states.layers) {
        three(&from.h, &mut to.h);
        if let (Some(from), Some(to)) = (&from.c, &mut to.c) {
            three(from, to);
        }
        if let (Some(from), Some(to)) = (&from.y, &mut to.y) {
            two(from, to);
        }
    }
}
