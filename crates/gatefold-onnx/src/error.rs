use std::path::PathBuf;

/// What can be wrong with an ONNX model, or with what is asked of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A file that is no model that can be read.
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
    /// An operator that is not among those read here.
    #[error("node {node}: the operator {operator} is not supported{others}; supported are {supported}")]
    Operator {
        /// The node's name, or its first output's where it has none.
        node: String,
        /// The operator, with its domain where that is not ONNX's own.
        operator: String,
        /// The other operators of the model that are not, as in `, nor are Loop, Range`; nothing if there are none.
        others: String,
        /// The names of those that are.
        supported: String,
    },
    /// A node that breaks its operator's rules, or whose inputs do not fit it.
    #[error("node {node} ({operator}): {problem}")]
    Node {
        /// The node's name, or its first output's where it has none.
        node: String,
        /// The operator.
        operator: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An array that was given to a model and does not fit it.
    #[error("input {name}: expected {expected}, found {found}")]
    Input {
        /// The model's name for it.
        name: String,
        /// The type and shape that fit.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Data or weights that do not fit RNN, GRU or LSTM, without a graph.
    #[error("{operator}: {problem}")]
    Recurrent {
        /// The operator.
        operator: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A graph that is no chain of this engine's layers; it can still be run.
    #[error("not a network that can be trained: {0}")]
    Import(String),
    /// A network that ONNX cannot express.
    #[error("{place}: {problem}")]
    Export {
        /// The layer, such as `layer 2 (lstm)`.
        place: String,
        /// What ONNX lacks.
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
