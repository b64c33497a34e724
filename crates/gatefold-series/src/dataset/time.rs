//! The time of each row: which columns say it, and in which format.

use super::moments::read_times;
use super::options::ReadOptions;
use super::time_names::{is_time_name, is_week_name, part};
use super::unread::{no_such_month, refuse_fiscal, refuse_unread, refuse_unread_dates};
use super::{long_days, mixed_time, number_time, parts};
use crate::SeriesError;
use crate::calendar::clock::Times;
use crate::calendar::find::{formats_of, interval_start, short_year_formats, time_of_day, year_day_month};
use crate::calendar::format::{Format, Item};
use crate::calendar::grid::Grid;
use crate::calendar::stamp::Stamp;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use jiff::tz::TimeZone;
use std::collections::HashSet;

/// The zone that times are read in.
pub(super) struct Reading<'a> {
    pub(super) options: &'a ReadOptions,
    pub(super) zone: Option<TimeZone>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(sheet: &Sheet, options: &'a ReadOptions) -> Result<Self, SeriesError> {
        let zone = options.zone.as_deref().map(|name| {
            TimeZone::get(name).map_err(|_| {
                sheet
                    .source
                    .table(format!("there is no time zone '{name}'; use a name such as Europe/Berlin"))
            })
        });
        Ok(Reading { options, zone: zone.transpose()? })
    }
}

/// The times of the rows; `None` if no column says them.
pub(super) fn find(sheet: &Sheet, options: &ReadOptions) -> Result<Option<Times>, SeriesError> {
    let reading = Reading::new(sheet, options)?;
    if options.no_time {
        return Ok(None);
    }
    if !options.time.is_empty() {
        let columns = options.time.iter().map(|name| sheet.find(name)).collect::<Result<Vec<_>, _>>()?;
        return stated(sheet, &columns, &reading).map(Some);
    }
    let used = |column: &usize| {
        let name = sheet.name(*column);
        let asked = |names: &[String]| names.iter().any(|asked| asked == name);
        [&options.targets, &options.ids, &options.past, &options.future].into_iter().any(|names| asked(names))
    };
    if let Some(pattern) = &options.time_format {
        let column = column_of_format(sheet, pattern, &used)?;
        return dated(sheet, &[column], &reading).map(Some);
    }
    if let Some(columns) = dated_columns(sheet, &used) {
        return dated(sheet, &columns, &reading).map(Some);
    }
    let numeric: Vec<usize> = sheet.numeric().filter(|column| !used(column)).collect();
    if let Some(columns) = part_columns(sheet, &numeric) {
        return dated(sheet, &columns, &reading).map(Some);
    }
    refuse_fiscal(sheet, &used)?;
    if let Some(times) = year_and_part(sheet, &numeric, &used, &reading)? {
        return Ok(Some(times));
    }
    // The only column of numbers is the one to forecast.
    let rounds: &[bool] = if sheet.numeric().count() < 2 { &[] } else { &[true, false] };
    for &named in rounds {
        for column in numeric.iter().filter(|column| !named || is_time_name(sheet.name(**column))) {
            let Some(times) = number_time::times(sheet, *column, named, &reading)? else { continue };
            if times.format.as_ref().is_some_and(|format| format.items.last() == Some(&Item::FixedDay)) {
                let rest = parts::columns_of_day(sheet, *column, &used);
                if !rest.is_empty() {
                    return dated(sheet, &[vec![*column], rest].concat(), &reading).map(Some);
                }
            }
            if !times.dated() {
                refuse_unread_dates(sheet, &used)?;
            }
            return Ok(Some(times));
        }
    }
    refuse_unread(sheet, &used)?;
    Ok(None)
}

/// The column whose cells a stated format reads, those named so first.
fn column_of_format(
    sheet: &Sheet,
    pattern: &str,
    used: &dyn Fn(&usize) -> bool,
) -> Result<usize, SeriesError> {
    let format = parsed(sheet, pattern)?;
    let step = (sheet.rows() / 40).max(1);
    let reads = |column: &usize| {
        let cells = (0..sheet.rows()).step_by(step).map(|row| sheet.cell(row, *column));
        let cells: Vec<&str> = cells.filter(|cell| !sheet.is_missing(cell)).collect();
        cells.iter().filter(|cell| format.read(cell).is_some()).count() * 2 > cells.len()
    };
    let fitting: Vec<usize> = (0..sheet.columns.len()).filter(|column| !used(column)).filter(reads).collect();
    let named = fitting.iter().find(|column| is_time_name(sheet.name(**column)));
    let dated = || dated_columns(sheet, used).map(|columns| columns[0]); // its first cell that does not fit is named
    named.or(fitting.first()).copied().or_else(dated).ok_or_else(|| {
        sheet.source.table(format!(
            "no column holds times as --time-format {pattern} says; say another, or --time with the column"
        ))
    })
}

fn parsed(sheet: &Sheet, pattern: &str) -> Result<Format, SeriesError> {
    Format::parse(pattern)
        .map_err(|problem| sheet.source.table(format!("--time-format {pattern}: {problem}")))
}

fn stated(sheet: &Sheet, columns: &[usize], reading: &Reading<'_>) -> Result<Times, SeriesError> {
    let [column] = *columns else { return dated(sheet, columns, reading) };
    if reading.options.time_format.is_some() || sheet.columns[column].kind != Kind::Number {
        return dated(sheet, columns, reading);
    }
    match number_time::times(sheet, column, true, reading)? {
        Some(times) => Ok(times),
        None => number_time::stated(sheet, column),
    }
}

/// The column of dates, with that of the times of day if it has its own.
fn dated_columns(sheet: &Sheet, used: &dyn Fn(&usize) -> bool) -> Option<Vec<usize>> {
    let dates: Vec<usize> =
        (0..sheet.columns.len()).filter(|column| sheet.columns[*column].kind == Kind::Date).collect();
    let only_time = |column: &usize| {
        sheet.example(*column).is_some_and(|cell| formats_of(cell).is_empty() && time_of_day(cell).is_some())
    };
    let of_day = dates.iter().copied().find(only_time);
    let mut columns = dates.iter().copied().filter(|column| !only_time(column));
    let named = columns.clone().find(|column| is_time_name(sheet.name(*column)));
    let column = named.or_else(|| columns.next())?;
    let has_time = sheet.example(column).is_some_and(|cell| {
        formats_of(cell).first().is_none_or(|format| format.has(Item::Hour) || format.has(Item::Hour12))
    });
    if has_time {
        return Some(vec![column]);
    }
    let rest = match of_day {
        Some(time) => vec![time],
        None => parts::columns_of_day(sheet, column, used),
    };
    Some([vec![column], rest].concat())
}

/// The times of a column of years that repeat and one of the parts of a year, if there are such.
fn year_and_part(
    sheet: &Sheet,
    numeric: &[usize],
    used: &dyn Fn(&usize) -> bool,
    reading: &Reading<'_>,
) -> Result<Option<Times>, SeriesError> {
    let named = |column: &&usize| part(sheet.name(**column)) == Some(Item::Year);
    let Some(&year) = numeric.iter().find(named) else { return Ok(None) };
    let values = number_time::whole_numbers(sheet, year).unwrap_or_default();
    for column in (0..sheet.columns.len()).filter(|column| *column != year && !used(column)) {
        if !years_repeat(sheet, year, column) {
            continue;
        }
        if let Some((item, numbers)) = parts::part_of_year(sheet, column, false)? {
            return of_parts(sheet, &[year, column], item, &numbers, reading).map(Some);
        }
        // Months by name in a column that has another name.
        let month = |row: usize| {
            let cell = sheet.cell(row, column);
            cell.chars().all(|c| c.is_alphabetic() || c == '.')
                && !formats_of(&format!("{} {cell}", values[row])).is_empty()
        };
        if sheet.columns[column].kind == Kind::Text && (0..sheet.rows()).all(month) {
            return dated(sheet, &[year, column], reading).map(Some);
        }
    }
    Ok(None)
}

/// The times of a column of years with the number of a part in each.
fn of_parts(
    sheet: &Sheet,
    columns: &[usize],
    item: Item,
    numbers: &[i64],
    reading: &Reading<'_>,
) -> Result<Times, SeriesError> {
    let short = if item == Item::Week { Item::WeekShort } else { item };
    let read = Format::new(vec![Item::Year, Item::Literal(' '), short]);
    let cell = |row: usize| {
        let (year, number) = (sheet.cell(row, columns[0]), numbers[row]);
        if item == Item::DayOfYear { format!("{year} {number:03}") } else { format!("{year} {number}") }
    };
    let mut times = read_times(sheet, columns, &cell, read, reading)?;
    times.format = Some(year_format(item));
    Ok(times)
}

/// The format in which a part of a year is written after the year.
pub(super) fn year_format(item: Item) -> Format {
    let before = match item {
        Item::Month => "-",
        Item::Quarter => "Q",
        Item::Half => "-H",
        Item::DayOfYear => "-",
        _ => "-W",
    };
    let mut items = vec![Item::Year];
    items.extend(before.chars().map(Item::Literal));
    items.push(item);
    Format::new(items)
}

/// The times of one column of dates.
pub(super) fn of_column(sheet: &Sheet, column: usize, options: &ReadOptions) -> Result<Times, SeriesError> {
    dated(sheet, &[column], &Reading::new(sheet, options)?)
}

/// Columns of years with months, quarters or weeks, and whatever follows; only where years repeat.
fn part_columns(sheet: &Sheet, numeric: &[usize]) -> Option<Vec<usize>> {
    let column = |item: Item| numeric.iter().copied().find(|column| part(sheet.name(*column)) == Some(item));
    let year = column(Item::Year)?;
    let named_month = || {
        (0..sheet.columns.len()).find(|column| {
            part(sheet.name(*column)) == Some(Item::Month) && sheet.columns[*column].kind == Kind::Text
        })
    };
    // The finest part: quarters beside months say nothing more.
    let second = column(Item::Month)
        .or_else(named_month)
        .or_else(|| [Item::Week, Item::Quarter].into_iter().find_map(column))?;
    let mut columns = vec![year, second];
    if part(sheet.name(second)) == Some(Item::Week) {
        columns
            .extend(column(Item::WeekDay).filter(|day| parts::varies_within(sheet, &[year, second], *day)));
    }
    if part(sheet.name(second)) == Some(Item::Month) {
        columns.extend([Item::Day, Item::Hour, Item::Minute].into_iter().map_while(column));
    }
    years_repeat(sheet, year, second).then_some(columns)
}

/// Whether years repeat and another column tells their rows apart: one year after another, or in any other order.
fn years_repeat(sheet: &Sheet, year: usize, part: usize) -> bool {
    let Some(values) = number_time::whole_numbers(sheet, year) else { return false };
    let distinct = values.iter().collect::<HashSet<_>>().len();
    values.windows(2).any(|pair| pair[0] == pair[1])
        || distinct < values.len() && parts::varies_within(sheet, &[year], part)
}

/// The times of one column of dates, or of several whose cells make up a date.
fn dated(sheet: &Sheet, columns: &[usize], reading: &Reading<'_>) -> Result<Times, SeriesError> {
    let cell = |row: usize| {
        let cells: Vec<&str> = columns.iter().map(|column| sheet.cell(row, *column)).collect();
        cells.join(" ")
    };
    if let Some(pattern) = &reading.options.time_format {
        return read_times(sheet, columns, &cell, parsed(sheet, pattern)?, reading);
    }
    if let Some((read, write)) = part_formats(sheet, columns) {
        let mut times = read_times(sheet, columns, &cell, read, reading)?;
        times.format = Some(write);
        return Ok(times);
    }
    let stated = !reading.options.time.is_empty();
    if let [first, rest @ ..] = columns
        && !rest.is_empty()
    {
        if let [part] = *rest
            && sheet.columns[*first].kind == Kind::Number
            && let Some((item, numbers)) = parts::part_of_year(sheet, part, stated)?
        {
            return of_parts(sheet, columns, item, &numbers, reading);
        }
        if let Some(seconds) = parts::time_of_day(sheet, rest, stated) {
            return with_time_of_day(sheet, columns, &seconds, reading);
        }
    }
    if let [column] = *columns
        && is_week_name(sheet.name(column))
        && let Some(format) = week_format(sheet, column)
    {
        return read_times(sheet, columns, &cell, format, reading);
    }
    if let [column] = *columns
        && clock_intervals(sheet, column)
    {
        let start = |row: usize| {
            let cell = sheet.cell(row, column);
            cell.rsplit_once(['-', '–']).map_or(cell, |(start, _)| start.trim_end()).to_owned()
        };
        return of_starts(sheet, columns, &start, reading);
    }
    if let [column] = *columns
        && (0..sheet.rows()).all(|row| interval_start(sheet.cell(row, column)).is_some())
    {
        let start = |row: usize| interval_start(sheet.cell(row, column)).unwrap_or_default().to_owned();
        return of_starts(sheet, columns, &start, reading);
    }
    let times = formats_of_all(sheet, columns, &cell)
        .and_then(|formats| choose(sheet, columns, &cell, formats, reading));
    let Err(error) = times else { return times };
    mixed_time::times(sheet, columns, &cell, reading)?.ok_or(error)
}

/// The times of intervals, by their starts.
fn of_starts(
    sheet: &Sheet,
    columns: &[usize],
    start: &dyn Fn(usize) -> String,
    reading: &Reading<'_>,
) -> Result<Times, SeriesError> {
    let formats = formats_of_all(sheet, columns, start)?;
    let mut times = choose(sheet, columns, start, formats, reading)?;
    times.mixed = Some(format!("intervals read as their starts, the first as '{}'", shown(&start(0))));
    Ok(times)
}

/// Whether cells such as `01.10.2023 05:00-06:00` are intervals of one length, and the last part no offset from UTC.
fn clock_intervals(sheet: &Sheet, column: usize) -> bool {
    let minutes = |text: &str| {
        let (hour, minute) = text.trim().split_once(':')?;
        Some(hour.parse::<i64>().ok()? * 60 + minute.parse::<i64>().ok().filter(|_| minute.len() == 2)?)
    };
    let ends = |row: usize| {
        let (start, end) = sheet.cell(row, column).rsplit_once(['-', '–'])?;
        let start = start.trim_end().rsplit_once([' ', 'T'])?.1;
        Some((minutes(start)?, minutes(end)?))
    };
    let Some(all) = (0..sheet.rows()).map(ends).collect::<Option<Vec<_>>>() else { return false };
    let length = |(start, end): &(i64, i64)| (end - start).rem_euclid(1440);
    let lengths: HashSet<i64> = all.iter().map(length).collect();
    let starts: HashSet<i64> = all.iter().map(|(start, _)| *start).collect();
    starts.len() > 1 && lengths.len() == 1 && !lengths.contains(&0)
}

/// The format of cells such as `2023-01` and `2023-52`, if they are weeks of a year by the column's name.
fn week_format(sheet: &Sheet, column: usize) -> Option<Format> {
    let patterns = ["%G-%V", "%G/%V", "%G.%V", "%G %V", "%V/%G", "%V-%G", "%V.%G", "%V %G"];
    let formats = patterns.iter().filter_map(|pattern| Format::parse(pattern).ok());
    let reads = |format: &Format| (0..sheet.rows()).all(|row| format.read(sheet.cell(row, column)).is_some());
    formats.into_iter().find(reads)
}

/// The times of a column of dates, so many seconds after midnight.
fn with_time_of_day(
    sheet: &Sheet,
    columns: &[usize],
    seconds: &[i64],
    reading: &Reading<'_>,
) -> Result<Times, SeriesError> {
    let date = |row: usize| sheet.cell(row, columns[0]).to_owned();
    if let Some(times) = long_days::times(sheet, columns, seconds, reading)? {
        return Ok(times);
    }
    let whole_minutes = seconds.iter().all(|second| second % 60 == 0);
    let colon = Item::Literal(':');
    let mut time = vec![Item::Literal(' '), Item::FixedHour, colon, Item::FixedMinute];
    if !whole_minutes {
        time.extend([colon, Item::FixedSecond]);
    }
    let with_time = |format: Format| Format::new([format.items.as_slice(), &time].concat());
    let formats = formats_of_all(sheet, &columns[..1], &date)?.into_iter().map(with_time).collect();
    let cell = |row: usize| {
        let (date, second) = (sheet.cell(row, columns[0]), seconds[row]);
        let minute = format!("{date} {:02}:{:02}", second / 3600, second / 60 % 60);
        if whole_minutes { minute } else { format!("{minute}:{:02}", second % 60) }
    };
    choose(sheet, columns, &cell, formats, reading)
}

/// The formats of columns that each hold one part, to read and to write.
fn part_formats(sheet: &Sheet, columns: &[usize]) -> Option<(Format, Format)> {
    if columns.len() < 2 || columns.iter().any(|column| sheet.columns[*column].kind != Kind::Number) {
        return None;
    }
    let parts: Vec<Item> = columns.iter().map(|column| part(sheet.name(*column))).collect::<Option<_>>()?;
    let mut read = Vec::new();
    for item in &parts {
        read.extend([Item::Literal(' '), if *item == Item::Week { Item::WeekShort } else { *item }]);
    }
    let mut write: Vec<Item> = Vec::new();
    for item in parts {
        let before = match item {
            Item::Year => "",
            Item::Quarter => "Q",
            Item::Week => "-W",
            Item::Month | Item::Day | Item::WeekDay => "-",
            Item::Hour => " ",
            _ => ":",
        };
        write.extend(before.chars().map(Item::Literal));
        write.push(item);
    }
    if write.last() == Some(&Item::Hour) {
        write.extend(":00".chars().map(Item::Literal));
    }
    Some((Format::new(read[1..].to_vec()), Format::new(write)))
}

/// The formats that fit most of the cells looked at.
pub(super) fn formats_of_all(
    sheet: &Sheet,
    columns: &[usize],
    cell: &dyn Fn(usize) -> String,
) -> Result<Vec<Format>, SeriesError> {
    let step = (sheet.rows() / 40).max(1);
    let sample: Vec<usize> = (0..sheet.rows())
        .step_by(step)
        .filter(|row| !sheet.is_missing(sheet.cell(*row, columns[0])))
        .collect();
    let fits = |format: &Format| {
        sample.iter().filter(|row| format.read(&cell(**row)).is_some()).count() * 2 > sample.len()
    };
    for row in sample.iter().take(20) {
        let formats: Vec<Format> = formats_of(&cell(*row)).into_iter().filter(fits).collect();
        if !formats.is_empty() {
            return Ok(formats);
        }
    }
    if let Some(&row) = sample.iter().find(|row| year_day_month(&cell(**row)).is_some()) {
        return Err(sheet.error(row, columns[0], no_such_month(&cell(row))));
    }
    let row = sample.first().copied().unwrap_or(0);
    let found = shown(&cell(row));
    let problem = match short_year_formats(&cell(row)).first() {
        Some(format) => format!("the year in '{found}' has two digits; say --time-format, such as {format}"),
        None => format!("'{found}' is no time in any known format; say --time-format, such as %d.%m.%Y"),
    };
    Err(sheet.error(row, columns[0], problem))
}

/// Reads the column in every format and keeps the one that fits all of it. Of two, such as day first and month first,
/// the one in which the rows are evenly spaced, if the other leaves gaps.
pub(super) fn choose(
    sheet: &Sheet,
    columns: &[usize],
    cell: &dyn Fn(usize) -> String,
    formats: Vec<Format>,
    reading: &Reading<'_>,
) -> Result<Times, SeriesError> {
    let mut read: Vec<Times> = Vec::new();
    let mut problem = None;
    for format in formats {
        match read_times(sheet, columns, cell, format, reading) {
            Ok(times) if read.iter().any(|other| other.values == times.values) => {}
            Ok(times) => read.push(times),
            Err(error) => {
                // Of several formats that fail, the one that gets furthest was meant.
                let line =
                    |error: &SeriesError| if let SeriesError::Cell { line, .. } = error { *line } else { 0 };
                if problem.as_ref().is_none_or(|other| line(other) < line(&error)) {
                    problem = Some(error);
                }
            }
        }
    }
    // Years such as 2000-01 and 2001-02 follow one another; as months, they would be thirteen apart.
    let next_year = |times: &Times| {
        times
            .format
            .as_ref()
            .is_some_and(|format| format.items.iter().any(|item| matches!(item, Item::NextYear { .. })))
    };
    if sheet.rows() >= 3
        && let Some(at) = read.iter().position(next_year)
    {
        return Ok(read.swap_remove(at));
    }
    if read.len() > 1 {
        let even: Vec<bool> =
            read.iter().map(|times| times.values.len() >= 6 && is_even(&times.values)).collect();
        if even.iter().filter(|even| **even).count() != 1 {
            let row = (0..sheet.rows()).find(|row| read[0].values[*row] != read[1].values[*row]).unwrap_or(0);
            let [a, b] = [&read[0], &read[1]]
                .map(|times| times.format.as_ref().map_or(String::new(), Format::to_string));
            let found = shown(&cell(row));
            return Err(sheet.error(
                row,
                columns[0],
                format!("'{found}' may be {a} or {b}; say which with --time-format"),
            ));
        }
        let at = even.iter().position(|even| *even).unwrap_or(0);
        return Ok(read.swap_remove(at));
    }
    match (read.pop(), problem) {
        (Some(times), _) => Ok(times),
        (None, Some(problem)) => Err(problem),
        (None, None) => Err(sheet.source.table("no format fits the times; say --time-format")),
    }
}

/// Whether times, in either direction, are one step of a calendar apart throughout.
pub(super) fn is_even(values: &[i64]) -> bool {
    let mut sorted = values.to_vec();
    if sorted.first() > sorted.last() {
        sorted.reverse();
    }
    if !sorted.windows(2).all(|pair| pair[0] < pair[1]) {
        return false;
    }
    let Ok(Some(grid)) = Grid::find(&[&sorted], true) else { return false };
    sorted.iter().enumerate().all(|(at, value)| grid.position(*value) == Some(at as i64))
}

/// The moment of a label, for a header of dates.
///
/// `stated` is the format that the user gives.
pub(super) fn stamps(labels: &[&str], stated: Option<&str>) -> Option<(Format, Vec<Stamp>)> {
    let read = |mut format: Format| {
        let stamps: Option<Vec<Stamp>> = labels.iter().map(|label| format.read_noting(label)).collect();
        stamps.map(|stamps| (format, stamps))
    };
    if let Some(pattern) = stated {
        return Format::parse(pattern).ok().and_then(read);
    }
    let first = labels.first()?;
    let year = Format::parse("%Y").ok().filter(|_| first.len() == 4);
    // Names that begin with a digit are none to R, which puts an X before them.
    let patterns = ["%Y [YR%Y]", "X%Y", "X%Y.%m.%d", "X%Y.%m", "Y%Y", "y%Y", "YR%Y", "yr%Y", "F%Y", "FY%Y"];
    let marked = patterns.iter().filter_map(|pattern| Format::parse(pattern).ok());
    let (next_year, others): (Vec<Format>, Vec<Format>) = formats_of(first)
        .into_iter()
        .partition(|format| format.items.iter().any(|item| matches!(item, Item::NextYear { .. })));
    next_year.into_iter().filter(|_| labels.len() >= 3).chain(others).chain(year).chain(marked).find_map(read)
}
