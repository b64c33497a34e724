//! Tasks that recurrent networks are used for, besides forecasting.
//!
//! A [`Task`] says which network it wants, how it is trained, and how wrong it is on a validation part; [`fit`] trains it,
//! and keeps the parameters that did best there.

mod agreement;
mod classify;
mod error;
mod examples;
mod fit;
mod generate;
mod impute;
mod label;
mod long;
mod n_gram;
mod nearest;
mod pairs;
mod parts;
mod rated;
mod recurrent;
mod saved;
mod scale;
mod score;
mod token_rows;
mod translate;
mod translation_metrics;
mod vocabulary;
mod words;

pub use agreement::Agreement;
pub use classify::{Classifier, ClassifierData, ClassifyData, ClassifySettings, ClassifyTask, largest};
pub use error::TaskError;
pub use examples::Examples;
pub use fit::{FitSettings, Fitted, Look, Task, Watch, fit};
pub use gatefold::layers::CellKind;
pub use generate::{GenerateScores, GenerateSettings, Generator, TextParts, suited_unit};
pub use impute::{
    ByMethod, Filled, Hidden, ImputeData, ImputeErrors, ImputeSettings, ImputeTask, Imputer, ImputerData,
    METHODS, Method, Regressions, Rhythm,
};
pub use label::{
    LabelData, LabelSettings, LabelTask, Labeller, LabellerData, NEIGHBOURHOOD, Piece, Reader, most_probable,
};
pub use long::{Long, LongColumns, LongSequence, Part};
pub use n_gram::NGrams;
pub use pairs::{Pair, PairColumns, PairParts, PairTable};
pub use parts::{fold, stratified};
pub use rated::{Rated, RatedColumns, RatedParts, RatedTable};
pub use recurrent::Recurrent;
pub use saved::{load, save, task_of};
pub use scale::Scale;
pub use score::{BagOfUnits, ScoreSettings, Scorer, fit_scorer, score_vocabulary};
pub use translate::{
    Languages, TranslateScores, TranslateSettings, Translation, Translator, fit_translator,
    nearest_translations, suited_pair_unit,
};
pub use translation_metrics::{bleu, chrf, edit_distance, exact_matches};
pub use vocabulary::{Unit, UnitVocabulary};
pub use words::{Sentence, Vocabulary, WordColumns, read_sentences};
