//! `gatefold run`: a model on arrays from NumPy.

mod network;
mod onnx;

use crate::DeviceArgument;
use crate::failure::Failure;
use crate::model_file::{ModelFile, ModulesArgument, about, same_file};
use crate::npz::{self, Npz};
use crate::page::{entry, line};
use gatefold_onnx::Tensor;
use std::path::PathBuf;

/// Runs a model on arrays, and writes what comes out.
///
/// MODEL is ours or PyTorch's (.safetensors) or ONNX's (.onnx). The arrays are .npz files, as np.savez writes them, and
/// carry the model's own names: an ONNX model's inputs and outputs are called as its graph calls them.
///
/// For .safetensors they are `input` [steps, batch, values], or token numbers [steps, batch], and where wanted `lengths`
/// [batch]; behind an encoder `decoder_input` and `decoder_lengths`. The initial states of layer 0 are `layer0.h` [directions,
/// batch, width] (with a skip connection as many times the steps that it reaches back, the oldest first), `layer0.c` and
/// `layer0.y`; what is not given starts as the model says. Out come `output` and the final states under the same names.
///
/// Numbers are float32; lengths and tokens int32 or int64. OUT is written at once or not at all.
#[derive(clap::Args, Debug)]
#[command(override_usage = "gatefold run [OPTIONS] MODEL --inputs IN --outputs OUT")]
pub(crate) struct Arguments {
    /// The model: .safetensors or .onnx
    model: PathBuf,
    /// The arrays that go in, .npz
    #[arg(long, value_name = "IN")]
    inputs: PathBuf,
    /// Where to write the arrays that come out, .npz
    #[arg(long, value_name = "OUT")]
    outputs: PathBuf,
    #[command(flatten)]
    modules: ModulesArgument,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Arrays by name, in an order to show and to write them.
type Arrays = Vec<(String, Tensor)>;

/// Columns of the names in front of each entry.
const NAMES: usize = 11;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    for read in [&arguments.model, &arguments.inputs] {
        if same_file(read, &arguments.outputs) {
            return Err(Failure::Usage(format!(
                "--outputs {}: it is a file to read; give another name",
                arguments.outputs.display()
            )));
        }
    }
    let model = ModelFile::read(&arguments.model, &arguments.modules)?;
    let mut given = Npz::open(&arguments.inputs)?;
    let device = arguments.device.open(arguments.quiet)?;
    let (name, outputs) = match model {
        ModelFile::Network(model, _) => {
            (model.config.to_string(), network::run(&device, &model, &mut given)?)
        }
        ModelFile::Onnx(model) => (about(&model), onnx::run(&device, &model, &mut given)?),
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

/// That all arrays have names that the model knows.
///
/// # Errors
/// The first that it does not.
fn check_names(given: &Npz, known: &[&str]) -> Result<(), Failure> {
    match given.names().iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(given.refusal(format!(
            "array {name}: expected one of {}; rename it or leave it out",
            known.join(", ")
        ))),
    }
}

/// The error for an array that is not there.
fn missing(given: &Npz, name: &str, expected: &str) -> Failure {
    let names = given.names();
    let found = if names.is_empty() { "no array at all".into() } else { names.join(", ") };
    given.refusal(format!(
        "array {name} is missing: expected {expected}, found {found}; save it under that name"
    ))
}
