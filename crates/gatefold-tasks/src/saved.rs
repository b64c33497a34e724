//! Files of trained networks, with everything that their task needs besides the parameters.

use crate::TaskError;
use gatefold::file::Model;
use gatefold::{Device, Network};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

const TASK: &str = "task";
const DATA: &str = "data";

/// Writes a network to a model file, with the name of its task and the task's data as JSON in the metadata.
///
/// # Errors
/// [`TaskError::Model`] for a file that cannot be written; those of reading back from a GPU.
pub fn save(
    path: impl AsRef<Path>,
    network: &Network,
    task: &str,
    data: &impl Serialize,
) -> Result<(), TaskError> {
    let text = serde_json::to_string(data)
        .map_err(|error| TaskError::Data(format!("the task's data cannot be written as JSON: {error}")))?;
    let metadata = BTreeMap::from([(TASK.to_owned(), task.to_owned()), (DATA.to_owned(), text)]);
    let model = Model { config: network.config().clone(), parameters: network.parameters()?, metadata };
    Ok(model.save(path)?)
}

/// Reads the network and the data that [`save`] wrote for this task.
///
/// # Errors
/// [`TaskError::Model`] for a file that cannot be read; [`TaskError::Data`] for a model of another task, or of another
/// version of it; those of the device.
pub fn load<D: DeserializeOwned>(
    device: &Device,
    path: impl AsRef<Path>,
    task: &str,
) -> Result<(Network, D), TaskError> {
    let path = path.as_ref();
    let refuse = |problem: String| TaskError::Data(format!("{}: {problem}", path.display()));
    let model = Model::load(path)?;
    match model.metadata.get(TASK).map(String::as_str) {
        Some(found) if found == task => {}
        Some(found) => return Err(refuse(format!("a model of {found}, not of {task}; use it with {found}"))),
        None => return Err(refuse(format!("no model of {task}; train one with {task}"))),
    }
    let text = model.metadata.get(DATA).map_or("", String::as_str);
    let data = serde_json::from_str(text).map_err(|error| {
        refuse(format!("its data is of another version ({error}); train the model again"))
    })?;
    Ok((Network::with_parameters(device, &model.config, &model.parameters)?, data))
}

/// The name of the task that a model file belongs to; `None` if [`save`] did not write it.
///
/// # Errors
/// [`TaskError::Model`] for a file that cannot be read.
pub fn task_of(path: impl AsRef<Path>) -> Result<Option<String>, TaskError> {
    Ok(Model::load(path)?.metadata.remove(TASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::NetworkConfig;

    #[test]
    fn a_model_comes_back_with_its_data_and_for_its_own_task_alone() {
        let device = Device::cpu().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let config = NetworkConfig::with_input(3).gru(4).dense(2).build().unwrap();
        let network = Network::new(&device, &config, 7).unwrap();
        let data = (vec!["a".to_owned(), "\"b\"\n".to_owned()], 0.1f64);
        save(&path, &network, "classify", &data).unwrap();
        let (read, found): (Network, (Vec<String>, f64)) = load(&device, &path, "classify").unwrap();
        assert_eq!(found, data);
        assert_eq!(read.parameters().unwrap(), network.parameters().unwrap());
        let other = load::<(Vec<String>, f64)>(&device, &path, "label").unwrap_err().to_string();
        assert!(other.ends_with("a model of classify, not of label; use it with classify"), "{other}");
        let version = load::<Vec<u32>>(&device, &path, "classify").unwrap_err().to_string();
        assert!(version.contains("another version"), "{version}");
        assert_eq!(task_of(&path).unwrap().as_deref(), Some("classify"));
        network.save(&path).unwrap();
        assert_eq!(task_of(&path).unwrap(), None);
        let none = load::<Vec<u32>>(&device, &path, "label").unwrap_err().to_string();
        assert!(none.ends_with("no model of label; train one with label"), "{none}");
    }
}
