//! The model's losses as the reference computes them.

use gatefold_model::Loss;
use gatefold_reference::{Real, loss};

/// The reference's loss for a description.
pub(crate) fn reference_loss<R: Real>(description: &Loss) -> loss::Loss<R> {
    let real = |value: f32| R::from_f64(f64::from(value));
    match description {
        Loss::SquaredError => loss::Loss::Squared,
        Loss::AbsoluteError => loss::Loss::Absolute,
        Loss::Huber { delta } => loss::Loss::Huber { delta: real(*delta) },
        Loss::CrossEntropy => loss::Loss::CrossEntropy,
        Loss::Quantile { levels } => {
            loss::Loss::Quantile { levels: levels.iter().map(|level| real(*level)).collect() }
        }
        Loss::GaussianLikelihood => loss::Loss::Gaussian,
    }
}
