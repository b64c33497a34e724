//! A label for each step of a sequence: of numbers, or of words.

mod labeller;

use crate::classify::{normal, softmax, sorted_classes};
use crate::nearest::{mean_and_deviation, nearest};
use crate::words::WordTags;
use crate::{
    Long, LongColumns, Part, Recurrent, Scale, Sentence, Task, TaskError, Vocabulary, WordColumns, fold,
    largest,
};
use gatefold::layers::{DenseConfig, Direction, EmbeddingConfig, LayerConfig};
use gatefold::{Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig};
use gatefold_series::ConfusionMatrix;
pub use labeller::{Labeller, LabellerData};
use ndarray::{Array2, ArrayView2, Axis, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// With fewer sequences than this, parts are cut from the end of each instead of being whole sequences.
const WHOLE: usize = 5;
/// The share of training steps for validation where sequences are cut.
const VALIDATION: f64 = 0.15;
const FOLDS: usize = 8;
/// Steps around each step whose mean and deviation the nearest neighbour compares.
pub const NEIGHBOURHOOD: usize = 25;
/// The most distances that the nearest neighbour computes.
const MOST_DISTANCES: usize = 100_000_000;
/// Steps of sequences that are read at once.
const AT_ONCE: usize = 20_000;
/// A word of `n` occurrences is replaced by its shape in training with probability `a / (a + n)` (Kiperwasser and Goldberg
/// 2016), so that shapes are learnt.
const UNKNOWN: f32 = 0.5;

/// How a trained model reads sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// Numbers from a long table.
    Numbers {
        /// The columns.
        columns: LongColumns,
        /// The scale of the channels.
        scale: Scale,
    },
    /// Words, one a line.
    Words {
        /// The columns.
        columns: WordColumns,
        /// The tokens.
        vocabulary: Vocabulary,
    },
}

/// The input of one sequence.
#[derive(Clone, Debug)]
struct Input {
    /// Scaled channels `[steps, channels]`, or tokens `[steps, 1]`.
    values: Array2<f32>,
    /// For words: the token of each word's shape, and the probability of reading it instead in training.
    shapes: Vec<(f32, f32)>,
}

/// Some steps of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The sequence.
    pub sequence: usize,
    /// Its steps.
    pub steps: Range<usize>,
}

/// Sequences with a label for each step, divided into parts.
#[derive(Clone, Debug)]
pub struct LabelData {
    /// How they were read.
    pub reader: Reader,
    /// The classes, in order.
    pub classes: Vec<String>,
    /// The class of each step of each sequence; `None` where it is not known.
    pub labels: Vec<Vec<Option<usize>>>,
    /// The pieces that networks learn from, validation included.
    pub training: Vec<Piece>,
    /// The pieces that the results are measured on; may be empty.
    pub test: Vec<Piece>,
    /// Pieces for validation that were asked for; otherwise they are parts of the training pieces.
    validation: Vec<Piece>,
    inputs: Vec<Input>,
    words: Vec<Vec<String>>,
}

impl LabelData {
    /// Divides the sequences of a table: as their column of parts says; or else `share` of the sequences are for the test,
    /// and where there are fewer than five, that share of the steps at the end of each.
    ///
    /// # Errors
    /// [`TaskError::Data`] for fewer than two classes or no label, and for parts without a step.
    pub fn of_table(long: &Long, share: f64, seed: u64) -> Result<LabelData, TaskError> {
        let lengths: Vec<usize> = long.sequences.iter().map(|one| one.rows.len()).collect();
        let given: Option<Vec<Part>> = long.sequences.iter().map(|one| one.part).collect();
        let parts = Parts::divide(&lengths, given.as_deref(), share, seed)?;
        let views = parts
            .training
            .iter()
            .map(|piece| long.sequences[piece.sequence].values.slice(s![piece.steps.clone(), ..]));
        let scale = Scale::of(long.columns.channels.len(), views);
        let input = |values: &Array2<f64>| Input { values: scale.scaled(values.view()), shapes: Vec::new() };
        let inputs = long.sequences.iter().map(|sequence| input(&sequence.values)).collect();
        let tags: Vec<&[Option<String>]> = long.sequences.iter().map(|one| one.labels.as_slice()).collect();
        let (classes, labels) = classes_of(&tags)?;
        let reader = Reader::Numbers { columns: long.columns.clone(), scale };
        LabelData::checked(reader, classes, labels, parts, inputs, Vec::new())
    }

    /// Divides sentences, `share` of them for the test.
    ///
    /// # Errors
    /// As [`LabelData::of_table`].
    pub fn of_sentences(
        sentences: &[Sentence],
        columns: WordColumns,
        share: f64,
        seed: u64,
    ) -> Result<LabelData, TaskError> {
        let lengths: Vec<usize> = sentences.iter().map(|one| one.words.len()).collect();
        let parts = Parts::divide(&lengths, None, share, seed)?;
        let learnt = || parts.training.iter().map(|piece| &sentences[piece.sequence]);
        let vocabulary = Vocabulary::of(learnt());
        let mut counts = vec![0.0f32; vocabulary.tokens()];
        learnt().flat_map(|one| &one.words).for_each(|word| counts[vocabulary.token(word) as usize] += 1.0);
        let inputs = sentences.iter().map(|sentence| {
            let tokens: Vec<u32> = sentence.words.iter().map(|word| vocabulary.token(word)).collect();
            let shape = |(word, token): (&String, &u32)| {
                (vocabulary.shape(word) as f32, UNKNOWN / (UNKNOWN + counts[*token as usize]))
            };
            let shapes = sentence.words.iter().zip(&tokens).map(shape).collect();
            let values = Array2::from_shape_fn((tokens.len(), 1), |(t, _)| tokens[t] as f32);
            Input { values, shapes }
        });
        let inputs = inputs.collect();
        let tags: Vec<&[Option<String>]> = sentences.iter().map(|one| one.tags.as_slice()).collect();
        let (classes, labels) = classes_of(&tags)?;
        let words = sentences.iter().map(|one| one.words.clone()).collect();
        LabelData::checked(Reader::Words { columns, vocabulary }, classes, labels, parts, inputs, words)
    }

    fn checked(
        reader: Reader,
        classes: Vec<String>,
        labels: Vec<Vec<Option<usize>>>,
        parts: Parts,
        inputs: Vec<Input>,
        words: Vec<Vec<String>>,
    ) -> Result<LabelData, TaskError> {
        let Parts { training, validation, test } = parts;
        let data = LabelData { reader, classes, labels, training, test, validation, inputs, words };
        for (name, pieces) in [("training", &data.training), ("test", &data.test)] {
            if !pieces.is_empty() && data.labelled(pieces).next().is_none() {
                return Err(TaskError::Data(format!("no step of the {name} part has a label; fill some in")));
            }
        }
        Ok(data)
    }

    /// The classes that no training step has.
    pub fn not_learnt(&self) -> Vec<&str> {
        let mut seen = vec![false; self.classes.len()];
        self.labelled(&self.training).for_each(|(_, _, class)| seen[class] = true);
        self.classes.iter().zip(seen).filter(|(_, seen)| !seen).map(|(class, _)| class.as_str()).collect()
    }

    /// The number of labelled steps of some pieces.
    pub fn count(&self, pieces: &[Piece]) -> usize {
        self.labelled(pieces).count()
    }

    /// The steps with a label: sequence, step and class.
    fn labelled<'a>(&'a self, pieces: &'a [Piece]) -> impl Iterator<Item = (usize, usize, usize)> + 'a {
        pieces.iter().flat_map(|piece| {
            piece
                .steps
                .clone()
                .filter_map(|t| self.labels[piece.sequence][t].map(|class| (piece.sequence, t, class)))
        })
    }

    /// The pieces that network `member` learns from, and those that it is validated on.
    fn parts(&self, member: usize, seed: u64) -> (Vec<Piece>, Vec<Piece>) {
        if !self.validation.is_empty() {
            let learnt = self.training.iter().filter(|piece| !self.validation.contains(piece));
            return (learnt.cloned().collect(), self.validation.clone());
        }
        if self.training.len() >= WHOLE {
            let folds = FOLDS.min(self.training.len());
            let places: Vec<usize> = (0..self.training.len()).collect();
            let (learnt, validated) = fold(&vec![0; places.len()], &places, member % folds, folds, seed);
            let of = |places: Vec<usize>| places.into_iter().map(|at| self.training[at].clone()).collect();
            return (of(learnt), of(validated));
        }
        self.training.iter().map(|piece| cut(piece, VALIDATION)).unzip()
    }

    /// The input of a piece.
    fn input(&self, piece: &Piece) -> ArrayView2<'_, f32> {
        self.inputs[piece.sequence].values.slice(s![piece.steps.clone(), ..])
    }

    /// The most frequent class of the training steps.
    pub fn majority(&self) -> usize {
        let mut counts = vec![0usize; self.classes.len()];
        self.labelled(&self.training).for_each(|(_, _, class)| counts[class] += 1);
        (0..counts.len()).rev().max_by_key(|class| counts[*class]).unwrap_or(0)
    }

    /// The baseline that needs no training, and its name: for words the most frequent tag of each word; for numbers the
    /// class of the nearest training step, by mean and deviation of the steps around it. Every so many steps of a long
    /// training part are compared.
    pub fn nearest(&self) -> (String, Vec<usize>) {
        if !self.words.is_empty() {
            let tagged = self
                .labelled(&self.training)
                .map(|(sequence, t, class)| (self.words[sequence][t].as_str(), class));
            let tags = WordTags::of(tagged);
            let steps = self
                .test
                .iter()
                .flat_map(|piece| piece.steps.clone().map(|t| self.words[piece.sequence][t].as_str()));
            return ("most frequent tag of the word".into(), steps.map(|word| tags.tag(word)).collect());
        }
        let around = |pieces: &[Piece], every: usize| -> Vec<(usize, usize, Vec<f32>)> {
            let steps = pieces.iter().flat_map(|piece| {
                let input = self.input(piece);
                (0..input.nrows()).step_by(every).map(move |t| {
                    let half = NEIGHBOURHOOD / 2;
                    let window =
                        input.slice(s![t.saturating_sub(half)..(t + half + 1).min(input.nrows()), ..]);
                    (piece.sequence, piece.steps.start + t, mean_and_deviation(window))
                })
            });
            steps.collect()
        };
        let wanted = around(&self.test, 1);
        let steps: usize = self.training.iter().map(|piece| piece.steps.len()).sum();
        let every = (steps * wanted.len()).div_ceil(MOST_DISTANCES).max(1);
        let known: Vec<(usize, Vec<f32>)> = around(&self.training, every)
            .into_iter()
            .filter_map(|(sequence, t, features)| self.labels[sequence][t].map(|class| (class, features)))
            .collect();
        let (classes, features): (Vec<usize>, Vec<Vec<f32>>) = known.into_iter().unzip();
        let found =
            wanted.iter().map(|(_, _, wanted)| classes.get(nearest(&features, wanted)).copied().unwrap_or(0));
        (format!("nearest, {NEIGHBOURHOOD} steps"), found.collect())
    }

    /// The confusion of these predictions for all test steps, one after the other; those without a label do not count.
    ///
    /// # Errors
    /// [`TaskError::Series`] for more classes than a matrix has.
    pub fn confusion(&self, predicted: &[usize]) -> Result<ConfusionMatrix, TaskError> {
        let truth: Vec<Option<usize>> = self
            .test
            .iter()
            .flat_map(|piece| self.labels[piece.sequence][piece.steps.clone()].iter().copied())
            .collect();
        Ok(ConfusionMatrix::new(self.classes.len(), &truth, predicted)?.with_names(self.classes.clone())?)
    }

    /// All inputs, scaled numbers or tokens, one sequence after the other.
    pub fn inputs(&self) -> impl Iterator<Item = f32> + '_ {
        self.inputs.iter().flat_map(|input| input.values.iter().copied())
    }

    /// The inputs of the test pieces.
    pub fn test_inputs(&self) -> Vec<ArrayView2<'_, f32>> {
        self.test.iter().map(|piece| self.input(piece)).collect()
    }
}

/// The class of each step of each sequence.
type Labels = Vec<Vec<Option<usize>>>;

/// All classes, and each step's by its place among them.
fn classes_of(tags: &[&[Option<String>]]) -> Result<(Vec<String>, Labels), TaskError> {
    let classes = sorted_classes(tags.iter().flat_map(|tags| tags.iter().flatten()).map(String::as_str));
    if classes.len() < 2 {
        return Err(TaskError::Data(match classes.first() {
            None => "no step has a label; fill some in".into(),
            Some(class) => format!("every labelled step has the class {class}; expected at least two"),
        }));
    }
    let place: std::collections::HashMap<&str, usize> =
        classes.iter().enumerate().map(|(at, class)| (class.as_str(), at)).collect();
    let labels = tags
        .iter()
        .map(|tags| tags.iter().map(|tag| tag.as_ref().map(|tag| place[tag.as_str()])).collect())
        .collect();
    Ok((classes, labels))
}

/// The steps of a piece, and those at its end that make up a share of it.
fn cut(piece: &Piece, share: f64) -> (Piece, Piece) {
    let end = ((piece.steps.len() as f64 * share).round() as usize).clamp(1, piece.steps.len().max(2) - 1);
    let at = piece.steps.end - end;
    let of = |steps| Piece { sequence: piece.sequence, steps };
    (of(piece.steps.start..at), of(at..piece.steps.end))
}

struct Parts {
    training: Vec<Piece>,
    validation: Vec<Piece>,
    test: Vec<Piece>,
}

impl Parts {
    fn divide(lengths: &[usize], given: Option<&[Part]>, share: f64, seed: u64) -> Result<Parts, TaskError> {
        let whole = |sequence: usize| Piece { sequence, steps: 0..lengths[sequence] };
        let all = || (0..lengths.len()).map(whole);
        let parts = match given {
            Some(given) => {
                let of =
                    |parts: &[Part]| all().filter(|piece| parts.contains(&given[piece.sequence])).collect();
                let training: Vec<Piece> = of(&[Part::Training, Part::Validation]);
                Parts { training, validation: of(&[Part::Validation]), test: of(&[Part::Test]) }
            }
            None if share == 0.0 => {
                Parts { training: all().collect(), validation: Vec::new(), test: Vec::new() }
            }
            None if lengths.len() >= WHOLE => {
                let (training, test) = crate::stratified(&vec![0; lengths.len()], share, seed);
                let of = |places: Vec<usize>| places.into_iter().map(whole).collect();
                Parts { training: of(training), validation: Vec::new(), test: of(test) }
            }
            None => {
                if let Some(short) = lengths.iter().find(|len| **len < 10) {
                    return Err(TaskError::Data(format!(
                        "{} sequences, one of {short} steps, are too few to hold any out; give more, or --test 0",
                        lengths.len()
                    )));
                }
                let (training, test) = all().map(|piece| cut(&piece, share)).unzip();
                Parts { training, validation: Vec::new(), test }
            }
        };
        if parts.training.len() == parts.validation.len() || (given.is_some() && parts.test.is_empty()) {
            return Err(TaskError::Data(format!(
                "{} sequences for training and {} for the test; expected some of both",
                parts.training.len() - parts.validation.len(),
                parts.test.len()
            )));
        }
        // The validation part is cut from the end of each.
        let short = |piece: &&Piece| piece.steps.len() < 4;
        if parts.training.len() < WHOLE
            && parts.validation.is_empty()
            && let Some(piece) = parts.training.iter().find(short)
        {
            return Err(TaskError::Data(format!(
                "{} training sequences, one of {} steps, are too few to learn from; give more, or longer ones",
                parts.training.len(),
                piece.steps.len()
            )));
        }
        Ok(parts)
    }
}

/// A network that labels steps, and its training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelSettings {
    /// The recurrent layers, which read in both directions.
    pub recurrent: Recurrent,
    /// For words: the numbers that stand for a token.
    pub embedding: usize,
    /// The share of outputs that dropout removes in training.
    pub dropout: f32,
    /// The standard deviation of the noise added to numbers in training, in those of the channels.
    pub noise: f32,
    /// The most steps of a sequence that an update sees.
    pub window: usize,
    /// Sequences per update.
    pub batch: usize,
    /// The seed of the folds.
    pub seed: u64,
}

/// The training of one of the networks that label together.
#[derive(Debug)]
pub struct LabelTask<'a> {
    data: &'a LabelData,
    settings: LabelSettings,
    learnt: Vec<Piece>,
    validated: Vec<Piece>,
    /// The windows up to the end of each piece.
    windows: Vec<usize>,
}

impl<'a> LabelTask<'a> {
    /// Network `member`, counted from 0, has a validation part of its own, if there are five sequences or more.
    pub fn new(data: &'a LabelData, settings: LabelSettings, member: usize) -> Self {
        let (learnt, validated) = data.parts(member, settings.seed);
        let windows = learnt.iter().scan(0, |sum, piece| {
            *sum += piece.steps.len().div_ceil(settings.window);
            Some(*sum)
        });
        let windows = windows.collect();
        LabelTask { data, settings, learnt, validated, windows }
    }

    /// A window at a random place of a random piece; longer pieces are drawn more often.
    fn window(&self, random: &mut ChaCha8Rng) -> Piece {
        let drawn = random.random_range(0..*self.windows.last().expect("there is a training piece"));
        let piece = &self.learnt[self.windows.partition_point(|end| *end <= drawn)];
        let len = piece.steps.len().min(self.settings.window);
        let begin = piece.steps.start + random.random_range(0..=piece.steps.len() - len);
        Piece { sequence: piece.sequence, steps: begin..begin + len }
    }

    /// The input of a window, with noise or unknown words.
    fn noisy(&self, piece: &Piece, random: &mut ChaCha8Rng) -> Array2<f32> {
        let mut values = self.data.input(piece).to_owned();
        let shapes = &self.data.inputs[piece.sequence].shapes;
        if shapes.is_empty() {
            // Noise at each step, and an offset of the whole window: a sensor is never worn twice in the same way.
            let noise = self.settings.noise;
            for mut channel in values.columns_mut() {
                let offset = noise * normal(random);
                channel.mapv_inplace(|x| x + offset + noise * normal(random));
            }
        } else {
            for (value, (shape, probability)) in values.iter_mut().zip(&shapes[piece.steps.clone()]) {
                if random.random::<f32>() < *probability {
                    *value = *shape;
                }
            }
        }
        values
    }
}

impl Task for LabelTask<'_> {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let (mut layers, input): (Vec<LayerConfig>, usize) = match &self.data.reader {
            Reader::Numbers { scale, .. } => (Vec::new(), scale.mean.len()),
            Reader::Words { vocabulary, .. } => {
                let embedding = EmbeddingConfig::new(vocabulary.tokens(), self.settings.embedding).into();
                (vec![embedding, LayerConfig::Dropout { rate: self.settings.dropout / 2.0 }], 1)
            }
        };
        layers.extend(self.settings.recurrent.stack(Direction::Bidirectional, self.settings.dropout));
        layers.push(LayerConfig::Dropout { rate: self.settings.dropout });
        layers.push(DenseConfig::new(self.data.classes.len()).into());
        Ok(NetworkConfig::new(input, layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::CrossEntropy).optimizer(Optimizer::adamw())
    }

    fn batch(
        &self,
        _update: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let pieces: Vec<Piece> = (0..self.settings.batch).map(|_| self.window(random)).collect();
        let values: Vec<Array2<f32>> = pieces.iter().map(|piece| self.noisy(piece, random)).collect();
        let rows: Vec<ArrayView2<f32>> = values.iter().map(|values| values.view()).collect();
        let steps = rows.iter().map(|row| row.nrows()).max().unwrap_or(0);
        // Steps past a row's end, and those whose class is not known, have no label and so no part in the loss.
        let labels = Array2::from_shape_fn((steps, pieces.len()), |(t, row)| {
            let piece = &pieces[row];
            let step =
                (t < piece.steps.len()).then(|| self.data.labels[piece.sequence][piece.steps.start + t]);
            step.flatten().map_or(-1, |class| class as i64)
        });
        Ok((Sequences::of_rows(&rows)?, Targets::labels(labels.view())))
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let inputs: Vec<ArrayView2<f32>> =
            self.validated.iter().map(|piece| self.data.input(piece)).collect();
        let (mut sum, mut count) = (0.0, 0usize);
        let found = read(network, &inputs, self.data.classes.len())?;
        for (piece, found) in self.validated.iter().zip(found) {
            for (label, row) in self.data.labels[piece.sequence][piece.steps.clone()].iter().zip(found.rows())
            {
                if let Some(class) = label {
                    sum -= row[*class].max(1e-30).ln();
                    count += 1;
                }
            }
        }
        Ok((count > 0).then(|| sum / count as f64))
    }
}

/// The probability of each class at each step of sequences, each `[steps, classes]`.
fn read(
    network: &Network,
    inputs: &[ArrayView2<f32>],
    classes: usize,
) -> Result<Vec<Array2<f64>>, TaskError> {
    let mut found: Vec<Array2<f64>> =
        inputs.iter().map(|input| Array2::zeros((input.nrows(), classes))).collect();
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|at| inputs[*at].nrows());
    let mut begin = 0;
    while begin < order.len() {
        // At least one sequence, and more while they fit.
        let fits = |end: &usize| (end - begin) * inputs[order[end - 1]].nrows() <= AT_ONCE;
        let end = (begin + 1..=order.len()).take_while(fits).last().unwrap_or(begin + 1);
        let rows: Vec<ArrayView2<f32>> = order[begin..end].iter().map(|at| inputs[*at]).collect();
        let output = network.forward(&Sequences::of_rows(&rows)?, None)?.output;
        for (row, at) in order[begin..end].iter().enumerate() {
            let logits = output.index_axis(Axis(1), row);
            for (mut to, logits) in found[*at].rows_mut().into_iter().zip(logits.rows()) {
                softmax(logits.iter().copied()).into_iter().zip(&mut to).for_each(|(p, to)| *to = p);
            }
        }
        begin = end;
    }
    Ok(found)
}

/// The most probable class of each step of all sequences, one after the other.
pub fn most_probable(probabilities: &[Array2<f64>]) -> Vec<usize> {
    probabilities.iter().flat_map(|found| found.rows().into_iter().map(largest).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests;
