//! `gatefold generate`: text continued, by characters or by words.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::count;
use crate::table::FormatArguments;
use crate::task::{
    NetworkArguments, Run, RunArguments, at, fingerprint, give, load, refuse_format, required,
};
use crate::texts::{UnitChoice, name_of, read_text};
use gatefold::generate::Sampler;
use gatefold::{Device, Network};
use gatefold_tasks::{
    CellKind, Examples, GenerateScores, GenerateSettings, Generator, TaskError, TextParts, Unit,
    UnitVocabulary, suited_unit,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "generate";
const SAMPLE: &str = "sample.txt";

/// Trains a network on a text: it learns how likely each character, or word, is after those before it, and writes by
/// drawing from that.
///
/// The last tenth of the text is held out. On it, the network is measured beside n-grams, in bits per character or word.
/// Writes the network, sample.txt, metrics.json and log.csv to --out. 'gatefold generate use DIR' continues a
/// prompt.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    using: Option<Using>,
    #[command(flatten)]
    training: Training,
}

#[derive(clap::Subcommand, Debug)]
enum Using {
    /// Continue a prompt with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold generate' wrote to
    model: PathBuf,
    #[command(flatten)]
    sample: SampleArguments,
    /// The seed of what is drawn
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file for prompt and text [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors and the result
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::Args, Debug)]
struct Training {
    /// The text, in UTF-8, or - for standard input
    #[arg(required = true)]
    text: Option<PathBuf>,
    /// The unit to read and write in [default: char, or word for texts of a million words]
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitChoice>,
    /// The share of inner values that training hides; twice as many before the last layer
    #[arg(long, value_name = "X", default_value_t = 0.2, value_parser = dropout)]
    dropout: f32,
    #[command(flatten)]
    sample: SampleArguments,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    run: RunArguments,
}

/// The way text is written.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Writing")]
struct SampleArguments {
    /// The text to continue [default: a line break]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Characters or words to write
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = count())]
    length: usize,
    /// Below 1, likely units become likelier, and above 1 less likely; 0 always takes the likeliest
    #[arg(long, value_name = "X", default_value_t = 0.7)]
    temperature: f32,
    /// Draw from the N likeliest units only
    #[arg(long, value_name = "N")]
    top_k: Option<usize>,
    /// Draw from the likeliest units only that together have this probability
    #[arg(long, value_name = "P")]
    top_p: Option<f32>,
}

impl SampleArguments {
    /// The sampler, or the refusal of its options.
    fn sampler(&self, seed: u64) -> Result<Sampler, Failure> {
        let mut sampler = Sampler::new(seed).temperature(self.temperature)?;
        if let Some(k) = self.top_k {
            sampler = sampler.top_k(k)?;
        }
        if let Some(p) = self.top_p {
            sampler = sampler.top_p(p)?;
        }
        Ok(sampler)
    }

    /// Prompt and continuation.
    fn write(&self, generator: &Generator, seed: u64) -> Result<String, Failure> {
        let mut sampler = self.sampler(seed)?;
        let prompt = self.prompt.as_deref();
        let written = generator.write(prompt.unwrap_or(generator.opening()), self.length, &mut sampler);
        let written = written.map_err(|error| match error {
            TaskError::Data(problem) => Failure::failed(format!("prompt: {problem}")),
            other => other.into(),
        })?;
        Ok(format!("{}{written}\n", prompt.unwrap_or_default()))
    }
}

fn dropout(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..0.5).contains(&value) => Ok(value),
        _ => Err("expected at least 0 and below 0.5".into()),
    }
}

/// Every option that changes the result.
#[derive(Serialize)]
struct Options<'a> {
    unit: Unit,
    dropout: f32,
    network: &'a NetworkArguments,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.using {
        Some(Using::Use(arguments)) => use_model(&arguments),
        None => train(&arguments.training),
    }
}

fn train(arguments: &Training) -> Result<(), Failure> {
    let path = required(&arguments.text);
    let network = &arguments.network;
    // Refused now, not after the training.
    arguments.sample.sampler(network.seed)?;
    let text = read_text(path)?;
    let (unit, reason) = match arguments.unit {
        Some(unit) => (unit.into(), "as asked for"),
        None => suited_unit(&text),
    };
    let place = |error: TaskError| Failure::failed(format!("{}: {error}", name_of(path)));
    let parts = TextParts::new(&text, unit).map_err(place)?;
    if let Some(prompt) = &arguments.sample.prompt {
        parts
            .vocabulary()
            .encode_known(prompt)
            .map_err(|error| Failure::failed(format!("prompt: {error}")))?;
    }
    let hidden = match parts.training().len() {
        _ if network.quick => 32,
        0..50_000 => 128,
        _ => 256,
    };
    let settings = GenerateSettings {
        recurrent: network.recurrent_of(CellKind::Lstm, hidden, 1),
        fit: network.settings(parts.usual_updates(), 60),
        dropout: arguments.dropout,
    };
    let options = Options { unit, dropout: arguments.dropout, network };
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([&text]))?;
    describe(&run, path, &text, &parts, reason);
    run.report.line(format!(
        "network   {} layer(s) of {} {} units; {} updates",
        settings.recurrent.layers, settings.recurrent.hidden, settings.recurrent.cell, settings.fit.updates
    ));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let error = format!("bits per {unit}");
    let fitted = {
        let mut watching = run.watch(&settings.fit, (0, 1), &error);
        parts.fit(&run.device, &settings, &mut watching)
    }
    .map_err(|error| run.failure(path, error))?;
    run.log(&fitted);
    let generator = Generator { network: fitted.network, vocabulary: parts.vocabulary().clone() };
    let scores = generator.scores(&parts)?;
    let name = settings.recurrent.cell.to_string();
    print_scores(&run, &parts, &name, &scores);
    let sample = arguments.sample.write(&generator, network.seed)?;
    run.report.line(format!("\n{}", sample.trim_end_matches('\n')));
    run.save(SAMPLE, &sample)?;
    let metrics = metrics(&parts, &settings, &scores, &run.device.summary());
    run.finish(&[&generator.network], &generator.vocabulary, &metrics, &[SAMPLE])
}

fn describe(run: &Run, path: &Path, text: &str, parts: &TextParts, reason: &str) {
    let vocabulary = parts.vocabulary();
    let unit = vocabulary.unit();
    let units = parts.training().len() + parts.validation().len() + parts.test().len();
    run.report.line(format!(
        "text      {}: {} characters, {units} {unit}s",
        name_of(path),
        text.chars().count()
    ));
    run.report.line(format!("unit      {unit}; {reason}"));
    run.report.line(format!("known     {} {unit}s that occur twice or more", vocabulary.symbols().len()));
    run.report.line(format!(
        "parts     train {}, validation {}, test {}",
        parts.training().len(),
        parts.validation().len(),
        parts.test().len()
    ));
}

fn print_scores(run: &Run, parts: &TextParts, name: &str, scores: &GenerateScores) {
    let unit = parts.vocabulary().unit();
    run.report.line(format!("\nOn the last {} {unit}s of the text:\n", parts.test().len()));
    run.report.line(format!("{:<14}{:>20}{:>14}", "", format!("bits per {unit}"), "perplexity"));
    for (name, bits) in rows(name, scores) {
        run.report.line(format!("{name:<14}{bits:>20.3}{:>14.2}", bits.exp2()));
    }
    if parts.unknown_share() > 0.0 {
        run.report.line(format!(
            "\n{:.2} % of these are unknown, and count as one {unit}.",
            100.0 * parts.unknown_share()
        ));
    }
}

fn rows(name: &str, scores: &GenerateScores) -> Vec<(String, f64)> {
    let n_grams = scores.n_gram_bits.iter().rev().map(|(order, bits)| (format!("{order}-gram"), *bits));
    std::iter::once((name.to_owned(), scores.bits)).chain(n_grams).collect()
}

fn metrics(parts: &TextParts, settings: &GenerateSettings, scores: &GenerateScores, device: &str) -> Value {
    let models: Vec<Value> = rows("network", scores)
        .into_iter()
        .map(|(name, bits)| json!({ "name": name, "bits": bits, "perplexity": bits.exp2() }))
        .collect();
    json!({
        "task": TASK,
        "unit": parts.vocabulary().unit(),
        "known": parts.vocabulary().symbols().len(),
        "units": {
            "training": parts.training().len(),
            "validation": parts.validation().len(),
            "test": parts.test().len(),
        },
        "unknown": parts.unknown_share(),
        "settings": settings,
        "device": device,
        "test": models,
    })
}

/// The networks of a directory, and examples of a text for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    refuse_format(format)?;
    let (mut networks, vocabulary): (Vec<Network>, UnitVocabulary) = load(device, model, TASK)?;
    let generator = Generator { network: networks.remove(0), vocabulary };
    let examples = generator.examples(&read_text(table)?, count).map_err(|error| at(table, error))?;
    Ok((vec![generator.network], examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    arguments.sample.sampler(arguments.seed)?;
    let device = arguments.compute.open(arguments.quiet)?;
    let (mut networks, vocabulary): (_, UnitVocabulary) = load(&device, &arguments.model, TASK)?;
    let generator = Generator { network: networks.remove(0), vocabulary };
    give(arguments.out.as_deref(), &arguments.sample.write(&generator, arguments.seed)?)
}
