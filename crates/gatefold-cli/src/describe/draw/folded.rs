//! The folded half: each layer once, with loops from step to step.

use super::{AROUND, BUS, Canvas, FONTS, INK, LINE, MARGIN, Page, RECURRENCE, SOFT, WIRE, route, states};
use gatefold::layers::{Direction, Layer, LayerKind, Recurrent};
use gatefold_model::Source;
use gatefold_series::SeriesError;
use gatefold_series::plot::{Anchor, Diagram, Point};

/// Pixels between a wire around layers and the next, how far a loop goes out, and the gap to its text.
const SLOT: f64 = 10.0;
const LOOP: f64 = 18.0;
const GAP: f64 = 5.0;

struct Folded<'a> {
    page: &'a Page<'a>,
    /// The width of a box, and the distance from one lane to the next.
    width: f64,
    pitch: f64,
    /// The middle of the first lane.
    first: f64,
}

/// Draws the half from the margin on; returns its right end.
pub(super) fn draw(page: &Page, canvas: &mut Canvas) -> Result<f64, SeriesError> {
    let mut width = 110.0f64;
    let mut loops = 0.0f64;
    for (layer, texts) in page.layers().iter().zip(&page.texts) {
        for text in texts {
            width = width.max(Diagram::text_width(text, FONTS.1)? + 16.0);
        }
        for text in layer.recurrent().map(loop_texts).unwrap_or_default() {
            loops = loops.max(LOOP + GAP + Diagram::text_width(&text, FONTS.2)?);
        }
    }
    let sides = SLOT * page.lanes.slots() as f64;
    let handed = page.lanes.sides().iter().any(|side| side.hands_over);
    let label = if handed { Diagram::text_width("h, c", FONTS.2)? + GAP } else { 0.0 };
    let around = if sides > 0.0 { sides + GAP + label } else { 0.0 };
    let pitch = width + loops + around + 2.0 * SLOT;
    let folded = Folded { page, width, pitch, first: MARGIN + around + width / 2.0 };
    folded.draw_values(canvas);
    for layer in page.layers() {
        folded.draw_layer(layer, canvas);
        folded.draw_wires(layer, canvas);
    }
    folded.draw_sides(canvas);
    Ok(folded.x(page.lanes.count() - 1) + width / 2.0 + loops)
}

/// The texts beside the loops of a layer.
fn loop_texts(recurrent: &Recurrent) -> Vec<String> {
    let before = |steps: usize| match recurrent.direction {
        Direction::Forward => format!("t−{steps}"),
        Direction::Reverse => format!("t+{steps}"),
        Direction::Bidirectional | Direction::BidirectionalSum => format!("t±{steps}"),
    };
    let mut texts = vec![before(recurrent.dilation)];
    texts.extend(recurrent.skip.map(before));
    texts.extend(recurrent.feedback.map(|_| "y(t−1)".into()));
    texts
}

impl Folded<'_> {
    fn x(&self, lane: usize) -> f64 {
        self.first + self.pitch * lane as f64
    }

    /// The middle of the top of a value's box.
    fn top(&self, source: Source) -> Point {
        let y = self.page.row(self.page.row_of(source));
        let half = if source == Source::Input { 10.0 } else { self.half(self.page.row_of(source) - 1) };
        (self.x(self.page.lanes.of_value(source)), y - half)
    }

    /// Half the height of a layer's box.
    fn half(&self, layer: usize) -> f64 {
        (LINE * self.page.texts[layer].len() as f64 + 10.0) / 2.0
    }

    /// The texts of input and output, and the wire to the output.
    fn draw_values(&self, canvas: &mut Canvas) {
        let input = format!("input {}", self.page.shaped.input());
        canvas.text((self.x(0), self.page.row(0)), Anchor::Middle, &input, FONTS.2, INK);
        let last = self.page.layers().len();
        let (x, top) = self.top(Source::Output(last - 1));
        let y = self.page.row(last + 1);
        canvas.text((x, y), Anchor::Middle, "output", FONTS.2, INK);
        canvas.wire(vec![(x, top), (x, y + 10.0)], WIRE);
    }

    fn draw_layer(&self, layer: &Layer, canvas: &mut Canvas) {
        let at = (self.x(self.page.lanes.of(layer.index)), self.page.row(layer.index + 1));
        let texts = &self.page.texts[layer.index];
        let details = 1 + usize::from(!layer.parameters.is_empty());
        let titles = texts.len() - details;
        canvas.layer(at, (self.width, 2.0 * self.half(layer.index)), layer, texts, titles);
        let right = at.0 + self.width / 2.0;
        let texts = layer.recurrent().map(loop_texts).unwrap_or_default();
        let high = LINE.min(2.0 * (self.half(layer.index) - 6.0) / texts.len().max(1) as f64);
        for (number, text) in texts.iter().enumerate() {
            let y = at.1 + high * (number as f64 - (texts.len() as f64 - 1.0) / 2.0);
            let bend = 0.36 * high;
            let out = right + LOOP;
            let points = vec![(right, y - bend), (out, y - bend), (out, y + bend), (right, y + bend)];
            canvas.wire(points, RECURRENCE);
            canvas.text((out + GAP, y), Anchor::Start, text, FONTS.2, SOFT);
        }
    }

    /// The wires into a layer from below.
    fn draw_wires(&self, layer: &Layer, canvas: &mut Canvas) {
        let lanes = &self.page.lanes;
        let inputs = &self.page.shaped.config.graph().node(layer.index).inputs;
        let below = (self.x(lanes.of(layer.index)), self.page.row(layer.index + 1) + self.half(layer.index));
        if let LayerKind::Merge(_) = layer.kind {
            let lanes = lanes.of_branches(layer.index);
            for (branch, (source, lane)) in inputs.iter().zip(lanes).enumerate() {
                let x = self.x(*lane);
                canvas.wire(super::merged(self.top(*source), x, below, (branch, lanes.len())), WIRE);
            }
        } else if let Some(source) = inputs.first() {
            let top = self.top(*source);
            canvas.wire(route(top, below, top.1 - BUS), WIRE);
        }
    }

    fn draw_sides(&self, canvas: &mut Canvas) {
        for side in self.page.lanes.sides() {
            let lane = self.page.lanes.of(side.to);
            let left = self.x(lane) - self.width / 2.0;
            let out = left - GAP - SLOT * (side.slot as f64 + 1.0);
            let end = self.page.row(side.to + 1);
            let top = self.top(side.from);
            if side.hands_over {
                let from = self.page.row(self.page.row_of(side.from));
                let start = self.x(self.page.lanes.of_value(side.from)) - self.width / 2.0;
                canvas.wire(vec![(start, from), (out, from), (out, end), (left, end)], RECURRENCE);
                let Source::Output(of) = side.from else { continue };
                let text = states(&self.page.layers()[of]);
                // Above the wire's lower end, where no other text is.
                let at = (out - GAP, from - 12.0 - 14.0 * side.slot as f64);
                canvas.text(at, Anchor::End, text, FONTS.2, SOFT);
            } else {
                let turn = top.1 - BUS;
                canvas.wire(vec![top, (top.0, turn), (out, turn), (out, end), (left, end)], AROUND);
            }
        }
    }
}
