//! A recurrent layer over time, in one direction: one step forward, one step backward, and whole sequences.
//!
//! The input's part of the pre-activations, `pre_x = x W_ih^T + biases`, is one product over all steps before the loop;
//! the gradients of weights, biases and input are sums over all steps after it.
//!
//! Pre-activations lie in lanes, blocks of `H` columns: one for each gate in the order of the cell's gates, and in a
//! GRU with reset after the product a fourth. `L` counts lanes, `G` gates, `R` is the width of h (`H` without a
//! projection), `O` that of a readout that feeds back.

mod dressed;
pub mod kernel;
pub mod row;
mod sequence;
mod step;

pub use dressed::{MaskStream, Masks, Norm, NormGradients, StepNoise, product_backward};
pub use sequence::{Backward, Cotangents, Forward, States, StepTape, backward, forward};
pub use step::{
    ReadoutBackward, StepBackward, StepCotangents, StepForward, StepInput, StepSaved, feedback_backward,
    initial_backward, readout_backward, readout_forward, skip_backward, step_backward, step_forward,
};

use crate::Real;
use crate::cells::{Gating, lanes, recurrent_lane};
use crate::linear::matmul_bt;
use crate::norm::normalise_gates;
use gatefold_model::{Activation, Cell, GruCell, Reset};
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, CowArray, Ix2, s};

/// The parameters of a step: a cell, its options, and all weights except the input's.
#[derive(Clone, Copy, Debug)]
pub struct Recurrence<'a, R> {
    /// The cell.
    pub cell: Cell,
    /// The bound of every pre-activation.
    pub clip: Option<R>,
    /// `[G H, R]`
    pub w_hh: ArrayView2<'a, R>,
    /// `[3 H]`, blocks for the input, forget and output gate.
    pub peephole: Option<ArrayView1<'a, R>>,
    /// `[R, H]`, the projection of the cell's output to h.
    pub projection: Option<ArrayView2<'a, R>>,
    /// The second recurrence.
    pub skip: Option<Skip<'a, R>>,
    /// d of the recurrence from `h(t-d)` and `c(t-d)`; 1 with a skip connection.
    pub dilation: usize,
    /// The readout that feeds back into the next step.
    pub feedback: Option<Feedback<'a, R>>,
    /// Layer normalisation.
    pub norm: Option<Norm<'a, R>>,
    /// Random masks, or in inference what takes their place.
    pub noise: StepNoise,
}

/// A recurrence from `h(t-k)`.
#[derive(Clone, Copy, Debug)]
pub struct Skip<'a, R> {
    /// k
    pub steps: usize,
    /// `[G H, R]`
    pub w_sh: ArrayView2<'a, R>,
}

/// A readout `y = act(h W_hy^T + b_y)` that feeds back: `y(t-1) W_yh^T` is added to the input's part.
#[derive(Clone, Copy, Debug)]
pub struct Feedback<'a, R> {
    /// `[G H, O]`
    pub w_yh: ArrayView2<'a, R>,
    /// `[O, H]`
    pub w_hy: ArrayView2<'a, R>,
    /// `[O]`
    pub b_y: ArrayView1<'a, R>,
    /// Its activation.
    pub activation: Activation,
}

/// The parameters of one direction, with PyTorch's names and row order.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, R> {
    /// `[G H, I]`
    pub w_ih: ArrayView2<'a, R>,
    /// `[G H]`
    pub b_ih: Option<ArrayView1<'a, R>>,
    /// `[G H]`
    pub b_hh: Option<ArrayView1<'a, R>>,
    /// All other parameters.
    pub recurrence: Recurrence<'a, R>,
}

impl<'a, R: Real> Recurrence<'a, R> {
    /// A cell with its recurrent weights `[G H, R]` and no options.
    pub fn new(cell: Cell, w_hh: ArrayView2<'a, R>) -> Self {
        Recurrence {
            cell,
            clip: None,
            w_hh,
            peephole: None,
            projection: None,
            skip: None,
            dilation: 1,
            feedback: None,
            norm: None,
            noise: StepNoise::default(),
        }
    }

    /// The way the cell's gates are computed from pre-activations.
    pub fn gating(&self) -> Gating<R> {
        Gating::new(&self.cell, self.clip)
    }

    /// H
    pub fn hidden(&self) -> usize {
        self.w_hh.nrows() / self.cell.gates()
    }

    /// R
    pub fn width(&self) -> usize {
        self.w_hh.ncols()
    }

    /// The number of initial values of h: 1, or k with a skip connection, or d with a dilation.
    pub fn history(&self) -> usize {
        self.skip.map_or(self.dilation, |skip| skip.steps)
    }

    /// Whether the candidate reads `r h(t-1)`, which is only known in the middle of a step.
    pub fn resets_before(&self) -> bool {
        matches!(self.cell, Cell::Gru(GruCell { reset: Reset::Before, .. }))
    }

    /// The output width: that of the readout with feedback, else that of h.
    pub fn output(&self) -> usize {
        self.feedback.map_or(self.width(), |feedback| feedback.b_y.len())
    }
}

/// A part of the pre-activations, with the lanes of its gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The part from the input, and from a readout that feeds back.
    Input,
    /// The part from h.
    Recurrent,
}

impl Part {
    fn lane(self, cell: &Cell, gate: usize) -> usize {
        match self {
            Part::Input => gate,
            Part::Recurrent => recurrent_lane(cell, gate),
        }
    }

    /// Adds `product [B, G H]`, by gates, to `pre [B, L H]`, by lanes.
    fn add<R: Real>(self, cell: &Cell, product: ArrayView2<R>, mut pre: ArrayViewMut2<R>) {
        let hidden = pre.ncols() / lanes(cell);
        for gate in 0..cell.gates() {
            let lane = self.lane(cell, gate) * hidden;
            let part = product.slice(s![.., gate * hidden..(gate + 1) * hidden]);
            pre.slice_mut(s![.., lane..lane + hidden]).zip_mut_with(&part, |sum, &part| *sum += part);
        }
    }

    /// The gates' lanes of `d_pre [B, L H]` in this part, `[B, G H]`.
    pub fn of<R: Real>(self, cell: &Cell, d_pre: ArrayView2<R>) -> Array2<R> {
        let hidden = d_pre.ncols() / lanes(cell);
        let mut part = Array2::zeros((d_pre.nrows(), cell.gates() * hidden));
        for gate in 0..cell.gates() {
            let lane = self.lane(cell, gate) * hidden;
            part.slice_mut(s![.., gate * hidden..(gate + 1) * hidden])
                .assign(&d_pre.slice(s![.., lane..lane + hidden]));
        }
        part
    }
}

/// The input's part of all steps' pre-activations with both biases, `[T, B, L H]`: `x W_ih^T + b_ih` in the gates' own
/// lanes, `b_hh` in those of the recurrent part. With layer normalisation, the product is normalised first.
pub fn project_input<R: Real>(input: ArrayView3<R>, weights: &Weights<R>) -> Array3<R> {
    let (steps, batch, _) = input.dim();
    let Recurrence { cell, .. } = weights.recurrence;
    let mut pre_x = Array2::zeros((steps * batch, lanes(&cell) * weights.recurrence.hidden()));
    let mut product = matmul_bt(flat(&input).view(), weights.w_ih);
    if let Some(norm) = &weights.recurrence.norm {
        product = normalise_gates(&cell, product.view(), norm.epsilon) * norm.gain_ih;
    }
    Part::Input.add(&cell, product.view(), pre_x.view_mut());
    for (part, bias) in [(Part::Input, weights.b_ih), (Part::Recurrent, weights.b_hh)] {
        if let Some(bias) = bias {
            let rows = bias.broadcast((steps * batch, bias.len())).expect("a row fits every row");
            part.add(&cell, rows, pre_x.view_mut());
        }
    }
    let columns = pre_x.ncols();
    pre_x.into_shape_with_order((steps, batch, columns)).expect("the same elements")
}

/// `[T, B, F]` as `[T B, F]`; copied only where the layout is not the standard one.
pub(crate) fn flat<'a, R: Real>(sequence: &'a ArrayView3<R>) -> CowArray<'a, R, Ix2> {
    let (steps, batch, width) = sequence.dim();
    sequence.to_shape((steps * batch, width)).expect("the same elements")
}
