//! Models of one series: what each is fitted on, and the forecasts that a fitted one makes.

mod ar;
mod arima;
mod decompose;
mod ets;
mod hmm;
mod kalman;
mod least_squares;
mod linear;
mod minimise;
mod mstl;
mod naive2;
mod recursion;
mod ridge;
mod theta;

pub use ar::Ar;
pub use arima::{Arima, ArimaOrder, FittedArima};
pub use ets::{Ets, EtsError, EtsForm, EtsParameters, EtsSeason, EtsTrend, FittedEts};
pub use hmm::{FittedHmm, Hmm};
pub use kalman::{FittedKalman, Kalman, KalmanForm, SmoothedSeries};
pub use mstl::Mstl;
pub use naive2::Naive2;
pub use theta::Theta;

use crate::{Covariates, SeriesError};
use ndarray::Array2;
use std::fmt::Debug;
use std::ops::Range;

pub use linear::{CovariateUnit, FittedLinear, Linear, ValueUnit, fourier};
pub use ridge::{Ridge, Sums};

/// A forecasting model with its options, not yet fitted.
pub trait Model: Debug + Send + Sync {
    /// The name in tables and options, such as `ets` or `seasonal naive (12)`.
    fn name(&self) -> String;

    /// Fits the model's parameters to a series, oldest sample first.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when the series is too short, constant or otherwise unfit for this model.
    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError>;

    /// Fits the model's parameters to a series and what is known beside it. Most models use the series alone.
    ///
    /// # Errors
    /// Those of [`Model::fit`], and of [`Covariates::check`].
    fn fit_with(
        &self,
        series: &[f64],
        _covariates: &Covariates,
    ) -> Result<Box<dyn FittedModel>, SeriesError> {
        self.fit(series)
    }
}

/// A model whose parameters are known.
pub trait FittedModel: Debug + Send + Sync {
    /// Forecasts of the `horizon` samples that follow each origin, `[origins, horizon]`, with the parameters as they were
    /// fitted. An origin is the number of known samples; later ones are not used.
    ///
    /// `series` starts at the sample that the fitted series started at, and may be longer: whatever the model carries
    /// through time (a level, a season, a hidden state) then follows the new samples.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when too few samples come before an origin, or the series ends before one.
    fn forecasts(
        &self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError>;

    /// [`FittedModel::forecasts`] of a model that was fitted with [`Model::fit_with`], from covariates of the same columns.
    ///
    /// # Errors
    /// Those of [`FittedModel::forecasts`], and of [`Covariates::check`].
    fn forecasts_with(
        &self,
        series: &[f64],
        _covariates: &Covariates,
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        self.forecasts(series, origins, horizon)
    }

    /// Forecasts the `horizon` samples that follow `past`.
    ///
    /// # Errors
    /// Those of [`FittedModel::forecasts`].
    fn forecast(&self, past: &[f64], horizon: usize) -> Result<Vec<f64>, SeriesError> {
        let forecasts = self.forecasts(past, past.len()..past.len() + 1, horizon)?;
        Ok(forecasts.into_raw_vec_and_offset().0)
    }

    /// The choices that the fit made, such as an order or a form, in a few words; `None` for a model without any.
    fn describe(&self) -> Option<String> {
        None
    }
}

impl Model for crate::Baseline {
    fn name(&self) -> String {
        self.to_string()
    }

    fn fit(&self, series: &[f64]) -> Result<Box<dyn FittedModel>, SeriesError> {
        self.forecasts(series, series.len()..series.len() + 1, 1)?; // refuses a series that is too short
        Ok(Box::new(*self))
    }
}

impl FittedModel for crate::Baseline {
    fn forecasts(
        &self,
        series: &[f64],
        origins: Range<usize>,
        horizon: usize,
    ) -> Result<Array2<f64>, SeriesError> {
        crate::Baseline::forecasts(*self, series, origins, horizon)
    }
}
