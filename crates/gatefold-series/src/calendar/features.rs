//! Facts of the calendar that people's doings follow.

use super::{Calendar, Unit};
use jiff::civil::{Date, DateTime, Weekday};
use jiff::{Span, ToSpan};
use std::f64::consts::TAU;
use std::ops::Range;

/// A column of numbers that the calendar alone determines.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarFeature {
    /// Its name, such as `Monday` or `working days`.
    pub name: &'static str,
    /// A value for each position.
    pub values: Vec<f64>,
}

type Feature = (&'static str, fn(DateTime, Span) -> f64);

/// The days of the week; Sunday is what none of them is.
const WEEKDAYS: [Feature; 6] = [
    ("Monday", |clock, _| f64::from(clock.weekday() == Weekday::Monday)),
    ("Tuesday", |clock, _| f64::from(clock.weekday() == Weekday::Tuesday)),
    ("Wednesday", |clock, _| f64::from(clock.weekday() == Weekday::Wednesday)),
    ("Thursday", |clock, _| f64::from(clock.weekday() == Weekday::Thursday)),
    ("Friday", |clock, _| f64::from(clock.weekday() == Weekday::Friday)),
    ("Saturday", |clock, _| f64::from(clock.weekday() == Weekday::Saturday)),
];
/// The place in the day, as an angle and as twice that angle.
const HOURS: [Feature; 4] = [
    ("hour, sine", |clock, _| angle(clock).sin()),
    ("hour, cosine", |clock, _| angle(clock).cos()),
    ("hour, second sine", |clock, _| (2.0 * angle(clock)).sin()),
    ("hour, second cosine", |clock, _| (2.0 * angle(clock)).cos()),
];
/// The lengths of months and quarters.
const LENGTHS: [Feature; 2] = [
    ("days", |clock, period| days(clock.date(), period).count() as f64),
    ("working days", |clock, period| {
        let works = |date: &Date| !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        days(clock.date(), period).filter(works).count() as f64
    }),
];

fn angle(clock: DateTime) -> f64 {
    let time = clock.time();
    let seconds = 3600 * i32::from(time.hour()) + 60 * i32::from(time.minute()) + i32::from(time.second());
    TAU * f64::from(seconds) / 86_400.0
}

/// The days of the period that a date is in. A date at its end, or past its middle, is the period's as much as one at
/// its start.
fn days(date: Date, period: Span) -> impl Iterator<Item = Date> {
    let months = period.get_months();
    let first = date.first_of_month();
    let before = (i32::from(first.month()) - 1) % months.max(1);
    let start = if 12 % months.max(1) == 0 { first.saturating_sub(before.months()) } else { first };
    let end = start.saturating_add(period);
    start.series(1.day()).take_while(move |day| *day < end)
}

impl Calendar {
    /// What the calendar says about these positions: the days of the week and the hour for steps of a day and less, the
    /// numbers of days and of working days for months and quarters. None for any other calendar, or without dates.
    pub fn features(&self, positions: Range<i64>) -> Vec<CalendarFeature> {
        let frequency = self.frequency();
        let months = frequency.months().filter(|months| *months < 12);
        let hours = frequency.micros().is_some_and(|step| step < super::stamp::DAY);
        let kinds: Vec<Feature> = match frequency.unit() {
            _ if !self.has_dates() => Vec::new(),
            Unit::BusinessDay => WEEKDAYS[..4].to_vec(),
            Unit::Day if !frequency.count().is_multiple_of(7) => WEEKDAYS.to_vec(),
            Unit::Month | Unit::Quarter if months.is_some() => LENGTHS.to_vec(),
            _ if hours => [&WEEKDAYS[..], &HOURS[..]].concat(),
            _ => Vec::new(),
        };
        let period = months.map_or(Span::new(), |months| months.months());
        let clocks: Vec<DateTime> =
            positions.filter_map(|at| Some(self.clock.stamp(self.grid.value(at))?.local())).collect();
        let values =
            |kind: fn(DateTime, Span) -> f64| clocks.iter().map(|clock| kind(*clock, period)).collect();
        kinds.into_iter().map(|(name, kind)| CalendarFeature { name, values: values(kind) }).collect()
    }
}
