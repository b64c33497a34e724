use crate::dense;
use crate::lstm::{self, LstmTape, Weights, flat};
use crate::threads::{Threads, add_product, column_sum};
use gatefold_model::{Layer, LayerKind, ModelError, NetworkConfig, Parameters, Role};
use ndarray::{Array2, Array3, ArrayD, ArrayView1, ArrayView2, ArrayView3, ArrayViewMut2, Ix1, Ix2, s};
use std::collections::BTreeMap;

/// Tensors by parameter name, each in standard layout.
pub type Tensors = BTreeMap<String, ArrayD<f32>>;

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network {
    config: NetworkConfig,
    parameters: Tensors,
    threads: Threads,
}

/// The forward pass of a network, as the backward pass needs it.
#[derive(Clone, Debug)]
pub struct Tape {
    /// `[T, B, I]`
    input: Array3<f32>,
    layers: Vec<LayerTape>,
}

/// What a layer keeps of its forward pass.
#[derive(Clone, Debug)]
enum LayerTape {
    Lstm(Box<LstmTape>),
    /// The output of a dense layer, or the last step.
    Output(Array3<f32>),
}

impl LayerTape {
    fn output(&self) -> ArrayView3<'_, f32> {
        match self {
            LayerTape::Lstm(tape) => tape.output(),
            LayerTape::Output(output) => output.view(),
        }
    }
}

impl Tape {
    /// The network's output, `[T, B, O]`, or `[1, B, O]` behind a last-step layer.
    pub fn output(&self) -> ArrayView3<'_, f32> {
        self.layers.last().map_or(self.input.view(), LayerTape::output)
    }
}

/// The input of the layer behind `layers`.
fn input_behind<'a>(input: &'a Array3<f32>, layers: &'a [LayerTape]) -> ArrayView3<'a, f32> {
    layers.last().map_or(input.view(), LayerTape::output)
}

impl Network {
    /// The network of that description with those parameters.
    ///
    /// # Errors
    /// What [`Parameters::check`] finds.
    pub fn new(
        config: &NetworkConfig,
        parameters: &Parameters,
        threads: Threads,
    ) -> Result<Self, ModelError> {
        parameters.check(config)?;
        let parameters = parameters.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        Ok(Network { config: config.clone(), parameters, threads })
    }

    /// What the network was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &Tensors {
        &self.parameters
    }

    /// The parameters by name, to change their values but not their shapes.
    pub fn parameters_mut(&mut self) -> &mut Tensors {
        &mut self.parameters
    }

    /// The forward pass over `input [T, B, I]` from initial states of zero.
    ///
    /// # Panics
    /// If the input's width is not the network's, or there is no step.
    pub fn forward(&self, input: ArrayView3<f32>) -> Tape {
        assert_eq!(input.dim().2, self.config.input(), "the input is as wide as the network takes");
        assert!(input.dim().0 > 0, "a sequence has at least one step");
        let input = input.as_standard_layout().into_owned();
        let mut layers = Vec::with_capacity(self.config.layers().len());
        for layer in self.config.layers() {
            let out = self.layer_forward(layer, input_behind(&input, &layers));
            layers.push(out);
        }
        Tape { input, layers }
    }

    /// The output alone.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, input: ArrayView3<f32>) -> Array3<f32> {
        self.forward(input).output().to_owned()
    }

    fn layer_forward(&self, layer: &Layer, input: ArrayView3<f32>) -> LayerTape {
        let (steps, batch, _) = input.dim();
        match layer.kind {
            LayerKind::Recurrent(recurrent) if recurrent.is_plain_lstm() => {
                LayerTape::Lstm(Box::new(lstm::forward(self.threads, input, &self.lstm_weights(layer))))
            }
            LayerKind::Dense { activation } => {
                let (weight, bias) =
                    (self.matrix(layer, Role::DenseWeight), self.vector(layer, Role::DenseBias));
                let y = dense::forward(self.threads, flat(input), weight, bias, activation);
                LayerTape::Output(
                    y.into_shape_with_order((steps, batch, layer.output)).expect("the same elements"),
                )
            }
            LayerKind::LastStep => LayerTape::Output(input.slice(s![steps - 1.., .., ..]).to_owned()),
            kind => unreachable!("{} is not known to the CPU device", kind.name()),
        }
    }

    /// Adds the gradient of every parameter that has a place in `gradients`; `d_output` is the loss's derivative by
    /// the output of that tape. Layers in front of the first one that needs a gradient are not visited.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output, or a gradient not like its parameter.
    pub fn backward(&self, tape: Tape, d_output: Array3<f32>, gradients: &mut Tensors) {
        assert_eq!(d_output.dim(), tape.output().dim(), "one derivative per output");
        let wanted = |layer: &Layer| layer.parameters.iter().any(|spec| gradients.contains_key(&spec.name));
        let Some(first) = self.config.layers().iter().position(wanted) else { return };
        let Tape { input, mut layers } = tape;
        let mut d = d_output.as_standard_layout().into_owned();
        for layer in self.config.layers()[first..].iter().rev() {
            let kept = layers.pop().expect("a tape for every layer");
            let below = input_behind(&input, &layers);
            let further = layer.index > first;
            d = match self.layer_backward(layer, below, kept, d, gradients, further) {
                Some(d) => d,
                None => return,
            };
        }
    }

    /// Adds the layer's gradients, and returns the one by its input if `further` layers want it.
    fn layer_backward(
        &self,
        layer: &Layer,
        input: ArrayView3<f32>,
        kept: LayerTape,
        mut d: Array3<f32>,
        gradients: &mut Tensors,
        further: bool,
    ) -> Option<Array3<f32>> {
        let (steps, batch, width) = input.dim();
        let (d_pre, input_weight) = match (kept, layer.kind) {
            (LayerTape::Lstm(mut tape), _) => {
                lstm::backward(self.threads, &self.lstm_weights(layer), &mut tape, d.view_mut());
                let d_pre = flat(tape.gates.view());
                self.add_weight(gradients, layer, Role::RecurrentWeight, d_pre, tape.h_prev());
                self.add_biases(gradients, layer, &[Role::InputBias, Role::RecurrentBias], d_pre);
                (tape.gates, Role::InputWeight)
            }
            (LayerTape::Output(y), LayerKind::Dense { activation }) => {
                let mut d_pre =
                    d.into_shape_with_order((steps * batch, layer.output)).expect("the same elements");
                dense::backward(flat(y.view()), activation, &mut d_pre);
                self.add_biases(gradients, layer, &[Role::DenseBias], d_pre.view());
                let d_pre =
                    d_pre.into_shape_with_order((steps, batch, layer.output)).expect("the same elements");
                (d_pre, Role::DenseWeight)
            }
            (LayerTape::Output(_), _) => {
                let mut d_input = Array3::zeros(input.dim());
                d_input.slice_mut(s![steps - 1.., .., ..]).assign(&d);
                return Some(d_input);
            }
        };
        self.add_weight(gradients, layer, input_weight, flat(d_pre.view()), flat(input));
        further.then(|| {
            let mut d_input = Array2::zeros((steps * batch, width));
            add_product(
                self.threads,
                flat(d_pre.view()),
                self.matrix(layer, input_weight),
                d_input.view_mut(),
            );
            d_input.into_shape_with_order((steps, batch, width)).expect("the same elements")
        })
    }

    /// `d_W += d_pre^T x`.
    fn add_weight(
        &self,
        gradients: &mut Tensors,
        layer: &Layer,
        role: Role,
        d_pre: ArrayView2<f32>,
        x: ArrayView2<f32>,
    ) {
        if let Some(gradient) = gradients.get_mut(&layer.parameter(role).name) {
            let gradient: ArrayViewMut2<f32> =
                gradient.view_mut().into_dimensionality().expect("weights are matrices");
            add_product(self.threads, d_pre.t(), x, gradient);
        }
    }

    /// `d_b += column sums of d_pre`, for each bias that is added there.
    fn add_biases(&self, gradients: &mut Tensors, layer: &Layer, roles: &[Role], d_pre: ArrayView2<f32>) {
        let names = roles.iter().map(|&role| &layer.parameter(role).name);
        let wanted: Vec<&String> = names.filter(|name| gradients.contains_key(*name)).collect();
        if wanted.is_empty() {
            return;
        }
        let sums = column_sum(self.threads, d_pre);
        for name in wanted {
            *gradients.get_mut(name).expect("it was there") += &sums;
        }
    }

    fn lstm_weights(&self, layer: &Layer) -> Weights<'_> {
        Weights {
            w_ih: self.matrix(layer, Role::InputWeight),
            w_hh: self.matrix(layer, Role::RecurrentWeight),
            b_ih: self.vector(layer, Role::InputBias),
            b_hh: self.vector(layer, Role::RecurrentBias),
        }
    }

    fn matrix(&self, layer: &Layer, role: Role) -> ArrayView2<'_, f32> {
        self.tensor(layer, role).view().into_dimensionality::<Ix2>().expect("weights are matrices")
    }

    fn vector(&self, layer: &Layer, role: Role) -> ArrayView1<'_, f32> {
        self.tensor(layer, role).view().into_dimensionality::<Ix1>().expect("biases are vectors")
    }

    fn tensor(&self, layer: &Layer, role: Role) -> &ArrayD<f32> {
        &self.parameters[&layer.parameter(role).name]
    }
}
