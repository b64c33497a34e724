//! The unrolled half: a column for each time step that is shown, the first ones and the last.

use super::{AROUND, BUS, Canvas, FONTS, INK, LINE, Page, RECURRENCE, SOFT, WIRE, merged, route, states};
use gatefold::layers::{Conv1d, Direction, Expansion, InitialState, Layer, LayerKind, Merge, Recurrent};
use gatefold_model::Source;
use gatefold_series::SeriesError;
use gatefold_series::plot::{Anchor, Diagram, Point};

/// Pixels: the width of a box, the gap between two columns without the wires around layers, the one where steps are left
/// out, and the gap between the steps of an encoder and those of a decoder.
const BOX: f64 = 64.0;
const GAP: f64 = 52.0;
const HIDDEN: f64 = 96.0;
const GROUPS: f64 = 84.0;
const HEIGHT: f64 = LINE + 14.0;
const SLOT: f64 = 8.0;
/// The longest recurrence that is drawn from box to box.
const REACH: usize = 3;

/// Steps that follow each other: those of the input, of an expanded sequence, or of the decoder.
struct Group {
    columns: Vec<Column>,
}

struct Column {
    /// The step, counted from 1.
    step: usize,
    /// The left end of its boxes.
    left: f64,
}

/// The place of one step of a value.
#[derive(Clone, Copy)]
struct Spot {
    /// The step, counted from 1 on the value's own time axis.
    step: usize,
    group: usize,
    column: usize,
}

struct Unrolled<'a> {
    page: &'a Page<'a>,
    groups: Vec<Group>,
    /// Where each layer's box stands.
    spots: Vec<Vec<Spot>>,
    pitch: f64,
    right: f64,
}

/// Draws the half from `left` on; returns its right end.
pub(super) fn draw(page: &Page, canvas: &mut Canvas, left: f64) -> Result<f64, SeriesError> {
    let around = SLOT * page.lanes.slots() as f64;
    let pitch = BOX + GAP + around;
    let mut unrolled =
        Unrolled { page, groups: Vec::new(), spots: Vec::new(), pitch, right: left + GAP / 2.0 + around };
    unrolled.place(page.layers());
    unrolled.draw_values(canvas);
    for layer in page.layers() {
        unrolled.draw_boxes(layer, canvas);
        unrolled.draw_inputs(layer, canvas);
        if let Some(recurrent) = layer.recurrent() {
            unrolled.draw_recurrence(layer, recurrent, canvas)?;
        }
    }
    unrolled.draw_sides(canvas);
    Ok(unrolled.right + 8.0)
}

impl Unrolled<'_> {
    /// Adds columns for so many steps on the right.
    fn add_group(&mut self, steps: usize) {
        let reach = self.page.layers().iter().map(reach).max().unwrap_or(1);
        let first = 2.max(reach + 1);
        let shown: Vec<usize> =
            if steps <= first + 2 { (1..=steps).collect() } else { (1..=first).chain([steps]).collect() };
        let width = BOX + self.pitch * (self.page.lanes.count() - 1) as f64;
        let mut columns: Vec<Column> = Vec::new();
        for step in shown {
            let gap = match columns.last() {
                Some(before) if before.step + 1 < step => HIDDEN,
                Some(_) => self.pitch - BOX,
                None if self.groups.is_empty() => 0.0,
                None => GROUPS + SLOT * self.page.lanes.slots() as f64,
            };
            columns.push(Column { step, left: self.right + gap });
            self.right += gap + width;
        }
        self.groups.push(Group { columns });
    }

    /// Finds the places of all layers' boxes.
    fn place(&mut self, layers: &[Layer]) {
        self.add_group(self.page.shaped.input_steps());
        for layer in layers {
            let inputs = &self.page.shaped.config.graph().node(layer.index).inputs;
            let read = inputs.first().map(|source| self.spots_of(*source)).unwrap_or_default();
            let spots = match layer.kind {
                LayerKind::Decoder { .. } => {
                    self.add_group(self.page.shaped.decoder_steps);
                    self.all(self.groups.len() - 1)
                }
                LayerKind::LastStep | LayerKind::FinalState | LayerKind::Pool(_) => last(&read),
                LayerKind::Expand { steps, .. } => {
                    let own = last(&read);
                    self.add_group(steps);
                    own
                }
                LayerKind::Conv1d(conv) => self.convolved(layer, &conv, &read),
                _ => read,
            };
            self.spots.push(spots);
        }
    }

    /// Every column of a group.
    fn all(&self, group: usize) -> Vec<Spot> {
        let columns = self.groups[group].columns.iter().enumerate();
        columns.map(|(column, of)| Spot { step: of.step, group, column }).collect()
    }

    /// The places of a value's steps. An expanded one is where its readers are.
    fn spots_of(&self, source: Source) -> Vec<Spot> {
        match source {
            Source::Input => self.all(0),
            Source::DecoderInput => {
                self.spots[self.page.shaped.config.decoder().expect("it has an input")].clone()
            }
            Source::Output(layer) | Source::FinalHidden(layer) => match self.page.layers()[layer].kind {
                LayerKind::Expand { .. } => self.all(self.spots[layer][0].group + 1),
                _ => self.spots[layer].clone(),
            },
        }
    }

    /// A step of a convolution stands where the newest step that it reads is, and its last one at the end.
    fn convolved(&self, layer: &Layer, conv: &Conv1d, read: &[Spot]) -> Vec<Spot> {
        let steps = self.page.shaped.steps_of(layer);
        let newest = |spot: &&Spot| {
            let of = |step: usize| conv.source(step - 1, conv.kernel - 1).map(|at| at + 1) == Some(spot.step);
            let step = if conv.keeps_steps() { Some(spot.step) } else { (1..=steps).find(|step| of(*step)) };
            step.filter(|step| *step < steps).map(|step| Spot { step, ..**spot })
        };
        let mut spots: Vec<Spot> =
            read.iter().take(read.len().saturating_sub(1)).filter_map(|spot| newest(&spot)).collect();
        spots.extend(read.last().map(|spot| Spot { step: steps, ..*spot }));
        spots
    }

    /// The middle of a column's lane.
    fn x(&self, spot: Spot, lane: usize) -> f64 {
        self.groups[spot.group].columns[spot.column].left + BOX / 2.0 + self.pitch * lane as f64
    }

    /// The middle of the top of a value's box at a place.
    fn top(&self, source: Source, spot: Spot) -> Point {
        let row = self.page.row_of(source);
        let half = match source {
            Source::Input | Source::DecoderInput => 10.0,
            _ => HEIGHT / 2.0,
        };
        (self.x(spot, self.page.lanes.of_value(source)), self.page.row(row) - half)
    }

    /// Inputs, outputs, and dots where steps are left out.
    fn draw_values(&self, canvas: &mut Canvas) {
        let layers = self.page.layers();
        let config = self.page.shaped.config;
        let mut named = vec![(Source::Input, "x")];
        named.extend(config.decoder().map(|_| (Source::DecoderInput, "x'")));
        for (source, name) in named {
            let row = self.page.row(self.page.row_of(source));
            let spots = self.spots_of(source);
            for spot in &spots {
                let text = if spots.len() == 1 { name.into() } else { format!("{name}({})", spot.step) };
                canvas.text((self.x(*spot, 0), row), Anchor::Middle, &text, FONTS.1, INK);
            }
            self.draw_dots(&spots, row, 0, canvas);
        }
        let output = Source::Output(layers.len() - 1);
        let spots = self.spots_of(output);
        let row = self.page.row(layers.len() + 1);
        for spot in &spots {
            let text = if spots.len() == 1 { "y".into() } else { format!("y({})", spot.step) };
            let top = self.top(output, *spot);
            canvas.text((top.0, row), Anchor::Middle, &text, FONTS.1, INK);
            canvas.wire(vec![top, (top.0, row + 10.0)], WIRE);
        }
        self.draw_dots(&spots, row, self.page.lanes.of_value(output), canvas);
    }

    /// Dots between places with hidden steps between them.
    fn draw_dots(&self, spots: &[Spot], y: f64, lane: usize, canvas: &mut Canvas) {
        for pair in spots.windows(2).filter(|pair| pair[0].step + 1 < pair[1].step) {
            let x = f64::midpoint(self.x(pair[0], lane), self.x(pair[1], lane));
            canvas.text((x, y), Anchor::Middle, "…", FONTS.1, SOFT);
        }
    }

    fn draw_boxes(&self, layer: &Layer, canvas: &mut Canvas) {
        let name = match layer.kind {
            LayerKind::Decoder { .. } => return,
            LayerKind::Residual { .. } | LayerKind::Merge(Merge::Sum) => "+",
            LayerKind::Merge(Merge::Concatenate) => "[ , ]",
            LayerKind::LastStep => "last",
            LayerKind::FinalState => "final h",
            LayerKind::Pool(pooling) => pooling.name(),
            LayerKind::Normalise { .. } => "norm",
            LayerKind::Conv1d(_) => "conv",
            LayerKind::Embedding { .. } => "embed",
            _ => layer.kind.name(),
        };
        let y = self.page.row(layer.index + 1);
        for spot in &self.spots[layer.index] {
            let x = self.x(*spot, self.page.lanes.of(layer.index));
            canvas.layer((x, y), (BOX, HEIGHT), layer, &[name.into()], 1);
        }
    }

    /// The wires into a layer from below.
    fn draw_inputs(&self, layer: &Layer, canvas: &mut Canvas) {
        let lanes = &self.page.lanes;
        let inputs = &self.page.shaped.config.graph().node(layer.index).inputs;
        let lane = lanes.of(layer.index);
        let y = self.page.row(layer.index + 1) + HEIGHT / 2.0;
        for spot in &self.spots[layer.index] {
            let below = (self.x(*spot, lane), y);
            match (layer.kind, inputs.first()) {
                (LayerKind::Merge(_), _) => {
                    let of = lanes.of_branches(layer.index);
                    for (branch, (source, lane)) in inputs.iter().zip(of).enumerate() {
                        let (top, x) = (self.top(*source, *spot), self.x(*spot, *lane));
                        canvas.wire(merged(top, x, below, (branch, of.len())), WIRE);
                    }
                }
                (LayerKind::Conv1d(conv), Some(source)) => {
                    let read = (0..conv.kernel).filter_map(|k| conv.source(spot.step - 1, k));
                    let read: Vec<usize> = read.map(|at| at + 1).collect();
                    self.draw_reads(*source, &read, below, canvas);
                }
                (LayerKind::Pool(_), Some(source)) => {
                    let steps = self.spots_of(*source).last().map_or(0, |last| last.step);
                    self.draw_reads(*source, &(1..=steps).collect::<Vec<usize>>(), below, canvas);
                }
                (LayerKind::FinalState, Some(source)) => self.draw_final(*source, *spot, below, canvas),
                (_, Some(source)) => self.draw_input(*source, *spot, below, canvas),
                (_, None) => {}
            }
        }
    }

    fn draw_input(&self, source: Source, spot: Spot, below: Point, canvas: &mut Canvas) {
        if let Source::Output(of) = source
            && let LayerKind::Expand { fill, .. } = self.page.layers()[of].kind
        {
            if fill == Expansion::Zeros && spot.column > 0 {
                canvas.text((below.0, below.1 + 16.0), Anchor::Middle, "0", FONTS.2, SOFT);
                return;
            }
            let top = self.top(source, self.spots[of][0]);
            canvas.wire(route(top, below, top.1 - BUS), WIRE);
            return;
        }
        let top = self.top(source, spot);
        canvas.wire(route(top, below, top.1 - BUS), WIRE);
    }

    /// The steps that a layer reads at once, as far as they are shown.
    fn draw_reads(&self, source: Source, read: &[usize], below: Point, canvas: &mut Canvas) {
        let shown = self.spots_of(source);
        // Straight where no row is between them.
        let near = below.1 > self.page.row(self.page.row_of(source) + 1);
        for from in shown.iter().filter(|from| read.contains(&from.step)) {
            let top = self.top(source, *from);
            let points = if near { vec![top, below] } else { route(top, below, top.1 - BUS) };
            canvas.wire(points, WIRE);
        }
        let hidden = |pair: &[Spot]| read.iter().any(|step| pair[0].step < *step && *step < pair[1].step);
        for pair in shown.windows(2).filter(|pair| hidden(pair)) {
            let (left, right) = (self.top(source, pair[0]), self.top(source, pair[1]));
            let top = (f64::midpoint(left.0, right.0), left.1);
            canvas.wire(if near { vec![top, below] } else { route(top, below, top.1 - BUS) }, WIRE);
        }
    }

    /// The final h of a layer: that of its last step, and of its first where it reads the sequence from its end.
    fn draw_final(&self, source: Source, spot: Spot, below: Point, canvas: &mut Canvas) {
        let direction = match source {
            Source::FinalHidden(of) => {
                self.page.layers()[of].recurrent().map(|recurrent| recurrent.direction)
            }
            _ => None,
        };
        let spots = self.spots_of(source);
        let reverse = direction.is_some_and(|direction| direction != Direction::Forward);
        if reverse && let Some(first) = spots.first().filter(|first| first.column != spot.column) {
            let top = self.top(source, *first);
            let to = (below.0 - 10.0, below.1);
            canvas.wire(vec![top, (top.0, top.1 - BUS), (to.0, top.1 - BUS), to], WIRE);
        }
        if direction != Some(Direction::Reverse) {
            let top = self.top(source, spot);
            canvas.wire(vec![top, below], WIRE);
        }
    }

    fn draw_recurrence(
        &self,
        layer: &Layer,
        recurrent: &Recurrent,
        canvas: &mut Canvas,
    ) -> Result<(), SeriesError> {
        let lane = self.page.lanes.of(layer.index);
        let y = self.page.row(layer.index + 1);
        let spots = &self.spots[layer.index];
        let scans = recurrent.direction.scans();
        for &reverse in scans {
            let y = y + beside(scans, reverse);
            let label = |x: f64, above: bool, canvas: &mut Canvas| {
                let y = if above { y - 9.0 } else { y + 9.0 };
                canvas.text((x, y), Anchor::Middle, states(layer), FONTS.2, SOFT);
            };
            if recurrent.dilation == 1 {
                for pair in spots.windows(2) {
                    let (from, to) = (self.x(pair[0], lane) + BOX / 2.0, self.x(pair[1], lane) - BOX / 2.0);
                    let ends = if reverse { (to, from) } else { (from, to) };
                    if pair[0].step + 1 == pair[1].step {
                        canvas.wire(vec![(ends.0, y), (ends.1, y)], RECURRENCE);
                    } else {
                        let (middle, away) = (f64::midpoint(from, to), if reverse { -12.0 } else { 12.0 });
                        canvas.wire(vec![(ends.0, y), (middle - away, y)], RECURRENCE);
                        canvas.wire(vec![(middle + away, y), (ends.1, y)], RECURRENCE);
                    }
                }
                if let [first, second, ..] = spots[..]
                    && first.step + 1 == second.step
                {
                    label(self.x(first, lane) + self.pitch / 2.0, !reverse, canvas);
                }
            }
            self.draw_start(recurrent, (spots, lane), (reverse, y), canvas)?;
        }
        if recurrent.dilation == 1 {
            self.draw_dots(spots, y, lane, canvas);
        }
        let long = recurrent.skip.or((recurrent.dilation > 1).then_some(recurrent.dilation));
        if let Some(long) = long {
            self.draw_long(long, scans[0], (spots, lane, y), canvas);
        }
        if recurrent.feedback.is_some() {
            self.draw_feedback((spots, lane, y), canvas);
        }
        Ok(())
    }

    /// The initial states.
    fn draw_start(
        &self,
        recurrent: &Recurrent,
        (spots, lane): (&[Spot], usize),
        (reverse, y): (bool, f64),
        canvas: &mut Canvas,
    ) -> Result<(), SeriesError> {
        let Some(first) = (if reverse { spots.last() } else { spots.first() }) else { return Ok(()) };
        let handed = self.page.shaped.config.decoder().is_some_and(|_| first.group > 0 && !reverse);
        if handed || recurrent.dilation > 1 {
            return Ok(());
        }
        let text = match recurrent.initial {
            InitialState::Zeros => "0".into(),
            InitialState::Constant(value) => format!("{value}"),
            InitialState::Learned => "h0".into(),
        };
        let side = if reverse { 1.0 } else { -1.0 };
        let end = self.x(*first, lane) + side * BOX / 2.0;
        // Past the wires that go around layers.
        let away = 18.0 + SLOT * self.page.lanes.slots() as f64;
        canvas.wire(vec![(end + side * away, y), (end, y)], RECURRENCE);
        let width = Diagram::text_width(&text, FONTS.2)?;
        canvas.text((end + side * (away + 4.0 + width / 2.0), y), Anchor::Middle, &text, FONTS.2, SOFT);
        Ok(())
    }

    /// A recurrence over several steps, below the boxes.
    fn draw_long(
        &self,
        steps: usize,
        reverse: bool,
        (spots, lane, y): (&[Spot], usize, f64),
        canvas: &mut Canvas,
    ) {
        let side = if reverse { -1.0 } else { 1.0 };
        let below = y + HEIGHT / 2.0;
        if steps > REACH {
            for spot in spots {
                let x = self.x(*spot, lane) - side * BOX / 2.0;
                let text = format!("{steps} before");
                canvas.wire(
                    vec![
                        (x - side * 20.0, below + 12.0),
                        (x - side * 10.0, below + 12.0),
                        (x - side * 10.0, below - 6.0),
                        (x, below - 6.0),
                    ],
                    RECURRENCE,
                );
                canvas.text(
                    (x - side * 22.0, below + 12.0),
                    if reverse { Anchor::Start } else { Anchor::End },
                    &text,
                    FONTS.2,
                    SOFT,
                );
            }
            return;
        }
        for (at, from) in spots.iter().enumerate() {
            let to = spots
                .iter()
                .find(|to| if reverse { to.step + steps == from.step } else { from.step + steps == to.step });
            let Some(to) = to else { continue };
            let turn = below + 6.0 + 5.0 * (at % steps) as f64;
            let (start, end) = (self.x(*from, lane) + side * BOX / 4.0, self.x(*to, lane) - side * BOX / 4.0);
            canvas.wire(vec![(start, below), (start, turn), (end, turn), (end, below)], RECURRENCE);
        }
    }

    /// The output of each step, which the next one reads.
    fn draw_feedback(&self, (spots, lane, y): (&[Spot], usize, f64), canvas: &mut Canvas) {
        for pair in spots.windows(2).filter(|pair| pair[0].step + 1 == pair[1].step) {
            let (from, to) = (self.x(pair[0], lane) + BOX / 4.0, self.x(pair[1], lane) - BOX / 4.0);
            let between = f64::midpoint(from, to) + GAP / 4.0;
            let (above, below) = (y - HEIGHT / 2.0, y + HEIGHT / 2.0);
            let points = [
                (from, above),
                (from, above - 7.0),
                (between, above - 7.0),
                (between, below + 7.0),
                (to, below + 7.0),
                (to, below),
            ];
            canvas.wire(points.to_vec(), AROUND);
        }
    }

    /// The final state of an encoder's layer on its way to a decoder's, along a wire that goes up at `out`: that of the last
    /// step, and of the first step where the layer reads the sequence from its end.
    fn draw_hand_over(&self, of: usize, out: f64, to: Point, canvas: &mut Canvas) {
        let scans = self.page.layers()[of].recurrent().map_or(&[false][..], |layer| layer.direction.scans());
        let spots = &self.spots[of];
        let (Some(first), Some(last)) = (spots.first(), spots.last()) else { return };
        for &reverse in scans {
            let from = if reverse {
                let top = self.top(Source::Output(of), *first);
                vec![top, (top.0, top.1 - BUS), (out, top.1 - BUS)]
            } else {
                let y = self.page.row(of + 1) + beside(scans, reverse);
                vec![(self.x(*last, self.page.lanes.of(of)) + BOX / 2.0, y), (out, y)]
            };
            canvas.wire([from, vec![(out, to.1), to]].concat(), RECURRENCE);
        }
    }

    fn draw_sides(&self, canvas: &mut Canvas) {
        for side in self.page.lanes.sides() {
            let lane = self.page.lanes.of(side.to);
            let y = self.page.row(side.to + 1);
            let away = 6.0 + SLOT * (side.slot as f64 + 1.0);
            for spot in &self.spots[side.to] {
                let left = self.x(*spot, lane) - BOX / 2.0;
                if side.hands_over {
                    let Source::Output(of) = side.from else { continue };
                    if spot.column == 0 {
                        self.draw_hand_over(of, left - GAP / 2.0 - away, (left, y), canvas);
                    }
                } else {
                    let top = self.top(side.from, *spot);
                    let out = left - away;
                    let turn = top.1 - BUS;
                    canvas.wire(vec![top, (top.0, turn), (out, turn), (out, y), (left, y)], AROUND);
                }
            }
        }
    }
}

/// The place of a scan's wires beside those of the other, if there are two.
fn beside(scans: &[bool], reverse: bool) -> f64 {
    match (scans.len(), reverse) {
        (1, _) => 0.0,
        (_, true) => 7.0,
        (_, false) => -7.0,
    }
}

/// The steps that a layer's own recurrence or convolution goes back, if all of them are drawn.
fn reach(layer: &Layer) -> usize {
    let steps = match layer.kind {
        LayerKind::Recurrent(recurrent) => recurrent.skip.unwrap_or(recurrent.dilation),
        LayerKind::Conv1d(conv) => conv.reach().saturating_sub(1).max(1),
        _ => 1,
    };
    if steps > REACH { 1 } else { steps }
}

/// The last step alone.
fn last(spots: &[Spot]) -> Vec<Spot> {
    spots.last().map(|spot| Spot { step: 1, ..*spot }).into_iter().collect()
}
