use crate::Error;

/// How gradients become new parameters. The equations are PyTorch's; docs/numerics.md has them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// Stochastic gradient descent; the momentum buffer starts as the first gradient.
    Sgd {
        /// How much of the last direction stays; 0 for none.
        momentum: f32,
        /// Whether to look ahead along the momentum.
        nesterov: bool,
        /// This times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// RMSprop (Tieleman and Hinton 2012).
    RmsProp {
        /// How much of the running mean of the gradient's square stays.
        alpha: f32,
        /// Keeps the quotient finite.
        epsilon: f32,
        /// How much of the last direction stays; 0 for none.
        momentum: f32,
        /// Whether the gradient's running mean is taken off first (Graves 2013).
        centered: bool,
        /// This times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// How much of the gradient's running mean stays.
        beta1: f32,
        /// How much of the running mean of its square stays.
        beta2: f32,
        /// Keeps the quotient finite.
        epsilon: f32,
        /// This times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// Adam with the decay apart from the gradient (Loshchilov and Hutter 2019).
    AdamW {
        /// How much of the gradient's running mean stays.
        beta1: f32,
        /// How much of the running mean of its square stays.
        beta2: f32,
        /// Keeps the quotient finite.
        epsilon: f32,
        /// This times the learning rate is the share of a parameter that is lost every update.
        weight_decay: f32,
    },
}

impl Optimizer {
    /// Without momentum or decay.
    pub fn sgd() -> Self {
        Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// PyTorch's defaults: 0.99, 1e-8, no momentum, not centred, no decay.
    pub fn rmsprop() -> Self {
        Optimizer::RmsProp { alpha: 0.99, epsilon: 1e-8, momentum: 0.0, centered: false, weight_decay: 0.0 }
    }

    /// PyTorch's defaults: 0.9, 0.999, 1e-8, no decay.
    pub fn adam() -> Self {
        Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }

    /// PyTorch's defaults: 0.9, 0.999, 1e-8, decay 0.01.
    pub fn adamw() -> Self {
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 }
    }

    /// The names of what it keeps for every parameter, as checkpoints have them, sorted.
    pub(crate) fn moments(&self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { momentum: 0.0, .. } => &[],
            Optimizer::Sgd { .. } => &["momentum"],
            Optimizer::RmsProp { centered: false, momentum: 0.0, .. } => &["v"],
            Optimizer::RmsProp { centered: false, .. } => &["momentum", "v"],
            Optimizer::RmsProp { centered: true, momentum: 0.0, .. } => &["mean", "v"],
            Optimizer::RmsProp { centered: true, .. } => &["mean", "momentum", "v"],
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => &["m", "v"],
        }
    }

    /// Refuses options outside the range in which the equations make sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let within = |name: &str, value: f32, fits: bool, range: &str| {
            if fits {
                return Ok(());
            }
            Err(Error::Config(format!("optimizer: {name} is {value}; expected {range}")))
        };
        let share =
            |name, value: f32| within(name, value, (0.0..1.0).contains(&value), "at least 0 and below 1");
        let decay = |value: f32| {
            within("weight decay", value, value >= 0.0 && value.is_finite(), "a finite number, 0 or more")
        };
        let above_zero = |value: f32| {
            within("epsilon", value, value > 0.0 && value.is_finite(), "a finite number above 0")
        };
        match *self {
            Optimizer::RmsProp { alpha, epsilon, momentum, weight_decay, centered: _ } => {
                share("alpha", alpha)?;
                share("momentum", momentum)?;
                decay(weight_decay)?;
                above_zero(epsilon)
            }
            Optimizer::Sgd { momentum, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                decay(weight_decay)?;
                within("momentum", momentum, !nesterov || momentum > 0.0, "more than 0 for nesterov")
            }
            Optimizer::Adam { beta1, beta2, epsilon, weight_decay }
            | Optimizer::AdamW { beta1, beta2, epsilon, weight_decay } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                decay(weight_decay)?;
                above_zero(epsilon)
            }
        }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::adam()
    }
}
