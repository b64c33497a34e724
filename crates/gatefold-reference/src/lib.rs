//! Recurrent networks in plain ndarray code, forward and backward: the right answer, by definition.
//!
//! Every function is generic over [`Real`], which means `f32`, `f64` or [`Dual`] and nothing else. In `f64` this crate
//! judges every other implementation: the kernels, and `gatefold-cpu`, the engine's CPU device. In [`Dual`] the same
//! formulas give forward-mode derivatives. Functions that mirror a step
//! of a kernel take that step's inputs and also return its intermediates, so that a failing comparison shows which line
//! of the equation broke.
//!
//! Shapes use `T` time steps, `B` rows of a batch, `I` inputs, `H` hidden units and `O` outputs. Sequences are
//! time-major, `[T, B, I]`. Gates lie in blocks of `H` columns in the order of [`gatefold_model::LstmGate`] or
//! [`gatefold_model::GruGate`]. Gradients and cotangents (the derivative of the loss with respect to a value) have the
//! prefix `d_`.
//!
//! The equations are collected in docs/numerics.md.

pub mod activation;
mod bridge;
pub mod cells;
pub mod convolution;
pub mod custom;
mod dual;
mod failures;
pub mod linear;
pub mod loss;
pub mod network;
pub mod norm;
pub mod optim;
pub mod pool;
mod real;
mod recurrent;
mod route;
pub mod scan;
pub mod sequence;
mod states;
mod tangent;

pub use dual::Dual;
pub use failures::Failures;
pub use network::{Batch, Dropout, Network};
pub use real::Real;
pub use states::{LayerState, States};
pub use tangent::{Jvp, Tangents};
