//! `gatefold forecast`: trains a network on a table, and writes its forecasts, baselines to compare with, and plots.

mod data;
mod output;
mod report;
mod settings;
mod training;

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecaster::{FillChoice, Forecaster};
use data::Data;
use gatefold::devices::ScanChoice;
use gatefold::{Device, DeviceChoice};
use report::Report;
use settings::Settings;
use settings::{LossChoice, OptimizerChoice};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
pub(crate) use training::load_for_use;
use training::{Saved, Training};

/// Reads a column, trains a network, keeps the epoch that does best on a validation part, and compares its forecasts
/// of the last fifth, which it has never seen, with baselines that learn nothing.
///
/// Writes forecast.csv, forecast.svg, loss.svg, metrics.json, model.safetensors and checkpoint.safetensors. Ctrl-C
/// saves the checkpoint; --resume continues from there to the same result as a run that was never interrupted.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The table as CSV, oldest row first
    table: PathBuf,
    /// The column to forecast [default: the last one that holds numbers]
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Samples to forecast at once [default: 1]
    #[arg(long, value_name = "N", value_parser = count())]
    horizon: Option<usize>,
    /// Samples that the network sees before it forecasts [default: 24, fewer for a short table]
    #[arg(long, value_name = "N", value_parser = count())]
    input: Option<usize>,
    /// Samples per time step; must divide the input [default: 1]
    #[arg(long, value_name = "N", value_parser = count())]
    samples_per_step: Option<usize>,
    /// Samples per season, for the seasonal baseline; 0 for none [default: detected in the rows before the test part]
    #[arg(long, value_name = "N")]
    season: Option<usize>,
    /// How to fill missing cells [default: refuse]
    #[arg(long, value_name = "HOW")]
    fill: Option<FillChoice>,
    /// Units in each LSTM layer [default: 32]
    #[arg(long, value_name = "N", value_parser = count())]
    hidden: Option<usize>,
    /// Number of LSTM layers [default: 2]
    #[arg(long, value_name = "N", value_parser = count())]
    layers: Option<usize>,
    /// The most passes over the training part; training ends earlier when validation stops improving [default: 60]
    #[arg(long, value_name = "N", value_parser = count())]
    epochs: Option<usize>,
    /// Windows per batch [default: 32]
    #[arg(long, value_name = "N", value_parser = count())]
    batch: Option<usize>,
    /// Initial learning rate [default: 0.002]
    #[arg(long, value_name = "X", value_parser = positive)]
    lr: Option<f32>,
    /// The loss to minimise [default: squared]
    #[arg(long, value_name = "LOSS")]
    loss: Option<LossChoice>,
    /// The optimiser [default: adam]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<OptimizerChoice>,
    /// Clip each element of the gradient to this, before its norm is taken [default: off]
    #[arg(long, value_name = "X", value_parser = positive)]
    clip_value: Option<f32>,
    /// Clip the norm of the gradient to this [default: 1]
    #[arg(long, value_name = "X", value_parser = positive)]
    clip: Option<f32>,
    /// Train on chunks of that many steps and compute their values again, to save memory with long inputs [default: off]
    #[arg(long, value_name = "STEPS", value_parser = count())]
    recompute: Option<usize>,
    /// Seed of the initial parameters and of the order of the windows [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-out")]
    out: PathBuf,
    /// Continue from the checkpoint in DIR, with its settings; --epochs may ask for more
    #[arg(long)]
    resume: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 24)
}

fn positive(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number above 0".into()),
    }
}

const CHECKPOINT: &str = "checkpoint.safetensors";

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let checkpoint = arguments.out.join(CHECKPOINT);
    let saved = if arguments.resume { Some(Saved::load(&checkpoint)?) } else { None };
    let (data, forecaster, settings) = match &saved {
        Some(saved) => {
            let settings = saved.settings.continued(&arguments, &saved.forecaster.shape)?;
            let data = Data::read(&arguments.table, &saved.forecaster.shape)?;
            saved.settings.check_same_data(&arguments.table, &data)?;
            (data, saved.forecaster.clone(), settings)
        }
        None => {
            let (data, shape, settings) = settings::choose(&arguments)?;
            let train = &data.series[data.split.train()];
            let forecaster = Forecaster::fit(shape, train).map_err(|error| data.failure(&error))?;
            (data, forecaster, settings)
        }
    };
    let device = arguments.compute.open(arguments.quiet)?;
    fs::create_dir_all(&arguments.out).map_err(|error| {
        Failure::failed(format!("{}: cannot create this directory: {error}", arguments.out.display()))
    })?;

    let report = Report::new(arguments.quiet);
    if let Some(other) = saved.as_ref().and_then(|saved| saved.other_device(&device)) {
        report.line(format!("note      begun on {other}:\n          this device rounds differently"));
    }
    let mut training = Training::new(&device, &data, &forecaster, &settings, saved, checkpoint)?;
    announce(&report, &data, &forecaster, &settings, &training, &device);
    let stop = interruption(arguments.quiet)?;
    if !training.run(&report, &stop)? {
        return Err(Failure::Interrupted(interrupted(&arguments, &settings, &training)));
    }
    let finished = training.finish(&arguments.out)?;
    output::write(&report, &arguments, &data, &forecaster, &settings, finished, &device)
}

/// Prints what is about to happen, in lines of at most 60 columns unless a name is longer.
fn announce(
    report: &Report,
    data: &Data,
    forecaster: &Forecaster,
    settings: &Settings,
    training: &Training,
    device: &Device,
) {
    let shape = &forecaster.shape;
    let span = data
        .dates
        .as_ref()
        .map_or_else(String::new, |dates| format!(", {} to {}", dates[0], dates[dates.len() - 1]));
    report.line(format!("data      {}, {} rows{span}", shape.target, data.series.len()));
    report.line(format!(
        "parts     train {}, validation {}, test {}",
        data.split.train().len(),
        data.split.validation().len(),
        data.split.test().len()
    ));
    let season = settings.season.map_or_else(|| "none found".into(), |season| format!("{season} samples"));
    report.line(format!("season    {season}"));
    report.line(format!("windows   {} samples in, {} out", shape.input, shape.horizon));
    report.line(format!("network   {}", training.network()));
    report.line(format!("          {} parameters", training.network().parameter_count()));
    report.line(format!("device    {}", device.summary()));
    if let Some(steps) = training.resumed_at() {
        report.line(format!("resumed   after step {steps}"));
    }
    report.line("");
}

/// A flag that the first Ctrl-C raises; the second ends the program at once.
fn interruption(quiet: bool) -> Result<Arc<AtomicBool>, Failure> {
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

fn interrupted(arguments: &Arguments, settings: &Settings, training: &Training) -> String {
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
        if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    let out = match arguments.out.as_path() {
        path if path == Path::new("gatefold-out") => String::new(),
        path => format!(" --out {}", quoted(path)),
    };
    // Another device would round differently.
    let device = match arguments.compute.choice() {
        DeviceChoice::Auto => String::new(),
        choice => format!(" --device {}", quoted(Path::new(&choice.to_string()))),
    };
    let threads = arguments.compute.threads.map_or_else(String::new, |count| format!(" --threads {count}"));
    let scan = match arguments.compute.scan.scan {
        ScanChoice::Auto => String::new(),
        choice => format!(" --scan {choice}"),
    };
    format!(
        "stopped in epoch {} of {} after step {}; saved. Continue with:\n  gatefold forecast {}{out}{device}{threads}{scan} --resume",
        training.epoch() + 1,
        settings.epochs,
        training.steps(),
        quoted(&arguments.table)
    )
}
