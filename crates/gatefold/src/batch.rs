//! A batch on its way from a trainer to a device, whole or in chunks of its steps.

use crate::Sequences;
use gatefold_model::{Dropout, NetworkConfig, Timeline};
use ndarray::{ArrayView3, s};
use std::ops::Range;

/// The passing of states from batch to batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carry {
    /// Whether the batch starts from the kept states.
    pub(crate) read: bool,
    /// The number of steps after which the states are kept.
    pub(crate) keep: Option<usize>,
}

/// One batch as a device trains on it.
#[derive(Debug)]
pub(crate) struct TrainBatch<'a, 'b> {
    pub(crate) input: &'a Sequences<'b>,
    pub(crate) target: ArrayView3<'a, f32>,
    /// `[T' B]`
    pub(crate) weights: &'a [f32],
    pub(crate) dropout: Option<Dropout>,
    pub(crate) carry: Carry,
}

/// The part of a batch whose outputs come from a chunk of its steps.
#[derive(Debug)]
pub(crate) struct Chunk<'a> {
    /// The chunk's steps; with lengths if the batch has them.
    pub(crate) input: Sequences<'a>,
    pub(crate) target: ArrayView3<'a, f32>,
    /// `[T' B]`: those of the batch, so the losses of all chunks add up to that of the batch.
    pub(crate) weights: Vec<f32>,
    pub(crate) dropout: Option<Dropout>,
}

impl TrainBatch<'_, '_> {
    /// A chunk of the steps of the input.
    pub(crate) fn chunk(&self, network: &NetworkConfig, steps: Range<usize>) -> Chunk<'_> {
        let batch = self.input.batch();
        let (target, weights) = match network.timeline() {
            Timeline::Input => (
                self.target.slice(s![steps.clone(), .., ..]),
                self.weights[steps.start * batch..steps.end * batch].to_vec(),
            ),
            // An output that belongs to whole rows comes from the chunk in which a row ends. In others the row has an
            // output as well, which does not count.
            _ => (self.target.view(), self.weights_of_rows_that_end(&steps)),
        };
        let dropout =
            self.dropout.map(|whole| Dropout { first_step: whole.first_step + steps.start, ..whole });
        Chunk { input: self.input.chunk(steps), target, weights, dropout }
    }

    fn weights_of_rows_that_end(&self, steps: &Range<usize>) -> Vec<f32> {
        let batch = self.input.batch();
        let end = |row: usize| self.input.lengths().map_or(self.input.steps(), |lengths| lengths[row]);
        // A row without steps has an output of its own, too.
        let ends: Vec<bool> = (0..batch).map(|row| steps.contains(&end(row).saturating_sub(1))).collect();
        let counted = |(at, &weight): (usize, &f32)| if ends[at % batch] { weight } else { 0.0 };
        self.weights.iter().enumerate().map(counted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    /// The weights of the chunks 0..2, 2..4 and 4..5 of five steps.
    fn weights(network: &NetworkConfig, lengths: [usize; 4], of_batch: Vec<f32>) -> [Vec<f32>; 3] {
        let input = Sequences::from(Array3::zeros((5, 4, 1))).with_lengths(lengths).unwrap();
        let target = Array3::zeros((of_batch.len() / 4, 4, 1));
        let (target, carry) = (target.view(), Carry::default());
        let batch = TrainBatch { input: &input, target, weights: &of_batch, dropout: None, carry };
        [0..2, 2..4, 4..5].map(|steps| batch.chunk(network, steps).weights)
    }

    #[test]
    fn each_weight_is_in_one_chunk() {
        let every_step = NetworkConfig::with_input(1).gru(2).dense(1).build().unwrap();
        let all: Vec<f32> = (1..=20).map(|n| n as f32).collect();
        assert_eq!(weights(&every_step, [5, 3, 0, 2], all.clone()).concat(), all);
    }

    #[test]
    fn an_output_of_whole_rows_counts_where_a_row_ends() {
        let last = NetworkConfig::with_input(1).gru(2).last_step().dense(1).build().unwrap();
        let found = weights(&last, [5, 3, 0, 2], vec![1.0, 2.0, 3.0, 4.0]);
        assert_eq!(found, [[0.0, 0.0, 3.0, 4.0], [0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]);
        let again = NetworkConfig::with_input(1).gru(2).last_step();
        let fill = gatefold_model::Expansion::Repeat;
        let again =
            again.layer(gatefold_model::LayerConfig::Expand { steps: 2, fill }).dense(1).build().unwrap();
        let found = weights(&again, [2, 5, 5, 4], (1..=8).map(|n| n as f32).collect());
        assert_eq!(found[0], [1.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
        assert_eq!(found[1], [0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 8.0]);
    }
}
