//! Reads, runs and writes ONNX models.
//!
//! [`OnnxModel::read`] reads a model of opset 7 to 22 and checks all of it: nothing in a file is trusted.
//! [`OnnxModel::run`] runs it on a device once, [`OnnxModel::on`] as often as you like. [`OnnxModel::import`] turns a
//! model that is a chain of this engine's layers into a network that can be trained and saved. [`export`] writes a
//! network as a model for other programs to run.
//!
//! Tensors may be float32, int64, int32 and bool; other types, such as double or float16, are refused by name.
//! Supported operators are RNN, GRU and LSTM with every attribute, input and output, and those that exporters write
//! around them.

mod census;
mod error;
mod evaluate;
mod export;
mod external;
pub mod gates;
mod graph;
mod import;
mod model;
mod operators;
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod proto;
mod read;
pub mod recurrent;
mod session;
mod tensor;

pub use error::OnnxError;
pub use export::{ExportOptions, export, write};
pub use graph::{Axis, Port};
pub use import::{GivenState, Imported, Layout};
pub use model::OnnxModel;
pub use session::Session;
pub use tensor::{ElementType, Tensor};
