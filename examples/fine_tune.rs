//! Trains a PyTorch tagger further on another language, with its first layers frozen, and hands it back to PyTorch.
//!
//! The tagger puts the accents back on a text that has lost them: an embedding, two bidirectional LSTM layers and a linear
//! layer give a mark for each character. PyTorch trained it on French (`examples/fine_tune/accents.py`); here it learns
//! Spanish, whose accents fall on other letters. The embedding and the first LSTM layer stay as they are, the rest is
//! trained on four fifths of the Spanish messages; the last fifth is the test. The result is written under the names that
//! PyTorch has for its tensors, and the script checks it: `load_state_dict` with `strict=True`, the same accuracy, and the
//! frozen tensors unchanged.
//!
//! ```text
//! cargo run --release --example fine_tune -- --out spanish
//! python examples/fine_tune/accents.py --check spanish
//! ```

mod arguments;

use arguments::{Arguments, cosine, data, largest, print_network};
use clap::Parser;
use gatefold::training::ParameterGroup;
use gatefold::{Loss, Network, Sequences, Targets, TrainConfig, Trainer};
use gatefold_model::file::pytorch;
use ndarray::{Array2, s};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Trains a PyTorch tagger further on another language
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
    /// Layers that stay as they are, from the first
    #[arg(long, default_value_t = 2)]
    freeze: usize,
    /// Folder for the results
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

const BATCH: usize = 16;
const LEARNING_RATE: f32 = 4e-3;

/// The characters and marks of the tagger.
struct Vocabulary {
    /// Token 0 stands for every character that is not listed.
    tokens: BTreeMap<char, u32>,
    /// For an accented letter, the letter below and its mark.
    letters: BTreeMap<char, (char, i64)>,
}

/// A text without its marks, and the marks.
struct Text {
    tokens: Vec<u32>,
    marks: Vec<i64>,
}

impl Vocabulary {
    fn read(path: &Path) -> Result<Vocabulary, Box<dyn Error>> {
        let text = std::fs::read_to_string(path)?;
        let mut file: BTreeMap<String, Value> = serde_json::from_str(&text)?;
        let mut part =
            |name: &str| file.remove(name).ok_or_else(|| format!("{}: there are no {name}", path.display()));
        let characters: Vec<char> = serde_json::from_value(part("characters")?)?;
        let marks: Vec<String> = serde_json::from_value(part("marks")?)?;
        let accented: BTreeMap<char, (char, String)> = serde_json::from_value(part("letters")?)?;
        let tokens = characters.into_iter().zip(0..).collect();
        let mut letters = BTreeMap::new();
        for (letter, (base, mark)) in accented {
            let known = marks.iter().position(|known| *known == mark);
            let mark = known.ok_or_else(|| format!("{letter}: its mark {mark} is not among the marks"))?;
            letters.insert(letter, (base, mark as i64));
        }
        Ok(Vocabulary { tokens, letters })
    }

    fn encode(&self, text: &str) -> Text {
        let split = |letter| self.letters.get(&letter).copied().unwrap_or((letter, 0));
        let (bases, marks): (Vec<char>, Vec<i64>) = text.chars().map(split).unzip();
        let token = |base: &char| self.tokens.get(base).copied().unwrap_or(0);
        Text { tokens: bases.iter().map(token).collect(), marks }
    }
}

/// One language's messages, in the order of the table.
fn messages(language: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let table = std::fs::read_to_string(data("django_en_fr_de_es.tsv"))?;
    let mut lines = table.lines();
    let heads = lines.next().unwrap_or_default();
    let column = heads.split('\t').position(|head| head == language);
    let column = column.ok_or_else(|| format!("no column {language}; found {heads}"))?;
    Ok(lines.filter_map(|line| line.split('\t').nth(column)).map(str::to_owned).collect())
}

/// Texts side by side, as tokens, lengths and marks; where a row has ended, the mark is -1.
fn batch(texts: &[&Text]) -> (Array2<u32>, Vec<usize>, Array2<i64>) {
    let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
    let shape = (lengths.iter().copied().max().unwrap_or(0), texts.len());
    let tokens = Array2::from_shape_fn(shape, |(t, row)| texts[row].tokens.get(t).copied().unwrap_or(0));
    let marks = Array2::from_shape_fn(shape, |(t, row)| texts[row].marks.get(t).copied().unwrap_or(-1));
    (tokens, lengths, marks)
}

/// The shares of all characters and of the accented ones whose mark is right.
fn accuracy(network: &Network, texts: &[Text]) -> Result<[f64; 2], Box<dyn Error>> {
    let (mut right, mut count) = ([0.0; 2], [0.0; 2]);
    for rows in texts.chunks(BATCH) {
        let (tokens, lengths, marks) = batch(&rows.iter().collect::<Vec<_>>());
        let scores = network.predict(Sequences::tokens(tokens.view()).with_lengths(lengths)?)?;
        for ((t, row), &mark) in marks.indexed_iter().filter(|(_, mark)| **mark >= 0) {
            let hit = largest(scores.slice(s![t, row, ..])) as i64 == mark;
            for kind in 0..=usize::from(mark > 0) {
                count[kind] += 1.0;
                right[kind] += f64::from(u8::from(hit));
            }
        }
    }
    Ok([0, 1].map(|kind| right[kind] / count[kind]))
}

fn print_accuracy(name: &str, [all, accented]: [f64; 2]) {
    println!("{name:<16} {:>9.2} {:>9.2}", 100.0 * all, 100.0 * accented);
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let arguments = &options.arguments;
    let folder = data("..").join("fine_tune");
    let vocabulary = Vocabulary::read(&folder.join("accents.json"))?;
    let mut model =
        pytorch::read(folder.join("accents.safetensors"), &"table embedding, rnn, head".parse()?)?;
    let device = arguments.open()?;
    print_network(&model.config);
    let network = Network::with_parameters(&device, &model.config, &model.parameters)?;

    let texts: Vec<Text> = messages("es")?.iter().map(|text| vocabulary.encode(text)).collect();
    let (mut training, mut test) = (Vec::new(), Vec::new());
    for (row, text) in texts.into_iter().enumerate() {
        if row % 5 == 4 { test.push(text) } else { training.push(text) }
    }
    let before = accuracy(&network, &test)?;

    let mut frozen = Vec::new();
    let mut rule = TrainConfig::new().loss(Loss::CrossEntropy).clip_norm(Some(1.0));
    for spec in model.config.layers().iter().take(options.freeze).flat_map(|layer| &layer.parameters) {
        rule = rule.group(ParameterGroup::new(spec.name.as_str()).frozen());
        frozen.push(spec.name.clone());
    }
    println!(
        "text     {} messages for training, {} for the test; {} tensors frozen",
        training.len(),
        test.len(),
        frozen.len()
    );
    let mut trainer = Trainer::new(network, rule)?;
    let mut random = ChaCha8Rng::seed_from_u64(arguments.seed);
    let mut order: Vec<usize> = (0..training.len()).collect();
    let (epochs, batches) = (arguments.choose(60, 20), training.len().div_ceil(BATCH));
    println!("\nepoch      loss");
    for epoch in 0..epochs {
        order.shuffle(&mut random);
        for (number, rows) in order.chunks(BATCH).enumerate() {
            let (tokens, lengths, marks) = batch(&rows.iter().map(|&row| &training[row]).collect::<Vec<_>>());
            trainer.set_learning_rate(cosine(LEARNING_RATE, epoch * batches + number, epochs * batches));
            trainer.step(
                Sequences::tokens(tokens.view()).with_lengths(lengths)?,
                Targets::labels(marks.view()),
            )?;
        }
        let losses = trainer.take_losses()?;
        println!("{:>5} {:>9.4}", epoch + 1, losses.iter().sum::<f32>() / losses.len() as f32);
    }

    let network = trainer.into_network();
    let after = accuracy(&network, &test)?;
    println!("\n% of the test    characters  accented");
    let plain: Vec<f64> =
        test.iter().flat_map(|text| &text.marks).map(|mark| f64::from(u8::from(*mark == 0))).collect();
    print_accuracy("no accents", [plain.iter().sum::<f64>() / plain.len() as f64, 0.0]);
    print_accuracy("French tagger", before);
    print_accuracy("trained further", after);

    let old = pytorch::state_dict(&model, &[])?;
    model.parameters = network.parameters()?;
    let new = pytorch::state_dict(&model, &[])?;
    let unchanged: Vec<&String> = old.keys().filter(|name| old[*name] == new[*name]).collect();
    std::fs::create_dir_all(&options.out)?;
    pytorch::write(options.out.join("fine_tuned.safetensors"), &model, &[])?;
    let said: Value = json!({ "before": before, "after": after, "frozen": unchanged });
    std::fs::write(options.out.join("fine_tuned.json"), format!("{said:#}\n"))?;
    println!("\nwritten  {}", new.keys().cloned().collect::<Vec<_>>().join(", "));
    arguments.print_seconds();
    Ok(())
}
