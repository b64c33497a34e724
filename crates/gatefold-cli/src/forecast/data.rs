use crate::failure::Failure;
use crate::table::TableArguments;
use gatefold_series::Dataset;
use std::path::Path;

/// A table, and its series one by one: each target of each id.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) dataset: Dataset,
    names: Vec<String>,
}

impl Data {
    pub(crate) fn read(path: &Path, reading: &TableArguments) -> Result<Data, Failure> {
        let dataset = reading.read(path)?;
        let targets = dataset.targets();
        let names = dataset.series().iter().flat_map(|series| {
            targets.iter().map(move |target| match (series.id(), targets.len()) {
                (None, _) => target.clone(),
                (Some(id), 1) => id.to_owned(),
                (Some(id), _) => format!("{id} {target}"),
            })
        });
        let names = names.collect();
        Ok(Data { dataset, names })
    }

    /// The values of every series, oldest first.
    pub(crate) fn series(&self) -> Vec<&[f64]> {
        let targets = 0..self.dataset.targets().len();
        self.dataset
            .series()
            .iter()
            .flat_map(|series| targets.clone().map(|target| series.target(target)))
            .collect()
    }

    /// A name for each series.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The labels of these samples of series number `series`, past its end too.
    pub(crate) fn labels(&self, series: usize, samples: std::ops::Range<usize>) -> Vec<String> {
        let start = self.dataset.series()[series / self.dataset.targets().len()].start();
        self.dataset.calendar().labels(start + samples.start as i64..start + samples.end as i64)
    }

    /// FNV-1a over the bits of the values: tells tables apart without keeping any of their content.
    pub(crate) fn fingerprint(&self) -> String {
        let series = self.series();
        let bytes =
            series.iter().flat_map(|values| values.iter()).flat_map(|value| value.to_bits().to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let samples: usize = series.iter().map(|values| values.len()).sum();
        format!("{samples} samples, {hash:016x}")
    }
}
