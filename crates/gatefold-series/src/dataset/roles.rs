//! The role of each column: time, id, target or covariate.

use super::number_time::{counts_rows, whole_numbers};
use super::options::ReadOptions;
use super::parts::refuse_doubtful;
use crate::SeriesError;
use crate::calendar::clock::Times;
use crate::calendar::stamp::clock;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use jiff::civil::DateTime;
use jiff::tz;
use std::collections::{HashMap, HashSet};

/// Names of columns that tell series apart.
const ID_NAMES: [&str; 50] = [
    "series id",
    "branch",
    "plant",
    "machine",
    "site",
    "location",
    "warehouse",
    "account",
    "asset",
    "household",
    "filiale",
    "standort",
    "werk",
    "maschine",
    "artikel",
    "produkt",
    "kunde",
    "land",
    "magasin",
    "produit",
    "unique_id",
    "id",
    "series",
    "series_id",
    "item",
    "item_id",
    "sku",
    "store",
    "store_id",
    "shop",
    "product",
    "product_id",
    "article",
    "station",
    "station_id",
    "sensor",
    "sensor_id",
    "device",
    "device_id",
    "symbol",
    "ticker",
    "country",
    "region",
    "city",
    "meter",
    "name",
    "subject",
    "patient",
    "user",
    "customer",
];

/// An id without what may be a habit of writing: capitals, leading zeros, a decimal zero, and blanks, hyphens and underlines
/// unless they stand between two numbers or before one.
fn plain(id: &str) -> String {
    let part = |part: &str| {
        let text = part.trim().to_lowercase();
        plain_number(&text).unwrap_or_else(|| plain_words(&text))
    };
    id.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Digits, with a decimal point perhaps, without the zeros that say nothing. As text, since ids may have more digits than a
/// number keeps.
fn plain_number(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    Some(if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") })
}

fn plain_words(text: &str) -> String {
    let is_gap = |c: char| c.is_whitespace() || matches!(c, '-' | '_');
    let mut out = String::new();
    let mut gap = false;
    for c in text.chars() {
        if is_gap(c) {
            gap = true;
            continue;
        }
        // `1-1` is not `11`, nor `-5` the same as `5`.
        if gap && c.is_numeric() && !out.ends_with(char::is_alphabetic) {
            out.push('-');
        }
        gap = false;
        out.push(c);
    }
    out
}

/// The series of each row, by the columns that tell them apart.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub(super) columns: Vec<usize>,
    pub(super) found: bool,
    pub(super) ids: Vec<String>,
    pub(super) of_row: Vec<u32>,
    /// A column that may tell series apart, and was not used.
    pub(super) doubt: Option<usize>,
}

impl Groups {
    pub(super) fn one(sheet: &Sheet) -> Groups {
        Groups {
            columns: Vec::new(),
            found: false,
            ids: vec![String::new()],
            of_row: vec![0; sheet.rows()],
            doubt: None,
        }
    }

    /// The groups that columns make; of several, their cells are joined by a slash.
    pub(super) fn by(sheet: &Sheet, columns: &[usize]) -> Groups {
        let mut numbers = HashMap::<String, u32>::new();
        let (mut ids, mut of_row) = (Vec::new(), Vec::with_capacity(sheet.rows()));
        let mut key = String::new();
        for row in 0..sheet.rows() {
            key.clear();
            for (at, column) in columns.iter().enumerate() {
                key.push_str(if at == 0 { "" } else { "/" });
                key.push_str(sheet.cell(row, *column));
            }
            let number = match numbers.get(&key) {
                Some(number) => *number,
                None => {
                    let number = ids.len() as u32;
                    ids.push(key.clone());
                    numbers.insert(key.clone(), number);
                    number
                }
            };
            of_row.push(number);
        }
        Groups { columns: columns.to_vec(), found: false, ids, of_row, doubt: None }
    }

    /// Two ids that may be one, written in two ways: equal apart from capitals, blanks, leading zeros or a decimal zero, with no
    /// moment in common. The first row of each.
    pub(super) fn alike(&self, times: Option<&Times>) -> Option<(usize, usize)> {
        let times = times.filter(|_| self.ids.len() > 1)?;
        let mut first: HashMap<String, usize> = HashMap::new();
        let moments = |id: usize| {
            let rows = self.of_row.iter().zip(&times.values).filter(move |(of, _)| **of as usize == id);
            rows.map(|(_, value)| *value).collect::<HashSet<i64>>()
        };
        let row = |id: usize| self.of_row.iter().position(|of| *of as usize == id);
        for (id, text) in self.ids.iter().enumerate() {
            match first.get(&plain(text)) {
                Some(other) if moments(*other).is_disjoint(&moments(id)) => {
                    return Some((row(*other)?, row(id)?));
                }
                Some(_) => {}
                None => drop(first.insert(plain(text), id)),
            }
        }
        None
    }

    /// Whether no series has two rows of the same moment.
    fn separate(&self, times: &Times) -> bool {
        let mut seen = HashSet::with_capacity(times.values.len());
        self.of_row.iter().zip(&times.values).all(|pair| seen.insert((*pair.0, *pair.1)))
    }

    /// The groups asked for, or those that tell rows of the same moment apart.
    pub(super) fn find(
        sheet: &Sheet,
        times: Option<&Times>,
        options: &ReadOptions,
    ) -> Result<Groups, SeriesError> {
        if !options.ids.is_empty() {
            let columns = options.ids.iter().map(|name| sheet.find(name)).collect::<Result<Vec<_>, _>>()?;
            for column in &columns {
                if let Some(row) = (0..sheet.rows()).find(|row| sheet.is_missing(sheet.cell(*row, *column))) {
                    return Err(sheet.error(
                        row,
                        *column,
                        "the id is missing; fill it in, or remove the line",
                    ));
                }
            }
            return Ok(Groups::by(sheet, &columns));
        }
        let one = Groups::one(sheet);
        let candidates = candidates(sheet, times, options);
        let named = candidates.iter().copied().find(|column| is_id(sheet, *column));
        let (Some(times), false) = (times, times.is_none_or(|times| one.separate(times))) else {
            let doubt = candidates
                .iter()
                .copied()
                .find(|column| sheet.columns[*column].kind == Kind::Text && in_blocks(sheet, *column));
            if let (None, None, false) = (named, times, options.no_time)
                && let Some(column) = doubt
                    .or_else(|| candidates.iter().copied().find(|column| cycles(sheet, *column)))
                    .or_else(|| candidates.iter().copied().find(|column| is_numbered_id(sheet, *column)))
            {
                let name = shown(sheet.name(column));
                let problem = format!(
                    "{name} may tell several series apart; say --id {name}, or --time none if all rows are one series"
                );
                return Err(sheet.error(0, column, problem));
            }
            let one = Groups { doubt, ..one };
            return Ok(named.map_or(one, |column| Groups { found: true, ..Groups::by(sheet, &[column]) }));
        };
        if options.aggregate.is_some() {
            return Ok(named.map_or(one, |column| Groups { found: true, ..Groups::by(sheet, &[column]) }));
        }
        let singles = candidates.iter().map(|column| vec![*column]);
        let most = &candidates[..candidates.len().min(8)];
        let pairs = most.iter().enumerate().flat_map(|(at, a)| most[at + 1..].iter().map(|b| vec![*a, *b]));
        // Where few moments repeat, they are duplicates, and a column of text that differs between them proves nothing.
        let distinct = times.values.iter().collect::<HashSet<_>>().len();
        let many = distinct * 2 <= sheet.rows() + 1;
        let named = named_candidates(sheet, &candidates);
        let trusted = |groups: &Groups| many || groups.columns.iter().all(|column| named.contains(column));
        let found = singles
            .chain(pairs)
            .map(|columns| Groups::by(sheet, &columns))
            .find(|groups| groups.ids.len() * 2 <= sheet.rows() && trusted(groups) && groups.separate(times));
        for column in found
            .iter()
            .flat_map(|groups| &groups.columns)
            .filter(|column| !names_series(sheet.name(**column)))
        {
            let columns = found.as_ref().map_or(&[][..], |groups| &groups.columns);
            refuse_doubtful(sheet, times, columns, *column)?;
        }
        Ok(found.map_or(one, |groups| Groups { found: true, ..groups }))
    }
}

/// Columns that may tell series apart, the likeliest first: text before numbers, those named so before both.
fn candidates(sheet: &Sheet, times: Option<&Times>, options: &ReadOptions) -> Vec<usize> {
    let time = |column: &usize| times.is_some_and(|times| times.columns.contains(column));
    let used = |column: &usize| {
        let name = sheet.name(*column);
        let asked = |names: &[String]| names.iter().any(|asked| asked == name);
        asked(&options.targets) || asked(&options.past) || asked(&options.future)
    };
    let complete = |column: &usize| sheet.columns[*column].missing == 0;
    let few_numbers = |column: usize| {
        // An id keeps its value for a while, or comes back for every moment.
        whole_numbers(sheet, column).is_some_and(|values| {
            let distinct = values.iter().collect::<HashSet<_>>().len();
            distinct > 1 && distinct * 2 <= values.len()
        })
    };
    let last_number = sheet.numeric().next_back();
    let mut columns: Vec<usize> = (0..sheet.columns.len())
        .filter(|column| !time(column) && !used(column) && complete(column))
        .filter(|column| match sheet.columns[*column].kind {
            Kind::Text => true,
            Kind::Number => Some(*column) != last_number && few_numbers(*column),
            _ => false,
        })
        .collect();
    let named = |column: usize| is_id_name(sheet.name(column));
    columns.sort_by_key(|column| (!named(*column), sheet.columns[*column].kind != Kind::Text));
    columns
}

fn is_id_name(name: &str) -> bool {
    let name = name.to_lowercase();
    ID_NAMES.contains(&name.as_str()) || name.ends_with("_id")
}

/// Whether a word of a name says that the column tells series apart, as in `store_nbr`.
fn names_series(name: &str) -> bool {
    let name = name.to_lowercase();
    is_id_name(&name) || name.split([' ', '_', '-', '.']).any(|word| ID_NAMES.contains(&word))
}

fn named_candidates(sheet: &Sheet, candidates: &[usize]) -> Vec<usize> {
    candidates.iter().copied().filter(|column| is_id_name(sheet.name(*column))).collect()
}

/// Whether a column is an id by its name, though no two rows are of the same moment: text that repeats, or numbers that
/// each keep to a block of rows.
fn is_id(sheet: &Sheet, column: usize) -> bool {
    let text = sheet.columns[column].kind == Kind::Text;
    if !is_id_name(sheet.name(column)) || !text && !in_blocks(sheet, column) {
        return false;
    }
    let cells: HashSet<&str> = (0..sheet.rows()).map(|row| sheet.cell(row, column)).collect();
    cells.len() > 1 && cells.len() * 2 <= sheet.rows()
}

/// Whether a column of numbers is an id by its name.
fn is_numbered_id(sheet: &Sheet, column: usize) -> bool {
    sheet.columns[column].kind == Kind::Number && is_id_name(sheet.name(column))
}

/// Whether a column keeps each of its values for a block of rows, of two rows or more.
fn in_blocks(sheet: &Sheet, column: usize) -> bool {
    let (mut seen, mut lengths) = (HashSet::new(), Vec::new());
    for row in 0..sheet.rows() {
        let cell = sheet.cell(row, column);
        if row == 0 || sheet.cell(row - 1, column) != cell {
            if !seen.insert(cell) {
                return false;
            }
            lengths.push(0);
        }
        if let Some(length) = lengths.last_mut() {
            *length += 1;
        }
    }
    lengths.len() > 1 && lengths.iter().all(|length| *length > 1)
}

/// Whether a column of text goes through the same values again and again, other than the days of the week or the months.
fn cycles(sheet: &Sheet, column: usize) -> bool {
    if sheet.columns[column].kind != Kind::Text {
        return false;
    }
    let first = sheet.cell(0, column);
    let Some(period) = (1..sheet.rows()).find(|row| sheet.cell(*row, column) == first) else { return false };
    let distinct = (0..period).map(|row| sheet.cell(row, column)).collect::<HashSet<_>>().len() == period;
    let again = (period..sheet.rows()).all(|row| sheet.cell(row, column) == sheet.cell(row - period, column));
    (2..=1000).contains(&period)
        && ![7, 12].contains(&period)
        && distinct
        && again
        && sheet.rows() >= 2 * period
}

/// The columns to forecast, and why.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    pub(super) columns: Vec<usize>,
    pub(super) why: &'static str,
}

/// Whether a column counts rows, without being asked for.
pub(super) fn is_row_number(sheet: &Sheet, column: usize) -> bool {
    whole_numbers(sheet, column).is_some_and(|values| counts_rows(&values))
}

/// Whether all values of a column that are there are one and the same.
pub(super) fn is_constant(sheet: &Sheet, column: usize) -> bool {
    let mut cells =
        (0..sheet.rows()).map(|row| sheet.cell(row, column)).filter(|cell| !sheet.is_missing(cell));
    let first = cells.next();
    sheet.rows() > 1 && cells.all(|cell| Some(cell) == first)
}

/// Whether a column repeats what its row's time says: the month, the day of the week, the weekend.
fn repeats_clock(sheet: &Sheet, times: &Times, column: usize) -> bool {
    let Some(values) = whole_numbers(sheet, column).filter(|_| times.dated()) else { return false };
    let local = times.local();
    let clocks = local.as_ref().unwrap_or(times).values.iter().map(|micros| clock(*micros, tz::Offset::UTC));
    let clocks: Vec<DateTime> = clocks.collect();
    let says: [fn(&DateTime) -> i64; 11] = [
        |time| time.year().into(),
        |time| (i64::from(time.month()) + 2) / 3,
        |time| time.month().into(),
        |time| time.date().iso_week_date().week().into(),
        |time| time.day().into(),
        |time| time.date().day_of_year().into(),
        |time| time.hour().into(),
        |time| time.weekday().to_monday_zero_offset().into(),
        |time| time.weekday().to_monday_one_offset().into(),
        |time| time.weekday().to_sunday_zero_offset().into(),
        |time| i64::from(time.weekday().to_monday_zero_offset() > 4),
    ];
    says.iter().any(|says| clocks.iter().zip(&values).all(|(time, value)| says(time) == *value))
}

impl Targets {
    pub(super) fn find(
        sheet: &Sheet,
        times: Option<&Times>,
        groups: &Groups,
        options: &ReadOptions,
    ) -> Result<Targets, SeriesError> {
        if !options.targets.is_empty() {
            let columns =
                options.targets.iter().map(|name| sheet.find(name)).collect::<Result<Vec<_>, _>>()?;
            for column in &columns {
                sheet.check_numeric(*column)?;
            }
            return Ok(Targets { columns, why: "" });
        }
        let asked = |column: &usize| {
            options.covariates().is_some_and(|mut names| names.any(|name| name == sheet.name(*column)))
        };
        let taken = |column: &usize| {
            times.is_some_and(|times| times.columns.contains(column)) || groups.columns.contains(column)
        };
        let free: Vec<usize> = sheet.numeric().filter(|column| !taken(column) && !asked(column)).collect();
        let last = |fits: &dyn Fn(usize) -> bool| free.iter().rev().copied().find(|column| fits(*column));
        let several = free.len() > 1;
        let of_clock = |column: usize| times.is_some_and(|times| repeats_clock(sheet, times, column));
        let own = |column: usize| !is_constant(sheet, column) && !is_row_number(sheet, column);
        let chosen = last(&|column| several && own(column) && !of_clock(column))
            .or_else(|| last(&|column| several && own(column)))
            .or_else(|| last(&|column| !is_constant(sheet, column)))
            .or_else(|| last(&|_| true));
        let Some(column) = chosen else {
            let text =
                (0..sheet.columns.len()).rev().find(|column| sheet.columns[*column].kind == Kind::Text);
            let found = text.and_then(|column| Some((sheet.name(column), sheet.example(column)?)));
            let found = found.map_or_else(String::new, |(name, cell)| {
                format!("; column {} holds text, such as '{}'", shown(name), shown(cell))
            });
            return Err(sheet.source.table(format!("no column holds numbers to forecast{found}")));
        };
        let why = if several { "the last column of numbers" } else { "the only column of numbers" };
        Ok(Targets { columns: vec![column], why })
    }
}
