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
//! Without the feature `gpu`, which is on by default, wgpu is not built and the CPU is the only device.

mod cpu;
mod device;
mod error;
mod loss;
mod network;
mod optim;
mod train;

pub use cpu::CpuNetwork;
pub use device::{Device, DeviceChoice};
pub use error::Error;
pub use loss::Loss;
pub use network::Network;
pub use optim::Optimizer;
pub use train::{ParameterGroup, TrainConfig, Trainer};

pub use gatefold_model::file::Checkpoint;
pub use gatefold_model::{
    Activation, DenseConfig, LayerConfig, LayerKind, LstmConfig, ModelError, NetworkConfig, Parameters,
};
