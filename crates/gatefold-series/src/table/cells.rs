//! From text to cells: places in the text, not copies of it.

use super::source::Source;
use crate::SeriesError;
use std::fmt;
use std::str::FromStr;

/// The separator of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delimiter {
    /// An ASCII character such as a comma.
    Char(u8),
    /// One space or more.
    Spaces,
    /// No separator: the table is one column.
    None,
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Delimiter::Char(b',') => f.write_str("comma"),
            Delimiter::Char(b';') => f.write_str("semicolon"),
            Delimiter::Char(b'\t') => f.write_str("tab"),
            Delimiter::Char(b'|') => f.write_str("bar"),
            Delimiter::Char(byte) => write!(f, "'{}'", char::from(*byte)),
            Delimiter::Spaces => f.write_str("spaces"),
            Delimiter::None => f.write_str("none"),
        }
    }
}

impl FromStr for Delimiter {
    type Err = SeriesError;

    fn from_str(name: &str) -> Result<Self, SeriesError> {
        match name {
            "comma" => Ok(Delimiter::Char(b',')),
            "semicolon" => Ok(Delimiter::Char(b';')),
            "tab" | "\\t" => Ok(Delimiter::Char(b'\t')),
            "bar" => Ok(Delimiter::Char(b'|')),
            "space" | "spaces" | " " => Ok(Delimiter::Spaces),
            "none" => Ok(Delimiter::None),
            _ => match name.as_bytes() {
                &[byte] if byte.is_ascii_punctuation() && byte != b'"' || byte == b'\t' => {
                    Ok(Delimiter::Char(byte))
                }
                _ => Err(SeriesError::Series(format!(
                    "--delimiter is one character, or comma, semicolon, tab, bar, spaces or none; found '{name}'"
                ))),
            },
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u32, // the top bit, while the text is split: the cell holds doubled quotes
}

const DOUBLED: u32 = 1 << 31;

/// The cells of a text, row after row. A blank line is a row without cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cells {
    text: String,
    spans: Vec<Span>,
    starts: Vec<u32>,                          // of each row, in `spans`
    lines: Vec<u32>,                           // of each row in the file, from 1
    pub(crate) comments: Vec<(usize, String)>, // the lines left out, by their number
}

/// The part of a text that holds rows, and how they are split.
#[derive(Clone, Debug)]
pub(crate) struct Splitting<'a> {
    pub(crate) from: usize, // a byte that begins a line
    pub(crate) first_line: usize,
    pub(crate) delimiter: Delimiter,
    pub(crate) comment: Option<&'a str>,
}

/// The comment lines kept to look for names in; a table may have a million.
const KEPT_COMMENTS: usize = 200;

impl Cells {
    pub(crate) fn split(source: &Source, text: String, how: &Splitting<'_>) -> Result<Cells, SeriesError> {
        let mut cells = Cells::default();
        let old_mac = !text.contains('\n') && text.contains('\r');
        let mut cursor = Cursor { bytes: text.as_bytes(), at: how.from, line: how.first_line, old_mac };
        while cursor.at < text.len() {
            let (start, line) = (cursor.at, cursor.line);
            let rest = text[start..].trim_start_matches([' ', '\t']);
            if how.comment.is_some_and(|mark| rest.starts_with(mark)) {
                cursor.skip_line();
                if cells.comments.len() < KEPT_COMMENTS {
                    cells.comments.push((line, text[start..cursor.at].trim().to_owned()));
                }
                continue;
            }
            cells.starts.push(cells.spans.len() as u32);
            cells.lines.push(line as u32);
            if cursor.blank_line(how.delimiter) {
                continue;
            }
            loop {
                let span = cursor.cell(how.delimiter).map_err(|problem| source.line(line, problem))?;
                cells.spans.push(span);
                if !cursor.next_cell(how.delimiter) {
                    break;
                }
            }
        }
        cells.text = text;
        cells.undouble();
        Ok(cells)
    }

    /// Makes doubled quotes single: such a cell gets a copy of its own after the text.
    fn undouble(&mut self) {
        for span in self.spans.iter_mut().filter(|span| span.len & DOUBLED != 0) {
            let (start, len) = (span.start as usize, (span.len & !DOUBLED) as usize);
            let cell = self.text[start..start + len].replace("\"\"", "\"");
            *span = Span { start: self.text.len() as u32, len: cell.len() as u32 };
            self.text.push_str(&cell);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn row_len(&self, row: usize) -> usize {
        let end = self.starts.get(row + 1).map_or(self.spans.len(), |end| *end as usize);
        end - self.starts[row] as usize
    }

    pub(crate) fn line(&self, row: usize) -> usize {
        self.lines[row] as usize
    }

    /// The cell without its quotes, doubled ones within made single; empty past the row's end.
    pub(crate) fn get(&self, row: usize, column: usize) -> &str {
        if column >= self.row_len(row) {
            return "";
        }
        let span = self.spans[self.starts[row] as usize + column];
        let start = span.start as usize;
        &self.text[start..start + span.len as usize]
    }

    pub(crate) fn is_empty_row(&self, row: usize) -> bool {
        (0..self.row_len(row)).all(|column| self.get(row, column).is_empty())
    }
}

/// A place in the text, and its line.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    old_mac: bool, // lines end with a carriage return alone
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn at_line_end(&self) -> bool {
        match self.peek() {
            None | Some(b'\n') => true,
            Some(b'\r') => self.old_mac || self.bytes.get(self.at + 1).is_none_or(|next| *next == b'\n'),
            _ => false,
        }
    }

    fn skip_line_end(&mut self) {
        if self.peek() == Some(b'\r') {
            self.at += 1;
        }
        if self.peek() == Some(b'\n') {
            self.at += 1;
        }
        self.line += 1;
    }

    fn skip_line(&mut self) {
        while !self.at_line_end() {
            self.at += 1;
        }
        self.skip_line_end();
    }

    /// Spaces, and tabs where they do not separate cells.
    fn skip_spaces(&mut self, delimiter: Delimiter) {
        while let Some(byte) = self.peek()
            && (byte == b' ' || byte == b'\t' && delimiter != Delimiter::Char(b'\t'))
        {
            self.at += 1;
        }
    }

    /// Whether nothing but spaces is left of the line; steps over it then. So is the end-of-file mark of DOS.
    fn blank_line(&mut self, delimiter: Delimiter) -> bool {
        self.skip_spaces(delimiter);
        if self.bytes[self.at..] == [0x1a] {
            self.at += 1;
        }
        let blank = self.at_line_end();
        if blank {
            self.skip_line_end();
        }
        blank
    }

    fn separates(&self, byte: u8, delimiter: Delimiter) -> bool {
        match delimiter {
            Delimiter::Char(mark) => byte == mark,
            Delimiter::Spaces => byte == b' ' || byte == b'\t',
            Delimiter::None => false,
        }
    }

    fn cell(&mut self, delimiter: Delimiter) -> Result<Span, String> {
        self.skip_spaces(delimiter);
        if self.peek() == Some(b'"') {
            return self.quoted_cell(delimiter);
        }
        let start = self.at;
        while !self.at_line_end() && !self.separates(self.bytes[self.at], delimiter) {
            self.at += 1;
        }
        let len = self.bytes[start..self.at].trim_ascii_end().len();
        Ok(Span { start: start as u32, len: len as u32 })
    }

    fn quoted_cell(&mut self, delimiter: Delimiter) -> Result<Span, String> {
        let opened = self.line;
        self.at += 1;
        let (start, mut doubled) = (self.at, 0);
        loop {
            match self.peek() {
                None => {
                    return Err(format!(
                        "the quote opened in line {opened} is never closed; close or remove it"
                    ));
                }
                Some(b'"') if self.bytes.get(self.at + 1) == Some(&b'"') => {
                    doubled = DOUBLED;
                    self.at += 2;
                }
                Some(b'"') => break,
                Some(byte) => {
                    let ends_line = byte == b'\n' || byte == b'\r' && self.old_mac;
                    self.line += usize::from(ends_line);
                    self.at += 1;
                }
            }
        }
        let inner = &self.bytes[start..self.at];
        let before = inner.len() - inner.trim_ascii_start().len();
        let len = inner.trim_ascii().len() as u32;
        self.at += 1;
        self.skip_spaces(delimiter);
        let delimited = |byte: u8| self.separates(byte, delimiter);
        let after_spaces = delimiter == Delimiter::Spaces && self.bytes[self.at - 1] != b'"';
        if !self.at_line_end() && !self.peek().is_some_and(delimited) && !after_spaces {
            return Err("text follows a closing quote; double the quotes within the cell".into());
        }
        Ok(Span { start: (start + before) as u32, len: len | doubled })
    }

    /// Steps over the delimiter, or over the line's end if the cell was the last of its row.
    fn next_cell(&mut self, delimiter: Delimiter) -> bool {
        if delimiter == Delimiter::Spaces {
            self.skip_spaces(delimiter);
        }
        if self.at_line_end() {
            self.skip_line_end();
            return false;
        }
        if delimiter != Delimiter::Spaces {
            self.at += 1;
        }
        true
    }
}
