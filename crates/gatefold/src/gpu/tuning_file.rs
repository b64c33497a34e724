//! The strategies that tuning found, kept in the user's cache folder for the next process.

use super::pipeline_cache::{driver_sum, folder};
use crate::Error;
use gatefold_model::ModelError;
use gatefold_schedule::scan::Tuning;
use std::path::PathBuf;

/// The file of an adapter, its driver and this version; `None` if the cache is off or has no place.
pub(super) fn path(info: &wgpu::AdapterInfo) -> Option<PathBuf> {
    Some(folder()?.join(format!("tuning_{:016x}.txt", driver_sum(info))))
}

/// Reads the strategies that an earlier process found. A file that is damaged, or written by hand in another way, counts
/// as none.
pub(crate) fn read(info: &wgpu::AdapterInfo) -> Option<Tuning> {
    std::fs::read_to_string(path(info)?).ok()?.parse().ok()
}

/// Writes the strategies that were found, and returns the file; `None` if the cache is off.
///
/// # Errors
/// [`Error::Model`] if the file cannot be written.
pub(crate) fn write(info: &wgpu::AdapterInfo, tuning: &Tuning) -> Result<Option<PathBuf>, Error> {
    let Some(path) = path(info) else { return Ok(None) };
    if let Some(folder) = path.parent() {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|source| ModelError::Io { path: folder.into(), source })?;
    }
    gatefold_model::file::write_atomically(&path, tuning.to_string().as_bytes())?;
    Ok(Some(path))
}
