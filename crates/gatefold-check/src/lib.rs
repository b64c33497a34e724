//! Every kernel, layer and network on the GPU against the plain reference: cases, seeded data, the comparator, and the
//! self-check that puts it all into one table.
//!
//! Tests and the command `gatefold selfcheck` run the same cases. Tolerances are those of docs/numerics.md.

mod assertions;
mod compare;
mod custom;
mod data;
mod device;
mod functions;
mod kernels;
mod networks;
mod selfcheck;
mod sequences;
pub mod validation;
mod workload;

pub use assertions::{assert_array, assert_parameters, assert_states};
pub use compare::{Comparison, Tolerance, assert_close, compare};
pub use custom::prove_cell;
pub use data::{Random, waves};
pub use device::{test_devices, test_gpu, test_gpu_with};
pub use functions::check_functions;
pub use gatefold_reference::Failures;
pub use kernels::{can_run, check_kernel};
pub use networks::{NetworkCase, check_backward, check_forward, gradient_terms, output_terms};
pub use selfcheck::{Checks, Outcome, Report, Row, selfcheck, selfcheck_cpu, selfcheck_rows};
pub use sequences::{SequenceCase, Small, check_sequences, check_tangents};
pub use workload::Workload;
