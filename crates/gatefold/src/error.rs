use gatefold_model::ModelError;

/// What can go wrong in the engine: what, expected, found, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A description, parameters or a file that the model crate refuses.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Data whose shape does not fit the network or each other.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The data.
        what: String,
        /// The shape that fits, axes named.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// A number among the data that means nothing, with its place.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// The number and its place.
        what: String,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// An option that makes no sense.
    #[error("{0}")]
    Config(String),
    /// No adapter of the kind that was asked for.
    #[error("no GPU adapter matches \"{wanted}\"; found {}; try device \"cpu\"", list(found))]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The names of the adapters that are there.
        found: Vec<String>,
    },
    /// The device cannot do what it was asked for.
    #[error("{0}")]
    Device(String),
    /// The device went away: a reset driver, an unplugged adapter. Start again from the last checkpoint.
    #[error("the device was lost: {0}; start again from the last checkpoint")]
    DeviceLost(String),
    /// The device has no memory left.
    #[error("out of memory on the device: {what} needs {needed_bytes} bytes; use a smaller batch or network")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// How much of it.
        needed_bytes: u64,
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
        /// The largest part of a buffer that it lets a kernel see.
        binding_bytes: u64,
    },
    /// Training stopped: a gradient was infinite or NaN. The parameters are those of the update before.
    #[error(
        "update {step}: the gradient of {layer} is not finite, and no update was made since; check the data for NaN, \
         lower the learning rate or clip the gradient, and go on from the last checkpoint"
    )]
    NotFinite {
        /// The first update with such a gradient, counted from 1.
        step: u64,
        /// The layer nearest the loss with such a gradient, such as `layer 1 (lstm)`.
        layer: String,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
