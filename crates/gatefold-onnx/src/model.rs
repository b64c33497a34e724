use crate::evaluate::fold_constants;
use crate::graph::{Graph, Port};
use crate::{OnnxError, Session, Tensor, read};
use bytes::Bytes;
use gatefold::Device;
use std::collections::BTreeMap;
use std::path::Path;

/// An ONNX model, read and checked.
#[derive(Clone, Debug)]
pub struct OnnxModel {
    pub(crate) graph: Graph,
    maker: String,
}

impl OnnxModel {
    /// Reads a model, and the tensors that lie in files beside it.
    ///
    /// # Errors
    /// [`OnnxError::Io`] if a file cannot be read, [`OnnxError::Operator`] for an operator that is not supported,
    /// [`OnnxError::File`] and [`OnnxError::Node`] with the reason if the model is truncated, hostile, of another version or
    /// breaks ONNX's rules.
    pub fn read(path: &Path) -> Result<OnnxModel, OnnxError> {
        OnnxModel::of(read::model_file(path)?)
    }

    /// The same from bytes. External data is looked for beside `path`, which also stands in messages.
    ///
    /// # Errors
    /// Those of [`OnnxModel::read`].
    pub fn from_bytes(bytes: impl Into<Bytes>, path: &Path) -> Result<OnnxModel, OnnxError> {
        OnnxModel::of(read::model(bytes.into(), path)?)
    }

    fn of((mut graph, maker): (Graph, String)) -> Result<OnnxModel, OnnxError> {
        fold_constants(&mut graph)?;
        Ok(OnnxModel { graph, maker })
    }

    /// What a caller gives, in the model's order. An input with a value in the file is a constant and not listed.
    pub fn inputs(&self) -> &[Port] {
        &self.graph.inputs
    }

    /// What comes out, in the model's order.
    pub fn outputs(&self) -> &[Port] {
        &self.graph.outputs
    }

    /// The version of ONNX's operators that the model is written in.
    pub fn opset(&self) -> i64 {
        self.graph.opset
    }

    /// The model on a device. Recurrent layers whose weights are constants are made there once; [`Session::run`] then
    /// takes as many inputs as one likes.
    pub fn on(&self, device: &Device) -> Session<'_> {
        Session::new(self, device)
    }

    /// Runs the model once: arrays in and out under the model's own names.
    ///
    /// # Errors
    /// Those of [`Session::run`].
    pub fn run(
        &self,
        device: &Device,
        inputs: BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>, OnnxError> {
        self.on(device).run(inputs)
    }

    /// The program that wrote it, as it calls itself.
    pub fn maker(&self) -> &str {
        &self.maker
    }
}
