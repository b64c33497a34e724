//! The cells, a file for each: one unit of one row at one time step.
//!
//! A cell reads pre-activations, one number per lane, and keeps one number per lane for the backward pass.

use crate::Real;
use crate::activation;
use gatefold_model::{Activation, CUSTOM_LANES, Cell, GruCell, LstmCell, Reset};

pub mod custom;
pub mod gru;
pub mod lstm;
pub mod rnn;

/// The way gates are computed from pre-activations, and kept for the backward pass.
///
/// The activated gate is kept, from which its slope follows. With a clip, and with activations whose slope does not
/// follow from their value, the clipped pre-activation is kept instead, and the gate is recomputed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gating<R> {
    /// The bound of the pre-activations.
    pub clip: Option<R>,
    /// Whether clipped pre-activations are kept instead of gates.
    pub keeps_pre: bool,
}

impl<R: Real> Gating<R> {
    /// The gating of a cell with this clip.
    pub fn new(cell: &Cell, clip: Option<R>) -> Self {
        let odd = match cell {
            Cell::Rnn { activation } => !activation.slope_from_output(),
            // The slope of the output's activation follows from the cell state.
            Cell::Lstm(LstmCell { activations: a, .. }) => {
                !(a.gate.slope_from_output() && a.candidate.slope_from_output())
            }
            Cell::Gru(GruCell { activations: a, .. }) => {
                !(a.gate.slope_from_output() && a.candidate.slope_from_output())
            }
            // It saves what it likes.
            Cell::Custom(_) => false,
        };
        Gating { clip, keeps_pre: clip.is_some() || odd }
    }

    /// The number kept for the pre-activation `pre`; NaN stays NaN.
    pub fn kept(self, function: Activation, pre: R) -> R {
        let clipped = match self.clip {
            Some(bound) if pre > bound => bound,
            Some(bound) if pre < -bound => -bound,
            _ => pre,
        };
        if self.keeps_pre { clipped } else { activation::apply(function, clipped) }
    }

    /// The gate, from the number kept.
    pub fn value(self, function: Activation, kept: R) -> R {
        if self.keeps_pre { activation::apply(function, kept) } else { kept }
    }

    /// The gate's derivative with respect to the pre-activation; 0 where it is clipped.
    pub fn slope(self, function: Activation, kept: R) -> R {
        match self.clip {
            Some(bound) if kept.abs() >= bound => R::ZERO,
            _ if self.keeps_pre => activation::slope(function, kept),
            _ => activation::derivative(function, kept),
        }
    }
}

/// The number of lanes of a unit's pre-activations: one per gate, and one more in a GRU with reset after the product,
/// where the candidate's parts from the input and from the recurrence stay separate. A custom cell always has four, since
/// it saves as many numbers.
pub fn lanes(cell: &Cell) -> usize {
    match cell {
        Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::LANES_AFTER,
        Cell::Custom(_) => CUSTOM_LANES,
        _ => cell.gates(),
    }
}

/// The lane of a gate's part from the recurrence; the part from the input has the gate's own number.
pub fn recurrent_lane(cell: &Cell, gate: usize) -> usize {
    match cell {
        Cell::Gru(GruCell { reset: Reset::After, .. }) => gru::RECURRENT_LANES[gate],
        Cell::Custom(custom) => custom.recurrent_lane(gate),
        _ => gate,
    }
}
