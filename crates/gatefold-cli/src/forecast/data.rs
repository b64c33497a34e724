use crate::failure::Failure;
use crate::forecaster::{FillChoice, Shape};
use gatefold_series::{SeriesError, Split, Table, TableOptions};
use std::path::{Path, PathBuf};

/// The newest share of the series: forecast, never trained on.
const TEST: f64 = 0.2;
/// The newest share of the rest: it chooses the best epoch.
const VALIDATION: f64 = 0.15;

/// A column, cut into parts.
#[derive(Debug)]
pub(super) struct Data {
    path: PathBuf,
    pub(super) series: Vec<f64>,
    pub(super) dates: Option<Vec<String>>,
    pub(super) split: Split,
}

impl Data {
    /// The column that a checkpoint was trained on.
    pub(super) fn read(path: &Path, shape: &Shape) -> Result<Data, Failure> {
        let table = Table::read(path, &TableOptions::new())?;
        Data::of_column(path, &table, &shape.target, shape.fill)
    }

    pub(super) fn of_column(
        path: &Path,
        table: &Table,
        target: &str,
        fill: FillChoice,
    ) -> Result<Data, Failure> {
        let series = table.numbers(target, fill.into())?;
        let split = Split::new(series.len(), TEST, VALIDATION)
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Data { path: path.into(), series, dates: table.dates(), split })
    }

    /// The error, prefixed with the table's name.
    pub(super) fn failure(&self, error: &SeriesError) -> Failure {
        Failure::failed(format!("{}: {error}", self.path.display()))
    }

    /// FNV-1a over the bits of the values: tells series apart without keeping any of their content.
    pub(super) fn fingerprint(&self) -> String {
        let bytes = self.series.iter().flat_map(|value| value.to_bits().to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{} rows, {hash:016x}", self.series.len())
    }
}
