//! A table as it is in the file: named columns of numbers, dates or text.

use super::cells::Cells;
use super::dialect::Dialect;
use super::encoding::{Decoded, Encoding, decode};
use super::head::{Head, not_a_number};
use super::number::{Marks, NumberFormat, looks_numeric};
use super::source::{Source, inflated};
use super::{is_missing, looks_dated};
use crate::SeriesError;
use crate::dataset::ReadOptions;

/// The kind of a column's values: that of most of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Number,
    Date,
    Text,
    /// No cell has a value.
    Empty,
}

#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) marks: Marks,
    pub(crate) missing: usize,
}

/// A file, split into cells, with its columns looked at.
#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) source: Source,
    pub(crate) encoding: Encoding,
    pub(crate) encoding_doubt: Option<String>,
    pub(crate) gzip: bool,
    pub(crate) parquet: bool,
    pub(crate) dialect: Dialect,
    pub(crate) head: Head,
    pub(crate) columns: Vec<Column>,
    cells: Cells,
    decimal: Option<char>,
    thousands: Option<char>,
    na: Vec<String>,
    na_values: Vec<f64>,
    hint: Option<char>, // the decimal mark that other columns prove
}

impl Sheet {
    pub(crate) fn read(source: Source, bytes: Vec<u8>, options: &ReadOptions) -> Result<Sheet, SeriesError> {
        let (bytes, gzip) = inflated(&source, bytes)?;
        #[cfg(feature = "parquet")]
        let (bytes, of_parquet) = match bytes.starts_with(b"PAR1") {
            true => (super::parquet::text(&source, bytes)?, Some(super::parquet::options(options))),
            false => (bytes, None),
        };
        #[cfg(not(feature = "parquet"))]
        let of_parquet: Option<ReadOptions> = None;
        let parquet = of_parquet.is_some();
        let options = of_parquet.as_ref().unwrap_or(options);
        let Decoded { text, encoding, doubt } = decode(&source, bytes, options.encoding)?;
        let dialect = Dialect::find(&source, &text, options)?;
        let cells = Cells::split(&source, text, &dialect.splitting())?;
        let head = Head::find(&source, &cells, &dialect, options)?;
        let (decimal, thousands) = marks_asked_for(&source, options)?;
        let na_values = options.na.iter().filter_map(|marker| marker.parse().ok()).collect();
        let mut sheet = Sheet {
            source,
            encoding,
            encoding_doubt: doubt,
            gzip,
            parquet,
            dialect,
            head,
            columns: Vec::new(),
            cells,
            decimal,
            thousands,
            na: options.na.clone(),
            na_values,
            hint: None,
        };
        sheet.columns = (0..sheet.head.names.len()).map(|column| sheet.column(column)).collect();
        let proven = || {
            sheet
                .columns
                .iter()
                .filter(|column| column.kind == Kind::Number)
                .filter_map(|column| column.marks.proven())
        };
        let first = proven().next();
        sheet.hint = first.filter(|first| proven().all(|mark| mark == *first));
        Ok(sheet)
    }

    pub(crate) fn rows(&self) -> usize {
        self.head.rows.len()
    }

    pub(crate) fn cell(&self, row: usize, column: usize) -> &str {
        self.cells.get(self.head.rows[row] as usize, column)
    }

    pub(crate) fn line(&self, row: usize) -> usize {
        self.cells.line(self.head.rows[row] as usize)
    }

    pub(crate) fn is_missing(&self, cell: &str) -> bool {
        is_missing(cell, &self.na)
    }

    pub(crate) fn name(&self, column: usize) -> &str {
        &self.columns[column].name
    }

    pub(crate) fn numeric(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..self.columns.len()).filter(|column| self.columns[*column].kind == Kind::Number)
    }

    /// An error about a cell, by its row and column.
    pub(crate) fn error(&self, row: usize, column: usize, problem: impl Into<String>) -> SeriesError {
        self.source.cell(self.line(row), self.name(column), problem)
    }

    /// The column of a name.
    pub(crate) fn find(&self, name: &str) -> Result<usize, SeriesError> {
        let normal = super::one_line(name);
        let found = self.columns.iter().position(|column| column.name == normal);
        found.ok_or_else(|| self.source.table(format!("there is no column {normal}; {}", self.choice())))
    }

    /// The columns of numbers, for messages.
    pub(crate) fn choice(&self) -> String {
        let names: Vec<&str> = self.numeric().map(|column| self.name(column)).collect();
        match names.len() {
            0 => "no column of this table holds numbers".into(),
            1..=12 => format!("columns of numbers: {}", names.join(", ")),
            more => format!("columns of numbers: {}, ... ({more} in all)", names[..11].join(", ")),
        }
    }

    fn column(&self, column: usize) -> Column {
        let (mut numbers, mut others, mut missing) = (0, 0, 0);
        let (mut marks, mut first_other) = (Marks::default(), "");
        for row in 0..self.rows() {
            let cell = self.cell(row, column);
            if self.is_missing(cell) {
                missing += 1;
            } else if marks.note(row, cell) {
                numbers += 1;
            } else {
                if others == 0 {
                    first_other = cell;
                }
                others += 1;
            }
        }
        // The majority decides, so that one bad cell in a column of numbers is reported by its place.
        let kind = match () {
            () if numbers == 0 && others == 0 => Kind::Empty,
            () if numbers >= others => Kind::Number,
            () if looks_dated(first_other) || self.most_are_dates(column) => Kind::Date,
            () => Kind::Text,
        };
        Column { name: self.head.names[column].clone(), kind, marks, missing }
    }

    fn most_are_dates(&self, column: usize) -> bool {
        let step = (self.rows() / 50).max(1);
        let cells = (0..self.rows()).step_by(step).map(|row| self.cell(row, column));
        let (mut dates, mut others) = (0, 0);
        for cell in cells.filter(|cell| !self.is_missing(cell)) {
            *(if looks_dated(cell) { &mut dates } else { &mut others }) += 1;
        }
        dates > others
    }

    /// How a column of numbers writes them. Refuses what can be read in two ways.
    pub(crate) fn format(&self, column: usize) -> Result<NumberFormat, SeriesError> {
        if let Some(decimal) = self.decimal {
            return Ok(NumberFormat { decimal, thousands: self.thousands });
        }
        let marks = &self.columns[column].marks;
        marks
            .decide(self.hint, self.dialect.delimiter)
            .map_err(|unclear| self.error(unclear.row, column, unclear.problem))
    }

    /// A cell of the column whose mark might mean thousands, though it is taken for that of decimals.
    pub(crate) fn doubtful(&self, column: usize) -> Option<&str> {
        let open = self.decimal.is_none() && self.hint.is_none();
        self.columns[column].marks.doubtful(self.dialect.delimiter).filter(|_| open)
    }

    /// A column's values, NaN where one is missing.
    pub(crate) fn numbers(&self, column: usize) -> Result<Vec<f64>, SeriesError> {
        let format = self.format(column)?;
        if let Some((row, cell)) = &self.columns[column].marks.odd_unit {
            let problem = format!(
                "'{}' has another currency or sign than the cells above; write all alike",
                super::shown(cell)
            );
            return Err(self.error(*row, column, problem));
        }
        (0..self.rows()).map(|row| self.number(row, column, format)).collect()
    }

    /// The value of a cell, NaN if it is missing.
    pub(crate) fn number_at(&self, row: usize, column: usize) -> Result<f64, SeriesError> {
        self.number(row, column, self.format(column)?)
    }

    fn number(&self, row: usize, column: usize, format: NumberFormat) -> Result<f64, SeriesError> {
        let cell = self.cell(row, column);
        if self.is_missing(cell) {
            return Ok(f64::NAN);
        }
        match format.parse(cell) {
            Some(value) if self.na_values.contains(&value) => Ok(f64::NAN),
            Some(value) => Ok(value),
            None if looks_numeric(cell) => {
                let problem =
                    format!("'{}' is not a number with a {format}; correct the cell", super::shown(cell));
                Err(self.error(row, column, problem))
            }
            None => Err(self.error(row, column, not_a_number(cell))),
        }
    }

    /// Refuses a column whose cells are not mostly numbers.
    pub(crate) fn check_numeric(&self, column: usize) -> Result<(), SeriesError> {
        let holds = match self.columns[column].kind {
            Kind::Number => return Ok(()),
            Kind::Date => "dates",
            Kind::Text => "text",
            Kind::Empty => "no values",
        };
        let example = self.example(column);
        let example = example.map_or_else(String::new, |cell| format!(", such as '{}'", super::shown(cell)));
        let problem = format!("column {} holds {holds}{example}; {}", self.name(column), self.choice());
        Err(self.source.table(problem))
    }

    /// The first cell with a value, for messages.
    pub(crate) fn example(&self, column: usize) -> Option<&str> {
        (0..self.rows()).map(|row| self.cell(row, column)).find(|cell| !self.is_missing(cell))
    }
}

/// The decimal mark and the mark between thousands that the options ask for.
fn marks_asked_for(
    source: &Source,
    options: &ReadOptions,
) -> Result<(Option<char>, Option<char>), SeriesError> {
    let other = |mark: char| if mark == '.' { ',' } else { '.' };
    match (options.decimal, options.thousands) {
        (Some(mark), _) if mark != '.' && mark != ',' => {
            Err(source.table(format!("--decimal is . or , and not '{mark}'")))
        }
        (_, Some(mark)) if !['.', ',', ' ', '\''].contains(&mark) => {
            Err(source.table(format!("--thousands is . , a space or ' and not '{mark}'")))
        }
        (Some(decimal), Some(thousands)) if decimal == thousands => {
            Err(source.table(format!("--decimal and --thousands are both '{decimal}'; say different marks")))
        }
        (Some(decimal), None) => Ok((Some(decimal), Some(other(decimal)))),
        (decimal, Some(thousands)) if thousands == '.' || thousands == ',' => {
            Ok((decimal.or(Some(other(thousands))), Some(thousands)))
        }
        (decimal, thousands) => Ok((decimal, thousands)),
    }
}
