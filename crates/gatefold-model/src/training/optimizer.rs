use crate::ModelError;

/// The rule that turns gradients into new parameters. The equations are PyTorch's; docs/numerics.md has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Stochastic gradient descent; the momentum buffer starts as the first gradient.
    Sgd {
        /// The share of the last direction that stays; 0 for none.
        momentum: f32,
        /// Whether to look ahead along the momentum.
        nesterov: bool,
        /// The weight decay: this times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// RMSprop (Tieleman and Hinton 2012).
    RmsProp {
        /// The share of the running mean of the gradient's square that stays.
        alpha: f32,
        /// Added to the denominator to keep the quotient finite.
        epsilon: f32,
        /// The share of the last direction that stays; 0 for none.
        momentum: f32,
        /// Whether the gradient's running mean is subtracted first (Graves 2013).
        centered: bool,
        /// The weight decay: this times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// Adam (Kingma and Ba 2015).
    Adam {
        /// The share of the gradient's running mean that stays.
        beta1: f32,
        /// The share of the running mean of its square that stays.
        beta2: f32,
        /// Added to the denominator to keep the quotient finite.
        epsilon: f32,
        /// The weight decay: this times the parameter is added to the gradient.
        weight_decay: f32,
    },
    /// Adam with the decay separate from the gradient (Loshchilov and Hutter 2019).
    AdamW {
        /// The share of the gradient's running mean that stays.
        beta1: f32,
        /// The share of the running mean of its square that stays.
        beta2: f32,
        /// Added to the denominator to keep the quotient finite.
        epsilon: f32,
        /// The weight decay: this times the learning rate is the share of a parameter removed by every update.
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

    /// The same with another weight decay.
    pub fn with_weight_decay(mut self, decay: f32) -> Self {
        let (Optimizer::Sgd { weight_decay, .. }
        | Optimizer::RmsProp { weight_decay, .. }
        | Optimizer::Adam { weight_decay, .. }
        | Optimizer::AdamW { weight_decay, .. }) = &mut self;
        *weight_decay = decay;
        self
    }

    /// The running mean of the gradient.
    pub const FIRST: &str = "m";
    /// The running mean of its square.
    pub const SECOND: &str = "v";
    /// The running mean of the gradient that a centred RMSprop subtracts.
    pub const MEAN: &str = "mean";
    /// The direction kept by momentum.
    pub const MOMENTUM: &str = "momentum";
    /// All moments of all optimisers.
    pub const MOMENTS: [&str; 4] =
        [Optimizer::FIRST, Optimizer::MEAN, Optimizer::MOMENTUM, Optimizer::SECOND];

    /// The moving average of the parameters, stored in checkpoints beside the moments.
    pub const AVERAGE: &str = "average";

    /// The names of the moments kept for every parameter, sorted, as in checkpoints.
    pub fn moments(&self) -> Vec<&'static str> {
        let kept = |name: &str| match *self {
            Optimizer::Sgd { momentum, .. } => name == Optimizer::MOMENTUM && momentum > 0.0,
            Optimizer::RmsProp { centered, momentum, .. } => {
                name == Optimizer::SECOND
                    || name == Optimizer::MEAN && centered
                    || name == Optimizer::MOMENTUM && momentum > 0.0
            }
            Optimizer::Adam { .. } | Optimizer::AdamW { .. } => {
                name == Optimizer::FIRST || name == Optimizer::SECOND
            }
        };
        Optimizer::MOMENTS.into_iter().filter(|name| kept(name)).collect()
    }

    /// Refuses options outside the range in which the equations make sense.
    ///
    /// # Errors
    /// [`ModelError::Option`] names the option.
    pub fn check(&self) -> Result<(), ModelError> {
        let within = |name: &str, value: f32, fits: bool, range: &str| {
            if fits {
                return Ok(());
            }
            Err(ModelError::option(format!("optimizer: {name}"), value, range))
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
