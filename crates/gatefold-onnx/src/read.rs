//! Turns a file's bytes into a checked [`Graph`]. Nothing in them is trusted: sizes are compared with the data present
//! before memory is allocated.

use crate::external::External;
use crate::graph::{Attribute, Axis, Graph, Node, Port};
use crate::proto::attribute_proto::AttributeType;
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::proto::tensor_shape_proto::dimension::Value as Dimension;
use crate::proto::type_proto::Value as Type;
use crate::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use crate::tensor::{MAX_AXES, Tensor, volume};
use crate::{ElementType, OnnxError, census, functions, operators};
use bytes::Bytes;
use half::f16;
use ndarray::{ArrayD, IxDyn};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[cfg(test)]
mod tests;

/// Protobuf's own limit for one message. Larger models keep their tensors in files beside them.
const MAX_FILE_BYTES: u64 = 2 << 30;
/// The longest name of a tensor, node or attribute.
const MAX_NAME_BYTES: usize = 4096;
/// Supported versions of the file format: 3 introduced operator versions, 14 that of onnx 1.23.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;
/// Supported versions of the operators.
pub(crate) const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// Reads a graph, and the name that the file gives its maker.
pub(crate) fn model_file(path: &Path) -> Result<(Graph, String), OnnxError> {
    let io = |source| OnnxError::Io { path: path.into(), source };
    let about = std::fs::metadata(path).map_err(io)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        let problem =
            format!("an ONNX model is a plain file of at most {MAX_FILE_BYTES} bytes; this is not one");
        return Err(OnnxError::File { path: path.into(), problem });
    }
    model(std::fs::read(path).map_err(io)?.into(), path)
}

/// Reads the same from bytes. `path` is named in messages, and external data is read from files beside it.
pub(crate) fn model(bytes: Bytes, path: &Path) -> Result<(Graph, String), OnnxError> {
    let file = |problem: String| OnnxError::File { path: path.into(), problem };
    census::check(&bytes).map_err(file)?;
    let mut model = ModelProto::decode(bytes)
        .map_err(|error| file(format!("not an ONNX model, or a truncated one: {error}")))?;
    if !IR_VERSIONS.contains(&model.ir_version) {
        return Err(file(format!(
            "not an ONNX model, or one of an unsupported version: expected format version {} to {}, found {}",
            IR_VERSIONS.start(),
            IR_VERSIONS.end(),
            model.ir_version
        )));
    }
    let is_onnx = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opsets: Vec<i64> =
        model.opset_import.iter().filter(|set| is_onnx(&set.domain)).map(|set| set.version).collect();
    let opset = match opsets[..] {
        [opset] if OPSETS.contains(&opset) => opset,
        _ => {
            return Err(file(format!(
                "expected operators of one opset from {} to {}, found {opsets:?}; export the model again with one of those",
                OPSETS.start(),
                OPSETS.end()
            )));
        }
    };
    functions::inline(&mut model).map_err(file)?;
    let graph = model.graph.ok_or_else(|| file("the model has no graph".into()))?;
    let mut external = External::beside(path);
    let graph = Reading { path, opset, external: &mut external }.graph(&graph)?.closed().map_err(file)?;
    let mut maker = [model.producer_name, model.producer_version].join(" ");
    maker.retain(|character| !character.is_control());
    Ok((graph, maker.trim().into()))
}

/// A node's operator, after its domain if that is not ONNX's own.
fn operator_of(node: &NodeProto) -> String {
    match &*node.domain {
        "" | "ai.onnx" => node.op_type.clone(),
        domain => format!("{domain}.{}", node.op_type),
    }
}

/// The unsupported operators of nodes and of the graphs inside them.
fn unsupported(nodes: &[NodeProto], found: &mut BTreeSet<String>) {
    for node in nodes {
        found.extend(Some(operator_of(node)).filter(|operator| !operators::is_supported(operator)));
        for graph in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            unsupported(&graph.node, found);
        }
    }
}

/// Completes an error about one operator with the other unsupported ones, so that users see them all at once.
fn with_others(error: OnnxError, nodes: &[NodeProto]) -> OnnxError {
    const SHOWN: usize = 8;
    let OnnxError::Operator { node, operator, .. } = error else { return error };
    let mut names = BTreeSet::new();
    unsupported(nodes, &mut names);
    names.remove(&operator);
    let printable = |name: &&String| name.len() <= 40 && !name.contains(char::is_control);
    let names: Vec<&str> = names.iter().filter(printable).take(SHOWN).map(String::as_str).collect();
    let others = match &names[..] {
        [] => String::new(),
        [one] => format!(", nor is {one}"),
        more => format!(", nor are {}", more.join(", ")),
    };
    OnnxError::Operator { node, operator, others }
}

struct Reading<'a> {
    path: &'a Path,
    opset: i64,
    external: &'a mut External,
}

impl Reading<'_> {
    fn error(&self, problem: impl Into<String>) -> OnnxError {
        OnnxError::File { path: self.path.into(), problem: problem.into() }
    }

    /// Checks that a name can be printed in a message.
    fn name(&self, name: &str) -> Result<String, OnnxError> {
        if name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control) {
            return Ok(name.into());
        }
        let begin: String = name.chars().take(40).collect();
        Err(self.error(format!(
            "a name with control characters, or longer than {MAX_NAME_BYTES} bytes: {begin:?}"
        )))
    }

    fn graph(&mut self, graph: &GraphProto) -> Result<Graph, OnnxError> {
        if !graph.sparse_initializer.is_empty() {
            return Err(self.error("sparse tensors are not supported; export dense ones"));
        }
        let mut constants = BTreeMap::new();
        for tensor in &graph.initializer {
            let value = self.tensor(tensor)?;
            if tensor.name.is_empty() || constants.insert(tensor.name.clone(), value).is_some() {
                return Err(self.error(format!("a tensor without a name, or two called \"{}\"", tensor.name)));
            }
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for node in &graph.node {
            nodes.push(self.node(node).map_err(|error| with_others(error, &graph.node))?);
        }
        let ports = |values: &[ValueInfoProto]| -> Result<Vec<Port>, OnnxError> {
            values.iter().map(|value| self.port(value)).collect()
        };
        // Before IR version 4 every initialiser was an input too.
        let mut inputs = ports(&graph.input)?;
        inputs.retain(|port| !constants.contains_key(&port.name));
        let outputs = ports(&graph.output)?;
        let names: BTreeSet<&str> = outputs.iter().map(|port| port.name.as_str()).collect();
        if outputs.is_empty() || names.len() < outputs.len() {
            return Err(self.error("the graph has no output, or the same one twice"));
        }
        Graph::new(self.opset, inputs, outputs, constants, nodes).map_err(|problem| self.error(problem))
    }

    /// A graph inside a node, whose inputs and outputs may be of any type.
    fn inner(&mut self, graph: &GraphProto) -> Result<Graph, OnnxError> {
        let mut graph = graph.clone();
        let is_tensor = |port: &ValueInfoProto| {
            matches!(port.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()), Some(Type::TensorType(tensor))
                if DataType::try_from(tensor.elem_type).ok().and_then(element_of).is_some())
        };
        for port in graph.input.iter_mut().chain(&mut graph.output).filter(|port| !is_tensor(port)) {
            port.r#type = None;
        }
        self.graph(&graph)
    }

    fn node(&mut self, node: &NodeProto) -> Result<Node, OnnxError> {
        let optional = |names: &[String]| -> Vec<Option<String>> {
            names.iter().map(|name| (!name.is_empty()).then(|| name.clone())).collect()
        };
        let names = node.input.iter().chain(&node.output);
        for name in names.chain([&node.name, &node.op_type, &node.domain]) {
            self.name(name)?;
        }
        let outputs = optional(&node.output);
        let name = match outputs.iter().flatten().next() {
            Some(first) if node.name.is_empty() => first.clone(),
            _ => node.name.clone(),
        };
        let operator = operator_of(node);
        if !operators::is_supported(&operator) {
            return Err(OnnxError::Operator { node: name, operator, others: String::new() });
        }
        let mut attributes = BTreeMap::new();
        for attribute in &node.attribute {
            self.name(&attribute.name)?;
            let value = self.attribute(attribute).map_err(|error| match error {
                OnnxError::File { path, problem } => OnnxError::File {
                    path,
                    problem: format!(
                        "node {name} ({}), attribute {}: {problem}",
                        node.op_type, attribute.name
                    ),
                },
                other => other,
            })?;
            if attributes.insert(attribute.name.clone(), value).is_some() {
                return Err(self.error(format!(
                    "node {name} ({}): two attributes called {}",
                    node.op_type, attribute.name
                )));
            }
        }
        let node = Node { name, operator, inputs: optional(&node.input), outputs, attributes };
        crate::walk::check(&node).map_err(|problem| node.error(problem))?;
        Ok(node)
    }

    fn attribute(&mut self, attribute: &AttributeProto) -> Result<Attribute, OnnxError> {
        let text = |bytes: &Vec<u8>| match str::from_utf8(bytes) {
            Ok(text) => self.name(text),
            Err(_) => Err(self.error("a string that is not UTF-8")),
        };
        Ok(match AttributeType::try_from(attribute.r#type) {
            Ok(AttributeType::Int) => Attribute::Int(attribute.i),
            Ok(AttributeType::Float) => Attribute::Float(attribute.f),
            Ok(AttributeType::String) => Attribute::Text(text(&attribute.s)?),
            Ok(AttributeType::Ints) => Attribute::Ints(attribute.ints.clone()),
            Ok(AttributeType::Floats) => Attribute::Floats(attribute.floats.clone()),
            Ok(AttributeType::Strings) => {
                Attribute::Texts(attribute.strings.iter().map(text).collect::<Result<_, _>>()?)
            }
            Ok(AttributeType::Tensor) => match &attribute.t {
                Some(tensor) => Attribute::Tensor(self.tensor(tensor)?),
                None => return Err(self.error("expected a tensor, found none")),
            },
            Ok(AttributeType::Graph) => match &attribute.g {
                Some(graph) => Attribute::Graph(Box::new(self.inner(graph)?)),
                None => return Err(self.error("expected a graph, found none")),
            },
            Ok(other) => return Err(self.error(format!("its type {} is not supported", other.as_str_name()))),
            Err(_) => return Err(self.error(format!("its type {} is unknown", attribute.r#type))),
        })
    }

    fn port(&self, value: &ValueInfoProto) -> Result<Port, OnnxError> {
        let name = self.name(&value.name)?;
        let Some(r#type) = value.r#type.as_ref().and_then(|r#type| r#type.value.as_ref()) else {
            return Ok(Port { name, element: None, shape: None });
        };
        let Type::TensorType(tensor) = r#type else {
            return Err(self.error(format!("{name}: only plain tensors are supported")));
        };
        let element = Some(self.element(&name, tensor.elem_type)?);
        let shape = tensor.shape.as_ref().map(|shape| {
            let axis = |value: &Option<Dimension>| match value {
                Some(Dimension::DimValue(len)) => usize::try_from(*len).map_or(Axis::Any, Axis::Fixed),
                Some(Dimension::DimParam(name)) if self.name(name).is_ok_and(|name| !name.is_empty()) => {
                    Axis::Named(name.clone())
                }
                _ => Axis::Any,
            };
            shape.dim.iter().map(|dimension| axis(&dimension.value)).collect()
        });
        Ok(Port { name, element, shape })
    }

    fn element(&self, name: &str, code: i32) -> Result<ElementType, OnnxError> {
        let named = DataType::try_from(code);
        named.ok().and_then(element_of).ok_or_else(|| {
            let found = named.map_or_else(|_| code.to_string(), |other| other.as_str_name().into());
            self.error(format!(
                "{name}: elements of type {found} are not supported; export the model in float32"
            ))
        })
    }

    fn tensor(&mut self, tensor: &TensorProto) -> Result<Tensor, OnnxError> {
        self.name(&tensor.name)?;
        let element = self.element(&tensor.name, tensor.data_type)?;
        let refuse = |problem: String| OnnxError::File {
            path: self.path.into(),
            problem: format!("tensor {}: {problem}", tensor.name),
        };
        if tensor.dims.len() > MAX_AXES {
            return Err(refuse(format!("{} axes; at most {MAX_AXES} are supported", tensor.dims.len())));
        }
        if tensor.segment.is_some() {
            return Err(refuse("segments are not supported".into()));
        }
        let width = match element {
            ElementType::F32 | ElementType::I32 => 4,
            ElementType::I64 | ElementType::F64 => 8,
            ElementType::F16 => 2,
            ElementType::Bool | ElementType::U8 | ElementType::I8 => 1,
        };
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&len| usize::try_from(len).ok()).collect();
        let extent = shape.as_ref().and_then(|shape| {
            let nonzero = shape.iter().filter(|&&len| len > 0);
            nonzero.clone().try_fold(width, |all: usize, &len| all.checked_mul(len))
        });
        let (Some(shape), Some(extent)) = (shape, extent.filter(|&extent| isize::try_from(extent).is_ok()))
        else {
            return Err(refuse(format!("its shape {:?} is not possible", tensor.dims)));
        };
        let len = if shape.contains(&0) { volume(&shape).map_err(refuse)? } else { extent / width };
        let stored: Vec<u8>;
        let raw: Option<&[u8]> = if tensor.data_location == DataLocation::External as i32 {
            let entries: Vec<(&str, &str)> =
                tensor.external_data.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
            stored = self.external.read(&entries, len * width).map_err(|error| match error {
                OnnxError::File { path, problem } => {
                    OnnxError::File { path, problem: format!("tensor {}: {problem}", tensor.name) }
                }
                other => other,
            })?;
            Some(&stored)
        } else if tensor.raw_data.is_empty() {
            None
        } else {
            Some(&tensor.raw_data)
        };
        let refuse = |problem: String| OnnxError::File {
            path: self.path.into(),
            problem: format!("tensor {}: {problem}", tensor.name),
        };
        let typed = match element {
            ElementType::F32 => tensor.float_data.len(),
            ElementType::F64 => tensor.double_data.len(),
            ElementType::I64 => tensor.int64_data.len(),
            _ => tensor.int32_data.len(),
        };
        let found = raw.map_or(typed, |raw| raw.len() / width);
        if found != len || raw.is_some_and(|raw| raw.len() % width != 0) {
            return Err(refuse(format!("shape {shape:?} has {len} elements, its data has {found}")));
        }
        values(tensor, element, &shape, raw).map_err(refuse)
    }
}

/// The type of a tensor's elements in a file, if it is supported.
pub(crate) fn element_of(code: DataType) -> Option<ElementType> {
    Some(match code {
        DataType::Float => ElementType::F32,
        DataType::Float16 => ElementType::F16,
        DataType::Double => ElementType::F64,
        DataType::Int64 => ElementType::I64,
        DataType::Int32 => ElementType::I32,
        DataType::Bool => ElementType::Bool,
        DataType::Uint8 => ElementType::U8,
        DataType::Int8 => ElementType::I8,
        _ => return None,
    })
}

/// The values of a tensor, as many as its shape has, from raw bytes or from the field of its type. Smaller types share
/// the field of int32; float16 and double become f32.
fn values(
    tensor: &TensorProto,
    element: ElementType,
    shape: &[usize],
    raw: Option<&[u8]>,
) -> Result<Tensor, String> {
    let int32 = &tensor.int32_data;
    fn of<const N: usize, T: Copy, U>(
        shape: &[usize],
        raw: Option<&[u8]>,
        from_bytes: impl Fn([u8; N]) -> U,
        typed: &[T],
        from_field: impl Fn(T) -> U,
    ) -> Result<ArrayD<U>, String> {
        array(
            shape,
            match raw {
                Some(raw) => raw.as_chunks().0.iter().map(|&bytes| from_bytes(bytes)).collect(),
                None => typed.iter().map(|&value| from_field(value)).collect(),
            },
        )
    }
    Ok(match element {
        ElementType::F32 => {
            Tensor::F32(of(shape, raw, f32::from_le_bytes, &tensor.float_data, |value| value)?)
        }
        ElementType::F64 => Tensor::F32(of(
            shape,
            raw,
            |b| f64::from_le_bytes(b) as f32,
            &tensor.double_data,
            |value| value as f32,
        )?),
        ElementType::F16 => {
            let half = |bits: u16| f16::from_bits(bits).to_f32();
            Tensor::F32(of(shape, raw, |b| half(u16::from_le_bytes(b)), int32, |value| half(value as u16))?)
        }
        ElementType::I64 => {
            Tensor::I64(of(shape, raw, i64::from_le_bytes, &tensor.int64_data, |value| value)?)
        }
        ElementType::I32 => Tensor::I32(of(shape, raw, i32::from_le_bytes, int32, |value| value)?),
        ElementType::Bool => Tensor::Bool(of(shape, raw, |[byte]| byte != 0, int32, |value| value != 0)?),
        ElementType::U8 => Tensor::U8(of(shape, raw, |[byte]| byte, int32, |value| value as u8)?),
        ElementType::I8 => Tensor::I8(of(shape, raw, |[byte]| byte as i8, int32, |value| value as i8)?),
    })
}

fn array<T>(shape: &[usize], values: Vec<T>) -> Result<ArrayD<T>, String> {
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|error| format!("its shape {shape:?}: {error}"))
}
