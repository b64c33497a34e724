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
    /// Parameters for which there is no memory.
    #[error(
        "the parameters need {bytes} bytes ({:.1} GiB), more memory than this machine gives; the largest is {largest} with \
         shape {shape:?}; use smaller widths",
        *bytes as f64 / f64::from(1 << 30)
    )]
    Memory {
        /// All parameters together.
        bytes: u128,
        /// The name of the largest parameter.
        largest: String,
        /// Its shape.
        shape: Vec<usize>,
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
