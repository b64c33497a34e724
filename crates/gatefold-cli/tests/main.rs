//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod backtest;
mod config;
mod forecast;
mod gaps;
mod gradients;
mod machine;
mod models;
mod predict;
mod report;
mod support;
mod sweep;
mod tasks;
mod texts;
