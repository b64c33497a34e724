//! From a file to named columns: each stage is a file of its own.

pub(crate) mod cells;
mod dialect;
mod encoding;
pub(crate) mod fill;
mod head;
mod number;
#[cfg(feature = "parquet")]
mod parquet;
mod plain;
pub(crate) mod sheet;
pub(crate) mod source;
mod words;

pub use cells::Delimiter;
pub use encoding::{Encoding, Legacy};
pub use fill::Fill;
pub(crate) use number::looks_numeric;
pub use plain::{Table, TableOptions};
pub(crate) use words::{is_missing, looks_dated, numbered_run, one_line, shown, unique_names};
