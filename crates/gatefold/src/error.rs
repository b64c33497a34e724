use gatefold_model::ModelError;

/// Everything that can go wrong in the engine. A message says what was expected, what was found and what to do; the
/// variant carries the same facts as data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A description, parameters or a file that the model crate refuses.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Data whose shape does not fit the network, or other data.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// The data.
        what: String,
        /// The shape that fits, axes named.
        expected: String,
        /// The shape that was given.
        found: String,
    },
    /// A number, in the data or in a setting, that has no meaning there.
    #[error("{what}: expected {expected}, found {found}")]
    Value {
        /// The number's name and place.
        what: String,
        /// Its range.
        expected: String,
        /// Its value.
        found: String,
    },
    /// A request that the network, its state or its data do not allow.
    #[error("{message}")]
    Refused {
        /// The kind of request.
        kind: Refusal,
        /// The index of the layer that is the reason, if one is.
        layer: Option<usize>,
        /// The reason, and a way out.
        message: String,
    },
    /// No adapter fits the request.
    #[error("no GPU adapter matches \"{wanted}\"; found {}; try device \"cpu\"", list(found))]
    NoAdapter {
        /// The name asked for.
        wanted: String,
        /// The names of the available adapters.
        found: Vec<String>,
    },
    /// A refusal by the driver or by wgpu.
    #[error("{0}")]
    Device(String),
    /// A kernel that would need more workgroups, or longer loops, than the device allows.
    #[error("{what} takes {needed}; the device allows {allowed}; {advice}")]
    Limit {
        /// The work, such as `layer0.x: a product of [100000, 3] and [3, 8]`.
        what: String,
        /// The number that it needs, with its unit.
        needed: String,
        /// The number that the device allows, with its unit.
        allowed: String,
        /// Advice on getting by with less.
        advice: String,
    },
    /// The device went away: a reset driver, an unplugged adapter. Start again from the last checkpoint.
    #[error("the device was lost: {0}; start again from the last checkpoint")]
    DeviceLost(String),
    /// The device has no memory left.
    #[error("out of memory on the device: {what} needs {needed_bytes} bytes; use a smaller batch or network")]
    OutOfMemory {
        /// The buffer.
        what: String,
        /// Its size.
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
        /// The largest part of a buffer that a kernel can see.
        binding_bytes: u64,
    },
    /// Training stopped because a gradient was infinite or NaN. The parameters keep the values from before that update.
    #[error(
        "update {step}: the gradient of {layer} is not finite, and no update has been made since; check the data for NaN, \
         lower the learning rate or clip the gradient, and resume from the last checkpoint"
    )]
    NotFinite {
        /// The first update with such a gradient, counted from 1.
        step: u64,
        /// The layer nearest the loss that has such a gradient, for example `layer 1 (lstm)`.
        layer: String,
    },
    /// An update that would have left a parameter or one of its moments infinite or NaN, and was not made. All parameters
    /// and moments and the count of updates are those from before it; training can go on.
    #[error(
        "update {step}: {parameter} or a moment of it would not be finite, so the update has not been made and \
         nothing has changed; lower the learning rate or clip the gradient, and go on"
    )]
    Overflow {
        /// The first such update, counted from 1.
        step: u64,
        /// The last parameter of the network that would have overflowed, for example `rnn0.weight_ih_l0`.
        parameter: String,
    },
}

/// The kind of a request that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// An option out of its range.
    Option,
    /// States that do not fit the network or the batch.
    States,
    /// Targets that the loss does not take.
    Targets,
    /// A tape that is older than the parameters.
    StaleTape,
    /// A tape or gradients of another network.
    ForeignTape,
    /// A network that cannot run step by step, or continue a batch, because a layer needs more than the steps so far.
    Stream,
    /// A decoder that is missing where one is needed, or present where none may be.
    Decoder,
    /// Outputs that cannot serve as the next inputs.
    Loop,
    /// A checkpoint of another kind of training.
    Checkpoint,
    /// A buffer that a recorded pass cannot use.
    Buffer,
    /// Calls of a recorded pass in the wrong order.
    Order,
}

impl Error {
    pub(crate) fn refused(kind: Refusal, message: impl Into<String>) -> Error {
        Error::Refused { kind, layer: None, message: message.into() }
    }

    pub(crate) fn refused_for(kind: Refusal, layer: usize, message: impl Into<String>) -> Error {
        Error::Refused { kind, layer: Some(layer), message: message.into() }
    }
}

#[cfg(feature = "gpu")]
impl From<gatefold_schedule::Error> for Error {
    fn from(error: gatefold_schedule::Error) -> Self {
        match error {
            gatefold_schedule::Error::Shape { what, expected, found } => {
                Error::Shape { what, expected, found }
            }
            gatefold_schedule::Error::TooLarge { tensor, needed_bytes, buffer_bytes, binding_bytes } => {
                Error::TooLarge { tensor, needed_bytes, buffer_bytes, binding_bytes }
            }
            gatefold_schedule::Error::Limit { what, needed, allowed, advice } => {
                Error::Limit { what, needed, allowed, advice }
            }
            other => Error::Device(other.to_string()),
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
