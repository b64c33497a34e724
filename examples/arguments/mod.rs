//! What the examples of tasks take on their command lines, and the lines that they print alike.

#![allow(dead_code, reason = "each example has this module as its own, and none needs all of it")]

use clap::Parser;
use gatefold::{Device, DeviceChoice, Error, NetworkConfig};
use ndarray::ArrayView1;
use std::path::PathBuf;
use std::time::Instant;

/// A task for a recurrent network; the comment at the top of its source says which
#[derive(Parser)]
pub(crate) struct Arguments {
    /// auto, gpu, cpu, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// A small share of the training, in seconds: to see that it runs, not how well
    #[arg(long)]
    pub(crate) quick: bool,
    /// Of everything that is drawn at random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[arg(skip = Instant::now())]
    started: Instant,
}

impl Arguments {
    /// Opens the device, and says which it is.
    pub(crate) fn open(&self) -> Result<Device, Error> {
        let device = Device::open(&self.device)?;
        println!("device   {}", device.summary());
        Ok(device)
    }

    /// A number for the whole training, or that for a share of it.
    pub(crate) fn choose(&self, whole: usize, quick: usize) -> usize {
        if self.quick { quick } else { whole }
    }

    /// The last line.
    pub(crate) fn print_seconds(&self) {
        println!("\nseconds  {:.1}", self.started.elapsed().as_secs_f64());
    }
}

pub(crate) fn print_network(config: &NetworkConfig) {
    println!("network  {config}, {} parameters", config.parameter_count());
}

/// A learning rate that falls from `highest` to almost nothing along half a cosine.
pub(crate) fn cosine(highest: f32, step: usize, steps: usize) -> f32 {
    let done = step as f32 / steps as f32;
    0.5 * highest * (1.0 + (std::f32::consts::PI * done).cos())
}

/// Where the data of the examples lies.
pub(crate) fn data(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "examples", "data", file].iter().collect()
}

/// The place of the largest value.
pub(crate) fn largest(values: ArrayView1<f32>) -> usize {
    (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).expect("at least one value")
}
