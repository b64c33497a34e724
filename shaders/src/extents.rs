//! The reach of a dispatch: the elements of each buffer that it touches, and the length of its loops.
//!
//! Kernels bound their loops and indices by their params, and release builds run them without wgpu's checks. So the
//! planner compares these numbers with the buffers and the device's limits before it dispatches. Each params struct
//! computes them itself, beside its fields.

/// The reach of one dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Elements that the dispatch touches of each binding, in the order of the kernel's bindings; 0 if it leaves the
    /// binding alone.
    pub lens: Vec<u64>,
    /// Loop iterations of the busiest invocation, all its loops together, as if none were unrolled.
    pub iterations: u64,
}

impl Extents {
    /// Whether the dispatch reads or writes a binding. If not, anything may be bound there.
    pub fn touches(&self, binding: usize) -> bool {
        self.lens[binding] > 0
    }

    /// The same of a member that begins at these values of the bindings.
    pub(crate) fn begun_at(mut self, places: &[u64]) -> Extents {
        for (len, begin) in self.lens.iter_mut().zip(places) {
            *len += if *len > 0 { *begin } else { 0 };
        }
        self
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

/// One past the last element touched in slots of `batch` rows of `width` elements, up to this slot and the furthest of
/// these columns.
pub(crate) fn rows_end(slot: u32, batch: u32, width: u32, columns: &[u32]) -> u64 {
    let last_row = (u64::from(slot) + 1) * u64::from(batch) - 1;
    last_row * u64::from(width) + columns.iter().map(|&end| u64::from(end)).max().unwrap_or(0)
}
