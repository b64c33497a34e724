//! Runs the models of other programs in tests/fixtures/onnx, on the CPU and on a GPU, and compares the outputs with
//! those of the other programs. Models that can be imported are run as networks too.

use gatefold::{Device, Network, Sequences, States};
use gatefold_check::{Failures, Tolerance, assert_close, test_gpu};
use gatefold_onnx::{Imported, Layout, OnnxError, OnnxModel, Tensor};
use ndarray::{Array3, ArrayD, Axis, IxDyn};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most terms of the sums that an element goes through: two layers of at most 20 inputs and states, and a dense
/// layer of 10.
const TERMS: usize = 50;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx")
}

/// The names of all models.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".onnx")?.to_string()))
        .collect();
    names.sort();
    assert_eq!(names.len(), 87, "the fixtures are there");
    names
}

/// A model's inputs and outputs, under the model's names.
pub(crate) fn arrays(name: &str) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(folder().join(format!("{name}.io.safetensors"))).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: safetensors::tensor::TensorView| -> Tensor {
        let shape = IxDyn(view.shape());
        macro_rules! of {
            ($kind:ident, $type:ty, $size:literal) => {{
                let chunks = view.data().chunks_exact($size);
                let values = chunks.map(|bytes| <$type>::from_le_bytes(bytes.try_into().unwrap())).collect();
                Tensor::$kind(ArrayD::from_shape_vec(shape, values).unwrap())
            }};
        }
        match view.dtype() {
            Dtype::F32 => of!(F32, f32, 4),
            Dtype::I64 => of!(I64, i64, 8),
            Dtype::I32 => of!(I32, i32, 4),
            other => panic!("{name}: {other:?}"),
        }
    };
    file.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

pub(crate) fn f32s(tensor: &Tensor) -> &ArrayD<f32> {
    match tensor {
        Tensor::F32(array) => array,
        other => panic!("float32 expected, found {}", other.element()),
    }
}

pub(crate) fn check(name: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>) {
    assert_eq!(found.shape(), expected.shape(), "{name}: the shape");
    let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
    let found: Vec<f32> = found.iter().copied().collect();
    // Both programs round.
    assert_close(name, &[("element", expected.len())], &found, &expected, Tolerance::output(TERMS).times(2));
}

fn run_all(device: &Device) {
    let mut failures = Failures::new();
    for name in names() {
        failures.check(&name, || {
            let model = OnnxModel::read(folder().join(format!("{name}.onnx"))).unwrap();
            let mut arrays = arrays(&name);
            let inputs = model.inputs().iter().map(|port| {
                let tensor = arrays.remove(&port.name).unwrap_or_else(|| panic!("no array {}", port.name));
                (port.name.clone(), tensor)
            });
            let inputs: BTreeMap<String, Tensor> = inputs.collect();
            let mut session = model.on(device);
            // A session can run more than once.
            let first = session.run(&inputs).unwrap_or_else(|error| panic!("{error}"));
            let outputs = session.run(&inputs).unwrap();
            assert_eq!(first, outputs, "a second run");
            assert_eq!(outputs.len(), arrays.len(), "the number of outputs");
            for (output, expected) in &arrays {
                check(output, f32s(&outputs[output]), f32s(expected));
            }
        });
    }
    failures.finish();
}

#[test]
fn outputs_match_those_of_other_programs() {
    run_all(&Device::cpu().unwrap());
}

#[test]
fn outputs_on_a_gpu_match_those_of_other_programs() {
    let Some(gpu) = test_gpu() else { return };
    run_all(&Device::Gpu(gpu));
}

/// An array with time first and three axes.
fn time_major(tensor: &Tensor, layout: Layout) -> Array3<f32> {
    let array = match tensor {
        Tensor::F32(array) => array.clone(),
        Tensor::I64(array) => array.mapv(|token| token as f32).insert_axis(Axis(2)),
        Tensor::I32(array) => array.mapv(|token| token as f32).insert_axis(Axis(2)),
        _ => panic!("numbers expected"),
    };
    let array: Array3<f32> = match layout {
        Layout::OneStep => array.insert_axis(Axis(0)).into_dimensionality().unwrap(),
        _ => array.into_dimensionality().unwrap(),
    };
    let turned = if layout == Layout::BatchFirst { array.permuted_axes([1, 0, 2]) } else { array };
    turned.as_standard_layout().into_owned()
}

fn run_network(name: &str, imported: &Imported, device: &Device) {
    let mut arrays = arrays(name);
    let (input, layout) = &imported.input;
    let main = arrays.remove(input).unwrap();
    let mut sequences = Sequences::time_major(time_major(&main, *layout));
    if let Some(lengths) = &imported.lengths {
        let Some(Tensor::I64(lengths)) = arrays.remove(lengths) else { panic!("{name} has lengths") };
        let lengths: Vec<usize> = lengths.iter().map(|&len| len as usize).collect();
        sequences = sequences.with_lengths(lengths).unwrap();
    }
    if let Some(mask) = imported.mask {
        // Masked steps are the last of their rows.
        let x = time_major(&main, *layout);
        let present = |b: usize| {
            let steps = x.index_axis(Axis(1), b);
            steps.outer_iter().take_while(|step| step.iter().any(|&value| value != mask)).count()
        };
        let lengths: Vec<usize> = (0..sequences.batch()).map(present).collect();
        assert!(lengths.iter().any(|&len| len < sequences.steps()), "{name} has masked steps");
        sequences = sequences.with_lengths(lengths).unwrap();
    }
    let mut states = States::zeros(&imported.config, sequences.batch());
    for given in &imported.states {
        let layer = &mut states.layers[given.layer];
        let state = if given.cell { layer.c.as_mut().unwrap() } else { &mut layer.h };
        let rows = f32s(&arrays[&given.input]).view().into_dimensionality::<ndarray::Ix3>().unwrap();
        let directions = state.dim().0;
        state.assign(&rows.slice(ndarray::s![given.row..given.row + directions, .., ..]));
    }
    let states = (!imported.states.is_empty()).then_some(&states);
    let network = Network::with_parameters(device, &imported.config, &imported.parameters).unwrap();
    let forward = network.forward(&sequences, states).unwrap();
    let (output, layout) = &imported.output;
    let expected = time_major(&arrays[output], *layout).into_dyn();
    check("output", &forward.output.into_dyn(), &expected);
}

fn run_networks(device: &Device) {
    let mut networks = 0;
    let mut failures = Failures::new();
    for name in names() {
        failures.check(&name, || {
            let model = OnnxModel::read(folder().join(format!("{name}.onnx"))).unwrap();
            match model.import() {
                Ok(imported) => run_network(&name, &imported, device),
                Err(OnnxError::Import(_) | OnnxError::Node { .. }) => return,
                Err(error) => panic!("{error}"),
            }
            networks += 1;
        });
    }
    failures.finish();
    assert_eq!(networks, 67);
}

#[test]
fn networks_compute_the_same_as_their_models() {
    run_networks(&Device::cpu().unwrap());
}

#[test]
fn networks_on_a_gpu_compute_the_same_as_their_models() {
    let Some(gpu) = test_gpu() else { return };
    run_networks(&Device::Gpu(gpu));
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = OnnxModel::read(folder().join("pytorch_lstm_lengths_9.onnx")).unwrap();
    let given = || {
        let mut arrays = arrays("pytorch_lstm_lengths_9");
        arrays.retain(|name, _| model.inputs().iter().any(|port| port.name == *name));
        arrays
    };
    let problem = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut inputs = given();
        change(&mut inputs);
        model.run(&Device::cpu().unwrap(), &inputs).unwrap_err().to_string()
    };
    let x = "input x: expected x float32 [time, batch, 3], found";
    assert_eq!(problem(&|inputs| drop(inputs.remove("x"))), format!("{x} none"));
    let wide = Tensor::from(Array3::<f32>::zeros((2, 3, 4)));
    assert_eq!(
        problem(&|inputs| drop(inputs.insert("x".into(), wide.clone()))),
        format!("{x} float32 [2, 3, 4]")
    );
    let tokens = Tensor::from(Array3::<i64>::zeros((2, 3, 3)));
    assert_eq!(
        problem(&|inputs| drop(inputs.insert("x".into(), tokens.clone()))),
        format!("{x} int64 [2, 3, 3]")
    );
    let other = problem(&|inputs| drop(inputs.insert("z".into(), tokens.clone())));
    assert_eq!(other, "input z: expected one of x, lengths, found int64");
    let none = Tensor::from(Array3::<f32>::zeros((0, 3, 3)));
    let none = problem(&|inputs| drop(inputs.insert("x".into(), none.clone())));
    assert!(none.contains("(LSTM): X: expected [steps, batch, 3], none of them 0, found [0, "), "{none}");
    let long = problem(&|inputs| {
        let Some(Tensor::I64(lengths)) = inputs.get_mut("lengths") else { panic!("int64") };
        lengths[0] = 1000;
    });
    assert!(long.contains("sequence_lens: expected") && long.contains("(LSTM)"), "{long}");
    let few = problem(&|inputs| drop(inputs.insert("lengths".into(), Tensor::from(ndarray::arr1(&[1i64])))));
    assert!(few.contains("where batch was"), "{few}");
}
