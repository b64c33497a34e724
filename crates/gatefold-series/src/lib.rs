//! Time series for recurrent networks: tables, windows and batches, baselines, metrics and plots.
//!
//! A [`Dataset`] is read from a table as people have them: one series or several, evenly spaced on a [`Calendar`]. A
//! [`Table`] is the same file as plain columns. [`Split`] divides a series into training, validation and test parts,
//! oldest first. A [`Scaler`] is fitted on the training part alone. [`Windows`] cuts inputs and the blocks that follow
//! them into the time-major arrays that the engine takes. A [`Baseline`] forecasts without learning, [`Metrics`] measures
//! how far off a forecast is, and [`plot`] draws it.
//!
//! A [`Model`] is fitted to one series and forecasts from it, or from a longer past with the same parameters: [`Ar`],
//! [`Arima`], [`Ets`], [`Theta`], [`Mstl`], [`Kalman`], [`Hmm`]. A [`Panel`] compares forecasts of many series by the measures of the
//! M4 competition.
//!
//! Classifiers are measured by [`accuracy`], [`balanced_accuracy`], a [`ConfusionMatrix`] and [`perplexity`].
//!
//! ```
//! use gatefold_series::{Baseline, Metrics, Scaler, Split, WindowConfig, Windows};
//!
//! let series: Vec<f64> = (0..200).map(|t| (t as f64 * 0.3).sin() + 0.01 * t as f64).collect();
//! let split = Split::new(series.len(), 0.2, 0.1)?; // the last 20 % for the test, 10 % of the rest for validation
//! let scaler = Scaler::standard(&series[split.train()])?;
//! let scaled = scaler.scale(&series);
//!
//! let config = WindowConfig::new(12, 1, 3); // input: 12 steps of 1 sample; target: the next 3 samples
//! let windows = Windows::new(&scaled, config, split.train())?;
//! let batch = windows.batch(&windows.order(7, 0)[..4]); // seed 7, epoch 0
//! assert_eq!(batch.input.shape(), [12, 4, 1]);
//! assert_eq!(batch.target.shape(), [1, 4, 3]);
//!
//! let origins = split.origins(3); // every moment in the test part with 3 samples left to forecast
//! let forecast = Baseline::RepeatLast.forecasts(&series, origins.clone(), 3)?;
//! let metrics = Metrics::of_forecasts(&series, origins, &forecast, &series[split.past()])?;
//! assert!(metrics.mae > 0.0);
//! # Ok::<(), gatefold_series::SeriesError>(())
//! ```

mod baseline;
mod calendar;
mod choice;
mod covariates;
mod dataset;
mod date;
mod error;
mod level;
mod metrics;
mod models;
pub mod plot;
mod scaler;
mod season;
mod split;
mod table;
mod window;

pub use baseline::Baseline;
pub use calendar::{Calendar, CalendarFeature, Frequency, Unit};
pub use choice::{ErrorOrder, choose, clearly_better, mean_of};
pub use covariates::Covariates;
pub use dataset::{Aggregate, Dataset, Layout, ReadOptions, Series, StaticValue, TableReport};
pub use date::labels_after;
pub use error::SeriesError;
pub use level::returns_to_level;
pub use metrics::{
    ClassMetrics, ConfusionMatrix, Interval, Metrics, Panel, PanelErrors, SeriesForecast, accuracy,
    autocorrelation, balanced_accuracy, coverage, crps_of_quantiles, crps_of_samples, interval_score,
    perplexity, quantile_loss,
};
pub use models::{
    Ar, Arima, ArimaOrder, CovariateUnit, Ets, EtsError, EtsForm, EtsParameters, EtsSeason, EtsTrend,
    FittedArima, FittedEts, FittedHmm, FittedKalman, FittedLinear, FittedModel, Hmm, Kalman, KalmanForm,
    Linear, Model, Mstl, Naive2, Ridge, SmoothedSeries, Sums, Theta, ValueUnit, fourier,
};
pub use scaler::{Scaler, ScalerKind};
pub use season::find_season;
pub use split::Split;
pub use table::{Delimiter, Encoding, Fill, Legacy, Table, TableOptions};
pub use window::{Batch, WindowConfig, Windows};
