//! Networks that PyTorch wrote compute the same outputs and gradients as in PyTorch, on every device. Networks written
//! here can be read by PyTorch.
//!
//! The fixtures are described in tests/fixtures/SOURCES.md.

use gatefold::layers::{Activation, LayerConfig};
use gatefold::{Device, Network, Sequences, States};
use gatefold_check::{Failures, Tolerance, assert_close, gradient_terms, output_terms, test_gpu};
use gatefold_model::file::Model;
use gatefold_model::file::pytorch::{self, ReadOptions, Step};
use gatefold_model::{NetworkConfig, Parameters};
use ndarray::{Array3, ArrayD, Axis, Ix3};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, ArrayD<f32>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch")
}

/// The float tensors of a file, and its whole numbers as floats, which represent them exactly.
fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => bytes_of(&view).iter().map(|word: &[u8; 4]| f32::from_le_bytes(*word)).collect(),
            Dtype::I64 => {
                bytes_of(&view).iter().map(|word: &[u8; 8]| i64::from_le_bytes(*word) as f32).collect()
            }
            other => panic!("{name} is of type {other}"),
        };
        (name.to_owned(), ArrayD::from_shape_vec(view.shape(), values).unwrap())
    });
    tensors.collect()
}

fn bytes_of<'a, const N: usize>(view: &TensorView<'a>) -> &'a [[u8; N]] {
    view.data().as_chunks().0
}

/// A case of the index: PyTorch's modules, their state_dict, their inputs and outputs.
struct Case {
    index: Value,
    model: Model,
    io: Tensors,
}

impl Case {
    fn all() -> Vec<Case> {
        let index: Value = serde_json::from_slice(&fs::read(folder().join("cases.json")).unwrap()).unwrap();
        let cases = index["cases"].as_array().unwrap().iter().map(|index| {
            let name = index["name"].as_str().unwrap();
            let model = pytorch::read(folder().join(format!("{name}.safetensors")), &options(index)).unwrap();
            Case {
                model,
                io: tensors(&folder().join(format!("{name}.io.safetensors"))),
                index: index.clone(),
            }
        });
        let cases: Vec<Case> = cases.collect();
        assert!(cases.len() >= 37, "{} cases", cases.len());
        cases
    }

    fn name(&self) -> &str {
        self.index["name"].as_str().unwrap()
    }

    fn config(&self) -> &NetworkConfig {
        &self.model.config
    }

    fn batch(&self) -> usize {
        self.index["batch"].as_u64().unwrap() as usize
    }

    fn steps(&self) -> usize {
        self.index["time"].as_u64().unwrap() as usize
    }

    /// The input as the engine takes it. Tokens are one value per step.
    fn input(&self) -> Sequences<'static> {
        let input = &self.io["input"];
        let input = match input.ndim() {
            2 => input.clone().insert_axis(Axis(2)),
            _ => input.clone(),
        };
        let input = input.into_dimensionality::<Ix3>().unwrap();
        let input = match self.batch_first() {
            true => Sequences::batch_first(input.view()),
            false => Sequences::time_major(input),
        };
        match self.io.get("lengths") {
            Some(lengths) => {
                input.with_lengths(lengths.iter().map(|&len| len as usize).collect::<Vec<_>>()).unwrap()
            }
            None => input,
        }
    }

    fn batch_first(&self) -> bool {
        self.index["batch_first"] == true
    }

    /// One of PyTorch's outputs, or its cotangent, as `[T', B, O]`.
    fn time_major(&self, name: &str) -> Array3<f32> {
        let values = self.io[name].clone();
        match values.ndim() {
            // After a last step or a final state, PyTorch has no time axis.
            2 => values.insert_axis(Axis(0)).into_dimensionality().unwrap(),
            _ if self.batch_first() => values
                .into_dimensionality::<Ix3>()
                .unwrap()
                .permuted_axes([1, 0, 2])
                .as_standard_layout()
                .into_owned(),
            _ => values.into_dimensionality().unwrap(),
        }
    }

    /// Tensors `[layers D, B, ..]` such as `h0` and `c0`, as states.
    fn states(&self, h: &str, c: &str) -> Option<States> {
        let array = |name: &str| self.io.get(name)?.view().into_dimensionality::<Ix3>().ok();
        Some(States::stacked(self.config(), array(h)?, array(c)).unwrap())
    }

    /// PyTorch's names of the modules.
    fn names(&self) -> Vec<&str> {
        let steps = self.index["steps"].as_array().unwrap();
        steps.iter().filter_map(|step| step["name"].as_str()).collect()
    }
}

/// The options that the index gives and the file does not.
fn options(index: &Value) -> ReadOptions {
    if let Some(text) = index["modules"].as_str() {
        return text.parse().unwrap();
    }
    let mut steps: Vec<Step> = Vec::new();
    for step in index["steps"].as_array().unwrap() {
        match (step["module"].as_str().unwrap(), step["name"].as_str()) {
            ("LastStep", None) => steps.push(LayerConfig::LastStep.into()),
            ("FinalState", None) => steps.push(LayerConfig::FinalState.into()),
            ("ReLU", None) => match steps.pop() {
                Some(Step::Module(module)) => steps.push(module.activation(Activation::Relu).into()),
                _ => panic!("a function without a module before it"),
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

/// PyTorch's numbers were computed in `f64` and rounded once: one of the sixteen roundings that tolerances allow.
fn assert_same<'a>(
    what: &str,
    found: impl IntoIterator<Item = &'a f32>,
    expected: impl IntoIterator<Item = &'a f32>,
    tolerance: Tolerance,
) {
    let found: Vec<f32> = found.into_iter().copied().collect();
    let expected: Vec<f64> = expected.into_iter().copied().map(f64::from).collect();
    assert_close(what, &[("element", expected.len())], &found, &expected, tolerance);
}

fn assert_same_states(what: &str, found: &States, expected: &States, tolerance: Tolerance) {
    for (at, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
        assert_same(&format!("{what}: h of layer {at}"), &found.h, &expected.h, tolerance);
        assert_eq!(found.c.is_some(), expected.c.is_some());
        if let (Some(found), Some(expected)) = (&found.c, &expected.c) {
            assert_same(&format!("{what}: c of layer {at}"), found, expected, tolerance);
        }
    }
}

fn devices() -> Vec<(&'static str, Device)> {
    let gpu = test_gpu().map(|gpu| ("gpu", Device::Gpu(gpu)));
    [("cpu", Device::cpu().unwrap())].into_iter().chain(gpu).collect()
}

#[test]
fn outputs_and_gradients_are_pytorch_s() {
    let mut failures = Failures::new();
    for (on, device) in devices() {
        for case in Case::all() {
            failures.check(format!("{}, {on}", case.name()), || {
                let (forward, backward) = (
                    Tolerance::output(output_terms(case.config())),
                    Tolerance::gradient(gradient_terms(case.config(), case.steps(), case.batch())),
                );
                let network =
                    Network::with_parameters(&device, case.config(), &case.model.parameters).unwrap();
                let (input, initial) = (case.input(), case.states("h0", "c0"));
                let expected = case.time_major("output");

                let found = network.forward(&input, initial.as_ref()).unwrap();
                assert_same("output", &found.output, &expected, forward);
                let tape = network.forward_training(&input, initial.as_ref(), None).unwrap();
                assert_same("output of training", tape.output(), &expected, forward);
                if let Some(last) = case.states("h_n", "c_n") {
                    assert_same_states("final", &found.states, &last, forward);
                    assert_same_states("final of training", tape.states(), &last, forward);
                }

                let d_output = case.time_major("d_output");
                let d_last = case.states("d_h_n", "d_c_n");
                let gradients =
                    network.backward(tape, d_output.view(), d_last.as_ref()).unwrap().read().unwrap();
                // Under PyTorch's names. A Linear without a bias has no gradient for it, but our dense layer does.
                let parameters = Model { parameters: gradients.parameters, ..case.model.clone() };
                let by_name = pytorch::state_dict(&parameters, &case.names()).unwrap();
                let theirs =
                    case.io.iter().filter_map(|(name, values)| Some((name.strip_prefix("grad.")?, values)));
                let theirs = theirs.filter(|(name, _)| !["input", "h0", "c0"].contains(name));
                let theirs: Vec<_> = theirs.collect();
                assert!(theirs.len() >= 2, "weights have gradients");
                for (name, expected) in theirs {
                    assert_same(name, &by_name[name], expected, backward);
                }
                if case.io.contains_key("grad.input") {
                    assert_same("input", &gradients.input, &case.time_major("grad.input"), backward);
                }
                if let Some(expected) = case.states("grad.h0", "grad.c0") {
                    assert_same_states("initial", &gradients.states, &expected, backward);
                }
            });
        }
    }
    failures.finish();
}

/// Writes fresh networks of every case's shape as state dicts, with their outputs. `tests/fixtures/pytorch/make.py
/// --verify` loads them into PyTorch from the folder that `GATEFOLD_PYTORCH_OUT` names; without it they are written,
/// read and deleted.
#[test]
fn state_dicts_are_written_with_their_outputs() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("GATEFOLD_PYTORCH_OUT").map(PathBuf::from);
    let folder = kept.as_deref().unwrap_or(scratch.path());
    fs::create_dir_all(folder).unwrap();
    let mut failures = Failures::new();
    for case in Case::all() {
        failures.check(case.name(), || {
            let config = case.config();
            let model = Model {
                parameters: Parameters::initial(config, 11).unwrap(),
                config: config.clone(),
                metadata: BTreeMap::new(),
            };
            let network =
                Network::with_parameters(&Device::cpu().unwrap(), config, &model.parameters).unwrap();
            let initial = case.states("h0", "c0");
            let found = network.forward(case.input(), initial.as_ref()).unwrap();

            let path = folder.join(format!("{}.safetensors", case.name()));
            pytorch::write(&path, &model, &case.names()).unwrap();
            assert_eq!(pytorch::read(&path, &options(&case.index)).unwrap().parameters, model.parameters);

            let mut io: Tensors = case.io.clone();
            io.retain(|name, _| matches!(name.as_str(), "input" | "lengths" | "h0" | "c0"));
            let shape = case.io["output"].raw_dim();
            let output = if case.batch_first() && case.io["output"].ndim() == 3 {
                found.output.permuted_axes([1, 0, 2]).as_standard_layout().into_owned()
            } else {
                found.output
            };
            io.insert("output".into(), output.into_shape_with_order(shape).unwrap());
            if case.io.contains_key("h_n") {
                io.insert("h_n".into(), found.states.h_n().unwrap().into_dyn());
                io.extend(found.states.c_n().map(|c| ("c_n".into(), c.into_dyn())));
            }
            save(&folder.join(format!("{}.io.safetensors", case.name())), &io);
        });
    }
    failures.finish();
}

/// PyTorch wants lengths as whole numbers.
fn save(path: &Path, tensors: &Tensors) {
    let bytes = tensors.iter().map(|(name, tensor)| match name.as_str() {
        "lengths" => {
            (name, Dtype::I64, tensor.iter().flat_map(|&len| (len as i64).to_le_bytes()).collect::<Vec<_>>())
        }
        _ => (name, Dtype::F32, tensor.iter().flat_map(|value| value.to_le_bytes()).collect()),
    });
    let bytes: Vec<_> = bytes.collect();
    let views = bytes.iter().map(|(name, dtype, bytes)| {
        (name.as_str(), TensorView::new(*dtype, tensors[*name].shape().to_vec(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
