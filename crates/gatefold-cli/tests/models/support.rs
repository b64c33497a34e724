//! Runs the command in a folder of its own, and reads and writes arrays in .npz and safetensors files.

use ndarray::ArrayD;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// An array in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Array {
    F32(ArrayD<f32>),
    I32(ArrayD<i32>),
    I64(ArrayD<i64>),
    F64(ArrayD<f64>),
}

pub(crate) type Arrays = BTreeMap<String, Array>;

impl Array {
    pub(crate) fn f32s(&self) -> &ArrayD<f32> {
        match self {
            Array::F32(values) => values,
            other => panic!("float32 expected, found {other:?}"),
        }
    }

    /// Type, shape and values as in a .npy file.
    fn parts(&self) -> (&'static str, &[usize], Vec<u8>) {
        match self {
            Array::F32(a) => ("<f4", a.shape(), a.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Array::I32(a) => ("<i4", a.shape(), a.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Array::I64(a) => ("<i8", a.shape(), a.iter().flat_map(|value| value.to_le_bytes()).collect()),
            Array::F64(a) => ("<f8", a.shape(), a.iter().flat_map(|value| value.to_le_bytes()).collect()),
        }
    }
}

impl<D: ndarray::Dimension> From<ndarray::Array<f32, D>> for Array {
    fn from(values: ndarray::Array<f32, D>) -> Array {
        Array::F32(values.into_dyn())
    }
}

impl<D: ndarray::Dimension> From<ndarray::Array<i64, D>> for Array {
    fn from(values: ndarray::Array<i64, D>) -> Array {
        Array::I64(values.into_dyn())
    }
}

/// Writes a .npz file, independently of the command's own writer.
pub(crate) fn write_npz(path: &Path, arrays: &[(&str, Array)]) {
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for (name, array) in arrays {
        let (kind, shape, data) = array.parts();
        let shape: String = shape.iter().map(|len| format!("{len},")).collect();
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}\n");
        writer.start_file(format!("{name}.npy"), SimpleFileOptions::DEFAULT).unwrap();
        writer.write_all(b"\x93NUMPY\x01\x00").unwrap();
        writer.write_all(&u16::try_from(header.len()).unwrap().to_le_bytes()).unwrap();
        writer.write_all(header.as_bytes()).unwrap();
        writer.write_all(&data).unwrap();
    }
    writer.finish().unwrap();
}

/// Reads the command's output: only float32 arrays.
pub(crate) fn read_npz(path: &Path) -> BTreeMap<String, ArrayD<f32>> {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name().unwrap().strip_suffix(".npy").unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let data = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(data % 64, 0, "NumPy aligns the values to 64 bytes");
        let header = std::str::from_utf8(&bytes[10..data]).unwrap();
        assert!(header.contains("'descr': '<f4', 'fortran_order': False"), "{header}");
        let shape = header.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
        let shape: Vec<usize> = shape.split(',').filter_map(|len| len.trim().parse().ok()).collect();
        let values = bytes[data..].chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        arrays.insert(name, ArrayD::from_shape_vec(shape, values.collect()).unwrap());
    }
    arrays
}

/// The tensors of a safetensors file, read with nothing but the safetensors crate.
pub(crate) fn read_tensors(path: &Path) -> Arrays {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let (shape, data) = (view.shape().to_vec(), view.data());
        let array = match view.dtype() {
            Dtype::F32 => {
                let values = data.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
                Array::F32(ArrayD::from_shape_vec(shape, values.collect()).unwrap())
            }
            Dtype::I32 => {
                let values = data.chunks_exact(4).map(|word| i32::from_le_bytes(word.try_into().unwrap()));
                Array::I32(ArrayD::from_shape_vec(shape, values.collect()).unwrap())
            }
            Dtype::I64 => {
                let values = data.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().unwrap()));
                Array::I64(ArrayD::from_shape_vec(shape, values.collect()).unwrap())
            }
            other => panic!("{name}: {other:?}"),
        };
        (name.to_owned(), array)
    });
    tensors.collect()
}

/// A file that another program made, in tests/fixtures of the workspace.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// A folder in which the command runs.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold"));
        command.current_dir(self.folder.path()).args(arguments);
        command.output().unwrap()
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "gatefold {}: {error}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line on stderr of a command that must fail with this code and print nothing else.
    #[track_caller]
    pub(crate) fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "gatefold {}: {error}", arguments.join(" "));
        assert_eq!(error.trim_end().lines().count(), 1, "gatefold {}: {error}", arguments.join(" "));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "gatefold {}", arguments.join(" "));
        error.trim_end().strip_prefix("error: ").expect("errors are marked as such").into()
    }

    /// The outputs of a model, in the folder or elsewhere, for these arrays.
    #[track_caller]
    pub(crate) fn outputs(
        &self,
        model: &str,
        device: &str,
        arrays: &[(&str, Array)],
        more: &[&str],
    ) -> BTreeMap<String, ArrayD<f32>> {
        write_npz(&self.path("in.npz"), arrays);
        let arguments = ["run", model, "--inputs", "in.npz", "--outputs", "out.npz", "--device", device];
        let printed = self.succeed(&[&arguments[..], more].concat());
        assert!(printed.contains("\nwritten    out.npz\n"), "{printed}");
        assert_narrow(&printed);
        read_npz(&self.path("out.npz"))
    }
}

/// Checks that lines fit a small terminal, except for names without a space to break at.
#[track_caller]
pub(crate) fn assert_narrow(printed: &str) {
    for line in printed.lines() {
        let unbroken = line.split_whitespace().count() == 1;
        assert!(unbroken || line.chars().count() <= 60, "{line:?} in\n{printed}");
    }
}
