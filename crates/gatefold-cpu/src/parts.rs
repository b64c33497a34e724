//! The parts of a batch that go through a network on their own.

use crate::packing::Part;
use gatefold_model::{LayerState, States};
use ndarray::{Array2, Array3, Axis};
use std::cmp::Reverse;

/// The rows of a part of a batch up to [`SMALL_BATCH`], so that many threads find work.
const FEW_ROWS: usize = 4;
/// The rows of a part of a larger batch, so that more of them share what is read of the weights.
const ROWS: usize = 8;
const SMALL_BATCH: usize = 64;
/// The most parts, since their gradients are added up one after another: many would lose accuracy.
const MOST_PARTS: usize = 128;

/// Divides a batch. Rows of similar length go together, the longest first.
pub(crate) fn divide(batch: usize, lengths: Option<&[usize]>) -> Vec<Part> {
    let rows = if batch <= SMALL_BATCH { FEW_ROWS } else { ROWS.max(batch.div_ceil(MOST_PARTS)) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_model::{LayerConfig, LstmConfig, NetworkConfig, Parameters};

    #[test]
    fn every_row_is_in_one_part_and_long_rows_are_together() {
        let lengths: Vec<usize> = (0..37).map(|row| row * 7 % 37).collect();
        let parts = divide(37, Some(&lengths));
        let mut rows: Vec<usize> = parts.iter().flat_map(|part| part.rows.to_vec()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..37).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.rows.len() <= FEW_ROWS && part.whole == 37));
        let length = |part: &Part, pick: fn(usize, usize) -> usize, from| {
            part.rows.iter().fold(from, |length, &row| pick(length, lengths[row]))
        };
        for pair in parts.windows(2) {
            assert!(length(&pair[0], usize::min, usize::MAX) >= length(&pair[1], usize::max, 0));
        }
        for (batch, parts) in [(1, 1), (4, 1), (5, 2), (64, 16), (65, 9), (1024, 128), (1_000_000, 128)] {
            assert_eq!(divide(batch, None).len(), parts, "{batch} rows");
        }
    }

    #[test]
    fn states_go_out_and_come_back() {
        let config = NetworkConfig::new(1, &[LayerConfig::from(LstmConfig::new(3))]).unwrap();
        let mut states = States::initial(&config, &Parameters::initial(&config, 1).unwrap(), 21);
        states.layers[0].h.iter_mut().zip(0..).for_each(|(h, n)| *h = n as f32);
        let mut back = States::zeros(&config, 21);
        for part in divide(21, Some(&[4; 21])) {
            put_states(&take_states(&states, &part), &part, &mut back);
        }
        assert_eq!(back, states);
    }
}
