//! Tasks that recurrent networks are used for, besides forecasting.
//!
//! A [`Task`] says which network it wants, how it is trained, and how wrong it is on a validation part; [`fit`] trains it,
//! and keeps the parameters that did best there.

mod classify;
mod error;
mod fit;
mod impute;
mod label;
mod long;
mod nearest;
mod parts;
mod recurrent;
mod saved;
mod scale;
mod words;

pub use classify::{Classifier, ClassifierData, ClassifyData, ClassifySettings, ClassifyTask, largest};
pub use error::TaskError;
pub use fit::{FitSettings, Fitted, Look, Task, Watch, fit};
pub use impute::{
    Filled, Hidden, ImputeData, ImputeErrors, ImputeSettings, ImputeTask, Imputer, ImputerData, METHODS,
    Method, Regressions, Rhythm,
};
pub use label::{
    LabelData, LabelSettings, LabelTask, Labeller, LabellerData, NEIGHBOURHOOD, Piece, Reader, most_probable,
};
pub use long::{Long, LongColumns, LongSequence, Part};
pub use parts::{fold, stratified};
pub use recurrent::{Cell, Recurrent};
pub use saved::{load, save};
pub use scale::Scale;
pub use words::{Sentence, Vocabulary, WordColumns, read_sentences};
