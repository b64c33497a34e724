//! PyTorch's RNN, LSTM, GRU, Linear, Conv1d and Embedding, in f64, forward and backward: every case of tests/fixtures/pytorch.

use gatefold_model::file::{Model, pytorch};
use gatefold_model::{Activation, LayerConfig, Parameters};
use gatefold_reference::Failures;
use gatefold_reference::{Batch, LayerState, Network, States};
use ndarray::{Array3, ArrayD, Axis, Ix3, s};
use pytorch::{ReadOptions, Step};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, ArrayD<f64>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/pytorch")
}

/// The tensors of a case's second file, whole numbers too.
fn tensors(name: &str) -> Tensors {
    let bytes = fs::read(folder().join(format!("{name}.io.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let values: Vec<f64> = match view.dtype() {
            Dtype::I64 => {
                let words = view.data().chunks_exact(8);
                words.map(|word| i64::from_le_bytes(word.try_into().unwrap()) as f64).collect()
            }
            Dtype::F32 => {
                let words = view.data().chunks_exact(4);
                words.map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect()
            }
            dtype => panic!("{name} is {dtype:?}"),
        };
        (name.to_owned(), ArrayD::from_shape_vec(view.shape(), values).unwrap())
    });
    tensors.collect()
}

fn steps(case: &Value) -> ReadOptions {
    if let Some(text) = case["modules"].as_str() {
        return text.parse().unwrap();
    }
    let mut steps: Vec<Step> = Vec::new();
    for step in case["steps"].as_array().unwrap() {
        match (step["module"].as_str().unwrap(), step["name"].as_str()) {
            ("LastStep", _) => steps.push(LayerConfig::LastStep.into()),
            ("FinalState", _) => steps.push(LayerConfig::FinalState.into()),
            ("ReLU", _) => match steps.last_mut() {
                Some(Step::Module(module)) => *module = module.clone().activation(Activation::Relu),
                _ => panic!("an activation follows a module"),
            },
            (_, Some(name)) if step["options"]["nonlinearity"] == "relu" => {
                steps.push(Step::module(name).activation(Activation::Relu).into());
            }
            (_, Some(name)) => steps.push(Step::module(name).into()),
            (module, None) => panic!("no name for {module}"),
        }
    }
    ReadOptions::new().steps(steps)
}

/// Converts whatever the case has to `[T, B, F]`: batch first, tokens without features, one step without time.
fn time_major(tensor: &ArrayD<f64>, batch_first: bool, tokens: bool) -> Array3<f64> {
    let tensor = match tensor.ndim() {
        2 if tokens => tensor.clone().insert_axis(Axis(2)),
        2 => return tensor.clone().insert_axis(Axis(0)).into_dimensionality().unwrap(),
        _ => tensor.clone(),
    };
    let tensor = tensor.into_dimensionality::<Ix3>().unwrap();
    if batch_first { tensor.permuted_axes([1, 0, 2]) } else { tensor }
}

/// PyTorch's states `[layers D, B, R]` by layer, or none.
fn states(given: &Tensors, h: &str, c: &str, like: &States<f64>) -> Option<States<f64>> {
    let part = |name: &str, n: usize, scans: usize| {
        let states = given.get(name)?.view().into_dimensionality::<Ix3>().unwrap();
        Some(states.slice(s![n * scans..(n + 1) * scans, .., ..]).to_owned())
    };
    given.get(h)?;
    let layers = like.layers.iter().enumerate().map(|(n, state)| {
        let scans = state.h.dim().0;
        LayerState { h: part(h, n, scans).unwrap(), c: part(c, n, scans), y: None }
    });
    Some(States { layers: layers.collect() })
}

/// PyTorch computed in f64 and rounded to f32 once. Gradients of parameters are rounded here as well: `2 u` of the
/// element. The sums in f64 are off by far less than 1e-12.
fn assert_close<'a>(
    name: &str,
    found: impl Iterator<Item = &'a f64>,
    expected: impl Iterator<Item = &'a f64>,
) {
    let (found, expected): (Vec<_>, Vec<_>) = (found.collect(), expected.collect());
    assert_eq!(found.len(), expected.len(), "{name}");
    assert!(!found.is_empty(), "{name}");
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = 2.0 * 2f64.powi(-24) * expected.abs() + 1e-12;
        assert!(
            (*found - expected).abs() <= allowed,
            "{name}, element {k}: found {found}, expected {expected}"
        );
    }
}

fn assert_states(name: &str, found: &States<f64>, expected: &States<f64>) {
    for (n, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
        assert_close(&format!("{name}, h {n}"), found.h.iter(), expected.h.iter());
        assert_eq!(found.c.is_some(), expected.c.is_some(), "{name}");
        if let (Some(found), Some(expected)) = (&found.c, &expected.c) {
            assert_close(&format!("{name}, c {n}"), found.iter(), expected.iter());
        }
    }
}

fn check(case: &Value) {
    let name = case["name"].as_str().unwrap();
    let place = |part: &str| format!("{name}, {part}");
    let model = pytorch::read(folder().join(format!("{name}.safetensors")), &steps(case)).unwrap();
    let network = Network::<f64>::new(&model.config, &model.parameters).unwrap();
    let io = tensors(name);
    let batch_first = case["batch_first"].as_bool().unwrap();
    let tokens = io["input"].ndim() == 2;
    let input = time_major(&io["input"], batch_first, tokens);
    let lengths: Option<Vec<usize>> =
        io.get("lengths").map(|lengths| lengths.iter().map(|&length| length as usize).collect());
    let zeros = States::zeros(&model.config, input.dim().1);
    let given = states(&io, "h0", "c0", &zeros);
    let batch = Batch { lengths: lengths.as_deref(), states: given.as_ref(), ..Batch::new(input.view()) };
    let tape = network.forward(&batch);
    let output = time_major(&io["output"], batch_first, false);
    assert_close(&place("output"), tape.output().iter(), output.iter());
    if let Some(expected) = states(&io, "h_n", "c_n", &zeros) {
        assert_states(&place("final states"), tape.states(), &expected);
    }

    let d_output = time_major(&io["d_output"], batch_first, false);
    let d_states = states(&io, "d_h_n", "d_c_n", &zeros);
    let found = network.backward(&tape, d_output.view(), d_states.as_ref());
    if let Some(d_input) = io.get("grad.input") {
        let d_input = time_major(d_input, batch_first, tokens);
        assert_close(&place("d_input"), found.input.iter(), d_input.iter());
    }
    if let Some(expected) = states(&io, "grad.h0", "grad.c0", &zeros) {
        assert_states(&place("initial states"), &found.states, &expected);
    }
    let parameters: Parameters =
        found.parameters.iter().map(|(name, d)| (name.clone(), d.mapv(|d| d as f32))).collect();
    let modules: Vec<&str> =
        case["steps"].as_array().unwrap().iter().filter_map(|step| step["name"].as_str()).collect();
    let renamed = pytorch::state_dict(&Model { parameters, ..model }, &modules).unwrap();
    let mut seen = 0;
    for (leaf, expected) in &io {
        let Some(leaf) = leaf.strip_prefix("grad.") else { continue };
        let Some(gradient) = renamed.get(leaf) else {
            assert!(["input", "h0", "c0"].contains(&leaf), "{name} has no {leaf}");
            continue;
        };
        let gradient = gradient.mapv(f64::from);
        assert_close(&place(leaf), gradient.iter(), expected.iter());
        seen += 1;
    }
    assert!(seen > 0, "{name} has gradients of parameters");
}

#[test]
fn every_case() {
    let index: Value = serde_json::from_slice(&fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let cases = index["cases"].as_array().unwrap();
    assert!(cases.len() >= 37, "{} cases", cases.len());
    let mut failures = Failures::new();
    for case in cases {
        failures.check(case["name"].to_string(), || {
            check(case);
        });
    }
    failures.finish();
}
