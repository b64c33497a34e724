use super::axis::Axis;
use super::panel::{self, Curve, Panel};
use super::{FORECAST, INTERVAL, TRUTH, WIDTH};
use crate::SeriesError;
use std::ops::Range;

/// A series whose gaps are filled: known values as a line, filled ones as dots with their intervals. A second panel
/// enlarges the surroundings of the longest gap.
#[derive(Clone, Debug)]
pub struct GapPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the values: that of their column.
    pub value: &'a str,
    /// The dates of the values, if known.
    pub dates: Option<&'a [String]>,
    /// The known values, NaN in gaps.
    pub known: &'a [f64],
    /// The filled values, NaN elsewhere.
    pub filled: &'a [f64],
    /// The lower and upper ends of the intervals of the filled values, NaN elsewhere.
    pub interval: (&'a [f64], &'a [f64]),
    /// The interval's name, such as `95 %`.
    pub interval_name: &'a str,
}

impl GapPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite, or values, intervals and dates differ in number.
    pub fn svg(&self) -> Result<String, SeriesError> {
        let panels = self.panels()?;
        panel::svg((WIDTH, 380 * panels.len() as u32), panels.as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`GapPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        let panels = self.panels()?;
        panel::png((WIDTH, 380 * panels.len() as u32), panels.as_slice())
    }

    fn panels(&self) -> Result<Vec<Panel>, SeriesError> {
        let n = self.known.len();
        let lengths = [self.filled.len(), self.interval.0.len(), self.interval.1.len()];
        let dates = self.dates.map_or(n, <[String]>::len);
        if n == 0 || dates != n || lengths.iter().any(|len| *len != n) {
            return Err(SeriesError::Series(format!(
                "a plot of {n} values needs as many filled ones, interval ends and dates; found {lengths:?} and {dates}"
            )));
        }
        let mut panels = vec![self.panel(self.title, 0..n)?];
        if let Some(gap) = self.longest_gap() {
            let around = (3 * gap.len()).clamp(20, 200);
            let shown = gap.start.saturating_sub(around)..(gap.end + around).min(n);
            if shown.len() * 2 < n {
                panels.push(self.panel("around the longest gap", shown)?);
            }
        }
        Ok(panels)
    }

    fn longest_gap(&self) -> Option<Range<usize>> {
        let mut longest: Option<Range<usize>> = None;
        let mut begin = 0;
        for run in self.filled.chunk_by(|a, b| a.is_nan() == b.is_nan()) {
            let gap = begin..begin + run.len();
            if !run[0].is_nan() && longest.as_ref().is_none_or(|longest| gap.len() > longest.len()) {
                longest = Some(gap.clone());
            }
            begin = gap.end;
        }
        longest
    }

    fn panel(&self, title: &str, shown: Range<usize>) -> Result<Panel, SeriesError> {
        let points = |values: &[f64], within: Range<usize>| -> Vec<(f64, f64)> {
            within.map(|at| ((at + 1) as f64, values[at])).collect()
        };
        let radius = if shown.len() > 400 { 2.5 } else { 3.5 };
        let mut curves = Vec::new();
        let mut begin = shown.start;
        for run in self.filled[shown.clone()].chunk_by(|a, b| a.is_nan() == b.is_nan()) {
            let gap = begin..begin + run.len();
            begin = gap.end;
            if !run[0].is_nan() {
                // The name stands once in the heading.
                let name = if curves.is_empty() { self.interval_name } else { "" };
                curves.push(Curve::band(name, INTERVAL, self.edge(&gap, false), self.edge(&gap, true)));
            }
        }
        curves.push(Curve::new("known", TRUTH, 1.4, points(self.known, shown.clone())));
        curves.push(Curve::dots("filled", FORECAST, radius, points(self.filled, shown.clone())));
        let ends = [self.interval.0, self.interval.1, self.known, self.filled];
        let y = Axis::of_values(
            self.value,
            ends.into_iter().flat_map(|values| values[shown.clone()].iter().copied()),
        )?;
        let x = Axis::of_rows(shown.start + 1, shown.len(), self.dates.map(|dates| &dates[shown.clone()]));
        Ok(Panel::new(title, x, y, curves))
    }

    /// One edge of the band over a gap, wide enough to be seen where the gap is one value.
    fn edge(&self, gap: &Range<usize>, upper: bool) -> Vec<(f64, f64)> {
        let values = if upper { self.interval.1 } else { self.interval.0 };
        let (first, last) = (gap.start, gap.end - 1);
        let mut edge = vec![(first as f64 + 0.6, values[first])];
        edge.extend(gap.clone().map(|at| ((at + 1) as f64, values[at])));
        edge.push((last as f64 + 1.4, values[last]));
        edge
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_values_are_dots_and_the_longest_gap_has_a_panel() {
        let mut known: Vec<f64> = (0..300).map(|t| f64::from(t).sin()).collect();
        let mut filled = vec![f64::NAN; 300];
        for at in [3, 100, 101, 102, 299] {
            filled[at] = known[at];
            known[at] = f64::NAN;
        }
        let (low, high): (Vec<f64>, Vec<f64>) = filled.iter().map(|value| (value - 0.1, value + 0.1)).unzip();
        let plot = GapPlot {
            title: "t",
            value: "v",
            dates: None,
            known: &known,
            filled: &filled,
            interval: (&low, &high),
            interval_name: "95 %",
        };
        let svg = plot.svg().unwrap();
        for text in ["95 %", "known", "filled", "around the longest gap"] {
            assert!(svg.contains(text), "no {text}");
        }
        assert_eq!(svg.matches("<circle").count(), 5 + 3, "every filled value, and three of them again");
        assert!(plot.png().unwrap().starts_with(b"\x89PNG"));
        assert!(GapPlot { filled: &[], ..plot }.svg().is_err());
    }
}
