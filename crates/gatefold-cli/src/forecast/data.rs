use crate::failure::Failure;
use crate::table::{FillChoice, TableArguments};
use crate::task::fingerprint;
use gatefold_forecast::{Beside, MadeUp};
use gatefold_series::{Dataset, Series};
use std::path::Path;

/// Series from which some that are too short are left out instead of refusing all.
const MANY: usize = 10;
/// Names of series that are left out, as far as they are printed.
const SHOWN: usize = 3;

/// A table, and its series one by one: each target of each id.
#[derive(Debug)]
pub(crate) struct Data {
    pub(crate) dataset: Dataset,
    /// The places of the series in the table that are used.
    kept: Vec<usize>,
    names: Vec<String>,
    /// Whether gaps were filled with what comes after them.
    looks_ahead: bool,
}

impl Data {
    pub(crate) fn read(path: &Path, reading: &TableArguments) -> Result<Data, Failure> {
        let dataset = reading.read(path)?;
        let kept = (0..dataset.series().len()).collect();
        let looks_ahead = reading.fill == Some(FillChoice::Linear);
        let mut data = Data { dataset, kept, names: Vec::new(), looks_ahead };
        data.names = data.names_of_kept();
        Ok(data)
    }

    fn names_of_kept(&self) -> Vec<String> {
        let targets = self.dataset.targets();
        let names = self.each().flat_map(|(_, series)| {
            targets.iter().map(move |target| match (series.id(), targets.len()) {
                (None, _) => target.clone(),
                (Some(id), 1) => id.to_owned(),
                (Some(id), _) => format!("{id} {target}"),
            })
        });
        names.collect()
    }

    /// The series of the table that are used, each with its place.
    fn each(&self) -> impl Iterator<Item = (usize, &Series)> {
        self.kept.iter().map(|place| (*place, &self.dataset.series()[*place]))
    }

    /// Leaves out series of fewer than `least` samples, if most of at least ten are longer; says which.
    pub(crate) fn leave_short_out(&mut self, least: usize) -> Option<String> {
        let short = |(_, series): &(usize, &Series)| series.len() < least;
        let names: Vec<String> =
            self.each().filter(short).map(|(_, series)| series.id().unwrap_or("?").to_owned()).collect();
        if self.kept.len() < MANY || names.is_empty() || 2 * names.len() > self.kept.len() {
            return None;
        }
        let all = self.kept.len();
        let lengths: Vec<usize> = self.dataset.series().iter().map(Series::len).collect();
        self.kept.retain(|place| lengths[*place] >= least);
        self.names = self.names_of_kept();
        let more =
            if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
        Some(format!(
            "{} of {all} series have fewer than {least} samples, too few for this horizon: {}{more}",
            names.len(),
            names[..names.len().min(SHOWN)].join(", ")
        ))
    }

    /// The targets of each id.
    pub(crate) fn targets(&self) -> usize {
        self.dataset.targets().len()
    }

    /// Keeps the ids at these places among those that are kept, in this order.
    pub(crate) fn keep(&mut self, places: &[usize]) {
        self.kept = places.iter().map(|place| self.kept[*place]).collect();
        self.names = self.names_of_kept();
    }

    /// The values of every series, oldest first.
    pub(crate) fn series(&self) -> Vec<&[f64]> {
        let targets = 0..self.dataset.targets().len();
        self.each().flat_map(|(_, series)| targets.clone().map(|target| series.target(target))).collect()
    }

    /// The samples of every series that were made up to fill gaps, also in the columns that models read beside them: those
    /// of `--past`, and the other targets if `together`.
    pub(crate) fn made_up(&self, together: bool) -> MadeUp {
        let targets = 0..self.dataset.targets().len();
        let places = self.each().flat_map(|(_, series)| targets.clone().map(|target| series.made_up(target)));
        let count = self.dataset.targets().len();
        let beside = self.each().flat_map(|(at, series)| {
            let past = self.dataset.past_made_up(at).collect::<Vec<_>>();
            targets.clone().map(move |target| {
                let others = (0..count).filter(|other| together && *other != target);
                others
                    .map(|other| series.made_up(other))
                    .chain(past.iter().copied())
                    .flatten()
                    .copied()
                    .collect()
            })
        });
        MadeUp::new(places, self.looks_ahead).beside(beside)
    }

    /// Columns known beside each series: the covariates that the table has or was asked for, the other targets if `together`,
    /// what the calendar says of the moments up to a horizon past the end, and these columns that do not change within a
    /// series.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a constant column that the table lacks.
    pub(crate) fn beside(
        &self,
        (calendar, together): (bool, bool),
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
        let known = self.each().flat_map(|(at, series)| {
            let mut covariates = self.dataset.covariates_of(at);
            if calendar {
                let end = series.start() + (series.len() + horizon) as i64;
                let features = self.dataset.calendar().features(series.start()..end);
                covariates.future.extend(features.into_iter().map(|feature| feature.values));
            }
            let statics = places.iter().map(|place| series.statics()[*place].clone()).collect::<Vec<_>>();
            (0..targets).map(move |target| {
                let mut covariates = covariates.clone();
                let others = (0..targets).filter(|other| together && *other != target);
                covariates.past.extend(others.map(|other| series.target(other).to_vec()));
                (covariates, statics.clone())
            })
        });
        Ok(Beside::new(known))
    }

    /// The rows after the last sample that every series has.
    pub(crate) fn future(&self) -> usize {
        self.each().map(|(_, series)| series.future_len()).min().unwrap_or(0)
    }

    /// Refuses a future that is too short for the horizon.
    ///
    /// # Errors
    /// [`Failure::Failed`] with the rows that are missing.
    pub(crate) fn check_future(&self, horizon: usize) -> Result<(), Failure> {
        let names = self.dataset.future_covariates();
        let shortest = self.future();
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
        self.dataset.series()[self.kept[series / self.dataset.targets().len()]].start()
    }

    /// The labels of these samples of series number `series`, past its end too.
    pub(crate) fn labels(&self, series: usize, samples: std::ops::Range<usize>) -> Vec<String> {
        let start = self.start(series);
        self.dataset.calendar().labels(start + samples.start as i64..start + samples.end as i64)
    }

    /// Tells tables apart, by the names, moments and values of their series, by what was made up, and by all that may be read
    /// beside them, without keeping any.
    pub(crate) fn fingerprint(&self) -> String {
        let bytes = |column: &[f64]| {
            column.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect::<Vec<u8>>()
        };
        let places =
            |places: &[usize]| places.iter().flat_map(|place| place.to_le_bytes()).collect::<Vec<u8>>();
        let (calendar, targets) = (self.dataset.calendar(), self.dataset.targets().len());
        let samples = targets * self.each().map(|(_, series)| series.len()).sum::<usize>();
        let names = self.names().iter().map(|name| name.clone().into_bytes());
        let columns = self.each().flat_map(|(at, series)| {
            let covariates = self.dataset.covariates_of(at);
            let first = calendar.labels(series.start()..series.start() + 1).concat().into_bytes();
            let targets =
                (0..targets).flat_map(move |at| [bytes(series.target(at)), places(series.made_up(at))]);
            let beside =
                covariates.past.into_iter().chain(covariates.future).map(move |column| bytes(&column));
            let statics = series.statics().iter().map(|value| value.to_string().into_bytes());
            [first].into_iter().chain(targets).chain(beside).chain(statics)
        });
        let parts = [calendar.frequency().to_string().into_bytes()].into_iter().chain(names).chain(columns);
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
    #[test]
    fn dates_names_and_what_was_made_up_make_another_table() {
        let folder = tempfile::tempdir().unwrap();
        let print = |name: &str, days: &str| {
            let path = folder.path().join("t.csv");
            let rows: String =
                days.split(' ').map(|row| format!("2024-{}\n", row.replace('=', ","))).collect();
            std::fs::write(&path, format!("day,{name}\n{rows}")).unwrap();
            let filled = TableArguments { fill: Some(FillChoice::Previous), ..TableArguments::default() };
            Data::read(&path, &filled).unwrap().fingerprint()
        };
        let whole = print("sales", "01-01=1 01-02=2 01-03=2 01-04=5");
        assert_eq!(whole, print("sales", "01-01=1 01-02=2 01-03=2 01-04=5"));
        for (name, days, what) in [
            ("sales", "02-01=1 02-02=2 02-03=2 02-04=5", "another month"),
            ("sales", "01-01=1 01-03=2 01-05=2 01-07=5", "another step"),
            ("sold", "01-01=1 01-02=2 01-03=2 01-04=5", "another name"),
            ("sales", "01-01=1 01-02=2 01-03= 01-04=5", "a value that was made up"),
        ] {
            assert_ne!(whole, print(name, days), "{what}");
        }
    }

    #[test]
    fn a_line_in_a_column_that_models_read_knows_the_future() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let rows = ["5,1,2", "7,2,3", ",3,5", "8,5,", "9,5,6", "4,2,7"];
        let rows = rows.iter().zip(1..).map(|(row, day)| format!("2024-01-{day:02},{row}\n"));
        std::fs::write(&path, format!("day,price,sales,visits\n{}", rows.collect::<String>())).unwrap();
        let unscored = |fill: FillChoice, past: &[&str], together: bool| -> Vec<usize> {
            let reading = TableArguments {
                target: vec!["sales".into(), "visits".into()],
                past: past.iter().map(|name| (*name).to_owned()).collect(),
                fill: Some(fill),
                ..TableArguments::default()
            };
            let made_up = Data::read(&path, &reading).unwrap().made_up(together);
            // Forecasts of the last sales.
            (1..6).filter(|origin| !made_up.counts(0, *origin, 5)).collect()
        };
        assert_eq!(unscored(FillChoice::Linear, &[], false), [0; 0]);
        assert_eq!(unscored(FillChoice::Linear, &["price"], false), [3]);
        assert_eq!(unscored(FillChoice::Linear, &[], true), [4]);
        assert_eq!(unscored(FillChoice::Linear, &["price"], true), [3, 4]);
        assert_eq!(unscored(FillChoice::Previous, &["price"], true), [0; 0]);
    }
}
