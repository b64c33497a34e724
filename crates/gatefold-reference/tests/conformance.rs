//! The LSTM cases of tests/conformance that this crate can express: one direction, whole sequences, default
//! activations, no clip, no peepholes, no coupled gates.

use gatefold_model::LstmGate;
use gatefold_reference::scan::{self, Cotangents, Weights};
use ndarray::{
    Array, Array1, Array2, ArrayD, ArrayView1, ArrayView2, Axis, Dimension, IxDyn, concatenate, s,
};
use serde_json::Value;
use std::path::Path;

/// Forward cases whose outputs are onnxruntime's, in f32.
const FORWARD: [&str; 4] = ["LSTM_forward", "LSTM_nobias_nostate", "LSTM_B1_S1_I1_H1", "LSTM_H33_B7"];
/// Cases in f64 with gradients.
const GRADIENTS: [&str; 2] = ["LSTM_forward", "LSTM_long"];

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Value::Array(cases) = serde_json::from_str(&text).unwrap() else {
        panic!("{file} is a list of cases")
    };
    cases.into_iter().filter(is_plain_lstm).collect()
}

/// Whether a case uses nothing beyond the plain LSTM in the forward direction.
fn is_plain_lstm(case: &Value) -> bool {
    let attributes = case["attrs"].as_object().unwrap();
    let steps = &case["input"]["X"]["shape"][0];
    let lengths = &case["sequence_lens"];
    case["op"] == "LSTM"
        && attributes.keys().all(|key| key == "hidden_size" || key == "direction")
        && attributes.get("direction").is_none_or(|direction| direction == "forward")
        && case["input"].get("P").is_none()
        && case["input"].get("sequence_lens").is_none()
        && lengths.as_array().is_none_or(|lengths| lengths.iter().all(|length| length == steps))
}

fn names(cases: &[Value]) -> Vec<&str> {
    cases.iter().map(|case| case["name"].as_str().unwrap()).collect()
}

fn tensor(value: &Value) -> ArrayD<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

/// A tensor with ONNX's axis of directions, of which there is one, taken away.
fn one_direction<D: Dimension>(value: &Value, axis: usize) -> Array<f64, D> {
    tensor(value).index_axis_move(Axis(axis), 0).into_dimensionality().unwrap()
}

/// Row blocks in ONNX's order i, o, f, c into the order i, f, g, o of [`LstmGate`], where g is ONNX's c.
fn ifgo_from_iofc<D: Dimension + ndarray::RemoveAxis>(rows: &Array<f64, D>) -> Array<f64, D> {
    let hidden = rows.len_of(Axis(0)) / LstmGate::COUNT;
    let blocks = LstmGate::ALL.map(|gate| {
        let place = match gate {
            LstmGate::Input => 0,
            LstmGate::Output => 1,
            LstmGate::Forget => 2,
            LstmGate::Cell => 3,
        };
        rows.slice_axis(Axis(0), (place * hidden..(place + 1) * hidden).into())
    });
    concatenate(Axis(0), &blocks).unwrap()
}

struct Case {
    input: ndarray::Array3<f64>,
    w_ih: Array2<f64>,
    w_hh: Array2<f64>,
    b_ih: Array1<f64>,
    b_hh: Array1<f64>,
    h0: Array2<f64>,
    c0: Array2<f64>,
}

/// ONNX's bias is the input's followed by the recurrent one.
fn biases(both: &Array1<f64>) -> (Array1<f64>, Array1<f64>) {
    let rows = both.len() / 2;
    (ifgo_from_iofc(&both.slice(s![..rows]).to_owned()), ifgo_from_iofc(&both.slice(s![rows..]).to_owned()))
}

impl Case {
    /// What a case leaves out, ONNX takes as zeros.
    fn read(case: &Value) -> Self {
        let given = &case["input"];
        let input = tensor(&given["X"]).into_dimensionality().unwrap();
        let (w_ih, w_hh): (Array2<f64>, Array2<f64>) =
            (one_direction(&given["W"], 0), one_direction(&given["R"], 0));
        let (rows, hidden) = w_hh.dim();
        let both = given.get("B").map_or_else(|| Array1::zeros(2 * rows), |b| one_direction(b, 0));
        let batch = ndarray::ArrayBase::dim(&input as &ndarray::Array3<f64>).1;
        let state = |key: &str| {
            given.get(key).map_or_else(|| Array2::zeros((batch, hidden)), |s| one_direction(s, 0))
        };
        let (b_ih, b_hh) = biases(&both);
        Case {
            input,
            w_ih: ifgo_from_iofc(&w_ih),
            w_hh: ifgo_from_iofc(&w_hh),
            b_ih,
            b_hh,
            h0: state("initial_h"),
            c0: state("initial_c"),
        }
    }

    fn weights(&self) -> Weights<'_, f64> {
        fn view1(a: &Array1<f64>) -> ArrayView1<'_, f64> {
            a.view()
        }
        fn view2(a: &Array2<f64>) -> ArrayView2<'_, f64> {
            a.view()
        }
        Weights {
            w_ih: view2(&self.w_ih),
            w_hh: view2(&self.w_hh),
            b_ih: view1(&self.b_ih),
            b_hh: view1(&self.b_hh),
        }
    }

    fn forward(&self) -> scan::Forward<f64> {
        scan::forward(self.input.view(), &self.weights(), self.h0.view(), self.c0.view())
    }
}

fn assert_close<D: Dimension>(name: &str, found: &Array<f64, D>, expected: &Array<f64, D>, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{name}");
    assert!(!found.is_empty(), "{name}");
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance * expected.abs().max(1.0);
        assert!(
            (found - expected).abs() <= allowed,
            "{name}, element {k}: found {found}, expected {expected}"
        );
    }
}

fn assert_outputs(case: &Value, forward: &scan::Forward<f64>, tolerance: f64) {
    let name = case["name"].as_str().unwrap();
    let last = forward.h.dim().0 - 1;
    let out = &case["output"];
    assert_close(&format!("{name} Y"), &forward.output().to_owned(), &one_direction(&out["Y"], 1), tolerance);
    for (key, states) in [("Y_h", &forward.h), ("Y_c", &forward.c)] {
        let found = states.index_axis(Axis(0), last).to_owned();
        assert_close(&format!("{name} {key}"), &found, &one_direction(&out[key], 0), tolerance);
    }
}

#[test]
fn forward_cases_of_onnxruntime() {
    let cases = cases("ort_supplement.json");
    assert_eq!(names(&cases), FORWARD);
    for case in &cases {
        // onnxruntime computed in f32: pre-activations here are sums of at most K = 50 products of size up to about
        // 1, so sqrt(K) eps = 4e-7, carried through 5 steps.
        assert_outputs(case, &Case::read(case).forward(), 2e-6);
    }
}

#[test]
fn gradient_cases() {
    let cases = cases("grad_cases.json");
    assert_eq!(names(&cases), GRADIENTS);
    for value in &cases {
        let case = Case::read(value);
        let forward = case.forward();
        // The files give 12 digits.
        assert_outputs(value, &forward, 1e-11);

        let cotangent = &value["cotangent"];
        let (h, h_last, c_last): (ndarray::Array3<f64>, Array2<f64>, Array2<f64>) = (
            one_direction(&cotangent["Y"], 1),
            one_direction(&cotangent["Y_h"], 0),
            one_direction(&cotangent["Y_c"], 0),
        );
        let back = scan::backward(
            case.input.view(),
            &case.weights(),
            &forward,
            &Cotangents { h: h.view(), h_last: h_last.view(), c_last: c_last.view() },
        );
        let name = |part: &str| format!("{} {part}", value["name"]);
        let grad = &value["grad"];
        let close = 1e-10;
        assert_close(&name("W"), &back.d_w_ih, &ifgo_from_iofc(&one_direction(&grad["W"], 0)), close);
        assert_close(&name("R"), &back.d_w_hh, &ifgo_from_iofc(&one_direction(&grad["R"], 0)), close);
        let (b_ih, b_hh) = biases(&one_direction(&grad["B"], 0));
        assert_close(&name("B, input"), &back.d_b_ih, &b_ih, close);
        assert_close(&name("B, recurrent"), &back.d_b_hh, &b_hh, close);
        assert_close(&name("X"), &back.d_input.into_dyn(), &tensor(&grad["X"]), close);
        assert_close(&name("initial_h"), &back.d_h0, &one_direction(&grad["initial_h"], 0), close);
        assert_close(&name("initial_c"), &back.d_c0, &one_direction(&grad["initial_c"], 0), close);
    }
}
