//! `gatefold selfcheck`: checks that this machine's drivers and its processor compute correctly.

use crate::failure::Failure;
use crate::page::line;
use clap::builder::PossibleValuesParser;
use gatefold::devices::GpuOptions;
use gatefold::{DeviceChoice, Gpu};
use gatefold_check::{Report, selfcheck, selfcheck_cpu, selfcheck_rows, validation};

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
    /// Check only this row of the table, such as step_forward or cells; may be given several times
    #[arg(long, value_name = "ROW", value_parser = PossibleValuesParser::new(selfcheck_rows()), hide_possible_values = true)]
    only: Vec<String>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// The most times that an adapter in software is opened. Each keeps the kernels that it compiled, some GB in all.
const MOST_TIMES: usize = 4;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // Only where GATEFOLD_VALIDATION=1 asks for it, as scripts/test-drivers does.
    validation::install_from_env();
    let gpus = match &arguments.device {
        Some(DeviceChoice::Cpu) => Vec::new(),
        Some(choice) => often(|| vec![open(choice)]),
        None => often(every_adapter),
    };
    if gpus.is_empty() && arguments.device.is_none() {
        eprintln!("warning   there is no GPU adapter to check; for one, install a Vulkan driver");
    }
    let wanted = |row: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == row);
    let mut problems = Vec::new();
    let mut gap = "";
    let mut tell = |report: &Report| {
        if !arguments.quiet {
            line(format!("{gap}{report}"));
            gap = "\n";
        }
        wrong(report)
    };
    for gpus in gpus {
        match gpus {
            Ok(gpus) => problems.extend(tell(&selfcheck(&gpus, wanted))),
            // The others are still worth checking.
            Err(problem) => problems.push(problem),
        }
    }
    if matches!(arguments.device, None | Some(DeviceChoice::Cpu)) {
        match selfcheck_cpu(wanted) {
            Ok(reports) => problems.extend(reports.iter().filter_map(tell)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(problems.join("; ")))
}

/// Opens adapters, and those in software once more for each further core: their drivers compile on one core for each time
/// that they were opened.
fn often(open: impl Fn() -> Vec<Result<Gpu, String>>) -> Vec<Result<Vec<Gpu>, String>> {
    let mut gpus: Vec<_> = open().into_iter().map(|gpu| gpu.map(|gpu| vec![gpu])).collect();
    let is_software = |gpus: &Result<Vec<Gpu>, String>| gpus.as_ref().is_ok_and(|gpus| gpus[0].is_software());
    if gpus.iter().any(is_software) {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_TIMES));
        for _ in 1..cores {
            for (gpus, again) in gpus.iter_mut().zip(open()) {
                if let (Ok(gpus), Ok(again)) = (gpus, again)
                    && again.is_software()
                {
                    gpus.push(again);
                }
            }
        }
    }
    gpus
}

/// Opens every adapter of this machine; an adapter that cannot be opened gives its error.
fn every_adapter() -> Vec<Result<Gpu, String>> {
    Gpu::each(&GpuOptions::default()).into_iter().map(|gpu| gpu.map_err(|error| error.to_string())).collect()
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
