use serde::{Deserialize, Serialize};
use std::fmt;

/// An activation: the elementwise function of a gate, a candidate, a cell's output or a dense layer's output.
///
/// These are the activations of the ONNX operators RNN, GRU and LSTM, with the defaults of `alpha` and `beta` of ONNX's
/// operators of the same names. The derivatives are in docs/numerics.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `y = x`
    #[default]
    Identity,
    /// `y = max(x, 0)`
    Relu,
    /// `y = tanh(x)`
    Tanh,
    /// `y = 1 / (1 + exp(-x))`
    Sigmoid,
    /// `y = alpha x + beta`
    Affine {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `y = x` for `x >= 0`, else `alpha x`
    LeakyRelu {
        /// The slope below 0.
        alpha: f32,
    },
    /// `y = x` for `x > alpha`, else `0`
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
    /// `y = alpha tanh(beta x)`
    ScaledTanh {
        /// The bound of `y`.
        alpha: f32,
        /// The factor of `x`.
        beta: f32,
    },
    /// `y = min(max(alpha x + beta, 0), 1)`
    HardSigmoid {
        /// The slope in the middle.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `y = x` for `x >= 0`, else `alpha (exp(x) - 1)`
    Elu {
        /// The bound below 0.
        alpha: f32,
    },
    /// `y = x / (1 + abs(x))`
    Softsign,
    /// `y = ln(1 + exp(x))`
    Softplus,
}

impl Activation {
    /// Every activation, for tests and tables; those with parameters have sample values.
    pub const ALL: [Activation; 12] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Affine { alpha: 0.3, beta: 0.4 },
        Activation::LeakyRelu { alpha: 0.01 },
        Activation::ThresholdedRelu { alpha: 0.3 },
        Activation::ScaledTanh { alpha: 0.7, beta: 0.6 },
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::Elu { alpha: 1.0 },
        Activation::Softsign,
        Activation::Softplus,
    ];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Affine { .. } => "affine",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::ThresholdedRelu { .. } => "thresholded_relu",
            Activation::ScaledTanh { .. } => "scaled_tanh",
            Activation::HardSigmoid { .. } => "hard_sigmoid",
            Activation::Elu { .. } => "elu",
            Activation::Softsign => "softsign",
            Activation::Softplus => "softplus",
        }
    }

    /// Its number in kernels: its index in [`Activation::ALL`].
    pub fn code(self) -> u32 {
        let same = |other: &Activation| std::mem::discriminant(other) == std::mem::discriminant(&self);
        Activation::ALL.iter().position(same).expect("all are listed") as u32
    }

    /// `alpha`, or 0 where it has none.
    pub fn alpha(self) -> f32 {
        match self {
            Activation::Affine { alpha, .. }
            | Activation::LeakyRelu { alpha }
            | Activation::ThresholdedRelu { alpha }
            | Activation::ScaledTanh { alpha, .. }
            | Activation::HardSigmoid { alpha, .. }
            | Activation::Elu { alpha } => alpha,
            _ => 0.0,
        }
    }

    /// `beta`, or 0 where it has none.
    pub fn beta(self) -> f32 {
        match self {
            Activation::Affine { beta, .. }
            | Activation::ScaledTanh { beta, .. }
            | Activation::HardSigmoid { beta, .. } => beta,
            _ => 0.0,
        }
    }

    /// Whether the slope at `x` follows from `y` alone. It does not where `y` takes a value on both sides of 0, nor
    /// where a scale of 0 hides `x`.
    pub fn slope_from_output(self) -> bool {
        match self {
            Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => alpha >= 0.0,
            Activation::ThresholdedRelu { alpha } => alpha >= 0.0,
            Activation::ScaledTanh { alpha, .. } => alpha != 0.0,
            _ => true,
        }
    }

    /// The problem with its parameters, if there is one.
    pub(crate) fn problem(self) -> Option<String> {
        let odd = [("alpha", self.alpha()), ("beta", self.beta())].into_iter().find(|(_, v)| !v.is_finite());
        odd.map(|(name, value)| format!("{name} of {} is {value}; expected a finite number", self.name()))
    }
}

/// `tanh`, `leaky_relu(0.01)`, `affine(0.3, 0.4)`
impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Activation::Affine { alpha, beta }
            | Activation::ScaledTanh { alpha, beta }
            | Activation::HardSigmoid { alpha, beta } => write!(f, "({alpha}, {beta})"),
            Activation::LeakyRelu { alpha }
            | Activation::ThresholdedRelu { alpha }
            | Activation::Elu { alpha } => write!(f, "({alpha})"),
            _ => Ok(()),
        }
    }
}
