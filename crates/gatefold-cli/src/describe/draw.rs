//! Draws a network folded (each layer once, with loops) and unrolled (a column for each time step shown).
//!
//! Every layer has a row of its own, so a wire along a row meets no other layer's box; branches have lanes of their own, so
//! a wire up a lane meets none either. What is left are crossings of wires at right angles.

mod folded;
mod lanes;
mod unrolled;

use super::layers::Shaped;
use crate::page::grouped;
use gatefold::layers::{Layer, LayerKind, Merge};
use gatefold_model::Source;
use gatefold_series::SeriesError;
use gatefold_series::plot::{Anchor, Diagram, Ink, Point, Shape};
use lanes::Lanes;

const INK: Ink = (60, 60, 66);
const SOFT: Ink = (120, 120, 128);
const WIRE: Ink = (130, 132, 142);
/// The colour of wires from one time step to another.
const RECURRENCE: Ink = (31, 102, 204);
/// The colour of wires around layers.
const AROUND: Ink = (196, 110, 20);

/// Pixels: the margin of the page, the gap between two rows, and the height of a line of a box.
const MARGIN: f64 = 24.0;
const ROW_GAP: f64 = 38.0;
const LINE: f64 = 17.0;
/// Pixels above a box in which wires turn aside.
const BUS: f64 = 11.0;
/// The size of the fonts: titles, names and details.
const FONTS: (u32, u32, u32) = (16, 14, 12);
/// The widest that the text of a folded box is, before it goes on in another line.
const MOST_TEXT: f64 = 200.0;

/// Draws the network with the shapes of a batch.
pub(super) fn drawing(shaped: &Shaped) -> Result<Diagram, SeriesError> {
    let page = Page::new(shaped)?;
    let mut canvas = Canvas::default();
    let right = folded::draw(&page, &mut canvas)?;
    let left = right + 2.0 * MARGIN;
    canvas.text((MARGIN, page.heading()), Anchor::Start, "folded in time", FONTS.1, SOFT);
    canvas.text((left, page.heading()), Anchor::Start, "unrolled", FONTS.1, SOFT);
    let right = unrolled::draw(&page, &mut canvas, left)?;
    let mut right = right.max(left + Diagram::text_width("unrolled", FONTS.1)?);
    for (line, text) in page.title.iter().enumerate() {
        let size = if line + 1 < page.title.len() { FONTS.0 } else { FONTS.2 };
        let color = if line + 1 < page.title.len() { INK } else { SOFT };
        canvas.text((MARGIN, MARGIN + TITLE_LINE * line as f64), Anchor::Start, text, size, color);
        right = right.max(MARGIN + Diagram::text_width(text, size)?);
    }
    Ok(canvas.diagram((right + MARGIN, page.bottom() + MARGIN)))
}

/// Pixels from one line of the title to the next, and the widest title.
const TITLE_LINE: f64 = 24.0;
const MOST_TITLE: f64 = 900.0;

/// The rows of the page, which both halves share.
struct Page<'a> {
    shaped: &'a Shaped<'a>,
    lanes: Lanes,
    /// The lines of each layer's folded box.
    texts: Vec<Vec<String>>,
    /// Title, and the notes below it.
    title: Vec<String>,
    /// The height of the highest box.
    box_height: f64,
}

impl<'a> Page<'a> {
    fn new(shaped: &'a Shaped<'a>) -> Result<Self, SeriesError> {
        let config = shaped.config;
        let texts =
            config.layers().iter().map(|layer| texts(shaped, layer)).collect::<Result<Vec<_>, _>>()?;
        let most = texts.iter().map(Vec::len).max().unwrap_or(1);
        let mut title = wrapped(&config.to_string(), FONTS.0, MOST_TITLE)?;
        let count = grouped(config.parameter_count() as u128);
        title.push(format!("{count} parameters; shapes are [steps, batch, values]"));
        let box_height = LINE * most as f64 + 10.0;
        Ok(Page { shaped, lanes: Lanes::new(config), texts, title, box_height })
    }

    fn layers(&self) -> &[Layer] {
        self.shaped.config.layers()
    }

    /// The middle of the line that names the halves.
    fn heading(&self) -> f64 {
        MARGIN + TITLE_LINE * self.title.len() as f64 + 8.0
    }

    /// The middle of a row. Row 0 has the inputs, row `n + 1` layer `n`, and the row after the last layer the outputs.
    fn row(&self, row: usize) -> f64 {
        let above = self.layers().len() + 1 - row;
        let outputs = self.heading() + 40.0;
        // The row of the outputs has text alone.
        match above {
            0 => outputs,
            _ => {
                outputs
                    + 14.0
                    + ROW_GAP
                    + self.box_height / 2.0
                    + (above as f64 - 1.0) * (self.box_height + ROW_GAP)
            }
        }
    }

    fn bottom(&self) -> f64 {
        self.row(0) + self.box_height / 2.0
    }

    /// The row of a value: that of the layer that makes it.
    fn row_of(&self, source: Source) -> usize {
        match source {
            Source::Input => 0,
            Source::DecoderInput => 1 + self.shaped.config.decoder().expect("it has an input"),
            Source::Output(layer) | Source::FinalHidden(layer) => 1 + layer,
        }
    }
}

/// The lines of a layer's folded box: its options, its shape, its parameters.
fn texts(shaped: &Shaped, layer: &Layer) -> Result<Vec<String>, SeriesError> {
    let title = match layer.kind {
        LayerKind::Residual { from } => format!("+ the input of layer {from}"),
        LayerKind::Merge(Merge::Sum) => "sum of the branches".into(),
        LayerKind::Merge(Merge::Concatenate) => "branches side by side".into(),
        LayerKind::Decoder { .. } => "input of the decoder".into(),
        _ => layer.to_string(),
    };
    let mut lines = wrapped(&title, FONTS.1, MOST_TEXT)?;
    lines.push(shaped.shape(layer));
    let count: u128 = layer.parameters.iter().map(|spec| spec.len() as u128).sum();
    if layer.owner != layer.index {
        lines.push(format!("the parameters of layer {}", layer.owner));
    } else if count > 0 {
        lines.push(format!("{} parameters", grouped(count)));
    }
    Ok(lines)
}

/// A text in lines that are no wider than this, unless a word is.
fn wrapped(text: &str, size: u32, width: f64) -> Result<Vec<String>, SeriesError> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer {
            Some(longer) if Diagram::text_width(&longer, size)? <= width => {
                *lines.last_mut().expect("it is longer") = longer;
            }
            _ => lines.push(word.into()),
        }
    }
    Ok(lines)
}

/// The colours of a layer's box and its edge.
fn colors(layer: &Layer) -> (Ink, Ink) {
    match layer.kind {
        LayerKind::Recurrent(_) => ((224, 236, 251), (120, 160, 215)),
        LayerKind::Dense { .. } => ((253, 237, 214), (222, 170, 100)),
        LayerKind::Conv1d(_) => ((222, 243, 230), (120, 185, 150)),
        LayerKind::Embedding { .. } => ((238, 228, 248), (170, 140, 205)),
        _ => ((243, 243, 245), (170, 170, 178)),
    }
}

/// Shapes in the order in which they are drawn: wires, then boxes, then texts.
#[derive(Default)]
struct Canvas {
    wires: Vec<Shape>,
    boxes: Vec<Shape>,
    texts: Vec<Shape>,
}

impl Canvas {
    fn wire(&mut self, points: Vec<Point>, color: Ink) {
        self.wires.push(Shape::Wire { points, color, arrow: true });
    }

    fn text(&mut self, at: Point, anchor: Anchor, text: &str, size: u32, color: Ink) {
        self.texts.push(Shape::Text { at, anchor, text: text.into(), size, color });
    }

    /// A box around its middle with lines of text: the first `titles` in a name's font.
    fn layer(
        &mut self,
        (x, y): Point,
        (width, height): Point,
        layer: &Layer,
        lines: &[String],
        titles: usize,
    ) {
        let (fill, edge) = colors(layer);
        self.boxes.push(Shape::Box {
            at: (x - width / 2.0, y - height / 2.0),
            size: (width, height),
            fill,
            edge,
        });
        let top = y - LINE * (lines.len() as f64 - 1.0) / 2.0;
        for (line, text) in lines.iter().enumerate() {
            let (size, color) = if line < titles { (FONTS.1, INK) } else { (FONTS.2, SOFT) };
            self.text((x, top + LINE * line as f64), Anchor::Middle, text, size, color);
        }
    }

    fn diagram(self, (width, height): Point) -> Diagram {
        let shapes = self.wires.into_iter().chain(self.boxes).chain(self.texts).collect();
        Diagram { width: width.ceil() as u32, height: height.ceil() as u32, shapes }
    }
}

/// The points of a wire from above one box to below another, which turns aside above the first or below the second.
fn route(from: Point, to: Point, turn: f64) -> Vec<Point> {
    if (from.0 - to.0).abs() < 0.5 { vec![from, to] } else { vec![from, (from.0, turn), (to.0, turn), to] }
}

/// The wire of one of so many branches, which goes up a lane and turns to the merge below it.
fn merged(from: Point, lane: f64, merge: Point, (branch, count): (usize, usize)) -> Vec<Point> {
    let apart = (branch as f64 - (count as f64 - 1.0) / 2.0) * 12.0;
    let left = (count - 1 - branch).min(4) as f64;
    let (x, turn) = (merge.0 + apart, merge.1 + 8.0 + 5.0 * left);
    let mut points = vec![from];
    if (from.0 - lane).abs() > 0.5 {
        points.extend([(from.0, from.1 - BUS), (lane, from.1 - BUS)]);
    }
    points.extend([(lane, turn), (x, turn), (x, merge.1)]);
    points
}

/// The states that a recurrent layer hands from step to step.
fn states(layer: &Layer) -> &'static str {
    match layer.recurrent() {
        Some(recurrent) if recurrent.cell.has_state() => "h, c",
        _ => "h",
    }
}

#[cfg(test)]
mod tests;
