//! One step of one direction, forward and backward, in all rows.

use super::dressed::{self, NormGradients};
use super::{Feedback, Masks, Part, Recurrence};
use crate::Real;
use crate::activation;
use crate::cells::{custom, gru, lanes, lstm, rnn};
use crate::linear::{column_sum, matmul, matmul_at, matmul_bt};
use gatefold_model::{Activation, Cell, GruGate, LstmGate, Reset};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Zip, s};

/// The inputs of one step. Before a row's first step, the previous states are its initial ones.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a, R> {
    /// `[B, L H]`, the input's part of the pre-activations with all biases.
    pub pre_x: ArrayView2<'a, R>,
    /// `[B, R]`, h of the step before.
    pub h_prev: ArrayView2<'a, R>,
    /// `[B, H]`, an LSTM's cell state after the step before.
    pub c_prev: Option<ArrayView2<'a, R>>,
    /// `[B, R]`, h of k steps before, with a skip connection.
    pub h_skip: Option<ArrayView2<'a, R>>,
    /// `[B, O]`, the readout of the step before, with feedback.
    pub y_prev: Option<ArrayView2<'a, R>>,
    /// Whether each row takes this step, or has ended (in reverse, not begun yet); `None` means that all do.
    pub active: Option<&'a [bool]>,
    /// The step's masks.
    pub masks: Option<&'a Masks<R>>,
}

/// All intermediates of one step forward. A row that is not active keeps its states, and is zero everywhere else.
#[derive(Clone, Debug)]
pub struct StepForward<R> {
    /// `[B, L H]`, the pre-activations before peepholes and clip; with reset before the product, the candidate's
    /// includes the part from `reset_h`.
    pub pre: Array2<R>,
    /// `[B, L H]`, the numbers kept of them; see [`crate::cells`].
    pub saved: Array2<R>,
    /// `[B, H]`, `r h(t-1)`, with reset before the product.
    pub reset_h: Option<Array2<R>>,
    /// `[B, H]`, an LSTM's cell state after the step.
    pub c: Option<Array2<R>>,
    /// `[B, H]`, that state before zoneout.
    pub new_c: Option<Array2<R>>,
    /// `[B, H]`, the cell's output, before a projection.
    pub cell: Array2<R>,
    /// `[B, R]`, h: the cell's output, projected if there is a projection.
    pub h: Array2<R>,
    /// `[B, O]`, the readout, with feedback.
    pub y: Option<Array2<R>>,
}

pub(super) fn is_active(active: Option<&[bool]>, row: usize) -> bool {
    active.is_none_or(|active| active[row])
}

/// Replaces the rows that are not active by those of `other`, or by zeros.
fn keep_rows<R: Real>(values: &mut Array2<R>, active: Option<&[bool]>, other: Option<ArrayView2<R>>) {
    for row in (0..values.nrows()).filter(|&row| !is_active(active, row)) {
        match other {
            Some(other) => values.row_mut(row).assign(&other.row(row)),
            None => values.row_mut(row).fill(R::ZERO),
        }
    }
}

/// Splits into the active rows, with zeros elsewhere, and the other rows.
fn split_rows<R: Real>(values: &Array2<R>, active: Option<&[bool]>) -> (Array2<R>, Array2<R>) {
    let (mut into, mut past) = (values.clone(), values.clone());
    for row in 0..values.nrows() {
        let emptied = if is_active(active, row) { &mut past } else { &mut into };
        emptied.row_mut(row).fill(R::ZERO);
    }
    (into, past)
}

/// A unit's lanes.
pub(super) fn unit_lanes<R: Real, const L: usize>(
    values: &Array2<R>,
    row: usize,
    unit: usize,
    hidden: usize,
) -> [R; L] {
    std::array::from_fn(|lane| values[[row, lane * hidden + unit]])
}

pub(super) fn set_unit_lanes<R: Real>(
    values: &mut Array2<R>,
    row: usize,
    unit: usize,
    hidden: usize,
    lanes: &[R],
) {
    for (lane, &value) in lanes.iter().enumerate() {
        values[[row, lane * hidden + unit]] = value;
    }
}

pub(super) fn unit_peephole<R: Real>(
    peephole: Option<ArrayView1<R>>,
    unit: usize,
    hidden: usize,
) -> lstm::Peephole<R> {
    peephole.map_or([R::ZERO; 3], |p| std::array::from_fn(|block| p[block * hidden + unit]))
}

/// One time step: the pre-activations
/// `pre = pre_x + y(t-1) W_yh^T + h(t-1) W_hh^T + h(t-k) W_sh^T`, each in its lanes, the cell in every row and unit, then
/// the projection or the readout.
pub fn step_forward<R: Real>(recurrence: &Recurrence<R>, input: &StepInput<R>) -> StepForward<R> {
    let Recurrence { cell, w_hh, .. } = *recurrence;
    let (batch, hidden) = (input.pre_x.nrows(), recurrence.hidden());
    let zeros = || Array2::zeros((batch, hidden));
    let mut pre = input.pre_x.to_owned();
    if let (Some(feedback), Some(y_prev)) = (recurrence.feedback, input.y_prev) {
        Part::Input.add(&cell, matmul_bt(y_prev, feedback.w_yh).view(), pre.view_mut());
    }
    if let (Some(skip), Some(h_skip)) = (recurrence.skip, input.h_skip) {
        Part::Recurrent.add(&cell, matmul_bt(h_skip, skip.w_sh).view(), pre.view_mut());
    }
    let mut product = dressed::recurrent_product(recurrence, input.h_prev, input.masks);
    let new = GruGate::New as usize * hidden..(GruGate::New as usize + 1) * hidden;
    if recurrence.resets_before() {
        product.slice_mut(s![.., new.clone()]).fill(R::ZERO);
    }
    Part::Recurrent.add(&cell, product.view(), pre.view_mut());

    let mut step = StepForward {
        saved: Array2::zeros(pre.dim()),
        reset_h: recurrence.resets_before().then(zeros),
        c: cell.has_state().then(zeros),
        new_c: None,
        cell: zeros(),
        h: Array2::zeros((0, 0)),
        y: None,
        pre,
    };
    if let Some(reset_h) = &mut step.reset_h {
        let gate = cell.activations()[0];
        for ((row, unit), reset) in reset_h.indexed_iter_mut() {
            let column = GruGate::Reset as usize * hidden + unit;
            let h_prev = input.h_prev[[row, unit]];
            (step.saved[[row, column]], *reset) =
                gru::reset_forward(recurrence.gating(), gate, step.pre[[row, column]], h_prev);
        }
        let product = matmul_bt(reset_h.view(), w_hh.slice(s![new.clone(), ..]));
        step.pre.slice_mut(s![.., new]).zip_mut_with(&product, |sum, &part| *sum += part);
    }
    if recurrence.is_dressed() {
        dressed::cells_forward(recurrence, input, &mut step);
    } else {
        cells_forward(recurrence, input, &mut step);
        step.new_c = step.c.clone();
    }
    keep_rows(&mut step.saved, input.active, None);
    keep_rows(&mut step.pre, input.active, None);
    keep_rows(&mut step.cell, input.active, None);
    if let Some(reset_h) = &mut step.reset_h {
        keep_rows(reset_h, input.active, None);
    }
    if let Some(c) = &mut step.c {
        keep_rows(c, input.active, input.c_prev);
    }
    if let Some(c) = &mut step.new_c {
        keep_rows(c, input.active, None);
    }
    step.h = match recurrence.projection {
        Some(projection) => readout_forward(step.cell.view(), projection, None, Activation::Identity),
        None => step.cell.clone(),
    };
    keep_rows(&mut step.h, input.active, Some(input.h_prev));
    step.y = recurrence.feedback.map(|feedback| {
        let mut y = readout_forward(step.cell.view(), feedback.w_hy, Some(feedback.b_y), feedback.activation);
        keep_rows(&mut y, input.active, input.y_prev);
        y
    });
    step
}

/// The cell in every row and unit. With reset before the product, r's lane is there already.
fn cells_forward<R: Real>(recurrence: &Recurrence<R>, input: &StepInput<R>, step: &mut StepForward<R>) {
    let (gating, hidden) = (recurrence.gating(), recurrence.hidden());
    for row in 0..step.cell.nrows() {
        for unit in 0..hidden {
            let k = [row, unit];
            match recurrence.cell {
                Cell::Rnn { activation } => {
                    (step.saved[k], step.cell[k]) = rnn::cell_forward(gating, activation, step.pre[k]);
                }
                Cell::Lstm(lstm) => {
                    let (Some(c), Some(c_prev)) = (&mut step.c, input.c_prev) else {
                        panic!("an LSTM has a cell state");
                    };
                    let pre = unit_lanes(&step.pre, row, unit, hidden);
                    let peephole = unit_peephole(recurrence.peephole, unit, hidden);
                    let out = lstm::cell_forward(gating, &lstm, pre, peephole, c_prev[k]);
                    set_unit_lanes(&mut step.saved, row, unit, hidden, &out.saved);
                    (c[k], step.cell[k]) = (out.c, out.h);
                }
                Cell::Gru(gru) => {
                    let h_prev = input.h_prev[k];
                    if gru.reset == Reset::After {
                        let pre = unit_lanes(&step.pre, row, unit, hidden);
                        let (saved, h) = gru::after_forward(gating, gru.activations, pre, h_prev, R::ONE);
                        set_unit_lanes(&mut step.saved, row, unit, hidden, &saved);
                        step.cell[k] = h;
                    } else {
                        let [_, a_z, a_n]: [R; 3] = unit_lanes(&step.pre, row, unit, hidden);
                        let [r, ..]: [R; 3] = unit_lanes(&step.saved, row, unit, hidden);
                        let ((z, n), h) = gru::update_forward(gating, gru.activations, (a_z, a_n), h_prev);
                        set_unit_lanes(&mut step.saved, row, unit, hidden, &[r, z, n]);
                        step.cell[k] = h;
                    }
                }
                Cell::Custom(own) => {
                    let prev = input.c_prev.filter(|_| own.has_state()).map_or(input.h_prev[k], |c| c[k]);
                    let found = custom::cell_forward(&own, unit_lanes(&step.pre, row, unit, hidden), prev);
                    set_unit_lanes(&mut step.saved, row, unit, hidden, &found.saved);
                    step.cell[k] = found.h;
                    if let Some(c) = &mut step.c {
                        c[k] = found.state;
                    }
                }
            }
        }
    }
}

/// A projection, or a readout that feeds back: `y = act(x W^T + b)`, `x [B, H]`, `W [O, H]`, `b [O]` to `[B, O]`.
pub fn readout_forward<R: Real>(
    x: ArrayView2<R>,
    weight: ArrayView2<R>,
    bias: Option<ArrayView1<R>>,
    function: Activation,
) -> Array2<R> {
    let mut y = matmul_bt(x, weight);
    if let Some(bias) = bias {
        y += &bias;
    }
    y.mapv_inplace(|pre| activation::apply(function, pre));
    y
}

/// The result of [`readout_backward`].
#[derive(Clone, Debug)]
pub struct ReadoutBackward<R> {
    /// `[B, O]`, the cotangent of the pre-activations.
    pub d_pre: Array2<R>,
    /// `[B, H]`
    pub d_x: Array2<R>,
    /// `[O, H]`
    pub d_weight: Array2<R>,
    /// `[O]`
    pub d_bias: Array1<R>,
}

/// The chain rule through [`readout_forward`]: `d_a = d_y act'(a)`, `d_x = d_a W`, `d_W = d_a^T x`,
/// `d_b = column sums of d_a`.
pub fn readout_backward<R: Real>(
    x: ArrayView2<R>,
    weight: ArrayView2<R>,
    bias: Option<ArrayView1<R>>,
    function: Activation,
    d_y: ArrayView2<R>,
) -> ReadoutBackward<R> {
    let pre = readout_forward(x, weight, bias, Activation::Identity);
    let d_pre = Zip::from(&d_y).and(&pre).map_collect(|&d, &pre| d * activation::slope(function, pre));
    ReadoutBackward {
        d_x: matmul(d_pre.view(), weight),
        d_weight: matmul_at(d_pre.view(), x),
        d_bias: column_sum(d_pre.view()),
        d_pre,
    }
}

/// The inputs and results of the forward step that backward needs.
#[derive(Clone, Copy, Debug)]
pub struct StepSaved<'a, R> {
    /// `[B, L H]`
    pub saved: ArrayView2<'a, R>,
    /// `[B, R]`
    pub h_prev: ArrayView2<'a, R>,
    /// `[B, H]`, an LSTM's cell state before the step.
    pub c_prev: Option<ArrayView2<'a, R>>,
    /// `[B, H]`, and after it.
    pub c: Option<ArrayView2<'a, R>>,
    /// `[B, H]`, the cell's output, which a projection or a readout reads.
    pub cell: Option<ArrayView2<'a, R>>,
    /// As in [`StepInput`].
    pub active: Option<&'a [bool]>,
    /// As in [`StepInput`].
    pub masks: Option<&'a Masks<R>>,
}

/// The cotangents known before a step runs backward.
#[derive(Clone, Copy, Debug)]
pub struct StepCotangents<'a, R> {
    /// `[B, R]`, of h: from the loss, and from later steps bypassing all weights.
    pub d_h: ArrayView2<'a, R>,
    /// `[B, H]`, of an LSTM's cell state after the step.
    pub d_c: Option<ArrayView2<'a, R>>,
    /// `[B, O]`, of the readout, with feedback.
    pub d_y: Option<ArrayView2<'a, R>>,
    /// `[B, L H]`, the next step's `d_pre`, if its part through the weights is not included above yet.
    pub d_pre_next: Option<ArrayView2<'a, R>>,
    /// `[B, L H]`, the `d_pre` of k steps later, likewise.
    pub d_pre_skip: Option<ArrayView2<'a, R>>,
}

/// All intermediates of one step backward.
#[derive(Clone, Debug)]
pub struct StepBackward<R> {
    /// `[B, R]`, the whole cotangent of this step's h.
    pub d_h: Array2<R>,
    /// `[B, O]`, the whole cotangent of this step's readout.
    pub d_y: Option<Array2<R>>,
    /// The gradients of the projection or the readout.
    pub readout: Option<ReadoutBackward<R>>,
    /// `[B, H]`, the cotangent of the cell's output.
    pub d_cell: Array2<R>,
    /// `[B, L H]`, the cotangent of this step's pre-activations.
    pub d_pre: Array2<R>,
    /// `[B, R]`, the share of the previous h that bypasses the recurrent weights (with reset before the product, those
    /// of r and z): a GRU's `d_h z`, and the whole cotangent in a row that is not active.
    pub d_h_prev: Array2<R>,
    /// `[B, H]`, the cotangent of the cell state before this step.
    pub d_c_prev: Option<Array2<R>>,
    /// `[B, O]`, the cotangent passed to the previous step's readout in rows that are not active.
    pub d_y_prev: Option<Array2<R>>,
    /// The gradients of a normalised cell state.
    pub norm: Option<NormGradients<R>>,
}

/// One time step backward: `d_h = d_h + d_pre(t+1) W_hh + d_pre(t+k) W_sh`, `d_y = d_y + d_pre(t+1) W_yh`, then the
/// readout's backward and the cell's in every row and unit.
pub fn step_backward<R: Real>(
    recurrence: &Recurrence<R>,
    kept: &StepSaved<R>,
    cotangents: &StepCotangents<R>,
) -> StepBackward<R> {
    let (batch, hidden) = (kept.saved.nrows(), recurrence.hidden());
    assert!(!recurrence.is_dressed() || cotangents.d_pre_next.is_none(), "it is included in d_h");
    let mut d_h = cotangents.d_h.to_owned();
    let mut d_y = cotangents.d_y.map(|d_y| d_y.to_owned());
    if let Some(d_pre) = cotangents.d_pre_next {
        d_h += &initial_backward(recurrence, d_pre);
        if let Some(d_y) = &mut d_y {
            *d_y += &feedback_backward(recurrence, d_pre);
        }
    }
    if let Some(d_pre) = cotangents.d_pre_skip {
        d_h += &skip_backward(recurrence, d_pre);
    }

    // Rows that are not active hand everything on, and nothing into the step.
    let (mut d_cell, mut d_h_prev) = split_rows(&d_h, kept.active);
    let (mut readout, mut d_y_prev) = (None, None);
    let cell_output = || kept.cell.expect("the cell's output is kept for a readout");
    if let Some(projection) = recurrence.projection {
        let back = readout_backward(cell_output(), projection, None, Activation::Identity, d_cell.view());
        d_cell = back.d_x.clone();
        readout = Some(back);
    }
    if let (Some(feedback), Some(d_y)) = (recurrence.feedback, &d_y) {
        let (into_readout, past) = split_rows(d_y, kept.active);
        d_y_prev = Some(past);
        let Feedback { w_hy, b_y, activation, .. } = feedback;
        let back = readout_backward(cell_output(), w_hy, Some(b_y), activation, into_readout.view());
        d_cell += &back.d_x;
        readout = Some(back);
    }

    let mut d_pre = Array2::zeros((batch, lanes(&recurrence.cell) * hidden));
    let mut d_c_prev = cotangents.d_c.map(|d_c| d_c.to_owned());
    if recurrence.is_dressed() {
        let carried = (&mut d_h_prev, &mut d_c_prev);
        let norm = dressed::cells_backward(recurrence, kept, &d_cell, carried, &mut d_pre);
        return StepBackward { d_h, d_y, readout, d_cell, d_pre, d_h_prev, d_c_prev, d_y_prev, norm };
    }
    for row in (0..batch).filter(|&row| is_active(kept.active, row)) {
        for unit in 0..hidden {
            let carry = d_c_prev.as_mut().map(|d_c| &mut d_c[[row, unit]]);
            let (lanes, past) = cell_backward(recurrence, kept, (row, unit), d_cell[[row, unit]], carry);
            set_unit_lanes(&mut d_pre, row, unit, hidden, &lanes);
            if let Some(past) = past {
                d_h_prev[[row, unit]] += past;
            }
        }
    }
    if recurrence.resets_before() {
        resets_backward(recurrence, kept, &mut d_pre, &mut d_h_prev);
    }
    StepBackward { d_h, d_y, readout, d_cell, d_pre, d_h_prev, d_c_prev, d_y_prev, norm: None }
}

/// The cotangents of a unit's lanes, and in a GRU the part of `h(t-1)`'s that bypasses all weights. An LSTM's `carry`
/// is the cotangent of the cell state, first after and then before the step. With reset before the product, r's lane
/// stays zero.
fn cell_backward<R: Real>(
    recurrence: &Recurrence<R>,
    kept: &StepSaved<R>,
    (row, unit): (usize, usize),
    d_h: R,
    carry: Option<&mut R>,
) -> (Vec<R>, Option<R>) {
    let (gating, hidden, k) = (recurrence.gating(), recurrence.hidden(), [row, unit]);
    let saved = |lane: usize| kept.saved[[row, lane * hidden + unit]];
    match recurrence.cell {
        Cell::Rnn { activation } => (vec![rnn::cell_backward(gating, activation, saved(0), d_h)], None),
        Cell::Lstm(lstm) => {
            let (Some(d_c), Some(c_prev), Some(c)) = (carry, kept.c_prev, kept.c) else {
                panic!("an LSTM has a cell state");
            };
            let peephole = unit_peephole(recurrence.peephole, unit, hidden);
            let gates = LstmGate::ALL.map(|gate| saved(gate as usize));
            let states = (c_prev[k], c[k]);
            let back = lstm::cell_backward(gating, &lstm, gates, peephole, states, d_h, *d_c);
            *d_c = back.d_c_prev;
            (back.d_pre.to_vec(), None)
        }
        Cell::Gru(gru) if gru.reset == Reset::After => {
            let lanes = std::array::from_fn(saved);
            let (d_pre, past) =
                gru::after_backward(gating, gru.activations, lanes, kept.h_prev[k], d_h, R::ONE);
            (d_pre.to_vec(), Some(past))
        }
        Cell::Gru(gru) => {
            let lanes = (saved(GruGate::Update as usize), saved(GruGate::New as usize));
            let (d_z, d_n, past) =
                gru::update_backward(gating, gru.activations, lanes, kept.h_prev[k], d_h, R::ONE);
            (vec![R::ZERO, d_z, d_n], Some(past))
        }
        Cell::Custom(own) => {
            let lanes = std::array::from_fn(saved);
            match (carry, kept.c_prev, kept.c) {
                (Some(d_c), Some(c_prev), Some(c)) if own.has_state() => {
                    let back = custom::cell_backward(&own, lanes, (c_prev[k], c[k]), d_h, *d_c);
                    *d_c = back.prev;
                    (back.pre.to_vec(), None)
                }
                _ => {
                    let states = (kept.h_prev[k], R::ZERO);
                    let back = custom::cell_backward(&own, lanes, states, d_h, R::ZERO);
                    (back.pre.to_vec(), Some(back.prev))
                }
            }
        }
    }
}

/// Reset before the product: `d_reset_h = d_a_n U_n`, then r's lane and the share of `h(t-1)` through it.
fn resets_backward<R: Real>(
    recurrence: &Recurrence<R>,
    kept: &StepSaved<R>,
    d_pre: &mut Array2<R>,
    d_h_prev: &mut Array2<R>,
) {
    let hidden = recurrence.hidden();
    let new = GruGate::New as usize * hidden..(GruGate::New as usize + 1) * hidden;
    let d_reset_h = matmul(d_pre.slice(s![.., new.clone()]), recurrence.w_hh.slice(s![new, ..]));
    let gate = recurrence.cell.activations()[0];
    for ((row, unit), &d) in d_reset_h.indexed_iter() {
        let column = GruGate::Reset as usize * hidden + unit;
        let (d_r, past) = gru::reset_backward(
            recurrence.gating(),
            gate,
            kept.saved[[row, column]],
            kept.h_prev[[row, unit]],
            d,
        );
        d_pre[[row, column]] = d_r;
        d_h_prev[[row, unit]] += past;
    }
}

/// The share of a step's `d_pre [B, L H]` in the cotangent of the previous h, `d_pre W_hh [B, R]`; at the first step,
/// of the initial h. With reset before the product it excludes the candidate's part, which goes through r.
pub fn initial_backward<R: Real>(recurrence: &Recurrence<R>, d_pre: ArrayView2<R>) -> Array2<R> {
    let mut by_gate = Part::Recurrent.of(&recurrence.cell, d_pre);
    if recurrence.resets_before() {
        by_gate.slice_mut(s![.., GruGate::New as usize * recurrence.hidden()..]).fill(R::ZERO);
    }
    matmul(by_gate.view(), recurrence.w_hh)
}

/// The share of a step's `d_pre [B, L H]` in the cotangent of h from k steps before, `d_pre W_sh [B, R]`.
///
/// # Panics
/// If there is no skip connection.
pub fn skip_backward<R: Real>(recurrence: &Recurrence<R>, d_pre: ArrayView2<R>) -> Array2<R> {
    let skip = recurrence.skip.expect("there is a skip connection");
    matmul(Part::Recurrent.of(&recurrence.cell, d_pre).view(), skip.w_sh)
}

/// The share of a step's `d_pre [B, L H]` in the cotangent of the previous readout, `d_pre W_yh [B, O]`.
///
/// # Panics
/// If no readout feeds back.
pub fn feedback_backward<R: Real>(recurrence: &Recurrence<R>, d_pre: ArrayView2<R>) -> Array2<R> {
    let feedback = recurrence.feedback.expect("a readout feeds back");
    matmul(Part::Input.of(&recurrence.cell, d_pre).view(), feedback.w_yh)
}
