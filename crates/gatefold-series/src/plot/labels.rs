use super::axis::Axis;
use super::panel::{self, Curve, INK, Panel, Picture, failed};
use crate::SeriesError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 960;
const STRIP: u32 = 34;
/// The area of the curves, as [`Panel`] lays it out.
const LEFT: u32 = 18 + 74;
const RIGHT: u32 = 24;
/// Colours that are told apart by most eyes (Okabe and Ito 2008), then darker and lighter ones.
const COLORS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(240, 228, 66),
    RGBColor(90, 90, 96),
    RGBColor(120, 60, 20),
    RGBColor(150, 200, 120),
    RGBColor(60, 40, 120),
    RGBColor(190, 190, 196),
];

/// The labels of one sequence over time: its first channels, and below them a strip of true and one of predicted labels.
#[derive(Clone, Debug)]
pub struct LabelPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The names of some channels and their values at each step; three at most are drawn.
    pub channels: &'a [(&'a str, &'a [f64])],
    /// All classes.
    pub classes: &'a [String],
    /// The true class at each step, `None` where there is none.
    pub truth: &'a [Option<usize>],
    /// The predicted class at each step.
    pub predicted: &'a [usize],
}

impl LabelPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] when no value is finite, or channels and labels differ in length.
    pub fn svg(&self) -> Result<String, SeriesError> {
        self.check()?;
        panel::svg(self.size(), self)
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`LabelPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        self.check()?;
        panel::png(self.size(), self)
    }

    fn check(&self) -> Result<(), SeriesError> {
        let steps = self.predicted.len();
        let lengths = self.channels.iter().map(|(_, values)| values.len()).chain([self.truth.len()]);
        if steps == 0 || self.channels.is_empty() || lengths.clone().any(|len| len != steps) {
            return Err(SeriesError::Series(format!(
                "a plot of {steps} labels needs as many values of each channel and true labels; found {:?}",
                lengths.collect::<Vec<_>>()
            )));
        }
        Ok(())
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, 340 + 2 * STRIP + 24 + self.legend().len() as u32 * 22)
    }

    /// The classes that occur, in lines that fit the width.
    fn legend(&self) -> Vec<Vec<usize>> {
        let occurs = |class: &usize| {
            self.predicted.contains(class) || self.truth.iter().flatten().any(|found| found == class)
        };
        let mut lines: Vec<Vec<usize>> = vec![Vec::new()];
        let mut width = 0;
        for class in (0..self.classes.len()).filter(occurs) {
            let wanted = 34 + 9 * self.classes[class].chars().count() as u32;
            if width + wanted > WIDTH - LEFT - RIGHT && width > 0 {
                lines.push(Vec::new());
                width = 0;
            }
            lines.last_mut().expect("there is a line").push(class);
            width += wanted;
        }
        lines
    }
}

fn color(class: usize) -> RGBColor {
    COLORS[class % COLORS.len()]
}

impl Picture for LabelPlot<'_> {
    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let px = |pixels: u32| (pixels * scale) as i32;
        let steps = self.predicted.len();
        let (curves, strips) = root.split_vertically(px(340));
        let inks = [RGBColor(60, 60, 66), RGBColor(31, 102, 204), RGBColor(240, 140, 20)];
        let lines: Vec<Curve> = self
            .channels
            .iter()
            .zip(inks)
            .map(|((name, values), ink)| {
                let points = values.iter().enumerate().map(|(t, value)| (t as f64 + 1.0, *value));
                Curve::new(name, ink, 1.2, points.collect())
            })
            .collect();
        let y = Axis::of_values("", lines.iter().flat_map(Curve::values))?;
        let x = Axis::counting("step", 1.0..steps.max(2) as f64);
        Panel::new(self.title, x, y, lines).draw(&curves, scale)?;
        let style = |h: HPos| {
            let font = FontDesc::from(("sans-serif", f64::from(15 * scale)));
            font.color(&INK).pos(Pos::new(h, VPos::Center))
        };
        let width = px(WIDTH - LEFT - RIGHT);
        let truth: Vec<Option<usize>> = self.truth.to_vec();
        let predicted: Vec<Option<usize>> = self.predicted.iter().copied().map(Some).collect();
        for (row, (name, labels)) in [("truth", truth), ("found", predicted)].into_iter().enumerate() {
            let top = px(4 + row as u32 * STRIP);
            strips
                .draw_text(name, &style(HPos::Right), (px(LEFT - 8), top + px(STRIP / 2 - 4)))
                .map_err(failed)?;
            let mut begin = 0;
            for run in labels.chunk_by(|a, b| a == b) {
                let end = begin + run.len();
                if let Some(class) = run[0] {
                    let at =
                        |step: usize| px(LEFT) + (width as f64 * step as f64 / steps as f64).round() as i32;
                    let corners = [(at(begin), top), (at(end), top + px(STRIP - 8))];
                    strips.draw(&Rectangle::new(corners, color(class).filled())).map_err(failed)?;
                }
                begin = end;
            }
        }
        for (row, classes) in self.legend().iter().enumerate() {
            let middle = px(2 * STRIP + 16 + 22 * row as u32);
            let mut left = LEFT;
            for class in classes {
                let corners = [(px(left), middle - px(6)), (px(left + 14), middle + px(6))];
                strips.draw(&Rectangle::new(corners, color(*class).filled())).map_err(failed)?;
                let name = &self.classes[*class];
                strips.draw_text(name, &style(HPos::Left), (px(left + 20), middle)).map_err(failed)?;
                left += 34 + 9 * name.chars().count() as u32;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_drawn_below_the_channels_with_their_names() {
        let values: Vec<f64> = (0..50).map(|t| f64::from(t).sin()).collect();
        let classes: Vec<String> = (0..30).map(|class| format!("class {class}")).collect();
        let truth: Vec<Option<usize>> = (0..50).map(|t| (t > 4).then_some(t / 10)).collect();
        let predicted: Vec<usize> = (0..50).map(|t| (t / 10 + t % 2) % 30).collect();
        let plot = LabelPlot {
            title: "arm",
            channels: &[("ax", &values)],
            classes: &classes,
            truth: &truth,
            predicted: &predicted,
        };
        let svg = plot.svg().unwrap();
        for text in ["arm", "ax", "truth", "found", "class 4", "class 5"] {
            assert!(svg.contains(text), "no {text}");
        }
        assert!(!svg.contains("class 7"), "a class that does not occur has no place in the legend");
        assert!(plot.png().unwrap().starts_with(b"\x89PNG"));
        assert!(LabelPlot { predicted: &predicted[1..], ..plot }.svg().is_err());
    }
}
