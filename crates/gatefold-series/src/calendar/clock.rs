//! Clocks: from the times of a column to values on a grid, and back to text.

use super::format::{Format, Item};
use super::stamp::{Offset, Stamp, clock};
use jiff::tz::{self, TimeZone};
use jiff::{Timestamp, civil};

/// A missing time in [`Times`].
pub(crate) const MISSING: i64 = i64::MIN;

/// The times of a column, one per row.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// Microseconds since 1970: of UTC with offsets, or on the clock of the table. Of a numbered column, its numbers
    /// times ten to the power of its decimals.
    pub(crate) values: Vec<i64>,
    /// Seconds ahead of UTC, if the column says.
    pub(crate) offsets: Option<Vec<i32>>,
    pub(crate) clock: Clock,
    pub(crate) format: Option<Format>,
    /// The report's name for the column.
    pub(crate) name: String,
    pub(crate) columns: Vec<usize>,
    /// A remark for the report, if they are written in more than one way.
    pub(crate) mixed: Option<String>,
}

/// How values on the grid are shown.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// Rows without a time.
    Rows,
    /// Numbers with so many decimals.
    Number(u32),
    /// Dates and times without an offset.
    Civil,
    /// Moments of UTC, shown at the offsets that the table had from these moments on.
    Offsets(Vec<(i64, i32)>),
    /// Moments of UTC, shown in a time zone.
    Zone(TimeZone),
    /// The clock at the place, whose offset is as in the table or in the zone: for days and longer.
    LocalOffsets(Vec<(i64, i32)>),
    LocalZone(TimeZone),
}

impl Times {
    /// Whether the values are dates, rather than numbers.
    pub(crate) fn dated(&self) -> bool {
        !matches!(self.clock, Clock::Rows | Clock::Number(_))
    }

    /// The values as the clock at the place shows them, with that clock; `None` without offsets or a zone.
    pub(crate) fn local(&self) -> Option<Times> {
        let (values, clock) = match &self.clock {
            Clock::Offsets(changes) => {
                let offsets = self.offsets.as_ref()?;
                let shift = |(value, offset): (&i64, &i32)| match *value {
                    MISSING => MISSING,
                    value => value.saturating_add(i64::from(*offset) * 1_000_000),
                };
                let values: Vec<i64> = self.values.iter().zip(offsets).map(shift).collect();
                let changes =
                    changes.iter().map(|(at, offset)| (at + i64::from(*offset) * 1_000_000, *offset));
                (values, Clock::LocalOffsets(changes.collect()))
            }
            Clock::Zone(zone) => {
                let shift = |value: &i64| match *value {
                    MISSING => MISSING,
                    value => value.saturating_add(i64::from(zone_offset(zone, value)) * 1_000_000),
                };
                (self.values.iter().map(shift).collect(), Clock::LocalZone(zone.clone()))
            }
            _ => return None,
        };
        Some(Times { values, clock, ..self.clone() })
    }
}

impl Clock {
    /// The moment of a value; `None` for numbers and rows.
    pub(crate) fn stamp(&self, value: i64) -> Option<Stamp> {
        let stamp = match self {
            Clock::Rows | Clock::Number(_) => return None,
            Clock::Civil => Stamp { micros: value, offset: None, zone: None },
            Clock::Offsets(changes) => stamp(value, offset_at(changes, value), None),
            Clock::Zone(zone) => stamp(value, zone_offset(zone, value), zone.iana_name()),
            Clock::LocalOffsets(changes) => {
                let offset = offset_at(changes, value);
                stamp(value.saturating_sub(i64::from(offset) * 1_000_000), offset, None)
            }
            Clock::LocalZone(zone) => {
                let local = clock(value, tz::Offset::UTC);
                let micros = zone.to_timestamp(local).map_or(value, Timestamp::as_microsecond);
                stamp(micros, zone_offset(zone, micros), zone.iana_name())
            }
        };
        Some(stamp)
    }

    /// The text of a value, as the table writes its times.
    pub(crate) fn text(&self, value: i64, format: Option<&Format>) -> String {
        let stamp = match (self.stamp(value), self) {
            (Some(stamp), _) => stamp,
            (None, Clock::Number(decimals)) => return decimal_text(value, *decimals),
            (None, _) => return value.saturating_add(1).to_string(),
        };
        match format {
            Some(format) if format.in_utc() => format.write(&Stamp { offset: Some(Offset::UTC), ..stamp }),
            Some(format) if stamp.offset.is_some() && !says_offset(format) => {
                // The table shows the clock of its zone, and no offset.
                format.write(&Stamp { micros: stamp.local_micros(), offset: None, zone: None })
            }
            Some(format) => format.write(&stamp),
            None => value.to_string(),
        }
    }
}

fn says_offset(format: &Format) -> bool {
    format.has(Item::Offset) || format.items.iter().any(|item| matches!(item, Item::Epoch(_)))
}

fn stamp(micros: i64, offset: i32, zone: Option<&str>) -> Stamp {
    Stamp { micros, offset: Offset::from_seconds(offset), zone: zone.map(str::to_owned) }
}

fn decimal_text(value: i64, decimals: u32) -> String {
    if decimals == 0 {
        return value.to_string();
    }
    let unit = 10i128.pow(decimals);
    let (whole, rest) = (i128::from(value) / unit, (i128::from(value) % unit).abs());
    let sign = if value < 0 && whole == 0 { "-" } else { "" };
    format!("{sign}{whole}.{rest:0width$}", width = decimals as usize)
}

/// The offset in force at a moment: the last one noted before it, or the first.
fn offset_at(changes: &[(i64, i32)], value: i64) -> i32 {
    let after = changes.partition_point(|(at, _)| *at <= value);
    changes.get(after.saturating_sub(1)).map_or(0, |(_, offset)| *offset)
}

pub(crate) fn zone_offset(zone: &TimeZone, micros: i64) -> i32 {
    Timestamp::from_microsecond(micros).map_or(0, |moment| zone.to_offset(moment).seconds())
}

/// The moments at which the offset changes, oldest first.
pub(crate) fn offset_changes(values: &[i64], offsets: &[i32]) -> Vec<(i64, i32)> {
    let mut pairs: Vec<(i64, i32)> =
        values.iter().copied().zip(offsets.iter().copied()).filter(|(value, _)| *value != MISSING).collect();
    if !pairs.is_sorted() {
        pairs.sort_unstable();
    }
    pairs.dedup_by(|later, earlier| later.1 == earlier.1);
    pairs
}

/// The moment that a clock in a zone shows. Of the two in autumn, the one not before `after`; `None` in the hour that
/// is left out in spring.
pub(crate) fn zoned_micros(zone: &TimeZone, local: civil::DateTime, after: Option<i64>) -> Option<i64> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let micros = |offset: tz::Offset| offset.to_timestamp(local).ok().map(Timestamp::as_microsecond);
    match ambiguous.offset() {
        tz::AmbiguousOffset::Unambiguous { offset } => micros(offset),
        tz::AmbiguousOffset::Gap { .. } => None,
        tz::AmbiguousOffset::Fold { before, after: later } => {
            let first = micros(before)?;
            if after.is_some_and(|after| first <= after) { micros(later) } else { Some(first) }
        }
    }
}
