mod autocorrelation;
mod classification;
mod confusion;
mod panel;
mod probabilistic;
mod regression;

pub use autocorrelation::autocorrelation;
pub use classification::{accuracy, balanced_accuracy, perplexity};
pub use confusion::{ClassMetrics, ConfusionMatrix};
pub use panel::{Interval, Panel, PanelErrors, SeriesForecast};
pub use probabilistic::{coverage, crps_of_quantiles, crps_of_samples, interval_score, quantile_loss};
pub use regression::Metrics;
