//! Keras' files: `.keras`, which holds a description and weights, and `.weights.h5`, which holds weights only.
//!
//! [`read`] takes Sequential models and functional ones in which each layer reads the one before, of the layers
//! InputLayer, Masking, Embedding, LSTM, GRU, SimpleRNN, Bidirectional, Dense, TimeDistributed (of Dense and what has no weights),
//! Conv1D, LayerNormalization, GlobalMaxPooling1D, GlobalAveragePooling1D, Dropout, RepeatVector, Activation, Softmax, ReLU,
//! LeakyReLU and ELU. Anything else is refused with the layer and its setting. Keras 3 and tf.keras from 2.12 write these files.
//!
//! | Keras | here |
//! |---|---|
//! | a recurrent layer without `return_sequences` | the layer, then its last step; in two directions or backwards, its final state |
//! | GRU with `reset_after=True` | [`Reset::After`](crate::Reset::After) with two biases |
//! | LSTM, SimpleRNN, GRU with `reset_after=False` | one bias |
//! | `recurrent_dropout` | the same; `dropout` of a recurrent layer's input is left out, and noted |
//! | Masking, `mask_zero` | the entry [`MASK`] of the model's metadata: the caller gives lengths instead |
//! | Dense with softmax | a dense layer and a softmax |
//!
//! In the other direction, [`write()`] makes the `.weights.h5` of a network, for `load_weights` of a Keras model of the same
//! layers, and refuses by name what Keras' layers lack.
//!
//! ```no_run
//! use gatefold_model::file::keras;
//! let model = keras::read("tagger.keras", None)?;
//! println!("{}", model.config);
//! keras::write("tagger.weights.h5", &model)?;
//! # Ok::<(), gatefold_model::ModelError>(())
//! ```

mod chain;
mod h5;
mod layers;
#[cfg(test)]
mod tests;
mod weights;
mod write;

pub use write::write;

use super::tensors::{first_bytes, refusal, shown};
use super::{MASK, Model};
use crate::{Activation, LayerConfig, ModelError, NetworkConfig, Parameters};
use h5::Weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The keys of a model's metadata that hold the groups of weights it was read from, and what was left out.
const GROUPS: &str = "keras_groups";
const NOTES: &str = "keras_notes";
/// The most bytes of a description.
const MAX_DESCRIPTION: u64 = 1 << 26;

/// A group of a layer's weights in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Group {
    /// Such as `layers/lstm/cell`.
    path: String,
    /// The layer here.
    layer: usize,
    /// Whether they are those of its reverse scan.
    #[serde(default)]
    reverse: bool,
}

/// Reads a `.keras` file, or the weights of a `.weights.h5` file for the model that `architecture` describes: what
/// `model.to_json()` gives, or the `config.json` of a `.keras` file.
///
/// # Errors
/// [`ModelError::Io`] if a file cannot be read; [`ModelError::File`] with the reason if it is truncated or not Keras',
/// if the description is missing or there are two, if a layer or one of its settings has no counterpart here, or if the weights are not
/// those of the layers.
pub fn read(path: impl AsRef<Path>, architecture: Option<&Path>) -> Result<Model, ModelError> {
    let path = path.as_ref();
    let refuse = |problem: String| refusal(path, problem);
    let Opened { description, keras, weights } = match (is_archive(path)?, architecture) {
        (true, None) => archive(path)?,
        (true, Some(_)) => {
            return Err(refuse("it describes its own layers; leave the architecture out".into()));
        }
        (false, Some(architecture)) => described_by(path, architecture)?,
        (false, None) => {
            return Err(refuse(
                "it holds weights only; give the model's description too, which model.to_json() writes, or save the \
                 whole model with model.save(\"model.keras\")"
                    .into(),
            ));
        }
    };
    let network = network(&description, keras).map_err(refuse)?;
    let (needed, found) = (network.config.parameter_count(), weights.len());
    if needed > found {
        return Err(refuse(format!("its layers have {needed} numbers, its weights only {found} bytes")));
    }
    let mut parameters = Parameters::zeros(&network.config)?;
    let weights = Weights::open(weights).map_err(refuse)?;
    for group in &network.groups {
        let layer = &network.config.layers()[group.layer];
        let arrays = weights.arrays(&group.path, &weights::shapes(layer)).map_err(refuse)?;
        weights::put(layer, group.reverse, &arrays, &mut parameters);
    }
    parameters.check(&network.config)?;
    let groups = serde_json::to_string(&network.groups).expect("names and numbers are JSON");
    let mut metadata = BTreeMap::from([(GROUPS.to_owned(), groups)]);
    if !network.notes.is_empty() {
        metadata.insert(NOTES.to_owned(), network.notes.join("\n"));
    }
    metadata.extend(network.mask.map(|mask| (MASK.to_owned(), mask.to_string())));
    Ok(Model { config: network.config, parameters, metadata })
}

/// Lists what was left out when a model was read from Keras' files, a line each; none for any other model.
pub fn notes(model: &Model) -> Vec<&str> {
    model.metadata.get(NOTES).map_or_else(Vec::new, |text| text.lines().collect())
}

/// A file's description and weights.
struct Opened {
    description: serde_json::Value,
    /// The major version of Keras.
    keras: u32,
    weights: Vec<u8>,
}

fn is_archive(path: &Path) -> Result<bool, ModelError> {
    Ok(first_bytes::<4>(path)?.starts_with(b"PK\x03\x04"))
}

fn archive(path: &Path) -> Result<Opened, ModelError> {
    let refuse = |problem: String| refusal(path, problem);
    let io = |source| ModelError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    // Keras does not compress. What others compress may grow, but not without limit.
    let most = file.metadata().map_err(io)?.len().saturating_mul(16).saturating_add(MAX_DESCRIPTION);
    let mut archive =
        zip::ZipArchive::new(file).map_err(|error| refuse(format!("not a .keras file: {error}")))?;
    let mut entry = |name: &str, most: u64| -> Result<Option<Vec<u8>>, ModelError> {
        let mut entry = match archive.by_name(name) {
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            entry => entry.map_err(|error| refuse(format!("{name}: {error}")))?,
        };
        let mut bytes = Vec::new();
        entry.by_ref().take(most + 1).read_to_end(&mut bytes).map_err(|e| refuse(format!("{name}: {e}")))?;
        match bytes.len() as u64 > most {
            true => Err(refuse(format!("{name}: more than {most} bytes"))),
            false => Ok(Some(bytes)),
        }
    };
    let missing =
        |name: &str| refuse(format!("it has no {name}; expected a file that Keras' model.save wrote"));
    let description = entry("config.json", MAX_DESCRIPTION)?.ok_or_else(|| missing("config.json"))?;
    let version = entry("metadata.json", MAX_DESCRIPTION)?;
    let weights = entry("model.weights.h5", most)?.ok_or_else(|| missing("model.weights.h5"))?;
    let description = json(&description).map_err(|error| refuse(format!("config.json: {error}")))?;
    let version = version.and_then(|bytes| json(&bytes).ok());
    let keras = version.as_ref().and_then(major).unwrap_or(3);
    Ok(Opened { description, keras, weights })
}

fn described_by(path: &Path, architecture: &Path) -> Result<Opened, ModelError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ModelError::Io { path, source }
    };
    let mut text = Vec::new();
    let file = File::open(architecture).map_err(io(architecture))?;
    file.take(MAX_DESCRIPTION).read_to_end(&mut text).map_err(io(architecture))?;
    let description = json(&text).map_err(|error| refusal(architecture, error))?;
    let weights = std::fs::read(path).map_err(io(path))?;
    let keras = major(&description).unwrap_or(3);
    Ok(Opened { description, keras, weights })
}

fn json(bytes: &[u8]) -> Result<serde_json::Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("not a model's description by Keras: {error}"))
}

/// The major version of Keras that a file names.
fn major(value: &serde_json::Value) -> Option<u32> {
    value.get("keras_version")?.as_str()?.split('.').next()?.parse().ok()
}

/// A model as a network.
struct Network {
    config: NetworkConfig,
    groups: Vec<Group>,
    mask: Option<f32>,
    notes: Vec<String>,
}

fn network(description: &serde_json::Value, keras: u32) -> Result<Network, String> {
    let sequence = chain::sequence(description)?;
    let (mut layers, mut groups, mut notes): (Vec<LayerConfig>, Vec<Group>, Vec<String>) = Default::default();
    let mut mask: Option<f32> = None;
    for layer in &sequence.layers {
        let part = layers::part(layer, keras)?;
        if let Some(function) = part.function {
            apply(layers.last_mut(), function)
                .map_err(|problem| format!("{layer}: {problem}; expected it after a Dense or a Conv1D"))?;
        }
        if let Some(value) = part.mask {
            let first = mask.is_none() && layers.is_empty();
            if !first {
                return Err(format!(
                    "{layer}: its mask begins after other layers; expected one mask, of the input"
                ));
            }
            mask = Some(value);
        }
        if mask.is_some() && matches!(layer.class.as_str(), "Conv1D" | "GlobalMaxPooling1D") {
            let class = &layer.class;
            return Err(format!("{layer}: it reads masked steps too; expected no mask before a {class}"));
        }
        let path = sequence.group_of(&layer.name);
        for (below, at, reverse) in part.groups {
            let path = if below.is_empty() { path.clone() } else { format!("{path}/{below}") };
            groups.push(Group { path, layer: layers.len() + at, reverse });
        }
        layers.extend(part.layers);
        notes.extend(part.notes);
    }
    let tokens = matches!(layers.first(), Some(LayerConfig::Embedding(_)));
    let input = match (&sequence.input[..], tokens) {
        ([_], true) => 1,
        ([_, Some(width)], false) => usize::try_from(*width).unwrap_or(usize::MAX),
        (axes, _) => {
            let axes: Vec<String> =
                axes.iter().map(|len| len.map_or("None".into(), |len| len.to_string())).collect();
            return Err(format!(
                "its input has the axes ({}) after the batch; expected (steps, features), or (steps,) of tokens",
                axes.join(", ")
            ));
        }
    };
    let config = NetworkConfig::new(input, layers).map_err(|error| error.to_string())?;
    Ok(Network { config, groups, mask, notes })
}

/// Gives a layer without a function this one.
fn apply(layer: Option<&mut LayerConfig>, function: Activation) -> Result<(), String> {
    if function == Activation::Identity {
        return Ok(());
    }
    match layer {
        Some(LayerConfig::Dense(dense)) if dense.activation == Activation::Identity => {
            *dense = dense.clone().activation(function);
            Ok(())
        }
        Some(LayerConfig::Conv1d(conv)) if conv.activation == Activation::Identity => {
            *conv = conv.clone().activation(function);
            Ok(())
        }
        _ => Err(format!("{function} has no layer before it that takes a function")),
    }
}
