//! The parts that `generate`, `translate` and `score` share: texts from files, and the unit that they are read in.

use crate::failure::Failure;
use gatefold_tasks::Unit;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// The unit that texts are read and written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnitChoice {
    /// characters
    Char,
    /// words, numbers and marks
    Word,
}

impl From<UnitChoice> for Unit {
    fn from(choice: UnitChoice) -> Unit {
        match choice {
            UnitChoice::Char => Unit::Char,
            UnitChoice::Word => Unit::Word,
        }
    }
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|found| bytes = found)
    };
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => refuse("there is no such file; check the path".into()),
        std::io::ErrorKind::IsADirectory => refuse("this is a directory; expected a file".into()),
        _ => refuse(error.to_string()),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        refuse(format!("line {} is not UTF-8; convert the file first", line + 1))
    })
}

/// The lines of a text that are not blank.
pub(crate) fn lines_of(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The file's name, for a report.
pub(crate) fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// Parses a share of values that dropout hides.
pub(crate) fn share_hidden(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("expected at least 0 and below 1".into()),
    }
}
