//! The random numbers of Hessian-free optimisation.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers of an update: a start far from that of the update before, whose numbers would return otherwise.
    pub(super) fn of_update(seed: u64, updates: u64) -> Random {
        Random(seed ^ Random(updates).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn sign(&mut self) -> f64 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_draw_numbers_of_their_own() {
        for seed in [0, 7] {
            let mut drawn = std::collections::HashSet::new();
            for updates in 0..20 {
                let mut random = Random::of_update(seed, updates);
                assert!((0..200).all(|_| drawn.insert(random.next())), "seed {seed}, update {updates}");
            }
        }
    }
}
