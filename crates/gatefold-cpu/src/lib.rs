//! Recurrent networks on the CPU, in `f32` and on all cores: the engine's CPU device, judged by
//! `gatefold-reference`.
//!
//! It differs from the reference in this:
//!
//! - Products, cells and functions run on the widest vectors that the machine has ([`Instructions`]).
//! - Weights are packed once for all products until they change.
//! - Pre-activations, gates and their gradients share one buffer.
//! - A batch goes through the network in parts of a few rows, which a pool of threads share. The parts
//!   depend on the batch and the network alone, and every sum has one order, so the number of threads does not change
//!   a single bit of the results.
//! - Sequences of different length are packed without padding.
//!
//! Shapes are those of the reference: `T` time steps, `B` rows of a batch, `I` inputs, `H` hidden units, `O` outputs;
//! sequences are time-major. `N` counts the rows of all existing steps: `T B` without lengths.

mod backward;
mod batch;
mod bridge;
mod buffers;
mod by_source;
mod cells;
mod chain;
mod convolution;
mod dense;
mod dilation;
mod dressed;
mod forward;
mod functions;
mod gradients;
mod instructions;
mod loss;
mod math;
mod multiply_adds;
mod network;
mod noise;
mod normalise;
mod outer;
mod packing;
mod parts;
mod pipeline;
mod pool;
mod product;
mod recurrent;
mod running;
mod scan;
mod shelf;
mod steps;
mod stream;
mod tangent;
mod team;
mod tensors;
mod threads;
mod weights;

pub use batch::Batch;
pub use gradients::Gradients;
pub use instructions::{Instructions, UnknownInstructions};
pub use loss::LossRoom;
pub use multiply_adds::MultiplyAdds;
pub use network::{Network, Tape};
pub use tensors::Tensors;
pub use threads::Threads;
