//! Scalars in TensorBoard's files.
//!
//! Such a file is a row of records (TensorFlow's `tfrecord`): the length in 8 bytes, its checksum, the record, its checksum. A
//! record is a protobuf message `Event` (tensorflow/core/util/event.proto); the checksum is CRC-32C, rotated and shifted.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the scalars of one run, which TensorBoard shows as curves.
///
/// ```
/// use gatefold_forecast::EventWriter;
///
/// let mut events = EventWriter::new(Vec::new(), 1.7e9)?;
/// events.scalar(1.7e9, 1, "loss", 0.5)?;
/// assert_eq!(events.into_inner().len(), 40 + 42); // two records
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EventWriter<W: Write> {
    out: W,
}

impl EventWriter<BufWriter<File>> {
    /// Creates `events.out.tfevents.<seconds>.gatefold` in a folder, and returns its path too. TensorBoard calls the run
    /// by the name of the folder, and reads all such files in it.
    ///
    /// # Errors
    /// Those of creating and writing.
    pub fn create(folder: &Path) -> io::Result<(Self, PathBuf)> {
        fs::create_dir_all(folder)?;
        let now = seconds();
        // Another run in the same second gets a number of its own.
        let names = (0..).map(|at| match at {
            0 => format!("events.out.tfevents.{}.gatefold", now as u64),
            at => format!("events.out.tfevents.{}.gatefold.{at}", now as u64),
        });
        for name in names {
            let path = folder.join(name);
            match File::create_new(&path) {
                Ok(file) => return Ok((EventWriter::new(BufWriter::new(file), now)?, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the numbers do not end")
    }

    /// Adds a scalar with the present time.
    ///
    /// # Errors
    /// Those of writing.
    pub fn scalar_now(&mut self, step: u64, tag: &str, value: f32) -> io::Result<()> {
        self.scalar(seconds(), step, tag, value)
    }
}

impl<W: Write> EventWriter<W> {
    /// Begins a file, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Those of writing.
    pub fn new(out: W, wall_time: f64) -> io::Result<Self> {
        let mut writer = EventWriter { out };
        let mut event = Vec::new();
        fixed64(&mut event, 1, wall_time);
        bytes(&mut event, 3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Adds a scalar: its tag is the curve, `step` the place on it.
    ///
    /// # Errors
    /// Those of writing.
    pub fn scalar(&mut self, wall_time: f64, step: u64, tag: &str, value: f32) -> io::Result<()> {
        let mut scalar = Vec::new();
        bytes(&mut scalar, 1, tag.as_bytes());
        key(&mut scalar, 2, 5);
        scalar.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        bytes(&mut summary, 1, &scalar);
        let mut event = Vec::new();
        fixed64(&mut event, 1, wall_time);
        if step > 0 {
            key(&mut event, 2, 0);
            varint(&mut event, step);
        }
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Gives everything to the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Returns the writer that holds the records.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        self.out.write_all(&length)?;
        self.out.write_all(&masked(crc32c(&length)).to_le_bytes())?;
        self.out.write_all(data)?;
        self.out.write_all(&masked(crc32c(data)).to_le_bytes())
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// CRC-32C (Castagnoli), bit by bit from the lowest: records are short.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A checksum as it is stored: data that holds checksums would otherwise be checked badly.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(out, field << 3 | wire_type);
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: f64) {
    key(out, field, 1);
    out.extend(value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_its_definition() {
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and the numbers 0 to 31.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
    }

    /// The file that TensorBoard's own writer made of the same scalars; see tests/fixtures/SOURCES.md.
    #[test]
    fn a_file_is_that_of_tensorboards_own_writer() {
        let expected = include_bytes!("../../../tests/fixtures/tensorboard/scalars.tfevents");
        let mut events = EventWriter::new(Vec::new(), 1_700_000_000.25).unwrap();
        let scalars = [
            (0, "loss", 0.5f32),
            (1, "loss", -1.25e-3),
            (127, "learning rate", 3e-3),
            (128, "validation", f32::NAN),
            (1 << 40, "größe", f32::MAX),
        ];
        for (at, (step, tag, value)) in scalars.into_iter().enumerate() {
            events.scalar(1_700_000_001.5 + at as f64, step, tag, value).unwrap();
        }
        assert_eq!(events.into_inner(), expected);
    }
}
