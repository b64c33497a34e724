//! The `gatefold` command: one module per subcommand.

mod backtest;
mod bench;
mod cell;
mod classify;
mod convert;
mod describe;
mod devices;
mod environment;
mod failure;
mod forecast;
mod generate;
mod gradients;
mod html;
mod image;
mod impute;
mod label;
mod long;
mod model_file;
mod notices;
mod npz;
mod page;
mod plot;
mod predict;
mod results;
mod run;
mod score;
mod selfcheck;
mod sweep;
mod table;
mod task;
mod texts;
mod translate;
mod tune;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use failure::Failure;
use gatefold::devices::{GpuOptions, MOST_THREADS, ProductChoice, ScanChoice};
use gatefold::{Device, DeviceChoice, Gpu};
use std::process::ExitCode;

/// Recurrent networks on any GPU, or on none: train, forecast, check a driver.
#[derive(Parser, Debug)]
#[command(name = "gatefold", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted (progress is saved)";

// The list of commands takes its lines from `about`: a doc comment here would replace the longer help of a command.
#[derive(Subcommand, Debug)]
enum Command {
    #[command(
        about = "Compare models on the last part of a table, and forecast what follows it with the best"
    )]
    Forecast(Box<forecast::Arguments>),
    #[command(about = "Forecast the rows after a table, with a model that `forecast` fitted")]
    Predict(predict::Arguments),
    #[command(about = "Forecast the end of a table from several moments, and measure every model")]
    Backtest(Box<backtest::Arguments>),
    #[command(about = "Train networks with other options and seeds, and compare them before the test part")]
    Sweep(Box<sweep::Arguments>),
    #[command(about = "Compare runs: their errors as a table, and losses and errors as plots")]
    Plot(plot::Arguments),
    #[command(about = "Fill the missing cells of a table: train, or use a model")]
    Impute(Box<impute::Arguments>),
    #[command(about = "Tell the class of sequences of any length: train, or use a model")]
    Classify(Box<classify::Arguments>),
    #[command(about = "Label each step of sequences, or each word of sentences: train, or use a model")]
    Label(Box<label::Arguments>),
    #[command(about = "Continue a text by characters or words: train, or use a model")]
    Generate(Box<generate::Arguments>),
    #[command(about = "Translate short texts, learnt from pairs: train, or use a model")]
    Translate(Box<translate::Arguments>),
    #[command(about = "Give a text a number from -1 to 1: train, or use a model")]
    Score(Box<score::Arguments>),
    #[command(about = "List the devices of this machine, and which one `--device auto` takes")]
    Devices(devices::Arguments),
    #[command(about = "Compare every kernel with the reference on the adapters of this machine")]
    Selfcheck(selfcheck::Arguments),
    #[command(about = "Describe a network: layers, shapes, parameters, FLOP, memory, schedule")]
    Describe(describe::Arguments),
    #[command(about = "Show how the gradient of a trained network fares on its way back through time")]
    Gradients(gradients::Arguments),
    #[command(about = "Run a model on arrays from an .npz file: ours, PyTorch's, Keras' or ONNX's")]
    Run(run::Arguments),
    #[command(about = "Convert a model between our files, PyTorch's, Keras' and ONNX")]
    Convert(convert::Arguments),
    #[command(about = "Time a stack of recurrent layers, after checking its results")]
    Bench(bench::Arguments),
    #[command(about = "Find the fastest way to run recurrent layers on a GPU, and keep it")]
    Tune(tune::Arguments),
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Command::Forecast(arguments) => forecast::run(*arguments),
            Command::Backtest(arguments) => backtest::run(*arguments),
            Command::Sweep(arguments) => sweep::run(*arguments),
            Command::Plot(arguments) => plot::run(&arguments),
            Command::Predict(arguments) => predict::run(&arguments),
            Command::Impute(arguments) => impute::run(*arguments),
            Command::Classify(arguments) => classify::run(*arguments),
            Command::Label(arguments) => label::run(*arguments),
            Command::Generate(arguments) => generate::run(*arguments),
            Command::Translate(arguments) => translate::run(*arguments),
            Command::Score(arguments) => score::run(*arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Selfcheck(arguments) => selfcheck::run(&arguments),
            Command::Describe(arguments) => describe::run(&arguments),
            Command::Gradients(arguments) => gradients::run(&arguments),
            Command::Run(arguments) => run::run(&arguments),
            Command::Convert(arguments) => convert::run(&arguments),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Tune(arguments) => tune::run(&arguments),
        }
    }
}

fn main() -> ExitCode {
    environment::prepare();
    notices::install();
    match forecast_words().and_then(|words| Arguments::parse_from(words).command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed pipe must not turn a message into a panic.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

/// The commands that take `--config`.
const CONFIGURED: [&str; 3] = ["forecast", "backtest", "sweep"];

/// The command line; that of a command that takes a configuration file, with the options in it.
fn forecast_words() -> Result<Vec<std::ffi::OsString>, Failure> {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let text: Option<Vec<String>> = words.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    match text {
        Some(text) if text.get(1).is_some_and(|command| CONFIGURED.contains(&command.as_str())) => {
            Ok(forecast::with_config(text)?.into_iter().map(Into::into).collect())
        }
        _ => Ok(words),
    }
}

/// The option for the device, shared by several commands.
#[derive(clap::Args, Clone, Debug)]
struct DeviceArgument {
    /// Where to compute: auto (a real GPU, else the CPU), gpu, cpu, or part of an adapter's name
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceChoice,
}

/// The option for the scans of a GPU, shared by several commands.
#[derive(clap::Args, Clone, Copy, Debug)]
struct ScanArgument {
    /// How a GPU spreads the steps of a recurrent layer over dispatches: auto (as suits device and shape), step (one
    /// dispatch each), workgroup (all in one, where the layer allows it), or grid (the same with several workgroups that
    /// wait for each other, where the device has shown that it runs them at the same time)
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    scan: ScanChoice,
}

/// The option for the matrix products of a GPU, shared by several commands.
#[derive(clap::Args, Clone, Copy, Debug)]
struct ProductArgument {
    /// How a GPU multiplies matrices: auto (as suits device and shape), streamed (both sides from the caches), or staged
    /// (through the memory of workgroups, where the device has 16 KiB of it)
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true)]
    product: ProductChoice,
}

/// The options for where to compute, shared by the commands that do.
#[derive(clap::Args, Clone, Debug)]
struct ComputeArguments {
    #[command(flatten)]
    device: DeviceArgument,
    /// Threads of the CPU device; the results are the same for any number [default: GATEFOLD_THREADS, else one per core]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_THREADS as u64))]
    threads: Option<usize>,
    #[command(flatten)]
    scan: ScanArgument,
    #[command(flatten)]
    product: ProductArgument,
}

impl ComputeArguments {
    fn choice(&self) -> &DeviceChoice {
        &self.device.device
    }

    /// Opens the device. Warns about a software adapter, which is only taken on request, and about threads that are
    /// given for the CPU where `auto` takes a GPU.
    fn open(&self, quiet: bool) -> Result<Device, Failure> {
        let choice = self.choice();
        if self.threads.is_some() && !matches!(choice, DeviceChoice::Auto | DeviceChoice::Cpu) {
            return Err(Failure::Usage(format!(
                "--threads is for the CPU device, and --device {choice} asks for a GPU; leave one of them out"
            )));
        }
        if self.scan.scan != ScanChoice::Auto && *choice == DeviceChoice::Cpu {
            return Err(Failure::Usage(
                "--scan is for GPUs, and --device cpu is none; leave one of them out".into(),
            ));
        }
        if self.product.product != ProductChoice::Auto && *choice == DeviceChoice::Cpu {
            return Err(Failure::Usage(
                "--product is for GPUs, and --device cpu is none; leave one of them out".into(),
            ));
        }
        let options = GpuOptions::default().scan(self.scan.scan).product(self.product.product);
        let device = match (Gpu::request(choice, &options)?, self.threads) {
            (Some(gpu), _) => Device::Gpu(gpu),
            (None, None) => Device::cpu()?,
            (None, Some(count)) => Device::cpu_with_threads(count)?,
        };
        if quiet {
            return Ok(device);
        }
        if let (Some(_), Device::Gpu(gpu)) = (self.threads, &device) {
            let name = &gpu.info().name;
            eprintln!(
                "warning   --threads has no effect: --device auto takes {name}; --device cpu takes the CPU"
            );
        }
        if let Some(warning) = device.warning() {
            eprintln!("warning   {warning}");
        }
        Ok(device)
    }
}
