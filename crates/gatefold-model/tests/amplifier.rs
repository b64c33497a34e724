//! Files for guitar plugins, against files that their programs read as PyTorch computes (tests/fixtures/amplifier of the
//! workspace).

use gatefold_model::file::{Model, amplifier, pytorch};
use gatefold_model::{
    Activation, DenseConfig, Direction, GruConfig, InitialState, LayerConfig, LstmConfig, NetworkConfig,
    Parameters, RnnConfig,
};
use gatefold_reference::Network;
use ndarray::{Array3, ArrayD};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The cases, the order of their modules, whether they end with the input added, and the files that hold them.
const CASES: [(&str, &str, bool, &[&str]); 4] = [
    ("two_layers", "rec.0, lin.0", false, &["nam", "json"]),
    ("skip", "rec.0, lin.0", true, &["nam", "json"]),
    ("skip_two_layers", "rec.0, lin.0", true, &["nam", "json"]),
    ("mixed", "rec.0, rec.1, lin.0 tanh, lin.1", false, &["json"]),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/amplifier").join(name)
}

/// A case's model. `elu` has no name among the options of a state_dict.
fn model(name: &str) -> Model {
    let (_, modules, residual, _) = CASES.into_iter().find(|case| case.0 == name).unwrap();
    let read = pytorch::read(fixture(&format!("{name}.safetensors")), &modules.parse().unwrap()).unwrap();
    let mut layers = read.config.layer_configs().to_vec();
    if name == "mixed" {
        layers[3] = DenseConfig::new(2).activation(Activation::Elu { alpha: 1.0 }).into();
    }
    layers.extend(residual.then_some(LayerConfig::Residual { from: 0 }));
    Model { config: NetworkConfig::new(read.config.input(), layers).unwrap(), ..read }
}

fn written(model: &Model, kind: &str) -> amplifier::AmplifierFile {
    match kind {
        "nam" => amplifier::nam(model, Some(44_100.0)).unwrap(),
        _ => amplifier::json(model, Some(44_100.0)).unwrap(),
    }
}

#[test]
fn files_are_those_that_plugins_read() {
    for (name, _, _, kinds) in CASES {
        for kind in kinds {
            let (file, path) = (written(&model(name), kind), fixture(&format!("{name}.{kind}")));
            if std::env::var_os("GATEFOLD_FREEZE").is_some() {
                file.write(&path).unwrap();
            }
            let frozen: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&file.text).unwrap(), frozen, "{name}.{kind}");
        }
    }
}

#[test]
fn the_networks_compute_what_pytorch_does() {
    for (name, ..) in CASES {
        let model = model(name);
        let bytes = fs::read(fixture(&format!("{name}.io.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let array = |name: &str| -> Array3<f64> {
            let view = file.tensor(name).unwrap();
            let words = view.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
            let values = ArrayD::from_shape_vec(view.shape(), words.map(f64::from).collect()).unwrap();
            values.into_dimensionality().unwrap()
        };
        let network = Network::<f64>::new(&model.config, &model.parameters).unwrap();
        let (output, expected) = (network.predict(array("input").view()), array("output"));
        let worst = (&output - &expected).iter().fold(0.0_f64, |most, error| most.max(error.abs()));
        assert!(worst < 1e-6, "{name}: {worst}");
    }
}

#[test]
fn notes_say_what_readers_do_not() {
    let notes = |name: &str, kind: &str| written(&model(name), kind).notes.join("\n");
    assert_eq!(notes("two_layers", "nam"), "");
    assert!(notes("skip", "nam").contains("one more unit, 7 in all"), "{}", notes("skip", "nam"));
    let said = notes("skip", "json");
    assert!(said.contains("leaves it to the program") && said.contains("this network has 6"), "{said}");
    let said = notes("two_layers", "json");
    assert!(said.contains("left out: they add the input to the output, and this network does not"), "{said}");
    assert!(notes("skip_two_layers", "json").contains("left out: they have one LSTM layer"));
    let without_rate = amplifier::nam(&model("two_layers"), None).unwrap();
    assert!(!without_rate.text.contains("sample_rate"));
    assert_eq!(without_rate.notes, ["no sample rate is given; Neural Amp Modeler takes 48000 Hz"]);
}

#[test]
fn initial_states_are_in_the_file() {
    let layers =
        |initial| [LstmConfig::new(2).initial_state(initial).into(), LayerConfig::from(DenseConfig::new(1))];
    let of = |initial| {
        let config = NetworkConfig::new(1, layers(initial)).unwrap();
        let mut parameters = Parameters::initial(&config, 1).unwrap();
        for (at, name) in ["rnn0.h0_l0", "rnn0.c0_l0"].into_iter().enumerate() {
            if let Some(state) = parameters.get_mut(name) {
                state.fill(0.25 + at as f32);
            }
        }
        Model { config, parameters, metadata: Default::default() }
    };
    // Four gates of two units read three values and have a bias; then come h and c, and the dense layer.
    let states = |model: &Model| {
        let file: Value = serde_json::from_str(&amplifier::nam(model, None).unwrap().text).unwrap();
        let weights: Vec<f64> =
            file["weights"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        assert_eq!(weights.len(), 8 * 3 + 8 + 4 + 3);
        weights[32..36].to_vec()
    };
    assert_eq!(states(&of(InitialState::Constant(0.5))), [0.5; 4]);
    assert_eq!(states(&of(InitialState::Learned)), [0.25, 0.25, 1.25, 1.25]);
    let error = amplifier::json(&of(InitialState::Learned), None).unwrap_err().to_string();
    assert_eq!(error, "layer 0 (lstm): an RTNeural file has no initial states; expected zeros");
}

#[test]
fn what_the_formats_lack_is_refused() {
    let refusals = |input: usize, layers: &[LayerConfig]| {
        let config = NetworkConfig::new(input, layers).unwrap();
        let parameters = Parameters::initial(&config, 1).unwrap();
        let model = Model { config, parameters, metadata: Default::default() };
        [amplifier::nam(&model, None), amplifier::json(&model, None)]
            .map(|file| file.err().map_or(String::new(), |error| error.to_string()))
    };
    let dense = |width: usize| LayerConfig::from(DenseConfig::new(width));
    let lstm = |width: usize| LayerConfig::from(LstmConfig::new(width));
    let both = |layers: &[LayerConfig], place: &str, reason: &str| {
        for refusal in refusals(1, layers) {
            assert!(refusal.starts_with(place) && refusal.contains(reason), "{refusal}");
        }
    };
    let reverse = LstmConfig::new(2).direction(Direction::Bidirectional).into();
    both(&[reverse, dense(1)], "layer 0 (lstm)", "it has a reverse scan");
    both(&[LstmConfig::new(2).peephole().into(), dense(1)], "layer 0 (lstm)", "it has peepholes");
    both(&[LstmConfig::new(3).projection(2).into(), dense(1)], "layer 0 (lstm)", "a projection to 2");
    both(&[RnnConfig::new(2).into(), dense(1)], "layer 0 (rnn)", "a cell without gates");
    both(&[lstm(2)], "network", "at least one recurrent and one dense layer");
    both(&[lstm(2), LayerConfig::LastStep, dense(1)], "layer 1 (last step)", "expected nothing else");
    both(&[dense(1), lstm(2), dense(1)], "layer 0 (dense)", "expected nothing else");
    let inner = LayerConfig::Residual { from: 1 };
    both(&[lstm(2), lstm(2), inner, dense(1)], "layer 2 (residual)", "expected nothing else");

    let nam = |input: usize, layers: &[LayerConfig], reason: &str| {
        let [nam, json] = refusals(input, layers);
        assert!(nam.contains(reason) && json.is_empty(), "{nam:?} {json:?}");
    };
    nam(1, &[GruConfig::new(2).into(), dense(1)], "LSTM layers only; found gru");
    nam(1, &[lstm(2), lstm(3), dense(1)], "expected 2 units, found 3");
    nam(1, &[lstm(2), dense(2), dense(1)], "layer 2 (dense): a .nam file has one dense layer");
    nam(2, &[lstm(2), dense(1)], "one value in and one out; found 2 and 1");
    let tanh = DenseConfig::new(1).activation(Activation::Tanh);
    nam(1, &[lstm(2), tanh.into()], "no function after its dense layer; found tanh");
    let softplus = DenseConfig::new(1).activation(Activation::Softplus);
    let [_, json] = refusals(1, &[lstm(2), softplus.into()]);
    assert!(json.contains("an RTNeural file has no function softplus"), "{json}");
    let [_, json] = refusals(2, &[lstm(3), dense(2), LayerConfig::Residual { from: 0 }]);
    assert!(json.contains("adds one value; found 2"), "{json}");

    let mut model = model("skip");
    model.parameters.get_mut("dense0.bias").unwrap().fill(f32::NAN);
    let error = amplifier::nam(&model, None).unwrap_err().to_string();
    assert_eq!(error, "parameter dense0.bias: it holds NaN; a .nam file holds finite numbers only");
}
