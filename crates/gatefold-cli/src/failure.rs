use gatefold::{Error, ModelError};
use gatefold_onnx::OnnxError;
use gatefold_series::SeriesError;
use gatefold_tasks::TaskError;
use std::fmt;
use std::process::ExitCode;

/// The reason a command did not do what it was asked to; its text is printed for the user.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong: exit code 1.
    Failed(String),
    /// The command line contradicts itself: exit code 2, like everything that clap refuses.
    Usage(String),
    /// Ctrl-C, after everything was saved: exit code 130, the shell's code for it.
    Interrupted(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Interrupted(_) => 130,
        })
    }

    pub(crate) fn failed(problem: impl Into<String>) -> Self {
        Failure::Failed(problem.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(problem) | Failure::Usage(problem) => write!(f, "error: {problem}"),
            Failure::Interrupted(report) => f.write_str(report),
        }
    }
}

impl From<SeriesError> for Failure {
    fn from(error: SeriesError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        Failure::Failed(error.to_string())
    }
}

impl From<OnnxError> for Failure {
    fn from(error: OnnxError) -> Self {
        Failure::Failed(error.to_string())
    }
}
