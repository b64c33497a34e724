//! Forecasting with recurrent networks, beside the models they must beat.
//!
//! A [`Forecaster`] fits one network to one series or to many: a GRU (or LSTM, or RNN) that forecasts what a linear
//! regression over the window leaves, so that an untrained network is the regression. Several networks with different
//! seeds are trained, and the median of their forecasts is taken.
//!
//! [`compare()`] judges such networks and the models of `gatefold-series` on the same samples: it fits each on the start of
//! the series, chooses the best on a validation part, and measures all on a test part. [`future()`] fits the best on
//! everything, and a [`Calibration`] makes an interval of the errors that it made. [`backtest()`] does so from several origins,
//! one after another, and measures intervals and quantiles too.
//!
//! ```
//! use gatefold::Device;
//! use gatefold_forecast::{Plan, Rolling, Seasons, Settings, backtest, candidates, compare, future};
//!
//! // Twelve years of months with a season and a trend.
//! let sales: Vec<f64> =
//!     (0..144).map(|t| 50.0 + 0.2 * t as f64 + 9.0 * (t as f64 * 0.5236).sin() + (t * t % 7) as f64).collect();
//! let series = [sales.as_slice()];
//!
//! let seasons = Seasons::new(&[12]);
//! let plan = Plan::new(&series, 6, seasons.shortest(), None)?; // six months ahead, the last fifth held out
//! let settings = Settings { members: 1, updates: 60, ..Settings::new(6, Some(12), &[plan.train(144).len()]) };
//! let models = ["seasonal", "ets", "linear", "network"].map(str::to_owned);
//! let models = candidates(Some(&models), &seasons, &settings, &series)?;
//!
//! let device = Device::cpu()?;
//! let comparison = compare(&device, &series, &plan, &models, &mut ())?;
//! for model in &comparison.models {
//!     println!("{:<20} {:.2}", model.name, model.scores.mae);
//! }
//! let best = &comparison.models[comparison.best];
//! let next = future(&device, &series, &comparison, comparison.best, &models, &mut ())?.forecasts;
//! // Intervals of 95 % reach as many bands of the model around its forecast.
//! let bands = best.calibrations.of(0).and_then(|calibration| calibration.factor(0.95));
//! println!("{}: {:.1} in six months", best.name, next[[0, 5]]);
//! assert!(bands.is_some_and(|bands| bands > 0.0) && (60.0..100.0).contains(&next[[0, 5]]));
//!
//! // The same models from four origins, each knowing what came before it and nothing else.
//! let rolling = Rolling::new(&series, 6, seasons.shortest(), Some(4), None)?;
//! let results = backtest(&device, &series, &rolling, &models, &mut ())?;
//! let measures = results.measures(results.best);
//! println!("{}: CRPS {:.2}", results.models[results.best].name, measures.crps.unwrap());
//! assert!(measures.coverage.unwrap() > 0.5 && results.by_step(results.best).len() == 6);
//! # Ok::<(), gatefold_forecast::ForecastError>(())
//! ```

mod backtest;
mod beside;
mod calibrate;
mod candidates;
mod columns;
mod compare;
mod distributions;
mod encode;
mod error;
mod events;
mod gradients;
mod heads;
mod ids;
mod linear_branch;
mod made_up;
mod members;
mod network;
mod plan;
mod rate;
mod saved;
mod settings;
mod shared;

pub use backtest::{Backtest, CRPS_LEVELS, Measures, Refit, Rolled, Rolling, backtest};
pub use beside::Beside;
pub use calibrate::{Calibration, Calibrations, Intervals};
pub use candidates::{MODELS, NETWORKS, Seasons, candidates, typical};
pub use columns::Unseen;
pub use compare::{
    Candidate, Comparison, Future, Judged, Scores, Stage, Watcher, compare, future, mean_band, naive_error,
};
pub use error::ForecastError;
pub use events::EventWriter;
pub use gatefold::layers::CellKind;
pub use heads::Loss;
pub use ids::{Ids, MOST_IDS};
pub use made_up::MadeUp;
pub use members::{Fitted, Forecaster, Progress, Validation, Watch};
pub use plan::Plan;
pub use saved::input_steps;
pub use settings::{Architecture, OptimizerKind, Settings};
