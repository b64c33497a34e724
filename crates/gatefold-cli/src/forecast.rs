//! `gatefold forecast`: compares models on the last part of a table, and forecasts what follows it with the best.

mod choices;
mod data;
mod folder;
mod html;
mod log;
mod output;
mod report;
mod samples;
mod watch;

use crate::ComputeArguments;
use crate::cell::CellChoice;
use crate::failure::Failure;
use crate::table::{TableArguments, names};
pub(crate) use choices::{Basis, check, made_up_line};
use choices::{IdsChoice, IntervalChoice, LossChoice, OptimizerChoice};
pub(crate) use data::Data;
pub(crate) use folder::{Beginning, Folder, SavedModel, remove_own};
use gatefold_forecast::{Beside, ForecastError, MadeUp, compare, future};
pub(crate) use html::future_chart;
pub(crate) use log::{LOG, Log, Row, read as read_log};
pub(crate) use output::{
    Interval, Outlook, cell, figure, forecast_csv, forecast_json, future_plot, one_line, print_forecast,
    rounded, verdict,
};
pub(crate) use report::Report;
pub(crate) use samples::samples_csv;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use watch::Watching;

/// Reads a table, and says how it was read. Holds out its last part, compares a recurrent network with a linear
/// regression and classical models on it, fits the best model again on everything, and forecasts what follows the table,
/// with intervals.
///
/// Writes report.html, forecast.csv and forecast.svg (the future), test.csv and test.svg (the part held out), metrics.json,
/// log.csv (every update), run.toml (every option as it was) and the model. Ctrl-C saves what is done; --resume continues from there to the same result as a run
/// that was never interrupted.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The table: CSV and its relatives, gzip, or - for standard input
    table: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    reading: TableArguments,
    #[command(flatten)]
    compute: ComputeArguments,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-out")]
    out: PathBuf,
    /// Continue an interrupted run in DIR, with its options
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// The options of a run that change none of its results.
#[derive(clap::Args, Debug)]
pub(crate) struct RunArguments {
    /// Options from a file as run.toml is written; those of the command line come first
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write loss, learning rate and validation error of every network below DIR, for TensorBoard
    #[arg(long, value_name = "DIR")]
    pub(crate) tensorboard: Option<PathBuf>,
    /// Print the results as one JSON document, and everything else on stderr
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors, and the document of --json
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The horizon, the models and the limits of the forecast.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Options {
    /// Samples to forecast [default: one season, else 12]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon: Option<usize>,
    /// Samples per season, several separated by commas; 0 for none [default: from the calendar, else found]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    season: Vec<usize>,
    /// Let models read what the calendar says of each moment: the day of the week, the hour, the working days of a month
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    calendar: bool,
    /// Let several targets read each other's newest values
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    together: bool,
    /// Columns that do not change within a series, for the network that many series share, separated by commas
    #[arg(long = "static", value_name = "COLS", value_delimiter = ',')]
    #[serde(rename = "static", skip_serializing_if = "Vec::is_empty")]
    constants: Vec<String>,
    /// Models to compare, separated by commas: naive, mean, drift, seasonal, linear, ar, arima, ets, theta, mstl, kalman,
    /// hmm, dense, convolution, network [default: all that suit the table]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model: Vec<String>,
    /// Samples held out for the test [default: a fifth; the horizon, for many series]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<usize>,
    /// The probability of the intervals, in per cent
    #[arg(long, value_name = "P", default_value_t = 95.0, value_parser = probability)]
    level: f64,
    /// Intervals around forecasts
    #[arg(long, value_name = "HOW", default_value = "calibrated")]
    #[serde(skip_serializing_if = "IntervalChoice::is_default")]
    intervals: IntervalChoice,
    /// Futures to draw, each as the errors of one origin of the validation part go together: samples.csv
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<usize>,
    /// No forecast goes below this
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = number)]
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    /// No forecast goes above this
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = number)]
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    #[command(flatten)]
    #[serde(flatten)]
    network: NetworkOptions,
}

impl Options {
    /// The probability of the intervals, in per cent.
    pub(crate) fn level(&self) -> f64 {
        self.level
    }

    /// The futures to draw.
    pub(crate) fn samples(&self) -> Option<usize> {
        self.samples
    }

    /// These options with so many samples to draw.
    pub(crate) fn with_samples(self, samples: usize) -> Options {
        Options { samples: Some(samples), ..self }
    }

    /// The length of the test part, if it was given.
    pub(crate) fn test(&self) -> Option<usize> {
        self.test
    }

    /// Refuses limits that no value can keep.
    pub(crate) fn check_limits(&self) -> Result<(), Failure> {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min > max => Err(Failure::Usage(format!(
                "--min {min} is above --max {max}; no forecast lies between them"
            ))),
            _ => Ok(()),
        }
    }

    /// Bounds forecasts by 0 where nothing else was asked for and the values seem to end there: none is below, and one of
    /// twenty or more is 0. Returns a line that says so.
    pub(crate) fn bound_by_zero(&mut self, data: &Data) -> Option<&'static str> {
        let series = data.series();
        let values = || series.iter().flat_map(|values| values.iter());
        let zeros = values().filter(|value| **value == 0.0).count();
        let below = self.max.is_some_and(|max| max < 0.0);
        if self.min.is_some() || below || 20 * zeros < values().count() || values().any(|value| *value < 0.0)
        {
            return None;
        }
        self.min = Some(0.0);
        Some("limit     no forecast below 0, since no value is; --min says otherwise")
    }

    /// Refuses options that a command does not act on.
    pub(crate) fn refuse_samples(&self, command: &str) -> Result<(), Failure> {
        match self.samples.is_some() || !self.intervals.is_default() {
            true => Err(Failure::Usage(format!(
                "a {command} measures calibrated intervals; --intervals and --samples are for forecast and predict"
            ))),
            false => Ok(()),
        }
    }

    /// The columns that do not change within a series, for the network that many series share.
    pub(crate) fn constants(&self) -> Vec<String> {
        names(&self.constants)
    }

    /// The models that were asked for.
    pub(crate) fn models(&self) -> &[String] {
        &self.model
    }

    /// These resolved options for all models, with the cell, loss, optimiser and ids of a network, and a test part of `test`
    /// samples.
    pub(crate) fn with_best(self, best: &NetworkOptions, test: usize) -> Options {
        let NetworkOptions { cell, loss, optimizer, ids, .. } = *best;
        let network = NetworkOptions {
            cell: cell.or(self.network.cell),
            loss: loss.or(self.network.loss),
            optimizer: optimizer.or(self.network.optimizer),
            ids: ids.or(self.network.ids),
            ..self.network
        };
        Options { network, test: Some(test), model: Vec::new(), ..self }
    }

    /// The options of the network.
    pub(crate) fn network(&self) -> &NetworkOptions {
        &self.network
    }

    /// Covariates and constant columns that models may read, up to a horizon past the end of the series.
    ///
    /// # Errors
    /// A constant column that the table lacks.
    pub(crate) fn beside(&self, data: &Data, horizon: usize) -> Result<Beside, Failure> {
        data.beside((self.calendar, self.together), &self.constants(), horizon)
    }

    /// The samples that a fill made up, and the columns whose fill these options let models read.
    pub(crate) fn made_up(&self, data: &Data) -> MadeUp {
        data.made_up(self.together)
    }

    /// The least and the greatest value that a forecast may have.
    pub(crate) fn limits(&self) -> (Option<f64>, Option<f64>) {
        (self.min, self.max)
    }
}

/// The network.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "The network")]
pub(crate) struct NetworkOptions {
    /// Samples that the network sees before it forecasts [default: from the linear regression, or whole seasons]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<usize>,
    /// The recurrent cell [default: gru]
    #[arg(long, value_name = "CELL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cell: Option<CellChoice>,
    /// Units in each recurrent layer [default: from the number of samples]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    hidden: Option<usize>,
    /// Recurrent layers [default: 1]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<usize>,
    /// A recurrent layer for each of these, which reads its state that many steps before, with residual connections around
    /// all but the first: 1,3,6,12
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', value_parser = count(), conflicts_with = "layers")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dilations: Vec<usize>,
    /// Networks with different seeds, whose median is taken [default: 3, 4 for many series, 1 where training is long]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    ensemble: Option<usize>,
    /// Updates of each network; the validation part may end them earlier [default: from the number of series]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    updates: Option<usize>,
    /// Windows per update [default: from the number of series]
    #[arg(long, value_name = "N", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<usize>,
    /// The highest learning rate [default: 0.003]
    #[arg(long, value_name = "X", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    lr: Option<f32>,
    /// The loss to minimise [default: absolute]
    #[arg(long, value_name = "LOSS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<LossChoice>,
    /// Forecast logarithms: all values must be above 0
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    log: bool,
    /// The optimiser [default: adam]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    optimizer: Option<OptimizerChoice>,
    /// Clip each element of the gradient to this, before its norm is taken [default: off]
    #[arg(long, value_name = "X", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    clip_value: Option<f32>,
    /// Clip the norm of the gradient to this [default: 1]
    #[arg(long, value_name = "X", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    clip: Option<f32>,
    /// The share of windows that are blended with another one [default: 0.7 for many series, else 0]
    #[arg(long, value_name = "X", value_parser = share)]
    #[serde(skip_serializing_if = "Option::is_none")]
    mixing: Option<f64>,
    /// Whether the network that many series share reads which series it is [default: auto]
    #[arg(long, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<IdsChoice>,
    /// The first network's seed [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

pub(crate) fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 24)
}

pub(crate) fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (1.0..100.0).contains(&value) => Ok(value),
        _ => Err("expected at least 1 and below 100".into()),
    }
}

/// Every option of a run, as run.toml holds it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Resolved {
    #[serde(flatten)]
    pub(crate) reading: TableArguments,
    #[serde(flatten)]
    pub(crate) options: Options,
}

pub(crate) const CONFIG: &str = "run.toml";
/// The options of a sweep, whose run.toml has those of the best network.
pub(crate) const SWEEP_CONFIG: &str = "sweep.toml";

/// The folder that a command writes to by default.
fn default_folder(command: &str) -> &'static str {
    match command {
        "backtest" => "gatefold-backtest",
        "sweep" => "gatefold-sweep",
        _ => "gatefold-out",
    }
}

/// Options that are in run.toml for other commands than this one.
fn foreign(command: &str) -> &'static [&'static str] {
    match command {
        "backtest" => &["test", "intervals", "samples"],
        "sweep" => &["model", "intervals", "samples"],
        _ => &["windows", "step", "refit"],
    }
}

/// The command line with the options of `--config FILE`, or of the run to `--resume`, before its own.
pub(crate) fn with_config(words: Vec<String>) -> Result<Vec<String>, Failure> {
    let value = |name: &str| {
        let of_next = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1).cloned());
        let joined = format!("{name}=");
        of_next.or_else(|| words.iter().find_map(|word| word.strip_prefix(&joined).map(str::to_owned)))
    };
    let path = match value("--config") {
        Some(path) => PathBuf::from(path),
        None if words.iter().any(|word| word == "--resume") => {
            let folder = value("--out").unwrap_or_else(|| default_folder(&words[1]).into());
            Path::new(&folder).join(if words[1] == "sweep" { SWEEP_CONFIG } else { CONFIG })
        }
        None => return Ok(words),
    };
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if value("--config").is_none() => refuse(
            "there is no run to resume; train without --resume first, or give its directory with --out"
                .into(),
        ),
        _ => refuse(error.to_string()),
    })?;
    let options: toml::Table = toml::from_str(&text).map_err(|error| refuse(error.message().to_owned()))?;
    let mut all = words[..2].to_vec();
    let given = |name: &str| {
        let (alone, joined) = (format!("--{name}"), format!("--{name}="));
        words.iter().any(|word| *word == alone || word.starts_with(&joined))
    };
    let foreign = foreign(&words[1]);
    let command = <crate::Arguments as clap::CommandFactory>::command();
    let known = |name: &str| {
        let options =
            command.find_subcommand(&words[1]).into_iter().flat_map(|command| command.get_arguments());
        options.into_iter().any(|option| option.get_long() == Some(name))
    };
    if let Some(name) = options.keys().find(|name| !known(name) && !foreign.contains(&name.as_str())) {
        return Err(refuse(format!("{} has no option '{name}'; gatefold {0} --help lists them", words[1])));
    }
    for (name, value) in options.iter().filter(|(name, _)| !given(name) && !foreign.contains(&name.as_str()))
    {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let joined = match value {
            // Each has commas of its own.
            toml::Value::Array(values) if name == "grid" => {
                all.extend(values.iter().map(|value| format!("--grid={}", text(value))));
                continue;
            }
            toml::Value::Array(values) => {
                let escaped = |value: &toml::Value| text(value).replace(',', "\\,");
                values.iter().map(escaped).collect::<Vec<_>>().join(",")
            }
            other => text(other),
        };
        all.push(format!("--{name}={joined}"));
    }
    all.extend_from_slice(&words[2..]);
    Ok(all)
}

impl From<ForecastError> for Failure {
    fn from(error: ForecastError) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// A failure of the series of this table, or of the device.
pub(crate) fn commented(table: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("{}: {error}", table.display()))
}

/// Creates the folder of a run.
pub(crate) fn create_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| {
        Failure::failed(format!("{}: cannot create this directory: {error}", path.display()))
    })
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let quiet = arguments.run.quiet;
    let report = Report::with_json(quiet, arguments.run.json);
    let mut data = Data::read(&arguments.table, &arguments.reading)?;
    report.lines(data.dataset.report().lines());
    report.lines(arguments.options.bound_by_zero(&data));
    let chosen = choices::choose(&mut data, &arguments.options)?;
    arguments.reading.settle(&data.dataset);
    let device = arguments.compute.open(quiet)?;
    create_folder(&arguments.out)?;
    let folder = Folder::new(&arguments.out);
    arguments.options = chosen.resolved(&arguments.options);
    let resolved = Resolved { reading: arguments.reading.clone(), options: arguments.options.clone() };
    let resolved = toml::to_string(&resolved).expect("numbers and names are TOML");
    folder.begin(&Beginning {
        table: &arguments.table,
        fingerprint: data.fingerprint(),
        device: &device,
        options: &resolved,
        file: CONFIG,
        resume: arguments.resume,
    })?;
    report.lines(chosen.lines(&data));
    report.line(format!("device    {}", device.summary()));
    report.line("");

    let log = Log::begin(&arguments.out, arguments.resume, arguments.run.tensorboard.as_deref())?;
    let stop = interruption(quiet)?;
    let mut watching = Watching::new(&report, Some(&folder), stop, &chosen.settings, log);
    let series = data.series();
    let results =
        compare(&device, &series, &chosen.plan, &chosen.candidates, &mut watching).and_then(|comparison| {
            let best = comparison.best;
            let future = future(&device, &series, &comparison, best, &chosen.candidates, &mut watching)?;
            Ok((comparison, future))
        });
    let networks = watching.end()?;
    let (comparison, future) = results.map_err(|error| match error {
        ForecastError::Stopped => {
            interrupted("forecast", &arguments.table, &arguments.out, &arguments.compute)
        }
        other => commented(&arguments.table, other),
    })?;
    let run = output::Run {
        arguments: &arguments,
        data: &data,
        chosen: &chosen,
        comparison: &comparison,
        future: &future,
        device: device.summary(),
        networks,
    };
    output::write(&report, &run)?;
    folder.finish(&data, &arguments, &chosen, &comparison, &future.networks)
}

/// A flag that the first Ctrl-C raises; the second ends the program at once.
pub(crate) fn interruption(quiet: bool) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        if !quiet {
            eprintln!("\nfinishing this step and saving; press Ctrl-C again to stop at once");
        }
    })
    .map_err(|error| Failure::failed(format!("cannot listen for Ctrl-C: {error}")))?;
    Ok(stop)
}

/// The text as one word of a shell's command line.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.into()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A run that was stopped, and the command line that goes on with it.
pub(crate) fn interrupted(command: &str, table: &Path, out: &Path, compute: &ComputeArguments) -> Failure {
    let quoted = |path: &Path| quoted(&path.display().to_string());
    let out = match out {
        path if path == Path::new(default_folder(command)) => String::new(),
        path => format!(" --out {}", quoted(path)),
    };
    // Another device would round differently.
    let device = match compute.choice() {
        gatefold::DeviceChoice::Auto => String::new(),
        choice => format!(" --device {}", quoted(Path::new(&choice.to_string()))),
    };
    Failure::Interrupted(format!(
        "interrupted; continue with\n  gatefold {command} {} --resume{out}{device}",
        quoted(table)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn the_best_of_a_sweep_keeps_each_option_of_a_grid_that_settings_do_not_hold() {
        let base = NetworkOptions {
            cell: CellChoice::from_str("gru", false).ok(),
            loss: Some(LossChoice::Absolute),
            optimizer: Some(OptimizerChoice::Adam),
            ids: Some(IdsChoice::Auto),
            ..NetworkOptions::default()
        };
        let best = NetworkOptions {
            cell: CellChoice::from_str("lstm", false).ok(),
            loss: Some(LossChoice::Huber),
            optimizer: Some(OptimizerChoice::Sgd),
            ids: Some(IdsChoice::Yes),
            ..NetworkOptions::default()
        };
        let options = Options { network: base.clone(), ..Options::default() };
        assert_eq!(options.clone().with_best(&best, 9).network, best);
        assert_eq!(options.with_best(&NetworkOptions::default(), 9).network, base);
    }
}
