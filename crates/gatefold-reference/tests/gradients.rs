//! Every hand-written derivative against central differences, in f64: every weight, every input, both initial
//! states. The loss is a random weighting of all outputs, since equal weights would hide transposed axes.

use gatefold_model::{Activation, DenseConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters};
use gatefold_reference::{Network, linear, loss};
use ndarray::{Array, Array1, Array2, Array3, ArrayD, Dimension, Ix1, Ix2, IxDyn, ShapeBuilder};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Uniform in -1..1.
fn random<Sh: ShapeBuilder>(shape: Sh, rng: &mut ChaCha8Rng) -> Array<f64, Sh::Dim> {
    Array::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))
}

fn weighted<D: Dimension>(values: &Array<f64, D>, weights: &Array<f64, D>) -> f64 {
    assert_eq!(values.dim(), weights.dim());
    values.iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// Compares a gradient with the five-point difference `(8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / 12 h`.
///
/// With h = 1e-3 its truncation error is h^4 / 30 = 3e-14 times the fifth derivative, and rounding adds about
/// 1e-16 |f| / h = 1e-12 for losses near 10; so 1e-7 of the gradient, and never less than 1e-10, is met with room.
fn assert_gradient(
    name: &str,
    values: &ArrayD<f64>,
    gradient: &ArrayD<f64>,
    loss: impl Fn(&ArrayD<f64>) -> f64,
) {
    assert_eq!(values.shape(), gradient.shape(), "{name}");
    assert!(!values.is_empty(), "{name} has no elements");
    let h = 1e-3;
    for (place, &found) in gradient.indexed_iter() {
        let at = |shift: f64| {
            let mut shifted = values.clone();
            shifted[&place] += shift;
            loss(&shifted)
        };
        let difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let allowed = 1e-7 * difference.abs().max(1e-3);
        assert!(
            (found - difference).abs() <= allowed,
            "{name} at {:?}: backward {found}, central difference {difference}",
            place.slice()
        );
    }
}

#[test]
fn dense_layers_with_every_activation() {
    for activation in Activation::ALL {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 2), (7, 1, 11), (2, 13, 3)] {
            let r = &mut ChaCha8Rng::seed_from_u64((rows + inputs * 10 + outputs * 100) as u64);
            let mut draw = || (random((rows, inputs), r), random((outputs, inputs), r), random(outputs, r));
            let (mut x, mut weight, mut bias) = draw();
            // A difference across relu's kink says nothing: draw until every sum is further from 0 than the steps.
            while (x.dot(&weight.t()) + &bias).iter().any(|pre| pre.abs() < 3e-3) {
                (x, weight, bias) = draw();
            }
            let by_y = random((rows, outputs), r);
            let forward = |x: &Array2<f64>, weight: &Array2<f64>, bias: &Array1<f64>| {
                linear::dense_forward(x.view(), weight.view(), bias.view(), activation)
            };
            let y = forward(&x, &weight, &bias);
            let back = linear::dense_backward(x.view(), weight.view(), y.view(), activation, by_y.view());
            let name = |part: &str| format!("{activation}, rows {rows} I {inputs} O {outputs}, {part}");
            let loss = |y: Array2<f64>| weighted(&y, &by_y);
            assert_gradient(&name("x"), &x.clone().into_dyn(), &back.d_x.into_dyn(), |x| {
                loss(forward(&x.clone().into_dimensionality::<Ix2>().unwrap(), &weight, &bias))
            });
            assert_gradient(
                &name("weight"),
                &weight.clone().into_dyn(),
                &back.d_weight.into_dyn(),
                |weight| loss(forward(&x, &weight.clone().into_dimensionality::<Ix2>().unwrap(), &bias)),
            );
            assert_gradient(&name("bias"), &bias.clone().into_dyn(), &back.d_bias.into_dyn(), |bias| {
                loss(forward(&x, &weight, &bias.clone().into_dimensionality::<Ix1>().unwrap()))
            });
        }
    }
}

/// Every loss by every output, rows weighed each in their own way, one of them not at all.
#[test]
fn losses_by_their_outputs() {
    use loss::Loss;
    let r = &mut ChaCha8Rng::seed_from_u64(1);
    let losses = [
        (Loss::Squared, 1),
        (Loss::Absolute, 1),
        (Loss::Huber { delta: 0.4 }, 1),
        (Loss::Quantile { levels: vec![0.1, 0.5, 0.75] }, 3),
        (Loss::Gaussian, 2),
    ];
    for (loss, outputs) in losses {
        for (steps, batch, features) in [(1, 1, 1), (5, 3, 2)] {
            let target = random((steps, batch, features), r);
            let mut output = random((steps, batch, outputs * features), r);
            // A difference across a kink says nothing: residuals of 0 and +-delta are kept further away than the steps.
            for ((t, b, o), y) in output.indexed_iter_mut() {
                let wanted = target[[t, b, o % features]];
                while [0.0, 0.4].iter().any(|kink| ((*y - wanted).abs() - kink).abs() < 3e-3) {
                    *y += 7e-3;
                }
            }
            check_loss(&loss, &output, &target, r);
        }
    }
    for classes in [1, 2, 7] {
        let output = random((5, 3, classes), r) * 3.0;
        let target = Array3::from_shape_fn((5, 3, 1), |(t, b, _)| ((t * 3 + b) % (classes + 1)) as f64 - 1.0);
        check_loss(&Loss::CrossEntropy, &output, &target, r);
    }
}

fn check_loss(loss: &loss::Loss<f64>, output: &Array3<f64>, target: &Array3<f64>, r: &mut ChaCha8Rng) {
    let (steps, batch, _) = output.dim();
    let mut weights = random(steps * batch, r).to_vec();
    if weights.len() > 1 {
        weights[1] = 0.0;
    }
    let (_, gradient) = loss.weighted(output.view(), target.view(), &weights);
    let name = format!("{loss:?} {:?}", output.dim());
    assert_gradient(&name, &output.clone().into_dyn(), &gradient.into_dyn(), |output| {
        loss.weighted(output.view().into_dimensionality().unwrap(), target.view(), &weights).0
    });
}

/// Every parameter and every input of a whole network.
fn check_network(name: &str, inputs: usize, layers: &[LayerConfig]) {
    for (batch, steps) in [(1, 1), (3, 4)] {
        let config = NetworkConfig::new(inputs, layers).unwrap();
        let mut network = Network::<f64>::new(&config, &Parameters::initial(&config, 11)).unwrap();
        let r = &mut ChaCha8Rng::seed_from_u64(5);
        for tensor in network.parameters_mut().values_mut() {
            *tensor = random(tensor.raw_dim(), r); // biases too: zeros would hide a missing one
        }
        let input = random((steps, batch, inputs), r);
        let by_output = random((config.output_steps(steps), batch, config.output()), r);
        let tape = network.forward(input.view());
        let gradients = network.backward(&tape, by_output.view());
        assert_eq!(network.predict(input.view()), tape.output());

        let loss = |network: &Network<f64>, input: &Array3<f64>| {
            weighted(&network.forward(input.view()).output().to_owned(), &by_output)
        };
        let place = |part: &str| format!("{name}, B {batch} T {steps}, {part}");
        assert!(
            gradients.parameters.keys().eq(network.parameters().keys()),
            "{name}: a gradient for each parameter"
        );
        for (part, gradient) in &gradients.parameters {
            assert_gradient(&place(part), &network.parameters()[part], gradient, |values| {
                let mut network = network.clone();
                network.parameters_mut().insert(part.clone(), values.clone());
                loss(&network, &input)
            });
        }
        assert_gradient(&place("input"), &input.clone().into_dyn(), &gradients.input.into_dyn(), |input| {
            loss(&network, &input.clone().into_dimensionality().unwrap())
        });
    }
}

#[test]
fn whole_networks() {
    let lstm = |hidden| LayerConfig::from(LstmConfig::new(hidden));
    let dense = |output, activation| LayerConfig::from(DenseConfig::new(output).activation(activation));
    check_network("stacked", 2, &[lstm(5), lstm(5), lstm(3)]);
    check_network(
        "head on every step",
        3,
        &[lstm(4), dense(5, Activation::Relu), dense(2, Activation::Identity)],
    );
    check_network("last step", 1, &[lstm(3), lstm(2), LayerConfig::LastStep, dense(7, Activation::Sigmoid)]);
    check_network("last step between layers", 2, &[lstm(3), LayerConfig::LastStep, lstm(2)]);
    check_network("dense in front", 3, &[dense(4, Activation::Tanh), lstm(2)]);
    check_network(
        "tied",
        4,
        &[
            lstm(4),
            LayerConfig::Tied { to: 0 },
            dense(4, Activation::Tanh),
            LayerConfig::Tied { to: 2 },
            LayerConfig::Tied { to: 0 },
        ],
    );
}

/// A planted fault has to be found, or the comparison proves nothing.
#[test]
#[should_panic(expected = "w at [1]")]
fn a_wrong_derivative_is_found() {
    let values = ArrayD::from_shape_vec(IxDyn(&[2]), vec![0.5, -0.25]).unwrap();
    let mut gradient = values.mapv(|w: f64| w.cos());
    gradient[[1]] *= 1.0 + 1e-6;
    assert_gradient("w", &values, &gradient, |w| w.mapv(f64::sin).sum());
}
