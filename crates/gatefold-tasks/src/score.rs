//! Scores: a number from -1 to 1 for a text.

use crate::examples::{Examples, spread};
use crate::token_rows::sequences;
use crate::{
    FitSettings, Fitted, Rated, RatedParts, Recurrent, Task, TaskError, Unit, UnitVocabulary, Watch, fit,
};
use gatefold::layers::{Activation, DenseConfig, Direction, EmbeddingConfig, LayerConfig};
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig};
use gatefold_series::{Ridge, Sums};
use ndarray::{Array2, Array3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Texts of a batch.
const BATCH: usize = 32;
/// Texts that are scored side by side.
const ROWS: usize = 64;
/// The most words that a network knows, and those that the regression counts.
const MOST_WORDS: usize = 10_000;
const MOST_COUNTED: usize = 1000;
/// The penalties that the regression's validation chooses from.
const PENALTIES: [f64; 7] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// The units of a text, as [`Unit::split`] gives them; words in lower case, and the first with a space before it.
fn prepared(text: &str, unit: Unit) -> String {
    match unit {
        Unit::Char => text.to_owned(),
        Unit::Word => format!(" {}", text.to_lowercase()),
    }
}

/// The units that occur at least twice in the texts to learn from. Words are compared in lower case.
pub fn score_vocabulary(training: &[Rated], unit: Unit) -> UnitVocabulary {
    let texts: Vec<String> = training.iter().map(|row| prepared(&row.text, unit)).collect();
    UnitVocabulary::new(unit, texts.iter().map(String::as_str), 2, MOST_WORDS)
}

/// The network of a scorer and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreSettings {
    /// The recurrent layers, in both directions.
    pub recurrent: Recurrent,
    /// Updates, learning rate and seed.
    pub fit: FitSettings,
    /// The share of inner values that training hides.
    pub dropout: f32,
}

/// A network that scores texts, with its vocabulary.
#[derive(Debug)]
pub struct Scorer {
    /// The network: tokens in, a number from -1 to 1 out.
    pub network: Network,
    /// The units that it reads.
    pub vocabulary: UnitVocabulary,
}

impl Scorer {
    /// The scores of texts.
    ///
    /// # Errors
    /// [`TaskError::Data`] for an empty text; those of the device.
    pub fn scores(&self, texts: &[String]) -> Result<Vec<f64>, TaskError> {
        if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
            return Err(TaskError::Data(format!("text {} is empty; expected something to score", at + 1)));
        }
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| encode(&self.vocabulary, text)).collect();
        scores(&self.network, &tokens)
    }

    /// At most `count` of some texts with their numbers, evenly spaced.
    ///
    /// # Errors
    /// [`TaskError::Data`] if there is none.
    pub fn examples(&self, rows: &[Rated], count: usize) -> Result<Examples, TaskError> {
        let read = |row: &Rated| (encode(&self.vocabulary, &row.text), row.number as f32);
        let all: Vec<(Vec<u32>, f32)> = rows.iter().map(read).collect();
        let problem = "no row of the table has a text and a number";
        let chosen = spread(&all, count, |(tokens, _)| tokens.len(), problem)?;
        let tokens: Vec<&[u32]> = chosen.iter().map(|(tokens, _)| tokens.as_slice()).collect();
        let input = sequences(&tokens)?;
        let numbers = Array3::from_shape_fn((1, chosen.len(), 1), |(_, row, _)| chosen[row].1);
        Ok(Examples { input, targets: Targets::values(numbers), loss: Loss::SquaredError })
    }
}

fn encode(vocabulary: &UnitVocabulary, text: &str) -> Vec<u32> {
    vocabulary.encode(&prepared(text, vocabulary.unit()))
}

fn scores(network: &Network, tokens: &[Vec<u32>]) -> Result<Vec<f64>, TaskError> {
    let mut scores = Vec::with_capacity(tokens.len());
    for rows in tokens.chunks(ROWS) {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        scores.extend(network.predict(&sequences(&rows)?)?.iter().map(|score| f64::from(*score)));
    }
    Ok(scores)
}

/// Trains a network on the part for training; its parameters are those that did best on the part for validation.
///
/// # Errors
/// Those of [`fit`](fn@fit).
pub fn fit_scorer(
    device: &Device,
    parts: &RatedParts,
    vocabulary: &UnitVocabulary,
    settings: &ScoreSettings,
    watch: &mut dyn Watch,
) -> Result<Fitted, TaskError> {
    fit(device, &Scoring::new(parts, vocabulary, settings), &settings.fit, watch)
}

/// The task: each text's number.
struct Scoring<'a> {
    vocabulary: &'a UnitVocabulary,
    settings: &'a ScoreSettings,
    training: Vec<(Vec<u32>, f64)>,
    validation: Vec<(Vec<u32>, f64)>,
}

impl<'a> Scoring<'a> {
    fn new(parts: &RatedParts, vocabulary: &'a UnitVocabulary, settings: &'a ScoreSettings) -> Self {
        let tokens =
            |rows: &[Rated]| rows.iter().map(|row| (encode(vocabulary, &row.text), row.number)).collect();
        let (training, validation) = (tokens(&parts.training), tokens(&parts.validation));
        Scoring { vocabulary, settings, training, validation }
    }
}

impl Task for Scoring<'_> {
    fn network(&self) -> Result<NetworkConfig, TaskError> {
        let ScoreSettings { recurrent, dropout, .. } = *self.settings;
        let dropout_layer = LayerConfig::Dropout { rate: dropout };
        let mut layers: Vec<LayerConfig> = vec![
            EmbeddingConfig::new(self.vocabulary.tokens(), recurrent.hidden.min(64)).into(),
            dropout_layer.clone(),
        ];
        layers.extend(recurrent.stack(Direction::Bidirectional, dropout));
        layers.extend([LayerConfig::FinalState, dropout_layer]);
        layers.push(DenseConfig::new(1).activation(Activation::Tanh).into());
        Ok(NetworkConfig::new(1, layers)?)
    }

    fn training(&self) -> TrainConfig {
        TrainConfig::new().loss(Loss::SquaredError)
    }

    fn batch(
        &self,
        _: u64,
        random: &mut ChaCha8Rng,
    ) -> Result<(Sequences<'static>, Targets<'static>), TaskError> {
        let drawn: Vec<&(Vec<u32>, f64)> =
            (0..BATCH).map(|_| &self.training[random.random_range(0..self.training.len())]).collect();
        let rows: Vec<&[u32]> = drawn.iter().map(|(tokens, _)| tokens.as_slice()).collect();
        let numbers = Array3::from_shape_fn((1, BATCH, 1), |(_, row, _)| drawn[row].1 as f32);
        Ok((sequences(&rows)?, Targets::values(numbers)))
    }

    fn error(&self, network: &Network) -> Result<Option<f64>, TaskError> {
        let tokens: Vec<Vec<u32>> = self.validation.iter().map(|(tokens, _)| tokens.clone()).collect();
        let found = scores(network, &tokens)?;
        let squared = self.validation.iter().zip(&found).map(|((_, number), found)| (number - found).powi(2));
        Ok(Some(squared.sum::<f64>() / found.len() as f64))
    }
}

/// A ridge regression on how often each of the frequent units occurs in a text, wherever it does.
#[derive(Clone, Debug)]
pub struct BagOfUnits {
    vocabulary: UnitVocabulary,
    ridge: Ridge,
    /// The penalty that did best on the validation part.
    pub penalty: f64,
}

impl BagOfUnits {
    /// Fits the regression for each penalty and keeps the one that does best on the validation part.
    ///
    /// # Errors
    /// [`TaskError::Data`] if none can be fitted.
    pub fn fit(parts: &RatedParts, unit: Unit) -> Result<BagOfUnits, TaskError> {
        let texts: Vec<String> = parts.training.iter().map(|row| prepared(&row.text, unit)).collect();
        let vocabulary = UnitVocabulary::new(unit, texts.iter().map(String::as_str), 2, MOST_COUNTED);
        let numbers = |rows: &[Rated]| Array2::from_shape_fn((rows.len(), 1), |(row, _)| rows[row].number);
        let mut sums = Sums::new(vocabulary.tokens(), 1, 1);
        sums.add(&counts(&vocabulary, parts.training.iter().map(|row| &row.text)), &numbers(&parts.training));
        let held = counts(&vocabulary, parts.validation.iter().map(|row| &row.text));
        let truth = numbers(&parts.validation);
        let fitted = PENALTIES.iter().filter_map(|penalty| {
            let ridge = sums.solve(*penalty)?;
            let error = (ridge.predict(&held) - &truth).mapv(|error| error * error).sum();
            Some((error, *penalty, ridge))
        });
        let (_, penalty, ridge) = fitted
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .ok_or_else(|| TaskError::Data("no regression can be fitted to the counts of units".into()))?;
        Ok(BagOfUnits { vocabulary, ridge, penalty })
    }

    /// The scores of texts, none below -1 or above 1.
    pub fn scores(&self, texts: &[String]) -> Vec<f64> {
        let counts = counts(&self.vocabulary, texts.iter());
        self.ridge.predict(&counts).iter().map(|score| score.clamp(-1.0, 1.0)).collect()
    }
}

/// A one, then how often each unit occurs, `[texts, 1 + units]`.
fn counts<'a>(vocabulary: &UnitVocabulary, texts: impl ExactSizeIterator<Item = &'a String>) -> Array2<f64> {
    let mut counts = Array2::zeros((texts.len(), vocabulary.tokens()));
    for (mut row, text) in counts.rows_mut().into_iter().zip(texts) {
        row[0] = 1.0;
        // The place of unknown units is the one's.
        encode(vocabulary, text)
            .into_iter()
            .filter(|token| *token > 0)
            .for_each(|token| row[token as usize] += 1.0);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Agreement, CellKind};
    use rand_chacha::rand_core::SeedableRng;

    const GOOD: [&str; 4] = ["good", "lovely", "bright", "fresh"];
    const BAD: [&str; 4] = ["bad", "dull", "stale", "grim"];

    /// Sentences with one good and one bad word, of which `not` denies the one after it: `the tea was not good but bad`
    /// is -1, `the tea was good but not bad` is 1. Both have the same words, so counts of words say nothing.
    fn denials(count: usize) -> Vec<Rated> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut draw = |from: &[&'static str]| from[random.random_range(0..from.len())];
        let mut rows = Vec::new();
        while rows.len() < count {
            let thing = draw(&["tea", "room", "song", "walk", "book", "view"]);
            let (good, bad) = (draw(&GOOD), draw(&BAD));
            let denied_first = draw(&["yes", "no"]) == "yes";
            let good_first = draw(&["yes", "no"]) == "yes";
            let (first, second) = if good_first { (good, bad) } else { (bad, good) };
            let text = match denied_first {
                true => format!("The {thing} was not {first}, but {second}."),
                false => format!("The {thing} was {first}, but not {second}."),
            };
            // Either both parts say that it is good, or both that it is bad.
            rows.push(Rated { text, number: if good_first == denied_first { -1.0 } else { 1.0 } });
        }
        rows
    }

    fn settings(updates: u64) -> ScoreSettings {
        let fit = FitSettings { learning_rate: 0.01, looks: 4, ..FitSettings::new(updates) };
        ScoreSettings {
            recurrent: Recurrent { cell: CellKind::Gru, hidden: 16, layers: 1 },
            fit,
            dropout: 0.1,
        }
    }

    fn trained(parts: &RatedParts, updates: u64) -> Scorer {
        let vocabulary = score_vocabulary(&parts.training, Unit::Word);
        let device = Device::cpu().unwrap();
        let fitted = fit_scorer(&device, parts, &vocabulary, &settings(updates), &mut ()).unwrap();
        Scorer { network: fitted.network, vocabulary }
    }

    fn texts(rows: &[Rated]) -> Vec<String> {
        rows.iter().map(|row| row.text.clone()).collect()
    }

    #[test]
    fn order_is_learnt_where_counts_of_words_say_nothing() {
        let parts = RatedParts::new(&denials(600), 1).unwrap();
        let truth: Vec<f64> = parts.test.iter().map(|row| row.number).collect();
        let network = Agreement::new(&truth, &trained(&parts, 200).scores(&texts(&parts.test)).unwrap());
        let bag =
            Agreement::new(&truth, &BagOfUnits::fit(&parts, Unit::Word).unwrap().scores(&texts(&parts.test)));
        assert!(network.mae < 0.1 && network.pearson.unwrap() > 0.98, "{network:?}");
        assert!(bag.mae > 0.9 && bag.pearson.unwrap().abs() < 0.4, "{bag:?}");
    }

    #[test]
    fn counts_of_words_suffice_where_order_says_nothing() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut rows: Vec<Rated> = Vec::new();
        for _ in 0..300 {
            let words: Vec<&str> =
                (0..6).map(|_| [&GOOD, &BAD][random.random_range(0..2)][random.random_range(0..4)]).collect();
            let good = words.iter().filter(|word| GOOD.contains(word)).count() as f64;
            rows.push(Rated { text: words.join(" "), number: good / 3.0 - 1.0 });
        }
        let parts = RatedParts::new(&rows, 1).unwrap();
        let truth: Vec<f64> = parts.test.iter().map(|row| row.number).collect();
        let bag =
            Agreement::new(&truth, &BagOfUnits::fit(&parts, Unit::Word).unwrap().scores(&texts(&parts.test)));
        assert!(bag.mae < 0.01 && bag.pearson.unwrap() > 0.999, "{bag:?}");
    }

    #[test]
    fn training_never_sees_the_test_and_scores_stay_in_range() {
        let mut parts = RatedParts::new(&denials(300), 1).unwrap();
        let fitted = trained(&parts, 6);
        for row in &mut parts.test {
            row.number = -row.number;
        }
        let same = trained(&parts, 6);
        assert_eq!(same.network.parameters().unwrap(), fitted.network.parameters().unwrap());
        let odd = ["not ".repeat(500), "Ω".into(), "GOOD".into()];
        let scores = same.scores(&odd).unwrap();
        assert!(scores.iter().all(|score| (-1.0..=1.0).contains(score)), "{scores:?}");
        assert_eq!(same.scores(&["good".into()]).unwrap()[0], scores[2], "words are compared in lower case");
        let refused = same.scores(&["a".into(), "\t".into()]).unwrap_err().to_string();
        assert_eq!(refused, "text 2 is empty; expected something to score");
    }
}
