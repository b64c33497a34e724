//! Loops that never end, and convolutions that are one network.

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

/// With constant weights they run on the engine; if the weights are inputs, the library computes them.
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
            // What others read stays a value of its own.
            (2, vec![a.clone(), function("Sigmoid")], &["a", "f"]),
            (3, vec![a.clone(), function("Relu"), b("a")], &["f", "b"]),
            (2, vec![a.clone(), node("Mul", &["a", "a"], &["f"])], &["f"]),
            (2, vec![a, node("Exp", &["a"], &["f"])], &["f"]),
        ]
    };
    let mut failures = Failures::new();
    for (batch, steps, options, pads) in [
        (1, 40, [1, 1], [1, 1]),
        (3, 37, [2, 1], [3, 2]),
        (1, 9, [1, 2], [0, 1]),
        (2, 5, [1, 1], [0, 0]),
        (0, 9, [1, 1], [0, 0]),
    ] {
        for (count, nodes, outputs) in chains(options, pads) {
            let name =
                format!("[{batch}, 5, {steps}], {options:?}, {pads:?}: {outputs:?} of {} nodes", nodes.len());
            failures.check(name, || {
                let shapes = [("a_w", &[7, 5, 3][..]), ("a_b", &[7]), ("b_w", &[9, 7, 3]), ("b_b", &[9])];
                let reads =
                    |name: &str| nodes.iter().any(|node| node.input.iter().any(|input| input == name));
                let weights: BTreeMap<String, ArrayD<f32>> = shapes
                    .into_iter()
                    .filter(|(name, _)| reads(name))
                    .map(|(name, shape)| (name.to_owned(), wave(shape, 0.5)))
                    .collect();
                let mut x = wave(&[batch, 5, steps], 1.0);
                x.iter_mut().skip(3).step_by(41).for_each(|value| *value = f32::NAN);
                let mut inputs: BTreeMap<String, Tensor> = [("x".to_owned(), x.into())].into();

                let graph = |initializer, more: Vec<&String>| {
                    let input = more.into_iter().map(String::as_str).chain(["x"]);
                    testing::model(
                        17,
                        GraphProto {
                            node: nodes.clone(),
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
                    let (Tensor::F32(found), Tensor::F32(expected)) = (&found[*name], &expected[*name])
                    else {
                        panic!("{name} is not float32")
                    };
                    assert_eq!(found.shape(), expected.shape(), "{name}");
                    for (place, &value) in found.indexed_iter() {
                        let other = expected[&place];
                        // Two sums of at most 22 terms, of values to 4, rounded in two orders; Exp makes 60 of 4.
                        let most = 2.0 * 22.0 * 22.0 * 4.0 * f32::EPSILON * other.abs().max(1.0);
                        assert!(value.is_nan() == other.is_nan(), "{name}{place:?}: {value}, not {other}");
                        assert!(
                            other.is_nan() || (value - other).abs() <= most,
                            "{name}{place:?}: {value}, not {other}"
                        );
                    }
                }
            });
        }
    }
    failures.finish();
}
