//! Tables of every kind, in and out: each is read right, or refused with one line.

mod calendar;
mod dialect;
mod layout;
mod mixed;
mod mutations;
mod numbers;
#[cfg(feature = "parquet")]
mod parquet;
mod parts;
mod pivot;
mod regular;
mod round_trip;
mod time;
mod unread;

use gatefold_series::{Dataset, ReadOptions, SeriesError};

/// Reads a table with everything found out.
fn read(content: impl AsRef<[u8]>) -> Result<Dataset, SeriesError> {
    read_with(content, ReadOptions::new())
}

fn read_with(content: impl AsRef<[u8]>, options: ReadOptions) -> Result<Dataset, SeriesError> {
    Dataset::from_bytes("t.csv", content.as_ref().to_vec(), &options)
}

/// The first series: label of the first sample, all samples, labels of the two moments after the last.
fn summary(result: Result<Dataset, SeriesError>) -> String {
    match result {
        Ok(data) => data.series().iter().map(|series| one(&data, series)).collect::<Vec<_>>().join("; "),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "an error is one line: {text}");
            format!("refused{}", text.strip_prefix("t.csv").unwrap_or(&text))
        }
    }
}

fn one(data: &Dataset, series: &gatefold_series::Series) -> String {
    let id = series.id().map_or_else(String::new, |id| format!("{id}: "));
    let end = series.start() + series.len() as i64;
    let targets: Vec<String> =
        (0..data.targets().len()).map(|target| format!("{:?}", series.target(target))).collect();
    let next = data.calendar().labels(end..end + 2).join(" | ");
    let future = if series.future_len() > 0 { format!(" +{}", series.future_len()) } else { String::new() };
    format!("{id}{} {}{future} -> {next}", data.calendar().label(series.start()), targets.join(" "))
}

/// Checks every case and lists all that fail.
fn check(cases: &[(&str, &str, &str)]) {
    check_with(cases, ReadOptions::new());
}

fn check_with(cases: &[(&str, &str, &str)], options: ReadOptions) {
    let mut failures = Vec::new();
    for (name, content, expected) in cases {
        let found = summary(read_with(content, options.clone()));
        if found != *expected {
            failures.push(format!("{name}:\n  found    {found}\n  expected {expected}"));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// A line of the report, by its label.
fn reported(data: &Dataset, label: &str) -> String {
    let start = format!("{label:<10}");
    data.report()
        .lines()
        .filter_map(|line| line.strip_prefix(&start).map(str::to_owned))
        .collect::<Vec<_>>()
        .join("; ")
}
