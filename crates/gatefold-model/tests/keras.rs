//! Files that Keras wrote (tests/fixtures/keras of the workspace): the networks that they become, and their weights written
//! for Keras again. The command's tests compare results with Keras'.

use gatefold_model::file::{MASK, Model, keras};
use gatefold_model::{
    Biases, Direction, GruConfig, LayerConfig, LstmConfig, NetworkConfig, Parameters, Reset, RnnConfig,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/keras").join(name)
}

fn read(name: &str) -> Model {
    keras::read(file(name), None).unwrap_or_else(|error| panic!("{error}"))
}

/// Cases, the networks of Keras 3 and what differs in Keras 2, and the mask.
const NETWORKS: [(&str, &str, Option<&str>); 7] = [
    (
        "stack",
        "3 -> lstm 5 one bias -> dropout 0.2 -> gru 4 reset before, one bias -> gru 3 -> rnn 4 relu, one bias -> last step \
         -> dense 2 -> softmax",
        None,
    ),
    (
        "both",
        "3 -> lstm 4 one bias, bidirectional -> gru 3 bidirectional -> final state -> dense 2 no bias",
        None,
    ),
    (
        "masked",
        "3 -> lstm 4 one bias -> gru 3 hard_sigmoid(0.16666667, 0.5) tanh -> last step -> dense 2 tanh",
        Some("-1"),
    ),
    (
        "tokens",
        "1 -> embedding 4 of 11 tokens -> rnn 5 one bias, bidirectional -> final state -> dense 1 sigmoid",
        Some("0"),
    ),
    (
        "functional",
        "3 -> conv1d 4, kernel 3, causal, relu -> conv1d 5, kernel 2, padding 0 1 -> lstm 4 no biases -> dense 6 elu(1) -> \
         lstm 3 one bias, reverse -> final state -> repeat to 4 steps -> gru 3 -> dense 2 softsign",
        None,
    ),
    (
        "normalised",
        "3 -> normalise with epsilon 0.001 -> gru 5 -> normalise with epsilon 0.02 -> lstm 4 one bias -> mean pool -> normalise \
         with epsilon 0.001 -> dense 2",
        None,
    ),
    (
        "pooled",
        "3 -> conv1d 4, kernel 3, causal, relu -> lstm 5 one bias, bidirectional -> max pool -> dense 2 -> softmax",
        None,
    ),
];

/// The versions of Keras that wrote a case.
fn versions(name: &str) -> &'static [u32] {
    if matches!(name, "normalised" | "pooled") { &[3] } else { &[2, 3] }
}

#[test]
fn models_of_two_major_versions_become_networks() {
    for (name, network, mask) in NETWORKS {
        for version in versions(name) {
            let model = read(&format!("keras{version}_{name}.keras"));
            // The hard sigmoid is another one.
            let network = if *version == 2 { network.replace("0.16666667", "0.2") } else { network.into() };
            assert_eq!(model.config.to_string(), network, "keras{version}_{name}");
            assert_eq!(model.metadata.get(MASK).map(String::as_str), mask);
            assert!(model.parameters.iter().all(|(_, values)| values.iter().any(|&value| value != 0.0)));
        }
    }
}

#[test]
fn weights_alone_need_a_description() {
    let (weights, description) = (file("keras3_stack.weights.h5"), file("keras3_stack.json"));
    assert_eq!(keras::read(&weights, Some(&description)).unwrap(), read("keras3_stack.keras"));
    let error = keras::read(&weights, None).unwrap_err().to_string();
    assert!(error.contains("it holds weights only; give the model's description too"), "{error}");
    let error = keras::read(file("keras3_stack.keras"), Some(&description)).unwrap_err().to_string();
    assert!(error.contains("it describes its own layers; leave the architecture out"), "{error}");
    let error = keras::read(&weights, Some(&weights)).unwrap_err().to_string();
    assert!(error.contains("keras3_stack.weights.h5: not a model's description by Keras"), "{error}");
}

/// The description of a model whose weights alone Gatefold has written, with the names that the weights were read under.
#[test]
fn what_was_read_is_written_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.weights.h5");
    let mut model = read("keras3_stack.keras");
    let bias = model.parameters.get_mut("rnn0.bias_ih_l0").unwrap();
    bias[0] += 1.0;
    keras::write(&path, &model).unwrap();
    let back = keras::read(&path, Some(&file("keras3_stack.json"))).unwrap();
    assert_eq!(back, model);
    assert_ne!(back.parameters, read("keras3_stack.keras").parameters);
}

fn model(input: usize, layers: impl Into<Vec<LayerConfig>>) -> Model {
    let config = NetworkConfig::new(input, layers).unwrap();
    let parameters = Parameters::initial(&config, 5).unwrap();
    Model { config, parameters, metadata: BTreeMap::new() }
}

/// A network of other origin, for a Keras model of the same layers: `stack` of the fixtures.
#[test]
fn other_networks_get_the_groups_of_a_sequential_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.weights.h5");
    let mut own = model(
        3,
        [
            LstmConfig::new(5).into(),
            GruConfig::new(4).reset(Reset::Before).into(),
            GruConfig::new(3).biases(Biases::One).into(),
            RnnConfig::new(4).activation(gatefold_model::Activation::Relu).into(),
            LayerConfig::LastStep,
            gatefold_model::DenseConfig::new(2).into(),
        ],
    );
    for (name, value) in [("rnn0.bias_hh_l0", 0.25), ("rnn1.bias_hh_l0", 0.25), ("rnn2.bias_ih_l0", 0.5)] {
        own.parameters.get_mut(name).unwrap().fill(value);
    }
    keras::write(&path, &own).unwrap();
    let back = keras::read(&path, Some(&file("keras3_stack.json"))).unwrap();
    // Keras keeps the sum of the two biases; a GRU that resets after the product has both.
    let sum = &own.parameters["rnn0.bias_ih_l0"] + &own.parameters["rnn0.bias_hh_l0"];
    assert_eq!(back.parameters["rnn0.bias_ih_l0"], sum);
    for (_, theirs) in back.parameters.iter().filter(|(name, _)| name.contains("weight")) {
        assert!(own.parameters.iter().any(|(_, values)| values == theirs));
    }
    let sum = &own.parameters["rnn1.bias_ih_l0"] + &own.parameters["rnn1.bias_hh_l0"];
    assert_eq!(back.parameters["rnn1.bias_ih_l0"], sum);
    assert_eq!(back.parameters["rnn2.bias_ih_l0"], own.parameters["rnn2.bias_ih_l0"]);
    assert!(back.parameters["rnn2.bias_hh_l0"].iter().all(|&value| value == 0.0));
}

#[test]
fn what_keras_lacks_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.weights.h5");
    let refused = |layers: Vec<LayerConfig>| keras::write(&path, &model(4, layers)).unwrap_err().to_string();
    assert_eq!(
        refused(vec![LstmConfig::new(3).peephole().into()]),
        "layer 0 (lstm): Keras' recurrent layers have no peepholes"
    );
    assert_eq!(
        refused(vec![LstmConfig::new(3).projection(2).into()]),
        "layer 0 (lstm): Keras' recurrent layers have no projection"
    );
    assert_eq!(
        refused(vec![
            GruConfig::new(4).direction(Direction::Forward).into(),
            LayerConfig::Residual { from: 0 }
        ]),
        "layer 1 (residual): Keras has no layer for a residual connection in a Sequential model"
    );
    assert!(!path.exists());
}

#[test]
fn damaged_files_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, damaged) in [("keras3_both.keras", "d.keras"), ("keras3_stack.weights.h5", "d.weights.h5")] {
        let whole = fs::read(file(name)).unwrap();
        let path = folder.path().join(damaged);
        let description = file("keras3_stack.json");
        let description = name.ends_with("h5").then_some(&*description);
        for round in 0..400usize {
            let mut bytes = whole.clone();
            let place = round * 7919 % whole.len();
            match round % 3 {
                0 => bytes.truncate(place),
                1 => bytes[place] ^= 1 << (round % 8),
                _ => bytes[place..(place + 8).min(whole.len())].fill(0xff),
            }
            fs::write(&path, &bytes).unwrap();
            if let Err(error) = keras::read(&path, description) {
                let error = error.to_string();
                assert!(!error.contains('\n'), "{name}, round {round}: more than a line: {error}");
            }
        }
    }
}
