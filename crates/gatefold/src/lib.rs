//! A GPU engine for recurrent neural networks.
//!
//! A [`Network`] is made on a [`Device`] from a [`NetworkConfig`]; a [`Trainer`] takes it into training; a [`Stream`] runs
//! it step by step. Data is time-major: inputs `[T, B, I]`, outputs `[T', B, O]`. Parameters, states, gradients and losses
//! stay on the device until they are read. Every call that waits has a twin that does not block, such as
//! [`Network::predict_async`].
//!
//! # Train a classifier
//!
//! A class for every step, in rows of different length, where some steps have no label and some do not count:
//!
//! ```
//! use gatefold::{Device, DeviceChoice, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
//! use ndarray::{Array2, Array3};
//!
//! let config = NetworkConfig::with_input(2).gru(16).dense(3).build()?; // 3 classes
//! let device = Device::open(&DeviceChoice::Auto)?; // a real GPU, else the CPU
//! let network = Network::new(&device, &config, 7)?; // the seed of its parameters
//! let options = TrainConfig::new().loss(Loss::CrossEntropy).learning_rate(0.01).clip_norm(Some(1.0));
//! let mut trainer = Trainer::new(network, options)?;
//!
//! // 6 steps, 4 rows, 2 values; steps past a row's end are ignored.
//! let values = Array3::from_shape_fn((6, 4, 2), |(t, b, i)| ((2 * t + b + i) % 3) as f32);
//! let input = Sequences::from(&values).with_lengths([6, 5, 3, 1])?;
//! let mut labels = Array2::from_shape_fn((6, 4), |(t, b)| ((2 * t + b) % 3) as i64);
//! labels[[2, 0]] = -1; // no label
//! let mut mask = Array2::ones((6, 4));
//! mask[[0, 1]] = 0.0; // does not count
//! let targets = Targets::from(&labels).with_weights(mask)?;
//!
//! for _ in 0..50 {
//!     trainer.step(&input, &targets)?;
//! }
//! let losses = trainer.take_losses()?;
//! assert!(losses[49] < 0.5 * losses[0]);
//! let logits = trainer.network().predict(&input)?;
//! assert_eq!(logits.dim(), (6, 4, 3));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # Stream
//!
//! One step at a time, from the states that a history leaves:
//!
//! ```
//! use gatefold::{Device, Network, NetworkConfig};
//! use ndarray::{Array2, Array3};
//!
//! let config = NetworkConfig::with_input(3).lstm(8).dense(1).build()?;
//! let network = Network::new(&Device::cpu()?, &config, 7)?;
//! let history = network.forward(&Array3::ones((20, 2, 3)), None)?; // 20 steps of 2 rows
//!
//! let mut stream = network.stream(2)?;
//! stream.set_states(&history.states)?;
//! for _ in 0..5 {
//!     let output = stream.step(Array2::ones((2, 3)).view())?;
//!     assert_eq!(output.dim(), (2, 1));
//! }
//! let h_n = stream.states()?.h_n(); // as PyTorch has it; States::stacked is the way in
//! assert_eq!(h_n.map(|h| h.dim()), Some((1, 2, 8)));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # Weights from PyTorch and back
//!
//! `safetensors.torch.save_file(module.state_dict(), path)` writes what is read here. [`Network::load`] is shorter, where
//! a network is all that is wanted.
//!
//! ```
//! use gatefold::file::{Model, pytorch};
//! use gatefold::{Device, Network, States};
//! use ndarray::Array3;
//!
//! # use gatefold::{NetworkConfig, Parameters};
//! # let path = std::env::temp_dir().join(format!("gatefold-doc-{}.safetensors", std::process::id()));
//! # let config = NetworkConfig::with_input(3).lstm(8).lstm(8).last_step().dense(2).build()?;
//! # let written = Model { parameters: Parameters::initial(&config, 1)?, config, metadata: Default::default() };
//! # pytorch::write(&path, &written, &["lstm", "head"])?;
//! // An nn.LSTM(3, 8, num_layers=2) called lstm, whose last step goes through an nn.Linear(8, 2) called head.
//! let model = pytorch::read(&path, &"lstm, last_step, head".parse()?)?;
//! let network = Network::with_parameters(&Device::cpu()?, &model.config, &model.parameters)?;
//!
//! let (h_0, c_0) = (Array3::zeros((2, 4, 8)), Array3::zeros((2, 4, 8))); // [layers, batch, units]
//! let states = States::stacked(&model.config, h_0.view(), Some(c_0.view()))?;
//! let tape = network.forward_training(&Array3::ones((5, 4, 3)), Some(&states), None)?;
//! let d_output = tape.output().mapv(|y| 2.0 * y); // of the sum of the outputs' squares
//! let gradients = network.backward(tape, d_output.view(), None)?.read()?;
//! let d_h_0 = gradients.states.h_n();
//! assert_eq!(d_h_0.map(|d| d.dim()), Some((2, 4, 8)));
//!
//! // Under PyTorch's names, gradients as well as parameters.
//! let named = Model { parameters: gradients.parameters, ..model.clone() };
//! let named = pytorch::state_dict(&named, &["lstm", "head"])?;
//! assert_eq!(named["lstm.weight_hh_l1"].shape(), [4 * 8, 8]);
//! pytorch::write(&path, &Model { parameters: network.parameters()?, ..model }, &["lstm", "head"])?;
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # A loss of your own
//!
//! Its gradient with respect to the output is all that training needs. Here it is the logarithm of the hyperbolic cosine:
//!
//! ```
//! use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
//! use ndarray::Array3;
//!
//! let config = NetworkConfig::with_input(2).lstm(8).last_step().dense(1).build()?;
//! let network = Network::new(&Device::cpu()?, &config, 7)?;
//! let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(0.01).clip_norm(Some(1.0)))?;
//! let (input, target) = (Array3::ones((5, 4, 2)), Array3::<f32>::zeros((1, 4, 1)));
//!
//! let mut losses = Vec::new();
//! for _ in 0..20 {
//!     let tape = trainer.network().forward_training(&input, None, None)?;
//!     let error = &tape.output() - &target;
//!     losses.push(error.mapv(|e| e.cosh().ln()).sum() / error.len() as f32);
//!     let d_output = error.mapv(f32::tanh) / error.len() as f32;
//!     let gradients = trainer.network().backward(tape, d_output.view(), None)?;
//!     trainer.apply(&gradients)?; // clipped; on a GPU they never leave it
//! }
//! assert!(losses[19] < losses[0]);
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # A cell of your own
//!
//! Two functions for one unit in one step, in WGSL and in Rust, are all that a cell takes; see [`custom`].
//!
//! # Inside a program that owns its wgpu device
//!
//! A network records into the program's encoder, between its own passes, on its buffers; see `embed`.
//!
#![cfg_attr(feature = "gpu", doc = "```no_run")]
#![cfg_attr(not(feature = "gpu"), doc = "```text")]
//! use gatefold::embed::{self, ForwardBuffers};
//! use gatefold::{Gpu, NetworkConfig, wgpu};
//!
//! fn record(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<(), gatefold::Error> {
//!     let buffer = |len: u64| {
//!         let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
//!         let (label, size, mapped_at_creation) = (None, 4 * len, false);
//!         device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation })
//!     };
//!     let config = NetworkConfig::with_input(3).gru(16).dense(2).softmax().build()?;
//!     let network = embed::Network::new(&Gpu::from_device(device.clone(), queue.clone()), &config, 7)?;
//!     let (input, output) = (buffer(24 * 8 * 3), buffer(24 * 8 * 2)); // 24 steps, 8 rows
//!     let sequence = network.sequence(24, 8, &ForwardBuffers::new(&input, &output), None)?;
//!
//!     let mut encoder = device.create_command_encoder(&Default::default());
//!     // Here goes a pass of the program that writes the input,
//!     sequence.forward(&mut encoder);
//!     // and here one that reads the output.
//!     queue.submit([encoder.finish()]);
//!     Ok(())
//! }
//! ```
//!
//! # Without a GPU
//!
//! Without the feature `gpu`, which is on by default, wgpu is not built and the CPU is the only device. That device
//! takes one thread per core, or as many as [`Device::cpu_with_threads`] or the environment variable `GATEFOLD_THREADS`
//! says; results are the same bits for any number.

mod batch;
mod choice;
mod cpu;
pub mod custom;
mod device;
#[cfg(feature = "gpu")]
pub mod embed;
mod error;
pub mod generate;
#[cfg(feature = "gpu")]
mod gpu;
mod gradient_flow;
mod loss;
mod network;
mod sequences;
mod stream;
mod targets;
mod train;
#[cfg(feature = "gpu")]
mod tune;

pub use choice::DeviceChoice;
pub use device::Device;
pub use error::{Error, Refusal};
#[doc(inline)]
pub use gatefold_model::{Loss, ModelError, NetworkConfig, Optimizer, Parameters, States, TrainConfig};
#[cfg(feature = "gpu")]
pub use gpu::Gpu;
pub use network::Network;
pub use sequences::Sequences;
pub use stream::Stream;
pub use targets::Targets;
pub use train::Trainer;
#[cfg(feature = "gpu")]
pub use wgpu;

#[doc(inline)]
pub use gatefold_model::file;

/// Layers and their options, from which a [`NetworkConfig`] is made, and the layers of one that has been checked.
pub mod layers {
    #[doc(inline)]
    pub use gatefold_model::{
        Activation, Biases, BranchBuilder, Bridge, Cell, CellKind, Conv1d, Conv1dConfig, Coupling,
        CustomCell, CustomConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion,
        Feedback, GruActivations, GruCell, GruConfig, GruGate, Init, InitialState, Layer, LayerConfig,
        LayerKind, LayerNorm, LstmActivations, LstmCell, LstmConfig, LstmGate, Merge, NetworkBuilder, Noise,
        Padding, ParallelConfig, ParameterSpec, Pooling, Recurrent, Reset, RnnConfig, Role, StateKind,
        Timeline, Timing, branch,
    };
}

/// Training: options, losses, optimisers, learning-rate schedules, groups of parameters; tapes and gradients for a loop
/// of your own.
pub mod training {
    pub use crate::gradient_flow::{GateSaturation, GradientFlow, LayerFlow};
    pub use crate::network::hessian_free::{
        HessianFree, HessianFreeConfig, HessianFreeState, HessianFreeUpdate,
    };
    pub use crate::network::second_order::Jvp;
    pub use crate::network::{GradientArrays, Gradients, Tape};
    pub use crate::train::{Trainer, Truncation};
    #[doc(inline)]
    pub use gatefold_model::{
        Dropout, Loss, Optimizer, ParameterGroup, ParameterRule, Reduction, Schedule, TrainConfig,
    };
}

/// Data: what goes into a network and what comes out.
pub mod data {
    pub use crate::network::Forward;
    pub use crate::sequences::Sequences;
    pub use crate::targets::Targets;
    #[doc(inline)]
    pub use gatefold_model::{LayerState, Parameters, States};
}

/// Devices: what a network can run on, and how a GPU is opened.
pub mod devices {
    pub use crate::choice::DeviceChoice;
    pub use crate::cpu::Cpu;
    pub use crate::device::{Device, MOST_THREADS};
    #[cfg(feature = "gpu")]
    pub use crate::gpu::{AdapterSummary, Gpu, GpuOptions, adapters, adapters_async};
    #[cfg(feature = "gpu")]
    pub use crate::tune::{Candidate, TunedScan, tune};
    #[doc(inline)]
    pub use gatefold_cpu::{Instructions, Threads};
    #[cfg(feature = "gpu")]
    #[doc(inline)]
    pub use gatefold_schedule::product::ProductChoice;
    #[cfg(feature = "gpu")]
    #[doc(inline)]
    pub use gatefold_schedule::scan::ScanChoice;
}

/// Schedules: a network lowered to the kernels that run it, as data.
#[cfg(feature = "gpu")]
pub mod schedule {
    #[doc(inline)]
    pub use gatefold_schedule::pass::{Axis, Shape, memory_need, schedule};
    #[doc(inline)]
    pub use gatefold_schedule::{MemoryNeed, Plan, Target};
}

/// Doors for the tests of this workspace and its self-check.
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod hooks {
    pub use crate::gpu::{probed, run_kernel, run_plan, with_resident_groups, with_tuning};
    pub use gatefold_schedule::scan::probe;
    pub use gatefold_schedule::{Given, Step, assign};
}

/// Runs a future to its end. Only the public blocking methods call it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    // On the CPU it never waits, and then needs no waker, which would be allocated.
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => pollster::block_on(future),
    }
}

/// The README's program is compiled and run with the documentation's.
#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
