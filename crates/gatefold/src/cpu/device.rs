//! The choice of threads and instructions.

use gatefold_cpu::{Instructions, Threads};

/// The CPU device: plain Rust on this many threads, with these vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cpu {
    /// Results are the same bits for any number.
    pub threads: Threads,
    /// Results differ by rounding from one set to another.
    pub instructions: Instructions,
}
