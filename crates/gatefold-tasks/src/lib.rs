//! Tasks that recurrent networks are used for, besides forecasting.
//!
//! A [`Task`] says which network it wants, how it is trained, and how wrong it is on a validation part; [`fit`] trains it,
//! and keeps the parameters that did best there.

mod error;
mod fit;
mod recurrent;
mod saved;

pub use error::TaskError;
pub use fit::{FitSettings, Fitted, Look, Task, Watch, fit};
pub use recurrent::{Cell, Recurrent};
pub use saved::{load, save};
