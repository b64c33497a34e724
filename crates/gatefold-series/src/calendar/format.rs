//! Formats of times: found from a cell, or given in the notation of `strftime`; read and written.

use super::codes::{fixed_widths, item};
use super::days::DayCount;
use super::fraction::YearFraction;
use super::names::{MONTHS, WEEKDAYS, ZONES, named_zone};
use super::stamp::{Fields, Offset, Stamp};
use std::fmt;

/// A part of a time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Literal(char),
    Year,
    YearOfCentury,
    /// Two or four digits of the year after that before them, as in 2022/23: it checks, and says nothing new.
    NextYear {
        full: bool,
    },
    Month,
    MonthName {
        language: usize,
        full: bool,
    },
    Day,
    DayOfYear,
    Quarter,
    /// The half of a year: 1 or 2.
    Half,
    Week,
    /// A week of one or two digits, in a column of its own.
    WeekShort,
    WeekDay,
    WeekDayName {
        full: bool,
    },
    Hour,
    Hour12,
    Minute,
    Second,
    /// Digits after the second's point.
    Fraction,
    AmPm,
    Offset,
    /// A time zone's name, in brackets.
    Zone,
    /// Seconds since 1970 times ten to this power.
    Epoch(u32),
    /// Days, with a fraction perhaps, as a program counts them.
    Days(DayCount),
    /// A year with a fraction that says the month.
    YearFraction(YearFraction),
    /// Eight digits, four of them a year: read as fixed widths.
    FixedYear,
    FixedMonth,
    FixedDay,
    FixedHour,
    FixedMinute,
    FixedSecond,
}

/// A format of times, with the habits of the column that it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) items: Vec<Item>,
    pub(crate) style: Style,
}

/// Habits of writing that do not matter for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    month: Padding,
    day: Padding,
    hour: Padding,
    fraction: usize, // digits
    lower: bool,     // jan
    lower_am: bool,  // am
    upper: bool,     // JAN
    offset: OffsetStyle,
    moved: bool,         // some offset is not zero
    ends_day: bool,      // some time was 24:00
    whole_pointed: bool, // a point after a month's name that is not shortened
}

/// The ways in which numbers below ten were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Padding {
    short: bool,  // 1
    padded: bool, // 01
}

impl Style {
    /// The width of a number. Where the column has none below ten, it is as that of the others.
    fn width(&self, own: Padding) -> usize {
        let others_short = self.month.short || self.day.short || self.hour.short;
        if own.short || others_short && !own.padded { 1 } else { 2 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OffsetStyle {
    Z,
    Colon,
    Plain,
    HoursOnly,
    Utc,
    Gmt,
    /// A name of [`super::names::ZONES`], by its place.
    Named(usize),
}

impl Default for Style {
    fn default() -> Self {
        Style {
            month: Padding::default(),
            day: Padding::default(),
            hour: Padding::default(),
            fraction: 0,
            lower: false,
            lower_am: false,
            upper: false,
            offset: OffsetStyle::Colon,
            moved: false,
            ends_day: false,
            whole_pointed: false,
        }
    }
}

/// The part of a cell that is still to be read.
struct Reader<'a> {
    rest: &'a str,
    fields: Fields,
    style: &'a mut Style,
}

impl Format {
    pub(crate) fn new(items: Vec<Item>) -> Format {
        Format { items, style: Style::default() }
    }

    /// A format from the notation of `strftime`. The error is a phrase such as `%c is unknown`.
    pub(crate) fn parse(pattern: &str) -> Result<Format, String> {
        let mut items = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                items.push(Item::Literal(c));
                continue;
            }
            let mut code = chars.next().ok_or("a single % ends it")?;
            if code == '-' {
                code = chars.next().ok_or("%- ends it")?;
            }
            let day = |items: &mut Vec<Item>| {
                let dash = Item::Literal('-');
                items.extend([Item::Year, dash, Item::Month, dash, Item::Day]);
            };
            let colon = Item::Literal(':');
            match code {
                'F' => day(&mut items),
                'T' => items.extend([Item::Hour, colon, Item::Minute, colon, Item::Second]),
                'R' => items.extend([Item::Hour, colon, Item::Minute]),
                _ => items.push(item(code).ok_or_else(|| format!("%{code} is unknown"))?),
            }
        }
        let format = Format::new(fixed_widths(items));
        if format.read(&format.write(&Stamp::example())).is_none() {
            return Err("it does not say the year, or lacks a part between".into());
        }
        Ok(format)
    }

    /// The time that a cell says; `None` if it does not fit this format.
    pub(crate) fn read(&self, cell: &str) -> Option<Stamp> {
        self.read_into(cell, &mut Style::default())
    }

    /// Reads a cell and notes its habits.
    pub(crate) fn read_noting(&mut self, cell: &str) -> Option<Stamp> {
        let mut style = self.style.clone();
        let stamp = self.read_into(cell, &mut style)?;
        self.style = style;
        Some(stamp)
    }

    fn read_into(&self, cell: &str, style: &mut Style) -> Option<Stamp> {
        let mut reader = Reader { rest: cell, fields: Fields::default(), style };
        self.read_items(&mut reader)?;
        reader.style.ends_day |= reader.fields.hour == 24;
        if reader.rest.is_empty() { reader.fields.stamp() } else { None }
    }

    /// The text after a time that a cell begins with.
    pub(super) fn rest_after<'a>(&self, cell: &'a str) -> Option<&'a str> {
        let mut style = Style::default();
        let mut reader = Reader { rest: cell, fields: Fields::default(), style: &mut style };
        self.read_items(&mut reader)?;
        let rest = reader.rest.len();
        Some(&cell[cell.len() - rest..])
    }

    /// Whether a cell begins with a time, and the rest is one that may follow it.
    pub(super) fn begins(&self, cell: &str, follows: &dyn Fn(&str) -> bool) -> bool {
        let rest = self.rest_after(cell).filter(|rest| follows(rest));
        rest.is_some_and(|rest| self.read(&cell[..cell.len() - rest.len()]).is_some())
    }

    /// Reads every item. A month's name that is as long in full, such as `mars` beside `janv.`, may lack the point.
    fn read_items(&self, reader: &mut Reader<'_>) -> Option<()> {
        for (at, item) in self.items.iter().enumerate() {
            let whole = self.after_whole_name(at, reader.fields.month);
            reader.style.whole_pointed |= whole && reader.rest.starts_with('.');
            if !whole || reader.rest.starts_with('.') {
                reader.item(*item)?;
            }
        }
        Some(())
    }

    /// Whether an item is the point after the shortened name of a month that is not shortened.
    fn after_whole_name(&self, at: usize, month: Option<i8>) -> bool {
        let (Item::Literal('.'), Some(month)) = (self.items[at], month) else { return false };
        let Some(Item::MonthName { language, full: false }) = at.checked_sub(1).map(|at| self.items[at])
        else {
            return false;
        };
        let (months, place) = (&MONTHS[language], usize::from(month.unsigned_abs()) - 1);
        months.full[place] == months.short[place]
    }

    /// The time as this column writes it.
    pub(crate) fn write(&self, stamp: &Stamp) -> String {
        let mut out = String::with_capacity(32);
        for (at, item) in self.items.iter().enumerate() {
            if self.style.whole_pointed || !self.after_whole_name(at, Some(stamp.local().month())) {
                self.write_item(*item, stamp, &mut out);
            }
        }
        out
    }

    /// Whether every time of the column was written in UTC, with an offset that says so.
    pub(crate) fn in_utc(&self) -> bool {
        self.has(Item::Offset) && !self.style.moved
    }

    /// Whether some time of the column was 24:00: each is the end of its hour or shorter part of a day.
    pub(crate) fn ends_day(&self) -> bool {
        self.style.ends_day
    }

    pub(crate) fn has(&self, item: Item) -> bool {
        self.items.contains(&item)
    }

    fn write_item(&self, item: Item, stamp: &Stamp, out: &mut String) {
        use std::fmt::Write;
        let local = stamp.local();
        let mut number = |value: i64, width: usize| {
            let _ = write!(out, "{value:0width$}"); // writing to a string cannot fail
        };
        let width = |own: Padding| self.style.width(own);
        match item {
            Item::Literal(c) => out.push(c),
            Item::Year if self.has(Item::Week) => number(local.date().iso_week_date().year().into(), 4),
            Item::Year | Item::FixedYear => number(local.year().into(), 4),
            Item::YearOfCentury => number(i64::from(local.year()).rem_euclid(100), 2),
            Item::Month => number(local.month().into(), width(self.style.month)),
            Item::FixedMonth => number(local.month().into(), 2),
            Item::Day => number(local.day().into(), width(self.style.day)),
            Item::FixedDay => number(local.day().into(), 2),
            Item::DayOfYear => number(local.date().day_of_year().into(), 3),
            Item::Quarter => number((i64::from(local.month()) + 2) / 3, 1),
            Item::Half => number((i64::from(local.month()) + 5) / 6, 1),
            Item::NextYear { full: true } => number(i64::from(local.year()) + 1, 4),
            Item::NextYear { full: false } => number((i64::from(local.year()) + 1).rem_euclid(100), 2),
            Item::Week | Item::WeekShort => number(local.date().iso_week_date().week().into(), 2),
            Item::WeekDay => number(local.weekday().to_monday_one_offset().into(), 1),
            Item::Hour => number(local.hour().into(), width(self.style.hour)),
            Item::Hour12 => number((i64::from(local.hour()) + 11) % 12 + 1, width(self.style.hour)),
            Item::FixedHour => number(local.hour().into(), 2),
            Item::Minute | Item::FixedMinute => number(local.minute().into(), 2),
            Item::Second | Item::FixedSecond => number(local.second().into(), 2),
            Item::Fraction => {
                let digits = format!("{:09}", local.subsec_nanosecond());
                out.push_str(&digits[..self.style.fraction.clamp(1, 9)]);
            }
            Item::AmPm => {
                let text = if local.hour() < 12 { "AM" } else { "PM" };
                out.push_str(&if self.style.lower_am { text.to_lowercase() } else { text.into() });
            }
            Item::MonthName { language, full } => {
                let months = &MONTHS[language];
                let names = if full { &months.full } else { &months.short };
                out.push_str(&self.cased(names[usize::from(local.month().unsigned_abs()) - 1]));
            }
            Item::WeekDayName { full } => {
                let name = WEEKDAYS[usize::from(local.weekday().to_monday_zero_offset().unsigned_abs())];
                out.push_str(&self.cased(if full { name } else { &name[..3] }));
            }
            Item::Offset => out.push_str(&self.offset_text(stamp.offset_seconds().unwrap_or(0))),
            Item::Zone => out.push_str(stamp.zone.as_deref().unwrap_or("UTC")),
            Item::Epoch(power) => {
                let _ = write!(out, "{}", i128::from(stamp.micros) * 10i128.pow(power) / 1_000_000);
            }
            Item::Days(count) => out.push_str(&count.text(stamp.micros)),
            Item::YearFraction(fraction) => out.push_str(&fraction.text(local.year(), local.month())),
        }
    }

    fn cased(&self, name: &str) -> String {
        match (self.style.upper, self.style.lower) {
            (true, _) => name.to_uppercase(),
            (_, true) => name.to_lowercase(),
            _ => {
                let mut chars = name.chars();
                chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
            }
        }
    }

    fn offset_text(&self, seconds: i32) -> String {
        let (sign, total) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
        let (hours, minutes) = (total / 3600, total / 60 % 60);
        match self.style.offset {
            OffsetStyle::Z if seconds == 0 => "Z".into(),
            OffsetStyle::Utc if seconds == 0 => "UTC".into(),
            OffsetStyle::Gmt if seconds == 0 => "GMT".into(),
            OffsetStyle::Named(place) => {
                let (winter, summer, base) = ZONES[place];
                if seconds == base * 3600 { winter.into() } else { summer.into() }
            }
            OffsetStyle::Plain => format!("{sign}{hours:02}{minutes:02}"),
            OffsetStyle::HoursOnly if minutes == 0 => format!("{sign}{hours:02}"),
            _ => format!("{sign}{hours:02}:{minutes:02}"),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in &self.items {
            match item {
                Item::Literal(c) => write!(f, "{c}")?,
                Item::Year if self.has(Item::Week) => f.write_str("%G")?,
                Item::Year | Item::FixedYear => f.write_str("%Y")?,
                Item::YearOfCentury => f.write_str("%y")?,
                Item::Month | Item::FixedMonth => f.write_str("%m")?,
                Item::MonthName { full, .. } => f.write_str(if *full { "%B" } else { "%b" })?,
                Item::Day | Item::FixedDay => f.write_str("%d")?,
                Item::DayOfYear => f.write_str("%j")?,
                Item::Quarter => f.write_str("%q")?,
                Item::Half => f.write_str("%J")?,
                Item::NextYear { full } => f.write_str(if *full { "%N" } else { "%n" })?,
                Item::Week | Item::WeekShort => f.write_str("%V")?,
                Item::WeekDay => f.write_str("%u")?,
                Item::WeekDayName { full } => f.write_str(if *full { "%A" } else { "%a" })?,
                Item::Hour | Item::FixedHour => f.write_str("%H")?,
                Item::Hour12 => f.write_str("%I")?,
                Item::Minute | Item::FixedMinute => f.write_str("%M")?,
                Item::Second | Item::FixedSecond => f.write_str("%S")?,
                Item::Fraction => f.write_str("%f")?,
                Item::AmPm => f.write_str("%p")?,
                Item::Offset => f.write_str("%z")?,
                Item::Zone => f.write_str("zone")?,
                Item::Epoch(0) => f.write_str("seconds since 1970")?,
                Item::Epoch(3) => f.write_str("milliseconds since 1970")?,
                Item::Epoch(9) => f.write_str("nanoseconds since 1970")?,
                Item::Days(count) => write!(f, "{count}")?,
                Item::YearFraction(_) => f.write_str("years with a fraction")?,
                Item::Epoch(_) => f.write_str("microseconds since 1970")?,
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn item(&mut self, item: Item) -> Option<()> {
        match item {
            Item::Literal(' ') => {
                let rest = self.rest.trim_start_matches([' ', '\u{a0}', '\u{202f}']);
                if rest.len() == self.rest.len() {
                    return None;
                }
                self.rest = rest;
            }
            Item::Literal(c) => self.rest = self.rest.strip_prefix(c)?,
            Item::Year | Item::FixedYear => {
                let year = self.digits(4, 4)? as i16;
                self.year(year)?;
            }
            Item::YearOfCentury => {
                let year = self.digits(2, 2)? as i16;
                self.year(year + if year < 69 { 2000 } else { 1900 })?; // as strptime does
            }
            Item::NextYear { full } => {
                let next = i64::from(self.fields.year?) + 1;
                let found = self.digits(if full { 4 } else { 2 }, if full { 4 } else { 2 })?;
                (found == if full { next } else { next.rem_euclid(100) }).then_some(())?;
            }
            Item::Month => self.fields.month = Some(self.noted(|style| &mut style.month)?),
            Item::Day => self.fields.day = Some(self.noted(|style| &mut style.day)?),
            Item::FixedMonth => self.fields.month = Some(self.digits(2, 2)? as i8),
            Item::FixedDay => self.fields.day = Some(self.digits(2, 2)? as i8),
            Item::DayOfYear => self.fields.day_of_year = Some(self.digits(3, 3)? as i16),
            Item::Quarter => self.fields.quarter = Some(self.digits(1, 1)? as i8),
            Item::Half => {
                let half = self.digits(1, 1)? as i8;
                self.fields.month = (1..=2).contains(&half).then(|| Some(half * 6 - 5))?;
            }
            Item::Week => self.fields.week = Some(self.digits(2, 2)? as i8),
            Item::WeekShort => self.fields.week = Some(self.digits(1, 2)? as i8),
            Item::WeekDay => self.fields.week_day = Some(self.digits(1, 1)? as i8),
            Item::Hour => self.fields.hour = self.noted(|style| &mut style.hour)?,
            Item::Hour12 => {
                let hour = self.noted(|style| &mut style.hour)?;
                (1..=12).contains(&hour).then_some(())?;
                self.fields.hour = hour % 12;
            }
            Item::FixedHour => self.fields.hour = self.digits(2, 2)? as i8,
            Item::Minute | Item::FixedMinute => self.fields.minute = self.digits(2, 2)? as i8,
            Item::Second | Item::FixedSecond => self.fields.second = self.digits(2, 2)? as i8,
            Item::Fraction => self.fraction()?,
            Item::AmPm => self.am_pm()?,
            Item::MonthName { language, full } => self.month_name(language, full)?,
            Item::WeekDayName { full } => self.week_day_name(full)?,
            Item::Offset => self.offset()?,
            Item::Zone => {
                let end = self.rest.find(']')?;
                self.fields.zone = Some(self.rest[..end].to_owned());
                self.rest = &self.rest[end..];
            }
            Item::Epoch(power) => self.epoch(power)?,
            Item::YearFraction(fraction) => {
                let (year, month) = fraction.read(self.rest)?;
                (self.fields.year, self.fields.month) = (Some(year), Some(month));
                self.rest = "";
            }
            Item::Days(count) => {
                self.fields.civil_micros = Some(count.micros(self.rest)?);
                self.rest = "";
            }
        }
        Some(())
    }

    /// Notes a year; `None` if the format says two that differ.
    fn year(&mut self, year: i16) -> Option<()> {
        (*self.fields.year.get_or_insert(year) == year).then_some(())
    }

    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return None;
        }
        let value = self.rest[..count].bytes().fold(0, |value, byte| value * 10 + i64::from(byte - b'0'));
        self.rest = &self.rest[count..];
        Some(value)
    }

    /// One or two digits; notes whether the column writes 1 rather than 01.
    fn noted(&mut self, padding: impl Fn(&mut Style) -> &mut Padding) -> Option<i8> {
        let (before, zero) = (self.rest.len(), self.rest.starts_with('0'));
        let value = self.digits(1, 2)? as i8;
        let padding = padding(self.style);
        if before - self.rest.len() == 1 {
            padding.short = true;
        } else if zero {
            padding.padded = true;
        }
        Some(value)
    }

    fn fraction(&mut self) -> Option<()> {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=9).contains(&count) {
            return None;
        }
        let nanos = self.digits(count, count)? * 10i64.pow(9 - count as u32);
        if nanos % 1000 != 0 {
            return None; // times are kept in microseconds
        }
        self.style.fraction = self.style.fraction.max(count);
        self.fields.micros = nanos / 1000;
        Some(())
    }

    fn am_pm(&mut self) -> Option<()> {
        let text = self.rest.get(..2)?;
        let afternoon = text.eq_ignore_ascii_case("pm");
        if !afternoon && !text.eq_ignore_ascii_case("am") {
            return None;
        }
        self.style.lower_am |= text.starts_with(['a', 'p']);
        self.fields.hour += if afternoon { 12 } else { 0 };
        self.rest = &self.rest[2..];
        Some(())
    }

    fn month_name(&mut self, language: usize, full: bool) -> Option<()> {
        let months = &MONTHS[language];
        let names = if full { &months.full } else { &months.short };
        let end = self.rest.find(|c: char| !c.is_alphabetic()).unwrap_or(self.rest.len());
        let found = &self.rest[..end];
        let same = |name: &&str| {
            found.eq_ignore_ascii_case(name)
                || !found.is_ascii() && found.to_lowercase() == name.to_lowercase()
        };
        let sept = language == 0 && !full && found.eq_ignore_ascii_case("sept");
        let month = names.iter().position(same).or(sept.then_some(8))?;
        let mut letters = found.chars();
        let first_upper = letters.next().is_some_and(char::is_uppercase);
        self.style.lower |= !first_upper;
        self.style.upper |= first_upper && letters.next().is_some_and(char::is_uppercase);
        self.fields.month = Some(month as i8 + 1);
        self.rest = &self.rest[end..];
        Some(())
    }

    fn week_day_name(&mut self, full: bool) -> Option<()> {
        let end = self.rest.find(|c: char| !c.is_alphabetic()).unwrap_or(self.rest.len());
        let found = &self.rest[..end];
        let same = |name: &&str| found.eq_ignore_ascii_case(if full { name } else { &name[..3] });
        self.fields.named_day = Some(WEEKDAYS.iter().position(same)? as i8);
        self.rest = &self.rest[end..];
        Some(())
    }

    fn offset(&mut self) -> Option<()> {
        for (text, style) in [("Z", OffsetStyle::Z), ("UTC", OffsetStyle::Utc), ("GMT", OffsetStyle::Gmt)] {
            if let Some(rest) = self.rest.strip_prefix(text) {
                (self.rest, self.style.offset, self.fields.offset) = (rest, style, Some(Offset::UTC));
                return Some(());
            }
        }
        if let Some((place, hours, rest)) = named_zone(self.rest) {
            self.style.moved = true;
            (self.rest, self.style.offset) = (rest, OffsetStyle::Named(place));
            self.fields.offset = Some(Offset::from_seconds(hours * 3600)?);
            return Some(());
        }
        let negative = self.rest.starts_with('-');
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        let hours = self.digits(2, 2)?;
        let colon = self.rest.strip_prefix(':');
        self.rest = colon.unwrap_or(self.rest);
        let minutes = if colon.is_some() || !self.rest.is_empty() { self.digits(2, 2) } else { None };
        self.style.offset = match (colon, minutes) {
            (Some(_), Some(_)) => OffsetStyle::Colon,
            (None, Some(_)) => OffsetStyle::Plain,
            (None, None) => OffsetStyle::HoursOnly,
            (Some(_), None) => return None,
        };
        let seconds = (hours * 60 + minutes.unwrap_or(0)) * 60;
        self.style.moved |= seconds != 0;
        self.fields.offset = Some(Offset::from_seconds(if negative { -seconds } else { seconds } as i32)?);
        Some(())
    }

    fn epoch(&mut self, power: u32) -> Option<()> {
        let negative = self.rest.starts_with('-');
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = digits[..count].parse().ok()?;
        // The value of a column read as floats: 1672531200.0
        let tail =
            digits[count..].strip_prefix('.').map_or(&digits[count..], |zeros| zeros.trim_start_matches('0'));
        let micros = match power {
            ..=6 => value.checked_mul(1_000_000 / 10i64.checked_pow(power)?)?,
            _ if value % 1000 == 0 => value / 1000, // times are kept in microseconds
            _ => return None,
        };
        self.fields.epoch_micros = Some(if negative { -micros } else { micros });
        self.rest = tail;
        Some(())
    }
}
