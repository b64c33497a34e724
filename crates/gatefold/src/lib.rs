//! A GPU engine for recurrent neural networks.
//!
//! A [`Network`] is made on a [`Device`] from a [`NetworkConfig`]; a [`Trainer`] takes it into training: data in,
//! loss out, everything else stays on the device. Data is time-major: inputs `[T, B, I]`, outputs `[T', B, O]`.
//!
//! ```
//! use gatefold::{DenseConfig, Device, DeviceChoice, LayerConfig, LstmConfig, Network, NetworkConfig};
//! use gatefold::{TrainConfig, Trainer};
//! use ndarray::Array3;
//!
//! let config = NetworkConfig::new(2, [
//!     LstmConfig::new(8).into(),
//!     LayerConfig::LastStep,
//!     DenseConfig::new(1).into(),
//! ])?;
//! let device = Device::open(&DeviceChoice::Cpu)?;
//! let network = Network::new(&device, &config, 7)?;
//! let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)))?;
//!
//! let (input, target) = (Array3::ones((5, 4, 2)), Array3::zeros((1, 4, 1)));
//! for _ in 0..20 {
//!     trainer.step(input.view(), target.view())?;
//! }
//! let losses = trainer.take_losses()?;
//! assert!(losses[19] < losses[0]);
//!
//! let prediction = trainer.network().predict(input.view())?;
//! assert_eq!(prediction.dim(), (1, 4, 1));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! [`Network::forward`] takes [`Sequences`] of different lengths and [`States`]; [`Network::backward`] gives the
//! gradients of everything. A [`Stream`] goes a step at a time; [`Network::closed_loop`], [`Network::generate`] and
//! [`Network::decode`] read what they wrote. The module `embed` records layers into the command encoders of a program
//! that owns its wgpu device. PyTorch's files are read by `gatefold_model::file::pytorch`, ONNX models by
//! `gatefold-onnx`.
//!
//! Without the feature `gpu`, which is on by default, wgpu is not built and the CPU is the only device.

mod beam;
#[cfg(feature = "gpu")]
mod bounds;
#[cfg(feature = "gpu")]
mod buffer;
mod cpu;
mod device;
#[cfg(feature = "gpu")]
pub mod embed;
mod error;
mod generate;
#[cfg(feature = "gpu")]
mod gpu;
#[cfg(feature = "gpu")]
mod gpu_loss;
#[cfg(feature = "gpu")]
mod gpu_network;
#[cfg(feature = "gpu")]
mod gpu_pass;
#[cfg(feature = "gpu")]
mod gpu_training;
#[cfg(feature = "gpu")]
mod layer;
mod loss;
#[cfg(feature = "gpu")]
mod lower;
#[cfg(feature = "gpu")]
mod memory;
mod network;
mod optim;
#[cfg(feature = "gpu")]
mod parameters;
#[cfg(feature = "gpu")]
mod pipeline;
#[cfg(feature = "gpu")]
mod plan;
#[cfg(feature = "gpu")]
mod product;
#[cfg(feature = "gpu")]
mod run;
mod sequences;
#[cfg(feature = "gpu")]
mod state_layout;
mod stream;
mod targets;
mod train;

pub use beam::{Decoding, Marks};
pub use cpu::CpuNetwork;
pub use device::{Device, DeviceChoice};
pub use error::Error;
pub use gatefold_cpu::{Dropout, LayerState, States};
pub use generate::Sampler;
#[cfg(feature = "gpu")]
pub use gpu::{AdapterSummary, Gpu, GpuOptions, Target, adapters};
#[cfg(feature = "gpu")]
pub use gpu_network::{GpuNetwork, memory_need, plan};
pub use loss::{Loss, Reduction};
#[cfg(feature = "gpu")]
pub use memory::MemoryNeed;
pub use network::{Forward, Gradients, Network, Tape};
pub use optim::Optimizer;
#[cfg(feature = "gpu")]
pub use plan::Plan;
#[cfg(feature = "gpu")]
pub use run::run_kernel;
pub use sequences::Sequences;
pub use stream::Stream;
pub use targets::Targets;
pub use train::{ParameterGroup, TrainConfig, Trainer, Truncation};

#[cfg(feature = "gpu")]
pub use wgpu;

pub use gatefold_model::file::Checkpoint;
pub use gatefold_model::{
    Activation, Biases, Bridge, Cell, Coupling, DecoderConfig, DenseConfig, Direction, EmbeddingConfig,
    Expansion, Feedback, GruActivations, GruCell, GruConfig, GruGate, Init, InitialState, Layer, LayerConfig,
    LayerKind, LstmActivations, LstmCell, LstmConfig, LstmGate, ModelError, NetworkConfig, ParameterSpec,
    Parameters, Recurrent, Reset, RnnConfig, Role, StateKind, Timeline,
};

/// The README's program is compiled and run with the documentation's.
#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
