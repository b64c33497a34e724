//! Whole networks: the layers of a [`NetworkConfig`] in a row, forward with a tape and backward along it.

use crate::Real;
use crate::linear::{dense_backward, dense_forward};
use crate::scan::{self, Recurrence, States, Weights, flat};
use gatefold_model::{Cell, Layer, LayerKind, ModelError, NetworkConfig, Parameters, Role};
use ndarray::{Array3, ArrayD, ArrayView1, ArrayView2, ArrayView3, Axis, Ix1, Ix2, s};
use std::collections::BTreeMap;

/// Tensors by parameter name, each in standard layout.
pub type Tensors<R> = BTreeMap<String, ArrayD<R>>;

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network<R> {
    config: NetworkConfig,
    parameters: Tensors<R>,
}

/// What a layer keeps of its forward pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LayerTape<R> {
    /// Every intermediate of an LSTM.
    Lstm(Box<scan::Forward<R>>),
    /// A dense layer's output, `[T, B, O]`.
    Dense(Array3<R>),
    /// The last step, `[1, B, F]`.
    LastStep(Array3<R>),
}

impl<R: Real> LayerTape<R> {
    /// The layer's output, `[T, B, O]`, or `[1, B, O]` from the last step on.
    pub fn output(&self) -> ArrayView3<'_, R> {
        match self {
            LayerTape::Lstm(forward) => forward.output.view(),
            LayerTape::Dense(output) | LayerTape::LastStep(output) => output.view(),
        }
    }
}

/// The forward pass of a network, as the backward pass needs it.
#[derive(Clone, Debug)]
pub struct Tape<R> {
    /// `[T, B, I]`
    pub input: Array3<R>,
    /// One per layer.
    pub layers: Vec<LayerTape<R>>,
}

impl<R: Real> Tape<R> {
    /// The network's output.
    pub fn output(&self) -> ArrayView3<'_, R> {
        self.layers.last().map_or(self.input.view(), LayerTape::output)
    }

    fn layer_input(&self, index: usize) -> ArrayView3<'_, R> {
        if index == 0 { self.input.view() } else { self.layers[index - 1].output() }
    }
}

/// Every gradient of a network.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// By each parameter; what tied layers contribute is summed, from the last layer to the first.
    pub parameters: Tensors<R>,
    /// By the input, `[T, B, I]`.
    pub input: Array3<R>,
}

impl<R: Real> Network<R> {
    /// The network of that description with those parameters.
    ///
    /// # Errors
    /// What [`Parameters::check`] finds.
    pub fn new(config: &NetworkConfig, parameters: &Parameters) -> Result<Self, ModelError> {
        parameters.check(config)?;
        let convert = |value: &f32| R::from_f64(f64::from(*value));
        let parameters =
            parameters.iter().map(|(name, tensor)| (name.to_owned(), tensor.map(convert))).collect();
        Ok(Network { config: config.clone(), parameters })
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &Tensors<R> {
        &self.parameters
    }

    /// The parameters by name, to change their values but not their shapes.
    pub fn parameters_mut(&mut self) -> &mut Tensors<R> {
        &mut self.parameters
    }

    /// The forward pass over `input [T, B, I]` from initial states of zero, keeping every intermediate.
    ///
    /// # Panics
    /// If the input's width is not the network's, or there is no step.
    pub fn forward(&self, input: ArrayView3<R>) -> Tape<R> {
        assert_eq!(input.len_of(Axis(2)), self.config.input(), "the input is as wide as the network takes");
        let mut tape = Tape { input: input.as_standard_layout().into_owned(), layers: Vec::new() };
        for layer in self.config.layers() {
            let out = self.layer_forward(layer, tape.layer_input(layer.index));
            tape.layers.push(out);
        }
        tape
    }

    /// The output alone.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, input: ArrayView3<R>) -> Array3<R> {
        self.forward(input).output().to_owned()
    }

    fn layer_forward(&self, layer: &Layer, input: ArrayView3<R>) -> LayerTape<R> {
        let (steps, batch, _) = input.dim();
        match layer.kind {
            LayerKind::Recurrent(recurrent) if recurrent.is_plain_lstm() => {
                let weights = self.lstm_weights(layer, recurrent.cell);
                let zeros = States::zeros(&weights.recurrence, batch);
                let forward = scan::forward(input, &weights, &zeros, None, false);
                LayerTape::Lstm(Box::new(forward))
            }
            LayerKind::Dense { activation } => {
                let (weight, bias) = self.dense_weights(layer);
                let y = dense_forward(flat(&input).view(), weight, bias, activation);
                LayerTape::Dense(
                    y.into_shape_with_order((steps, batch, layer.output)).expect("the same elements"),
                )
            }
            LayerKind::LastStep => LayerTape::LastStep(input.slice(s![steps - 1.., .., ..]).to_owned()),
            kind => unreachable!("{} has no reference", kind.name()),
        }
    }

    /// The backward pass: `d_output` is the loss's derivative by the output of that tape.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output.
    pub fn backward(&self, tape: &Tape<R>, d_output: ArrayView3<R>) -> Gradients<R> {
        assert_eq!(d_output.dim(), tape.output().dim(), "one derivative per output");
        let mut parameters = Tensors::new();
        let mut d = d_output.as_standard_layout().into_owned();
        for (layer, kept) in self.config.layers().iter().zip(&tape.layers).rev() {
            d = self.layer_backward(layer, tape.layer_input(layer.index), kept, d.view(), &mut parameters);
        }
        Gradients { parameters, input: d }
    }

    /// Adds the layer's gradients to `gradients` and returns the one by its input.
    fn layer_backward(
        &self,
        layer: &Layer,
        input: ArrayView3<R>,
        kept: &LayerTape<R>,
        d_output: ArrayView3<R>,
        gradients: &mut Tensors<R>,
    ) -> Array3<R> {
        let mut add = |role: Role, gradient: ArrayD<R>| {
            let name = &layer.parameter(role).name;
            match gradients.get_mut(name) {
                Some(sum) => *sum += &gradient,
                None => _ = gradients.insert(name.clone(), gradient),
            }
        };
        match (kept, layer.kind) {
            (LayerTape::Lstm(forward), LayerKind::Recurrent(recurrent)) => {
                let cotangents = scan::Cotangents { output: d_output, last: None };
                let weights = self.lstm_weights(layer, recurrent.cell);
                let back = scan::backward(input, &weights, forward, &cotangents);
                add(Role::InputWeight, back.d_w_ih.into_dyn());
                add(Role::RecurrentWeight, back.d_w_hh.into_dyn());
                add(Role::InputBias, back.d_b_ih.into_dyn());
                add(Role::RecurrentBias, back.d_b_hh.into_dyn());
                back.d_input
            }
            (LayerTape::Dense(output), LayerKind::Dense { activation }) => {
                let (weight, _) = self.dense_weights(layer);
                let output = output.view();
                let back = dense_backward(
                    flat(&input).view(),
                    weight,
                    flat(&output).view(),
                    activation,
                    flat(&d_output).view(),
                );
                add(Role::DenseWeight, back.d_weight.into_dyn());
                add(Role::DenseBias, back.d_bias.into_dyn());
                back.d_x.into_shape_with_order(input.dim()).expect("the same elements")
            }
            (LayerTape::LastStep(_), _) => {
                let mut d_input = Array3::zeros(input.dim());
                d_input.slice_mut(s![input.dim().0 - 1.., .., ..]).assign(&d_output);
                d_input
            }
            (_, kind) => unreachable!("another layer's tape at a layer of kind {}", kind.name()),
        }
    }

    fn lstm_weights(&self, layer: &Layer, cell: Cell) -> Weights<'_, R> {
        Weights {
            w_ih: self.matrix(layer, Role::InputWeight),
            b_ih: Some(self.vector(layer, Role::InputBias)),
            b_hh: Some(self.vector(layer, Role::RecurrentBias)),
            recurrence: Recurrence::new(cell, self.matrix(layer, Role::RecurrentWeight)),
        }
    }

    fn dense_weights(&self, layer: &Layer) -> (ArrayView2<'_, R>, ArrayView1<'_, R>) {
        (self.matrix(layer, Role::DenseWeight), self.vector(layer, Role::DenseBias))
    }

    fn matrix(&self, layer: &Layer, role: Role) -> ArrayView2<'_, R> {
        self.tensor(layer, role).view().into_dimensionality::<Ix2>().expect("weights are matrices")
    }

    fn vector(&self, layer: &Layer, role: Role) -> ArrayView1<'_, R> {
        self.tensor(layer, role).view().into_dimensionality::<Ix1>().expect("biases are vectors")
    }

    fn tensor(&self, layer: &Layer, role: Role) -> &ArrayD<R> {
        &self.parameters[&layer.parameter(role).name]
    }
}
