//! Cells from outside of this workspace: the trait that defines one.

use crate::Real;
use gatefold_model::{CUSTOM_LANES, CustomGate, CustomParts, UnitFunctions, UnitGradient, UnitStep};
use std::any::TypeId;

/// A cell, as a type: one unit in one step, forward and backward, in Rust and in WGSL. The type has no values; it stands for
/// its functions.
///
/// `pre` has the lanes of the unit: one for each gate of [`GATES`](Self::GATES), in order, then one for each split gate, with
/// its part from the recurrence. Lanes that the cell does not use are 0. `prev` is the number that the unit carries from step
/// to step around all weights: its own state in a cell that has one, else h(t-1).
pub trait CellDefinition: 'static {
    /// Its name in descriptions, files and errors: lower-case letters, digits and `_`, a letter first.
    const NAME: &'static str;
    /// Its gates, in the order of their rows in the weights; at most four lanes in all, split gates last.
    const GATES: &'static [CustomGate];
    /// Whether a unit has a state of its own beside h.
    const HAS_STATE: bool = false;
    /// The same two functions in WGSL, called `custom_forward` and `custom_backward`.
    const WGSL: &'static str;

    /// One unit of one step.
    fn forward<R: Real>(pre: [R; CUSTOM_LANES], prev: R) -> UnitStep<R>;

    /// The chain rule through [`forward`](Self::forward): from the numbers that it saved, `prev` and the state after the
    /// step, and from the gradients with respect to h and to that state. In a cell without a state both states are 0.
    fn backward<R: Real>(saved: [R; CUSTOM_LANES], prev: R, state: R, d_h: R, d_state: R) -> UnitGradient<R>;
}

/// The parts of a cell, for [`CustomCell::register`](gatefold_model::CustomCell::register).
pub fn parts<C: CellDefinition>() -> CustomParts {
    CustomParts {
        name: C::NAME,
        gates: C::GATES,
        has_state: C::HAS_STATE,
        wgsl: C::WGSL,
        single: UnitFunctions { forward: C::forward::<f32>, backward: C::backward::<f32> },
        double: UnitFunctions { forward: C::forward::<f64>, backward: C::backward::<f64> },
        definition: TypeId::of::<C>(),
    }
}
