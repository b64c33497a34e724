//! The GPU: the only code that knows wgpu. It runs the plans of `gatefold-schedule` and decides nothing.

mod adapter;
mod attempt;
mod buffer;
mod custom_wgsl;
mod grid;
mod network;
mod pipeline;
mod pipeline_cache;
mod prepared;
mod replay;
mod training;
mod tuning_file;

pub use adapter::{AdapterSummary, Gpu, GpuOptions, adapters, adapters_async};
pub(crate) use buffer::{DeviceBuffer, bytes};
pub(crate) use custom_wgsl::check as check_custom;
pub use grid::{probed, with_resident_groups, with_tuning};
pub(crate) use network::{GpuGradients, GpuNetwork, GpuStream, GpuTape};
pub(crate) use prepared::{SharedBuffers, Steps};
pub(crate) use replay::Compiled;
pub use replay::{run_kernel, run_plan};
pub(crate) use training::GpuTraining;
pub(crate) use tuning_file::{read as read_tuning, write as write_tuning};

#[cfg(test)]
mod layer_tests;
