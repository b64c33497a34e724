//! Models that break one rule each.

use super::*;
use crate::OnnxModel;
use crate::proto::type_proto::Tensor as TensorType;
use crate::proto::{OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TypeProto};
use gatefold_check::Failures;

/// `y = x + c` with `c = [1, 2]`.
fn sum() -> ModelProto {
    let constant = TensorProto {
        name: "c".into(),
        dims: vec![2],
        data_type: DataType::Float as i32,
        float_data: vec![1.0, 2.0],
        ..Default::default()
    };
    let node = NodeProto {
        name: "sum".into(),
        op_type: "Add".into(),
        input: vec!["x".into(), "c".into()],
        output: vec!["y".into()],
        ..Default::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            node: vec![node],
            initializer: vec![constant],
            input: vec![port("x")],
            output: vec![port("y")],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn port(name: &str) -> ValueInfoProto {
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: None };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

fn read(model: &ModelProto) -> Result<OnnxModel, OnnxError> {
    OnnxModel::from_bytes(model.encode_to_vec(), Path::new("m.onnx"))
}

/// The message for the model [`sum`] after `change`.
fn refused(change: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = sum();
    change(&mut model);
    read(&model).expect_err("it is refused").to_string()
}

fn refused_graph(change: impl FnOnce(&mut GraphProto)) -> String {
    refused(|model| change(model.graph.as_mut().unwrap()))
}

fn refused_tensor(change: impl FnOnce(&mut TensorProto)) -> String {
    refused_graph(|graph| change(&mut graph.initializer[0]))
}

#[track_caller]
fn assert_says(message: &str, part: &str) {
    assert!(message.contains(part), "\"{message}\" says \"{part}\"");
}

#[test]
fn the_model_itself_is_read() {
    let model = read(&sum()).unwrap();
    assert_eq!(model.opset(), 17);
    assert_eq!(model.inputs()[0].to_string(), "x float32");
    assert_eq!(model.outputs()[0].name, "y");
}

#[test]
fn versions_are_checked() {
    assert_says(&refused(|m| m.ir_version = 0), "expected format version 3 to 14, found 0");
    assert_says(&refused(|m| m.ir_version = 15), "found 15");
    assert_says(&refused(|m| m.opset_import[0].version = 29), "opset from 7 to 28, found [29]");
    assert_says(&refused(|m| m.opset_import[0].version = 6), "found [6]");
    assert_says(&refused(|m| m.opset_import.clear()), "found []");
    assert_says(&refused(|m| m.graph = None), "no graph");
    // Another domain does not matter if no node uses it.
    let mut model = sum();
    model.opset_import.push(OperatorSetIdProto { domain: "ai.onnx.ml".into(), version: 2 });
    assert!(read(&model).is_ok());
}

#[test]
fn operators_are_refused_by_name() {
    let message = refused_graph(|g| g.node[0].op_type = "Unique".into());
    assert_says(
        &message,
        "node sum: the operator Unique is not supported; docs/onnx.md lists those that are",
    );
    assert_says(&refused_graph(|g| g.node[0].domain = "com.microsoft".into()), "com.microsoft.Add");
    // The other unsupported operators are named too, each once.
    let message = refused_graph(|g| {
        let other = |operator: &str| NodeProto { op_type: operator.into(), ..g.node[0].clone() };
        let more = [other("LRN"), other("Det"), other("Unique"), other("Det"), other("Relu")];
        g.node[0].op_type = "Unique".into();
        g.node.extend(more);
    });
    assert_says(&message, "node sum: the operator Unique is not supported, nor are Det, LRN; docs");
    // A node without a name goes by its output's name.
    let message = refused_graph(|g| {
        g.node[0].op_type = "Det".into();
        g.node[0].name.clear();
    });
    assert_says(&message, "node y: the operator Det");
}

#[test]
fn names_are_checked() {
    assert_says(&refused_graph(|g| g.node[0].input[1] = "d".into()), "its input d is not defined");
    assert_says(&refused_graph(|g| g.output[0].name = "z".into()), "the output z is not defined");
    assert_says(&refused_graph(|g| g.output.clear()), "no output");
    assert_says(&refused_graph(|g| g.output.push(port("y"))), "or the same one twice");
    assert_says(&refused_graph(|g| g.input.push(port("x"))), "the input x is defined twice");
    assert_says(&refused_graph(|g| g.node[0].output[0] = "x".into()), "x is defined twice");
    assert_says(&refused_graph(|g| g.node.push(g.node[0].clone())), "y is defined twice");
    assert_says(&refused_graph(|g| g.initializer.push(g.initializer[0].clone())), "two called \"c\"");
    assert_says(&refused_graph(|g| g.initializer[0].name.clear()), "without a name");
}

#[test]
fn a_cycle_is_found_and_nodes_are_put_in_order() {
    let relu = |input: &str, output: &str| NodeProto {
        op_type: "Relu".into(),
        input: vec![input.into()],
        output: vec![output.into()],
        ..Default::default()
    };
    let message = refused_graph(|g| {
        g.node[0].input[0] = "b".into();
        g.node.extend([relu("y", "a"), relu("a", "b")]);
    });
    assert_says(&message, "part of a cycle");
    assert_says(&refused_graph(|g| g.node[0].input[0] = "y".into()), "part of a cycle");
    // A node listed before the one it reads from.
    let mut model = sum();
    let graph = model.graph.as_mut().unwrap();
    graph.node.insert(0, relu("y", "z"));
    graph.output[0].name = "z".into();
    let order: Vec<String> =
        read(&model).unwrap().graph.nodes.iter().map(|node| node.operator.clone()).collect();
    assert_eq!(order, ["Add", "Relu"]);
}

#[test]
fn a_long_chain_needs_no_deep_stack() {
    let mut model = sum();
    let graph = model.graph.as_mut().unwrap();
    for k in 0..20_000 {
        graph.node.push(NodeProto {
            op_type: "Relu".into(),
            input: vec![if k == 0 { "y".into() } else { format!("r{}", k - 1) }],
            output: vec![format!("r{k}")],
            ..Default::default()
        });
    }
    graph.node.reverse();
    assert_eq!(read(&model).unwrap().graph.nodes.len(), 20_001);
}

#[test]
fn tensors_hold_what_their_shapes_say() {
    assert_says(&refused_tensor(|t| t.dims = vec![3]), "tensor c: shape [3] has 3 elements, its data has 2");
    assert_says(&refused_tensor(|t| t.dims = vec![-2]), "is not possible");
    assert_says(&refused_tensor(|t| t.dims = vec![i64::MAX, i64::MAX]), "is not possible");
    assert_says(&refused_tensor(|t| t.dims = vec![1 << 62, 2]), "is not possible");
    assert_says(&refused_tensor(|t| t.dims = vec![1 << 40]), "its data has 2");
    assert_says(&refused_tensor(|t| t.dims = vec![1; 33]), "33 axes");
    assert_says(&refused_tensor(|t| t.dims = vec![0, 1 << 40]), "at most");
    assert_says(&refused_tensor(|t| t.raw_data = vec![0; 7].into()), "its data has 1");
    assert_says(&refused_tensor(|t| t.data_type = DataType::Bfloat16 as i32), "BFLOAT16 are not supported");
    assert_says(&refused_tensor(|t| t.data_type = DataType::Double as i32), "its data has 0");
    assert_says(&refused_tensor(|t| t.data_type = 99), "type 99 are not");
    assert_says(&refused_graph(|g| g.sparse_initializer.push(SparseTensorProto::default())), "sparse");
}

#[test]
fn typed_and_raw_data_say_the_same() {
    let tensor = |element: DataType, change: &dyn Fn(&mut TensorProto)| {
        let mut model = sum();
        let graph = model.graph.as_mut().unwrap();
        graph.node.clear();
        let tensor = &mut graph.initializer[0];
        *tensor =
            TensorProto { name: "y".into(), dims: vec![2], data_type: element as i32, ..Default::default() };
        change(tensor);
        read(&model).unwrap().graph.constants["y"].clone()
    };
    let raw = |bytes: Vec<u8>| move |t: &mut TensorProto| t.raw_data = bytes.clone().into();
    let floats = Tensor::F32(ndarray::arr1(&[1.5, -2.0]).into_dyn());
    assert_eq!(tensor(DataType::Float, &|t| t.float_data = vec![1.5, -2.0]), floats);
    let bytes = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
    assert_eq!(tensor(DataType::Float, &raw(bytes)), floats);
    let longs = Tensor::of_integers(vec![1 << 40, -1]);
    assert_eq!(tensor(DataType::Int64, &|t| t.int64_data = vec![1 << 40, -1]), longs);
    assert_eq!(tensor(DataType::Int64, &raw([1i64 << 40, -1].map(i64::to_le_bytes).concat())), longs);
    let ints = Tensor::I32(ndarray::arr1(&[7, -1]).into_dyn());
    assert_eq!(tensor(DataType::Int32, &|t| t.int32_data = vec![7, -1]), ints);
    assert_eq!(tensor(DataType::Int32, &raw([7i32, -1].map(i32::to_le_bytes).concat())), ints);
    let bools = Tensor::Bool(ndarray::arr1(&[true, false]).into_dyn());
    assert_eq!(tensor(DataType::Bool, &|t| t.int32_data = vec![1, 0]), bools);
    assert_eq!(tensor(DataType::Bool, &raw(vec![1, 0])), bools);
}

#[test]
fn attributes_are_checked() {
    let attribute = |r#type: AttributeType| AttributeProto {
        name: "a".into(),
        r#type: r#type as i32,
        ..Default::default()
    };
    let with = |attribute: AttributeProto| refused_graph(|g| g.node[0].attribute.push(attribute));
    assert_says(&with(attribute(AttributeType::Graph)), "expected a graph, found none");
    assert_says(&with(attribute(AttributeType::Tensor)), "expected a tensor, found none");
    assert_says(&with(attribute(AttributeType::Undefined)), "UNDEFINED");
    assert_says(&with(AttributeProto { r#type: 99, ..attribute(AttributeType::Int) }), "99 is unknown");
    let text = AttributeProto { s: vec![0xff], ..attribute(AttributeType::String) };
    assert_says(&with(text), "UTF-8");
    let twice = refused_graph(|g| g.node[0].attribute = vec![attribute(AttributeType::Int); 2]);
    assert_says(&twice, "two attributes called a");
}

/// External data inside the model's folder is read, and data outside it refused.
#[test]
fn external_data_stays_inside_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    let values = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
    for path in ["secret.bin", "model/weights.bin", "model/data/weights.bin"] {
        std::fs::write(root.path().join(path), [&[0; 4][..], &values].concat()).unwrap();
    }
    let path = folder.join("m.onnx");
    let model = |entries: &[(&str, &str)], tensors: usize| {
        let mut model = sum();
        let graph = model.graph.as_mut().unwrap();
        let entries = entries
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.to_string(), value: value.to_string() });
        graph.initializer[0] = TensorProto {
            name: "c".into(),
            dims: vec![2],
            data_type: DataType::Float as i32,
            data_location: DataLocation::External as i32,
            external_data: entries.collect(),
            ..Default::default()
        };
        for k in 1..tensors {
            let tensor = TensorProto { name: format!("c{k}"), ..graph.initializer[0].clone() };
            graph.initializer.push(tensor);
        }
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        OnnxModel::read(&path)
    };
    let mut failures = Failures::new();
    for place in ["weights.bin", "data/weights.bin", "./data/weights.bin"] {
        failures.check(place, || {
            let read = model(&[("location", place), ("offset", "4"), ("length", "8")], 1).unwrap();
            assert_eq!(read.graph.constants["c"], Tensor::F32(ndarray::arr1(&[1.0, 2.0]).into_dyn()));
        });
    }
    let refused = |entries: &[(&str, &str)]| model(entries, 1).unwrap_err().to_string();
    let absolute = root.path().join("secret.bin").display().to_string();
    let mut outside =
        vec!["../secret.bin", "data/../../secret.bin", &absolute, "C:\\secret.bin", "..\\secret.bin", ""];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret.bin", folder.join("link.bin")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
        outside.extend(["link.bin", "up/secret.bin"]);
    }
    for place in outside {
        failures.check(place, || {
            assert_says(&refused(&[("location", place), ("offset", "4")]), "not inside the model's folder");
        });
    }
    failures.finish();
    assert_says(&refused(&[("location", "data")]), "plain file");
    assert_says(&refused(&[("offset", "4")]), "without a location");
    assert_says(&refused(&[("location", "weights.bin"), ("offset", "x")]), "is not a number");
    assert_says(
        &refused(&[("location", "weights.bin"), ("offset", "8"), ("length", "8")]),
        "the file has 12",
    );
    let far = u64::MAX.to_string();
    assert_says(
        &refused(&[("location", "weights.bin"), ("offset", &far), ("length", "8")]),
        "the file has 12",
    );
    assert_says(
        &refused(&[("location", "weights.bin"), ("length", &far)]),
        "expected external data of 8 bytes",
    );
    assert_says(&refused(&[("location", "missing.bin")]), "missing.bin");
    // Tensors together cannot read more bytes than the file has.
    let message = model(&[("location", "weights.bin"), ("length", "8")], 2).unwrap_err().to_string();
    assert_says(&message, "more bytes than the file has");
}

#[test]
fn many_empty_messages_are_counted_before_they_are_made() {
    // A graph of a million empty nodes, each of two bytes in the file.
    let nodes = [0x0a, 0x00].repeat(1_000_000);
    let mut bytes = vec![0x08, 0x08, 0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let error = OnnxModel::from_bytes(bytes, Path::new("m.onnx")).unwrap_err();
    assert_says(&error.to_string(), "more than 250000 fields");
}

#[test]
fn deep_nesting_is_refused() {
    // From the inside out: a node in a graph, in an attribute, in a node, and so on.
    let mut inside = Vec::new();
    for level in 0..400 {
        let mut outer = vec![[0x0a, 0x32, 0x2a][level % 3]];
        prost::encoding::encode_varint(inside.len() as u64, &mut outer);
        outer.extend(inside);
        inside = outer;
    }
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(inside.len() as u64, &mut bytes);
    bytes.extend(inside);
    let error = OnnxModel::from_bytes(bytes, Path::new("m.onnx")).unwrap_err();
    assert_says(&error.to_string(), "nested more than 100 deep");
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sum().encode_to_vec();
    let is_read = |len: &usize| OnnxModel::from_bytes(bytes[..*len].to_vec(), Path::new("m.onnx")).is_ok();
    let read: Vec<usize> = (0..bytes.len()).filter(is_read).collect();
    assert!(read.is_empty(), "read from {read:?} of {} bytes", bytes.len());
}
