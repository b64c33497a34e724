//! Descriptions of training, without any computation: the loss, the optimiser, the learning rate over time, and the
//! parameters they apply to.

mod config;
mod loss;
mod optimizer;
mod schedule;

pub use config::{ParameterGroup, ParameterRule, TrainConfig, check_learning_rate};
pub use loss::{Loss, Reduction};
pub use optimizer::Optimizer;
pub use schedule::{Schedule, ScheduleState};
