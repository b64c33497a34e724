//! The reach of a dispatch: the elements of each buffer that it touches, and the length of its loops.
//!
//! Kernels bound their loops and indices by their params, and release builds run them without wgpu's checks. So whoever
//! dispatches compares these numbers with the buffers and with the device's limits first. Every params struct says them
//! itself, beside its fields.

/// What one dispatch touches, and how long its busiest invocation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Elements that the dispatch touches of each binding, in the order of the kernel's bindings; 0: it does not touch
    /// the binding at all.
    pub lens: Vec<u64>,
    /// Loop iterations of the busiest invocation, all its loops together, as if none were unrolled.
    pub iterations: u64,
}

impl Extents {
    /// Whether the dispatch reads or writes a binding. Where it does not, the content and the length of what is bound
    /// there do not matter.
    pub fn touches(&self, binding: usize) -> bool {
        self.lens[binding] > 0
    }
}

/// The product of some sizes.
pub(crate) fn product(sizes: &[u32]) -> u64 {
    sizes.iter().map(|&size| u64::from(size)).product()
}

/// One past the last of `len` elements from `offset` on.
pub(crate) fn end(offset: u32, len: u64) -> u64 {
    u64::from(offset) + len
}

/// One past the last element that a walk over three axes reaches.
pub(crate) fn walk_end(sizes: [u32; 3], strides: [u32; 3]) -> u64 {
    let last = |(size, stride): (u32, u32)| u64::from(size.max(1) - 1) * u64::from(stride);
    sizes.into_iter().zip(strides).map(last).sum::<u64>() + 1
}

/// One past the last element that is touched of slots of `batch` rows of `width` elements, up to this slot and the
/// furthest of these columns.
pub(crate) fn rows_end(slot: u32, batch: u32, width: u32, columns: &[u32]) -> u64 {
    let last_row = (u64::from(slot) + 1) * u64::from(batch) - 1;
    last_row * u64::from(width) + columns.iter().map(|&end| u64::from(end)).max().unwrap_or(0)
}
