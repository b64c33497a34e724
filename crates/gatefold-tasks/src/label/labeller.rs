//! Trained networks that label together.

use super::{Reader, read};
use crate::classify::{known, place_of};
use crate::examples::{Examples, MOST_STEPS, spread};
use crate::{Long, Sentence, TaskError};
use gatefold::{Loss, Network, Sequences, Targets};
use ndarray::{Array2, ArrayView2, s};
use serde::{Deserialize, Serialize};

/// Everything that a trained labeller needs besides networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabellerData {
    /// How sequences are read.
    pub reader: Reader,
    /// The classes, in the order of the outputs.
    pub classes: Vec<String>,
}

/// Trained networks that label together.
#[derive(Debug)]
pub struct Labeller {
    /// The facts stored with each network.
    pub data: LabellerData,
    /// The networks, whose mean probability counts.
    pub networks: Vec<Network>,
}

impl Labeller {
    /// The probability of each class at each step, `[steps, classes]` for each input `[steps, channels]`, scaled, or
    /// `[steps, 1]` tokens.
    ///
    /// # Errors
    /// Those of the device.
    pub fn probabilities(&self, inputs: &[ArrayView2<f32>]) -> Result<Vec<Array2<f64>>, TaskError> {
        let classes = self.data.classes.len();
        let mut sum: Vec<Array2<f64>> =
            inputs.iter().map(|input| Array2::zeros((input.nrows(), classes))).collect();
        for network in &self.networks {
            for (sum, found) in sum.iter_mut().zip(read(network, inputs, classes)?) {
                *sum += &found;
            }
        }
        sum.iter_mut().for_each(|sum| *sum /= self.networks.len() as f64);
        Ok(sum)
    }

    /// Labels the sequences of a table: the probability of each class at each step.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a model of words, and for a label in the table that the model does not know; those of the
    /// device.
    pub fn label_table(&self, long: &Long) -> Result<Vec<Array2<f64>>, TaskError> {
        let inputs = self.table_inputs(long)?;
        self.probabilities(&inputs.iter().map(|input| input.view()).collect::<Vec<_>>())
    }

    /// Labels the words of sentences: the probability of each class at each word. Tags are not looked at.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a model of numbers; those of the device.
    pub fn label_sentences(&self, sentences: &[Sentence]) -> Result<Vec<Array2<f64>>, TaskError> {
        let inputs = self.sentence_inputs(sentences)?;
        self.probabilities(&inputs.iter().map(|input| input.view()).collect::<Vec<_>>())
    }

    /// At most `count` pieces of the sequences of a table, evenly spaced, each of up to 200 steps and with a label at one
    /// of them at least.
    ///
    /// # Errors
    /// As [`Labeller::label_table`]; [`TaskError::Data`] if no step has a label.
    pub fn table_examples(&self, long: &Long, count: usize) -> Result<Examples, TaskError> {
        let tags: Vec<&[Option<String>]> = long.sequences.iter().map(|one| one.labels.as_slice()).collect();
        self.examples(&self.table_inputs(long)?, &tags, count)
    }

    /// [`Labeller::table_examples`] of sentences.
    ///
    /// # Errors
    /// As [`Labeller::label_sentences`]; [`TaskError::Data`] for a tag that the model does not know, or if there is none.
    pub fn sentence_examples(&self, sentences: &[Sentence], count: usize) -> Result<Examples, TaskError> {
        known(&self.data.classes, sentences.iter().flat_map(|one| &one.tags).flatten())?;
        let tags: Vec<&[Option<String>]> = sentences.iter().map(|one| one.tags.as_slice()).collect();
        self.examples(&self.sentence_inputs(sentences)?, &tags, count)
    }

    fn examples(
        &self,
        inputs: &[Array2<f32>],
        tags: &[&[Option<String>]],
        count: usize,
    ) -> Result<Examples, TaskError> {
        let pieces = inputs.iter().zip(tags).flat_map(|(input, tags)| {
            let begins = (0..input.nrows()).step_by(MOST_STEPS);
            begins.map(move |begin| (input, *tags, begin..input.nrows().min(begin + MOST_STEPS)))
        });
        let labelled: Vec<_> =
            pieces.filter(|(_, tags, steps)| tags[steps.clone()].iter().any(Option::is_some)).collect();
        let chosen =
            spread(&labelled, count, |(_, _, steps)| steps.len(), "no step has a label; fill some in")?;
        let rows: Vec<ArrayView2<f32>> =
            chosen.iter().map(|(input, _, steps)| input.slice(s![steps.clone(), ..])).collect();
        let steps = rows.iter().map(|row| row.nrows()).max().unwrap_or(0);
        // Steps past a row's end, and those without a label, have no part in the loss.
        let labels = Array2::from_shape_fn((steps, rows.len()), |(t, row)| {
            let (_, tags, steps) = chosen[row];
            let tag = if t < steps.len() { tags[steps.start + t].as_deref() } else { None };
            tag.map_or(-1, |tag| place_of(&self.data.classes, tag))
        });
        let (input, targets) = (Sequences::of_rows(&rows)?, Targets::labels(labels.view()));
        Ok(Examples { input, targets, loss: Loss::CrossEntropy })
    }

    /// The scaled channels of the sequences of a table.
    fn table_inputs(&self, long: &Long) -> Result<Vec<Array2<f32>>, TaskError> {
        let Reader::Numbers { scale, .. } = &self.data.reader else {
            return Err(TaskError::Data("the model labels words, and this is a table of numbers".into()));
        };
        known(&self.data.classes, long.sequences.iter().flat_map(|one| &one.labels).flatten())?;
        Ok(long.sequences.iter().map(|one| scale.scaled(one.values.view())).collect())
    }

    /// The tokens of sentences.
    fn sentence_inputs(&self, sentences: &[Sentence]) -> Result<Vec<Array2<f32>>, TaskError> {
        let Reader::Words { vocabulary, .. } = &self.data.reader else {
            return Err(TaskError::Data("the model labels rows of numbers, and this is a text".into()));
        };
        let tokens = |one: &Sentence| -> Array2<f32> {
            Array2::from_shape_fn((one.words.len(), 1), |(t, _)| vocabulary.token(&one.words[t]) as f32)
        };
        Ok(sentences.iter().map(tokens).collect())
    }
}
