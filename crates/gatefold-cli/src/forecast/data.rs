use crate::failure::Failure;
use crate::table::TableArguments;
use crate::task::fingerprint;
use gatefold_forecast::Beside;
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

    /// Columns known beside each series: the covariates that the table has or was asked for, what the calendar says of the
    /// moments up to a horizon past the end, and these columns that do not change within a series.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a constant column that the table lacks.
    pub(crate) fn beside(
        &self,
        calendar: bool,
        constants: &[String],
        horizon: usize,
    ) -> Result<Beside, Failure> {
        let statics = self.dataset.statics();
        let places = constants.iter().map(|name| {
            statics.iter().position(|found| found == name).ok_or_else(|| {
                let known = if statics.is_empty() { "none".into() } else { statics.join(", ") };
                Failure::Usage(format!(
                    "--static {name}: expected a column that does not change within a series; found {known}"
                ))
            })
        });
        let places = places.collect::<Result<Vec<usize>, _>>()?;
        let targets = self.dataset.targets().len();
        let known = self.dataset.series().iter().enumerate().flat_map(|(at, series)| {
            let mut covariates = self.dataset.covariates_of(at);
            if calendar {
                let end = series.start() + (series.len() + horizon) as i64;
                let features = self.dataset.calendar().features(series.start()..end);
                covariates.future.extend(features.into_iter().map(|feature| feature.values));
            }
            let statics = places.iter().map(|place| series.statics()[*place].clone()).collect::<Vec<_>>();
            std::iter::repeat_n((covariates, statics), targets)
        });
        Ok(Beside::new(known))
    }

    /// Refuses a future that is too short for the horizon.
    ///
    /// # Errors
    /// [`Failure::Failed`] with the rows that are missing.
    pub(crate) fn check_future(&self, horizon: usize) -> Result<(), Failure> {
        let names = self.dataset.future_covariates();
        let shortest = self.dataset.series().iter().map(|series| series.future_len()).min().unwrap_or(0);
        if names.is_empty() || shortest >= horizon {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "the horizon is {horizon}, and the table has {shortest} rows of {} after the last sample: {} are missing; add \
             them, use --horizon {}, or leave the column out with --past",
            names.join(", "),
            horizon - shortest,
            shortest.max(1)
        )))
    }

    /// A name for each series.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The place on the calendar of the first sample of series number `series`.
    pub(crate) fn start(&self, series: usize) -> i64 {
        self.dataset.series()[series / self.dataset.targets().len()].start()
    }

    /// The labels of these samples of series number `series`, past its end too.
    pub(crate) fn labels(&self, series: usize, samples: std::ops::Range<usize>) -> Vec<String> {
        let start = self.start(series);
        self.dataset.calendar().labels(start + samples.start as i64..start + samples.end as i64)
    }

    /// Tells tables apart, by the values of their series and of all that may be read beside them, without keeping any.
    pub(crate) fn fingerprint(&self) -> String {
        let bytes = |column: &[f64]| column.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        let series = self.series();
        let samples: usize = series.iter().map(|values| values.len()).sum();
        let mut parts: Vec<Vec<u8>> = series.into_iter().map(bytes).collect();
        for (at, series) in self.dataset.series().iter().enumerate() {
            let covariates = self.dataset.covariates_of(at);
            parts.extend(covariates.past.iter().chain(&covariates.future).map(|column| bytes(column)));
            parts.extend(series.statics().iter().map(|value| value.to_string().into_bytes()));
        }
        format!("{samples} samples, {}", fingerprint(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covariate_that_changes_makes_another_table() {
        let folder = tempfile::tempdir().unwrap();
        let print = |prices: &str| {
            let rows =
                prices.split(' ').zip(1..).map(|(price, day)| format!("2024-01-{day:02},{price},{day}\n"));
            let path = folder.path().join("t.csv");
            std::fs::write(&path, format!("day,price,sales\n{}", rows.collect::<String>())).unwrap();
            let past = TableArguments { past: vec!["price".into()], ..TableArguments::default() };
            Data::read(&path, &past).unwrap().fingerprint()
        };
        assert_eq!(print("5 7 8 6"), print("5 7 8 6"));
        assert_ne!(print("5 7 8 6"), print("5 7 9 6"));
    }
}
