//! Dates written as digits alone, other than year, month and day: `31012023`, `2023306`, and those whose year has two digits.

use super::time::is_even;
use crate::SeriesError;
use crate::calendar::format::Format;
use crate::table::sheet::Sheet;
use crate::table::shown;

/// The years of our time: digits that say others may be something else.
pub(super) const PRESENT: std::ops::RangeInclusive<i16> = 1700..=2200;

/// Formats of digits alone with a year of four digits, and their lengths.
const LONG: [(&str, usize); 12] = [
    ("%Y%j%H", 9),
    ("%Y%j%H%M", 11),
    ("%Y%q", 5),
    ("%d%m%Y", 8),
    ("%m%d%Y", 8),
    ("%Y%j", 7),
    ("%m%Y", 6),
    ("%d%m%Y%H", 10),
    ("%d%m%Y%H%M", 12),
    ("%m%d%Y%H%M", 12),
    ("%d%m%Y%H%M%S", 14),
    ("%m%d%Y%H%M%S", 14),
];

/// The same with years of two digits.
const SHORT: [(&str, usize); 10] = [
    ("%y%m%d", 6),
    ("%d%m%y", 6),
    ("%m%d%y", 6),
    ("%y%m", 4),
    ("%m%y", 4),
    ("%y%j", 5),
    ("%y%m%d%H", 8),
    ("%y%m%d%H%M", 10),
    ("%d%m%y%H%M", 10),
    ("%y%m%d%H%M%S", 12),
];

/// The cells of a column of digits alone, all of one length: a zero that a spreadsheet dropped is put back.
#[derive(Clone, Debug)]
pub(super) struct Digits {
    pub(super) cells: Vec<String>,
    len: usize,
}

impl Digits {
    /// The digits of a column; `None` if a cell has another character, or is shorter by more than one digit.
    pub(super) fn of(sheet: &Sheet, column: usize) -> Option<Digits> {
        let digits = |row: usize| {
            let cell = sheet.cell(row, column);
            let cell = cell.strip_suffix(".0").unwrap_or(cell);
            (!cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit())).then_some(cell)
        };
        let cells: Vec<&str> = (0..sheet.rows()).map(digits).collect::<Option<_>>()?;
        let (least, most) =
            (cells.iter().map(|cell| cell.len()).min()?, cells.iter().map(|cell| cell.len()).max()?);
        if !(4..=14).contains(&most) || most - least > 1 {
            return None;
        }
        Some(Digits { cells: cells.iter().map(|cell| format!("{cell:0>most$}")).collect(), len: most })
    }

    /// The digits with a zero before each, if they may be the first nine days of a month.
    pub(super) fn padded(&self) -> Option<Digits> {
        let cells = || self.cells.iter().map(|cell| format!("0{cell}")).collect();
        (self.len == 7).then(|| Digits { cells: cells(), len: 8 })
    }

    fn fitting(&self, formats: &[(&str, usize)]) -> Vec<Format> {
        let parsed = formats.iter().filter(|(_, len)| *len == self.len);
        let reads = |format: &Format| {
            self.cells
                .iter()
                .all(|cell| format.read(cell).is_some_and(|stamp| PRESENT.contains(&stamp.local().year())))
        };
        parsed.filter_map(|(pattern, _)| Format::parse(pattern).ok()).filter(reads).collect()
    }

    /// The formats with a year of four digits in which every cell is a date.
    pub(super) fn long(&self) -> Vec<Format> {
        self.fitting(&LONG)
    }

    /// The formats with a year of two digits in which every cell is a date; weeks, if the column's name says so.
    pub(super) fn short(&self, weeks: bool) -> Vec<Format> {
        if weeks { self.fitting(&[("%y%V", 4)]) } else { self.fitting(&SHORT) }
    }

    /// Whether the dates that one of the formats reads are evenly spaced.
    pub(super) fn even(&self, formats: &[Format]) -> bool {
        formats.iter().any(|format| {
            let values: Option<Vec<i64>> =
                self.cells.iter().map(|cell| format.read(cell).map(|stamp| stamp.micros)).collect();
            values.is_some_and(|values| values.len() >= 3 && is_even(&values))
        })
    }

    /// Whether a year that a format reads is far from ours.
    pub(super) fn far(&self, format: &Format) -> bool {
        let far =
            |cell: &String| format.read(cell).is_some_and(|stamp| !PRESENT.contains(&stamp.local().year()));
        self.cells.iter().any(far)
    }
}

/// The refusal of a column whose years may have two digits, in these formats; `other` is one more reading.
pub(super) fn short_year(
    sheet: &Sheet,
    column: usize,
    cell: &str,
    short: &[Format],
    other: Option<&Format>,
) -> SeriesError {
    let found = shown(cell);
    let format = short.iter().map(Format::to_string).collect::<Vec<_>>().join(" or ");
    let problem = match other {
        Some(other) => format!(
            "'{found}' may be {format}, with a year of two digits, or {other}; say which with --time-format"
        ),
        None => format!("the year in '{found}' has two digits; say --time-format, such as {format}"),
    };
    sheet.error(0, column, problem)
}
