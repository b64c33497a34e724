use std::io;
use std::path::{Path, PathBuf};

/// What can be wrong with a table, a series or what is asked of them. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The operating system refused a read or a write.
    #[error("{}: {problem}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said, and what to do.
        problem: String,
    },
    /// A table that cannot be read as a whole.
    #[error("{}: {problem}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// One cell, or one line, that is not as expected.
    #[error("{}, line {line}{}: {problem}", path.display(), column.as_ref().map_or_else(String::new, |name| format!(", column {name}")))]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line in the file, counted from 1.
        line: usize,
        /// The column's name, where it is one cell.
        column: Option<String>,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A series that is too short, constant or otherwise not fit for what was asked.
    #[error("{0}")]
    Series(String),
    /// A plot that could not be drawn.
    #[error("plot: {0}")]
    Plot(String),
}

impl SeriesError {
    pub(crate) fn io(path: &Path, source: &io::Error) -> Self {
        let problem = match source.kind() {
            io::ErrorKind::NotFound => "there is no such file; check the path".into(),
            io::ErrorKind::IsADirectory => "this is a directory; expected a file".into(),
            io::ErrorKind::PermissionDenied => "permission denied; check who may read or write it".into(),
            _ => source.to_string(),
        };
        SeriesError::Io { path: path.into(), problem }
    }
}
