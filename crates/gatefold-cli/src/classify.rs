//! `gatefold classify`: sequences of any length to a class.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::Report;
use crate::long::LongArguments;
use crate::page::line;
use crate::results::{class_cells, print_classes, print_comparison, save_confusion, scores, share};
use crate::table::FormatArguments;
use crate::task::{NetworkArguments, Run, RunArguments, at, csv_cell, fingerprint, give, load, required};
use gatefold::{Device, Network};
use gatefold_tasks::{
    Classifier, ClassifierData, ClassifyData, ClassifySettings, ClassifyTask, Examples, FitSettings, Long,
    LongColumns, fit, largest,
};
use ndarray::{Array2, ArrayView2};
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "classify";

/// Trains a network that tells the class of a sequence, such as the speaker of an utterance, and measures it on sequences
/// that it has not seen.
///
/// The table is long: a row is a step, --id names the columns that tell sequences apart, and --class the column of classes,
/// the same at all steps of a sequence. Sequences may have any length. Writes the networks, test.csv, confusion.svg,
/// confusion.png, metrics.json and log.csv to --out. 'gatefold classify use DIR TABLE' classifies the sequences of
/// another table.
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
    /// Classify the sequences of a table with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold classify' wrote to
    model: PathBuf,
    /// The table, with the columns of the one that the model was trained on; classes are not needed
    table: PathBuf,
    /// The file for the classes, as CSV [default: standard output]
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
    /// The table: CSV and its relatives, gzip, or - for standard input
    #[arg(required = true)]
    table: Option<PathBuf>,
    /// The column of classes
    #[arg(long, value_name = "COL", required = true)]
    class: Option<String>,
    #[command(flatten)]
    long: LongArguments,
    /// The standard deviation of the noise added to the input in training, in those of its channels
    #[arg(long, value_name = "X", default_value_t = 0.3, value_parser = crate::long::noise)]
    noise: f32,
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
    columns: &'a LongColumns,
    test: f64,
    noise: f32,
    ensemble: usize,
    network: &'a NetworkArguments,
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.using {
        Some(Using::Use(arguments)) => use_model(&arguments),
        None => train(&arguments.training),
    }
}

fn train(arguments: &Training) -> Result<(), Failure> {
    let path = required(&arguments.table);
    let place = |error| Failure::failed(format!("{}: {error}", path.display()));
    if arguments.long.id.is_empty() {
        return Err(Failure::Usage("name the columns that tell sequences apart with --id".into()));
    }
    let table = arguments.format.read_rows(path)?;
    let long = arguments.long.read(&table, arguments.class.as_deref(), false)?;
    let data = ClassifyData::new(&long, arguments.long.test, arguments.network.seed).map_err(place)?;
    let mean_steps = long.sequences.iter().map(|one| one.rows.len()).sum::<usize>() / long.sequences.len();
    let (settings, fitting, members) = settings(arguments, data.training.len(), mean_steps);
    let network = &arguments.network;
    let options = Options {
        columns: &long.columns,
        test: arguments.long.test,
        noise: arguments.noise,
        ensemble: members,
        network,
    };
    let values = data.scaled.iter().flatten().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let labels = data.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>();
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([values, labels]))?;
    describe(&run.report, path, &long, &data, mean_steps);
    run.report.line(format!("network   {}, in both directions", settings.recurrent));
    run.report.line(format!("training  {} updates each of {members} network(s)", fitting.updates));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let mut networks = Vec::new();
    for member in 0..members {
        let task = ClassifyTask::new(&data, settings, member);
        let fitting = FitSettings { seed: fitting.seed.wrapping_add(member as u64), ..fitting.clone() };
        let fitted = {
            let mut watching = run.watch(&fitting, (member, members), "validation loss");
            fit(&run.device, &task, &fitting, &mut watching)
        }
        .map_err(|error| run.failure(path, error))?;
        run.log(&fitted);
        networks.push(fitted.network);
    }
    let data_of_model = ClassifierData {
        columns: long.columns.clone(),
        classes: data.classes.clone(),
        scale: data.scale.clone(),
    };
    let classifier = Classifier { data: data_of_model, networks };
    let mut files = Vec::new();
    let mut metrics = json!({
        "task": TASK,
        "sequences": { "training": data.training.len(), "test": data.test.len() },
        "classes": data.classes,
        "settings": { "classify": settings, "fit": fitting, "ensemble": members },
        "device": run.device.summary(),
    });
    if !data.test.is_empty() {
        evaluate(&run, &long, &data, &classifier, &mut metrics)?;
        files = vec!["test.csv", "confusion.svg", "confusion.png"];
    }
    let networks: Vec<_> = classifier.networks.iter().collect();
    run.finish(&networks, &classifier.data, &metrics, &files)
}

/// The network and its training, from the options and the size of the data.
fn settings(arguments: &Training, sequences: usize, steps: usize) -> (ClassifySettings, FitSettings, usize) {
    let network = &arguments.network;
    let recurrent = network.recurrent(if network.quick { 16 } else { 64 }, 1);
    let batch = 30.min(sequences);
    // A hundred looks at each sequence, within limits.
    let epochs = 100 * sequences.div_ceil(batch) as u64;
    let fitting = network.settings(epochs.clamp(600, 3000), 100);
    let settings =
        ClassifySettings { recurrent, dropout: 0.5, noise: arguments.noise, batch, seed: network.seed };
    let work = fitting.updates as f64
        * (batch * steps * recurrent.layers) as f64
        * (recurrent.hidden as f64).powi(2);
    // About three minutes of two cores for each network.
    let usual = if network.quick || work > 3e12 { 1 } else { 3 };
    (settings, fitting, arguments.ensemble.unwrap_or(usual))
}

fn describe(report: &Report, table: &Path, long: &Long, data: &ClassifyData, mean_steps: usize) {
    let lengths = || long.sequences.iter().map(|one| one.rows.len());
    report.line(format!(
        "table     {}: {} sequences of {} to {} steps ({mean_steps} on average)",
        table.display(),
        long.sequences.len(),
        lengths().min().unwrap_or(0),
        lengths().max().unwrap_or(0)
    ));
    crate::long::describe(report, long);
    report.line(format!("classes   {}", listed(&data.classes)));
    report.line(format!("parts     train {}, test {}", data.training.len(), data.test.len()));
}

/// At most a dozen names.
pub(crate) fn listed(names: &[String]) -> String {
    match names.len() {
        0..=12 => names.join(", "),
        more => format!("{}, ... ({more} in all)", names[..11].join(", ")),
    }
}

fn evaluate(
    run: &Run,
    long: &Long,
    data: &ClassifyData,
    classifier: &Classifier,
    metrics: &mut serde_json::Value,
) -> Result<(), Failure> {
    let scaled: Vec<ArrayView2<f32>> = data.test.iter().map(|at| data.scaled[*at].view()).collect();
    let probabilities = classifier.probabilities(&scaled)?;
    let predicted: Vec<usize> = probabilities.rows().into_iter().map(largest).collect();
    let matrix = data.confusion(&predicted)?;
    let mut rows = vec![("network".to_owned(), matrix.clone())];
    rows.push(("nearest, mean and deviation".into(), data.confusion(&data.nearest_by_features())?));
    if let Some(found) = data.nearest_by_warping() {
        rows.push(("nearest, time warping".into(), data.confusion(&found)?));
    }
    rows.push(("most frequent class".into(), data.confusion(&vec![data.majority(); predicted.len()])?));
    let title = format!("{} test sequences", predicted.len());
    print_comparison(&run.report, &title, &rows);
    print_classes(&run.report, &matrix);
    save_confusion(run, &format!("{title}: {} % right", share(matrix.accuracy())), &matrix)?;
    let test: Vec<usize> = data.test.clone();
    let truth = |at: usize| Some(data.classes[data.labels[test[at]]].as_str());
    run.save(
        "test.csv",
        table_of(&long.columns.ids, &test, long, &data.classes, &probabilities, Some(&truth)),
    )?;
    metrics["test"] = scores(&rows);
    Ok(())
}

/// A row for each sequence: its id, its true class if known, the class that is found, and the probability of each.
fn table_of<'a>(
    ids: &[String],
    places: &[usize],
    long: &Long,
    classes: &[String],
    probabilities: &Array2<f64>,
    truth: Option<&dyn Fn(usize) -> Option<&'a str>>,
) -> String {
    let mut text: String = ids.iter().map(|id| csv_cell(id) + ",").collect();
    text += if truth.is_some() { "class,predicted,probability" } else { "predicted,probability" };
    classes.iter().for_each(|class| text += &format!(",{}", csv_cell(&format!("p_{class}"))));
    text.push('\n');
    for (row, place) in places.iter().enumerate() {
        long.sequences[*place].id.iter().for_each(|id| text += &(csv_cell(id) + ","));
        if let Some(truth) = truth {
            text += &(csv_cell(truth(row).unwrap_or("")) + ",");
        }
        text += &class_cells(classes, probabilities.row(row));
        text.push('\n');
    }
    text
}

/// The networks of a directory, and examples of a table for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    let (networks, data): (_, ClassifierData) = load(device, model, TASK)?;
    let classifier = Classifier { data, networks };
    let table_of_rows = format.read_rows(table)?;
    let columns = classifier.data.columns.for_use(&table_of_rows);
    let long = Long::read(&table_of_rows, &columns, false)?;
    let examples = classifier.examples(&long, count).map_err(|error| at(table, error))?;
    Ok((classifier.networks, examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    let device = arguments.compute.open(arguments.quiet)?;
    let (networks, data): (_, ClassifierData) = load(&device, &arguments.model, TASK)?;
    let classifier = Classifier { data, networks };
    let table = arguments.format.read_rows(&arguments.table)?;
    let has = |name: &Option<String>| name.clone().filter(|name| table.names().contains(name));
    let columns = &classifier.data.columns;
    let columns = LongColumns { label: has(&columns.label), ..columns.for_use(&table) };
    let long = Long::read(&table, &columns, false)?;
    let place = |error| Failure::failed(format!("{}: {error}", arguments.table.display()));
    let probabilities = classifier.classify(&long).map_err(place)?;
    let all: Vec<usize> = (0..long.sequences.len()).collect();
    let text = table_of(&columns.ids, &all, &long, &classifier.data.classes, &probabilities, None);
    give(arguments.out.as_deref(), &text)?;
    if let (Some(path), false) = (&arguments.out, arguments.quiet) {
        line(format!("{} sequences classified: {}", all.len(), path.display()));
        if let Some(name) = &columns.label {
            let known: Vec<(usize, &String)> = (long.sequences.iter().enumerate())
                .filter_map(|(at, one)| one.labels[0].as_ref().map(|label| (at, label)))
                .collect();
            let right = |(at, label): &&(usize, &String)| {
                classifier.data.classes[largest(probabilities.row(*at))] == **label
            };
            let right = known.iter().filter(right).count();
            if !known.is_empty() {
                line(format!(
                    "{} % of {} are those of column {name}",
                    share(right as f64 / known.len() as f64),
                    known.len()
                ));
            }
        }
    }
    Ok(())
}
