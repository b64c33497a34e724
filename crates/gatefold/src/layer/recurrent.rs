//! Recurrent layers lowered, over every scan of the layer.

use super::lstm::{self, Carried, LstmShape, Packed, Tape};
use super::{Lowering, Purpose, Sequence};
use crate::Error;
use crate::plan::Span;
use gatefold_model::Layer;

/// The states of one scan: initial or final ones, or their gradients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// `[k, B, R]`, in the order of time.
    pub(crate) h: Span,
    /// `[B, H]`
    pub(crate) c: Option<Span>,
    /// `[B, O]`
    pub(crate) y: Option<Span>,
}

/// What a recurrent layer keeps from forward to backward.
#[derive(Debug)]
pub(crate) struct RecurrentTape {
    tape: Tape,
    purpose: Purpose,
}

impl RecurrentTape {
    /// `[T, B, width]`
    pub(crate) fn output(&self) -> Sequence {
        self.tape.output()
    }

    /// The states behind the last step, by scan.
    pub(crate) fn finals(&self) -> Vec<Start> {
        self.states_after(self.tape.shape.steps)
    }

    /// The states after some of the steps, by scan.
    pub(crate) fn states_after(&self, step: usize) -> Vec<Start> {
        let len = self.tape.shape.step_len();
        let slot = if self.purpose == Purpose::Training { step } else { 0 };
        vec![Start {
            h: self.tape.h.part(step * len, len),
            c: Some(self.tape.state.part(slot * len, len)),
            y: None,
        }]
    }
}

/// All steps of a layer, from those states or from zeros.
pub(crate) fn forward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    x: Sequence,
    lengths: Option<Span>,
    starts: &[Option<Start>],
) -> Result<RecurrentTape, Error> {
    let recurrent = layer.recurrent().filter(|recurrent| recurrent.is_plain_lstm());
    let (Some(recurrent), None) = (recurrent, lengths) else { return Err(super::unknown(layer)) };
    let shape = LstmShape { steps: x.steps, batch: x.batch, input: x.width, hidden: recurrent.hidden };
    let label = layer.label();
    let packed = Packed::declare(low.plan, layer.owner, &shape, low.purpose);
    let tape = Tape::declare(low.plan, &label, &shape, x, low.purpose);
    let first = |span: Span| span.part(0, shape.step_len());
    match starts[0] {
        None => {
            low.plan.clear(first(tape.h));
            low.plan.clear(first(tape.state));
        }
        Some(start) => {
            low.plan.copy(start.h, first(tape.h));
            low.plan.copy(start.c.expect("the cell has a state"), first(tape.state));
        }
    }
    let keeps_states = low.purpose == Purpose::Training;
    lstm::steps_forward(low.plan, low.target, &label, &packed, &tape, low.purpose, keeps_states)?;
    Ok(RecurrentTape { tape, purpose: low.purpose })
}

/// Adds the gradients of the layer's parameters; gives those of its input and of its initial states where they are wanted.
pub(crate) fn backward(
    low: &mut Lowering<'_>,
    layer: &Layer,
    tape: &RecurrentTape,
    d_out: Option<Sequence>,
    d_finals: &[Option<Start>],
    wants_input: bool,
    wants_start: bool,
) -> Result<(Option<Sequence>, Vec<Option<Start>>), Error> {
    let (tape, label) = (&tape.tape, layer.label());
    let packed = Packed::declare(low.plan, layer.owner, &tape.shape, Purpose::Training);
    let carried = Carried::zeros(low.plan, &label, &tape.shape);
    if let Some(d) = d_finals[0] {
        low.plan.copy(d.h, carried.d_h);
        low.plan.copy(d.c.expect("the cell has a state"), carried.d_state);
    }
    let d_out = d_out.unwrap_or_else(|| {
        let zeros = low.plan.scratch(format!("{label}.d_out"), tape.output().len());
        low.plan.clear(zeros);
        Sequence { span: zeros, ..tape.output() }
    });
    lstm::backward(low.plan, low.target, &label, &packed, tape, d_out, &carried)?;
    lstm::parameter_gradients(low.plan, low.target, layer, low.parameters, tape)?;
    let mut d_start = None;
    if wants_start {
        lstm::initial_gradient(low.plan, low.target, &label, &packed, tape, carried.d_h)?;
        d_start = Some(Start { h: carried.d_h, c: Some(carried.d_state), y: None });
    }
    if !wants_input {
        return Ok((None, vec![d_start]));
    }
    let d_x = low.plan.scratch(format!("{label}.d_x"), tape.x.len());
    let d_x = lstm::input_gradient(low.plan, low.target, &label, &packed, tape, d_x)?;
    Ok((Some(d_x), vec![d_start]))
}
