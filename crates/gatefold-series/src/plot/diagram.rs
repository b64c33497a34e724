//! Drawings of boxes, texts and wires, placed by the caller.

use super::panel::{self, Picture, failed};
use crate::SeriesError;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A colour: red, green and blue.
pub type Ink = (u8, u8, u8);

/// A point in pixels, from the top left corner.
pub type Point = (f64, f64);

/// Shapes on a white page, drawn in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diagram {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The shapes.
    pub shapes: Vec<Shape>,
}

/// One shape of a [`Diagram`].
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A box with round corners.
    Box {
        /// Its top left corner.
        at: Point,
        /// Its width and height.
        size: Point,
        /// The colour inside.
        fill: Ink,
        /// The colour of its edge.
        edge: Ink,
    },
    /// A line of text, centred from top to bottom on its place.
    Text {
        /// Its place.
        at: Point,
        /// The side of the text that lies at its place.
        anchor: Anchor,
        /// The text.
        text: String,
        /// The font's size in pixels.
        size: u32,
        /// Its colour.
        color: Ink,
    },
    /// A line along points, with round corners and perhaps an arrow at its end.
    Wire {
        /// The points: two or more.
        points: Vec<Point>,
        /// Its colour.
        color: Ink,
        /// Whether it ends with an arrow.
        arrow: bool,
    },
}

/// The side of a text that lies at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// Pixels: the radius of corners, and the length and half the width of an arrow.
const CORNER: f64 = 5.0;
const ARROW: (f64, f64) = (8.0, 3.4);

impl Diagram {
    /// The width in pixels of a line of text in a font of this size.
    ///
    /// # Errors
    /// [`SeriesError::Plot`] if the font cannot be used.
    pub fn text_width(text: &str, size: u32) -> Result<f64, SeriesError> {
        panel::register();
        // Browsers may take another font: some are wider by a tenth.
        Ok(1.1 * f64::from(panel::text_width(text, size)?))
    }

    /// The drawing as an SVG document.
    ///
    /// # Errors
    /// [`SeriesError::Plot`] if it cannot be drawn.
    pub fn svg(&self) -> Result<String, SeriesError> {
        panel::svg((self.width, self.height), self)
    }

    /// The drawing as the bytes of a PNG file.
    ///
    /// # Errors
    /// As [`Diagram::svg`].
    pub fn png(&self) -> Result<Vec<u8>, SeriesError> {
        panel::png((self.width, self.height), self)
    }
}

impl Picture for Diagram {
    fn draw_on<B: DrawingBackend>(
        &self,
        root: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), SeriesError> {
        let place = |(x, y): Point| {
            let px = |at: f64| (at * f64::from(scale)).round() as i32;
            (px(x), px(y))
        };
        for shape in &self.shapes {
            match shape {
                Shape::Box { at, size, fill, edge } => {
                    let outline: Vec<_> = box_outline(*at, *size).into_iter().map(place).collect();
                    root.draw(&Polygon::new(outline.clone(), rgb(*fill).filled())).map_err(failed)?;
                    let line = rgb(*edge).stroke_width(scale);
                    root.draw(&PathElement::new(outline, line)).map_err(failed)?;
                }
                Shape::Text { at, anchor, text, size, color } => {
                    let side = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let style = FontDesc::from(("sans-serif", f64::from(size * scale)))
                        .color(&rgb(*color))
                        .pos(Pos::new(side, VPos::Center));
                    // Letters without descenders look centred a little lower.
                    root.draw_text(text, &style, place((at.0, at.1 + 1.0))).map_err(failed)?;
                }
                Shape::Wire { points, color, arrow } => {
                    let color = rgb(*color);
                    let thick = (1.4 * f64::from(scale)).round() as u32;
                    let line: Vec<_> = rounded(points, *arrow).into_iter().map(place).collect();
                    root.draw(&PathElement::new(line, color.stroke_width(thick))).map_err(failed)?;
                    if let (true, Some(head)) = (*arrow, arrow_head(points)) {
                        root.draw(&Polygon::new(head.map(place).to_vec(), color.filled())).map_err(failed)?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn rgb((red, green, blue): Ink) -> RGBColor {
    RGBColor(red, green, blue)
}

/// The closed outline of a box.
fn box_outline((x, y): Point, (width, height): Point) -> Vec<Point> {
    let radius = CORNER.min(width / 2.0).min(height / 2.0);
    let (left, right, top, bottom) = (x + radius, x + width - radius, y + radius, y + height - radius);
    let mut outline = Vec::new();
    for (corner, (cx, cy)) in
        [(right, bottom), (left, bottom), (left, top), (right, top)].into_iter().enumerate()
    {
        for part in 0..=4 {
            let angle = std::f64::consts::FRAC_PI_2 * (corner as f64 + f64::from(part) / 4.0);
            outline.push((cx + radius * angle.cos(), cy + radius * angle.sin()));
        }
    }
    outline.push(outline[0]);
    outline
}

/// The points of a wire with its corners rounded; before an arrow, it ends where the arrow begins.
fn rounded(points: &[Point], arrow: bool) -> Vec<Point> {
    let mut points = points.to_vec();
    if let ([.., before, last], true) = (&mut points[..], arrow) {
        *last = towards(*last, *before, ARROW.0 - 1.0);
    }
    let mut line = vec![points[0]];
    for three in points.windows(3) {
        let half = |from: Point, to: Point| (from.0 - to.0).hypot(from.1 - to.1) / 2.0;
        let radius = CORNER.min(half(three[0], three[1])).min(half(three[1], three[2]));
        let (from, to) = (towards(three[1], three[0], radius), towards(three[1], three[2], radius));
        for part in 0..=4 {
            // A quadratic Bézier curve with the corner as its control point.
            let s = f64::from(part) / 4.0;
            let along =
                |a: f64, b: f64, c: f64| (1.0 - s) * (1.0 - s) * a + 2.0 * s * (1.0 - s) * b + s * s * c;
            line.push((along(from.0, three[1].0, to.0), along(from.1, three[1].1, to.1)));
        }
    }
    line.push(points[points.len() - 1]);
    line
}

/// The point this far from one towards another.
fn towards(from: Point, to: Point, by: f64) -> Point {
    let length = (to.0 - from.0).hypot(to.1 - from.1);
    let share = if length > 0.0 { by / length } else { 0.0 };
    (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
}

/// The corners of the arrow at the end of a wire.
fn arrow_head(points: &[Point]) -> Option<[Point; 3]> {
    let [.., before, tip] = points else { return None };
    let base = towards(*tip, *before, ARROW.0);
    let length = (tip.0 - base.0).hypot(tip.1 - base.1);
    let (dx, dy) = ((tip.0 - base.0) / length, (tip.1 - base.1) / length);
    Some([
        *tip,
        (base.0 - dy * ARROW.1, base.1 + dx * ARROW.1),
        (base.0 + dy * ARROW.1, base.1 - dx * ARROW.1),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_drawn() {
        let ink = (0, 0, 0);
        let shapes = vec![
            Shape::Box { at: (4.0, 4.0), size: (40.0, 20.0), fill: (250, 240, 230), edge: ink },
            Shape::Text {
                at: (24.0, 14.0),
                anchor: Anchor::Middle,
                text: "a<b".into(),
                size: 12,
                color: ink,
            },
            Shape::Wire { points: vec![(44.0, 14.0), (70.0, 14.0), (70.0, 40.0)], color: ink, arrow: true },
        ];
        let diagram = Diagram { width: 90, height: 50, shapes };
        let svg = diagram.svg().unwrap();
        assert!(svg.contains("a&lt;b") && svg.matches("<polygon").count() == 2, "{svg}");
        assert!(svg.matches("<polyline").count() == 2, "{svg}");
        let bytes = diagram.png().unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (180, 100));
    }

    #[test]
    fn wires_end_at_the_tip_of_their_arrow() {
        let points = [(0.0, 0.0), (10.0, 0.0), (10.0, 30.0)];
        assert_eq!(arrow_head(&points).unwrap()[0], (10.0, 30.0));
        let line = rounded(&points, false);
        assert_eq!((line[0], line[line.len() - 1]), ((0.0, 0.0), (10.0, 30.0)));
        assert!(line.iter().all(|(x, y)| *x <= 10.0 && *y >= 0.0), "{line:?}");
    }
}
