//! Graphs that no exporter writes and that must not be mistaken for similar ones.

use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension::Value as Len};
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType,
};
use crate::{OnnxModel, testing};
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
    let model = testing::model(17, graph);
    model.import().map(|imported| imported.config.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_last_step_may_be_taken_after_the_activation_only() {
    assert_eq!(last_of("relu", 1).unwrap(), "2 -> dense 2 relu, no bias -> last step");
    // The relu joins the dense layer, but the reversed rows lack it.
    let found: Vec<_> = [1, 2].into_iter().filter_map(|relu| last_of("dense", relu).ok()).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// The nodes of a graph and of the graphs inside, to change.
fn all_nodes(graph: &mut GraphProto) -> Vec<&mut NodeProto> {
    let mut nodes = Vec::new();
    for node in &mut graph.node {
        if node.op_type == "Loop" {
            let bodies = node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut());
            bodies.for_each(|body| nodes.extend(all_nodes(body)));
        } else {
            nodes.push(node);
        }
    }
    nodes
}

/// Another operator in the place of this one, with the same inputs.
fn exchanged(operator: &str) -> Option<&'static str> {
    Some(match operator {
        "Add" => "Sub",
        "Sub" => "Add",
        "Mul" => "Add",
        "Tanh" => "Sigmoid",
        "Sigmoid" => "Tanh",
        "Relu" => "Tanh",
        "Softsign" => "Tanh",
        _ => return None,
    })
}

/// Every node of a cell exchanged for another: no such graph may become a network, unless it computes the same. Some do: a
/// cell with another function, or with negated weights.
#[test]
fn cells_that_are_nearly_right_are_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    for name in ["keras3_unrolled_18", "keras3_stacked_loops_15", "keras3_masked_15", "dynamo_rnn_relu_22"] {
        let bytes = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
        let whole = ModelProto::decode(&bytes[..]).unwrap();
        let count = all_nodes(whole.clone().graph.as_mut().unwrap()).len();
        let (mut tried, mut refused) = (0, 0);
        for at in 0..count {
            let mut changed = whole.clone();
            let node = all_nodes(changed.graph.as_mut().unwrap()).swap_remove(at);
            let Some(other) = exchanged(&node.op_type) else { continue };
            node.op_type = other.into();
            let Ok(model) = OnnxModel::from_bytes(changed.encode_to_vec(), Path::new("m.onnx")) else {
                continue;
            };
            tried += 1;
            match model.import() {
                Err(_) => refused += 1,
                Ok(imported) => same_on_others(name, &model, &imported),
            }
        }
        assert!(tried > 5 && refused > 5, "{name}: {refused} of {tried} refused");
    }
}

/// Compares a network with its model on other numbers than those of the import.
fn same_on_others(name: &str, model: &OnnxModel, imported: &super::Imported) {
    let device = gatefold::Device::cpu().unwrap();
    let x = ndarray::Array3::from_shape_fn((6, 2, 3), |(t, b, k)| {
        ((t * 7 + b * 3 + k) as f32 * 0.61).sin() * 3.0
    });
    let batch_first = imported.input.1 == super::Layout::BatchFirst;
    let steps = model.inputs()[0].shape.as_ref().map(|shape| shape[usize::from(batch_first)].clone());
    let x = match steps {
        Some(crate::Axis::Fixed(steps)) => x.slice(ndarray::s![..steps, .., ..]).to_owned(),
        _ => x,
    };
    let given = if batch_first { x.clone().permuted_axes([1, 0, 2]) } else { x.clone() };
    let given = crate::Tensor::from(given.as_standard_layout().into_owned());
    let inputs = [(imported.input.0.clone(), given)].into_iter().collect();
    let Ok(outputs) = model.run(&device, &inputs) else { return };
    let crate::Tensor::F32(expected) = &outputs[&imported.output.0] else { panic!("{name}: float32") };
    let mut found = imported.network(&device).unwrap().predict(&x).unwrap();
    if imported.output.1 == super::Layout::BatchFirst {
        found.swap_axes(0, 1);
    }
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4 && found.len() == expected.len(), "{name}: {} differs by {worst}", imported.config);
}

/// A node alone gives its steps an axis of directions, which is no order of its own as long as there is one.
#[test]
fn a_recurrent_node_alone_is_a_network_in_one_direction() {
    let floats = |name: &str, dims: &[i64]| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: (0..dims.iter().product()).map(|k| (0.7 * k as f32).sin()).collect(),
        ..Default::default()
    };
    let axis = |name: &str| Len::DimParam(name.into());
    let of = |directions: i64, settings: &[AttributeProto]| {
        let mut gru = node("GRU", &["x", "w", "r"], "y", &[("hidden_size", 4), ("linear_before_reset", 1)]);
        gru.attribute.extend_from_slice(settings);
        let graph = GraphProto {
            node: vec![gru],
            initializer: vec![floats("w", &[directions, 12, 3]), floats("r", &[directions, 12, 4])],
            input: vec![port("x", DataType::Float, &[axis("t"), axis("b"), Len::DimValue(3)])],
            output: vec![port(
                "y",
                DataType::Float,
                &[axis("t"), Len::DimValue(directions), axis("b"), Len::DimValue(4)],
            )],
            ..Default::default()
        };
        testing::model(17, graph)
    };
    let direction = |name: &str| AttributeProto {
        name: "direction".into(),
        s: name.as_bytes().to_vec(),
        r#type: AttributeType::String as i32,
        ..Default::default()
    };
    for settings in [vec![], vec![direction("reverse")]] {
        let model = of(1, &settings);
        let imported = model.import().unwrap();
        assert_eq!(imported.output, ("y".into(), super::Layout::OneDirection));
        same_on_others("a GRU", &model, &imported);
    }
    assert!(of(2, &[direction("bidirectional")]).import().is_err());
}

/// A layer normalisation of x, written out, with these nodes changed.
fn written_norm(change: impl FnOnce(&mut Vec<NodeProto>)) -> Result<super::Imported, String> {
    let floats = |name: &str, values: &[f32]| TensorProto {
        name: name.into(),
        dims: if values.len() == 1 { vec![] } else { vec![values.len() as i64] },
        data_type: DataType::Float as i32,
        float_data: values.to_vec(),
        ..Default::default()
    };
    let last = TensorProto {
        name: "last".into(),
        dims: vec![1],
        data_type: DataType::Int64 as i32,
        int64_data: vec![-1],
        ..Default::default()
    };
    let mut nodes = vec![
        node("ReduceMean", &["x", "last"], "mean", &[]),
        node("Sub", &["x", "mean"], "centred", &[]),
        node("Pow", &["centred", "two"], "square", &[]),
        node("ReduceMean", &["square", "last"], "variance", &[]),
        node("Add", &["variance", "epsilon"], "sum", &[]),
        node("Sqrt", &["sum"], "root", &[]),
        node("Div", &["centred", "root"], "normal", &[]),
        node("Mul", &["normal", "weight"], "weighted", &[]),
        node("Add", &["weighted", "bias"], "y", &[]),
    ];
    change(&mut nodes);
    let axes = [Len::DimParam("steps".into()), Len::DimParam("batch".into()), Len::DimValue(3)];
    let graph = GraphProto {
        node: nodes,
        initializer: vec![
            floats("two", &[2.0]),
            floats("epsilon", &[0.5]),
            floats("weight", &[1.5, -0.5, 2.0]),
            floats("bias", &[0.25, 1.0, -1.0]),
            last,
        ],
        input: vec![port("x", DataType::Float, &axes)],
        output: vec![port("y", DataType::Float, &axes)],
        ..Default::default()
    };
    let model = testing::model(18, graph);
    let imported = model.import().map_err(|error| error.to_string())?;
    same_on_others("a normalisation", &model, &imported);
    Ok(imported)
}

/// Every way to write it becomes the layer, and nothing that is nearly one.
#[test]
fn a_normalisation_that_is_written_out_is_a_layer() {
    let whole = written_norm(|_| ()).unwrap();
    assert_eq!(whole.config.to_string(), "3 -> normalise with epsilon 0.5");
    assert_eq!(whole.parameters["norm0.weight"].as_slice().unwrap(), [1.5, -0.5, 2.0]);
    assert_eq!(whole.parameters["norm0.bias"].as_slice().unwrap(), [0.25, 1.0, -1.0]);
    let squared =
        written_norm(|nodes| nodes[2] = node("Mul", &["centred", "centred"], "square", &[])).unwrap();
    assert_eq!(squared.config, whole.config);
    let plain = written_norm(|nodes| {
        nodes.truncate(6);
        nodes.push(node("Div", &["centred", "root"], "y", &[]));
    });
    let plain = plain.unwrap();
    assert_eq!(plain.parameters["norm0.weight"].as_slice().unwrap(), [1.0; 3]);
    assert_eq!(plain.parameters["norm0.bias"].as_slice().unwrap(), [0.0; 3]);
    let other: [(usize, NodeProto); 5] = [
        (1, node("Sub", &["mean", "x"], "centred", &[])),
        (2, node("Pow", &["centred", "epsilon"], "square", &[])),
        (3, node("ReduceMean", &["square", "last"], "variance", &[("keepdims", 0)])),
        (5, node("Sqrt", &["variance"], "root", &[])),
        (6, node("Div", &["x", "root"], "normal", &[])),
    ];
    for (at, other) in other {
        let name = format!("{at} {}", other.op_type);
        assert!(written_norm(|nodes| nodes[at] = other).is_err(), "{name}");
    }
    // The mean is read by another node too.
    let error = written_norm(|nodes| nodes[8] = node("Add", &["weighted", "mean"], "y", &[])).unwrap_err();
    assert!(error.contains("ReduceMean"), "{error}");
}

/// Pools over the steps, whichever axis they are, become layers; over features or rows they do not.
#[test]
fn a_pool_covers_the_steps() {
    let pool = |operator: &str, axis: i64, axes: [&str; 2]| {
        let [first, second] = axes.map(|axis| Len::DimParam(axis.into()));
        let axes = TensorProto {
            name: "axes".into(),
            dims: vec![1],
            data_type: DataType::Int64 as i32,
            int64_data: vec![axis],
            ..Default::default()
        };
        let weight = TensorProto {
            name: "weight".into(),
            dims: vec![3, 3],
            data_type: DataType::Float as i32,
            float_data: (0..9).map(|k| k as f32 - 4.0).collect(),
            ..Default::default()
        };
        let graph = GraphProto {
            node: vec![
                node("MatMul", &["x", "weight"], "dense", &[]),
                node(operator, &["dense", "axes"], "pooled", &[("keepdims", 0)]),
                node("Identity", &["pooled"], "y", &[]),
            ],
            initializer: vec![axes, weight],
            input: vec![port("x", DataType::Float, &[first.clone(), second, Len::DimValue(3)])],
            output: vec![port("y", DataType::Float, &[first, Len::DimValue(3)])],
            ..Default::default()
        };
        let model = testing::model(18, graph);
        let imported = model.import().map_err(|error| error.to_string())?;
        same_on_others(operator, &model, &imported);
        Ok::<_, String>((imported.config.to_string(), imported.input.1))
    };
    let expected = |name: &str, layout| Ok((format!("3 -> dense 3 no bias -> {name}"), layout));
    assert_eq!(pool("ReduceMax", 0, ["t", "b"]), expected("max pool", super::Layout::TimeMajor));
    assert_eq!(pool("ReduceMean", -2, ["b", "t"]), expected("mean pool", super::Layout::BatchFirst));
    let error = pool("ReduceMax", 2, ["b", "t"]).unwrap_err();
    assert!(error.contains("it covers the features of a step; expected the axis of the steps"), "{error}");
}

/// Operators, a Transpose with its axes, with their inputs and output.
type Nodes<'a> = &'a [(&'a str, &'a [&'a str], &'a str)];

/// A model of x `[B, T, 3]` with these nodes. `scale`, `shift`, `mean` and `variance` have three features, `weight` is
/// `[3, 3]`, `kernel` `[3, 3, 2]`, and `w` and `r` are those of a GRU of three units.
fn with_statistics(nodes: Nodes, change: impl Fn(&mut NodeProto)) -> OnnxModel {
    let floats = |name: &str, dims: &[i64], from: f32| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        float_data: (0..dims.iter().product()).map(|k| from + (0.7 * k as f32 + from).sin()).collect(),
        ..Default::default()
    };
    let perm = |perm: &[i64]| AttributeProto {
        name: "perm".into(),
        ints: perm.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    };
    let nodes = nodes.iter().map(|(operator, inputs, output)| {
        let (operator, settings) = operator.split_once(' ').unwrap_or((operator, ""));
        let mut made = match operator {
            "GRU" => node("GRU", inputs, output, &[("hidden_size", 3), ("linear_before_reset", 1)]),
            "Gather" => node("Gather", inputs, output, &[("axis", 0)]),
            _ => node(operator, inputs, output, &[]),
        };
        if operator == "Transpose" {
            made.attribute =
                vec![perm(&settings.bytes().map(|digit| i64::from(digit - b'0')).collect::<Vec<_>>())];
        }
        change(&mut made);
        made
    });
    let whole = |name: &str, dims: &[i64], value: i64| TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: DataType::Int64 as i32,
        int64_data: vec![value],
        ..Default::default()
    };
    let axis = |name: &str| Len::DimParam(name.into());
    let graph = GraphProto {
        node: nodes.collect(),
        initializer: vec![
            floats("scale", &[3], 0.5),
            floats("shift", &[3], 0.0),
            floats("mean", &[3], -0.3),
            floats("variance", &[3], 1.5),
            floats("weight", &[3, 3], 0.1),
            floats("kernel", &[3, 3, 2], 0.0),
            floats("long", &[3, 3, 30], 0.0),
            floats("w", &[1, 9, 3], 0.0),
            floats("r", &[1, 9, 3], 0.1),
            whole("one", &[1], 1),
            whole("last", &[], -1),
        ],
        input: vec![port("x", DataType::Float, &[axis("b"), axis("t"), Len::DimValue(3)])],
        output: vec![port("y", DataType::Float, &[axis("b"), axis("t"), Len::DimValue(3)])],
        ..Default::default()
    };
    testing::model(17, graph)
}

/// The inputs of a BatchNormalization.
fn normalised(from: &str) -> [&str; 5] {
    [from, "scale", "shift", "mean", "variance"]
}

/// A batch normalisation joins the layer before or is a dense layer, in each layout in which exporters write it.
#[test]
fn a_batch_normalisation_scales_and_shifts_features() {
    let [of_xt, of_y, of_last] = ["xt", "y0t", "end"].map(normalised);
    let networks: [(Nodes, &str); 5] = [
        (
            &[
                ("Transpose 021", &["x"], "xt"),
                ("BatchNormalization", &of_xt, "n"),
                ("Transpose 201", &["n"], "nt"),
                ("GRU", &["nt", "w", "r"], "y1"),
                ("Squeeze", &["y1", "one"], "y2"),
                ("Transpose 102", &["y2"], "y"),
            ],
            "3 -> dense 3 -> gru 3 no biases",
        ),
        (
            &[
                ("Transpose 102", &["x"], "xt"),
                ("GRU", &["xt", "w", "r"], "y1"),
                ("Squeeze", &["y1", "one"], "y0"),
                ("Transpose 120", &["y0"], "y0t"),
                ("BatchNormalization", &of_y, "n"),
                ("Transpose 021", &["n"], "nt"),
                ("MatMul", &["nt", "weight"], "y"),
            ],
            "3 -> gru 3 no biases -> dense 3 -> dense 3 no bias",
        ),
        (
            &[
                ("Transpose 102", &["x"], "xt"),
                ("GRU", &["xt", "w", "r"], "y1"),
                ("Squeeze", &["y1", "one"], "y0"),
                ("Gather", &["y0", "last"], "end"),
                ("BatchNormalization", &of_last, "n"),
                ("MatMul", &["n", "weight"], "y"),
            ],
            "3 -> gru 3 no biases -> last step -> dense 3 -> dense 3 no bias",
        ),
        (
            &[
                ("Transpose 021", &["x"], "xt"),
                ("Conv", &["xt", "kernel"], "y0t"),
                ("BatchNormalization", &of_y, "n"),
                ("Relu", &["n"], "r0"),
                ("Transpose 021", &["r0"], "y"),
            ],
            "3 -> conv1d 3, kernel 2, relu",
        ),
        (
            &[
                ("MatMul", &["x", "weight"], "d"),
                ("Add", &["d", "shift"], "y0"),
                ("Transpose 021", &["y0"], "y0t"),
                ("BatchNormalization", &of_y, "n"),
                ("Transpose 021", &["n"], "nt"),
                ("Relu", &["nt"], "y"),
            ],
            "3 -> dense 3 relu",
        ),
    ];
    for (nodes, expected) in networks {
        let model = with_statistics(nodes, |_| ());
        let imported = model.import().unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(imported.config.to_string(), expected);
        same_on_others(expected, &model, &imported);
    }
}

#[test]
fn a_batch_normalisation_that_is_none_of_features_is_refused() {
    let of = |from: &'static str, set: &[(&str, i64)]| {
        let inputs = normalised(from);
        let nodes: Nodes = &[
            ("MatMul", &["x", "weight"], "d"),
            ("Transpose 021", &["d"], "dt"),
            ("BatchNormalization", &inputs, "n"),
            ("Transpose 021", &["n"], "y"),
        ];
        let more: Vec<NodeProto> = vec![node("", &[], "", set)];
        let model = with_statistics(nodes, |node| {
            if node.op_type == "BatchNormalization" {
                node.attribute.extend(more[0].attribute.clone());
            }
        });
        model.import().map(|imported| imported.config.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(of("dt", &[]).unwrap(), "3 -> dense 3");
    let trains = of("dt", &[("training_mode", 1)]).unwrap_err();
    assert!(trains.contains("as in training; export the model for inference"), "{trains}");
    // Axis 1 has the steps.
    let steps = of("d", &[]).unwrap_err();
    assert!(steps.contains("(BatchNormalization)"), "{steps}");
}

/// A model that reads many steps, and has no network, still runs as it is.
#[test]
fn a_model_runs_on_an_example_that_is_long_enough() {
    for kernel in ["kernel", "long"] {
        let nodes: Nodes =
            &[("Transpose 021", &["x"], "xt"), ("Conv", &["xt", kernel], "c"), ("Exp", &["c"], "y")];
        let model = with_statistics(nodes, |_| ());
        assert!(model.import().is_err() && model.runs_on_example(), "{kernel}");
    }
    // No length fits a product of matrices that do not.
    let model = with_statistics(&[("MatMul", &["x", "w"], "y")], |_| ());
    assert!(!model.runs_on_example());
}
