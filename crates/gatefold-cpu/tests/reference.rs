//! Outputs and every gradient against the reference in f64, and the same bits whatever the number of threads.

use gatefold_cpu::{Batch, Network, Tensors, Threads};
use gatefold_model::{Activation, DenseConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters};
use ndarray::{Array, Array3, ArrayD, Dimension, ShapeBuilder};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn random<Sh: ShapeBuilder>(shape: Sh, scale: f32, rng: &mut ChaCha8Rng) -> Array<f32, Sh::Dim> {
    Array::from_shape_simple_fn(shape, || scale * rng.random_range(-1.0..1.0f32))
}

/// The rule of docs/numerics.md: every element within `4 u sqrt(K)` of the tensor's largest element, with `u = 2^-24`
/// and `K` the terms of the sums that an element goes through.
fn assert_close<D: Dimension>(name: &str, found: &Array<f32, D>, expected: &Array<f64, D>, terms: usize) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    assert!(!found.is_empty(), "{name}");
    let scale = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let allowed = 4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale;
    for (k, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= allowed,
            "{name}, element {k}: found {found}, reference {expected}, allowed {allowed:e}"
        );
    }
}

struct Case {
    config: NetworkConfig,
    parameters: Parameters,
    input: Array3<f32>,
    by_output: Array3<f32>,
}

impl Case {
    fn new(inputs: usize, layers: &[LayerConfig], batch: usize, steps: usize) -> Self {
        let config = NetworkConfig::new(inputs, layers).unwrap();
        let rng = &mut ChaCha8Rng::seed_from_u64((batch * 100 + steps) as u64);
        let initial = Parameters::initial(&config, 3);
        // Biases too, which start at zero and would hide a missing one.
        let parameters = initial
            .iter()
            .map(|(name, tensor)| (name.to_owned(), tensor + &random(tensor.raw_dim(), 0.1, rng)))
            .collect();
        let output = (config.output_steps(steps), batch, config.output());
        Case {
            parameters,
            input: random((steps, batch, inputs), 1.0, rng),
            by_output: random(output, 1.0, rng),
            config,
        }
    }

    fn run(&self, threads: usize) -> (Array3<f32>, Tensors) {
        let network = Network::new(&self.config, &self.parameters, Threads::new(threads)).unwrap();
        let tape = network.forward(&Batch::new(self.input.view()));
        let output = tape.output().to_owned();
        let mut gradients = zeros(&self.parameters);
        network.accumulate(tape, self.by_output.view(), None, &mut gradients);
        (output, gradients)
    }

    fn check(&self, name: &str) {
        let network = gatefold_reference::Network::<f64>::new(&self.config, &self.parameters).unwrap();
        let tape = network.forward(&gatefold_reference::Batch::new(self.input.mapv(f64::from).view()));
        let expected = network.backward(&tape, self.by_output.mapv(f64::from).view(), None);
        let (output, gradients) = self.run(1);
        let widest = self.config.layers().iter().map(|layer| layer.input + layer.output).max().unwrap();
        let depth = self.config.layers().len();
        assert_close(&format!("{name}, output"), &output, &tape.output().to_owned(), depth * widest);
        let rows = self.input.dim().0 * self.input.dim().1;
        for (part, gradient) in &gradients {
            assert_close(
                &format!("{name}, {part}"),
                gradient,
                &expected.parameters[part],
                5 * depth * widest + rows,
            );
        }
        for threads in [2, 3, 8] {
            let same = self.run(threads) == (output.clone(), gradients.clone());
            assert!(same, "{name}: {threads} threads give other bits");
        }
    }
}

fn zeros(parameters: &Parameters) -> Tensors {
    parameters.iter().map(|(name, tensor)| (name.to_owned(), ArrayD::zeros(tensor.raw_dim()))).collect()
}

fn lstm(hidden: usize) -> LayerConfig {
    LstmConfig::new(hidden).into()
}

fn dense(output: usize, activation: Activation) -> LayerConfig {
    DenseConfig::new(output).activation(activation).into()
}

#[test]
fn one_layer_over_awkward_sizes() {
    for (batch, steps, inputs, hidden) in [
        (1, 1, 1, 1),
        (1, 7, 3, 13),
        (2, 5, 1, 17), // the most rows that go one by one
        (3, 5, 1, 17), // the fewest that go together
        (31, 2, 7, 5),
        (33, 19, 11, 65), // threads, uneven shares
        (64, 23, 5, 37),
    ] {
        Case::new(inputs, &[lstm(hidden)], batch, steps)
            .check(&format!("B {batch} T {steps} I {inputs} H {hidden}"));
    }
}

#[test]
fn whole_networks() {
    for (batch, steps) in [(1, 3), (5, 4), (40, 13)] {
        let check = |name: &str, inputs, layers: &[LayerConfig]| {
            Case::new(inputs, layers, batch, steps).check(&format!("{name}, B {batch} T {steps}"));
        };
        check("stacked", 3, &[lstm(32), lstm(32), lstm(7), dense(2, Activation::Identity)]);
        check(
            "last step",
            2,
            &[lstm(29), LayerConfig::LastStep, dense(64, Activation::Relu), dense(3, Activation::Tanh)],
        );
        check("dense in front", 5, &[dense(9, Activation::Sigmoid), lstm(11)]);
        check(
            "tied",
            8,
            &[lstm(8), LayerConfig::Tied { to: 0 }, dense(8, Activation::Tanh), LayerConfig::Tied { to: 2 }],
        );
    }
}

/// One is left out everywhere; what is asked for comes out the same.
#[test]
fn gradients_that_nobody_wants_are_left_out() {
    let case = Case::new(3, &[lstm(8), lstm(8), dense(2, Activation::Identity)], 4, 5);
    let (_, all) = case.run(1);
    for wanted in ["rnn0.weight_hh_l0", "rnn0.bias_hh_l1", "dense0.weight"] {
        let network = Network::new(&case.config, &case.parameters, Threads::new(1)).unwrap();
        let tape = network.forward(&Batch::new(case.input.view()));
        let mut gradients = zeros(&case.parameters);
        gradients.retain(|name, _| name == wanted);
        network.accumulate(tape, case.by_output.view(), None, &mut gradients);
        assert_eq!(gradients.len(), 1);
        assert_eq!(gradients[wanted], all[wanted]);
    }
}

#[test]
fn nan_in_the_input_reaches_outputs_and_gradients() {
    let mut case = Case::new(3, &[lstm(8), dense(2, Activation::Relu)], 4, 5);
    case.input[[2, 1, 0]] = f32::NAN;
    let (output, gradients) = case.run(1);
    assert!(output[[4, 1, 0]].is_nan());
    assert!(output[[1, 1, 0]].is_finite() && output[[4, 0, 0]].is_finite());
    // The last bias adds up derivatives by the output, which this test made.
    for (name, gradient) in gradients.iter().filter(|(name, _)| *name != "dense0.bias") {
        assert!(gradient.iter().any(|g| g.is_nan()), "{name}");
    }
}
