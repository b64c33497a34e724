//! Translation of short texts: an encoder reads the source, a decoder writes the target.

use crate::examples::{Examples, spread};
use crate::token_rows::{padded, sequences};
use crate::{
    FitSettings, Fitted, Pair, PairParts, Recurrent, Task, TaskError, Unit, UnitVocabulary, Watch, bleu,
    chrf, edit_distance, exact_matches, fit,
};
use gatefold::generate::{Decoding, Marks};
use gatefold::layers::{
    Activation, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, LayerConfig,
};
use gatefold::training::Reduction;
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig};
use ndarray::{Array2, ArrayView1, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Pairs of a batch.
const BATCH: usize = 64;
/// Sources that are translated side by side.
const ROWS: usize = 64;
/// The most words of either language that a model knows.
const MOST_WORDS: usize = 10_000;
/// The share of the validation part's words that must be known, in either language, for words to be chosen, in per cent.
const KNOWN_WORDS: usize = 95;
/// The power of the length that the log-probability of a translation is divided by.
const LENGTH_POWER: f32 = 0.6;
/// How much longer a translation may be than the longest of the training part.
const ROOM: usize = 8;

/// The unit that suits the pairs, and the reason: words where almost all words of new sources and targets are known.
pub fn suited_pair_unit(parts: &PairParts) -> (Unit, String) {
    let known_share = |of: fn(&Pair) -> &str| {
        let texts =
            |pairs: &[Pair]| pairs.iter().map(|pair| spaced(of(pair), Unit::Word)).collect::<Vec<_>>();
        let known = texts(&parts.training);
        let vocabulary = UnitVocabulary::new(Unit::Word, known.iter().map(String::as_str), 2, MOST_WORDS);
        let tokens: Vec<u32> =
            texts(&parts.validation).iter().flat_map(|text| vocabulary.encode(text)).collect();
        let found = tokens.iter().filter(|token| **token != UnitVocabulary::UNKNOWN).count();
        100 * found / tokens.len().max(1)
    };
    let (source, target) = (known_share(|pair| &pair.source), known_share(|pair| &pair.target));
    let unit = if source.min(target) >= KNOWN_WORDS { Unit::Word } else { Unit::Char };
    (
        unit,
        format!(
            "{source} % of the words of new sources and {target} % of new targets occur twice in training"
        ),
    )
}

/// The text as its units are counted: a first word has a space before it, as every other word has.
fn spaced(text: &str, unit: Unit) -> String {
    match unit {
        Unit::Char => text.to_owned(),
        Unit::Word => format!(" {text}"),
    }
}

/// The network of a translator and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranslateSettings {
    /// The recurrent layers of the encoder, in both directions, and of the decoder.
    pub recurrent: Recurrent,
    /// Updates, learning rate and seed.
    pub fit: FitSettings,
    /// The share of inner values that training hides.
    pub dropout: f32,
}

/// The languages of a translator: the units of both, and the longest text that is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Languages {
    source: UnitVocabulary,
    target: UnitVocabulary,
    most_units: usize,
}

impl Languages {
    /// The units of the pairs to learn from.
    pub fn new(training: &[Pair], unit: Unit) -> Languages {
        let texts =
            |of: fn(&Pair) -> &str| training.iter().map(|pair| spaced(of(pair), unit)).collect::<Vec<_>>();
        let (sources, targets) = (texts(|pair| &pair.source), texts(|pair| &pair.target));
        let most = match unit {
            Unit::Char => usize::MAX,
            Unit::Word => MOST_WORDS,
        };
        // A source unit that occurs once stands for those that training never shows.
        let source = UnitVocabulary::new(unit, sources.iter().map(String::as_str), 2, most);
        let target = UnitVocabulary::new(unit, targets.iter().map(String::as_str), 1, most);
        let most_units = targets.iter().map(|text| unit.split(text).len()).max().unwrap_or(0) + ROOM;
        Languages { source, target, most_units }
    }

    /// The unit of both languages.
    pub fn unit(&self) -> Unit {
        self.source.unit()
    }

    /// The units of the sources and of the targets.
    pub fn vocabularies(&self) -> [&UnitVocabulary; 2] {
        [&self.source, &self.target]
    }

    fn marks(&self) -> Marks {
        let end = self.target.tokens() as u32;
        Marks { begin: end + 1, end, max_len: self.most_units + 1 }
    }

    fn source_tokens(&self, text: &str) -> Vec<u32> {
        self.source.encode(&spaced(text, self.unit()))
    }

    fn target_tokens(&self, text: &str) -> Vec<u32> {
        self.target.encode(&spaced(text, self.unit()))
    }

    /// The network's input, and what its decoder should write, for sources and targets `[B]` as tokens.
    fn batch(
        &self,
        sources: &[&[u32]],
        targets: &[&[u32]],
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let marks = self.marks();
        let written = padded(targets);
        let shape = (written.nrows() + 1, targets.len());
        let read = |(t, row): (usize, usize)| if t == 0 { marks.begin } else { written[[t - 1, row]] };
        let label = |(t, row): (usize, usize)| match targets[row].len() {
            len if t < len => i64::from(targets[row][t]),
            len if t == len => i64::from(marks.end),
            _ => -1,
        };
        let decoder = Sequences::tokens(Array2::from_shape_fn(shape, read).view());
        let labels = Targets::labels(Array2::from_shape_fn(shape, label).view());
        Ok((sequences(sources)?.with_decoder(decoder), labels))
    }
}

/// A network that translates, with its languages.
#[derive(Debug)]
pub struct Translator {
    /// The network: an encoder of source tokens and a decoder of target tokens.
    pub network: Network,
    /// The units of both languages.
    pub languages: Languages,
}

/// A translation.
#[derive(Clone, Debug, PartialEq)]
pub struct Translation {
    /// The text.
    pub text: String,
    /// The natural logarithm of its probability, its end included.
    pub log_probability: f64,
}

/// The measures of translations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranslateScores {
    /// Translations that are the target, letter by letter, in per cent.
    pub exact: f64,
    /// BLEU, 0 to 100; see [`bleu`].
    pub bleu: f64,
    /// chrF, 0 to 100; see [`chrf`].
    pub chrf: f64,
}

impl TranslateScores {
    /// Compares translations with the targets of pairs.
    pub fn new(translations: &[String], pairs: &[Pair]) -> TranslateScores {
        let targets: Vec<String> = pairs.iter().map(|pair| pair.target.clone()).collect();
        TranslateScores {
            exact: exact_matches(translations, &targets),
            bleu: bleu(translations, &targets),
            chrf: chrf(translations, &targets),
        }
    }
}

/// For each source, the translation that training has for the nearest source, in characters to insert, delete or replace;
/// among equals the first.
pub fn nearest_translations(training: &[Pair], sources: &[String]) -> Vec<String> {
    let known: Vec<Vec<char>> = training.iter().map(|pair| pair.source.chars().collect()).collect();
    let nearest = |source: &String| {
        let source: Vec<char> = source.chars().collect();
        let mut best = (usize::MAX, 0);
        for (at, known) in known.iter().enumerate() {
            if let Some(distance) = edit_distance(&source, known, best.0.saturating_sub(1))
                && distance < best.0
            {
                best = (distance, at);
            }
        }
        training[best.1].target.clone()
    };
    sources.iter().map(nearest).collect()
}

/// Trains a network on the part for training; its parameters are those that did best on the part for validation.
///
/// # Errors
/// Those of [`fit`](fn@fit).
pub fn fit_translator(
    device: &Device,
    parts: &PairParts,
    languages: &Languages,
    settings: &TranslateSettings,
    watch: &mut dyn Watch,
) -> Result<Fitted, TaskError> {
    fit(device, &Translating::new(parts, languages, settings), &settings.fit, watch)
}

impl Translator {
    /// Translates texts: by the likeliest unit at every step for a `beam` of 1, else by a beam search with so many
    /// candidates. A beam's translation is never ranked below the greedy one; the rank is the log-probability divided by
    /// the number of units to the power of 0.6, as in Wu et al. 2016.
    ///
    /// # Errors
    /// [`TaskError::Data`] for an empty text; [`TaskError::Engine`] for a beam of width 0, and those of the device.
    pub fn translate(&self, sources: &[String], beam: usize) -> Result<Vec<Translation>, TaskError> {
        let tokens: Vec<Vec<u32>> = sources.iter().map(|text| self.languages.source_tokens(text)).collect();
        if let Some(at) = sources.iter().position(|text| text.trim().is_empty()) {
            return Err(TaskError::Data(format!(
                "text {} is empty; expected something to translate",
                at + 1
            )));
        }
        let mut translations = Vec::with_capacity(sources.len());
        for rows in tokens.chunks((ROWS / beam.max(1)).max(1)) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            translations.extend(self.search(&rows, beam)?.into_iter().map(|(tokens, log_probability)| {
                let text = self.languages.target.decode(&tokens);
                Translation { text: text.trim().to_owned(), log_probability }
            }));
        }
        Ok(translations)
    }

    /// At most `count` of some pairs, evenly spaced; the decoder reads the right unit of the step before.
    ///
    /// # Errors
    /// [`TaskError::Data`] if there is none.
    pub fn examples(&self, pairs: &[Pair], count: usize) -> Result<Examples, TaskError> {
        let read = |pair: &Pair| {
            (self.languages.source_tokens(&pair.source), self.languages.target_tokens(&pair.target))
        };
        let all: Vec<(Vec<u32>, Vec<u32>)> = pairs.iter().map(read).collect();
        let problem = "no row of the table has a source and a target";
        let chosen = spread(&all, count, |(source, _)| source.len(), problem)?;
        let (sources, targets): (Vec<&[u32]>, Vec<&[u32]>) =
            chosen.iter().map(|(source, target)| (source.as_slice(), target.as_slice())).unzip();
        let (input, targets) = self.languages.batch(&sources, &targets)?;
        Ok(Examples { input, targets, loss: Loss::CrossEntropy })
    }

    /// The better of the greedy choice and what a beam finds, for each source.
    fn search(&self, sources: &[&[u32]], beam: usize) -> Result<Vec<(Vec<u32>, f64)>, TaskError> {
        let mut best = self.decoded(sources, Decoding::Greedy)?;
        if beam != 1 {
            let searched = Decoding::Beam { width: beam, length_power: LENGTH_POWER };
            for (best, found) in best.iter_mut().zip(self.decoded(sources, searched)?) {
                if rank(&found) > rank(best) {
                    *best = found;
                }
            }
        }
        Ok(best)
    }

    /// The tokens that the network writes for each source, and their log-probabilities.
    fn decoded(&self, sources: &[&[u32]], decoding: Decoding) -> Result<Vec<(Vec<u32>, f64)>, TaskError> {
        let written = self.network.decode(&sequences(sources)?, self.languages.marks(), decoding)?;
        let rows: Vec<&[u32]> = written.iter().map(Vec::as_slice).collect();
        let log_probabilities = self.log_probabilities(sources, &rows)?;
        Ok(written.into_iter().zip(log_probabilities).collect())
    }

    /// The log-probability of each target after its source, with the end mark.
    fn log_probabilities(&self, sources: &[&[u32]], targets: &[&[u32]]) -> Result<Vec<f64>, TaskError> {
        let (input, _) = self.languages.batch(sources, targets)?;
        let output = self.network.predict(&input)?;
        let end = self.languages.marks().end;
        let of_row = |(row, target): (usize, &&[u32])| {
            let ended = target.iter().copied().chain([end]);
            let steps = ended.enumerate().map(|(t, token)| log_share(output.slice(s![t, row, ..]), token));
            steps.sum()
        };
        Ok(targets.iter().enumerate().map(of_row).collect())
    }
}

/// The order of translations: the log-probability over a power of the length with the end mark.
fn rank((tokens, log_probability): &(Vec<u32>, f64)) -> f64 {
    log_probability / ((tokens.len() + 1) as f64).powf(f64::from(LENGTH_POWER))
}

/// The logarithm of a token's softmax.
fn log_share(logits: ArrayView1<f32>, token: u32) -> f64 {
    let highest = logits.fold(f32::NEG_INFINITY, |most, logit| most.max(*logit));
    let shifted = |logit: f32| f64::from(logit) - f64::from(highest);
    shifted(logits[token as usize]) - logits.iter().map(|logit| shifted(*logit).exp()).sum::<f64>().ln()
}

/// The task: each unit of a target after its source and the units before.
struct Translating<'a> {
    languages: &'a Languages,
    settings: &'a TranslateSettings,
    training: Vec<(Vec<u32>, Vec<u32>)>,
    validation: Vec<(Vec<u32>, Vec<u32>)>,
}

impl<'a> Translating<'a> {
    fn new(parts: &PairParts, languages: &'a Languages, settings: &'a TranslateSettings) -> Self {
        let tokens = |pairs: &[Pair]| {
            let of_pair =
                |pair: &Pair| (languages.source_tokens(&pair.source), languages.target_tokens(&pair.target));
            pairs.iter().map(of_pair).collect()
        };
        let (training, validation) = (tokens(&parts.training), tokens(&parts.validation));
        Translating { languages, settings, training, validation }
    }

    fn batch_of<'p>(
        &self,
        pairs: impl Iterator<Item = &'p (Vec<u32>, Vec<u32>)>,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let (sources, targets): (Vec<&[u32]>, Vec<&[u32]>) =
            pairs.map(|(source, target)| (source.as_slice(), target.as_slice())).unzip();
        self.languages.batch(&sources, &targets)
    }
}

impl Task for Translating<'_> {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let TranslateSettings { recurrent, dropout, .. } = *self.settings;
        let written = self.languages.target.tokens() + 1;
        let embedding = recurrent.hidden.min(64);
        // Both directions of the encoder together are as wide as the decoder.
        let encoder = Recurrent { hidden: recurrent.hidden.div_ceil(2), ..recurrent };
        let dropout_layer = LayerConfig::Dropout { rate: dropout };
        let mut layers: Vec<LayerConfig> = vec![
            EmbeddingConfig::new(self.languages.source.tokens(), embedding).into(),
            dropout_layer.clone(),
        ];
        layers.extend(encoder.stack(Direction::Bidirectional, dropout));
        layers.push(DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into());
        layers.extend([EmbeddingConfig::new(written + 1, embedding).into(), dropout_layer.clone()]);
        layers.extend(recurrent.stack(Direction::Forward, dropout));
        layers.extend([dropout_layer, DenseConfig::new(written).into()]);
        Ok(NetworkConfig::new(1, layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::CrossEntropy)
    }

    fn batch(
        &self,
        _: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let drawn: Vec<usize> = (0..BATCH).map(|_| random.random_range(0..self.training.len())).collect();
        self.batch_of(drawn.iter().map(|at| &self.training[*at]))
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let (mut nats, mut units) = (0.0, 0);
        for pairs in self.validation.chunks(ROWS) {
            let (input, labels) = self.batch_of(pairs.iter())?;
            let output = network.predict(&input)?;
            nats += labels.loss(&Loss::CrossEntropy, Reduction::Sum, output.view())?;
            units += pairs.iter().map(|(_, target)| target.len() + 1).sum::<usize>();
        }
        Ok(Some(nats / units as f64))
    }
}

#[cfg(test)]
mod tests;
