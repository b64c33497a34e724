//! An LSTM over time; the equations are those of the reference's `lstm` and `scan` modules.

use crate::dense::rows_of;
use crate::math::{sigmoid, tanh};
use crate::threads::{Threads, add_product, run, split_batch};
use gatefold_model::LstmGate;
use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{
    Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut1, ArrayViewMut2, ArrayViewMut3,
    Axis, s,
};

/// How a step multiplies with the recurrent weights. The two differ in the order of their sums, so the whole batch
/// decides, not a thread's share of it.
#[derive(Clone, Copy)]
enum Product {
    /// Row by row, for batches of one or two rows.
    Rows,
    /// The general product. It first copies the weights into its own order, which more rows pay for.
    General,
}

impl Product {
    fn for_batch(rows: usize) -> Self {
        if rows <= 2 { Product::Rows } else { Product::General }
    }
}

/// The fewest rows of a batch that get a thread of their own: the general product's tile.
const ROWS: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// `[4 H, I]`
    pub(crate) w_ih: ArrayView2<'a, f32>,
    /// `[4 H, H]`
    pub(crate) w_hh: ArrayView2<'a, f32>,
    /// `[4 H]`
    pub(crate) b_ih: ArrayView1<'a, f32>,
    /// `[4 H]`
    pub(crate) b_hh: ArrayView1<'a, f32>,
}

/// What the forward pass leaves behind.
#[derive(Clone, Debug)]
pub(crate) struct LstmTape {
    /// `[T, B, 4 H]`: the activated gates, written over the pre-activations; in the backward pass `d_pre` over them.
    pub(crate) gates: Array3<f32>,
    /// `[T + 1, B, H]`, zeros first.
    pub(crate) c: Array3<f32>,
    /// `[T + 1, B, H]`, zeros first.
    pub(crate) h: Array3<f32>,
}

impl LstmTape {
    /// `[T, B, H]`
    pub(crate) fn output(&self) -> ArrayView3<'_, f32> {
        self.h.slice(s![1.., .., ..])
    }

    /// `[T B, H]`: the output of the step before each step.
    pub(crate) fn h_prev(&self) -> ArrayView2<'_, f32> {
        let steps = self.gates.dim().0;
        flat(self.h.slice(s![..steps, .., ..]))
    }
}

/// `[T, B, F]` in standard layout as `[T B, F]`.
pub(crate) fn flat(sequence: ArrayView3<'_, f32>) -> ArrayView2<'_, f32> {
    let (steps, batch, width) = sequence.dim();
    sequence.into_shape_with_order((steps * batch, width)).expect("sequences are kept in standard layout")
}

/// `input [T, B, I]` from states of zero.
pub(crate) fn forward(threads: Threads, input: ArrayView3<f32>, weights: &Weights) -> LstmTape {
    let (steps, batch, _) = input.dim();
    let (columns, hidden) = weights.w_hh.dim();
    let bias: Array1<f32> = &weights.b_ih + &weights.b_hh;
    let mut pre_x: Array2<f32> = rows_of(bias.view(), steps * batch);
    add_product(threads, flat(input), weights.w_ih.t(), pre_x.view_mut());

    let mut tape = LstmTape {
        gates: pre_x.into_shape_with_order((steps, batch, columns)).expect("the same elements"),
        c: Array3::zeros((steps + 1, batch, hidden)),
        h: Array3::zeros((steps + 1, batch, hidden)),
    };
    let product = Product::for_batch(batch);
    let ranges = threads.ranges(batch, ROWS, 2 * steps * batch * columns * hidden);
    let gates = split_batch(tape.gates.view_mut(), &ranges);
    let (c, h) = (split_batch(tape.c.view_mut(), &ranges), split_batch(tape.h.view_mut(), &ranges));
    run(gates.into_iter().zip(c).zip(h), |((gates, c), h)| scan_forward(product, weights.w_hh, gates, c, h));
    tape
}

/// Some rows of a batch through time.
fn scan_forward(
    product: Product,
    w_hh: ArrayView2<f32>,
    mut gates: ArrayViewMut3<f32>,
    mut c: ArrayViewMut3<f32>,
    mut h: ArrayViewMut3<f32>,
) {
    for (t, mut gates) in gates.outer_iter_mut().enumerate() {
        let (c_prev, mut c) = neighbours(&mut c, t);
        let (h_prev, mut h) = neighbours(&mut h, t);
        let c_prev = c_prev.view();
        add_recurrent(product, h_prev.view(), w_hh, gates.view_mut());
        for row in 0..gates.nrows() {
            let [i, f, g, o] = gate_blocks(gates.row_mut(row));
            cells_forward(i, f, g, o, slice(&c_prev, row), slice_mut(&mut c, row), slice_mut(&mut h, row));
        }
    }
}

/// `pre += h_prev U^T`, `U [4 H, H]`.
fn add_recurrent(
    product: Product,
    h_prev: ArrayView2<f32>,
    w_hh: ArrayView2<f32>,
    mut pre: ArrayViewMut2<f32>,
) {
    match product {
        Product::General => general_mat_mul(1.0, &h_prev, &w_hh.t(), 1.0, &mut pre),
        Product::Rows => {
            for (h, mut pre) in h_prev.rows().into_iter().zip(pre.rows_mut()) {
                general_mat_vec_mul(1.0, &w_hh, &h, 1.0, &mut pre);
            }
        }
    }
}

/// One row of a step: pre-activations in, activated gates out.
fn cells_forward(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    c_prev: &[f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let hidden = h.len();
    // One length for all: no bounds are checked inside the loop, and it can take several units at once.
    let (i, f, g, o) = (&mut i[..hidden], &mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_prev, c) = (&c_prev[..hidden], &mut c[..hidden]);
    for k in 0..hidden {
        i[k] = sigmoid(i[k]);
        f[k] = sigmoid(f[k]);
        g[k] = tanh(g[k]);
        o[k] = sigmoid(o[k]);
        c[k] = f[k] * c_prev[k] + i[k] * g[k];
        h[k] = o[k] * tanh(c[k]);
    }
}

/// Backpropagation through time: `tape.gates` becomes `d_pre`, `d_out [T, B, H]` the whole cotangent of each output.
pub(crate) fn backward(
    threads: Threads,
    weights: &Weights,
    tape: &mut LstmTape,
    mut d_out: ArrayViewMut3<f32>,
) {
    let (steps, batch, hidden) = d_out.dim();
    let product = Product::for_batch(batch);
    let ranges = threads.ranges(batch, ROWS, 2 * steps * batch * weights.w_hh.len());
    let gates = split_batch(tape.gates.view_mut(), &ranges);
    let d_out = split_batch(d_out.view_mut(), &ranges);
    let c = ranges.iter().map(|rows| tape.c.slice(s![.., rows.clone(), ..]));
    run(gates.into_iter().zip(d_out).zip(c), |((gates, d_out), c)| {
        let mut d_c = Array2::zeros((gates.dim().1, hidden));
        scan_backward(product, weights.w_hh, gates, c, d_out, d_c.view_mut());
    });
}

/// Some rows of a batch back through time; `d_c` is the last cell state's cotangent, and becomes the first one's.
fn scan_backward(
    product: Product,
    w_hh: ArrayView2<f32>,
    mut gates: ArrayViewMut3<f32>,
    c: ArrayView3<f32>,
    mut d_out: ArrayViewMut3<f32>,
    mut d_c: ArrayViewMut2<f32>,
) {
    let steps = gates.dim().0;
    for t in (0..steps).rev() {
        let (mut now, next) = gates.view_mut().split_at(Axis(0), t + 1);
        let mut gates = now.index_axis_mut(Axis(0), t);
        let mut d_h = d_out.index_axis_mut(Axis(0), t);
        if t + 1 < steps {
            add_carried(product, next.index_axis(Axis(0), 0), w_hh, d_h.view_mut());
        }
        let (c_prev, c) = (c.index_axis(Axis(0), t), c.index_axis(Axis(0), t + 1));
        for row in 0..gates.nrows() {
            let [i, f, g, o] = gate_blocks(gates.row_mut(row));
            let (c_prev, c) = (slice(&c_prev, row), slice(&c, row));
            cells_backward(i, f, g, o, c_prev, c, slice_mut(&mut d_h, row), slice_mut(&mut d_c, row));
        }
    }
}

/// `d_h += d_pre_next U`, `U [4 H, H]`.
fn add_carried(
    product: Product,
    d_pre_next: ArrayView2<f32>,
    w_hh: ArrayView2<f32>,
    mut d_h: ArrayViewMut2<f32>,
) {
    match product {
        Product::General => general_mat_mul(1.0, &d_pre_next, &w_hh, 1.0, &mut d_h),
        Product::Rows => {
            for (d_pre, mut d_h) in d_pre_next.rows().into_iter().zip(d_h.rows_mut()) {
                for (&d_pre, row) in d_pre.iter().zip(w_hh.rows()) {
                    d_h.scaled_add(d_pre, &row);
                }
            }
        }
    }
}

/// One row of a step: activated gates in, cotangents of the pre-activations out.
#[expect(clippy::too_many_arguments, reason = "the equation has that many quantities")]
fn cells_backward(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    c_prev: &[f32],
    c: &[f32],
    d_h: &[f32],
    d_c: &mut [f32],
) {
    let hidden = d_h.len();
    let (i, f, g, o) = (&mut i[..hidden], &mut f[..hidden], &mut g[..hidden], &mut o[..hidden]);
    let (c_prev, c, d_c) = (&c_prev[..hidden], &c[..hidden], &mut d_c[..hidden]);
    for k in 0..hidden {
        let tanh_c = tanh(c[k]);
        let d_o = d_h[k] * tanh_c;
        let d_cell = d_c[k] + d_h[k] * o[k] * (1.0 - tanh_c * tanh_c);
        let (d_i, d_f, d_g) = (d_cell * g[k], d_cell * c_prev[k], d_cell * i[k]);
        d_c[k] = d_cell * f[k];
        i[k] = d_i * i[k] * (1.0 - i[k]);
        f[k] = d_f * f[k] * (1.0 - f[k]);
        g[k] = d_g * (1.0 - g[k] * g[k]);
        o[k] = d_o * o[k] * (1.0 - o[k]);
    }
}

/// The states before and after step `t`.
fn neighbours<'a>(
    states: &'a mut ArrayViewMut3<f32>,
    t: usize,
) -> (ArrayViewMut2<'a, f32>, ArrayViewMut2<'a, f32>) {
    states.multi_slice_mut((s![t, .., ..], s![t + 1, .., ..]))
}

fn gate_blocks(row: ArrayViewMut1<'_, f32>) -> [&mut [f32]; LstmGate::COUNT] {
    let row = row.into_slice().expect("rows are contiguous");
    let hidden = row.len() / LstmGate::COUNT;
    let (i, rest) = row.split_at_mut(hidden);
    let (f, rest) = rest.split_at_mut(hidden);
    let (g, o) = rest.split_at_mut(hidden);
    [i, f, g, o]
}

fn slice<'a>(matrix: &'a ArrayView2<f32>, row: usize) -> &'a [f32] {
    matrix.row(row).to_slice().expect("rows are contiguous")
}

fn slice_mut<'a>(matrix: &'a mut ArrayViewMut2<f32>, row: usize) -> &'a mut [f32] {
    matrix.row_mut(row).into_slice().expect("rows are contiguous")
}
