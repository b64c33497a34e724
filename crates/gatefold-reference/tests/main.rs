//! All tests of this crate's public interface, in one program, which is faster to build than one for each file.

mod common;
mod conformance;
mod dilation;
mod dressed_gradients;
mod gauss_newton;
mod gradients;
mod network_gradients;
mod papers;
mod properties;
mod pytorch;
mod recurrent_gradients;
mod single_precision;
