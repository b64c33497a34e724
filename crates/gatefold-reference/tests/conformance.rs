//! Every case of tests/conformance, in f64: 63 forward cases from onnxruntime and 29 with gradients, for the ONNX
//! operators RNN, GRU and LSTM. ONNX's other orders are converted here.

use gatefold_model::{
    Activation, Cell, Coupling, GruActivations, GruCell, GruGate, LstmActivations, LstmCell, LstmGate, Reset,
};
use gatefold_reference::Failures;
use gatefold_reference::scan::{self, Cotangents, Recurrence, States, Weights};
use ndarray::{
    Array, Array1, Array2, Array3, ArrayD, Axis, Dimension, IxDyn, RemoveAxis, concatenate, s, stack,
};
use serde_json::Value;
use std::path::Path;

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let Value::Array(cases) = serde_json::from_str(&text).unwrap() else {
        panic!("{file} is a list of cases")
    };
    cases
}

fn tensor(value: &Value) -> ArrayD<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

/// One direction of a tensor whose `axis` counts directions.
fn part<D: Dimension>(value: &Value, axis: usize, direction: usize) -> Array<f64, D> {
    tensor(value).index_axis_move(Axis(axis), direction).into_dimensionality().unwrap()
}

/// For each gate in our order, its block in ONNX's order.
fn onnx_blocks(operator: &str) -> Vec<usize> {
    match operator {
        "LSTM" => LstmGate::ALL
            .map(|gate| match gate {
                LstmGate::Input => 0,
                LstmGate::Output => 1,
                LstmGate::Forget => 2,
                LstmGate::Cell => 3,
            })
            .to_vec(),
        "GRU" => GruGate::ALL
            .map(|gate| match gate {
                GruGate::Update => 0,
                GruGate::Reset => 1,
                GruGate::New => 2,
            })
            .to_vec(),
        _ => vec![0],
    }
}

/// Row blocks in the order of `blocks`.
fn reordered<D: Dimension + RemoveAxis>(rows: &Array<f64, D>, blocks: &[usize]) -> Array<f64, D> {
    let height = rows.len_of(Axis(0)) / blocks.len();
    let parts: Vec<_> = blocks
        .iter()
        .map(|&block| rows.slice_axis(Axis(0), (block * height..(block + 1) * height).into()))
        .collect();
    concatenate(Axis(0), &parts).unwrap()
}

/// ONNX's peepholes i, o, f as i, f, o.
const PEEPHOLES: [usize; 3] = [0, 2, 1];

/// An attribute by its full name, or by its short name in the gradient cases.
fn attribute<'a>(case: &'a Value, name: &str, short: &str) -> Option<&'a Value> {
    let attributes = &case["attrs"];
    attributes.get(name).or_else(|| attributes.get(short))
}

fn is_set(case: &Value, name: &str, short: &str) -> bool {
    attribute(case, name, short).is_some_and(|value| value.as_i64().unwrap() != 0)
}

/// The activations of a case, each taking its alpha and beta from the lists; `None` means the operator's defaults.
fn activations(case: &Value) -> Option<Vec<Activation>> {
    let numbers = |name: &str| -> Vec<f32> {
        let list = case["attrs"].get(name).and_then(Value::as_array);
        list.map_or(Vec::new(), |list| list.iter().map(|x| x.as_f64().unwrap() as f32).collect())
    };
    let (mut alphas, mut betas) =
        (numbers("activation_alpha").into_iter(), numbers("activation_beta").into_iter());
    let names: Vec<&str> = match attribute(case, "activations", "act")? {
        Value::String(name) => vec![name],
        list => list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect(),
    };
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    let read = |name: &&str| match name.to_lowercase().as_str() {
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
        "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
        "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
        "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
        "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
        "elu" => Activation::Elu { alpha: alpha(1.0) },
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        name => panic!("{name}"),
    };
    Some(names.iter().map(read).collect())
}

fn cell(case: &Value) -> Cell {
    let functions = activations(case);
    match case["op"].as_str().unwrap() {
        "RNN" => Cell::Rnn { activation: functions.map_or(Activation::Tanh, |f| f[0]) },
        "LSTM" => Cell::Lstm(LstmCell {
            activations: functions.map_or_else(LstmActivations::default, |f| LstmActivations {
                gate: f[0],
                candidate: f[1],
                output: f[2],
            }),
            peephole: case["input"].get("P").is_some(),
            coupling: is_set(case, "input_forget", "cif").then_some(Coupling::Input),
            squashed: false,
        }),
        "GRU" => Cell::Gru(GruCell {
            activations: functions
                .map_or_else(GruActivations::default, |f| GruActivations { gate: f[0], candidate: f[1] }),
            reset: if is_set(case, "linear_before_reset", "lbr") { Reset::After } else { Reset::Before },
        }),
        operator => panic!("{operator}"),
    }
}

/// One direction of a case. ONNX takes whatever a case leaves out as zeros.
struct Scan {
    cell: Cell,
    clip: Option<f64>,
    input: Array3<f64>,
    w_ih: Array2<f64>,
    w_hh: Array2<f64>,
    biases: Option<(Array1<f64>, Array1<f64>)>,
    peephole: Option<Array1<f64>>,
    initial: States<f64>,
    lengths: Option<Vec<usize>>,
    reverse: bool,
}

/// ONNX's bias is the input's followed by the recurrent one.
fn biases(both: &Array1<f64>, blocks: &[usize]) -> (Array1<f64>, Array1<f64>) {
    let rows = both.len() / 2;
    let part = |range: std::ops::Range<usize>| reordered(&both.slice(s![range]).to_owned(), blocks);
    (part(0..rows), part(rows..2 * rows))
}

/// The directions of a case: for each, whether it is reversed.
fn directions(case: &Value) -> Vec<bool> {
    match case["attrs"].get("direction").and_then(Value::as_str) {
        None | Some("forward") => vec![false],
        Some("reverse") => vec![true],
        Some("bidirectional") => vec![false, true],
        Some(direction) => panic!("{direction}"),
    }
}

impl Scan {
    fn read(case: &Value, d: usize) -> Self {
        let given = &case["input"];
        let blocks = onnx_blocks(case["op"].as_str().unwrap());
        let input: Array3<f64> = tensor(&given["X"]).into_dimensionality().unwrap();
        let matrix = |key: &str| reordered(&part::<ndarray::Ix2>(&given[key], 0, d), &blocks);
        let (w_ih, w_hh) = (matrix("W"), matrix("R"));
        let (batch, hidden) = (input.dim().1, w_hh.ncols());
        let state =
            |key: &str| given.get(key).map_or_else(|| Array2::zeros((batch, hidden)), |s| part(s, 0, d));
        let lengths = given.get("sequence_lens").or_else(|| case.get("sequence_lens"));
        let cell = cell(case);
        Scan {
            cell,
            clip: attribute(case, "clip", "clip").map(|clip| clip.as_f64().unwrap()),
            biases: given.get("B").map(|both| biases(&part(both, 0, d), &blocks)),
            peephole: given.get("P").map(|p| reordered(&part(p, 0, d), &PEEPHOLES)),
            initial: States {
                h: state("initial_h").insert_axis(Axis(0)),
                c: cell.has_state().then(|| state("initial_c").insert_axis(Axis(0))),
                y: None,
            },
            lengths: lengths.map(|list| {
                // A tensor in one file, a list in the other.
                let list = list.get("data").unwrap_or(list).as_array().unwrap();
                list.iter().map(|length| length.as_f64().unwrap() as usize).collect()
            }),
            reverse: directions(case)[d],
            input,
            w_ih,
            w_hh,
        }
    }

    fn weights(&self) -> Weights<'_, f64> {
        Weights {
            w_ih: self.w_ih.view(),
            b_ih: self.biases.as_ref().map(|(b, _)| b.view()),
            b_hh: self.biases.as_ref().map(|(_, b)| b.view()),
            recurrence: Recurrence {
                clip: self.clip,
                peephole: self.peephole.as_ref().map(|p| p.view()),
                ..Recurrence::new(self.cell, self.w_hh.view())
            },
        }
    }

    fn forward(&self) -> scan::Forward<f64> {
        let lengths = self.lengths.as_deref();
        scan::forward(self.input.view(), &self.weights(), &self.initial, lengths, self.reverse)
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

/// Rows of length zero end with zeros in ONNX's runtimes; here they keep their initial states.
fn zeroed_rows(state: &Array2<f64>, lengths: Option<&[usize]>) -> Array2<f64> {
    let mut state = state.clone();
    for (row, _) in lengths.unwrap_or_default().iter().enumerate().filter(|(_, length)| **length == 0) {
        state.row_mut(row).fill(0.0);
    }
    state
}

fn assert_outputs(case: &Value, scans: &[Scan], found: &[scan::Forward<f64>], tolerance: f64) {
    let name = |key: &str| format!("{} {key}", case["name"]);
    let out = &case["output"];
    let outputs: Vec<_> = found.iter().map(|forward| forward.output.view()).collect();
    let y = stack(Axis(1), &outputs).unwrap();
    assert_close(&name("Y"), &y.into_dyn(), &tensor(&out["Y"]), tolerance);
    for (d, (scan, forward)) in scans.iter().zip(found).enumerate() {
        let lengths = scan.lengths.as_deref();
        let h = zeroed_rows(&forward.final_states.h.index_axis(Axis(0), 0).to_owned(), lengths);
        assert_close(&name("Y_h"), &h, &part(&out["Y_h"], 0, d), tolerance);
        if let Some(c) = &forward.final_states.c {
            let c = zeroed_rows(&c.index_axis(Axis(0), 0).to_owned(), lengths);
            assert_close(&name("Y_c"), &c, &part(&out["Y_c"], 0, d), tolerance);
        }
    }
}

#[test]
fn forward_cases_of_onnxruntime() {
    let cases = cases("ort_supplement.json");
    assert_eq!(cases.len(), 63);
    let mut failures = Failures::new();
    for case in &cases {
        failures.check(case["name"].to_string(), || {
            let scans: Vec<Scan> = (0..directions(case).len()).map(|d| Scan::read(case, d)).collect();
            let found: Vec<_> = scans.iter().map(Scan::forward).collect();
            // onnxruntime computed in f32. By the rule of docs/numerics.md, sums of K products are off by `4 u sqrt(K)` of
            // the largest, here the pre-activations, which reach 10.
            let (u, terms) = (2f64.powi(-24), scans[0].w_ih.ncols() + scans[0].w_hh.ncols());
            let steps = found.iter().flat_map(|forward| &forward.steps);
            let scale = steps.flat_map(|tape| &tape.step.pre).fold(1.0, |max: f64, pre| max.max(pre.abs()));
            assert_outputs(case, &scans, &found, 4.0 * u * (terms as f64).sqrt() * scale);
        });
    }
    failures.finish();
}

#[test]
fn gradient_cases() {
    let cases = cases("grad_cases.json");
    assert_eq!(cases.len(), 29);
    let mut failures = Failures::new();
    for case in &cases {
        failures.check(case["name"].to_string(), || {
            let scans: Vec<Scan> = (0..directions(case).len()).map(|d| Scan::read(case, d)).collect();
            let found: Vec<_> = scans.iter().map(Scan::forward).collect();
            // The files give 12 digits.
            assert_outputs(case, &scans, &found, 1e-11);

            let name = |part: &str| format!("{} {part}", case["name"]);
            let (cotangent, grad) = (&case["cotangent"], &case["grad"]);
            let blocks = onnx_blocks(case["op"].as_str().unwrap());
            let close = 1e-10;
            let mut d_input = Array3::zeros(scans[0].input.raw_dim());
            for (d, (scan, forward)) in scans.iter().zip(&found).enumerate() {
                let output: Array3<f64> = part(&cotangent["Y"], 1, d);
                let h: Array2<f64> = part(&cotangent["Y_h"], 0, d);
                let final_states = States {
                    h: h.insert_axis(Axis(0)),
                    c: forward
                        .final_states
                        .c
                        .as_ref()
                        .map(|_| part::<ndarray::Ix2>(&cotangent["Y_c"], 0, d).insert_axis(Axis(0))),
                    y: None,
                };
                let cotangents = Cotangents { output: output.view(), final_states: Some(&final_states) };
                let back = scan::backward(scan.input.view(), &scan.weights(), forward, &cotangents);
                d_input += &back.d_input;
                let by_rows = |key: &str| reordered(&part::<ndarray::Ix2>(&grad[key], 0, d), &blocks);
                assert_close(&name("W"), &back.d_w_ih, &by_rows("W"), close);
                assert_close(&name("R"), &back.d_w_hh, &by_rows("R"), close);
                let (b_ih, b_hh) = biases(&part(&grad["B"], 0, d), &blocks);
                assert_close(&name("B, input"), &back.d_b_ih, &b_ih, close);
                assert_close(&name("B, recurrent"), &back.d_b_hh, &b_hh, close);
                if let Some(peephole) = &back.d_peephole {
                    let expected = reordered(&part::<ndarray::Ix1>(&grad["P"], 0, d), &PEEPHOLES);
                    assert_close(&name("P"), peephole, &expected, close);
                }
                let d_h0 = back.d_initial.h.index_axis(Axis(0), 0).to_owned();
                assert_close(&name("initial_h"), &d_h0, &part(&grad["initial_h"], 0, d), close);
                if let Some(c) = &back.d_initial.c {
                    let c = c.index_axis(Axis(0), 0).to_owned();
                    assert_close(&name("initial_c"), &c, &part(&grad["initial_c"], 0, d), close);
                }
            }
            assert_close(&name("X"), &d_input.into_dyn(), &tensor(&grad["X"]), close);
        });
    }
    failures.finish();
}
