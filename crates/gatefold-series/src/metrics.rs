mod classification;
mod confusion;
mod regression;

pub use classification::{accuracy, balanced_accuracy, perplexity};
pub use confusion::{ClassMetrics, ConfusionMatrix};
pub use regression::Metrics;
