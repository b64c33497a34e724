//! From a path to bytes: files, standard input and gzip.

use crate::SeriesError;
use flate2::read::MultiGzDecoder;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest table: places in it are 32-bit.
pub(crate) const MOST_BYTES: u64 = (1 << 31) - 2;

/// The name of a table in messages.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
}

impl Source {
    pub(crate) fn new(path: &Path) -> Self {
        Source { path: if path == Path::new("-") { "standard input".into() } else { path.into() } }
    }

    pub(crate) fn table(&self, problem: impl Into<String>) -> SeriesError {
        SeriesError::Table { path: self.path.clone(), problem: problem.into() }
    }

    pub(crate) fn line(&self, line: usize, problem: impl Into<String>) -> SeriesError {
        SeriesError::Cell { path: self.path.clone(), line, column: None, problem: problem.into() }
    }

    pub(crate) fn cell(&self, line: usize, column: &str, problem: impl Into<String>) -> SeriesError {
        SeriesError::Cell {
            path: self.path.clone(),
            line,
            column: Some(column.into()),
            problem: problem.into(),
        }
    }

    /// The file name, for the report.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into())
    }
}

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, SeriesError> {
    let source = Source::new(path);
    let too_long = |len: u64| {
        source.table(format!(
            "{len} bytes or more; expected at most {MOST_BYTES}; split the table into several"
        ))
    };
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| SeriesError::io(&source.path, &error))?;
        bytes
    } else {
        let len = fs::metadata(path).map_err(|error| SeriesError::io(path, &error))?.len();
        if len > MOST_BYTES {
            return Err(too_long(len));
        }
        fs::read(path).map_err(|error| SeriesError::io(path, &error))?
    };
    if bytes.len() as u64 > MOST_BYTES { Err(too_long(bytes.len() as u64)) } else { Ok(bytes) }
}

/// The bytes, inflated if they are gzip. Says whether they were.
pub(crate) fn inflated(source: &Source, bytes: Vec<u8>) -> Result<(Vec<u8>, bool), SeriesError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok((bytes, false));
    }
    let mut out = Vec::new();
    let problem = |error: io::Error| source.table(format!("gzip: {error}; compress the table again"));
    MultiGzDecoder::new(bytes.as_slice()).take(MOST_BYTES + 1).read_to_end(&mut out).map_err(problem)?;
    if out.len() as u64 > MOST_BYTES {
        return Err(
            source.table(format!("over {MOST_BYTES} bytes when inflated; split the table into several"))
        );
    }
    Ok((out, true))
}
