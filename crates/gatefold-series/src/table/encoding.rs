//! From bytes to text.

mod guess;

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
    /// Another one of the Encoding Standard.
    Legacy(Legacy),
}

/// An encoding of the WHATWG Encoding Standard that is neither Unicode nor Windows-1252: Windows-1250 and -1251, ISO-8859-2,
/// Mac Roman, KOI8-R, Shift-JIS, EUC-JP, GBK, Big5, EUC-KR and others. It is got from its name.
///
/// ```
/// use gatefold_series::Encoding;
///
/// let encoding: Encoding = "cp1250".parse()?;
/// assert_eq!(encoding.to_string(), "windows-1250");
/// assert_eq!("latin1".parse::<Encoding>()?, Encoding::Windows1252);
/// # Ok::<(), gatefold_series::SeriesError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legacy(&'static encoding_rs::Encoding);

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16Le => "UTF-16LE",
            Encoding::Utf16Be => "UTF-16BE",
            Encoding::Windows1252 => "Windows-1252",
            Encoding::Legacy(Legacy(other)) if *other == encoding_rs::MACINTOSH => "Mac Roman",
            Encoding::Legacy(Legacy(other)) => other.name(),
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
            other => known(other).or_else(|| known(name)).map(Encoding::of).ok_or_else(|| {
                SeriesError::Series(format!(
                    "--encoding is utf-8, utf-16le, utf-16be, windows-1250 to -1258, iso-8859-2, mac-roman, koi8-r, shift-jis, \
                     euc-jp, gbk, big5 or euc-kr; found '{name}'"
                ))
            }),
        }
    }
}

/// The encoding of a label that is no Unicode.
fn known(label: &str) -> Option<&'static encoding_rs::Encoding> {
    let label = match label {
        "macroman" | "macosroman" => "macintosh",
        "cp932" | "ms932" | "windows932" => "shift_jis",
        "cp936" | "windows936" => "gbk",
        "cp949" | "windows949" => "euc-kr",
        "cp950" | "windows950" => "big5",
        "shiftjis" => "shift_jis",
        "eucjp" => "euc-jp",
        "euckr" => "euc-kr",
        other => other,
    };
    let dashed = label.strip_prefix("windows").map(|number| format!("windows-{number}"));
    let found = encoding_rs::Encoding::for_label(dashed.as_deref().unwrap_or(label).as_bytes())?;
    let unicode = [encoding_rs::UTF_8, encoding_rs::UTF_16LE, encoding_rs::UTF_16BE];
    let none = [encoding_rs::REPLACEMENT, encoding_rs::X_USER_DEFINED];
    (!unicode.contains(&found) && !none.contains(&found)).then_some(found)
}

impl Encoding {
    fn of(found: &'static encoding_rs::Encoding) -> Encoding {
        if found == encoding_rs::WINDOWS_1252 {
            Encoding::Windows1252
        } else {
            Encoding::Legacy(Legacy(found))
        }
    }
}

/// A text, and how it was encoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Without byte order marks and other characters that nobody sees.
    pub(crate) text: String,
    pub(crate) encoding: Encoding,
    /// How sure the encoding is, in words; `None` if there is no doubt, or it was stated.
    pub(crate) doubt: Option<String>,
}

/// Finds out the encoding of a text unless it is forced, and decodes it.
pub(crate) fn decode(
    source: &Source,
    bytes: Vec<u8>,
    forced: Option<Encoding>,
) -> Result<Decoded, SeriesError> {
    refuse_other_files(source, &bytes)?;
    let (encoding, doubt) = match forced {
        Some(encoding) => (encoding, None),
        None if bytes.starts_with(&[0xff, 0xfe]) => (Encoding::Utf16Le, None),
        None if bytes.starts_with(&[0xfe, 0xff]) => (Encoding::Utf16Be, None),
        None => found(source, &bytes)?,
    };
    let text = match encoding {
        Encoding::Utf8 => String::from_utf8(bytes).map_err(|error| {
            let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
            source.line(line, "not UTF-8 text; save the table in UTF-8, or use --encoding windows-1252")
        })?,
        Encoding::Utf16Le => utf16(source, &bytes, u16::from_le_bytes)?,
        Encoding::Utf16Be => utf16(source, &bytes, u16::from_be_bytes)?,
        Encoding::Windows1252 => legacy(source, &bytes, encoding_rs::WINDOWS_1252)?,
        Encoding::Legacy(Legacy(other)) => legacy(source, &bytes, other)?,
    };
    let text = if text.contains(is_invisible) { text.replace(is_invisible, "") } else { text };
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
    Ok(Decoded { text, encoding, doubt })
}

/// Marks of byte order and of the direction of writing, and blanks without width: nobody sees them, and they are no part of
/// a cell.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}' | '\u{feff}')
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

/// The encoding of bytes without a mark, and how sure it is.
fn found(source: &Source, bytes: &[u8]) -> Result<(Encoding, Option<String>), SeriesError> {
    let sample = &bytes[..bytes.len().min(4096)];
    // Digits and delimiters in UTF-16 have a zero in every other byte; no other text has any.
    let zeros = |from: usize| sample.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    if sample.len() >= 8 && (zeros(0) + zeros(1)) * 3 > sample.len() {
        let encoding = if zeros(1) > zeros(0) { Encoding::Utf16Le } else { Encoding::Utf16Be };
        return Ok((encoding, None));
    }
    let Err(error) = str::from_utf8(bytes) else { return Ok((Encoding::Utf8, None)) };
    let guess = guess::of(bytes);
    // Pairs of bytes in a text of East Asia may look like UTF-8 by chance, though not most of them.
    let beyond = |bytes: &[u8]| bytes.iter().filter(|byte| !byte.is_ascii()).count();
    let valid: usize = bytes.utf8_chunks().map(|chunk| beyond(chunk.valid().as_bytes())).sum();
    if valid > 0 && (!guess.pairs || 2 * valid > beyond(bytes)) {
        let line = line_of(bytes, error.valid_up_to());
        let problem = "not UTF-8 text, though other lines are; save the table in UTF-8, or say --encoding";
        return Err(source.line(line, problem));
    }
    Ok((Encoding::of(guess.encoding), Some(guess.doubt())))
}

fn legacy(
    source: &Source,
    bytes: &[u8],
    encoding: &'static encoding_rs::Encoding,
) -> Result<String, SeriesError> {
    if let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(bytes) {
        return Ok(text.into_owned());
    }
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    let line = line_of(text.as_bytes(), text.find('\u{fffd}').unwrap_or(0));
    let problem = format!("not {} text; say another --encoding, or save the table in UTF-8", encoding.name());
    Err(source.line(line, problem))
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
