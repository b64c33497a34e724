//! Trained networks as files: a model file for each, and one for what they share. That one grows with the number of series,
//! and has no place in the header of a model file.

use crate::encode::Encoder;
use crate::{Fitted, ForecastError, Settings};
use gatefold::file::Model;
use gatefold::{Device, Network};
use gatefold_model::file::write_atomically;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The key of a model file's metadata that holds the time steps of its input.
const KEY: &str = "forecaster_steps";

#[derive(Serialize, Deserialize)]
struct Shared {
    settings: Settings,
    encoder: Encoder,
    best_updates: u64,
}

/// The time steps of a network's input, from the metadata of a file that [`Fitted::save`] wrote; `None` for any other.
pub fn input_steps(metadata: &BTreeMap<String, String>) -> Option<usize> {
    metadata.get(KEY)?.parse().ok()
}

fn path(folder: &Path, name: &str, member: usize) -> PathBuf {
    folder.join(format!("{name}-{}.safetensors", member + 1))
}

fn shared_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

impl Fitted {
    /// Writes `{name}-1.safetensors`, `{name}-2.safetensors`, ... and `{name}.json`, with what they share, into a folder, and
    /// returns the files' names.
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
        let mut paths = vec![shared_path(folder, name)];
        write_atomically(&paths[0], text.as_bytes())?;
        let steps = self.encoder.shape().0.to_string();
        for (member, network) in self.members.iter().enumerate() {
            let metadata = BTreeMap::from([(KEY.to_owned(), steps.clone())]);
            let model =
                Model { config: network.config().clone(), parameters: network.parameters()?, metadata };
            paths.push(path(folder, name, member));
            model.save(&paths[member + 1])?;
        }
        let names = paths.iter().filter_map(|path| path.file_name());
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// Reads what [`Fitted::save`] wrote under this name.
    ///
    /// # Errors
    /// [`ForecastError::Model`] for a file that cannot be read, [`ForecastError::Settings`] for one that is no forecaster's,
    /// and those of the device.
    pub fn load(device: &Device, folder: &Path, name: &str) -> Result<Fitted, ForecastError> {
        let file = shared_path(folder, name);
        let refuse = |problem: String| ForecastError::Settings(format!("{}: {problem}", file.display()));
        let text = fs::read_to_string(&file).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                refuse("there is no such file; train a model with 'gatefold forecast' first".into())
            }
            _ => refuse(error.to_string()),
        })?;
        let Shared { settings, encoder, best_updates } = serde_json::from_str(&text)
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
