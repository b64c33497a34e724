//! Losses and optimisers compared with PyTorch's (tests/fixtures/pytorch), on both devices.
//!
//! If the inputs of a dense layer without activation are the rows of an identity matrix, its outputs are exactly its
//! weights, and the gradient of its weights is exactly that of its outputs. So any outputs can be given to a loss and
//! any gradient to an optimiser.

use gatefold::layers::{Activation, DenseConfig};
use gatefold::training::{ParameterGroup, Reduction};
use gatefold::{Device, Loss, Network, NetworkConfig, Optimizer, Parameters, Targets, TrainConfig, Trainer};
use gatefold_check::{Failures, Tolerance, assert_close, test_gpu};
use ndarray::{Array2, Array3, ArrayD};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn devices() -> Vec<Device> {
    let gpu = test_gpu().map(Device::Gpu);
    [Device::cpu().unwrap()].into_iter().chain(gpu).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The entries of the index under a key.
fn index(key: &str) -> Vec<Value> {
    let index: Value = serde_json::from_slice(&fixture("cases.json")).unwrap();
    index[key].as_array().unwrap().clone()
}

fn floats(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    let values = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    (tensor.shape().to_vec(), values.collect())
}

fn labels(file: &SafeTensors, name: &str) -> (Vec<usize>, Vec<i64>) {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::I64, "{name}");
    let values = tensor.data().chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()));
    (tensor.shape().to_vec(), values.collect())
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A network with these outputs, and its input: the identity matrix as `[T, B, T B]`.
fn given(steps: usize, batch: usize, outputs: &Array2<f32>) -> (NetworkConfig, Parameters, Array3<f32>) {
    let (rows, width) = outputs.dim();
    assert_eq!(rows, steps * batch);
    let layer = DenseConfig::new(width).activation(Activation::Identity);
    let config = NetworkConfig::new(rows, [layer.into()]).unwrap();
    let mut parameters = Parameters::zeros(&config).unwrap();
    *parameters.get_mut("dense0.weight").unwrap() = outputs.t().as_standard_layout().into_owned().into_dyn();
    let unit =
        Array3::from_shape_fn((steps, batch, rows), |(t, row, k)| f32::from(u8::from(t * batch + row == k)));
    (config, parameters, unit)
}

fn weight(parameters: &Parameters) -> &ArrayD<f32> {
    &parameters["dense0.weight"]
}

#[test]
fn losses_are_pytorchs() {
    let bytes = fixture("losses.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases = index("losses");
    assert_eq!(cases.len(), 5);
    let mut failures = Failures::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let options = &case["options"];
        let loss = match case["loss"].as_str().unwrap() {
            "MSELoss" => Loss::SquaredError,
            "L1Loss" => Loss::AbsoluteError,
            "HuberLoss" => Loss::Huber { delta: options["delta"].as_f64().unwrap() as f32 },
            "CrossEntropyLoss" => Loss::CrossEntropy,
            "GaussianNLLLoss" => Loss::GaussianLikelihood,
            other => panic!("{other}"),
        };
        let (shape, outputs) = floats(&file, &format!("{name}.input"));
        let (steps, batch, width) = (shape[0], shape[1], shape[2]);
        let outputs = Array2::from_shape_vec((steps * batch, width), outputs).unwrap();
        let targets = if loss == Loss::CrossEntropy {
            let (shape, values) = labels(&file, &format!("{name}.target"));
            Targets::labels(Array2::from_shape_vec((shape[0], shape[1]), values).unwrap().view())
        } else {
            let (shape, values) = floats(&file, &format!("{name}.target"));
            Targets::values(Array3::from_shape_vec((shape[0], shape[1], shape[2]), values).unwrap())
        };
        for (reduction, word) in [(Reduction::Mean, "mean"), (Reduction::Sum, "sum")] {
            let value = wide(&floats(&file, &format!("{name}.{word}.value")).1);
            let gradient = wide(&floats(&file, &format!("{name}.{word}.grad")).1);
            for device in devices() {
                failures.check(format!("{name} {word} on {device:?}"), || {
                    let (config, parameters, unit) = given(steps, batch, &outputs);
                    let network = Network::with_parameters(&device, &config, &parameters).unwrap();
                    let options = TrainConfig::new().loss(loss.clone()).reduction(reduction);
                    let mut trainer = Trainer::new(network, options).unwrap();
                    let found = trainer.network().predict(unit.view()).unwrap();
                    assert_eq!(
                        found.as_slice().unwrap(),
                        outputs.as_slice().unwrap(),
                        "the weights come out"
                    );
                    trainer.accumulate(unit.view(), &targets).unwrap();
                    let losses = trainer.take_losses().unwrap();
                    let gradients = trainer.gradients().unwrap();
                    let d: Vec<f32> = weight(&gradients).t().iter().copied().collect();
                    let elements = outputs.len();
                    assert_close("loss", &[("batch", 1)], &losses, &value, Tolerance::gradient(elements));
                    let axes = [("row", steps * batch), ("output", width)];
                    assert_close("gradient", &axes, &d, &gradient, Tolerance::gradient(1));

                    // Computed in f64; the fixture was rounded once.
                    let evaluated = targets.loss(&loss, reduction, found.view()).unwrap();
                    assert!((evaluated / value[0] - 1.0).abs() < 1e-7, "{evaluated}, {}", value[0]);
                });
            }
        }
    }
    failures.finish();
}

#[test]
fn optimizers_are_pytorchs() {
    let bytes = fixture("optim.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let begin = floats(&file, "begin").1;
    let (shape, gradients) = floats(&file, "gradients");
    let (updates, elements) = (shape[0], begin.len());
    let cases = index("optimizers");
    assert_eq!(cases.len(), 11);
    let mut failures = Failures::new();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let options = &case["options"];
        let number = |key: &str, default: f32| options[key].as_f64().map_or(default, |value| value as f32);
        let beta = |k: usize| options["betas"][k].as_f64().unwrap() as f32;
        let (momentum, epsilon) = (number("momentum", 0.0), number("eps", 1e-8));
        let optimizer = match case["optimizer"].as_str().unwrap() {
            "SGD" => Optimizer::Sgd {
                momentum,
                nesterov: options["nesterov"].as_bool().unwrap_or(false),
                weight_decay: number("weight_decay", 0.0),
            },
            "RMSprop" => Optimizer::RmsProp {
                alpha: number("alpha", 0.99),
                epsilon,
                momentum,
                centered: options["centered"].as_bool().unwrap_or(false),
                weight_decay: number("weight_decay", 0.0),
            },
            "Adam" => Optimizer::Adam {
                beta1: beta(0),
                beta2: beta(1),
                epsilon,
                weight_decay: number("weight_decay", 0.0),
            },
            "AdamW" => Optimizer::AdamW {
                beta1: beta(0),
                beta2: beta(1),
                epsilon,
                weight_decay: number("weight_decay", 0.01),
            },
            other => panic!("{other}"),
        };
        let wanted = wide(&floats(&file, &format!("{name}.values")).1);
        for device in devices() {
            failures.check(format!("{name} on {device:?}"), || {
                let outputs = Array2::from_shape_vec((elements, 1), begin.clone()).unwrap();
                let (config, parameters, unit) = given(1, elements, &outputs);
                // The slope of the absolute error is 1 or -1. With the weight |g|, and a target far off on the right
                // side, the gradient is g.
                let options = TrainConfig::new()
                    .optimizer(optimizer)
                    .learning_rate(number("lr", f32::NAN))
                    .loss(Loss::AbsoluteError)
                    .reduction(Reduction::Sum)
                    .group(ParameterGroup::new("dense0.bias").frozen());
                let network = Network::with_parameters(&device, &config, &parameters).unwrap();
                let mut trainer = Trainer::new(network, options).unwrap();
                for update in 0..updates {
                    let g = &gradients[update * elements..(update + 1) * elements];
                    let sides = Array3::from_shape_fn((1, elements, 1), |(_, k, _)| -1e6f32.copysign(g[k]));
                    let sizes = Array2::from_shape_fn((1, elements), |(_, k)| g[k].abs());
                    let targets = Targets::values(sides).with_weights(sizes).unwrap();
                    trainer.accumulate(unit.view(), &targets).unwrap();
                    assert_eq!(weight(&trainer.gradients().unwrap()).as_slice().unwrap(), g, "gradient");
                    trainer.update().unwrap();
                    let after = trainer.network().parameters().unwrap();
                    let found: Vec<f32> = weight(&after).iter().copied().collect();
                    let want = &wanted[update * elements..(update + 1) * elements];
                    // Each of five updates rounds the value once, and a step of at most a fifth of it a dozen times: 17
                    // u.
                    let what = format!("after update {update}");
                    assert_close(&what, &[("element", elements)], &found, want, Tolerance::product(25));
                }
                // A checkpoint names the moments alike on either device.
                if let Optimizer::RmsProp { alpha, .. } = optimizer {
                    let alpha = f64::from(alpha);
                    let checkpoint = trainer.checkpoint(0, BTreeMap::new()).unwrap();
                    for (name, power) in [("v", 2), ("mean", 1)] {
                        let Some(moment) = checkpoint.optimizer.get(name) else { continue };
                        let mut want = vec![0.0; elements];
                        for (at, &g) in gradients.iter().enumerate() {
                            let moment = &mut want[at % elements];
                            *moment = alpha * *moment + (1.0 - alpha) * f64::from(g).powi(power);
                        }
                        let found: Vec<f32> = weight(moment).iter().copied().collect();
                        assert_close(name, &[("element", elements)], &found, &want, Tolerance::product(25));
                    }
                }
            });
        }
    }
    failures.finish();
}
