//! Networks as the files of guitar plugins: `.nam`, which Neural Amp Modeler reads, and JSON, which RTNeural, AIDA-X and
//! GuitarML's NeuralPi and Proteus read.
//!
//! These programs run recurrent layers, then dense layers, one sample a step, and may add the input to the output:
//!
//! | | `.nam` | JSON |
//! |---|---|---|
//! | layers | LSTM of equal widths, one dense layer without a function | LSTM and GRU, dense layers with tanh, relu, sigmoid or elu |
//! | input and output | one value each | any number |
//! | the input added to the output | as one more unit, see [`nam()`] | `in_skip` (AIDA-X), `skip` (GuitarML) |
//! | initial states | any | zeros |
//! | gates | i, f, g, o, as here | LSTM i, f, g, o as here; GRU z, r, n |
//!
//! Whatever a format cannot express is refused by name.
//!
//! ```
//! use gatefold_model::file::{Model, amplifier};
//! use gatefold_model::{NetworkConfig, Parameters};
//!
//! let config = NetworkConfig::with_input(1).lstm(20).dense(1).residual(0).build()?;
//! let parameters = Parameters::initial(&config, 1)?;
//! let model = Model { config, parameters, metadata: Default::default() };
//! let file = amplifier::json(&model, Some(48_000.0))?;
//! assert!(file.text.starts_with(r#"{"in_shape":[null,null,1],"in_skip":1,"#));
//! # Ok::<(), gatefold_model::ModelError>(())
//! ```

mod json;
mod nam;

pub use json::json;
pub use nam::nam;

use super::plain::unusual;
use super::{Model, write_atomically};
use crate::{
    Activation, Cell, Direction, InitialState, Layer, LayerKind, ModelError, Recurrent, Role, Source,
};
use std::path::Path;

/// The text of a file, and notes for whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmplifierFile {
    /// The file's content.
    pub text: String,
    /// The programs that will not read it, and what readers must add, a line each.
    pub notes: Vec<String>,
}

impl AmplifierFile {
    /// Writes the whole file or nothing; see [`write_atomically`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        write_atomically(path, self.text.as_bytes())
    }
}

/// A network of the shape that plugins run.
struct Amplifier<'a> {
    model: &'a Model,
    /// At least one.
    recurrent: Vec<&'a Layer>,
    /// At least one.
    dense: Vec<&'a Layer>,
    /// Whether the network's input is added to its output.
    residual: bool,
}

impl<'a> Amplifier<'a> {
    /// Takes a network apart for files called `format`.
    fn of(model: &'a Model, format: &str) -> Result<Amplifier<'a>, ModelError> {
        model.parameters.check(&model.config)?;
        let mut amplifier = Amplifier { model, recurrent: Vec::new(), dense: Vec::new(), residual: false };
        for layer in model.config.layers() {
            if !amplifier.add(layer, format)? {
                let problem = format!(
                    "{format} holds recurrent layers, then dense ones, then at most a residual connection from the \
                     network's input; expected nothing else"
                );
                return Err(refusal(layer, problem));
            }
        }
        if amplifier.recurrent.is_empty() || amplifier.dense.is_empty() {
            let problem =
                format!("{format} holds at least one recurrent and one dense layer; found {}", model.config);
            return Err(ModelError::Config { place: "network".into(), problem });
        }
        amplifier.check_numbers(format)?;
        Ok(amplifier)
    }

    /// Adds the next layer; `false` if it has no place there.
    fn add(&mut self, layer: &'a Layer, format: &str) -> Result<bool, ModelError> {
        if self.residual {
            return Ok(matches!(layer.kind, LayerKind::Dropout { .. }));
        }
        match &layer.kind {
            LayerKind::Recurrent(recurrent) if self.dense.is_empty() => {
                if let Some(found) = outside(recurrent) {
                    return Err(refusal(layer, format!("it has {found}; {format} has no such thing")));
                }
                self.recurrent.push(layer);
                Ok(true)
            }
            LayerKind::Dense { .. } if !self.recurrent.is_empty() => {
                self.dense.push(layer);
                Ok(true)
            }
            // Inference leaves it out.
            LayerKind::Dropout { .. } => Ok(true),
            LayerKind::Residual { .. } if !self.dense.is_empty() => {
                let inputs = &self.model.config.graph().node(layer.index).inputs;
                self.residual = inputs.contains(&Source::Input);
                Ok(self.residual)
            }
            _ => Ok(false),
        }
    }

    /// JSON has no other numbers than finite ones.
    fn check_numbers(&self, format: &str) -> Result<(), ModelError> {
        for (name, tensor) in self.model.parameters.iter() {
            if let Some(found) = tensor.iter().find(|value| !value.is_finite()) {
                let problem = format!("it holds {found}; {format} holds finite numbers only");
                return Err(ModelError::Config { place: format!("parameter {name}"), problem });
            }
        }
        Ok(())
    }

    /// The rows of a matrix.
    fn matrix(&self, layer: &Layer, role: Role) -> Vec<Vec<f32>> {
        let matrix = &self.model.parameters[&layer.parameter(role).name];
        matrix.outer_iter().map(|row| row.iter().copied().collect()).collect()
    }

    /// A vector; zeros where the layer has none.
    fn vector(&self, layer: &Layer, role: Role, len: usize) -> Vec<f32> {
        match layer.find(role, false) {
            Some(spec) => self.model.parameters[&spec.name].iter().copied().collect(),
            None => vec![0.0; len],
        }
    }

    /// The sum of a recurrent layer's biases, of which it has two, one or none.
    fn bias(&self, layer: &Layer) -> Vec<f32> {
        let rows = self.model.parameters[&layer.parameter(Role::RecurrentWeight).name].shape()[0];
        let one = self.vector(layer, Role::InputBias, rows);
        let other = self.vector(layer, Role::RecurrentBias, rows);
        one.iter().zip(other).map(|(one, other)| one + other).collect()
    }
}

fn refusal(layer: &Layer, problem: String) -> ModelError {
    ModelError::Config { place: layer.place(), problem }
}

/// The first property of a recurrent layer that neither format has, whatever its initial state.
fn outside(recurrent: &Recurrent) -> Option<String> {
    let from_zeros = Recurrent { initial: InitialState::Zeros, ..*recurrent };
    unusual(&from_zeros).or_else(|| match recurrent {
        Recurrent { projection: Some(width), .. } => Some(format!("a projection to {width}")),
        Recurrent { direction: Direction::Bidirectional, .. } => {
            Some("a reverse scan, which needs the sound's end first".into())
        }
        Recurrent { cell: Cell::Rnn { .. }, .. } => Some("a cell without gates".into()),
        _ => None,
    })
}

/// The number of units, and the initial state, of a recurrent layer.
fn recurrent_of(layer: &Layer) -> &Recurrent {
    layer.recurrent().expect("it was taken for a recurrent layer")
}

/// The function of a dense layer.
fn function_of(layer: &Layer) -> Activation {
    match layer.kind {
        LayerKind::Dense { activation, .. } => activation,
        _ => unreachable!("it was taken for a dense layer"),
    }
}
