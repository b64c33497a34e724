//! Forecasting with recurrent networks, beside the models they must beat.
//!
//! A [`Forecaster`] fits one network to one series or to many: a GRU (or LSTM, or RNN) that forecasts what a linear
//! regression over the window leaves, so that an untrained network is the regression. Several networks with different
//! seeds are trained, and the median of their forecasts is taken.

mod calibrate;
mod candidates;
mod compare;
mod encode;
mod error;
mod members;
mod network;
mod saved;
mod settings;
mod shared;

pub use calibrate::Calibration;
pub use candidates::{MODELS, Seasons, candidates};
pub use compare::{Candidate, Comparison, Future, Judged, Plan, Scores, Stage, Watcher, compare, future};
pub use error::ForecastError;
pub use members::{Fitted, Forecaster, Progress, Validation, Watch};
pub use saved::input_steps;
pub use settings::{Cell, MedianLoss, OptimizerKind, Settings};
