use crate::calendar::Frequency;
use crate::table::{Delimiter, Encoding};
use crate::{Fill, SeriesError};
use std::str::FromStr;

/// The value of a moment with several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aggregate {
    /// The mean of the rows' values.
    Mean,
    /// The sum of the rows' values.
    Sum,
    /// The value of the row that comes first in the file.
    First,
    /// The value of the row that comes last in the file.
    Last,
}

impl FromStr for Aggregate {
    type Err = SeriesError;

    fn from_str(name: &str) -> Result<Self, SeriesError> {
        match name {
            "mean" => Ok(Aggregate::Mean),
            "sum" => Ok(Aggregate::Sum),
            "first" => Ok(Aggregate::First),
            "last" => Ok(Aggregate::Last),
            _ => Err(SeriesError::Series(format!("--agg is mean, sum, first or last; found '{name}'"))),
        }
    }
}

/// The direction in which the series of a table run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// A row is a moment; an id column may tell several series apart.
    Long,
    /// A row is a moment, and each column of numbers is a series of its own.
    Wide,
    /// A row is a whole series, oldest value first; the columns that come before the values say which.
    Rows,
}

impl FromStr for Layout {
    type Err = SeriesError;

    fn from_str(name: &str) -> Result<Self, SeriesError> {
        match name {
            "long" => Ok(Layout::Long),
            "wide" => Ok(Layout::Wide),
            "rows" => Ok(Layout::Rows),
            _ => Err(SeriesError::Series(format!("--layout is long, wide or rows; found '{name}'"))),
        }
    }
}

/// Facts about a table that should not be found out. An option that contradicts the table is refused.
///
/// Messages call the options by the names that the command gives them: `--decimal` is [`ReadOptions::decimal`].
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    pub(crate) encoding: Option<Encoding>,
    pub(crate) delimiter: Option<Delimiter>,
    pub(crate) decimal: Option<char>,
    pub(crate) thousands: Option<char>,
    pub(crate) header: Option<bool>,
    pub(crate) skip: Option<usize>,
    pub(crate) comment: Option<String>,
    pub(crate) no_time: bool,
    pub(crate) time: Vec<String>,
    pub(crate) time_format: Option<String>,
    pub(crate) zone: Option<String>,
    pub(crate) freq: Option<Frequency>,
    pub(crate) targets: Vec<String>,
    pub(crate) ids: Vec<String>,
    pub(crate) past: Vec<String>,
    pub(crate) future: Vec<String>,
    pub(crate) fill: Fill,
    pub(crate) aggregate: Option<Aggregate>,
    pub(crate) na: Vec<String>,
    pub(crate) layout: Option<Layout>,
}

fn owned<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Vec<String> {
    names.into_iter().map(Into::into).collect()
}

impl ReadOptions {
    /// Finds everything out; refuses missing values, gaps and duplicates.
    pub fn new() -> Self {
        ReadOptions::default()
    }

    /// The encoding of the text. By default UTF-8, UTF-16 if the file begins with its mark, or else a guess, which is reported.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// The character between cells. By default whichever splits the lines best.
    pub fn delimiter(mut self, delimiter: Delimiter) -> Self {
        self.delimiter = Some(delimiter);
        self
    }

    /// The decimal mark: a point or a comma. The other one then separates thousands, unless [`ReadOptions::thousands`]
    /// says otherwise.
    pub fn decimal(mut self, mark: char) -> Self {
        self.decimal = Some(mark);
        self
    }

    /// The mark between thousands: a point, a comma, a space or an apostrophe.
    pub fn thousands(mut self, mark: char) -> Self {
        self.thousands = Some(mark);
        self
    }

    /// Whether the first line, after those skipped, names the columns.
    pub fn header(mut self, header: bool) -> Self {
        self.header = Some(header);
        self
    }

    /// The number of lines above the names.
    pub fn skip(mut self, lines: usize) -> Self {
        self.skip = Some(lines);
        self
    }

    /// The characters that begin a line to ignore. By default `#` if the file begins with such a line.
    pub fn comment(mut self, start: impl Into<String>) -> Self {
        self.comment = Some(start.into());
        self
    }

    /// The columns that hold the time; several, such as `year` and `month`, are read as one.
    pub fn time<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.time = owned(columns);
        self
    }

    /// Takes the rows as evenly spaced, oldest first, whatever their dates say.
    pub fn no_time(mut self) -> Self {
        self.no_time = true;
        self
    }

    /// The format of the times, in the notation of `strftime`: `%d.%m.%y %H:%M`. Besides the usual `%Y %y %m %d %b %H
    /// %I %M %S %f %p %z`, `%q` is the quarter, `%V` and `%u` the ISO week and its day, and `%s` seconds since 1970.
    pub fn time_format(mut self, format: impl Into<String>) -> Self {
        self.time_format = Some(format.into());
        self
    }

    /// The time zone of the clock that the table was written by, such as `Europe/Berlin`.
    pub fn zone(mut self, name: impl Into<String>) -> Self {
        self.zone = Some(name.into());
        self
    }

    /// The time from one row to the next.
    pub fn freq(mut self, frequency: Frequency) -> Self {
        self.freq = Some(frequency);
        self
    }

    /// The columns to forecast. By default the last column of numbers that is no time, id, row number or constant.
    pub fn targets<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.targets = owned(names);
        self
    }

    /// The columns that tell several series apart. By default they are looked for if times repeat.
    pub fn ids<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.ids = owned(names);
        self
    }

    /// The columns that are known up to the newest sample, as measurements are. They must be complete up to it, or are
    /// filled.
    pub fn past_covariates<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.past = owned(names);
        self
    }

    /// The columns that are known ahead, such as holidays. They must be complete in every row, those after the last sample
    /// too, or are filled. If none are named, neither these nor past ones, the columns are taken that are complete in rows
    /// after the last sample.
    pub fn future_covariates<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.future = owned(names);
        self
    }

    /// The covariates asked for, the past ones first; `None` if nothing was said.
    pub(crate) fn covariates(&self) -> Option<impl Iterator<Item = &String>> {
        let all = self.past.iter().chain(&self.future);
        (!self.past.is_empty() || !self.future.is_empty()).then_some(all)
    }

    /// Values for missing cells and absent rows.
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }

    /// Makes one value of several rows of the same moment; with [`ReadOptions::freq`], of the same period.
    pub fn aggregate(mut self, aggregate: Aggregate) -> Self {
        self.aggregate = Some(aggregate);
        self
    }

    /// Further cells that mean "no value", such as `-999`.
    pub fn na<S: Into<String>>(mut self, markers: impl IntoIterator<Item = S>) -> Self {
        self.na = owned(markers);
        self
    }

    /// The direction in which the series run. By default rows are moments, except below a header of dates or of
    /// numbered names (`V2`, `V3`, ...) after a column of ids.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }
}
