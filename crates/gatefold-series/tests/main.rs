//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod baselines;
mod models;
mod other_implementations;
mod table;
mod tables;
