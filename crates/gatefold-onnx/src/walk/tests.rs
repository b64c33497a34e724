//! Loops that never end, and chains that are one network.

use super::{Program, Scope};
use crate::proto::tensor_proto::DataType;
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use crate::{Tensor, testing};
use gatefold::Device;
use gatefold_check::Failures;
use ndarray::{ArrayD, IxDyn};
use std::collections::BTreeMap;

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
    let model = testing::model(
        17,
        GraphProto {
            node: vec![forever],
            input: vec![port("x", DataType::Float)],
            output: vec![port("y", DataType::Float)],
            ..Default::default()
        },
    );
    let inputs = [("x".to_string(), ndarray::arr1(&[1.0_f32]).into())].into();
    let refused = model.run(&Device::cpu().unwrap(), &inputs).unwrap_err().to_string();
    assert!(refused.contains("too many trips"), "{refused}");
}

/// Sines of different phases.
fn wave(shape: &[usize], scale: f32) -> ArrayD<f32> {
    let mut k = 0.0;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 0.7;
        scale * f32::sin(k)
    })
}

/// A convolution with two outputs more than inputs, a kernel of 3, and its own weight `w` and bias `b`.
fn conv(input: &str, output: &str, [stride, dilation]: [i64; 2], pads: [i64; 2]) -> NodeProto {
    let numbers = |name: &str, ints: &[i64]| AttributeProto {
        name: name.into(),
        ints: ints.to_vec(),
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    };
    let attribute =
        vec![numbers("strides", &[stride]), numbers("dilations", &[dilation]), numbers("pads", &pads)];
    let (w, b) = (format!("{output}_w"), format!("{output}_b"));
    let inputs = if stride == 1 { vec![input, &w, &b] } else { vec![input, &w] };
    NodeProto { attribute, ..node("Conv", &inputs, &[output]) }
}

fn initializer((name, array): (&String, &ArrayD<f32>)) -> TensorProto {
    TensorProto {
        name: name.clone(),
        dims: array.shape().iter().map(|&len| len as i64).collect(),
        data_type: DataType::Float as i32,
        float_data: array.iter().copied().collect(),
        ..Default::default()
    }
}

/// Runs nodes whose weights are constants, on the engine, and inputs, which the library computes with; there must be `count`
/// steps in the first run. `terms` is the number of terms in the largest sum of a chain.
fn compare(
    count: usize,
    nodes: &[NodeProto],
    outputs: &[&str],
    weights: &[(&str, &[usize])],
    mut x: ArrayD<f32>,
    terms: f32,
) {
    let reads = |name: &str| nodes.iter().any(|node| node.input.iter().any(|input| input == name));
    let weights: BTreeMap<String, ArrayD<f32>> = weights
        .iter()
        .filter(|(name, _)| reads(name))
        .map(|(name, shape)| ((*name).to_owned(), wave(shape, 0.5)))
        .collect();
    x.iter_mut().skip(3).step_by(41).for_each(|value| *value = f32::NAN);
    let mut inputs: BTreeMap<String, Tensor> = [("x".to_owned(), x.into())].into();

    let graph = |initializer, more: Vec<&String>| {
        let input = more.into_iter().map(String::as_str).chain(["x"]);
        testing::model(
            17,
            GraphProto {
                node: nodes.to_vec(),
                initializer,
                input: input.map(|name| port(name, DataType::Float)).collect(),
                output: outputs.iter().map(|name| port(name, DataType::Float)).collect(),
                ..Default::default()
            },
        )
    };
    let constant = graph(weights.iter().map(initializer).collect(), Vec::new());
    assert_eq!(Program::new(&constant.graph, &Scope::default()).steps.len(), count);
    let device = Device::cpu().unwrap();
    let found = constant.run(&device, &inputs).unwrap();

    let given = graph(Vec::new(), weights.keys().collect());
    inputs.extend(weights.iter().map(|(name, array)| (name.clone(), array.clone().into())));
    let expected = given.run(&device, &inputs).unwrap();
    for name in outputs {
        let (Tensor::F32(found), Tensor::F32(expected)) = (&found[*name], &expected[*name]) else {
            panic!("{name} is not float32")
        };
        assert_eq!(found.shape(), expected.shape(), "{name}");
        for (place, &value) in found.indexed_iter() {
            let other = expected[&place];
            // Two sums of terms to 4 and one function, each rounded in two orders.
            let most = 2.0 * terms * terms * 4.0 * f32::EPSILON * other.abs().max(1.0);
            assert!(value.is_nan() == other.is_nan(), "{name}{place:?}: {value}, not {other}");
            assert!(other.is_nan() || (value - other).abs() <= most, "{name}{place:?}: {value}, not {other}");
        }
    }
}

#[test]
fn convolutions_on_the_engine_are_those_of_the_library() {
    type Chain = (usize, Vec<NodeProto>, &'static [&'static str]);
    let chains = |options, pads| -> Vec<Chain> {
        let (a, b) = (conv("x", "a", options, pads), |input| conv(input, "b", [1, 1], [1, 0]));
        let function = |operator| node(operator, &["a"], &["f"]);
        vec![
            (1, vec![a.clone()], &["a"]),
            (1, vec![a.clone(), function("Relu")], &["f"]),
            (1, vec![a.clone(), b("a")], &["b"]),
            (1, vec![a.clone(), function("Tanh"), b("f")], &["b"]),
            (1, vec![a.clone(), b("a"), node("Sigmoid", &["b"], &["g"])], &["g"]),
            // A value that others read too stays one of its own.
            (2, vec![a.clone(), function("Sigmoid")], &["a", "f"]),
            (3, vec![a.clone(), function("Relu"), b("a")], &["f", "b"]),
            (2, vec![a.clone(), node("Mul", &["a", "a"], &["f"])], &["f"]),
            (2, vec![a, node("Exp", &["a"], &["f"])], &["f"]),
        ]
    };
    let weights: [(&str, &[usize]); 4] =
        [("a_w", &[7, 5, 3]), ("a_b", &[7]), ("b_w", &[9, 7, 3]), ("b_b", &[9])];
    let mut failures = Failures::new();
    for (batch, steps, options, pads) in [
        (1, 40, [1, 1], [1, 1]),
        (1, 40, [3, 1], [4, 5]),
        (3, 37, [2, 1], [3, 2]),
        (1, 9, [1, 2], [0, 1]),
        (2, 5, [1, 1], [0, 0]),
        (0, 9, [1, 1], [0, 0]),
    ] {
        for (count, nodes, outputs) in chains(options, pads) {
            let name =
                format!("[{batch}, 5, {steps}], {options:?}, {pads:?}: {outputs:?} of {} nodes", nodes.len());
            failures.check(name, || {
                compare(count, &nodes, outputs, &weights, wave(&[batch, 5, steps], 1.0), 22.0);
            });
        }
    }
    failures.finish();
}

#[test]
fn products_on_the_engine_are_those_of_the_library() {
    let number = |name: &str, i| AttributeProto {
        name: name.into(),
        i,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    };
    let gemm = |inputs: &[&str], output: &str, settings: &[(&str, i64)]| NodeProto {
        attribute: settings.iter().map(|(name, value)| number(name, *value)).collect(),
        ..node("Gemm", inputs, &[output])
    };
    let product = || node("MatMul", &["x", "w"], &["p"]);
    let sum = || node("Add", &["p", "b"], &["a"]);
    type Case = (usize, Vec<NodeProto>, &'static [&'static str], &'static [usize]);
    let cases: Vec<Case> = vec![
        (1, vec![product()], &["p"], &[4, 3, 5]),
        (1, vec![product(), sum(), node("Relu", &["a"], &["f"])], &["f"], &[4, 3, 5]),
        (1, vec![product(), node("Add", &["b", "p"], &["a"]), node("Tanh", &["a"], &["f"])], &["f"], &[1, 5]),
        (1, vec![product(), node("Add", &["p", "row"], &["a"])], &["a"], &[2, 5]),
        (1, vec![product(), sum(), node("MatMul", &["a", "v"], &["q"])], &["q"], &[2, 2, 2, 5]),
        (
            1,
            vec![product(), node("Sigmoid", &["p"], &["s"]), node("MatMul", &["s", "v"], &["q"])],
            &["q"],
            &[3, 5],
        ),
        (1, vec![product()], &["p"], &[0, 3, 5]),
        (1, vec![gemm(&["x", "w", "b"], "p", &[])], &["p"], &[3, 5]),
        (1, vec![gemm(&["x", "t"], "p", &[("transB", 1)]), node("Relu", &["p"], &["f"])], &["f"], &[3, 5]),
        (1, vec![gemm(&["x", "w", "row"], "p", &[])], &["p"], &[3, 5]),
        // A vector's product has one axis, and a sum that makes more of it is no bias; nor is one with as many rows.
        (1, vec![product()], &["p"], &[5]),
        (2, vec![product(), node("Add", &["p", "more"], &["a"])], &["a"], &[4, 3, 5]),
        (2, vec![product(), node("Add", &["p", "p"], &["a"])], &["a"], &[4, 5]),
        (2, vec![product(), sum()], &["p", "a"], &[4, 5]),
        (1, vec![gemm(&["x", "w"], "p", &[("transA", 1)])], &["p"], &[5, 3]),
        // The second factor is no weight.
        (2, vec![node("Abs", &["x"], &["y"]), node("MatMul", &["w", "y"], &["p"])], &["p"], &[7, 5]),
    ];
    let weights: [(&str, &[usize]); 6] =
        [("w", &[5, 7]), ("t", &[7, 5]), ("b", &[7]), ("row", &[1, 7]), ("more", &[3, 7]), ("v", &[7, 9])];
    let mut failures = Failures::new();
    for (count, nodes, outputs, shape) in cases {
        let names: Vec<String> =
            nodes.iter().map(|node| format!("{} {:?}", node.op_type, node.input)).collect();
        failures.check(format!("{shape:?}: {}", names.join(", ")), || {
            compare(count, &nodes, outputs, &weights, wave(shape, 1.0), 13.0);
        });
    }
    failures.finish();
}

/// A branch puts its weight together from constants around it: that is done once. What depends on an input is not.
#[test]
fn constants_around_a_branch_are_folded_inside() {
    let branch = |name: &str, other: &str| {
        let graph = GraphProto {
            node: vec![node("Add", &["w", other], &["sum"]), node("MatMul", &["x", "sum"], &["out"])],
            output: vec![port("out", DataType::Float)],
            ..Default::default()
        };
        AttributeProto {
            name: name.into(),
            g: Some(graph),
            r#type: AttributeType::Graph as i32,
            ..Default::default()
        }
    };
    let attribute = vec![branch("then_branch", "v"), branch("else_branch", "given")];
    let arrays: BTreeMap<String, ArrayD<f32>> =
        ["w", "v"].map(|name| (name.to_owned(), wave(&[3, 2], 0.5))).into();
    let model = testing::model(
        17,
        GraphProto {
            node: vec![NodeProto { attribute, ..node("If", &["on"], &["y"]) }],
            initializer: arrays.iter().map(initializer).collect(),
            input: vec![
                port("on", DataType::Bool),
                port("x", DataType::Float),
                port("given", DataType::Float),
            ],
            output: vec![port("y", DataType::Float)],
            ..Default::default()
        },
    );
    let left: Vec<usize> = model.graph.nodes[0].graphs().map(|graph| graph.nodes.len()).collect();
    let folded: Vec<&str> = model.graph.nodes[0]
        .graphs()
        .filter(|graph| graph.constants.contains_key("sum"))
        .flat_map(|graph| graph.captures.iter().map(String::as_str))
        .collect();
    assert_eq!((left.iter().sum::<usize>(), folded), (3, vec!["x"]));
    for on in [true, false] {
        let inputs = BTreeMap::from([
            ("on".to_owned(), Tensor::Bool(ndarray::arr0(on).into_dyn())),
            ("x".to_owned(), wave(&[1, 3], 1.0).into()),
            ("given".to_owned(), wave(&[3, 2], -0.5).into()),
        ]);
        let outputs = model.run(&Device::cpu().unwrap(), &inputs).unwrap();
        let Tensor::F32(y) = &outputs["y"] else { panic!("float32") };
        // w + v doubles the waves; w + given is zero.
        let (x, w) = (wave(&[1, 3], 1.0), wave(&[3, 2], if on { 1.0 } else { 0.0 }));
        let expected = |column: usize| (0..3).map(|k| x[[0, k]] * w[[k, column]]).sum::<f32>();
        assert!((0..2).all(|column| (y[[0, column]] - expected(column)).abs() < 1e-6), "{on}: {y}");
    }
}
