//! Recurrent networks on the CPU, in `f32` and on all cores: the engine's CPU device, judged by
//! `gatefold-reference`.
//!
//! What it does differently from the reference: `sigmoid` and `tanh` without calls, so that the compiler computes
//! several units at once; pre-activations, gates and their gradients in one buffer, each written over the other;
//! sequences of different length without their padding; and above a size where it pays, threads. Threads share out rows
//! of a batch or rows of a product and never a sum, so their number changes no bit of any result.
//!
//! Shapes are those of the reference: `T` time steps, `B` rows of a batch, `I` inputs, `H` hidden units, `O` outputs;
//! sequences are time-major. `N` counts the rows of all steps that are there: `T B` without lengths.

mod backward;
mod batch;
mod bridge;
mod cells;
mod dense;
mod functions;
mod math;
mod network;
mod packing;
mod recurrent;
mod scan;
mod steps;
mod stream;
mod tensors;
mod threads;

pub use backward::Gradients;
pub use batch::Batch;
pub use network::{Network, Tape};
pub use tensors::Tensors;
pub use threads::Threads;
