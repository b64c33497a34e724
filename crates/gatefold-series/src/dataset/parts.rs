//! Parts of a time in columns of their own, beside a date or a year: which columns they are, and what they say.

use super::number_time::whole_numbers;
use super::time_names::part;
use crate::SeriesError;
use crate::calendar::clock::Times;
use crate::calendar::find::is_month_name;
use crate::calendar::format::Item;
use crate::table::sheet::{Kind, Sheet};
use crate::table::shown;
use std::collections::{HashMap, HashSet};

/// Names of columns that hold a time of day, with which 930 is half past nine.
const CLOCKS: [&str; 10] =
    ["time", "hhmm", "hour", "uhrzeit", "zeit", "hora", "heure", "ora", "time of day", "clock"];

/// Names of columns that number the parts of an hour.
const HALF_HOURS: [&str; 4] = ["half hour", "halfhour", "half", "halbstunde"];
const QUARTER_HOURS: [&str; 5] = ["quarter", "qtr", "quarter hour", "quarterhour", "viertelstunde"];

/// The hours or shorter periods of a day of 25 hours, on which summer time ends.
const LONG_DAYS: [i64; 5] = [25, 50, 100, 150, 300];

/// Names of columns that number the halves of a year.
const HALF_YEARS: [&str; 9] =
    ["half", "halfyear", "half year", "hy", "hj", "halbjahr", "semester", "semestre", "sem"];

/// Texts that may be parts of a day or of a year, and as well the names of several series.
const PART_TEXTS: [&str; 59] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonntag",
    "mo",
    "di",
    "mi",
    "do",
    "fr",
    "sa",
    "so",
    "am",
    "pm",
    "a.m.",
    "p.m.",
    "day",
    "night",
    "morning",
    "noon",
    "midday",
    "afternoon",
    "evening",
    "tag",
    "nacht",
    "morgen",
    "vormittag",
    "mittag",
    "nachmittag",
    "abend",
    "winter",
    "spring",
    "summer",
    "autumn",
    "fall",
    "frühling",
    "frühjahr",
    "sommer",
    "herbst",
    "printemps",
    "été",
    "automne",
    "hiver",
];

/// Names of columns that may hold parts of a day or of a year, whatever is in them.
const PART_NAMES: [&str; 12] = [
    "shift",
    "schicht",
    "turno",
    "session",
    "daypart",
    "day part",
    "part of day",
    "tageszeit",
    "season",
    "saison",
    "jahreszeit",
    "period",
];

/// The numbers of parts that people divide a day, a week, a month or a year into.
const PARTS: [usize; 26] =
    [2, 3, 4, 5, 6, 7, 8, 12, 13, 23, 24, 25, 28, 29, 30, 31, 48, 52, 53, 96, 144, 288, 365, 366, 720, 1440];

/// Whether a text names a part of a day or of a year.
pub(super) fn is_part_text(text: &str) -> bool {
    PART_TEXTS.contains(&text.to_lowercase().as_str())
}

/// A name in small letters, its words parted by spaces.
fn normal(name: &str) -> String {
    name.trim().trim_matches(['<', '>']).to_lowercase().replace(['_', '-', '.'], " ")
}

/// A number between a word before it and one after it, in any case.
pub(super) fn number_in(cell: &str, before: &[&str], after: &[&str], limits: (i64, i64)) -> Option<i64> {
    let cell = cell.trim().to_lowercase();
    let number = before.iter().chain(&[""]).find_map(|start| {
        let rest = cell.strip_prefix(start)?.trim_start();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let end = rest[digits..].trim();
        let marked = !start.is_empty() && end.is_empty() || after.contains(&end);
        ((1..=2).contains(&digits) && marked).then(|| rest[..digits].parse::<i64>().ok())?
    })?;
    (limits.0..=limits.1).contains(&number).then_some(number)
}

/// A column's cells, all read alike.
fn all(sheet: &Sheet, column: usize, read: impl Fn(&str) -> Option<i64>) -> Option<Vec<i64>> {
    (0..sheet.rows()).map(|row| read(sheet.cell(row, column))).collect()
}

/// The seconds since midnight that the column of a time of day says. `stated`: the user says that it is one.
fn seconds_of(sheet: &Sheet, column: usize, stated: bool) -> Option<Vec<i64>> {
    let name = normal(sheet.name(column));
    let hours = |values: Vec<i64>| Some(values.into_iter().map(|hour| hour * 3600).collect());
    if let Some(values) =
        all(sheet, column, |cell| number_in(cell, &["he", "hour", "hr", "h"], &["h", "uhr", "hrs"], (0, 25)))
    {
        return hours(values);
    }
    if sheet.columns[column].kind != Kind::Number
        && let Some(values) = all(sheet, column, start_of_interval)
    {
        return Some(values);
    }
    let half_day = |cell: &str| match cell.to_ascii_lowercase().as_str() {
        "am" => Some(0),
        "pm" => Some(43_200),
        _ => None,
    };
    if stated && let Some(values) = all(sheet, column, half_day) {
        return Some(values);
    }
    let Some(values) = whole_numbers(sheet, column) else {
        let (values, count) = cycle(sheet, column); // such as shifts
        return if stated { share_of_day(&values, count) } else { None };
    };
    let (least, most) = (*values.iter().min()?, *values.iter().max()?);
    let digits = |len: usize| (0..sheet.rows()).all(|row| sheet.cell(row, column).len() == len);
    let seconds = values.iter().all(|value| value % 100 < 60 && value / 100 % 100 < 60) && most <= 240_000;
    if least >= 0 && seconds && digits(6) {
        let second = |value: i64| value / 10_000 * 3600 + value / 100 % 100 * 60 + value % 100;
        return Some(values.into_iter().map(second).collect());
    }
    let clock = values.iter().all(|value| value % 100 < 60) && most <= 2400;
    if least >= 0 && most >= 100 && clock && (stated || digits(4) || CLOCKS.contains(&name.as_str())) {
        return Some(values.into_iter().map(|value| value / 100 * 3600 + value % 100 * 60).collect());
    }
    let is_hour = part(&name) == Some(Item::Hour);
    if stated && !is_hour && least == 1 && most <= 12 {
        return share_of_day(&values, most);
    }
    let long_day = least == 1 && most == 25;
    if least >= 0 && (most <= 24 || is_hour && long_day) && (is_hour || stated) {
        return hours(values);
    }
    // Periods that divide the day are counted from 1.
    let counted = ["period", "interval", "slot", "half hour", "halfhour", "quarter hour", "quarterhour"];
    let named =
        ["sp", "mtu", "ptu"].contains(&name.as_str()) || counted.iter().any(|word| name.contains(word));
    let usual = if LONG_DAYS.contains(&most) { most / 25 * 24 } else { most };
    let divides = [24, 48, 96, 144, 288].contains(&usual) && (named || stated && usual >= 24 && most > 24);
    (least == 1 && divides)
        .then(|| values.into_iter().map(|period| (period - 1) * (86_400 / usual)).collect())
}

/// A day's hours or shorter periods that a column numbers from 1.
pub(super) struct Numbered {
    /// The number of each row.
    pub(super) numbers: Vec<i64>,
    /// The number in a day of 24 hours.
    pub(super) usual: i64,
    /// Whether some day has 25 hours.
    pub(super) long: bool,
}

/// The numbers of a column that counts the hours or periods of a day from 1; `None` if it is a clock.
pub(super) fn numbered(sheet: &Sheet, column: usize) -> Option<Numbered> {
    let hour = |cell: &str| number_in(cell, &["he", "hour", "hr", "h"], &["h", "uhr", "hrs"], (0, 25));
    let numbers = whole_numbers(sheet, column).or_else(|| all(sheet, column, hour))?;
    let (least, most) = (*numbers.iter().min()?, *numbers.iter().max()?);
    let long = LONG_DAYS.contains(&most);
    let usual = if long { most / 25 * 24 } else { most };
    (least == 1 && [24, 48, 96, 144, 288].contains(&usual)).then_some(Numbered { numbers, usual, long })
}

/// The seconds since midnight of parts of a day that are numbered from 1 to `count`.
fn share_of_day(values: &[i64], count: i64) -> Option<Vec<i64>> {
    let divides = [2, 3, 4, 6, 8, 12, 24].contains(&count);
    divides.then(|| values.iter().map(|value| (value - 1) * (86_400 / count)).collect())
}

/// The seconds since midnight at which an interval such as `01:00-02:00` begins.
fn start_of_interval(cell: &str) -> Option<i64> {
    let (start, end) = cell.split_once(['-', '–'])?;
    let clock = |text: &str| {
        let (hour, minute) = text.trim().split_once([':', '.'])?;
        let (hour, minute): (i64, i64) = (hour.parse().ok()?, minute.get(..2)?.parse().ok()?);
        ((0..=24).contains(&hour) && (0..60).contains(&minute)).then_some(hour * 3600 + minute * 60)
    };
    clock(end)?;
    clock(start)
}

/// The seconds since the full hour that a column says.
fn seconds_past(sheet: &Sheet, column: usize) -> Option<Vec<i64>> {
    let name = normal(sheet.name(column));
    let values = whole_numbers(sheet, column)?;
    let within = |least: i64, most: i64| values.iter().all(|value| (least..=most).contains(value));
    if part(&name) == Some(Item::Minute) && within(0, 59) {
        return Some(values.into_iter().map(|minute| minute * 60).collect());
    }
    let of = |names: &[&str], most: i64| names.contains(&name.as_str()) && within(1, most);
    let step = if of(&QUARTER_HOURS, 4) { 900 } else { 1800 };
    (step == 900 || of(&HALF_HOURS, 2)).then(|| values.iter().map(|value| (value - 1) * step).collect())
}

/// The columns that say the time of day beside one of dates that repeat.
pub(super) fn columns_of_day(sheet: &Sheet, date: usize, used: &dyn Fn(&usize) -> bool) -> Vec<usize> {
    let dates: HashSet<&str> = (0..sheet.rows()).map(|row| sheet.cell(row, date)).collect();
    if dates.len() == sheet.rows() {
        return Vec::new();
    }
    let free = |column: &usize| *column != date && !used(column);
    let columns = || (0..sheet.columns.len()).filter(free);
    let Some(hour) = columns()
        .find(|column| seconds_of(sheet, *column, false).is_some() && varies_within(sheet, &[date], *column))
    else {
        return Vec::new();
    };
    let past = columns().find(|column| {
        *column != hour
            && seconds_past(sheet, *column).is_some()
            && varies_within(sheet, &[date, hour], *column)
    });
    [Some(hour), past].into_iter().flatten().collect()
}

/// Whether a column takes several values for half or more of what other columns say.
pub(super) fn varies_within(sheet: &Sheet, of: &[usize], column: usize) -> bool {
    let mut seen = HashMap::<Vec<&str>, HashSet<&str>>::new();
    for row in 0..sheet.rows() {
        let key = of.iter().map(|column| sheet.cell(row, *column)).collect();
        seen.entry(key).or_default().insert(sheet.cell(row, column));
    }
    let several = seen.values().filter(|values| values.len() > 1).count();
    several * 2 >= seen.len()
}

/// The seconds since midnight of each row, from a column of hours and perhaps one of minutes. `stated`: as for
/// [`seconds_of`].
pub(super) fn time_of_day(sheet: &Sheet, columns: &[usize], stated: bool) -> Option<Vec<i64>> {
    let seconds = seconds_of(sheet, *columns.first()?, stated)?;
    match *columns {
        [_] => Some(seconds),
        [_, past] => {
            Some(seconds.iter().zip(seconds_past(sheet, past)?).map(|(hour, past)| hour + past).collect())
        }
        _ => None,
    }
}

/// The part of the year that a column says, and its number in each row; `None` if it says none.
pub(super) fn part_of_year(
    sheet: &Sheet,
    column: usize,
    stated: bool,
) -> Result<Option<(Item, Vec<i64>)>, SeriesError> {
    if (0..sheet.rows()).any(|row| sheet.is_missing(sheet.cell(row, column))) {
        return Ok(None);
    }
    let text = sheet.columns[column].kind != Kind::Number;
    let month = |cell: &str| number_in(cell, &["m"], &[], (1, 13));
    if text && let Some(values) = all(sheet, column, month) {
        if let Some(row) = values.iter().position(|month| *month == 13) {
            let problem = format!(
                "'{}' is the whole year beside its months; remove these lines",
                shown(sheet.cell(row, column))
            );
            return Err(sheet.error(row, column, problem));
        }
        return Ok(Some((Item::Month, values)));
    }
    let kinds: [(Item, &[&str], &[&str], i64); 3] = [
        (Item::Quarter, &["q", "qtr", "quarter", "quartal", "t"], &["q", ". quartal", "quarter"], 4),
        (Item::Half, &["h", "hj", "s", "half", "sem", "semester"], &["h", ". halbjahr", ". hj"], 2),
        (Item::Week, &["w", "kw", "week"], &["w", ". kw"], 53),
    ];
    for (item, before, after, most) in kinds {
        if text && let Some(values) = all(sheet, column, |cell| number_in(cell, before, after, (1, most))) {
            return Ok(Some((item, values)));
        }
    }
    let values = whole_numbers(sheet, column);
    let half = HALF_YEARS.contains(&normal(sheet.name(column)).as_str());
    if let Some(values) = values.filter(|values| values.iter().all(|value| (1..=53).contains(value))) {
        let most = values.iter().max().copied().unwrap_or(0);
        return Ok(match most {
            2 if half || stated => Some((Item::Half, values)),
            2..=12 if stated => share_of_year(values, most),
            52 | 53 if stated => Some((Item::Week, values)),
            _ => None,
        });
    }
    let day_names = ["day", "doy", "yday", "jday", "day of year", "dayofyear", "julian day", "tag"];
    let values =
        whole_numbers(sheet, column).filter(|values| values.iter().all(|day| (1..=366).contains(day)));
    if let Some(values) = values
        && (stated || day_names.contains(&normal(sheet.name(column)).as_str()))
        && values.iter().any(|day| *day > 53)
    {
        return Ok(Some((Item::DayOfYear, values)));
    }
    if !stated {
        return Ok(None);
    }
    let (values, count) = cycle(sheet, column); // such as seasons
    Ok(share_of_year(values, count))
}

/// The numbers of cells as they first come, and how many there are.
fn cycle(sheet: &Sheet, column: usize) -> (Vec<i64>, i64) {
    let mut numbers = HashMap::<&str, i64>::new();
    let mut values = Vec::with_capacity(sheet.rows());
    for row in 0..sheet.rows() {
        let next = numbers.len() as i64 + 1;
        values.push(*numbers.entry(sheet.cell(row, column)).or_insert(next));
    }
    (values, numbers.len() as i64)
}

/// The parts of a year that are numbered from 1 to `count`: months, quarters, halves, or so many months.
fn share_of_year(values: Vec<i64>, count: i64) -> Option<(Item, Vec<i64>)> {
    let item = match count {
        2 => Item::Half,
        4 => Item::Quarter,
        12 => Item::Month,
        3 | 6 => {
            let month = |value: i64| (value - 1) * (12 / count) + 1;
            return Some((Item::Month, values.into_iter().map(month).collect()));
        }
        _ => return None,
    };
    Some((item, values))
}

/// Refuses a column that was taken to tell series apart, alone or with others, and may as well be a part of the time:
/// within each moment it counts from 0 or 1, or names parts of a day or of a year.
pub(super) fn refuse_doubtful(
    sheet: &Sheet,
    times: &Times,
    columns: &[usize],
    column: usize,
) -> Result<(), SeriesError> {
    let mut places = HashMap::<(i64, Vec<&str>), usize>::new();
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for (row, value) in times.values.iter().enumerate() {
        let others = columns.iter().filter(|other| **other != column).map(|other| sheet.cell(row, *other));
        let place = *places.entry((*value, others.collect())).or_insert(blocks.len());
        if place == blocks.len() {
            blocks.push(Vec::new());
        }
        blocks[place].push(sheet.cell(row, column));
    }
    // The usual block: a day of 25 hours has a longer one.
    let mut counts = HashMap::<&[&str], usize>::new();
    for block in &blocks {
        *counts.entry(block.as_slice()).or_default() += 1;
    }
    let usual = counts.into_iter().max_by_key(|(block, count)| (*count, block.len()));
    let Some((longest, whole)) = usual else { return Ok(()) };
    if longest.len() < 2 || whole * 4 < blocks.len() * 3 {
        return Ok(());
    }
    let number = |cell: &&str| cell.parse::<i64>().ok();
    let counts = longest.iter().map(number).collect::<Option<Vec<i64>>>().is_some_and(|values| {
        (0..=1).contains(&values[0]) && values.windows(2).all(|pair| pair[1] == pair[0] + 1)
    });
    let of_year = |cell: &&str| {
        is_month_name(cell) || number_in(cell, &["q", "m"], &["q", ". quartal"], (1, 12)).is_some()
    };
    let counted = counts && part(sheet.name(column)).is_some();
    let named = longest.iter().all(|cell| is_part_text(cell))
        || longest.len() >= 4 && longest.iter().all(of_year)
        || counted
        || PART_NAMES.contains(&normal(sheet.name(column)).as_str());
    // Rows in blocks of one series each, one after another, are no parts.
    let together = times.values.windows(2).any(|pair| pair[0] == pair[1]);
    if !(named || counts && together && PARTS.contains(&longest.len())) {
        return Ok(());
    }
    let (name, time) = (shown(sheet.name(column)), shown(&times.name));
    Err(sheet.error(
        0,
        column,
        format!(
            "{} to {} come within each {time}: parts of the time, or series? Say --time {},{name} or --id {name}",
            shown(longest[0]),
            shown(longest[longest.len() - 1]),
            time.replace(", ", ",")
        ),
    ))
}
