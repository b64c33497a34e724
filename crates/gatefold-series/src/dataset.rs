//! Series with their calendar, read from a table.

mod digit_dates;
mod group;
mod long_days;
mod mixed_time;
mod moments;
mod number_time;
mod options;
mod parts;
mod periods;
mod pivot;
mod pivot_parts;
mod regular;
mod report;
mod roles;
mod time;
mod time_names;
mod unread;
mod wide;

pub use options::{Aggregate, Layout, ReadOptions};
pub use report::TableReport;

use crate::table::sheet::Sheet;
use crate::table::source::{Source, read};
use crate::{Calendar, Covariates, SeriesError};
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// The value of a column that does not change within a series.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StaticValue {
    /// A number.
    Number(f64),
    /// Any other text.
    Text(String),
}

impl fmt::Display for StaticValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StaticValue::Number(value) => write!(f, "{value}"),
            StaticValue::Text(text) => f.write_str(text),
        }
    }
}

/// One series: evenly spaced samples without gaps, oldest first.
#[derive(Clone, Debug)]
pub struct Series {
    pub(crate) id: Option<String>,
    pub(crate) start: i64,
    pub(crate) targets: Vec<Vec<f64>>,
    pub(crate) made_up: Vec<Vec<usize>>,            // of each target
    pub(crate) covariates: Vec<Vec<f64>>,           // samples, then future
    pub(crate) covariates_made_up: Vec<Vec<usize>>, // of each
    pub(crate) statics: Vec<StaticValue>,
    pub(crate) future: usize,
}

impl Series {
    /// The id; `None` if the table is one series.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The position of the first sample on the calendar.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The number of samples, all with a value of every target.
    #[allow(clippy::len_without_is_empty, reason = "a series without samples is refused")]
    pub fn len(&self) -> usize {
        self.targets.first().map_or(0, Vec::len)
    }

    /// The samples of a target, by its place in [`Dataset::targets`]. All are finite.
    pub fn target(&self, index: usize) -> &[f64] {
        &self.targets[index]
    }

    /// The places of the samples of a target that the table does not have, in order: those that the fill made up.
    pub fn made_up(&self, index: usize) -> &[usize] {
        &self.made_up[index]
    }

    /// A covariate at the samples, by its place in [`Dataset::covariates`]. NaN is a missing value; there is none if
    /// the covariate was asked for by name.
    pub fn covariate(&self, index: usize) -> &[f64] {
        &self.covariates[index][..self.len()]
    }

    /// The number of moments after the last sample that the table has rows for.
    pub fn future_len(&self) -> usize {
        self.future
    }

    /// A covariate at the moments after the last sample.
    pub fn future_covariate(&self, index: usize) -> &[f64] {
        &self.covariates[index][self.len()..]
    }

    /// The values of the columns that do not change within a series, in the order of [`Dataset::statics`].
    pub fn statics(&self) -> &[StaticValue] {
        &self.statics
    }
}

/// The series of a table, on one calendar.
///
/// ```
/// use gatefold_series::{Dataset, ReadOptions};
///
/// let table = "date;y\n2024-02-28;1,5\n2024-02-27;2\n2024-02-29;3\n";
/// let data = Dataset::from_bytes("t.csv", table.into(), &ReadOptions::new())?;
/// assert_eq!(data.series()[0].target(0), [2.0, 1.5, 3.0]);
/// assert_eq!(data.calendar().label(3), "2024-03-01");
/// # Ok::<(), gatefold_series::SeriesError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) series: Vec<Series>,
    pub(crate) targets: Vec<String>,
    pub(crate) ids: Vec<String>, // columns
    pub(crate) in_columns: bool, // whether a target is a column
    pub(crate) covariates: Vec<String>,
    pub(crate) past: Range<usize>, // places among the covariates
    pub(crate) future: Vec<usize>, // likewise
    pub(crate) statics: Vec<String>,
    pub(crate) calendar: Calendar,
    pub(crate) report: TableReport,
}

impl Dataset {
    /// Reads a table from a file, or from standard input if the path is `-`. Gzip is inflated.
    ///
    /// # Errors
    /// [`SeriesError::Io`] when the file cannot be read. [`SeriesError::Table`] and [`SeriesError::Cell`] when the
    /// table is empty, ragged or not text, when anything in it has two readings, or when options contradict it; when
    /// values or rows are missing and no fill is asked for; and when rows repeat and nothing tells them apart.
    pub fn read(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Dataset, SeriesError> {
        let path = path.as_ref();
        Dataset::of_source(Source::new(path), read(path)?, options)
    }

    /// Reads a table from the bytes of a file; `name` stands for it in messages.
    ///
    /// # Errors
    /// Those of [`Dataset::read`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>, options: &ReadOptions) -> Result<Dataset, SeriesError> {
        Dataset::of_source(Source::new(Path::new(name)), bytes, options)
    }

    fn of_source(source: Source, bytes: Vec<u8>, options: &ReadOptions) -> Result<Dataset, SeriesError> {
        let sheet = Sheet::read(source, bytes, options)?;
        if let Some(values) = wide::find(&sheet, options)? {
            return wide::dataset(&sheet, &values, options);
        }
        match pivot::find(&sheet, options)? {
            Some(pivot) => pivot::dataset(&sheet, &pivot, options),
            None => group::dataset(&sheet, options),
        }
    }

    /// The series, in the order in which the table first names them; at least one.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The names of the columns to forecast.
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// The columns that hold the targets: their names, or none if the samples of a series are spread over columns, or each
    /// column is a series.
    pub fn target_columns(&self) -> &[String] {
        if self.in_columns { &self.targets } else { &[] }
    }

    /// The columns that tell series apart; none if the table is one series, or no column names them.
    pub fn id_columns(&self) -> &[String] {
        &self.ids
    }

    /// The names of the other columns of numbers.
    pub fn covariates(&self) -> &[String] {
        &self.covariates
    }

    /// The names of the covariates that are known up to the newest sample.
    pub fn past_covariates(&self) -> &[String] {
        &self.covariates[self.past.clone()]
    }

    /// The names of the covariates that are known ahead.
    pub fn future_covariates(&self) -> Vec<&str> {
        self.future.iter().map(|column| self.covariates[*column].as_str()).collect()
    }

    /// The past and future covariates of a series, by its place in [`Dataset::series`].
    pub fn covariates_of(&self, series: usize) -> Covariates {
        let columns = &self.series[series].covariates;
        Covariates {
            past: columns[self.past.clone()].to_vec(),
            future: self.future.iter().map(|column| columns[*column].clone()).collect(),
        }
    }

    /// The places of the values of each past covariate of a series that the table does not have, in order: those that the fill
    /// made up.
    pub fn past_made_up(&self, series: usize) -> impl Iterator<Item = &[usize]> + Clone {
        self.series[series].covariates_made_up[self.past.clone()].iter().map(Vec::as_slice)
    }

    /// The names of the columns that do not change within a series; none if the table is one series.
    pub fn statics(&self) -> &[String] {
        &self.statics
    }

    /// The calendar of all series.
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// The facts found out about the table.
    pub fn report(&self) -> &TableReport {
        &self.report
    }
}
