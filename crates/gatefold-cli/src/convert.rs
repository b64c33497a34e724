//! `gatefold convert`: writes a model as another kind of file.

use crate::failure::Failure;
use crate::model_file::{Kind, ModelFile, ModulesArgument, Origin, layout, network_of, same_file};
use crate::page::{entry, line};
use gatefold_model::file::{MASK, Model, amplifier, keras, pytorch};
use gatefold_onnx::{ExportOptions, OnnxModel, write};
use std::path::{Path, PathBuf};

/// Converts a model to another kind of file.
///
/// IN is .safetensors (ours or a PyTorch state_dict), .pt or .pth (PyTorch's own), .keras or .weights.h5 (Keras') or .onnx;
/// OUT is .safetensors (ours, or with --pytorch a state_dict), .weights.h5 (Keras' weights), .onnx, or a guitar plugin's: .nam
/// (Neural Amp Modeler) or .json (RTNeural, AIDA-X, GuitarML's NeuralPi and Proteus). Numbers are not changed, so converting
/// there and back gives the same bits; only float64 from PyTorch is rounded to float32, and two biases that another kind keeps as
/// one are added. Whatever the other kind cannot express is refused by name. OUT is written
/// atomically.
///
/// An ONNX model becomes a network if it is a chain of layers that Gatefold has, whichever program wrote it; any other
/// ONNX model can often still be run. From a checkpoint only the network is taken, not the state of its training.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The model: .safetensors, .pt, .pth, .keras, .weights.h5 or .onnx
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write: .safetensors, .weights.h5, .onnx, .nam or .json
    #[arg(value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    modules: ModulesArgument,
    /// Write a state_dict for PyTorch modules
    #[arg(long)]
    pytorch: bool,
    /// With --pytorch: the names of the modules, such as "rnn,head"; . is a bare module. Consecutive equal recurrent
    /// layers form one module, or several if each gets a name
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "pytorch")]
    names: Vec<String>,
    /// For .onnx: make input and output [batch, steps, values] instead of [steps, batch, values]
    #[arg(long)]
    batch_first: bool,
    /// For .onnx: make the rows' lengths an input. Past a row's end the output is not zero, but whatever dense layers
    /// make of zeros
    #[arg(long)]
    lengths: bool,
    /// For .onnx: make initial states inputs, and final states outputs
    #[arg(long)]
    states: bool,
    /// For .nam and .json: the sound's samples a second [default: the model's own, if it says]
    #[arg(long, value_name = "HZ")]
    sample_rate: Option<f64>,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Columns of the names in front of each entry.
const NAMES: usize = 11;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { input, output, .. } = arguments;
    let kind = Kind::of(output)?;
    check_options(arguments, kind)?;
    if same_file(input, output) {
        return Err(Failure::Usage(format!(
            "{}: this is both the file to read and the file to write; give OUT another name",
            output.display()
        )));
    }
    let mut notes = Vec::new();
    let (model, origin) = match ModelFile::read(input, &arguments.modules)? {
        ModelFile::Network(model, origin) => (model, origin),
        ModelFile::Onnx(onnx) => (network(input, &onnx, &mut notes)?, Origin::Onnx),
    };
    let written = match kind {
        Kind::Onnx => {
            let options = ExportOptions::new()
                .batch_first(arguments.batch_first)
                .lengths(arguments.lengths)
                .states(arguments.states);
            write(output, &model.config, &model.parameters, options)?;
            let of_files =
                |key: &String| key.starts_with("pytorch_") || key.starts_with("keras_") || key == MASK;
            if model.metadata.keys().any(|key| !of_files(key)) {
                notes.push("other entries of the file, such as the scaler of its data, are left out".into());
            }
            Origin::Onnx
        }
        Kind::Safetensors if arguments.pytorch => {
            let names: Vec<&str> =
                arguments.names.iter().map(|name| if name == "." { "" } else { name.as_str() }).collect();
            pytorch::write(output, &model, &names)?;
            Origin::Pytorch
        }
        Kind::Keras => {
            keras::write(output, &model)?;
            Origin::Keras
        }
        Kind::Safetensors => {
            model.save(output)?;
            Origin::Gatefold
        }
        Kind::Nam | Kind::Json => {
            let said = model.metadata.get("sample_rate").and_then(|rate| rate.parse().ok());
            let rate = arguments.sample_rate.or(said);
            let (file, reader) = match kind {
                Kind::Nam => (amplifier::nam(&model, rate)?, Origin::NeuralAmpModeler),
                _ => (amplifier::json(&model, rate)?, Origin::Rtneural),
            };
            file.write(output)?;
            notes.extend(file.notes);
            reader
        }
    };
    if let Some(mask) = model.metadata.get(MASK) {
        notes.push(format!(
            "the model masks steps that are {mask}; the network takes the rows' lengths instead, which gatefold run finds \
             from the mask"
        ));
    }
    if !arguments.quiet {
        line(entry("read", NAMES, &format!("{} ({origin})", input.display())));
        line(entry("network", NAMES, &model.config.to_string()));
        for note in notes {
            line(entry("note", NAMES, &note));
        }
        line(entry("written", NAMES, &format!("{} ({written})", output.display())));
    }
    Ok(())
}

/// Refuses options that are for another kind of file.
fn check_options(arguments: &Arguments, kind: Kind) -> Result<(), Failure> {
    let Arguments { output, pytorch, batch_first, lengths, states, sample_rate, .. } = arguments;
    let options = [
        ("--pytorch", *pytorch, &[Kind::Safetensors][..], ".safetensors"),
        ("--batch-first", *batch_first, &[Kind::Onnx], ".onnx"),
        ("--lengths", *lengths, &[Kind::Onnx], ".onnx"),
        ("--states", *states, &[Kind::Onnx], ".onnx"),
        ("--sample-rate", sample_rate.is_some(), &[Kind::Nam, Kind::Json], ".nam or .json"),
    ];
    if let Some((option, _, _, expected)) =
        options.into_iter().find(|(_, given, kinds, _)| *given && !kinds.contains(&kind))
    {
        let found = output.display();
        return Err(Failure::Usage(format!(
            "{option} applies to a file that ends with {expected}, found {found}; leave it out"
        )));
    }
    match sample_rate {
        Some(rate) if !(rate.is_finite() && *rate > 0.0) => {
            Err(Failure::Usage(format!("--sample-rate {rate}: expected a number above 0, such as 48000")))
        }
        _ => Ok(()),
    }
}

/// The network equal to an ONNX model; notes the inputs and outputs that get other names.
fn network(path: &Path, onnx: &OnnxModel, notes: &mut Vec<String>) -> Result<Model, Failure> {
    let imported = onnx.import().map_err(|error| {
        let runs = if onnx.runs_on_example() { "; gatefold run can run the model as it is" } else { "" };
        Failure::failed(format!("{}: {error}{runs}", path.display()))
    })?;
    let mut renamed = vec![
        format!("{} ({}) is input", imported.input.0, layout(imported.input.1)),
        format!("{} ({}) is output", imported.output.0, layout(imported.output.1)),
    ];
    renamed.extend(imported.lengths.iter().map(|name| format!("{name} is lengths")));
    let labels: Vec<String> = imported.config.recurrent_layers().map(|layer| layer.label()).collect();
    for given in &imported.states {
        let state = if given.cell { "c" } else { "h" };
        renamed.push(format!("{} is {}.{state}", given.input, labels[given.layer]));
    }
    notes.push(format!("{}; all are [steps, batch, values]", renamed.join(", ")));
    Ok(network_of(imported))
}
