//! Recurrent networks in plain ndarray code, forward and backward: what the right answer is.
//!
//! Every function is generic over [`Real`], which is `f32` and `f64` and nothing else. In `f64` this crate judges
//! every other implementation; the engine's CPU device is `gatefold-cpu`, held to it like the kernels. Functions that mirror a
//! step of a kernel take that step's inputs and return its intermediates too, so that a failing comparison can say
//! which line of the equation broke.
//!
//! Shapes use `T` time steps, `B` rows of a batch, `I` inputs, `H` hidden units and `O` outputs. Sequences are
//! time-major, `[T, B, I]`. Gates lie in blocks of `H` columns in the order of [`gatefold_model::LstmGate`] or
//! [`gatefold_model::GruGate`].
//! Gradients and cotangents (the derivative of the loss by a value) take the prefix `d_`.
//!
//! The equations are collected in docs/numerics.md.

pub mod activation;
mod bridge;
pub mod cells;
pub mod linear;
pub mod loss;
pub mod network;
pub mod optim;
mod real;
mod recurrent;
pub mod scan;
pub mod sequence;
mod states;

pub use network::{Batch, Dropout, Network};
pub use real::Real;
pub use states::{LayerState, States};
