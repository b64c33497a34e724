//! Columns of numbers that are times: years, compact dates, seconds since 1970, and the numbers of rows.

use super::digit_dates::{Digits, short_year};
use super::moments::read_times;
use super::time::{Reading, choose};
use super::time_names::{is_date_name, is_week_name, part};
use crate::SeriesError;
use crate::calendar::clock::{Clock, MISSING, Times};
use crate::calendar::days::DayCount;
use crate::calendar::format::{Format, Item};
use crate::calendar::fraction::YearFraction;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;

/// Compact dates, and the digits of their numbers.
const COMPACT: [(&str, usize); 6] =
    [("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12), ("%Y%m%d%H", 10), ("%Y%m%d", 8), ("%Y%m", 6), ("%Y", 4)];

/// The years that a compact date may be of, and those that a number of seconds since 1970 may be of.
const YEARS: std::ops::Range<i64> = 1000..3000;
/// Seconds since 1970 that a column may begin with: from March 1973 to 2100.
const SECONDS: std::ops::Range<i64> = 100_000_000..4_102_444_800;

/// Names of columns that count rows or units of time, rather than hold dates.
const COUNTERS: [&str; 17] = [
    "t",
    "step",
    "index",
    "idx",
    "row",
    "elapsed",
    "elapsed time",
    "hour",
    "minute",
    "second",
    "seconds",
    "ms",
    "unnamed: 0",
    "time",
    "epoch",
    "unix",
    "ts",
];

/// A column's whole numbers; `None` if a cell is missing or is none.
pub(super) fn whole_numbers(sheet: &Sheet, column: usize) -> Option<Vec<i64>> {
    let whole = |row: usize| {
        let cell = sheet.cell(row, column);
        let digits = cell.strip_suffix(".0").unwrap_or(cell);
        let value = digits.parse::<i64>().ok().or_else(|| exponent(cell));
        value.filter(|value| value.unsigned_abs() < 1 << 62)
    };
    (0..sheet.rows()).map(whole).collect()
}

/// A whole number with an exponent, such as `1.6725312E+09`.
fn exponent(cell: &str) -> Option<i64> {
    let (mantissa, power) = cell.split_once(['e', 'E'])?;
    let power: usize = power.trim_start_matches('+').parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    if power > 18 || fraction.len() > power {
        return None;
    }
    format!("{whole}{fraction:0<power$}").parse().ok()
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

/// The format in which whole numbers are dates, if they are. `weeks`: the column's name says that they are weeks.
fn dated_format(values: &[i64], named: bool, weeks: bool) -> Option<Format> {
    let (least, most) = (*values.iter().min()?, *values.iter().max()?);
    let digits = |value: i64| value.to_string().len();
    if least > 0 && digits(least) == digits(most) {
        for (pattern, len) in COMPACT {
            if len != digits(least) || pattern == "%Y%m" && weeks {
                continue;
            }
            let format = Format::parse(pattern).ok()?;
            let year_of = |value: i64| value / 10i64.pow(digits(least) as u32 - 4);
            let valid =
                |value: &i64| YEARS.contains(&year_of(*value)) && format.read(&value.to_string()).is_some();
            let months: Vec<i64> = values.iter().map(|value| value / 100 * 12 + value % 100).collect();
            let even = match pattern {
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
    let power = [0u32, 3, 6, 9].into_iter().find(|power| SECONDS.contains(&(least / 10i64.pow(*power))))?;
    let epoch =
        SECONDS.contains(&(most / 10i64.pow(power))) && (named || monotone(values) && steady(values, 80));
    epoch.then(|| Format::new(vec![Item::Epoch(power)]))
}

/// How a column counts days, if its name says that it holds days and its numbers are of our time.
fn day_count(sheet: &Sheet, column: usize) -> Option<DayCount> {
    let name = sheet.name(column).trim().to_lowercase().replace(['_', '-'], " ");
    let number = |row: usize| sheet.cell(row, column).parse::<f64>().ok();
    let values: Vec<f64> = (0..sheet.rows()).map(number).collect::<Option<_>>()?;
    let within = |least: f64, most: f64| values.iter().all(|value| (least..most).contains(value));
    let dates = [
        "date",
        "datum",
        "fecha",
        "datetime",
        "excel",
        "serial",
        "serial number",
        "day",
        "tag",
        "month",
        "monat",
    ];
    let ends = [" date", " datum", "date time", "timestamp"];
    let dated = dates.contains(&name.as_str())
        || ends.iter().any(|end| name.ends_with(end))
        || name.ends_with("date");
    match name.as_str() {
        "mjd" | "modified julian date" | "modified julian day" if within(15_000.0, 90_000.0) => {
            Some(DayCount::ModifiedJulian)
        }
        "jd" | "bjd" | "julian date" | "julian day" if within(2_400_000.0, 2_500_000.0) => {
            Some(DayCount::Julian)
        }
        "datenum" | "matlab" if within(690_000.0, 800_000.0) => Some(DayCount::Matlab),
        _ if dated && within(25_569.0, 65_000.0) => Some(DayCount::Excel),
        _ => None,
    }
}

/// Whether cells are years and months, as in `2010.1` and `2010.12`, one month after another.
fn months_after_point(sheet: &Sheet, column: usize) -> bool {
    let month = |row: usize| {
        let (year, month) = sheet.cell(row, column).split_once('.')?;
        let year: i64 = year.parse().ok().filter(|year| YEARS.contains(year))?;
        let month: i64 = month.parse().ok().filter(|number| (1..=12).contains(number) && month.len() <= 2)?;
        Some(year * 12 + month)
    };
    let months: Option<Vec<i64>> = (0..sheet.rows()).map(month).collect();
    months.is_some_and(|months| {
        let by = |step: i64| months.windows(2).all(|pair| pair[1] - pair[0] == step);
        months.len() >= 4 && (by(1) || by(-1))
    })
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
    let plain = |row: usize| sheet.cell(row, column).to_owned();
    if named && let Some(count) = day_count(sheet, column) {
        let format = Format::new(vec![Item::Days(count)]);
        return read_times(sheet, &[column], &plain, format, reading).map(Some);
    }
    if named && months_after_point(sheet, column) {
        let format = Format::new(vec![Item::Year, Item::Literal('.'), Item::Month]);
        return read_times(sheet, &[column], &plain, format, reading).map(Some);
    }
    let cells = (0..sheet.rows()).map(|row| sheet.cell(row, column));
    if named && let Some(fraction) = YearFraction::of_cells(cells) {
        let format = Format::new(vec![Item::YearFraction(fraction)]);
        return read_times(sheet, &[column], &plain, format, reading).map(Some);
    }
    let Some(values) = whole_numbers(sheet, column) else {
        let times = decimal_times(sheet, column).filter(|_| named);
        return Ok(times.filter(|times| monotone(&times.values) || evenly_numbered(&times.values)));
    };
    let cell = |row: usize| format!("{}", values[row]);
    let weeks = is_week_name(sheet.name(column));
    let of_weeks = || Format::new(vec![Item::Year, Item::Week]);
    let is_weeks = || (named || weeks) && weeks_of_years(&values);
    let found = dated_format(&values, named, weeks).or_else(|| is_weeks().then(of_weeks));
    if let Some(digits) = Digits::of(sheet, column) {
        // So many seconds since 1970 are dates as well, hardly ever both.
        let others = if found.as_ref().is_none_or(is_epoch) { other_dates(&digits, named) } else { None };
        let even = others.as_ref().is_some_and(|(digits, formats)| digits.even(formats));
        if others.is_none() || !even && digits.even(&digits.short(weeks)) {
            refuse_short_years(sheet, column, &digits, found.as_ref(), named)?;
        }
        if let Some((digits, formats)) = others {
            let cell = |row: usize| digits.cells[row].clone();
            return choose(sheet, &[column], &cell, formats, reading).map(Some);
        }
    }
    if let Some(format) = found {
        return read_times(sheet, &[column], &cell, format, reading).map(Some);
    }
    if is_date_name(sheet.name(column))
        && reading.options.time.is_empty()
        && values.iter().any(|value| *value > 99_999)
    {
        let problem = format!(
            "'{}' is no date in a known format; say --time-format, or --time none if the oldest row is first",
            shown(sheet.cell(0, column))
        );
        return Err(sheet.error(0, column, problem));
    }
    let first = column == 0 && monotone(&values) && values.is_sorted() && evenly_numbered(&values);
    let index = counts_rows(&values)
        || first
        || named && (monotone(&values) || steady(&values, 50) || evenly_numbered(&values));
    Ok(index.then(|| numbered(sheet, column, values, 0)))
}

/// The formats of dates as digits other than year, month and day, if all cells fit one: under a name of times, or evenly spaced.
fn other_dates(digits: &Digits, named: bool) -> Option<(Digits, Vec<Format>)> {
    let padded = digits.padded();
    [Some(digits.clone()), padded].into_iter().flatten().find_map(|digits| {
        let formats = digits.long();
        let dates = !formats.is_empty() && (named || digits.even(&formats));
        dates.then_some((digits, formats))
    })
}

/// Refuses digits that may be dates with years of two digits: where no other reading is found, or one that gives years far from
/// ours, or one that the column's name does not say.
fn refuse_short_years(
    sheet: &Sheet,
    column: usize,
    digits: &Digits,
    found: Option<&Format>,
    named: bool,
) -> Result<(), SeriesError> {
    let name = sheet.name(column);
    let short = digits.short(is_week_name(name));
    if short.is_empty() {
        return Ok(());
    }
    let refused = match found {
        None => {
            let counts = COUNTERS.contains(&name.trim().to_lowercase().as_str());
            let values: Vec<i64> = digits.cells.iter().filter_map(|cell| cell.parse().ok()).collect();
            named && !counts || digits.even(&short) && !counts_rows(&values)
        }
        Some(format) if format.items.contains(&Item::Week) => !is_week_name(name),
        Some(format) if is_epoch(format) => true,
        Some(format) if digits.far(format) => true,
        Some(format) => match (format.items.as_slice(), part(name)) {
            ([Item::Year], part) => matches!(part, Some(Item::Month | Item::Week)),
            ([Item::FixedYear, Item::FixedMonth], part) => part != Some(Item::Month) && digits.even(&short),
            _ => false,
        },
    };
    let other = found.filter(|format| !is_epoch(format));
    if refused { Err(short_year(sheet, column, &digits.cells[0], &short, other)) } else { Ok(()) }
}

fn is_epoch(format: &Format) -> bool {
    format.items.iter().any(|item| matches!(item, Item::Epoch(_)))
}

/// Whether numbers are years with a week of two digits, as in 202352.
fn weeks_of_years(values: &[i64]) -> bool {
    values.iter().all(|value| YEARS.contains(&(value / 100)) && (1..=53).contains(&(value % 100)))
}

/// Whether numbers are distinct and, sorted, the same step apart throughout.
fn evenly_numbered(values: &[i64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.len() >= 8 && sorted[0] < sorted[1] && steady(&sorted, 100)
}

/// Refuses a first column that counts in even steps and not upwards: if it is the time, the rows are not in its order.
pub(super) fn refuse_falling(sheet: &Sheet, column: usize) -> Result<(), SeriesError> {
    let Some(times) = decimal_times(sheet, column) else { return Ok(()) };
    if !evenly_numbered(&times.values) || times.values.is_sorted() {
        return Ok(());
    }
    let name = shown(sheet.name(column));
    let problem = format!(
        "{name} counts in even steps, and not upwards; say --time {name} if it is the time, or --time none"
    );
    Err(sheet.error(0, column, problem))
}

fn numbered(sheet: &Sheet, column: usize, values: Vec<i64>, decimals: u32) -> Times {
    Times {
        values,
        offsets: None,
        clock: Clock::Number(decimals),
        format: None,
        name: sheet.name(column).to_owned(),
        columns: vec![column],
        mixed: None,
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
            format!("'{}' is not a time", shown(cell))
        };
        sheet.error(bad, column, format!("{found}; correct the cell, or say --time with another column"))
    })
}
