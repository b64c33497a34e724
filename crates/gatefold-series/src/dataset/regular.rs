//! From the rows of one series to evenly spaced samples: order, repeated moments, gaps, missing values, the future.

use super::options::{Aggregate, ReadOptions};
use crate::calendar::grid::Grid;
use crate::table::fill::fill;
use crate::{Fill, SeriesError};

/// A row at its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) position: i64,
    pub(super) row: usize,
}

/// The columns that make up a series: targets, then covariates, each as long as the table.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) targets: Vec<Vec<f64>>,
    pub(super) covariates: Vec<Vec<f64>>,
    /// Where each covariate must be complete.
    pub(super) complete: Vec<Complete>,
}

/// The rows in which a covariate must have a value, or one that can be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complete {
    /// None: nobody asked for it.
    Nowhere,
    /// Those up to the last sample.
    Samples,
    /// All.
    Everywhere,
}

/// Counts for the report.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) absent: usize,  // moments without a row
    pub(super) missing: usize, // cells of targets without a value
    pub(super) merged: usize,  // rows that were made one with another
    pub(super) leading: usize, // rows before the first value
    pub(super) future: usize,
    pub(super) first_gap: Option<i64>,
    pub(super) within: usize, // moments without a value in periods that have others
    pub(super) partial: Vec<i64>, // first and last periods with fewer rows than the others
}

/// An evenly spaced series.
#[derive(Clone, Debug)]
pub(super) struct Regular {
    pub(super) start: i64,
    pub(super) targets: Vec<Vec<f64>>,
    /// The places of the samples that were filled, of each target.
    pub(super) made_up: Vec<Vec<usize>>,
    pub(super) covariates: Vec<Vec<f64>>,
    /// The places without a value of each covariate.
    pub(super) covariates_made_up: Vec<Vec<usize>>,
    pub(super) future: usize,
}

/// A problem at a row or after it; the caller names line and column.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// Moments without a row: how many, of how many, and the row before the first.
    Absent { absent: usize, of: usize, after: usize },
    /// A target or, past them, a covariate without a value that could be filled.
    Missing { column: usize, row: usize, all: usize, why: &'static str },
    /// Two rows of one moment.
    Repeated { first: usize, second: usize },
    /// No row has a value.
    NoValues,
}

/// Rows more than this many times over are not made up.
const MOST_STRETCH: i64 = 100;

impl Regular {
    pub(super) fn of(
        rows: &[Placed],
        values: &Values,
        options: &ReadOptions,
        counts: &mut Counts,
    ) -> Result<Regular, Problem> {
        let has_value = |placed: &Placed| values.targets.iter().any(|column| !column[placed.row].is_nan());
        let first = rows.iter().position(has_value).ok_or(Problem::NoValues)?;
        let last = rows.iter().rposition(has_value).unwrap_or(first);
        counts.leading += first;
        let rows = &rows[first..];
        let (start, end) = (rows[0].position, rows[rows.len() - 1].position);
        let known_end = rows[last - first].position;
        let repeated = rows.windows(2).filter(|pair| pair[0].position == pair[1].position);
        let merged = repeated.clone().count();
        if let (Some(pair), None) = (repeated.clone().next(), options.aggregate) {
            return Err(Problem::Repeated { first: pair[0].row, second: pair[1].row });
        }
        counts.merged += merged;
        let moments = (end - start).saturating_add(1);
        let absent = (moments as usize).saturating_sub(rows.len() - merged);
        if absent > 0 {
            let gap = rows.windows(2).find(|pair| pair[1].position > pair[0].position + 1).unwrap_or(rows);
            counts.first_gap = counts.first_gap.or(Some(gap[0].position));
            if options.fill == Fill::Refuse || moments / MOST_STRETCH > rows.len() as i64 {
                return Err(Problem::Absent { absent, of: moments as usize, after: gap[0].row });
            }
        }
        counts.absent += absent;
        let known = (known_end - start + 1) as usize;
        counts.future += moments as usize - known;
        let mut out = Regular {
            start,
            targets: Vec::with_capacity(values.targets.len()),
            made_up: Vec::with_capacity(values.targets.len()),
            covariates: Vec::with_capacity(values.covariates.len()),
            covariates_made_up: Vec::with_capacity(values.covariates.len()),
            future: moments as usize - known,
        };
        let spread = |column: &[f64], len: usize| spread(rows, column, start, len, options.aggregate);
        for (column, target) in values.targets.iter().enumerate() {
            let mut samples = spread(target, known);
            let missing = missing(&samples);
            counts.missing += missing.len();
            let problem =
                |(at, why)| missing_at(rows, start, column, at, &samples_missing(target, rows), why);
            fill(&mut samples, options.fill).map_err(problem)?;
            out.targets.push(samples);
            out.made_up.push(missing);
        }
        for (column, covariate) in values.covariates.iter().enumerate() {
            let mut samples = spread(covariate, moments as usize);
            out.covariates_made_up.push(missing(&samples));
            let (filled, complete) = (fill(&mut samples, options.fill), values.complete[column]);
            if let Err((at, why)) = filled
                && (complete == Complete::Everywhere || complete == Complete::Samples && at < known)
            {
                let column = column + values.targets.len();
                return Err(missing_at(rows, start, column, at, &samples_missing(covariate, rows), why));
            }
            out.covariates.push(samples);
        }
        Ok(out)
    }
}

fn samples_missing(column: &[f64], rows: &[Placed]) -> usize {
    rows.iter().filter(|placed| column[placed.row].is_nan()).count()
}

fn missing_at(
    rows: &[Placed],
    start: i64,
    column: usize,
    at: usize,
    all: &usize,
    why: &'static str,
) -> Problem {
    let after = rows.partition_point(|placed| placed.position < start + at as i64);
    Problem::Missing { column, row: rows[after.min(rows.len() - 1)].row, all: *all, why }
}

/// The column on the grid, NaN where it has no value. Rows of one moment become one as `aggregate` says.
fn spread(rows: &[Placed], column: &[f64], start: i64, len: usize, aggregate: Option<Aggregate>) -> Vec<f64> {
    let mut out = vec![f64::NAN; len];
    for group in rows.chunk_by(|a, b| a.position == b.position) {
        let at = (group[0].position - start) as usize;
        if at >= len {
            break;
        }
        let mut known = group.iter().map(|placed| column[placed.row]).filter(|value| !value.is_nan());
        let value = match aggregate {
            _ if group.len() == 1 => known.next(),
            Some(Aggregate::Last) => known.next_back(),
            Some(Aggregate::Sum) => known.reduce(|sum, value| sum + value),
            Some(Aggregate::Mean) => {
                let count = known.clone().count() as f64;
                known.reduce(|sum, value| sum + value).map(|sum| sum / count)
            }
            Some(Aggregate::First) | None => known.next(),
        };
        out[at] = value.unwrap_or(f64::NAN);
    }
    out
}

/// The places of missing samples.
fn missing(samples: &[f64]) -> Vec<usize> {
    (0..samples.len()).filter(|at| samples[*at].is_nan()).collect()
}

/// Fills missing samples between a first and a last value that are known, and returns their places.
pub(super) fn fill_inner(samples: &mut [f64], how: Fill) -> Vec<usize> {
    let missing = missing(samples);
    let filled = fill(samples, how);
    debug_assert!(filled.is_ok(), "the ends of a series are known");
    missing
}

/// The places of sorted rows on a grid. With periods, every moment is within one.
pub(super) fn placed(
    grid: &Grid,
    rows: impl Iterator<Item = (i64, usize)>,
    periods: bool,
) -> Result<Vec<Placed>, (i64, usize)> {
    rows.map(|(value, row)| match grid.position(value) {
        Some(position) => Ok(Placed { position, row }),
        None if periods => Ok(Placed { position: grid.period(value), row }),
        None => Err((value, row)),
    })
    .collect()
}

impl Problem {
    /// The error, with the names of columns given by their place. `hint` is one more way out where moments are absent or
    /// repeated.
    pub(super) fn error(
        self,
        name: &dyn Fn(usize) -> String,
        at: &dyn Fn(usize, Option<String>, String) -> SeriesError,
        time: &str,
        label: &dyn Fn(usize) -> String,
        hint: &str,
    ) -> SeriesError {
        let ask = "ask for a fill: --fill previous, linear or zero";
        match self {
            Problem::Absent { absent, of, after } => {
                let label = label(after);
                let problem = format!(
                    "{absent} of {of} moments have no row, first after {label}; {ask}, or --time none for rows as they are{hint}"
                );
                at(after, Some(time.into()), problem)
            }
            Problem::Missing { column, row, all, why: "" } => {
                let more = if all <= 1 { "the only one".into() } else { format!("{all} in all") };
                at(
                    row,
                    Some(name(column)),
                    format!("the cell is missing ({more}); fill in a number, or {ask}"),
                )
            }
            Problem::Missing { column, row, why, .. } => at(
                row,
                Some(name(column)),
                format!("the cell is missing and {why}; fill in a number, or remove the line"),
            ),
            Problem::Repeated { first, second } => {
                let problem = format!(
                    "{} comes twice, first as '{}'; say --id if a column tells series apart, or --agg mean, sum, first or last{hint}",
                    label(second),
                    label(first)
                );
                at(second, Some(time.into()), problem)
            }
            Problem::NoValues => {
                at(0, Some(name(0)), "no row has a value; add some, or say another --target".into())
            }
        }
    }
}
