//! Streams through the models of other programs, on the CPU and on a GPU: chunks give the outputs of the whole, or are
//! refused for a reason.

use crate::run::{arrays, check, f32s, folder, names};
use gatefold::Device;
use gatefold_check::{Failures, test_gpu};
use gatefold_onnx::{OnnxModel, Stream, StreamOptions, Tensor};
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

const REFUSED: [(&str, &str); 0] = [];

fn chunks_are_the_whole(device: &Device) {
    let mut failures = Failures::new();
    let mut streamed = 0;
    for name in names() {
        failures.check(&name, || {
            let (model, given) = (read(&name), arrays(&name));
            let stream = model.on(device).stream(StreamOptions::new(1));
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
                    let whole = model.run(device, inputs.collect()).unwrap();
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
    assert!(streamed > 20, "{streamed} models can be streamed");
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
