//! Text continued: a network that says how likely each next unit is, and writes by drawing from that.

use crate::examples::{Examples, MOST_STEPS, spread};
use crate::n_gram::NGrams;
use crate::{FitSettings, Fitted, Recurrent, Task, TaskError, Unit, UnitVocabulary, Watch, fit};
use gatefold::generate::Sampler;
use gatefold::layers::{DenseConfig, Direction, EmbeddingConfig, LayerConfig};
use gatefold::training::Reduction;
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig};
use ndarray::{Array2, ArrayView1, Axis};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// The fewest units of a text that can be learnt from.
const LEAST_UNITS: usize = 1000;
/// The share of a text that is held out for the test, its end, and the share before it for validation.
const TEST: f64 = 0.1;
const VALIDATION: f64 = 0.05;
/// Steps of a batch, and the most places of the text that it continues at.
const STEPS: usize = 64;
const MOST_STRIPS: usize = 32;
/// The most words that a model knows.
const MOST_WORDS: usize = 10_000;
/// Words from which on most of a language's frequent words are frequent enough to be learnt.
const ENOUGH_WORDS: usize = 1_000_000;
/// Units that are read before the first one that counts, so that the network knows where it is.
const LEAD: usize = 500;
/// The most texts that are read side by side.
const MOST_ROWS: usize = 16;
/// The most numbers that the network gives at a time when it is measured.
const MOST_OUTPUTS: usize = 1 << 20;
/// The orders of the n-grams that a network is compared with.
const ORDERS: [usize; 3] = [1, 3, 5];

/// The unit that suits a text, and the reason.
pub fn suited_unit(text: &str) -> (Unit, &'static str) {
    // Four bytes are fewer than a word and its space, so that short texts need not be split.
    if text.len() > 4 * ENOUGH_WORDS && Unit::Word.split(text).len() >= ENOUGH_WORDS {
        (Unit::Word, "the text has a million words or more")
    } else {
        (Unit::Char, "words need a text of a million of them")
    }
}

/// A text in three parts, one after another: for training, for validation and for the test.
#[derive(Clone, Debug)]
pub struct TextParts {
    vocabulary: UnitVocabulary,
    tokens: Vec<u32>,
    validation: usize,
    test: usize,
}

impl TextParts {
    /// Splits a text. The vocabulary knows the units that occur at least twice in the part for training.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a text that is too short.
    pub fn new(text: &str, unit: Unit) -> Result<TextParts, TaskError> {
        let units = unit.split(text);
        if units.len() < LEAST_UNITS {
            return Err(TaskError::Data(format!(
                "the text has {} {unit}s; expected at least {LEAST_UNITS}",
                units.len()
            )));
        }
        let test = units.len() - (units.len() as f64 * TEST) as usize;
        let validation = test - (units.len() as f64 * VALIDATION) as usize;
        let training: usize = units[..validation].iter().map(|unit| unit.len()).sum();
        let most = match unit {
            Unit::Char => usize::MAX,
            Unit::Word => MOST_WORDS,
        };
        let vocabulary = UnitVocabulary::new(unit, [&text[..training]], 2, most);
        if vocabulary.symbols().len() < 2 {
            return Err(TaskError::Data(format!(
                "the text has {} {unit}s that occur twice; expected at least 2",
                vocabulary.symbols().len()
            )));
        }
        let tokens = vocabulary.encode(text);
        Ok(TextParts { vocabulary, tokens, validation, test })
    }

    /// The units that occur often enough.
    pub fn vocabulary(&self) -> &UnitVocabulary {
        &self.vocabulary
    }

    /// The tokens to learn from.
    pub fn training(&self) -> &[u32] {
        &self.tokens[..self.validation]
    }

    /// The tokens by which the best parameters are found.
    pub fn validation(&self) -> &[u32] {
        &self.tokens[self.validation..self.test]
    }

    /// The tokens of the test, the last tenth.
    pub fn test(&self) -> &[u32] {
        &self.tokens[self.test..]
    }

    /// The share of the test's tokens that are unknown units.
    pub fn unknown_share(&self) -> f64 {
        let unknown = self.test().iter().filter(|token| **token == UnitVocabulary::UNKNOWN);
        unknown.count() as f64 / self.test().len() as f64
    }

    /// The places of the training part that a batch continues at.
    fn strips(&self) -> usize {
        (self.validation / (4 * STEPS)).clamp(1, MOST_STRIPS)
    }

    /// The batches from the beginning of each strip to its end.
    fn batches(&self) -> u64 {
        // Each pass begins up to one batch later than the strips do.
        (self.validation / self.strips() / STEPS - 1) as u64
    }

    /// Trains a network on the part for training; its parameters are those that did best on the part for validation.
    ///
    /// # Errors
    /// Those of [`fit`](fn@fit).
    pub fn fit(
        &self,
        device: &Device,
        settings: &GenerateSettings,
        watch: &mut dyn Watch,
    ) -> Result<Fitted, TaskError> {
        fit(device, &Writing { parts: self, settings }, &settings.fit, watch)
    }

    /// The usual number of updates for this text: 1500, and two passes through a long one.
    pub fn usual_updates(&self) -> u64 {
        (2 * self.batches()).clamp(1500, 20_000)
    }
}

/// The network of a generator and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateSettings {
    /// The recurrent layers.
    pub recurrent: Recurrent,
    /// Updates, learning rate and seed.
    pub fit: FitSettings,
    /// The share of the embedding's values and of half as many inner ones that training hides; from 0 to below 0.5.
    pub dropout: f32,
}

/// A network that writes text, with its vocabulary.
#[derive(Debug)]
pub struct Generator {
    /// The network: tokens in, the logits of the next token out.
    pub network: Network,
    /// The units that it reads and writes.
    pub vocabulary: UnitVocabulary,
}

/// The measures of a generator on the test part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateScores {
    /// Mean bits that the network needs for a unit.
    pub bits: f64,
    /// The orders of n-grams, and the mean bits that they need, counted on everything before the test part.
    pub n_gram_bits: Vec<(usize, f64)>,
}

impl Generator {
    /// Measures the network and the n-grams on the test part.
    ///
    /// # Errors
    /// Those of the device.
    pub fn scores(&self, parts: &TextParts) -> Result<GenerateScores, TaskError> {
        let bits = mean_bits(&self.network, &parts.tokens, parts.test)?;
        let (before, test) = parts.tokens.split_at(parts.test);
        let of_order =
            |order| (order, NGrams::new(order, parts.vocabulary.tokens(), before).bits(before, test));
        Ok(GenerateScores { bits, n_gram_bits: ORDERS.into_iter().map(of_order).collect() })
    }

    /// Writes `length` units that continue a prompt.
    ///
    /// # Errors
    /// [`TaskError::Data`] for an empty prompt, or one with a unit that the network does not know; those of the device.
    pub fn write(&self, prompt: &str, length: usize, sampler: &mut Sampler) -> Result<String, TaskError> {
        let prompt = self.vocabulary.encode_known(prompt)?;
        if prompt.is_empty() {
            return Err(TaskError::Data("the prompt is empty; expected at least one unit".into()));
        }
        let column = Array2::from_shape_fn((prompt.len(), 1), |(t, _)| prompt[t]);
        let read = self.network.forward(Sequences::tokens(column.view()), None)?;
        let mut stream = self.network.stream(1)?;
        stream.set_states(&read.states)?;
        let mut logits = read.output.index_axis(Axis(0), prompt.len() - 1).row(0).to_owned();
        let mut written = Vec::with_capacity(length);
        while written.len() < length {
            // What is unknown cannot be written.
            logits[UnitVocabulary::UNKNOWN as usize] = f32::NEG_INFINITY;
            let token = sampler.draw(logits.view());
            written.push(token);
            if written.len() < length {
                let output = stream.step(ArrayView1::from(&[token as f32]).insert_axis(Axis(0)))?;
                logits = output.row(0).to_owned();
            }
        }
        Ok(self.vocabulary.decode(&written))
    }

    /// At most `count` pieces of a text, evenly spaced and of up to 200 units each, with the unit after each of theirs. Of a
    /// model of many words there are fewer, since each unit has as many scores.
    ///
    /// # Errors
    /// [`TaskError::Data`] for a text of fewer than two units.
    pub fn examples(&self, text: &str, count: usize) -> Result<Examples, TaskError> {
        let tokens = self.vocabulary.encode(text);
        let steps = MOST_STEPS.min(tokens.len().saturating_sub(1)).max(1);
        let pieces: Vec<&[u32]> = tokens.windows(steps + 1).step_by(steps).collect();
        let most = MOST_OUTPUTS / steps / self.network.config().output();
        let chosen = spread(
            &pieces,
            count.min(most.max(1)),
            |piece| piece.len(),
            "the text has fewer than two units",
        )?;
        let shape = (steps, chosen.len());
        let input = Array2::from_shape_fn(shape, |(t, row)| chosen[row][t]);
        let next = Array2::from_shape_fn(shape, |(t, row)| i64::from(chosen[row][t + 1]));
        let (input, targets) = (Sequences::tokens(input.view()), Targets::labels(next.view()));
        Ok(Examples { input, targets, loss: Loss::CrossEntropy })
    }

    /// A beginning for a text without a prompt: a line break, or the most frequent unit of a text without any.
    pub fn opening(&self) -> &str {
        let symbols = self.vocabulary.symbols();
        symbols.iter().find(|symbol| symbol.as_str() == "\n").unwrap_or(&symbols[0])
    }
}

/// The task: each token of the training part after those before it.
struct Writing<'a> {
    parts: &'a TextParts,
    settings: &'a GenerateSettings,
}

impl Task for Writing<'_> {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let tokens = self.parts.vocabulary.tokens();
        let GenerateSettings { recurrent, dropout, .. } = self.settings;
        let mut layers = vec![EmbeddingConfig::new(tokens, recurrent.hidden.min(64)).into()];
        layers.push(LayerConfig::Dropout { rate: *dropout });
        layers.extend(recurrent.stack(Direction::Forward, *dropout));
        layers.push(LayerConfig::Dropout { rate: 2.0 * dropout });
        layers.push(DenseConfig::new(tokens).into());
        Ok(NetworkConfig::new(1, layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::CrossEntropy)
    }

    fn batch(
        &self,
        update: u64,
        _: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let (text, strips) = (self.parts.training(), self.parts.strips());
        let (pass, batch) = (update / self.parts.batches(), update % self.parts.batches());
        // The borders between batches move from pass to pass.
        let mut random = ChaCha8Rng::seed_from_u64(self.settings.fit.seed);
        random.set_stream(u64::MAX - pass);
        let begin = random.random_range(0..STEPS) + batch as usize * STEPS;
        let at = |t: usize, row: usize| text[row * (text.len() / strips) + begin + t];
        let input = Array2::from_shape_fn((STEPS, strips), |(t, row)| at(t, row));
        let next = Array2::from_shape_fn((STEPS, strips), |(t, row)| i64::from(at(t + 1, row)));
        Ok((Sequences::tokens(input.view()), Targets::labels(next.view())))
    }

    fn carries_state(&self) -> bool {
        true
    }

    fn begins_anew(&self, update: u64) -> bool {
        update.is_multiple_of(self.parts.batches())
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let known = &self.parts.tokens[..self.parts.test];
        Ok(Some(mean_bits(network, known, self.parts.validation)?))
    }
}

/// The mean bits that the network needs for the tokens from `first` on, after reading some of those before.
fn mean_bits(network: &Network, tokens: &[u32], first: usize) -> Result<f64, TaskError> {
    let counted = tokens.len() - first;
    let rows = (counted / LEAD).clamp(1, MOST_ROWS);
    // Each row reads its share of the tokens, and those before it that do not count.
    let bounds: Vec<(usize, usize, usize)> = (0..rows)
        .map(|row| {
            let start = first + row * counted / rows;
            (start.saturating_sub(LEAD), start, first + (row + 1) * counted / rows)
        })
        .collect();
    let steps = bounds.iter().map(|(begin, _, end)| end - 1 - begin).max().unwrap_or(0);
    let chunk = (MOST_OUTPUTS / rows / network.config().output()).max(1);
    let mut states = None;
    let mut nats = 0.0;
    for from in (0..steps).step_by(chunk) {
        let shape = (chunk.min(steps - from), rows);
        let input = Array2::from_shape_fn(shape, |(t, row)| {
            let (begin, _, end) = bounds[row];
            tokens[(begin + from + t).min(end - 1)]
        });
        let labels = Array2::from_shape_fn(shape, |(t, row)| {
            let (begin, start, end) = bounds[row];
            let next = begin + from + t + 1;
            if (start..end).contains(&next) { i64::from(tokens[next]) } else { -1 }
        });
        let read = network.forward(Sequences::tokens(input.view()), states.as_ref())?;
        nats +=
            Targets::labels(labels.view()).loss(&Loss::CrossEntropy, Reduction::Sum, read.output.view())?;
        states = Some(read.states);
    }
    Ok(nats / counted as f64 / std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests;
