//! `gatefold impute`: missing cells of a table.

use crate::ComputeArguments;
use crate::classify::listed;
use crate::failure::Failure;
use crate::long::describe;
use crate::page::line;
use crate::results::share;
use crate::table::FormatArguments;
use crate::task::{NetworkArguments, Run, RunArguments, at, fingerprint, give, load, required};
use gatefold::{Device, Network};
use gatefold_series::Table;
use gatefold_series::plot::GapPlot;
use gatefold_tasks::{
    Examples, Filled, FitSettings, Hidden, ImputeData, ImputeErrors, ImputeSettings, ImputeTask, Imputer,
    ImputerData, Long, LongColumns, METHODS, Method, fit,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(crate) const TASK: &str = "impute";

/// Fills the missing cells of a table of one or several series, from what comes before and after each gap, with intervals.
///
/// Straight lines, Kalman smoothing, a regression on both sides, a network that adds to the best of these, and a weighted mean
/// of all are compared on known values that are hidden from all of them; the one that these choose fills the gaps. Known values
/// are never changed. Writes filled.csv (the table, with the ends of the intervals), filled.svg, filled.png, the networks,
/// metrics.json and log.csv to --out. 'gatefold impute use DIR TABLE' fills another table.
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
    /// Fill the gaps of a table with a model that was trained before
    Use(UseArguments),
}

#[derive(clap::Args, Debug)]
struct UseArguments {
    /// The directory that 'gatefold impute' wrote to
    model: PathBuf,
    /// The table, with the columns of the one that the model was trained on
    table: PathBuf,
    /// The file for the filled table [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The probability of the intervals, in per cent
    #[arg(long, value_name = "P", default_value_t = 95.0, value_parser = crate::forecast::probability)]
    level: f64,
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
    /// The table: CSV and its relatives, gzip, or - for standard input; a row is a moment, evenly spaced
    #[arg(required = true)]
    table: Option<PathBuf>,
    /// The columns that tell several series apart, separated by commas
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    id: Vec<String>,
    /// The column that orders the rows of a series [default: the rows are in order]
    #[arg(long, value_name = "COL")]
    step: Option<String>,
    /// The columns of numbers to fill, or to look at, separated by commas [default: all]
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    channel: Vec<String>,
    /// Rows per season; 1 for none [default: found]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count())]
    season: Option<usize>,
    /// Known values to hide for the test [default: a tenth, 200 at most]
    #[arg(long, value_name = "N")]
    hide: Option<usize>,
    /// The probability of the intervals, in per cent
    #[arg(long, value_name = "P", default_value_t = 95.0, value_parser = crate::forecast::probability)]
    level: f64,
    /// Networks with different seeds, whose mean counts
    #[arg(long, value_name = "N", value_parser = crate::forecast::count(), default_value_t = 3)]
    ensemble: usize,
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
    season: f64,
    hide: Option<usize>,
    level: f64,
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
    let table = arguments.format.read_rows(path)?;
    let columns = LongColumns {
        ids: arguments.id.clone(),
        step: arguments.step.clone(),
        channels: arguments.channel.clone(),
        ..Default::default()
    };
    let long = Long::read(&table, &columns, true)?;
    let warnings = check_times(arguments, path, &long)?;
    let network = &arguments.network;
    let data = ImputeData::new(&long, arguments.season, arguments.hide, network.seed).map_err(place)?;
    let settings = ImputeSettings {
        recurrent: network.recurrent(if network.quick { 8 } else { 32 }, 1),
        dropout: 0.1,
        window: 128,
        batch: 16,
        seed: network.seed,
    };
    let fitting = network.settings(600, 30);
    let options = Options {
        columns: &long.columns,
        season: data.rhythm.period,
        hide: arguments.hide,
        level: arguments.level,
        ensemble: arguments.ensemble,
        network,
    };
    let values: Vec<u8> =
        data.series.iter().flatten().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let mut run = Run::begin(TASK, &arguments.run, &options, &fingerprint([values]))?;
    introduce(&run, arguments, &long, &data);
    run.report.lines(warnings);
    let task = ImputeTask::new(&data, settings).map_err(place)?;
    let members = if network.quick { 1 } else { arguments.ensemble };
    run.report.line(format!(
        "network   {}, in both directions, added to {}",
        settings.recurrent,
        task.start()
    ));
    run.report.line(format!(
        "training  {} updates each of {members} network(s), {} values hidden in turn",
        fitting.updates,
        task.hidden()
    ));
    run.report.line(format!("device    {}\n", run.device.summary()));
    let mut networks = Vec::new();
    for member in 0..members {
        let fitting = FitSettings { seed: fitting.seed.wrapping_add(member as u64), ..fitting.clone() };
        let fitted = {
            let mut watching = run.watch(&fitting, (member, members), "validation error");
            fit(&run.device, &task, &fitting, &mut watching)
        }
        .map_err(|error| run.failure(path, error))?;
        run.log(&fitted);
        networks.push(fitted.network);
    }
    let imputer = Imputer::chosen(&data, &task, networks).map_err(place)?;
    let mut metrics = json!({
        "task": TASK,
        "missing": data.missing(),
        "season": data.rhythm.period,
        "best": imputer.data.method,
        "validation": imputer.data.validation,
        "weights": imputer.data.weights,
        "settings": { "impute": settings, "fit": fitting, "ensemble": members },
        "device": run.device.summary(),
    });
    for (name, hidden) in [("points", Hidden::Points), ("blocks", Hidden::Blocks)] {
        let found = imputer.hidden(&data, hidden).map_err(place)?;
        metrics[name] = evaluate(&run, &data, &imputer, hidden, &found, arguments.level);
    }
    run.report.lines(choice_lines(&imputer.data, data.count(Hidden::Validation)));
    let found = imputer.fill_gaps(&long).map_err(place)?;
    run.save("filled.csv", filled_table(&table, &long, &imputer, &found, arguments.level)?)?;
    plot(&run, &table, &long, &imputer, &found, arguments.level)?;
    run.report.line(format!("{} missing cells are filled; known ones are as they were.", found.len()));
    let networks: Vec<_> = imputer.networks.iter().collect();
    run.finish(&networks, &imputer.data, &metrics, &["filled.csv", "filled.svg", "filled.png"])
}

/// Compares the rows with the times of the table, if it has any: what is wrong with them, in lines.
///
/// # Errors
/// Rows of several series that no option tells apart, and rows that are not in the order of their times.
fn check_times(arguments: &Training, path: &Path, long: &Long) -> Result<Vec<String>, Failure> {
    let columns = &long.columns;
    let Some(dataset) = arguments.format.evenly_spaced(path, &columns.ids, &columns.channels) else {
        return Ok(Vec::new());
    };
    let found = dataset.report();
    let line = |label: &str| found.lines().find_map(|line| Some(line.strip_prefix(label)?.trim().to_owned()));
    let refuse = |problem: String| Err(Failure::failed(format!("{}: {problem}", path.display())));
    if dataset.series().len() > long.sequences.len() {
        let series = line("series").unwrap_or_default();
        return refuse(format!(
            "it holds several series ({series}); name the columns that tell them apart with --id"
        ));
    }
    if columns.step.is_none() && line("order").is_some_and(|order| order.contains("not in order")) {
        return refuse(
            "its rows are not in the order of their times; name the column of times with --step".into(),
        );
    }
    let mut warnings: Vec<String> = found.warnings().map(|text| format!("warning   {text}")).collect();
    let absent = found.moments_without_rows();
    if absent > 0 {
        warnings
            .push(format!("warning   {absent} moments have no row and are not filled: add rows with empty"));
        warnings.push("          cells for them".into());
    }
    Ok(warnings)
}

fn introduce(run: &Run, arguments: &Training, long: &Long, data: &ImputeData) {
    let report = &run.report;
    let rows: usize = long.sequences.iter().map(|one| one.rows.len()).sum();
    report.line(format!(
        "table     {}: {rows} rows, {} series, taken as evenly spaced",
        required(&arguments.table).display(),
        long.sequences.len()
    ));
    describe(report, long);
    let gaps = &data.gaps;
    let names: Vec<String> = data.targets.iter().map(|at| long.columns.channels[*at].clone()).collect();
    report.line(match gaps.iter().max() {
        None => "gaps      none: the model is trained for other tables".into(),
        Some(longest) => {
            format!(
                "gaps      {} cells missing in {} gaps, the longest of {longest}, in {}",
                data.missing(),
                gaps.len(),
                listed(&names)
            )
        }
    });
    report.line(match (data.rhythm.season, data.rhythm.period) {
        (0 | 1, _) => "season    none".into(),
        (season, period) if (season as f64 - period).abs() < 1e-9 => format!("season    {season} rows"),
        (_, period) => format!("season    {period:.2} rows"),
    });
    report.line(format!(
        "hidden    {} single values and {} in blocks for the test, {} for validation",
        data.count(Hidden::Points),
        data.count(Hidden::Blocks),
        data.count(Hidden::Validation)
    ));
}

/// Prints the errors of all methods on the values that a set hides, and returns them as JSON.
fn evaluate(
    run: &Run,
    data: &ImputeData,
    imputer: &Imputer,
    hidden: Hidden,
    found: &[Filled],
    level: f64,
) -> Value {
    let what = match hidden {
        Hidden::Blocks => "values hidden in blocks like the gaps",
        _ => "single hidden values",
    };
    let truth = |filled: &Filled| data.series[filled.sequence][filled.channel][filled.step];
    let mut channels = Vec::new();
    for channel in &data.targets {
        let here = || found.iter().filter(|filled| filled.channel == *channel);
        let count = here().count();
        if count == 0 {
            continue;
        }
        let name = &data.columns.channels[*channel];
        run.report.line(format!("\n{name}: {count} {what}\n"));
        run.report.line(format!("{:<24}{:>12}{:>12}", "method", "MAE", "RMSE"));
        let mut methods = Vec::new();
        for (place, method) in METHODS.iter().enumerate() {
            let errors = ImputeErrors::of(here().map(|filled| (truth(filled), filled.values[place])));
            let mark = if *method == imputer.data.method { " *" } else { "" };
            let [mae, rmse] = [errors.mae, errors.rmse].map(crate::forecast::figure);
            run.report.line(format!("{:<24}{mae:>12}{rmse:>12}{mark}", method.to_string()));
            methods.push(json!({ "name": method, "mae": errors.mae, "rmse": errors.rmse }));
        }
        let inside = here().filter(|filled| {
            let [_, low, high] = imputer.interval(filled, level / 100.0);
            (low..=high).contains(&truth(filled))
        });
        let coverage = inside.count() as f64 / count as f64;
        run.report.line(format!("The {level}-% intervals hold {} % of them.", share(coverage)));
        channels.push(json!({ "column": name, "count": count, "methods": methods, "coverage": coverage }));
    }
    Value::Array(channels)
}

/// The method that fills the gaps, and why.
fn choice_lines(data: &ImputerData, count: usize) -> Vec<String> {
    let best = data.method;
    if best != Method::Combination {
        return vec![format!("\n* {best}: the best on {count} other hidden values; it fills the gaps.")];
    }
    let weighted = data.combination().into_iter().map(|(method, weight)| format!("  {weight:.2} {method}"));
    let first = format!(
        "\n* combination: nothing is clearly better on {count} other hidden values; it fills the gaps."
    );
    std::iter::once(first).chain(weighted).collect()
}

/// The table with its gaps filled, and columns for the ends of the intervals of filled cells.
fn filled_table(
    table: &Table,
    long: &Long,
    imputer: &Imputer,
    found: &[Filled],
    level: f64,
) -> Result<String, Failure> {
    let channels = &long.columns.channels;
    let places: HashMap<(usize, usize), &Filled> = found
        .iter()
        .map(|filled| ((long.sequences[filled.sequence].rows[filled.step], filled.channel), filled))
        .collect();
    let mut formats = Vec::new();
    for name in channels {
        let (mark, decimals) = table.decimals(name)?;
        formats.push(move |value: f64| {
            // Two more digits than the column has: an estimate is no measurement, but its rounding adds no error.
            let text =
                if value.is_nan() { String::new() } else { format!("{value:.*}", (decimals + 2).min(12)) };
            text.replace('.', &mark.to_string())
        });
    }
    let delimiter = table.delimiter();
    let cell = |text: &str| {
        if text.contains([delimiter, '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.into()
        }
    };
    let targets = &imputer.data.targets;
    let mut names: Vec<String> = table.names().iter().map(|name| cell(name)).collect();
    for target in targets {
        names.extend(["lower", "upper"].map(|end| cell(&format!("{}_{end}", channels[*target]))));
    }
    let mut text = names.join(&delimiter.to_string()) + "\n";
    for row in 0..table.rows() {
        let filled = |channel: usize| {
            places.get(&(row, channel)).map(|filled| imputer.interval(filled, level / 100.0))
        };
        let mut cells = Vec::with_capacity(names.len());
        for name in table.names() {
            let channel = channels.iter().position(|channel| channel == name);
            cells.push(match channel.and_then(|channel| Some((channel, filled(channel)?))) {
                Some((channel, [value, _, _])) => cell(&formats[channel](value)),
                None => cell(table.text(row, name)?.unwrap_or("")),
            });
        }
        for target in targets {
            let ends = filled(*target).map_or([f64::NAN; 2], |[_, low, high]| [low, high]);
            cells.extend(ends.map(|end| cell(&formats[*target](end))));
        }
        text += &(cells.join(&delimiter.to_string()) + "\n");
    }
    Ok(text)
}

/// Draws the series with the most filled cells.
fn plot(
    run: &Run,
    table: &Table,
    long: &Long,
    imputer: &Imputer,
    found: &[Filled],
    level: f64,
) -> Result<(), Failure> {
    let mut counts: HashMap<(usize, usize), usize> = HashMap::new();
    found.iter().for_each(|filled| *counts.entry((filled.sequence, filled.channel)).or_default() += 1);
    let most = counts.iter().max_by_key(|(place, count)| (**count, std::cmp::Reverse(**place)));
    let (sequence, channel) = most.map_or((0, imputer.data.targets[0]), |(place, _)| *place);
    let one = &long.sequences[sequence];
    let known = one.values.column(channel).to_vec();
    let mut lines = [(); 3].map(|()| vec![f64::NAN; known.len()]);
    for filled in found.iter().filter(|filled| (filled.sequence, filled.channel) == (sequence, channel)) {
        for (line, value) in lines.iter_mut().zip(imputer.interval(filled, level / 100.0)) {
            line[filled.step] = value;
        }
    }
    let [filled, low, high] = &lines;
    let dates: Option<Vec<String>> =
        table.dates().map(|dates| one.rows.iter().map(|row| dates[*row].clone()).collect());
    let name = &long.columns.channels[channel];
    let of = if one.id.is_empty() { String::new() } else { format!(" of {one}") };
    let plot = GapPlot {
        title: &format!("{name}{of}: filled by {}", imputer.data.method),
        value: name,
        dates: dates.as_deref(),
        known: &known,
        filled,
        interval: (low, high),
        interval_name: &format!("{level} %"),
    };
    run.save("filled.svg", plot.svg()?)?;
    run.save("filled.png", plot.png()?)
}

/// The networks of a directory, and examples of a table for them.
pub(crate) fn examples(
    device: &Device,
    model: &Path,
    table: &Path,
    format: &FormatArguments,
    count: usize,
) -> Result<(Vec<Network>, Examples), Failure> {
    let (networks, data): (_, ImputerData) = load(device, model, TASK)?;
    let imputer = Imputer { data, networks };
    let long = Long::read(&format.read_rows(table)?, &imputer.data.columns, true)?;
    let examples = imputer.examples(&long, count).map_err(|error| at(table, error))?;
    Ok((imputer.networks, examples))
}

fn use_model(arguments: &UseArguments) -> Result<(), Failure> {
    let device = arguments.compute.open(arguments.quiet)?;
    let (networks, data): (_, ImputerData) = load(&device, &arguments.model, TASK)?;
    let imputer = Imputer { data, networks };
    let table = arguments.format.read_rows(&arguments.table)?;
    let long = Long::read(&table, &imputer.data.columns, true)?;
    let place = |error| Failure::failed(format!("{}: {error}", arguments.table.display()));
    let found = imputer.fill_gaps(&long).map_err(place)?;
    give(arguments.out.as_deref(), &filled_table(&table, &long, &imputer, &found, arguments.level)?)?;
    if let (Some(path), false) = (&arguments.out, arguments.quiet) {
        let best: Method = imputer.data.method;
        line(format!("{} missing cells filled by {best}: {}", found.len(), path.display()));
    }
    Ok(())
}
