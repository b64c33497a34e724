//! Trained networks as files: one model file for each, with what they share in its metadata.

use crate::encode::Encoder;
use crate::{Fitted, ForecastError, Settings};
use gatefold::file::Model;
use gatefold::{Device, Network};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The key of a model file's metadata.
const KEY: &str = "forecaster";

#[derive(Serialize, Deserialize)]
struct Shared {
    settings: Settings,
    encoder: Encoder,
    best_updates: u64,
}

/// The time steps of a network's input, from the metadata of a file that [`Fitted::save`] wrote; `None` for any other.
pub fn input_steps(metadata: &BTreeMap<String, String>) -> Option<usize> {
    let shared: Shared = serde_json::from_str(metadata.get(KEY)?).ok()?;
    Some(shared.encoder.shape().0)
}

fn path(folder: &Path, name: &str, member: usize) -> PathBuf {
    folder.join(format!("{name}-{}.safetensors", member + 1))
}

impl Fitted {
    /// Writes `{name}-1.safetensors`, `{name}-2.safetensors`, ... into a folder, and returns the files' names.
    ///
    /// # Errors
    /// Those of writing, and of reading parameters back from the device.
    pub fn save(&self, folder: &Path, name: &str) -> Result<Vec<String>, ForecastError> {
        let shared = Shared {
            settings: self.settings.clone(),
            encoder: self.encoder.clone(),
            best_updates: self.best_updates,
        };
        let text = serde_json::to_string(&shared).expect("numbers and names are JSON");
        let mut names = Vec::new();
        for (member, network) in self.members.iter().enumerate() {
            let metadata = BTreeMap::from([(KEY.to_owned(), text.clone())]);
            let model =
                Model { config: network.config().clone(), parameters: network.parameters()?, metadata };
            let path = path(folder, name, member);
            model.save(&path)?;
            names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        Ok(names)
    }

    /// Reads what [`Fitted::save`] wrote under this name.
    ///
    /// # Errors
    /// [`ForecastError::Model`] for a file that cannot be read, [`ForecastError::Settings`] for one that is no forecaster's,
    /// and those of the device.
    pub fn load(device: &Device, folder: &Path, name: &str) -> Result<Fitted, ForecastError> {
        let first = Model::load(path(folder, name, 0))?;
        let refuse = |problem: String| {
            ForecastError::Settings(format!("{}: {problem}", path(folder, name, 0).display()))
        };
        let text = first.metadata.get(KEY).ok_or_else(|| {
            refuse("it was not written by 'gatefold forecast'; train a model with that first".into())
        })?;
        let Shared { settings, encoder, best_updates } = serde_json::from_str(text)
            .map_err(|error| refuse(format!("its forecaster cannot be read: {error}; train it again")))?;
        let expected = settings.network(encoder.shape())?;
        let mut members = Vec::new();
        for member in 0..settings.members {
            let model = Model::load(path(folder, name, member))?;
            if model.config != expected {
                return Err(ForecastError::Settings(format!(
                    "{}: expected the network {expected}, found {}; train it again",
                    path(folder, name, member).display(),
                    model.config
                )));
            }
            members.push(Network::with_parameters(device, &model.config, &model.parameters)?);
        }
        Ok(Fitted { settings, encoder, members, best_updates, improving: false })
    }
}
