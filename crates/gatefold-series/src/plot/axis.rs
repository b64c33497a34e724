use crate::SeriesError;
use crate::date::Date;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// An axis: its name, its range and its ticks. On a logarithmic axis, positions are `log10` of the values.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) name: String,
    pub(super) range: Range<f64>,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) logarithmic: bool,
}

impl Axis {
    /// An axis of whole numbers, such as epochs.
    pub(super) fn counting(name: &str, range: Range<f64>) -> Axis {
        let step = nice_step((range.end - range.start) / 10.0).max(1.0);
        let ticks = multiples(step, &range).map(|value| (value, format!("{value}"))).collect();
        Axis { name: name.into(), range, ticks, logarithmic: false }
    }

    /// An axis of values, with a margin above and below.
    pub(super) fn of_values(name: &str, values: impl Iterator<Item = f64>) -> Result<Axis, SeriesError> {
        let range = finite_range(values)?;
        // Halved, so that the span of the largest numbers does not overflow.
        let margin = 0.12 * (range.end / 2.0 - range.start / 2.0);
        let margin = if margin > 0.0 { margin } else { range.start.abs() * 0.1 + f64::MIN_POSITIVE };
        let range = (range.start - margin).max(-8e307)..(range.end + margin).min(8e307);
        let step = nice_step(range.end / 6.0 - range.start / 6.0);
        let ticks = multiples(step, &range).map(|value| (value, tick_label(value, step))).collect();
        Ok(Axis { name: name.into(), range, ticks, logarithmic: false })
    }

    /// An axis of losses, logarithmic if they are positive and span a decade or more.
    pub(super) fn of_losses(
        name: &str,
        losses: impl Iterator<Item = f64> + Clone,
    ) -> Result<Axis, SeriesError> {
        let Range { start: low, end: high } = finite_range(losses.clone())?;
        if low <= 0.0 || high / low < 10.0 {
            return Axis::of_values(name, losses);
        }
        let range = low.log10() - 0.05..high.log10() + 0.05;
        let digits: &[i32] = if range.end - range.start < 3.0 { &[1, 2, 5] } else { &[1] };
        let every = ((range.end - range.start) / 8.0).ceil().max(1.0) as i32;
        let decades = range.start.floor() as i32..=range.end.floor() as i32;
        let ticks = decades
            .filter(|decade| decade % every == 0)
            .flat_map(|decade| {
                digits.iter().map(move |digit| (f64::from(decade) + f64::from(*digit).log10(), decade, digit))
            })
            .filter(|(at, ..)| range.contains(at))
            .map(|(at, decade, digit)| {
                let plain =
                    format!("{:.*}", (-decade).max(0) as usize, f64::from(*digit) * 10f64.powi(decade));
                (at, if decade.abs() <= 4 { plain } else { format!("{digit}e{decade}") })
            })
            .collect();
        Ok(Axis { name: name.into(), range, ticks, logarithmic: true })
    }

    /// An axis of a table's rows, by date if there are dates.
    pub(super) fn of_rows(first: usize, count: usize, dates: Option<&[String]>) -> Axis {
        let range = first as f64..(first + count.max(2) - 1) as f64;
        let ticks = match dates {
            None => return Axis::counting("row", range),
            Some(dates) => turns_of_time(dates).unwrap_or_else(|| evenly(dates)),
        };
        let ticks = ticks.into_iter().map(|(at, label)| ((first + at) as f64, label)).collect();
        Axis { name: String::new(), range, ticks, logarithmic: false }
    }

    /// The axis with as many of its ticks, evenly, as have room on `length` pixels with a gap between the labels; a label may
    /// reach `margin` pixels past the ends.
    pub(super) fn thinned(
        mut self,
        length: i32,
        margin: i32,
        width: impl Fn(&str) -> Result<i32, SeriesError>,
        gap: i32,
    ) -> Result<Axis, SeriesError> {
        let mut places = Vec::with_capacity(self.ticks.len());
        for (at, label) in &self.ticks {
            let (place, half) = (self.map(at, (0, length)), width(label)? / 2 + 1);
            places.push((place - half, place + half));
        }
        let fits = |place: &(i32, i32)| place.0 >= -margin && place.1 <= length + margin;
        let inside: Vec<usize> = (0..places.len()).filter(|at| fits(&places[*at])).collect();
        let apart = |every: &usize| {
            let kept: Vec<usize> = inside.iter().copied().step_by(*every).collect();
            kept.windows(2).all(|pair| places[pair[0]].1 + gap <= places[pair[1]].0)
        };
        let every = (1..=inside.len().max(1)).find(apart).unwrap_or(1);
        let kept: Vec<usize> = inside.into_iter().step_by(every).collect();
        self.ticks = kept.into_iter().map(|at| self.ticks[at].clone()).collect();
        Ok(self)
    }

    /// The position of a value on this axis.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value.clamp(-8e307, 8e307) }
    }
}

/// How plotters asks for ticks; it asks for labels through `ValueFormatter`.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (from, to): (i32, i32)) -> i32 {
        let Range { start, end } = self.range;
        // Halved, so that the span of the largest numbers does not overflow.
        let share = (place / 2.0 - start / 2.0) / (end / 2.0 - start / 2.0);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(place: &f64) -> String {
        format!("{place}")
    }

    fn format_ext(&self, place: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == place).map_or_else(String::new, |(_, label)| label.clone())
    }
}

fn finite_range(values: impl Iterator<Item = f64>) -> Result<Range<f64>, SeriesError> {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return Err(SeriesError::Series("there is no finite value to plot".into()));
    }
    Ok(low..high)
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn nice_step(step: f64) -> f64 {
    if !step.is_normal() {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|nice| *nice >= step * (1.0 - 1e-9));
    nice.unwrap_or(10.0 * power).min(1e307)
}

fn multiples(step: f64, range: &Range<f64>) -> impl Iterator<Item = f64> + use<> {
    let end = range.end * (1.0 + 1e-12);
    let first = (range.start / step).ceil();
    (0..100).map(move |k| (first + f64::from(k)) * step).take_while(move |value| *value <= end)
}

fn tick_label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if value != 0.0 && (value.abs() >= 1e6 || step < 1e-4) {
        return format!(
            "{value:.*e}",
            (value.abs().log10().floor() - step.log10().floor()).clamp(0.0, 6.0) as usize
        );
    }
    format!("{value:.*}", (-step.log10().floor()).clamp(0.0, 6.0) as usize)
}

/// Ticks at the beginning of round years or months. `None` if the dates have another format, or are so few that there
/// would be fewer than three ticks.
fn turns_of_time(dates: &[String]) -> Option<Vec<(usize, String)>> {
    let parsed: Vec<Date> = dates.iter().map(|date| Date::parse(date)).collect::<Option<_>>()?;
    let turns = |unit: &dyn Fn(Date) -> i64, label: &dyn Fn(Date) -> String| -> Vec<(usize, String)> {
        (1..parsed.len())
            .filter(|&at| unit(parsed[at]) != unit(parsed[at - 1]))
            .map(|at| (at, label(parsed[at])))
            .collect()
    };
    for years in [100, 50, 20, 10, 5, 2, 1] {
        let ticks = turns(&|date| date.year.div_euclid(years), &|date| {
            (date.year - date.year.rem_euclid(years)).to_string()
        });
        if ticks.len() >= 4 {
            return Some(ticks);
        }
    }
    for months in [6, 3, 1] {
        let month = |date: Date| date.year * 12 + date.month - 1;
        let ticks = turns(&|date| month(date).div_euclid(months), &|date| {
            format!("{:04}-{:02}", date.year, date.month)
        });
        if ticks.len() >= 3 && ticks.len() <= 12 {
            return Some(ticks);
        }
    }
    None
}

/// Evenly spaced labels, at most six, as they stand in the table.
fn evenly(dates: &[String]) -> Vec<(usize, String)> {
    let every = (nice_step(dates.len() as f64 / 6.0) as usize).max(1);
    (0..dates.len()).step_by(every).map(|at| (at, dates[at].clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::counting("epoch", 1.0..60.0)), ["10", "20", "30", "40", "50", "60"]);
        let values = Axis::of_values("y", [0.0, 253.8].into_iter()).unwrap();
        assert_eq!(labels(&values), ["0", "50", "100", "150", "200", "250"]);
        let small = Axis::of_values("y", [0.01, 0.035].into_iter()).unwrap();
        assert_eq!(labels(&small), ["0.010", "0.015", "0.020", "0.025", "0.030", "0.035"]);
        let losses = Axis::of_losses("loss", [2.4, 0.13].into_iter()).unwrap();
        assert_eq!(labels(&losses), ["0.2", "0.5", "1", "2"]);
    }

    #[test]
    fn dates_tick_where_a_year_or_month_begins() {
        let months: Vec<String> =
            (0..626).map(|t| format!("{:04}-{:02}", 1957 + (t + 4) / 12, (t + 4) % 12 + 1)).collect();
        let axis = Axis::of_rows(2500, months.len(), Some(&months));
        assert_eq!(labels(&axis), ["1960", "1970", "1980", "1990", "2000"]);
        assert_eq!(axis.ticks[0].0, 2532.0, "1960-01 is 32 months after 1957-05");
        let days: Vec<String> =
            (0..59).map(|t| format!("2015-{:02}-{:02}", t / 30 + 1, t % 30 + 1)).collect();
        assert_eq!(labels(&Axis::of_rows(0, 59, Some(&days)))[..2], ["2015-01-01", "2015-01-11"]);
    }
}
