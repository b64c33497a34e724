//! One array of an archive: NumPy's .npy format, versions 1 to 3.
//!
//! Source: NumPy Enhancement Proposal 1 and `numpy.lib.format`.

use gatefold_onnx::{ElementType, Tensor};
use half::f16;
use ndarray::{ArrayD, IxDyn};
use std::io::Read;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// The longest header of version 1. Later versions allow longer ones for structures, which are not supported.
const MAX_HEADER_BYTES: usize = u16::MAX as usize;
/// The alignment that NumPy gives the data.
const ALIGNMENT: usize = 64;
/// 1 GiB of float32.
const MAX_ELEMENTS: usize = 1 << 28;

/// Whether the data begins like an array.
pub(super) fn begins(reader: &mut impl Read) -> bool {
    let mut begin = [0; MAGIC.len()];
    reader.read_exact(&mut begin).is_ok() && begin == *MAGIC
}

/// The header before an array's values.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    element: ElementType,
    big_endian: bool,
    /// Whether the first axis varies fastest.
    fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Reads the header, leaving the reader at the first value.
    pub(super) fn read(reader: &mut impl Read) -> Result<Header, String> {
        let mut begin = [0; 8];
        exactly(reader, &mut begin)?;
        let [magic @ .., major, _] = begin;
        if magic != *MAGIC {
            return Err("not a .npy array: it does not begin with NumPy's magic bytes".into());
        }
        let mut bytes = [0; 4];
        let length_bytes = match major {
            1 => 2,
            2 | 3 => 4,
            _ => return Err(format!("version {major} of the format; expected 1 to 3")),
        };
        exactly(reader, &mut bytes[..length_bytes])?;
        let len = u32::from_le_bytes(bytes) as usize;
        if len > MAX_HEADER_BYTES {
            return Err(format!("its header is {len} bytes long; expected at most {MAX_HEADER_BYTES}"));
        }
        let mut text = vec![0; len];
        exactly(reader, &mut text)?;
        Header::parse(&String::from_utf8_lossy(&text))
    }

    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`, keys in any order.
    fn parse(text: &str) -> Result<Header, String> {
        let mut scanner = Scanner { rest: text };
        let (mut kind, mut fortran_order, mut shape) = (None, None, None);
        scanner.expect('{')?;
        while !scanner.found('}') {
            let key = scanner.string()?;
            scanner.expect(':')?;
            match key {
                "descr" => kind = Some(scanner.kind()?),
                "fortran_order" => fortran_order = Some(scanner.truth()?),
                "shape" => shape = Some(scanner.shape()?),
                key => return Err(format!("the header is damaged: it has an entry {key:?}")),
            }
            if !scanner.found(',') {
                scanner.expect('}')?;
                break;
            }
        }
        let missing = |what| format!("the header is damaged: there is no {what}");
        let (element, big_endian) = kind.ok_or_else(|| missing("descr"))?;
        let shape = shape.ok_or_else(|| missing("shape"))?;
        Ok(Header {
            element,
            big_endian,
            fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
            shape,
        })
    }

    /// The size of the values in bytes.
    pub(super) fn data_bytes(&self) -> Result<usize, String> {
        // For an empty array the other axes are bounded too, since ndarray must be able to multiply them.
        let extent =
            self.shape.iter().filter(|&&len| len > 0).try_fold(1usize, |all, &len| all.checked_mul(len));
        match extent {
            Some(extent) if extent <= MAX_ELEMENTS => {
                let len: usize = self.shape.iter().product();
                Ok(len * element_bytes(self.element))
            }
            _ => {
                Err(format!("shape {:?} is too large; at most {MAX_ELEMENTS} elements are read", self.shape))
            }
        }
    }

    /// The array of these values, [`Header::data_bytes`] long.
    pub(super) fn tensor(&self, data: &[u8]) -> Result<Tensor, String> {
        Ok(match self.element {
            ElementType::F32 => Tensor::F32(self.array(data, f32::from_le_bytes, f32::from_be_bytes)?),
            ElementType::I32 => Tensor::I32(self.array(data, i32::from_le_bytes, i32::from_be_bytes)?),
            ElementType::I64 => Tensor::I64(self.array(data, i64::from_le_bytes, i64::from_be_bytes)?),
            ElementType::Bool => {
                let truth = |[byte]: [u8; 1]| byte != 0;
                Tensor::Bool(self.array(data, truth, truth)?)
            }
            ElementType::U8 => Tensor::U8(self.array(data, u8::from_le_bytes, u8::from_be_bytes)?),
            ElementType::I8 => Tensor::I8(self.array(data, i8::from_le_bytes, i8::from_be_bytes)?),
            ElementType::F16 => {
                let (little, big) =
                    (|bytes| f16::from_le_bytes(bytes).to_f32(), |bytes| f16::from_be_bytes(bytes).to_f32());
                Tensor::F32(self.array(data, little, big)?)
            }
            ElementType::F64 => {
                let (little, big) =
                    (|bytes| f64::from_le_bytes(bytes) as f32, |bytes| f64::from_be_bytes(bytes) as f32);
                Tensor::F32(self.array(data, little, big)?)
            }
        })
    }

    fn array<const N: usize, T: Clone>(
        &self,
        data: &[u8],
        little: fn([u8; N]) -> T,
        big: fn([u8; N]) -> T,
    ) -> Result<ArrayD<T>, String> {
        let read = if self.big_endian { big } else { little };
        let (words, _) = data.as_chunks::<N>();
        let values: Vec<T> = words.iter().map(|&word| read(word)).collect();
        let mut shape = self.shape.clone();
        if self.fortran_order {
            shape.reverse();
        }
        let array = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|error| error.to_string())?;
        Ok(if self.fortran_order { array.reversed_axes().as_standard_layout().into_owned() } else { array })
    }
}

/// The array as a .npy file, version 1.
pub(super) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let kind = match tensor {
        Tensor::F32(_) => "<f4",
        Tensor::I32(_) => "<i4",
        Tensor::I64(_) => "<i8",
        Tensor::Bool(_) => "|b1",
        Tensor::U8(_) => "|u1",
        Tensor::I8(_) => "|i1",
    };
    let axes: String = tensor.shape().iter().map(|len| format!("{len}, ")).collect();
    // A tuple of one axis keeps its comma; longer ones end without.
    let shape = if tensor.shape().len() == 1 { axes.trim_end() } else { axes.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    let before = MAGIC.len() + 4;
    let padded = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before - 1;
    header = format!("{header:<padded$}\n");

    let mut out = Vec::with_capacity(before + header.len() + tensor.len() * element_bytes(tensor.element()));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    let len = u16::try_from(header.len()).expect("a tensor has too few axes for a longer header");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    match tensor {
        Tensor::F32(array) => array.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Tensor::I32(array) => array.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Tensor::I64(array) => array.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Tensor::Bool(array) => array.iter().for_each(|value| out.push(u8::from(*value))),
        Tensor::U8(array) => out.extend(array),
        Tensor::I8(array) => array.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
    }
    out
}

fn element_bytes(element: ElementType) -> usize {
    match element {
        ElementType::F32 | ElementType::I32 => 4,
        ElementType::I64 | ElementType::F64 => 8,
        ElementType::F16 => 2,
        ElementType::Bool | ElementType::U8 | ElementType::I8 => 1,
    }
}

fn exactly(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "truncated: it ends within the header".into(),
        _ => format!("damaged: {error}"),
    })
}

/// Scans the few kinds of Python literals in a header. Never recurses, whatever is nested.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn found(&mut self, mark: char) -> bool {
        self.rest = self.rest.trim_start();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn expect(&mut self, mark: char) -> Result<(), String> {
        if self.found(mark) { Ok(()) } else { Err(self.damage(&format!("{mark:?}"))) }
    }

    fn damage(&self, expected: &str) -> String {
        let begin: String = self.rest.trim_end().chars().take(24).collect();
        format!("the header is damaged: expected {expected} at {begin:?}")
    }

    fn string(&mut self) -> Result<&'a str, String> {
        for quote in ['\'', '"'] {
            if self.found(quote) {
                let (string, after) =
                    self.rest.split_once(quote).ok_or_else(|| self.damage("the end of a string"))?;
                self.rest = after;
                return Ok(string);
            }
        }
        Err(self.damage("a string"))
    }

    fn truth(&mut self) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(after) = self.rest.strip_prefix(word) {
                self.rest = after;
                return Ok(value);
            }
        }
        Err(self.damage("True or False"))
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.found(')') {
            let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
            let (digits, after) = self.rest.split_at(end);
            shape.push(digits.parse().map_err(|_| self.damage("a whole number"))?);
            self.rest = after.strip_prefix('L').unwrap_or(after); // Python 2's long integers
            if !self.found(',') {
                self.expect(')')?;
                break;
            }
        }
        // ndarray and the readers of these arrays support no more.
        if shape.len() > 32 {
            Err(format!("it has {} axes; expected at most 32", shape.len()))
        } else {
            Ok(shape)
        }
    }

    /// The type of the elements, and whether they are big-endian.
    fn kind(&mut self) -> Result<(ElementType, bool), String> {
        self.rest = self.rest.trim_start();
        let found =
            if self.rest.starts_with('[') { "a structure".into() } else { format!("'{}'", self.string()?) };
        let big_endian = found.starts_with("'>");
        let element = match found.trim_start_matches(['\'', '<', '>', '|', '=']) {
            "f4'" => ElementType::F32,
            "i4'" => ElementType::I32,
            "i8'" => ElementType::I64,
            "b1'" => ElementType::Bool,
            "u1'" => ElementType::U8,
            "i1'" => ElementType::I8,
            "f2'" => ElementType::F16,
            "f8'" => ElementType::F64,
            kind => {
                let advice = match kind.chars().next() {
                    Some('f') => "convert it with .astype(\"float32\")",
                    Some('i' | 'u') => "convert it with .astype(\"int64\")",
                    _ => "save it as one of those",
                };
                return Err(format!(
                    "the type is {found}; expected float32, float16, float64, int32, int64, int8, uint8 or bool; {advice}"
                ));
            }
        };
        Ok((element, big_endian))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_in_any_order_and_layout() {
        let header = |element, big_endian, fortran_order, shape: &[usize]| {
            Ok(Header { element, big_endian, fortran_order, shape: shape.to_vec() })
        };
        let parsed = Header::parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n");
        assert_eq!(parsed, header(ElementType::F32, false, false, &[3, 2]));
        let parsed = Header::parse("{\"shape\":(7L,),\"fortran_order\":True,\"descr\":\">i8\"}");
        assert_eq!(parsed, header(ElementType::I64, true, true, &[7]));
        let parsed = Header::parse("{'descr': '|b1', 'fortran_order': False, 'shape': ()}");
        assert_eq!(parsed, header(ElementType::Bool, false, false, &[]));
    }

    #[test]
    fn damaged_headers_say_where() {
        let refusal = |text: &str| Header::parse(text).unwrap_err();
        assert_eq!(refusal(""), "the header is damaged: expected '{' at \"\"");
        assert_eq!(refusal("{}"), "the header is damaged: there is no descr");
        assert_eq!(refusal("{'descr': '<f4'"), "the header is damaged: expected '}' at \"\"");
        assert_eq!(refusal("{'descr"), "the header is damaged: expected the end of a string at \"descr\"");
        assert_eq!(refusal("{'x': 1}"), "the header is damaged: it has an entry \"x\"");
        assert_eq!(refusal("{'shape': (1 2)}"), "the header is damaged: expected ')' at \"2)}\"");
        assert_eq!(
            refusal("{'shape': (-1,)}"),
            "the header is damaged: expected a whole number at \"-1,)}\""
        );
        assert_eq!(
            refusal("{'fortran_order': 1}"),
            "the header is damaged: expected True or False at \"1}\""
        );
        assert!(refusal(&format!("{{'shape': ({})}}", "1,".repeat(33))).contains("33 axes"));
    }
}
