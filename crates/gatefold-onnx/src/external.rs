//! Tensors stored in files beside the model.

use crate::OnnxError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The files that hold a model's tensors. They must be in the model's folder or in folders inside it.
pub(crate) struct External {
    folder: PathBuf,
    /// The bytes that may still be read from each file. In total that is the file's size, so that a small model cannot
    /// read the same bytes again and again.
    left: BTreeMap<PathBuf, u64>,
}

impl External {
    /// The files beside the model at this path.
    pub(crate) fn beside(model: &Path) -> External {
        let folder = match model.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
            _ => PathBuf::from("."),
        };
        External { folder, left: BTreeMap::new() }
    }

    /// Reads the `needed` bytes of a tensor from where its `external_data` entries say.
    pub(crate) fn read(&mut self, entries: &[(&str, &str)], needed: usize) -> Result<Vec<u8>, OnnxError> {
        let refuse = |problem: String| OnnxError::File { path: self.folder.clone(), problem };
        let entry = |key: &str| entries.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let number = |key: &str| match entry(key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(refuse(format!(
                "external data: {key} {:?} is not a number",
                entry(key).unwrap_or_default()
            ))),
        };
        let location = entry("location").ok_or_else(|| refuse("external data without a location".into()))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let path = self.inside(location)?;
        let io = |source| OnnxError::Io { path: path.clone(), source };
        // Checked before the file is opened: opening a pipe would wait for its other end.
        if !std::fs::metadata(&path).map_err(io)?.is_file() {
            return Err(OnnxError::File { path, problem: "external data must be a plain file".into() });
        }
        let mut file = File::open(&path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let needed_bytes = needed as u64;
        let found = length.unwrap_or(size.saturating_sub(offset));
        let problem = if found != needed_bytes {
            Some(format!("expected external data of {needed_bytes} bytes, found {found}"))
        } else if offset.checked_add(needed_bytes).is_none_or(|end| end > size) {
            Some(format!("expected external data of {needed_bytes} bytes at {offset}; the file has {size}"))
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(OnnxError::File { path, problem });
        }
        let left = self.left.entry(path.clone()).or_insert(size);
        if *left < needed_bytes {
            return Err(OnnxError::File {
                path,
                problem: "the tensors need more bytes than the file has".into(),
            });
        }
        *left -= needed_bytes;
        let mut bytes = vec![0; needed];
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(io)?;
        Ok(bytes)
    }

    /// The real path of a location. Neither its text nor a link may lead out of the folder.
    fn inside(&self, location: &str) -> Result<PathBuf, OnnxError> {
        let outside = || OnnxError::File {
            path: self.folder.clone(),
            problem: format!(
                "external data at {location:?}, which is not inside the model's folder; move it there"
            ),
        };
        let relative = Path::new(location);
        let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        // A backslash or a colon leads out on other systems.
        if location.is_empty()
            || location.contains(|character: char| matches!(character, '\\' | ':') || character.is_control())
            || !relative.components().all(plain)
        {
            return Err(outside());
        }
        let real = |path: &Path| {
            std::fs::canonicalize(path).map_err(|source| OnnxError::Io { path: path.into(), source })
        };
        let (folder, path) = (real(&self.folder)?, real(&self.folder.join(relative))?);
        if path.starts_with(&folder) { Ok(path) } else { Err(outside()) }
    }
}
