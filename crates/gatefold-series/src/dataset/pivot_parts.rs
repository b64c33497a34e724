//! Columns that are parts of a time in other orders or units: months from April on, the days of a week or of a month.

use super::ReadOptions;
use super::parts::number_in;
use super::pivot::{Part, Pivot};
use super::time;
use crate::SeriesError;
use crate::calendar::clock::Clock;
use crate::calendar::find::{month_number, time_of_day, week_day_number};
use crate::calendar::format::{Format, Item};
use crate::calendar::stamp::{DAY, civil_micros, clock};
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use jiff::civil::{Date, DateTime};
use jiff::tz;
use std::collections::HashSet;

/// The columns that are months of the years, or days of the weeks or months, in the first column, if it says where each begins.
pub(super) fn of_dates(
    sheet: &Sheet,
    names: &[String],
    options: &ReadOptions,
) -> Result<Option<Pivot>, SeriesError> {
    let run = |size: usize, number: &dyn Fn(&String) -> Option<usize>, cycle: usize| {
        (1..(names.len() + 1).saturating_sub(size)).find_map(|from| {
            let numbers: Vec<usize> = names[from..from + size].iter().map(number).collect::<Option<_>>()?;
            let follows = |pair: &[usize]| pair[1] % cycle == (pair[0] + 1) % cycle;
            numbers.windows(2).all(follows).then_some((from..from + size, numbers[0]))
        })
    };
    let months = run(12, &|name| month_number(name), 12);
    let week = run(7, &|name| week_day_number(name), 7);
    let day = |name: &String| {
        let number = number_in(name, &["d", "day", "tag"], &[], (1, 31))?;
        usize::try_from(number).ok()
    };
    let month =
        [31, 30, 29, 28].into_iter().find_map(|size| run(size, &day, 100)).filter(|(_, first)| *first == 1);
    if months.is_none() && week.is_none() && month.is_none() {
        return Ok(None);
    }
    let times = time::of_column(sheet, 0, options)?;
    let (Clock::Civil, Some(format)) = (&times.clock, &times.format) else { return Ok(None) };
    let has = |items: &[Item]| items.iter().any(|item| format.has(*item));
    let dates = || times.values.iter().map(|micros| clock(*micros, tz::Offset::UTC));
    let midnight = dates().all(|time| time.time() == jiff::civil::Time::midnight());
    let next_year = format.items.iter().any(|item| matches!(item, Item::NextYear { .. }));
    let pivot = |columns, part| Ok(Some(Pivot { base: 0, columns, part }));
    if let Some((columns, first)) = months
        && next_year
        && first > 1
    {
        return pivot(columns, Part::OfFiscalYear { first: first as i64 });
    }
    let ends = sheet.name(0).to_lowercase().contains("end");
    let begins = |first: usize, time: DateTime| time.weekday().to_monday_zero_offset() as usize == first;
    if let Some((columns, first)) = week
        && midnight
        && !ends
        && has(&[Item::Day, Item::FixedDay, Item::Week])
        && dates().all(|time| begins(first, time))
    {
        return pivot(columns, Part::Days { of_month: false });
    }
    let monthly =
        !next_year && has(&[Item::Month, Item::FixedMonth]) || format.items.iter().any(is_month_name);
    if let Some((columns, _)) = month
        && midnight
        && !ends
        && monthly
        && dates().all(|time| time.day() == 1)
    {
        return pivot(columns, Part::Days { of_month: true });
    }
    Ok(None)
}

fn is_month_name(item: &Item) -> bool {
    matches!(item, Item::MonthName { .. })
}

/// A cell's place in time and in the table.
pub(super) struct Moment {
    pub(super) micros: i64,
    pub(super) row: usize,
    pub(super) column: usize,
}

/// The format and the moments of the cells of [`of_dates`], with their rows and columns. Days that a month does not have are left
/// out.
pub(super) fn moments(
    sheet: &Sheet,
    pivot: &Pivot,
    options: &ReadOptions,
) -> Result<(Format, Vec<Moment>), SeriesError> {
    let times = time::of_column(sheet, pivot.base, options)?;
    let mut out = Vec::new();
    for (row, value) in times.values.iter().enumerate() {
        let start = clock(*value, tz::Offset::UTC);
        for (at, column) in pivot.columns.clone().enumerate() {
            let micros = match pivot.part {
                Part::OfFiscalYear { first } => {
                    let month = first - 1 + at as i64;
                    let year = start.year() + i16::from(month >= 12);
                    let date = Date::new(year, (month % 12) as i8 + 1, 1).ok();
                    date.and_then(|date| civil_micros(date.at(0, 0, 0, 0)))
                }
                Part::Days { of_month: true } if at >= start.date().days_in_month() as usize => None,
                _ => Some(value + at as i64 * DAY),
            };
            match micros {
                Some(micros) => out.push(Moment { micros, row, column }),
                None if sheet.is_missing(sheet.cell(row, column)) => {}
                None => {
                    return Err(sheet.error(row, column, "the month has no such day; leave the cell empty"));
                }
            }
        }
    }
    let format = match pivot.part {
        Part::OfFiscalYear { .. } => time::year_format(Item::Month),
        _ => {
            let dash = Item::Literal('-');
            let own = times.format.filter(|format| format.has(Item::Day) || format.has(Item::FixedDay));
            own.unwrap_or_else(|| Format::new(vec![Item::Year, dash, Item::Month, dash, Item::Day]))
        }
    };
    Ok((format, out))
}

/// Whether a name is that of a part.
type IsPart<'a> = &'a dyn Fn(&String) -> bool;

/// Refuses names that are parts of a year, a month, a week or a day, in an order or number that does not say where each belongs:
/// one of them alone is no series that anybody wants.
pub(super) fn refuse(sheet: &Sheet, names: &[String]) -> Result<(), SeriesError> {
    let numbers = sheet.numeric().filter(|column| *column > 0).count();
    let day = |name: &String| number_in(name, &["d", "day", "tag"], &[], (1, 31)).is_some();
    let bare = |name: &String| name.parse::<i64>().is_ok_and(|number| (1..=31).contains(&number));
    let quarter = |name: &String| {
        number_in(name, &["q", "qtr", "quarter", "quartal"], &["q", ". quartal"], (1, 4)).is_some()
    };
    let hour = |name: &String| {
        let number = number_in(name, &["he", "hour", "hr", "h"], &["h", "uhr"], (0, 25)).is_some();
        number || name.contains(':') && time_of_day(name).is_some()
    };
    let month = |name: &String| number_in(name, &["m", "month", "monat"], &[], (1, 12)).is_some();
    let kinds: [(IsPart<'_>, usize, &str); 7] = [
        (&|name| month_number(name).is_some(), 4, "year"),
        (&|name| week_day_number(name).is_some(), 5, "week"),
        (&month, 12, "year"),
        (&quarter, 4, "year"),
        (&day, 28, "month"),
        (&bare, 28, "month"),
        (&hour, 12, "day"),
    ];
    for (is_part, least, of) in kinds {
        let found: Vec<usize> = (1..names.len())
            .filter(|column| sheet.columns[*column].kind == Kind::Number && is_part(&names[*column]))
            .collect();
        let distinct = found.iter().map(|column| &names[*column]).collect::<HashSet<_>>().len();
        if distinct < least || found.len() * 2 < numbers {
            continue;
        }
        let [first, last] = [found[0], found[found.len() - 1]].map(|column| shown(sheet.name(column)));
        let problem = format!(
            "the names {first} to {last} are parts of a {of}, and nothing says when each row begins; write one row for each part, \
             or say --target for one of them, or --layout wide or rows for series"
        );
        return Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem));
    }
    Ok(())
}
