//! The engine's door for programs with a wgpu device of their own: LSTM cases of tests/conformance through layer calls on
//! buffers, one direction, whole sequences, given initial states, every gradient.

use gatefold::embed::{BackwardBuffers, ForwardBuffers, RecurrentLayer, StateBuffers};
use gatefold::{Gpu, LstmConfig, NetworkConfig, Parameters, wgpu};
use gatefold_check::{Tolerance, assert_close, test_gpu, test_gpu_with};
use gatefold_model::LstmGate;
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use serde_json::Value;
use std::path::Path;
use wgpu::util::DeviceExt;

/// Forward cases, whose outputs are another program's in f32.
const FORWARD: [&str; 4] = ["LSTM_forward", "LSTM_nobias_nostate", "LSTM_B1_S1_I1_H1", "LSTM_H33_B7"];
/// Cases in f64 with gradients.
const GRADIENTS: [&str; 2] = ["LSTM_forward", "LSTM_long"];

fn cases(file: &str, names: &[&str]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let found: Vec<Value> =
        all.into_iter().filter(|case| names.iter().any(|name| case["name"] == *name)).collect();
    assert_eq!(found.len(), names.len(), "{file} has every case");
    found
}

fn tensor(value: &Value) -> ArrayD<f64> {
    let shape: Vec<usize> =
        value["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let data = value["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).unwrap()
}

/// Row blocks in ONNX's order i, o, f, c in the order of [`LstmGate`], i, f, g, o, where g is ONNX's c.
fn ifgo_from_iofc(rows: &ArrayD<f64>) -> ArrayD<f64> {
    let hidden = rows.len_of(Axis(0)) / LstmGate::COUNT;
    let blocks =
        [0, 2, 3, 1].map(|place| rows.slice_axis(Axis(0), (place * hidden..(place + 1) * hidden).into()));
    concatenate(Axis(0), &blocks).unwrap()
}

/// ONNX's tensors of parameters, or of their gradients, by PyTorch's names; the first axis is that of directions.
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

/// The device's side of a case.
struct Run<'a> {
    gpu: &'a Gpu,
    layer: RecurrentLayer,
    forward: ForwardBuffers,
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
        let layer = RecurrentLayer::with_parameters(gpu, &config, &parameters).unwrap();
        // What a case leaves out is zero.
        let state = |key: &str| {
            let zeros = || vec![0.0; batch * hidden];
            buffer(gpu, &given.get(key).map_or_else(zeros, |state| narrow(&tensor(state))))
        };
        let written = || buffer(gpu, &vec![7.0; batch * hidden]);
        let forward = ForwardBuffers {
            input: buffer(gpu, &narrow(&x)),
            lengths: None,
            start: vec![StateBuffers { h: state("initial_h"), c: Some(state("initial_c")), y: None }],
            output: buffer(gpu, &vec![7.0; steps * batch * hidden]),
            last: vec![StateBuffers { h: written(), c: Some(written()), y: None }],
        };
        Run { gpu, layer, forward, steps, batch, input, hidden }
    }

    fn encode(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        record(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
    }

    /// The outputs and both final states, against the case's.
    fn check_outputs(&self, case: &Value) {
        let Run { steps, batch, hidden, .. } = *self;
        let tolerance = Tolerance::output(self.input + hidden);
        let last = &self.forward.last[0];
        let c = last.c.as_ref().unwrap();
        let name = |part: &str| format!("{} {part}", case["name"]);
        let want = |key: &str| -> Vec<f64> { tensor(&case["output"][key]).iter().copied().collect() };
        let axes = [("step", steps), ("row", batch), ("unit", hidden)];
        assert_close(&name("Y"), &axes, &self.read(&self.forward.output), &want("Y"), tolerance);
        assert_close(&name("Y_h"), &axes[1..], &self.read(&last.h), &want("Y_h"), tolerance);
        assert_close(&name("Y_c"), &axes[1..], &self.read(c), &want("Y_c"), tolerance);
    }

    fn read(&self, buffer: &wgpu::Buffer) -> Vec<f32> {
        let device = self.gpu.device();
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: buffer.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.encode(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size()));
        staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..).unwrap())
    }
}

fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
    })
}

#[test]
fn forward_cases_of_onnxruntime() {
    let Some(gpu) = test_gpu() else { return };
    for case in cases("ort_supplement.json", &FORWARD) {
        let mut run = Run::new(&gpu, &case);
        let sequence = run.layer.sequence(run.steps, run.batch, &run.forward, None).unwrap();
        run.encode(|encoder| {
            run.layer.pack(encoder);
            sequence.forward(encoder);
        });
        run.check_outputs(&case);
    }
}

fn check_gradients(gpu: &Gpu) {
    for case in cases("grad_cases.json", &GRADIENTS) {
        let mut run = Run::new(gpu, &case);
        let Run { steps, batch, input, hidden, .. } = run;
        let cotangent = |key: &str| buffer(gpu, &narrow(&tensor(&case["cotangent"][key])));
        let written = || buffer(gpu, &vec![7.0; batch * hidden]);
        let d_start = StateBuffers { h: written(), c: Some(written()), y: None };
        let d_last = StateBuffers { h: cotangent("Y_h"), c: Some(cotangent("Y_c")), y: None };
        let backward = BackwardBuffers {
            d_output: cotangent("Y"),
            d_last: vec![d_last],
            d_start: vec![d_start],
            d_input: Some(buffer(gpu, &vec![7.0; steps * batch * input])),
        };
        let sequence = run.layer.sequence(steps, batch, &run.forward, Some(&backward)).unwrap();
        run.encode(|encoder| {
            run.layer.pack(encoder);
            run.layer.clear_gradients(encoder);
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
        let d_input = backward.d_input.as_ref().unwrap();
        check("X", &[("step", steps), ("row", batch), ("input", input)], &run.read(d_input), terms);
        let state = [("row", batch), ("unit", hidden)];
        let d_start = &backward.d_start[0];
        check("initial_h", &state, &run.read(&d_start.h), terms);
        check("initial_c", &state, &run.read(d_start.c.as_ref().unwrap()), terms);
        for (part, want) in by_name(grad) {
            let slice = run.layer.gradient(&part).unwrap();
            let from = (slice.offset_bytes / 4) as usize;
            let found = &run.read(&slice.buffer)[from..from + (slice.size_bytes / 4) as usize];
            let want: Vec<f64> = want.iter().copied().collect();
            let axes = [("element", want.len())];
            assert_close(&name(&part), &axes, found, &want, Tolerance::gradient(terms + steps * batch));
        }
    }
}

#[test]
fn gradient_cases() {
    let Some(gpu) = test_gpu() else { return };
    check_gradients(&gpu);
}

/// Without immediates and subgroups, with no more than WebGPU promises.
#[test]
fn gradient_cases_on_the_least_device() {
    let least = gatefold::GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    check_gradients(&gpu);
}

/// A stream, fed the same steps one by one, arrives at the same bits.
#[test]
fn a_stream_equals_the_sequence() {
    let Some(gpu) = test_gpu() else { return };
    let case = &cases("grad_cases.json", &["LSTM_long"])[0];
    let mut run = Run::new(&gpu, case);
    let Run { steps, batch, input, hidden, .. } = run;
    // Streams begin at zero.
    let step_len = batch * hidden;
    run.forward.start.clear();
    let sequence = run.layer.sequence(steps, batch, &run.forward, None).unwrap();
    run.encode(|encoder| {
        run.layer.pack(encoder);
        sequence.forward(encoder);
    });
    let expected = run.read(&run.forward.output);
    let (now, output) = (buffer(&gpu, &vec![0.0; batch * input]), buffer(&gpu, &vec![0.0; step_len]));
    let mut stream = run.layer.stream(batch, &now, &output).unwrap();
    // A second run, after a reset, says the same; an odd number of steps before it leaves the other slot in turn.
    for round in 0..2 {
        for step in 0..steps {
            run.encode(|encoder| {
                let from = (step * batch * input * 4) as u64;
                encoder.copy_buffer_to_buffer(&run.forward.input, from, &now, 0, now.size());
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
