//! Loops that never end.

use crate::OnnxModel;
use crate::proto::tensor_proto::DataType;
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use gatefold::Device;
use prost::Message;
use std::path::Path;

fn port(name: &str, element: DataType) -> ValueInfoProto {
    let tensor = TensorType { elem_type: element as i32, shape: None };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    }
}

#[test]
fn an_endless_loop_is_ended() {
    let body = GraphProto {
        node: vec![node("Identity", &["on"], &["again"]), node("Identity", &["v"], &["next"])],
        input: vec![port("trip", DataType::Int64), port("on", DataType::Bool), port("v", DataType::Float)],
        output: vec![port("again", DataType::Bool), port("next", DataType::Float)],
        ..Default::default()
    };
    let body = AttributeProto {
        name: "body".into(),
        g: Some(body),
        r#type: AttributeType::Graph as i32,
        ..Default::default()
    };
    let forever = NodeProto { attribute: vec![body], ..node("Loop", &["", "", "x"], &["y"]) };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            node: vec![forever],
            input: vec![port("x", DataType::Float)],
            output: vec![port("y", DataType::Float)],
            ..Default::default()
        }),
        ..Default::default()
    };
    let model = OnnxModel::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).unwrap();
    let inputs = [("x".to_string(), ndarray::arr1(&[1.0_f32]).into())].into();
    let refused = model.run(&Device::cpu().unwrap(), inputs).unwrap_err().to_string();
    assert!(refused.contains("too many trips"), "{refused}");
}
