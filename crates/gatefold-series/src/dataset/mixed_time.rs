//! Columns whose times are written in more than one way, such as days with and without an hour.

use super::moments::read_times;
use super::time::{Reading, is_even};
use crate::SeriesError;
use crate::calendar::clock::Times;
use crate::calendar::find::formats_of;
use crate::calendar::format::{Format, Item};
use crate::table::sheet::Sheet;
use crate::table::shown;
use std::cmp::Reverse;

/// The most ways of writing in one column.
const MOST: usize = 3;
/// Rows whose even steps tell one reading from another.
const TELLING: usize = 6;

/// The rows that are written alike, and the formats that read all of them.
struct Way {
    rows: Vec<usize>,
    formats: Vec<Format>,
}

/// The times of a column whose cells are written in two or three ways, each of which says the day. There must be one reading
/// of all, or one alone that leaves the rows evenly spaced. `None` if the cells are not of this kind, and if no way says every
/// moment.
///
/// # Errors
/// Two readings, or two orders of day and month, with the first row that is written in another way than those above it.
pub(super) fn times(
    sheet: &Sheet,
    columns: &[usize],
    cell: &dyn Fn(usize) -> String,
    reading: &Reading<'_>,
) -> Result<Option<Times>, SeriesError> {
    let cells: Vec<String> = (0..sheet.rows()).map(cell).collect();
    let Some(ways) = ways(&cells) else { return Ok(None) };
    let mut read: Vec<(Vec<&Format>, Vec<i64>)> = Vec::new();
    for formats in choices(&ways) {
        if let Some((first, other)) = two_orders(&cells, &ways, &formats) {
            let (first, cell) = (shown(&cells[first]), shown(&cells[other]));
            let problem =
                format!("'{cell}' has day and month in another order than '{first}'; write all in one order");
            return Err(sheet.error(other, columns[0], problem));
        }
        let mut values = vec![0; cells.len()];
        for (way, format) in ways.iter().zip(&formats) {
            for row in &way.rows {
                values[*row] = format.read(&cells[*row]).map_or(0, |stamp| stamp.micros);
            }
        }
        if read.iter().all(|(_, other)| *other != values) {
            read.push((formats, values));
        }
    }
    let odd = ways[1].rows[0];
    let (first, other) = (shown(&cells[0]), shown(&cells[odd]));
    if read.len() > 1 {
        let count = cells.len();
        let even: Vec<bool> = read.iter().map(|(_, values)| count >= TELLING && is_even(values)).collect();
        if even.iter().filter(|even| **even).count() != 1 {
            let [a, b] =
                [0, 1].map(|at| read[at].0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "));
            let problem = format!(
                "'{other}' is written otherwise than '{first}': the times may be {a}, or {b}; write all in one way"
            );
            return Err(sheet.error(odd, columns[0], problem));
        }
        let at = even.iter().position(|even| *even).unwrap_or(0);
        read.swap(0, at);
    }
    let (formats, values) = &read[0];
    // All are written in the way that says most, or that of most rows, among those that can say every moment.
    let weight = |way: &usize| (formats[*way].items.len(), ways[*way].rows.len());
    let mut by_weight: Vec<usize> = (0..ways.len()).collect();
    by_weight.sort_by_key(|way| Reverse(weight(way)));
    let written = |most: usize| rewritten(&cells, &ways, (formats, most), values).map(|texts| (most, texts));
    let Some((most, texts)) = by_weight.into_iter().find_map(written) else { return Ok(None) };
    let mut times = read_times(sheet, columns, &|row| texts[row].clone(), formats[most].clone(), reading)?;
    let line = sheet.line(odd);
    times.mixed = Some(format!("written otherwise: '{other}' (line {line}), not as '{first}'"));
    Ok(Some(times))
}

/// Every cell in the format of the way `most`; `None` if one of these texts would be another moment than its value.
fn rewritten(
    cells: &[String],
    ways: &[Way],
    (formats, most): (&[&Format], usize),
    values: &[i64],
) -> Option<Vec<String>> {
    let mut texts = cells.to_vec();
    for (at, way) in ways.iter().enumerate().filter(|(at, _)| *at != most) {
        for row in &way.rows {
            texts[*row] = formats[most].write(&formats[at].read(&cells[*row])?);
            if formats[most].read(&texts[*row])?.micros != values[*row] {
                return None;
            }
        }
    }
    Some(texts)
}

/// The first rows of two ways of which one takes day and month in the other order: their dates are the same otherwise, or a cell
/// is another moment by each.
fn two_orders(cells: &[String], ways: &[Way], formats: &[&Format]) -> Option<(usize, usize)> {
    let twice = |one: &Format, other: &Format| {
        cells.iter().any(|cell| {
            let moments = one.read(cell).zip(other.read(cell));
            moments.is_some_and(|(one, other)| one.micros != other.micros)
        })
    };
    let pairs = (1..ways.len()).flat_map(|later| (0..later).map(move |first| (first, later)));
    let found = pairs.into_iter().find(|&(first, later)| {
        turned_date(formats[first]).is_some_and(|turned| turned == date(formats[later]))
            || twice(formats[first], formats[later])
    });
    found.map(|(first, later)| (ways[first].rows[0], ways[later].rows[0]))
}

/// The part of a format from the first of year, month and day to the last.
fn date(format: &Format) -> &[Item] {
    let is_date = |item: &Item| matches!(item, Item::Year | Item::Month | Item::Day);
    let ends = (format.items.iter().position(is_date), format.items.iter().rposition(is_date));
    ends.0.zip(ends.1).map_or(&[], |(first, last)| &format.items[first..=last])
}

/// The same with day and month in each other's place; `None` for a format that has not both.
fn turned_date(format: &Format) -> Option<Vec<Item>> {
    let turned = |item: &Item| match item {
        Item::Day => Item::Month,
        Item::Month => Item::Day,
        other => *other,
    };
    let both = format.has(Item::Day) && format.has(Item::Month);
    both.then(|| date(format).iter().map(turned).collect())
}

/// The ways in which cells are written, that of the first cell first; `None` for one way or too many, for a cell in no known
/// format, and for formats that do not say the day, or an offset.
fn ways(cells: &[String]) -> Option<Vec<Way>> {
    let mut ways: Vec<Way> = Vec::new();
    for (row, cell) in cells.iter().enumerate() {
        let reads = |way: &Way| way.formats.iter().any(|format| format.read(cell).is_some());
        match ways.iter().position(reads) {
            Some(at) => {
                let way = &mut ways[at];
                way.formats.retain(|format| format.read(cell).is_some());
                way.rows.push(row);
            }
            None if ways.len() < MOST => {
                let mut formats = formats_of(cell);
                formats.retain(says_day);
                ways.push(Way { rows: vec![row], formats });
            }
            None => return None,
        }
        if ways.iter().any(|way| way.formats.is_empty()) {
            return None;
        }
    }
    (ways.len() > 1).then_some(ways)
}

/// Whether a format says the day, and nothing of offsets and zones.
fn says_day(format: &Format) -> bool {
    let day = [Item::Day, Item::FixedDay, Item::DayOfYear].into_iter().any(|item| format.has(item));
    day && !format.has(Item::Offset) && !format.has(Item::Zone)
}

/// Every choice of one format for each way.
fn choices(ways: &[Way]) -> Vec<Vec<&Format>> {
    let mut all: Vec<Vec<&Format>> = vec![Vec::new()];
    for way in ways {
        let mut longer = Vec::new();
        for chosen in &all {
            longer.extend(way.formats.iter().map(|format| [chosen.as_slice(), &[format]].concat()));
        }
        all = longer;
    }
    all
}
