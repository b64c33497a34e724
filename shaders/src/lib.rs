//! The WGSL kernels of Gatefold, and everything that must agree with their text: the table of kernels, the layout of
//! their params, the constants that they are compiled with. Knows no wgpu.
//!
//! A kernel is a row of [`KernelId::spec`]: named parts of text, joined after a short prelude of constants.
//! [`KernelVariant::source`] gives the WGSL of one variant, [`params::Params::extents`] the reach of a dispatch.

mod custom;
mod extents;
#[cfg(test)]
mod extents_tests;
mod kernels;
#[cfg(test)]
mod layout_tests;
pub mod params;
mod stage;
#[cfg(test)]
mod touched;
mod variant;

pub use custom::CustomStage;
pub use extents::Extents;
pub use kernels::{Access, Const, ElementLossKind, KernelId, KernelSpec, Part, Place};
pub use stage::CellStage;
pub use variant::{Columns, KernelVariant, Lanes, ParamsFrom};

/// Invocations of a workgroup in kernels that treat each element on its own.
pub const ELEMENT_WG_SIZE: u32 = 64;
/// Invocations of a workgroup in the gradient's norm and the optimisers, a power of two.
pub const UPDATE_WG_SIZE: u32 = 256;
/// The same on a software driver, where a workgroup of one subgroup needs no barrier that waits.
pub const SOFTWARE_UPDATE_WG_SIZE: u32 = 8;
/// Elements that an invocation packs or unpacks on a software driver, which reads tables slowly; a GPU has an invocation
/// for each.
pub const SOFTWARE_EACH: u32 = 16;
/// Invocations of a workgroup in scans and matrix products: one subgroup on most devices, four on llvmpipe.
pub const TILE_WG_SIZE: u32 = 32;
/// Rows, and columns, of the invocations of a workgroup in `matmul_staged`.
pub const STAGED_SIDE: u32 = 16;
/// Inner elements that `matmul_staged` keeps in workgroup memory at a time.
pub const STAGED_DEPTH: u32 = 16;
/// Lanes that pass values around in `lanes_subgroup`; a device's subgroups must be at least as wide.
pub const SUBGROUP_LANES: u32 = 8;
/// Storage buffers of a kernel whose workgroups wait for each other: one more than WebGPU promises.
pub const GRID_STORAGE_BUFFERS: u32 = 9;
/// Words from one counter of arrivals to the next, where workgroups wait for each other.
pub const SYNC_STRIDE: u32 = 32;
/// The word before them that is 1 once a workgroup gave up waiting.
pub const GAVE_UP: usize = 0;
/// The word that counts the workgroups of a probe that saw all of them arrive.
pub const SEEN: usize = 1;
/// The most elements of a piece of the gradient, as the norm and the optimisers walk it.
pub const MAX_PIECE_LEN: u32 = 4096;
/// Elements of a block in which an overflow of an update is noted.
pub const OVERFLOW_BLOCK: u32 = 64;
/// The most buffers that a dispatch packs into or unpacks from.
pub const JOINED: usize = 5;
/// Stands for no other source to pack.
pub const NO_OTHER: u32 = u32::MAX;
/// Stands for no step in params that name one.
pub const NO_STEP: u32 = u32::MAX;
/// The most bytes of params that a kernel takes.
pub const MAX_PARAMS_BYTES: usize = 96;
