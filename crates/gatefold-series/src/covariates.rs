use crate::SeriesError;

/// Columns that are known beside a series, at the same moments as its samples.
///
/// A past covariate is known up to the newest sample, as a measurement is. A future covariate is known ahead: a price
/// that is planned, a holiday. A model that forecasts `h` samples from an origin reads past covariates before the origin,
/// and future covariates up to `h` moments past it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Covariates {
    /// Past covariates, each at least as long as the series.
    pub past: Vec<Vec<f64>>,
    /// Future covariates, each at least as long as the series and the horizon after it.
    pub future: Vec<Vec<f64>>,
}

impl Covariates {
    /// No covariates.
    pub fn none() -> &'static Covariates {
        static NONE: Covariates = Covariates { past: Vec::new(), future: Vec::new() };
        &NONE
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.past.is_empty() && self.future.is_empty()
    }

    /// Checks that they reach as far as forecasts of `horizon` samples from `origin` read them.
    ///
    /// # Errors
    /// [`SeriesError::Series`] for a covariate that is too short, or has a value that is not finite in that range.
    pub fn check(&self, origin: usize, horizon: usize) -> Result<(), SeriesError> {
        for (kind, columns, needed) in
            [("past", &self.past, origin), ("future", &self.future, origin + horizon)]
        {
            for (at, column) in columns.iter().enumerate() {
                let name = at + 1;
                if column.len() < needed {
                    return Err(SeriesError::Series(format!(
                        "{kind} covariate {name} has {} values, and {needed} are needed: {} are missing",
                        column.len(),
                        needed - column.len()
                    )));
                }
                if let Some(moment) = column[..needed].iter().position(|value| !value.is_finite()) {
                    return Err(SeriesError::Series(format!(
                        "{kind} covariate {name} has no value at sample {}; fill it first",
                        moment + 1
                    )));
                }
            }
        }
        Ok(())
    }
}
