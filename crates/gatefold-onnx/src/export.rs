//! Writes a network as an ONNX model for other programs to run.

mod layers;
mod writer;

use crate::OnnxError;
use crate::proto::tensor_proto::DataType;
use gatefold::Network;
use gatefold_model::{LayerKind, NetworkConfig, Parameters, Timeline};
use layers::Export;
use std::path::Path;
use writer::{Len, Writer};

/// Options for writing a network.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExportOptions {
    batch_first: bool,
    states: bool,
    lengths: bool,
}

impl ExportOptions {
    /// The defaults: time first, the network's own initial states, rows of equal length.
    pub fn new() -> ExportOptions {
        ExportOptions::default()
    }

    /// Whether the model's input and output are `[B, T, F]`; `[T, B, F]` by default.
    pub fn batch_first(mut self, first: bool) -> ExportOptions {
        self.batch_first = first;
        self
    }

    /// Whether initial states are inputs and final states are outputs, each `[D, B, H]`. The k-th recurrent layer has
    /// `initial_h<k>`, `initial_c<k>`, `final_h<k>` and `final_c<k>`; in a decoder, only the final ones.
    pub fn states(mut self, given: bool) -> ExportOptions {
        self.states = given;
        self
    }

    /// Whether the lengths of the rows are an input, `lengths`, int32 `[B]`. Each must be at least 1: for a row of
    /// length 0, ONNX runtimes return a final state of zeros, whereas the engine returns the initial state. A decoder's
    /// rows all have the same length. A network with a convolution is refused: ONNX's Conv reads past the ends of rows. Past a row's end the engine's output is zero, but the model's is whatever dense
    /// layers and a softmax make of zeros.
    pub fn lengths(mut self, given: bool) -> ExportOptions {
        self.lengths = given;
        self
    }
}

/// Writes an ONNX model (opset 17) that computes the same as the network in inference, and returns its bytes.
///
/// Its input is `input`: float32 `[T, B, I]`, or int64 `[T, B]` if the network begins with an embedding. Its output is
/// `output`: `[T, B, O]`, or `[B, O]` if a single step is left. A decoder reads `decoder_input`.
///
/// # Errors
/// [`OnnxError::Export`] with the layer and the feature that ONNX lacks: a projection, a squashed cell, gates coupled
/// as `i = 1 - f`, a second recurrence, a readout that feeds back, an embedding after another layer. A dilated layer is
/// written as a plain one over interleaved sequences, in direction forward, without lengths, states or a decoder.
/// [`OnnxError::Engine`] for parameters that do not fit the network.
pub fn export(
    config: &NetworkConfig,
    parameters: &Parameters,
    options: ExportOptions,
) -> Result<Vec<u8>, OnnxError> {
    parameters.check(config)?;
    let mut export = Export::new(config, parameters, options.lengths, options.states);
    let tokens =
        |from: usize| matches!(config.layers().get(from).map(|l| l.kind), Some(LayerKind::Embedding { .. }));
    let one_step =
        config.layers().first().is_some_and(|layer| matches!(layer.kind, LayerKind::Expand { .. }));
    let steps = if one_step { Len::Fixed(1) } else { Len::Named("steps") };
    let input = sequences(&mut export.writer, "input", steps, config.input(), tokens(0), options.batch_first);
    if options.lengths {
        export.writer.input("lengths", DataType::Int32, &[Len::Named("batch")]);
    }
    let decoder = config.decoder().map(|at| {
        let width = config.layers()[at].output;
        let steps = Len::Named("decoder_steps");
        sequences(&mut export.writer, "decoder_input", steps, width, tokens(at + 1), options.batch_first)
    });
    let last = export.layers(input, decoder)?;
    let (from, shape) = match config.timeline() {
        Timeline::Single => {
            let first = export.writer.integers(&[0]);
            let rows = export.writer.node("Squeeze", &[&last, &first], vec![]);
            (rows, vec![Len::Named("batch"), Len::Fixed(config.output())])
        }
        timeline => {
            let steps = match timeline {
                Timeline::Expanded(steps) => Len::Fixed(steps),
                Timeline::Decoder => Len::Named("decoder_steps"),
                Timeline::Convolved(_) => Len::Named("output_steps"),
                _ => Len::Named("steps"),
            };
            let shape = [steps, Len::Named("batch"), Len::Fixed(config.output())];
            (turned(&mut export.writer, last, options.batch_first), in_layout(&shape, options.batch_first))
        }
    };
    export.writer.output(&from, "output", &shape);
    export.final_states();
    Ok(export.writer.finish(&config.to_string()))
}

/// Writes the model of [`export`] to a file, completely or not at all.
///
/// # Errors
/// Those of [`export`], and [`OnnxError::Engine`] if the file cannot be written.
pub fn write(
    path: impl AsRef<Path>,
    config: &NetworkConfig,
    parameters: &Parameters,
    options: ExportOptions,
) -> Result<(), OnnxError> {
    let bytes = export(config, parameters, options)?;
    gatefold_model::file::write_atomically(path, &bytes)?;
    Ok(())
}

/// [`write()`] for a network on a device.
///
/// # Errors
/// Those of [`write()`], and of reading back from a GPU.
pub fn save(path: impl AsRef<Path>, network: &Network, options: ExportOptions) -> Result<(), OnnxError> {
    write(path, network.config(), &network.parameters()?, options)
}

/// Adds an input of sequences. Returns the name of a tensor `[T, B, F]`, or `[T, B]` of tokens.
fn sequences(
    writer: &mut Writer,
    name: &str,
    steps: Len,
    width: usize,
    tokens: bool,
    batch_first: bool,
) -> String {
    let (element, shape) = if tokens {
        (DataType::Int64, vec![steps, Len::Named("batch")])
    } else {
        (DataType::Float, vec![steps, Len::Named("batch"), Len::Fixed(width)])
    };
    writer.input(name, element, &in_layout(&shape, batch_first));
    if !batch_first {
        return name.into();
    }
    let order = if tokens { vec![1, 0] } else { vec![1, 0, 2] };
    writer.node("Transpose", &[name], vec![("perm", writer::Setting::Ints(order))])
}

fn in_layout(shape: &[Len], batch_first: bool) -> Vec<Len> {
    let mut shape = shape.to_vec();
    if batch_first {
        shape.swap(0, 1);
    }
    shape
}

/// Transposes `[T, B, F]` to `[B, T, F]` if the batch is to come first.
fn turned(writer: &mut Writer, tensor: String, batch_first: bool) -> String {
    if !batch_first {
        return tensor;
    }
    writer.node("Transpose", &[&tensor], vec![("perm", writer::Setting::Ints(vec![1, 0, 2]))])
}
