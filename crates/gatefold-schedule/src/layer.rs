//! Layers lowered to plan steps, forward and backward; one file per kind of layer.

pub mod convolution;
pub mod dense;
pub(crate) mod dropout;
pub(crate) mod elementwise;
mod embedding;
mod expand;
mod last_step;
mod normalise;
mod pool;
pub mod recurrent;
mod softmax;

pub use dropout::DROPOUT_KEY_LEN;
pub use elementwise::{
    add, add_into, broadcast_rows, columns, fill, mask_rows, side_by_side, split_side_by_side,
};
pub use embedding::STRETCH;

use crate::product::{Matrix, StepRows};
use crate::scan::Form;
use crate::{Error, ParameterSpans, Plan, Span, Target};
use gatefold_model::{Layer, LayerKind};
use std::ops::Range;

/// Values of a layer over time: `[steps, batch, width]` somewhere in a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// The elements.
    pub span: Span,
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// Values of a step.
    pub width: usize,
}

impl Sequence {
    /// All steps and rows, one below the other.
    pub fn matrix(&self) -> Matrix {
        Matrix::new(self.span, self.steps * self.batch, self.width)
    }

    /// [`Sequence::matrix`]; if there are lengths, rows end with their sequences.
    pub fn rows(&self, lengths: Option<Span>) -> Matrix {
        let steps = lengths.map(|lengths| StepRows { lengths, batch: self.batch });
        Matrix { steps, ..self.matrix() }
    }

    /// Some of the steps.
    pub(crate) fn part(&self, steps: &Range<usize>) -> Sequence {
        let step = self.batch * self.width;
        Sequence { span: self.span.part(steps.start * step, steps.len() * step), steps: steps.len(), ..*self }
    }

    /// The number of elements.
    #[expect(clippy::len_without_is_empty, reason = "no axis is 0")]
    pub fn len(&self) -> usize {
        self.steps * self.batch * self.width
    }
}

/// The values that a layer's backward pass needs from its forward pass.
#[derive(Debug)]
#[expect(missing_docs, reason = "x is the input, y the output, lengths those of the rows")]
pub enum Tape {
    /// Of a dense layer.
    Dense { x: Sequence, lengths: Option<Span>, saved: dense::Saved },
    /// Of a convolution.
    Conv1d(convolution::Kept),
    /// Of an embedding.
    Embedding { x: Sequence },
    /// Nothing: dropout draws its zeros again.
    Dropout,
    /// Of a softmax.
    Softmax { y: Sequence },
    /// Of a normalisation.
    Normalise { x: Sequence, lengths: Option<Span> },
    /// Of pooling.
    Pool { x: Sequence, lengths: Option<Span> },
    /// Of the last step.
    LastStep { x: Sequence, lengths: Option<Span> },
    /// Of an expansion.
    Expand { x: Sequence },
}

impl Tape {
    /// The lengths of the output's rows, from those of the input, if they end early.
    pub fn ends(&self, layer: &Layer, lengths: Option<Span>) -> Option<Span> {
        match self {
            Tape::Conv1d(kept) => kept.ends,
            _ => lengths.filter(|_| layer.timeline.has_lengths()),
        }
    }
}

/// The plan in the making, and everything that layers need to know to add to it.
#[derive(Debug)]
pub struct Lowering<'a> {
    /// The plan.
    pub plan: &'a mut Plan,
    /// The device.
    pub target: &'a Target,
    /// The parameters and their gradients.
    pub parameters: &'a ParameterSpans<'a>,
    /// The plan's purpose.
    pub purpose: Purpose,
    /// Whether dropout layers drop.
    pub drops: bool,
}

impl Lowering<'_> {
    /// The same plan, with the tangents of the parameters in their places.
    pub(crate) fn along<'b>(&'b mut self, along: &'b ParameterSpans<'b>) -> Lowering<'b> {
        let Lowering { target, drops, .. } = *self;
        Lowering { plan: &mut *self.plan, target, parameters: along, purpose: Purpose::Inference, drops }
    }
}

/// The purpose of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing is saved.
    Inference,
    /// Everything that backward needs is saved.
    Training,
}

/// Packs a layer's weights in the order its kernels read them, leaving out what this purpose does not need.
pub fn pack(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    parameters: &ParameterSpans<'_>,
    purpose: Purpose,
) {
    if layer.recurrent().is_some() {
        recurrent::pack(&mut Lowering { plan, target, parameters, purpose, drops: false }, layer);
    }
}

/// A layer's outputs for its inputs; `lengths [B]` are `u32`, `None` if all rows are equally long.
///
/// # Errors
/// [`Error::Limit`] for work that the device cannot split.
///
/// # Panics
/// If the layer is recurrent or joins other layers: the walk over the network lowers those.
pub fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
) -> Result<(Sequence, Tape), Error> {
    match layer.kind {
        LayerKind::Dense { activation, .. } => {
            let saved = dense::forward(low, layer, dense::Affine::dense(activation), x, lengths)?;
            Ok((saved.y, Tape::Dense { x, lengths, saved }))
        }
        LayerKind::Conv1d(conv) => {
            let (y, kept) = convolution::forward(low, layer, &conv, x, lengths)?;
            Ok((y, Tape::Conv1d(kept)))
        }
        LayerKind::Embedding { tokens } => {
            Ok((embedding::forward(low, layer, tokens, x), Tape::Embedding { x }))
        }
        LayerKind::Dropout { rate } if low.drops => {
            Ok((dropout::apply(low, layer, rate, x, "y"), Tape::Dropout))
        }
        LayerKind::Dropout { .. } => Ok((x, Tape::Dropout)),
        LayerKind::Softmax => {
            let y = softmax::forward(low, layer, x);
            Ok((y, Tape::Softmax { y }))
        }
        LayerKind::Normalise { epsilon } => {
            Ok((normalise::forward(low, layer, epsilon, x), Tape::Normalise { x, lengths }))
        }
        LayerKind::Pool(pooling) => {
            let y = pool::forward(low.plan, (layer, "y"), pooling, (x, lengths), x);
            Ok((y, Tape::Pool { x, lengths }))
        }
        LayerKind::LastStep => {
            Ok((last_step::forward(low.plan, layer, x, lengths), Tape::LastStep { x, lengths }))
        }
        LayerKind::Expand { steps, fill } => {
            Ok((expand::forward(low, layer, (steps, fill), x), Tape::Expand { x }))
        }
        _ => panic!("{} has no lowering of its own", layer.place()),
    }
}

/// The tangent of a layer's outputs, from that of its inputs and, `along`, those of its parameters.
///
/// # Errors
/// Those of [`forward`].
///
/// # Panics
/// Those of [`backward`], and for a convolution.
pub fn tangent(
    low: &mut Lowering<'_>,
    along: &ParameterSpans<'_>,
    layer: &Layer,
    tape: &Tape,
    x_dot: Sequence,
) -> Result<Sequence, Error> {
    match (tape, layer.kind) {
        (Tape::Dense { x, lengths, saved }, LayerKind::Dense { activation, .. }) => {
            let affine = dense::Affine::dense(activation);
            dense::tangent(low, along, layer, affine, (*x, *lengths, *saved), x_dot)
        }
        (Tape::Embedding { x }, LayerKind::Embedding { tokens }) => {
            Ok(embedding::forward(&mut low.along(along), layer, tokens, *x))
        }
        (Tape::Dropout, LayerKind::Dropout { rate }) if low.drops => {
            Ok(dropout::apply(low, layer, rate, x_dot, "dot"))
        }
        (Tape::Dropout, LayerKind::Dropout { .. }) => Ok(x_dot),
        // The Jacobian of a softmax is symmetric.
        (Tape::Softmax { y }, LayerKind::Softmax) => Ok(softmax::backward(low, layer, *y, x_dot)),
        (Tape::Normalise { x, .. }, LayerKind::Normalise { epsilon }) => {
            Ok(normalise::tangent(low, along, layer, epsilon, *x, x_dot))
        }
        (Tape::Pool { x, lengths }, LayerKind::Pool(pooling)) => {
            Ok(pool::forward(low.plan, (layer, "dot"), pooling, (*x, *lengths), x_dot))
        }
        (Tape::LastStep { lengths, .. }, LayerKind::LastStep) => {
            Ok(last_step::forward(low.plan, layer, x_dot, *lengths))
        }
        (Tape::Expand { .. }, LayerKind::Expand { steps, fill }) => {
            Ok(expand::forward(low, layer, (steps, fill), x_dot))
        }
        _ => panic!("{} has no tangent of its own", layer.place()),
    }
}

/// Lanes of a unit's gates on the device; 0 if the layer is not recurrent.
pub fn lanes(layer: &Layer) -> usize {
    recurrent::forms(layer).first().map_or(0, Form::lanes)
}

/// Adds the gradients of the layer's parameters. Returns the gradient with respect to its input, if wanted.
///
/// # Errors
/// Those of [`forward`].
///
/// # Panics
/// Those of [`forward`], and if the tape is of another kind of layer.
pub fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    tape: &Tape,
    d_y: Sequence,
    wants_input: bool,
) -> Result<Option<Sequence>, Error> {
    let (target, parameters) = (low.target, low.parameters);
    match (tape, layer.kind) {
        (Tape::Dense { x, lengths, saved }, LayerKind::Dense { activation, .. }) => {
            let tape = (*x, *lengths, *saved);
            let affine = dense::Affine::dense(activation);
            dense::backward(low.plan, target, layer, affine, parameters, tape, d_y, wants_input)
        }
        (Tape::Conv1d(kept), LayerKind::Conv1d(conv)) => {
            convolution::backward(low, layer, &conv, kept, d_y, wants_input)
        }
        (Tape::Embedding { x }, LayerKind::Embedding { tokens }) => {
            embedding::backward(low, layer, tokens, *x, d_y).map(|()| None)
        }
        (Tape::Normalise { x, lengths }, LayerKind::Normalise { epsilon }) => {
            normalise::backward(low, layer, epsilon, (*x, *lengths), d_y).map(Some)
        }
        _ if !wants_input => Ok(None),
        (Tape::Dropout, LayerKind::Dropout { .. }) if !low.drops => Ok(Some(d_y)),
        (Tape::Dropout, LayerKind::Dropout { rate }) => {
            Ok(Some(dropout::apply(low, layer, rate, d_y, "d_x")))
        }
        (Tape::Softmax { y }, LayerKind::Softmax) => Ok(Some(softmax::backward(low, layer, *y, d_y))),
        (Tape::Pool { x, lengths }, LayerKind::Pool(pooling)) => {
            Ok(Some(pool::backward(low.plan, layer, pooling, (*x, *lengths), d_y)))
        }
        (Tape::LastStep { x, lengths }, LayerKind::LastStep) => {
            Ok(Some(last_step::backward(low.plan, layer, *x, *lengths, d_y)))
        }
        (Tape::Expand { x }, LayerKind::Expand { fill, .. }) => {
            expand::backward(low, layer, fill, *x, d_y).map(Some)
        }
        _ => panic!("{} has no lowering of its own", layer.place()),
    }
}
