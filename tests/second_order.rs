//! Forward-mode derivatives and Gauss-Newton products, on both devices.

use gatefold::layers::{
    Conv1dConfig, DenseConfig, Expansion, GruConfig, LayerConfig, LayerNorm, LstmConfig, Merge, RnnConfig,
    branch,
};
use gatefold::training::{HessianFree, HessianFreeConfig, HessianFreeState, Loss, Reduction};
use gatefold::{Device, Error, Network, NetworkConfig, Parameters, Sequences, Targets};
use gatefold_check::{Failures, Random, SequenceCase, check_tangents, test_devices, test_gpu};
use ndarray::{Array2, Array3};

#[test]
fn tangents_on_the_cpu() {
    let cases = SequenceCase::with_tangents();
    check_tangents(&Device::cpu().unwrap(), &cases).unwrap().assert("tangents");
}

#[test]
fn tangents_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_tangents(&Device::Gpu(gpu), &SequenceCase::with_tangents()).unwrap().assert("tangents");
}

fn random_like(parameters: &Parameters, seed: u64) -> Parameters {
    let mut random = Random::new(seed, 0);
    let of = |(name, tensor): (&str, &ndarray::ArrayD<f32>)| {
        let values = random.values(tensor.len());
        (name.to_owned(), ndarray::ArrayD::from_shape_vec(tensor.raw_dim(), values).unwrap())
    };
    parameters.iter().map(of).collect()
}

fn dot(a: &Parameters, b: &Parameters) -> f64 {
    let product = |(name, a): (&str, &ndarray::ArrayD<f32>)| -> f64 {
        a.iter().zip(&b[name]).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    a.iter().map(product).sum()
}

/// The same product again gives the same bits: what a pass left behind does not matter.
#[test]
fn products_are_symmetric_positive_and_repeat() {
    let config = NetworkConfig::with_input(3).gru(5).lstm(4).dense(3).build().unwrap();
    let mut failures = Failures::new();
    for (name, device) in test_devices() {
        failures.check(name, || {
            let network = Network::new(&device, &config, 3).unwrap();
            let parameters = network.parameters().unwrap();
            let input =
                Sequences::from(Random::new(4, 0).sequence((6, 5, 3))).with_lengths([6, 2, 5, 1, 3]).unwrap();
            let labels = Array2::from_shape_fn((6, 5), |(t, row)| ((2 * t + row) % 4) as i64 - 1);
            let squares = Random::new(4, 1).sequence((6, 5, 3));
            let cases =
                [(Loss::CrossEntropy, Targets::from(&labels)), (Loss::SquaredError, Targets::from(&squares))];
            for (loss, targets) in &cases {
                let product =
                    |v: &Parameters| network.gauss_newton(&input, targets, loss, Reduction::Mean, v).unwrap();
                let (u, v) = (random_like(&parameters, 5), random_like(&parameters, 6));
                let (gu, gv) = (product(&u), product(&v));
                let (uu, vv) = (dot(&u, &gu), dot(&v, &gv));
                assert!(uu > 0.0 && vv > 0.0, "{}: {uu} and {vv}", loss.name());
                let off = (dot(&u, &gv) - dot(&v, &gu)).abs();
                assert!(off <= 1e-5 * (uu * vv).sqrt(), "{}: {off} of {uu} and {vv}", loss.name());
                assert_eq!(product(&u), gu, "{}", loss.name());
            }
        });
    }
    failures.finish();
}

#[test]
fn layers_without_tangents_are_refused_by_name() {
    let cases: [(LayerConfig, &str); 4] = [
        (Conv1dConfig::new(2, 2).into(), "a convolution"),
        (GruConfig::new(2).dilation(2).into(), "a dilation"),
        (LstmConfig::new(2).layer_norm(LayerNorm::default()).into(), "layer normalisation"),
        (RnnConfig::new(2).drop_connect(0.5).into(), "noise within a cell"),
    ];
    for (name, device) in test_devices() {
        for (layer, what) in &cases {
            let config = NetworkConfig::new(1, [layer.clone(), DenseConfig::new(1).into()]).unwrap();
            let network = Network::new(&device, &config, 1).unwrap();
            let direction = network.parameters().unwrap();
            let refused = network.jvp(Array3::zeros((4, 1, 1)), &direction, None).unwrap_err();
            assert!(matches!(refused, Error::Model(_)), "{name}: {refused}");
            assert!(refused.to_string().contains(what), "{name}: {refused}");
        }
        let config = NetworkConfig::with_input(1).rnn(2).dense(1).build().unwrap();
        let network = Network::new(&device, &config, 1).unwrap();
        let (direction, input) = (network.parameters().unwrap(), Array3::zeros((2, 1, 1)));
        let absolute =
            network.gauss_newton(&input, &input, &Loss::AbsoluteError, Reduction::Mean, &direction);
        assert!(absolute.unwrap_err().to_string().contains("absolute error"), "{name}");
        let short = network.jvp(&input, &direction, Some(Array3::zeros((1, 1, 1)).view())).unwrap_err();
        assert!(short.to_string().starts_with("tangent of the input: expected (2, 1, 1)"), "{name}: {short}");
    }
}

/// The best linear map is found at once: its loss is quadratic, and the Gauss-Newton matrix is its Hessian.
#[test]
fn a_linear_network_is_solved_in_one_update() {
    let config = NetworkConfig::with_input(4).dense(3).build().unwrap();
    let input = Sequences::from(Random::new(9, 0).sequence((2, 30, 4)));
    let best = random_like(&Parameters::initial(&config, 1).unwrap(), 8);
    for (name, device) in test_devices() {
        let target = Network::with_parameters(&device, &config, &best).unwrap().predict(&input).unwrap();
        let targets = Targets::from(&target);
        let network = Network::new(&device, &config, 2).unwrap();
        let options = HessianFreeConfig::new().damping(1e-6);
        let mut training = HessianFree::new(network, options).unwrap();
        let batch = (&input, &targets);
        let update = training.update(batch, batch).unwrap();
        // The model of a quadratic loss without damping is the loss.
        assert!((update.reduction_ratio - 1.0).abs() < 1e-4, "{name}: {update:?}");
        assert!(update.before > 0.1 && update.after < 1e-9 && update.step_size == 1.0, "{name}: {update:?}");
        let found = training.network().parameters().unwrap();
        for (parameter, best) in best.iter() {
            for (found, best) in found[parameter].iter().zip(best) {
                assert!((found - best).abs() < 1e-3, "{name}, {parameter}: {found}, {best}");
            }
        }
    }
}

/// A recurrent network learns to remember, with separate batches and structural damping; cut in two, it gives the same bits.
#[test]
fn hessian_free_training_goes_down_and_resumes_bit_for_bit() {
    let config = NetworkConfig::with_input(2).rnn(6).last_step().dense(2).build().unwrap();
    let mut failures = Failures::new();
    for (name, device) in test_devices() {
        failures.check(name, || {
            let input = Sequences::from(Random::new(10, 0).sequence((5, 24, 2)));
            let labels = Array2::from_shape_fn((1, 24), |(_, row)| {
                i64::from(input.values()[[0, row, 0]] > input.values()[[2, row, 1]])
            });
            let targets = Targets::from(&labels);
            let fewer = Sequences::from(input.values().slice(ndarray::s![.., ..12, ..]).to_owned());
            let of_fewer = Targets::from(labels.slice(ndarray::s![.., ..12]));
            let options = || {
                let options = HessianFreeConfig::new().loss(Loss::CrossEntropy).structural_damping(0.3);
                options.damping(0.1).iterations(8)
            };
            let begin = || Network::new(&device, &config, 4).unwrap();
            let mut whole = HessianFree::new(begin(), options()).unwrap();
            let run = |training: &mut HessianFree, updates: usize| -> Vec<f64> {
                let update = |_| training.update((&input, &targets), (&fewer, &of_fewer)).unwrap().after;
                (0..updates).map(update).collect()
            };
            let losses = run(&mut whole, 6);
            assert!(losses.windows(2).all(|pair| pair[1] <= pair[0]), "{losses:?}");
            assert!(losses[5] < 0.6 * losses[0], "{losses:?}");
            let mut first = HessianFree::new(begin(), options()).unwrap();
            run(&mut first, 3);
            let parameters = first.network().parameters().unwrap();
            let network = Network::with_parameters(&device, &config, &parameters).unwrap();
            let mut second = HessianFree::resume(network, options(), first.state().clone()).unwrap();
            assert_eq!(run(&mut second, 3), losses[3..]);
            assert_eq!(second.state(), whole.state());
            assert_eq!(second.network().parameters().unwrap(), whole.network().parameters().unwrap());
        });
    }
    failures.finish();
}

#[test]
fn options_of_hessian_free_training_are_checked() {
    let device = Device::cpu().unwrap();
    let begin = |config: &NetworkConfig, options| {
        let network = Network::new(&device, config, 1).unwrap();
        HessianFree::new(network, options).unwrap_err().to_string()
    };
    let config = NetworkConfig::with_input(1).rnn(2).build().unwrap();
    let new = HessianFreeConfig::new;
    assert!(begin(&config, new().damping(0.0)).starts_with("damping: expected a finite number above 0"));
    assert!(begin(&config, new().iterations(0)).starts_with("iterations: expected at least 1"));
    assert!(begin(&config, new().structural_damping(f64::NAN)).starts_with("structural damping: expected"));
    assert!(begin(&config, new().loss(Loss::AbsoluteError)).contains("absolute error"));
    let beside = [branch().rnn(2), branch().rnn(2)];
    let branches = NetworkConfig::with_input(1).parallel(Merge::Sum, beside).build().unwrap();
    assert!(begin(&branches, new().structural_damping(0.1)).contains("structural damping"));
}

/// A network with its input and targets, far from the best parameters.
fn small(
    device: &Device,
    layers: impl Into<Vec<LayerConfig>>,
) -> (Network, Sequences<'static>, Targets<'static>) {
    let network = Network::new(device, &NetworkConfig::new(2, layers).unwrap(), 5).unwrap();
    let input = Random::new(21, 0).sequence((6, 7, 2));
    let target =
        Random::new(21, 1).sequence((network.config().output_steps(6), 7, network.config().output()));
    (network, input.into(), target.into())
}

/// With heavy damping a step is short, and the loss falls by what its slope promises: the model without either damping.
#[test]
fn the_damping_is_no_part_of_the_models_promise() {
    for (name, device) in test_devices() {
        let (network, input, targets) =
            small(&device, [RnnConfig::new(4).into(), DenseConfig::new(2).into()]);
        let options = HessianFreeConfig::new().damping(30.0).structural_damping(2.0);
        let mut training = HessianFree::new(network, options).unwrap();
        let update = training.update((&input, &targets), (&input, &targets)).unwrap();
        assert!((update.reduction_ratio - 1.0).abs() < 0.05, "{name}: {update:?}");
    }
}

/// Conjugate gradients that begin far off and end after an iteration.
#[test]
fn a_direction_that_leads_uphill_is_not_taken() {
    for (name, device) in test_devices() {
        for sign in [30.0, -30.0] {
            let layers = || [RnnConfig::new(4).into(), DenseConfig::new(2).into()];
            let (network, input, targets) = small(&device, layers());
            let parameters = network.parameters().unwrap();
            let options = HessianFreeConfig::new().iterations(1);
            let mut state = HessianFree::new(network, options.clone()).unwrap().state().clone();
            for (parameter, values) in random_like(&parameters, 3).iter() {
                state.direction.insert(parameter.to_owned(), values * sign);
            }
            let (network, ..) = small(&device, layers());
            let mut training = HessianFree::resume(network, options, state).unwrap();
            let update = training.update((&input, &targets), (&input, &targets)).unwrap();
            assert!(update.after <= update.before, "{name}: {update:?}");
            assert!(
                update.damping > 1.0 && update.reduction_ratio == f64::NEG_INFINITY,
                "{name}: {update:?}"
            );
            if update.step_size == 0.0 {
                assert_eq!(training.network().parameters().unwrap(), parameters, "{name}");
                assert_eq!(update.after, update.before, "{name}");
            }
        }
    }
}

#[test]
fn nothing_moves_where_the_loss_is_least() {
    for (name, device) in test_devices() {
        let (network, input, _) = small(&device, [RnnConfig::new(4).into(), DenseConfig::new(2).into()]);
        let (parameters, best) = (network.parameters().unwrap(), network.predict(&input).unwrap());
        let targets = Targets::from(&best);
        let mut training = HessianFree::new(network, HessianFreeConfig::new()).unwrap();
        let update = training.update((&input, &targets), (&input, &targets)).unwrap();
        assert_eq!((update.after, update.step_size, update.iterations), (update.before, 0.0, 1), "{name}");
        assert_eq!(training.network().parameters().unwrap(), parameters, "{name}");
    }
}

#[test]
fn numbers_that_overflow_do_not_reach_the_parameters() {
    for (name, device) in test_devices() {
        for scale in [1e20, 1e16] {
            let (network, input, targets) = small(&device, [DenseConfig::new(2).into()]);
            let parameters = network.parameters().unwrap();
            let input = Sequences::from(input.values().mapv(|value| value * scale));
            let mut training = HessianFree::new(network, HessianFreeConfig::new()).unwrap();
            let update = training.update((&input, &targets), (&input, &targets));
            match scale {
                1e20 => {
                    let refused = update.unwrap_err().to_string();
                    assert!(refused.starts_with("gradient: expected finite numbers"), "{name}: {refused}");
                }
                _ => {
                    // A product overflows: conjugate gradients end with it.
                    let update = update.unwrap();
                    assert_eq!((update.iterations, update.step_size), (1, 0.0), "{name}: {update:?}");
                    assert!(update.damping > 1.0, "{name}: {update:?}");
                }
            }
            assert_eq!(training.network().parameters().unwrap(), parameters, "{name}, {scale}");
        }
    }
}

#[test]
fn structural_damping_reaches_layers_after_an_expansion() {
    for (name, device) in test_devices() {
        let layers: [LayerConfig; 4] = [
            RnnConfig::new(3).into(),
            LayerConfig::LastStep,
            LayerConfig::Expand { steps: 4, fill: Expansion::Repeat },
            RnnConfig::new(2).into(),
        ];
        let (network, input, targets) = small(&device, layers);
        let options = HessianFreeConfig::new().structural_damping(0.5);
        let mut training = HessianFree::new(network, options).unwrap();
        let update = training.update((&input, &targets), (&input, &targets)).unwrap();
        assert!(update.after < update.before, "{name}: {update:?}");
    }
}

#[test]
fn states_to_resume_from_are_checked() {
    let device = Device::cpu().unwrap();
    let begin = || small(&device, [DenseConfig::new(2).into()]).0;
    let state = HessianFree::new(begin(), HessianFreeConfig::new()).unwrap().state().clone();
    let refused =
        |state| HessianFree::resume(begin(), HessianFreeConfig::new(), state).unwrap_err().to_string();
    for damping in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let state = HessianFreeState { damping, ..state.clone() };
        assert!(refused(state).starts_with("damping: expected a finite number above 0"), "{damping}");
    }
    for value in [f32::NAN, f32::INFINITY] {
        let mut state = state.clone();
        let (name, values) =
            state.direction.iter().next().map(|(name, of)| (name.to_owned(), of.clone())).unwrap();
        state.direction.insert(name, values + value);
        assert!(refused(state).starts_with("direction: expected finite numbers"), "{value}");
    }
}
