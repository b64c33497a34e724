//! `gatefold selfcheck`: checks that this machine's drivers compute correctly.

use crate::failure::Failure;
use crate::page::line;
use gatefold::devices::GpuOptions;
use gatefold::{DeviceChoice, Gpu};
use gatefold_check::{Report, selfcheck, validation};

/// Compares every kernel, and networks of every cell and layer forward and backward, with the reference on the CPU in
/// f64.
///
/// Prints a table per adapter with the worst error of each check as a share of its tolerance. Exit code 1 when a check
/// is out of tolerance, and when there is no adapter to check.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Check only this adapter: gpu for the best one, auto for a real GPU, or part of a name [default: all]
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
        Some(DeviceChoice::Cpu) => {
            return Err(Failure::Usage(
                "the CPU has no kernels to check; name an adapter, or leave out --device to check all".into(),
            ));
        }
        Some(choice) => vec![open(choice)],
        None => every_adapter()?,
    };
    let mut problems = Vec::new();
    for (index, gpu) in gpus.into_iter().enumerate() {
        let report = match gpu {
            Ok(gpu) => selfcheck(&gpu),
            // The other adapters are still worth checking.
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if !arguments.quiet {
            let gap = if index > 0 { "\n" } else { "" };
            line(format!("{gap}{report}"));
        }
        problems.extend(wrong(&report));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(problems.join("; ")))
}

/// Opens every adapter of this machine; an adapter that cannot be opened gives its error.
fn every_adapter() -> Result<Vec<Result<Gpu, String>>, Failure> {
    let gpus = Gpu::each(&GpuOptions::default());
    if gpus.is_empty() {
        return Err(Failure::failed(
            "there is no GPU adapter to check; install a Vulkan driver, such as Mesa's mesa-vulkan-drivers",
        ));
    }
    Ok(gpus.into_iter().map(|gpu| gpu.map_err(|error| error.to_string())).collect())
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
