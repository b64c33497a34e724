//! Even spacing: found in times, and positions counted on it.

use super::frequency::{Frequency, Unit};
use super::stamp::{DAY, civil_micros, clock};
use jiff::civil::Date;
use jiff::tz;

/// The day of a month that a calendar of months keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// The same day, or the month's last one if it is shorter.
    Day(i8),
    End,
    FirstBusinessDay,
    LastBusinessDay,
}

/// Moments an equal step apart. `origin` is position 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grid {
    /// A step of fixed length, in the unit of the values. Values within `slack` of a moment belong to it.
    Fixed { origin: i64, step: i64, slack: i64 },
    /// Days from Monday to Friday, at one time of day.
    Business { origin: i64, step: i64, time: i64 },
    /// Months since the year 0, at one time of day.
    Months { origin: i64, step: i64, anchor: Anchor, time: i64 },
}

/// A pair of neighbouring values that no even spacing explains: the smallest step, and the most frequent.
#[derive(Clone, Debug)]
pub(crate) struct Uneven {
    pub(crate) usual: i64,
    pub(crate) odd: i64,
    /// The later value of a pair that is `odd` apart; `None` if each series is even, but not all are on one grid.
    pub(crate) at: Option<i64>,
}

/// How far a value may be from its place, as a share of the step.
const SLACK: i64 = 10;
/// An hour, a minute, a second, a millisecond and a microsecond.
const UNITS: [i64; 5] = [3_600_000_000, 60_000_000, 1_000_000, 1000, 1];

impl Grid {
    /// The grid that every value is on. Each run is one series: values strictly ascending. `dated`: the values are
    /// microseconds on a clock, so that days and months mean something.
    pub(crate) fn find(runs: &[&[i64]], dated: bool) -> Result<Option<Grid>, Uneven> {
        let Some(origin) = runs.iter().filter_map(|run| run.first()).min().copied() else { return Ok(None) };
        let steps = Steps::of(runs, |value| value);
        let Some(usual) = steps.usual() else { return Ok(None) };
        if dated && let Some(time) = same_time(runs) {
            if let Some(grid) = Grid::of_months(runs, time) {
                return Ok(Some(grid));
            }
            if usual == DAY && only_business_days(runs) {
                return Ok(business_index(origin).map(|origin| Grid::Business { origin, step: 1, time }));
            }
        }
        if steps.common == usual {
            return Ok(Some(Grid::Fixed { origin, step: usual, slack: 0 }));
        }
        if dated && let Some(grid) = near(runs, origin, usual) {
            return Ok(Some(grid));
        }
        let odd = steps.first_odd(runs, usual);
        Err(Uneven { usual, odd: odd.map_or(usual, |(odd, _)| odd), at: odd.map(|(_, at)| at) })
    }

    fn of_months(runs: &[&[i64]], time: i64) -> Option<Grid> {
        let anchor = Anchor::find(runs)?;
        let steps = Steps::of(runs, month_of);
        let origin = runs.iter().filter_map(|run| run.first()).map(|value| month_of(*value)).min()?;
        (steps.usual()? == steps.common).then_some(Grid::Months { origin, step: steps.common, anchor, time })
    }

    /// The grid of a frequency that was asked for. `periods`: values may be anywhere within a step.
    pub(crate) fn of_frequency(runs: &[&[i64]], frequency: Frequency, periods: bool) -> Option<Grid> {
        let first = runs.iter().filter_map(|run| run.first()).min().copied()?;
        if let Some(step) = frequency.months() {
            let anchor = if periods { None } else { Anchor::find(runs) };
            let time = if periods { None } else { same_time(runs) };
            let day = Anchor::Day(if periods { 1 } else { date_of(first).day() });
            let mut origin = month_of(first);
            if periods {
                origin -= origin.rem_euclid(step.min(12)); // quarters and years begin where the calendar's do
            }
            let time = time.unwrap_or(if periods { 0 } else { first.rem_euclid(DAY) });
            return Some(Grid::Months { origin, step, anchor: anchor.unwrap_or(day), time });
        }
        if frequency.unit == Unit::BusinessDay {
            let time = if periods { 0 } else { first.rem_euclid(DAY) };
            // From a weekend back to its Friday.
            let origin = (0..3).find_map(|back| business_index(first - back * DAY))?;
            return Some(Grid::Business { origin, step: frequency.count, time });
        }
        let step = if frequency.unit == Unit::Row { frequency.count } else { frequency.micros()? };
        let mut origin = first;
        if periods && frequency.unit != Unit::Row {
            let monday = if frequency.unit == Unit::Week { 4 * DAY } else { 0 }; // 5 January 1970 was a Monday
            origin = (first - monday).div_euclid(step) * step + monday;
        }
        Some(Grid::Fixed { origin, step, slack: 0 })
    }

    /// The position of a value; `None` if it is not on the grid.
    pub(crate) fn position(&self, value: i64) -> Option<i64> {
        let (position, rest) = match *self {
            Grid::Fixed { origin, step, slack } => {
                let from = value.checked_sub(origin)?.checked_add(slack)?;
                (from.div_euclid(step), (from.rem_euclid(step) - slack).abs().saturating_sub(slack).max(0))
            }
            Grid::Business { origin, step, time } => {
                let from = business_index(value)? - origin;
                (from.div_euclid(step), from.rem_euclid(step) + (value.rem_euclid(DAY) - time).abs())
            }
            Grid::Months { origin, step, anchor, time } => {
                let from = month_of(value) - origin;
                let on_day = anchor.day(month_of(value)) == Some(date_of(value).day());
                let on_time = value.rem_euclid(DAY) == time;
                (from.div_euclid(step), from.rem_euclid(step) + i64::from(!on_day) + i64::from(!on_time))
            }
        };
        (rest == 0).then_some(position)
    }

    /// The position of the step that a value is within.
    pub(crate) fn period(&self, value: i64) -> i64 {
        match *self {
            Grid::Fixed { origin, step, .. } => value.saturating_sub(origin).div_euclid(step),
            Grid::Months { origin, step, .. } => (month_of(value) - origin).div_euclid(step),
            Grid::Business { origin, step, .. } => {
                let index = (0..3).find_map(|back| business_index(value - back * DAY)).unwrap_or(origin);
                (index - origin).div_euclid(step)
            }
        }
    }

    /// The value at a position.
    pub(crate) fn value(&self, position: i64) -> i64 {
        match *self {
            Grid::Fixed { origin, step, .. } => origin.saturating_add(step.saturating_mul(position)),
            Grid::Business { origin, step, time } => {
                let index = origin.saturating_add(step.saturating_mul(position));
                let days = index.div_euclid(5).saturating_mul(7).saturating_add(index.rem_euclid(5) + 4);
                days.saturating_mul(DAY).saturating_add(time)
            }
            Grid::Months { origin, step, anchor, time } => {
                let month = origin.saturating_add(step.saturating_mul(position));
                let day = anchor.day(month).unwrap_or(1);
                let date =
                    month_start(month).and_then(|start| Date::new(start.year(), start.month(), day).ok());
                date.and_then(midnight).map_or(i64::MAX, |start| start + time)
            }
        }
    }

    pub(crate) fn frequency(&self, dated: bool) -> Frequency {
        match *self {
            Grid::Fixed { step, .. } if dated => Frequency::of_micros(step),
            Grid::Fixed { step, .. } => Frequency { count: step, unit: Unit::Row },
            Grid::Business { step, .. } => Frequency { count: step, unit: Unit::BusinessDay },
            Grid::Months { step, .. } => Frequency::of_months(step),
        }
    }
}

impl Anchor {
    /// The day that all values keep to in their months.
    fn find(runs: &[&[i64]]) -> Option<Anchor> {
        let last = runs.iter().flat_map(|run| run.iter()).map(|value| date_of(*value).day()).max()?;
        let count = runs.iter().map(|run| run.len()).sum::<usize>();
        let mut anchors = vec![Anchor::End, Anchor::Day(last)];
        if last <= 28 || count < 2 {
            anchors.remove(0);
        }
        if count > 2 {
            anchors.extend([Anchor::LastBusinessDay, Anchor::FirstBusinessDay]);
        }
        anchors.into_iter().find(|anchor| {
            runs.iter().all(|run| {
                run.iter().all(|value| anchor.day(month_of(*value)) == Some(date_of(*value).day()))
                    && run.windows(2).all(|pair| month_of(pair[0]) != month_of(pair[1]))
            })
        })
    }

    /// The day in a month, counted from the year 0.
    fn day(self, month: i64) -> Option<i8> {
        let start = month_start(month)?;
        let days = start.days_in_month();
        let business = |day: &i8| start.with().day(*day).build().is_ok_and(|date| !is_weekend(date));
        match self {
            Anchor::Day(day) => Some(day.min(days)),
            Anchor::End => Some(days),
            Anchor::FirstBusinessDay => (1..=days).find(business),
            Anchor::LastBusinessDay => (1..=days).rev().find(business),
        }
    }
}

/// The steps between neighbours, counted.
struct Steps {
    counts: Vec<(i64, usize)>, // ascending
    common: i64,               // the greatest common divisor
}

impl Steps {
    fn of(runs: &[&[i64]], unit: impl Fn(i64) -> i64) -> Steps {
        let mut all: Vec<i64> = runs
            .iter()
            .flat_map(|run| run.windows(2).map(|pair| unit(pair[1]) - unit(pair[0])))
            .filter(|step| *step > 0)
            .collect();
        // Series that begin at different moments must be on one grid, too.
        let origin = runs.iter().filter_map(|run| run.first()).map(|value| unit(*value)).min().unwrap_or(0);
        let starts = runs.iter().filter_map(|run| run.first()).map(|value| unit(*value) - origin);
        let common = all.iter().copied().chain(starts).fold(0, greatest_common_divisor);
        all.sort_unstable();
        let counts = all.chunk_by(|a, b| a == b).map(|equal| (equal[0], equal.len())).collect();
        Steps { counts, common }
    }

    /// The most frequent step; of several, the shortest.
    fn usual(&self) -> Option<i64> {
        let most = self.counts.iter().map(|(_, count)| *count).max()?;
        // A table in which hardly two steps are alike has no usual one: then the shortest.
        self.counts.iter().find(|(_, count)| *count == most).map(|(step, _)| *step)
    }

    fn first_odd(&self, runs: &[&[i64]], usual: i64) -> Option<(i64, i64)> {
        let mut pairs = runs.iter().flat_map(|run| run.windows(2)).map(|pair| (pair[1] - pair[0], pair[1]));
        pairs.find(|(step, _)| step % usual != 0)
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { greatest_common_divisor(b, a % b) }
}

/// The grid of the usual step, or of one of whole seconds or minutes near it, that every value is near.
fn near(runs: &[&[i64]], origin: i64, usual: i64) -> Option<Grid> {
    let round = |unit: i64| (usual + unit / 2) / unit * unit;
    let rounded = [3_600_000_000, 60_000_000, 1_000_000].map(round).into_iter().filter(|step| *step > 0);
    let steps: Vec<i64> = rounded.chain([usual]).collect();
    let fit = |step: i64| {
        let offset = |value: i64| (value - origin + step / 2).rem_euclid(step) - step / 2;
        let mut offsets: Vec<i64> =
            runs.iter().flat_map(|run| run.iter().map(|value| offset(*value))).collect();
        let middle = offsets.len() / 2;
        let centre = *offsets.select_nth_unstable(middle).1;
        let slack = offsets.iter().map(|offset| (offset - centre).abs()).max()?;
        if slack > step / SLACK {
            return None;
        }
        // The origin on a round hour, minute or second, where that is as good.
        let (origin, unit) = (origin + centre, UNITS.into_iter().find(|unit| step % unit == 0)?);
        let round = (origin + unit / 2).div_euclid(unit) * unit;
        let moved = (round - origin).abs();
        let near = moved <= slack && slack + moved <= step / SLACK;
        let (origin, slack) = if near { (round, slack + moved) } else { (origin, slack) };
        let grid = Grid::Fixed { origin, step, slack };
        let distinct =
            |run: &&[i64]| run.windows(2).all(|pair| grid.position(pair[0]) != grid.position(pair[1]));
        runs.iter().all(distinct).then_some(grid)
    };
    steps.into_iter().find_map(fit)
}

pub(super) fn date_of(micros: i64) -> Date {
    clock(micros, tz::Offset::UTC).date()
}

fn midnight(date: Date) -> Option<i64> {
    civil_micros(date.at(0, 0, 0, 0))
}

/// Months since the year 0.
fn month_of(micros: i64) -> i64 {
    let date = date_of(micros);
    i64::from(date.year()) * 12 + i64::from(date.month()) - 1
}

fn month_start(month: i64) -> Option<Date> {
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    Date::new(year, month.rem_euclid(12) as i8 + 1, 1).ok()
}

fn is_weekend(date: Date) -> bool {
    date.weekday().to_monday_zero_offset() >= 5
}

/// The time of day that all values share.
fn same_time(runs: &[&[i64]]) -> Option<i64> {
    let mut times = runs.iter().flat_map(|run| run.iter()).map(|value| value.rem_euclid(DAY));
    let first = times.next()?;
    times.all(|time| time == first).then_some(first)
}

/// Business days since Monday, 5 January 1970; `None` at a weekend.
fn business_index(micros: i64) -> Option<i64> {
    let days = micros.div_euclid(DAY) - 4;
    let day = days.rem_euclid(7);
    (day < 5).then_some(days.div_euclid(7) * 5 + day)
}

/// Whether no value is at a weekend, though at least one weekend is passed and the rows are not few.
fn only_business_days(runs: &[&[i64]]) -> bool {
    let passes =
        |pair: &[i64]| (pair[0] - 4 * DAY).div_euclid(7 * DAY) != (pair[1] - 4 * DAY).div_euclid(7 * DAY);
    let all = runs.iter().all(|run| run.iter().all(|value| business_index(*value).is_some()));
    let count = runs.iter().map(|run| run.len()).sum::<usize>();
    all && count >= 5 && runs.iter().any(|run| run.windows(2).any(passes))
}
