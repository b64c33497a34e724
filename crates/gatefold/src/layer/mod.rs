//! Layers lowered to plan steps, forward and backward; one file per kind of layer.

mod dense;
mod last_step;
mod lstm;

use crate::Error;
use crate::gpu::Target;
use crate::parameters::ParameterSpans;
use crate::plan::{Plan, Span};
use crate::product::Matrix;
use gatefold_model::{Layer, LayerKind};

pub(crate) use lstm::{
    Carried, LstmShape, Packed as PackedLstm, Tape as LstmTape, backward as lstm_backward,
    initial_gradient as lstm_initial_gradient, input_gradient as lstm_input_gradient,
    one_step as lstm_one_step, parameter_gradients as lstm_parameter_gradients,
    steps_forward as lstm_steps_forward,
};

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

    pub(crate) fn len(&self) -> usize {
        self.steps * self.batch * self.width
    }
}

/// What a layer keeps from forward to backward.
#[derive(Debug)]
pub(crate) enum Tape {
    Lstm(LstmTape),
    Dense { x: Sequence, y: Sequence },
    LastStep { x: Sequence },
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
pub(crate) fn pack(plan: &mut Plan, layer: &Layer, parameters: &ParameterSpans<'_>, purpose: Purpose) {
    if let LayerKind::Recurrent(recurrent) = layer.kind {
        let hidden = recurrent.hidden;
        lstm::pack(plan, layer, hidden, parameters, purpose);
    }
}

/// A layer's outputs for its inputs.
pub(crate) fn forward(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    parameters: &ParameterSpans<'_>,
    x: Sequence,
    purpose: Purpose,
) -> Result<(Sequence, Tape), Error> {
    match layer.kind {
        LayerKind::Recurrent(recurrent) if recurrent.is_plain_lstm() => {
            let hidden = recurrent.hidden;
            let shape = LstmShape { steps: x.steps, batch: x.batch, input: x.width, hidden };
            let packed = PackedLstm::declare(plan, layer.owner, &shape, purpose);
            let tape = lstm::forward(plan, target, &layer.label(), &shape, &packed, x, purpose)?;
            Ok((tape.output(), Tape::Lstm(tape)))
        }
        LayerKind::Dense { activation } => {
            let y = dense::forward(plan, target, layer, activation, parameters, x)?;
            Ok((y, Tape::Dense { x, y }))
        }
        LayerKind::LastStep => Ok((last_step::forward(x), Tape::LastStep { x })),
        _ => Err(unknown(layer)),
    }
}

/// Adds the gradients of the layer's parameters; gives the gradient of its input where that is wanted.
pub(crate) fn backward(
    plan: &mut Plan,
    target: &Target,
    layer: &Layer,
    parameters: &ParameterSpans<'_>,
    tape: &Tape,
    d_y: Sequence,
    wants_input: bool,
) -> Result<Option<Sequence>, Error> {
    match (tape, layer.kind) {
        (Tape::Lstm(tape), LayerKind::Recurrent(_)) => {
            let packed = PackedLstm::declare(plan, layer.owner, &tape.shape, Purpose::Training);
            let carried = Carried::zeros(plan, &layer.label(), &tape.shape);
            lstm::backward(plan, target, &layer.label(), &packed, tape, d_y, &carried)?;
            lstm::parameter_gradients(plan, target, layer, parameters, tape)?;
            if !wants_input {
                return Ok(None);
            }
            let d_x = plan.scratch(format!("{}.d_x", layer.label()), tape.x.len());
            lstm::input_gradient(plan, target, &layer.label(), &packed, tape, d_x).map(Some)
        }
        (Tape::Dense { x, y }, LayerKind::Dense { activation }) => {
            dense::backward(plan, target, layer, activation, parameters, (*x, *y), d_y, wants_input)
        }
        (Tape::LastStep { x }, LayerKind::LastStep) => {
            Ok(wants_input.then(|| last_step::backward(plan, layer, *x, d_y)))
        }
        _ => Err(unknown(layer)),
    }
}

fn unknown(layer: &Layer) -> Error {
    Error::Config(format!("{}: the GPU has no kernels for it; use device \"cpu\"", layer.place()))
}
