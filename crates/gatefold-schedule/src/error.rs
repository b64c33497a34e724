/// A pass that the network or the device cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A shape of a batch that the network does not read.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The part of the batch.
        what: String,
        /// The shape that the network reads.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// A tensor beyond what the device allows in one buffer or binding.
    #[error(
        "{tensor} needs {needed_bytes} bytes; the device allows {buffer_bytes} in a buffer and {binding_bytes} in a \
         binding; use a smaller batch, fewer steps, a smaller network or another device"
    )]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its size.
        needed_bytes: u64,
        /// The largest buffer that the device allows.
        buffer_bytes: u64,
        /// The largest part of a buffer that a kernel may see.
        binding_bytes: u64,
    },
    /// A kernel that would need more workgroups, or longer loops, than the device allows.
    #[error("{what} takes {needed}; the device allows {allowed}; {advice}")]
    Limit {
        /// The work, such as `layer0.x: a product of [100000, 3] and [3, 8]`.
        what: String,
        /// The number that it needs, with its unit.
        needed: String,
        /// The number that the device allows, with its unit.
        allowed: String,
        /// How to get by with less.
        advice: String,
    },
}

impl Error {
    pub(crate) fn limit(what: String, needed: String, allowed: String, advice: &str) -> Error {
        Error::Limit { what, needed, allowed, advice: advice.into() }
    }
}
