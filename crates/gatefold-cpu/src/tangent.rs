//! Forward-mode derivatives along a tape: the walk over the layers that takes tangents from the inputs and the parameters to
//! the output.
//!
//! The tangent of a scan is a linear recurrence over what its forward pass kept. Products come in pairs,
//! `x_dot W + x W_dot`; the tangents of the weights are packed like weights.

use crate::bridge::{newest, recurrent_of};
use crate::buffers::{Matrix, Rows};
use crate::by_source::BySource;
use crate::cells::tangent::TangentRows;
use crate::dense;
use crate::forward::state_number;
use crate::functions::times_slope;
use crate::network::{Context, Kept, Network, PartTape, Tape};
use crate::normalise;
use crate::packing::{self, Packing};
use crate::parts::PartState;
use crate::pool;
use crate::product::{Columns, ColumnsMut, Packed, Start};
use crate::recurrent::{outputs, put_output};
use crate::scan::{self, ScanTape, neighbours, rows_mut, slot_range};
use crate::steps;
use crate::tensors::{Tensors, Values};
use crate::weights::{PackedScan, Pass, Store, Weights};
use gatefold_model::{
    InitialState, Layer, LayerKind, Merge, ModelError, Node, Recurrent, Role, Source, StateKind,
};
use ndarray::{Array3, ArrayView3, s};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

impl Network {
    /// The derivative of a tape's output `[T', B, O]` along a direction: a tensor for each parameter and, if the input moves
    /// too, `[T, B, I]` for it, ignored past a row's end and for tokens. Zero past a row's end. The tape stays as it is.
    ///
    /// # Errors
    /// As [`NetworkConfig::check_forward_mode`](gatefold_model::NetworkConfig::check_forward_mode).
    ///
    /// # Panics
    /// If a parameter has no tangent, or a tangent is not shaped like its value.
    pub fn jvp(
        &self,
        tape: &Tape,
        tangents: &Tensors,
        input: Option<ArrayView3<f32>>,
    ) -> Result<Array3<f32>, ModelError> {
        self.config.check_forward_mode()?;
        for (name, values) in &self.parameters {
            assert_eq!(values.shape(), tangents[name].shape(), "{name}: a tangent for each value");
        }
        let parts = &*tape.parts;
        let source = Source::Input;
        let input = input.map(|input| {
            let (steps, rows, width) = input.dim();
            let packing = &parts.tapes[0].packings[source];
            let expected = (packing.padded_steps(), packing.whole(), self.config.input());
            assert_eq!((steps, rows, width), expected, "a tangent for each input");
            input.as_standard_layout().into_owned()
        });
        let mut output = Array3::zeros(tape.output().dim());
        let to = Mutex::new(output.as_slice_mut().expect("it is in standard layout"));
        let store = Store::new(Pass::Forward);
        let values = Values { tensors: tangents };
        let packed = store.read(&self.config, values, self.set, None);
        let rows: usize = parts.tapes.iter().map(|tape| tape.packings[source].len()).sum();
        let threads = self.threads.worth(rows * self.weights());
        self.with_context(Pass::Forward, None, |context| {
            threads.run(parts.tapes.iter(), |tape| {
                let along = Context { values, packed: &packed, ..context };
                let mut walk =
                    TangentWalk { context, along, tape, dots: BySource::default(), states: Vec::new() };
                if let Some(input) = &input {
                    walk.dots.insert(source, tape.packings[source].pack(context.buffers, input.view()));
                }
                walk.run();
                if let Some(dot) = walk.dots.get(tape.result) {
                    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
                    tape.packings[tape.result].unpack(dot.view(), &mut to);
                }
            });
        });
        Ok(output)
    }
}

/// The tangents of a part's values, on their way through the layers. A value without one has zeros.
struct TangentWalk<'a> {
    context: Context<'a>,
    /// The tangents of the parameters, in their places.
    along: Context<'a>,
    tape: &'a PartTape,
    dots: BySource<Matrix>,
    /// The tangents of the final states of the recurrent layers so far.
    states: Vec<PartState>,
}

impl TangentWalk<'_> {
    fn run(&mut self) {
        let config = self.context.config;
        for node in config.graph().nodes() {
            let layer = &config.layers()[node.layer];
            let x_dot = self.input_of(node);
            let dot = match layer.kind {
                LayerKind::Recurrent(recurrent) => Some(self.recurrent(layer, node, &recurrent, x_dot)),
                _ => self.other(layer, node, x_dot),
            };
            if let Some(dot) = dot {
                self.dots.insert(Source::Output(layer.index), dot);
            }
        }
    }

    /// The tangent of one of a layer's inputs.
    fn value(&self, source: Source) -> Option<Rows<'_>> {
        if let Source::FinalHidden(layer) = source {
            let (number, recurrent) = recurrent_of(self.context.config, layer);
            let h = newest(self.context.buffers, &self.states[number], StateKind::Hidden, recurrent);
            return Some(Rows::Made(self.tape.packings[source].sort(self.context.buffers, h.view())));
        }
        self.dots.get(source).map(|dot| Rows::Kept(dot.view()))
    }

    /// The tangent of a layer's merged input.
    fn input_of(&self, node: &Node) -> Option<Matrix> {
        let buffers = self.context.buffers;
        let values: Vec<Option<Rows>> = node.inputs.iter().map(|&source| self.value(source)).collect();
        if values.iter().all(Option::is_none) {
            return None;
        }
        if node.merge == Merge::Sum || values.len() == 1 {
            let mut values = values.iter().flatten();
            let mut sum = buffers.copy(values.next()?.view());
            values.for_each(|value| *sum += &value.view());
            return Some(sum);
        }
        let mut all =
            buffers.zeros(self.tape.packing_of(node).len(), self.context.config.layers()[node.layer].output);
        let mut column = 0;
        for (value, &source) in values.iter().zip(&node.inputs) {
            let width = self.width_of(source);
            if let Some(value) = value {
                all.slice_mut(s![.., column..column + width]).assign(&value.view());
            }
            column += width;
        }
        Some(all)
    }

    fn width_of(&self, source: Source) -> usize {
        match source {
            Source::FinalHidden(layer) => {
                let (_, recurrent) = recurrent_of(self.context.config, layer);
                recurrent.direction.scans().len() * recurrent.recurrent_width()
            }
            _ => self.tape.values.rows(source).ncols(),
        }
    }

    /// A layer that is not recurrent.
    fn other(&self, layer: &Layer, node: &Node, x_dot: Option<Matrix>) -> Option<Matrix> {
        let TangentWalk { context, along, tape, .. } = *self;
        let (packing, buffers) = (tape.packing_of(node), context.buffers);
        match (layer.kind, tape.values.get(Source::Output(layer.index))) {
            (LayerKind::Dense { activation, .. }, Some(Kept::Dense(kept))) => {
                let bias = along.values.elements(layer, Role::DenseBias, false);
                let x = tape.input_of(context, node);
                let mut dot = dense::product(context, x.view(), &along.packed.layer(layer).dense, bias);
                if let Some(x_dot) = x_dot {
                    let weight = &context.packed.layer(layer).dense;
                    let to = ColumnsMut::all(dot.elements_mut(), weight.width());
                    let from = Columns::all(x_dot.elements(), x_dot.ncols());
                    weight.multiply(context.set, from, Start::Output, to);
                }
                dense::backward(context.set, kept, activation, &mut dot);
                Some(dot)
            }
            (LayerKind::Embedding { .. }, _) => {
                let tokens = tape.input_of(context, node);
                Some(steps::embed(buffers, along.values.table(layer), tokens.view()))
            }
            (LayerKind::Dropout { rate }, _) => {
                let mut dot = x_dot?;
                if let Some(dropout) = tape.dropout {
                    let dropout = steps::dropout_of(dropout, layer);
                    steps::drop_out(dropout, layer.index, rate, packing, 0..packing.steps(), &mut dot);
                }
                Some(dot)
            }
            (LayerKind::Softmax, Some(Kept::Rows(y))) => {
                // The Jacobian of a softmax is symmetric.
                let mut dot = x_dot?;
                steps::softmax_backward(y.view(), &mut dot);
                Some(dot)
            }
            (LayerKind::Normalise { epsilon }, _) => {
                let x = tape.input_of(context, node);
                Some(normalise::tangent(context, along.values, layer, epsilon, x.view(), x_dot))
            }
            (LayerKind::Pool(pooling), Some(Kept::Rows(y))) => {
                let x = tape.input_of(context, node);
                Some(pool::tangent(buffers, packing, (x.view(), y.view()), x_dot?.view(), pooling))
            }
            (LayerKind::LastStep, _) => Some(packing.last_rows(buffers, x_dot?.view())),
            (LayerKind::Expand { steps: count, fill }, _) => {
                let first = packing.last_rows(buffers, x_dot?.view());
                Some(steps::expand(buffers, first.view(), count, fill))
            }
            // These layers only read.
            (LayerKind::Residual { .. } | LayerKind::FinalState | LayerKind::Merge(_), _) => x_dot,
            (kind, _) => unreachable!("{} was refused, or kept what its tangent needs", kind.name()),
        }
    }

    fn recurrent(
        &mut self,
        layer: &Layer,
        node: &Node,
        recurrent: &Recurrent,
        x_dot: Option<Matrix>,
    ) -> Matrix {
        let TangentWalk { context, along, tape, .. } = *self;
        let (packing, own) = (tape.packing_of(node), Source::Output(layer.index));
        let Some(Kept::Recurrent(kept)) = tape.values.get(own) else {
            unreachable!("{} kept its scans", layer.place());
        };
        let batch = packing.batch();
        let learned = !tape.given && recurrent.initial == InitialState::Learned;
        let mut states = match learned {
            true => PartState::initial(context.buffers, along.values, layer, recurrent, batch),
            false => PartState::zeros(context.buffers, recurrent, batch),
        };
        let x = tape.input_of(context, node);
        let mut output = context.buffers.matrix(packing.len(), recurrent.output());
        for (scan, values) in kept.scans().enumerate() {
            let weights = [context, along].map(|context| Weights::of(context, layer, recurrent, scan));
            let tangent = ScanTangent { context, packing, weights: &weights[0], along: &weights[1], values };
            let dots =
                tangent.run(x.view().to_slice().expect("standard layout"), x_dot.as_ref(), states.scan(scan));
            dots.put_final(packing, &weights[0], states.scan_mut(scan));
            let from = outputs(context.buffers, packing, &weights[0], &dots);
            put_output(recurrent, scan, from.view(), output.view_mut());
        }
        debug_assert_eq!(state_number(node), self.states.len(), "states come in order");
        self.states.push(states);
        output
    }
}

/// One scan's forward pass, and the tangents of its weights.
struct ScanTangent<'a> {
    context: Context<'a>,
    packing: &'a Packing,
    weights: &'a Weights<'a>,
    along: &'a Weights<'a>,
    values: &'a ScanTape,
}

impl ScanTangent<'_> {
    /// Runs over the input `[N, I]` and its tangent, from the tangents of the initial states.
    fn run(&self, x: &[f32], x_dot: Option<&Matrix>, initial: &scan::ScanStates) -> ScanTape {
        let ScanTangent { context, packing, weights, along, .. } = *self;
        let (set, buffers) = (context.set, context.buffers);
        let mut dots = ScanTape::new(buffers, packing, weights);
        dots.begin(packing, weights, initial);
        let width = x.len() / packing.len().max(1);
        if packing.len() > 0 {
            scan::input_lanes(set, along, x, width, dots.lanes.elements_mut(), None);
        }
        if let Some(x_dot) = x_dot {
            let all = weights.cell.lanes() * weights.cell.hidden;
            let to = ColumnsMut::all(dots.lanes.elements_mut(), all);
            weights.packed.input.multiply(
                set,
                Columns::all(x_dot.elements(), x_dot.ncols()),
                Start::Output,
                to,
            );
        }
        let mut scratch = buffers.matrix(1, weights.scratch_len(packing.batch()));
        for t in weights.walk.steps(packing) {
            self.step(&mut dots, t, scratch.elements_mut());
        }
        dots
    }

    /// One step of the rows that take it; the sums over the inputs are there.
    fn step(&self, dots: &mut ScanTape, t: usize, scratch: &mut [f32]) {
        let ScanTangent { context, packing, weights, along, values } = *self;
        let (set, cell, hidden) = (context.set, &weights.cell, weights.cell.hidden);
        let (walk, short, at) = (weights.walk, weights.short_walk(), packing.at(t));
        let (rows, all, width) = (at.len(), cell.lanes() * hidden, weights.recurrent_width);
        let (own, prev, far) = (walk.own(t), walk.before(t, 1), walk.before(t, walk.history));
        let ScanTape { lanes, h, c, m, reset, y, y_pre, .. } = dots;
        let lanes = rows_mut(lanes, at.clone());
        let of = |slots: &ScanSlots, slot: usize| slot_range(slots.1, packing, slot, rows, slots.0.ncols());
        let in_h = |slot: usize| of(&(&values.h, walk), slot);
        // The product of a value with the tangent of its weights, and that of its tangent with the weights.
        let both = |part: Part, [value, dot]: [&[f32]; 2], width: usize, lanes: &mut [f32], first: usize| {
            for (weights, from) in [(along, value), (weights, dot)] {
                let to = ColumnsMut { elements: &mut *lanes, width: all, first };
                part(weights.packed).multiply(set, Columns::all(from, width), Start::Output, to);
            }
        };
        let first = cell.recurrent_block().lanes.start;
        let h_prev = &values.h.elements()[in_h(prev)];
        both(|packed| &packed.recurrent, [h_prev, &h.elements()[in_h(prev)]], width, lanes, first);
        if weights.skips {
            let pair = [&values.h.elements()[in_h(far)], &h.elements()[in_h(far)]];
            both(|packed| &packed.skip, pair, width, lanes, first);
        }
        if let (Some(value), Some(dot)) = (&values.y, &*y) {
            let range = of(&(value, short), short.before(t, 1));
            let pair = [&value.elements()[range.clone()], &dot.elements()[range]];
            both(|packed| &packed.feedback, pair, value.ncols(), lanes, 0);
        }
        let kept = rows_of(&values.lanes, &at);
        if let (Some(value), Some(dot)) = (&values.reset, reset) {
            let dot = rows_mut(dot, at.clone());
            cell.tangent_reset(set, kept, lanes, [h_prev, &h.elements()[in_h(prev)]], dot, scratch);
            let first = cell.reset_block().lanes.start;
            both(|packed| &packed.reset, [rows_of(value, &at), dot], hidden, lanes, first);
        }
        let ranges = [in_h(own), in_h(prev)];
        let [h_dot, h_prev_dot] = h.elements_mut().get_disjoint_mut(ranges).expect("slots are different");
        let c_of = |slot: usize| match &values.c {
            Some(c) => &c.elements()[of(&(c, short), slot)],
            None => &[],
        };
        let (c_prev_dot, c_dot) = neighbours(c.as_mut(), short, packing, t).unwrap_or_default();
        let mut m = m.as_mut().map(|m| rows_mut(m, at.clone()));
        let step = TangentRows {
            lanes: kept,
            dots: lanes,
            h_prev,
            h_prev_dot,
            c_prev: c_of(short.before(t, 1)),
            c_prev_dot,
            c: c_of(short.own(t)),
            c_dot,
            out: match &values.m {
                Some(m) => rows_of(m, &at),
                None => &values.h.elements()[in_h(own)],
            },
            out_dot: m.as_deref_mut().unwrap_or(&mut *h_dot),
        };
        cell.tangent(set, step, along.cell.peephole, scratch);
        if let (Some(value), Some(dot)) = (&values.m, m) {
            for (weights, from, start) in
                [(along, rows_of(value, &at), Start::Zero), (weights, &*dot, Start::Output)]
            {
                let to = ColumnsMut::all(&mut *h_dot, width);
                weights.packed.projection.multiply(set, Columns::all(from, hidden), start, to);
            }
        }
        if let (Some(feedback), Some(dots), Some(pre)) = (along.feedback, y, y_pre) {
            let (pre, output) = (rows_mut(pre, at.clone()), feedback.bias.len());
            for (weights, from, start) in [
                (along, &values.h.elements()[in_h(own)], Start::Row(feedback.bias)),
                (weights, &*h_dot, Start::Output),
            ] {
                let to = ColumnsMut::all(&mut *pre, output);
                weights.packed.readout.multiply(set, Columns::all(from, width), start, to);
            }
            let (Some(y), Some(y_pre)) = (&values.y, &values.y_pre) else {
                unreachable!("a layer with feedback keeps its readout");
            };
            let range = of(&(y, short), short.own(t));
            times_slope(set, feedback.activation, rows_of(y_pre, &at), &y.elements()[range.clone()], pre);
            dots.elements_mut()[range].copy_from_slice(pre);
        }
    }
}

/// The slots of a state over time.
type ScanSlots<'a> = (&'a Matrix, packing::Walk);

/// One of a scan's matrices.
type Part = fn(&PackedScan) -> &Packed;

fn rows_of<'a>(matrix: &'a Matrix, rows: &Range<usize>) -> &'a [f32] {
    let width = matrix.ncols();
    &matrix.elements()[rows.start * width..rows.end * width]
}
