//! Streams of small graphs in which chunks would not be the whole.

use crate::proto::tensor_proto::DataType;
use crate::proto::tensor_shape_proto::{Dimension, dimension::Value as Length};
use crate::proto::type_proto::{Tensor as TensorType, Value as Type};
use crate::proto::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
};
use crate::{OnnxError, OnnxModel, StepAxes, Stream, StreamOptions, Tensor, testing};
use gatefold::Device;
use ndarray::{Array3, ArrayD, IxDyn};
use std::collections::BTreeMap;

/// An input or output; axes are lengths or names.
fn port(name: &str, axes: &[&str]) -> ValueInfoProto {
    let length = |axis: &&str| match axis.parse() {
        Ok(len) => Length::DimValue(len),
        Err(_) => Length::DimParam((*axis).into()),
    };
    let dim = axes.iter().map(|axis| Dimension { value: Some(length(axis)), ..Default::default() }).collect();
    let element = if name == "flag" { DataType::Bool } else { DataType::Float };
    let tensor = TensorType { elem_type: element as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

/// An output of any shape.
fn output(name: &str) -> ValueInfoProto {
    let tensor = TensorType { elem_type: DataType::Float as i32, shape: None };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        attribute,
        ..Default::default()
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: AttributeType::Int as i32, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), ints: ints.into(), r#type, ..Default::default() }
}

fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    let r#type = AttributeType::Graph as i32;
    AttributeProto { name: name.into(), g: Some(graph), r#type, ..Default::default() }
}

fn floats(name: &str, dims: &[i64]) -> TensorProto {
    let float_data = (0..dims.iter().product()).map(|k: i64| (k as f32 * 0.7 + 1.0).sin() * 0.8).collect();
    let data_type = DataType::Float as i32;
    TensorProto { name: name.into(), dims: dims.into(), data_type, float_data, ..Default::default() }
}

fn whole_numbers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.into(),
        ..Default::default()
    }
}

/// A recurrent node of two units on two features. The weights w and r have the gates of an LSTM, wr and rr one.
fn recurrent(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let weights = if operator == "LSTM" { ["w", "r"] } else { ["wr", "rr"] };
    let all: Vec<&str> = inputs[..1].iter().copied().chain(weights).chain(["", ""]).collect();
    let all: Vec<&str> = all.into_iter().chain(inputs[1..].iter().copied()).collect();
    node(operator, &all, outputs, vec![int("hidden_size", 2)])
}

fn model(node: Vec<NodeProto>, input: Vec<ValueInfoProto>, outputs: &[&str]) -> OnnxModel {
    let initializer = vec![
        floats("w", &[1, 8, 2]),
        floats("r", &[1, 8, 2]),
        floats("wr", &[1, 2, 2]),
        floats("rr", &[1, 2, 2]),
        floats("half", &[1]),
        whole_numbers("last", &[-1]),
        whole_numbers("first_row", &[1, -1, 2]),
    ];
    let output = outputs.iter().map(|name| output(name)).collect();
    testing::model(17, GraphProto { node, input, output, initializer, ..Default::default() })
}

fn x() -> ValueInfoProto {
    port("x", &["steps", "batch", "2"])
}

fn sound(shape: [usize; 3]) -> Tensor {
    let mut k = 0.0;
    Array3::from_shape_simple_fn(shape, || {
        k += 1.0;
        (k * 1.3_f32).sin()
    })
    .into()
}

fn stream(model: &OnnxModel, options: StreamOptions) -> Result<Stream<'_>, OnnxError> {
    model.on(&Device::cpu().unwrap()).stream(options)
}

/// The axes of steps, and the outputs in chunks.
fn chunks(
    model: &OnnxModel,
    inputs: &BTreeMap<String, Tensor>,
    steps: usize,
) -> Result<(StepAxes, BTreeMap<String, Tensor>), OnnxError> {
    let mut stream = stream(model, StreamOptions::new(1))?;
    let axes = stream.step_axes(inputs, steps)?;
    let outputs = stream.run_in_chunks(inputs, &axes, steps)?;
    Ok((axes, outputs))
}

/// Checks that chunks of six steps of one row are refused for this reason.
fn refused(model: &OnnxModel, reason: &str) {
    let inputs = [("x".to_owned(), sound([6, 1, 2]))].into();
    let found = chunks(model, &inputs, 2).map(|(axes, _)| axes);
    let error = found.expect_err("chunks are not the whole").to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_chunk_of_one_step_does_not_hide_the_axis_of_steps() {
    let nodes = vec![
        node("Transpose", &["x"], &["xt"], vec![ints("perm", &[1, 0, 2])]),
        recurrent("RNN", &["xt"], &["y"]),
        node("Transpose", &["y"], &["yt"], vec![ints("perm", &[2, 0, 1, 3])]),
        node("Reshape", &["yt", "first_row"], &["z"], vec![]),
    ];
    let model = model(nodes, vec![port("x", &["batch", "steps", "2"])], &["z"]);
    let inputs: BTreeMap<String, Tensor> = [("x".to_owned(), sound([1, 5, 2]))].into();
    let (axes, outputs) = chunks(&model, &inputs, 1).unwrap();
    assert_eq!(axes.of_output("z"), Some(1));
    assert_eq!(outputs["z"].shape(), [1, 5, 2]);
    // A single step does not tell.
    let inputs = [("x".to_owned(), sound([1, 1, 2]))].into();
    let error = chunks(&model, &inputs, 1).unwrap_err().to_string();
    assert!(error.contains("several"), "{error}");
}

const ANEW: &str = "its state does not go on from chunk to chunk";

#[test]
fn an_lstm_whose_cell_begins_anew_is_refused() {
    let lstm = vec![recurrent("LSTM", &["x", "h0"], &["y", "hn"])];
    let h = port("h0", &["1", "batch", "2"]);
    refused(&model(lstm, vec![x(), h], &["y", "hn"]), ANEW);
}

#[test]
fn a_node_that_begins_with_what_is_made_of_a_state_is_refused() {
    let nodes = vec![
        node("Tanh", &["state"], &["first"], vec![]),
        recurrent("RNN", &["x", "first"], &["y", "stateN"]),
    ];
    refused(&model(nodes, vec![x(), port("state", &["1", "batch", "2"])], &["y", "stateN"]), ANEW);
}

#[test]
fn a_state_that_another_output_carries_on_is_refused() {
    let nodes =
        vec![recurrent("RNN", &["x", "state"], &["y", "end"]), node("Neg", &["end"], &["stateN"], vec![])];
    refused(&model(nodes, vec![x(), port("state", &["1", "batch", "2"])], &["y", "stateN"]), ANEW);
}

#[test]
fn a_state_that_all_steps_of_a_chunk_read_is_refused() {
    let nodes = vec![
        node("Sub", &["x", "state"], &["y"], vec![]),
        node("Gather", &["x", "last"], &["now"], vec![int("axis", 0)]),
        node("Mul", &["state", "half"], &["old"], vec![]),
        node("Add", &["now", "old"], &["stateN"], vec![]),
    ];
    let state = port("state", &["1", "batch", "2"]);
    refused(&model(nodes, vec![x(), state], &["y", "stateN"]), "(Sub): it joins");
}

#[test]
fn an_output_made_of_the_first_state_is_refused() {
    let nodes =
        vec![recurrent("RNN", &["x", "h0"], &["y", "hn"]), node("Mul", &["h0", "half"], &["z"], vec![])];
    let model = model(nodes, vec![x(), port("h0", &["1", "batch", "2"])], &["y", "z", "hn"]);
    refused(&model, "output z, made of the first state");
}

/// A branch of constants has no nodes, so it looks like one in which nothing ran.
#[test]
fn the_branch_that_ran_is_followed() {
    for (empty, full) in [("then_branch", "else_branch"), ("else_branch", "then_branch")] {
        let (initializer, c) = (vec![floats("c", &[1, 1, 2])], vec![output("c")]);
        let constant = GraphProto { initializer, output: c, ..Default::default() };
        let mean = node("ReduceMean", &["x"], &["mean"], vec![ints("axes", &[0])]);
        let mean = GraphProto { node: vec![mean], output: vec![output("mean")], ..Default::default() };
        let branches = vec![graph(empty, constant), graph(full, mean)];
        let nodes = vec![recurrent("RNN", &["x"], &["y"]), node("If", &["flag"], &["z"], branches)];
        let model = model(nodes, vec![x(), port("flag", &["1"])], &["y", "z"]);
        let flag = |on: bool| Tensor::Bool(ArrayD::from_elem(IxDyn(&[1]), on));
        let inputs = |key| {
            [("x".to_owned(), sound([6, 1, 2])), ("flag".to_owned(), flag(key == "then_branch"))].into()
        };
        let error = chunks(&model, &inputs(full), 2).unwrap_err().to_string();
        assert!(error.contains("(ReduceMean): it reads several steps at once"), "{error}");
        assert_eq!(chunks(&model, &inputs(empty), 2).unwrap().1["y"].shape(), [6, 1, 1, 2]);
    }
}

#[test]
fn a_state_with_two_open_axes_is_refused() {
    let nodes = vec![node("Concat", &["past", "x"], &["present"], vec![int("axis", 0)])];
    let model = model(nodes, vec![x(), port("past", &["before", "batch", "2"])], &["present"]);
    let error = stream(&model, StreamOptions::new(3).carry("past", "present")).unwrap_err().to_string();
    assert!(error.contains("input past: expected a state with one axis of streams"), "{error}");
}

/// Names of the inputs that remain.
fn left(stream: &Stream) -> Vec<String> {
    stream.inputs().iter().map(|port| port.name.clone()).collect()
}

#[test]
fn data_are_not_states() {
    for (input, output) in [("x", "x_out"), ("input_1", "output_1")] {
        let nodes = vec![recurrent("RNN", &[input], &[output])];
        let model = model(nodes, vec![port(input, &["steps", "batch", "2"])], &[output]);
        assert_eq!(left(&stream(&model, StreamOptions::new(1)).unwrap()), [input]);
    }
    let nodes =
        vec![node("Mul", &["x", "gain"], &["louder"], vec![]), recurrent("RNN", &["louder"], &["x_out"])];
    let model = model(nodes, vec![x(), port("gain", &["1"])], &["x_out"]);
    assert_eq!(left(&stream(&model, StreamOptions::new(1).not_carried("x")).unwrap()), ["x", "gain"]);
    let unknown = stream(&model, StreamOptions::new(1).not_carried("z")).unwrap_err().to_string();
    assert!(unknown.contains("input z: expected one of the model's inputs"), "{unknown}");
    let both = StreamOptions::new(1).not_carried("x").carry("x", "x_out");
    assert!(stream(&model, both).is_err());
}

#[test]
fn a_state_is_carried_once() {
    let nodes = vec![recurrent("RNN", &["x", "a"], &["y", "p"]), recurrent("RNN", &["x", "b"], &["z", "q"])];
    let state = |name| port(name, &["1", "batch", "2"]);
    let model = model(nodes, vec![x(), state("a"), state("b")], &["y", "z", "p", "q"]);
    for pairs in [[("a", "p"), ("a", "q")], [("a", "p"), ("b", "p")]] {
        let options = pairs.iter().fold(StreamOptions::new(1), |all, &(i, o)| all.carry(i, o));
        let error = stream(&model, options).unwrap_err().to_string();
        assert!(error.contains("expected one partner"), "{error}");
    }
}

#[test]
fn ways_that_are_too_many_are_refused() {
    let names = ["a", "b", "c", "d"];
    let add = node("Sum", &names, &["x"], vec![]);
    let ports = names.map(|name| port(name, &["steps", "batch", "width"])).to_vec();
    let model = model(vec![add, recurrent("RNN", &["x"], &["y"])], ports, &["y"]);
    let inputs = names.map(|name| (name.to_owned(), sound([2, 2, 2]))).into();
    let error = chunks(&model, &inputs, 1).unwrap_err().to_string();
    assert!(error.contains("more than 64"), "{error}");
}

#[test]
fn rows_reset_before_the_first_run_begin_anew() {
    let model = model(vec![recurrent("RNN", &["x"], &["y"])], vec![x()], &["y"]);
    let run = |reset: bool| {
        let mut stream = stream(&model, StreamOptions::new(2)).unwrap();
        let name = stream.state_names().remove(0);
        let state = Tensor::F32(ArrayD::ones(IxDyn(&[1, 2, 2])));
        if reset {
            stream.set_states([(name, state)].into()).unwrap();
            stream.reset_rows(&[1]).unwrap();
        }
        match stream.run(&[("x".to_owned(), sound([1, 2, 2]))].into()).unwrap().remove("y") {
            Some(Tensor::F32(y)) => y,
            other => panic!("{other:?}"),
        }
    };
    let (reset, fresh) = (run(true), run(false));
    let row = |y: &ArrayD<f32>, row| y.index_axis(ndarray::Axis(2), row).to_owned();
    assert_eq!(row(&reset, 1), row(&fresh, 1));
    assert_ne!(row(&reset, 0), row(&fresh, 0));
}
