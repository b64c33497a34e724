//! Mirrors of a scan's kernels, in the layout of the device: a unit's lanes side by side, `[B, H, L]`, and rows of h
//! that may hold more than h. They run one stage of one step at a time; the equations are those of [`crate::cells`].
//!
//! `K` counts the numbers that a product reads, `C` the columns of a row that recur, `k` the slots of initial values of
//! h.

use crate::Real;
use crate::activation;
use crate::cells::{Gating, custom, gru, lanes, lstm, rnn};
use gatefold_model::{Activation, Cell, GruCell, Reset};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut3};
use std::ops::Range;

/// The cell or stage that a step's kernel is joined with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// A cell with one stage.
    Cell(Cell),
    /// The first stage of a GRU with reset before the product.
    Reset(GruCell),
    /// The second stage of that GRU.
    Update(GruCell),
    /// A projection or a readout.
    Readout(Activation),
}

impl Stage {
    /// L
    pub fn lanes(self) -> usize {
        match self {
            Stage::Cell(cell) => lanes(&cell),
            Stage::Reset(_) | Stage::Update(_) => 4,
            Stage::Readout(_) => 1,
        }
    }

    /// The number of lanes that the step's product adds to.
    pub fn product_lanes(self) -> usize {
        if matches!(self, Stage::Update(_)) { 1 } else { self.lanes() }
    }

    fn gating<R: Real>(self, clip: Option<R>) -> Gating<R> {
        match self {
            Stage::Cell(cell) => Gating::new(&cell, clip),
            Stage::Reset(cell) | Stage::Update(cell) => Gating::new(&Cell::Gru(cell), clip),
            Stage::Readout(activation) => Gating { clip: None, keeps_pre: !activation.slope_from_output() },
        }
    }
}

/// The inputs of a stage.
#[derive(Clone, Copy, Debug)]
pub struct StageInput<'a, R> {
    /// `[K, H, product lanes]`
    pub weights: ArrayView3<'a, R>,
    /// `[B, K]`
    pub read: ArrayView2<'a, R>,
    /// `[B, H, L]`, the slot of the step.
    pub x: ArrayView3<'a, R>,
    /// `[B, H]`
    pub h_prev: ArrayView2<'a, R>,
    /// `[B, H]`
    pub state_prev: ArrayView2<'a, R>,
    /// `[up to 3, H]`, the units' own numbers.
    pub own: ArrayView2<'a, R>,
}

/// The results of a stage.
#[derive(Clone, Debug)]
pub struct StageForward<R> {
    /// `[B, H, L]`
    pub saved: Array3<R>,
    /// `[B, H]`
    pub h: Array2<R>,
    /// `[B, H]`, zeros where the cell has no state.
    pub state: Array2<R>,
}

/// One stage of one step forward.
pub fn step_forward<R: Real>(stage: Stage, clip: Option<R>, input: &StageInput<R>) -> StageForward<R> {
    let (batch, hidden) = input.h_prev.dim();
    let gating = stage.gating(clip);
    let mut out = StageForward {
        saved: Array3::zeros((batch, hidden, stage.lanes())),
        h: Array2::zeros((batch, hidden)),
        state: Array2::zeros((batch, hidden)),
    };
    for row in 0..batch {
        for unit in 0..hidden {
            let k = [row, unit];
            let own = own_numbers(input.own, unit);
            let product = |lane: usize| {
                (0..input.read.ncols())
                    .fold(R::ZERO, |sum, at| sum + input.read[[row, at]] * input.weights[[at, unit, lane]])
            };
            let pre = |lane: usize| {
                let x = if matches!(stage, Stage::Readout(_)) { own[0] } else { input.x[[row, unit, lane]] };
                x + product(lane)
            };
            let h_prev = input.h_prev[k];
            let saved: Vec<R>;
            (saved, out.h[k]) = match stage {
                Stage::Cell(Cell::Rnn { activation }) => {
                    let (kept, h) = rnn::cell_forward(gating, activation, pre(0));
                    (vec![kept], h)
                }
                Stage::Cell(Cell::Lstm(cell)) => {
                    let pre = std::array::from_fn(pre);
                    let found = lstm::cell_forward(gating, &cell, pre, own, input.state_prev[k]);
                    out.state[k] = found.c;
                    (found.saved.to_vec(), found.h)
                }
                Stage::Cell(Cell::Gru(cell)) => {
                    assert_eq!(cell.reset, Reset::After, "reset before the product has two stages");
                    let (saved, h) = gru::after_forward(
                        gating,
                        cell.activations,
                        std::array::from_fn(pre),
                        h_prev,
                        R::ONE,
                    );
                    (saved.to_vec(), h)
                }
                Stage::Cell(Cell::Custom(own)) => {
                    let prev = if own.has_state() { input.state_prev[k] } else { h_prev };
                    let found = custom::cell_forward(&own, std::array::from_fn(pre), prev);
                    if own.has_state() {
                        out.state[k] = found.state;
                    }
                    (found.saved.to_vec(), found.h)
                }
                Stage::Reset(cell) => {
                    let gate = cell.activations.gate;
                    let (r, reset_h) = gru::reset_forward(gating, gate, pre(0), h_prev);
                    (vec![r, gating.kept(gate, pre(1)), pre(2), R::ZERO], reset_h)
                }
                Stage::Update(cell) => {
                    let x = |lane: usize| input.x[[row, unit, lane]];
                    let z = gating.value(cell.activations.gate, x(1));
                    let n = gating.kept(cell.activations.candidate, x(2) + product(0));
                    let candidate = gating.value(cell.activations.candidate, n);
                    (vec![x(0), x(1), n, x(3)], (R::ONE - z) * candidate + z * h_prev)
                }
                Stage::Readout(activation) => {
                    let kept = gating.kept(activation, pre(0));
                    (vec![kept], gating.value(activation, kept))
                }
            };
            for (lane, value) in saved.into_iter().enumerate() {
                out.saved[[row, unit, lane]] = value;
            }
        }
    }
    out
}

fn own_numbers<R: Real>(own: ArrayView2<R>, unit: usize) -> [R; 3] {
    std::array::from_fn(|k| if k < own.nrows() { own[[k, unit]] } else { R::ZERO })
}

/// `d_pre W^T`, `[B, C]`: the gradient of the values that slots `[B, H, L]` read through `[H, C, L]`.
pub fn recurrent_gradient<R: Real>(d_pre: ArrayView3<R>, weights: ArrayView3<R>) -> Array2<R> {
    let (batch, hidden, lanes) = d_pre.dim();
    Array2::from_shape_fn((batch, weights.dim().1), |(row, column)| {
        (0..hidden).fold(R::ZERO, |sum, unit| {
            (0..lanes).fold(sum, |sum, lane| sum + d_pre[[row, unit, lane]] * weights[[unit, column, lane]])
        })
    })
}

/// The forward results that a stage's backward needs.
#[derive(Clone, Copy, Debug)]
pub struct StageSaved<'a, R> {
    /// `[B, H, L]`
    pub saved: ArrayView3<'a, R>,
    /// `[B, H]`
    pub h_prev: ArrayView2<'a, R>,
    /// `[B, H]`
    pub state_prev: ArrayView2<'a, R>,
    /// `[B, H]`
    pub state: ArrayView2<'a, R>,
    /// `[up to 3, H]`
    pub own: ArrayView2<'a, R>,
}

/// The gradients of a stage.
#[derive(Clone, Debug)]
pub struct StageBackward<R> {
    /// `[B, H, L]`
    pub d_pre: Array3<R>,
    /// `[B, H]`, the gradient for the step before that bypasses all weights; zeros if there is none.
    pub carry: Array2<R>,
    /// `[B, H]`, only from the second stage: the gradient of the candidate's pre-activation, for the first stage.
    pub inner: Array2<R>,
}

/// One stage of one step backward, from the whole gradient of its result, except for the part carried by the following
/// step.
///
/// # Panics
/// For a readout, whose backward is [`readout_backward`].
pub fn step_backward<R: Real>(
    stage: Stage,
    clip: Option<R>,
    kept: &StageSaved<R>,
    d_h: ArrayView2<R>,
    carry: ArrayView2<R>,
) -> StageBackward<R> {
    let (batch, hidden) = d_h.dim();
    let gating = stage.gating(clip);
    let mut out = StageBackward {
        d_pre: Array3::zeros(kept.saved.dim()),
        carry: Array2::zeros((batch, hidden)),
        inner: Array2::zeros((batch, hidden)),
    };
    for row in 0..batch {
        for unit in 0..hidden {
            let k = [row, unit];
            let saved = |lane: usize| kept.saved[[row, unit, lane]];
            let (d_h, carry, h_prev) = (d_h[k], carry[k], kept.h_prev[k]);
            let d_pre: Vec<R> = match stage {
                Stage::Cell(Cell::Rnn { activation }) => {
                    vec![rnn::cell_backward(gating, activation, saved(0), d_h)]
                }
                Stage::Cell(Cell::Lstm(cell)) => {
                    let own = own_numbers(kept.own, unit);
                    let (gates, states) = (std::array::from_fn(saved), (kept.state_prev[k], kept.state[k]));
                    let back = lstm::cell_backward(gating, &cell, gates, own, states, d_h, carry);
                    out.carry[k] = back.d_c_prev;
                    back.d_pre.to_vec()
                }
                Stage::Cell(Cell::Gru(cell)) => {
                    let lanes = std::array::from_fn(saved);
                    let (d_pre, past) =
                        gru::after_backward(gating, cell.activations, lanes, h_prev, d_h + carry, R::ONE);
                    out.carry[k] = past;
                    d_pre.to_vec()
                }
                Stage::Cell(Cell::Custom(own)) => {
                    let (states, d_h, d_state) = match own.has_state() {
                        true => ((kept.state_prev[k], kept.state[k]), d_h, carry),
                        false => ((h_prev, R::ZERO), d_h + carry, R::ZERO),
                    };
                    let saved = std::array::from_fn(saved);
                    let back = custom::cell_backward(&own, saved, states, d_h, d_state);
                    out.carry[k] = back.prev;
                    back.pre.to_vec()
                }
                Stage::Update(cell) => {
                    let lanes = (saved(1), saved(2));
                    let (d_z, d_n, past) =
                        gru::update_backward(gating, cell.activations, lanes, h_prev, d_h + carry, R::ONE);
                    (out.carry[k], out.inner[k]) = (past, d_n);
                    vec![saved(0), d_z, d_n, R::ZERO]
                }
                Stage::Reset(cell) => {
                    let gate = cell.activations.gate;
                    let (d_r, past) = gru::reset_backward(gating, gate, saved(0), h_prev, d_h);
                    out.carry[k] = carry + past;
                    vec![d_r, saved(1), saved(2), saved(3)]
                }
                Stage::Readout(_) => panic!("a readout's backward is readout_backward"),
            };
            for (lane, value) in d_pre.into_iter().enumerate() {
                out.d_pre[[row, unit, lane]] = value;
            }
        }
    }
    out
}

/// The gradient of a readout's pre-activations: `d_p act'`, from what [`step_forward`] saved, `[B, R]`.
pub fn readout_backward<R: Real>(
    function: Activation,
    saved: ArrayView2<R>,
    d_p: ArrayView2<R>,
) -> Array2<R> {
    let of_output = function.slope_from_output();
    Array2::from_shape_fn(saved.dim(), |k| {
        let slope = if of_output { activation::derivative } else { activation::slope };
        d_p[k] * slope(function, saved[k])
    })
}

/// The slots of rows in a buffer with k more slots than steps.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'a> {
    /// T
    pub steps: usize,
    /// k
    pub history: usize,
    /// Whether the scan is reversed: step t is in slot `t + k` of a forward scan, in slot `t` of a reverse scan.
    pub reverse: bool,
    /// The steps of each row; T without lengths.
    pub lengths: Option<&'a [usize]>,
}

impl Slots<'_> {
    /// The steps of a row.
    pub fn len(&self, row: usize) -> usize {
        self.lengths.map_or(self.steps, |lengths| lengths[row])
    }

    /// The slot of the first of a row's `given` initial values, those next to its first step.
    pub fn start(&self, row: usize, given: usize) -> usize {
        if self.reverse { self.len(row) } else { self.history - given }
    }

    /// The slot of the first of a row's `given` final values, those next to its last step.
    pub fn end(&self, row: usize, given: usize) -> usize {
        if self.reverse { 0 } else { self.len(row) + self.history - given }
    }
}

/// Writes each row's initial values before its first step, zeros if none are given, and zeros where a row has neither a
/// step nor an initial value. `h [slots, B, width]`, `start [given, B, C]`.
pub fn initial_rows<R: Real>(
    slots: &Slots<'_>,
    columns: Range<usize>,
    start: Option<ArrayView3<R>>,
    mut h: ArrayViewMut3<R>,
) {
    let given = start.map_or(0, |start| start.dim().0);
    for row in 0..h.dim().1 {
        let len = slots.len(row);
        let (first, last) = if slots.reverse { (0, len) } else { (slots.history, slots.history + len) };
        for slot in (0..h.dim().0).filter(|slot| !(first..last).contains(slot)) {
            for (at, column) in columns.clone().enumerate() {
                let place = slot.checked_sub(slots.start(row, given)).filter(|&place| place < given);
                let value = start.zip(place).map_or(R::ZERO, |(start, place)| start[[place, row, at]]);
                h[[slot, row, column]] = value;
            }
        }
    }
}

/// Each row's final values, `[given, B, C]`.
pub fn final_rows<R: Real>(
    slots: &Slots<'_>,
    columns: Range<usize>,
    given: usize,
    h: ArrayView3<R>,
) -> Array3<R> {
    Array3::from_shape_fn((given, h.dim().1, columns.len()), |(place, row, at)| {
        h[[slots.end(row, given) + place, row, columns.start + at]]
    })
}

/// The lengths of the sequences that a dilated scan interleaves, those of each row's first steps first: `[d, B]`.
pub fn interleaved_lengths(lengths: &[usize], dilation: usize) -> Vec<usize> {
    let of = |r: usize| lengths.iter().map(move |&len| (r..len).step_by(dilation).count());
    (0..dilation).flat_map(of).collect()
}

/// The states of a dilated scan past the ends of rows, `[d, B, H]`: from the order of time to that of the interleaved
/// sequences, or `back`. The j-th of a row with L steps is one of sequence `(L + j) mod d`.
pub fn interleaved_rows<R: Real>(x: ArrayView3<R>, lengths: &[usize], back: bool) -> Array3<R> {
    let mut out = Array3::zeros(x.dim());
    for ((j, row, column), _) in x.indexed_iter() {
        let sequence = (lengths[row] + j) % x.dim().0;
        let (to, from) = if back { (j, sequence) } else { (sequence, j) };
        out[[to, row, column]] = x[[from, row, column]];
    }
    out
}

/// A scan's output, `[T, B, C]`; zero where a row has no step.
pub fn scan_output<R: Real>(slots: &Slots<'_>, columns: Range<usize>, h: ArrayView3<R>) -> Array3<R> {
    let first = if slots.reverse { 0 } else { slots.history };
    Array3::from_shape_fn((slots.steps, h.dim().1, columns.len()), |(t, row, at)| {
        if t < slots.len(row) { h[[first + t, row, columns.start + at]] } else { R::ZERO }
    })
}

/// The gradients of the initial values, `[k, B, C]`: from the first step (`d_pre [T, B, H, L]`) through the weights
/// `[H, C, L]`, from the step that reads each slot through those of a skip `[H, S, L]`, and the slot's gradient as a
/// final value.
pub fn initial_backward<R: Real>(
    slots: &Slots<'_>,
    d_pre: ArrayView4<R>,
    weights: ArrayView3<R>,
    skip: Option<ArrayView3<R>>,
    d_final: Option<ArrayView3<R>>,
) -> Array3<R> {
    let (_, batch, hidden, lanes) = d_pre.dim();
    let k = slots.history;
    let mut d = Array3::zeros((k, batch, weights.dim().1));
    for row in 0..batch {
        let len = slots.len(row);
        let mut add = |slot: usize, step: usize, weights: ArrayView3<R>| {
            for unit in 0..hidden {
                for column in 0..weights.dim().1 {
                    for lane in 0..lanes {
                        d[[slot, row, column]] +=
                            d_pre[[step, row, unit, lane]] * weights[[unit, column, lane]];
                    }
                }
            }
        };
        if len > 0 {
            let (slot, step) = if slots.reverse { (0, len - 1) } else { (k - 1, 0) };
            add(slot, step, weights);
        }
        for slot in 0..k {
            let step = if slots.reverse { (slot + len).checked_sub(k) } else { Some(slot) };
            if let (Some(skip), Some(step)) = (skip, step.filter(|&step| step < len)) {
                add(slot, step, skip);
            }
        }
        let Some(d_final) = d_final else { continue };
        for slot in 0..k {
            let place = if slots.reverse { Some(slot + len) } else { slot.checked_sub(len) };
            if let Some(place) = place.filter(|&place| place < k) {
                for column in 0..d_final.dim().2 {
                    d[[slot, row, column]] += d_final[[place, row, column]];
                }
            }
        }
    }
    d
}

/// The gradient of an LSTM's peepholes, `[3, H]`, from the gradients of its pre-activations `[T B, H, 4]` and the
/// states before and after each step, `[T B, H]`.
pub fn peephole_gradient<R: Real>(
    d_pre: ArrayView3<R>,
    before: ArrayView2<R>,
    after: ArrayView2<R>,
) -> Array2<R> {
    let (rows, hidden, _) = d_pre.dim();
    Array2::from_shape_fn((3, hidden), |(block, unit)| {
        let (lane, state) = [(0, before), (1, before), (3, after)][block];
        (0..rows).fold(R::ZERO, |sum, row| sum + d_pre[[row, unit, lane]] * state[[row, unit]])
    })
}
