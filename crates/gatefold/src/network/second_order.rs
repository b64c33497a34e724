//! Forward-mode derivatives, and products with the Gauss-Newton matrix.

use super::{KeptTape, Network, OnDevice, Tape};
use crate::loss::reference_loss;
use crate::targets::{RowWeights, Targets};
use crate::{Error, Refusal, Sequences, block_on};
use gatefold_model::{Loss, Parameters, Reduction, Timeline};
use ndarray::{Array3, ArrayView3};

/// Refuses a loss that is not smooth and convex.
pub(super) fn check_loss(loss: &Loss) -> Result<(), Error> {
    if matches!(loss, Loss::SquaredError | Loss::CrossEntropy) {
        return Ok(());
    }
    let message =
        format!("loss {}: Gauss-Newton products are for squared error and cross-entropy", loss.name());
    Err(Error::refused(Refusal::Targets, message))
}

/// The output of a pass, and its derivative along a direction.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Jvp {
    /// `[T', B, O]`; zero past a row's end.
    pub output: Array3<f32>,
    /// `[T', B, O]`: the derivative of the output along the direction; zero past a row's end.
    pub tangent: Array3<f32>,
}

impl Network {
    /// The output for a batch of sequences and its derivative along a direction (forward mode): the Jacobian of the output
    /// with respect to the parameters, and to the input, times a vector. The direction is a tensor for each parameter and,
    /// if the input moves too, `[T, B, I]` for it, ignored past a row's end and for tokens. Initial states are the configured
    /// ones, and dropout layers drop nothing.
    ///
    /// # Errors
    /// [`Error::Model`] for a direction that is not shaped like the parameters, and for a network with layers that have no
    /// forward-mode derivatives: convolutions, decoders, dilations, layer normalisation and noise within cells;
    /// [`Error::Shape`] for a tangent not shaped like the input; those of [`Network::forward`].
    pub fn jvp<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        direction: &Parameters,
        input_tangent: Option<ArrayView3<'_, f32>>,
    ) -> Result<Jvp, Error> {
        block_on(self.jvp_async(input, direction, input_tangent))
    }

    /// [`Network::jvp`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::jvp`].
    pub async fn jvp_async<'a>(
        &self,
        input: impl Into<Sequences<'a>>,
        direction: &Parameters,
        input_tangent: Option<ArrayView3<'_, f32>>,
    ) -> Result<Jvp, Error> {
        let (tape, tangent) = self.tangent(&input.into(), direction, input_tangent).await?;
        let Tape { output, kept, .. } = tape;
        match kept {
            KeptTape::Cpu(_) => {}
            #[cfg(feature = "gpu")]
            KeptTape::Gpu(tape) => tape.give_back(),
        }
        Ok(Jvp { output, tangent })
    }

    /// The product of the Gauss-Newton matrix of a loss with a direction in the space of the parameters, `J^T H J v`
    /// (Schraudolph 2002): J is the Jacobian of the output with respect to the parameters, H the Hessian of the loss with
    /// respect to the output. The matrix is symmetric and positive semi-definite, and is never formed. The direction is a
    /// tensor for each parameter, and so is the result. `targets` and `reduction` are as in training.
    ///
    /// # Errors
    /// [`Error::Refused`] for other losses than squared error and cross-entropy; those of [`Targets::loss`] and of
    /// [`Network::jvp`].
    pub fn gauss_newton<'a, 'b>(
        &self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'b>>,
        loss: &Loss,
        reduction: Reduction,
        direction: &Parameters,
    ) -> Result<Parameters, Error> {
        block_on(self.gauss_newton_async(input, targets, loss, reduction, direction))
    }

    /// [`Network::gauss_newton`] for callers that must not block.
    ///
    /// # Errors
    /// Those of [`Network::gauss_newton`].
    pub async fn gauss_newton_async<'a, 'b>(
        &self,
        input: impl Into<Sequences<'a>>,
        targets: impl Into<Targets<'b>>,
        loss: &Loss,
        reduction: Reduction,
        direction: &Parameters,
    ) -> Result<Parameters, Error> {
        check_loss(loss)?;
        let (input, targets) = (input.into(), targets.into());
        self.config().check_forward_mode()?;
        input.check(self.config())?;
        let weights = self.row_weights(&input, &targets, loss, reduction)?;
        let (tape, tangent) = self.tangent(&input, direction, None).await?;
        let targets = targets.view();
        let wide = |values: ArrayView3<f32>| values.mapv(f64::from);
        let curved = reference_loss::<f64>(loss).curvature_product(
            wide(tape.output()).view(),
            wide(targets.values).view(),
            weights.values(),
            wide(tangent.view()).view(),
        );
        let d_output = curved.mapv(|d| d as f32);
        self.backward_async(tape, d_output.view(), None).await?.parameters_async().await
    }

    /// The weight of each row of the output of an input that belongs to this network.
    ///
    /// # Errors
    /// Those of [`RowWeights::new`].
    pub(crate) fn row_weights(
        &self,
        input: &Sequences<'_>,
        targets: &Targets<'_>,
        loss: &Loss,
        reduction: Reduction,
    ) -> Result<RowWeights, Error> {
        let timeline = self.config().timeline();
        let read = input.decoder().filter(|_| timeline == Timeline::Decoder).unwrap_or(input);
        let lengths: Option<Vec<usize>> = match timeline {
            Timeline::Single | Timeline::Expanded(_) => None,
            Timeline::Input | Timeline::Convolved(_) | Timeline::Decoder => {
                let shorter =
                    |lengths: &[usize]| lengths.iter().map(|&steps| timeline.steps(steps)).collect();
                read.lengths().map(shorter)
            }
        };
        let output = (timeline.steps(read.steps()), read.batch(), self.config().output());
        RowWeights::new(loss, reduction, &targets.view(), lengths.as_deref(), output)
    }

    /// A tape with the derivative of its output along a direction.
    async fn tangent(
        &self,
        input: &Sequences<'_>,
        direction: &Parameters,
        input_tangent: Option<ArrayView3<'_, f32>>,
    ) -> Result<(Tape, Array3<f32>), Error> {
        self.config().check_forward_mode()?;
        input.check(self.config())?;
        direction.check(self.config())?;
        if let Some(tangent) = input_tangent.filter(|tangent| tangent.dim() != input.values().dim()) {
            return Err(Error::Shape {
                what: "tangent of the input".into(),
                expected: format!("{:?}", input.values().dim()),
                found: format!("{:?}", tangent.dim()),
            });
        }
        let batch = input.batch();
        match &self.on {
            OnDevice::Cpu(network) => {
                let kept = network.forward_training(input, None, None);
                let tangent = network.jvp(&kept, direction, input_tangent)?;
                let (output, states) = (kept.tape.output().to_owned(), kept.tape.states());
                Ok((Tape { output, states, batch, kept: KeptTape::Cpu(Box::new(kept)) }, tangent))
            }
            #[cfg(feature = "gpu")]
            OnDevice::Gpu(network) => {
                let (tape, output, states, tangent) =
                    network.forward_tangent(input, direction, input_tangent).await?;
                Ok((Tape { output, states, batch, kept: KeptTape::Gpu(Box::new(tape)) }, tangent))
            }
        }
    }
}
