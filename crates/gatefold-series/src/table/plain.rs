use super::fill::{Fill, fill};
use super::sheet::{Kind, Sheet};
use super::source::{Source, read};
use super::{Delimiter, one_line};
use crate::SeriesError;
use crate::dataset::ReadOptions;
use std::path::Path;

/// The format of a table, where it should not be detected.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    options: ReadOptions,
}

impl TableOptions {
    /// Detects the delimiter and the header.
    pub fn new() -> Self {
        TableOptions::default()
    }

    /// The character between cells. By default whichever splits the lines best.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.options = self.options.delimiter(Delimiter::Char(delimiter));
        self
    }

    /// Whether the first line names the columns. By default it does if it differs in kind from the rows below it.
    pub fn header(mut self, header: bool) -> Self {
        self.options = self.options.header(header);
        self
    }
}

/// The columns of a table, in the order of the file, where rows need not be moments of a calendar. For time series, see
/// [`Dataset`](crate::Dataset), which reads files alike.
///
/// Cells stay text until a column is read as numbers, so a bad cell in an unused column does no harm.
#[derive(Clone, Debug)]
pub struct Table {
    sheet: Sheet,
    names: Vec<String>,
}

impl Table {
    /// Reads a table from a file, or from standard input if the path is `-`.
    ///
    /// # Errors
    /// [`SeriesError::Io`] when it cannot be read, [`SeriesError::Table`] when it is empty or not text,
    /// [`SeriesError::Cell`] for a line with more or fewer cells than the others, or dates that go backwards.
    pub fn read(path: impl AsRef<Path>, options: &TableOptions) -> Result<Table, SeriesError> {
        let path = path.as_ref();
        let sheet = Sheet::read(Source::new(path), read(path)?, &options.options)?;
        let names = sheet.columns.iter().map(|column| column.name.clone()).collect();
        let table = Table { sheet, names };
        table.check_dates()?;
        Ok(table)
    }

    /// Reads a table whose rows may come in any order, with every option for the format; options about the time and the
    /// columns have no effect.
    ///
    /// # Errors
    /// Those of [`Table::read`], except about dates.
    pub fn read_rows(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Table, SeriesError> {
        let path = path.as_ref();
        let sheet = Sheet::read(Source::new(path), read(path)?, options)?;
        let names = sheet.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Table { sheet, names })
    }

    /// The number of rows, without the header.
    pub fn rows(&self) -> usize {
        self.sheet.rows()
    }

    /// The names of the columns; `1`, `2`, ... if the file names none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns whose cells are mostly numbers, in the file's order.
    pub fn numeric_names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.sheet.numeric().map(|column| self.sheet.name(column))
    }

    /// The cells of the first column of dates, one per row.
    pub fn dates(&self) -> Option<Vec<String>> {
        let column = self.date_column()?;
        Some((0..self.rows()).map(|row| one_line(self.sheet.cell(row, column))).collect())
    }

    fn date_column(&self) -> Option<usize> {
        self.sheet.columns.iter().position(|column| column.kind == Kind::Date)
    }

    /// A column's values, in the order of the rows.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when there is no such column or it does not hold numbers; [`SeriesError::Cell`], with
    /// line and column, for a cell that is not a number, has two readings, or is missing and cannot be filled as `how`
    /// says.
    pub fn numbers(&self, name: &str, how: Fill) -> Result<Vec<f64>, SeriesError> {
        let column = self.sheet.find(name)?;
        self.sheet.check_numeric(column)?;
        let mut values = self.sheet.numbers(column)?;
        let missing = values.iter().filter(|value| value.is_nan()).count();
        fill(&mut values, how).map_err(|(row, why)| {
            let more = if missing == 1 { "the only one".into() } else { format!("{missing} in all") };
            let problem = if why.is_empty() {
                format!(
                    "the cell is missing ({more}); fill in a number, or ask for a fill: previous or linear"
                )
            } else {
                format!("the cell is missing and {why}; remove the line")
            };
            self.sheet.error(row, column, problem)
        })?;
        Ok(values)
    }

    /// A column's values, in the order of the rows, NaN where one is missing.
    ///
    /// # Errors
    /// Those of [`Table::numbers`], except about missing cells.
    pub fn numbers_or_nan(&self, name: &str) -> Result<Vec<f64>, SeriesError> {
        let column = self.sheet.find(name)?;
        self.sheet.check_numeric(column)?;
        self.sheet.numbers(column)
    }

    /// A column's cells as text, in the order of the rows; `None` where one is missing.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when there is no such column.
    pub fn texts(&self, name: &str) -> Result<Vec<Option<&str>>, SeriesError> {
        let column = self.place(name)?;
        Ok((0..self.rows()).map(|row| self.cell(row, column)).collect())
    }

    /// The cell of a row, counted from 0, as text; `None` if it is missing.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when there is no such column.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn text(&self, row: usize, name: &str) -> Result<Option<&str>, SeriesError> {
        Ok(self.cell(row, self.place(name)?))
    }

    /// The character between cells; a comma where the file has none or spaces.
    pub fn delimiter(&self) -> char {
        match self.sheet.dialect.delimiter {
            Delimiter::Char(byte) => char::from(byte),
            Delimiter::Spaces | Delimiter::None => ',',
        }
    }

    /// The decimal mark of a column of numbers, and the most decimals in it.
    ///
    /// # Errors
    /// Those of [`Table::numbers_or_nan`].
    pub fn decimals(&self, name: &str) -> Result<(char, usize), SeriesError> {
        let column = self.sheet.find(name)?;
        let mark = self.sheet.format(column)?.decimal;
        let decimals = |row| {
            let cell = self.cell(row, column)?;
            let after = &cell[cell.find(mark)? + mark.len_utf8()..];
            Some(after.bytes().take_while(u8::is_ascii_digit).count())
        };
        Ok((mark, (0..self.rows()).filter_map(decimals).max().unwrap_or(0)))
    }

    fn cell(&self, row: usize, column: usize) -> Option<&str> {
        Some(self.sheet.cell(row, column).trim()).filter(|cell| !self.sheet.is_missing(cell))
    }

    fn place(&self, name: &str) -> Result<usize, SeriesError> {
        let normal = one_line(name);
        self.names.iter().position(|found| *found == normal).ok_or_else(|| {
            self.problem(format!("there is no column {normal}; the columns are {}", self.names.join(", ")))
        })
    }

    /// An error about the table as a whole, with its path.
    pub fn problem(&self, problem: impl Into<String>) -> SeriesError {
        self.sheet.source.table(problem)
    }

    /// An error about the cell of a row, counted from 0, and a column, with its line in the file.
    ///
    /// # Panics
    /// If there is no such row or column.
    pub fn cell_problem(&self, row: usize, name: &str, problem: impl Into<String>) -> SeriesError {
        let column = self.names.iter().position(|found| found == name).expect("the column was read before");
        self.sheet.error(row, column, problem)
    }

    /// The last column of numbers, the one to forecast if the user names none.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when no column holds numbers.
    pub fn last_numeric_name(&self) -> Result<&str, SeriesError> {
        self.numeric_names().next_back().ok_or_else(|| {
            self.sheet.source.table(format!("no column holds numbers; found {}", self.names.join(", ")))
        })
    }

    /// Refuses dates that go backwards: a table with its newest row first would silently be forecast backwards. Only
    /// dates that begin with the year, which sort as text, are checked.
    fn check_dates(&self) -> Result<(), SeriesError> {
        let Some(column) = self.date_column() else { return Ok(()) };
        let year_first = |cell: &str| {
            let digits = cell.bytes().take_while(u8::is_ascii_digit).count();
            digits == 4 && cell.as_bytes().get(4).is_some_and(|separator| b"-/.".contains(separator))
        };
        for row in 1..self.rows() {
            let [earlier, later] = [row - 1, row].map(|row| self.sheet.cell(row, column));
            let comparable = year_first(earlier) && year_first(later) && earlier.len() == later.len();
            if comparable && later < earlier {
                let problem = format!("{later} comes after {earlier}; sort the rows by date, oldest first");
                return Err(self.sheet.error(row, column, problem));
            }
        }
        Ok(())
    }
}
