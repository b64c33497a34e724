//! Finds the formats that the times of a column may be in.

use super::format::{Format, Item};
use super::names::{MONTHS, WEEKDAYS, named_zone};
use std::sync::LazyLock;

/// Dates as people write them; `-` stands for any separator, `%b` for a month's name in any language, short or full.
/// Years alone are not among them: those are columns of numbers.
const DATES: [&str; 72] = [
    "FY%Y",
    "FY %Y",
    "FY%Y-Q%q",
    "FY%YQ%q",
    "%Y-%m-%d",
    "%Y%m%d",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y-%m",
    "%m-%Y",
    "%Y-Q%q",
    "%YQ%q",
    "Q%q-%Y",
    "%qQ%Y",
    "%qQ-%Y",
    "%q. Quartal-%Y",
    "%q. Quartal %Y",
    "Quartal %q-%Y",
    "%Y-Quartal %q",
    "%Y-T%q",
    "%YT%q",
    "T%q-%Y",
    "%Y:%q",
    "%Y-H%J",
    "%YH%J",
    "H%J-%Y",
    "%JH-%Y",
    "%JH%Y",
    "%Y-HJ%J",
    "HJ%J-%Y",
    "%J. HJ-%Y",
    "%J. Halbjahr-%Y",
    "%Y-S%J",
    "%YS%J",
    "S%J-%Y",
    "%G-KW%V",
    "%G KW %V",
    "KW%V-%G",
    "KW %V-%G",
    "W%V-%G",
    "Week %V, %G",
    "%Y:%m",
    "%G-W%V-%u",
    "%G-W%V",
    "%GW%V",
    "%YM%m",
    "%Y-%j",
    "%d-%b-%Y",
    "%d. %b %Y",
    "%b-%d, %Y",
    "%b-%d-%Y",
    "%Y-%b-%d",
    "%b-%Y",
    "%Y-%b",
    "%a %Y-%m-%d",
    "%A %Y-%m-%d",
    "%a, %Y-%m-%d",
    "%a %d-%m-%Y",
    "%a %m-%d-%Y",
    "%d%b%Y",
    "%a, %d-%b-%Y",
    "%a, %b-%d, %Y",
    "%a %d-%b-%Y",
    "%a %b-%d-%Y",
    "%a %b-%d, %Y",
    "%Y年%m月%d日",
    "%Y年%m月",
    "%Y년 %m월 %d일",
    "%Y년 %m월",
    "%Y년%m월%d일",
    "%Y-%n",
    "%Y-%N",
];

/// The same with years of two digits, which are refused unless the format is given.
const SHORT_DATES: [&str; 6] = ["%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%d-%b-%y", "%b-%y", "%b-%d, %y"];

const SEPARATORS: [char; 4] = ['-', '/', '.', ' '];

/// The formats of dates: of numbers alone, and with names.
struct Dates {
    numbers: Vec<Format>,
    named: Vec<Format>,
}

static LONG: LazyLock<Dates> = LazyLock::new(|| Dates::of(&DATES));
static SHORT: LazyLock<Dates> = LazyLock::new(|| Dates::of(&SHORT_DATES));

/// The formats in which a cell is a time: several if its day may be its month.
pub(crate) fn formats_of(cell: &str) -> Vec<Format> {
    LONG.matching(cell)
}

/// The formats in which a cell is a time with a year of two digits.
pub(crate) fn short_year_formats(cell: &str) -> Vec<Format> {
    SHORT.matching(cell)
}

impl Dates {
    fn of(patterns: &[&str]) -> Dates {
        let mut dates = Dates { numbers: Vec::new(), named: Vec::new() };
        for pattern in patterns {
            let separators: &[char] = if pattern.contains('-') { &SEPARATORS } else { &['-'] };
            for separator in separators {
                let Ok(format) = Format::parse(&pattern.replace('-', &separator.to_string())) else {
                    continue;
                };
                let named = format.items.iter().any(|item| matches!(item, Item::MonthName { .. }));
                if named { dates.named.extend(with_names(&format)) } else { dates.numbers.push(format) }
            }
        }
        dates
    }

    /// Whether a text begins with a date, other than a year alone, and the rest is one that may follow it.
    fn begins(&self, text: &str, follows: &dyn Fn(&str) -> bool) -> bool {
        let is_year = |item: &Item| {
            matches!(item, Item::Year | Item::FixedYear | Item::NextYear { .. } | Item::Literal(_))
        };
        let dates = self.numbers.iter().chain(&self.named).filter(|format| !format.items.iter().all(is_year));
        dates.into_iter().any(|format| format.begins(text, follows))
    }

    fn matching(&self, cell: &str) -> Vec<Format> {
        let mut out = Vec::new();
        // A month's name has at least three letters; a time zone may have more, which does no harm.
        let letters = cell.chars().filter(|c| c.is_alphabetic()).count();
        let named = if letters >= 3 { self.named.as_slice() } else { &[] };
        for date in self.numbers.iter().chain(named) {
            let Some(rest) = date.rest_after(cell) else { continue };
            let Some(time) = time_items(rest) else { continue };
            let format = Format::new([date.items.as_slice(), &time].concat());
            if format.read(cell).is_some() && !out.contains(&format) {
                out.push(format);
            }
        }
        out
    }
}

/// The format of year, day and month in which a cell is a date, if its day is above 12: it is no date in any known format.
pub(crate) fn year_day_month(cell: &str) -> Option<Format> {
    let patterns = ["%Y-%d-%m", "%Y/%d/%m", "%Y.%d.%m", "%Y %d %m", "%Y%d%m"];
    let formats = patterns.into_iter().filter_map(|pattern| Format::parse(pattern).ok());
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_digit());
    let other = LONG.begins(cell, &ends);
    formats.into_iter().find(|format| !other && format.begins(cell, &ends))
}

/// Whether a text holds a date, with years of two or four digits, whatever is before it and after it.
pub(crate) fn holds_date(text: &str) -> bool {
    let words = text.char_indices().filter(|(at, c)| {
        c.is_alphanumeric() && !text[..*at].chars().next_back().is_some_and(char::is_alphanumeric)
    });
    let mut starts = words.take(12).map(|(at, _)| &text[at..]);
    let part = |rest: &str| !rest.starts_with(char::is_alphanumeric) || rest.starts_with('T');
    // Three short numbers with marks between may be an address or a version.
    let whole = |rest: &str| rest.is_empty() || rest.starts_with([' ', ',', 'T']);
    starts.any(|start| LONG.begins(start, &part) || SHORT.begins(start, &whole))
}

/// The start of an interval between two times, such as `04.10.2023 23:00 - 05.10.2023 00:00`; the end may be a time of day alone.
pub(crate) fn interval_start(cell: &str) -> Option<&str> {
    let dated = |text: &str| formats_of(text);
    let halves =
        [" - ", " – ", " — ", " to ", " bis ", "/", "–"].iter().filter_map(|mark| cell.split_once(mark));
    let is_interval = |(start, end): &(&str, &str)| {
        let starts = dated(start.trim_end());
        let timed = || starts.iter().any(|format| format.has(Item::Hour) || format.has(Item::Hour12));
        let end = end.trim_start();
        !starts.is_empty()
            && (!dated(end).is_empty() || timed() && end.contains(':') && time_of_day(end).is_some())
    };
    let (start, _) = halves.into_iter().find(is_interval)?;
    formats_of(cell).is_empty().then(|| start.trim_end())
}

/// Whether names are those of the twelve months, from the first to the last: ten or more in languages known here.
pub(crate) fn month_names(names: &[String]) -> bool {
    let is = |place: usize, name: &String| {
        let bare = name.trim_end_matches('.').to_lowercase();
        let same = |months: &[&str; 12]| months[place].to_lowercase() == bare;
        MONTHS.iter().any(|language| same(&language.full) || same(&language.short))
    };
    names.len() == 12 && names.iter().enumerate().filter(|(place, name)| is(*place, name)).count() >= 10
}

/// Whether a name is that of a month, in full or shortened.
pub(crate) fn is_month_name(name: &str) -> bool {
    month_number(name).is_some()
}

/// The number from 1 of the month that a name says, in full or shortened.
pub(crate) fn month_number(name: &str) -> Option<usize> {
    let bare = name.trim().trim_end_matches('.').to_lowercase();
    let same = |other: &&str| other.to_lowercase() == bare;
    MONTHS.iter().find_map(|language| {
        let place = |names: &[&str; 12]| names.iter().position(&same);
        place(&language.full).or_else(|| place(&language.short)).map(|place| place + 1)
    })
}

/// The number from 0, Monday, of the day of the week that a name says in English or German, in full or shortened.
pub(crate) fn week_day_number(name: &str) -> Option<usize> {
    const GERMAN: [&str; 7] =
        ["montag", "dienstag", "mittwoch", "donnerstag", "freitag", "samstag", "sonntag"];
    let bare = name.trim().trim_end_matches('.').to_lowercase();
    let english = WEEKDAYS.iter().position(|day| {
        let day = day.to_lowercase();
        bare == day || bare.len() >= 3 && day.starts_with(&bare)
    });
    english.or_else(|| GERMAN.iter().position(|day| bare == *day || bare == day[..2]))
}

/// The format with the names of each language, with and without the point after a shortened name.
fn with_names(format: &Format) -> Vec<Format> {
    let mut out = Vec::new();
    let has_week_day = format.items.iter().any(|item| matches!(item, Item::WeekDayName { .. }));
    let week_days: &[bool] = if has_week_day { &[false, true] } else { &[false] };
    for language in 0..MONTHS.len() {
        for (full, point) in [(false, false), (false, true), (true, false)] {
            for week_day in week_days {
                let items = format.items.iter().flat_map(|item| match item {
                    Item::MonthName { .. } if point => {
                        vec![Item::MonthName { language, full }, Item::Literal('.')]
                    }
                    Item::MonthName { .. } => vec![Item::MonthName { language, full }],
                    Item::WeekDayName { .. } => vec![Item::WeekDayName { full: *week_day }],
                    item => vec![*item],
                });
                out.push(Format::new(items.collect()));
            }
        }
    }
    out
}

/// The items of a time of day after a date; empty if nothing is left.
fn time_items(rest: &str) -> Option<Vec<Item>> {
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let before = [", ", " - ", "T", "_", ":", " "].iter().find(|before| rest.starts_with(**before))?;
    let mut items: Vec<Item> = before.chars().map(Item::Literal).collect();
    let rest = &rest[before.len()..];
    if *before == "T"
        && let Some(time) = basic_time(rest)
    {
        items.extend(time);
        return Some(items);
    }
    let time = time_of_day(rest)?;
    // A number alone after a space is a part of the date in some other format.
    let hour_alone = !time.contains(&Item::Minute) && !time.contains(&Item::AmPm) && *before != "T";
    items.extend(time);
    (!hour_alone).then_some(items)
}

/// The items of a time without colons: `143000Z` or `1430`.
fn basic_time(text: &str) -> Option<Vec<Item>> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut items = match count {
        4 => vec![Item::FixedHour, Item::FixedMinute],
        6 => vec![Item::FixedHour, Item::FixedMinute, Item::FixedSecond],
        _ => return None,
    };
    match &text.as_bytes()[count..] {
        [] => {}
        [b'Z' | b'+' | b'-', ..] => items.push(Item::Offset),
        _ => return None,
    }
    Some(items)
}

/// The items of a time of day such as `14:30`, `2:30:00.250 PM` or `14:30:00+01:00`.
pub(crate) fn time_of_day(text: &str) -> Option<Vec<Item>> {
    let mut items = vec![Item::Hour];
    let mut rest = digits(text, 1..=2)?;
    let colon = rest.chars().next().filter(|c| matches!(c, ':' | '.'));
    if let Some(colon) = colon {
        rest = digits(&rest[1..], 2..=2)?;
        items.extend([Item::Literal(colon), Item::Minute]);
        if let Some(after) = rest.strip_prefix(colon) {
            rest = digits(after, 2..=2)?;
            items.extend([Item::Literal(colon), Item::Second]);
            if let Some(point) = rest.chars().next().filter(|c| matches!(c, '.' | ',')) {
                rest = digits(&rest[1..], 1..=9)?;
                items.extend([Item::Literal(point), Item::Fraction]);
            }
        }
    }
    if let Some(after) = rest.strip_prefix(' ').or(Some(rest))
        && after
            .get(..2)
            .is_some_and(|text| text.eq_ignore_ascii_case("am") || text.eq_ignore_ascii_case("pm"))
    {
        items[0] = Item::Hour12;
        if after.len() < rest.len() {
            items.push(Item::Literal(' '));
        }
        items.push(Item::AmPm);
        rest = &after[2..];
    }
    if let Some(after) = rest.strip_prefix(' ') {
        items.push(Item::Literal(' '));
        rest = after;
    }
    if rest.starts_with(['Z', '+', '-', 'U', 'G']) || named_zone(rest).is_some() {
        items.push(Item::Offset);
        rest = rest.trim_start_matches(|c: char| c != '[');
    }
    if rest.starts_with('[') && rest.ends_with(']') {
        items.extend([Item::Literal('['), Item::Zone, Item::Literal(']')]);
        rest = "";
    }
    rest.is_empty().then_some(items)
}

/// The text after so many digits.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<&str> {
    let found = text.bytes().take_while(u8::is_ascii_digit).count();
    count.contains(&found).then(|| &text[found..])
}
