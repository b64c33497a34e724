use std::io;
use std::path::{Path, PathBuf};

/// A problem with a table, a series or a request for either. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The operating system refused a read or a write.
    #[error("{}: {problem}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's message, or what to do.
        problem: String,
    },
    /// A table that cannot be used as a whole.
    #[error("{}: {problem}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The problem and what to do about it.
        problem: String,
    },
    /// A cell or a line with a problem.
    #[error("{}, line {line}{}: {problem}", path.display(), column.as_ref().map_or_else(String::new, |name| format!(", column {name}")))]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line in the file, counted from 1.
        line: usize,
        /// Name of the column, if the problem is a single cell.
        column: Option<String>,
        /// The problem and what to do about it.
        problem: String,
    },
    /// A series that is too short, constant or otherwise unfit for the request.
    #[error("{0}")]
    Series(String),
    /// Labels, predictions or a loss from which a metric cannot be computed.
    #[error("{0}")]
    Metric(String),
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
