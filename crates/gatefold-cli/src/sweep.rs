//! `gatefold sweep`: networks with other settings, each with several seeds, compared by rolling validation.

mod grid;

use crate::ComputeArguments;
use crate::backtest::{Chosen, WindowOptions, choose};
use crate::failure::Failure;
use crate::forecast::{
    Basis, Beginning, CONFIG, Data, Folder, Log, Options, Report, Resolved, RunArguments, SWEEP_CONFIG,
    Watching, cell, check, commented, create_folder, figure, interrupted, interruption, rounded,
};
use crate::html::RunPage;
use crate::page::table;
use crate::table::TableArguments;
use gatefold::Device;
use gatefold_forecast::{Backtest, Candidate, ForecastError, Measures, Plan, Settings, backtest};
use gatefold_model::file::write_atomically;
use gatefold_series::{ErrorOrder, clearly_better};
use grid::{Point, points};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Trains networks with every combination of some options, each with several seeds, and compares them on windows before the
/// test part of the table, which no network sees.
///
/// Writes sweep.csv (every run), metrics.json, log.csv, and the best options as run.toml: `gatefold forecast TABLE --config
/// gatefold-sweep/run.toml` takes them. Ctrl-C saves what is done; --resume continues from there to the same result as a sweep
/// that was never interrupted.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The table: CSV and its relatives, gzip, or - for standard input
    table: PathBuf,
    /// An option of the network with values to try, as hidden=16,32; may be given several times [default: half, once and
    /// twice the hidden units, each with a learning rate of 0.001 and 0.003]
    #[arg(long, value_name = "OPTION=A,B")]
    grid: Vec<String>,
    /// Seeds for each combination, from --seed on
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = crate::forecast::count())]
    seeds: usize,
    #[command(flatten)]
    windows: WindowOptions,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    reading: TableArguments,
    #[command(flatten)]
    compute: ComputeArguments,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-sweep")]
    out: PathBuf,
    /// Continue an interrupted sweep in DIR, with its options
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    run: RunArguments,
}

/// Every option of a sweep, as sweep.toml holds it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Begun<'a> {
    grid: &'a [String],
    seeds: usize,
    #[serde(flatten)]
    reading: &'a TableArguments,
    #[serde(flatten)]
    windows: &'a WindowOptions,
    #[serde(flatten)]
    options: &'a Options,
}

impl Arguments {
    fn begun(&self) -> String {
        let Arguments { grid, seeds, reading, windows, options, .. } = self;
        let begun = Begun { grid, seeds: *seeds, reading, windows, options };
        toml::to_string(&begun).expect("numbers and names are TOML")
    }
}

/// The measures of one combination, a run for each seed.
struct Tried {
    name: String,
    /// The place in the grid; `None` for the linear regression, which has no seeds.
    point: Option<usize>,
    runs: Vec<(u64, Measures)>,
    /// The scaled error at each window, the mean over the runs.
    errors: Vec<f64>,
}

/// The best network beside the linear regression alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Standing {
    Better,
    /// The difference is within one standard error.
    Ties,
    Worse,
}

impl Standing {
    fn of(network: &[f64], linear: &[f64], order: ErrorOrder) -> Standing {
        match () {
            () if clearly_better(network, linear, order) => Standing::Better,
            () if clearly_better(linear, network, order) => Standing::Worse,
            () => Standing::Ties,
        }
    }

    fn lines(self) -> [&'static str; 2] {
        match self {
            Standing::Better => {
                ["It is better than the linear regression alone, by more than one", "standard error."]
            }
            Standing::Ties => {
                ["It ties with the linear regression alone: the difference is within", "one standard error."]
            }
            Standing::Worse => {
                ["It is worse than the linear regression alone, by more than one", "standard error."]
            }
        }
    }
}

impl Tried {
    fn mean(&self, of: fn(&Measures) -> f64) -> f64 {
        self.runs.iter().map(|(_, measures)| of(measures)).sum::<f64>() / self.runs.len() as f64
    }

    /// The least and the greatest scaled error of a seed.
    fn spread(&self) -> (f64, f64) {
        let errors = || self.runs.iter().map(|(_, measures)| measures.mase);
        (errors().fold(f64::INFINITY, f64::min), errors().fold(f64::NEG_INFINITY, f64::max))
    }
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    if !arguments.options.models().is_empty() {
        return Err(Failure::Usage("a sweep compares networks; --model is for forecast and backtest".into()));
    }
    arguments.options.refuse_samples("sweep")?;
    let report = Report::with_json(arguments.run.quiet, arguments.run.json);
    let mut data = Data::read(&arguments.table, &arguments.reading)?;
    report.lines(data.dataset.report().lines());
    report.lines(arguments.options.bound_by_zero(&data));
    let basis = Basis::of(&mut data, &arguments.options)?;
    report.lines(Basis::left_out_line(basis.left_out.as_ref()));
    let whole = data.series();
    let test = Plan::new(&whole, basis.horizon, basis.seasons.shortest(), arguments.options.test())?.test;
    let series: Vec<&[f64]> = whole.iter().map(|values| &values[..values.len() - test]).collect();
    let chosen = choose(&series, basis, &arguments.windows, &arguments.options)?;
    let points = points(&arguments.grid, arguments.options.network(), &chosen.settings)?;
    let settings: Vec<Settings> =
        points.iter().map(|point| point.settings(&chosen)).collect::<Result<_, Failure>>()?;
    for settings in &settings {
        check(settings, data.names(), &series)?;
    }
    arguments.reading.settle(&data.dataset);
    let device = arguments.compute.open(arguments.run.quiet)?;
    create_folder(&arguments.out)?;
    let folder = Folder::new(&arguments.out);
    folder.begin(&Beginning {
        table: &arguments.table,
        fingerprint: data.fingerprint(),
        device: &device,
        options: &arguments.begun(),
        file: SWEEP_CONFIG,
        resume: arguments.resume,
    })?;
    report.lines(chosen.lines(&series));
    report.line(format!("held out  the last {test} samples, for the test"));
    report.line(format!("grid      {} combinations, {} seeds each", points.len(), arguments.seeds));
    report.line(format!("device    {}\n", device.summary()));

    let log = Log::begin(&arguments.out, arguments.resume, arguments.run.tensorboard.as_deref())?;
    let stop = interruption(arguments.run.quiet)?;
    let mut watching = Watching::new(&report, Some(&folder), stop, &chosen.settings, log);
    let results = Sweep {
        device: &device,
        series: &series,
        chosen: &chosen,
        points: &points,
        settings: &settings,
        arguments: &arguments,
    }
    .run(&report, &mut watching);
    watching.end()?;
    let results = results.map_err(|error| match error {
        ForecastError::Stopped => interrupted("sweep", &arguments.table, &arguments.out, &arguments.compute),
        other => commented(&arguments.table, other),
    })?;
    let Some(best) = results.tried.iter().find_map(|tried| tried.point) else {
        let (name, why) = &results.left_out[0];
        return Err(commented(&arguments.table, format!("no network can be trained; {name}: {why}")));
    };
    let settings = Settings { members: chosen.settings.members, ..settings[best].clone() };
    let options = arguments.options.resolved(&chosen.seasons, &settings, &[]);
    let options = options.with_best(&points[best].options, test);
    let resolved = Resolved { reading: arguments.reading.clone(), options };
    let toml = toml::to_string(&resolved).expect("numbers and names are TOML");
    write_atomically(arguments.out.join(CONFIG), toml.as_bytes())?;
    write_atomically(arguments.out.join("sweep.csv"), csv(&results.tried).as_bytes())?;
    let metrics = metrics(&results, &chosen, test, &device);
    write_atomically(arguments.out.join("metrics.json"), format!("{metrics:#}\n").as_bytes())?;
    report.lines(lines(&results));
    let page = RunPage {
        title: "gatefold sweep",
        about: &arguments.table.display().to_string(),
        printed: &report.printed(),
        pictures: &[],
        training: &[],
        networks: &[],
    };
    write_atomically(arguments.out.join("report.html"), page.html().as_bytes())?;
    report.line(format!("\nThe best as {}:", arguments.out.join(CONFIG).display()));
    report.line(format!("  gatefold forecast {} \\", arguments.table.display()));
    report.line(format!("    --config {}", arguments.out.join(CONFIG).display()));
    let mut document = metrics;
    document["out"] = json!(arguments.out.display().to_string());
    document["table"] = json!(data.dataset.report().lines().collect::<Vec<_>>());
    report.document(&document);
    folder.remove_checkpoints()
}

struct Sweep<'a> {
    device: &'a Device,
    series: &'a [&'a [f64]],
    chosen: &'a Chosen,
    points: &'a [Point],
    /// Of each point.
    settings: &'a [Settings],
    arguments: &'a Arguments,
}

struct Results {
    /// Combinations that could be trained, the least error first.
    tried: Vec<Tried>,
    /// Those that could not, and why; the linear regression last.
    left_out: Vec<(String, String)>,
    /// The best network beside the linear regression; `None` without both.
    standing: Option<Standing>,
}

impl Sweep<'_> {
    fn run(&self, report: &Report, watching: &mut Watching) -> Result<Results, ForecastError> {
        let (mut tried, mut left_out) = (Vec::new(), Vec::new());
        let linear = gatefold_series::Linear::new(self.chosen.plan.horizon).season(self.chosen.seasons.exact);
        let linear = Candidate::PerSeries(Box::new(linear), self.chosen.settings.beside.clone());
        let (mut order, mut without_linear) = (None, None);
        let name = "linear (no network)".to_owned();
        match self.measure(&linear, watching) {
            Ok(results) => {
                let runs = vec![(0, results.measures(0))];
                tried.push(Tried { name, point: None, runs, errors: results.errors(0) });
                order = Some(results.order());
            }
            // The networks may be able to forecast series that the regression cannot.
            Err(error @ (ForecastError::Series(_) | ForecastError::Settings(_))) => {
                without_linear = Some((name, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        'points: for (place, point) in self.points.iter().enumerate() {
            let seeds = self.arguments.seeds;
            let (mut runs, mut errors) = (Vec::with_capacity(seeds), Vec::new());
            let settings = self.settings[place].clone();
            for seed in (settings.seed..).take(self.arguments.seeds) {
                let at = place * self.arguments.seeds + runs.len() + 1;
                report.progress(format!("run       {at} of {}", self.points.len() * self.arguments.seeds));
                let settings = Settings { members: 1, seed, ..settings.clone() };
                watching.train(&settings);
                let name = format!("{} seed={seed}", point.name);
                match self.measure(&Candidate::Network(name, settings), watching) {
                    Ok(results) => {
                        runs.push((seed, results.measures(0)));
                        let of_seed = results.errors(0);
                        errors.resize(of_seed.len(), 0.0);
                        errors.iter_mut().zip(of_seed).for_each(|(sum, error)| *sum += error / seeds as f64);
                    }
                    // The series do not suit these settings; a failing device ends the sweep.
                    Err(error @ (ForecastError::Series(_) | ForecastError::Settings(_))) => {
                        left_out.push((point.name.clone(), error.to_string()));
                        continue 'points;
                    }
                    Err(error) => return Err(error),
                }
            }
            tried.push(Tried { name: point.name.clone(), point: Some(place), runs, errors });
        }
        left_out.extend(without_linear);
        tried.sort_by(|a, b| a.mean(|of| of.mase).total_cmp(&b.mean(|of| of.mase)));
        let errors_of = |network: bool| {
            let first = tried.iter().find(|tried| tried.point.is_some() == network);
            first.map(|tried| tried.errors.as_slice())
        };
        let standing = match (errors_of(true), errors_of(false), order) {
            (Some(network), Some(linear), Some(order)) => Some(Standing::of(network, linear, order)),
            _ => None,
        };
        Ok(Results { tried, left_out, standing })
    }

    fn measure(&self, candidate: &Candidate, watching: &mut Watching) -> Result<Backtest, ForecastError> {
        let candidates = std::slice::from_ref(candidate);
        backtest(self.device, self.series, &self.chosen.plan, candidates, watching)
    }
}

fn lines(results: &Results) -> Vec<String> {
    let Results { tried, left_out, standing } = results;
    let mut lines: Vec<String> =
        left_out.iter().map(|(name, why)| format!("left out  {name}: {why}")).collect();
    let best = tried.iter().position(|tried| tried.point.is_some());
    let row = |(place, tried): (usize, &Tried)| {
        let (least, most) = tried.spread();
        let mark = if Some(place) == best { " *" } else { "" };
        let numbers = [tried.mean(|of| of.mase), least, most, tried.mean(|of| of.mae)].map(figure);
        std::iter::once(format!("{}{mark}", tried.name)).chain(numbers).collect()
    };
    let rows: Vec<Vec<String>> = tried.iter().enumerate().map(row).collect();
    lines.extend(table(&["options", "MASE", "least", "most", "MAE"], &rows));
    if let Some(best) = best {
        let seeds = tried[best].runs.len();
        lines.push(format!("\n* the best network, by the mean of {seeds} seeds over windows before"));
        lines.push("the test part. Differences within the spread of seeds say little.".into());
        lines.extend(standing.iter().flat_map(|standing| standing.lines()).map(str::to_owned));
    }
    lines
}

fn csv(tried: &[Tried]) -> String {
    let mut text = String::from("options,seed,mase,mae,rmse,smape,bias,crps,coverage\n");
    for tried in tried {
        for (seed, of) in &tried.runs {
            let seed = if tried.point.is_some() { seed.to_string() } else { String::new() };
            let numbers = [of.mase, of.mae, of.rmse, of.smape, of.bias].map(rounded).join(",");
            let spread =
                [of.crps, of.coverage].map(|value| value.map_or_else(String::new, rounded)).join(",");
            text += &format!("{},{seed},{numbers},{spread}\n", cell(&tried.name));
        }
    }
    text
}

fn metrics(results: &Results, chosen: &Chosen, test: usize, device: &Device) -> Value {
    let Results { tried, left_out, standing } = results;
    let combination = |tried: &Tried| {
        let (least, most) = tried.spread();
        let run = |(seed, measures): &(u64, Measures)| {
            let mut value = json!(measures);
            value["seed"] = json!(tried.point.map(|_| seed));
            value
        };
        json!({
            "options": tried.name,
            "network": tried.point.is_some(),
            "mase": tried.mean(|of| of.mase),
            "mase_least": least,
            "mase_most": most,
            "mae": tried.mean(|of| of.mae),
            "runs": tried.runs.iter().map(run).collect::<Vec<_>>(),
        })
    };
    json!({
        "command": "sweep",
        "version": env!("CARGO_PKG_VERSION"),
        "combinations": tried.iter().map(combination).collect::<Vec<_>>(),
        "best": tried.iter().find(|tried| tried.point.is_some()).map(|tried| &tried.name),
        "beside_linear": standing,
        "left_out": left_out,
        "horizon": chosen.plan.horizon,
        "seasons": chosen.seasons.lengths,
        "windows": chosen.plan.windows,
        "step": chosen.plan.step,
        "calibration": chosen.plan.calibration,
        "test": test,
        "device": device.summary(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_hardly_better_ties() {
        let order = ErrorOrder { origins: 50, overlap: 1 };
        let noise = |at: usize| (at as f64 * 0.618_033_988_749_894_9).fract() - 0.5;
        let linear = vec![1.0; 50];
        let network = |gain: f64| -> Vec<f64> { (1..=50).map(|at| 1.0 - gain + noise(at)).collect() };
        // The standard error of 50 differences is 0.041.
        for (gain, standing) in [
            (0.02, Standing::Ties),
            (-0.02, Standing::Ties),
            (0.06, Standing::Better),
            (-0.06, Standing::Worse),
        ] {
            assert_eq!(Standing::of(&network(gain), &linear, order), standing, "{gain}");
        }
        assert_eq!(Standing::of(&linear, &linear, order), Standing::Ties, "the regression itself");
    }
}
