//! The headers of our own files: how they are written, and which are accepted.

use super::tensors::{TensorFile, describe, described, listed, refusal, shown};
use crate::{Cell, Layer, LayerKind, ModelError, NetworkConfig, Parameters, Recurrent};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

const FORMAT: &str = "gatefold";
/// The newest version. 1 knew lstm, dense, last step and tied layers, 2 neither convolutions nor parallel branches, 3
/// no dilation, 4 neither layer normalisation nor noise in recurrent layers, 5 no custom cells, 6 neither normalisation as a
/// layer nor pooling.
const VERSION: u32 = 7;
/// The longest description of a network; a layer takes about 50 bytes.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// The largest width; rows of four gates of this width can still be counted in 32 bits.
const MAX_WIDTH: u64 = 1 << 28;
const OPTIMIZER_PREFIX: &str = "optimizer.";
const METADATA_PREFIX: &str = "metadata.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Checkpoint,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Checkpoint => "checkpoint",
        }
    }
}

/// The name of a parameter's moment in a file.
pub(super) fn moment_name(moment: &str, parameter: &str) -> String {
    format!("{OPTIMIZER_PREFIX}{moment}.{parameter}")
}

/// The moments' names, as stored in the header.
pub(super) fn moment_list(path: &Path, moments: &[&str]) -> Result<String, ModelError> {
    match moments.iter().find(|moment| moment.is_empty() || moment.contains('.')) {
        Some(moment) => Err(refusal(path, format!("the moment {moment:?} needs a name without a dot"))),
        None => Ok(serde_json::to_string(moments).expect("strings are always JSON")),
    }
}

/// The oldest version that can hold a network, so that older programs read whatever they can.
fn oldest_version(network: &NetworkConfig) -> u32 {
    let of_layer = |layer: &Layer| match layer.kind {
        LayerKind::Normalise { .. } | LayerKind::Pool(_) => VERSION,
        LayerKind::Recurrent(Recurrent { cell: Cell::Custom(_), .. }) => 6,
        LayerKind::Recurrent(recurrent) if recurrent.norm.is_some() || recurrent.noise.is_on() => 5,
        LayerKind::Recurrent(recurrent) if recurrent.is_dilated() => 4,
        LayerKind::Conv1d(_) | LayerKind::Merge(_) => 3,
        _ => 2,
    };
    network.layers().iter().map(of_layer).max().unwrap_or(2)
}

/// The entries of the header's `__metadata__` that both kinds of file have.
pub(super) fn entries(
    path: &Path,
    kind: Kind,
    network: &NetworkConfig,
    metadata: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ModelError> {
    let description = serde_json::to_string(network).expect("a description is always JSON");
    if description.len() > MAX_DESCRIPTION_BYTES {
        let found = description.len();
        let problem =
            format!("the network's description is {found} bytes; expected at most {MAX_DESCRIPTION_BYTES}");
        return Err(refusal(path, problem));
    }
    let mut entries = BTreeMap::from([
        ("format".into(), FORMAT.into()),
        ("format_version".into(), oldest_version(network).to_string()),
        ("kind".into(), kind.name().into()),
        ("network".into(), description),
    ]);
    entries.extend(metadata.iter().map(|(key, value)| (format!("{METADATA_PREFIX}{key}"), value.clone())));
    Ok(entries)
}

/// A file of ours, with its header read.
pub(super) struct Reader {
    file: TensorFile,
    kind: Kind,
    network: NetworkConfig,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, ModelError> {
        let file = TensorFile::open(path, "a model or a checkpoint")?;
        let (kind, network) = read_description(path, file.header())?;
        Ok(Reader { file, kind, network })
    }

    pub(super) fn network(&self) -> &NetworkConfig {
        &self.network
    }

    /// The caller's strings.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.file.header().metadata().iter().flatten();
        entries
            .filter_map(|(key, value)| Some((key.strip_prefix(METADATA_PREFIX)?.into(), value.clone())))
            .collect()
    }

    pub(super) fn require_checkpoint(&self) -> Result<(), ModelError> {
        match self.kind {
            Kind::Checkpoint => Ok(()),
            Kind::Model => {
                Err(self.refusal("it only holds a model; training continues from a checkpoint".into()))
            }
        }
    }

    /// A whole number, stored as a string because JSON numbers are only exact to 53 bits.
    pub(super) fn number(&self, key: &str) -> Result<u64, ModelError> {
        let text = entry(self.file.path(), self.file.header(), key)?;
        text.parse()
            .map_err(|_| self.refusal(format!("{key}: expected a whole number, found {}", shown(text))))
    }

    /// The names of the optimiser's moments.
    pub(super) fn moments(&self) -> Result<Vec<String>, ModelError> {
        let text = entry(self.file.path(), self.file.header(), "optimizer")?;
        let moments: Vec<String> = serde_json::from_str(text)
            .map_err(|error| self.refusal(format!("optimizer: expected a list of names: {error}")))?;
        let names: Vec<&str> = moments.iter().map(String::as_str).collect();
        moment_list(self.file.path(), &names)?;
        Ok(moments)
    }

    /// Checks that every tensor is a parameter or one of its moments. Without `moments`, a checkpoint is read as a
    /// model and its optimiser's tensors are ignored.
    pub(super) fn refuse_other_tensors(&self, moments: Option<&[String]>) -> Result<(), ModelError> {
        let parameters: HashSet<&str> =
            self.network.parameter_specs().map(|spec| spec.name.as_str()).collect();
        for name in self.file.header().offset_keys() {
            let belongs = match (name.strip_prefix(OPTIMIZER_PREFIX), moments) {
                (None, _) => parameters.contains(name.as_str()),
                (Some(_), None) => self.kind == Kind::Checkpoint,
                (Some(rest), Some(moments)) => rest.split_once('.').is_some_and(|(moment, parameter)| {
                    moments.iter().any(|known| known == moment) && parameters.contains(parameter)
                }),
            };
            if !belongs {
                let found = self.file.header().info(&name).map_or_else(String::new, described);
                let network = shown(&self.network.to_string());
                let problem = format!("tensor {}, {found}, belongs to no layer of {network}", shown(&name));
                return Err(self.refusal(problem));
            }
        }
        Ok(())
    }

    pub(super) fn parameters(&mut self) -> Result<Parameters, ModelError> {
        self.tensors(None)
    }

    pub(super) fn moment(&mut self, moment: &str) -> Result<Parameters, ModelError> {
        self.tensors(Some(moment))
    }

    /// Checks every shape and type before the first value is read.
    fn tensors(&mut self, moment: Option<&str>) -> Result<Parameters, ModelError> {
        let mut places = Vec::new();
        for spec in self.network.parameter_specs() {
            let stored = moment.map_or_else(|| spec.name.clone(), |moment| moment_name(moment, &spec.name));
            let expected = describe(Dtype::F32, &spec.shape);
            match self.file.header().info(&stored) {
                Some(info) if info.dtype == Dtype::F32 && info.shape == spec.shape => {
                    places.push((spec.name.clone(), info.clone()));
                }
                Some(info) => {
                    let found = described(info);
                    return Err(self.refusal(format!("tensor {stored}: expected {expected}, found {found}")));
                }
                None if moment.is_some() => {}
                None => {
                    let mut found = self.file.header().offset_keys();
                    found.retain(|name| !name.starts_with(OPTIMIZER_PREFIX));
                    let found = listed(&found);
                    return Err(
                        self.refusal(format!("tensor {stored}, {expected}, is missing; found {found}"))
                    );
                }
            }
        }
        places
            .into_iter()
            .map(|(name, info)| {
                let values = self.file.values(&name, &info)?;
                Ok((name, values))
            })
            .collect()
    }

    fn refusal(&self, problem: String) -> ModelError {
        self.file.refusal(problem)
    }
}

/// Checks that the header marks the file as one of ours.
pub(super) fn is_ours(header: &Metadata) -> bool {
    let format = header.metadata().as_ref().and_then(|entries| entries.get("format"));
    format.is_some_and(|format| format == FORMAT)
}

fn read_description(path: &Path, header: &Metadata) -> Result<(Kind, NetworkConfig), ModelError> {
    if !is_ours(header) {
        let format = header.metadata().as_ref().and_then(|entries| entries.get("format"));
        let found = format.map_or_else(|| "none".into(), |format| shown(format));
        return Err(refusal(path, format!("not a file of ours: expected format gatefold, found {found}")));
    }
    let text = entry(path, header, "format_version")?;
    match text.parse::<u32>() {
        Ok(1..=VERSION) => {}
        Ok(version) if version > VERSION => {
            let problem = format!(
                "format version {version} is newer than {VERSION}, the newest known here; update gatefold"
            );
            return Err(refusal(path, problem));
        }
        _ => {
            return Err(refusal(
                path,
                format!("format_version: expected 1 to {VERSION}, found {}", shown(text)),
            ));
        }
    }
    let kind = match entry(path, header, "kind")? {
        "model" => Kind::Model,
        "checkpoint" => Kind::Checkpoint,
        other => {
            return Err(refusal(path, format!("kind: expected model or checkpoint, found {}", shown(other))));
        }
    };
    let network = parse_network(entry(path, header, "network")?)
        .map_err(|problem| refusal(path, format!("network: {}", shown(&problem))))?;
    Ok((kind, network))
}

fn parse_network(text: &str) -> Result<NetworkConfig, String> {
    if text.len() > MAX_DESCRIPTION_BYTES {
        return Err(format!(
            "the description is {} bytes; expected at most {MAX_DESCRIPTION_BYTES}",
            text.len()
        ));
    }
    let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(number) = too_large(&value) {
        return Err(format!("the description holds {number}; expected widths of at most {MAX_WIDTH}"));
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The first number too large for a width. Recursion is bounded: serde_json refuses deep nesting.
fn too_large(value: &serde_json::Value) -> Option<u64> {
    match value {
        serde_json::Value::Number(number) => number.as_u64().filter(|&number| number > MAX_WIDTH),
        serde_json::Value::Array(values) => values.iter().find_map(too_large),
        serde_json::Value::Object(values) => values.values().find_map(too_large),
        _ => None,
    }
}

fn entry<'a>(path: &Path, header: &'a Metadata, key: &str) -> Result<&'a str, ModelError> {
    let found = header.metadata().as_ref().and_then(|entries| entries.get(key));
    found
        .map(String::as_str)
        .ok_or_else(|| refusal(path, format!("{key} is missing in the header's metadata")))
}
