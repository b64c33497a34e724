//! The devices that tests run on.

use crate::validation;
use gatefold::devices::GpuOptions;
use gatefold::{Device, DeviceChoice, Error, Gpu};
use std::io::Write;
use std::sync::OnceLock;

/// With the value `require`, a test without an adapter fails instead of being skipped.
const VARIABLE: &str = "GATEFOLD_GPU";

/// The GPU that all tests of a process share. Without an adapter it prints a line that says so and gives none; the test
/// then returns.
///
/// # Panics
/// If there is no adapter and `GATEFOLD_GPU=require` is set, or if the driver refuses to open it.
pub fn test_gpu() -> Option<Gpu> {
    static SHARED: OnceLock<Result<Gpu, String>> = OnceLock::new();
    match SHARED.get_or_init(|| open(&GpuOptions::new())) {
        Ok(gpu) => Some(gpu.clone()),
        Err(why) => skipped(why),
    }
}

/// Every kind of device available, with its name: the CPU and, if [`test_gpu`] finds one, a GPU.
///
/// # Panics
/// As [`test_gpu`].
pub fn test_devices() -> Vec<(&'static str, Device)> {
    let gpu = test_gpu().map(|gpu| ("gpu", Device::Gpu(gpu)));
    [("cpu", Device::cpu().unwrap())].into_iter().chain(gpu).collect()
}

/// A GPU of the test's own, opened with these options.
///
/// # Panics
/// As [`test_gpu`].
pub fn test_gpu_with(options: &GpuOptions) -> Option<Gpu> {
    open(options).map_or_else(|why| skipped(&why), Some)
}

/// Prints the reason, which nobody would read otherwise.
fn skipped(why: &str) -> Option<Gpu> {
    assert!(
        std::env::var_os(VARIABLE).is_none_or(|value| value != "require"),
        "{VARIABLE}=require, but {why}"
    );
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    // Straight to stderr: the test runner swallows what passing tests print.
    let _ = writeln!(std::io::stderr(), "{test} skipped: {why}");
    None
}

/// A GPU, or the reason why there is none, in one line.
fn open(options: &GpuOptions) -> Result<Gpu, String> {
    validation::install_from_env();
    match Gpu::request(&DeviceChoice::Gpu, options) {
        Ok(Some(gpu)) => Ok(gpu),
        Ok(None) => unreachable!("device gpu is a GPU or an error"),
        Err(error @ Error::NoAdapter { .. }) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}
