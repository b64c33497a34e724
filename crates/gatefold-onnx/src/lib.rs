//! Reads, runs and writes ONNX models.
//!
//! [`OnnxModel::read`] reads a model of opset 7 to 28 and checks all of it: nothing in a file is trusted.
//! [`OnnxModel::run`] runs it on a device once, [`OnnxModel::on`] as often as you like. [`OnnxModel::import`] turns a
//! model that is a chain of this engine's layers into a network that can be trained and saved. [`save`], [`write()`] and
//! [`export`] make a model of a network for other programs to run.
//!
//! ```
//! use gatefold::{Device, Network, NetworkConfig};
//! use gatefold_onnx::{ExportOptions, OnnxModel};
//! use ndarray::Array3;
//!
//! # let path = std::env::temp_dir().join(format!("gatefold-doc-{}.onnx", std::process::id()));
//! # let device = Device::cpu()?;
//! let config = NetworkConfig::with_input(3).gru(8).dense(2).build()?;
//! let network = Network::new(&device, &config, 1)?;
//! gatefold_onnx::save(&path, &network, ExportOptions::new())?;
//!
//! let back = OnnxModel::read(&path)?.import()?.network(&device)?;
//! assert_eq!(back.parameters()?, network.parameters()?);
//! assert_eq!(back.predict(&Array3::ones((5, 4, 3)))?.dim(), (5, 4, 2));
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), gatefold_onnx::OnnxError>(())
//! ```
//!
//! RNN, GRU and LSTM run on the device with every attribute, input and output. The operators around them are computed by
//! the library rten; the page docs/onnx.md of the repository lists them. Tensors may be float32, float16 and float64
//! (which are computed in float32), int64 and int32 (in 32 bits), int8, uint8 and bool.

mod census;
mod error;
mod export;
mod external;
mod functions;
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
mod stream;
mod tensor;
#[cfg(test)]
mod testing;
mod walk;

pub use error::OnnxError;
pub use export::{ExportOptions, export, save, write};
pub use graph::{Axis, Port};
pub use import::{GivenState, Imported, Layout};
pub use model::OnnxModel;
pub use operators::supported_operators;
pub use session::Session;
pub use stream::{StepAxes, Stream, StreamOptions};
pub use tensor::{ElementType, Tensor};
