use std::path::PathBuf;

/// What can be wrong with a network's description, its parameters or its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A network that cannot be built: which layer, and why.
    #[error("{place}: {problem}")]
    Config {
        /// `network` or the layer, such as `layer 2 (dense)`.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An option of training out of its range.
    #[error("{option} is {found}; expected {expected}")]
    Option {
        /// The option, such as `optimizer: momentum`.
        option: String,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// A tensor whose shape is not the network's.
    #[error("{name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape that the network's description asks for.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// A tensor that the network needs and that was not given.
    #[error("tensor {name} with shape {expected:?} is missing; found {found}")]
    Missing {
        /// The tensor's name.
        name: String,
        /// The shape that the network's description asks for.
        expected: Vec<usize>,
        /// The names that are there, in one line.
        found: String,
    },
    /// A tensor that the network has no place for.
    #[error("tensor {name} with shape {found:?} belongs to no layer of this network")]
    Unexpected {
        /// The tensor's name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A file that is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The operating system refused a read or a write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl ModelError {
    pub(crate) fn option(option: impl Into<String>, found: f32, expected: impl Into<String>) -> ModelError {
        ModelError::Option { option: option.into(), expected: expected.into(), found: found.to_string() }
    }
}
