//! Whole networks: the layers of a [`NetworkConfig`] one after another, forward with a tape and backward along it.

use crate::bridge::BridgeLayer;
use crate::convolution::{conv1d_backward, conv1d_forward};
use crate::linear::dense_forward;
use crate::norm::{normalise_rows, normalise_rows_backward};
use crate::pool;
use crate::recurrent::RecurrentLayer;
use crate::route::{Route, routes};
use crate::scan::{self, flat, readout_backward};
use crate::sequence::{self, DropoutStream};
use crate::{LayerState, Real, States};
use gatefold_model::{
    InitialState, Layer, LayerKind, Merge, ModelError, NetworkConfig, Parameters, Role, StateKind, Timeline,
};
use ndarray::{
    Array2, Array3, ArrayD, ArrayView1, ArrayView2, ArrayView3, Axis, Ix1, Ix2, Ix3, concatenate, s,
};
use std::collections::BTreeMap;

/// Tensors by parameter name, each in standard layout.
pub type Tensors<R> = BTreeMap<String, ArrayD<R>>;

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network<R> {
    config: NetworkConfig,
    routes: Vec<Route>,
    parameters: Tensors<R>,
}

/// The inputs of a pass through a network.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a, R> {
    /// `[T, B, I]`
    pub input: ArrayView3<'a, R>,
    /// The steps of each row, at most T; without lengths all rows have T. Values past a row's end are not read.
    pub lengths: Option<&'a [usize]>,
    /// Initial states that replace the layers' own. Those of a decoder's layers are ignored, since they start from the
    /// encoder's.
    pub states: Option<&'a States<R>>,
    /// The decoder's input `[T', B, I']`, and the steps of each row.
    pub decoder: Option<(ArrayView3<'a, R>, Option<&'a [usize]>)>,
    /// The random zeros of dropout layers; none are drawn without it, as in inference.
    pub dropout: Option<Dropout>,
}

impl<'a, R> Batch<'a, R> {
    /// Sequences of equal length, from the layers' own states and without dropout.
    pub fn new(input: ArrayView3<'a, R>) -> Self {
        Batch { input, lengths: None, states: None, decoder: None, dropout: None }
    }
}

/// The source of one batch's random zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// The key of the generator.
    pub seed: u64,
    /// The batch's number.
    pub batch: u32,
}

/// The forward pass of a network, as the backward pass needs it.
#[derive(Clone, Debug)]
pub struct Tape<R> {
    /// The first layer that ran.
    first: usize,
    /// The input of that part of the network, then every layer's output; in place of a decoder's output, the decoder's
    /// input. Value `n + 1` of the network is the output of layer `n`.
    values: Vec<Array3<R>>,
    /// The scans of recurrent layers, by layer.
    scans: BTreeMap<usize, Vec<scan::Forward<R>>>,
    /// The lengths of the input and of the decoder's input.
    lengths: [Option<Vec<usize>>; 2],
    dropout: Option<Dropout>,
    states_were_given: bool,
    output: Array3<R>,
    states: States<R>,
}

impl<R: Real> Tape<R> {
    /// The network's output, zero where a row has ended.
    pub fn output(&self) -> ArrayView3<'_, R> {
        self.output.view()
    }

    /// The final states of each row.
    pub fn states(&self) -> &States<R> {
        &self.states
    }

    /// The output of one layer, with arbitrary values past a row's end; recurrent layers have zeros there.
    pub fn layer_output(&self, index: usize) -> ArrayView3<'_, R> {
        self.value(index + 1)
    }

    /// All intermediates of a recurrent layer, for each of its scans.
    pub fn scans(&self, index: usize) -> Option<&[scan::Forward<R>]> {
        self.scans.get(&index).map(Vec::as_slice)
    }

    /// A value of the network, by its number.
    fn value(&self, number: usize) -> ArrayView3<'_, R> {
        self.values[number - self.first].view()
    }

    fn lengths_of(&self, timeline: Timeline) -> Option<Vec<usize>> {
        let of_input = || self.lengths[0].clone();
        match timeline {
            Timeline::Input => of_input(),
            Timeline::Convolved(timing) => {
                Some(of_input()?.iter().map(|&length| timing.steps(length)).collect())
            }
            Timeline::Decoder => self.lengths[1].clone(),
            Timeline::Single | Timeline::Expanded(_) => None,
        }
    }
}

/// All gradients of a network.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// With respect to each parameter; shares of tied layers are summed from the last layer to the first.
    pub parameters: Tensors<R>,
    /// With respect to the input, `[T, B, I]`; zeros where it holds tokens.
    pub input: Array3<R>,
    /// With respect to the decoder's input.
    pub decoder_input: Option<Array3<R>>,
    /// With respect to the initial states used, wherever they came from.
    pub states: States<R>,
    /// With respect to the states before each step, in the order of time: by recurrent layer, for each of its scans.
    pub before: BTreeMap<usize, Vec<Vec<scan::States<R>>>>,
}

/// Adds a gradient to that of a layer's parameter, if the layer has it.
pub(crate) fn add_gradient<R: Real>(
    gradients: &mut Tensors<R>,
    layer: &Layer,
    (role, reverse): (Role, bool),
    gradient: Option<ArrayD<R>>,
) {
    if let (Some(spec), Some(gradient)) = (layer.find(role, reverse), gradient) {
        *gradients.get_mut(&spec.name).expect("there is a gradient for each parameter") += &gradient;
    }
}

impl<R: Real> Network<R> {
    /// A network with this description and these parameters.
    ///
    /// # Errors
    /// As [`Parameters::check`].
    pub fn new(config: &NetworkConfig, parameters: &Parameters) -> Result<Self, ModelError> {
        parameters.check(config)?;
        let convert = |value: &f32| R::from_f64(f64::from(*value));
        let parameters =
            parameters.iter().map(|(name, tensor)| (name.to_owned(), tensor.map(convert))).collect();
        Ok(Network { config: config.clone(), routes: routes(config), parameters })
    }

    /// The same network with parameters of another kind of number.
    pub(crate) fn with_parameters<S>(&self, parameters: Tensors<S>) -> Network<S> {
        Network { config: self.config.clone(), routes: self.routes.clone(), parameters }
    }

    /// The network's description.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The parameters by name.
    pub fn parameters(&self) -> &Tensors<R> {
        &self.parameters
    }

    /// The parameters by name, mutable; their shapes must stay.
    pub fn parameters_mut(&mut self) -> &mut Tensors<R> {
        &mut self.parameters
    }

    /// Only the output, for sequences of equal length.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn predict(&self, input: ArrayView3<R>) -> Array3<R> {
        self.forward(&Batch::new(input)).output
    }

    /// The forward pass, keeping all intermediates.
    ///
    /// # Panics
    /// If a shape does not match the network, a length exceeds the number of steps, or there is no step.
    pub fn forward(&self, batch: &Batch<R>) -> Tape<R> {
        let layers = self.config.layers();
        self.check_steps(batch);
        let mut tape = self.begin(0, batch.input, batch.lengths);
        tape.dropout = batch.dropout;
        tape.states_were_given = batch.states.is_some();
        let decoder = self.config.decoder();
        self.run(&mut tape, &layers[..decoder.unwrap_or(layers.len())], |n| {
            batch.states.map(|states| states.layers[n].clone())
        });
        if let Some(at) = decoder {
            let (input, lengths) = batch.decoder.expect("a network with a decoder reads an input for it");
            check_sequence(input, layers[at].output, lengths);
            assert_eq!(input.dim().1, batch.input.dim().1, "both inputs have the same rows");
            let encoded = self.bridge(at).forward(&tape.states.layers);
            let encoder_layers = tape.states.layers.len();
            tape.values.push(masked(input, lengths));
            tape.lengths[1] = lengths.map(<[usize]>::to_vec);
            self.run(&mut tape, &layers[at + 1..], |n| Some(encoded[n - encoder_layers].clone()));
        }
        self.finish(tape)
    }

    /// The initial states of the decoder's layers: the encoder's final states, through the bridge.
    ///
    /// # Panics
    /// If there is no decoder, and as [`Network::forward`].
    pub fn encode(&self, batch: &Batch<R>) -> States<R> {
        let at = self.config.decoder().expect("the network has a decoder");
        self.check_steps(batch);
        let mut tape = self.begin(0, batch.input, batch.lengths);
        tape.dropout = batch.dropout;
        self.run(&mut tape, &self.config.layers()[..at], |n| {
            batch.states.map(|states| states.layers[n].clone())
        });
        States { layers: self.bridge(at).forward(&tape.states.layers) }
    }

    /// Runs only the decoder over `input [T', B, I']`, from the initial states of its layers. Returns the output and
    /// their final states.
    ///
    /// # Panics
    /// If there is no decoder, and as [`Network::forward`].
    pub fn forward_decoder(&self, input: ArrayView3<R>, states: &States<R>) -> (Array3<R>, States<R>) {
        let at = self.config.decoder().expect("the network has a decoder");
        let mut tape = self.begin(at + 1, input, None);
        self.run(&mut tape, &self.config.layers()[at + 1..], |n| Some(states.layers[n].clone()));
        let tape = self.finish(tape);
        (tape.output, tape.states)
    }

    /// Checks that every row is long enough for the convolutions.
    fn check_steps(&self, batch: &Batch<R>) {
        let lengths = batch.lengths.unwrap_or_default();
        for &steps in lengths.iter().chain([&batch.input.dim().0]) {
            let checked = self.config.check_steps(steps);
            checked.unwrap_or_else(|expected| panic!("expected {expected}, found {steps}"));
        }
    }

    fn begin(&self, first: usize, input: ArrayView3<R>, lengths: Option<&[usize]>) -> Tape<R> {
        check_sequence(input, self.config.layers()[first].input, lengths);
        Tape {
            first,
            values: vec![masked(input, lengths)],
            scans: BTreeMap::new(),
            lengths: [lengths.map(<[usize]>::to_vec), None],
            dropout: None,
            states_were_given: false,
            output: Array3::zeros((0, 0, 0)),
            states: States { layers: Vec::new() },
        }
    }

    /// Writes the output, with zeros past each row's end.
    fn finish(&self, tape: Tape<R>) -> Tape<R> {
        let output = tape.values.last().expect("there is a layer").view();
        Tape { output: masked(output, tape.lengths_of(self.config.timeline()).as_deref()), ..tape }
    }

    /// Runs some layers in order; `given` returns the initial states of the tape's n-th recurrent layer.
    fn run(&self, tape: &mut Tape<R>, layers: &[Layer], given: impl Fn(usize) -> Option<LayerState<R>>) {
        for layer in layers {
            let output = match layer.recurrent() {
                Some(recurrent) => {
                    let input = tape.value(self.routes[layer.index].input);
                    let batch = input.dim().1;
                    let made = self.recurrent_layer(layer, recurrent, tape.dropout);
                    let states = given(tape.states.layers.len()).unwrap_or_else(|| made.initial(batch));
                    assert!(states.fits(recurrent, batch), "the states have the shapes of {}", layer.place());
                    let lengths = tape.lengths_of(self.timeline_into(layer));
                    let scans = made.forward(input, &states, lengths.as_deref());
                    let (output, final_states) = made.merged(&scans);
                    tape.states.layers.push(final_states);
                    tape.scans.insert(layer.index, scans);
                    output
                }
                None => self.layer_forward(layer, tape),
            };
            tape.values.push(output);
        }
    }

    /// The time axis of a layer's input.
    fn timeline_into(&self, layer: &Layer) -> Timeline {
        let before = self.routes[layer.index].input.checked_sub(1);
        before.map_or(Timeline::Input, |before| self.config.layers()[before].timeline)
    }

    fn layer_forward(&self, layer: &Layer, tape: &Tape<R>) -> Array3<R> {
        let route = &self.routes[layer.index];
        let input = tape.value(route.input);
        let (steps, batch, _) = input.dim();
        let sequence = |rows: Array2<R>| {
            rows.into_shape_with_order((steps, batch, layer.output)).expect("the same elements")
        };
        match layer.kind {
            LayerKind::Dense { activation, .. } => {
                let (weight, bias) = self.dense_weights(layer);
                sequence(dense_forward(flat(&input).view(), weight, bias, activation))
            }
            LayerKind::Conv1d(conv) => {
                let (weight, bias) = self.conv_weights(layer);
                conv1d_forward(input, &self.lengths_into(layer, tape), weight, bias, &conv)
            }
            LayerKind::Embedding { .. } => {
                let table = self.matrix(layer, Role::EmbeddingWeight);
                sequence(sequence::gather_rows(&elements(input), table))
            }
            LayerKind::Dropout { rate } => match tape.dropout {
                Some(dropout) => {
                    let kept = sequence::dropout(&elements(input), 0, stream(dropout, layer), rate);
                    Array3::from_shape_vec(input.dim(), kept).expect("the same elements")
                }
                None => input.to_owned(),
            },
            LayerKind::Softmax => sequence(sequence::softmax(flat(&input).view())),
            LayerKind::Normalise { epsilon } => {
                let [weight, bias] = self.normalise_weights(layer);
                let epsilon = R::from_f64(f64::from(epsilon));
                sequence(normalise_rows(flat(&input).view(), epsilon, weight, bias))
            }
            LayerKind::Pool(pooling) => {
                let lengths = self.lengths_into(layer, tape);
                pool::pool(&lengths, input, input, pooling).insert_axis(Axis(0))
            }
            LayerKind::Residual { from } => &input + &tape.value(self.routes[from].input),
            LayerKind::LastStep => {
                let lengths = self.lengths_into(layer, tape);
                sequence::last_rows(&lengths, input).insert_axis(Axis(0))
            }
            LayerKind::FinalState => {
                let source = &self.config.layers()[route.input - 1];
                let number = self.recurrent_before(source.index) - self.recurrent_before(tape.first);
                let source = source.recurrent().expect("it follows a recurrent layer");
                let h = tape.states.layers[number]
                    .side_by_side(source, StateKind::Hidden)
                    .expect("every cell has h");
                h.insert_axis(Axis(0))
            }
            LayerKind::Expand { steps, fill } => {
                assert_eq!(input.dim().0, 1, "{} expands one step", layer.place());
                sequence::expand(input, steps, fill)
            }
            LayerKind::Merge(merge) => {
                let branches: Vec<ArrayView3<R>> =
                    route.branches.iter().map(|&end| tape.value(end)).collect();
                match merge {
                    Merge::Sum => {
                        let mut sum = branches[0].to_owned();
                        branches[1..].iter().for_each(|branch| sum += branch);
                        sum
                    }
                    Merge::Concatenate => {
                        concatenate(Axis(2), &branches).expect("the branches have equal steps and rows")
                    }
                }
            }
            kind => unreachable!("{} is no layer of this kind", kind.name()),
        }
    }

    /// The lengths of a layer's input, or all steps without lengths.
    fn lengths_into(&self, layer: &Layer, tape: &Tape<R>) -> Vec<usize> {
        let (steps, batch, _) = tape.value(self.routes[layer.index].input).dim();
        tape.lengths_of(self.timeline_into(layer)).unwrap_or_else(|| vec![steps; batch])
    }

    /// The backward pass. `d_output` is the derivative of the loss with respect to the tape's output, ignored past a
    /// row's end, and `d_states` with respect to its final states; `None` means zeros.
    ///
    /// # Panics
    /// If `d_output` is not shaped like the tape's output, or `d_states` like its states.
    pub fn backward(
        &self,
        tape: &Tape<R>,
        d_output: ArrayView3<R>,
        d_states: Option<&States<R>>,
    ) -> Gradients<R> {
        assert_eq!(d_output.dim(), tape.output.dim(), "one gradient element per output");
        let batch = tape.value(0).dim().1;
        let d_output = masked(d_output, tape.lengths_of(self.config.timeline()).as_deref());
        let zeros = || States::zeros(&self.config, batch);
        let mut back = Back {
            d_values: tape.values.iter().map(|value| Array3::zeros(value.dim())).collect(),
            d_final: d_states.cloned().unwrap_or_else(zeros).layers,
            d_initial: zeros().layers,
            gradients: self
                .parameters
                .iter()
                .map(|(name, tensor)| (name.clone(), ArrayD::zeros(tensor.raw_dim())))
                .collect(),
            decoder_input: None,
            before: BTreeMap::new(),
        };
        for (d, layer) in back.d_final.iter().zip(self.config.recurrent_layers()) {
            let recurrent = layer.recurrent().expect("it is recurrent");
            assert!(
                d.fits(recurrent, batch),
                "the gradients have the shapes of the states of {}",
                layer.place()
            );
        }
        *back.d_values.last_mut().expect("there is a layer") = d_output;
        for layer in self.config.layers().iter().rev() {
            self.layer_backward(layer, tape, &mut back);
        }
        Gradients {
            parameters: back.gradients,
            input: masked(back.d_values[0].view(), tape.lengths[0].as_deref()),
            decoder_input: back.decoder_input,
            states: States { layers: back.d_initial },
            before: back.before,
        }
    }

    /// Adds the gradients of a layer's parameters, and of its input to those of the values.
    fn layer_backward(&self, layer: &Layer, tape: &Tape<R>, back: &mut Back<R>) {
        let route = &self.routes[layer.index];
        let input = tape.value(route.input);
        let d = std::mem::take(&mut back.d_values[layer.index + 1]);
        let flat_d = d.view();
        let sequence = |rows: Array2<R>| rows.into_shape_with_order(input.dim()).expect("the same elements");
        let d_input = match layer.kind {
            LayerKind::Recurrent(recurrent) => {
                let n = self.recurrent_before(layer.index);
                let made = self.recurrent_layer(layer, &recurrent, tape.dropout);
                let scans = &tape.scans[&layer.index];
                let result = made.backward(input, scans, d.view(), &back.d_final[n], &mut back.gradients);
                let own = !tape.states_were_given && recurrent.initial == InitialState::Learned;
                if own {
                    made.initial_backward(&result.d_initial, &mut back.gradients);
                }
                back.d_initial[n] = result.d_initial;
                back.before.insert(layer.index, result.d_before);
                result.d_input
            }
            LayerKind::Dense { activation, .. } => {
                let (weight, bias) = self.dense_weights(layer);
                let (x, d) = (flat(&input), flat(&flat_d));
                let result = readout_backward(x.view(), weight, bias, activation, d.view());
                let gradients = &mut back.gradients;
                let mut add = |role, gradient| add_gradient(gradients, layer, (role, false), Some(gradient));
                add(Role::DenseWeight, result.d_weight.into_dyn());
                add(Role::DenseBias, result.d_bias.into_dyn());
                sequence(result.d_x)
            }
            LayerKind::Conv1d(conv) => {
                let (weight, bias) = self.conv_weights(layer);
                let lengths = self.lengths_into(layer, tape);
                let result = conv1d_backward(input, &lengths, weight, bias, &conv, d.view());
                let gradients = &mut back.gradients;
                let mut add = |role, gradient| add_gradient(gradients, layer, (role, false), Some(gradient));
                add(Role::ConvWeight, result.d_w.into_dyn());
                add(Role::ConvBias, result.d_bias.into_dyn());
                result.d_x
            }
            LayerKind::Embedding { tokens } => {
                let mut d_table = Array2::zeros((tokens, layer.output));
                sequence::scatter_rows(&elements(input), flat(&flat_d).view(), &mut d_table);
                let role = (Role::EmbeddingWeight, false);
                add_gradient(&mut back.gradients, layer, role, Some(d_table.into_dyn()));
                return;
            }
            LayerKind::Dropout { rate } => match tape.dropout {
                Some(dropout) => {
                    let kept = sequence::dropout(&elements(d.view()), 0, stream(dropout, layer), rate);
                    Array3::from_shape_vec(input.dim(), kept).expect("the same elements")
                }
                None => d,
            },
            LayerKind::Softmax => {
                let y = tape.layer_output(layer.index);
                sequence(sequence::softmax_backward(flat(&y).view(), flat(&flat_d).view()))
            }
            LayerKind::Normalise { epsilon } => {
                let [weight, _] = self.normalise_weights(layer);
                let (x, d) = (flat(&input), flat(&flat_d));
                let epsilon = R::from_f64(f64::from(epsilon));
                let (d_x, products) = normalise_rows_backward(x.view(), epsilon, weight, d.view());
                let gradients = &mut back.gradients;
                let mut add = |role, rows: ArrayView2<R>| {
                    add_gradient(gradients, layer, (role, false), Some(rows.sum_axis(Axis(0)).into_dyn()));
                };
                add(Role::NormaliseWeight, products.view());
                add(Role::NormaliseBias, d.view());
                sequence(d_x)
            }
            LayerKind::Pool(pooling) => {
                let lengths = self.lengths_into(layer, tape);
                pool::pool_backward(&lengths, input, d.index_axis(Axis(0), 0), pooling)
            }
            LayerKind::Residual { from } => {
                back.d_values[self.routes[from].input] += &d;
                d
            }
            LayerKind::LastStep => {
                let lengths = self.lengths_into(layer, tape);
                sequence::last_rows_backward(&lengths, d.index_axis(Axis(0), 0), input.dim().0)
            }
            LayerKind::FinalState => {
                let source = &self.config.layers()[route.input - 1];
                let d_final = &mut back.d_final[self.recurrent_before(source.index)];
                let source = source.recurrent().expect("it follows a recurrent layer");
                d_final.add_side_by_side(source, StateKind::Hidden, d.index_axis(Axis(0), 0));
                return;
            }
            LayerKind::Expand { fill, .. } => sequence::expand_backward(d.view(), fill),
            LayerKind::Decoder { .. } => {
                let (d_encoder, _) = back.d_final.split_at_mut(self.recurrent_before(layer.index));
                let d_decoder = &back.d_initial[d_encoder.len()..];
                let encoder = &tape.states.layers[..d_encoder.len()];
                self.bridge(layer.index).backward(encoder, d_decoder, d_encoder, &mut back.gradients);
                back.decoder_input = Some(masked(d.view(), tape.lengths[1].as_deref()));
                return;
            }
            LayerKind::Merge(merge) => {
                let mut column = 0;
                for &end in &route.branches {
                    let d_branch = &mut back.d_values[end];
                    match merge {
                        Merge::Sum => *d_branch += &d,
                        Merge::Concatenate => {
                            let width = d_branch.dim().2;
                            *d_branch += &d.slice(s![.., .., column..column + width]);
                            column += width;
                        }
                    }
                }
                return;
            }
            kind => unreachable!("{} is no layer of this kind", kind.name()),
        };
        back.d_values[route.input] += &d_input;
    }

    /// The number of recurrent layers before layer `index`.
    fn recurrent_before(&self, index: usize) -> usize {
        self.config.recurrent_layers().filter(|layer| layer.index < index).count()
    }

    fn recurrent_layer<'a>(
        &'a self,
        layer: &'a Layer,
        recurrent: &'a gatefold_model::Recurrent,
        dropout: Option<Dropout>,
    ) -> RecurrentLayer<'a, R> {
        RecurrentLayer { layer, recurrent, parameters: &self.parameters, dropout }
    }

    fn bridge(&self, at: usize) -> BridgeLayer<'_, R> {
        let layers = self.config.layers();
        BridgeLayer {
            layer: &layers[at],
            parameters: &self.parameters,
            sources: layers[..at].iter().filter_map(Layer::recurrent).collect(),
            targets: layers[at..].iter().filter_map(Layer::recurrent).collect(),
        }
    }

    fn dense_weights(&self, layer: &Layer) -> (ArrayView2<'_, R>, Option<ArrayView1<'_, R>>) {
        let bias = layer.find(Role::DenseBias, false).map(|spec| {
            let bias = self.parameters[&spec.name].view();
            bias.into_dimensionality::<Ix1>().expect("biases are vectors")
        });
        (self.matrix(layer, Role::DenseWeight), bias)
    }

    /// The weight and the bias of a normalisation.
    fn normalise_weights(&self, layer: &Layer) -> [ArrayView1<'_, R>; 2] {
        [Role::NormaliseWeight, Role::NormaliseBias].map(|role| {
            let vector = self.parameters[&layer.parameter(role).name].view();
            vector.into_dimensionality::<Ix1>().expect("they are vectors")
        })
    }

    fn conv_weights(&self, layer: &Layer) -> (ArrayView3<'_, R>, Option<ArrayView1<'_, R>>) {
        let bias = layer.find(Role::ConvBias, false).map(|spec| {
            let bias = self.parameters[&spec.name].view();
            bias.into_dimensionality::<Ix1>().expect("biases are vectors")
        });
        let weight = self.parameters[&layer.parameter(Role::ConvWeight).name].view();
        (weight.into_dimensionality::<Ix3>().expect("weights of convolutions have three axes"), bias)
    }

    fn matrix(&self, layer: &Layer, role: Role) -> ArrayView2<'_, R> {
        let tensor = self.parameters[&layer.parameter(role).name].view();
        tensor.into_dimensionality::<Ix2>().expect("weights are matrices")
    }
}

/// The state of the backward pass.
struct Back<R> {
    /// With respect to the values of the tape.
    d_values: Vec<Array3<R>>,
    /// With respect to the final states of each recurrent layer.
    d_final: Vec<LayerState<R>>,
    /// With respect to the initial states.
    d_initial: Vec<LayerState<R>>,
    gradients: Tensors<R>,
    decoder_input: Option<Array3<R>>,
    /// With respect to the states before each step.
    before: BTreeMap<usize, Vec<Vec<scan::States<R>>>>,
}

fn check_sequence<R: Real>(input: ArrayView3<R>, width: usize, lengths: Option<&[usize]>) {
    let (steps, batch, found) = input.dim();
    assert_eq!(found, width, "the input is as wide as the network takes");
    assert!(steps > 0, "a sequence has at least one step");
    if let Some(lengths) = lengths {
        assert_eq!(lengths.len(), batch, "one length for each row");
        assert!(lengths.iter().all(|&length| length <= steps), "no row is longer than the sequence");
    }
}

/// A sequence in standard layout with zeros past each row's end, so that nothing there, not even NaN, reaches a result.
fn masked<R: Real>(sequence: ArrayView3<R>, lengths: Option<&[usize]>) -> Array3<R> {
    let mut masked = sequence.as_standard_layout().into_owned();
    if let Some(lengths) = lengths {
        sequence::mask_rows(lengths, &mut masked);
    }
    masked
}

fn stream(dropout: Dropout, layer: &Layer) -> DropoutStream {
    DropoutStream { seed: dropout.seed, batch: dropout.batch, layer: layer.index as u32 }
}

fn elements<R: Real>(sequence: ArrayView3<R>) -> Vec<R> {
    sequence.iter().copied().collect()
}
