//! Layers lowered to plan steps, forward and backward; one file per kind of layer.

pub(crate) mod dense;
mod dropout;
mod elementwise;
mod embedding;
mod expand;
mod form;
mod last_step;
pub(crate) mod recurrent;
pub(crate) mod scan;
mod scan_backward;
mod softmax;
#[cfg(test)]
mod tests;
mod weights;

use crate::Error;
use crate::gpu::Target;
use crate::parameters::ParameterSpans;
use crate::plan::{Plan, Span};
use crate::product::{Matrix, StepRows};
use gatefold_model::{Layer, LayerKind};

pub(crate) use dropout::DROPOUT;
pub(crate) use elementwise::{add, add_into, mask_rows, side_by_side, split_side_by_side};

/// Values of a layer over time: `[steps, batch, width]` somewhere in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequence {
    pub(crate) span: Span,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) width: usize,
}

impl Sequence {
    /// All steps and rows under each other.
    pub(crate) fn matrix(&self) -> Matrix {
        Matrix::new(self.span, self.steps * self.batch, self.width)
    }

    /// [`Sequence::matrix`], whose rows end with their sequences where there are lengths.
    pub(crate) fn rows(&self, lengths: Option<Span>) -> Matrix {
        let steps = lengths.map(|lengths| StepRows { lengths, batch: self.batch });
        Matrix { steps, ..self.matrix() }
    }

    pub(crate) fn len(&self) -> usize {
        self.steps * self.batch * self.width
    }
}

/// What a layer keeps from forward to backward.
#[derive(Debug)]
pub(crate) enum Tape {
    Dense { x: Sequence, lengths: Option<Span>, saved: dense::Saved },
    Embedding { x: Sequence },
    Dropout,
    Softmax { y: Sequence },
    LastStep { x: Sequence, lengths: Option<Span> },
    Expand { x: Sequence },
}

/// What layers are lowered to, for, and with.
#[derive(Debug)]
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a mut Plan,
    pub(crate) target: &'a Target,
    pub(crate) parameters: &'a ParameterSpans<'a>,
    pub(crate) purpose: Purpose,
    /// Whether dropout layers drop.
    pub(crate) drops: bool,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing is saved.
    Inference,
    /// Everything that backward needs is saved.
    Training,
}

/// Puts the weights of a layer into the order in which its kernels read them. What a purpose does not need is left out.
pub(crate) fn pack(
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

/// A layer's outputs for its inputs; `lengths [B]` are `u32`, none where all rows are as long.
pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
) -> Result<(Sequence, Tape), Error> {
    match layer.kind {
        LayerKind::Dense { activation, .. } => {
            let saved = dense::forward(low, layer, activation, x, lengths)?;
            Ok((saved.y, Tape::Dense { x, lengths, saved }))
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
        LayerKind::LastStep => {
            Ok((last_step::forward(low.plan, layer, x, lengths), Tape::LastStep { x, lengths }))
        }
        LayerKind::Expand { steps, fill } => {
            Ok((expand::forward(low, layer, (steps, fill), x)?, Tape::Expand { x }))
        }
        _ => Err(unknown(layer)),
    }
}

/// Lanes of a unit's gates on the device; 0 where a layer is not recurrent.
pub(crate) fn lanes(layer: &Layer) -> usize {
    recurrent::forms(layer).first().map_or(0, form::Form::lanes)
}

/// Adds the gradients of the layer's parameters; gives the gradient of its input where that is wanted.
pub(crate) fn backward(
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
            dense::backward(low.plan, target, layer, activation, parameters, tape, d_y, wants_input)
        }
        (Tape::Embedding { x }, LayerKind::Embedding { tokens }) => {
            embedding::backward(low, layer, tokens, *x, d_y).map(|()| None)
        }
        _ if !wants_input => Ok(None),
        (Tape::Dropout, LayerKind::Dropout { .. }) if !low.drops => Ok(Some(d_y)),
        (Tape::Dropout, LayerKind::Dropout { rate }) => {
            Ok(Some(dropout::apply(low, layer, rate, d_y, "d_x")))
        }
        (Tape::Softmax { y }, LayerKind::Softmax) => Ok(Some(softmax::backward(low, layer, *y, d_y))),
        (Tape::LastStep { x, lengths }, LayerKind::LastStep) => {
            Ok(Some(last_step::backward(low.plan, layer, *x, *lengths, d_y)))
        }
        (Tape::Expand { x }, LayerKind::Expand { fill, .. }) => {
            expand::backward(low, layer, fill, *x, d_y).map(Some)
        }
        _ => Err(unknown(layer)),
    }
}

fn unknown(layer: &Layer) -> Error {
    Error::Config(format!("{}: the GPU has no kernels for it; use device \"cpu\"", layer.place()))
}
