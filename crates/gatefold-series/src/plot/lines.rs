use super::axis::Axis;
use super::panel::{self, Curve, Panel};
use super::{BASELINE, FORECAST, TRUTH, WIDTH};
use crate::SeriesError;
use plotters::style::RGBColor;

/// Colours that stay apart for most people whose colour vision differs (after Okabe and Ito 2008).
pub(super) const PALETTE: [RGBColor; 8] = [
    FORECAST,
    BASELINE,
    RGBColor(0, 140, 100),
    RGBColor(190, 70, 150),
    RGBColor(120, 120, 128),
    RGBColor(90, 180, 230),
    RGBColor(200, 60, 30),
    TRUTH,
];

/// Several lines over whole numbers, such as the error of each model by steps ahead, or the loss of each run by updates.
#[derive(Clone, Debug)]
pub struct LinesPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the whole numbers, such as `steps ahead`.
    pub x: &'a str,
    /// The name of the values. Their axis is logarithmic if they are positive and span a decade or more.
    pub y: &'a str,
    /// The lines' names and points; eight colours are taken in turn.
    pub lines: &'a [(&'a str, &'a [(f64, f64)])],
}

impl LinesPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, 420), [self.panel()?].as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`LinesPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, 420), [self.panel()?].as_slice())
    }

    fn panel(&self) -> Result<Panel, SeriesError> {
        let values = self.lines.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value));
        let places = || self.lines.iter().flat_map(|(_, points)| points.iter().map(|(at, _)| *at));
        let (first, last) = (places().fold(f64::INFINITY, f64::min), places().fold(f64::MIN, f64::max));
        let y = Axis::of_losses(self.y, values.collect::<Vec<_>>().into_iter())?;
        let x = Axis::counting(self.x, first..last.max(first + 1.0));
        let curves = self.lines.iter().zip(PALETTE.into_iter().cycle());
        let curves = curves.map(|((name, points), color)| Curve::new(name, color, 2.0, points.to_vec()));
        Ok(Panel::new(self.title, x, y, curves.collect()))
    }
}
