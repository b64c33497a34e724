//! One direction of a recurrent layer through time, forward and backward, for every cell.
//!
//! The sums over a step's inputs come first, for a window of steps at a time, so that they are still in cache when the
//! loop adds the products with the previous step and runs the cell.

use crate::buffers::{Buffers, Matrix};
use crate::cells::{BackwardRows, ForwardRows};
use crate::dressed::{self, BackStep, DressedSums, NormalPart, NormalRows};
use crate::functions::{apply, times_slope};
use crate::instructions::Instructions;
use crate::network::Context;
use crate::packing::{Packing, SlotGradients, Walk};
use crate::product::{Columns, ColumnsMut, Start};
use crate::weights::{Feedback, Weights};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;
use std::sync::Arc;

/// The lanes computed ahead of the loop: 256 KiB, a part of a core's second cache.
pub(crate) const WINDOW_LANES: usize = 1 << 16;
/// The fewest rows of a window, so that a product makes good use of the weights that it reads.
const WINDOW_ROWS: usize = 24;

/// Initial or final states of one scan, or their gradients, for the rows of a part in their order.
#[derive(Clone, Debug)]
pub(crate) struct ScanStates {
    /// `[k B, R]`: k values of all rows, oldest first; while a dilated layer runs, one of each interleaved sequence.
    pub(crate) h: Matrix,
    /// `[B, H]`; with a dilation `[d B, H]`, oldest first.
    pub(crate) c: Option<Matrix>,
    /// `[B, O]`
    pub(crate) y: Option<Matrix>,
}

impl ScanStates {
    /// k
    pub(crate) fn history(&self, batch: usize) -> usize {
        self.h.nrows() / batch
    }

    /// `[B, R]`: the `j`-th value of h.
    pub(crate) fn h(&self, j: usize, batch: usize) -> ArrayView2<'_, f32> {
        self.h.slice(s![j * batch..(j + 1) * batch, ..])
    }

    /// [`ScanStates::h`], to write.
    pub(crate) fn h_mut(&mut self, j: usize, batch: usize) -> ArrayViewMut2<'_, f32> {
        self.h.slice_mut(s![j * batch..(j + 1) * batch, ..])
    }
}

/// The tape of a scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanTape {
    /// `[N, L H]`: what the cell keeps, written over the pre-activations; backward overwrites it with their gradients.
    pub(crate) lanes: Matrix,
    /// Slots of `[R]`.
    pub(crate) h: Matrix,
    /// Slots of `[H]`, with one initial value.
    pub(crate) c: Option<Matrix>,
    /// `[N, H]`: the input of the projection to h.
    pub(crate) m: Option<Matrix>,
    /// `[N, H]`: `r h'`.
    pub(crate) reset: Option<Matrix>,
    /// Slots of `[O]`, with one initial value.
    pub(crate) y: Option<Matrix>,
    /// `[N, O]`: the pre-activations of y; backward overwrites them with their gradients.
    pub(crate) y_pre: Option<Matrix>,
    /// The normalised parts, with layer normalisation.
    pub(crate) normal: Option<NormalRows>,
}

impl ScanTape {
    /// A tape to run a scan on.
    pub(crate) fn new(buffers: &Arc<Buffers>, packing: &Packing, weights: &Weights) -> Self {
        let (hidden, short) = (weights.cell.hidden, weights.short_walk());
        let steps = |width: usize| buffers.matrix(packing.len(), width);
        let slots = |walk: Walk, width: usize| buffers.matrix(walk.len(packing), width);
        let output = weights.feedback.map(|feedback| feedback.bias.len());
        ScanTape {
            lanes: steps(weights.cell.lanes() * hidden),
            h: slots(weights.walk, weights.recurrent_width),
            c: weights.cell.cell.has_state().then(|| slots(short, hidden)),
            m: weights.projects.then(|| steps(hidden)),
            reset: weights.cell.resets_before().then(|| steps(hidden)),
            y: output.map(|output| slots(short, output)),
            y_pre: output.map(steps),
            normal: NormalRows::new(buffers, weights, packing.len()),
        }
    }

    /// Sets the initial states.
    pub(crate) fn begin(&mut self, packing: &Packing, weights: &Weights, initial: &ScanStates) {
        let (walk, short) = (weights.walk, weights.short_walk());
        for j in 0..walk.history {
            walk.set_initial(packing, j, initial.h(j, packing.batch()), self.h.view_mut());
        }
        for (slots, from) in [(&mut self.c, &initial.c), (&mut self.y, &initial.y)] {
            if let (Some(slots), Some(from)) = (slots, from) {
                short.set_initial(packing, 0, from.view(), slots.view_mut());
            }
        }
    }

    /// Writes the final states.
    pub(crate) fn put_final(&self, packing: &Packing, weights: &Weights, to: &mut ScanStates) {
        let (walk, short) = (weights.walk, weights.short_walk());
        for j in 0..walk.history {
            walk.put_final(packing, j, self.h.view(), to.h_mut(j, packing.batch()));
        }
        for (slots, to) in [(&self.c, &mut to.c), (&self.y, &mut to.y)] {
            if let (Some(slots), Some(to)) = (slots, to) {
                short.put_final(packing, 0, slots.view(), to.view_mut());
            }
        }
    }
}

/// One step of some rows. Parts that the layer does not use are empty.
pub(crate) struct Step<'a> {
    /// `[rows, L H]`: the sums over the input and the biases.
    pub(crate) lanes: &'a mut [f32],
    pub(crate) h_prev: &'a [f32],
    pub(crate) h_far: Option<&'a [f32]>,
    pub(crate) h: &'a mut [f32],
    pub(crate) c: Option<(&'a [f32], &'a mut [f32])>,
    pub(crate) m: Option<&'a mut [f32]>,
    pub(crate) reset: Option<&'a mut [f32]>,
    pub(crate) y: Option<(&'a [f32], &'a mut [f32])>,
    pub(crate) y_pre: Option<&'a mut [f32]>,
    pub(crate) normal: Option<NormalPart<'a>>,
}

/// Sums over the inputs `[rows, I]` and the biases: the lanes of some rows before their step.
pub(crate) fn input_lanes(
    set: Instructions,
    weights: &Weights,
    input: &[f32],
    width: usize,
    lanes: &mut [f32],
    normal: Option<NormalPart>,
) {
    if let Some(normal) = normal {
        return dressed::input_lanes(set, weights, input, width, lanes, normal);
    }
    let all = weights.cell.lanes() * weights.cell.hidden;
    let bias = &weights.packed.bias;
    let product = &weights.packed.input;
    product.multiply(set, Columns::all(input, width), Start::Row(bias), ColumnsMut::all(lanes, all));
    // A lane without an input.
    let rest = product.width()..all;
    if !rest.is_empty() {
        lanes.chunks_exact_mut(all).for_each(|row| row[rest.clone()].copy_from_slice(&bias[rest.clone()]));
    }
}

/// Runs one step; `place` has the packing and the step, except in a stream.
pub(crate) fn step_forward(
    set: Instructions,
    weights: &Weights,
    place: Option<(&Packing, usize)>,
    step: Step,
    scratch: &mut [f32],
) {
    if let Some(dressing) = &weights.dressing {
        return dressed::step_forward(set, weights, dressing, place, step, scratch);
    }
    let Step { lanes, h_prev, h_far, h, mut c, mut m, reset, mut y, y_pre, normal: _ } = step;
    let (cell, packed, hidden) = (&weights.cell, weights.packed, weights.cell.hidden);
    let (width, recurrent) = (cell.lanes() * hidden, weights.recurrent_width);
    let first = cell.recurrent_block().lanes.start;
    let previous = Columns::all(h_prev, recurrent);
    weights.multiply(
        set,
        &packed.recurrent,
        previous,
        Start::Output,
        ColumnsMut { elements: lanes, width, first },
    );
    if let Some(far) = h_far {
        let far = Columns::all(far, recurrent);
        weights.multiply(set, &packed.skip, far, Start::Output, ColumnsMut { elements: lanes, width, first });
    }
    if let (Some(feedback), Some((y_prev, _))) = (weights.feedback, &y) {
        let y_prev = Columns::all(y_prev, feedback.bias.len());
        packed.feedback.multiply(set, y_prev, Start::Output, ColumnsMut::all(lanes, width));
    }
    if let Some(reset) = reset {
        cell.forward_reset(set, lanes, h_prev, reset);
        let first = cell.reset_block().lanes.start;
        let kept = Columns::all(reset, hidden);
        weights.multiply(
            set,
            &packed.reset,
            kept,
            Start::Output,
            ColumnsMut { elements: lanes, width, first },
        );
    }
    let (c_prev, c) = match &mut c {
        Some((c_prev, c)) => (&**c_prev, &mut **c),
        None => (&[][..], &mut [][..]),
    };
    let out = m.as_deref_mut().unwrap_or(&mut *h);
    cell.forward(set, ForwardRows { lanes, h_prev, c_prev, c, out }, scratch);
    if let Some(m) = m {
        let to = ColumnsMut::all(h, recurrent);
        packed.projection.multiply(set, Columns::all(m, hidden), Start::Zero, to);
    }
    if let (Some(feedback), Some(pre), Some((_, y))) = (weights.feedback, y_pre, &mut y) {
        let (h, width) = (Columns::all(h, recurrent), feedback.bias.len());
        packed.readout.multiply(set, h, Start::Row(feedback.bias), ColumnsMut::all(pre, width));
        y.copy_from_slice(pre);
        apply(set, feedback.activation, y);
    }
}

/// The elements of some rows of a matrix.
pub(crate) fn rows_mut(matrix: &mut Array2<f32>, rows: Range<usize>) -> &mut [f32] {
    let width = matrix.ncols();
    let elements = matrix.as_slice_mut().expect("matrices are kept in standard layout");
    &mut elements[rows.start * width..rows.end * width]
}

/// The first `rows` rows of a slot, as a range of elements.
pub(crate) fn slot_range(
    walk: Walk,
    packing: &Packing,
    slot: usize,
    rows: usize,
    width: usize,
) -> Range<usize> {
    let start = walk.slot(packing, slot).start;
    start * width..(start + rows) * width
}

/// The values before and after step `t`, if there are slots.
pub(crate) fn neighbours<'a>(
    slots: Option<&'a mut Matrix>,
    walk: Walk,
    packing: &Packing,
    t: usize,
) -> Option<(&'a [f32], &'a mut [f32])> {
    let slots = slots?;
    let (rows, width) = (packing.rows_at(t), slots.ncols());
    let range = |slot| slot_range(walk, packing, slot, rows, width);
    let ranges = [range(walk.before(t, 1)), range(walk.own(t))];
    let [prev, own] = slots.elements_mut().get_disjoint_mut(ranges).expect("slots are different");
    Some((prev, own))
}

/// Runs the scan over `input [N, I]` from the initial states that the tape holds.
pub(crate) fn forward(
    context: Context,
    packing: &Packing,
    weights: &Weights,
    input: &[f32],
    width: usize,
    tape: &mut ScanTape,
) {
    let mut scratch = context.buffers.matrix(1, weights.scratch_len(packing.batch()));
    for steps in windows(packing, weights.walk, weights.packed.bias.len()) {
        let rows = packing.rows_of(&steps);
        let input = &input[rows.start * width..rows.end * width];
        forward_steps(context.set, packing, weights, steps, input, width, tape, scratch.elements_mut());
    }
}

/// Runs some steps of a scan over their rows of the input.
#[expect(clippy::too_many_arguments, reason = "a scan has that many parts")]
pub(crate) fn forward_steps(
    set: Instructions,
    packing: &Packing,
    weights: &Weights,
    steps: Range<usize>,
    input: &[f32],
    width: usize,
    tape: &mut ScanTape,
    scratch: &mut [f32],
) {
    let rows = packing.rows_of(&steps);
    let normal = tape.normal.as_mut().map(|normal| normal.rows(rows.clone()));
    input_lanes(set, weights, input, width, rows_mut(&mut tape.lanes, rows), normal);
    for n in 0..steps.len() {
        let t = if weights.walk.reverse { steps.end - 1 - n } else { steps.start + n };
        step_at(set, packing, weights, tape, t, scratch);
    }
}

/// Divides the steps into windows of about [`WINDOW_LANES`], in the order of the walk.
pub(crate) fn windows(
    packing: &Packing,
    walk: Walk,
    lanes: usize,
) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = (WINDOW_LANES / lanes).max(WINDOW_ROWS);
    let (steps, count) = (packing.steps(), (rows / packing.batch()).max(1));
    let windows = steps.div_ceil(count);
    (0..windows).map(move |n| {
        let first = if walk.reverse { windows - 1 - n } else { n } * count;
        first..(first + count).min(steps)
    })
}

fn step_at(
    set: Instructions,
    packing: &Packing,
    weights: &Weights,
    tape: &mut ScanTape,
    t: usize,
    scratch: &mut [f32],
) {
    let ScanTape { lanes, h, c, m, reset, y, y_pre, normal } = tape;
    let (walk, short, rows) = (weights.walk, weights.short_walk(), packing.at(t));
    let width = weights.recurrent_width;
    let range = |slot| slot_range(walk, packing, slot, rows.len(), width);
    let (own, prev, far) = (walk.own(t), walk.before(t, 1), walk.before(t, walk.history));
    let (h, h_prev, h_far) = if weights.skips {
        let ranges = [range(own), range(prev), range(far)];
        let [h, prev, far] = h.elements_mut().get_disjoint_mut(ranges).expect("slots are different");
        (h, &*prev, Some(&*far))
    } else {
        let ranges = [range(own), range(prev)];
        let [h, prev] = h.elements_mut().get_disjoint_mut(ranges).expect("slots are different");
        (h, &*prev, None)
    };
    let step = Step {
        lanes: rows_mut(lanes, rows.clone()),
        h_prev,
        h_far,
        h,
        c: neighbours(c.as_mut(), short, packing, t),
        m: m.as_mut().map(|m| rows_mut(m, rows.clone())),
        reset: reset.as_mut().map(|reset| rows_mut(reset, rows.clone())),
        y: neighbours(y.as_mut(), short, packing, t),
        y_pre: y_pre.as_mut().map(|y| rows_mut(y, rows.clone())),
        normal: normal.as_mut().map(|normal| normal.rows(rows.clone())),
    };
    step_forward(set, weights, Some((packing, t)), step, scratch);
}

/// The gradients of a scan that are not written over its tape.
#[derive(Clone, Debug)]
pub(crate) struct ScanGradients {
    /// With respect to each h, including the initial ones.
    pub(crate) d_h: SlotGradients,
    /// `[B, H]`: with respect to the initial c, in the order of the packing.
    pub(crate) d_c: Option<Matrix>,
    /// With respect to each y.
    pub(crate) d_y: Option<SlotGradients>,
    /// Sums over the steps of a dressed cell.
    pub(crate) sums: Option<DressedSums>,
}

/// Backpropagation through time of one scan. `tape.lanes` and `tape.y_pre` become gradients. The weights are those
/// packed for backward.
pub(crate) struct BackwardScan<'a> {
    weights: Weights<'a>,
    pub(crate) gradients: ScanGradients,
    scratch: Scratch,
}

impl<'a> BackwardScan<'a> {
    /// A scan that begins with the gradients `d_out [N, R]`, or `[N, O]` with feedback, of the outputs and `d_final` of
    /// the final states.
    pub(crate) fn new(
        context: Context,
        packing: &Packing,
        weights: Weights<'a>,
        tape: &ScanTape,
        d_out: Matrix,
        d_final: Option<&ScanStates>,
    ) -> Self {
        let mut scan = BackwardScan::without_outputs(context, packing, weights, tape, d_out, d_final);
        scan.add_final(packing, d_final, |_| true);
        scan
    }

    /// A scan whose gradients of outputs [`BackwardScan::give`] brings later, to `d_out`, whose contents do not matter
    /// yet. Those of the final h and y are the caller's to add.
    pub(crate) fn without_outputs(
        context: Context,
        packing: &Packing,
        weights: Weights<'a>,
        tape: &ScanTape,
        d_out: Matrix,
        d_final: Option<&ScanStates>,
    ) -> Self {
        let (walk, short) = (weights.walk, weights.short_walk());
        let buffers = context.buffers;
        let (d_h, d_y) = match weights.feedback {
            None => (d_out, None),
            Some(_) => (buffers.zeros(packing.len(), weights.recurrent_width), Some(d_out)),
        };
        let gradients = ScanGradients {
            d_h: SlotGradients::new(buffers, walk, packing, d_h),
            d_c: tape.c.as_ref().map(|c| {
                let given = d_final.and_then(|d_final| d_final.c.as_ref());
                let sorted = given.map(|d_c| packing.sort(buffers, d_c.view()));
                sorted.unwrap_or_else(|| buffers.zeros(packing.batch(), c.ncols()))
            }),
            d_y: d_y.map(|d_y| SlotGradients::new(buffers, short, packing, d_y)),
            sums: DressedSums::new(&weights),
        };
        let hidden = weights.cell.hidden;
        let room = |needed: bool| buffers.matrix(if needed { packing.batch() } else { 0 }, hidden);
        let scratch = Scratch {
            cell: buffers.matrix(1, weights.scratch_len(packing.batch())),
            d_m: room(weights.projects),
            d_reset: room(weights.cell.resets_before()),
            readout: buffers.matrix(2, weights.feedback.map_or(0, |feedback| feedback.bias.len())),
        };
        BackwardScan { weights, gradients, scratch }
    }

    /// Adds the gradients of the final h and y in the slots that are wanted, as in [`SlotGradients::add_to_final`].
    pub(crate) fn add_final(
        &mut self,
        packing: &Packing,
        d_final: Option<&ScanStates>,
        wanted: impl Fn(Option<usize>) -> bool,
    ) {
        let Some(d_final) = d_final else { return };
        for j in 0..self.weights.walk.history {
            self.gradients.d_h.add_to_final(packing, j, d_final.h(j, packing.batch()), &wanted);
        }
        if let (Some(d_y), Some(d)) = (&mut self.gradients.d_y, &d_final.y) {
            d_y.add_to_final(packing, 0, d.view(), &wanted);
        }
    }

    /// Brings the gradients of the outputs of some steps, whose walk is forward.
    pub(crate) fn give(&mut self, packing: &Packing, steps: &Range<usize>, d_out: &Matrix) {
        let ScanGradients { d_h, d_y, .. } = &mut self.gradients;
        d_y.as_mut().unwrap_or(d_h).set_steps(packing, steps, d_out.elements());
    }

    /// Goes back through these steps of the walk.
    pub(crate) fn run(
        &mut self,
        set: Instructions,
        packing: &Packing,
        tape: &mut ScanTape,
        steps: impl Iterator<Item = usize>,
    ) {
        for t in steps {
            step_backward(set, packing, &self.weights, tape, &mut self.gradients, t, &mut self.scratch);
        }
    }
}

/// Room for a backward step.
struct Scratch {
    cell: Matrix,
    /// `[B, H]`
    d_m: Matrix,
    /// `[B, H]`
    d_reset: Matrix,
    /// `[2, O]`
    readout: Matrix,
}

fn step_backward(
    set: Instructions,
    packing: &Packing,
    weights: &Weights,
    tape: &mut ScanTape,
    gradients: &mut ScanGradients,
    t: usize,
    scratch: &mut Scratch,
) {
    let Scratch { cell: cell_scratch, d_m, d_reset, readout } = scratch;
    let (cell_scratch, d_m) = (cell_scratch.elements_mut(), d_m.elements_mut());
    let ScanTape { lanes, h, c, m, reset, y: _, y_pre, normal } = tape;
    let ScanGradients { d_h, d_c, d_y, sums } = gradients;
    let (walk, short, cell, packed) = (weights.walk, weights.short_walk(), &weights.cell, weights.packed);
    let (hidden, width) = (cell.hidden, weights.recurrent_width);
    let (at, all) = (packing.at(t), cell.lanes() * cell.hidden);
    let rows = at.len();
    let (own, prev) = (walk.own(t), walk.before(t, 1));
    let lanes = rows_mut(lanes, at.clone());
    if let (Some(feedback), Some(y_pre), Some(d_y)) = (weights.feedback, y_pre, &mut *d_y) {
        let d_pre = rows_mut(y_pre, at.clone());
        readout_backward(set, feedback, d_y.rows(packing, short.own(t), rows), d_pre, readout.elements_mut());
        let d_pre = Columns::all(d_pre, feedback.bias.len());
        let d_own = ColumnsMut::all(d_h.rows_mut(packing, own, rows), width);
        packed.readout.multiply(set, d_pre, Start::Output, d_own);
    }
    if weights.projects {
        let d_own = Columns::all(d_h.rows(packing, own, rows), width);
        let to = ColumnsMut::all(&mut d_m[..rows * hidden], hidden);
        packed.projection.multiply(set, d_own, Start::Zero, to);
    }
    let (d_own, d_prev) = d_h.neighbours(packing, own, prev, rows);
    let h_prev = &h.elements()[slot_range(walk, packing, prev, rows, width)];
    let out = match m {
        Some(m) => &m.elements()[at.start * hidden..at.end * hidden],
        None => &h.elements()[slot_range(walk, packing, own, rows, width)],
    };
    let (c_prev, c) = match c {
        Some(c) => {
            let range = |slot| slot_range(short, packing, slot, rows, hidden);
            (&c.elements()[range(short.before(t, 1))], &c.elements()[range(short.own(t))])
        }
        None => (&[][..], &[][..]),
    };
    if let (Some(dressing), Some(sums)) = (&weights.dressing, sums) {
        let step = BackStep {
            lanes,
            h_prev,
            c_prev,
            d_out: d_own,
            d_prev,
            d_c: d_c.as_mut().map_or(&mut [][..], |d_c| rows_mut(d_c, 0..rows)),
            normal: normal.as_mut().map(|normal| normal.rows(at)),
            sums,
        };
        return dressed::step_backward(set, weights, dressing, (packing, t), step, cell_scratch);
    }
    let step = BackwardRows {
        lanes: &mut *lanes,
        h_prev,
        c_prev,
        c,
        out,
        d_out: if weights.projects { &d_m[..rows * hidden] } else { d_own },
        d_prev: &mut *d_prev,
        d_c: d_c.as_mut().map_or(&mut [][..], |d_c| rows_mut(d_c, 0..rows)),
    };
    cell.backward(set, step, cell_scratch);
    if reset.is_some() {
        let d_reset = &mut d_reset.elements_mut()[..rows * hidden];
        let d = Columns { elements: &*lanes, width: all, first: cell.reset_block().lanes.start };
        weights.multiply(set, &packed.reset, d, Start::Zero, ColumnsMut::all(d_reset, hidden));
        cell.backward_reset(set, lanes, h_prev, d_reset, d_prev, cell_scratch);
    }
    let d = Columns { elements: &*lanes, width: all, first: cell.recurrent_block().lanes.start };
    weights.multiply(set, &packed.recurrent, d, Start::Output, ColumnsMut::all(d_prev, width));
    if weights.skips {
        let far = d_h.rows_mut(packing, walk.before(t, walk.history), rows);
        weights.multiply(set, &packed.skip, d, Start::Output, ColumnsMut::all(far, width));
    }
    if let (Some(feedback), Some(d_y)) = (weights.feedback, d_y) {
        let d_y_prev = d_y.rows_mut(packing, short.before(t, 1), rows);
        let d = Columns::all(lanes, all);
        packed.feedback.multiply(set, d, Start::Output, ColumnsMut::all(d_y_prev, feedback.bias.len()));
    }
}

/// `d_pre = d_y act'`, written over the pre-activations of y.
fn readout_backward(
    set: Instructions,
    feedback: Feedback,
    d_y: &[f32],
    pre: &mut [f32],
    scratch: &mut [f32],
) {
    let width = feedback.bias.len();
    let (y, d) = scratch.split_at_mut(width);
    for (pre, d_y) in pre.chunks_exact_mut(width).zip(d_y.chunks_exact(width)) {
        y.copy_from_slice(pre);
        apply(set, feedback.activation, y);
        d.copy_from_slice(d_y);
        times_slope(set, feedback.activation, pre, y, d);
        pre.copy_from_slice(d);
    }
}
