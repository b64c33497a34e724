use crate::ModelError;

/// The loss to minimise. The equations are in docs/numerics.md.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Loss {
    /// `(output - target)^2`
    #[default]
    SquaredError,
    /// `|output - target|`
    AbsoluteError,
    /// Half the square of the residual up to `delta`, a straight line beyond (Huber 1964), as PyTorch's `HuberLoss`.
    Huber {
        /// Where the line begins; above 0.
        delta: f32,
    },
    /// Softmax and cross-entropy: the outputs are logits, one per class, and a target is the number of a class, or
    /// negative for none.
    CrossEntropy,
    /// The pinball loss (Koenker and Bassett 1978) of several levels at once: outputs are `[levels, features]`, the
    /// features of the first level first.
    Quantile {
        /// Each above 0 and below 1.
        levels: Vec<f32>,
    },
    /// The Gaussian negative log likelihood without its constant: outputs are the means of all features, then the
    /// logarithms of their variances.
    GaussianLikelihood,
}

/// The way the losses of a batch become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The mean over all elements that count: steps, rows, features and, for quantiles, levels. Weights make it a
    /// weighted mean, which is 0 if all of them are 0. Cross-entropy has one element per label that is not ignored.
    #[default]
    Mean,
    /// The sum over the same elements, each times its weight.
    Sum,
}

impl Loss {
    /// The number of targets in a row, given its number of outputs.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the loss does not accept this number of outputs.
    pub fn target_width(&self, output_width: usize) -> Result<usize, ModelError> {
        let blocks = self.blocks();
        match self {
            _ if output_width == 0 => {
                Err(self.refusal(format!("there are no outputs; expected at least {blocks}")))
            }
            Loss::CrossEntropy => Ok(1),
            _ if output_width.is_multiple_of(blocks) => Ok(output_width / blocks),
            _ => Err(self.refusal(format!(
                "expected {blocks} outputs for each target, found {output_width} outputs; make the last layer a \
                 multiple of {blocks} wide"
            ))),
        }
    }

    /// `quantile`
    pub fn name(&self) -> &'static str {
        match self {
            Loss::SquaredError => "squared error",
            Loss::AbsoluteError => "absolute error",
            Loss::Huber { .. } => "huber",
            Loss::CrossEntropy => "cross-entropy",
            Loss::Quantile { .. } => "quantile",
            Loss::GaussianLikelihood => "gaussian likelihood",
        }
    }

    /// The number of outputs per target.
    fn blocks(&self) -> usize {
        match self {
            Loss::Quantile { levels } => levels.len().max(1),
            Loss::GaussianLikelihood => 2,
            _ => 1,
        }
    }

    /// The number of elements of a row in a mean.
    pub fn elements(&self, output_width: usize) -> usize {
        match self {
            Loss::CrossEntropy => 1,
            Loss::GaussianLikelihood => output_width / 2,
            _ => output_width,
        }
    }

    /// Refuses options outside the range in which the equations make sense.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the loss and the option.
    pub fn check(&self) -> Result<(), ModelError> {
        let problem = match self {
            Loss::Huber { delta } if !(*delta > 0.0 && delta.is_finite()) => {
                format!("delta is {delta}; expected a finite number above 0")
            }
            Loss::Quantile { levels } if levels.is_empty() => {
                "there is no level; expected one or more".into()
            }
            Loss::Quantile { levels } => {
                match levels.iter().find(|level| !(**level > 0.0 && **level < 1.0)) {
                    Some(level) => format!("a level is {level}; expected above 0 and below 1"),
                    None => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        Err(self.refusal(problem))
    }

    fn refusal(&self, problem: String) -> ModelError {
        ModelError::Config { place: format!("loss {}", self.name()), problem }
    }
}
