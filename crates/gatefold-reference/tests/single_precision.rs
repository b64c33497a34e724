//! The distance of f32 from f64, measured against the rule of docs/numerics.md: at most `4 u sqrt(K)` times the
//! tensor's largest element, where `u = 2^-24` and `K` counts the terms of the sums that an element goes through.

use gatefold_model::{
    Activation, Coupling, DenseConfig, GruConfig, Init, LayerConfig, LstmConfig, NetworkConfig, Parameters,
    Reset, RnnConfig,
};
use gatefold_reference::Failures;
use gatefold_reference::{Batch, Network, Real};
use ndarray::{Array, Array3, Dimension};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The largest difference, as a fraction of the allowed one.
fn share<D: Dimension>(found: &Array<f32, D>, expected: &Array<f64, D>, terms: usize) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let scale = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    if scale == 0.0 {
        // With one step from zero states, recurrent weights have no gradient.
        return if found.iter().all(|&f| f == 0.0) { 0.0 } else { f64::INFINITY };
    }
    let error = found.iter().zip(expected).map(|(&f, &e)| (f.to_f64() - e).abs()).fold(0.0, f64::max);
    error / (4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale)
}

fn layers(hidden: usize) -> [(&'static str, LayerConfig, usize); 6] {
    let gru = GruConfig::new(hidden);
    // The last number counts gates.
    [
        ("lstm", LstmConfig::new(hidden).into(), 4),
        (
            "lstm, peephole, coupled, squashed",
            { LstmConfig::new(hidden).peephole().coupled(Coupling::Forget).squashed().into() },
            4,
        ),
        ("lstm, projected", LstmConfig::new(hidden).projection(hidden.div_ceil(2)).into(), 4),
        ("gru", gru.clone().into(), 3),
        ("gru, reset before", gru.reset(Reset::Before).into(), 3),
        (
            "rnn",
            RnnConfig::new(hidden).skip(2).recurrent_init(Init::Normal(0.3 / (hidden as f32).sqrt())).into(),
            1,
        ),
    ]
}

#[test]
fn f32_stays_within_the_rule() {
    let mut failures = Failures::new();
    for (batch, steps, inputs, hidden) in [(1, 1, 1, 1), (3, 300, 5, 33), (2, 20, 7, 513), (64, 50, 31, 16)] {
        for (name, layer, gates) in layers(hidden) {
            failures.check(format!("{name}, B {batch} T {steps} I {inputs} H {hidden}"), || {
                check(name, layer, gates, [batch, steps, inputs, hidden]);
            });
        }
    }
    failures.finish();
}

/// A recurrent layer followed by a dense one.
fn check(name: &str, layer: LayerConfig, gates: usize, [batch, steps, inputs, hidden]: [usize; 4]) {
    let layers = [layer, DenseConfig::new(3).activation(Activation::Tanh).into()];
    let config = NetworkConfig::new(inputs, layers).unwrap();
    let parameters = Parameters::initial(&config, 4).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut random =
        |shape: (usize, usize, usize)| Array3::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0f32));
    let (input, d_output) = (random((steps, batch, inputs)), random((steps, batch, 3)));
    let single = Network::<f32>::new(&config, &parameters).unwrap();
    let double = Network::<f64>::new(&config, &parameters).unwrap();
    let (wide, d_wide) = (input.mapv(f64::from), d_output.mapv(f64::from));
    let (tape, exact_tape) =
        (single.forward(&Batch::new(input.view())), double.forward(&Batch::new(wide.view())));
    let found = single.backward(&tape, d_output.view(), None);
    let expected = double.backward(&exact_tape, d_wide.view(), None);

    // Forward, a sum over inputs and units; backward, another over the gates, and for a parameter's gradient another
    // over all rows of all steps.
    let forward = inputs + hidden;
    let backward = forward + gates * hidden;
    let case = format!("{name}, B {batch} T {steps} I {inputs} H {hidden}");
    let check = |part: &str, share: f64| {
        println!("{share:.3} of the tolerance: {case}, {part}");
        assert!(share < 1.0, "{case}, {part}: {share} of the tolerance");
    };
    check("output", share(&tape.output().to_owned(), &exact_tape.output().to_owned(), forward));
    check("input", share(&found.input, &expected.input, backward));
    for (part, gradient) in &found.parameters {
        check(part, share(gradient, &expected.parameters[part], backward + steps * batch));
    }
}
