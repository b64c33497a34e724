//! The options for reading a table, shared by the commands that do.

use crate::failure::Failure;
use gatefold_series::{Aggregate, Dataset, Delimiter, Encoding, Fill, Frequency, Layout, ReadOptions, Table};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to read the table. Everything is found out by itself; an option says otherwise.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Reading the table")]
pub(crate) struct TableArguments {
    /// The columns to forecast, separated by commas; a comma in a name is written '\,' [default: the last one that
    /// holds numbers]
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) target: Vec<String>,
    /// Columns that are known up to the newest sample, separated by commas
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) past: Vec<String>,
    /// Columns that are known ahead, separated by commas; rows after the last sample have their future [default: those
    /// that such rows have]
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) future: Vec<String>,
    /// The columns that tell several series apart
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) id: Vec<String>,
    /// The columns that hold the time, or none if the rows are evenly spaced, oldest first
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) time: Vec<String>,
    /// The format of the times, as strftime writes it: '%d.%m.%Y %H:%M'
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_format: Option<String>,
    /// The time zone of the table's clock, such as Europe/Berlin
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// The time from row to row, such as 15min, h, d, b (business days), w, m, q, y
    #[arg(long, value_name = "STEP")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) freq: Option<String>,
    /// How to fill missing cells and rows: refuse, previous, zero, or linear, which looks ahead [default: refuse]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fill: Option<FillChoice>,
    /// The value of a moment with several rows: mean, sum, first, last [default: refuse]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agg: Option<String>,
    /// The direction of the series: long (a row is a moment), wide (each column is one), rows (each row is one)
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) format: FormatArguments,
}

/// The format of the file. Everything is found out by itself; an option says otherwise.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
#[command(next_help_heading = "Reading the table")]
pub(crate) struct FormatArguments {
    /// The character between cells, or spaces, or none
    #[arg(long, value_name = "CHAR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delimiter: Option<String>,
    /// The decimal mark: . or ,
    #[arg(long, value_name = "CHAR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decimal: Option<char>,
    /// The mark between thousands
    #[arg(long, value_name = "CHAR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thousands: Option<char>,
    /// Whether the first line names the columns: yes or no
    #[arg(long, value_name = "YES|NO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<Answer>,
    /// Lines above the names
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) skip: Option<usize>,
    /// The characters that begin a line to ignore
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    /// Further cells that mean "no value", such as -999
    #[arg(long, value_name = "CELLS", value_delimiter = ',', allow_hyphen_values = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) na: Vec<String>,
    /// The encoding of the text, such as utf-8, utf-16le, windows-1250, mac-roman, shift-jis, gbk
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoding: Option<String>,
}

/// How to fill missing cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FillChoice {
    /// not at all: a missing cell is an error
    Refuse,
    /// with the value before
    Previous,
    /// on a line between the values before and after, which looks ahead
    Linear,
    /// with zero, for counts of what did not happen
    Zero,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// yes
    Yes,
    /// no
    No,
}

impl TableArguments {
    /// Reads the table.
    pub(crate) fn read(&self, path: &Path) -> Result<Dataset, Failure> {
        Ok(Dataset::read(path, &self.options()?)?)
    }

    /// States the targets and ids that were found, so that another table is read alike.
    pub(crate) fn settle(&mut self, dataset: &Dataset) {
        for (asked, found) in
            [(&mut self.target, dataset.target_columns()), (&mut self.id, dataset.id_columns())]
        {
            if !found.is_empty() {
                *asked = found.to_vec();
            }
        }
    }

    fn options(&self) -> Result<ReadOptions, Failure> {
        let mut options = ReadOptions::new();
        if !self.target.is_empty() {
            options = options.targets(names(&self.target));
        }
        if !self.past.is_empty() {
            options = options.past_covariates(names(&self.past));
        }
        if !self.future.is_empty() {
            options = options.future_covariates(names(&self.future));
        }
        if !self.id.is_empty() {
            options = options.ids(names(&self.id));
        }
        match names(&self.time).as_slice() {
            [] => {}
            [none] if none == "none" => options = options.no_time(),
            columns => options = options.time(columns.iter().cloned()),
        }
        if let Some(format) = &self.time_format {
            options = options.time_format(format.clone());
        }
        if let Some(zone) = &self.zone {
            options = options.zone(zone.clone());
        }
        if let Some(step) = &self.freq {
            options = options.freq(parsed::<Frequency>(step)?);
        }
        if let Some(fill) = self.fill {
            options = options.fill(match fill {
                FillChoice::Refuse => Fill::Refuse,
                FillChoice::Previous => Fill::Previous,
                FillChoice::Linear => Fill::Linear,
                FillChoice::Zero => Fill::Zero,
            });
        }
        if let Some(how) = &self.agg {
            options = options.aggregate(parsed::<Aggregate>(how)?);
        }
        if let Some(how) = &self.layout {
            options = options.layout(parsed::<Layout>(how)?);
        }
        self.format.add_to(options)
    }
}

impl FormatArguments {
    /// Reads a table whose rows may come in any order.
    pub(crate) fn read_rows(&self, path: &Path) -> Result<Table, Failure> {
        Ok(Table::read_rows(path, &self.add_to(ReadOptions::new())?)?)
    }

    /// The table as evenly spaced series, if it can be read so; `None` for standard input, which is read once.
    pub(crate) fn evenly_spaced(&self, path: &Path, ids: &[String], channels: &[String]) -> Option<Dataset> {
        let options = self.add_to(ReadOptions::new()).ok()?;
        let options = options.ids(ids.iter().cloned()).targets(channels.iter().cloned()).fill(Fill::Linear);
        if path == Path::new("-") { None } else { Dataset::read(path, &options).ok() }
    }

    fn add_to(&self, mut options: ReadOptions) -> Result<ReadOptions, Failure> {
        if let Some(text) = &self.delimiter {
            options = options.delimiter(parsed::<Delimiter>(text)?);
        }
        if let Some(mark) = self.decimal {
            options = options.decimal(mark);
        }
        if let Some(mark) = self.thousands {
            options = options.thousands(mark);
        }
        if let Some(answer) = self.header {
            options = options.header(answer == Answer::Yes);
        }
        if let Some(lines) = self.skip {
            options = options.skip(lines);
        }
        if let Some(start) = &self.comment {
            options = options.comment(start.clone());
        }
        if !self.na.is_empty() {
            options = options.na(names(&self.na));
        }
        if let Some(name) = &self.encoding {
            options = options.encoding(parsed::<Encoding>(name)?);
        }
        Ok(options)
    }
}

/// Names that were separated by commas, where `\,` is a comma in a name.
pub(crate) fn names(pieces: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut goes_on = false;
    for piece in pieces {
        let (text, more) = piece.strip_suffix('\\').map_or((piece.as_str(), false), |text| (text, true));
        match names.last_mut().filter(|_| goes_on) {
            Some(name) => *name += text,
            None => names.push(text.to_owned()),
        }
        if more {
            names.last_mut().expect("one was added").push(',');
        }
        goes_on = more;
    }
    names
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: T::Err| Failure::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_comma_after_a_backslash_belongs_to_the_name() {
        let split = |text: &str| names(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(split("a,b c,d"), ["a", "b c", "d"]);
        assert_eq!(split(r"sales\, net (EUR),b\,\,c"), ["sales, net (EUR)", "b,,c"]);
    }
}
