//! `gatefold run`, `convert` and `describe` with Keras' files, whose outputs Keras computed (tests/fixtures/keras).

use crate::models::support::{Array, Folder, fixture, read_tensors};
use gatefold::{Device, Network, TrainConfig, Trainer};
use gatefold_check::{Tolerance, assert_close, test_gpu};
use gatefold_model::file::{Model, keras};
use ndarray::{Array3, ArrayD, Axis};
use safetensors::tensor::{Dtype, TensorView};
use std::fs;
use std::path::PathBuf;

const CASES: [(&str, &[u32]); 7] = [
    ("stack", &[2, 3]),
    ("both", &[2, 3]),
    ("masked", &[2, 3]),
    ("tokens", &[2, 3]),
    ("functional", &[2, 3]),
    ("normalised", &[3]),
    ("pooled", &[3]),
];
/// The most terms of the sums that an element goes through: up to seven layers, together with 50 inputs and states.
const TERMS: usize = 50;

fn path(name: &str) -> String {
    fixture("keras").join(name).to_str().unwrap().to_owned()
}

/// An array with its batch first as one with its steps first.
fn steps_first(array: &Array) -> Array {
    macro_rules! turned {
        ($array:expr) => {{
            let mut array = $array.clone();
            array.swap_axes(0, 1);
            array.as_standard_layout().into_owned()
        }};
    }
    match array {
        Array::F32(values) => Array::F32(turned!(values)),
        Array::I32(values) => Array::I32(turned!(values)),
        other => panic!("{other:?}"),
    }
}

/// Compares a network's output with Keras', which has no axis of steps for a single one.
fn check(name: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>) {
    let expected = match expected.ndim() {
        2 => expected.clone().insert_axis(Axis(0)),
        _ => steps_first(&Array::F32(expected.clone())).f32s().clone(),
    };
    assert_eq!(found.shape(), expected.shape(), "{name}");
    let found: Vec<f32> = found.iter().copied().collect();
    let expected: Vec<f64> = expected.iter().map(|&value| value.into()).collect();
    // Both programs round.
    assert_close(name, &[("element", expected.len())], &found, &expected, Tolerance::output(TERMS).times(2));
}

fn run_all(device: &str) {
    let folder = Folder::new();
    for (case, versions) in CASES {
        for version in versions {
            let name = format!("keras{version}_{case}");
            let arrays = read_tensors(&fixture("keras").join(format!("{name}.io.safetensors")));
            let x = steps_first(&arrays["x"]);
            let model = path(&format!("{name}.keras"));
            let outputs = folder.outputs(&model, device, &[("input", x.clone())], &[]);
            check(&name, &outputs["output"], arrays["y"].f32s());
        }
    }
}

#[test]
fn networks_compute_what_keras_does() {
    run_all("cpu");
}

#[test]
fn networks_on_a_gpu_compute_what_keras_does() {
    if test_gpu().is_some() {
        run_all("gpu");
    }
}

/// From Keras to our file, to Keras' weights, and back.
#[test]
fn a_model_goes_there_and_back() {
    let folder = Folder::new();
    let printed = folder.succeed(&["convert", &path("keras3_masked.keras"), "m.safetensors"]);
    assert!(one_line(&printed).contains("the model masks steps that are -1; the network takes"), "{printed}");
    let arrays = read_tensors(&fixture("keras").join("keras3_masked.io.safetensors"));
    let x = steps_first(&arrays["x"]);
    let ours = folder.outputs("m.safetensors", "cpu", &[("input", x)], &[]);
    check("masked", &ours["output"], arrays["y"].f32s());

    folder.succeed(&["convert", &path("keras3_stack.keras"), "stack.safetensors"]);
    folder.succeed(&["convert", "stack.safetensors", "stack.weights.h5"]);
    let json = path("keras3_stack.json");
    folder.succeed(&["convert", "stack.weights.h5", "back.safetensors", "--architecture", &json]);
    assert_eq!(
        fs::read(folder.path("back.safetensors")).unwrap(),
        fs::read(folder.path("stack.safetensors")).unwrap()
    );
    let described = folder.succeed(&["describe", &path("keras2_both.keras")]);
    assert!(one_line(&described).contains("gru 3 bidirectional"), "{described}");
}

/// Joins the lines that were printed.
fn one_line(printed: &str) -> String {
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A model is read, trained for a step, written for Keras and read back. With `GATEFOLD_KERAS=FOLDER` the weights are kept there
/// with inputs and outputs, for `make.py --verify FOLDER`.
#[test]
fn a_trained_model_goes_back_to_keras() {
    let folder = Folder::new();
    let kept = std::env::var_os("GATEFOLD_KERAS").map(PathBuf::from);
    let out = kept.unwrap_or_else(|| folder.path("."));
    for case in ["both", "stack", "functional", "normalised", "pooled"] {
        let name = format!("keras3_{case}");
        let model = keras::read(path(&format!("{name}.keras")), None).unwrap();
        let arrays = read_tensors(&fixture("keras").join(format!("{name}.io.safetensors")));
        let given = arrays["x"].f32s();
        let x = steps_first(&arrays["x"]).f32s().clone().into_dimensionality().unwrap();
        let device = Device::cpu().unwrap();
        let network = Network::with_parameters(&device, &model.config, &model.parameters).unwrap();
        let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
        let answer = Array3::from_elem(trainer.network().predict(&x).unwrap().dim(), 0.5);
        trainer.step(x.view(), answer.view()).unwrap();
        let parameters = trainer.network().parameters().unwrap();
        let trained = Model { parameters, ..model.clone() };
        assert_ne!(trained.parameters, model.parameters, "{name}");
        let weights = out.join(format!("{name}.weights.h5"));
        keras::write(&weights, &trained).unwrap();
        if case == "stack" {
            let description = PathBuf::from(path("keras3_stack.json"));
            assert_eq!(keras::read(&weights, Some(&description)).unwrap().parameters, trained.parameters);
        }
        // As Keras has them: the batch first, and one step without an axis.
        let mut y = trainer.network().predict(&x).unwrap().into_dyn();
        y.swap_axes(0, 1);
        let y = if arrays["y"].f32s().ndim() == 2 { y.index_axis_move(Axis(1), 0) } else { y };
        let bytes =
            |array: &ArrayD<f32>| array.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (x_bytes, y_bytes) = (bytes(given), bytes(&y));
        let views = [("x", given.shape(), &x_bytes), ("y", y.shape(), &y_bytes)]
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        let file = safetensors::serialize(views, None).unwrap();
        fs::write(out.join(format!("{name}.safetensors")), file).unwrap();
    }
}

#[test]
fn mistakes_with_keras_files_are_explained() {
    let folder = Folder::new();
    let error = folder.fail(1, &["convert", &path("keras3_stack.weights.h5"), "m.safetensors"]);
    assert!(error.contains("it holds weights only; give the model's description too"), "{error}");
    let error = folder.fail(2, &["convert", &path("keras3_stack.keras"), "m.keras"]);
    assert!(error.contains("Keras' weights are written as .weights.h5"), "{error}");
    let error = folder.fail(2, &["convert", "x.onnx", "m.onnx", "--architecture", "a.json"]);
    assert!(error.contains("--architecture: x.onnx is not Keras' weights"), "{error}");
}
