//! Derivatives of dense layers and losses against central differences, in f64. The loss is a random weighting of all
//! outputs, since equal weights would hide transposed axes.

use crate::common::{check_gradient, random, weighted};
use gatefold_model::Activation;
use gatefold_reference::Failures;
use gatefold_reference::{linear, loss};
use ndarray::{Array1, Array2, Array3, ArrayD, Ix1, Ix2, IxDyn};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// [`check_gradient`] away from kinks.
fn assert_gradient(
    name: &str,
    values: &ArrayD<f64>,
    gradient: &ArrayD<f64>,
    loss: impl Fn(&ArrayD<f64>) -> f64,
) {
    check_gradient(name, values, gradient, loss).unwrap_or_else(|_| panic!("{name}: a kink"));
}

#[test]
fn dense_layers_with_every_activation() {
    let mut failures = Failures::new();
    for activation in Activation::ALL {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 2), (7, 1, 11), (2, 13, 3)] {
            failures.check(format!("{activation}, rows {rows} I {inputs} O {outputs}"), || {
                let r = &mut ChaCha8Rng::seed_from_u64((rows + inputs * 10 + outputs * 100) as u64);
                let mut draw =
                    || (random((rows, inputs), r), random((outputs, inputs), r), random(outputs, r));
                let (mut x, mut weight, mut bias) = draw();
                // A difference across a kink is meaningless: draw until every sum is further from all kinks than the steps.
                let near = |pre: &f64| [0.0, 0.3, -2.5, 2.5].iter().any(|kink| (pre - kink).abs() < 3e-3);
                while (x.dot(&weight.t()) + &bias).iter().any(near) {
                    (x, weight, bias) = draw();
                }
                let d_y = random((rows, outputs), r);
                let forward = |x: &Array2<f64>, weight: &Array2<f64>, bias: &Array1<f64>| {
                    linear::dense_forward(x.view(), weight.view(), Some(bias.view()), activation)
                };
                let y = forward(&x, &weight, &bias);
                let back = linear::dense_backward(x.view(), weight.view(), y.view(), activation, d_y.view());
                let loss = |y: Array2<f64>| weighted(&y, &d_y);
                assert_gradient("x", &x.clone().into_dyn(), &back.d_x.into_dyn(), |x| {
                    loss(forward(&x.clone().into_dimensionality::<Ix2>().unwrap(), &weight, &bias))
                });
                assert_gradient("weight", &weight.clone().into_dyn(), &back.d_weight.into_dyn(), |weight| {
                    loss(forward(&x, &weight.clone().into_dimensionality::<Ix2>().unwrap(), &bias))
                });
                assert_gradient("bias", &bias.clone().into_dyn(), &back.d_bias.into_dyn(), |bias| {
                    loss(forward(&x, &weight, &bias.clone().into_dimensionality::<Ix1>().unwrap()))
                });
            });
        }
    }
    failures.finish();
}

/// Every loss with respect to every output, with a different weight for each row and weight 0 for one of them.
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
    let mut failures = Failures::new();
    for (loss, outputs) in losses {
        for (steps, batch, features) in [(1, 1, 1), (5, 3, 2)] {
            let target = random((steps, batch, features), r);
            let mut output = random((steps, batch, outputs * features), r);
            // A difference across a kink is meaningless: residuals keep further from 0 and +-delta than the steps.
            for ((t, b, o), y) in output.indexed_iter_mut() {
                let wanted = target[[t, b, o % features]];
                while [0.0, 0.4].iter().any(|kink| ((*y - wanted).abs() - kink).abs() < 3e-3) {
                    *y += 7e-3;
                }
            }
            failures.check(format!("{loss:?} {:?}", output.dim()), || check_loss(&loss, &output, &target, r));
        }
    }
    for classes in [1, 2, 7] {
        let output = random((5, 3, classes), r) * 3.0;
        let target = Array3::from_shape_fn((5, 3, 1), |(t, b, _)| ((t * 3 + b) % (classes + 1)) as f64 - 1.0);
        failures.check(format!("{classes} classes"), || check_loss(&Loss::CrossEntropy, &output, &target, r));
    }
    failures.finish();
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

/// A planted fault must be found, or the comparison proves nothing.
#[test]
#[should_panic(expected = "w at [1]")]
fn a_wrong_derivative_is_found() {
    let values = ArrayD::from_shape_vec(IxDyn(&[2]), vec![0.5, -0.25]).unwrap();
    let mut gradient = values.mapv(|w: f64| w.cos());
    gradient[[1]] *= 1.0 + 1e-6;
    assert_gradient("w", &values, &gradient, |w| w.mapv(f64::sin).sum());
}
