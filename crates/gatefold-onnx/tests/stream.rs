//! Streams through the models of other programs, on the CPU and on a GPU: chunks give the outputs of the whole, or are
//! refused for a reason.

use crate::run::{arrays, check, f32s, folder, names};
use gatefold::Device;
use gatefold_check::{Failures, test_gpu};
use gatefold_onnx::{OnnxError, OnnxModel, Stream, StreamOptions, Tensor};
use ndarray::{ArrayD, Axis};
use std::collections::BTreeMap;

type Arrays = BTreeMap<String, Tensor>;

fn read(name: &str) -> OnnxModel {
    OnnxModel::read(folder().join(format!("{name}.onnx"))).unwrap()
}

/// A model's inputs without those that a stream carries on, which begin with the given ones.
fn begun(model: &OnnxModel, stream: &mut Stream, mut arrays: Arrays) -> (Arrays, Arrays) {
    let names = stream.state_names();
    let mut take = |name: &String| arrays.remove_entry(name);
    let states: Arrays = names.iter().filter_map(&mut take).collect();
    let inputs: Arrays = stream.inputs().iter().filter_map(|port| take(&port.name)).collect();
    assert!(states.len() + inputs.len() == model.inputs().len() || states.len() < names.len(), "{names:?}");
    stream.set_states(states.clone()).unwrap();
    (inputs, states)
}

/// Why each of the fixtures cannot go on from chunk to chunk; the others can.
fn refusal(name: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(begin, _)| name.starts_with(begin)).map(|(_, reason)| *reason)
}

const REFUSED: &[(&str, &str)] = &[
    ("dynamo_conv_causal", "(Conv): it reads several steps at once"),
    ("dynamo_conv_lstm", "(Conv): it reads several steps at once"),
    ("dynamo_conv_window", "expected a model with recurrent nodes"),
    ("dynamo_every_step", FROM_THE_END),
    ("dynamo_final_state", FROM_THE_END),
    ("dynamo_lstm_2_bi", FROM_THE_END),
    ("dynamo_lstm_states", FIXED),
    // The exporter wrote its steps one after another.
    ("dynamo_rnn_relu", "expected a model with recurrent nodes"),
    ("keras2_bidirectional", FROM_THE_END),
    ("keras2_fixed_length", JOINED),
    ("keras2_lstm_reverse", "(ReverseSequence): it reads several steps at once"),
    ("keras2_per_step", JOINED),
    ("keras2_tokens", JOINED),
    ("keras3_bidirectional_gru", LOOP),
    ("keras3_bidirectional_lstm", FROM_THE_END),
    ("keras3_fixed_length", JOINED),
    ("keras3_gru", LOOP),
    ("keras3_hard_sigmoid", LOOP),
    ("keras3_loops_without_bias", LOOP),
    ("keras3_masked", LOOP),
    ("keras3_stacked_loops", LOOP),
    ("keras3_swish", LOOP),
    ("keras3_tokens", JOINED),
    ("keras3_unrolled", "expected a model with recurrent nodes"),
    ("pytorch_conv_causal", "(Pad): it reads several steps at once"),
    ("pytorch_conv_lstm", "(Conv): it reads several steps at once"),
    ("pytorch_conv_window", "expected a model with recurrent nodes"),
    ("pytorch_every_step", FROM_THE_END),
    ("pytorch_final_state", FROM_THE_END),
    ("pytorch_gru_2_bi", FROM_THE_END),
    ("pytorch_gru_lengths", "lengths of their own"),
    ("pytorch_gru_states_8", FIXED),
    ("pytorch_last_step_18", FIXED),
    ("pytorch_lstm_2_bi", FROM_THE_END),
    ("pytorch_lstm_lengths", FROM_THE_END),
    ("pytorch_lstm_nobias", FIXED),
    ("pytorch_lstm_states_7", FIXED),
    ("pytorch_rnn_relu_bi", FROM_THE_END),
    ("test_gru_bidirectional", FROM_THE_END),
    ("test_gru_reverse", FROM_THE_END),
    ("test_lstm_bidirectional", FROM_THE_END),
    ("test_lstm_reverse", FROM_THE_END),
    ("test_lstm_with_peepholes", "its initial state comes from the input initial_"),
    ("test_simple_rnn_bidirectional", FROM_THE_END),
    ("test_simple_rnn_reverse", FROM_THE_END),
    // Their weights are inputs.
    ("test_", "its weights are given or computed"),
];
const LOOP: &str = "(Loop): the values that it carries begin anew";
const FROM_THE_END: &str = "it reads the sequence from its end";
const FIXED: &str = "steps per call, found chunks of 2";
const JOINED: &str = "(Reshape): it joins the steps with another axis";

fn chunks_are_the_whole(device: &Device) {
    let mut failures = Failures::new();
    let mut streamed = 0;
    for name in names() {
        failures.check(&name, || {
            let (model, given) = (read(&name), arrays(&name));
            let batch = given.get("h0").map_or(1, |h| h.shape()[1]);
            let stream = model.on(device).stream(StreamOptions::new(batch));
            let found = stream.and_then(|mut stream| {
                let (inputs, states) = begun(&model, &mut stream, given.clone());
                let axes = stream.step_axes(&inputs, 2)?;
                stream.set_states(states)?;
                let outputs = stream.run_in_chunks(&inputs, &axes, 2)?;
                Ok((stream.states()?, outputs))
            });
            match (found, refusal(&name)) {
                (Err(error), Some(reason)) => assert!(error.to_string().contains(reason), "{error}"),
                (Err(error), None) => panic!("{error}"),
                (Ok(_), Some(reason)) => panic!("expected: {reason}"),
                (Ok((states, outputs)), None) => {
                    let inputs =
                        model.inputs().iter().map(|port| (port.name.clone(), given[&port.name].clone()));
                    let whole = model.run(device, &inputs.collect()).unwrap();
                    for (output, tensor) in &outputs {
                        check(output, f32s(tensor), f32s(&whole[output]));
                    }
                    assert!(outputs.len() == whole.len() || !states.is_empty());
                    streamed += 1;
                }
            }
        });
    }
    failures.finish();
    assert!(streamed > 12, "{streamed} models can be streamed");
}

#[test]
fn chunks_give_the_outputs_of_the_whole() {
    chunks_are_the_whole(&Device::cpu().unwrap());
}

#[test]
fn chunks_on_a_gpu_give_the_outputs_of_the_whole() {
    let Some(gpu) = test_gpu() else { return };
    chunks_are_the_whole(&Device::Gpu(gpu));
}

/// A part of the steps of a model's only input that is no state.
fn part(model: &OnnxModel, name: &str, steps: std::ops::Range<usize>, axis: usize) -> Arrays {
    let Tensor::F32(x) = &arrays(name)["x"] else { panic!("x is float32") };
    let part = x.slice_axis(Axis(axis), steps.into()).as_standard_layout().into_owned();
    [(model.inputs()[0].name.clone(), part.into())].into()
}

fn rows(tensor: &Tensor, axis: usize, row: usize) -> ArrayD<f32> {
    f32s(tensor).index_axis(Axis(axis), row).to_owned()
}

/// States that a node keeps under the names of the inputs, those that pass through the host, and those that a node keeps under
/// its own name: each with the axis of steps in x and y, and the names.
const STREAMS: [(&str, usize, &[&str]); 3] = [
    ("pytorch_lstm_states_9", 0, &["h0", "c0"]),
    ("pytorch_gru_states_12", 0, &["h0"]),
    ("pytorch_lstm_batch_first_11", 1, &["/LSTM.h", "/LSTM.c"]),
];

fn states_stay(device: &Device) {
    let mut failures = Failures::new();
    for (name, axis, names) in STREAMS {
        failures.check(name, || {
            let model = read(name);
            let batch = arrays(name)["x"].shape()[1 - axis];
            let mut stream = model.on(device).stream(StreamOptions::new(batch)).unwrap();
            assert_eq!(stream.state_names(), names);
            let x = |steps| part(&model, name, steps, axis);
            let first = stream.run(&x(0..2)).unwrap();
            let between = stream.states().unwrap();
            let second = stream.run(&x(2..5)).unwrap();
            let after = stream.states().unwrap();
            assert_eq!(after.keys().collect::<Vec<_>>(), between.keys().collect::<Vec<_>>());

            // Once more from the same states, then from the beginning.
            stream.set_states(between.clone()).unwrap();
            assert_eq!(stream.run(&x(2..5)).unwrap(), second);
            assert_eq!(stream.states().unwrap(), after);
            stream.reset();
            assert_eq!(stream.run(&x(0..2)).unwrap(), first);

            // One of the streams begins anew, the other goes on.
            stream.reset_rows(&[1]).unwrap();
            let found = stream.run(&x(2..5)).unwrap();
            stream.reset();
            let fresh = stream.run(&x(2..5)).unwrap();
            for (row, expected) in [(0, &second), (1, &fresh)] {
                check("y", &rows(&found["y"], 1 - axis, row), &rows(&expected["y"], 1 - axis, row));
            }
            assert_ne!(second["y"], fresh["y"], "states make a difference");

            // A new stream goes on from them too.
            let mut other = model.on(device).stream(StreamOptions::new(batch)).unwrap();
            other.set_states(between).unwrap();
            check("y", f32s(&other.run(&x(2..5)).unwrap()["y"]), f32s(&second["y"]));
        });
    }
    failures.finish();
}

#[test]
fn states_stay_between_calls() {
    states_stay(&Device::cpu().unwrap());
}

#[test]
fn states_stay_on_a_gpu_between_calls() {
    let Some(gpu) = test_gpu() else { return };
    states_stay(&Device::Gpu(gpu));
}

#[test]
fn a_stream_refuses_what_does_not_fit() {
    let device = Device::cpu().unwrap();
    let model = read("pytorch_lstm_batch_first_11");
    let refused = |stream: Result<Stream, OnnxError>| stream.map(|_| ()).unwrap_err().to_string();
    let none = refused(model.on(&device).stream(StreamOptions::new(0)));
    assert_eq!(none, "0 streams: expected at least 1");
    let unknown = refused(model.on(&device).stream(StreamOptions::new(1).carry("h", "y")));
    assert_eq!(unknown, "input h: expected one of the model's inputs x, found no input of this name");

    let mut stream = model.on(&device).stream(StreamOptions::new(2)).unwrap();
    let wrong = stream.set_states([("h0".to_owned(), Tensor::from(ndarray::arr1(&[1.0_f32])))].into());
    let expected = "input h0: expected one of the states /LSTM.h, /LSTM.c, found float32 [1]";
    assert_eq!(wrong.unwrap_err().to_string(), expected);
    let x = |rows: usize| -> Arrays {
        [("x".to_owned(), ndarray::Array3::<f32>::ones((rows, 2, 4)).into())].into()
    };
    stream.run(&x(2)).unwrap();
    let rows = stream.run(&x(3)).unwrap_err().to_string();
    assert!(rows.contains("has 3 rows and its states, which go on from the call before, have 2"), "{rows}");
    let broken = stream.run(&x(2)).unwrap_err().to_string();
    assert_eq!(broken, "the call before failed; reset the stream before the next");
    stream.reset();
    stream.run(&x(3)).unwrap();

    let model = read("pytorch_lstm_states_9");
    let mut stream = model.on(&device).stream(StreamOptions::new(2)).unwrap();
    let given =
        stream.run(&arrays("pytorch_lstm_states_9").into_iter().filter(|(name, _)| name != "y").collect());
    assert!(
        given.unwrap_err().to_string().contains("input h0: expected nothing, since the stream carries it on")
    );
}
