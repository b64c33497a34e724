//! All tests of this crate's public interface, in one program, which is faster to build than one for each file. What counts allocations has a
//! program, and an allocator, of its own.

mod cells;
mod common;
mod dressed;
mod invariance;
mod layers;
mod reference;
