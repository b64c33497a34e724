//! NumPy's .npz files: zip archives of arrays, stored or deflated.
//!
//! Reading trusts nothing: an array's size is compared with what the archive can hold before memory is allocated, and
//! no more is read than the array's shape calls for. (The crates for .npy allocate whatever a header asks for and
//! parse it with a recursive grammar, so arrays are read here, from archives opened by the crate zip.)

mod npy;

use crate::failure::Failure;
use gatefold_model::file::write_atomically;
use gatefold_onnx::Tensor;
use npy::Header;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use zip::read::ZipFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The suffix of an array's name in an archive.
const SUFFIX: &str = ".npy";
/// Deflate can expand one byte to a little more than 1030 at most.
const MAX_DEFLATE_RATIO: u64 = 1100;
/// Beyond this size, a zip archive needs longer fields.
const ZIP32_BYTES: usize = u32::MAX as usize;

/// An archive whose list of arrays has been read.
pub(crate) struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    names: Vec<String>,
}

impl Npz {
    /// Opens an archive.
    ///
    /// # Errors
    /// If the file cannot be read or is not an archive of arrays, with the reason.
    pub(crate) fn open(path: &Path) -> Result<Npz, Failure> {
        let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
        // Checked before opening: opening a pipe would wait for its other end.
        let about = fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if !about.is_file() {
            let found = if about.is_dir() { "a directory" } else { "not a regular file" };
            return Err(refuse(format!("it is {found}; expected a file that np.savez wrote")));
        }
        let mut file = File::open(path).map_err(|error| refuse(error.to_string()))?;
        if npy::begins(&mut file) {
            let problem =
                "it is an array without a name; save it under a name, as in np.savez(\"in.npz\", input=x)";
            return Err(refuse(problem.into()));
        }
        let archive = ZipArchive::new(BufReader::new(file))
            .map_err(|error| refuse(format!("not an .npz archive, or a truncated one: {error}")))?;
        let mut names: Vec<String> = Vec::with_capacity(archive.len());
        for file in archive.file_names() {
            let file = file.map_err(|error| refuse(format!("damaged: {error}")))?;
            let Some(name) = file.strip_suffix(SUFFIX) else {
                return Err(refuse(format!("{file:?} is not an array; expected only {SUFFIX} files")));
            };
            names.push(name.into());
        }
        Ok(Npz { path: path.into(), archive, names })
    }

    /// The names of its arrays.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads an array; `None` if there is none of that name.
    ///
    /// # Errors
    /// If the array is truncated, or its type or layout is not supported.
    pub(crate) fn read(&mut self, name: &str) -> Result<Option<Tensor>, Failure> {
        if !self.names.iter().any(|known| known == name) {
            return Ok(None);
        }
        let refuse =
            |problem: String| Failure::failed(format!("{}: array {name}: {problem}", self.path.display()));
        let entry =
            self.archive.by_name(&format!("{name}{SUFFIX}")).map_err(|error| refuse(error.to_string()))?;
        read_array(entry).map(Some).map_err(refuse)
    }

    /// An error about the content of this file.
    pub(crate) fn refusal(&self, problem: impl std::fmt::Display) -> Failure {
        Failure::failed(format!("{}: {problem}", self.path.display()))
    }
}

fn read_array<R: Read>(mut entry: ZipFile<'_, R>) -> Result<Tensor, String> {
    let ratio = if entry.compression() == CompressionMethod::Stored { 1 } else { MAX_DEFLATE_RATIO };
    let possible = entry.compressed_size().saturating_mul(ratio);
    let header = Header::read(&mut entry)?;
    let expected = header.data_bytes()?;
    if expected as u64 > possible {
        let held = entry.compressed_size();
        return Err(format!("shape {:?} needs {expected} bytes, but the archive holds {held}", header.shape));
    }
    let mut data = Vec::new();
    // Asking for one byte more tells too much data from just enough, and makes zip compare the checksum at the end.
    let read = entry.by_ref().take(expected as u64 + 1).read_to_end(&mut data);
    read.map_err(|error| format!("damaged: {error}"))?;
    if data.len() != expected {
        let found = if data.len() > expected { "more" } else { &data.len().to_string() };
        return Err(format!("shape {:?} needs {expected} bytes, found {found}", header.shape));
    }
    header.tensor(&data)
}

/// Writes arrays atomically. The same arrays give the same bytes.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write(path: &Path, arrays: &[(String, Tensor)]) -> Result<(), Failure> {
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, tensor) in arrays {
        let bytes = npy::bytes(tensor);
        let options = SimpleFileOptions::DEFAULT
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() > ZIP32_BYTES);
        let file = writer.start_file(format!("{name}{SUFFIX}"), options);
        file.map_err(|error| refuse(format!("array {name}: {error}")))?;
        std::io::Write::write_all(&mut writer, &bytes).map_err(|error| refuse(error.to_string()))?;
    }
    let archive = writer.finish().map_err(|error| refuse(error.to_string()))?;
    Ok(write_atomically(path, archive.get_ref())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, ArrayD, IxDyn, array};
    use std::io::Write;

    /// A file that tests/data/make_npz.py wrote.
    fn numpy(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
    }

    fn read(path: &Path, name: &str) -> Result<Option<Tensor>, String> {
        let mut file = Npz::open(path).map_err(|error| error.to_string())?;
        file.read(name).map_err(|error| error.to_string())
    }

    /// An archive of these files, which need not be arrays.
    fn archive(folder: &Path, files: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.join("x.npz");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            let options = SimpleFileOptions::DEFAULT.compression_method(CompressionMethod::Stored);
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn arrays_of_numpy_are_read() {
        for file in ["stored.npz", "compressed.npz"] {
            let path = numpy(file);
            let values = ArrayD::from_shape_fn(IxDyn(&[2, 3, 4]), |at| {
                (at[0] * 12 + at[1] * 4 + at[2]) as f32 / 8.0 - 1.0
            });
            let expected: [(&str, Tensor); 9] = [
                ("c_order", Tensor::F32(values.clone())),
                ("doubles", Tensor::F32(values.clone())),
                ("fortran_order", Tensor::F32(values.clone())),
                ("big_endian", Tensor::F32(values)),
                ("lengths32", array![3, 0, -1].into()),
                ("lengths64", array![1_i64 << 40, 2].into()),
                ("flags", Tensor::Bool(array![true, false].into_dyn())),
                ("empty", Tensor::F32(ArrayD::zeros(IxDyn(&[0, 3])))),
                ("single", Tensor::F32(ArrayD::from_elem(IxDyn(&[]), 2.5))),
            ];
            for (name, tensor) in expected {
                assert_eq!(read(&path, name), Ok(Some(tensor)), "{file}: {name}");
            }
            assert_eq!(read(&path, "other"), Ok(None));
            let error = read(&path, "records").unwrap_err();
            assert!(error.contains("array records: the type is a structure; expected float32"), "{error}");
        }
    }

    #[test]
    fn written_arrays_are_read_back_with_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        let odd = array![[f32::NAN, -0.0, f32::MIN_POSITIVE / 3.0], [f32::INFINITY, 1.5, 1e-38]];
        let arrays: Vec<(String, Tensor)> = vec![
            ("output".into(), odd.clone().into()),
            ("layer0.h".into(), Array::<f32, _>::zeros((0, 2, 1)).into()),
            ("n".into(), array![i64::MIN, 7].into()),
            ("m".into(), array![[i32::MIN], [7]].into()),
            ("b".into(), Tensor::Bool(array![true].into_dyn())),
            ("s".into(), Tensor::F32(ArrayD::from_elem(IxDyn(&[]), 4.0))),
        ];
        write(&path, &arrays).unwrap();
        let first = fs::read(&path).unwrap();
        let mut file = Npz::open(&path).unwrap();
        assert_eq!(file.names(), ["output", "layer0.h", "n", "m", "b", "s"]);
        for (name, tensor) in &arrays[1..] {
            assert_eq!(file.read(name).unwrap().as_ref(), Some(tensor));
        }
        let Some(Tensor::F32(found)) = file.read("output").unwrap() else { panic!("it is float32") };
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(found.into_iter().collect()), bits(odd.into_iter().collect()));
        write(&path, &arrays).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first, "the same arrays give the same bytes");
    }

    #[test]
    fn truncated_and_changed_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npz");
        for file in ["stored.npz", "compressed.npz"] {
            let whole = fs::read(numpy(file)).unwrap();
            for len in (0..whole.len()).step_by(3) {
                fs::write(&path, &whole[..len]).unwrap();
                assert!(read(&path, "c_order").is_err(), "{file}, {len} bytes of {}", whole.len());
            }
            // Whichever byte changes: an error or a result, never a panic, and never other values unnoticed.
            let intact = read(&numpy(file), "c_order");
            for at in (0..whole.len()).step_by(3) {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x41;
                fs::write(&path, &bytes).unwrap();
                let found = read(&path, "c_order");
                assert!(!matches!(found, Ok(Some(_))) || found == intact, "{file}, byte {at}: {found:?}");
            }
        }
    }

    #[test]
    fn hostile_archives_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let array = |shape: &str, data: &[u8]| {
            let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((header.len() as u16).to_le_bytes());
            bytes.extend(header.bytes().chain(data.iter().copied()));
            bytes
        };
        let refusal = |bytes: &[u8]| {
            let error = read(&archive(folder.path(), &[("x.npy", bytes)]), "x").unwrap_err();
            assert!(!error.contains('\n'), "{error}");
            error.split_once("array x: ").expect("the array is named").1.to_owned()
        };
        let much = array("(268435456,)", &[0; 16]);
        let held = much.len();
        assert_eq!(
            refusal(&much),
            format!("shape [268435456] needs 1073741824 bytes, but the archive holds {held}")
        );
        assert_eq!(
            refusal(&array("(4294967296, 4294967296, 2)", &[])),
            "shape [4294967296, 4294967296, 2] is too large; at most 268435456 elements are read"
        );
        assert_eq!(
            refusal(&array("(0, 99999999999999999999)", &[])),
            "the header is damaged: expected a whole number at \"99999999999999999999), }\""
        );
        assert_eq!(refusal(&array("(3,)", &[0; 11])), "shape [3] needs 12 bytes, found 11");
        assert_eq!(refusal(&array("(3,)", &[0; 13])), "shape [3] needs 12 bytes, found more");
        for (descr, said) in [
            ("<f16", "; convert it with .astype(\"float32\")"),
            ("<u2", "; convert it with .astype(\"int64\")"),
            ("|O", "; save it as one of those"),
        ] {
            let text = String::from_utf8(array("(3,)", &[]).split_off(10)).unwrap().replace("<f4", descr);
            let bytes =
                [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
            let expected = format!(
                "the type is '{descr}'; expected float32, float16, float64, int32, int64, int8, uint8 or bool{said}"
            );
            assert_eq!(refusal(&bytes), expected);
        }
        assert_eq!(refusal(b"PK plain text"), "not a .npy array: it does not begin with NumPy's magic bytes");
        assert_eq!(refusal(b"\x93NUMPY\x09\x00\x00\x00"), "version 9 of the format; expected 1 to 3");
        assert_eq!(refusal(b"\x93NUM"), "truncated: it ends within the header");
        let deep = format!("{{'descr': {}", "[".repeat(60_000));
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((deep.len() as u16).to_le_bytes());
        bytes.extend(deep.bytes());
        assert!(refusal(&bytes).starts_with("the type is a structure"));
        bytes[6] = 2; // a length of four bytes
        assert_eq!(refusal(&bytes), "its header is 662432362 bytes long; expected at most 65535");
        #[cfg(unix)]
        {
            let socket = folder.path().join("socket");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let error = read(&socket, "x").unwrap_err();
            assert!(
                error.ends_with("it is not a regular file; expected a file that np.savez wrote"),
                "{error}"
            );
        }
        let path = archive(folder.path(), &[("readme.txt", b"x")]);
        assert!(
            read(&path, "x")
                .unwrap_err()
                .ends_with("\"readme.txt\" is not an array; expected only .npy files")
        );
        let error = read(folder.path(), "x").unwrap_err();
        assert!(error.ends_with("it is a directory; expected a file that np.savez wrote"), "{error}");
        fs::write(&path, array("(2,)", &[0; 8])).unwrap();
        let error = read(&path, "x").unwrap_err();
        assert!(error.contains("it is an array without a name; save it under a name"), "{error}");
        fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(read(&path, "x").unwrap_err().contains("not an .npz archive, or a truncated one"));
    }
}
