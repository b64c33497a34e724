//! The rates of a device, which no network on it can exceed.

mod cpu;
mod gpu;

use crate::failure::Failure;
use gatefold::Device;
use serde_json::{Value, json};
use std::time::Duration;

/// The care taken with one rate.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// The least time of a measurement.
    least: Duration,
    /// Measurements. The best counts, since other work only ever slows one down.
    repeats: usize,
}

/// The rates of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Multiplications and additions in a second, of `f32`, fused and independent.
    pub(super) flop_per_s: f64,
    /// Bytes read and written in a second by a copy of a large buffer.
    pub(super) bytes_per_s: f64,
    /// Seconds that a dispatch takes which waits for the one before; 0 on the CPU.
    pub(super) launch_s: f64,
}

impl Rates {
    /// Measures a device in about a second.
    ///
    /// # Errors
    /// If the device fails or returns wrong results.
    pub(super) fn measure(device: &Device) -> Result<Rates, Failure> {
        match device {
            Device::Cpu(cpu) => cpu::measure(cpu),
            Device::Gpu(gpu) => gpu::measure(gpu),
            _ => Err(Failure::failed("only the CPU and GPUs have rates to measure")),
        }
    }

    pub(super) fn summary(&self) -> String {
        let launch = match self.launch_s {
            0.0 => String::new(),
            launch => format!(", a dispatch {} us", super::digits(launch * 1e6)),
        };
        format!(
            "arithmetic {} GFLOP/s, copy {} GB/s{launch}",
            super::digits(self.flop_per_s / 1e9),
            super::digits(self.bytes_per_s / 1e9)
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "gflops": self.flop_per_s / 1e9,
            "copy_gb_s": self.bytes_per_s / 1e9,
            "launch_us": self.launch_s * 1e6,
        })
    }
}

impl Effort {
    /// Doubles the amount of work until it takes long enough or reaches `most`, and returns the amount per second, the
    /// best of all measurements. The work returns its duration, and an error if its result is wrong.
    fn best_rate(
        self,
        most: u32,
        mut work: impl FnMut(u32) -> Result<Duration, Failure>,
    ) -> Result<f64, Failure> {
        let mut amount = 1;
        while work(amount)? < self.least && amount < most {
            amount = (2 * amount).min(most);
        }
        let mut best = 0.0f64;
        for _ in 0..self.repeats {
            best = best.max(f64::from(amount) / work(amount)?.as_secs_f64());
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_long_runs_counts() {
        let effort = Effort { least: Duration::from_millis(50), repeats: 5 };
        let mut asked = Vec::new();
        let rate = effort.best_rate(1 << 20, |amount| {
            asked.push(amount);
            // 1 ms for each, and a hiccup in all but the third of the last runs.
            let hiccup = if asked.len() == 7 + 3 { 0 } else { 5 };
            Ok(Duration::from_millis(u64::from(amount) + hiccup))
        });
        assert_eq!(asked, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64]);
        assert_eq!(rate.unwrap(), 1e3);
        let mut most = 0;
        let short = effort.best_rate(20, |amount| {
            most = most.max(amount);
            Ok(Duration::from_micros(1))
        });
        assert_eq!((most, short.unwrap().round()), (20, 2e7));
        assert!(effort.best_rate(9, |_| Err(Failure::failed("lost"))).is_err());
    }

    #[test]
    fn a_summary_names_the_units() {
        let rates = Rates { flop_per_s: 1.5e12, bytes_per_s: 2e11, launch_s: 3.25e-6 };
        assert_eq!(rates.summary(), "arithmetic 1500 GFLOP/s, copy 200 GB/s, a dispatch 3.25 us");
        let cpu = Rates { launch_s: 0.0, ..rates };
        assert_eq!(cpu.summary(), "arithmetic 1500 GFLOP/s, copy 200 GB/s");
    }
}
