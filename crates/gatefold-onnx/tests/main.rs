//! All tests of this crate's public interface, in one program, which is faster to build than one for each file. What counts allocations has a
//! program, and an allocator, of its own.

mod export;
mod files;
mod frozen;
mod import;
mod independent;
mod nodes;
mod operators;
mod run;
mod stream;
