//! The CPU's side of networks and training. It calls `gatefold-cpu` directly and knows no plans.

mod device;
mod network;
mod training;

pub use device::Cpu;
pub(crate) use network::{CpuNetwork, CpuTape};
pub(crate) use training::CpuTraining;
