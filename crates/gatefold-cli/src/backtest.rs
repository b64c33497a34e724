//! `gatefold backtest`: forecasts from a rolling origin, which measure every model over and over.

mod html;
mod output;

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::{
    Basis, Beginning, CONFIG, Data, Folder, Log, NetworkOptions, Options, Report, RunArguments, Watching,
    check, commented, create_folder, interrupted, interruption, made_up_line,
};
use crate::table::TableArguments;
use gatefold_forecast::{Candidate, ForecastError, MadeUp, Refit, Rolling, Seasons, Settings, backtest};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::PathBuf;

/// Forecasts the end of a table from several moments, each time with nothing known but the rows before, and measures how far
/// off every model was.
///
/// The best model is chosen, and the first intervals are made, on the samples before the first window; later windows add the
/// errors of those that had ended before them.
///
/// Writes backtest.csv (every forecast with its interval), by_step.csv, by_series.csv, metrics.json, the error by steps ahead
/// as by_step.svg and .png, report.html, log.csv and run.toml. Ctrl-C saves what is done; --resume continues from there to the
/// same result as a run that was never interrupted.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The table: CSV and its relatives, gzip, or - for standard input
    pub(crate) table: PathBuf,
    #[command(flatten)]
    pub(crate) windows: WindowOptions,
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(flatten)]
    pub(crate) reading: TableArguments,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-backtest")]
    pub(crate) out: PathBuf,
    /// Continue an interrupted backtest in DIR, with its options
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

/// The windows.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct WindowOptions {
    /// Moments to forecast from [default: as many as the last fifth has room for, at most 20]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<usize>,
    /// Samples from one of them to the next [default: the horizon]
    #[arg(long, value_name = "N", value_parser = crate::forecast::count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    /// When to fit the models again: always (for each window) or never (once, before the first) [default: never]
    #[arg(long, value_name = "WHEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    refit: Option<RefitChoice>,
}

/// When to fit again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum RefitChoice {
    /// for each window, on everything before it
    Always,
    /// once, on everything before the first window
    Never,
}

/// Every option of a run, as run.toml holds it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Resolved {
    #[serde(flatten)]
    reading: TableArguments,
    #[serde(flatten)]
    windows: WindowOptions,
    #[serde(flatten)]
    options: Options,
}

/// Everything that follows from the options and the table.
pub(crate) struct Chosen {
    pub(crate) seasons: Seasons,
    pub(crate) plan: Rolling,
    pub(crate) settings: Settings,
    pub(crate) candidates: Vec<Candidate>,
    /// Samples of each series to train on.
    lengths: Vec<usize>,
}

pub(crate) fn choose(
    series: &[&[f64]],
    basis: Basis,
    windows: &WindowOptions,
    options: &Options,
) -> Result<Chosen, Failure> {
    let (seasons, horizon) = (&basis.seasons, basis.horizon);
    let plan = Rolling::new(series, horizon, seasons.shortest(), windows.windows, windows.step)?;
    let limits = options.limits();
    let plan = Rolling {
        refit: match windows.refit {
            Some(RefitChoice::Always) => Refit::Always,
            Some(RefitChoice::Never) | None => Refit::Never,
        },
        level: options.level() / 100.0,
        limits: (limits.0.unwrap_or(f64::NEG_INFINITY), limits.1.unwrap_or(f64::INFINITY)),
        made_up: basis.made_up.clone(),
        ..plan
    };
    let before = plan.evaluated() + plan.calibration;
    let lengths: Vec<usize> = series.iter().map(|values| values.len() - before).collect();
    let settings = basis.settings(options.network(), &lengths)?;
    let candidates = basis.candidates(options, &settings, series)?;
    Ok(Chosen { seasons: basis.seasons, plan, settings, candidates, lengths })
}

impl Chosen {
    /// The settings of a network with other options.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(crate) fn network_settings(&self, network: &NetworkOptions) -> Result<Settings, Failure> {
        let (seasons, beside) = (self.seasons.clone(), self.settings.beside.clone());
        let basis =
            Basis { seasons, horizon: self.plan.horizon, beside, made_up: MadeUp::default(), left_out: None };
        basis.settings(network, &self.lengths)
    }

    fn resolved(&self, arguments: &Arguments) -> Resolved {
        let windows = WindowOptions {
            windows: Some(self.plan.windows),
            step: Some(self.plan.step),
            refit: arguments.windows.refit.or(Some(RefitChoice::Never)),
        };
        Resolved {
            reading: arguments.reading.clone(),
            windows,
            options: arguments.options.resolved(&self.seasons, &self.settings, &self.candidates),
        }
    }

    /// Lines about what is going to happen.
    pub(crate) fn lines(&self, series: &[&[f64]]) -> Vec<String> {
        let plan = &self.plan;
        let shortest = series.iter().map(|values| values.len()).min().unwrap_or(0);
        let fitted = match plan.refit {
            Refit::Never => "fitted once, before the first",
            Refit::Always => "fitted again for each",
        };
        let mut lines = vec![
            Basis::seasons_line(&self.seasons),
            Basis::horizon_line(plan.horizon),
            format!("windows   {}, {} apart; models are {fitted}", plan.windows, plan.step),
            format!(
                "parts     train {}, calibration {}, windows {}{}",
                shortest - plan.evaluated() - plan.calibration,
                plan.calibration,
                plan.evaluated(),
                if series.len() == 1 { "" } else { " of each series" }
            ),
        ];
        let parts = [("calibration", plan.calibration), ("window", plan.evaluated())];
        lines.extend(made_up_line(
            &self.made_up(series),
            &parts.map(|(name, len)| (name, len * series.len())),
        ));
        lines
    }

    /// The samples of the calibration part and of the windows that were made up, over all series.
    pub(crate) fn made_up(&self, series: &[&[f64]]) -> [usize; 2] {
        let plan = &self.plan;
        let within = |range: &dyn Fn(usize) -> Range<usize>| {
            let of = |(at, values): (usize, &&[f64])| plan.made_up.within(at, range(values.len()));
            series.iter().enumerate().map(of).sum()
        };
        let first = |len: usize| len - plan.evaluated();
        [within(&|len| first(len) - plan.calibration..first(len)), within(&|len| first(len)..len)]
    }
}

pub(crate) fn run(mut arguments: Arguments) -> Result<(), Failure> {
    if arguments.options.test().is_some() {
        return Err(Failure::Usage("--test is for forecast; a backtest takes --windows and --step".into()));
    }
    arguments.options.refuse_samples("backtest")?;
    let (quiet, json) = (arguments.run.quiet, arguments.run.json);
    let report = Report::with_json(quiet, json);
    let mut data = Data::read(&arguments.table, &arguments.reading)?;
    report.lines(data.dataset.report().lines());
    report.lines(arguments.options.bound_by_zero(&data));
    let basis = Basis::of(&mut data, &arguments.options)?;
    report.lines(Basis::left_out_line(basis.left_out.as_ref()));
    let series = data.series();
    let chosen = choose(&series, basis, &arguments.windows, &arguments.options)?;
    check(&chosen.settings, data.names(), &series)?;
    arguments.reading.settle(&data.dataset);
    let device = arguments.compute.open(quiet)?;
    create_folder(&arguments.out)?;
    let resolved = toml::to_string(&chosen.resolved(&arguments)).expect("numbers and names are TOML");
    let folder = Folder::new(&arguments.out);
    folder.begin(&Beginning {
        table: &arguments.table,
        fingerprint: data.fingerprint(),
        device: &device,
        options: &resolved,
        file: CONFIG,
        resume: arguments.resume,
    })?;
    report.lines(chosen.lines(&series));
    report.line(format!("device    {}", device.summary()));
    report.line("");

    let log = Log::begin(&arguments.out, arguments.resume, arguments.run.tensorboard.as_deref())?;
    let mut watching = Watching::new(&report, Some(&folder), interruption(quiet)?, &chosen.settings, log);
    let results = backtest(&device, &series, &chosen.plan, &chosen.candidates, &mut watching);
    let networks = watching.end()?;
    let results = results.map_err(|error| match error {
        ForecastError::Stopped => {
            interrupted("backtest", &arguments.table, &arguments.out, &arguments.compute)
        }
        other => commented(&arguments.table, other),
    })?;
    let run = output::Run {
        arguments: &arguments,
        data: &data,
        chosen: &chosen,
        results: &results,
        device: device.summary(),
        resolved,
        networks,
    };
    output::write(&report, &run)?;
    folder.remove_checkpoints()
}
