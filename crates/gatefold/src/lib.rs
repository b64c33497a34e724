//! A GPU engine for recurrent neural networks.
//!
//! A [`Network`] is made on a [`Device`] from a [`NetworkConfig`]; a [`Trainer`] takes it into training: data in,
//! loss out, everything else stays on the device. Data is time-major: inputs `[T, B, I]`, outputs `[T', B, O]`.
//!
//! ```
//! use gatefold::{Device, DeviceChoice, Network, NetworkConfig, TrainConfig, Trainer};
//! use ndarray::Array3;
//!
//! let config = NetworkConfig::with_input(2).lstm(8).last_step().dense(1).build()?;
//! let device = Device::open(&DeviceChoice::Cpu)?;
//! let network = Network::new(&device, &config, 7)?;
//! let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)))?;
//!
//! let (input, target) = (Array3::ones((5, 4, 2)), Array3::zeros((1, 4, 1)));
//! for _ in 0..20 {
//!     trainer.step(&input, &target)?;
//! }
//! let losses = trainer.take_losses()?;
//! assert!(losses[19] < losses[0]);
//!
//! let prediction = trainer.network().predict(&input)?;
//! assert_eq!(prediction.dim(), (1, 4, 1));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! Without the feature `gpu`, which is on by default, wgpu is not built and the CPU is the only device.

mod batch;
mod choice;
mod cpu;
mod device;
#[cfg(feature = "gpu")]
pub mod embed;
mod error;
mod generate;
#[cfg(feature = "gpu")]
mod gpu;
mod loss;
mod network;
mod sequences;
mod stream;
mod targets;
mod train;

pub use choice::DeviceChoice;
pub use device::Device;
pub use error::{Error, Refusal};
pub use generate::{Decoding, Marks, Sampler};
pub use network::{Forward, GradientArrays, Gradients, Network, Tape};
pub use sequences::Sequences;
pub use stream::Stream;
pub use targets::Targets;
pub use train::{Trainer, Truncation};

#[cfg(feature = "gpu")]
pub use gpu::{AdapterSummary, Gpu, GpuOptions, adapters};
#[cfg(feature = "gpu")]
pub use wgpu;

pub use gatefold_model::file::{self, Checkpoint};
pub use gatefold_model::{
    Activation, Biases, Bridge, Cell, Coupling, DecoderConfig, DenseConfig, Direction, Dropout,
    EmbeddingConfig, Expansion, Feedback, GruActivations, GruCell, GruConfig, GruGate, Init, InitialState,
    Layer, LayerConfig, LayerKind, LayerState, Loss, LstmActivations, LstmCell, LstmConfig, LstmGate,
    ModelError, NetworkBuilder, NetworkConfig, Optimizer, ParameterGroup, ParameterSpec, Parameters,
    Recurrent, Reduction, Reset, RnnConfig, Role, Schedule, StateKind, States, Timeline, TrainConfig,
};

/// Schedules: a network lowered to the kernels that run it, as data.
#[cfg(feature = "gpu")]
pub mod schedule {
    pub use gatefold_schedule::pass::{Axis, Shape, memory_need, schedule};
    pub use gatefold_schedule::{MemoryNeed, Plan, Target};
}

/// Doors for the tests of this workspace and its self-check.
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod hooks {
    pub use crate::gpu::{run_kernel, run_plan};
}

/// Runs a future to its end. Only the public blocking methods call it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// The README's program is compiled and run with the documentation's.
#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
