//! Tests across crates, in one program: linking the engine to each file of its own would take longer than compiling it.

mod average;
mod conformance;
mod counts;
mod custom_cells;
mod doors;
mod embed;
mod examples;
mod failures;
mod generation;
mod gradient_flow;
mod grid;
mod kernels;
mod layers;
mod learn;
mod losses;
mod noise;
mod plans;
mod products;
mod properties;
mod pytorch;
mod pytorch_training;
mod recompute;
mod second_order;
mod sequences;
mod states;
mod training;
