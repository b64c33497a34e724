//! The parameters of every kernel, field by field as WGSL has them, and the reach of a dispatch with them.
//!
//! They travel as immediates where the device has those, in a uniform buffer elsewhere. So every struct is a multiple
//! of 16 bytes long and holds nothing but `u32` and `f32`. `layout_tests.rs` compares each with the one that naga finds
//! in the shader.

use crate::{Extents, KernelVariant};
use bytemuck::Pod;

/// A struct that a kernel reads, as its `params` or from a buffer.
pub trait Layout: Pod {
    /// Its name in WGSL.
    const WGSL_NAME: &'static str;
    /// Its fields in order, name and type; each is four bytes long.
    const FIELDS: &'static [(&'static str, &'static str)];
}

/// A struct that is some kernel's `params`.
pub trait Params: Layout {
    /// The reach of a dispatch of `groups` workgroups of this variant with these params.
    ///
    /// # Panics
    /// If the variant lacks a constant or the cell that it needs.
    fn extents(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Extents;

    /// Elements of each binding that the dispatch reads or writes, each counted once. By default all up to the last
    /// that it reaches, which is too many where it begins past the start of a binding; steps count theirs.
    ///
    /// # Panics
    /// Those of [`Params::extents`].
    fn touched(&self, kernel: &KernelVariant, groups: [u32; 3]) -> Vec<u64> {
        self.extents(kernel, groups).lens
    }
}

/// Declares structs of four-byte fields together with their names in WGSL, so that a name is written once.
macro_rules! params {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }

        impl $crate::params::Layout for $name {
            const WGSL_NAME: &'static str = stringify!($name);
            const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($field), stringify!($kind))),*];
        }
    )*};
}

mod grid;
mod linear;
mod loss;
mod optim;
mod row;
mod scan;
mod scans;
mod sequence;
mod steps;

pub use grid::*;
pub use linear::*;
pub use loss::*;
pub use optim::*;
pub use row::*;
pub use scan::*;
pub use scans::*;
pub use sequence::*;
pub use steps::*;
