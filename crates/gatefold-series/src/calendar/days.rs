//! Days as programs count them, with a fraction for the time of day.

use super::stamp::DAY;
use std::fmt;

/// Ways of counting days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DayCount {
    Excel,
    Matlab,
    /// Julian days begin at noon.
    Julian,
    ModifiedJulian,
}

impl DayCount {
    /// Ten times the number of 1970-01-01.
    fn of_1970(self) -> i64 {
        match self {
            DayCount::Excel => 255_690,
            DayCount::Matlab => 7_195_290,
            DayCount::Julian => 24_405_875,
            DayCount::ModifiedJulian => 405_870,
        }
    }

    /// Microseconds since 1970, to the millisecond: Excel writes an hour as 0.0416666667.
    pub(super) fn micros(self, cell: &str) -> Option<i64> {
        let (whole, fraction) = cell.split_once('.').unwrap_or((cell, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 8 || fraction.len() > 15 || !digits(whole) || !digits(fraction) {
            return None;
        }
        let unit = 10i128.pow(fraction.len() as u32);
        let day = i128::from(DAY);
        let part = fraction.parse::<i128>().unwrap_or(0) * day;
        let since = whole.parse::<i128>().ok()? * day - i128::from(self.of_1970()) * day / 10;
        let micros = i64::try_from(since + (part + unit / 2) / unit).ok()?;
        Some((micros + 500).div_euclid(1000) * 1000)
    }

    /// The count of a moment, in steps of 1e-10 days as Excel writes it.
    pub(super) fn text(self, micros: i64) -> String {
        let half = 43_200_000_000; // of a day
        let days = (i128::from(micros) * 10_000_000_000 + half) / i128::from(DAY)
            + i128::from(self.of_1970()) * 1_000_000_000;
        let text = format!("{}.{:010}", days / 10_000_000_000, days % 10_000_000_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl fmt::Display for DayCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DayCount::Excel => "days as Excel counts them",
            DayCount::Matlab => "days as MATLAB counts them",
            DayCount::Julian => "Julian days",
            DayCount::ModifiedJulian => "modified Julian days",
        })
    }
}
