use serde::{Deserialize, Serialize};
use std::fmt;

/// The function a dense layer applies to each of its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Activation {
    /// `y = x`
    #[default]
    Identity = 0,
    /// `y = max(x, 0)`
    Relu = 1,
    /// `y = tanh(x)`
    Tanh = 2,
    /// `y = 1 / (1 + exp(-x))`
    Sigmoid = 3,
}

impl Activation {
    /// Every activation, for tests and tables.
    pub const ALL: [Activation; 4] =
        [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
