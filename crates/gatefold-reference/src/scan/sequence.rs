//! Whole sequences of steps in one direction.

use super::{
    Masks, NormGradients, Part, Recurrence, StepBackward, StepCotangents, StepForward, StepInput, StepSaved,
    Weights, feedback_backward, product_backward, project_input, skip_backward, step_backward, step_forward,
};
use crate::Real;
use crate::cells::lstm::PEEPHOLE_GATES;
use crate::linear::{column_sum, matmul, matmul_at, matmul_bt};
use crate::norm::{normalise_gates, normalise_gates_backward};
use gatefold_model::GruGate;
use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayView3, Axis, Zip, s};

/// The initial or final states of one direction, or their cotangents.
#[derive(Clone, Debug, PartialEq)]
pub struct States<R> {
    /// `[k, B, R]`, the last values of h, oldest first: one, or k with a skip connection, or d with a dilation.
    pub h: Array3<R>,
    /// `[d, B, H]`, an LSTM's cell state after the last d steps, oldest first: one without a dilation.
    pub c: Option<Array3<R>>,
    /// `[B, O]`, the last readout, with feedback.
    pub y: Option<Array2<R>>,
}

impl<R: Real> States<R> {
    /// Zeros for `batch` rows.
    pub fn zeros(recurrence: &Recurrence<R>, batch: usize) -> Self {
        let state = |width| Array2::zeros((batch, width));
        States {
            h: Array3::zeros((recurrence.history(), batch, recurrence.width())),
            c: recurrence
                .cell
                .has_state()
                .then(|| Array3::zeros((recurrence.dilation, batch, recurrence.hidden()))),
            y: recurrence.feedback.map(|_| state(recurrence.output())),
        }
    }

    fn newest(&self) -> ArrayView2<'_, R> {
        self.h.index_axis(Axis(0), self.h.dim().0 - 1)
    }

    fn oldest(&self) -> ArrayView2<'_, R> {
        self.h.index_axis(Axis(0), 0)
    }

    /// The h that the recurrence reads: `h(t-1)`, or `h(t-d)` with a dilation.
    fn recurs(&self, recurrence: &Recurrence<R>) -> ArrayView2<'_, R> {
        if recurrence.skip.is_some() { self.newest() } else { self.oldest() }
    }

    /// The c that goes with it.
    fn c_recurs(&self) -> Option<ArrayView2<'_, R>> {
        self.c.as_ref().map(|c| c.index_axis(Axis(0), 0))
    }
}

/// One step with the states before it.
#[derive(Clone, Debug)]
pub struct StepTape<R> {
    /// The states before the step.
    pub before: States<R>,
    /// Whether each row takes the step.
    pub active: Vec<bool>,
    /// The masks of the step.
    pub masks: Masks<R>,
    /// The results of the step.
    pub step: StepForward<R>,
}

/// All intermediates of a whole sequence.
#[derive(Clone, Debug)]
pub struct Forward<R> {
    /// One tape per time step, in the order of time for either direction.
    pub steps: Vec<StepTape<R>>,
    /// `[T, B, R]`, or `[T, B, O]` with feedback: zero past a row's end.
    pub output: Array3<R>,
    /// The states after each row's last step.
    pub final_states: States<R>,
    /// Whether the scan ran backwards in time.
    pub reverse: bool,
}

/// The time steps in the order of the scan.
fn order(steps: usize, reverse: bool) -> Box<dyn DoubleEndedIterator<Item = usize>> {
    if reverse { Box::new((0..steps).rev()) } else { Box::new(0..steps) }
}

/// Runs the whole sequence `input [T, B, I]` from initial states, forward or in reverse.
///
/// A row takes the steps `t < lengths[row]`, or all steps without lengths; at the others its states stay and its output
/// is zero. So in reverse it begins at its own last step, and a row of length 0 ends with its initial states.
///
/// # Panics
/// If shapes do not fit each other, or the sequence has no step.
pub fn forward<R: Real>(
    input: ArrayView3<R>,
    weights: &Weights<R>,
    initial: &States<R>,
    lengths: Option<&[usize]>,
    reverse: bool,
) -> Forward<R> {
    let (steps, batch, _) = input.dim();
    assert!(steps > 0, "a sequence has at least one step");
    let recurrence = &weights.recurrence;
    let pre_x = project_input(input, weights);
    let mut states = initial.clone();
    let mut output = Array3::zeros((steps, batch, recurrence.output()));
    let mut tapes = Vec::with_capacity(steps);
    for t in order(steps, reverse) {
        let active: Vec<bool> =
            (0..batch).map(|row| lengths.is_none_or(|lengths| t < lengths[row])).collect();
        let masks = recurrence.noise.masks(t, batch, recurrence);
        let step = step_forward(
            recurrence,
            &StepInput {
                pre_x: pre_x.index_axis(Axis(0), t),
                h_prev: states.recurs(recurrence),
                c_prev: states.c_recurs(),
                h_skip: recurrence.skip.map(|_| states.oldest()),
                y_prev: states.y.as_ref().map(|y| y.view()),
                active: Some(&active),
                masks: Some(&masks),
            },
        );
        let c = states.c.as_ref().zip(step.c.as_ref()).map(|(states, c)| shifted(states, c, &active));
        let after = States { h: shifted(&states.h, &step.h, &active), c, y: step.y.clone() };
        let shown = step.y.as_ref().unwrap_or(&step.h);
        for row in (0..batch).filter(|&row| active[row]) {
            output.slice_mut(s![t, row, ..]).assign(&shown.row(row));
        }
        tapes.push(StepTape { before: states, active, masks, step });
        states = after;
    }
    if reverse {
        tapes.reverse();
    }
    Forward { steps: tapes, output, final_states: states, reverse }
}

/// The history `[k, B, R]` of h, or that of c, after a step: in the rows that took it, the oldest value drops out and
/// the new one comes in.
fn shifted<R: Real>(history: &Array3<R>, h: &Array2<R>, active: &[bool]) -> Array3<R> {
    let slots = history.dim().0;
    let mut after = history.clone();
    for row in (0..active.len()).filter(|&row| active[row]) {
        for slot in 0..slots - 1 {
            after.slice_mut(s![slot, row, ..]).assign(&history.slice(s![slot + 1, row, ..]));
        }
        after.slice_mut(s![slots - 1, row, ..]).assign(&h.row(row));
    }
    after
}

/// The cotangents of a sequence's results.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, R> {
    /// Of every step's output, shaped like it; ignored past a row's end.
    pub output: ArrayView3<'a, R>,
    /// Of the final states, in addition to those of the last outputs; `None` means zeros.
    pub final_states: Option<&'a States<R>>,
}

/// All gradients of a sequence; optional parts exist where the weights do.
#[derive(Clone, Debug)]
pub struct Backward<R> {
    /// `[T, B, L H]`, with respect to the pre-activations.
    pub d_pre: Array3<R>,
    /// `[G H, I]`
    pub d_w_ih: Array2<R>,
    /// `[G H, R]`
    pub d_w_hh: Array2<R>,
    /// `[G H]`
    pub d_b_ih: Array1<R>,
    /// `[G H]`
    pub d_b_hh: Array1<R>,
    /// `[3 H]`
    pub d_peephole: Option<Array1<R>>,
    /// Those of layer normalisation.
    pub norm: Option<NormGradients<R>>,
    /// `[G H, R]`
    pub d_w_sh: Option<Array2<R>>,
    /// `[G H, O]`
    pub d_w_yh: Option<Array2<R>>,
    /// `[R, H]` of a projection, `[O, H]` of a readout that feeds back.
    pub d_readout: Option<Array2<R>>,
    /// `[O]`
    pub d_b_y: Option<Array1<R>>,
    /// `[T, B, I]`
    pub d_input: Array3<R>,
    /// With respect to the initial states.
    pub d_initial: States<R>,
    /// With respect to the states before each step, in the order of time.
    pub d_before: Vec<States<R>>,
}

/// Backpropagation through time of a whole [`forward`] pass. `d_x` are the lanes of `d_pre` with a part from the input,
/// and `d_r` those with a part from the recurrence, which differ in a GRU with reset after the product:
///
/// ```text
/// d_W_ih = sum_t d_x(t)^T x(t)       d_b_ih = sum_t d_x(t)      d_input(t) = d_x(t) W_ih
/// d_W_hh = sum_t d_r(t)^T h(t-1)     d_b_hh = sum_t d_r(t)      d_W_sh = sum_t d_r(t)^T h(t-k)
/// d_W_yh = sum_t d_x(t)^T y(t-1)     reset before the product: the rows of n read r h(t-1), not h(t-1)
/// d_p_i  = sum_t d_a_i(t) c(t-1)     d_p_f = sum_t d_a_f(t) c(t-1)     d_p_o = sum_t d_a_o(t) c(t)
/// ```
///
/// # Panics
/// If shapes do not fit each other.
pub fn backward<R: Real>(
    input: ArrayView3<R>,
    weights: &Weights<R>,
    forward: &Forward<R>,
    cotangents: &Cotangents<R>,
) -> Backward<R> {
    let (steps, batch, _) = input.dim();
    let recurrence = &weights.recurrence;
    assert_eq!(cotangents.output.dim(), forward.output.dim(), "one gradient element per output");
    let mut sums = Backward::zeros(weights, steps, batch);
    let mut d_states = cotangents.final_states.cloned().unwrap_or_else(|| States::zeros(recurrence, batch));
    for t in order(steps, forward.reverse).rev() {
        let tape = &forward.steps[t];
        let mut d_out = cotangents.output.index_axis(Axis(0), t).to_owned();
        for row in (0..batch).filter(|&row| !tape.active[row]) {
            d_out.row_mut(row).fill(R::ZERO);
        }
        let mut d_h = d_states.newest().to_owned();
        match &mut d_states.y {
            Some(d_y) => *d_y += &d_out,
            None => d_h += &d_out,
        }
        let back = step_backward(
            recurrence,
            &StepSaved {
                saved: tape.step.saved.view(),
                h_prev: tape.before.recurs(recurrence),
                c_prev: tape.before.c_recurs(),
                c: tape.step.c.as_ref().map(|c| c.view()),
                cell: Some(tape.step.cell.view()),
                active: Some(&tape.active),
                masks: Some(&tape.masks),
            },
            &StepCotangents {
                d_h: d_h.view(),
                d_c: d_states.c.as_ref().map(|d| d.index_axis(Axis(0), d.dim().0 - 1)),
                d_y: d_states.y.as_ref().map(|d| d.view()),
                d_pre_next: None,
                d_pre_skip: None,
            },
        );
        sums.add(weights, t, input.index_axis(Axis(0), t), tape, &back);
        d_states = before(recurrence, &d_states, tape, back);
        sums.d_before.push(d_states.clone());
    }
    if !forward.reverse {
        sums.d_before.reverse();
    }
    Backward { d_initial: d_states, ..sums }
}

/// The cotangents of the states before a step. `d_after` are those of the states after it, whose newest h and c are
/// already in `back`.
fn before<R: Real>(
    recurrence: &Recurrence<R>,
    d_after: &States<R>,
    tape: &StepTape<R>,
    back: StepBackward<R>,
) -> States<R> {
    let through =
        product_backward(recurrence, tape.before.recurs(recurrence), &tape.masks, back.d_pre.view());
    let d_prev = &back.d_h_prev + &through.d_h;
    let read = if recurrence.skip.is_some() { d_after.h.dim().0 - 1 } else { 0 };
    let mut h = unshifted(&d_after.h, &d_prev, read, &tape.active);
    if recurrence.skip.is_some() {
        let mut oldest = h.index_axis_mut(Axis(0), 0);
        oldest += &skip_backward(recurrence, back.d_pre.view());
    }
    let c = d_after.c.as_ref().zip(back.d_c_prev);
    let c = c.map(|(d_after, d_prev)| unshifted(d_after, &d_prev, 0, &tape.active));
    let y = back.d_y_prev.map(|d_y| d_y + feedback_backward(recurrence, back.d_pre.view()));
    States { h, c, y }
}

/// The chain rule through [`shifted`]. `d_prev [B, R]` goes to the slot `read` that the step read. In a row that has
/// ended, it is the cotangent of the newest value, handed on like the others.
fn unshifted<R: Real>(d_history: &Array3<R>, d_prev: &Array2<R>, read: usize, active: &[bool]) -> Array3<R> {
    let slots = d_history.dim().0;
    let mut before = d_history.clone();
    for (row, &active) in active.iter().enumerate() {
        if !active {
            before.slice_mut(s![slots - 1, row, ..]).assign(&d_prev.row(row));
            continue;
        }
        for slot in 1..slots {
            before.slice_mut(s![slot, row, ..]).assign(&d_history.slice(s![slot - 1, row, ..]));
        }
        before.slice_mut(s![0, row, ..]).fill(R::ZERO);
        let mut read = before.slice_mut(s![read, row, ..]);
        read += &d_prev.row(row);
    }
    before
}

impl<R: Real> Backward<R> {
    fn zeros(weights: &Weights<R>, steps: usize, batch: usize) -> Self {
        let Weights { w_ih, recurrence, .. } = weights;
        let (rows, hidden) = (w_ih.nrows(), recurrence.hidden());
        let zeros = |like: ArrayView2<R>| Array2::zeros(like.dim());
        let columns = crate::cells::lanes(&recurrence.cell) * hidden;
        Backward {
            d_pre: Array3::zeros((steps, batch, columns)),
            d_w_ih: zeros(*w_ih),
            d_w_hh: zeros(recurrence.w_hh),
            d_b_ih: Array1::zeros(rows),
            d_b_hh: Array1::zeros(rows),
            d_peephole: recurrence.peephole.map(|p| Array1::zeros(p.len())),
            norm: recurrence.norm.map(|norm| NormGradients::zeros(rows, norm.cell.map(|_| hidden))),
            d_w_sh: recurrence.skip.map(|skip| zeros(skip.w_sh)),
            d_w_yh: recurrence.feedback.map(|feedback| zeros(feedback.w_yh)),
            d_readout: recurrence.projection.or(recurrence.feedback.map(|feedback| feedback.w_hy)).map(zeros),
            d_b_y: recurrence.feedback.map(|feedback| Array1::zeros(feedback.b_y.len())),
            d_input: Array3::zeros((steps, batch, w_ih.ncols())),
            d_initial: States::zeros(recurrence, batch),
            d_before: Vec::with_capacity(steps),
        }
    }

    /// Adds the gradients of one step.
    fn add(
        &mut self,
        weights: &Weights<R>,
        t: usize,
        x: ArrayView2<R>,
        tape: &StepTape<R>,
        back: &StepBackward<R>,
    ) {
        let Recurrence { cell, norm, .. } = weights.recurrence;
        let hidden = weights.recurrence.hidden();
        let mut d_x = Part::Input.of(&cell, back.d_pre.view());
        let d_r = Part::Recurrent.of(&cell, back.d_pre.view());
        self.d_pre.index_axis_mut(Axis(0), t).assign(&back.d_pre);
        self.d_b_ih += &column_sum(d_x.view());
        self.d_b_hh += &column_sum(d_r.view());
        // Padded steps may hold anything: their d_x is zero, but zero times NaN would not be.
        let mut x = x.to_owned();
        for row in (0..x.nrows()).filter(|&row| !tape.active[row]) {
            x.row_mut(row).fill(R::ZERO);
        }
        let through = product_backward(
            &weights.recurrence,
            tape.before.recurs(&weights.recurrence),
            &tape.masks,
            back.d_pre.view(),
        );
        if let (Some(norm), Some(sums)) = (norm, &mut self.norm) {
            let product = matmul_bt(x.view(), weights.w_ih);
            let normal = normalise_gates(&cell, product.view(), norm.epsilon);
            sums.d_gain_ih += &column_sum((&normal * &d_x).view());
            let d_normal = d_x * norm.gain_ih;
            d_x = normalise_gates_backward(&cell, product.view(), norm.epsilon, d_normal.view());
            sums.d_gain_hh += &through.d_gain_hh.expect("it is normalised");
            sums.add_cell(back.norm.as_ref());
        }
        self.d_input.index_axis_mut(Axis(0), t).assign(&matmul(d_x.view(), weights.w_ih));
        self.d_w_ih += &matmul_at(d_x.view(), x.view());
        let mut d_w_hh = matmul_at(through.d_product.view(), through.read.view());
        if let Some(reset_h) = &tape.step.reset_h {
            let new = GruGate::New as usize * hidden..;
            d_w_hh.slice_mut(s![new.clone(), ..]).assign(&matmul_at(d_r.slice(s![.., new]), reset_h.view()));
        }
        self.d_w_hh += &d_w_hh;
        if let Some(d_w_sh) = &mut self.d_w_sh {
            *d_w_sh += &matmul_at(d_r.view(), tape.before.oldest());
        }
        if let (Some(d_w_yh), Some(y_prev)) = (&mut self.d_w_yh, &tape.before.y) {
            *d_w_yh += &matmul_at(d_x.view(), y_prev.view());
        }
        if let (Some(d_readout), Some(readout)) = (&mut self.d_readout, &back.readout) {
            *d_readout += &readout.d_weight;
            if let Some(d_b_y) = &mut self.d_b_y {
                *d_b_y += &readout.d_bias;
            }
        }
        if let (Some(d_peephole), Some(c_prev), Some(c)) =
            (&mut self.d_peephole, tape.before.c_recurs(), &tape.step.new_c)
        {
            for (block, gate) in PEEPHOLE_GATES.into_iter().enumerate() {
                let seen = if gate == gatefold_model::LstmGate::Output { c.view() } else { c_prev };
                let lane = gate as usize * hidden;
                let d_a = back.d_pre.slice(s![.., lane..lane + hidden]);
                let products = Zip::from(&d_a).and(seen).map_collect(|&d, &c| d * c);
                let mut sum = d_peephole.slice_mut(s![block * hidden..(block + 1) * hidden]);
                sum += &column_sum(products.view());
            }
        }
    }
}
