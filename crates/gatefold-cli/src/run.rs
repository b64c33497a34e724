//! `gatefold run`: runs a model on arrays from NumPy.

mod network;
mod onnx;

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::model_file::{ModelFile, ModulesArgument, about, same_file};
use crate::npz::{self, Npz};
use crate::page::{entry, line};
use gatefold_onnx::Tensor;
use std::path::PathBuf;

/// Runs a model on arrays and writes its outputs.
///
/// MODEL is ours, PyTorch's (.safetensors, .pt, .pth), Keras' (.keras, .weights.h5) or ONNX (.onnx). Arrays are read and written as .npz files, as np.savez
/// writes them, under the model's own names; for an ONNX model, those of its graph.
///
/// For all but ONNX the inputs are `input` [steps, batch, values], or token numbers [steps, batch], and optionally
/// `lengths` [batch]; for a decoder, `decoder_input` and `decoder_lengths` likewise. Initial states of layer 0 are
/// `layer0.h` [directions, batch, width] (a skip connection over k steps multiplies the directions by k, oldest step
/// first), `layer0.c` and `layer0.y`; states that are not given start as the model says. The outputs are `output`, and
/// the final states under the same names. Of a model with a mask, as Keras' Masking or mask_zero, masked steps are left
/// out if no lengths are given.
///
/// Numbers are float32; lengths and tokens are int32 or int64. OUT is written atomically.
#[derive(clap::Args, Debug)]
#[command(override_usage = "gatefold run [OPTIONS] MODEL --inputs IN --outputs OUT")]
pub(crate) struct Arguments {
    /// The model: .safetensors, .pt, .pth, .keras, .weights.h5 or .onnx
    model: PathBuf,
    /// The input arrays, .npz
    #[arg(long, value_name = "IN")]
    inputs: PathBuf,
    /// The file for the output arrays, .npz
    #[arg(long, value_name = "OUT")]
    outputs: PathBuf,
    #[command(flatten)]
    modules: ModulesArgument,
    /// Feed the inputs in chunks of N steps, with states that go on from chunk to chunk: long inputs take the memory of a
    /// chunk, and the outputs are those of the whole, last states included. An ONNX model that fixes the steps of a call
    /// takes chunks of that many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    stream: Option<u32>,
    /// With --stream: an input of an ONNX model that is a state, and the output with its next value, where neither its
    /// graph nor their names tell. May be given several times
    #[arg(long, value_name = "INPUT=OUTPUT", requires = "stream", value_parser = pair)]
    state: Vec<(String, String)>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Arrays by name, in the order in which they are shown and written.
type Arrays = Vec<(String, Tensor)>;

/// Columns of the names in front of each entry.
const NAMES: usize = 11;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    for read in [&arguments.model, &arguments.inputs] {
        if same_file(read, &arguments.outputs) {
            return Err(Failure::Usage(format!(
                "--outputs {}: this is a file to read; give another name",
                arguments.outputs.display()
            )));
        }
    }
    let model = ModelFile::read(&arguments.model, &arguments.modules)?;
    let mut given = Npz::open(&arguments.inputs)?;
    let device = arguments.compute.open(arguments.quiet)?;
    let steps = arguments.stream.map(|steps| steps as usize);
    let (name, outputs) = match (model, steps) {
        (ModelFile::Network(..), _) if !arguments.state.is_empty() => {
            return Err(Failure::Usage("--state: it names inputs of ONNX models; leave it out".into()));
        }
        (ModelFile::Network(model, _), _) => {
            (model.config.to_string(), network::run(&device, &model, &mut given, steps)?)
        }
        (ModelFile::Onnx(model), None) => (about(&model), onnx::run(&device, &model, &mut given)?),
        (ModelFile::Onnx(model), Some(steps)) => {
            (about(&model), onnx::stream(&device, &model, &mut given, steps, &arguments.state)?)
        }
    };
    npz::write(&arguments.outputs, &outputs)?;
    if !arguments.quiet {
        line(entry("model", NAMES, &name));
        line(entry("device", NAMES, &device.summary()));
        for (name, tensor) in &outputs {
            line(entry(name, NAMES, &format!("{} {:?}", tensor.element(), tensor.shape())));
        }
        line(entry("written", NAMES, &arguments.outputs.display().to_string()));
    }
    Ok(())
}

/// `INPUT=OUTPUT`
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=').filter(|(input, output)| !input.is_empty() && !output.is_empty()) {
        Some((input, output)) => Ok((input.into(), output.into())),
        None => Err("expected the name of an input, =, and that of an output".into()),
    }
}

/// Checks that the model knows the name of every array.
///
/// # Errors
/// The first array with an unknown name.
fn check_names(given: &Npz, known: &[&str]) -> Result<(), Failure> {
    match given.names().iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(given.refusal(format!(
            "array {name}: expected one of {}; rename it or leave it out",
            known.join(", ")
        ))),
    }
}

/// The error for a missing array.
fn missing(given: &Npz, name: &str, expected: &str) -> Failure {
    let names = given.names();
    let found = if names.is_empty() { "no array at all".into() } else { names.join(", ") };
    given.refusal(format!(
        "array {name} is missing: expected {expected}, found {found}; save it under that name"
    ))
}
