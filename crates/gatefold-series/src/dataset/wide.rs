//! Tables in which a row is a whole series: a header of dates, or numbered names as in the M4 competition.

use super::digit_dates::PRESENT;
use super::options::{Layout, ReadOptions};
use super::parts::number_in;
use super::report::{TableReport, listed};
use super::time_names::part;
use super::{Dataset, Series, StaticValue, group, report, time};
use crate::calendar::clock::{Clock, Times, offset_changes};
use crate::calendar::find::{is_month_name, short_year_formats, time_of_day};
use crate::calendar::format::Format;
use crate::calendar::stamp::Stamp;
use crate::table::sheet::{Kind, Sheet};
use crate::table::{looks_dated, looks_numeric, numbered_run, shown};
use crate::{Calendar, Fill, SeriesError};
use std::collections::HashSet;
use std::ops::Range;

/// The columns of the values, and their times if the header says them.
pub(super) struct Values {
    columns: Range<usize>,
    times: Option<Times>,
}

/// The columns of values, if each row is a series.
pub(super) fn find(sheet: &Sheet, options: &ReadOptions) -> Result<Option<Values>, SeriesError> {
    let empty = |column: usize| sheet.columns[column].kind == Kind::Empty;
    let named_by_number = |column: usize| sheet.name(column) == (column + 1).to_string();
    let all = sheet.columns.len();
    let unnamed = (0..all).rev().take_while(|column| empty(*column) && named_by_number(*column)).count();
    let all = all - unnamed;
    match options.layout {
        Some(Layout::Long | Layout::Wide) => return Ok(None),
        None if !options.targets.is_empty() || !options.time.is_empty() => return Ok(None),
        _ => {}
    }
    let names: Vec<&str> = sheet.columns[..all].iter().map(|column| column.name.as_str()).collect();
    let usable = |column: usize| matches!(sheet.columns[column].kind, Kind::Number | Kind::Empty);
    let values_from = (0..all).rev().take_while(|column| usable(*column)).last().unwrap_or(all);
    // The longest run of dated names at the end, whatever is in the cells: one that is no number is refused by its place.
    let dated = (0..all).find_map(|from| {
        let labels = &names[from..];
        (labels.len() >= 3)
            .then(|| time::stamps(labels, options.time_format.as_deref()))
            .flatten()
            .map(|found| (from, found))
    });
    if let (Some((from, (format, stamps))), true) = (dated, sheet.head.names_line.is_some()) {
        if options.layout.is_none() {
            refuse_parts_down(sheet, from)?;
        }
        if options.time_format.is_none() {
            refuse_short_numbers(sheet, &names[from..], &stamps)?;
        }
        let values: Vec<i64> = stamps.iter().map(|stamp| stamp.micros).collect();
        let offsets: Option<Vec<i32>> =
            stamps.iter().map(super::super::calendar::stamp::Stamp::offset_seconds).collect();
        let clock = match &offsets {
            Some(offsets) => Clock::Offsets(offset_changes(&values, offsets)),
            None => Clock::Civil,
        };
        let name = format!("the names of columns {} to {}", names[from], names[all - 1]);
        let times =
            Times { values, offsets, clock, format: Some(format), name, columns: vec![from], mixed: None };
        return Ok(Some(Values { columns: from..all, times: Some(times) }));
    }
    if sheet.head.names_line.is_some() && options.time_format.is_none() {
        refuse_short_years(sheet, &names)?;
        refuse_other_names(sheet, &names)?;
    }
    if options.layout == Some(Layout::Rows) {
        let from = if values_from == 0 && all > 1 && !options.ids.is_empty() { 1 } else { values_from };
        if from == all {
            return Err(sheet
                .source
                .table("--layout rows, but the last column holds no numbers; say --layout long"));
        }
        return Ok(Some(Values { columns: from..all, times: None }));
    }
    // Numbered names after one to four columns of text, the first of which is an id.
    let from = all - numbered_run(&names).min(all);
    let from = if from == 0 && sheet.columns[0].kind == Kind::Text { 1 } else { from };
    let text = (0..from).all(|column| sheet.columns[column].kind == Kind::Text);
    let series = (1..=4).contains(&from) && text && all >= 8 && from >= values_from && unique(sheet, 0);
    Ok(series.then_some(Values { columns: from..all, times: None }))
}

/// Refuses rows that are the months, quarters or hours of the years or days above the columns: they are one series, and no row
/// is one. A row of sums may be among them.
fn refuse_parts_down(sheet: &Sheet, from: usize) -> Result<(), SeriesError> {
    let parts = |column: &usize| {
        let named = part(sheet.name(*column)).is_some();
        let cells = (0..sheet.rows()).map(|row| sheet.cell(row, *column));
        let is_part = |cell: &&str| {
            let quarter = number_in(cell, &["q"], &["q", ". quartal"], (1, 4)).is_some();
            let time = cell.contains(':') && time_of_day(cell).is_some();
            quarter || time || is_month_name(cell) || named && cell.parse::<u8>().is_ok()
        };
        let found: Vec<&str> = cells.filter(is_part).collect();
        found.len() * 4 >= sheet.rows() * 3 && found.iter().collect::<HashSet<_>>().len() >= 4
    };
    let Some(column) = (0..from).find(parts) else { return Ok(()) };
    let [name, first] = [sheet.name(column), sheet.name(from)].map(shown);
    let problem = format!(
        "{name} may hold parts of {first} and the times after it; turn the table so that times go down, or say --layout rows if \
         each row is a series"
    );
    Err(sheet.error(0, column, problem))
}

/// Refuses names of four digits that are years far from ours, and may be years and months of two digits each.
fn refuse_short_numbers(sheet: &Sheet, names: &[&str], stamps: &[Stamp]) -> Result<(), SeriesError> {
    let far = stamps.iter().any(|stamp| !PRESENT.contains(&stamp.local().year()));
    let short = ["%y%m", "%m%y"].into_iter().find(|pattern| {
        Format::parse(pattern).is_ok_and(|format| names.iter().all(|name| format.read(name).is_some()))
    });
    let Some(format) = short.filter(|_| far) else { return Ok(()) };
    let problem = format!(
        "the name '{}' may be {format}, with a year of two digits, or %Y; say which with --time-format",
        shown(names[0])
    );
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

/// Refuses names at the end of the header that are dates with years of two digits.
fn refuse_short_years(sheet: &Sheet, names: &[&str]) -> Result<(), SeriesError> {
    let short = |name: &&&str| !looks_numeric(name) && !short_year_formats(name).is_empty();
    if names.iter().rev().take_while(short).count() < 3 {
        return Ok(());
    }
    let last = names[names.len() - 1];
    let format = short_year_formats(last).first().map_or_else(String::new, ToString::to_string);
    let problem =
        format!("the year in the name '{}' has two digits; say --time-format, such as {format}", shown(last));
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

/// Refuses names that are times, with others after them: a row is a series then, and what else it holds, such as a sum, is no
/// sample. Beside a column of dates, they are names as any.
fn refuse_other_names(sheet: &Sheet, names: &[&str]) -> Result<(), SeriesError> {
    if sheet.columns.iter().any(|column| column.kind == Kind::Date) {
        return Ok(());
    }
    let run = |from: usize| {
        let longest =
            (from + 3..=names.len()).take_while(|end| time::stamps(&names[from..*end], None).is_some());
        longest.last().map(|end| from..end)
    };
    let looks = |name: &&str| looks_dated(name) || looks_numeric(name) && name.len() == 4;
    let Some(run) = (0..names.len()).filter(|at| looks(&names[*at])).find_map(run) else { return Ok(()) };
    if run.end == names.len() {
        return Ok(());
    }
    let [first, last, other] = [run.start, run.end - 1, run.end].map(|at| shown(names[at]));
    let problem = format!(
        "the names {first} to {last} are times, and '{other}' after them is none; remove or correct it, or say --layout long if \
         rows are no series"
    );
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

/// Whether every row has another cell in a column.
fn unique(sheet: &Sheet, column: usize) -> bool {
    let cells: HashSet<&str> = (0..sheet.rows()).map(|row| sheet.cell(row, column)).collect();
    cells.len() == sheet.rows() && !cells.contains("")
}

pub(super) fn dataset(sheet: &Sheet, values: &Values, options: &ReadOptions) -> Result<Dataset, SeriesError> {
    let first = values.columns.start;
    let (calendar, order) = match &values.times {
        Some(times) => {
            let mut order: Vec<usize> = (0..times.values.len()).collect();
            order.sort_by_key(|at| times.values[*at]);
            let at = |at: usize, problem: String| {
                let line = sheet.head.names_line.unwrap_or(1);
                sheet.source.line(line, format!("the name '{}': {problem}", sheet.name(first + at)))
            };
            let (calendar, times) = group::calendar(sheet, times.clone(), &[order.clone()], options, &at)?;
            check_header(sheet, &calendar, &times, &order, first)?;
            (calendar, order)
        }
        None => (Calendar::of_rows(), (0..values.columns.len()).collect()),
    };
    let id_columns: Vec<usize> = if options.ids.is_empty() {
        (0..first)
            .find(|column| unique(sheet, *column))
            .map_or_else(|| (0..first).collect(), |column| vec![column])
    } else {
        options.ids.iter().map(|name| sheet.find(name)).collect::<Result<_, _>>()?
    };
    let statics: Vec<usize> = (0..first).filter(|column| !id_columns.contains(column)).collect();
    let mut all = Vec::with_capacity(sheet.rows());
    let mut filled = 0;
    for row in 0..sheet.rows() {
        let (start, samples, made_up) = series_of(sheet, row, first, &order, options)?;
        filled += made_up.len();
        let id: Vec<String> = id_columns.iter().map(|column| shown(sheet.cell(row, *column))).collect();
        let id = if id.is_empty() { (row + 1).to_string() } else { id.join("/") };
        if all.iter().any(|series: &Series| series.id() == Some(&id)) {
            let column = id_columns.first().copied().unwrap_or(0);
            return Err(sheet.error(
                row,
                column,
                format!("the id '{id}' comes twice; say which columns with --id"),
            ));
        }
        let statics =
            statics.iter().map(|column| StaticValue::Text(shown(sheet.cell(row, *column)))).collect();
        all.push(Series {
            id: Some(id),
            start,
            targets: vec![samples],
            made_up: vec![made_up],
            covariates: Vec::new(),
            covariates_made_up: Vec::new(),
            statics,
            future: 0,
        });
    }
    let report = report_of(sheet, values, &calendar, &all, &id_columns, filled);
    let names = |columns: &[usize]| columns.iter().map(|column| sheet.name(*column).to_owned()).collect();
    Ok(Dataset {
        series: all,
        targets: vec!["value".into()],
        ids: names(&id_columns),
        in_columns: false,
        covariates: Vec::new(),
        past: 0..0,
        future: Vec::new(),
        statics: names(&statics),
        calendar,
        report,
    })
}

/// Refuses a header with gaps or with a date twice.
fn check_header(
    sheet: &Sheet,
    calendar: &Calendar,
    times: &Times,
    order: &[usize],
    first: usize,
) -> Result<(), SeriesError> {
    let mut expected = calendar.grid().position(times.values[order[0]]);
    for at in order {
        let found = calendar.grid().position(times.values[*at]);
        if found != expected || found.is_none() {
            let name = sheet.name(first + at);
            let wanted = expected.map_or_else(String::new, |position| calendar.label(position));
            let line = sheet.head.names_line.unwrap_or(1);
            return Err(sheet
                .source
                .line(line, format!("the names go on with '{name}' where {wanted} is next; correct them")));
        }
        expected = found.map(|position| position + 1);
    }
    Ok(())
}

/// The samples of a row from its first to its last value, the first one's place before them, and the places of those that
/// were filled.
fn series_of(
    sheet: &Sheet,
    row: usize,
    first: usize,
    order: &[usize],
    options: &ReadOptions,
) -> Result<(i64, Vec<f64>, Vec<usize>), SeriesError> {
    let mut samples = Vec::with_capacity(order.len());
    for at in order {
        samples.push(sheet.number_at(row, first + at)?);
    }
    let known = |value: &f64| !value.is_nan();
    let (Some(start), Some(end)) = (samples.iter().position(known), samples.iter().rposition(known)) else {
        return Err(sheet.source.line(sheet.line(row), "a series without any value; remove the line"));
    };
    samples.truncate(end + 1);
    samples.drain(..start);
    if let Some(at) = samples.iter().position(|value| value.is_nan())
        && options.fill == Fill::Refuse
    {
        let problem =
            "the cell is missing; fill in a number, or ask for a fill: --fill previous, linear or zero";
        return Err(sheet.error(row, first + order[start + at], problem));
    }
    let made_up = super::regular::fill_inner(&mut samples, options.fill);
    Ok((start as i64, samples, made_up))
}

fn report_of(
    sheet: &Sheet,
    values: &Values,
    calendar: &Calendar,
    series: &[Series],
    ids: &[usize],
    filled: usize,
) -> TableReport {
    let mut out = report::of_sheet(sheet, Some(values.columns.start));
    report::say_time(&mut out, values.times.as_ref(), calendar, series);
    let names = listed(ids.iter().map(|column| sheet.name(*column)));
    let by = if ids.is_empty() { String::new() } else { format!(", named by {names}") };
    out.say("series", format!("{}, one a row{by}", series.len()));
    if filled > 0 {
        out.say("filled", format!("{filled} missing values"));
        out.add_filled(filled);
    }
    report::say_values(&mut out, series, vec!["value"], calendar);
    out
}
