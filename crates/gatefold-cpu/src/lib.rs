//! Recurrent networks on the CPU, in `f32` and on all cores: the engine's CPU device, judged by
//! `gatefold-reference`.
//!
//! It differs from the reference in this: `sigmoid` and `tanh` are computed without calls, so that the compiler
//! vectorises them; pre-activations, gates and their gradients share one buffer; sequences of different length are
//! packed without padding; and work large enough to pay for it is shared among threads. Threads divide rows of a batch
//! or of a product, never a sum, so their number does not change a single bit of the results.
//!
//! Shapes are those of the reference: `T` time steps, `B` rows of a batch, `I` inputs, `H` hidden units, `O` outputs;
//! sequences are time-major. `N` counts the rows of all existing steps: `T B` without lengths.

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
