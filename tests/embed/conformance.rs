//! LSTM cases of tests/conformance on buffers of our own: one direction, whole sequences, given initial states, every
//! gradient.

use super::{buffer, encode, gradient, read, written};
use gatefold::devices::GpuOptions;
use gatefold::embed::{self, BackwardBuffers, ForwardBuffers, StateBuffers};
use gatefold::layers::LstmConfig;
use gatefold::{Gpu, NetworkConfig, Parameters, wgpu};
use gatefold_check::{Failures, Tolerance, assert_close, test_gpu, test_gpu_with};
use gatefold_model::LstmGate;
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use serde_json::Value;
use std::path::Path;

/// Forward cases, with outputs of another program in f32.
const FORWARD: [&str; 4] = ["LSTM_forward", "LSTM_nobias_nostate", "LSTM_B1_S1_I1_H1", "LSTM_H33_B7"];
/// Cases in f64 with gradients.
const GRADIENTS: [&str; 2] = ["LSTM_forward", "LSTM_long"];

fn cases(file: &str, names: &[&str]) -> Vec<Value> {
    // As it is now rather than when this was built: scripts/measure-gpu runs the tests on another machine.
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    let path = Path::new(&root).join("tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let found: Vec<Value> =
        all.into_iter().filter(|case| names.iter().any(|name| case["name"] == *name)).collect();
    assert_eq!(found.len(), names.len(), "{file} has every case");
    found
}

fn name_of(case: &Value) -> &str {
    case["name"].as_str().unwrap()
}

fn tensor(value: &Value) -> ArrayD<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

/// Reorders row blocks from ONNX's order i, o, f, c to that of [`LstmGate`], i, f, g, o, where g is ONNX's c.
fn ifgo_from_iofc(rows: &ArrayD<f64>) -> ArrayD<f64> {
    let hidden = rows.len_of(Axis(0)) / LstmGate::COUNT;
    let blocks =
        [0, 2, 3, 1].map(|place| rows.slice_axis(Axis(0), (place * hidden..(place + 1) * hidden).into()));
    concatenate(Axis(0), &blocks).unwrap()
}

/// ONNX's tensors of parameters, or of their gradients, under PyTorch's names. Their first axis is the direction.
fn by_name(given: &Value) -> Vec<(String, ArrayD<f64>)> {
    let direction = |key: &str| tensor(&given[key]).index_axis_move(Axis(0), 0);
    let (w, r) = (direction("W"), direction("R"));
    let rows = w.len_of(Axis(0));
    let both = given.get("B").map_or_else(|| ArrayD::zeros(IxDyn(&[2 * rows])), |_| direction("B"));
    let half = |from: usize| ifgo_from_iofc(&both.slice_axis(Axis(0), (from..from + rows).into()).to_owned());
    [
        ("weight_ih", ifgo_from_iofc(&w)),
        ("weight_hh", ifgo_from_iofc(&r)),
        ("bias_ih", half(0)),
        ("bias_hh", half(rows)),
    ]
    .map(|(name, tensor)| (format!("rnn0.{name}_l0"), tensor))
    .into()
}

fn narrow(values: &ArrayD<f64>) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// A case with its network and buffers on the device.
struct Run<'a> {
    gpu: &'a Gpu,
    network: embed::Network,
    x: wgpu::Buffer,
    initial: StateBuffers,
    output: wgpu::Buffer,
    last: StateBuffers,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

impl<'a> Run<'a> {
    fn new(gpu: &'a Gpu, case: &Value) -> Run<'a> {
        let given = &case["input"];
        let x = tensor(&given["X"]);
        let [steps, batch, input] = [0, 1, 2].map(|axis| x.len_of(Axis(axis)));
        let hidden = tensor(&given["R"]).len_of(Axis(2));
        let config = NetworkConfig::new(input, [LstmConfig::new(hidden).into()]).unwrap();
        let parameters: Parameters = by_name(given)
            .into_iter()
            .map(|(name, values)| (name, values.mapv(|value| value as f32)))
            .collect();
        // A state that a case leaves out is zero.
        let state = |key: &str| {
            let zeros = || vec![0.0; batch * hidden];
            buffer(gpu, &given.get(key).map_or_else(zeros, |state| narrow(&tensor(state))))
        };
        Run {
            gpu,
            network: embed::Network::with_parameters(gpu, &config, &parameters).unwrap(),
            x: buffer(gpu, &narrow(&x)),
            initial: StateBuffers { h: state("initial_h"), c: Some(state("initial_c")), y: None },
            output: written(gpu, steps * batch * hidden),
            last: states(gpu, batch * hidden),
            steps,
            batch,
            input,
            hidden,
        }
    }

    fn forward(&self) -> ForwardBuffers {
        ForwardBuffers::new(&self.x, &self.output).initial([self.initial.clone()]).finals([self.last.clone()])
    }

    fn encode(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        encode(self.gpu, record);
    }

    /// Compares the outputs and both final states with the case's.
    fn check_outputs(&self, case: &Value) {
        let Run { steps, batch, hidden, .. } = *self;
        let tolerance = Tolerance::output(self.input + hidden);
        let c = self.last.c.as_ref().unwrap();
        let name = |part: &str| format!("{} {part}", case["name"]);
        let want = |key: &str| -> Vec<f64> { tensor(&case["output"][key]).iter().copied().collect() };
        let axes = [("step", steps), ("row", batch), ("unit", hidden)];
        assert_close(&name("Y"), &axes, &self.read(&self.output), &want("Y"), tolerance);
        assert_close(&name("Y_h"), &axes[1..], &self.read(&self.last.h), &want("Y_h"), tolerance);
        assert_close(&name("Y_c"), &axes[1..], &self.read(c), &want("Y_c"), tolerance);
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        read(self.gpu, buffer)
    }
}

/// Those of an LSTM, to be written.
fn states(gpu: &Gpu, len: usize) -> StateBuffers {
    StateBuffers { h: written(gpu, len), c: Some(written(gpu, len)), y: None }
}

#[test]
fn forward_cases_of_onnxruntime() {
    let Some(gpu) = test_gpu() else { return };
    let mut failures = Failures::new();
    for case in cases("ort_supplement.json", &FORWARD) {
        failures.check(name_of(&case), || {
            let run = Run::new(&gpu, &case);
            let sequence = run.network.sequence(run.steps, run.batch, &run.forward(), None).unwrap();
            run.encode(|encoder| {
                run.network.pack(encoder);
                sequence.forward(encoder);
            });
            run.check_outputs(&case);
        });
    }
    failures.finish();
}

fn check_gradients(gpu: &Gpu) {
    let mut failures = Failures::new();
    for case in cases("grad_cases.json", &GRADIENTS) {
        failures.check(name_of(&case), || {
            let run = Run::new(gpu, &case);
            let Run { steps, batch, input, hidden, .. } = run;
            let cotangent = |key: &str| buffer(gpu, &narrow(&tensor(&case["cotangent"][key])));
            let d_last = StateBuffers { h: cotangent("Y_h"), c: Some(cotangent("Y_c")), y: None };
            let d_initial = states(gpu, batch * hidden);
            let d_input = written(gpu, steps * batch * input);
            let backward = BackwardBuffers::new(&cotangent("Y"))
                .finals([d_last])
                .initial([d_initial.clone()])
                .input(&d_input);
            let sequence = run.network.sequence(steps, batch, &run.forward(), Some(&backward)).unwrap();
            run.encode(|encoder| {
                run.network.pack(encoder);
                run.network.clear_gradients(encoder);
                sequence.forward(encoder);
                sequence.backward(encoder).unwrap();
            });
            run.check_outputs(&case);

            let grad = &case["grad"];
            let name = |part: &str| format!("{} {part}", case["name"]);
            let terms = input + hidden + LstmGate::COUNT * hidden;
            let check = |part: &str, axes: &[(&str, usize)], found: &[f32], terms: usize| {
                let want: Vec<f64> = tensor(&grad[part]).iter().copied().collect();
                assert_close(&name(part), axes, found, &want, Tolerance::gradient(terms));
            };
            check("X", &[("step", steps), ("row", batch), ("input", input)], &run.read(&d_input), terms);
            let state = [("row", batch), ("unit", hidden)];
            check("initial_h", &state, &run.read(&d_initial.h), terms);
            check("initial_c", &state, &run.read(d_initial.c.as_ref().unwrap()), terms);
            for (part, want) in by_name(grad) {
                let found = gradient(gpu, &run.network, &part);
                let want: Vec<f64> = want.iter().copied().collect();
                let axes = [("element", want.len())];
                assert_close(&name(&part), &axes, &found, &want, Tolerance::gradient(terms + steps * batch));
            }
        });
    }
    failures.finish();
}

#[test]
fn gradient_cases() {
    let Some(gpu) = test_gpu() else { return };
    check_gradients(&gpu);
}

/// A device without immediates and subgroups, within WebGPU's default limits.
#[test]
fn gradient_cases_on_the_least_device() {
    let least = GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    check_gradients(&gpu);
}

/// A stream, fed the same steps one by one, computes the same bits.
#[test]
fn a_stream_equals_the_sequence() {
    let Some(gpu) = test_gpu() else { return };
    let case = &cases("grad_cases.json", &["LSTM_long"])[0];
    let run = Run::new(&gpu, case);
    let Run { steps, batch, input, hidden, .. } = run;
    let step_len = batch * hidden;
    // Streams begin at zero, and so does a sequence without initial states.
    let forward = ForwardBuffers::new(&run.x, &run.output);
    let sequence = run.network.sequence(steps, batch, &forward, None).unwrap();
    run.encode(|encoder| {
        run.network.pack(encoder);
        sequence.forward(encoder);
    });
    let expected = run.read(&run.output);
    let (now, output) = (written(&gpu, batch * input), written(&gpu, step_len));
    let mut stream = run.network.stream(batch, &now, &output).unwrap();
    // A second run after a reset gives the same. An odd number of steps before it makes it begin with the other slot.
    for round in 0..2 {
        for step in 0..steps {
            run.encode(|encoder| {
                let from = (step * batch * input * 4) as u64;
                encoder.copy_buffer_to_buffer(&run.x, from, &now, 0, now.size());
                stream.step(encoder);
            });
            let want = &expected[step * step_len..(step + 1) * step_len];
            assert_eq!(run.read(&output), want, "round {round}, step {step}");
        }
        run.encode(|encoder| {
            stream.step(encoder);
            stream.reset(encoder);
        });
    }
}
