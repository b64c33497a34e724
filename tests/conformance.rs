//! Every case of tests/conformance, on the CPU and on a GPU: ONNX's operators RNN, GRU and LSTM as networks of one
//! layer, through the conversion that the importer uses. 63 cases are forward passes of another runtime; 29 have
//! gradients with respect to every input and weight, in f64.

use gatefold::data::LayerState;
use gatefold::devices::GpuOptions;
use gatefold::{Device, Network, States};
use gatefold_check::{Failures, Tolerance, assert_close, test_gpu, test_gpu_with};
use gatefold_onnx::recurrent::{Operator, RecurrentOperator, Weights};
use ndarray::{Array, Array3, ArrayD, Dimension, Ix2, Ix3, Ix4, IxDyn};
use serde_json::Value;
use std::path::Path;

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn name(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

fn tensor(value: &Value) -> ArrayD<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

fn narrow<D: Dimension>(value: &Value) -> Array<f32, D> {
    tensor(value).mapv(|x| x as f32).into_dimensionality().unwrap()
}

/// An optional array of a case.
fn optional<D: Dimension>(given: &Value, key: &str) -> Option<Array<f32, D>> {
    given.get(key).map(narrow)
}

fn floats(value: Option<&Value>) -> Vec<f32> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.map(|number| number.as_f64().unwrap() as f32).collect()
}

/// A case's operator. The two files use different keys.
fn operator(case: &Value) -> RecurrentOperator {
    let attributes = case["attrs"].as_object().unwrap();
    let known = [
        "hidden_size",
        "direction",
        "clip",
        "activations",
        "activation_alpha",
        "activation_beta",
        "linear_before_reset",
        "lbr",
        "input_forget",
        "cif",
        "peep",
        "act",
    ];
    assert!(attributes.keys().all(|key| known.contains(&key.as_str())), "unknown attributes: {attributes:?}");
    let text = |key: &str| attributes.get(key).and_then(Value::as_str);
    let on = |key: &str| attributes.get(key).and_then(Value::as_i64).is_some_and(|value| value == 1);
    let operator = RecurrentOperator::new(Operator::of_name(case["op"].as_str().unwrap()).unwrap())
        .direction(text("direction").unwrap_or("forward"))
        .unwrap()
        .clip(attributes.get("clip").and_then(Value::as_f64).map(|bound| bound as f32))
        .input_forget(on("input_forget") || on("cif"))
        .linear_before_reset(on("linear_before_reset") || on("lbr"));
    let names: Vec<String> = match (attributes.get("activations"), text("act")) {
        (Some(names), _) => {
            names.as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect()
        }
        (None, Some(name)) => vec![name.into()],
        (None, None) => return operator,
    };
    let (alpha, beta) =
        (floats(attributes.get("activation_alpha")), floats(attributes.get("activation_beta")));
    operator.activations(&names, &alpha, &beta).unwrap()
}

fn lengths(case: &Value) -> Option<Vec<i64>> {
    if let Some(lengths) = case.get("sequence_lens") {
        return Some(lengths.as_array().unwrap().iter().map(|len| len.as_i64().unwrap()).collect());
    }
    case["input"].get("sequence_lens").map(|lengths| tensor(lengths).iter().map(|&len| len as i64).collect())
}

/// A case ready to run.
struct Case {
    operator: RecurrentOperator,
    network: Network,
    sequences: gatefold::Sequences<'static>,
    states: States,
    /// I, H, and the rows of W.
    input: usize,
    hidden: usize,
    rows: usize,
}

impl Case {
    fn new(case: &Value, device: &Device) -> Case {
        let given = &case["input"];
        let operator = operator(case);
        let (w, r) = (narrow::<Ix3>(&given["W"]), narrow::<Ix3>(&given["R"]));
        let (rows, input, hidden) = (w.dim().1, w.dim().2, r.dim().2);
        let weights = Weights { w, r, b: optional::<Ix2>(given, "B"), p: optional::<Ix2>(given, "P") };
        let (config, parameters) = operator.network(&weights).unwrap();
        let sequences = operator.sequences(&narrow(&given["X"]), lengths(case).as_deref()).unwrap();
        let (h, c) = (optional::<IxDyn>(given, "initial_h"), optional::<IxDyn>(given, "initial_c"));
        let states = operator.states(h.as_ref(), c.as_ref(), sequences.batch(), hidden).unwrap();
        let network = Network::with_parameters(device, &config, &parameters).unwrap();
        Case { operator, network, sequences, states, input, hidden, rows }
    }

    /// Compares Y and the final states with the case's. `sides` counts the programs that rounded.
    fn check_outputs(&self, case: &Value, output: Array3<f32>, states: States, sides: usize) {
        let outputs = self.operator.outputs(output, states, self.sequences.lengths());
        let tolerance = Tolerance::output(self.input + self.hidden).times(sides);
        let expected = &case["output"];
        close("Y", &outputs.y, &expected["Y"], tolerance);
        close("Y_h", &outputs.y_h, &expected["Y_h"], tolerance);
        assert_eq!(outputs.y_c.is_some(), expected.get("Y_c").is_some(), "Y_c");
        if let Some(y_c) = &outputs.y_c {
            close("Y_c", y_c, &expected["Y_c"], tolerance);
        }
    }
}

fn close<D: Dimension>(part: &str, found: &Array<f32, D>, expected: &Value, tolerance: Tolerance) {
    let expected = tensor(expected);
    assert_eq!(found.shape(), expected.shape(), "{part}");
    let axes: Vec<(String, usize)> =
        found.shape().iter().enumerate().map(|(axis, &len)| (format!("axis {axis}"), len)).collect();
    let axes: Vec<(&str, usize)> = axes.iter().map(|(name, len)| (name.as_str(), *len)).collect();
    let found: Vec<f32> = found.iter().copied().collect();
    let expected: Vec<f64> = expected.iter().copied().collect();
    assert_close(part, &axes, &found, &expected, tolerance);
}

fn check_forward(device: &Device) {
    let cases = cases("ort_supplement.json");
    assert_eq!(cases.len(), 63);
    let mut failures = Failures::new();
    for value in &cases {
        failures.check(name(value), || {
            let case = Case::new(value, device);
            let forward = case.network.forward(&case.sequences, Some(&case.states)).unwrap();
            case.check_outputs(value, forward.output, forward.states, 2);
        });
    }
    failures.finish();
}

fn check_gradients(device: &Device) {
    let cases = cases("grad_cases.json");
    assert_eq!(cases.len(), 29);
    let mut failures = Failures::new();
    for value in &cases {
        failures.check(name(value), || {
            let case = Case::new(value, device);
            let tape = case.network.forward_training(&case.sequences, Some(&case.states), None).unwrap();
            case.check_outputs(value, tape.output().to_owned(), tape.states().clone(), 1);

            let cotangent = &value["cotangent"];
            // [T, D, B, H] as [T, B, D H]
            let d_y: Array<f32, Ix4> = narrow(&cotangent["Y"]);
            let (steps, directions, batch, hidden) = d_y.dim();
            let d_y = d_y.permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned();
            let d_y = d_y.into_shape_with_order((steps, batch, directions * hidden)).unwrap();
            let (d_h, d_c) = (optional::<Ix3>(cotangent, "Y_h").unwrap(), optional::<Ix3>(cotangent, "Y_c"));
            let d_states = States { layers: vec![LayerState { h: d_h, c: d_c, y: None }] };
            let found = case.network.backward(tape, d_y.view(), Some(&d_states)).unwrap().read().unwrap();

            let terms = case.input + case.hidden + case.rows;
            let (short, long) = (Tolerance::gradient(terms), Tolerance::gradient(terms + steps * batch));
            let expected = &value["grad"];
            close("d X", &found.input, &expected["X"], short);
            let state = &found.states.layers[0];
            close("d initial_h", &state.h, &expected["initial_h"], short);
            if let Some(c) = &state.c {
                close("d initial_c", c, &expected["initial_c"], short);
            }
            let layer = &case.network.config().layers()[0];
            let weights = case.operator.weights(layer, &found.parameters).unwrap();
            close("d W", &weights.w, &expected["W"], long);
            close("d R", &weights.r, &expected["R"], long);
            close("d B", &weights.b.unwrap(), &expected["B"], long);
            assert_eq!(weights.p.is_some(), expected.get("P").is_some(), "d P");
            if let Some(p) = &weights.p {
                close("d P", p, &expected["P"], long);
            }
        });
    }
    failures.finish();
}

#[test]
fn forward_cases_on_the_cpu() {
    check_forward(&Device::cpu().unwrap());
}

#[test]
fn gradient_cases_on_the_cpu() {
    check_gradients(&Device::cpu().unwrap());
}

#[test]
fn forward_cases_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_forward(&Device::Gpu(gpu));
}

#[test]
fn gradient_cases_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_gradients(&Device::Gpu(gpu));
}

/// A device without immediates and subgroups, within WebGPU's default limits.
#[test]
fn all_cases_on_the_least_device() {
    let least = GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    check_forward(&Device::Gpu(gpu.clone()));
    check_gradients(&Device::Gpu(gpu));
}
