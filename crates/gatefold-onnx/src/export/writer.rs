//! Builds a graph: nodes, initialisers and ports in ONNX's own messages.

use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::Dimension;
use crate::proto::tensor_shape_proto::dimension::Value as Length;
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto,
};
use ndarray::{ArrayBase, Data, Dimension as Axes};
use prost::Message;

/// The version of the file format that goes with [`OPSET`].
const IR_VERSION: i64 = 8;
/// New enough for every operator we write, old enough for most runtimes.
const OPSET: i64 = 17;

/// An axis of a port.
#[derive(Clone, Debug)]
pub(super) enum Len {
    Fixed(usize),
    Named(&'static str),
}

/// An attribute's value.
pub(super) enum Setting {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(&'static str),
    Texts(Vec<&'static str>),
}

#[derive(Default)]
pub(super) struct Writer {
    graph: GraphProto,
    /// The number of tensors so far, for their names.
    made: usize,
}

impl Writer {
    /// Adds a node with one output; returns the output's name.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&str], settings: Vec<(&str, Setting)>) -> String {
        self.node_of(operator, inputs, 1, settings).remove(0)
    }

    /// Adds a node with several outputs; returns their names.
    pub(super) fn node_of(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: usize,
        settings: Vec<(&str, Setting)>,
    ) -> Vec<String> {
        let outputs: Vec<String> = (0..outputs)
            .map(|_| {
                self.made += 1;
                format!("{}_{}", operator.to_lowercase(), self.made)
            })
            .collect();
        self.graph.node.push(NodeProto {
            name: format!("{operator}_{}", self.graph.node.len()),
            op_type: operator.into(),
            input: inputs.iter().map(|input| input.to_string()).collect(),
            output: outputs.clone(),
            attribute: settings.into_iter().map(|(name, setting)| attribute(name, setting)).collect(),
            ..Default::default()
        });
        outputs
    }

    /// Adds an initialiser of `f32` numbers, once for each name.
    pub(super) fn numbers<S: Data<Elem = f32>, D: Axes>(
        &mut self,
        name: &str,
        array: &ArrayBase<S, D>,
    ) -> String {
        let bytes: Vec<u8> = array.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, array.shape(), DataType::Float, bytes)
    }

    /// Adds a list of whole numbers as an initialiser.
    pub(super) fn integers(&mut self, values: &[i64]) -> String {
        let words: Vec<String> = values.iter().map(|value| value.to_string().replace('-', "m")).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&format!("ints_{}", words.join("_")), &[values.len()], DataType::Int64, bytes)
    }

    fn initializer(&mut self, name: &str, shape: &[usize], element: DataType, bytes: Vec<u8>) -> String {
        if !self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            self.graph.initializer.push(TensorProto {
                name: name.into(),
                dims: shape.iter().map(|&len| len as i64).collect(),
                data_type: element as i32,
                raw_data: bytes.into(),
                ..Default::default()
            });
        }
        name.into()
    }

    pub(super) fn input(&mut self, name: &str, element: DataType, shape: &[Len]) {
        self.graph.input.push(port(name, element, shape));
    }

    /// Makes the tensor `from` an output called `name`.
    pub(super) fn output(&mut self, from: &str, name: &str, shape: &[Len]) {
        let node = NodeProto {
            name: format!("Identity_{}", self.graph.node.len()),
            op_type: "Identity".into(),
            input: vec![from.into()],
            output: vec![name.into()],
            ..Default::default()
        };
        self.graph.node.push(node);
        self.graph.output.push(port(name, DataType::Float, shape));
    }

    /// The file's bytes.
    pub(super) fn finish(mut self, description: &str) -> Vec<u8> {
        self.graph.name = "network".into();
        self.graph.doc_string = description.into();
        let model = ModelProto {
            ir_version: IR_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "gatefold".into(),
            graph: Some(self.graph),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn attribute(name: &str, setting: Setting) -> AttributeProto {
    let mut proto = AttributeProto { name: name.into(), ..Default::default() };
    let r#type = match setting {
        Setting::Int(value) => {
            proto.i = value;
            AttributeType::Int
        }
        Setting::Float(value) => {
            proto.f = value;
            AttributeType::Float
        }
        Setting::Ints(values) => {
            proto.ints = values;
            AttributeType::Ints
        }
        Setting::Floats(values) => {
            proto.floats = values;
            AttributeType::Floats
        }
        Setting::Text(text) => {
            proto.s = text.into();
            AttributeType::String
        }
        Setting::Texts(texts) => {
            proto.strings = texts.into_iter().map(Into::into).collect();
            AttributeType::Strings
        }
    };
    proto.r#type = r#type as i32;
    proto
}

fn port(name: &str, element: DataType, shape: &[Len]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|len| {
            let value = match len {
                Len::Fixed(len) => Length::DimValue(*len as i64),
                Len::Named(name) => Length::DimParam(name.to_string()),
            };
            Dimension { value: Some(value), ..Default::default() }
        })
        .collect();
    let tensor = TensorType { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
