//! A network on random data, on this device and in the reference in f64.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use gatefold_cpu::{Batch, Gradients, Instructions, Network, Tensors, Threads};
use gatefold_model::{Dropout, LayerState, States};
use gatefold_model::{Layer, LayerConfig, NetworkConfig, Parameters};
use gatefold_reference as reference;
use ndarray::{Array, Array3, Dimension, ShapeBuilder};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub(crate) fn random<Sh: ShapeBuilder>(shape: Sh, scale: f32, rng: &mut ChaCha8Rng) -> Array<f32, Sh::Dim> {
    Array::from_shape_simple_fn(shape, || scale * rng.random_range(-1.0..1.0f32))
}

/// The rule of docs/numerics.md: every element is within `4 u sqrt(K)` times the tensor's largest element, where
/// `u = 2^-24` and `K` counts the terms of the sums that an element goes through.
pub(crate) fn assert_close<D: Dimension>(
    name: &str,
    found: &Array<f32, D>,
    expected: &Array<f64, D>,
    terms: usize,
) {
    assert_close_at(name, found, expected, terms, 0.0);
}

/// The same rule, where the terms of the sums are known to be at least `scale`.
fn assert_close_at<D: Dimension>(
    name: &str,
    found: &Array<f32, D>,
    expected: &Array<f64, D>,
    terms: usize,
    term_scale: f64,
) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    assert!(!found.is_empty(), "{name}");
    let scale = largest(expected).max(term_scale);
    let allowed = 4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale;
    for (k, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= allowed,
            "{name}, element {k}: found {found}, reference {expected}, allowed {allowed:e}"
        );
    }
}

fn largest<D: Dimension>(values: &Array<f64, D>) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

fn assert_states(name: &str, found: &States, expected: &reference::States<f64>, terms: usize) {
    assert_eq!(found.layers.len(), expected.layers.len(), "{name}");
    for (n, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
        assert_close(&format!("{name}, h of recurrent layer {n}"), &found.h, &expected.h, terms);
        assert_eq!(found.c.is_some(), expected.c.is_some(), "{name}");
        if let (Some(found), Some(expected)) = (&found.c, &expected.c) {
            assert_close(&format!("{name}, c of recurrent layer {n}"), found, expected, terms);
        }
        assert_eq!(found.y.is_some(), expected.y.is_some(), "{name}");
        if let (Some(found), Some(expected)) = (&found.y, &expected.y) {
            assert_close(&format!("{name}, y of recurrent layer {n}"), found, expected, terms);
        }
    }
}

/// Converts states to f64.
pub(crate) fn widen(states: &States) -> reference::States<f64> {
    let wide = |layer: &LayerState| reference::LayerState {
        h: layer.h.mapv(f64::from),
        c: layer.c.as_ref().map(|c| c.mapv(f64::from)),
        y: layer.y.as_ref().map(|y| y.mapv(f64::from)),
    };
    reference::States { layers: states.layers.iter().map(wide).collect() }
}

pub(crate) fn random_states(config: &NetworkConfig, batch: usize, rng: &mut ChaCha8Rng) -> States {
    let mut states = States::zeros(config, batch);
    for LayerState { h, c, y } in &mut states.layers {
        h.mapv_inplace(|_| rng.random_range(-1.0..1.0));
        c.iter_mut().for_each(|c| c.mapv_inplace(|_| rng.random_range(-1.0..1.0)));
        y.iter_mut().for_each(|y| y.mapv_inplace(|_| rng.random_range(-1.0..1.0)));
    }
    states
}

pub(crate) struct Case {
    pub(crate) config: NetworkConfig,
    pub(crate) parameters: Parameters,
    pub(crate) input: Array3<f32>,
    pub(crate) lengths: Option<Vec<usize>>,
    pub(crate) states: Option<States>,
    pub(crate) decoder: Option<(Array3<f32>, Option<Vec<usize>>)>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) d_output: Array3<f32>,
    pub(crate) d_states: Option<States>,
    pub(crate) rng: ChaCha8Rng,
}

/// Every result of a network.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) output: Array3<f32>,
    pub(crate) states: States,
    pub(crate) gradients: Gradients,
}

impl Case {
    /// Whole sequences from the layers' own states; only the outputs matter.
    pub(crate) fn new(inputs: usize, layers: &[LayerConfig], batch: usize, steps: usize) -> Self {
        let config = NetworkConfig::new(inputs, layers).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64((batch * 100 + steps) as u64);
        let initial = Parameters::initial(&config, 3).unwrap();
        // Two recurrences of gain 1 would together multiply rounding errors from step to step, and so would one of products that
        // are divided by their deviation, which is below 1.
        let skips = initial.iter().any(|(name, _)| name.contains("weight_sh"));
        let recurs = |name: &str| skips && (name.contains("_hh") || name.contains("_sh"));
        let gain = |name: &str| if recurs(name) || name.contains("gain_hh") { 0.5 } else { 1.0 };
        // Biases too: initialised to zero, they would hide a missing one.
        let parameters = initial
            .iter()
            .map(|(name, tensor)| {
                (name.to_owned(), gain(name) * tensor + &random(tensor.raw_dim(), 0.1, &mut rng))
            })
            .collect();
        Case {
            parameters,
            input: random((steps, batch, inputs), 1.0, &mut rng),
            lengths: None,
            states: None,
            decoder: None,
            dropout: None,
            d_output: random((config.output_steps(steps), batch, config.output()), 1.0, &mut rng),
            d_states: None,
            config,
            rng,
        }
    }

    pub(crate) fn lengths(mut self, lengths: Option<&[usize]>) -> Self {
        self.lengths = lengths.map(<[usize]>::to_vec);
        self
    }

    /// Random initial states.
    pub(crate) fn given_states(mut self) -> Self {
        self.states = Some(random_states(&self.config, self.input.dim().1, &mut self.rng));
        self
    }

    /// Adds a loss on the final states.
    pub(crate) fn counted_states(mut self) -> Self {
        self.d_states = Some(random_states(&self.config, self.input.dim().1, &mut self.rng));
        self
    }

    /// Steps of the decoder, and their lengths.
    pub(crate) fn decoder(mut self, steps: usize, lengths: Option<&[usize]>) -> Self {
        let batch = self.input.dim().1;
        let at = self.config.decoder().unwrap();
        let input = random((steps, batch, self.config.layers()[at].output), 1.0, &mut self.rng);
        self.d_output =
            random((self.config.output_steps(steps), batch, self.config.output()), 1.0, &mut self.rng);
        self.decoder = Some((input, lengths.map(<[usize]>::to_vec)));
        self
    }

    /// Tokens in place of the input.
    pub(crate) fn tokens(mut self, count: usize) -> Self {
        let rng = &mut self.rng;
        self.input.mapv_inplace(|_| rng.random_range(0..count) as f32);
        self
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch {
            input: self.input.view(),
            lengths: self.lengths.as_deref(),
            states: self.states.as_ref(),
            decoder: self.decoder.as_ref().map(|(input, lengths)| (input.view(), lengths.as_deref())),
            dropout: self.dropout,
        }
    }

    pub(crate) fn network(&self, threads: usize) -> Network {
        let network = Network::new(&self.config, &self.parameters, Threads::new(threads)).unwrap();
        network.with_instructions(Instructions::choose().unwrap())
    }

    pub(crate) fn run(&self, threads: usize) -> Outcome {
        let network = self.network(threads);
        let tape = network.forward(&self.batch());
        let (output, states) = (tape.output().to_owned(), tape.states());
        let (inferred, finals) = network.infer(&self.batch());
        let same = same_bits(&inferred, &output) && finals.layers.len() == states.layers.len();
        let mut layers = finals.layers.iter().zip(&states.layers);
        let same = same && layers.all(|(found, expected)| same_state(found, expected));
        assert!(same, "{}: inference gives other bits", self.config);
        let gradients = network.backward(tape, self.d_output.view(), self.d_states.as_ref());
        Outcome { output, states, gradients }
    }

    /// The terms of the sums in an output, and in a gradient.
    pub(crate) fn terms(&self) -> (usize, usize) {
        let layers = self.config.layers();
        let width = |layer: &Layer| match layer.recurrent() {
            None => layer.input,
            Some(recurrent) => {
                let loops = 1 + usize::from(recurrent.skip.is_some());
                let readout = recurrent.feedback.map_or(0, |feedback| feedback.output + recurrent.hidden);
                let projection = recurrent.projection.map_or(0, |_| recurrent.hidden);
                // Means over a row's gates, and over its cell states.
                let means = recurrent.norm.map_or(0, |_| (recurrent.cell.gates() + 1) * recurrent.hidden);
                means + layer.input + loops * recurrent.recurrent_width() + readout + projection
            }
        };
        let back = |layer: &Layer| {
            layer.recurrent().map_or(layer.output, |recurrent| recurrent.cell.gates() * recurrent.hidden)
        };
        let forward: usize = layers.iter().map(width).sum();
        let (steps, batch, _) = self.input.dim();
        let steps = steps.max(self.d_output.dim().0);
        (forward, forward + layers.iter().map(back).sum::<usize>() + steps * batch)
    }

    /// Compares outputs, states and all gradients with the reference.
    pub(crate) fn check(&self, name: &str) -> Outcome {
        let network = reference::Network::<f64>::new(&self.config, &self.parameters).unwrap();
        let wide = |values: &Array3<f32>| values.mapv(f64::from);
        let (input, states) = (wide(&self.input), self.states.as_ref().map(widen));
        let decoder = self.decoder.as_ref().map(|(input, lengths)| (wide(input), lengths.as_deref()));
        let batch = reference::Batch {
            input: input.view(),
            lengths: self.lengths.as_deref(),
            states: states.as_ref(),
            decoder: decoder.as_ref().map(|(input, lengths)| (input.view(), *lengths)),
            dropout: self.dropout.map(|Dropout { seed, batch, .. }| reference::Dropout { seed, batch }),
        };
        let tape = network.forward(&batch);
        let d_states = self.d_states.as_ref().map(widen);
        let expected = network.backward(&tape, wide(&self.d_output).view(), d_states.as_ref());

        let found = self.run(1);
        let (forward, gradient) = self.terms();
        assert_close(&format!("{name}, output"), &found.output, &tape.output().to_owned(), forward);
        assert_states(&format!("{name}, final state"), &found.states, tape.states(), forward);
        for (part, found) in &found.gradients.parameters {
            // A peephole's gradient sums the same terms as a bias's, each times a cell state. Where the gates that see
            // the cell have small gradients, the rounding is still that of the larger ones.
            let cells = tape.states().layers.iter().flat_map(|state| state.c.as_ref().map(largest));
            let bias = expected.parameters.get(&part.replace("peephole", "bias_ih"));
            let by_bias = bias.filter(|_| part.contains("peephole")).map_or(0.0, largest);
            let scale = by_bias * cells.fold(0.0, f64::max);
            let name = format!("{name}, {part}");
            assert_close_at(&name, found, &expected.parameters[part], gradient, scale);
        }
        assert_eq!(found.gradients.parameters.len(), expected.parameters.len(), "{name}");
        if self.config.check_forward_mode().is_ok() {
            self.check_jvp(name, &network, &batch);
        }
        assert_close(&format!("{name}, d_input"), &found.gradients.input, &expected.input, gradient);
        assert_states(&format!("{name}, d_states"), &found.gradients.states, &expected.states, gradient);
        let both = (&found.gradients.decoder_input, &expected.decoder_input);
        assert_eq!(both.0.is_some(), both.1.is_some(), "{name}");
        if let (Some(found), Some(expected)) = both {
            assert_close(&format!("{name}, d_decoder_input"), found, expected, gradient);
        }
        found
    }

    /// Compares the output's derivative along a random direction in parameters and input with the reference. Its sums have
    /// the terms of an output, twice over, and go on from values that have them too.
    fn check_jvp(&self, name: &str, network: &reference::Network<f64>, batch: &reference::Batch<f64>) {
        let mut rng = ChaCha8Rng::seed_from_u64(23);
        let tangents: Tensors = self
            .parameters
            .iter()
            .map(|(name, tensor)| (name.to_owned(), random(tensor.raw_dim(), 1.0, &mut rng)))
            .collect();
        let input = random(self.input.raw_dim(), 1.0, &mut rng);
        let expected = network.jvp(
            batch,
            &reference::Tangents {
                parameters: tangents.iter().map(|(name, dot)| (name.clone(), dot.mapv(f64::from))).collect(),
                input: Some(input.mapv(f64::from)),
                decoder_input: None,
                states: None,
            },
        );
        let cpu = self.network(1);
        let tape = cpu.forward(&self.batch());
        let found = cpu.jvp(&tape, &tangents, Some(input.view())).unwrap();
        let terms = 3 * self.terms().0;
        assert_close(&format!("{name}, jvp"), &found, &expected.output, terms);
        let many = self.network(3);
        let tape = many.forward(&self.batch());
        let again = many.jvp(&tape, &tangents, Some(input.view())).unwrap();
        assert!(same_bits(&found, &again), "{name}: three threads give another jvp");
    }

    /// As [`Case::check`], and the same bits for any number of threads.
    pub(crate) fn check_threads(&self, name: &str) {
        let found = self.check(name);
        for threads in [2, 3, 8] {
            assert!(self.run(threads) == found, "{name}: {threads} threads give other bits");
        }
    }
}

/// Treats all NaNs as equal.
pub(crate) fn same_bits<D: Dimension>(found: &Array<f32, D>, expected: &Array<f32, D>) -> bool {
    let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    found.shape() == expected.shape() && found.iter().zip(expected).all(same)
}

fn same_state(found: &LayerState, expected: &LayerState) -> bool {
    fn both<D: Dimension>(found: &Option<Array<f32, D>>, expected: &Option<Array<f32, D>>) -> bool {
        match (found, expected) {
            (Some(found), Some(expected)) => same_bits(found, expected),
            (None, None) => true,
            _ => false,
        }
    }
    same_bits(&found.h, &expected.h) && both(&found.c, &expected.c) && both(&found.y, &expected.y)
}
