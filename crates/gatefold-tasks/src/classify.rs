//! Sequences of any length to a class.

use crate::examples::{Examples, spread};
use crate::nearest::{mean_and_deviation, nearest, nearest_warped};
use crate::{Long, LongColumns, LongSequence, Part, Recurrent, Scale, Task, TaskError, fold, stratified};
use gatefold::layers::{DenseConfig, Direction, LayerConfig};
use gatefold::training::Reduction;
use gatefold::{Loss, Network, NetworkConfig, Optimizer, Sequences, Targets, TrainConfig};
use gatefold_series::ConfusionMatrix;
use ndarray::{Array2, ArrayView2, Axis};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// Each network is validated on one of so many parts of the training sequences.
pub(crate) const FOLDS: usize = 8;
/// Sequences that are read at once.
const AT_ONCE: usize = 64;

/// Sequences with a class each, divided into parts.
#[derive(Clone, Debug)]
pub struct ClassifyData {
    /// The columns.
    pub columns: LongColumns,
    /// The classes, in order.
    pub classes: Vec<String>,
    /// The class of each sequence, by its place in `classes`.
    pub labels: Vec<usize>,
    /// The sequences that networks learn from, validation included.
    pub training: Vec<usize>,
    /// Those of the training sequences that a column names for validation; folds of the training sequences if empty.
    pub validation: Vec<usize>,
    /// The sequences that the results are measured on; may be empty.
    pub test: Vec<usize>,
    /// Mean and deviation of the channels of the training sequences.
    pub scale: Scale,
    /// The sequences, `[steps, channels]`, scaled.
    pub scaled: Vec<Array2<f32>>,
}

impl ClassifyData {
    /// Divides sequences into parts: as their column of parts says, or else `share` of each class for the test.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a sequence without a class or with two; fewer than two classes, or as many as sequences;
    /// classes without a training sequence; and a column of parts that names no training sequence, or no test.
    pub fn new(long: &Long, share: f64, seed: u64) -> Result<ClassifyData, TaskError> {
        let names = long.sequences.iter().map(class_of).collect::<Result<Vec<&str>, TaskError>>()?;
        let classes = sorted_classes(names.iter().copied());
        let place = |name: &&str| classes.iter().position(|class| class == name).expect("it is one of them");
        let labels: Vec<usize> = names.iter().map(place).collect();
        let column = long.columns.label.as_deref().unwrap_or("class");
        match classes.len() {
            1 => {
                return Err(TaskError::Data(format!(
                    "every sequence has the class {}; expected at least two in column {column}",
                    classes[0]
                )));
            }
            many if many == labels.len() && many > 2 => {
                return Err(TaskError::Data(format!(
                    "each of {many} sequences has a class of its own; column {column} does not classify them"
                )));
            }
            _ => {}
        }
        let (training, validation, test) = match long.columns.split {
            None => {
                let (training, test) = stratified(&labels, share, seed);
                (training, Vec::new(), test)
            }
            Some(_) => {
                let of = |parts: &[Part]| -> Vec<usize> {
                    let belongs =
                        |place: &usize| long.sequences[*place].part.is_some_and(|part| parts.contains(&part));
                    (0..labels.len()).filter(belongs).collect()
                };
                (of(&[Part::Training, Part::Validation]), of(&[Part::Validation]), of(&[Part::Test]))
            }
        };
        if training.len() == validation.len() || (test.is_empty() && share > 0.0) {
            return Err(TaskError::Data(format!(
                "{} sequences for training and {} for the test; expected some of both",
                training.len() - validation.len(),
                test.len()
            )));
        }
        let learnt =
            |class: usize| training.iter().any(|at| labels[*at] == class && !validation.contains(at));
        if let Some(class) = (0..classes.len()).find(|class| !learnt(*class)) {
            return Err(TaskError::Data(format!(
                "no training sequence has the class {}; it cannot be learnt",
                classes[class]
            )));
        }
        let channels = long.columns.channels.len();
        let scale = Scale::of(channels, training.iter().map(|at| long.sequences[*at].values.view()));
        let scaled = long.sequences.iter().map(|sequence| scale.scaled(sequence.values.view())).collect();
        let columns = long.columns.clone();
        Ok(ClassifyData { columns, classes, labels, training, validation, test, scale, scaled })
    }

    /// The training sequences that network `member` learns from, and those that it is validated on.
    fn parts(&self, member: usize, seed: u64) -> (Vec<usize>, Vec<usize>) {
        if self.validation.is_empty() {
            return fold(&self.labels, &self.training, member % FOLDS, FOLDS, seed);
        }
        let learnt = self.training.iter().copied().filter(|at| !self.validation.contains(at));
        (learnt.collect(), self.validation.clone())
    }

    /// The class of most training sequences.
    pub fn majority(&self) -> usize {
        let count = |class: &usize| self.training.iter().filter(|at| self.labels[**at] == *class).count();
        (0..self.classes.len()).rev().max_by_key(count).unwrap_or(0)
    }

    /// The class of the nearest training sequence to each test sequence, by mean and deviation of the channels.
    pub fn nearest_by_features(&self) -> Vec<usize> {
        let features = |at: &usize| mean_and_deviation(self.scaled[*at].view());
        let known: Vec<Vec<f32>> = self.training.iter().map(features).collect();
        self.test.iter().map(|at| self.labels[self.training[nearest(&known, &features(at))]]).collect()
    }

    /// The class of the nearest training sequence to each test sequence, by dynamic time warping; `None` where that would
    /// take too long.
    pub fn nearest_by_warping(&self) -> Option<Vec<usize>> {
        let of = |places: &[usize]| -> Vec<Array2<f32>> {
            places.iter().map(|at| self.scaled[*at].clone()).collect()
        };
        let found = nearest_warped(&of(&self.training), &of(&self.test))?;
        Some(found.into_iter().map(|place| self.labels[self.training[place]]).collect())
    }

    /// The confusion of these predictions for the test sequences.
    ///
    /// # Errors
    /// [`TaskError::Series`] for more classes than a matrix has.
    pub fn confusion(&self, predicted: &[usize]) -> Result<ConfusionMatrix, TaskError> {
        let truth: Vec<usize> = self.test.iter().map(|at| self.labels[*at]).collect();
        let truth: Vec<Option<usize>> = truth.into_iter().map(Some).collect();
        Ok(ConfusionMatrix::new(self.classes.len(), &truth, predicted)?.with_names(self.classes.clone())?)
    }
}

/// The class of a sequence, the same at all its steps.
fn class_of(sequence: &LongSequence) -> Result<&str, TaskError> {
    let first = sequence.labels.first().and_then(Option::as_deref);
    let Some(first) = first else {
        return Err(TaskError::Data(format!(
            "the sequence {sequence} has no class; fill it in, or remove its rows"
        )));
    };
    match sequence.labels.iter().find(|label| label.as_deref() != Some(first)) {
        None => Ok(first),
        Some(other) => Err(TaskError::Data(format!(
            "the sequence {sequence} has the class {first} at one step and {} at another; 'gatefold label' takes classes \
             that change within a sequence",
            other.as_deref().unwrap_or("none")
        ))),
    }
}

/// All classes, numbers by their size.
pub(crate) fn sorted_classes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut classes: Vec<String> = names.map(str::to_owned).collect();
    classes.sort();
    classes.dedup();
    let numbers: Option<Vec<f64>> =
        classes.iter().map(|name| name.parse().ok().filter(|x: &f64| !x.is_nan())).collect();
    if let Some(numbers) = numbers {
        let mut order: Vec<usize> = (0..classes.len()).collect();
        order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
        classes = order.into_iter().map(|at| classes[at].clone()).collect();
    }
    classes
}

/// A network that classifies, and its training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifySettings {
    /// The recurrent layers, which read in both directions.
    pub recurrent: Recurrent,
    /// The share of final states that dropout removes in training.
    pub dropout: f32,
    /// The standard deviation of the noise added in training, in those of the channels.
    pub noise: f32,
    /// Sequences per update.
    pub batch: usize,
    /// The seed of the folds.
    pub seed: u64,
}

/// The training of one of the networks that classify together.
#[derive(Debug)]
pub struct ClassifyTask<'a> {
    data: &'a ClassifyData,
    settings: ClassifySettings,
    learnt: Vec<usize>,
    validated: Vec<usize>,
}

impl<'a> ClassifyTask<'a> {
    /// Network `member`, counted from 0, has a validation part of its own.
    pub fn new(data: &'a ClassifyData, settings: ClassifySettings, member: usize) -> Self {
        let (learnt, validated) = data.parts(member, settings.seed);
        ClassifyTask { data, settings, learnt, validated }
    }
}

impl Task for ClassifyTask<'_> {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let mut layers = self.settings.recurrent.stack(Direction::Bidirectional, self.settings.dropout);
        layers.push(LayerConfig::FinalState);
        layers.push(LayerConfig::Dropout { rate: self.settings.dropout });
        layers.push(DenseConfig::new(self.data.classes.len()).into());
        Ok(NetworkConfig::new(self.data.scale.mean.len(), layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::CrossEntropy).optimizer(Optimizer::adamw())
    }

    fn batch(
        &self,
        update: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let chosen = of_epoch(&self.learnt, self.settings.batch, update, self.settings.seed);
        let noise = self.settings.noise;
        let noisy = |at: &usize| self.data.scaled[*at].mapv(|x| x + noise * normal(random));
        let values: Vec<Array2<f32>> = chosen.iter().map(noisy).collect();
        let rows: Vec<ArrayView2<f32>> = values.iter().map(|values| values.view()).collect();
        let labels =
            Array2::from_shape_fn((1, chosen.len()), |(_, row)| self.data.labels[chosen[row]] as i64);
        Ok((Sequences::of_rows(&rows)?, Targets::labels(labels.view())))
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let (mut sum, mut count) = (0.0, 0);
        for chunk in self.validated.chunks(AT_ONCE) {
            let output = logits(network, chunk.iter().map(|at| self.data.scaled[*at].view()))?;
            let labels =
                Array2::from_shape_fn((1, chunk.len()), |(_, row)| self.data.labels[chunk[row]] as i64);
            let targets = Targets::labels(labels.view());
            let output = output.insert_axis(Axis(0));
            sum += targets.loss(&Loss::CrossEntropy, Reduction::Mean, output.view())? * chunk.len() as f64;
            count += chunk.len();
        }
        Ok((count > 0).then(|| sum / f64::from(count as u32)))
    }
}

/// The members of an update's batch: each epoch goes through all places in an order of its own.
pub(crate) fn of_epoch(places: &[usize], batch: usize, update: u64, seed: u64) -> Vec<usize> {
    let per_epoch = places.len().div_ceil(batch.max(1)).max(1) as u64;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream((1 << 48) + update / per_epoch);
    let mut order = places.to_vec();
    order.shuffle(&mut random);
    let begin = (update % per_epoch) as usize * batch;
    order[begin..(begin + batch).min(order.len())].to_vec()
}

/// A number from the standard normal distribution (Box and Muller 1958).
pub(crate) fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (random.random(), random.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// The outputs `[sequences, classes]` at the only step of the output.
fn logits<'a>(
    network: &Network,
    sequences: impl Iterator<Item = ArrayView2<'a, f32>>,
) -> Result<Array2<f32>, TaskError> {
    let rows: Vec<ArrayView2<f32>> = sequences.collect();
    let output = network.forward(&Sequences::of_rows(&rows)?, None)?.output;
    Ok(output.index_axis_move(Axis(0), 0))
}

/// Trained networks that classify together, with everything to read new tables.
#[derive(Debug)]
pub struct Classifier {
    /// The facts stored with each network.
    pub data: ClassifierData,
    /// The networks, whose mean probability counts.
    pub networks: Vec<Network>,
}

/// Everything that a trained classifier needs besides networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierData {
    /// The columns of the table.
    pub columns: LongColumns,
    /// The classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// The scale of the channels.
    pub scale: Scale,
}

impl Classifier {
    /// The probability of each class, `[sequences, classes]`, for scaled sequences.
    ///
    /// # Errors
    /// Those of the device.
    pub fn probabilities(&self, scaled: &[ArrayView2<f32>]) -> Result<Array2<f64>, TaskError> {
        let mut mean = Array2::zeros((scaled.len(), self.data.classes.len()));
        // Neighbours in length waste the fewest steps of padding.
        let mut order: Vec<usize> = (0..scaled.len()).collect();
        order.sort_by_key(|at| scaled[*at].nrows());
        for chunk in order.chunks(AT_ONCE) {
            for network in &self.networks {
                let output = logits(network, chunk.iter().map(|at| scaled[*at]))?;
                for (at, logits) in chunk.iter().zip(output.rows()) {
                    let share = softmax(logits.iter().copied());
                    mean.row_mut(*at).iter_mut().zip(share).for_each(|(sum, p)| *sum += p);
                }
            }
        }
        Ok(mean / self.networks.len() as f64)
    }

    /// Classifies the sequences of a table: the probability of each class, `[sequences, classes]`.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a class in the table that the model does not know; those of the device.
    pub fn classify(&self, long: &Long) -> Result<Array2<f64>, TaskError> {
        self.check(long)?;
        let scaled: Vec<Array2<f32>> =
            long.sequences.iter().map(|sequence| self.data.scale.scaled(sequence.values.view())).collect();
        self.probabilities(&scaled.iter().map(|values| values.view()).collect::<Vec<_>>())
    }

    /// At most `count` of the sequences that have a class in the table, evenly spaced.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a class that the model does not know, a sequence with two, or none with one.
    pub fn examples(&self, long: &Long, count: usize) -> Result<Examples, TaskError> {
        self.check(long)?;
        let labelled: Vec<&LongSequence> =
            long.sequences.iter().filter(|one| one.labels.iter().any(Option::is_some)).collect();
        let steps = |one: &&LongSequence| one.values.nrows();
        let chosen =
            spread(&labelled, count, steps, "no sequence of the table has a class; fill the column in")?;
        let scaled: Vec<Array2<f32>> =
            chosen.iter().map(|one| self.data.scale.scaled(one.values.view())).collect();
        let rows: Vec<ArrayView2<f32>> = scaled.iter().map(|values| values.view()).collect();
        let mut labels = Array2::zeros((1, chosen.len()));
        for (label, one) in labels.iter_mut().zip(chosen) {
            let class = class_of(one)?;
            *label = place_of(&self.data.classes, class);
        }
        let (input, targets) = (Sequences::of_rows(&rows)?, Targets::labels(labels.view()));
        Ok(Examples { input, targets, loss: Loss::CrossEntropy })
    }

    fn check(&self, long: &Long) -> Result<(), TaskError> {
        let labels = long.sequences.iter().flat_map(|sequence| &sequence.labels).flatten();
        known(&self.data.classes, labels)
    }
}

/// Refuses a class that is not one of the model's.
pub(crate) fn known<'a>(
    classes: &[String],
    mut labels: impl Iterator<Item = &'a String>,
) -> Result<(), TaskError> {
    match labels.find(|label| !classes.contains(label)) {
        None => Ok(()),
        Some(label) => Err(TaskError::Data(format!(
            "the model does not know the class {label}; it knows {}: leave the column of classes out, or train again",
            classes.join(", ")
        ))),
    }
}

/// The label of a class that the model knows.
pub(crate) fn place_of(classes: &[String], name: &str) -> i64 {
    classes.iter().position(|class| class == name).expect("the table was checked") as i64
}

/// Probabilities from logits, in `f64`.
pub(crate) fn softmax(logits: impl Iterator<Item = f32> + Clone) -> Vec<f64> {
    let most = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.map(|x| f64::from(x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The place of the largest value; the first if several are.
pub fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> usize {
    let values = values.into_iter().enumerate();
    values
        .fold((0, f64::NEG_INFINITY), |best, (at, value)| if *value > best.1 { (at, *value) } else { best })
        .0
}

#[cfg(test)]
mod tests;
