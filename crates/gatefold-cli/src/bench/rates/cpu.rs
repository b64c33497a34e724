//! The CPU's rates, with the threads and instructions of the device.

use super::{Effort, Rates};
use crate::failure::Failure;
use gatefold::devices::Cpu;
use std::thread::scope;
use std::time::{Duration, Instant};

/// Rounds of multiply-adds in a unit of work: some microseconds.
const ROUNDS: u32 = 1 << 10;
const MOST_UNITS: u32 = 1 << 12;
/// Bytes that the threads copy together: more than their caches hold.
const COPIED: usize = 256 << 20;

/// So short that some fall between the turns of other programs.
const ARITHMETIC: Effort = Effort { least: Duration::from_micros(500), repeats: 200 };
const COPIES: Effort = Effort { least: Duration::from_millis(5), repeats: 20 };

pub(super) fn measure(cpu: &Cpu) -> Result<Rates, Failure> {
    Ok(Rates { flop_per_s: arithmetic(cpu)?, bytes_per_s: copy(cpu)?, launch_s: 0.0 })
}

fn arithmetic(cpu: &Cpu) -> Result<f64, Failure> {
    let per_unit = cpu.instructions.multiply_adds(ROUNDS).count;
    let units = ARITHMETIC.best_rate(MOST_UNITS, |units| {
        // Each thread looks at the clock itself: starting one takes a tenth of the time that is measured.
        let work = || {
            let begin = Instant::now();
            (cpu.instructions.multiply_adds(units * ROUNDS).sum, begin.elapsed())
        };
        let done: Vec<_> = scope(|scope| {
            let threads: Vec<_> = (0..cpu.threads.count()).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().expect("sums do not panic")).collect()
        });
        let right = done.iter().all(|&(sum, _)| sum == (u64::from(units) * per_unit) as f64);
        let slowest = done.iter().map(|&(_, took)| took).max().filter(|_| right);
        slowest.ok_or_else(|| Failure::failed(format!("multiply-adds are wrong: {done:?}")))
    })?;
    Ok(2.0 * (per_unit * cpu.threads.count() as u64) as f64 * units)
}

fn copy(cpu: &Cpu) -> Result<f64, Failure> {
    let each = COPIED / cpu.threads.count() / 8;
    let mut buffers: Vec<_> = (0..cpu.threads.count()).map(|_| (vec![1u64; each], vec![0; each])).collect();
    let mut round = 0;
    let copies = COPIES.best_rate(1 << 8, |copies| {
        round += 1;
        let begin = Instant::now();
        scope(|scope| {
            for (from, to) in &mut buffers {
                scope.spawn(move || {
                    for copy in 0..copies {
                        from[each - 1] = (u64::from(copy) << 32) | round;
                        to.copy_from_slice(std::hint::black_box(from));
                        std::hint::black_box(&to);
                    }
                });
            }
        });
        let took: Duration = begin.elapsed();
        let right = buffers.iter().all(|(from, to)| from == to);
        right.then_some(took).ok_or_else(|| Failure::failed("a copy in memory differs from its source"))
    })?;
    Ok(2.0 * (8 * each * cpu.threads.count()) as f64 * copies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::Device;

    #[test]
    fn a_cpu_has_two_rates_and_launches_nothing() {
        let Ok(Device::Cpu(cpu)) = Device::cpu_with_threads(1) else { panic!("the CPU opens") };
        let rates = measure(&cpu).unwrap();
        // Slower than a tenth of the slowest machine in use, or faster than any core: units are confused.
        assert!((1e8..1e12).contains(&rates.flop_per_s), "{rates:?}");
        assert!((1e8..1e12).contains(&rates.bytes_per_s), "{rates:?}");
        assert_eq!(rates.launch_s, 0.0);
    }
}
