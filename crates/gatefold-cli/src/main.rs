//! The `gatefold` command: one module a subcommand.

mod bench;
mod cell;
mod convert;
mod describe;
mod devices;
mod environment;
mod failure;
mod forecast;
mod forecaster;
mod model_file;
mod npz;
mod page;
mod predict;
mod run;
mod selfcheck;

use clap::{Parser, Subcommand};
use failure::Failure;
use gatefold::{Device, DeviceChoice};
use std::process::ExitCode;

/// Recurrent networks on any GPU, or on none: train, forecast, prove a driver.
#[derive(Parser, Debug)]
#[command(name = "gatefold", version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was done is saved)";

// What the list says of a command stands in `about`: a doc comment here would hide the longer help of its own.
#[derive(Subcommand, Debug)]
enum Command {
    #[command(about = "Train on a column of a table, and forecast its last fifth beside honest baselines")]
    Forecast(forecast::Arguments),
    #[command(about = "Forecast what follows a table, with a model that `forecast` has trained")]
    Predict(predict::Arguments),
    #[command(about = "List what there is to compute on, and which of it `--device auto` takes")]
    Devices(devices::Arguments),
    #[command(about = "Compare every kernel with the reference on the adapters of this machine")]
    Selfcheck(selfcheck::Arguments),
    #[command(about = "Describe a network: layers, shapes, parameters, FLOP, memory, schedule")]
    Describe(describe::Arguments),
    #[command(about = "Run a model on arrays of a .npz file: ours, PyTorch's or ONNX's")]
    Run(run::Arguments),
    #[command(about = "Turn a model into another kind of file: ours, PyTorch's, ONNX")]
    Convert(convert::Arguments),
    #[command(about = "Time a stack of LSTM layers, once its results are checked")]
    Bench(bench::Arguments),
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Command::Forecast(arguments) => forecast::run(arguments),
            Command::Predict(arguments) => predict::run(&arguments),
            Command::Devices(arguments) => devices::run(&arguments),
            Command::Selfcheck(arguments) => selfcheck::run(&arguments),
            Command::Describe(arguments) => describe::run(&arguments),
            Command::Run(arguments) => run::run(&arguments),
            Command::Convert(arguments) => convert::run(&arguments),
            Command::Bench(arguments) => bench::run(&arguments),
        }
    }
}

fn main() -> ExitCode {
    environment::prepare();
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed pipe must not turn a message into a panic.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit_code()
        }
    }
}

/// Where to compute; an option that several commands share.
#[derive(clap::Args, Clone, Debug)]
struct DeviceArgument {
    /// Where to compute: auto (a real GPU, else the CPU), gpu, cpu, or part of an adapter's name
    #[arg(long, value_name = "D", default_value = "auto")]
    device: DeviceChoice,
}

impl DeviceArgument {
    /// Opens it; a software adapter is taken when asked for, with a warning.
    fn open(&self, quiet: bool) -> Result<Device, Failure> {
        let device = Device::open(&self.device)?;
        if let Some(warning) = device.warning().filter(|_| !quiet) {
            eprintln!("warning   {warning}");
        }
        Ok(device)
    }
}
