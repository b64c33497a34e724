//! From bytes to text.

use super::source::Source;
use crate::SeriesError;
use std::fmt;
use std::str::{self, FromStr};

/// An encoding of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16, least significant byte first.
    Utf16Le,
    /// UTF-16, most significant byte first.
    Utf16Be,
    /// Windows-1252, which agrees with Latin-1 on everything printable.
    Windows1252,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Le => "UTF-16LE",
            Encoding::Utf16Be => "UTF-16BE",
            Encoding::Windows1252 => "Windows-1252",
        })
    }
}

impl FromStr for Encoding {
    type Err = SeriesError;

    fn from_str(name: &str) -> Result<Self, SeriesError> {
        match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "utf8" => Ok(Encoding::Utf8),
            "utf16" | "utf16le" => Ok(Encoding::Utf16Le),
            "utf16be" => Ok(Encoding::Utf16Be),
            "windows1252" | "cp1252" | "latin1" | "iso88591" => Ok(Encoding::Windows1252),
            _ => Err(SeriesError::Series(format!(
                "--encoding is utf-8, utf-16le, utf-16be or windows-1252; found '{name}'"
            ))),
        }
    }
}

/// The characters of the bytes 0x80 to 0x9f in Windows-1252, from the WHATWG Encoding Standard. The five that it
/// leaves unassigned are control characters there, and refused here.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The text without its byte order mark, and its encoding.
pub(crate) fn decode(
    source: &Source,
    bytes: Vec<u8>,
    forced: Option<Encoding>,
) -> Result<(String, Encoding), SeriesError> {
    refuse_other_files(source, &bytes)?;
    let encoding = match forced {
        Some(encoding) => encoding,
        None if bytes.starts_with(&[0xff, 0xfe]) => Encoding::Utf16Le,
        None if bytes.starts_with(&[0xfe, 0xff]) => Encoding::Utf16Be,
        None => found(source, &bytes)?,
    };
    let text = match encoding {
        Encoding::Utf8 => String::from_utf8(bytes).map_err(|error| {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            source.line(line, "not UTF-8 text; save the table in UTF-8, or use --encoding windows-1252")
        })?,
        Encoding::Utf16Le => utf16(source, &bytes, u16::from_le_bytes)?,
        Encoding::Utf16Be => utf16(source, &bytes, u16::from_be_bytes)?,
        Encoding::Windows1252 => bytes
            .iter()
            .map(|&byte| match byte {
                0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
                _ => char::from(byte),
            })
            .collect(),
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    };
    let markup = [("<", "HTML or XML"), ("{\"", "JSON"), ("[{", "JSON")];
    let kind = markup.iter().find(|(start, _)| text.trim_start().starts_with(start));
    if let Some((_, kind)) = kind.filter(|_| !names_in_brackets(&text)) {
        return Err(source.table(format!("this is {kind}; expected a table as CSV")));
    }
    let control =
        |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1a}' | '\u{85}');
    if let Some(at) = text.find(control) {
        let line = line_of(text.as_bytes(), at);
        return Err(source.line(line, "a control character: this is not text; expected a table as CSV"));
    }
    Ok((text, encoding))
}

/// Whether the first line is names such as `<TICKER>,<DATE>`, rather than markup.
fn names_in_brackets(text: &str) -> bool {
    let line = text.trim_start().lines().next().unwrap_or("");
    let first = line.split_once([',', ';', '\t']).map(|(first, _)| first.trim());
    let name = first.and_then(|first| first.strip_prefix('<')?.strip_suffix('>'));
    name.is_some_and(|name| !name.contains(['<', '>', '!', '?', '/', '=']))
}

fn refuse_other_files(source: &Source, bytes: &[u8]) -> Result<(), SeriesError> {
    let kinds: [(&[u8], &str); 6] = [
        (b"PK\x03\x04", "this is a spreadsheet or an archive (zip); save the table as CSV"),
        (b"\xd0\xcf\x11\xe0", "this is an Excel workbook; save the table as CSV"),
        (b"PAR1", "this is Parquet, and this build lacks the feature that reads it; write the table as CSV"),
        (b"%PDF", "this is a PDF; expected a table as CSV"),
        (b"\x28\xb5\x2f\xfd", "this is compressed with zstd; use gzip, or no compression"),
        (b"BZh", "this is compressed with bzip2; use gzip, or no compression"),
    ];
    match kinds.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Some((_, problem)) => Err(source.table(*problem)),
        None => Ok(()),
    }
}

/// The encoding of bytes without a mark.
fn found(source: &Source, bytes: &[u8]) -> Result<Encoding, SeriesError> {
    let sample = &bytes[..bytes.len().min(4096)];
    // Digits and delimiters in UTF-16 have a zero in every other byte; no other text has any.
    let zeros = |from: usize| sample.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    if sample.len() >= 8 && (zeros(0) + zeros(1)) * 3 > sample.len() {
        return Ok(if zeros(1) > zeros(0) { Encoding::Utf16Le } else { Encoding::Utf16Be });
    }
    let Err(error) = str::from_utf8(bytes) else { return Ok(Encoding::Utf8) };
    let before = &bytes[..error.valid_up_to()];
    let after = bytes[error.valid_up_to()..].utf8_chunks().skip(1);
    if !before.is_ascii() || after.into_iter().any(|chunk| !chunk.valid().is_ascii()) {
        let line = line_of(bytes, error.valid_up_to());
        let problem = "not UTF-8 text, though other lines are; save the table in UTF-8, or say --encoding";
        return Err(source.line(line, problem));
    }
    Ok(Encoding::Windows1252)
}

fn utf16(source: &Source, bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, SeriesError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text = char::decode_utf16(pairs.iter().map(|pair| unit(*pair))).collect::<Result<String, _>>();
    match text {
        Ok(text) if rest.is_empty() => Ok(text),
        _ => Err(source.table("broken UTF-16 text; save the table in UTF-8")),
    }
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count()
}
