//! The cells: what one unit of one row does at one time step, a file for each.
//!
//! A cell reads pre-activations, one number for each of its lanes, and keeps one number for each lane for the backward
//! pass.

use crate::Real;
use crate::activation;
use gatefold_model::{Activation, Cell, GruCell, LstmCell, Reset};

pub mod gru;
pub mod lstm;
pub mod rnn;

/// How gates come from pre-activations, and what is kept of them.
///
/// Kept is the activated gate, from which its slope follows. With a clip, and with functions whose slope does not
/// follow from their value, the clipped pre-activation is kept instead, and the gate is computed again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gating<R> {
    /// The bound of every pre-activation.
    pub clip: Option<R>,
    /// Whether clipped pre-activations are kept instead of gates.
    pub keeps_pre: bool,
}

impl<R: Real> Gating<R> {
    /// That of a cell with this clip.
    pub fn new(cell: &Cell, clip: Option<R>) -> Self {
        let odd = match cell {
            Cell::Rnn { activation } => !activation.slope_from_output(),
            // The slope of the function behind the cell state follows from the state.
            Cell::Lstm(LstmCell { activations: a, .. }) => {
                !(a.gate.slope_from_output() && a.candidate.slope_from_output())
            }
            Cell::Gru(GruCell { activations: a, .. }) => {
                !(a.gate.slope_from_output() && a.candidate.slope_from_output())
            }
        };
        Gating { clip, keeps_pre: clip.is_some() || odd }
    }

    /// What is kept of the pre-activation `pre`; NaN stays NaN.
    pub fn kept(self, function: Activation, pre: R) -> R {
        let clipped = match self.clip {
            Some(bound) if pre > bound => bound,
            Some(bound) if pre < -bound => -bound,
            _ => pre,
        };
        if self.keeps_pre { clipped } else { activation::apply(function, clipped) }
    }

    /// The gate.
    pub fn value(self, function: Activation, kept: R) -> R {
        if self.keeps_pre { activation::apply(function, kept) } else { kept }
    }

    /// The gate's derivative by the pre-activation: 0 where it is clipped.
    pub fn slope(self, function: Activation, kept: R) -> R {
        match self.clip {
            Some(bound) if kept.abs() >= bound => R::ZERO,
            _ if self.keeps_pre => activation::slope(function, kept),
            _ => activation::derivative(function, kept),
        }
    }
}

/// Lanes of a unit's pre-activations: one for each gate, and in a GRU with reset after the product one more, since the
/// candidate's parts from the input and from the recurrence stay apart.
pub fn lanes(cell: &Cell) -> usize {
    match cell {
        Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::LANES_AFTER,
        _ => cell.gates(),
    }
}

/// The lane of a gate's part from the recurrence; that from the input has the gate's own number.
pub fn recurrent_lane(cell: &Cell, gate: usize) -> usize {
    match cell {
        Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::RECURRENT_LANES[gate],
        _ => gate,
    }
}
