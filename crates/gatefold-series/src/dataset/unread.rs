//! Columns that should say the time and cannot be read: without them, nobody knows the order of the rows.

use super::time_names::{is_fiscal_year, is_text_time_name, part};
use super::{number_time, parts};
use crate::SeriesError;
use crate::calendar::find::{holds_date, year_day_month};
use crate::calendar::format::Item;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use std::collections::HashSet;

/// Refuses a column that should say the time, and does so in no known format: without it, nobody knows the order.
pub(super) fn refuse_unread(sheet: &Sheet, used: &dyn Fn(&usize) -> bool) -> Result<(), SeriesError> {
    let free = || (0..sheet.columns.len()).filter(|column| !used(column));
    let unread = free().find(|column| match sheet.columns[*column].kind {
        Kind::Date => true,
        Kind::Text => is_text_time_name(sheet.name(*column)),
        _ => false,
    });
    let first = free().next();
    if let Some(column) = unread {
        let row = (0..sheet.rows()).find(|row| !sheet.is_missing(sheet.cell(*row, column))).unwrap_or(0);
        let found = shown(sheet.cell(row, column));
        let problem = match early_year(&found) {
            Some(year) => format!(
                "the year {year} in '{found}' lacks its century; write four digits, or say --time none"
            ),
            None if year_day_month(sheet.cell(row, column)).is_some() => {
                no_such_month(sheet.cell(row, column))
            }
            None if holds_dates(sheet, column) => return Err(may_be_time(sheet, column)),
            None => {
                format!("'{found}' does not say the day and the year; write whole dates, or say --time none")
            }
        };
        return Err(sheet.error(row, column, problem));
    }
    refuse_unread_dates(sheet, used)?;
    let Some(first) = first else { return Ok(()) };
    if sheet.columns[first].kind == Kind::Number && sheet.numeric().count() > 1 {
        number_time::refuse_falling(sheet, first)?;
    }
    let counting = |column: &usize| {
        sheet.columns[*column].kind == Kind::Text
            && sheet.numeric().next().is_some()
            && labels_rows(sheet, *column)
            && (*column == first || counts_in_labels(sheet, *column))
    };
    let Some(column) = free().find(counting) else { return Ok(()) };
    Err(may_be_time(sheet, column))
}

/// Refuses a column of fiscal years that repeat, beside one of months, quarters or weeks: they are the time, and a calendar's only
/// if the user says so.
pub(super) fn refuse_fiscal(sheet: &Sheet, used: &dyn Fn(&usize) -> bool) -> Result<(), SeriesError> {
    let years = |column: &usize| {
        let repeat = |values: Vec<i64>| {
            let distinct = values.iter().collect::<HashSet<_>>().len();
            distinct < values.len() && values.iter().all(|year| (1700..=2200).contains(year))
        };
        is_fiscal_year(sheet.name(*column)) && number_time::whole_numbers(sheet, *column).is_some_and(repeat)
    };
    let free = || (0..sheet.columns.len()).filter(|column| !used(column));
    let Some(year) = free().find(years) else { return Ok(()) };
    let of_year = |column: &usize| {
        let name = sheet.name(*column).to_lowercase().replace('_', " ");
        let named = part(name.trim_start_matches("fiscal ").trim());
        let named = matches!(named, Some(Item::Month | Item::Quarter | Item::Week)) || name == "period";
        *column != year && (named || is_part(sheet, *column)) && parts::varies_within(sheet, &[year], *column)
    };
    let Some(column) = free().find(of_year) else { return Ok(()) };
    let [years, name] = [year, column].map(|column| shown(sheet.name(column)));
    let problem = format!(
        "{name} may be parts of each {years}, which may begin in any month; say --time {years},{name} if it is the calendar's, or write dates"
    );
    Err(sheet.error(0, column, problem))
}

fn is_part(sheet: &Sheet, column: usize) -> bool {
    parts::part_of_year(sheet, column, false).is_ok_and(|found| found.is_some())
}

/// Refuses a column of text that holds dates in no known format, where only numbers in another column say the time.
pub(super) fn refuse_unread_dates(sheet: &Sheet, used: &dyn Fn(&usize) -> bool) -> Result<(), SeriesError> {
    let text = |column: &usize| sheet.columns[*column].kind == Kind::Text && !used(column);
    let unread = (0..sheet.columns.len()).filter(text).find(|column| holds_dates(sheet, *column));
    unread.map_or(Ok(()), |column| Err(may_be_time(sheet, column)))
}

/// Whether most cells of a column hold a date, with other text before it or after it.
fn holds_dates(sheet: &Sheet, column: usize) -> bool {
    let step = (sheet.rows() / 40).max(1);
    let cells = (0..sheet.rows()).step_by(step).map(|row| sheet.cell(row, column));
    let cells: Vec<&str> = cells.filter(|cell| !sheet.is_missing(cell)).collect();
    cells.iter().collect::<HashSet<_>>().len() >= 2
        && cells.iter().filter(|cell| holds_date(cell)).count() * 2 > cells.len()
}

fn may_be_time(sheet: &Sheet, column: usize) -> SeriesError {
    let row = (0..sheet.rows()).find(|row| !sheet.is_missing(sheet.cell(*row, column))).unwrap_or(0);
    let found = shown(sheet.cell(row, column));
    let problem = format!(
        "'{found}' may be a time, in no known format; say --time-format, or --time none if the oldest row is first"
    );
    sheet.error(row, column, problem)
}

/// The problem of a cell such as `2023-13-01`.
pub(super) fn no_such_month(cell: &str) -> String {
    let format = year_day_month(cell).map_or_else(String::new, |format| format.to_string());
    format!(
        "'{}' has no such month; correct it, or say --time-format {format} if the day comes before the month",
        shown(cell)
    )
}

/// Whether the last numbers of a column of labels rise or fall from row to row.
fn counts_in_labels(sheet: &Sheet, column: usize) -> bool {
    let number = |row: usize| {
        let digits =
            sheet.cell(row, column).split(|c: char| !c.is_ascii_digit()).rfind(|text| !text.is_empty());
        digits.and_then(|digits| digits.parse::<i64>().ok())
    };
    let numbers: Option<Vec<i64>> = (0..sheet.rows()).map(number).collect();
    numbers.is_some_and(|numbers| {
        numbers.windows(2).all(|pair| pair[0] < pair[1]) || numbers.windows(2).all(|pair| pair[0] > pair[1])
    })
}

/// A year of four digits that begins with two zeros.
fn early_year(cell: &str) -> Option<&str> {
    cell.split(|c: char| !c.is_ascii_digit()).find(|digits| digits.len() == 4 && digits.starts_with("00"))
}

/// Whether every row has another text, of any length, that begins or ends with a number.
fn labels_rows(sheet: &Sheet, column: usize) -> bool {
    let cells: HashSet<&str> = (0..sheet.rows()).map(|row| sheet.cell(row, column)).collect();
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let numbered = |cell: &&str| digit(cell.as_bytes().first()) || digit(cell.as_bytes().last());
    sheet.rows() >= 4 && cells.len() == sheet.rows() && cells.iter().all(numbered)
}
