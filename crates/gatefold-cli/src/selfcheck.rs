//! `gatefold selfcheck`: checks that this machine's drivers and its processor compute correctly.

use crate::failure::Failure;
use crate::page::line;
use gatefold::devices::GpuOptions;
use gatefold::{DeviceChoice, Gpu};
use gatefold_check::{Report, selfcheck, selfcheck_cpu, validation};

/// Compares every kernel, and networks of every cell and layer forward and backward, with the reference on the CPU in
/// f64.
///
/// Prints a table for each GPU adapter, and for the CPU device with each set of vector instructions that the processor
/// has, with the worst error of each check as a share of its tolerance. Exit code 1 when a check is out of tolerance,
/// and when an adapter cannot be opened.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Check only this: gpu for the best adapter, auto for a real GPU, part of a name, or cpu [default: all]
    #[arg(long, value_name = "D")]
    device: Option<DeviceChoice>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Only where GATEFOLD_VALIDATION=1 asks for it, as scripts/test-drivers does.
    validation::install_from_env();
    let gpus = match &arguments.device {
        Some(DeviceChoice::Cpu) => Vec::new(),
        Some(choice) => vec![open(choice)],
        None => every_adapter(),
    };
    let mut problems = Vec::new();
    let mut gap = "";
    let mut tell = |report: &Report| {
        if !arguments.quiet {
            line(format!("{gap}{report}"));
            gap = "\n";
        }
        wrong(report)
    };
    for gpu in gpus {
        match gpu {
            Ok(gpu) => problems.extend(tell(&selfcheck(&gpu))),
            // The others are still worth checking.
            Err(problem) => problems.push(problem),
        }
    }
    if matches!(arguments.device, None | Some(DeviceChoice::Cpu)) {
        match selfcheck_cpu() {
            Ok(reports) => problems.extend(reports.iter().filter_map(tell)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(problems.join("; ")))
}

/// Opens every adapter of this machine; an adapter that cannot be opened gives its error.
fn every_adapter() -> Vec<Result<Gpu, String>> {
    let gpus = Gpu::each(&GpuOptions::default());
    if gpus.is_empty() {
        eprintln!("warning   there is no GPU adapter to check; for one, install a Vulkan driver");
    }
    gpus.into_iter().map(|gpu| gpu.map_err(|error| error.to_string())).collect()
}

fn open(choice: &DeviceChoice) -> Result<Gpu, String> {
    match Gpu::request(choice, &GpuOptions::default()) {
        Ok(Some(gpu)) => Ok(gpu),
        Ok(None) => Err(format!(
            "device \"{choice}\": this machine has no real GPU; try --device gpu, which takes a software adapter too"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// The checks that are out of tolerance, in one line.
fn wrong(report: &Report) -> Option<String> {
    if report.passed() {
        return None;
    }
    let rows: Vec<String> = report
        .rows
        .iter()
        .filter(|row| !row.passed)
        .map(|row| format!("{} ({})", row.name, row.place.replace('\n', " ")))
        .collect();
    Some(format!(
        "{}: {} of {} checks failed: {}",
        report.device,
        rows.len(),
        report.rows.len(),
        rows.join(", ")
    ))
}
