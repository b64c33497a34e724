use crate::SeriesError;
use std::fmt;
use std::str::FromStr;

/// A unit of time between rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Unit {
    /// A row, where rows have no time, or a number.
    Row,
    /// A millionth of a second.
    Microsecond,
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A calendar day.
    Day,
    /// A day from Monday to Friday.
    BusinessDay,
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
    /// Three calendar months.
    Quarter,
    /// Twelve calendar months.
    Year,
}

/// The time from one row to the next: so many of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    pub(crate) count: i64,
    pub(crate) unit: Unit,
}

/// Units with what people call them. A single letter or two are the names of pandas.
const NAMES: [(Unit, &[&str]); 10] = [
    (Unit::Microsecond, &["us", "microsecond", "microseconds"]),
    (Unit::Second, &["s", "sec", "second", "seconds", "secondly"]),
    (Unit::Minute, &["min", "t", "minute", "minutes", "minutely"]),
    (Unit::Hour, &["h", "hour", "hours", "hourly"]),
    (Unit::Day, &["d", "day", "days", "daily"]),
    (Unit::BusinessDay, &["b", "business", "businessday", "businessdays"]),
    (Unit::Week, &["w", "week", "weeks", "weekly"]),
    (Unit::Month, &["m", "ms", "me", "month", "months", "monthly"]),
    (Unit::Quarter, &["q", "qs", "qe", "quarter", "quarters", "quarterly"]),
    (Unit::Year, &["y", "ys", "ye", "a", "as", "year", "years", "yearly", "annual"]),
];

impl Frequency {
    /// A frequency of `count` units, at least one.
    pub fn new(count: u32, unit: Unit) -> Frequency {
        Frequency { count: i64::from(count.max(1)), unit }
    }

    /// The unit.
    pub fn unit(self) -> Unit {
        self.unit
    }

    /// The number of units from one row to the next.
    pub fn count(self) -> u64 {
        self.count.unsigned_abs()
    }

    /// The largest unit that divides a time in microseconds.
    pub(crate) fn of_micros(micros: i64) -> Frequency {
        let (unit, size) = [Unit::Week, Unit::Day, Unit::Hour, Unit::Minute, Unit::Second]
            .into_iter()
            .filter_map(|unit| Some((unit, unit_micros(unit)?)))
            .find(|(_, size)| micros % size == 0)
            .unwrap_or((Unit::Microsecond, 1));
        Frequency { count: micros / size, unit }
    }

    pub(crate) fn of_months(months: i64) -> Frequency {
        match months {
            _ if months % 12 == 0 => Frequency { count: months / 12, unit: Unit::Year },
            _ if months % 3 == 0 => Frequency { count: months / 3, unit: Unit::Quarter },
            _ => Frequency { count: months, unit: Unit::Month },
        }
    }

    /// The months of a frequency of months, quarters or years.
    pub(crate) fn months(self) -> Option<i64> {
        match self.unit {
            Unit::Month => Some(self.count),
            Unit::Quarter => self.count.checked_mul(3),
            Unit::Year => self.count.checked_mul(12),
            _ => None,
        }
    }

    /// The microseconds of a frequency of fixed length.
    pub(crate) fn micros(self) -> Option<i64> {
        unit_micros(self.unit)?.checked_mul(self.count)
    }

    /// The numbers of rows after which a series of this frequency often repeats, shortest first: 24 and 168 for hours,
    /// 7 and 365 for days, 12 for months.
    pub fn seasons(self) -> Vec<usize> {
        const DAY: i64 = 86_400_000_000;
        let whole = |cycle: i64| {
            let step = self.micros().unwrap_or(cycle);
            (cycle % step == 0 && cycle / step > 1).then(|| (cycle / step) as usize)
        };
        let seasons = match self.unit {
            Unit::Microsecond => [whole(1_000_000), whole(60_000_000)],
            Unit::Second if self.count < 60 => [whole(60_000_000), whole(DAY / 24)],
            Unit::Second => [whole(DAY / 24), whole(DAY)],
            Unit::Minute if self.count == 1 => [whole(DAY / 24), whole(DAY)],
            Unit::Minute | Unit::Hour => [whole(DAY), whole(7 * DAY)],
            Unit::Day => [whole(7 * DAY), (self.count <= 182).then(|| 365 / self.count as usize)],
            Unit::BusinessDay if self.count == 1 => [Some(5), Some(261)],
            Unit::Week => {
                [(52 % self.count == 0 && self.count < 52).then(|| (52 / self.count) as usize), None]
            }
            Unit::Month | Unit::Quarter => {
                let months = self.months().unwrap_or(12);
                [(12 % months == 0 && months < 12).then(|| (12 / months) as usize), None]
            }
            Unit::Row | Unit::BusinessDay | Unit::Year => [None, None],
        };
        seasons.into_iter().flatten().collect()
    }
}

fn unit_micros(unit: Unit) -> Option<i64> {
    Some(match unit {
        Unit::Microsecond => 1,
        Unit::Second => 1_000_000,
        Unit::Minute => 60_000_000,
        Unit::Hour => 3_600_000_000,
        Unit::Day => 86_400_000_000,
        Unit::Week => 7 * 86_400_000_000,
        _ => return None,
    })
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (once, many) = match self.unit {
            Unit::Row => ("one row after another", "rows"),
            Unit::Microsecond if self.count % 1000 == 0 => {
                return write!(f, "every {} ms", self.count / 1000);
            }
            Unit::Microsecond => ("every microsecond", "microseconds"),
            Unit::Second => ("every second", "seconds"),
            Unit::Minute => ("every minute", "minutes"),
            Unit::Hour => ("hourly", "hours"),
            Unit::Day => ("daily", "days"),
            Unit::BusinessDay => ("business days", "business days"),
            Unit::Week => ("weekly", "weeks"),
            Unit::Month => ("monthly", "months"),
            Unit::Quarter => ("quarterly", "quarters"),
            Unit::Year => ("yearly", "years"),
        };
        if self.count == 1 { f.write_str(once) } else { write!(f, "every {} {many}", self.count) }
    }
}

impl FromStr for Frequency {
    type Err = SeriesError;

    /// Reads a number and a unit, such as `15min`, `2 hours`, `monthly`, `D`, `B`, `W`, `MS`, `Q` or `Y`.
    fn from_str(text: &str) -> Result<Self, SeriesError> {
        let refuse = || {
            SeriesError::Series(format!(
                "--freq is a number and a unit, such as 15min, h, d, b (business days), w, m, q or y; found '{text}'"
            ))
        };
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let count = if digits == 0 { Ok(1) } else { trimmed[..digits].parse::<u32>() };
        let count = count.ok().filter(|count| *count > 0).ok_or_else(refuse)?;
        let unit = trimmed[digits..].trim();
        let name = unit.to_ascii_lowercase().replace([' ', '-'], "");
        // MS are month starts to pandas; ms are milliseconds to everybody.
        if unit == "ms" || name == "milliseconds" || name == "millisecond" {
            return Ok(Frequency { count: i64::from(count) * 1000, unit: Unit::Microsecond });
        }
        let unit = NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(unit, _)| *unit);
        Ok(Frequency::new(count, unit.ok_or_else(refuse)?))
    }
}
