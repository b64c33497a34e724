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
        TensorProto { float_data: vec![0.0], ..floats("none", &[1]) },
        whole_numbers("last", &[-1]),
        whole_numbers("lowest", &[i64::MIN]),
        whole_numbers("axis", &[1]),
        whole_numbers("zero", &[0]),
        whole_numbers("one", &[1]),
        whole_numbers("turned", &[1, 0]),
        whole_numbers("rolled", &[1, 0]),
        whole_numbers("same", &[0, 0]),
        whole_numbers("two_rows", &[1, 2, 2]),
        whole_numbers("one_layer", &[1, -1, 2]),
        whole_numbers("flat", &[-1, 2]),
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

/// A chain of operators with one output each: the values are called `NAME.1`, ..., the last one `to`.
type Moves<'a> = &'a [(&'a str, &'a [&'a str], Vec<AttributeProto>)];

/// A name, the axes of a state, the moves before and after the node, and the state's shape for two rows.
type Case<'a> = (&'a str, &'a [&'a str], Moves<'a>, Moves<'a>, &'a [usize]);

fn moved(from: &str, to: &str, moves: Moves) -> Vec<NodeProto> {
    if moves.is_empty() {
        return vec![node("Identity", &[from], &[to], vec![])];
    }
    let name = |at: usize| match at {
        0 => from.to_owned(),
        at if at == moves.len() => to.to_owned(),
        at => format!("{from}.{at}"),
    };
    let one = |(at, (operator, more, attributes)): (usize, &(&str, &[&str], Vec<AttributeProto>))| {
        let (input, output) = (name(at), name(at + 1));
        let inputs: Vec<&str> = [input.as_str()].into_iter().chain(more.iter().copied()).collect();
        node(operator, &inputs, &[&output], attributes.clone())
    };
    moves.iter().enumerate().map(one).collect()
}

/// An RNN of two units whose initial state comes from `s`, and whose final state goes to `t`.
fn with_state(shape: &[&str], before: Moves, after: Moves) -> OnnxModel {
    let mut nodes = moved("s", "h0", before);
    nodes.push(recurrent("RNN", &["x", "h0"], &["y", "h1"]));
    nodes.extend(moved("h1", "t", after));
    model(nodes, vec![x(), port("s", shape)], &["y", "t"])
}

/// Checks that chunks of two of six steps, of two rows, give the outputs of the whole, and the last state.
fn same_as_whole(name: &str, model: &OnnxModel, state: &[usize]) {
    let inputs: BTreeMap<String, Tensor> = [("x".to_owned(), sound([6, 2, 2]))].into();
    let mut stream = stream(model, StreamOptions::new(2)).unwrap();
    let axes = stream.step_axes(&inputs, 2).unwrap_or_else(|error| panic!("{name}: {error}"));
    let len = state.iter().product();
    let first: Vec<f32> = (0..len).map(|k: usize| (k as f32 * 0.9).cos()).collect();
    let first = Tensor::F32(ArrayD::from_shape_vec(IxDyn(state), first).unwrap());
    stream.set_states([("s".to_owned(), first.clone())].into()).unwrap();
    let outputs = stream.run_in_chunks(&inputs, &axes, 2).unwrap();
    let all = inputs.into_iter().chain([("s".to_owned(), first)]).collect();
    let whole = model.run(&Device::cpu().unwrap(), &all).unwrap();
    let states = stream.states().unwrap();
    for (found, expected) in [(&outputs["y"], &whole["y"]), (&states["s"], &whole["t"])] {
        let (Tensor::F32(found), Tensor::F32(expected)) = (found, expected) else { panic!("{name}") };
        assert_eq!(found.shape(), expected.shape(), "{name}");
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{name}");
    }
}

#[test]
fn states_that_are_moved_and_moved_back_go_on() {
    let turn = || ("Transpose", &[][..], vec![ints("perm", &[1, 0, 2])]);
    let units = || ("Transpose", &[][..], vec![ints("perm", &[0, 2, 1])]);
    let reversed = || ("Gather", &["turned"][..], vec![int("axis", 2)]);
    let roll = || ("Gather", &["rolled"][..], vec![int("axis", 2)]);
    let cases: [Case; 8] = [
        ("plain", &["1", "batch", "2"], &[], &[], &[1, 2, 2]),
        ("batch first", &["batch", "1", "2"], &[turn()], &[turn()], &[2, 1, 2]),
        ("units first", &["1", "2", "batch"], &[units()], &[units()], &[1, 2, 2]),
        (
            "no layers",
            &["batch", "2"],
            &[("Unsqueeze", &["zero"], vec![])],
            &[("Squeeze", &["zero"], vec![])],
            &[2, 2],
        ),
        (
            "flat",
            &["batch", "2"],
            &[("Reshape", &["one_layer"], vec![])],
            &[("Reshape", &["flat"], vec![])],
            &[2, 2],
        ),
        ("reversed twice", &["1", "batch", "2"], &[reversed()], &[reversed()], &[1, 2, 2]),
        ("rolled back", &["1", "batch", "2"], &[roll(), roll()], &[("Identity", &[], vec![])], &[1, 2, 2]),
        (
            "cast",
            &["1", "batch", "2"],
            &[("Cast", &[], vec![int("to", 1)])],
            &[("Cast", &[], vec![int("to", 11)])],
            &[1, 2, 2],
        ),
    ];
    for (name, shape, before, after, state) in cases {
        let model = match (before, after) {
            ([], []) => {
                let nodes = vec![recurrent("RNN", &["x", "s"], &["y", "t"])];
                model(nodes, vec![x(), port("s", shape)], &["y", "t"])
            }
            _ => with_state(shape, before, after),
        };
        same_as_whole(name, &model, state);
    }
}

#[test]
fn a_next_state_in_another_order_is_refused() {
    let cases: [(&str, &[&str], Moves, Moves); 9] = [
        ("gathered", &["1", "batch", "2"], &[], &[("Gather", &["turned"], vec![int("axis", 2)])]),
        ("gathered before", &["1", "batch", "2"], &[("Gather", &["turned"], vec![int("axis", 2)])], &[]),
        ("one unit twice", &["1", "batch", "2"], &[], &[("Gather", &["same"], vec![int("axis", 2)])]),
        ("rows reversed", &["1", "2", "2"], &[], &[("Slice", &["last", "lowest", "axis", "last"], vec![])]),
        (
            "open rows reversed",
            &["1", "batch", "2"],
            &[],
            &[("Slice", &["last", "lowest", "axis", "last"], vec![])],
        ),
        ("transposed", &["1", "batch", "2"], &[], &[("Transpose", &[], vec![ints("perm", &[0, 2, 1])])]),
        ("transposed, fixed", &["1", "2", "2"], &[], &[("Transpose", &[], vec![ints("perm", &[0, 2, 1])])]),
        ("flattened otherwise", &["1", "2", "2"], &[("Transpose", &[], vec![ints("perm", &[0, 2, 1])])], &[]),
        (
            "repeated",
            &["1", "1", "2"],
            &[("Expand", &["two_rows"], vec![])],
            &[("Slice", &["zero", "one", "axis"], vec![])],
        ),
    ];
    for (name, shape, before, after) in cases {
        let model = with_state(shape, before, after);
        let error = stream(&model, StreamOptions::new(2)).unwrap_err().to_string();
        assert!(error.contains("the same elements in another order"), "{name}: {error}");
        // Said by the caller, it is carried on, but chunks are not the whole.
        let mut said = stream(&model, StreamOptions::new(2).carry("s", "t")).unwrap();
        let error = said.step_axes(&[("x".to_owned(), sound([6, 2, 2]))].into(), 2).unwrap_err().to_string();
        assert!(error.contains(ANEW), "{name}: {error}");
    }
}

/// Two states of an input, joined again in this order.
fn split(operator: &str, axis: i64, joined: [&str; 2]) -> OnnxModel {
    let mut nodes = vec![node("Split", &["s"], &["a0", "b0"], vec![int("axis", axis)])];
    nodes.extend(match operator {
        "LSTM" => vec![recurrent("LSTM", &["x", "a0", "b0"], &["y", "a1", "b1"])],
        _ => vec![recurrent("RNN", &["x", "a0"], &["y", "a1"]), recurrent("RNN", &["x", "b0"], &["z", "b1"])],
    });
    nodes.push(node("Concat", &joined, &["t"], vec![int("axis", axis)]));
    let shape = if axis == 0 { ["2", "batch", "2"] } else { ["1", "batch", "4"] };
    model(nodes, vec![x(), port("s", &shape)], &["y", "t"])
}

#[test]
fn states_of_one_input_are_joined_in_its_order() {
    for operator in ["LSTM", "RNN"] {
        for (axis, shape) in [(0, [2, 2, 2]), (2, [1, 2, 4])] {
            same_as_whole(operator, &split(operator, axis, ["a1", "b1"]), &shape);
            let swapped = split(operator, axis, ["b1", "a1"]);
            let error = stream(&swapped, StreamOptions::new(2)).unwrap_err().to_string();
            assert!(error.contains("input s: expected its next value in t"), "{operator}: {error}");
        }
    }
}

/// A state that only one branch carries on: the branch that runs decides.
#[test]
fn a_state_goes_on_in_the_branch_that_runs() {
    let branch = |from: &str, to: &str| {
        let nodes = vec![node("Identity", &[from], &[to], vec![])];
        GraphProto { node: nodes, output: vec![output(to)], ..Default::default() }
    };
    let then = graph("then_branch", branch("h1", "kept"));
    let other = graph("else_branch", branch("zeros", "lost"));
    let nodes = vec![
        node("Identity", &["s"], &["h0"], vec![]),
        recurrent("RNN", &["x", "h0"], &["y", "h1"]),
        node("Mul", &["h1", "none"], &["zeros"], vec![]),
        node("If", &["flag"], &["t"], vec![then, other]),
    ];
    let ports = vec![x(), port("s", &["1", "batch", "2"]), port("flag", &["1"])];
    let model = model(nodes, ports, &["y", "t"]);
    for on in [true, false] {
        let flag = Tensor::Bool(ArrayD::from_elem(IxDyn(&[1]), on));
        let inputs = [("x".to_owned(), sound([6, 1, 2])), ("flag".to_owned(), flag)].into();
        match chunks(&model, &inputs, 2) {
            Ok(_) => assert!(on, "the branch of zeros begins anew"),
            Err(error) => assert!(!on && error.to_string().contains(ANEW), "{error}"),
        }
    }
}

/// An RNN of two units with a state, on an input of this shape.
fn on_input(shape: &[&str]) -> OnnxModel {
    let ports = vec![port("x", shape), port("h0", &["1", shape[1], "2"])];
    model(vec![recurrent("RNN", &["x", "h0"], &["y", "hn"])], ports, &["y", "hn"])
}

/// The usual export without open axes: the steps of a call are fixed, and a long input goes through in calls of as many.
#[test]
fn a_model_that_fixes_its_steps_takes_chunks_of_as_many() {
    for (steps, rows, fixed_rows, all) in
        [(4, 2, "rows", 24), (4, 2, "2", 24), (1, 2, "2", 5), (1, 1, "1", 5), (4, 2, "2", 4), (2, 2, "2", 6)]
    {
        let fixed = on_input(&[&steps.to_string(), fixed_rows, "2"]);
        let inputs: BTreeMap<String, Tensor> = [("x".to_owned(), sound([all, rows, 2]))].into();
        let run = |model: &OnnxModel, chunk: usize| {
            let mut stream = stream(model, StreamOptions::new(rows)).unwrap();
            let axes = stream.step_axes(&inputs, chunk)?;
            let outputs = stream.run_in_chunks(&inputs, &axes, chunk)?;
            Ok::<_, OnnxError>((axes.fixed_steps(), outputs, stream.states()?))
        };
        let (found, outputs, states) = run(&fixed, steps).unwrap();
        assert_eq!(found, Some(steps));
        let (found, whole, last) = run(&on_input(&["steps", "rows", "2"]), all).unwrap();
        assert_eq!((found, outputs, states), (None, whole, last), "{steps} of {all} steps");
        let error = run(&fixed, 3).unwrap_err().to_string();
        let expected = format!(
            "input x: expected chunks of {steps}, since the model fixes {steps} steps per call, found chunks of 3"
        );
        assert_eq!(error, expected);
    }
    let fixed = on_input(&["4", "rows", "2"]);
    let mut stream = stream(&fixed, StreamOptions::new(2)).unwrap();
    for all in [3, 22] {
        let inputs = [("x".to_owned(), sound([all, 2, 2]))].into();
        let error = stream.step_axes(&inputs, 4).unwrap_err().to_string();
        let expected = format!(
            "input x: expected a multiple of 4 steps, since the model fixes 4 steps per call, found {all} steps"
        );
        assert_eq!(error, expected);
    }
    // Axes found on one input hold for the chunks of another only if they fit too.
    let axes = stream.step_axes(&[("x".to_owned(), sound([8, 2, 2]))].into(), 4).unwrap();
    assert!(stream.run_in_chunks(&[("x".to_owned(), sound([8, 2, 2]))].into(), &axes, 3).is_err());
    assert!(stream.run_in_chunks(&[("x".to_owned(), sound([6, 2, 2]))].into(), &axes, 4).is_err());
}

#[test]
fn a_stream_tells_which_outputs_carry_its_inputs_on() {
    let kept = on_input(&["steps", "rows", "2"]);
    assert_eq!(stream(&kept, StreamOptions::new(1)).unwrap().carried(), [("h0", "hn")]);
    let carried = split("LSTM", 0, ["a1", "b1"]);
    assert_eq!(stream(&carried, StreamOptions::new(1)).unwrap().carried(), [("s", "t")]);
    let own = model(vec![recurrent("RNN", &["x"], &["y"])], vec![x()], &["y"]);
    assert_eq!(stream(&own, StreamOptions::new(1)).unwrap().carried(), []);
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
