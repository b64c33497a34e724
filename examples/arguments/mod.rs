//! Command line and common output of the task examples.

#![allow(dead_code, reason = "each example compiles its own copy of this module, and none needs all of it")]

use clap::Parser;
use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::{Device, DeviceChoice, Error, Gpu, NetworkConfig};
use ndarray::ArrayView1;
use std::path::PathBuf;
use std::time::Instant;

/// A task for a recurrent network; see the comment at the top of its source
#[derive(Parser)]
pub(crate) struct Arguments {
    /// auto, gpu, cpu, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Trains for a few seconds only, to see that it runs, not how well
    #[arg(long)]
    pub(crate) quick: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(skip = Instant::now())]
    started: Instant,
}

impl Arguments {
    /// Opens the device and prints its name.
    pub(crate) fn open(&self) -> Result<Device, Error> {
        let device = Device::open(&self.device)?;
        println!("device   {}", device.summary());
        Ok(device)
    }

    /// Opens the CPU device and, unless that is the one asked for, the GPU in each of its scans: a dispatch for each step,
    /// and whole sequences in workgroups. Says so if there is no GPU.
    pub(crate) fn every_device(&self) -> Result<Vec<Device>, Error> {
        let mut devices = vec![Device::cpu()?];
        for scan in [ScanChoice::Step, ScanChoice::Workgroup] {
            match Gpu::request(&self.device, &GpuOptions::new().scan(scan)) {
                Ok(Some(gpu)) => devices.push(Device::Gpu(gpu)),
                Ok(None) => {}
                Err(Error::NoAdapter { .. }) if scan == ScanChoice::Workgroup => {}
                Err(error @ Error::NoAdapter { .. }) => println!("no GPU   {error}"),
                Err(error) => return Err(error),
            }
        }
        Ok(devices)
    }

    /// Chooses between a number for the whole training and one for a quick run.
    pub(crate) fn choose(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }

    /// Prints the last line, the seconds since the program began.
    pub(crate) fn print_seconds(&self) {
        println!("\nseconds  {:.1}", self.started.elapsed().as_secs_f64());
    }
}

pub(crate) fn print_network(config: &NetworkConfig) {
    println!("network  {config}, {} parameters", config.parameter_count());
}

/// A learning rate that falls from `highest` to nearly 0 along half a cosine.
pub(crate) fn cosine(highest: f32, step: usize, steps: usize) -> f32 {
    let done = step as f32 / steps as f32;
    0.5 * highest * (1.0 + (std::f32::consts::PI * done).cos())
}

/// The path of a data file of the examples.
pub(crate) fn data(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "examples", "data", file].iter().collect()
}

/// The index of the largest value.
pub(crate) fn largest(values: ArrayView1<f32>) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).expect("at least one value")
}
