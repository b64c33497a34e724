//! Calendars: the times of rows, past and future.

pub(crate) mod clock;
mod codes;
pub(crate) mod days;
mod features;
pub(crate) mod find;
pub(crate) mod format;
pub(crate) mod fraction;
mod frequency;
pub(crate) mod grid;
mod names;
pub(crate) mod stamp;

pub use features::CalendarFeature;
pub use frequency::{Frequency, Unit};

use clock::{Clock, Times};
use format::Format;
use grid::Grid;
use std::ops::Range;

/// Evenly spaced moments, numbered from that of the oldest row: the clock of all series of a table.
///
/// Positions may be negative or past the last row. Labels are written as the table writes its times.
#[derive(Clone, Debug)]
pub struct Calendar {
    grid: Grid,
    clock: Clock,
    format: Option<Format>,
    frequency: Frequency,
}

impl Calendar {
    /// Rows without a time, labelled 1, 2, and so on.
    pub(crate) fn of_rows() -> Calendar {
        let grid = Grid::Fixed { origin: 0, step: 1, slack: 0 };
        Calendar { grid, clock: Clock::Rows, format: None, frequency: Frequency::new(1, Unit::Row) }
    }

    pub(crate) fn new(grid: Grid, times: &Times) -> Calendar {
        let frequency = grid.frequency(times.dated());
        Calendar { grid, clock: times.clock.clone(), format: times.format.clone(), frequency }
    }

    pub(crate) fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The label of a position, in the table's own format.
    pub fn label(&self, position: i64) -> String {
        self.clock.text(self.grid.value(position), self.format.as_ref())
    }

    /// The labels of several positions.
    pub fn labels(&self, positions: Range<i64>) -> Vec<String> {
        positions.map(|position| self.label(position)).collect()
    }

    /// The time from one position to the next; one row if the table has no time.
    pub fn frequency(&self) -> Frequency {
        self.frequency
    }

    /// Whether rows have a date, rather than a number or nothing.
    pub fn has_dates(&self) -> bool {
        !matches!(self.clock, Clock::Rows | Clock::Number(_))
    }

    /// Whether rows have a time or a number of their own; if not, labels are the rows' numbers.
    pub fn has_times(&self) -> bool {
        !matches!(self.clock, Clock::Rows)
    }

    /// The numbers of rows after which a series of this frequency often repeats, shortest first; those without dates
    /// have none.
    pub fn seasons(&self) -> Vec<usize> {
        if self.has_dates() { self.frequency.seasons() } else { Vec::new() }
    }

    /// How far from its moment a time may be, in microseconds; zero if all are exact.
    pub(crate) fn slack_micros(&self) -> i64 {
        match self.grid {
            Grid::Fixed { slack, .. } if self.has_dates() => slack,
            _ => 0,
        }
    }
}
