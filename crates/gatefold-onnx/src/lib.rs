//! ONNX models, in and out.
//!
//! [`OnnxModel::read`] reads a model of opset 7 to 22 and checks all of it: nothing in a file is trusted.
//! [`OnnxModel::run`] runs it on a device, [`OnnxModel::on`] does so again and again.
//! [`OnnxModel::import`] turns a model that is a chain of this engine's layers into a network that can be trained and
//! saved; [`export`] writes a network as a model that others run.
//!
//! Tensors are float32, int64, int32 and bool; of another type, such as double or float16, they are refused by name.
//! Operators: RNN, GRU and LSTM with every attribute, input and output; and those that exporters write around them.

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
