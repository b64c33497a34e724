//! Plots as SVG and PNG: loss curves, truth, forecast and baseline over the test part, filled gaps, labels over time,
//! confusion matrices, and lines of scores.
//!
//! plotters draws them with a font that comes with this crate, so nothing has to be installed and every machine draws
//! the same picture.

mod axis;
mod confusion;
mod diagram;
mod gaps;
mod gradients;
mod labels;
mod lines;
mod panel;

pub use confusion::ConfusionPlot;
pub use diagram::{Anchor, Diagram, Ink, Point, Shape};
pub use gaps::GapPlot;
pub use gradients::{GradientLayer, GradientPlot};
pub use labels::LabelPlot;
pub use lines::LinesPlot;

use crate::SeriesError;
use axis::Axis;
use panel::{Curve, Panel};
use plotters::prelude::*;
use std::ops::Range;

const TRUTH: RGBColor = RGBColor(40, 40, 48);
const FORECAST: RGBColor = RGBColor(31, 102, 204);
const BASELINE: RGBColor = RGBColor(240, 140, 20);
const INTERVAL: RGBColor = RGBColor(196, 216, 244);
const WIDTH: u32 = 960;

/// Training and validation loss by epoch. The axis is logarithmic if the values span a decade or more.
#[derive(Clone, Debug)]
pub struct LossPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the loss, such as `mean squared error`.
    pub loss: &'a str,
    /// The training loss after each epoch.
    pub training: &'a [f64],
    /// The validation loss after each epoch; may be empty.
    pub validation: &'a [f64],
}

/// Truth, forecast and one baseline over the test part. A second panel enlarges the newest values of a long part.
#[derive(Clone, Debug)]
pub struct ForecastPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the values: that of their column.
    pub value: &'a str,
    /// The row of the first value, where the axis begins if there are no dates.
    pub first_row: usize,
    /// The dates of the values, if known.
    pub dates: Option<&'a [String]>,
    /// The true values.
    pub truth: &'a [f64],
    /// The forecast of each value.
    pub forecast: &'a [f64],
    /// A baseline's name and its forecasts.
    pub baseline: (&'a str, &'a [f64]),
    /// How many of the newest values the second panel enlarges. Without a second panel if this is 0 or more than half
    /// of the values.
    pub newest: usize,
}

/// The end of a series, its forecast and the forecast's interval.
#[derive(Clone, Debug)]
pub struct FuturePlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the values: that of their column.
    pub value: &'a str,
    /// The row of the first value, where the axis begins if there are no dates.
    pub first_row: usize,
    /// The dates of history and forecast, if known.
    pub dates: Option<&'a [String]>,
    /// The newest samples.
    pub history: &'a [f64],
    /// The forecast of what follows.
    pub forecast: &'a [f64],
    /// The interval's lower and upper ends.
    pub interval: Option<(&'a [f64], &'a [f64])>,
    /// The interval's name, such as `95 %`.
    pub interval_name: &'a str,
}

impl FuturePlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite, or forecast, interval and dates differ in number.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, 420), [self.panel()?].as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`FuturePlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, 420), [self.panel()?].as_slice())
    }

    fn panel(&self) -> Result<Panel, SeriesError> {
        let (known, horizon) = (self.history.len(), self.forecast.len());
        let ends = self.interval.map_or((horizon, horizon), |(low, high)| (low.len(), high.len()));
        let dates = self.dates.map_or(known + horizon, <[String]>::len);
        if known == 0 || horizon == 0 || ends != (horizon, horizon) || dates != known + horizon {
            return Err(SeriesError::Series(format!(
                "a plot of {known} samples and {horizon} forecasts needs as many interval ends and dates; found {ends:?} \
                 and {dates}"
            )));
        }
        let at = |index: usize| (self.first_row + index) as f64;
        let past: Vec<(f64, f64)> =
            self.history.iter().enumerate().map(|(index, value)| (at(index), *value)).collect();
        // The lines of the future start at the last sample, so that nothing hangs in the air.
        let last = past[known - 1];
        let future = |values: &[f64]| -> Vec<(f64, f64)> {
            let after = values.iter().enumerate().map(|(k, value)| (at(known + k), *value));
            std::iter::once(last).chain(after).collect()
        };
        let mut curves = vec![Curve::new("history", TRUTH, 1.6, past.clone())];
        let mut panel_values: Vec<f64> = self.history.to_vec();
        if let Some((low, high)) = self.interval {
            curves.insert(0, Curve::band(self.interval_name, INTERVAL, future(low), future(high)));
            panel_values.extend(low.iter().chain(high));
        }
        curves.push(Curve::new("forecast", FORECAST, 2.0, future(self.forecast)));
        panel_values.extend(self.forecast);
        let y = Axis::of_values(self.value, panel_values.into_iter())?;
        let x = Axis::of_rows(self.first_row, known + horizon, self.dates);
        Ok(Panel::new(self.title, x, y, curves))
    }
}

impl LossPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no loss is finite.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, 420), self.panels()?.as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`LossPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, 420), self.panels()?.as_slice())
    }

    fn panels(&self) -> Result<Vec<Panel>, SeriesError> {
        let points = |losses: &[f64]| -> Vec<(f64, f64)> {
            losses.iter().enumerate().map(|(epoch, loss)| (epoch as f64 + 1.0, *loss)).collect()
        };
        let curves = vec![
            Curve::new("training", FORECAST, 2.0, points(self.training)),
            Curve::new("validation", BASELINE, 2.0, points(self.validation)),
        ];
        let epochs = self.training.len().max(self.validation.len()).max(2) as f64;
        let y = Axis::of_losses(self.loss, self.training.iter().chain(self.validation).copied())?;
        Ok(vec![Panel::new(self.title, Axis::counting("epoch", 1.0..epochs), y, curves)])
    }
}

impl ForecastPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite, or truth, forecasts, baseline and dates differ in number.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, self.height()), self.panels()?.as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`ForecastPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, self.height()), self.panels()?.as_slice())
    }

    fn height(&self) -> u32 {
        if self.has_second_panel() { 760 } else { 420 }
    }

    fn has_second_panel(&self) -> bool {
        self.newest > 0 && self.truth.len() / 2 >= self.newest
    }

    fn panels(&self) -> Result<Vec<Panel>, SeriesError> {
        let n = self.truth.len();
        let lengths = [self.forecast.len(), self.baseline.1.len(), self.dates.map_or(n, <[String]>::len)];
        if n == 0 || lengths.iter().any(|len| *len != n) {
            let problem = format!(
                "a plot of {n} true values needs as many forecasts, baseline values and dates; found {lengths:?}"
            );
            return Err(SeriesError::Series(problem));
        }
        let mut panels = vec![self.panel(self.title, 0..n)?];
        if self.has_second_panel() {
            panels.push(self.panel(&format!("the last {} of them", self.newest), n - self.newest..n)?);
        }
        Ok(panels)
    }

    fn panel(&self, title: &str, shown: Range<usize>) -> Result<Panel, SeriesError> {
        let points = |values: &[f64]| -> Vec<(f64, f64)> {
            shown.clone().map(|at| ((self.first_row + at) as f64, values[at])).collect()
        };
        let lines = [(self.baseline.0, BASELINE, self.baseline.1), ("truth", TRUTH, self.truth)];
        let mut curves: Vec<Curve> = lines
            .into_iter()
            .map(|(name, color, values)| Curve::new(name, color, 1.4, points(values)))
            .collect();
        curves.push(Curve::new("forecast", FORECAST, 1.8, points(self.forecast)));
        let y = Axis::of_values(self.value, curves.iter().flat_map(Curve::values))?;
        let x = Axis::of_rows(
            self.first_row + shown.start,
            shown.len(),
            self.dates.map(|dates| &dates[shown.clone()]),
        );
        Ok(Panel::new(title, x, y, curves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast_plot<'a>(truth: &'a [f64], dates: Option<&'a [String]>) -> ForecastPlot<'a> {
        ForecastPlot {
            title: "t <1>",
            value: "v",
            first_row: 10,
            dates,
            truth,
            forecast: truth,
            baseline: ("repeat last", truth),
            newest: 60,
        }
    }

    #[test]
    fn an_svg_names_its_curves_and_dates_and_escapes_text() {
        let truth: Vec<f64> = (0..300).map(|t| f64::from(t).sin()).collect();
        let dates: Vec<String> =
            (0..300).map(|t| format!("{:04}-{:02}", 1950 + t / 12, t % 12 + 1)).collect();
        let svg = forecast_plot(&truth, Some(&dates)).svg().unwrap();
        let texts = ["repeat last", "truth", "forecast", "1960", "the last 60 of them", "t &lt;1&gt;"];
        let missing: Vec<&str> = texts.into_iter().filter(|text| !svg.contains(text)).collect();
        assert!(missing.is_empty(), "not in the plot: {missing:?}");
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_png_has_its_signature_and_size() {
        let losses = [1.0, 0.1, 0.02, 0.015];
        let plot =
            LossPlot { title: "loss", loss: "mean squared error", training: &losses, validation: &losses };
        let bytes = plot.png().unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
        let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (2 * WIDTH, 2 * 420));
    }

    /// The texts of an SVG with their anchor, place and size.
    fn texts(svg: &str) -> Vec<(String, String, f64, f64, f64)> {
        let of = |tag: &str, name: &str| {
            let from = tag.find(&format!(" {name}=\"")).map(|at| at + name.len() + 3)?;
            tag[from..].split('"').next().map(str::to_owned)
        };
        let tags = svg.split("<text").skip(1).map(|tag| {
            let number = |name: &str| of(tag, name).unwrap().parse::<f64>().unwrap();
            let text = tag.split_once('>').unwrap().1.split("</text>").next().unwrap().trim();
            let turned = tag.split('>').next().unwrap().contains("rotate");
            let anchor = if turned { "turned".into() } else { of(tag, "text-anchor").unwrap() };
            (text.to_owned(), anchor, number("x"), number("y"), number("font-size"))
        });
        tags.collect()
    }

    /// Checks that no two lines of text overlap and that all lie within the picture, at 0.55 em per character.
    fn assert_apart(svg: &str) {
        let boxes: Vec<(String, f64, f64, f64, f64)> = texts(svg)
            .into_iter()
            .filter(|(text, anchor, ..)| anchor != "turned" && !text.is_empty())
            .map(|(text, anchor, x, y, size)| {
                let width = text.chars().count() as f64 * 0.55 * size;
                let left = match anchor.as_str() {
                    "end" => x - width,
                    "middle" => x - width / 2.0,
                    _ => x,
                };
                (text, left, left + width, y - 0.4 * size, y + 0.4 * size)
            })
            .collect();
        for (at, one) in boxes.iter().enumerate() {
            assert!(one.1 >= 0.0 && one.2 <= f64::from(WIDTH), "{one:?} leaves the picture");
            for other in &boxes[..at] {
                let apart = one.1 >= other.2 || other.1 >= one.2 || one.3 >= other.4 || other.3 >= one.4;
                assert!(apart, "{one:?} over {other:?}");
            }
        }
    }

    #[test]
    fn texts_never_collide_and_stay_in_the_picture() {
        let wave: Vec<f64> = (0..90).map(|t| f64::from(t).sin()).collect();
        let long =
            "a very long name of a column that somebody exported from a data base with all of its path"
                .repeat(3);
        let dates: [fn(usize) -> String; 4] = [
            |t| format!("2015-{:02}-{:02}T{:02}:15:00+01:00", t / 28 + 1, t % 28 + 1, t % 24),
            |t| format!("{}-Q{}", 1990 + t / 4, t % 4 + 1),
            |t| format!("2016-03-{:02} {:02}:00", t / 24 + 1, t % 24),
            |t| format!("{}", 1900 + t),
        ];
        for (scale, count) in [(1.0, 90), (1e300, 90), (-1e-300, 5), (0.0, 3), (1e9, 1), (-123_456.789, 2)] {
            let values: Vec<f64> = wave[..count].iter().map(|value| value * scale).collect();
            for date in dates {
                let labels: Vec<String> = (0..count + 1).map(date).collect();
                let mut plot = forecast_plot(&values, Some(&labels[..count]));
                (plot.title, plot.value, plot.baseline.0) = (&long, &long, "seasonal naive (365)");
                assert_apart(&plot.svg().unwrap());
                let future = FuturePlot {
                    title: &long,
                    value: "v",
                    first_row: 1,
                    dates: Some(&labels),
                    history: &values,
                    forecast: &values[..1],
                    interval: Some((&values[..1], &values[..1])),
                    interval_name: "95 %",
                };
                assert_apart(&future.svg().unwrap());
            }
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(at, v)| (at as f64, *v)).collect();
            let lines: Vec<(&str, &[(f64, f64)])> = [
                long.as_str(),
                "linear",
                "seasonal naive (24)",
                "a run in some folder",
                "other",
                "combination",
            ]
            .into_iter()
            .map(|name| (name, points.as_slice()))
            .collect();
            let plot = LinesPlot { title: "Mean absolute error", x: "steps ahead", y: &long, lines: &lines };
            assert_apart(&plot.svg().unwrap());
        }
    }

    #[test]
    fn a_single_point_is_seen() {
        let plot = LinesPlot { title: "", x: "step", y: "error", lines: &[("one", &[(1.0, 4.0)])] };
        assert!(plot.svg().unwrap().contains("<circle"));
        assert!(forecast_plot(&[3.0], None).svg().unwrap().contains("<circle"));
    }

    #[test]
    fn odd_values_draw_or_are_refused_without_a_panic() {
        for truth in
            [vec![1.0], vec![0.0; 3], vec![1e300, -1e300], vec![f64::NAN, 1.0, 2.0], vec![1e-300, 2e-300]]
        {
            forecast_plot(&truth, None).svg().unwrap();
            let plot = LossPlot { title: "", loss: "", training: &truth, validation: &[] };
            plot.svg().unwrap();
        }
        assert!(forecast_plot(&[], None).svg().is_err());
        assert!(forecast_plot(&[f64::NAN], None).svg().is_err());
        assert!(forecast_plot(&[1.0, 2.0], Some(&["a".into()])).svg().is_err());
    }
}
