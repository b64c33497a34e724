//! Random networks with random batches, and gradients against central differences.

#![allow(dead_code, reason = "each test uses a part of it")]

use gatefold_model::{LayerConfig, NetworkConfig, Parameters};
use gatefold_reference::{Batch, Dropout, Failures, LayerState, Network, States, Tangents, network};
use ndarray::{Array, Array2, Array3, ArrayD, Dimension, ShapeBuilder};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Uniform in -1..1.
pub(crate) fn random<Sh: ShapeBuilder>(shape: Sh, rng: &mut ChaCha8Rng) -> Array<f64, Sh::Dim> {
    Array::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))
}

pub(crate) fn weighted<D: Dimension>(values: &Array<f64, D>, weights: &Array<f64, D>) -> f64 {
    assert_eq!(values.dim(), weights.dim());
    values.iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// The products of the states of the first `layers` recurrent layers.
fn weigh_states(states: &States<f64>, weights: &States<f64>, layers: usize) -> f64 {
    let mut sum = 0.0;
    for (state, by) in states.layers.iter().zip(&weights.layers).take(layers) {
        sum += weighted(&state.h, &by.h);
        sum += state.c.as_ref().map_or(0.0, |c| weighted(c, by.c.as_ref().unwrap()));
        sum += state.y.as_ref().map_or(0.0, |y| weighted(y, by.y.as_ref().unwrap()));
    }
    sum
}

/// Marks a difference across a kink, or with a large fifth derivative: it is meaningless, and the case has to be drawn
/// again.
#[derive(Debug)]
pub(crate) struct Kink;

/// Compares a gradient with the five-point difference `(8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12 h`.
///
/// With h = 1e-3 its truncation error is h^4 / 30 = 3e-14 times the fifth derivative, and rounding adds about 1e-16 |f|
/// / h = 1e-12 for losses near 10. So 1e-7 of the gradient, but at least 1e-10, leaves a margin.
///
/// If gradient and difference disagree, and another h gives a different difference or agrees, then there is a kink
/// nearby or a high derivative is large. A wrong gradient disagrees with both alike.
pub(crate) fn check_gradient(
    name: &str,
    values: &ArrayD<f64>,
    gradient: &ArrayD<f64>,
    loss: impl Fn(&ArrayD<f64>) -> f64,
) -> Result<(), Kink> {
    assert_eq!(values.shape(), gradient.shape(), "{name}");
    assert!(!values.is_empty(), "{name} has no elements");
    for (place, &found) in gradient.indexed_iter() {
        let difference = |h: f64| {
            let at = |shift: f64| {
                let mut shifted = values.clone();
                shifted[&place] += shift;
                loss(&shifted)
            };
            (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h)
        };
        let wide = difference(1e-3);
        let allowed = 1e-7 * wide.abs().max(1e-3);
        if (found - wide).abs() <= allowed {
            continue;
        }
        let narrow = difference(2.3e-4);
        if (found - narrow).abs() <= allowed || (wide - narrow).abs() > allowed {
            return Err(Kink);
        }
        panic!("{name} at {:?}: backward {found}, central difference {wide}", place.slice());
    }
    Ok(())
}

/// A network with a batch, and a loss that weighs all results.
pub(crate) struct Case {
    pub(crate) network: Network<f64>,
    pub(crate) input: Array3<f64>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) states: Option<States<f64>>,
    pub(crate) decoder: Option<(Array3<f64>, Option<Vec<usize>>)>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) d_output: Array3<f64>,
    pub(crate) d_states: States<f64>,
}

/// The shape of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) inputs: usize,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) lengths: Option<Vec<usize>>,
    /// Whether states are given.
    pub(crate) states: bool,
    /// The decoder's steps, and its lengths.
    pub(crate) decoder: Option<(usize, Option<Vec<usize>>)>,
    pub(crate) dropout: bool,
    /// The number of tokens, if the inputs are tokens.
    pub(crate) tokens: Option<usize>,
}

impl Shape {
    pub(crate) fn new(inputs: usize, steps: usize, batch: usize) -> Self {
        Shape { inputs, steps, batch, ..Shape::default() }
    }
}

pub(crate) fn random_states(zeros: &States<f64>, r: &mut ChaCha8Rng) -> States<f64> {
    let layers = zeros.layers.iter().map(|state| LayerState {
        h: random(state.h.dim(), r),
        c: state.c.as_ref().map(|c| random(c.dim(), r)),
        y: state.y.as_ref().map(|y| random(y.dim(), r)),
    });
    States { layers: layers.collect() }
}

fn random_parameters(config: &NetworkConfig, r: &mut ChaCha8Rng) -> Network<f64> {
    let mut network = Network::<f64>::new(config, &Parameters::initial(config, 11).unwrap()).unwrap();
    for tensor in network.parameters_mut().values_mut() {
        *tensor = random(tensor.raw_dim(), r); // biases too: zeros would hide a missing one
    }
    network
}

impl Case {
    pub(crate) fn new(shape: &Shape, layers: &[LayerConfig], seed: u64) -> Self {
        let config = NetworkConfig::new(shape.inputs, layers).unwrap();
        let r = &mut ChaCha8Rng::seed_from_u64(seed);
        let network = random_parameters(&config, r);
        let sequence = |steps: usize, width: usize, r: &mut ChaCha8Rng| match shape.tokens {
            Some(tokens) => {
                Array3::from_shape_simple_fn((steps, shape.batch, width), || r.random_range(0..tokens) as f64)
            }
            None => random((steps, shape.batch, width), r),
        };
        let input = sequence(shape.steps, shape.inputs, r);
        let decoder = shape.decoder.as_ref().map(|(steps, lengths)| {
            let at = config.decoder().unwrap();
            (sequence(*steps, config.layers()[at].output, r), lengths.clone())
        });
        let zeros = States::zeros(&config, shape.batch);
        let steps = shape.decoder.as_ref().map_or(shape.steps, |(steps, _)| *steps);
        Case {
            states: shape.states.then(|| random_states(&zeros, r)),
            d_output: random((config.output_steps(steps), shape.batch, config.output()), r),
            d_states: random_states(&zeros, r),
            lengths: shape.lengths.clone(),
            dropout: shape.dropout.then_some(Dropout { seed: seed + (7 << 40), batch: 3 }),
            network,
            input,
            decoder,
        }
    }

    pub(crate) fn batch(&self) -> Batch<'_, f64> {
        Batch {
            input: self.input.view(),
            lengths: self.lengths.as_deref(),
            states: self.states.as_ref(),
            decoder: self.decoder.as_ref().map(|(input, lengths)| (input.view(), lengths.as_deref())),
            dropout: self.dropout,
        }
    }

    pub(crate) fn tape(&self) -> network::Tape<f64> {
        self.network.forward(&self.batch())
    }

    pub(crate) fn gradients(&self) -> network::Gradients<f64> {
        self.network.backward(&self.tape(), self.d_output.view(), Some(&self.d_states))
    }

    fn loss(&self, network: &Network<f64>, batch: &Batch<f64>) -> f64 {
        let tape = network.forward(batch);
        self.weigh(&tape.output().to_owned(), tape.states())
    }

    /// Every parameter, every input, every given state.
    pub(crate) fn check(&self, name: &str) -> Result<(), Kink> {
        let gradients = self.gradients();
        self.check_jvp(name, &gradients)?;
        let place = |part: &str| format!("{name}, {part}");
        assert!(
            gradients.parameters.keys().eq(self.network.parameters().keys()),
            "{name}: a gradient for each parameter"
        );
        for (part, gradient) in &gradients.parameters {
            let values = &self.network.parameters()[part];
            check_gradient(&place(part), values, gradient, |values| {
                let mut network = self.network.clone();
                network.parameters_mut().insert(part.clone(), values.clone());
                self.loss(&network, &self.batch())
            })?;
        }
        let is_tokens = self.network.config().parameter_specs().any(|spec| spec.name.contains("embedding"));
        if is_tokens {
            assert!(gradients.input.iter().all(|&d| d == 0.0), "{name}: tokens have no gradient");
        } else {
            let (input, d_input) = (self.input.clone().into_dyn(), gradients.input.into_dyn());
            check_gradient(&place("input"), &input, &d_input, |input| {
                let input = input.view().into_dimensionality().unwrap();
                self.loss(&self.network, &Batch { input, ..self.batch() })
            })?;
        }
        if let (Some((input, lengths)), Some(d_input)) = (&self.decoder, gradients.decoder_input)
            && !is_tokens
        {
            check_gradient(
                &place("decoder input"),
                &input.clone().into_dyn(),
                &d_input.into_dyn(),
                |input| {
                    let decoder = (input.view().into_dimensionality().unwrap(), lengths.as_deref());
                    self.loss(&self.network, &Batch { decoder: Some(decoder), ..self.batch() })
                },
            )?;
        }
        self.check_states(name, &gradients.states)
    }

    /// A random direction in everything that the results depend on.
    pub(crate) fn tangents(&self, seed: u64) -> Tangents {
        let r = &mut ChaCha8Rng::seed_from_u64(seed);
        let parameters = self.network.parameters();
        Tangents {
            parameters: parameters.iter().map(|(name, of)| (name.clone(), random(of.raw_dim(), r))).collect(),
            input: Some(random(self.input.dim(), r)),
            decoder_input: self.decoder.as_ref().map(|(input, _)| random(input.dim(), r)),
            states: self.states.as_ref().map(|states| random_states(states, r)),
        }
    }

    /// The loss's derivative along a direction, against central differences and against its gradient.
    fn check_jvp(&self, name: &str, gradients: &network::Gradients<f64>) -> Result<(), Kink> {
        let is_tokens = self.network.config().parameter_specs().any(|spec| spec.name.contains("embedding"));
        let mut tangents = self.tangents(17);
        if is_tokens {
            (tangents.input, tangents.decoder_input) = (None, None);
        }
        let found = self.network.jvp(&self.batch(), &tangents);
        let slope = self.weigh(&found.output, &found.states);
        let scalar = |value: f64| ArrayD::from_elem(ndarray::IxDyn(&[1]), value);
        check_gradient(&format!("{name}, jvp"), &scalar(0.0), &scalar(slope), |along| {
            self.loss_along(&tangents, along[0])
        })?;
        let mut product: f64 =
            gradients.parameters.iter().map(|(name, d)| weighted(d, &tangents.parameters[name])).sum();
        product += tangents.input.as_ref().map_or(0.0, |tangent| weighted(&gradients.input, tangent));
        if let (Some(d), Some(tangent)) = (&gradients.decoder_input, &tangents.decoder_input) {
            product += weighted(d, tangent);
        }
        if let Some(states) = &tangents.states {
            // Those of a decoder's layers are ignored.
            let decoder = self.network.config().decoder().unwrap_or(usize::MAX);
            let read = self.network.config().recurrent_layers().filter(|layer| layer.index < decoder).count();
            product += weigh_states(&gradients.states, states, read);
        }
        let allowed = 1e-12 * product.abs().max(1.0);
        assert!((slope - product).abs() <= allowed, "{name}: jvp {slope}, backward along it {product}");
        Ok(())
    }

    /// The loss, so far along a direction.
    fn loss_along(&self, tangents: &Tangents, along: f64) -> f64 {
        let mut network = self.network.clone();
        for (name, values) in network.parameters_mut() {
            values.scaled_add(along, &tangents.parameters[name]);
        }
        let move_input = |values: &Array3<f64>, tangent: &Option<Array3<f64>>| {
            let mut values = values.clone();
            tangent.iter().for_each(|tangent| values.scaled_add(along, tangent));
            values
        };
        let input = move_input(&self.input, &tangents.input);
        let decoder = self
            .decoder
            .as_ref()
            .map(|(input, lengths)| (move_input(input, &tangents.decoder_input), lengths.as_deref()));
        let mut states = self.states.clone();
        for (state, by) in states
            .iter_mut()
            .zip(&tangents.states)
            .flat_map(|(states, by)| states.layers.iter_mut().zip(&by.layers))
        {
            state.h.scaled_add(along, &by.h);
            state.c.iter_mut().zip(&by.c).for_each(|(c, by)| c.scaled_add(along, by));
            state.y.iter_mut().zip(&by.y).for_each(|(y, by)| y.scaled_add(along, by));
        }
        self.loss(
            &network,
            &Batch {
                input: input.view(),
                decoder: decoder.as_ref().map(|(input, lengths)| (input.view(), *lengths)),
                states: states.as_ref(),
                ..self.batch()
            },
        )
    }

    /// The results, weighted as in the loss.
    fn weigh(&self, output: &Array3<f64>, states: &States<f64>) -> f64 {
        weighted(output, &self.d_output) + weigh_states(states, &self.d_states, states.layers.len())
    }

    fn check_states(&self, name: &str, d_states: &States<f64>) -> Result<(), Kink> {
        let Some(states) = &self.states else { return Ok(()) };
        // Those of a decoder's layers are ignored.
        let decoder = self.network.config().decoder().unwrap_or(usize::MAX);
        let read = self.network.config().recurrent_layers().filter(|layer| layer.index < decoder).count();
        for n in 0..read {
            let at = |change: &dyn Fn(&mut LayerState<f64>)| {
                let mut states = states.clone();
                change(&mut states.layers[n]);
                self.loss(&self.network, &Batch { states: Some(&states), ..self.batch() })
            };
            let (state, d) = (&states.layers[n], &d_states.layers[n]);
            let place = |part: &str| format!("{name}, {part} of recurrent layer {n}");
            check_gradient(&place("h"), &state.h.clone().into_dyn(), &d.h.clone().into_dyn(), |h| {
                at(&|state| state.h = h.clone().into_dimensionality().unwrap())
            })?;
            if let (Some(c), Some(d_c)) = (&state.c, &d.c) {
                check_gradient(&place("c"), &c.clone().into_dyn(), &d_c.clone().into_dyn(), |c| {
                    at(&|state| state.c = Some(c.clone().into_dimensionality().unwrap()))
                })?;
            }
            if let (Some(y), Some(d_y)) = (&state.y, &d.y) {
                check_gradient(&place("y"), &y.clone().into_dyn(), &d_y.clone().into_dyn(), |y| {
                    at(&|state| state.y = Some(y.clone().into_dimensionality::<ndarray::Ix2>().unwrap()))
                })?;
            }
        }
        Ok(())
    }
}

/// Draws networks and batches until one has no kink within reach of the differences, then checks it.
pub(crate) fn check_case(failures: &mut Failures, name: &str, shape: &Shape, layers: &[LayerConfig]) {
    failures.check(name, || {
        let smooth = (0..100).any(|seed| Case::new(shape, layers, seed).check(name).is_ok());
        assert!(smooth, "a kink in every draw");
    });
}

/// One row of a batch.
pub(crate) fn row(sequence: &Array3<f64>, row: usize, steps: usize) -> Array3<f64> {
    sequence.slice(ndarray::s![..steps, row..row + 1, ..]).to_owned()
}

/// One row of the states.
pub(crate) fn row_states(states: &States<f64>, row: usize) -> States<f64> {
    let part = |state: &Array3<f64>| state.slice(ndarray::s![.., row..row + 1, ..]).to_owned();
    let layers = states.layers.iter().map(|state| LayerState {
        h: part(&state.h),
        c: state.c.as_ref().map(part),
        y: state.y.as_ref().map(|y: &Array2<f64>| y.slice(ndarray::s![row..row + 1, ..]).to_owned()),
    });
    States { layers: layers.collect() }
}
