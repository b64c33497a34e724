//! Compiled pipelines kept on disk for the next process, where the driver has a cache that can be stored (Vulkan).
//!
//! The file lies in the user's cache folder, under a name made of adapter, driver and the version of this crate. It is an
//! aid: one that cannot be read, is damaged, or was written for another driver is ignored and replaced, and work goes on
//! when it cannot be written.
#![allow(unsafe_code, reason = "a driver trusts the data of its cache; `open` says why it may")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A folder for the cache, or `off`.
const VARIABLE: &str = "GATEFOLD_CACHE";
/// Opens a file; changes with its layout.
const MAGIC: [u8; 8] = *b"gfcache1";
/// The magic word and a sum over the data.
const HEAD: usize = MAGIC.len() + 8;

/// A driver's cache, and the file that it was read from and goes to.
#[derive(Debug)]
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    path: PathBuf,
    /// The sum over the data in the file, if there is any.
    stored: Mutex<Option<u64>>,
}

/// The features to ask a device for, of those that it has.
pub(super) fn features() -> wgpu::Features {
    if folder().is_some() { wgpu::Features::PIPELINE_CACHE } else { wgpu::Features::empty() }
}

impl PipelineCache {
    /// The cache of a device that was opened with [`features`]; `None` if it has none or the user wants none.
    pub(super) fn open(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<PipelineCache> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder()?.join(file_name(info)?);
        let stored = read(&path);
        // SAFETY: wgpu wants data that it returned itself for this adapter. The file's sum shows that it is what `save`
        // wrote, and the file's name is that of this adapter, driver and version. wgpu and the driver check their own
        // headers, and `fallback` asks for an empty cache if the data is for another driver.
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: Some("gatefold"),
                data: stored.as_deref(),
                fallback: true,
            })
        };
        let stored = Mutex::new(stored.as_deref().map(sum));
        Some(PipelineCache { cache, path, stored })
    }

    /// The cache, for a pipeline to be compiled.
    pub(super) fn raw(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the cache to its file if it has changed.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Some(sum(&data));
        if *stored != now {
            // What cannot be written is compiled again by the next process. One attempt is enough for this content.
            let _ = write(&self.path, &data);
            *stored = now;
        }
    }
}

/// The data in a file, if the file is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = std::fs::read(path).ok()?;
    let head = content.get(..HEAD)?;
    let whole = head[..MAGIC.len()] == MAGIC && head[MAGIC.len()..] == sum(&content[HEAD..]).to_le_bytes();
    whole.then(|| content.split_off(HEAD))
}

fn write(path: &Path, data: &[u8]) -> Result<(), crate::Error> {
    if let Some(folder) = path.parent() {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|source| gatefold_model::ModelError::Io { path: folder.into(), source })?;
    }
    let content = [&MAGIC[..], &sum(data).to_le_bytes(), data].concat();
    Ok(gatefold_model::file::write_atomically(path, &content)?)
}

/// FNV-1a, the same in every version of the standard library.
fn sum(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The file of an adapter, its driver and this version; `None` for a backend without such a cache.
fn file_name(info: &wgpu::AdapterInfo) -> Option<String> {
    Some(format!("{}_{:016x}.bin", wgpu::util::pipeline_cache_key(info)?, driver_sum(info)))
}

/// A number that differs between adapters, drivers, versions of this crate, and builds with and without checks.
pub(super) fn driver_sum(info: &wgpu::AdapterInfo) -> u64 {
    let checks = super::pipeline::bounds_checks();
    let of = (&info.name, &info.driver, &info.driver_info, env!("CARGO_PKG_VERSION"), checks);
    sum(format!("{of:?}").as_bytes())
}

/// The folder of the cache: that of the user, or as [`VARIABLE`] says; `None` if it is off or unknown.
pub(super) fn folder() -> Option<PathBuf> {
    folder_from(|name| std::env::var_os(name))
}

fn folder_from(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match variable(VARIABLE) {
        Some(off) if off == "off" => return None,
        Some(chosen) if !chosen.is_empty() => return Some(chosen.into()),
        _ => {}
    }
    let caches = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("gatefold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_ignored_and_replaced() {
        let folder = std::env::temp_dir().join(format!("gatefold-cache-{}", std::process::id()));
        let path = folder.join("deeper").join("cache.bin");
        assert_eq!(read(&path), None);
        write(&path, b"pipelines").unwrap();
        assert_eq!(read(&path).as_deref(), Some(&b"pipelines"[..]));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&path), None, "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path), None, "cut at {at}");
        }
        write(&path, b"").unwrap();
        assert_eq!(read(&path).as_deref(), Some(&b""[..]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn the_folder_follows_the_environment() {
        let folder = |set: &[(&str, &str)]| {
            folder_from(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()))
        };
        let home = ("HOME", "/home/a");
        assert_eq!(folder(&[home]), Some("/home/a/.cache/gatefold".into()));
        assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "/c")]), Some("/c/gatefold".into()));
        assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "relative")]), Some("/home/a/.cache/gatefold".into()));
        assert_eq!(folder(&[home, (VARIABLE, "here")]), Some("here".into()));
        assert_eq!(folder(&[home, (VARIABLE, "")]), Some("/home/a/.cache/gatefold".into()));
        assert_eq!(folder(&[home, (VARIABLE, "off")]), None);
        assert_eq!(folder(&[]), None);
    }
}
