//! One direction of a recurrent layer through time, forward and backward, for every cell.
//!
//! Products over all steps come before the loop ([`crate::recurrent`]). Inside it are the products with the previous
//! step and the cell, row by row. Threads divide the rows.

use crate::cells::{BackwardRow, CellStep, ForwardRow};
use crate::functions::{apply, times_slope};
use crate::packing::{Packing, SlotGradients, Walk};
use crate::threads::{Product, Threads, run, split_steps};
use gatefold_model::Activation;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// The fewest rows of a batch worth a thread: the general product's tile.
const ROWS: usize = 8;

/// The parameters of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights<'a> {
    pub(crate) cell: CellStep<'a>,
    pub(crate) walk: Walk,
    /// `[G H, I]`
    pub(crate) w_ih: ArrayView2<'a, f32>,
    /// `[G H, R]`
    pub(crate) w_hh: ArrayView2<'a, f32>,
    /// `[G H]`
    pub(crate) b_ih: Option<ArrayView1<'a, f32>>,
    /// `[G H]`
    pub(crate) b_hh: Option<ArrayView1<'a, f32>>,
    /// `[R, H]`
    pub(crate) projection: Option<ArrayView2<'a, f32>>,
    /// `[G H, R]`: from `h(t-k)`.
    pub(crate) skip: Option<ArrayView2<'a, f32>>,
    pub(crate) feedback: Option<FeedbackWeights<'a>>,
}

/// A readout that feeds back into the next step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedbackWeights<'a> {
    pub(crate) activation: Activation,
    /// `[G H, O]`
    pub(crate) w_yh: ArrayView2<'a, f32>,
    /// `[O, H]`
    pub(crate) w_hy: ArrayView2<'a, f32>,
    /// `[O]`
    pub(crate) b_y: ArrayView1<'a, f32>,
}

/// Initial or final states of one scan, or their gradients, with rows in the order of the packing.
#[derive(Clone, Debug)]
pub(crate) struct ScanStates {
    /// k times `[B, R]`, oldest first.
    pub(crate) h: Vec<Array2<f32>>,
    /// `[B, H]`
    pub(crate) c: Option<Array2<f32>>,
    /// `[B, O]`
    pub(crate) y: Option<Array2<f32>>,
}

/// The tape of a scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanTape {
    /// `[N, L H]`: what the cell keeps, written over the pre-activations; backward overwrites it with their gradients.
    pub(crate) lanes: Array2<f32>,
    /// Slots of `[R]`.
    pub(crate) h: Array2<f32>,
    /// Slots of `[H]`, with one initial value.
    pub(crate) c: Option<Array2<f32>>,
    /// `[N, H]`: the input of the projection to h.
    pub(crate) m: Option<Array2<f32>>,
    /// `[N, H]`: `r h'`.
    pub(crate) reset: Option<Array2<f32>>,
    /// Slots of `[O]`, with one initial value.
    pub(crate) y: Option<Array2<f32>>,
    /// `[N, O]`: the pre-activations of y; backward overwrites them with their gradients.
    pub(crate) y_pre: Option<Array2<f32>>,
}

impl Weights<'_> {
    /// R
    pub(crate) fn recurrent_width(&self) -> usize {
        self.w_hh.ncols()
    }

    /// The walk of states with a single initial value: c and y.
    pub(crate) fn short_walk(&self) -> Walk {
        Walk { history: 1, ..self.walk }
    }

    /// Multiplications and additions of the loop for this many rows.
    fn operations(&self, rows: usize) -> usize {
        let feedback = self.feedback.map_or(0, |feedback| feedback.w_yh.len() + feedback.w_hy.len());
        let optional = |weight: Option<ArrayView2<f32>>| weight.map_or(0, |weight| weight.len());
        2 * rows * (self.w_hh.len() + optional(self.projection) + optional(self.skip) + feedback)
    }
}

/// One step of some rows. Parts that the layer does not use are empty.
pub(crate) struct Step<'a> {
    pub(crate) lanes: ArrayViewMut2<'a, f32>,
    pub(crate) h_prev: ArrayView2<'a, f32>,
    pub(crate) h_far: Option<ArrayView2<'a, f32>>,
    pub(crate) h: ArrayViewMut2<'a, f32>,
    pub(crate) c: Option<(ArrayView2<'a, f32>, ArrayViewMut2<'a, f32>)>,
    pub(crate) m: Option<ArrayViewMut2<'a, f32>>,
    pub(crate) reset: Option<ArrayViewMut2<'a, f32>>,
    pub(crate) y: Option<(ArrayView2<'a, f32>, ArrayViewMut2<'a, f32>)>,
    pub(crate) y_pre: Option<ArrayViewMut2<'a, f32>>,
}

/// Runs one step. `h`, `m` and `y_pre` must come in as zeros.
pub(crate) fn step_forward(product: Product, weights: &Weights, step: Step, scratch: &mut [f32]) {
    let Step { mut lanes, h_prev, h_far, mut h, mut c, mut m, mut reset, mut y, y_pre } = step;
    let cell = &weights.cell;
    let block = cell.recurrent_block();
    product.add(
        h_prev,
        weights.w_hh.slice(s![block.rows.clone(), ..]),
        lanes.slice_mut(s![.., block.lanes.clone()]),
    );
    if let (Some(skip), Some(far)) = (weights.skip, h_far) {
        product.add(far, skip.slice(s![block.rows, ..]), lanes.slice_mut(s![.., block.lanes]));
    }
    if let (Some(feedback), Some((y_prev, _))) = (weights.feedback, &y) {
        for block in cell.input_blocks() {
            let rows = feedback.w_yh.slice_move(s![block.rows, ..]);
            product.add(y_prev.view(), rows, lanes.slice_mut(s![.., block.lanes]));
        }
    }
    if let Some(reset) = &mut reset {
        for row in 0..lanes.nrows() {
            cell.forward_reset(slice_mut(&mut lanes, row), slice(&h_prev, row), slice_mut(reset, row));
        }
        let block = cell.reset_block();
        product.add(
            reset.view(),
            weights.w_hh.slice(s![block.rows, ..]),
            lanes.slice_mut(s![.., block.lanes]),
        );
    }
    for row in 0..lanes.nrows() {
        let (c_prev, c) = match &mut c {
            Some((c_prev, c)) => (slice(c_prev, row), slice_mut(c, row)),
            None => (&[][..], &mut [][..]),
        };
        let out = slice_mut(m.as_mut().unwrap_or(&mut h), row);
        let lanes = slice_mut(&mut lanes, row);
        cell.forward(ForwardRow { lanes, h_prev: slice(&h_prev, row), c_prev, c, out }, scratch);
    }
    if let (Some(projection), Some(m)) = (weights.projection, &m) {
        product.add(m.view(), projection, h.view_mut());
    }
    if let (Some(feedback), Some(mut pre), Some((_, y))) = (weights.feedback, y_pre, &mut y) {
        pre += &feedback.b_y;
        product.add(h.view(), feedback.w_hy, pre.view_mut());
        for row in 0..pre.nrows() {
            let y = slice_mut(y, row);
            y.copy_from_slice(slice(&pre.view(), row));
            apply(feedback.activation, y);
        }
    }
}

/// The rows of one thread at every step or slot.
type Steps<'a> = Vec<ArrayViewMut2<'a, f32>>;

/// The work of one thread; parts that the layer does not use are empty.
struct Share<'a> {
    lanes: Steps<'a>,
    h: Steps<'a>,
    c: Steps<'a>,
    m: Steps<'a>,
    reset: Steps<'a>,
    y: Steps<'a>,
    y_pre: Steps<'a>,
}

/// Runs the scan from `lanes [N, L H]`, which hold the sums over inputs and biases.
pub(crate) fn forward(
    threads: Threads,
    packing: &Packing,
    weights: &Weights,
    lanes: Array2<f32>,
    initial: &ScanStates,
) -> ScanTape {
    let (walk, short, hidden) = (weights.walk, weights.short_walk(), weights.cell.hidden);
    let steps = |width: usize| Array2::zeros((packing.len(), width));
    let with_initial = |walk: Walk, from: &[Array2<f32>]| {
        let mut slots = Array2::zeros((walk.len(packing), from[0].ncols()));
        for (j, from) in from.iter().enumerate() {
            walk.set_initial(packing, j, from.view(), slots.view_mut());
        }
        slots
    };
    let mut tape = ScanTape {
        lanes,
        h: with_initial(walk, &initial.h),
        c: initial.c.as_ref().map(|c| with_initial(short, std::slice::from_ref(c))),
        m: weights.projection.map(|_| steps(hidden)),
        reset: weights.cell.resets_before().then(|| steps(hidden)),
        y: initial.y.as_ref().map(|y| with_initial(short, std::slice::from_ref(y))),
        y_pre: weights.feedback.map(|feedback| steps(feedback.b_y.len())),
    };
    let product = Product::for_batch(packing.batch());
    let parts = threads.parts(packing.batch(), ROWS, weights.operations(packing.len()));
    let places = packing.shares(parts, ROWS);
    let shares = shares(packing, weights, &mut tape, &places);
    run(shares, |share| scan_forward(product, packing, weights, share));
    tape
}

/// Splits the matrices of a tape by thread and step.
fn shares<'a>(
    packing: &Packing,
    weights: &Weights,
    tape: &'a mut ScanTape,
    places: &[Range<usize>],
) -> Vec<Share<'a>> {
    let ScanTape { lanes, h, c, m, reset, y, y_pre } = tape;
    let of_steps = |matrix: Option<&'a mut Array2<f32>>| {
        split(matrix, (0..packing.steps()).map(|t| packing.rows_at(t)), places)
    };
    let of_slots = |matrix: Option<&'a mut Array2<f32>>, walk: Walk| {
        split(matrix, (0..walk.slots(packing)).map(|slot| walk.slot(packing, slot).len()), places)
    };
    let short = weights.short_walk();
    let (mut lanes, mut h) = (of_steps(Some(lanes)), of_slots(Some(h), weights.walk));
    let (mut m, mut reset, mut y_pre) =
        (of_steps(m.as_mut()), of_steps(reset.as_mut()), of_steps(y_pre.as_mut()));
    let (mut c, mut y) = (of_slots(c.as_mut(), short), of_slots(y.as_mut(), short));
    let next = |parts: &mut std::vec::IntoIter<Steps<'a>>| parts.next().expect("one for each thread");
    places
        .iter()
        .map(|_| Share {
            lanes: next(&mut lanes),
            h: next(&mut h),
            c: next(&mut c),
            m: next(&mut m),
            reset: next(&mut reset),
            y: next(&mut y),
            y_pre: next(&mut y_pre),
        })
        .collect()
}

/// Splits a matrix by thread and step; without a matrix, every thread gets nothing.
fn split<'a>(
    matrix: Option<&'a mut Array2<f32>>,
    rows: impl Iterator<Item = usize>,
    places: &[Range<usize>],
) -> std::vec::IntoIter<Steps<'a>> {
    let parts = match matrix {
        Some(matrix) => split_steps(matrix.view_mut(), rows, places),
        None => places.iter().map(|_| Vec::new()).collect(),
    };
    parts.into_iter()
}

/// Runs some rows of a batch forward through time.
fn scan_forward(product: Product, packing: &Packing, weights: &Weights, share: Share) {
    let Share { mut lanes, mut h, mut c, mut m, mut reset, mut y, mut y_pre } = share;
    let (walk, short) = (weights.walk, weights.short_walk());
    let mut scratch = weights.cell.scratch();
    for t in walk.steps(packing) {
        let rows = lanes[t].nrows();
        if rows == 0 {
            continue;
        }
        let (own, prev) = (walk.own(t), walk.before(t, 1));
        let (h, h_prev, h_far) = if weights.skip.is_some() {
            let far = walk.before(t, walk.history);
            let [h, prev, far] = h.get_disjoint_mut([own, prev, far]).expect("slots are different");
            (h, prev, Some(far.slice(s![..rows, ..])))
        } else {
            let [h, prev] = h.get_disjoint_mut([own, prev]).expect("slots are different");
            (h, prev, None)
        };
        let step = Step {
            lanes: lanes[t].view_mut(),
            h_prev: h_prev.slice(s![..rows, ..]),
            h_far,
            h: h.slice_mut(s![..rows, ..]),
            c: neighbours(&mut c, short, t, rows),
            m: m.get_mut(t).map(|m| m.view_mut()),
            reset: reset.get_mut(t).map(|reset| reset.view_mut()),
            y: neighbours(&mut y, short, t, rows),
            y_pre: y_pre.get_mut(t).map(|y| y.view_mut()),
        };
        step_forward(product, weights, step, &mut scratch);
    }
}

/// The values before and after step `t`, if there are slots.
fn neighbours<'a>(
    slots: &'a mut Steps<'_>,
    walk: Walk,
    t: usize,
    rows: usize,
) -> Option<(ArrayView2<'a, f32>, ArrayViewMut2<'a, f32>)> {
    if slots.is_empty() {
        return None;
    }
    let [prev, own] = slots.get_disjoint_mut([walk.before(t, 1), walk.own(t)]).expect("slots are different");
    Some((prev.slice(s![..rows, ..]), own.slice_mut(s![..rows, ..])))
}

/// The gradients of a scan that are not written over its tape.
#[derive(Debug)]
pub(crate) struct ScanGradients {
    /// With respect to each h, including the initial ones.
    pub(crate) d_h: SlotGradients,
    /// `[B, H]`: with respect to the initial c.
    pub(crate) d_c: Option<Array2<f32>>,
    /// With respect to each y.
    pub(crate) d_y: Option<SlotGradients>,
}

/// Backpropagation through time, from the gradients `d_out [N, R]`, or `[N, O]` with feedback, of the outputs and
/// `d_final` of the final states. `tape.lanes` and `tape.y_pre` become gradients.
pub(crate) fn backward(
    threads: Threads,
    packing: &Packing,
    weights: &Weights,
    tape: &mut ScanTape,
    d_out: Array2<f32>,
    d_final: Option<&ScanStates>,
) -> ScanGradients {
    let (walk, short) = (weights.walk, weights.short_walk());
    let (d_h, d_y) = match weights.feedback {
        None => (d_out, None),
        Some(_) => (Array2::zeros((packing.len(), weights.recurrent_width())), Some(d_out)),
    };
    let mut gradients = ScanGradients {
        d_h: SlotGradients::new(walk, packing, d_h),
        d_c: tape.c.as_ref().map(|c| {
            let given = d_final.and_then(|d_final| d_final.c.clone());
            given.unwrap_or_else(|| Array2::zeros((packing.batch(), c.ncols())))
        }),
        d_y: d_y.map(|d_y| SlotGradients::new(short, packing, d_y)),
    };
    if let Some(d_final) = d_final {
        for (j, d) in d_final.h.iter().enumerate() {
            gradients.d_h.add_to_final(packing, j, d.view());
        }
        if let (Some(d_y), Some(d)) = (&mut gradients.d_y, &d_final.y) {
            d_y.add_to_final(packing, 0, d.view());
        }
    }
    let product = Product::for_batch(packing.batch());
    let parts = threads.parts(packing.batch(), ROWS, weights.operations(packing.len()));
    let places = packing.shares(parts, ROWS);
    let ScanTape { lanes, h, c, m, reset, y: _, y_pre } = tape;
    let of_steps = |matrix| split(matrix, (0..packing.steps()).map(|t| packing.rows_at(t)), &places);
    let jobs = places.iter().zip(of_steps(Some(lanes))).zip(of_steps(y_pre.as_mut()));
    let d_y = match &mut gradients.d_y {
        Some(d_y) => d_y.split(packing, &places),
        None => places.iter().map(|_| Vec::new()).collect(),
    };
    let jobs = jobs.zip(gradients.d_h.split(packing, &places)).zip(d_y);
    let jobs = jobs.zip(split(gradients.d_c.as_mut(), std::iter::once(packing.batch()), &places));
    run(jobs, |(((((places, lanes), d_y_pre), d_h), d_y), d_c)| {
        let share = ShareBack {
            places: places.clone(),
            lanes,
            d_h,
            d_y,
            d_y_pre,
            d_c,
            h: h.view(),
            c: c.as_ref().map(|c| c.view()),
            m: m.as_ref().map(|m| m.view()),
            reset: reset.is_some(),
        };
        scan_backward(product, packing, weights, share);
    });
    gradients
}

/// The work of one thread.
struct ShareBack<'a> {
    /// The rows of every step.
    places: Range<usize>,
    lanes: Steps<'a>,
    d_h: Steps<'a>,
    d_y: Steps<'a>,
    d_y_pre: Steps<'a>,
    /// One matrix, if there is a cell state.
    d_c: Steps<'a>,
    h: ArrayView2<'a, f32>,
    c: Option<ArrayView2<'a, f32>>,
    m: Option<ArrayView2<'a, f32>>,
    reset: bool,
}

/// Runs some rows of a batch backward through time.
fn scan_backward(product: Product, packing: &Packing, weights: &Weights, share: ShareBack) {
    let ShareBack { places, mut lanes, mut d_h, mut d_y, mut d_y_pre, mut d_c, h, c, m, reset } = share;
    let (walk, short, cell) = (weights.walk, weights.short_walk(), &weights.cell);
    let hidden = cell.hidden;
    let mut scratch = cell.scratch();
    let room = |needed: bool| Array2::<f32>::zeros((if needed { places.len() } else { 0 }, hidden));
    let (mut d_m, mut d_reset) = (room(m.is_some()), room(reset));
    let block = cell.recurrent_block();
    for t in walk.steps(packing).rev() {
        let rows = lanes[t].nrows();
        if rows == 0 {
            continue;
        }
        let here = |start: usize| start + places.start..start + places.start + rows;
        let slot = |walk: Walk, slot: usize| here(walk.slot(packing, slot).start);
        let mut lanes = lanes[t].view_mut();
        if let Some(feedback) = weights.feedback {
            let mut d_pre = d_y_pre[t].view_mut();
            readout_backward(feedback, d_y[short.own(t)].slice(s![..rows, ..]), &mut d_pre);
            product.add_back(d_pre.view(), feedback.w_hy, d_h[walk.own(t)].slice_mut(s![..rows, ..]));
        }
        let (own, prev) = (walk.own(t), walk.before(t, 1));
        let [d_own, d_prev] = d_h.get_disjoint_mut([own, prev]).expect("slots are different");
        let (d_own, mut d_prev) = (d_own.slice(s![..rows, ..]), d_prev.slice_mut(s![..rows, ..]));
        if let Some(projection) = weights.projection {
            let mut d_m = d_m.slice_mut(s![..rows, ..]);
            d_m.fill(0.0);
            product.add_back(d_own, projection, d_m);
        }
        let d_out = if m.is_some() { d_m.slice(s![..rows, ..]) } else { d_own };
        let h_prev = h.slice(s![slot(walk, prev), ..]);
        let out = match &m {
            Some(m) => m.slice(s![here(packing.at(t).start), ..]),
            None => h.slice(s![slot(walk, own), ..]),
        };
        let cells = c.as_ref().map(|c| {
            let (prev, own) = (slot(short, short.before(t, 1)), slot(short, short.own(t)));
            (c.slice(s![prev, ..]), c.slice(s![own, ..]))
        });
        for row in 0..rows {
            let (c_prev, c) =
                cells.as_ref().map_or((&[][..], &[][..]), |(prev, own)| (slice(prev, row), slice(own, row)));
            let d_c = d_c.first_mut().map_or(&mut [][..], |d_c| slice_mut(d_c, row));
            let row = BackwardRow {
                lanes: slice_mut(&mut lanes, row),
                h_prev: slice(&h_prev, row),
                c_prev,
                c,
                out: slice(&out, row),
                d_out: slice(&d_out, row),
                d_prev: slice_mut(&mut d_prev, row),
                d_c,
            };
            cell.backward(row, &mut scratch);
        }
        if reset {
            let mut d_reset = d_reset.slice_mut(s![..rows, ..]);
            d_reset.fill(0.0);
            let block = cell.reset_block();
            product.add_back(
                lanes.slice(s![.., block.lanes]),
                weights.w_hh.slice(s![block.rows, ..]),
                d_reset.view_mut(),
            );
            for row in 0..rows {
                let (h_prev, d_reset) = (slice(&h_prev, row), slice_mut(&mut d_reset, row));
                let (lanes, d_prev) = (slice_mut(&mut lanes, row), slice_mut(&mut d_prev, row));
                cell.backward_reset(lanes, h_prev, d_reset, d_prev, &mut scratch);
            }
        }
        let d = lanes.slice(s![.., block.lanes.clone()]);
        product.add_back(d, weights.w_hh.slice(s![block.rows.clone(), ..]), d_prev);
        if let Some(skip) = weights.skip {
            let far = d_h[walk.before(t, walk.history)].slice_mut(s![..rows, ..]);
            product.add_back(d, skip.slice(s![block.rows.clone(), ..]), far);
        }
        if let Some(feedback) = weights.feedback {
            for block in cell.input_blocks() {
                let d_y_prev = d_y[short.before(t, 1)].slice_mut(s![..rows, ..]);
                let rows = feedback.w_yh.slice(s![block.rows, ..]);
                product.add_back(lanes.slice(s![.., block.lanes]), rows, d_y_prev);
            }
        }
    }
}

/// `d_pre = d_y act'`, written over the pre-activations of y.
fn readout_backward(feedback: FeedbackWeights, d_y: ArrayView2<f32>, pre: &mut ArrayViewMut2<f32>) {
    let (mut y, mut d) = (vec![0.0; d_y.ncols()], vec![0.0; d_y.ncols()]);
    for (row, d_y) in d_y.rows().into_iter().enumerate() {
        let pre = slice_mut(pre, row);
        y.copy_from_slice(pre);
        apply(feedback.activation, &mut y);
        d.copy_from_slice(d_y.to_slice().expect("rows are contiguous"));
        times_slope(feedback.activation, pre, &y, &mut d);
        pre.copy_from_slice(&d);
    }
}

fn slice<'a>(matrix: &'a ArrayView2<f32>, row: usize) -> &'a [f32] {
    matrix.row(row).to_slice().expect("rows are contiguous")
}

fn slice_mut<'a>(matrix: &'a mut ArrayViewMut2<f32>, row: usize) -> &'a mut [f32] {
    matrix.row_mut(row).into_slice().expect("rows are contiguous")
}
