//! An LSTM over time: one step forward, one step backward, and whole sequences of them.
//!
//! The input's part of the pre-activations, `pre_x = x W_ih^T + b_ih + b_hh`, is one product over all steps before
//! the loop; the gradients of both weights, both biases and the input are products over all steps after it.

use crate::Real;
use crate::linear::{column_sum, matmul, matmul_at};
use crate::lstm::{cell_backward, cell_forward};
use gatefold_model::LstmGate;
use ndarray::linalg::general_mat_mul;
use ndarray::{
    Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, Axis, CowArray, Ix2, s,
};

/// An LSTM's parameters, with PyTorch's names and row order.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R> {
    /// `[4 H, I]`
    pub w_ih: ArrayView2<'a, R>,
    /// `[4 H, H]`
    pub w_hh: ArrayView2<'a, R>,
    /// `[4 H]`
    pub b_ih: ArrayView1<'a, R>,
    /// `[4 H]`
    pub b_hh: ArrayView1<'a, R>,
}

/// Every intermediate of one step forward.
#[derive(Clone, Debug)]
pub struct StepForward<R> {
    /// `[B, 4 H]`, the pre-activations.
    pub pre: Array2<R>,
    /// `[B, 4 H]`, the activated gates.
    pub gates: Array2<R>,
    /// `[B, H]`, the cell state after the step.
    pub c: Array2<R>,
    /// `[B, H]`, the output.
    pub h: Array2<R>,
}

/// One time step: `pre = pre_x + h_prev U^T` with `U = w_hh [4 H, H]`, then the cell in every row and unit.
///
/// `pre_x [B, 4 H]` is the input's part with both biases; `h_prev` and `c_prev` are `[B, H]`.
pub fn step_forward<R: Real>(
    pre_x: ArrayView2<R>,
    w_hh: ArrayView2<R>,
    h_prev: ArrayView2<R>,
    c_prev: ArrayView2<R>,
) -> StepForward<R> {
    let mut step = StepForward {
        pre: pre_x.to_owned(),
        gates: Array2::zeros(pre_x.dim()),
        c: Array2::zeros(c_prev.dim()),
        h: Array2::zeros(h_prev.dim()),
    };
    general_mat_mul(R::ONE, &h_prev, &w_hh.t(), R::ONE, &mut step.pre);
    cells_forward(step.pre.view(), c_prev, step.gates.view_mut(), step.c.view_mut(), step.h.view_mut());
    step
}

fn cells_forward<R: Real>(
    pre: ArrayView2<R>,
    c_prev: ArrayView2<R>,
    mut gates: ArrayViewMut2<R>,
    mut c: ArrayViewMut2<R>,
    mut h: ArrayViewMut2<R>,
) {
    let (batch, hidden) = c_prev.dim();
    for row in 0..batch {
        for unit in 0..hidden {
            let column = |gate: LstmGate| gate as usize * hidden + unit;
            let cell = cell_forward(LstmGate::ALL.map(|gate| pre[[row, column(gate)]]), c_prev[[row, unit]]);
            for gate in LstmGate::ALL {
                gates[[row, column(gate)]] = cell.gates[gate as usize];
            }
            c[[row, unit]] = cell.c;
            h[[row, unit]] = cell.h;
        }
    }
}

/// Every intermediate of one step backward.
#[derive(Clone, Debug)]
pub struct StepBackward<R> {
    /// `[B, H]`, the whole cotangent of this step's output.
    pub d_h: Array2<R>,
    /// `[B, 4 H]`, the cotangent of this step's pre-activations.
    pub d_pre: Array2<R>,
    /// `[B, H]`, the cotangent of the cell state before this step.
    pub d_c_prev: Array2<R>,
}

/// One time step backward: `d_h = d_out + d_pre_next U`, then the cell's backward in every row and unit.
///
/// `d_out [B, H]` is what the loss says about this step's output, `d_pre_next [B, 4 H]` the next step's `d_pre`
/// (zeros behind the last step), `d_c [B, H]` the next step's `d_c_prev`; `gates`, `c_prev` and `c` are from the
/// forward pass.
pub fn step_backward<R: Real>(
    d_out: ArrayView2<R>,
    d_pre_next: ArrayView2<R>,
    w_hh: ArrayView2<R>,
    gates: ArrayView2<R>,
    c_prev: ArrayView2<R>,
    c: ArrayView2<R>,
    d_c: ArrayView2<R>,
) -> StepBackward<R> {
    let mut step = StepBackward {
        d_h: d_out.to_owned(),
        d_pre: Array2::zeros(gates.dim()),
        d_c_prev: Array2::zeros(c.dim()),
    };
    general_mat_mul(R::ONE, &d_pre_next, &w_hh, R::ONE, &mut step.d_h);
    let (batch, hidden) = c.dim();
    for row in 0..batch {
        for unit in 0..hidden {
            let column = |gate: LstmGate| gate as usize * hidden + unit;
            let k = [row, unit];
            let saved = LstmGate::ALL.map(|gate| gates[[row, column(gate)]]);
            let cell = cell_backward(saved, c_prev[k], c[k], step.d_h[k], d_c[k]);
            for gate in LstmGate::ALL {
                step.d_pre[[row, column(gate)]] = cell.d_pre[gate as usize];
            }
            step.d_c_prev[k] = cell.d_c_prev;
        }
    }
    step
}

/// The cotangent of the initial h: `d_pre U`, with the first step's `d_pre [B, 4 H]`.
pub fn initial_backward<R: Real>(d_pre: ArrayView2<R>, w_hh: ArrayView2<R>) -> Array2<R> {
    matmul(d_pre, w_hh)
}

/// Every intermediate of a whole sequence.
#[derive(Clone, Debug)]
pub struct Forward<R> {
    /// `[T, B, 4 H]`, the pre-activations.
    pub pre: Array3<R>,
    /// `[T, B, 4 H]`, the activated gates.
    pub gates: Array3<R>,
    /// `[T + 1, B, H]`, the cell states; the first is the initial one.
    pub c: Array3<R>,
    /// `[T + 1, B, H]`, the outputs; the first is the initial one.
    pub h: Array3<R>,
}

impl<R: Real> Forward<R> {
    /// The outputs of every step, `[T, B, H]`.
    pub fn output(&self) -> ArrayView3<'_, R> {
        self.h.slice(s![1.., .., ..])
    }
}

/// The input's part of the pre-activations of all steps: `x W_ih^T + b_ih + b_hh`, `[T, B, 4 H]`.
pub fn project_input<R: Real>(input: ArrayView3<R>, weights: &Weights<R>) -> Array3<R> {
    let (steps, batch, _) = input.dim();
    let rows = weights.w_ih.nrows();
    let bias: Array1<R> = &weights.b_ih + &weights.b_hh;
    let mut pre_x = bias.broadcast((steps * batch, rows)).expect("a row fits every row").to_owned();
    general_mat_mul(R::ONE, &flat(&input), &weights.w_ih.t(), R::ONE, &mut pre_x);
    pre_x.into_shape_with_order((steps, batch, rows)).expect("the same elements")
}

/// The whole sequence `input [T, B, I]` from the initial states `h0` and `c0`, `[B, H]` each.
///
/// # Panics
/// If shapes do not fit each other or the sequence has no step.
pub fn forward<R: Real>(
    input: ArrayView3<R>,
    weights: &Weights<R>,
    h0: ArrayView2<R>,
    c0: ArrayView2<R>,
) -> Forward<R> {
    let pre_x = project_input(input, weights);
    let (steps, batch, columns) = pre_x.dim();
    let hidden = columns / LstmGate::COUNT;
    assert!(steps > 0, "a sequence has at least one step");
    let mut all = Forward {
        pre: Array3::zeros(pre_x.dim()),
        gates: Array3::zeros(pre_x.dim()),
        c: Array3::zeros((steps + 1, batch, hidden)),
        h: Array3::zeros((steps + 1, batch, hidden)),
    };
    all.h.index_axis_mut(Axis(0), 0).assign(&h0);
    all.c.index_axis_mut(Axis(0), 0).assign(&c0);
    for t in 0..steps {
        let at = |states: &Array3<R>| states.index_axis(Axis(0), t).to_owned();
        let step =
            step_forward(pre_x.index_axis(Axis(0), t), weights.w_hh, at(&all.h).view(), at(&all.c).view());
        all.pre.index_axis_mut(Axis(0), t).assign(&step.pre);
        all.gates.index_axis_mut(Axis(0), t).assign(&step.gates);
        all.c.index_axis_mut(Axis(0), t + 1).assign(&step.c);
        all.h.index_axis_mut(Axis(0), t + 1).assign(&step.h);
    }
    all
}

/// What the loss says about a sequence's results.
#[derive(Clone, Copy, Debug)]
pub struct Cotangents<'a, R> {
    /// `[T, B, H]`, of the output at every step.
    pub h: ArrayView3<'a, R>,
    /// `[B, H]`, of the final hidden state, on top of the last step's output.
    pub h_last: ArrayView2<'a, R>,
    /// `[B, H]`, of the final cell state.
    pub c_last: ArrayView2<'a, R>,
}

/// Every gradient of a sequence.
#[derive(Clone, Debug)]
pub struct Backward<R> {
    /// `[T, B, 4 H]`, by the pre-activations.
    pub d_pre: Array3<R>,
    /// `[4 H, I]`
    pub d_w_ih: Array2<R>,
    /// `[4 H, H]`
    pub d_w_hh: Array2<R>,
    /// `[4 H]`
    pub d_b_ih: Array1<R>,
    /// `[4 H]`, equal to `d_b_ih`: both biases are added to the same pre-activations.
    pub d_b_hh: Array1<R>,
    /// `[T, B, I]`
    pub d_input: Array3<R>,
    /// `[B, H]`
    pub d_h0: Array2<R>,
    /// `[B, H]`
    pub d_c0: Array2<R>,
}

/// Backpropagation through time of a whole [`forward`] pass:
///
/// ```text
/// d_W_ih = sum_t d_pre(t)^T x(t)     d_W_hh = sum_t d_pre(t)^T h(t-1)     d_b = sum_t d_pre(t)
/// d_x(t) = d_pre(t) W_ih             d_h0 = d_pre(1) W_hh                 d_c0 = d_c_prev(1)
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
    let (steps, batch, columns) = forward.gates.dim();
    let mut d_pre = Array3::zeros(forward.gates.dim());
    let mut d_pre_next = Array2::zeros((batch, columns));
    let mut d_c = cotangents.c_last.to_owned();
    for t in (0..steps).rev() {
        let mut d_out = cotangents.h.index_axis(Axis(0), t).to_owned();
        if t == steps - 1 {
            d_out += &cotangents.h_last;
        }
        let step = step_backward(
            d_out.view(),
            d_pre_next.view(),
            weights.w_hh,
            forward.gates.index_axis(Axis(0), t),
            forward.c.index_axis(Axis(0), t),
            forward.c.index_axis(Axis(0), t + 1),
            d_c.view(),
        );
        d_pre.index_axis_mut(Axis(0), t).assign(&step.d_pre);
        (d_pre_next, d_c) = (step.d_pre, step.d_c_prev);
    }
    let h_prev = forward.h.slice(s![..steps, .., ..]);
    let (d_w_ih, d_w_hh, d_b, d_x) = {
        let all = d_pre.view();
        let d_pre = flat(&all);
        (
            matmul_at(d_pre.view(), flat(&input).view()),
            matmul_at(d_pre.view(), flat(&h_prev).view()),
            column_sum(d_pre.view()),
            matmul(d_pre.view(), weights.w_ih),
        )
    };
    Backward {
        d_w_ih,
        d_w_hh,
        d_b_ih: d_b.clone(),
        d_b_hh: d_b,
        d_input: d_x.into_shape_with_order(input.dim()).expect("the same elements"),
        d_h0: initial_backward(d_pre_next.view(), weights.w_hh),
        d_c0: d_c,
        d_pre,
    }
}

/// `[T, B, F]` as `[T B, F]`; copied only where the layout is not the standard one.
pub(crate) fn flat<'a, R: Real>(sequence: &'a ArrayView3<R>) -> CowArray<'a, R, Ix2> {
    let (steps, batch, width) = sequence.dim();
    sequence.to_shape((steps * batch, width)).expect("the same elements")
}
