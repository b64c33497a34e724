//! `weight_norm` and `nn.BatchNorm1d` of PyTorch's state dicts, folded on reading, and steps that leave no tensors, against what
//! PyTorch computes
//! (tests/fixtures/pytorch/folded of the workspace).

use crate::state_dicts::{joined, linear, recurrent, tensors};
use gatefold_model::file::{Model, pytorch};
use gatefold_reference::Network;
use ndarray::{Array3, ArrayD};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The cases, and the order of their modules.
const CASES: [(&str, &str); 7] = [
    ("old_weight_norm", "lstm, head"),
    ("new_weight_norm", "conv relu padding 1 1, gru, head"),
    ("after_conv", "conv, norm relu, rnn tanh"),
    ("after_linear", "first, norm eps 1e-3 tanh, lstm, head, last"),
    ("before", "norm, lstm, between eps 1e-2, conv relu, again, head, last"),
    (
        "norms",
        "first, norm layer_norm leaky_relu(0.2), layer_norm eps 1e-3, hard_sigmoid, softmax, softmax()",
    ),
    ("skips", "low, residual low, high, residual high, relu, decoder"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pytorch/folded").join(name)
}

fn model(name: &str, modules: &str) -> Model {
    pytorch::read(fixture(&format!("{name}.safetensors")), &modules.parse().unwrap()).unwrap()
}

/// The tensors of float32 in a file.
fn file(name: &str) -> BTreeMap<String, ArrayD<f32>> {
    let bytes = fs::read(fixture(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors =
        file.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32).map(|(name, view)| {
            let words = view.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
            (name.to_owned(), ArrayD::from_shape_vec(view.shape(), words.collect()).unwrap())
        });
    tensors.collect()
}

fn check(name: &str, model: &Model) {
    let io = file(&format!("{name}.io.safetensors"));
    let array = |name: &str| -> Array3<f64> { io[name].mapv(f64::from).into_dimensionality().unwrap() };
    let network = Network::<f64>::new(&model.config, &model.parameters).unwrap();
    let (output, expected) = (network.predict(array("input").view()), array("output"));
    assert_eq!(output.dim(), expected.dim(), "{name}");
    let worst = (&output - &expected).iter().fold(0.0_f64, |most, error| most.max(error.abs()));
    assert!(worst < 2e-6, "{name}: {worst}");
}

#[test]
fn folded_networks_compute_what_pytorch_does() {
    for (name, modules) in CASES {
        check(name, &model(name, modules));
    }
}

#[test]
fn folded_networks_are_written_as_they_were_read() {
    for (name, modules) in CASES {
        let written = pytorch::state_dict(&model(name, modules), &[]).unwrap();
        // PyTorch counts batches in whole numbers, which are not written; it does without where they are missing.
        let read = file(&format!("{name}.safetensors"));
        assert_eq!(written.keys().collect::<Vec<_>>(), read.keys().collect::<Vec<_>>(), "{name}");
        let path = fixture(&format!("{name}.written.safetensors"));
        if std::env::var_os("GATEFOLD_FREEZE").is_some() {
            pytorch::write(&path, &model(name, modules), &[]).unwrap();
        }
        // PyTorch computes the same from this file (make.py --verify).
        assert_eq!(written, file(&format!("{name}.written.safetensors")), "{name}");
        check(name, &pytorch::from_state_dict(&written, &modules.parse().unwrap()).unwrap());
    }
}

fn batch_norm(prefix: &str, width: usize) -> BTreeMap<String, ArrayD<f32>> {
    let leaves = ["weight", "bias", "running_mean", "running_var"];
    leaves.iter().map(|leaf| (format!("{prefix}.{leaf}"), ArrayD::from_elem(vec![width], 0.5))).collect()
}

fn read(dict: &BTreeMap<String, ArrayD<f32>>, options: &str) -> Result<Model, String> {
    let options = if options.is_empty() { Default::default() } else { options.parse().unwrap() };
    pytorch::from_state_dict(dict, &options).map_err(|error| error.to_string())
}

#[test]
fn folding_is_said() {
    let dict = joined([linear("first", 3, 4), batch_norm("norm", 4), recurrent("lstm", 4, 4, 5, 1)]);
    let model = read(&dict, "first, norm relu, lstm").unwrap();
    assert_eq!(model.config.to_string(), "3 -> dense 4 relu -> lstm 5");
    let said = pytorch::assumptions(&model).join("\n");
    assert!(said.contains("norm is folded into first") && said.contains("eps of 1e-5"), "{said}");
    let model = read(&dict, "first relu, norm eps 1e-4, lstm").unwrap();
    assert_eq!(pytorch::assumptions(&model), ["norm is folded into lstm, as it is in inference"]);
}

#[test]
fn what_cannot_be_folded_is_refused() {
    let dict = joined([recurrent("lstm", 4, 3, 4, 1), batch_norm("norm", 4), linear("head", 4, 2)]);
    let error = read(&dict, "").unwrap_err();
    assert!(error.contains("norm: BatchNorm1d 4: the file does not hold its place"), "{error}");
    // Between a recurrent module and a function, there is nothing that takes it in.
    let error = read(&dict, "lstm, norm relu, head").unwrap_err();
    assert!(
        error.contains("norm: BatchNorm1d 4: it can be folded neither into the module before it"),
        "{error}"
    );
    assert!(error.contains("gatefold run takes as it is"), "{error}");
    // A convolution's zeros beside the sequence would not be normalised.
    let conv = tensors(&[("conv.weight", &[2, 4, 3]), ("conv.bias", &[2])]);
    let padded = joined([recurrent("lstm", 4, 3, 4, 1), batch_norm("norm", 4), conv]);
    assert!(read(&padded, "lstm, norm, conv causal").unwrap_err().contains("a Conv1d without padding"));
    assert!(read(&padded, "lstm, norm, conv").is_ok());
    assert!(read(&dict, "lstm eps 1e-3, norm, head").unwrap_err().contains("a LayerNorm or a BatchNorm1d"));
    let mut damaged = joined([linear("first", 3, 4), batch_norm("norm", 4), recurrent("lstm", 4, 4, 5, 1)]);
    damaged.get_mut("norm.running_var").unwrap().fill(-0.5);
    assert_eq!(
        read(&damaged, "first, norm, lstm").unwrap_err(),
        "state_dict: tensor norm.running_var: expected variances above 0, found -0.5"
    );
    let mut part = dict.clone();
    part.remove("norm.running_var");
    assert_eq!(read(&part, "").unwrap_err(), "state_dict: tensor norm.running_var [4] is missing");

    // A layer normalisation is no product, so nothing is folded into it.
    let layer_norm = tensors(&[("layer_norm.weight", &[4]), ("layer_norm.bias", &[4])]);
    let both = joined([recurrent("lstm", 4, 3, 4, 1), batch_norm("norm", 4), layer_norm]);
    let error = read(&both, "lstm, norm, layer_norm").unwrap_err();
    assert!(error.contains("norm: BatchNorm1d 4: it can be folded neither into"), "{error}");
}

#[test]
fn other_norms_of_weights_are_refused() {
    let with = |added: &[(&str, &[usize])]| {
        let mut dict = recurrent("lstm", 4, 3, 4, 1);
        dict.extend(tensors(added));
        read(&dict, "").unwrap_err()
    };
    let error = with(&[("head.weight_g", &[1, 4]), ("head.weight_v", &[2, 4])]);
    assert!(error.contains("head.weight_g") && error.contains("expected a magnitude [2, 1]"), "{error}");
    let error = with(&[("head.weight_g", &[]), ("head.weight_v", &[2, 4])]);
    assert!(error.contains("found []"), "{error}");
    let error = with(&[("head.weight", &[2, 4]), ("head.weight_g", &[2, 1]), ("head.weight_v", &[2, 4])]);
    assert!(error.contains("tensor head.weight is there twice"), "{error}");
    let error = with(&[("head.parametrizations.weight.original", &[2, 4])]);
    assert!(error.contains("a parametrization other than weight_norm"), "{error}");
    let mut dict = linear("head", 3, 2);
    dict.remove("head.weight");
    dict.insert("head.weight_g".into(), ArrayD::ones(vec![2, 1]));
    dict.insert("head.weight_v".into(), ArrayD::zeros(vec![2, 3]));
    let error = read(&dict, "head").unwrap_err();
    assert_eq!(error, "state_dict: tensor head.weight_v: row 0 is all zeros and has no direction");
}
