//! How far f32 strays from f64, measured against the rule of docs/numerics.md: at most `4 u sqrt(K)` of the tensor's
//! largest element, `u = 2^-24`, `K` the terms of the sums that an element goes through.

use gatefold_model::{Activation, DenseConfig, LstmConfig, NetworkConfig, Parameters};
use gatefold_reference::{Batch, Network, Real};
use ndarray::{Array, Array3, Dimension};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The largest difference as a share of what the rule allows.
fn share<D: Dimension>(found: &Array<f32, D>, expected: &Array<f64, D>, terms: usize) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let scale = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if scale == 0.0 {
        // Over one step from a state of zeros, recurrent weights have no gradient.
        return if found.iter().all(|&f| f == 0.0) { 0.0 } else { f64::INFINITY };
    }
    let error = found.iter().zip(expected).map(|(&f, &e)| (f.to_f64() - e).abs()).fold(0.0, f64::max);
    error / (4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale)
}

#[test]
fn f32_stays_within_the_rule() {
    for (batch, steps, inputs, hidden) in [(1, 1, 1, 1), (3, 300, 5, 33), (2, 20, 7, 513), (64, 50, 31, 16)] {
        let config = NetworkConfig::new(
            inputs,
            [LstmConfig::new(hidden).into(), DenseConfig::new(3).activation(Activation::Tanh).into()],
        )
        .unwrap();
        let parameters = Parameters::initial(&config, 4);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let mut random = |shape: (usize, usize, usize)| {
            Array3::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0f32))
        };
        let (input, by_output) = (random((steps, batch, inputs)), random((steps, batch, 3)));
        let single = Network::<f32>::new(&config, &parameters).unwrap();
        let double = Network::<f64>::new(&config, &parameters).unwrap();
        let (tape, exact_tape) = (
            single.forward(&Batch::new(input.view())),
            double.forward(&Batch::new(input.mapv(f64::from).view())),
        );
        let found = single.backward(&tape, by_output.view(), None);
        let expected = double.backward(&exact_tape, by_output.mapv(f64::from).view(), None);

        // Forward a sum over inputs and units; backward one over the gates more, and for a parameter's gradient one
        // over all rows of all steps.
        let forward = inputs + hidden;
        let backward = forward + 4 * hidden;
        let case = format!("B {batch} T {steps} I {inputs} H {hidden}");
        let check = |name: &str, share: f64| {
            println!("{case}, {name}: {share:.3} of the tolerance");
            assert!(share < 1.0, "{case}, {name}: {share} of the tolerance");
        };
        check("output", share(&tape.output().to_owned(), &exact_tape.output().to_owned(), forward));
        check("input", share(&found.input, &expected.input, backward));
        for (name, gradient) in &found.parameters {
            check(name, share(gradient, &expected.parameters[name], backward + steps * batch));
        }
    }
}
