//! The options for sequences from a long table, shared by the commands that read them.

use crate::failure::Failure;
use crate::forecast::Report;
use gatefold_series::Table;
use gatefold_tasks::{Long, LongColumns};

/// The columns of a long table, and its parts.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "The sequences")]
pub(crate) struct LongArguments {
    /// The columns that tell sequences apart, separated by commas
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    pub(crate) id: Vec<String>,
    /// The column that orders the steps of a sequence [default: the rows are in order]
    #[arg(long, value_name = "COL")]
    pub(crate) step: Option<String>,
    /// The columns of numbers to read, separated by commas [default: all that have no other use]
    #[arg(long, value_name = "COLS", value_delimiter = ',')]
    pub(crate) channel: Vec<String>,
    /// The share of the sequences for the test; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.2, value_parser = share_below_one)]
    pub(crate) test: f64,
    /// The column that says which part a row belongs to: train, validation or test
    #[arg(long, value_name = "COL", conflicts_with = "test")]
    pub(crate) split: Option<String>,
}

fn share_below_one(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=0.9).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 0.9".into()),
    }
}

/// The standard deviation of noise.
pub(crate) fn noise(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=10.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 10".into()),
    }
}

impl LongArguments {
    /// Reads the sequences of a table.
    pub(crate) fn read(&self, table: &Table, label: Option<&str>, gaps: bool) -> Result<Long, Failure> {
        let columns = LongColumns {
            ids: self.id.clone(),
            step: self.step.clone(),
            channels: self.channel.clone(),
            label: label.map(str::to_owned),
            split: self.split.clone(),
        };
        Ok(Long::read(table, &columns, gaps)?)
    }
}

/// Says which columns are used, and how.
pub(crate) fn describe(report: &Report, long: &Long) {
    let columns = &long.columns;
    report.line(format!("channels  {}", crate::classify::listed(&columns.channels)));
    if let Some(step) = &columns.step {
        report.line(format!("steps     ordered by column {step}, which is no channel"));
    }
    if !long.ignored.is_empty() {
        report.line(format!("ignored   {}", crate::classify::listed(&long.ignored)));
    }
}
