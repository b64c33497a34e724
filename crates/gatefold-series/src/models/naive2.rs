use super::decompose::Seasonal;
use super::recursion::{Recursion, check};
use super::{FittedModel, Model};
use crate::SeriesError;

/// The M4 competition's deseasonalised naive forecast (Makridakis, Spiliotis and Assimakopoulos 2020, "The M4
/// competition: 100,000 time series and 61 forecasting methods"), by which its measures are scaled.
///
/// If the autocorrelation at the season's lag lies outside its 90 % limits, the classical decomposition gives an index
/// for each sample of the season, a factor for positive series and a summand for others. The forecast is the last
/// sample without its index, repeated, with the indices of the samples ahead. Without such a season, and in fewer than
/// three seasons, it repeats the last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naive2 {
    season: usize,
}

impl Naive2 {
    /// A forecast for series that may repeat after `season` samples; 1 for none.
    pub fn new(season: usize) -> Self {
        Naive2 { season }
    }
}

impl Model for Naive2 {
    fn name(&self) -> String {
        "naive2".into()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        check(&self.name(), series, 1)?;
        Ok(Box::new(FittedNaive2 { seasonal: Seasonal::of_m4(series, self.season) }))
    }
}

#[derive(Clone, Debug)]
struct FittedNaive2 {
    seasonal: Seasonal,
}

impl Recursion for FittedNaive2 {
    /// The number of samples, and the last one without its season.
    type State = (usize, f64);

    fn name(&self) -> String {
        "naive2".into()
    }

    fn start(&self) -> Self::State {
        (0, 0.0)
    }

    fn follow(&self, (t, last): &mut Self::State, sample: f64) {
        *last = self.seasonal.remove(*t, sample);
        *t += 1;
    }

    fn ahead(&self, (t, last): &Self::State, out: &mut [f64]) {
        out.iter_mut().enumerate().for_each(|(k, value)| *value = self.seasonal.add(t + k, *last));
    }
}
