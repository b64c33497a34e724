use std::path::PathBuf;

/// The errors of a network's description, its parameters and its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A network that cannot be built, with the layer and the reason.
    #[error("{place}: {problem}")]
    Config {
        /// `network` or the layer, such as `layer 2 (dense)`.
        place: String,
        /// The problem, and the remedy.
        problem: String,
    },
    /// A training option out of its range.
    #[error("{option} is {found}; expected {expected}")]
    Option {
        /// The option, such as `optimizer: momentum`.
        option: String,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// A tensor whose shape does not match the network.
    #[error("{name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// The shape in the network's description.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A tensor that the network needs but that is missing.
    #[error("tensor {name} with shape {expected:?} is missing; found {found}")]
    Missing {
        /// The tensor's name.
        name: String,
        /// The shape in the network's description.
        expected: Vec<usize>,
        /// The names found, in one line.
        found: String,
    },
    /// A tensor that belongs to no layer of the network.
    #[error("tensor {name} with shape {found:?} belongs to no layer of this network")]
    Unexpected {
        /// The tensor's name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// Too little memory for the parameters.
    #[error(
        "the parameters need {bytes} bytes ({:.1} GiB), more memory than this machine gives; the largest is {largest} with \
         shape {shape:?}; use smaller widths",
        *bytes as f64 / f64::from(1 << 30)
    )]
    Memory {
        /// The bytes of all parameters together.
        bytes: u128,
        /// The name of the largest parameter.
        largest: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A file with unexpected content.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem, and the remedy.
        problem: String,
    },
    /// A read or write refused by the operating system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl ModelError {
    pub(crate) fn option(option: impl Into<String>, found: f32, expected: impl Into<String>) -> ModelError {
        ModelError::Option { option: option.into(), expected: expected.into(), found: found.to_string() }
    }
}
