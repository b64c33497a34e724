//! `gatefold score`: a number from -1 to 1 for a text.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::table::{Answer, FormatArguments};
use crate::task::{
    NetworkArguments, Run, RunArguments, at, csv_cell, fingerprint, give, load, refuse_format, required,
};
use crate::texts::{UnitChoice, lines_of, name_of, read_text, share_hidden};
use gatefold::{Device, Network};
use gatefold_tasks::{
    Agreement, BagOfUnits, CellKind, Examples, Rated, RatedColumns, RatedParts, RatedTable, ScoreSettings,
    Scorer, TaskError, Unit, UnitVocabulary, fit_scorer, score_vocabulary,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "score";
const TEST: &str = "test.csv";

/// Trains a network that gives a text a number, such as how much a review praises, and measures it on texts that it has not
/// seen, beside the mean and a regression on counts of words.
///
/// The table has a text and a number in each row, as CSV or with tabs. Numbers are from -1 to 1, or within --range.
/// Writes the network, test.csv, metrics.json and log.csv to --out. 'gatefold score use DIR [FILE]' scores the
/// lines of a file, or of standard input, or with --text a column of a table.
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
    /// Score lines with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold score' wrote to
    model: PathBuf,
    /// The file of texts, one on each line, or a table with --text; - for standard input
    #[arg(default_value = "-")]
    texts: PathBuf,
    /// The column of texts of a table, by its name or number [default: each line is a text]
    #[arg(long, value_name = "COL")]
    text: Option<String>,
    /// The file for texts and scores, as CSV [default: standard output]
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
    /// The table: CSV, or cells separated by tabs, in UTF-8, or - for standard input
    #[arg(required = true)]
    table: Option<PathBuf>,
    /// The column of texts, by its name or number [default: the only one that holds no numbers]
    #[arg(long, value_name = "COL")]
    text: Option<String>,
    /// The column of numbers, by its name or number [default: the only one that holds numbers]
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Whether the first line names the columns: yes or no [default: yes if it holds no number]
    #[arg(long, value_name = "YES|NO")]
    header: Option<Answer>,
    /// The numbers that stand for -1 and 1, such as 1,5 for stars; scores are given in this range
    #[arg(long, value_name = "LOW,HIGH", value_parser = range, allow_hyphen_values = true)]
    range: Option<(f64, f64)>,
    /// The unit to read in
    #[arg(long, value_name = "UNIT", default_value = "word")]
    unit: UnitChoice,
    /// The share of inner values that training hides
    #[arg(long, value_name = "X", default_value_t = 0.2, value_parser = share_hidden)]
    dropout: f32,
    #[command(flatten)]
    network: NetworkArguments,
    #[command(flatten)]
    run: RunArguments,
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let numbers: Vec<f64> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    match numbers[..] {
        [low, high] if low != high && low.is_finite() && high.is_finite() => Ok((low, high)),
        _ => Err("expected two different numbers with a comma between".into()),
    }
}

/// Every option that changes the result.
#[derive(Serialize)]
struct Options<'a> {
    columns: &'a RatedColumns,
    unit: Unit,
    dropout: f32,
    network: &'a NetworkArguments,
}

/// Everything that a scorer needs besides its network.
#[derive(Serialize, Deserialize)]
struct ScorerData {
    vocabulary: UnitVocabulary,
    range: Option<(f64, f64)>,
    /// The columns of the table; models of older versions found theirs.
    #[serde(default)]
    columns: RatedColumns,
}

/// A score in the units of the table.
fn in_range(score: f64, range: Option<(f64, f64)>) -> f64 {
    let (low, high) = range.unwrap_or((-1.0, 1.0));
    low + (score + 1.0) / 2.0 * (high - low)
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.using {
        Some(Using::Use(arguments)) => use_model(&arguments),
        None => train(&arguments.training),
    }
}

fn train(arguments: &Training) -> Result<(), Failure> {
    let path = required(&arguments.table);
    let network = &arguments.network;
    let place = |error: TaskError| Failure::failed(format!("{}: {error}", name_of(path)));
    let text = read_text(path)?;
    let columns = RatedColumns {
        text: arguments.text.clone(),
        target: arguments.target.clone(),
        header: arguments.header.map(|answer| answer == Answer::Yes),
        range: arguments.range,
    };
    let table = RatedTable::read(&text, &columns).map_err(place)?;
    let parts = RatedParts::new(&table.rows, network.seed).map_err(place)?;
    let unit: Unit = arguments.unit.into();
    let vocabulary = score_vocabulary(&parts.training, unit);
    // Thirty looks at each text, within limits.
    let usual = (30 * parts.training.len() as u64 / 32).clamp(600, 4000);
    let settings = ScoreSettings {
        recurrent: network.recurrent_of(CellKind::Gru, if network.quick { 16 } else { 64 }, 1),
        fit: network.settings(usual, 60),
        dropout: arguments.dropout,
    };
    let options = Options { columns: &columns, unit, dropout: arguments.dropout, network };
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([&text]))?;
    describe(&run, path, &table, &parts, &vocabulary);
    run.report.line(format!(
        "network   {} layer(s) of {} {} units in each direction; {} updates",
        settings.recurrent.layers, settings.recurrent.hidden, settings.recurrent.cell, settings.fit.updates
    ));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let fitted = {
        let mut watching = run.watch(&settings.fit, (0, 1), "validation MSE");
        fit_scorer(&run.device, &parts, &vocabulary, &settings, &mut watching)
    }
    .map_err(|error| run.failure(path, error))?;
    run.log(&fitted);
    let scorer = Scorer { network: fitted.network, vocabulary };
    let test = evaluate(&run, &scorer, &parts, &settings, arguments.range)?;
    let metrics = json!({
        "task": TASK,
        "unit": unit,
        "texts": {
            "training": parts.training.len(),
            "validation": parts.validation.len(),
            "test": parts.test.len(),
            "repeated": parts.repeated,
            "empty": table.empty,
        },
        "settings": settings,
        "device": run.device.summary(),
        "test": test,
    });
    let data = ScorerData { vocabulary: scorer.vocabulary.clone(), range: arguments.range, columns };
    run.finish(&[&scorer.network], &data, &metrics, &[TEST])
}

fn describe(run: &Run, path: &Path, table: &RatedTable, parts: &RatedParts, vocabulary: &UnitVocabulary) {
    let [text, target] = &table.columns;
    let unit = vocabulary.unit();
    run.report.line(format!(
        "table     {}: {} rows, {}-separated; texts in column {text}, numbers in column {target}",
        name_of(path),
        table.rows.len(),
        table.delimiter
    ));
    run.report
        .line(format!("left out  {} repeated rows, {} with an empty cell", parts.repeated, table.empty));
    run.report.line(format!(
        "parts     train {}, validation {}, test {}; no text is in two of them",
        parts.training.len(),
        parts.validation.len(),
        parts.test.len()
    ));
    run.report.line(format!("known     {} {unit}s that occur twice or more", vocabulary.symbols().len()));
}

/// Scores the test, prints and writes the measures, and returns them.
fn evaluate(
    run: &Run,
    scorer: &Scorer,
    parts: &RatedParts,
    settings: &ScoreSettings,
    range: Option<(f64, f64)>,
) -> Result<Value, Failure> {
    let texts: Vec<String> = parts.test.iter().map(|row| row.text.clone()).collect();
    let found = scorer.scores(&texts)?;
    let bag = BagOfUnits::fit(parts, scorer.vocabulary.unit())?.scores(&texts);
    let mean = parts.training.iter().map(|row| row.number).sum::<f64>() / parts.training.len() as f64;
    let rows = [
        (settings.recurrent.cell.to_string(), found.clone()),
        (format!("counts of {}s, ridge", scorer.vocabulary.unit()), bag),
        ("mean".into(), vec![mean; texts.len()]),
    ];
    let scaled = |scores: &[f64]| scores.iter().map(|score| in_range(*score, range)).collect::<Vec<f64>>();
    let truth: Vec<f64> = scaled(&parts.test.iter().map(|row| row.number).collect::<Vec<f64>>());
    run.report.line(format!("\nOn {} texts that were not trained on:\n", texts.len()));
    run.report.line(format!("{:<26}{:>8}{:>10}{:>10}", "", "MAE", "Pearson", "Spearman"));
    let mut test = Vec::new();
    for (name, found) in rows {
        let Agreement { mae, pearson, spearman } = Agreement::new(&truth, &scaled(&found));
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.3}"));
        run.report.line(format!("{name:<26}{mae:>8.3}{:>10}{:>10}", shown(pearson), shown(spearman)));
        test.push(json!({ "name": name, "mae": mae, "pearson": pearson, "spearman": spearman }));
    }
    let line = |((Rated { text, .. }, truth), found): ((&Rated, &f64), &f64)| {
        format!("{},{truth},{}\n", csv_cell(text), shown_score(in_range(*found, range)))
    };
    let table: String = parts.test.iter().zip(&truth).zip(&found).map(line).collect();
    run.save(TEST, format!("text,number,score\n{table}"))?;
    Ok(test.into())
}

/// Four digits after the point are more than a network knows.
fn shown_score(score: f64) -> String {
    format!("{score:.4}")
}

/// The networks of a directory, and examples of a table for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    refuse_format(format)?;
    let (mut networks, ScorerData { vocabulary, range, columns }) = load(device, model, TASK)?;
    let columns = RatedColumns { range, ..columns };
    let rows = RatedTable::read(&read_text(table)?, &columns).map_err(|error| at(table, error))?.rows;
    let scorer = Scorer { network: networks.remove(0), vocabulary };
    let examples = scorer.examples(&rows, count).map_err(|error| at(table, error))?;
    Ok((vec![scorer.network], examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    let text = read_text(&arguments.texts)?;
    let failed = |problem: &dyn std::fmt::Display| {
        Failure::failed(format!("{}: {problem}", name_of(&arguments.texts)))
    };
    let is_table =
        ["csv", "tsv"].iter().any(|end| arguments.texts.extension().is_some_and(|given| given == *end));
    let texts = match &arguments.text {
        Some(column) => RatedTable::texts(&text, column).map_err(|error| failed(&error))?,
        None if is_table => {
            return Err(failed(
                &"this is a table; name its column of texts with --text, or give a file with a text on each line",
            ));
        }
        None => lines_of(&text),
    };
    if texts.is_empty() {
        return Err(failed(&"there are no lines; expected a text on each"));
    }
    let device = arguments.compute.open(arguments.quiet)?;
    let (mut networks, ScorerData { vocabulary, range, .. }) = load(&device, &arguments.model, TASK)?;
    let scorer = Scorer { network: networks.remove(0), vocabulary };
    // An empty cell has no score.
    let given: Vec<String> = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
    let mut scores = scorer.scores(&given)?.into_iter();
    let line = |text: &String| {
        let score = if text.is_empty() { None } else { scores.next() };
        let score = score.map_or_else(String::new, |score| shown_score(in_range(score, range)));
        format!("{},{score}\n", csv_cell(text))
    };
    let table: String = texts.iter().map(line).collect();
    give(arguments.out.as_deref(), &format!("text,score\n{table}"))
}
