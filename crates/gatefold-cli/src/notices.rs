//! Prints the engine's warnings on the standard error stream.

use gatefold_check::validation;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Prints the engine's warnings, and those of nobody else.
struct Notices;

impl Log for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gatefold" && metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("warning   {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Listens to the engine, unless the validation layer's judge is to do so.
pub(crate) fn install() {
    if std::env::var_os(validation::VARIABLE).is_none() && log::set_logger(&Notices).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}
