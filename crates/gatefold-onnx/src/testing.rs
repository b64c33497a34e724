//! Models made in tests.

use crate::OnnxModel;
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use prost::Message;

/// A model of a graph that is well-formed.
pub(crate) fn model(opset: i64, graph: GraphProto) -> OnnxModel {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() };
    OnnxModel::from_bytes(model.encode_to_vec(), "m.onnx").unwrap()
}
