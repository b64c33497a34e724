use super::panel::{self, INK, Picture, failed};
use crate::{ConfusionMatrix, SeriesError};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontTransform};

/// Pixels of a cell, at most and at least.
const CELL: (u32, u32) = (56, 8);
const ROOM: u32 = 640;
/// Names longer than this are cut.
const NAME: usize = 18;

/// A confusion matrix: a row for each true class, a column for each predicted one, darker the larger the share of its row.
#[derive(Clone, Debug)]
pub struct ConfusionPlot<'a> {
    /// The title above the plot.
    pub title: &'a str,
    /// The counts.
    pub matrix: &'a ConfusionMatrix,
}

impl ConfusionPlot<'_> {
    /// The plot as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Series`] for more than 200 classes.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg(self.size()?, self)
    }

    /// The plot as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`ConfusionPlot::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png(self.size()?, self)
    }

    fn size(&self) -> Result<(u32, u32), SeriesError> {
        let classes = self.matrix.classes() as u32;
        if classes > 200 {
            return Err(SeriesError::Series(format!(
                "a plot of {classes} classes would not be legible; expected at most 200"
            )));
        }
        let side = classes * self.cell();
        Ok(((self.margin() + side + 24).max(360), 76 + side + self.margin()))
    }

    fn cell(&self) -> u32 {
        (ROOM / self.matrix.classes().max(1) as u32).clamp(CELL.1, CELL.0)
    }

    fn font(&self) -> u32 {
        (self.cell() * 2 / 5).clamp(6, 15)
    }

    /// Room for the names, beside and below.
    fn margin(&self) -> u32 {
        let longest =
            (0..self.matrix.classes()).map(|class| self.name(class).chars().count()).max().unwrap_or(1);
        40 + longest as u32 * self.font() * 3 / 5
    }

    fn name(&self, class: usize) -> String {
        let name = self.matrix.name(class);
        if name.chars().count() <= NAME {
            name.into()
        } else {
            let start: String = name.chars().take(NAME - 1).collect();
            format!("{}…", start.trim_end())
        }
    }
}

impl Picture for ConfusionPlot<'_> {
    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let px = |pixels: u32| (pixels * scale) as i32;
        let (cell, classes) = (self.cell(), self.matrix.classes());
        let font = |size: u32| FontDesc::from(("sans-serif", f64::from(size * scale)));
        let style = |size: u32, ink: RGBColor, h: HPos, v: VPos| font(size).color(&ink).pos(Pos::new(h, v));
        let (left, top) = (self.margin(), 60);
        root.draw_text(self.title, &style(17, INK, HPos::Left, VPos::Center), (px(24), px(22)))
            .map_err(failed)?;
        for truth in 0..classes {
            let row: u64 = (0..classes).map(|predicted| self.matrix.count(truth, predicted)).sum();
            for predicted in 0..classes {
                let count = self.matrix.count(truth, predicted);
                let share = if row == 0 { 0.0 } else { count as f64 / row as f64 };
                let corner = (px(left + predicted as u32 * cell), px(top + truth as u32 * cell));
                let far = (corner.0 + px(cell) - scale as i32, corner.1 + px(cell) - scale as i32);
                root.draw(&Rectangle::new([corner, far], shade(share, truth == predicted).filled()))
                    .map_err(failed)?;
                if count > 0 && cell >= 14 {
                    let ink = if share > 0.3 { WHITE } else { INK };
                    let middle = (corner.0 + px(cell) / 2, corner.1 + px(cell) / 2);
                    let text = count.to_string();
                    // A long number gets a smaller font, so that it stays within its cell.
                    let size = self.font().min(cell * 8 / 5 / text.len() as u32).max(5);
                    root.draw_text(&text, &style(size, ink, HPos::Center, VPos::Center), middle)
                        .map_err(failed)?;
                }
            }
        }
        let end = top + classes as u32 * cell;
        for class in 0..classes {
            let middle = class as u32 * cell + cell / 2;
            let beside = style(self.font(), INK, HPos::Right, VPos::Center);
            root.draw_text(&self.name(class), &beside, (px(left - 6), px(top + middle))).map_err(failed)?;
            let below = font(self.font())
                .transform(FontTransform::Rotate90)
                .color(&INK)
                .pos(Pos::new(HPos::Left, VPos::Center));
            root.draw_text(&self.name(class), &below, (px(left + middle), px(end + 6))).map_err(failed)?;
        }
        let axis = style(14, INK, HPos::Left, VPos::Center);
        root.draw_text("truth", &axis, (px(10), px(top - 8))).map_err(failed)?;
        let below = (px(left), px(end + self.margin() - 12));
        root.draw_text("predicted", &axis, below).map_err(failed)
    }
}

/// Blue for what is right, orange for what is not; white for none of the row.
fn shade(share: f64, right: bool) -> RGBColor {
    let full = if right { [31.0, 102.0, 204.0] } else { [220.0, 110.0, 10.0] };
    let [r, g, b] = full.map(|channel: f64| (245.0 + (channel - 245.0) * share.sqrt()).round() as u8);
    RGBColor(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_any_size_shows_its_names_and_counts() {
        for classes in [1, 2, 9, 60] {
            let truth: Vec<usize> = (0..classes * 3).map(|at| at % classes).collect();
            let mut predicted = truth.clone();
            predicted[0] = classes - 1;
            let names = (0..classes).map(|class| format!("class <{class}> with a long name"));
            let matrix =
                ConfusionMatrix::new(classes, &truth, &predicted).unwrap().with_names(names).unwrap();
            let plot = ConfusionPlot { title: "t", matrix: &matrix };
            let svg = plot.svg().unwrap();
            for text in ["class &lt;0&gt; with a…", "truth", "predicted"] {
                assert!(svg.contains(text), "{classes}: no {text}");
            }
            assert!(plot.png().unwrap().starts_with(b"\x89PNG"));
        }
        let matrix = ConfusionMatrix::new(201, &[0usize], &[0]).unwrap();
        assert!(ConfusionPlot { title: "t", matrix: &matrix }.svg().is_err());
    }
}
