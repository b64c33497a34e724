use std::path::PathBuf;

/// A problem with an ONNX model or with a request for one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file that cannot be read as a model.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem and what to do about it.
        problem: String,
    },
    /// The operating system refused a read or a write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An unsupported operator.
    #[error(
        "node {node}: the operator {operator} is not supported{others}; docs/onnx.md lists those that are"
    )]
    Operator {
        /// The node's name, or that of its first output if it has none.
        node: String,
        /// The operator, with its domain if that is not ONNX's own.
        operator: String,
        /// The model's other unsupported operators, as in `, nor are Loop, Range`; empty if there are none.
        others: String,
    },
    /// A node that breaks its operator's rules, or whose inputs do not fit it.
    #[error("node {node} ({operator}): {problem}")]
    Node {
        /// The node's name, or that of its first output if it has none.
        node: String,
        /// The operator.
        operator: String,
        /// The problem and what to do about it.
        problem: String,
    },
    /// An input array that does not fit the model.
    #[error("input {name}: expected {expected}, found {found}")]
    Input {
        /// The model's name for the input.
        name: String,
        /// The expected type and shape.
        expected: String,
        /// The type and shape found.
        found: String,
    },
    /// A stream that cannot do what is asked.
    #[error("{0}")]
    Stream(String),
    /// Data or weights that do not fit an RNN, GRU or LSTM used without a graph.
    #[error("{operator}: {problem}")]
    Recurrent {
        /// The operator.
        operator: &'static str,
        /// The problem.
        problem: String,
    },
    /// A graph that is not a chain of this engine's layers. It can still be run.
    #[error("not a network that can be trained: {0}")]
    Import(String),
    /// A network that ONNX cannot express.
    #[error("{place}: {problem}")]
    Export {
        /// The layer, such as `layer 2 (lstm)`.
        place: String,
        /// The feature that ONNX lacks.
        problem: String,
    },
    /// The engine, or the model crate, refused a network or its data.
    #[error(transparent)]
    Engine(#[from] gatefold::Error),
}

impl From<gatefold_model::ModelError> for OnnxError {
    fn from(error: gatefold_model::ModelError) -> OnnxError {
        OnnxError::Engine(error.into())
    }
}
