//! Multiply-adds that never leave the registers: the most that a core can do.

use crate::instructions::{Instructions, mul_add};
use pulp::{Simd, WithSimd};
use std::hint::black_box;

/// Independent sums. A multiply-add takes about four cycles and a core begins two in each, so eight would do; with the
/// factor and the term they fit sixteen registers.
const SUMS: usize = 12;

/// The most rounds: sums of so many ones are exact.
const MOST_ROUNDS: u32 = 1 << 24;

/// The multiply-adds of a thread.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct MultiplyAdds {
    /// The number of them, one for each lane of a vector.
    pub count: u64,
    /// Their sum: each adds 1, so it equals `count` if all were done.
    pub sum: f64,
}

impl Instructions {
    /// Runs independent multiply-adds in registers on this thread, to time: 12 vectors of them a round.
    ///
    /// # Panics
    /// If there are more than 2^24 rounds, whose sums would be rounded.
    pub fn multiply_adds(self, rounds: u32) -> MultiplyAdds {
        assert!(rounds <= MOST_ROUNDS, "sums of {rounds} ones are exact");
        self.run(Work { rounds, factor: black_box(1.0), term: black_box(1.0) })
    }
}

struct Work {
    rounds: u32,
    factor: f32,
    term: f32,
}

impl WithSimd for Work {
    type Output = MultiplyAdds;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> MultiplyAdds {
        let (factor, term) = (simd.splat_f32s(self.factor), simd.splat_f32s(self.term));
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = mul_add(simd, *sum, factor, term);
            }
        }
        let lanes = bytemuck::cast_slice::<S::f32s, f32>(&sums);
        let sum = lanes.iter().map(|&lane| f64::from(lane)).sum();
        MultiplyAdds { count: u64::from(self.rounds) * lanes.len() as u64, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_multiply_add_is_done() {
        for instructions in Instructions::available() {
            for rounds in [0, 1, 7, 1000] {
                let MultiplyAdds { count, sum } = instructions.multiply_adds(rounds);
                assert_eq!(sum, count as f64, "{instructions}, {rounds} rounds");
                assert_eq!(count % (12 * u64::from(rounds.max(1))), 0, "{instructions}, {rounds} rounds");
            }
        }
    }
}
