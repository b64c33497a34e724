//! A moment on a clock: microseconds, with the offset from UTC if the table says one.

use jiff::civil::{Date, DateTime, ISOWeekDate, Time, Weekday};
use jiff::{Timestamp, tz};

/// The microseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000;

/// An offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub(super) tz::Offset);

impl Offset {
    pub(crate) const UTC: Offset = Offset(tz::Offset::UTC);

    pub(crate) fn from_seconds(seconds: i32) -> Option<Offset> {
        tz::Offset::from_seconds(seconds).ok().map(Offset)
    }
}

/// A moment. Without an offset, `micros` counts on the clock of the table as if it stood at UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) micros: i64, // since 1970
    pub(crate) offset: Option<Offset>,
    pub(crate) zone: Option<String>,
}

/// Microseconds since 1970 on a clock without a zone.
pub(crate) fn civil_micros(clock: DateTime) -> Option<i64> {
    tz::Offset::UTC.to_timestamp(clock).ok().map(Timestamp::as_microsecond)
}

/// The clock so many microseconds after 1970; the clock's end for times beyond the year 9999.
pub(crate) fn clock(micros: i64, offset: tz::Offset) -> DateTime {
    let end = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    offset.to_datetime(Timestamp::from_microsecond(micros).unwrap_or(end))
}

impl Stamp {
    /// A stamp on which every part of a format can be tried.
    pub(super) fn example() -> Stamp {
        // Monday, 20 November 2017, 11:22:33 UTC.
        Stamp { micros: 1_511_176_953_000_000, offset: Some(Offset::UTC), zone: Some("UTC".into()) }
    }

    /// The clock at the place of the stamp.
    pub(crate) fn local(&self) -> DateTime {
        clock(self.micros, self.offset.map_or(tz::Offset::UTC, |offset| offset.0))
    }

    /// Microseconds since 1970 as the clock at the place shows them.
    pub(crate) fn local_micros(&self) -> i64 {
        self.micros + i64::from(self.offset_seconds().unwrap_or(0)) * 1_000_000
    }

    pub(crate) fn offset_seconds(&self) -> Option<i32> {
        self.offset.map(|offset| offset.0.seconds())
    }
}

/// The parts of a time that a cell says.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) year: Option<i16>,
    pub(super) month: Option<i8>,
    pub(super) day: Option<i8>,
    pub(super) day_of_year: Option<i16>,
    pub(super) quarter: Option<i8>,
    pub(super) week: Option<i8>,
    pub(super) week_day: Option<i8>,  // Monday is 1
    pub(super) named_day: Option<i8>, // Monday is 0
    pub(super) hour: i8,
    pub(super) minute: i8,
    pub(super) second: i8,
    pub(super) micros: i64,
    pub(super) offset: Option<Offset>,
    pub(super) zone: Option<String>,
    pub(super) epoch_micros: Option<i64>,
    pub(super) civil_micros: Option<i64>,
}

impl Fields {
    /// The moment, if there is such a date and time.
    pub(super) fn stamp(self) -> Option<Stamp> {
        if let Some(micros) = self.epoch_micros {
            Timestamp::from_microsecond(micros).ok()?;
            return Some(Stamp { micros, offset: Some(Offset::UTC), zone: self.zone });
        }
        if let Some(micros) = self.civil_micros {
            Timestamp::from_microsecond(micros).ok()?;
            return Some(Stamp { micros, offset: None, zone: None });
        }
        let mut date = self.date()?;
        if let Some(named) = self.named_day
            && date.weekday().to_monday_zero_offset() != named
        {
            return None;
        }
        let mut hour = self.hour;
        if (hour, self.minute, self.second, self.micros) == (24, 0, 0, 0) {
            (hour, date) = (0, date.tomorrow().ok()?); // ISO 8601's end of the day
        }
        let time = Time::new(hour, self.minute, self.second, i32::try_from(self.micros * 1000).ok()?).ok()?;
        let local = civil_micros(date.to_datetime(time))?;
        let shift = self.offset.map_or(0, |offset| i64::from(offset.0.seconds()) * 1_000_000);
        Some(Stamp { micros: local - shift, offset: self.offset, zone: self.zone })
    }

    fn date(&self) -> Option<Date> {
        let year = self.year.filter(|year| *year >= 100)?; // 0023 lacks its century
        if let Some(week) = self.week {
            let day = Weekday::from_monday_one_offset(self.week_day.unwrap_or(1)).ok()?;
            return ISOWeekDate::new(year, week, day).ok().map(ISOWeekDate::date);
        }
        if let Some(quarter) = self.quarter {
            return (1..=4).contains(&quarter).then(|| Date::new(year, quarter * 3 - 2, 1).ok())?;
        }
        if let Some(day) = self.day_of_year {
            let first = Date::new(year, 1, 1).ok()?;
            return (1..=first.days_in_year())
                .contains(&day)
                .then(|| first.checked_add(jiff::Span::new().days(day - 1)).ok())?;
        }
        Date::new(year, self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()
    }
}
