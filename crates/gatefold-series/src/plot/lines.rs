use super::WIDTH;
use super::axis::Axis;
use super::panel::{self, Curve, Panel};
use crate::SeriesError;
use plotters::style::RGBColor;

/// Colours that are told apart in print and by the colour-blind (Okabe and Ito 2008), the darkest last.
const COLORS: [RGBColor; 9] = [
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
    RGBColor(200, 185, 40),
    RGBColor(40, 40, 48),
];

/// Named lines over an axis of whole numbers, such as a score by the length of a sequence.
#[derive(Clone, Debug)]
pub struct LinesPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The name of the horizontal axis.
    pub x: &'a str,
    /// The name of the values.
    pub y: &'a str,
    /// The lines: a name and points each, from left to right. After nine lines, colours repeat.
    pub lines: &'a [(String, Vec<(f64, f64)>)],
}

impl LinesPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((WIDTH, 460), [self.panel()?].as_slice())
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`LinesPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((WIDTH, 460), [self.panel()?].as_slice())
    }

    fn panel(&self) -> Result<Panel, SeriesError> {
        // Earlier lines are wider, so that those under another one are seen.
        let width = |at: usize| 2.0 + 0.7 * (self.lines.len() - 1 - at) as f64;
        let curves: Vec<Curve> = self
            .lines
            .iter()
            .zip(COLORS.into_iter().cycle())
            .enumerate()
            .map(|(at, ((name, points), color))| Curve::new(name, color, width(at), points.clone()))
            .collect();
        let places = || self.lines.iter().flat_map(|(_, points)| points.iter().map(|(at, _)| *at));
        let (low, high) =
            (places().fold(f64::INFINITY, f64::min), places().fold(f64::NEG_INFINITY, f64::max));
        if !(low.is_finite() && high.is_finite()) {
            return Err(SeriesError::Series("a plot of lines needs a point; found none".into()));
        }
        let y = Axis::of_values(self.y, curves.iter().flat_map(Curve::values))?;
        let x = Axis::counting(self.x, low..high.max(low + 1.0));
        Ok(Panel::new(self.title, x, y, curves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_and_a_long_title_are_all_drawn() {
        let line = |name: &str, y: f64| (name.to_owned(), vec![(2.0, y), (5.0, 1.0), (100.0, y)]);
        let names =
            ["a long name", "and a longer name", "rnn", "gru", "lstm", "hmm, 4 states", "hmm, 64 states"];
        let lines: Vec<_> = names.iter().zip(0..).map(|(name, k)| line(name, f64::from(k))).collect();
        let title = "A title that leaves no room beside it for so many names";
        let plot = LinesPlot { title, x: "steps", y: "score", lines: &lines };
        let svg = plot.svg().unwrap();
        let missing: Vec<&str> =
            names.into_iter().chain([title, "steps", "score"]).filter(|text| !svg.contains(text)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        // The names are on a line of their own, since the title is in their way.
        let height = |text: &str| {
            let before = &svg[..svg.find(text).unwrap()];
            before[before.rfind(" y=\"").unwrap() + 4..].split('"').next().unwrap().parse::<i32>().unwrap()
        };
        assert!(height("rnn") > height(title) + 15);
        assert!(height("hmm, 64 states") > height("rnn") + 15, "a second line of names");
        let short = LinesPlot { lines: &lines[..1], ..plot.clone() }.svg().unwrap();
        assert!(short.starts_with("<svg"));
        assert!(plot.png().unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn lines_without_points_are_refused() {
        let lines = [("none".to_owned(), Vec::new()), ("nan".to_owned(), vec![(1.0, f64::NAN)])];
        let plot = |lines| LinesPlot { title: "", x: "", y: "", lines };
        assert!(plot(&lines).svg().is_err() && plot(&lines[..1]).svg().is_err() && plot(&[]).svg().is_err());
    }
}
