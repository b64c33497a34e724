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
    let mut outputs = model.run(device, inputs)?;
    Ok(model.outputs().iter().filter_map(|port| outputs.remove_entry(&port.name)).collect())
}

/// Runs a model on long arrays in chunks of `steps`. Its states go on from chunk to chunk: those that are inputs begin
/// with the arrays of their names, or zeros, and come out under them; `carried` names inputs and the outputs that carry
/// them on.
pub(super) fn stream(
    device: &Device,
    model: &OnnxModel,
    given: &mut Npz,
    steps: usize,
    carried: &[(String, String)],
) -> Result<Arrays, Failure> {
    let batch = batch(model, given)?;
    let options = carried
        .iter()
        .fold(StreamOptions::new(batch), |options, (input, output)| options.carry(input, output));
    let mut stream = model.on(device).stream(options)?;
    let states = stream.state_names();
    let begun: Vec<&str> = states.iter().map(String::as_str).collect();
    let inputs = inputs(&stream.inputs(), &begun, given)?;
    let axes = stream.step_axes(&inputs, steps)?;
    let mut first = BTreeMap::new();
    for name in &states {
        first.extend(given.read(name)?.map(|tensor| (name.clone(), tensor)));
    }
    stream.set_states(first)?;
    let mut outputs = stream.run_in_chunks(&inputs, &axes, steps)?;
    let found = stream.outputs().into_iter().filter_map(|port| outputs.remove_entry(&port.name));
    Ok(found.chain(stream.states()?).collect())
}

/// The number of streams: the length of an axis that a state shares with another input, by the model's name for it.
fn batch(model: &OnnxModel, given: &mut Npz) -> Result<usize, Failure> {
    let mut lens: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ports: BTreeMap<&str, usize> = BTreeMap::new();
    for port in model.inputs() {
        let axes: Vec<Option<&str>> = port
            .shape
            .iter()
            .flatten()
            .map(|axis| if let Axis::Named(name) = axis { Some(name.as_str()) } else { None })
            .collect();
        for name in axes.iter().flatten() {
            *ports.entry(name).or_default() += 1;
        }
        if let Some(tensor) = given.read(&port.name)? {
            let named = axes.iter().zip(tensor.shape());
            lens.extend(named.filter_map(|(name, &len)| Some(((*name)?, len))));
        }
    }
    let shared = ports.iter().find_map(|(name, count)| lens.get(name).copied().filter(|_| *count > 1));
    Ok(shared.unwrap_or(1).max(1))
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
