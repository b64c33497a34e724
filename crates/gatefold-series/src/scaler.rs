use crate::SeriesError;
use serde::{Deserialize, Serialize};

/// The two ways to scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalerKind {
    /// To mean 0 and standard deviation 1.
    Standard,
    /// To the range 0 to 1.
    MinMax,
}

/// The affine map `(x - offset) / scale`, fitted on the training part and applied to the whole series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    kind: ScalerKind,
    offset: f64,
    scale: f64,
}

impl Scaler {
    /// Scales `train` to mean 0 and standard deviation 1 (its variance divided by n, as in scikit-learn).
    ///
    /// # Errors
    /// [`SeriesError::Series`] when `train` is empty or constant.
    pub fn standard(train: &[f64]) -> Result<Scaler, SeriesError> {
        check(train)?;
        let mean = train.iter().sum::<f64>() / train.len() as f64;
        let variance = train.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / train.len() as f64;
        Scaler::checked(ScalerKind::Standard, mean, variance.sqrt())
    }

    /// Scales `train` to the range 0 to 1.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when `train` is empty or constant.
    pub fn min_max(train: &[f64]) -> Result<Scaler, SeriesError> {
        check(train)?;
        let (low, high) = bounds(train);
        Scaler::checked(ScalerKind::MinMax, low, high - low)
    }

    fn checked(kind: ScalerKind, offset: f64, scale: f64) -> Result<Scaler, SeriesError> {
        if !offset.is_finite() || !scale.is_finite() || scale <= 0.0 {
            let problem = "the values are too large or too close together to scale; change their unit";
            return Err(SeriesError::Series(problem.into()));
        }
        Ok(Scaler { kind, offset, scale })
    }

    /// The way this scaler scales.
    pub fn kind(&self) -> ScalerKind {
        self.kind
    }

    /// Scales values for the network.
    pub fn scale(&self, values: &[f64]) -> Vec<f32> {
        values.iter().map(|value| ((value - self.offset) / self.scale) as f32).collect()
    }

    /// Converts a scaled value back to the table's unit.
    pub fn unscale(&self, value: f32) -> f64 {
        f64::from(value) * self.scale + self.offset
    }

    /// Converts a difference of scaled values back to the table's unit, without the offset.
    pub fn unscale_difference(&self, value: f32) -> f64 {
        f64::from(value) * self.scale
    }

    /// One line of JSON, for a model's metadata.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("two finite numbers and a name are JSON")
    }

    /// Reads the output of [`Scaler::to_json`].
    ///
    /// # Errors
    /// [`SeriesError::Series`] for any other text.
    pub fn from_json(text: &str) -> Result<Scaler, SeriesError> {
        let scaler: Scaler = serde_json::from_str(text)
            .map_err(|error| SeriesError::Series(format!("not a scaler: {error}; found '{text}'")))?;
        Scaler::checked(scaler.kind, scaler.offset, scaler.scale)
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

fn check(train: &[f64]) -> Result<(), SeriesError> {
    let (low, high) = bounds(train);
    match () {
        () if train.is_empty() => Err(SeriesError::Series("there are no values to fit a scaler on".into())),
        () if low == high => Err(SeriesError::Series(format!(
            "the series is constant: all {} values of its training part are {low}; choose a column that changes",
            train.len()
        ))),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        let standard = Scaler::standard(&[1.0, 3.0]).unwrap();
        assert_eq!(standard.scale(&[1.0, 2.0, 3.0, 6.0]), [-1.0, 0.0, 1.0, 4.0]);
        let min_max = Scaler::min_max(&[2.0, 4.0, 3.0]).unwrap();
        assert_eq!(min_max.scale(&[2.0, 3.0, 4.0, 8.0]), [0.0, 0.5, 1.0, 3.0]);
        assert_eq!(min_max.unscale(0.5), 3.0);
        assert_eq!(min_max.unscale_difference(0.5), 1.0);
    }

    #[test]
    fn a_constant_or_empty_part_is_refused() {
        for fit in [Scaler::standard, Scaler::min_max] {
            let error = fit(&[0.1; 7]).unwrap_err().to_string();
            assert!(
                error.starts_with("the series is constant: all 7 values of its training part are 0.1"),
                "{error}"
            );
            assert!(fit(&[]).is_err());
            assert!(fit(&[-1e308, 1e308]).is_err(), "the range overflows");
        }
    }

    #[test]
    fn other_json_is_refused() {
        let others = ["", "{}", r#"{"kind":"standard","offset":0.0,"scale":0.0}"#];
        let read: Vec<Scaler> = others.into_iter().filter_map(|text| Scaler::from_json(text).ok()).collect();
        assert!(read.is_empty(), "{read:?}");
    }

    proptest! {
        #[test]
        fn scaling_and_json_can_be_undone(values in proptest::collection::vec(-1e6..1e6f64, 2..50)) {
            for scaler in [Scaler::standard(&values), Scaler::min_max(&values)].into_iter().flatten() {
                let back = Scaler::from_json(&scaler.to_json()).unwrap();
                prop_assert_eq!(&back, &scaler); // exactly: a resumed run must see the same inputs
                let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
                for (value, scaled) in values.iter().zip(scaler.scale(&values)) {
                    // One rounding to f32 of a number of at most sqrt(n) scales, and the offset's rounding in f64.
                    let bound = scaler.scale * f64::from(scaled.abs()) * f64::from(f32::EPSILON) + 1e-12 * largest;
                    prop_assert!((scaler.unscale(scaled) - value).abs() <= bound);
                }
            }
        }
    }
}
