//! A recurrent network lowered to a schedule of kernels, as data. This crate knows no wgpu: everything that decides
//! what runs on a GPU is here, everything that runs it is in the engine, `gatefold`.
//!
//! A pass (`pass`: a prediction, a tape, a training batch, an update, a step of a stream) becomes a [`Plan`]: clears,
//! copies and dispatches on numbered buffers. Plans can be printed, counted and tested without a device.
//!
//! Shapes: T time steps, B rows of a batch, I inputs, H hidden units, R values of h (H, or the width of a projection),
//! k slots of h (1, or the reach of a skip connection), O outputs. Sequences are time-major, `[T, B, F]`.

mod error;
mod given;
pub mod layer;
mod loss;
mod memory;
pub mod network;
mod optimizer;
mod parameters;
pub mod pass;
mod plan;
pub mod product;
pub mod scan;
mod stack;
mod states;
mod target;

pub use error::Error;
pub use given::{Given, Half, PackedPart};
pub use loss::{LOSS_CAPACITY, LOSSES_AT, REPORT_LEN, STATUS_LEN};
pub use memory::{Assignment, MemoryNeed, assign, check, need};
pub use optimizer::HYPER_LEN;
pub use parameters::{ParameterEntry, ParameterLayout, ParameterSpans};
pub use plan::{ALIGNMENT, Binding, BufferId, Declared, Dispatch, Element, Plan, Span, Step};
pub use states::{StateLayout, StateSet};
pub use target::Target;
