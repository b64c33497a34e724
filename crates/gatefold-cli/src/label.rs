//! `gatefold label`: a label for each step of a sequence.

use crate::ComputeArguments;
use crate::classify::listed;
use crate::failure::Failure;
use crate::long::LongArguments;
use crate::page::line;
use crate::results::{class_cells, print_classes, print_comparison, save_confusion, scores, share};
use crate::table::FormatArguments;
use crate::task::{
    NetworkArguments, Run, RunArguments, at, csv_cell, fingerprint, give, load, refuse_format, required,
};
use gatefold::{Device, Network};
use gatefold_series::Table;
use gatefold_series::plot::LabelPlot;
use gatefold_tasks::{
    Examples, FitSettings, LabelData, LabelSettings, LabelTask, Labeller, LabellerData, Long, LongColumns,
    Piece, Reader, Sentence, WordColumns, fit, largest, most_probable, read_sentences,
};
use ndarray::{Array2, s};
use serde::Serialize;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "label";
/// Steps that the plot shows.
const SHOWN: usize = 3000;

/// Trains a network that labels every step of a sequence, such as the exercise at each moment or the tag of each word, and
/// measures it on sequences that it has not seen.
///
/// For numbers, the table is long: a row is a step, --id names the columns that tell sequences apart, and --label the column
/// of labels, where empty cells are not learnt from. For words, --words says that each line is a word and its tag, with a
/// blank line between sentences. Writes the networks, test.csv, confusion.svg, confusion.png, labels.svg, labels.png (for
/// numbers), metrics.json and log.csv to --out. 'gatefold label use DIR TABLE' labels another table or text.
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
    /// Label the steps of a table, or the words of a text, with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold label' wrote to
    model: PathBuf,
    /// The table, with the columns of the one that the model was trained on, or a word on each line; labels are not needed
    table: PathBuf,
    /// The file for the labels: CSV for a table, tabs between columns for words [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArguments,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors and the result
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::Args, Debug)]
struct Training {
    /// The table: CSV and its relatives, gzip, or - for standard input; with --words a text
    #[arg(required = true)]
    table: Option<PathBuf>,
    /// The column of labels
    #[arg(long, value_name = "COL", required_unless_present = "words")]
    label: Option<String>,
    /// Read a word and its tag from each line, and a blank line between sentences, as the CoNLL tasks do
    #[arg(long, conflicts_with_all = ["label", "id", "step", "channel", "split", "noise"])]
    words: bool,
    /// With --words, the column of words, counted from 1 [default: the first]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count(), requires = "words")]
    word_column: Option<usize>,
    /// With --words, the column of tags, counted from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count(), requires = "words")]
    tag_column: Option<usize>,
    #[command(flatten)]
    long: LongArguments,
    /// The standard deviation of the noise added to numbers in training, in those of the channels
    #[arg(long, value_name = "X", default_value_t = 0.1, value_parser = crate::long::noise)]
    noise: f32,
    /// The most steps of a sequence that an update sees
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = crate::forecast::count())]
    window: usize,
    /// Networks with different seeds and validation parts, whose mean counts [default: 3, or 1 where that takes long]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count())]
    ensemble: Option<usize>,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    format: FormatArguments,
    #[command(flatten)]
    run: RunArguments,
}

/// Every option that changes the result.
#[derive(Serialize)]
struct Options<'a> {
    reader: &'a Reader,
    test: f64,
    noise: f32,
    window: usize,
    ensemble: usize,
    network: &'a NetworkArguments,
}

/// The sequences of a run.
enum Source {
    Table(Box<Table>, Long),
    Words(Vec<Sentence>),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.using {
        Some(Using::Use(arguments)) => use_model(&arguments),
        None => train(&arguments.training),
    }
}

fn read(arguments: &Training) -> Result<(Source, LabelData), Failure> {
    let path = required(&arguments.table);
    let place = |error| Failure::failed(format!("{}: {error}", path.display()));
    let (share, seed) = (arguments.long.test, arguments.network.seed);
    if arguments.words {
        let columns = WordColumns { word: arguments.word_column, tag: arguments.tag_column };
        let sentences = read_sentences(&text(path)?, columns, true).map_err(place)?;
        let data = LabelData::of_sentences(&sentences, columns, share, seed).map_err(place)?;
        return Ok((Source::Words(sentences), data));
    }
    let table = arguments.format.read_rows(path)?;
    let long = arguments.long.read(&table, arguments.label.as_deref(), false)?;
    let data = LabelData::of_table(&long, share, seed).map_err(place)?;
    Ok((Source::Table(Box::new(table), long), data))
}

/// A text from a file or from standard input.
fn text(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(path)
    };
    read.map_err(|error| Failure::failed(format!("{}: {error}; expected a text in UTF-8", path.display())))
}

fn train(arguments: &Training) -> Result<(), Failure> {
    let path = required(&arguments.table);
    let (source, data) = read(arguments)?;
    let (settings, fitting, members) = settings(arguments, &data);
    let options = Options {
        reader: &data.reader,
        test: arguments.long.test,
        noise: arguments.noise,
        window: arguments.window,
        ensemble: members,
        network: &arguments.network,
    };
    let labels: Vec<u8> = data
        .labels
        .iter()
        .flat_map(|labels| {
            labels.iter().flat_map(|label| label.map_or(-1, |class| class as i64).to_le_bytes())
        })
        .collect();
    let inputs: Vec<u8> = data.inputs().flat_map(f32::to_le_bytes).collect();
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([labels, inputs]))?;
    describe(&run, path, &source, &data);
    run.report.line(format!("network   {}, in both directions", settings.recurrent));
    run.report.line(format!("training  {} updates each of {members} network(s)", fitting.updates));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let mut networks = Vec::new();
    for member in 0..members {
        let task = LabelTask::new(&data, settings, member);
        let fitting = FitSettings { seed: fitting.seed.wrapping_add(member as u64), ..fitting.clone() };
        let fitted = {
            let mut watching = run.watch(&fitting, (member, members), "validation loss");
            fit(&run.device, &task, &fitting, &mut watching)
        }
        .map_err(|error| run.failure(path, error))?;
        run.log(&fitted);
        networks.push(fitted.network);
    }
    let facts = LabellerData { reader: data.reader.clone(), classes: data.classes.clone() };
    let labeller = Labeller { data: facts, networks };
    let mut metrics = json!({
        "task": TASK,
        "steps": { "training": data.count(&data.training), "test": data.count(&data.test) },
        "classes": data.classes,
        "settings": { "label": settings, "fit": fitting, "ensemble": members },
        "device": run.device.summary(),
    });
    let mut files = Vec::new();
    if !data.test.is_empty() {
        files = evaluate(&run, &source, &data, &labeller, &mut metrics)?;
    }
    let networks: Vec<_> = labeller.networks.iter().collect();
    run.finish(&networks, &labeller.data, &metrics, &files)
}

/// The network and its training, from the options and the size of the data.
fn settings(arguments: &Training, data: &LabelData) -> (LabelSettings, FitSettings, usize) {
    let network = &arguments.network;
    let recurrent = network.recurrent(if network.quick { 16 } else { 64 }, 1);
    let batch = if arguments.words { 32 } else { 16 };
    let steps: usize = data.training.iter().map(|piece| piece.steps.len()).sum();
    let windows: usize = data.training.iter().map(|piece| piece.steps.len().div_ceil(arguments.window)).sum();
    // Thirty looks at each step, within limits.
    let epochs = 30 * windows.div_ceil(batch) as u64;
    let fitting = network.settings(epochs.clamp(300, 3000), 40);
    let settings = LabelSettings {
        recurrent,
        embedding: 64.min(recurrent.hidden),
        dropout: 0.5,
        noise: arguments.noise,
        window: arguments.window,
        batch,
        seed: network.seed,
    };
    let per_update = batch as f64 * steps as f64 / windows.max(1) as f64;
    let work =
        fitting.updates as f64 * per_update * recurrent.layers as f64 * (recurrent.hidden as f64).powi(2);
    // About three minutes of two cores for each network.
    let usual = if network.quick || work > 3e12 { 1 } else { 3 };
    (settings, fitting, arguments.ensemble.unwrap_or(usual))
}

fn describe(run: &Run, path: &Path, source: &Source, data: &LabelData) {
    let (report, steps) = (&run.report, data.labels.iter().map(Vec::len).sum::<usize>());
    match source {
        Source::Table(_, long) => {
            report.line(format!(
                "table     {}: {} sequences, {steps} steps",
                path.display(),
                long.sequences.len()
            ));
            crate::long::describe(report, long);
        }
        Source::Words(sentences) => {
            report.line(format!(
                "text      {}: {} sentences, {steps} words",
                path.display(),
                sentences.len()
            ));
            if let Reader::Words { vocabulary, .. } = &data.reader {
                let known = vocabulary.words();
                report.line(format!(
                    "words     {known} different ones in the training part; others by their shape"
                ));
            }
        }
    }
    report.line(format!("labels    {}", listed(&data.classes)));
    let of = |pieces: &[Piece]| {
        let steps: usize = pieces.iter().map(|piece| piece.steps.len()).sum();
        format!("{} ({steps} steps)", pieces.len())
    };
    report.line(format!("parts     train {}, test {}", of(&data.training), of(&data.test)));
    if data.test.iter().any(|piece| piece.steps.start > 0) {
        report.line(
            "          the test part is the end of each sequence: there are too few to hold out whole ones",
        );
    }
    let unlabelled = steps - data.count(&data.training) - data.count(&data.test);
    if unlabelled > 0 {
        report.line(format!(
            "          {unlabelled} steps have no label: they are read, but neither learnt nor counted"
        ));
    }
    if let [first, ..] = data.not_learnt().as_slice() {
        report.line(format!("warning   no training step has the label {first}: the network cannot find it"));
    }
}

fn evaluate(
    run: &Run,
    source: &Source,
    data: &LabelData,
    labeller: &Labeller,
    metrics: &mut serde_json::Value,
) -> Result<Vec<&'static str>, Failure> {
    let probabilities = labeller.probabilities(&data.test_inputs())?;
    let predicted = most_probable(&probabilities);
    let matrix = data.confusion(&predicted)?;
    let (name, nearest) = data.nearest();
    let rows = [
        ("network".to_owned(), matrix.clone()),
        (name, data.confusion(&nearest)?),
        ("most frequent label".into(), data.confusion(&vec![data.majority(); predicted.len()])?),
    ];
    let title = format!("{} test steps", matrix.total());
    print_comparison(&run.report, &title, &rows);
    print_classes(&run.report, &matrix);
    save_confusion(run, &format!("{title}: {} % right", share(matrix.accuracy())), &matrix)?;
    let mut text = head(source, &data.classes, true);
    for (piece, found) in data.test.iter().zip(&probabilities) {
        for (row, step) in piece.steps.clone().enumerate() {
            let truth = data.labels[piece.sequence][step].map_or("", |class| data.classes[class].as_str());
            text += &step_cells(source, piece.sequence, step)?;
            text += &format!("{},{}\n", csv_cell(truth), class_cells(&data.classes, found.row(row)));
        }
    }
    run.save("test.csv", text)?;
    metrics["test"] = scores(&rows);
    let mut files = vec!["test.csv", "confusion.svg", "confusion.png"];
    if let Source::Table(_, long) = source {
        plot(run, long, data, &probabilities)?;
        files.extend(["labels.svg", "labels.png"]);
    }
    Ok(files)
}

/// Draws the first test piece.
fn plot(run: &Run, long: &Long, data: &LabelData, probabilities: &[Array2<f64>]) -> Result<(), Failure> {
    let piece = &data.test[0];
    let steps = piece.steps.start..piece.steps.end.min(piece.steps.start + SHOWN);
    let sequence = &long.sequences[piece.sequence];
    let channels: Vec<(&str, Vec<f64>)> = (long.columns.channels.iter().enumerate().take(3))
        .map(|(at, name)| (name.as_str(), sequence.values.slice(s![steps.clone(), at]).to_vec()))
        .collect();
    let predicted = most_probable(&probabilities[..1]);
    let name = if sequence.id.is_empty() { String::new() } else { format!("{sequence}: ") };
    let plot = LabelPlot {
        title: &format!("{name}labels over time"),
        channels: &channels.iter().map(|(name, values)| (*name, values.as_slice())).collect::<Vec<_>>(),
        classes: &data.classes,
        truth: &data.labels[piece.sequence][steps.clone()],
        predicted: &predicted[..steps.len()],
    };
    run.save("labels.svg", plot.svg()?)?;
    run.save("labels.png", plot.png()?)
}

/// The names of the columns of the result.
fn head(source: &Source, classes: &[String], truth: bool) -> String {
    let mut text = match source {
        Source::Table(_, long) => {
            let step = long.columns.step.as_deref().unwrap_or("step");
            long.columns
                .ids
                .iter()
                .map(String::as_str)
                .chain([step])
                .map(|name| csv_cell(name) + ",")
                .collect()
        }
        Source::Words(_) => "sentence,word,".to_owned(),
    };
    text += if truth { "label,predicted,probability" } else { "predicted,probability" };
    classes.iter().for_each(|class| text += &format!(",{}", csv_cell(&format!("p_{class}"))));
    text + "\n"
}

/// The cells that say which step it is.
fn step_cells(source: &Source, sequence: usize, step: usize) -> Result<String, Failure> {
    Ok(match source {
        Source::Words(sentences) => {
            format!("{},{},", sequence + 1, csv_cell(&sentences[sequence].words[step]))
        }
        Source::Table(table, long) => {
            let one = &long.sequences[sequence];
            let mut text: String = one.id.iter().map(|cell| csv_cell(cell) + ",").collect();
            text += &match &long.columns.step {
                Some(name) => csv_cell(table.text(one.rows[step], name)?.unwrap_or("")),
                None => (step + 1).to_string(),
            };
            text + ","
        }
    })
}

/// The networks of a directory, and examples of a table for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    let (networks, data): (_, LabellerData) = load(device, model, TASK)?;
    let labeller = Labeller { data, networks };
    let examples = match &labeller.data.reader {
        Reader::Numbers { columns, .. } => {
            let rows = format.read_rows(table)?;
            labeller.table_examples(&Long::read(&rows, &columns.for_use(&rows), false)?, count)
        }
        Reader::Words { columns, .. } => {
            refuse_format(format)?;
            let sentences = read_sentences(&text(table)?, *columns, false);
            sentences.and_then(|sentences| labeller.sentence_examples(&sentences, count))
        }
    };
    let examples = examples.map_err(|error| at(table, error))?;
    Ok((labeller.networks, examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    let device = arguments.compute.open(arguments.quiet)?;
    let (networks, data): (_, LabellerData) = load(&device, &arguments.model, TASK)?;
    let labeller = Labeller { data, networks };
    let classes = &labeller.data.classes;
    let place = |error| Failure::failed(format!("{}: {error}", arguments.table.display()));
    let (result, count) = match &labeller.data.reader {
        Reader::Numbers { columns, .. } => {
            let table = arguments.format.read_rows(&arguments.table)?;
            let label = columns.label.clone().filter(|name| table.names().contains(name));
            let long = Long::read(&table, &LongColumns { label, ..columns.for_use(&table) }, false)?;
            let found = labeller.label_table(&long).map_err(place)?;
            let source = Source::Table(Box::new(table), long);
            let mut result = head(&source, classes, false);
            for (sequence, found) in found.iter().enumerate() {
                for (step, row) in found.rows().into_iter().enumerate() {
                    result +=
                        &format!("{}{}\n", step_cells(&source, sequence, step)?, class_cells(classes, row));
                }
            }
            (result, found.iter().map(Array2::nrows).sum::<usize>())
        }
        Reader::Words { columns, .. } => {
            let sentences = read_sentences(&text(&arguments.table)?, *columns, false).map_err(place)?;
            let found = labeller.label_sentences(&sentences).map_err(place)?;
            let mut result = String::new();
            for (sentence, found) in sentences.iter().zip(&found) {
                for (word, row) in sentence.words.iter().zip(found.rows()) {
                    let best = largest(row);
                    result += &format!("{word}\t{}\t{:.4}\n", classes[best], row[best]);
                }
                result.push('\n');
            }
            (result, found.iter().map(Array2::nrows).sum())
        }
    };
    give(arguments.out.as_deref(), &result)?;
    if let (Some(path), false) = (&arguments.out, arguments.quiet) {
        line(format!("{count} steps labelled: {}", path.display()));
    }
    Ok(())
}
