//! Layer normalisation and noise against programs written from the papers: every case of tests/fixtures/dressed, in f64,
//! with the gradients that PyTorch finds.

use gatefold_model::{
    Direction, GruConfig, LayerConfig, LayerNorm, LstmConfig, NetworkConfig, Noise, Parameters,
};
use gatefold_reference::{Batch, Dropout, Failures, LayerState, Network, States};
use ndarray::{Array3, ArrayD, IxDyn};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/dressed").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tensors(name: &str) -> BTreeMap<String, ArrayD<f64>> {
    let bytes = file(&format!("{name}.safetensors"));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let words = view.data().chunks_exact(8);
        let values: Vec<f64> = words.map(|word| f64::from_le_bytes(word.try_into().unwrap())).collect();
        (name.to_owned(), ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap())
    };
    file.iter().map(|(name, view)| tensor((name, view))).collect()
}

macro_rules! with_options {
    ($config:expr, $case:expr, $noise:expr) => {{
        let mut config = $config
            .zoneout($noise.zoneout)
            .recurrent_dropout($noise.recurrent)
            .candidate_dropout($noise.candidate)
            .drop_connect($noise.weights);
        if let Some(epsilon) = $case["epsilon"].as_f64() {
            config = config.layer_norm(LayerNorm { epsilon: epsilon as f32 });
        }
        if $case["direction"] == "bidirectional" {
            config = config.direction(Direction::Bidirectional);
        }
        config
    }};
}

fn layer(case: &Value, hidden: usize) -> LayerConfig {
    let noise: Noise = match &case["noise"] {
        Value::Null => Noise::default(),
        rates => serde_json::from_value(rates.clone()).unwrap(),
    };
    if case["cell"] == "gru" {
        return with_options!(GruConfig::new(hidden), case, noise).into();
    }
    let config = with_options!(LstmConfig::new(hidden), case, noise).zoneout_cell(noise.zoneout_cell);
    if case["peephole"] == true { config.peephole().into() } else { config.into() }
}

/// Both sides compute in double precision from the same numbers, except that an epsilon and the factors of masks are
/// rounded to single precision alike.
fn assert_close(name: &str, found: &ArrayD<f64>, expected: &ArrayD<f64>) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = 1e-10 * expected.abs().max(1.0);
        assert!((found - expected).abs() <= allowed, "{name}, element {at}: {found}, expected {expected}");
    }
}

fn check(case: &Value) {
    let given = tensors(case["name"].as_str().unwrap());
    let three = |name: &str| given[name].clone().into_dimensionality::<ndarray::Ix3>().unwrap();
    let (input, h0) = (three("input"), three("h0"));
    let config = NetworkConfig::new(input.dim().2, [layer(case, h0.dim().2)]).unwrap();
    let mut network = Network::<f64>::new(&config, &Parameters::zeros(&config).unwrap()).unwrap();
    for (name, tensor) in network.parameters_mut() {
        tensor.assign(&given[name]);
    }
    let state = |h: &str, c: &str| {
        let c = given.contains_key(c).then(|| three(c));
        States { layers: vec![LayerState { h: three(h), c, y: None }] }
    };
    let states = state("h0", "c0");
    let lengths: Option<Vec<usize>> = case["lengths"]
        .as_array()
        .map(|lengths| lengths.iter().map(|length| length.as_u64().unwrap() as usize).collect());
    let dropout =
        case["seed"].as_u64().map(|seed| Dropout { seed, batch: case["batch"].as_u64().unwrap() as u32 });
    let batch = Batch {
        input: input.view(),
        lengths: lengths.as_deref(),
        states: Some(&states),
        decoder: None,
        dropout,
    };
    let tape = network.forward(&batch);
    assert_close("output", &tape.output().to_owned().into_dyn(), &given["output"]);
    let d_output: Array3<f64> = three("d_output");
    let gradients = network.backward(&tape, d_output.view(), Some(&state("d_h_n", "d_c_n")));
    for (name, gradient) in &gradients.parameters {
        assert_close(name, gradient, &given[&format!("grad.{name}")]);
    }
    assert_close("input", &gradients.input.into_dyn(), &given["grad.input"]);
    let LayerState { h, c, .. } = &gradients.states.layers[0];
    assert_close("h0", &h.clone().into_dyn(), &given["grad.h0"]);
    if let Some(c) = c {
        assert_close("c0", &c.clone().into_dyn(), &given["grad.c0"]);
    }
}

#[test]
fn every_case_agrees_with_the_program_written_from_its_paper() {
    let cases: Vec<Value> = serde_json::from_slice(&file("cases.json")).unwrap();
    assert_eq!(cases.len(), 10);
    let mut failures = Failures::new();
    for case in &cases {
        failures.check(case["name"].as_str().unwrap(), || check(case));
    }
    failures.finish();
}
