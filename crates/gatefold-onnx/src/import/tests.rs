//! Graphs that no exporter writes and that must not be mistaken for similar ones.

use crate::OnnxModel;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension::Value as Len};
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType,
};
use prost::Message;
use std::path::Path;

fn port(name: &str, element: DataType, axes: &[Len]) -> ValueInfoProto {
    let dim = axes.iter().map(|len| Dimension { value: Some(len.clone()), ..Default::default() }).collect();
    let tensor = TensorType { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, settings: &[(&str, i64)]) -> NodeProto {
    let attribute = settings.iter().map(|&(name, i)| AttributeProto {
        name: name.into(),
        i,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    });
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        attribute: attribute.collect(),
        ..Default::default()
    }
}

/// A dense layer with a relu, and the first step of `reversed`, which is `dense` or `relu`, with its rows reversed
/// within their lengths. The relu's node is at position `relu`.
fn last_of(reversed: &str, relu: usize) -> Result<String, String> {
    let integers = |name: &str, values: &[i64]| TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..Default::default()
    };
    let weight = TensorProto {
        name: "weight".into(),
        dims: vec![2, 2],
        data_type: DataType::Float as i32,
        float_data: vec![1.0, 2.0, 3.0, 4.0],
        ..Default::default()
    };
    let (steps, batch) = (Len::DimParam("steps".into()), Len::DimParam("batch".into()));
    let mut nodes = vec![
        node("MatMul", &["x", "weight"], "dense", &[]),
        node("ReverseSequence", &[reversed, "lengths"], "ends", &[("time_axis", 0), ("batch_axis", 1)]),
        node("Slice", &["ends", "zero", "one", "zero"], "y", &[]),
    ];
    nodes.insert(relu, node("Relu", &["dense"], "relu", &[]));
    let graph = GraphProto {
        node: nodes,
        initializer: vec![weight, integers("zero", &[0]), integers("one", &[1])],
        input: vec![
            port("x", DataType::Float, &[steps, batch.clone(), Len::DimValue(2)]),
            port("lengths", DataType::Int64, std::slice::from_ref(&batch)),
        ],
        output: vec![port("y", DataType::Float, &[Len::DimValue(1), batch, Len::DimValue(2)])],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..Default::default()
    };
    let model = OnnxModel::from_bytes(model.encode_to_vec(), Path::new("m.onnx")).unwrap();
    model.import().map(|imported| imported.config.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_last_step_may_be_taken_after_the_activation_only() {
    assert_eq!(last_of("relu", 1).unwrap(), "2 -> dense 2 relu, no bias -> last step");
    // The relu joins the dense layer, but the reversed rows lack it.
    let found: Vec<_> = [1, 2].into_iter().filter_map(|relu| last_of("dense", relu).ok()).collect();
    assert!(found.is_empty(), "{found:?}");
}
