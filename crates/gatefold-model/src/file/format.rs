use super::atomic;
use crate::{ModelError, NetworkConfig, Parameters};
use ndarray::ArrayD;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const FORMAT: &str = "gatefold";
const VERSION: u32 = 2; // 1 knew lstm, dense, last step and tied layers
/// The header's length, in front of everything.
const LENGTH_BYTES: u64 = 8;
/// The header is a multiple of this long, so that the tensors are aligned in a mapped file.
const HEADER_ALIGNMENT: usize = 8;
/// Far above any header of ours (about 100 bytes a tensor); safetensors itself draws the line at 100 MB.
const MAX_HEADER_BYTES: u64 = 1 << 24;
/// A layer takes about 50 bytes.
const MAX_DESCRIPTION_BYTES: usize = 1 << 20;
/// Rows of four gates of this width can still be counted in 32 bits.
const MAX_WIDTH: u64 = 1 << 28;
const OPTIMIZER_PREFIX: &str = "optimizer.";
const METADATA_PREFIX: &str = "metadata.";
const BLOCK_BYTES: usize = 1 << 16;

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

/// The name in a file of a parameter's moment.
pub(super) fn moment_name(moment: &str, parameter: &str) -> String {
    format!("{OPTIMIZER_PREFIX}{moment}.{parameter}")
}

/// The moments' names as they stand in the header.
pub(super) fn moment_list(path: &Path, moments: &[&str]) -> Result<String, ModelError> {
    match moments.iter().find(|moment| moment.is_empty() || moment.contains('.')) {
        Some(moment) => Err(refusal(path, format!("the moment {moment:?} needs a name without a dot"))),
        None => Ok(serde_json::to_string(moments).expect("strings are always JSON")),
    }
}

/// The header's `__metadata__` that both kinds of file have.
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
            format!("the network's description is {found} bytes, at most {MAX_DESCRIPTION_BYTES} fit");
        return Err(refusal(path, problem));
    }
    let mut entries = BTreeMap::from([
        ("format".into(), FORMAT.into()),
        ("format_version".into(), VERSION.to_string()),
        ("kind".into(), kind.name().into()),
        ("network".into(), description),
    ]);
    entries.extend(metadata.iter().map(|(key, value)| (format!("{METADATA_PREFIX}{key}"), value.clone())));
    Ok(entries)
}

/// The header in the order of its maps. The crate's own writer takes a hash map, whose order is another in every run.
struct Header<'a> {
    entries: &'a BTreeMap<String, String>,
    tensors: &'a BTreeMap<String, &'a ArrayD<f32>>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.tensors.len()))?;
        map.serialize_entry("__metadata__", self.entries)?;
        let mut start = 0;
        for (name, tensor) in self.tensors {
            let end = start + tensor.len() * size_of::<f32>();
            let (dtype, shape) = (Dtype::F32, tensor.shape().to_vec());
            map.serialize_entry(name, &TensorInfo { dtype, shape, data_offsets: (start, end) })?;
            start = end;
        }
        map.end()
    }
}

pub(super) fn write(
    path: &Path,
    entries: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, &ArrayD<f32>>,
) -> Result<(), ModelError> {
    let mut header =
        serde_json::to_vec(&Header { entries, tensors }).expect("strings and numbers are always JSON");
    header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
    let header_bytes = header.len() as u64;
    if header_bytes > MAX_HEADER_BYTES {
        let problem = format!(
            "the header is {header_bytes} bytes, at most {MAX_HEADER_BYTES} fit; shorten the metadata"
        );
        return Err(refusal(path, problem));
    }
    atomic::write_with(path, |file| {
        file.write_all(&header_bytes.to_le_bytes())?;
        file.write_all(&header)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        for tensor in tensors.values() {
            let values = tensor.as_standard_layout();
            for part in values.as_slice().expect("standard layout is contiguous").chunks(BLOCK_BYTES / 4) {
                block.clear();
                block.extend(part.iter().flat_map(|value| value.to_le_bytes()));
                file.write_all(&block)?;
            }
        }
        Ok(())
    })
}

/// A file whose header has been read and found to be ours.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
    kind: Kind,
    network: NetworkConfig,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, ModelError> {
        let unreadable = |error: io::Error| unreadable(path, &error);
        // Asked before the file is opened: opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(refusal(path, "it is not a file; expected a model or a checkpoint".into()));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let (header, data_start) = read_header(path, &mut file, file_bytes)?;
        let (kind, network) = read_description(path, &header)?;
        Ok(Reader { path: path.into(), file, header, data_start, kind, network })
    }

    pub(super) fn network(&self) -> &NetworkConfig {
        &self.network
    }

    /// The caller's own strings.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let entries = self.header.metadata().iter().flatten();
        entries
            .filter_map(|(key, value)| Some((key.strip_prefix(METADATA_PREFIX)?.into(), value.clone())))
            .collect()
    }

    pub(super) fn require_checkpoint(&self) -> Result<(), ModelError> {
        match self.kind {
            Kind::Checkpoint => Ok(()),
            Kind::Model => Err(self
                .refusal("it is a model, parameters alone; training goes on from a checkpoint only".into())),
        }
    }

    /// A whole number; a string in the file, because JSON's numbers are exact to 53 bits only.
    pub(super) fn number(&self, key: &str) -> Result<u64, ModelError> {
        let text = entry(&self.path, &self.header, key)?;
        text.parse()
            .map_err(|_| self.refusal(format!("{key}: expected a whole number, found {}", shown(text))))
    }

    /// The names of the optimiser's moments.
    pub(super) fn moments(&self) -> Result<Vec<String>, ModelError> {
        let text = entry(&self.path, &self.header, "optimizer")?;
        let moments: Vec<String> = serde_json::from_str(text)
            .map_err(|error| self.refusal(format!("optimizer: expected a list of names: {error}")))?;
        let names: Vec<&str> = moments.iter().map(String::as_str).collect();
        moment_list(&self.path, &names)?;
        Ok(moments)
    }

    /// Every tensor must be a parameter or one of its moments. Without `moments` a checkpoint is read as a model, and
    /// whatever its optimiser has is passed over.
    pub(super) fn refuse_other_tensors(&self, moments: Option<&[String]>) -> Result<(), ModelError> {
        let parameters: HashSet<&str> =
            self.network.parameter_specs().map(|spec| spec.name.as_str()).collect();
        for name in self.header.offset_keys() {
            let belongs = match (name.strip_prefix(OPTIMIZER_PREFIX), moments) {
                (None, _) => parameters.contains(name.as_str()),
                (Some(_), None) => self.kind == Kind::Checkpoint,
                (Some(rest), Some(moments)) => rest.split_once('.').is_some_and(|(moment, parameter)| {
                    moments.iter().any(|known| known == moment) && parameters.contains(parameter)
                }),
            };
            if !belongs {
                let found = self.header.info(&name).map_or_else(String::new, described);
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
            match self.header.info(&stored) {
                Some(info) if info.dtype == Dtype::F32 && info.shape == spec.shape => {
                    places.push((spec.name.clone(), info.clone()));
                }
                Some(info) => {
                    let found = described(info);
                    return Err(self.refusal(format!("tensor {stored}: expected {expected}, found {found}")));
                }
                None if moment.is_some() => {}
                None => {
                    let mut found = self.header.offset_keys();
                    found.retain(|name| !name.starts_with(OPTIMIZER_PREFIX));
                    let found = listed(&found);
                    return Err(
                        self.refusal(format!("tensor {stored}, {expected}, is missing; found {found}"))
                    );
                }
            }
        }
        places.into_iter().map(|(name, info)| Ok((name, self.values(&info)?))).collect()
    }

    fn values(&mut self, info: &TensorInfo) -> Result<ArrayD<f32>, ModelError> {
        let (start, end) = info.data_offsets;
        let mut values = Vec::new();
        values.try_reserve_exact((end - start) / size_of::<f32>()).map_err(|_| {
            refusal(&self.path, format!("a tensor of {} bytes does not fit into memory", end - start))
        })?;
        let failed = |error: io::Error| unreadable(&self.path, &error);
        self.file.seek(SeekFrom::Start(self.data_start + start as u64)).map_err(failed)?;
        let mut block = vec![0; BLOCK_BYTES.min(end - start)];
        let mut left = end - start;
        while left > 0 {
            let part = &mut block[..left.min(BLOCK_BYTES)];
            self.file.read_exact(part).map_err(failed)?;
            let (words, _) = part.as_chunks();
            values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            left -= part.len();
        }
        Ok(ArrayD::from_shape_vec(info.shape.clone(), values).expect("the header's sizes were checked"))
    }

    fn refusal(&self, problem: String) -> ModelError {
        refusal(&self.path, problem)
    }
}

/// The header and where the tensors begin.
fn read_header(path: &Path, file: &mut File, file_bytes: u64) -> Result<(Metadata, u64), ModelError> {
    let failed = |error: io::Error| unreadable(path, &error);
    if file_bytes < LENGTH_BYTES {
        return Err(refusal(
            path,
            format!("truncated: expected a safetensors header, found {file_bytes} bytes"),
        ));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(failed)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > file_bytes - LENGTH_BYTES {
        let problem = format!(
            "truncated, or not a safetensors file: a header of {header_bytes} bytes is announced, \
             but the file has {file_bytes} bytes"
        );
        return Err(refusal(path, problem));
    }
    if header_bytes > MAX_HEADER_BYTES {
        let problem = format!("the header is {header_bytes} bytes; expected at most {MAX_HEADER_BYTES}");
        return Err(refusal(path, problem));
    }
    let mut text = vec![0; header_bytes as usize];
    file.read_exact(&mut text).map_err(failed)?;
    // The crate checks here that names, shapes, types and offsets agree, without overflow and without gaps. The
    // file's length is compared below and not by its `SafeTensors`, whose sum of the lengths can overflow.
    let header: Metadata = serde_json::from_slice(&text)
        .map_err(|error| refusal(path, format!("not a safetensors header: {}", shown(&error.to_string()))))?;
    let data_start = LENGTH_BYTES + header_bytes;
    let expected = data_start.checked_add(header.data_len() as u64);
    match expected {
        Some(expected) if expected == file_bytes => Ok((header, data_start)),
        Some(expected) if expected < file_bytes => Err(refusal(
            path,
            format!("expected {expected} bytes as the header announces, found {file_bytes}"),
        )),
        _ => {
            let tensors = header.data_len();
            let found = file_bytes - data_start;
            Err(refusal(path, format!("truncated: expected {tensors} bytes of tensors, found {found}")))
        }
    }
}

fn read_description(path: &Path, header: &Metadata) -> Result<(Kind, NetworkConfig), ModelError> {
    let format = header.metadata().as_ref().and_then(|entries| entries.get("format"));
    if format.map(String::as_str) != Some(FORMAT) {
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

/// The first whole number that no width may have. Recursion is bounded: serde_json refuses deep nesting.
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

fn refusal(path: &Path, problem: String) -> ModelError {
    ModelError::File { path: path.into(), problem }
}

fn unreadable(path: &Path, error: &io::Error) -> ModelError {
    ModelError::Io {
        path: path.into(),
        source: io::Error::new(error.kind(), format!("cannot be read: {error}")),
    }
}

fn describe(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

/// A foreign tensor may have any number of axes.
fn described(info: &TensorInfo) -> String {
    const SHOWN: usize = 8;
    match info.shape.len() {
        0..=SHOWN => describe(info.dtype, &info.shape),
        axes => format!("{} with {axes} axes", info.dtype),
    }
}

/// Text from a file, safe to print: one line, and not a long one.
fn shown(text: &str) -> String {
    const SHOWN: usize = 200;
    let line: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() { line + "..." } else { line }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "no tensor".into();
    }
    let first = names.iter().take(SHOWN).map(|name| shown(name)).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
