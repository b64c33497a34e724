//! The moments of rows: their times read in one format, on the clock of the table, with offsets or in a zone.

use super::time::Reading;
use crate::SeriesError;
use crate::calendar::clock::{Clock, MISSING, Times, offset_changes, zoned_micros};
use crate::calendar::format::{Format, Item};
use crate::calendar::stamp::clock;
use crate::table::sheet::Sheet;
use crate::table::shown;
use jiff::tz::{self, TimeZone};

/// Reads every row in one format.
pub(super) fn read_times(
    sheet: &Sheet,
    columns: &[usize],
    cell: &dyn Fn(usize) -> String,
    mut format: Format,
    reading: &Reading<'_>,
) -> Result<Times, SeriesError> {
    let rows = sheet.rows();
    let mut offsets = Vec::new();
    let mut zone = reading.zone.clone();
    let example = (0..rows).map(cell).find(|cell| format.read(cell).is_some());
    let mut stamps = Vec::with_capacity(rows);
    for row in 0..rows {
        let text = cell(row);
        let Some(stamp) = format.read_noting(&text) else {
            return Err(sheet.error(
                row,
                columns[0],
                unreadable(sheet, row, columns, &text, example.as_deref()),
            ));
        };
        if let (None, Some(name)) = (&zone, &stamp.zone) {
            zone = TimeZone::get(name).ok();
        }
        if stamp.micros == MISSING {
            return Err(sheet.error(row, columns[0], format!("'{}' is out of range", shown(&text))));
        }
        offsets.extend(stamp.offset_seconds());
        stamps.push((stamp.micros, stamp.offset_seconds().is_some()));
    }
    let values = match &zone {
        Some(zone) => of_zone(sheet, columns, cell, &stamps, zone, reading)?,
        None => stamps.into_iter().map(|(micros, _)| micros).collect(),
    };
    let epoch = format.items.iter().any(|item| matches!(item, Item::Epoch(_)));
    let clock = match &zone {
        Some(zone) => Clock::Zone(zone.clone()),
        None if offsets.len() == rows => Clock::Offsets(offset_changes(&values, &offsets)),
        None => Clock::Civil,
    };
    let offsets = (zone.is_none() && offsets.len() == rows && !epoch).then_some(offsets);
    let name = columns.iter().map(|column| sheet.name(*column)).collect::<Vec<_>>().join(", ");
    Ok(Times { values, offsets, clock, format: Some(format), name, columns: columns.to_vec(), mixed: None })
}

/// The moments of stamps on the clock of a zone; those with an offset are moments already. In the hour that comes twice in autumn,
/// the order of the rows tells which is which, the oldest or the newest row first.
fn of_zone(
    sheet: &Sheet,
    columns: &[usize],
    cell: &dyn Fn(usize) -> String,
    stamps: &[(i64, bool)],
    zone: &TimeZone,
    reading: &Reading<'_>,
) -> Result<Vec<i64>, SeriesError> {
    let steps = |falls: bool| {
        let turned =
            |pair: &&[(i64, bool)]| if falls { pair[1].0 < pair[0].0 } else { pair[1].0 > pair[0].0 };
        stamps.windows(2).filter(turned).count()
    };
    let (rises, falls) = (steps(false), steps(true));
    let disordered = falls * 2 > rises && rises * 2 > falls;
    let mut values = vec![0; stamps.len()];
    let mut before: Option<i64> = None;
    for at in 0..stamps.len() {
        let row = if falls > rises { stamps.len() - 1 - at } else { at };
        let (micros, has_offset) = stamps[row];
        values[row] = if has_offset {
            micros
        } else {
            let local = clock(micros, tz::Offset::UTC);
            if disordered && zoned_micros(zone, local, None) != zoned_micros(zone, local, Some(i64::MAX)) {
                let problem = format!(
                    "'{}' comes twice when summer time ends, and the rows are not in order of time; sort them, or write offsets",
                    shown(&cell(row))
                );
                return Err(sheet.error(row, columns[0], problem));
            }
            let found = zoned_micros(zone, local, before);
            found.ok_or_else(|| sheet.error(row, columns[0], no_such_hour(&cell(row), reading)))?
        };
        before = Some(values[row]);
    }
    Ok(values)
}

fn unreadable(sheet: &Sheet, row: usize, columns: &[usize], text: &str, example: Option<&str>) -> String {
    if columns.iter().any(|column| sheet.is_missing(sheet.cell(row, *column))) {
        return "the time is missing; fill it in, or remove the line".into();
    }
    let like = example
        .map_or_else(|| "as --time-format says".into(), |example| format!("like '{}'", shown(example)));
    format!("'{}' is not a time {like}; correct the cell, or remove the line", shown(text))
}

fn no_such_hour(text: &str, reading: &Reading<'_>) -> String {
    let zone = reading.options.zone.as_deref().unwrap_or("its zone");
    format!("'{}' is in the hour that summer time leaves out in {zone}; say another --zone", shown(text))
}
