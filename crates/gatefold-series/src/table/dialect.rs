//! How a text is split into cells: Excel's `sep=` line, comments, and the delimiter.

use super::cells::{Cells, Delimiter, Splitting};
use super::number::looks_numeric;
use super::source::Source;
use super::{is_missing, looks_dated};
use crate::SeriesError;
use crate::dataset::ReadOptions;
use std::collections::HashMap;

/// The share of the text that the delimiter is found in.
const SAMPLE_BYTES: usize = 64 * 1024;

/// How the text is split, and what told so.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    pub(crate) from: usize,
    pub(crate) first_line: usize,
    pub(crate) delimiter: Delimiter,
    pub(crate) comment: Option<String>,
}

impl Dialect {
    pub(crate) fn find(source: &Source, text: &str, options: &ReadOptions) -> Result<Dialect, SeriesError> {
        let (mut from, mut first_line) = (0, 1);
        let sep = sep_line(text);
        if let Some((_, len)) = sep {
            (from, first_line) = (len, 2);
        }
        if let Some(skip) = options.skip {
            let end = end_of_lines(text, skip).ok_or_else(|| {
                source.table(format!("--skip {skip}, but the file has no more lines than that; skip fewer"))
            })?;
            if end >= from {
                (from, first_line) = (end, skip + 1);
            }
        }
        let rest = &text[from..];
        let comment = match &options.comment {
            Some(mark) if mark.is_empty() => {
                return Err(
                    source.table("--comment is empty; say the characters that begin a line to ignore")
                );
            }
            Some(mark) => Some(mark.clone()),
            None => rest.trim_start().starts_with('#').then(|| "#".to_owned()),
        };
        let mut dialect = Dialect { from, first_line, delimiter: Delimiter::None, comment };
        dialect.delimiter = match (options.delimiter, sep) {
            (Some(delimiter), _) => delimiter,
            (None, Some((mark, _))) => Delimiter::Char(mark),
            (None, None) => dialect.found_delimiter(source, rest, options)?,
        };
        Ok(dialect)
    }

    pub(crate) fn splitting(&self) -> Splitting<'_> {
        Splitting {
            from: self.from,
            first_line: self.first_line,
            delimiter: self.delimiter,
            comment: self.comment.as_deref(),
        }
    }

    fn found_delimiter(
        &self,
        source: &Source,
        rest: &str,
        options: &ReadOptions,
    ) -> Result<Delimiter, SeriesError> {
        let split = |delimiter: Delimiter| self.sampled(source, rest, delimiter);
        let score = |delimiter: Delimiter| Some(Score::of(&split(delimiter)?, delimiter));
        // max_by_key keeps the last of several equals: the comma wins.
        let best = [b'|', b'\t', b';', b',']
            .into_iter()
            .filter_map(|mark| Some((Delimiter::Char(mark), score(Delimiter::Char(mark))?)))
            .filter(|(_, score)| score.width >= 2 && score.even >= 50)
            .max_by_key(|(_, score)| (score.even * score.typed, score.width));
        let Some((delimiter, _)) = best else {
            self.refuse_open_quote(source, rest)?;
            let spaces = score(Delimiter::Spaces).filter(|score| score.width >= 2 && score.even >= 80);
            if spaces.is_none_or(|score| score.typed < 75) {
                return Ok(Delimiter::None);
            }
            if let Some(cells) = split(Delimiter::Spaces) {
                refuse_halves(source, &cells, Delimiter::Spaces, options)?;
            }
            return Ok(Delimiter::Spaces);
        };
        if delimiter == Delimiter::Char(b',')
            && let Some(cells) = split(Delimiter::None)
        {
            let found = comma_or_decimal_comma(source, &cells, options)?;
            if let (true, Some(cells)) = (found == delimiter, split(delimiter)) {
                refuse_halves(source, &cells, delimiter, options)?;
            }
            return Ok(found);
        }
        Ok(delimiter)
    }

    /// Refuses a text that a delimiter splits well up to a quote that is never closed, or that other text follows.
    fn refuse_open_quote(&self, source: &Source, rest: &str) -> Result<(), SeriesError> {
        for delimiter in [b',', b';', b'\t', b'|'].map(Delimiter::Char) {
            let how = Splitting {
                from: 0,
                first_line: self.first_line,
                delimiter,
                comment: self.comment.as_deref(),
            };
            let Err(error) = Cells::split(source, rest.to_owned(), &how) else { continue };
            let SeriesError::Cell { line, .. } = error else { return Err(error) };
            let Some(end) = end_of_lines(rest, line.saturating_sub(self.first_line)) else { continue };
            let before = self.sampled(source, &rest[..end], delimiter);
            let score = before.filter(|cells| cells.rows() > 0).map(|cells| Score::of(&cells, delimiter));
            if score.is_some_and(|score| score.width >= 2 && score.even >= 50) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The cells of the first lines; `None` if they cannot be split so.
    fn sampled(&self, source: &Source, rest: &str, delimiter: Delimiter) -> Option<Cells> {
        let whole = rest.len() <= SAMPLE_BYTES;
        let end = if whole {
            rest.len()
        } else {
            // Up to a line's end, or past the sample to the first one if a single line is longer.
            let within = rest.as_bytes()[..SAMPLE_BYTES].iter().rposition(|byte| *byte == b'\n');
            let after = || rest.as_bytes()[SAMPLE_BYTES..].iter().position(|byte| *byte == b'\n');
            within.or_else(|| after().map(|at| at + SAMPLE_BYTES)).map_or(rest.len(), |at| at + 1)
        };
        let how = Splitting { from: 0, first_line: 1, delimiter, comment: self.comment.as_deref() };
        let sample = &rest[..end];
        let cells = Cells::split(source, sample.to_owned(), &how);
        if cells.is_ok() || whole {
            return cells.ok();
        }
        // The sample may end within a quoted cell: drop lines until the quotes are even.
        let ends = sample.match_indices('\n').map(|(at, _)| at + 1).collect::<Vec<_>>();
        ends.iter()
            .rev()
            .skip(1)
            .take(8)
            .find_map(|end| Cells::split(source, sample[..*end].to_owned(), &how).ok())
    }
}

/// How well a delimiter splits lines, in percent.
#[derive(Clone, Copy, Debug)]
struct Score {
    width: usize, // the most frequent number of cells
    even: usize,  // lines with that many
    typed: usize, // how far the cells of those lines are single values
}

impl Score {
    fn of(cells: &Cells, delimiter: Delimiter) -> Score {
        let full: Vec<usize> = (0..cells.rows()).filter(|row| cells.row_len(*row) > 0).collect();
        let mut counts = HashMap::<usize, usize>::new();
        for row in &full {
            *counts.entry(cells.row_len(*row)).or_default() += 1;
        }
        let (width, count) =
            counts.into_iter().max_by_key(|(width, count)| (*count, *width)).unwrap_or((0, 0));
        let (mut seen, mut typed) = (0, 0);
        for row in full.iter().filter(|row| cells.row_len(**row) == width).skip(1).take(200) {
            for column in 0..width.min(64) {
                let cell = cells.get(*row, column);
                // Text counts half, and nothing if another delimiter than this one is in it.
                let other = delimiter != Delimiter::Spaces && cell.contains([';', '\t', '|']);
                let is_typed = is_missing(cell, &[]) || looks_numeric(cell) || looks_dated(cell);
                seen += 2;
                typed += if other { 0 } else { 1 + usize::from(is_typed) };
            }
        }
        Score {
            width,
            even: count * 100 / full.len().max(1),
            typed: (typed * 100).checked_div(seen).map_or(50, |typed| typed.max(1)),
        }
    }
}

/// Lines such as `1,032` are one column with a decimal comma, or two columns.
fn comma_or_decimal_comma(
    source: &Source,
    cells: &Cells,
    options: &ReadOptions,
) -> Result<Delimiter, SeriesError> {
    let comma = Ok(Delimiter::Char(b','));
    let full: Vec<usize> = (0..cells.rows()).filter(|row| cells.row_len(*row) > 0).collect();
    let pair = |row: usize| {
        let cell = cells.get(row, 0);
        let (whole, rest) = cell.trim_start_matches(['-', '+']).split_once(',')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (digits(whole) && digits(rest)).then(|| rest.to_owned())
    };
    let Some(&first) = full.first() else { return comma };
    let first_is_name = pair(first).is_none();
    let rests: Option<Vec<String>> =
        full.iter().skip(usize::from(first_is_name)).map(|row| pair(*row)).collect();
    let Some(rests) = rests.filter(|rests| !rests.is_empty()) else { return comma };
    if first_is_name {
        // Two names, two columns; one name, one column.
        return if cells.get(first, 0).contains(',') { comma } else { Ok(Delimiter::None) };
    }
    let leading_zero = rests.iter().any(|rest| rest.len() > 1 && rest.starts_with('0'));
    if leading_zero || options.decimal == Some(',') || options.thousands == Some(',') {
        return Ok(Delimiter::None); // no second column of whole numbers writes 032
    }
    if options.decimal.is_some() {
        return comma;
    }
    Err(source.line(
        cells.line(first),
        format!(
            "'{}' is one number or two columns; use --decimal , or --delimiter comma",
            super::shown(cells.get(first, 0))
        ),
    ))
}

/// Refuses lines such as `2024-01-31,48,82`: columns of whole numbers in pairs may be the two halves of numbers with a
/// decimal comma, or those of numbers with a mark between thousands. A line that names each column settles it.
fn refuse_halves(
    source: &Source,
    cells: &Cells,
    delimiter: Delimiter,
    options: &ReadOptions,
) -> Result<(), SeriesError> {
    let full: Vec<usize> = (0..cells.rows()).filter(|row| cells.row_len(*row) > 0).collect();
    if full.len() < 3 || options.decimal == Some('.') || options.header == Some(true) {
        return Ok(());
    }
    let width = cells.row_len(full[full.len() - 1]);
    let as_wide = full[1..].iter().filter(|row| cells.row_len(**row) == width).count();
    if as_wide < 2 || as_wide * 10 < (full.len() - 1) * 9 {
        return Ok(());
    }
    let first: Vec<&str> = (0..width).map(|column| cells.get(full[0], column)).collect();
    let named = first.iter().any(|cell| !cell.is_empty() && !looks_numeric(cell) && !looks_dated(cell));
    let short = named && first.iter().any(|cell| cell.is_empty());
    if named && !short || cells.comments.iter().any(|(line, _)| line + 1 == cells.line(full[0])) {
        return Ok(());
    }
    let rows: Vec<usize> = full[usize::from(named)..]
        .iter()
        .copied()
        .filter(|row| cells.row_len(*row) == width)
        .take(500)
        .collect();
    let most = if delimiter == Delimiter::Spaces { 3..=3 } else { 1..=3 };
    let digits = |cell: &str| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit());
    let whole =
        |column: usize| rows.iter().all(|row| digits(cells.get(*row, column).trim_start_matches(['-', '+'])));
    let half = |column: usize| {
        rows.iter()
            .all(|row| digits(cells.get(*row, column)) && most.contains(&cells.get(*row, column).len()))
    };
    let rises = |column: usize| {
        let value = |row: &usize| cells.get(*row, column).parse::<i64>().ok();
        rows.windows(2).all(|pair| value(&pair[0]) < value(&pair[1]))
    };
    let numeric = |column: usize| rows.iter().all(|row| looks_numeric(cells.get(*row, column)));
    let year = |column: usize| rows.iter().all(|row| cells.get(*row, column).len() == 4);
    let from = usize::from(width % 2 == 1);
    let begins = from == 0 && !year(0) || from == 1 && (!numeric(0) || whole(0) && rises(0));
    let pairs =
        width >= 3 && begins && (from..width).step_by(2).all(|column| whole(column) && half(column + 1));
    // No column of whole numbers but a part of a date writes 04 after another.
    let zero = |column: usize| {
        rows.iter().any(|row| cells.get(*row, column).len() > 1 && cells.get(*row, column).starts_with('0'))
    };
    let padded = (1..width).find(|column| {
        let alike =
            rows.iter().all(|row| cells.get(*row, *column).len() == cells.get(rows[0], *column).len());
        whole(column - 1) && half(*column) && alike && zero(*column) && !zero(column - 1) && !year(column - 1)
    });
    let padded = padded.filter(|_| !named && rows.len() >= 3);
    let unnamed =
        short && (1..width).any(|column| first[column].is_empty() && whole(column - 1) && half(column));
    let counts = (0..width).all(|column| first[column] == column.to_string())
        || (0..width).all(|column| first[column] == (column + 1).to_string()); // those may be names
    if !(pairs && !named && !counts && rows.len() >= 3 || unnamed || padded.is_some()) {
        return Ok(());
    }
    let at = match padded {
        Some(column) => column - 1,
        None if pairs => from,
        None => (1..width).find(|column| first[*column].is_empty()).unwrap_or(1) - 1,
    };
    let row = rows[0];
    let mark = if delimiter == Delimiter::Spaces { ' ' } else { ',' };
    Err(source.line(
        cells.line(row),
        format!(
            "'{}{mark}{}' is one number or two columns; quote the numbers, or say --delimiter {delimiter} if they are columns",
            cells.get(row, at),
            cells.get(row, at + 1)
        ),
    ))
}

/// The delimiter that Excel's first line `sep=;` names, and the line's length with its end.
fn sep_line(text: &str) -> Option<(u8, usize)> {
    let end = text.find('\n').map_or(text.len(), |at| at + 1);
    let line = text[..end].trim_end_matches(['\r', '\n']);
    let line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    let mark = line.get(..4).filter(|start| start.eq_ignore_ascii_case("sep=")).map(|_| &line[4..])?;
    match mark.as_bytes() {
        &[mark] => Some((mark, end)),
        _ => None,
    }
}

/// The byte after so many lines; `None` if there are no more.
fn end_of_lines(text: &str, lines: usize) -> Option<usize> {
    let mark = if text.contains('\n') { '\n' } else { '\r' };
    if lines == 0 {
        return Some(0);
    }
    let end = text.match_indices(mark).nth(lines - 1).map(|(at, _)| at + 1)?;
    (end < text.len()).then_some(end)
}
