//! Arrays in and out of an ONNX model.

use super::{Arrays, check_names, missing};
use crate::failure::Failure;
use crate::npz::Npz;
use gatefold::Device;
use gatefold_onnx::{OnnxModel, Tensor};
use std::collections::BTreeMap;

/// Runs a model on the arrays of a file, under the names of its graph.
pub(super) fn run(device: &Device, model: &OnnxModel, given: &mut Npz) -> Result<Arrays, Failure> {
    let known: Vec<&str> = model.inputs().iter().map(|port| port.name.as_str()).collect();
    check_names(given, &known)?;
    let mut inputs: BTreeMap<String, Tensor> = BTreeMap::new();
    for port in model.inputs() {
        let Some(tensor) = given.read(&port.name)? else {
            return Err(missing(given, &port.name, port.to_string().trim_start_matches(&port.name).trim()));
        };
        inputs.insert(port.name.clone(), tensor);
    }
    let mut outputs = model.run(device, inputs)?;
    Ok(model.outputs().iter().filter_map(|port| outputs.remove_entry(&port.name)).collect())
}
