//! Hours and shorter periods that are numbered within each day, where summer time makes a day of 23 or 25 hours.

use super::parts;
use super::time::{Reading, choose, formats_of_all};
use crate::SeriesError;
use crate::calendar::clock::{Clock, Times, zoned_micros};
use crate::calendar::format::{Format, Item};
use crate::calendar::stamp::{DAY, clock};
use crate::table::sheet::Sheet;
use crate::table::shown;
use jiff::tz::{self, TimeZone};
use std::collections::BTreeMap;

/// The times of dates with so many seconds after midnight, where numbers count the hours that passed, those that summer time adds
/// among them. `None` if every day has 24 hours, and if the numbers are those of a clock.
///
/// # Errors
/// A day of 25 hours without a zone, or in a zone in which it has 24.
pub(super) fn times(
    sheet: &Sheet,
    columns: &[usize],
    seconds: &[i64],
    reading: &Reading<'_>,
) -> Result<Option<Times>, SeriesError> {
    let Some(numbered) = parts::numbered(sheet, columns[1]) else { return Ok(None) };
    let hours = |row: usize| {
        let (found, number) = (shown(sheet.cell(row, columns[0])), numbered.numbers[row]);
        format!("{found} has a number {number}, of a day of 25 hours, as where summer time ends;")
    };
    let beyond =
        numbered.numbers.iter().position(|number| *number > numbered.usual).filter(|_| numbered.long);
    let Some(zone) = &reading.zone else {
        return match beyond {
            Some(row) => {
                let problem = format!("{} say --zone, such as Europe/Berlin", hours(row));
                Err(sheet.error(row, columns[1], problem))
            }
            None => Ok(None),
        };
    };
    let date = |row: usize| sheet.cell(row, columns[0]).to_owned();
    let formats = formats_of_all(sheet, &columns[..1], &date)?;
    let civil = Reading { options: reading.options, zone: None };
    let days = choose(sheet, &columns[..1], &date, formats, &civil)?;
    if !matches!(days.clock, Clock::Civil) {
        return Ok(None);
    }
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for (day, number) in days.values.iter().zip(&numbered.numbers) {
        let most = last.entry(*day).or_insert(*number);
        *most = (*most).max(*number);
    }
    // A table may begin or end within a day.
    let ends = [last.keys().next().copied(), last.keys().next_back().copied()];
    let changed: Vec<(i64, i64)> = last
        .iter()
        .filter_map(|(day, most)| Some((*day, *most, length(zone, *day)? * numbered.usual / DAY)))
        .filter(|(_, most, count)| *count != numbered.usual || *most > numbered.usual)
        .map(|(day, most, count)| (day, most - count))
        .collect();
    let counts_hours =
        changed.iter().all(|(day, over)| *over == 0 || *over < 0 && ends.contains(&Some(*day)));
    if changed.is_empty() {
        return Ok(None);
    }
    if !counts_hours {
        let Some(row) = beyond else { return Ok(None) };
        let name = reading.options.zone.as_deref().unwrap_or_default();
        let problem =
            format!("{} in {name}, the days have other numbers of hours; say another --zone", hours(row));
        return Err(sheet.error(row, columns[1], problem));
    }
    let (time, format) =
        ([Item::Literal(' '), Item::FixedHour, Item::Literal(':'), Item::FixedMinute], days.format);
    let Some(format) = format else { return Ok(None) };
    let style = format.style.clone();
    let mut format = Format { style, ..Format::new([format.items.as_slice(), &time].concat()) };
    let mut values = Vec::with_capacity(seconds.len());
    for (row, (day, second)) in days.values.iter().zip(seconds).enumerate() {
        let Some(midnight) = midnight(zone, *day) else { return Ok(None) };
        if *second <= 86_400 {
            format.read_noting(&format!("{} {:02}:{:02}", date(row), second / 3600, second / 60 % 60));
        }
        values.push(midnight + second * 1_000_000);
    }
    let name = columns.iter().map(|column| sheet.name(*column)).collect::<Vec<_>>().join(", ");
    let clock = Clock::Zone(zone.clone());
    Ok(Some(Times {
        values,
        offsets: None,
        clock,
        format: Some(format),
        name,
        columns: columns.to_vec(),
        mixed: None,
    }))
}

/// The moment of a day's midnight in a zone; `None` if summer time leaves it out.
fn midnight(zone: &TimeZone, day: i64) -> Option<i64> {
    zoned_micros(zone, clock(day, tz::Offset::UTC), None)
}

/// The microseconds of a day in a zone.
fn length(zone: &TimeZone, day: i64) -> Option<i64> {
    Some(midnight(zone, day + DAY)? - midnight(zone, day)?)
}
