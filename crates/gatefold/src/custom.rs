//! A cell of your own: two functions for one unit in one step, in WGSL and in Rust, from which the engine makes whole
//! layers.
//!
//! A cell is a type that implements [`CellDefinition`]. [`register`] checks it and makes it known to the process; the
//! handle that it returns goes into a description, as a [`CustomConfig`] or through
//! [`custom`](crate::layers::NetworkBuilder::custom). The engine does the rest, as for its own cells: weights and biases,
//! every scan on a GPU and the CPU device, both directions, lengths, stacks, streams, training.
//!
//! ```
//! use gatefold::custom::{self, CellDefinition, CustomGate, Real, UnitGradient, UnitStep, sigmoid};
//! use gatefold::{Device, Network, NetworkConfig};
//! use ndarray::Array3;
//!
//! /// A leaky integrator: `f = sigmoid(a)`, `h = f h(t-1) + (1 - f) b`.
//! struct Leaky;
//!
//! impl CellDefinition for Leaky {
//!     const NAME: &'static str = "leaky";
//!     const GATES: &'static [CustomGate] = &[CustomGate::summed("keep").bias(1.0), CustomGate::summed("input")];
//!     const WGSL: &'static str = "
//!         fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
//!             let f = sigmoid(pre.x);
//!             return CustomStep(vec4(f, pre.y, 0.0, 0.0), f * prev + (1.0 - f) * pre.y, 0.0);
//!         }
//!
//!         fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
//!             let f = saved.x;
//!             let d_a = d_h * (prev - saved.y) * f * (1.0 - f);
//!             return CustomGradient(vec4(d_a, d_h * (1.0 - f), 0.0, 0.0), d_h * f);
//!         }
//!     ";
//!
//!     fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
//!         let (f, b) = (sigmoid(pre[0]), pre[1]);
//!         UnitStep { saved: [f, b, R::ZERO, R::ZERO], h: f * prev + (R::ONE - f) * b, state: R::ZERO }
//!     }
//!
//!     fn backward<R: Real>(saved: [R; 4], prev: R, _state: R, d_h: R, _d_state: R) -> UnitGradient<R> {
//!         let [f, b, ..] = saved;
//!         let d_a = d_h * (prev - b) * f * (R::ONE - f);
//!         UnitGradient { pre: [d_a, d_h * (R::ONE - f), R::ZERO, R::ZERO], prev: d_h * f }
//!     }
//! }
//!
//! let leaky = custom::register::<Leaky>()?;
//! let config = NetworkConfig::with_input(3).custom(leaky, 16).last_step().dense(1).build()?;
//! assert_eq!(config.to_string(), "3 -> leaky 16 -> last step -> dense 1");
//! let network = Network::new(&Device::cpu()?, &config, 7)?;
//! assert_eq!(network.predict(&Array3::ones((9, 4, 3)))?.dim(), (1, 4, 1));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # What the functions see
//!
//! - `pre`, the lanes of the unit: `W x + b + U h(t-1) + b_h` of each gate of [`CellDefinition::GATES`], in order. A
//!   [`CustomGate::split`] gate has two, `W x + b` in its place and `U h(t-1) + b_h` after the lanes of all gates. At most
//!   four lanes in all.
//! - `prev`, the number that the unit carries from step to step around all weights: its state, in a cell that has one
//!   ([`CellDefinition::HAS_STATE`]), else h(t-1). A cell with a state does not see h(t-1) but through its gates.
//! - In WGSL also what the engine's own cells call: `sigmoid(x)`, `bounded_tanh(x)`, `decay(x)` and `rise(x)` (`e^x` and
//!   `1 - e^x` for `x` of at most 0), `unless_nan(x, y)`. WGSL's own `exp` and `tanh` may be less exact, and may overflow.
//!
//! Forward leaves h, the state, and four numbers of its choice for backward. All names that the WGSL declares begin with
//! `custom_`, `Custom` or `CUSTOM_`, so they cannot meet those of the kernels. It declares no variables and no entry points,
//! and calls no barriers. Loops and indices that are not constant are allowed, but its kernels then run with the bounds
//! checks of wgpu, which are slower.
//!
//! The Rust functions run on the CPU device, unit by unit, and are the reference that `gatefold_check::prove_cell` holds
//! the WGSL against; and them against central differences.
//!
//! # What is refused
//!
//! Layer normalisation, zoneout, recurrent dropout and clips, which reach into a cell's functions; forward-mode derivatives,
//! and Hessian-free training, which takes them; ONNX and PyTorch files. A file of a network with such a layer is read only
//! by a program that registered the cell; the file has the names of its gates, not its functions.

use crate::Error;
#[doc(inline)]
pub use gatefold_model::{CustomCell, CustomConfig, CustomGate, UnitGradient, UnitStep};
#[doc(inline)]
pub use gatefold_reference::Real;
#[doc(inline)]
pub use gatefold_reference::activation::{sigmoid, tanh};
#[doc(inline)]
pub use gatefold_reference::custom::CellDefinition;

/// Checks a cell and makes it known to this process, for good, so that files with its layers can be read. A second call
/// with the same type returns the same cell.
///
/// The WGSL is parsed and joined with every kernel here, before there is a device. Without the feature `gpu` it never runs,
/// and is not looked at.
///
/// # Errors
/// [`ModelError::Config`](crate::ModelError::Config) for a name that is taken or is no name, for too many lanes, and for WGSL
/// that is not valid, with its line.
pub fn register<C: CellDefinition>() -> Result<CustomCell, Error> {
    let parts = gatefold_reference::custom::parts::<C>();
    parts.check()?;
    #[cfg(feature = "gpu")]
    crate::gpu::check_custom(&parts)?;
    Ok(CustomCell::register(parts)?)
}
