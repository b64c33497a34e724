//! Safetensors files with any content. Reading trusts nothing: names, shapes, types and sizes are checked against the
//! file's length before any memory is allocated.

use super::atomic;
use crate::ModelError;
use ndarray::ArrayD;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The size of the header's length, which comes first.
const LENGTH_BYTES: u64 = 8;
/// The header's length is a multiple of this, so that tensors are aligned in a mapped file.
const HEADER_ALIGNMENT: usize = 8;
/// The longest header accepted, far above any of ours (about 100 bytes per tensor); safetensors itself draws the line
/// at 100 MB.
const MAX_HEADER_BYTES: u64 = 1 << 24;
const BLOCK_BYTES: usize = 1 << 16;

/// The header in the order of its maps. The crate's own writer takes a hash map, whose order differs from run to run.
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

/// A file whose header has been read and matches its length.
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    header: Metadata,
    data_start: u64,
}

impl TensorFile {
    /// Opens a file; `expected` names the kind of file in the error if it is not a file at all.
    pub(super) fn open(path: &Path, expected: &str) -> Result<TensorFile, ModelError> {
        let unreadable = |error: io::Error| unreadable(path, &error);
        // Checked before opening, since opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(refusal(path, format!("it is not a file; expected {expected}")));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let (header, data_start) = read_header(path, &mut file, file_bytes)?;
        Ok(TensorFile { path: path.into(), file, header, data_start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn header(&self) -> &Metadata {
        &self.header
    }

    pub(super) fn refusal(&self, problem: String) -> ModelError {
        refusal(&self.path, problem)
    }

    /// The values of a tensor of [`Dtype::F32`], or of another type that [`is_number`] accepts: F16 and BF16 convert
    /// exactly, F64 is rounded to nearest.
    pub(super) fn values(&mut self, name: &str, info: &TensorInfo) -> Result<ArrayD<f32>, ModelError> {
        match info.dtype {
            Dtype::F32 => self.words(name, info, |word| Ok(f32::from_le_bytes(word))),
            Dtype::F16 => self.words(name, info, |word| Ok(from_f16(u16::from_le_bytes(word)))),
            Dtype::BF16 => {
                self.words(name, info, |word| Ok(f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)))
            }
            Dtype::F64 => self.words(name, info, |word| {
                let value = f64::from_le_bytes(word);
                let nearest = value as f32;
                if nearest.is_infinite() && value.is_finite() { Err(value) } else { Ok(nearest) }
            }),
            _ => {
                let found = described(info);
                Err(self.refusal(format!("tensor {}: expected F32, found {found}", shown(name))))
            }
        }
    }

    /// Converts words of `N` bytes; a word that does not fit f32 is returned as the error.
    fn words<const N: usize>(
        &mut self,
        name: &str,
        info: &TensorInfo,
        number: impl Fn([u8; N]) -> Result<f32, f64>,
    ) -> Result<ArrayD<f32>, ModelError> {
        let (start, end) = info.data_offsets;
        let mut values = Vec::new();
        values.try_reserve_exact((end - start) / N).map_err(|_| {
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
            for &word in words {
                values.push(number(word).map_err(|found| {
                    let problem = format!(
                        "tensor {}: {found:e} is beyond float32, whose largest is {:e}",
                        shown(name),
                        f32::MAX
                    );
                    refusal(&self.path, problem)
                })?);
            }
            left -= part.len();
        }
        Ok(ArrayD::from_shape_vec(info.shape.clone(), values).expect("the header's sizes were checked"))
    }
}

/// Whether [`TensorFile::values`] reads tensors of this type.
pub(super) fn is_number(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

/// The value of a binary16.
pub(super) fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    // Exponent and fraction, at their positions in f32.
    let moved = u32::from(bits & 0x7fff) << 13;
    if bits & 0x7c00 == 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | moved); // infinite, or not a number
    }
    // The exponent bias is 15 here and 127 there; a product is exact even for subnormal numbers.
    f32::from_bits(sign | (f32::from_bits(moved) * 2f32.powi(127 - 15)).to_bits())
}

/// Reads the header, and where the tensors begin.
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
    // The crate checks that names, shapes, types and offsets agree, without overflow or gaps. The file's length is
    // compared below, not by its `SafeTensors`, whose sum of lengths can overflow.
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

pub(super) fn refusal(path: &Path, problem: String) -> ModelError {
    ModelError::File { path: path.into(), problem }
}

/// The first bytes of a file, fewer if it is shorter.
pub(super) fn first_bytes<const N: usize>(path: &Path) -> Result<Vec<u8>, ModelError> {
    let unreadable = |error: io::Error| unreadable(path, &error);
    // Checked before opening, since opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::with_capacity(N);
    File::open(path).map_err(unreadable)?.take(N as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> ModelError {
    ModelError::Io {
        path: path.into(),
        source: io::Error::new(error.kind(), format!("cannot be read: {error}")),
    }
}

pub(super) fn describe(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

/// A foreign tensor may have any number of axes.
pub(super) fn described(info: &TensorInfo) -> String {
    const SHOWN: usize = 8;
    match info.shape.len() {
        0..=SHOWN => describe(info.dtype, &info.shape),
        axes => format!("{} with {axes} axes", info.dtype),
    }
}

/// Text from a file, made safe to print: one short line.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 200;
    let line: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() { line + "..." } else { line }
}

pub(super) fn listed(names: &[String]) -> String {
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

#[cfg(test)]
mod tests {
    use super::from_f16;
    use gatefold_reference::Failures;

    /// Every number of 16 bits, from the definition: sign, five bits of exponent, ten of fraction.
    #[test]
    fn halves_are_what_their_bits_say() {
        let mut failures = Failures::new();
        for bits in 0..=u16::MAX {
            failures.check(format!("{bits:#06x}"), || {
                let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
                let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
                let expected = match exponent {
                    31 if fraction == 0.0 => f64::INFINITY,
                    31 => f64::NAN,
                    0 => fraction * 2f64.powi(-14),
                    _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
                };
                let (found, expected) = (f64::from(from_f16(bits)), sign * expected);
                let same = found == expected && found.is_sign_negative() == expected.is_sign_negative();
                assert!(same || found.is_nan() && expected.is_nan(), "found {found}, expected {expected}");
            });
        }
        failures.finish();
    }
}
