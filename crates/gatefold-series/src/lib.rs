//! Time series for recurrent networks: tables in, windows and batches out, and what a forecast is measured by.
//!
//! A [`Table`] is read from a CSV file; a column of it becomes a series. [`Split`] cuts the series into a training,
//! a validation and a test part, oldest first; a [`Scaler`] is fitted on the training part alone; [`Windows`] cuts
//! inputs and the blocks that follow them, as time-major arrays that the engine takes. [`Baseline`] forecasts
//! without learning, [`Metrics`] says how far off a forecast is, [`plot`] draws it.
//!
//! ```
//! use gatefold_series::{Baseline, Metrics, Scaler, Split, WindowConfig, Windows};
//!
//! let series: Vec<f64> = (0..200).map(|t| (t as f64 * 0.3).sin() + 0.01 * t as f64).collect();
//! let split = Split::new(series.len(), 0.2, 0.1)?; // the last 20 % to test, 10 % of the rest to validate
//! let scaler = Scaler::standard(&series[split.train()])?;
//! let scaled = scaler.scale(&series);
//!
//! let config = WindowConfig::new(12, 1, 3); // 12 steps of 1 sample in, the next 3 samples out
//! let windows = Windows::new(&scaled, config, split.train())?;
//! let batch = windows.batch(&windows.order(7, 0)[..4]); // seed 7, epoch 0
//! assert_eq!(batch.input.shape(), [12, 4, 1]);
//! assert_eq!(batch.target.shape(), [1, 4, 3]);
//!
//! let origins = split.origins(3); // every moment of the test part from which 3 samples can be forecast
//! let forecast = Baseline::RepeatLast.forecasts(&series, origins.clone(), 3)?;
//! let metrics = Metrics::of_forecasts(&series, origins, &forecast, &series[split.past()])?;
//! assert!(metrics.mae > 0.0);
//! # Ok::<(), gatefold_series::SeriesError>(())
//! ```

mod baseline;
mod date;
mod error;
mod level;
mod metrics;
pub mod plot;
mod scaler;
mod season;
mod split;
mod table;
mod window;

pub use baseline::Baseline;
pub use date::labels_after;
pub use error::SeriesError;
pub use level::returns_to_level;
pub use metrics::Metrics;
pub use scaler::{Scaler, ScalerKind};
pub use season::find_season;
pub use split::Split;
pub use table::{Fill, Table, TableOptions};
pub use window::{Batch, WindowConfig, Windows};
