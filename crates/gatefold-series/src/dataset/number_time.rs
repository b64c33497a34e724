//! Columns of numbers that are times: years, compact dates, seconds since 1970, and the numbers of rows.

use super::time::{Reading, read_times};
use crate::SeriesError;
use crate::calendar::clock::{Clock, MISSING, Times};
use crate::calendar::format::{Format, Item};
use crate::table::sheet::{Kind, Sheet};

/// Compact dates, and the digits of their numbers.
const COMPACT: [(&str, usize); 6] =
    [("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12), ("%Y%m%d%H", 10), ("%Y%m%d", 8), ("%Y%m", 6), ("%Y", 4)];

/// The years that a compact date may be of, and those that a number of seconds since 1970 may be of.
const YEARS: std::ops::Range<i64> = 1000..3000;
/// Seconds since 1970 that a column may begin with: from March 1973 to 2100.
const SECONDS: std::ops::Range<i64> = 100_000_000..4_102_444_800;

/// A column's whole numbers; `None` if a cell is missing or is none.
pub(super) fn whole_numbers(sheet: &Sheet, column: usize) -> Option<Vec<i64>> {
    let whole = |row: usize| {
        let cell = sheet.cell(row, column);
        let digits = cell.strip_suffix(".0").unwrap_or(cell);
        digits.parse::<i64>().ok().filter(|value| value.unsigned_abs() < 1 << 62)
    };
    (0..sheet.rows()).map(whole).collect()
}

/// Whether values rise or fall from row to row throughout.
fn monotone(values: &[i64]) -> bool {
    values.windows(2).all(|pair| pair[0] < pair[1]) || values.windows(2).all(|pair| pair[0] > pair[1])
}

/// Whether so many percent of the steps between rows are one and the same, up or down. The times of several series,
/// one after another, are as steady.
fn steady(values: &[i64], percent: usize) -> bool {
    let mut steps: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return false;
    }
    let usual = *steps.select_nth_unstable(middle).1;
    usual != 0 && steps.iter().filter(|step| **step == usual).count() * 100 >= steps.len() * percent
}

/// Whether a column counts the rows: 0, 1, 2, and so on, up or down.
pub(super) fn counts_rows(values: &[i64]) -> bool {
    let by = |step: i64| values.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step));
    values.len() >= 4 && (by(1) || by(-1))
}

/// The format in which whole numbers are dates, if they are.
fn dated_format(values: &[i64], named: bool) -> Option<Format> {
    let (least, most) = (*values.iter().min()?, *values.iter().max()?);
    let digits = |value: i64| value.to_string().len();
    if least > 0 && digits(least) == digits(most) {
        for (pattern, _) in COMPACT.iter().filter(|(_, len)| *len == digits(least)) {
            let format = Format::parse(pattern).ok()?;
            let year_of = |value: i64| value / 10i64.pow(digits(least) as u32 - 4);
            let valid =
                |value: &i64| YEARS.contains(&year_of(*value)) && format.read(&value.to_string()).is_some();
            let months: Vec<i64> = values.iter().map(|value| value / 100 * 12 + value % 100).collect();
            let even = match *pattern {
                "%Y" => steady(values, 80),
                "%Y%m" => steady(&months, 80),
                _ => true,
            };
            let enough = named || monotone(values) && even;
            if values.iter().all(valid) && enough {
                return Some(format);
            }
        }
    }
    let power = [0u32, 3, 6].into_iter().find(|power| SECONDS.contains(&(least / 10i64.pow(*power))))?;
    let epoch =
        SECONDS.contains(&(most / 10i64.pow(power))) && (named || monotone(values) && steady(values, 80));
    epoch.then(|| Format::new(vec![Item::Epoch(power)]))
}

/// The times of a column of numbers. `named`: its name says that it holds times.
pub(super) fn times(
    sheet: &Sheet,
    column: usize,
    named: bool,
    reading: &Reading<'_>,
) -> Result<Option<Times>, SeriesError> {
    if sheet.columns[column].kind != Kind::Number {
        return Ok(None);
    }
    let Some(values) = whole_numbers(sheet, column) else {
        return Ok(if named { decimal_times(sheet, column) } else { None });
    };
    if let Some(format) = dated_format(&values, named) {
        let cell = |row: usize| format!("{}", values[row]);
        return read_times(sheet, &[column], &cell, format, reading).map(Some);
    }
    let index = counts_rows(&values) || named && (monotone(&values) || steady(&values, 50));
    Ok(index.then(|| numbered(sheet, column, values, 0)))
}

fn numbered(sheet: &Sheet, column: usize, values: Vec<i64>, decimals: u32) -> Times {
    Times {
        values,
        offsets: None,
        clock: Clock::Number(decimals),
        format: None,
        name: sheet.name(column).to_owned(),
        columns: vec![column],
    }
}

/// Times with a fraction, such as seconds in steps of 0.02: numbers times a power of ten.
fn decimal_times(sheet: &Sheet, column: usize) -> Option<Times> {
    let fraction = |cell: &str| cell.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let decimals = (0..sheet.rows()).map(|row| fraction(sheet.cell(row, column))).max()?;
    if decimals > 6 || sheet.columns[column].missing > 0 {
        return None;
    }
    let scaled = |row: usize| {
        let cell = sheet.cell(row, column);
        let (whole, fraction) = cell.split_once('.').unwrap_or((cell, ""));
        let digits = format!("{whole}{fraction:0<decimals$}");
        digits.parse::<i64>().ok().filter(|value| *value != MISSING)
    };
    let values: Vec<i64> = (0..sheet.rows()).map(scaled).collect::<Option<_>>()?;
    Some(numbered(sheet, column, values, decimals as u32))
}

/// Reads a column as numbers of rows although nothing tells so, because the user says that it is the time.
pub(super) fn stated(sheet: &Sheet, column: usize) -> Result<Times, SeriesError> {
    if let Some(values) = whole_numbers(sheet, column) {
        return Ok(numbered(sheet, column, values, 0));
    }
    decimal_times(sheet, column).ok_or_else(|| {
        let bad = (0..sheet.rows()).find(|row| sheet.cell(*row, column).parse::<f64>().is_err()).unwrap_or(0);
        let cell = sheet.cell(bad, column);
        let found = if sheet.is_missing(cell) {
            "the time is missing".into()
        } else {
            format!("'{}' is not a time", crate::table::shown(cell))
        };
        sheet.error(bad, column, format!("{found}; correct the cell, or say --time with another column"))
    })
}
