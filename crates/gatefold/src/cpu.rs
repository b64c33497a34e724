//! The CPU device behind the engine's doors: calls `gatefold-cpu`, interprets no plan.

mod network;
mod training;

pub(crate) use network::{CpuNetwork, CpuTape};
pub(crate) use training::CpuTraining;
