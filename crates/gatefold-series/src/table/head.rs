//! Which lines hold names, which hold values, and which are neither.

use super::cells::{Cells, Delimiter, Splitting};
use super::dialect::Dialect;
use super::number::looks_numeric;
use super::source::Source;
use super::{is_missing, looks_dated, numbered_run, shown, unique_names};
use crate::SeriesError;
use crate::dataset::{Layout, ReadOptions};
use std::collections::HashMap;

/// The lines of a table, told apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) names: Vec<String>,
    /// The line of the names; `None` if the table has none.
    pub(crate) names_line: Option<usize>,
    /// The rows of values, as [`Cells`] counts them. A blank one is a missing value of a table of one column.
    pub(crate) rows: Vec<u32>,
    /// Lines above the names that are no part of the table.
    pub(crate) above: Vec<usize>,
    /// Lines below the values that are no part of the table.
    pub(crate) below: Vec<usize>,
    /// A line of units between the names and the values.
    pub(crate) units_line: Option<usize>,
}

/// The rows that types are found in.
const SAMPLE_ROWS: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Number,
    Date,
    Text,
}

struct Finder<'a> {
    source: &'a Source,
    cells: &'a Cells,
    options: &'a ReadOptions,
    full: Vec<usize>, // rows that are not blank
    width: usize,
    ragged: bool, // rows may end early, as they do where each is a series
}

impl Head {
    pub(crate) fn find(
        source: &Source,
        cells: &Cells,
        dialect: &Dialect,
        options: &ReadOptions,
    ) -> Result<Head, SeriesError> {
        let blank = |row: usize| cells.row_len(row) == 0 || cells.row_len(row) > 1 && cells.is_empty_row(row);
        let full: Vec<usize> = (0..cells.rows()).filter(|row| !blank(*row)).collect();
        if full.is_empty() {
            return Err(source.table("the table is empty; expected a line of names and rows of values"));
        }
        let ragged = options.layout == Some(Layout::Rows) || numbered_names(cells, full[0]);
        let width = if ragged {
            full.iter().map(|row| cells.row_len(*row)).max().unwrap_or(0)
        } else {
            usual_width(cells, &full)
        };
        let mut finder = Finder { source, cells, options, full, width, ragged };
        let mut head = Head::default();
        finder.take_footer(&mut head);
        finder.find_names(&mut head, dialect)?;
        let first = head.rows.first().map(|row| *row as usize);
        if first.is_none() {
            return Err(source.table("the table has a line of names and no rows; add the values below it"));
        }
        finder.check_widths(&head)?;
        if finder.width == 1 {
            finder.blank_lines_are_missing(&mut head);
        }
        Ok(head)
    }
}

/// The most frequent number of cells; one less where every line but that of the names ends with a delimiter.
fn usual_width(cells: &Cells, full: &[usize]) -> usize {
    let mut counts = HashMap::<usize, usize>::new();
    for row in full {
        *counts.entry(cells.row_len(*row)).or_default() += 1;
    }
    let width = counts.iter().max_by_key(|(width, count)| (**count, **width)).map_or(0, |(width, _)| *width);
    let trailing = |row: &usize| cells.row_len(*row) < width || cells.get(*row, width - 1).is_empty();
    if width > 1 && counts.contains_key(&(width - 1)) && full.iter().all(trailing) {
        width - 1
    } else {
        width
    }
}

/// Whether a line ends with names such as V1, V2, ...: those of a table in which each row is a series.
fn numbered_names(cells: &Cells, row: usize) -> bool {
    let names: Vec<&str> = (0..cells.row_len(row)).map(|column| cells.get(row, column)).collect();
    names.len() >= 8 && numbered_run(&names) + 4 >= names.len()
}

impl Finder<'_> {
    fn fits(&self, row: usize) -> bool {
        let len = self.cells.row_len(row);
        let rest_empty = || (self.width..len).all(|column| self.cells.get(row, column).is_empty());
        len == self.width || len > self.width && rest_empty() || self.ragged && len < self.width
    }

    /// Whether a line is a text and empty cells after it, as spreadsheets pad a title.
    fn is_title(&self, row: usize) -> bool {
        let cell = self.cells.get(row, 0);
        let text = !cell.is_empty() && !looks_numeric(cell) && !looks_dated(cell);
        self.width >= 3
            && text
            && !self.ragged
            && (1..self.width).all(|column| self.cells.get(row, column).is_empty())
    }

    /// Takes off lines at the end that have other numbers of cells and come after a blank line.
    fn take_footer(&mut self, head: &mut Head) {
        let Some(last) = self.full.iter().rposition(|row| self.fits(*row)) else { return };
        let Some(&next) = self.full.get(last + 1) else { return };
        let blank_between = self.full[last] + 1 < next;
        // A row that ends early is no remark.
        let remark = |row: &usize| {
            let cell = self.cells.get(*row, 0);
            !looks_numeric(cell) && !looks_dated(cell)
        };
        if blank_between
            && self.full[last + 1..].iter().all(remark)
            && self.options.skip.is_none_or(|_| last > 0)
        {
            head.below = self.full[last + 1..].iter().map(|row| self.cells.line(*row)).collect();
            self.full.truncate(last + 1);
        }
    }

    fn find_names(&mut self, head: &mut Head, dialect: &Dialect) -> Result<(), SeriesError> {
        let stated_start = self.options.skip.is_some() || self.options.header.is_some();
        let start = if stated_start {
            0
        } else {
            self.full.iter().position(|row| self.fits(*row) && !self.is_title(*row)).unwrap_or(0)
        };
        let block = self.full[start..].to_vec();
        head.above = self.lines(&self.full[..start]);
        let names = match self.options.header {
            Some(true) => Some(0),
            Some(false) => None,
            None => self.names_row(&block, head)?,
        };
        match names {
            Some(at) => {
                head.above.extend(self.lines(&block[..at]));
                let names = (0..self.width).map(|column| self.cells.get(block[at], column).to_owned());
                head.names = unique_names(names.collect());
                head.names_line = Some(self.cells.line(block[at]));
                let first = at + 1 + usize::from(head.units_line.is_some());
                head.rows = block[first..].iter().map(|row| *row as u32).collect();
            }
            None => {
                head.rows = block.iter().map(|row| *row as u32).collect();
                self.names_from_comment(head, dialect, block[0]);
                if let (true, Some(&row)) = (head.names_line.is_none(), self.full[..start].last()) {
                    return Err(self.source.line(
                        self.cells.line(row),
                        format!(
                            "{} above rows of {}, and no line of names between; correct the line, or say --skip {} or --header",
                            count(self.cells.row_len(row)),
                            count(self.width),
                            self.cells.line(block[0]) - 1
                        ),
                    ));
                }
                if head.names_line.is_none() {
                    head.names = (1..=self.width).map(|number| number.to_string()).collect();
                }
            }
        }
        Ok(())
    }

    fn lines(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().map(|row| self.cells.line(*row)).collect()
    }

    /// The place of the names in the block, if it has any.
    fn names_row(&self, block: &[usize], head: &mut Head) -> Result<Option<usize>, SeriesError> {
        let types = self.types(block);
        if types.iter().all(|column| column.is_none_or(|column| column == Type::Text)) {
            return Ok(self.all_text(block[0]).then_some(0));
        }
        let mut names = None;
        for (at, row) in block.iter().take(SAMPLE_ROWS).enumerate() {
            let (same, other) = self.compared(*row, &types);
            // Names differ from the values below them. A row that differs in one cell and agrees in others is a row
            // with a bad cell, unless it is the first.
            if other == 0 || at > 0 && same > 0 {
                break;
            }
            if at > 0 && self.is_units(*row) && names.is_some() {
                head.units_line = Some(self.cells.line(*row));
                break;
            }
            names = Some(at);
        }
        // A blank line before the names sets them off from what is above. Without one, they may be a bad row.
        if let Some(at) = names
            && at > 0
            && block[at - 1] + 1 == block[at]
        {
            let (line, cell) = (self.cells.line(block[at]), shown(self.cells.get(block[at], 0)));
            let skip = line - 1;
            return Err(self.source.line(
                line,
                format!(
                    "'{cell}' and so on may be names or bad values; say --skip {skip} if they are names, or correct them"
                ),
            ));
        }
        if names.is_none() && self.year_names(block[0], block.get(1)) {
            return Ok(Some(0));
        }
        if names.is_none() {
            return self.number_names(block);
        }
        Ok(names)
    }

    fn types(&self, block: &[usize]) -> Vec<Option<Type>> {
        let step = (block.len() / SAMPLE_ROWS).max(1);
        let sample: Vec<usize> =
            block.iter().skip(1).step_by(step).copied().filter(|row| self.fits(*row)).collect();
        let type_of = |column: usize| {
            let (mut numbers, mut dates, mut texts) = (0, 0, 0);
            for row in &sample {
                match self.cells.get(*row, column) {
                    cell if is_missing(cell, &self.options.na) => {}
                    cell if looks_numeric(cell) => numbers += 1,
                    cell if looks_dated(cell) => dates += 1,
                    _ => texts += 1,
                }
            }
            match numbers + dates + texts {
                0 => None,
                all if numbers * 2 > all => Some(Type::Number),
                all if dates * 2 > all => Some(Type::Date),
                _ => Some(Type::Text),
            }
        };
        (0..self.width).map(type_of).collect()
    }

    /// How many cells of a row agree with the types of their columns, and how many do not; text agrees with anything.
    fn compared(&self, row: usize, types: &[Option<Type>]) -> (usize, usize) {
        let (mut same, mut other) = (0, 0);
        for (column, expected) in types.iter().enumerate() {
            let cell = self.cells.get(row, column);
            let agrees = match expected {
                Some(Type::Number) => looks_numeric(cell),
                Some(Type::Date) => looks_dated(cell),
                _ => continue,
            };
            if agrees {
                same += 1;
            } else if !is_missing(cell, &self.options.na) {
                other += 1;
            }
        }
        (same, other)
    }

    fn all_text(&self, row: usize) -> bool {
        (0..self.cells.row_len(row)).all(|column| {
            let cell = self.cells.get(row, column);
            !looks_numeric(cell) && !looks_dated(cell)
        })
    }

    /// A line of units has a cell without a value, or every cell is in brackets.
    fn is_units(&self, row: usize) -> bool {
        let bracketed = |cell: &str| cell.starts_with(['(', '[']) && cell.ends_with([')', ']']);
        let mut cells = (0..self.width).map(|column| self.cells.get(row, column));
        cells.any(|cell| is_missing(cell, &self.options.na))
            || (0..self.width).all(|column| bracketed(self.cells.get(row, column)))
    }

    /// Years in a row, as names of the columns of a table in which each row is a series; other names may follow them.
    fn year_names(&self, row: usize, next: Option<&usize>) -> bool {
        let empty = |column: &usize| self.cells.get(row, *column).is_empty();
        let width = self.width - (0..self.width).rev().take_while(empty).count();
        let years = |row: usize| {
            let cells: Vec<&str> = (0..width).map(|column| self.cells.get(row, column)).collect();
            let years: Vec<Option<i32>> = cells.iter().map(|cell| year(cell)).collect();
            let name = |cell: &str| !looks_numeric(cell) && !looks_dated(cell);
            let even = |three: &[Option<i32>]| match three {
                [Some(a), Some(b), Some(c)] => a != b && b - a == c - b,
                _ => false,
            };
            years.first().is_some_and(Option::is_none)
                && years.windows(3).any(even)
                && cells.iter().zip(&years).all(|(cell, year)| year.is_some() || name(cell))
        };
        years(row) && !next.is_some_and(|next| years(*next))
    }

    /// Names 0, 1, 2, ... or 1, 2, 3, ... above values with a fraction. Above whole numbers, nobody can tell.
    fn number_names(&self, block: &[usize]) -> Result<Option<usize>, SeriesError> {
        let first = self.cells.get(block[0], 0);
        let counts = |from: usize| {
            (0..self.width).all(|column| self.cells.get(block[0], column) == (column + from).to_string())
        };
        if self.width < 2
            || block.len() < 2
            || !(first == "0" || first == "1")
            || !counts(usize::from(first == "1"))
        {
            return Ok(None);
        }
        let whole = |row: &usize, column: usize| self.cells.get(*row, column).parse::<i64>().is_ok();
        let fractions = (0..self.width).all(|column| block[1..].iter().any(|row| !whole(row, column)));
        if fractions {
            return Ok(Some(0));
        }
        Err(self.source.line(
            self.cells.line(block[0]),
            format!("'{first}' and so on are names or values; say --header yes or --header no"),
        ))
    }

    /// A comment right above the values that has as many words as they have cells.
    fn names_from_comment(&self, head: &mut Head, dialect: &Dialect, first: usize) {
        let Some((line, text)) = self.cells.comments.last() else { return };
        let Some(mark) = &dialect.comment else { return };
        if *line + 1 != self.cells.line(first) || self.options.header == Some(false) {
            return;
        }
        let text = text.trim_start_matches(mark.as_str()).trim().to_owned();
        let how = Splitting { from: 0, first_line: *line, delimiter: dialect.delimiter, comment: None };
        let Ok(cells) = Cells::split(self.source, text, &how) else { return };
        let one_word_each = dialect.delimiter != Delimiter::None || self.width == 1;
        if cells.rows() == 1 && cells.row_len(0) == self.width && one_word_each {
            let names: Vec<String> = (0..self.width).map(|column| cells.get(0, column).to_owned()).collect();
            if names.iter().all(|name| !looks_numeric(name) && !looks_dated(name)) {
                head.names = unique_names(names);
                head.names_line = Some(*line);
            }
        }
    }

    fn check_widths(&self, head: &Head) -> Result<(), SeriesError> {
        let Some(bad) = head.rows.iter().find(|row| !self.fits(**row as usize)) else { return Ok(()) };
        let row = *bad as usize;
        let like = head.names_line.or_else(|| {
            let first = head.rows.iter().find(|row| self.fits(**row as usize))?;
            Some(self.cells.line(*first as usize))
        });
        let like = like.map_or_else(String::new, |line| format!(" as in line {line}"));
        Err(self.source.line(
            self.cells.line(row),
            format!(
                "{}; expected {}{like}; add the missing delimiter or quote the cell",
                count(self.cells.row_len(row)),
                self.width
            ),
        ))
    }

    /// In a table of one column, a blank line between two rows is a missing value.
    fn blank_lines_are_missing(&self, head: &mut Head) {
        if let (Some(&first), Some(&last)) = (head.rows.first(), head.rows.last()) {
            head.rows = (first..=last).collect();
        }
    }
}

fn year(cell: &str) -> Option<i32> {
    let year: i32 = cell.parse().ok()?;
    (cell.len() == 4 && (1000..3000).contains(&year)).then_some(year)
}

fn count(cells: usize) -> String {
    if cells == 1 { "1 cell".into() } else { format!("{cells} cells") }
}

/// The problem of a cell that is no number.
pub(crate) fn not_a_number(cell: &str) -> String {
    format!("'{}' is not a number; correct the cell, or leave it empty if the value is missing", shown(cell))
}
