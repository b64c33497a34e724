//! Tables whose columns are parts of a time: the months of a year, the hours of a day. They are one series, row after row.

use super::options::ReadOptions;
use super::parts::{is_part_text, number_in};
use super::regular::{Counts, Regular, Values, placed};
use super::report::TableReport;
use super::{Dataset, Series, group, number_time, periods, pivot_parts, report, time};
use crate::calendar::clock::{Clock, Times};
use crate::calendar::find::{month_names, time_of_day};
use crate::calendar::format::{Format, Item};
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use crate::{Calendar, SeriesError};
use std::ops::Range;

/// A column of years or of dates, and the columns of their parts.
pub(super) struct Pivot {
    pub(super) base: usize,
    pub(super) columns: Range<usize>,
    pub(super) part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// Months, quarters, halves or weeks, numbered from 1.
    OfYear(Item),
    /// So many minutes each, the first after so many.
    OfDay { step: i64, first: i64 },
    /// Months from this one on, after years such as 2000/01 that begin with it.
    OfFiscalYear { first: i64 },
    /// Days, of weeks or of months that begin with the first.
    Days { of_month: bool },
}

/// The initials of the months, for names such as DJF: December to February.
const INITIALS: &[u8] = b"DJFMAMJJASONDJ";

/// The columns that are parts of the years or dates of the first one.
pub(super) fn find(sheet: &Sheet, options: &ReadOptions) -> Result<Option<Pivot>, SeriesError> {
    let asked = options.layout.is_some()
        || options.no_time
        || options.time_format.is_some()
        || options.covariates().is_some()
        || !(options.targets.is_empty() && options.time.is_empty() && options.ids.is_empty());
    if asked || sheet.columns.len() < 3 || sheet.head.names_line.is_none() {
        return Ok(None);
    }
    let years = number_time::whole_numbers(sheet, 0).filter(|values| {
        sheet.columns[0].kind == Kind::Number && values.iter().all(|year| (1000..3000).contains(year))
    });
    let names: Vec<String> = sheet.columns.iter().map(|column| column.name.trim().to_lowercase()).collect();
    if sheet.columns[0].kind == Kind::Text {
        refuse_parts_of_rows(sheet, &names)?;
    }
    let sizes: &[usize] = match (&years, sheet.columns[0].kind) {
        (Some(_), _) => &[52, 53, 12, 4, 2],
        (None, Kind::Date) => &[96, 48, 24],
        _ => &[],
    };
    let found = sizes.iter().find_map(|size| {
        (1..(names.len() + 1).saturating_sub(*size)).find_map(|from| {
            let names = &names[from..from + size];
            let part = if years.is_some() { part_of_year(names) } else { part_of_day(names) };
            part.map(|part| Pivot { base: 0, columns: from..from + size, part })
        })
    });
    if let Some(pivot) = &found {
        refuse_bare_numbers(sheet, pivot, &names)?;
        refuse_long_day(sheet, pivot, &names)?;
    }
    let found = match found {
        None if sheet.columns[0].kind == Kind::Date => pivot_parts::of_dates(sheet, &names, options)?,
        found => found,
    };
    let Some(pivot) = found else {
        if years.is_some() {
            refuse_seasons(sheet, &names)?;
        }
        pivot_parts::refuse(sheet, &names)?;
        return Ok(None);
    };
    let other = (1..names.len())
        .find(|column| !pivot.columns.contains(column) && sheet.columns[*column].kind == Kind::Text);
    let base: Vec<&str> = (0..sheet.rows()).map(|row| sheet.cell(row, 0)).collect();
    let repeated = (1..base.len()).find(|row| base[..*row].contains(&base[*row]));
    if let Some(row) = repeated {
        let which =
            other.map_or_else(String::new, |column| format!(", for several {}", shown(sheet.name(column))));
        let problem = format!(
            "{} comes twice{which}, and {} to {} are parts of it; write one row for each part, or say --layout long",
            shown(base[row]),
            shown(sheet.name(pivot.columns.start)),
            shown(sheet.name(pivot.columns.end - 1))
        );
        return Err(sheet.error(row, 0, problem));
    }
    Ok(Some(pivot))
}

/// Refuses columns that are numbered and no more, such as 1 to 24 after dates: they may be hours, and as well sensors. Twelve
/// after years are months.
fn refuse_bare_numbers(sheet: &Sheet, pivot: &Pivot, names: &[String]) -> Result<(), SeriesError> {
    let bare = |column: usize| names[column].bytes().all(|byte| byte.is_ascii_digit());
    if pivot.part == Part::OfYear(Item::Month) || !pivot.columns.clone().all(bare) {
        return Ok(());
    }
    let [base, first, last] =
        [pivot.base, pivot.columns.start, pivot.columns.end - 1].map(|column| shown(sheet.name(column)));
    let letter = match pivot.part {
        Part::OfDay { step: 60, .. } => "H",
        Part::OfDay { .. } => "P",
        Part::OfYear(Item::Quarter) => "Q",
        Part::OfYear(Item::Half) => "H",
        _ => "W",
    };
    let problem = format!(
        "the names {first} to {last} may be parts of each {base}, or series; name the parts {letter}{first} and so on, or say \
         --layout wide"
    );
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

/// Refuses one more hour or shorter period after those of a day: summer time ends then, and the clock shows an hour twice.
fn refuse_long_day(sheet: &Sheet, pivot: &Pivot, names: &[String]) -> Result<(), SeriesError> {
    let next = pivot.columns.end;
    let last = |name: &str| name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<i64>().ok();
    let goes_on =
        |name: &String| last(name).is_some() && last(name) == last(&names[next - 1]).map(|last| last + 1);
    let more = matches!(pivot.part, Part::OfDay { .. }) && names.get(next).is_some_and(goes_on);
    let Some(row) = (0..sheet.rows()).find(|row| more && !sheet.is_missing(sheet.cell(*row, next))) else {
        return Ok(());
    };
    let problem = format!(
        "a value of a day of 25 hours, as where summer time ends; write one row for each {}, with offsets",
        shown(sheet.name(pivot.columns.start))
    );
    Err(sheet.error(row, next, problem))
}

/// Refuses months, quarters or hours as names after a text that differs from row to row: each row is a series of them,
/// or each column is one.
fn refuse_parts_of_rows(sheet: &Sheet, names: &[String]) -> Result<(), SeriesError> {
    let parts = |size: usize| {
        let from = names.len().checked_sub(size).filter(|from| *from > 0)?;
        let of_day = size == 24 && part_of_day(&names[from..]).is_some();
        (of_day || part_of_year(&names[from..]).is_some()).then_some(from)
    };
    let Some(from) = [52, 53, 24, 12, 4].into_iter().find_map(parts) else { return Ok(()) };
    let problem = format!(
        "the names {} to {} are parts of a year or day; say --layout rows if each row is a series, or --layout long",
        shown(sheet.name(from)),
        shown(sheet.name(names.len() - 1))
    );
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

fn part_of_year(names: &[String]) -> Option<Part> {
    let counted = |before: &[&str], after: &[&str]| {
        let number = |name: &String| match name.parse() {
            Ok(number) => Some(number),
            Err(_) => number_in(name, before, after, (1, 53)),
        };
        names.iter().enumerate().all(|(at, name)| number(name) == Some(at as i64 + 1))
    };
    let item = match names.len() {
        12 if month_names(names) || counted(&["m", "month", "monat"], &[]) => Item::Month,
        4 if counted(&["q", "qtr", "quarter", "quartal", "t"], &["q", ". quartal"]) => Item::Quarter,
        2 if counted(&["h", "hj", "s", "half"], &["h", ". halbjahr"]) => Item::Half,
        52 | 53 if counted(&["w", "kw", "week"], &["w", ". kw"]) => Item::Week,
        _ => return None,
    };
    Some(Part::OfYear(item))
}

fn part_of_day(names: &[String]) -> Option<Part> {
    let step = 1440 / names.len() as i64;
    let clock = |name: &String| {
        let (hour, minute) = name.split_once(':').filter(|_| time_of_day(name).is_some())?;
        Some(hour.parse::<i64>().ok()? * 60 + minute.get(..2)?.parse::<i64>().ok()?)
    };
    let number = |name: &String| match name.parse() {
        Ok(number) => Some(number),
        Err(_) => number_in(name, &["he", "hour", "hr", "h", "p", "period"], &["h", "uhr"], (0, 96)),
    };
    let first = clock(&names[0]).or_else(|| {
        // Hours are named by where they begin or end; shorter periods are counted from 1.
        let first = number(&names[0])?;
        Some(if step == 60 { first * 60 } else { (first - 1) * step })
    })?;
    let follows = |at: usize, name: &String| match clock(name) {
        Some(minutes) => minutes == first + at as i64 * step,
        None => {
            number(name).is_some_and(|found| Some(found) == number(&names[0]).map(|start| start + at as i64))
        }
    };
    let runs = names.iter().enumerate().all(|(at, name)| follows(at, name));
    ((0..=step).contains(&first) && runs).then_some(Part::OfDay { step, first })
}

/// Refuses columns that are seasons, or months taken together: they are parts of a year that overlap or have no place.
fn refuse_seasons(sheet: &Sheet, names: &[String]) -> Result<(), SeriesError> {
    let season = |name: &String| {
        let initials =
            name.len() == 3 && INITIALS.windows(3).any(|three| three.eq_ignore_ascii_case(name.as_bytes()));
        initials || is_part_text(name)
    };
    let seasons: Vec<usize> = (1..names.len()).filter(|column| season(&names[*column])).collect();
    let numbers = sheet.numeric().filter(|column| *column > 0).count();
    if seasons.len() < 3 || seasons.len() < numbers {
        return Ok(());
    }
    let (first, last) = (seasons[0], seasons[seasons.len() - 1]);
    let problem = format!(
        "the names {} to {} are parts of a year; write one row for each, or say --target for a yearly series",
        shown(sheet.name(first)),
        shown(sheet.name(last))
    );
    Err(sheet.source.line(sheet.head.names_line.unwrap_or(1), problem))
}

/// The times of all cells, row after row; the rows and columns of those that exist.
fn times(
    sheet: &Sheet,
    pivot: &Pivot,
    options: &ReadOptions,
) -> Result<(Times, Vec<(usize, usize)>), SeriesError> {
    let mut cells = Vec::new();
    let mut values = Vec::new();
    let name = format!(
        "{} with {} to {}",
        sheet.name(pivot.base),
        sheet.name(pivot.columns.start),
        sheet.name(pivot.columns.end - 1)
    );
    let format = match pivot.part {
        Part::OfYear(item) => {
            let short = if item == Item::Week { Item::WeekShort } else { item };
            let read = Format::new(vec![Item::Year, Item::Literal(' '), short]);
            for row in 0..sheet.rows() {
                for (at, column) in pivot.columns.clone().enumerate() {
                    let text = format!("{} {}", sheet.cell(row, pivot.base), at + 1);
                    match read.read(&text) {
                        Some(stamp) => values.push(stamp.micros),
                        None if sheet.is_missing(sheet.cell(row, column)) => continue, // a year without a week 53
                        None => {
                            return Err(sheet.error(
                                row,
                                column,
                                "the year has no such part; leave the cell empty",
                            ));
                        }
                    }
                    cells.push((row, column));
                }
            }
            time::year_format(item)
        }
        Part::OfFiscalYear { .. } | Part::Days { .. } => {
            let (format, moments) = pivot_parts::moments(sheet, pivot, options)?;
            for moment in moments {
                values.push(moment.micros);
                cells.push((moment.row, moment.column));
            }
            format
        }
        Part::OfDay { step, first } => {
            let days = time::of_column(sheet, pivot.base, options)?;
            let (Clock::Civil, Some(format)) = (&days.clock, days.format) else {
                let problem = "dates with columns of hours go with no zone; write one row for each hour";
                return Err(sheet.error(0, pivot.base, problem));
            };
            // A period named by its end belongs to the day that ends at midnight.
            let longer = options
                .freq
                .is_some_and(|freq| freq.micros().is_none_or(|period| period > step * 60_000_000));
            let ends = first == step && longer && options.aggregate.is_some();
            for row in 0..sheet.rows() {
                for (at, column) in pivot.columns.clone().enumerate() {
                    values.push(days.values[row] + (first + at as i64 * step) * 60_000_000 - i64::from(ends));
                    cells.push((row, column));
                }
            }
            let time = [Item::Literal(' '), Item::FixedHour, Item::Literal(':'), Item::FixedMinute];
            let style = format.style.clone();
            Format { style, ..Format::new([format.items.as_slice(), &time].concat()) }
        }
    };
    let times = Times {
        values,
        offsets: None,
        clock: Clock::Civil,
        format: Some(format),
        name,
        columns: vec![pivot.base],
        mixed: None,
    };
    Ok((times, cells))
}

pub(super) fn dataset(sheet: &Sheet, pivot: &Pivot, options: &ReadOptions) -> Result<Dataset, SeriesError> {
    let (times, cells) = times(sheet, pivot, options)?;
    let mut order: Vec<usize> = (0..cells.len()).collect();
    order.sort_by_key(|at| times.values[*at]);
    let at = |at: usize, problem: String| sheet.error(cells[at].0, cells[at].1, problem);
    let (calendar, times) = group::calendar(sheet, times, std::slice::from_ref(&order), options, &at)?;
    let samples: Vec<f64> =
        cells.iter().map(|(row, column)| sheet.number_at(*row, *column)).collect::<Result<_, _>>()?;
    let mut values = Values { targets: vec![samples], covariates: vec![], complete: vec![] };
    let periods = options.freq.is_some() && options.aggregate.is_some();
    let rows = placed(calendar.grid(), order.iter().map(|at| (times.values[*at], *at)), periods).map_err(
        |(_, cell)| {
            at(
                cell,
                format!(
                    "it is no moment of a calendar that is {}; say another --freq, or --agg",
                    calendar.frequency()
                ),
            )
        },
    )?;
    let mut counts = Counts::default();
    let checked = if options.aggregate.is_some() {
        periods::check(&rows, &times, &mut values, options, &mut counts)
    } else {
        Ok(())
    };
    let regular =
        checked.and_then(|()| Regular::of(&rows, &values, options, &mut counts)).map_err(|problem| {
            let label = |cell: usize| shown(sheet.cell(cells[cell].0, pivot.base));
            let at = |cell: usize, _: Option<String>, problem: String| at(cell, problem);
            problem.error(&|_| String::new(), &at, &times.name, &label, "")
        })?;
    let series = vec![Series {
        id: None,
        start: regular.start,
        targets: regular.targets,
        made_up: regular.made_up,
        covariates: Vec::new(),
        covariates_made_up: Vec::new(),
        statics: Vec::new(),
        future: regular.future,
    }];
    let report = report_of(sheet, pivot, &times, &calendar, &series, &counts, options);
    Ok(Dataset {
        series,
        targets: vec!["value".into()],
        ids: Vec::new(),
        in_columns: false,
        covariates: Vec::new(),
        past: 0..0,
        future: Vec::new(),
        statics: Vec::new(),
        calendar,
        report,
    })
}

fn report_of(
    sheet: &Sheet,
    pivot: &Pivot,
    times: &Times,
    calendar: &Calendar,
    series: &[Series],
    counts: &Counts,
    options: &ReadOptions,
) -> TableReport {
    let mut out = report::of_sheet(sheet, Some(pivot.columns.start));
    report::say_time(&mut out, Some(times), calendar, series);
    let [base, first, last] =
        [pivot.base, pivot.columns.start, pivot.columns.end - 1].map(|column| shown(sheet.name(column)));
    out.say("series", format!("1: {first} to {last} are parts of each {base}"));
    report::say_counts(&mut out, counts, options, calendar);
    let left_out: Vec<&str> = (0..sheet.columns.len())
        .filter(|column| *column != pivot.base && !pivot.columns.contains(column))
        .map(|column| sheet.name(column))
        .collect();
    if !left_out.is_empty() {
        out.say("left out", format!("{}: no such part", report::listed(left_out.into_iter())));
    }
    report::say_values(&mut out, series, vec!["value"], calendar);
    out
}
