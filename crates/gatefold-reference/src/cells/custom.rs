//! A cell that the program brought along: one unit of one row at one time step.

use crate::Real;
use gatefold_model::{CUSTOM_LANES, CustomCell, UnitGradient, UnitStep};

/// The unit after the step; `prev` is its state in a cell that has one, else h(t-1). Reads no lanes but those in use.
pub fn cell_forward<R: Real>(cell: &CustomCell, mut pre: [R; CUSTOM_LANES], prev: R) -> UnitStep<R> {
    pre[cell.lanes()..].fill(R::ZERO);
    (R::functions_of(cell).forward)(pre, prev)
}

/// The gradients of the unit, zeros in lanes that the cell does not use. A cell without a state takes all of `d_h` and
/// passes on its share of h(t-1); the others' states are `states`, before and after the step, with the gradient `d_state`
/// of the latter.
pub fn cell_backward<R: Real>(
    cell: &CustomCell,
    saved: [R; CUSTOM_LANES],
    states: (R, R),
    d_h: R,
    d_state: R,
) -> UnitGradient<R> {
    let (prev, state) = states;
    let mut found = (R::functions_of(cell).backward)(saved, prev, state, d_h, d_state);
    found.pre[cell.lanes()..].fill(R::ZERO);
    found
}
