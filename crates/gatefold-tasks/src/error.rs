use gatefold_series::SeriesError;

/// A problem with the data, the settings or the device. Each message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A table that does not suit the request.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// A refusal or a failure of the engine.
    #[error(transparent)]
    Engine(#[from] gatefold::Error),
    /// A network that cannot be described, or a file.
    #[error(transparent)]
    Model(#[from] gatefold_model::ModelError),
    /// Data that the task cannot be learnt from.
    #[error("{0}")]
    Data(String),
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Settings(String),
    /// A stop was asked for; what was finished is kept.
    #[error("stopped")]
    Stopped,
}
