use crate::SeriesError;
use std::ops::Range;

/// A chronological split of a series into training, validation and test parts, oldest first.
///
/// A part holds the samples to forecast. Inputs may reach back into the part before it, as they would in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    train: usize,
    past: usize,
    len: usize,
}

impl Split {
    /// Takes the last `test` share of `len` samples as the test part and the last `validation` share of the rest as
    /// the validation part. Fractions of a sample go to the newer part.
    ///
    /// # Errors
    /// [`SeriesError::Series`] for a share outside `0 <= share < 1`, or when the training part, or another part with
    /// a share above 0, would be empty.
    pub fn new(len: usize, test: f64, validation: f64) -> Result<Split, SeriesError> {
        for (name, share) in [("test", test), ("validation", validation)] {
            if !(0.0..1.0).contains(&share) {
                let problem = format!("the {name} share is {share}; expected at least 0 and below 1");
                return Err(SeriesError::Series(problem));
            }
        }
        // Rounded to 9 digits first, so that 0.8 * 10 does not become 7.999 and lose a sample.
        let kept =
            |len: usize, share: f64| ((len as f64 * (1.0 - share) * 1e9).round() / 1e9).floor() as usize;
        let past = kept(len, test);
        let split = Split { train: kept(past, validation), past, len };
        let empty = |range: Range<usize>, share: f64| share > 0.0 && range.is_empty();
        if split.train == 0 || empty(split.test(), test) || empty(split.validation(), validation) {
            return Err(SeriesError::Series(format!(
                "{len} {} too few to split into training, validation and test parts; add rows",
                if len == 1 { "row is" } else { "rows are" }
            )));
        }
        Ok(split)
    }

    /// The oldest samples, for training.
    pub fn train(&self) -> Range<usize> {
        0..self.train
    }

    /// The samples between, for choosing between models, never for training.
    pub fn validation(&self) -> Range<usize> {
        self.train..self.past
    }

    /// Everything before the test part.
    pub fn past(&self) -> Range<usize> {
        0..self.past
    }

    /// The newest samples, for the final measurement.
    pub fn test(&self) -> Range<usize> {
        self.past..self.len
    }

    /// Every origin whose block of `horizon` samples lies in the test part. An origin is the number of known samples,
    /// so its block is `origin..origin + horizon`. Empty when the horizon is longer than the part.
    pub fn origins(&self, horizon: usize) -> Range<usize> {
        self.past..(self.len + 1).saturating_sub(horizon).max(self.past)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_parts_cover_the_series_in_order(len in 10usize..5000, test in 0.1..0.5f64, validation in 0.1..0.5f64) {
            // With shares from 10 % on, a series of fewer than 20 samples may leave a part empty.
            if let Ok(split) = Split::new(len, test, validation) {
                prop_assert_eq!(split.train().start, 0);
                prop_assert_eq!(split.train().end, split.validation().start);
                prop_assert_eq!(split.validation().end, split.test().start);
                prop_assert_eq!(split.past().end, split.test().start);
                prop_assert_eq!(split.test().end, len);
                prop_assert!((split.test().len() as f64 - len as f64 * test).abs() < 1.0 + 1e-6);
                prop_assert!(!split.train().is_empty() && !split.validation().is_empty() && !split.test().is_empty());
            } else {
                prop_assert!(len < 20, "{} rows should be enough", len);
            }
        }

        #[test]
        fn every_block_from_an_origin_lies_in_the_test_part(len in 20usize..500, horizon in 1usize..200) {
            let split = Split::new(len, 0.2, 0.1).unwrap();
            for origin in split.origins(horizon) {
                prop_assert!(split.test().start <= origin && origin + horizon <= split.test().end);
            }
            let expected = (split.test().len() + 1).saturating_sub(horizon);
            prop_assert_eq!(split.origins(horizon).len(), expected);
        }
    }

    #[test]
    fn shares_are_taken_from_the_end() {
        let split = Split::new(10, 0.2, 0.25).unwrap();
        assert_eq!((split.train(), split.validation(), split.test()), (0..6, 6..8, 8..10));
        let error = Split::new(1, 0.2, 0.1).unwrap_err().to_string();
        assert!(error.starts_with("1 row is too few to split"), "{error}");
        assert!(Split::new(10, 1.0, 0.1).is_err());
    }
}
