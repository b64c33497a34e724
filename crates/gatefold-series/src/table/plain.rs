use crate::SeriesError;
use std::path::{Path, PathBuf};
use std::{fs, str};

/// The format of a table, where it should not be detected.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    delimiter: Option<u8>,
    header: Option<bool>,
}

impl TableOptions {
    /// Detects the delimiter and the header from the file's first lines.
    pub fn new() -> Self {
        TableOptions::default()
    }

    /// The character between cells. By default, whichever of comma, semicolon, tab and bar splits the first lines
    /// into equally many cells.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = Some(delimiter);
        self
    }

    /// Whether the first line names the columns. By default it does if none of its cells is a number or a date.
    pub fn header(mut self, header: bool) -> Self {
        self.header = Some(header);
        self
    }
}

/// Values for missing cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// No value: the first missing cell is an error that names it.
    #[default]
    Refuse,
    /// The value before, which is all that was known at that moment.
    Previous,
    /// Linear interpolation between the neighbours. It looks ahead, so errors measured at such cells are too small.
    Linear,
    /// Zero, for counts of what did not happen.
    Zero,
}

/// The rows of a CSV file. Cells stay text until a column is read as numbers, so a bad cell in an unused column does
/// no harm.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    names: Vec<String>,
    rows: Vec<Vec<String>>,
    lines: Vec<usize>, // each row's line in the file, from 1
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Date,
    Text,
}

/// Cells that mean "no value": the empty cell and the markers of R, Python, SQL and spreadsheets.
const MISSING: [&str; 11] = ["", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", ".", "?"];
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

impl Table {
    /// Reads a CSV file in UTF-8, with or without a byte order mark, with Unix or Windows line ends.
    ///
    /// # Errors
    /// [`SeriesError::Io`] when it cannot be read, [`SeriesError::Table`] when it is empty or not text,
    /// [`SeriesError::Cell`] for text that is not UTF-8, a line with more or fewer cells than the first, or dates that
    /// go backwards.
    pub fn read(path: impl AsRef<Path>, options: &TableOptions) -> Result<Table, SeriesError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|error| SeriesError::io(path, &error))?;
        let refuse = |problem: &str| SeriesError::Table { path: path.into(), problem: problem.into() };
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(refuse("the file is UTF-16; save it as CSV in UTF-8"));
        }
        let text = str::from_utf8(&bytes).map_err(|error| SeriesError::Cell {
            path: path.into(),
            line: line_of(&bytes, error.valid_up_to()),
            column: None,
            problem: "not UTF-8 text; save the table as CSV in UTF-8".into(),
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.contains('\0') {
            return Err(refuse("this is not text; expected a CSV file"));
        }
        let delimiter = options.delimiter.unwrap_or_else(|| found_delimiter(text));
        let mut table = Table::parse(path, text, delimiter)?;
        if table.rows.is_empty() {
            return Err(refuse("the table is empty; expected a line of names and rows of values"));
        }
        let first_is_header = |row: &[String]| row.iter().all(|cell| !is_number(cell) && !is_date(cell));
        if options.header.unwrap_or_else(|| first_is_header(&table.rows[0])) {
            table.names = unique_names(table.rows.remove(0));
            table.lines.remove(0);
        } else {
            table.names = (1..=table.rows[0].len()).map(|number| number.to_string()).collect();
        }
        if table.rows.is_empty() {
            return Err(refuse("the table has a line of names and no rows; add the values below it"));
        }
        table.kinds = (0..table.names.len()).map(|column| table.kind(column)).collect();
        table.check_dates()?;
        Ok(table)
    }

    fn parse(path: &Path, text: &str, delimiter: u8) -> Result<Table, SeriesError> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true) // our own error about a ragged row names the line
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let (mut rows, mut lines) = (Vec::<Vec<String>>::new(), Vec::new());
        let mut next_line = LineCounter::new(text.as_bytes());
        for record in reader.records() {
            let record = record
                .map_err(|error| SeriesError::Table { path: path.into(), problem: error.to_string() })?;
            let start = record.position().map_or(0, |position| position.byte() as usize);
            let line = next_line.line_of_record_at(start);
            if let Some(first) = rows.first()
                && first.len() != record.len()
            {
                let cells =
                    |count: usize| if count == 1 { "1 cell".into() } else { format!("{count} cells") };
                return Err(SeriesError::Cell {
                    path: path.into(),
                    line,
                    column: None,
                    problem: format!(
                        "{}; expected {} as in line {}; add the missing delimiter or quote the cell",
                        cells(record.len()),
                        first.len(),
                        lines[0]
                    ),
                });
            }
            // The reader skips blank lines. In a table of one column, a blank line between two rows is a missing cell.
            if let (1, Some(&last)) = (record.len(), lines.last()) {
                for blank in last + 1..line {
                    rows.push(vec![String::new()]);
                    lines.push(blank);
                }
            }
            rows.push(record.iter().map(str::to_owned).collect());
            lines.push(line);
        }
        Ok(Table { path: path.into(), names: Vec::new(), rows, lines, kinds: Vec::new() })
    }

    /// The number of rows, without the header.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The names of the columns; `1`, `2`, ... if the file names none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The columns whose cells are mostly numbers, in the file's order.
    pub fn numeric_names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.names
            .iter()
            .zip(&self.kinds)
            .filter(|(_, kind)| **kind == Kind::Number)
            .map(|(name, _)| name.as_str())
    }

    /// The cells of the first column of dates, one per row.
    pub fn dates(&self) -> Option<Vec<String>> {
        let column = self.kinds.iter().position(|kind| *kind == Kind::Date)?;
        Some(self.rows.iter().map(|row| row[column].clone()).collect())
    }

    /// A column's values, oldest first.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when there is no such column or it does not hold numbers; [`SeriesError::Cell`], with
    /// line and column, for a cell that is not a number, or is missing and cannot be filled as `fill` says.
    pub fn numbers(&self, name: &str, fill: Fill) -> Result<Vec<f64>, SeriesError> {
        let choice = || match self.numeric_names().collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => "no column of this table holds numbers".into(),
            names => format!("columns of numbers: {names}"),
        };
        let refuse = |problem: String| SeriesError::Table { path: self.path.clone(), problem };
        let column = self
            .names
            .iter()
            .position(|found| found == name)
            .ok_or_else(|| refuse(format!("there is no column {name}; {}", choice())))?;
        if self.kinds[column] != Kind::Number {
            let what = if self.kinds[column] == Kind::Date { "dates" } else { "text" };
            let shown = self.rows.iter().map(|row| &row[column]).find(|cell| !is_missing(cell));
            let shown = shown.map_or_else(String::new, |cell| format!(", such as '{}'", shortened(cell)));
            return Err(refuse(format!("column {name} holds {what}{shown}; {}", choice())));
        }
        let mut values = Vec::with_capacity(self.rows.len());
        for (row, line) in self.rows.iter().zip(&self.lines) {
            let cell = &row[column];
            values.push(if is_missing(cell) {
                None
            } else {
                Some(parse_number(cell).ok_or_else(|| self.cell_error(*line, name, not_a_number(cell)))?)
            });
        }
        self.filled(name, &values, fill)
    }

    /// The last column of numbers, the one to forecast if the user names none.
    ///
    /// # Errors
    /// [`SeriesError::Table`] when no column holds numbers.
    pub fn last_numeric_name(&self) -> Result<&str, SeriesError> {
        self.numeric_names().next_back().ok_or_else(|| SeriesError::Table {
            path: self.path.clone(),
            problem: format!("no column holds numbers; found {}", self.names.join(", ")),
        })
    }

    fn filled(&self, name: &str, values: &[Option<f64>], fill: Fill) -> Result<Vec<f64>, SeriesError> {
        let missing = values.iter().filter(|value| value.is_none()).count();
        let refuse = |row: usize, problem: String| Err(self.cell_error(self.lines[row], name, problem));
        let mut known = values.iter().enumerate().filter_map(|(row, value)| value.map(|value| (row, value)));
        let (Some(first), Some(first_missing)) = (known.next(), values.iter().position(Option::is_none))
        else {
            return Ok(values.iter().map(|value| value.unwrap_or(f64::NAN)).collect());
        };
        let last = known.next_back().unwrap_or(first);
        match fill {
            Fill::Refuse => {
                let more = if missing == 1 { "the only one".into() } else { format!("{missing} in all") };
                return refuse(
                    first_missing,
                    format!(
                        "the cell is missing ({more}); fill in a number, or ask for a fill: previous or linear"
                    ),
                );
            }
            Fill::Previous | Fill::Linear if first.0 > 0 => {
                return refuse(0, "the cell is missing and no value comes before it; remove the line".into());
            }
            Fill::Linear if last.0 + 1 < values.len() => {
                let problem = "the cell is missing and no value comes after it; remove the line";
                return refuse(last.0 + 1, problem.into());
            }
            Fill::Previous | Fill::Linear | Fill::Zero => {}
        }
        let mut out = Vec::with_capacity(values.len());
        let mut before = first;
        for (row, value) in values.iter().enumerate() {
            let value = match (value, fill) {
                (Some(value), _) => *value,
                (None, Fill::Linear) => {
                    let after = (row..values.len()).find_map(|at| values[at].map(|value| (at, value)));
                    let (at, value) = after.unwrap_or(before); // there is one: checked above
                    before.1 + (value - before.1) * (row - before.0) as f64 / (at - before.0) as f64
                }
                (None, Fill::Zero) => 0.0,
                (None, _) => before.1,
            };
            if values[row].is_some() {
                before = (row, value);
            }
            out.push(value);
        }
        Ok(out)
    }

    fn cell_error(&self, line: usize, column: &str, problem: String) -> SeriesError {
        SeriesError::Cell { path: self.path.clone(), line, column: Some(column.into()), problem }
    }

    fn kind(&self, column: usize) -> Kind {
        let present = self.rows.iter().map(|row| row[column].as_str()).filter(|cell| !is_missing(cell));
        let (mut numbers, mut dates, mut texts) = (0, 0, 0);
        for cell in present {
            match () {
                () if is_number(cell) => numbers += 1,
                () if is_date(cell) => dates += 1,
                () => texts += 1,
            }
        }
        // The majority decides, so that one bad cell in a column of numbers is reported by name.
        match () {
            () if numbers > 0 && numbers >= dates.max(texts) => Kind::Number,
            () if dates > 0 && dates >= texts => Kind::Date,
            () => Kind::Text,
        }
    }

    /// Refuses dates that go backwards: a table with its newest row first would silently be forecast backwards. Only
    /// dates that begin with the year, which sort as text, are checked.
    fn check_dates(&self) -> Result<(), SeriesError> {
        let Some(column) = self.kinds.iter().position(|kind| *kind == Kind::Date) else { return Ok(()) };
        let year_first = |cell: &str| {
            let digits = cell.bytes().take_while(u8::is_ascii_digit).count();
            digits == 4 && cell.as_bytes().get(4).is_some_and(|separator| b"-/.".contains(separator))
        };
        for (row, pair) in self.rows.windows(2).enumerate() {
            let (earlier, later) = (&pair[0][column], &pair[1][column]);
            let comparable = year_first(earlier) && year_first(later) && earlier.len() == later.len();
            if comparable && later < earlier {
                return Err(self.cell_error(
                    self.lines[row + 1],
                    &self.names[column],
                    format!("{later} comes after {earlier}; sort the rows by date, oldest first"),
                ));
            }
        }
        Ok(())
    }
}

fn is_missing(cell: &str) -> bool {
    cell.len() <= 4 && MISSING.iter().any(|marker| cell.eq_ignore_ascii_case(marker))
}

/// A finite number; `inf` and `nan` count as text.
fn parse_number(cell: &str) -> Option<f64> {
    let numeric = cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !numeric {
        return None;
    }
    cell.parse().ok().filter(|value: &f64| value.is_finite())
}

fn is_number(cell: &str) -> bool {
    parse_number(cell).is_some()
}

/// Whether a cell looks like a date: `2012-01-31`, `1749-01`, `31.12.2015`, `12/31/2015`, `2012-01-01T06:00:00Z`,
/// `2012Q1`. It begins with a digit, has at least five characters, and holds only digits and date separators.
fn is_date(cell: &str) -> bool {
    cell.len() >= 5
        && cell.as_bytes()[0].is_ascii_digit()
        && !is_number(cell)
        && cell.bytes().all(|byte| byte.is_ascii_digit() || b"-/.:TZQqWM+ ".contains(&byte))
        && cell.bytes().filter(u8::is_ascii_digit).count() >= 4
}

fn not_a_number(cell: &str) -> String {
    let shown = shortened(cell);
    if is_number(&cell.replacen(',', ".", 1)) {
        return format!("'{shown}' is not a number; write it with a decimal point");
    }
    format!("'{shown}' is not a number; correct the cell, or leave it empty if the value is missing")
}

fn shortened(cell: &str) -> String {
    if cell.chars().count() > 24 { cell.chars().take(21).chain("...".chars()).collect() } else { cell.into() }
}

/// The delimiter that splits the first lines into equally many cells, preferably many.
fn found_delimiter(text: &str) -> u8 {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(20).collect();
    let cells = |line: &str, delimiter: u8| {
        let mut quoted = false;
        line.bytes()
            .filter(|&byte| {
                quoted ^= byte == b'"';
                byte == delimiter && !quoted
            })
            .count()
    };
    let score = |delimiter: u8| {
        let counts: Vec<usize> = lines.iter().map(|line| cells(line, delimiter)).collect();
        let even = counts.windows(2).all(|pair| pair[0] == pair[1]);
        (counts.first().is_some_and(|count| *count > 0), even, counts.first().copied().unwrap_or(0))
    };
    // max_by_key keeps the last of several equals: reversed, so that the comma wins.
    DELIMITERS.into_iter().rev().max_by_key(|delimiter| score(*delimiter)).unwrap_or(b',')
}

fn unique_names(names: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let name = if name.is_empty() { (index + 1).to_string() } else { name };
        out.push(if out.contains(&name) { format!("{name} ({})", index + 1) } else { name });
    }
    out
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Line numbers of records at increasing offsets. The reader's own count would give the blank line before a record.
struct LineCounter<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        LineCounter { bytes, at: 0, line: 1 }
    }

    fn line_of_record_at(&mut self, start: usize) -> usize {
        let blank = self.bytes[start..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
        let start = start + blank;
        self.line += line_of(&self.bytes[self.at..], start - self.at) - 1;
        self.at = start;
        self.line
    }
}
