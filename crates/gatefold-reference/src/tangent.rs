//! Forward-mode derivatives of whole networks, and products with the Gauss-Newton matrix.

use crate::loss::Loss;
use crate::network::{Batch, Gradients, Network, Tensors};
use crate::{Dual, LayerState, States};
use ndarray::{Array3, ArrayView3};

/// A direction in the space of everything that a network's output depends on.
#[derive(Clone, Debug)]
pub struct Tangents {
    /// A tensor for each parameter.
    pub parameters: Tensors<f64>,
    /// Of the input, `[T, B, I]`; `None` means zeros. Ignored for tokens and past a row's end.
    pub input: Option<Array3<f64>>,
    /// Of the decoder's input, likewise.
    pub decoder_input: Option<Array3<f64>>,
    /// Of the initial states that the batch gives; `None` means zeros.
    pub states: Option<States<f64>>,
}

impl Tangents {
    /// A direction in the parameters alone.
    pub fn of_parameters(parameters: Tensors<f64>) -> Self {
        Tangents { parameters, input: None, decoder_input: None, states: None }
    }
}

/// The derivative of a network's results along a direction.
#[derive(Clone, Debug)]
pub struct Jvp {
    /// Of the output, `[T', B, O]`; zero past a row's end.
    pub output: Array3<f64>,
    /// Of the final states.
    pub states: States<f64>,
    /// Of the output of each layer, in order: `[T', B, O']` with arbitrary values past a row's end.
    pub layers: Vec<Array3<f64>>,
}

fn dual_states(values: &States<f64>, tangents: Option<&States<f64>>) -> States<Dual> {
    let layers = values.layers.iter().enumerate().map(|(n, values)| {
        let Some(tangents) = tangents.map(|tangents| &tangents.layers[n]) else {
            return LayerState {
                h: Dual::constants(&values.h),
                c: values.c.as_ref().map(Dual::constants),
                y: values.y.as_ref().map(Dual::constants),
            };
        };
        LayerState {
            h: Dual::join(&values.h, &tangents.h),
            c: values.c.as_ref().zip(tangents.c.as_ref()).map(|(c, tangent)| Dual::join(c, tangent)),
            y: values.y.as_ref().zip(tangents.y.as_ref()).map(|(y, tangent)| Dual::join(y, tangent)),
        }
    });
    States { layers: layers.collect() }
}

fn tangent_states(states: &States<Dual>) -> States<f64> {
    let layers = states.layers.iter().map(|state| LayerState {
        h: state.h.map(|h| h.tangent),
        c: state.c.as_ref().map(|c| c.map(|c| c.tangent)),
        y: state.y.as_ref().map(|y| y.map(|y| y.tangent)),
    });
    States { layers: layers.collect() }
}

fn dual_sequence(values: ArrayView3<f64>, tangent: Option<&Array3<f64>>) -> Array3<Dual> {
    tangent.map_or_else(|| Dual::constants(&values), |tangent| Dual::join(&values, &tangent.view()))
}

impl Network<f64> {
    /// The derivative of the output and of the final states along a direction: the forward pass in dual numbers.
    ///
    /// # Panics
    /// As [`Network::forward`], and if a tangent is not shaped like its value or missing for a parameter.
    pub fn jvp(&self, batch: &Batch<f64>, tangents: &Tangents) -> Jvp {
        let parameters = self.parameters().iter().map(|(name, values)| {
            let tangent = tangents.parameters.get(name);
            let tangent = tangent.unwrap_or_else(|| panic!("{name} has a tangent"));
            (name.clone(), Dual::join(values, tangent))
        });
        let network = self.with_parameters::<Dual>(parameters.collect());
        let input = dual_sequence(batch.input, tangents.input.as_ref());
        let decoder = batch
            .decoder
            .map(|(input, lengths)| (dual_sequence(input, tangents.decoder_input.as_ref()), lengths));
        let states = batch.states.map(|states| dual_states(states, tangents.states.as_ref()));
        let tape = network.forward(&Batch {
            input: input.view(),
            lengths: batch.lengths,
            states: states.as_ref(),
            decoder: decoder.as_ref().map(|(input, lengths)| (input.view(), *lengths)),
            dropout: batch.dropout,
        });
        let layers = 0..self.config().layers().len();
        Jvp {
            output: tape.output().map(|y| y.tangent),
            states: tangent_states(tape.states()),
            layers: layers.map(|index| tape.layer_output(index).map(|y| y.tangent)).collect(),
        }
    }

    /// The product `J^T H J v` of the Gauss-Newton matrix with a direction (Schraudolph 2002): J is the derivative of the
    /// output, H that of the loss's gradient with respect to the output. `target` and `weights [T' B]` are those of
    /// [`Loss::weighted`].
    ///
    /// # Panics
    /// As [`Network::jvp`] and [`Loss::weighted`].
    pub fn gauss_newton(
        &self,
        batch: &Batch<f64>,
        loss: &Loss<f64>,
        (target, weights): (ArrayView3<f64>, &[f64]),
        tangents: &Tangents,
    ) -> Gradients<f64> {
        let tape = self.forward(batch);
        let tangent = self.jvp(batch, tangents).output;
        let d_output = loss.curvature_product(tape.output(), target, weights, tangent.view());
        self.backward(&tape, d_output.view(), None)
    }
}

impl Loss<f64> {
    /// The derivative along `tangent [T, B, O]` of the gradient that [`Loss::weighted`] gives: its Hessian times a vector.
    ///
    /// # Panics
    /// As [`Loss::weighted`], and if the tangent is not shaped like the output.
    pub fn curvature_product(
        &self,
        output: ArrayView3<f64>,
        target: ArrayView3<f64>,
        weights: &[f64],
        tangent: ArrayView3<f64>,
    ) -> Array3<f64> {
        let constant = |value: f64| Dual { value, tangent: 0.0 };
        let dual = match self {
            Loss::Squared => Loss::Squared,
            Loss::Absolute => Loss::Absolute,
            Loss::Huber { delta } => Loss::Huber { delta: constant(*delta) },
            Loss::CrossEntropy => Loss::CrossEntropy,
            Loss::Quantile { levels } => {
                Loss::Quantile { levels: levels.iter().map(|&level| constant(level)).collect() }
            }
            Loss::Gaussian => Loss::Gaussian,
        };
        let weights: Vec<Dual> = weights.iter().map(|&weight| constant(weight)).collect();
        let output = Dual::join(&output, &tangent);
        let (_, d) = dual.weighted(output.view(), Dual::constants(&target).view(), &weights);
        d.map(|d| d.tangent)
    }
}
