//! Arrays in and out of an ONNX model.

use super::{Arrays, check_names, missing};
use crate::failure::Failure;
use crate::npz::Npz;
use gatefold::Device;
use gatefold_onnx::{Axis, OnnxModel, Port, StreamOptions, Tensor};
use std::collections::BTreeMap;

/// Runs a model on the arrays of a file, under the names of its graph.
pub(super) fn run(device: &Device, model: &OnnxModel, given: &mut Npz) -> Result<Arrays, Failure> {
    let ports: Vec<&Port> = model.inputs().iter().collect();
    let inputs = inputs(&ports, &[], given)?;
    let mut outputs = model.run(device, &inputs)?;
    Ok(model.outputs().iter().filter_map(|port| outputs.remove_entry(&port.name)).collect())
}

/// Runs a model on long arrays in chunks of `steps`. Its states go on from chunk to chunk: those that are inputs begin
/// with the arrays of their names, or zeros, and come out under the names of the outputs that carry them on, as from
/// [`run`]; states of nodes come out under their own names. `carried` names inputs and the outputs that carry them on.
pub(super) fn stream(
    device: &Device,
    model: &OnnxModel,
    given: &mut Npz,
    steps: usize,
    carried: &[(String, String)],
) -> Result<Arrays, Failure> {
    let options = |batch| {
        let pairs = carried.iter();
        pairs.fold(StreamOptions::new(batch), |options, (input, output)| options.carry(input, output))
    };
    // The names of the states do not depend on the number of streams.
    let states = model.on(device).stream(options(1))?.state_names();
    let mut stream = model.on(device).stream(options(batch(model, &states, given)?))?;
    let begun: Vec<&str> = states.iter().map(String::as_str).collect();
    let inputs = inputs(&stream.inputs(), &begun, given)?;
    let axes = stream.step_axes(&inputs, steps)?;
    let mut first = BTreeMap::new();
    for name in &states {
        first.extend(given.read(name)?.map(|tensor| (name.clone(), tensor)));
    }
    stream.set_states(first)?;
    let mut outputs = stream.run_in_chunks(&inputs, &axes, steps)?;
    let mut states = stream.states()?;
    for (input, output) in stream.carried() {
        outputs.extend(states.remove(input).map(|state| (output.to_owned(), state)));
    }
    let found = model.outputs().iter().filter_map(|port| outputs.remove_entry(&port.name));
    Ok(found.chain(states).collect())
}

/// The number of streams: the length of the open axis of a state, in its own array or, under the model's name for the
/// axis, in that of another input. One, if neither is given.
fn batch(model: &OnnxModel, states: &[String], given: &mut Npz) -> Result<usize, Failure> {
    let mut own = None;
    let mut names: Vec<&str> = Vec::new();
    let mut lens: BTreeMap<&str, usize> = BTreeMap::new();
    for port in model.inputs() {
        let is_state = states.contains(&port.name);
        let tensor = given.read(&port.name)?;
        for (at, axis) in port.shape.iter().flatten().enumerate().filter(|(_, axis)| !is_fixed(axis)) {
            let len = tensor.as_ref().and_then(|tensor| tensor.shape().get(at)).copied();
            own = own.or(len.filter(|_| is_state));
            if let Axis::Named(name) = axis {
                lens.extend(len.map(|len| (name.as_str(), len)));
                names.extend(is_state.then_some(name.as_str()));
            }
        }
    }
    let shared = || names.iter().find_map(|name| lens.get(name).copied());
    Ok(own.or_else(shared).unwrap_or(1).max(1))
}

fn is_fixed(axis: &Axis) -> bool {
    matches!(axis, Axis::Fixed(_))
}

/// The arrays of inputs; others than these and `more` are refused.
fn inputs(ports: &[&Port], more: &[&str], given: &mut Npz) -> Result<BTreeMap<String, Tensor>, Failure> {
    let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).chain(more.iter().copied()).collect();
    check_names(given, &known)?;
    let mut inputs: BTreeMap<String, Tensor> = BTreeMap::new();
    for port in ports {
        let Some(tensor) = given.read(&port.name)? else {
            return Err(missing(given, &port.name, port.to_string().trim_start_matches(&port.name).trim()));
        };
        inputs.insert(port.name.clone(), tensor);
    }
    Ok(inputs)
}
