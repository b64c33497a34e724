//! Models and checkpoints on disk, as [safetensors] files.
//!
//! A [`Model`] holds only the parameters, under PyTorch's names and in its row order, so that PyTorch's own safetensors
//! loader reads it unchanged. A [`Checkpoint`] is self-contained and holds everything needed to continue training: the
//! parameters under the same names, the optimiser's moments as `optimizer.<moment>.<parameter>`, the step and the seed.
//! Every tensor is little-endian `F32` and row-major. The same content gives the same bytes.
//!
//! Everything else is stored as strings in the header's `__metadata__`:
//!
//! | key | value |
//! |---|---|
//! | `format` | `gatefold` |
//! | `format_version` | `2`, or `3` with a convolution or parallel branches; a file of a newer version is refused |
//! | `kind` | `model` or `checkpoint` |
//! | `network` | the [`NetworkConfig`] as JSON |
//! | `step`, `seed` | decimal; only in a checkpoint |
//! | `optimizer` | the moments' names as a JSON list; only in a checkpoint |
//! | `metadata.<key>` | the caller's `metadata`, never interpreted |
//!
//! Reading trusts nothing: sizes, names, shapes and types are checked against the file's length and the network's
//! description before any memory is allocated.
//!
//! State dicts from and for PyTorch, with names of their own, are in [`pytorch`], files for guitar plugins in
//! [`amplifier`]; Keras' files, with the feature `keras`, in `keras`.
//!
//! [safetensors]: https://github.com/huggingface/safetensors

pub mod amplifier;
mod atomic;
mod format;
#[cfg(feature = "keras")]
pub mod keras;
mod plain;
pub mod pytorch;
mod tensors;

pub use atomic::write_atomically;

use crate::{ModelError, NetworkConfig, Parameters};
use format::{Kind, Reader};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::path::Path;

/// The key of a model's metadata that holds the number which masks a step, of a model that looks for masked steps
/// itself, as Keras' do: all features of the step, or its token, are that number. Such a network takes the lengths of the
/// rows instead.
pub const MASK: &str = "mask";

/// A network with its parameters: `model.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The network's description.
    pub config: NetworkConfig,
    /// Its parameters.
    pub parameters: Parameters,
    /// Strings stored along with it, such as the scaler of its data.
    pub metadata: BTreeMap<String, String>,
}

impl Model {
    /// Writes the whole file or nothing; see [`write_atomically`].
    ///
    /// # Errors
    /// The parameters are not the network's ([`Parameters::check`]), or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        self.parameters.check(&self.config)?;
        let entries = format::entries(path, Kind::Model, &self.config, &self.metadata)?;
        tensors::write(path, &entries, &by_name(&self.parameters))
    }

    /// Reads a model, or the model in a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the file cannot be read, [`ModelError::File`] with the reason if it is truncated,
    /// foreign, of a newer format version, or if its tensors are not those of the network that it describes.
    pub fn load(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        let mut reader = Reader::open(path.as_ref())?;
        let parameters = reader.parameters()?;
        reader.refuse_other_tensors(None)?;
        Ok(Model { config: reader.network().clone(), parameters, metadata: reader.metadata() })
    }
}

/// Everything needed to continue training: `checkpoint.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The network's description.
    pub config: NetworkConfig,
    /// Its parameters.
    pub parameters: Parameters,
    /// The optimiser's moments, such as `m` and `v`, each with tensors named and shaped like the parameters; a
    /// parameter that is not trained may be absent.
    pub optimizer: BTreeMap<String, Parameters>,
    /// The number of updates done.
    pub step: u64,
    /// The seed of the run.
    pub seed: u64,
    /// Strings stored along with it, such as the scaler of its data.
    pub metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// The model alone, without the training state.
    pub fn model(&self) -> Model {
        Model {
            config: self.config.clone(),
            parameters: self.parameters.clone(),
            metadata: self.metadata.clone(),
        }
    }

    /// Writes the whole file or nothing; see [`write_atomically`].
    ///
    /// # Errors
    /// The parameters or the moments are not the network's, a moment's name is empty or contains a dot, or the file
    /// cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), ModelError> {
        let path = path.as_ref();
        self.parameters.check(&self.config)?;
        let moments: Vec<&str> = self.optimizer.keys().map(String::as_str).collect();
        let mut entries = format::entries(path, Kind::Checkpoint, &self.config, &self.metadata)?;
        entries.insert("step".into(), self.step.to_string());
        entries.insert("seed".into(), self.seed.to_string());
        entries.insert("optimizer".into(), format::moment_list(path, &moments)?);

        let mut tensors = by_name(&self.parameters);
        for (moment, values) in &self.optimizer {
            for (name, tensor) in values.iter() {
                let stored = format::moment_name(moment, name);
                match self.parameters.get(name) {
                    Some(parameter) if parameter.shape() == tensor.shape() => tensors.insert(stored, tensor),
                    Some(parameter) => {
                        return Err(ModelError::Shape {
                            name: stored,
                            expected: parameter.shape().into(),
                            found: tensor.shape().into(),
                        });
                    }
                    None => {
                        return Err(ModelError::Unexpected { name: stored, found: tensor.shape().into() });
                    }
                };
            }
        }
        tensors::write(path, &entries, &tensors)
    }

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// As [`Model::load`], and for a file that only holds a model.
    pub fn load(path: impl AsRef<Path>) -> Result<Checkpoint, ModelError> {
        let mut reader = Reader::open(path.as_ref())?;
        reader.require_checkpoint()?;
        let step = reader.number("step")?;
        let seed = reader.number("seed")?;
        let moments = reader.moments()?;
        let parameters = reader.parameters()?;
        reader.refuse_other_tensors(Some(&moments))?;
        let mut optimizer = BTreeMap::new();
        for moment in moments {
            let values = reader.moment(&moment)?;
            optimizer.insert(moment, values);
        }
        let (config, metadata) = (reader.network().clone(), reader.metadata());
        Ok(Checkpoint { config, parameters, optimizer, step, seed, metadata })
    }
}

fn by_name(parameters: &Parameters) -> BTreeMap<String, &ArrayD<f32>> {
    parameters.iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
}
