//! The engine's interface for programs with a wgpu device of their own. LSTM cases of tests/conformance run through
//! layer calls on buffers: one direction, whole sequences, given initial states, every gradient. Other layers, with
//! lengths, are compared with the CPU device. Calls that do not fit are refused when they are prepared.

use gatefold::embed::{BackwardBuffers, ForwardBuffers, RecurrentLayer, StateBuffers};
use gatefold::{
    Activation, Biases, Device, Direction, Error, Gpu, GruConfig, InitialState, LayerConfig, LstmConfig,
    Network, NetworkConfig, Parameters, Reset, RnnConfig, Sequences, wgpu,
};
use gatefold_check::{
    Failures, Tolerance, assert_array, assert_close, gradient_terms, output_terms, test_gpu, test_gpu_with,
    waves,
};
use gatefold_model::LstmGate;
use ndarray::{Array3, ArrayD, Axis, IxDyn, concatenate, s};
use serde_json::Value;
use std::path::Path;
use wgpu::util::DeviceExt;

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

/// A case with its layer and buffers on the device.
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
        // A state that a case leaves out is zero.
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
        encode(self.gpu, record);
    }

    /// Compares the outputs and both final states with the case's.
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
        read(self.gpu, buffer)
    }
}

fn encode(gpu: &Gpu, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
}

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let device = gpu.device();
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    encode(gpu, |encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size()));
    staging.map_async(wgpu::MapMode::Read, .., |result| result.unwrap());
    device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    bytemuck::pod_collect_to_vec(&staging.get_mapped_range(..).unwrap())
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
    let mut failures = Failures::new();
    for case in cases("ort_supplement.json", &FORWARD) {
        failures.check(name_of(&case), || {
            let mut run = Run::new(&gpu, &case);
            let sequence = run.layer.sequence(run.steps, run.batch, &run.forward, None).unwrap();
            run.encode(|encoder| {
                run.layer.pack(encoder);
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
    let least = gatefold::GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    check_gradients(&gpu);
}

/// A stream, fed the same steps one by one, computes the same bits.
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
    // A second run after a reset gives the same. An odd number of steps before it makes it begin with the other slot.
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

/// Past the rows' ends, the inputs and the gradients of the outputs hold NaN.
#[test]
fn other_layers_with_lengths_are_those_of_the_cpu() {
    let Some(gpu) = test_gpu() else { return };
    let layers: [LayerConfig; 5] = [
        RnnConfig::new(5).feedback(3, Activation::Tanh).into(),
        RnnConfig::new(9).direction(Direction::BidirectionalSum).into(),
        LstmConfig::new(6).projection(4).direction(Direction::Reverse).into(),
        LstmConfig::new(7).peephole().skip(2).direction(Direction::Bidirectional).into(),
        GruConfig::new(5).reset(Reset::Before).initial_state(InitialState::Learned).into(),
    ];
    let (steps, batch, input) = (6, 4, 2);
    let lengths = [6, 0, 3, 5];
    let mut failures = Failures::new();
    for layer in layers {
        failures.check(format!("{layer:?}"), || {
            let config = NetworkConfig::new(input, [layer]).unwrap();
            let parameters = Parameters::initial(&config, 3);
            let (mut x, _) = waves(0, (steps, batch), (input, 1));
            let weighting = |(t, row, o)| ((3 * t + 5 * row + 7 * o) as f32).sin();
            let mut d_y = Array3::from_shape_fn((steps, batch, config.output()), weighting);
            let of_rows = Sequences::time_major(x.clone()).with_lengths(lengths).unwrap();
            let mut cpu = Network::with_parameters(&Device::Cpu, &config, &parameters).unwrap();
            let tape = cpu.forward_training(&of_rows, None, None).unwrap();
            let y = tape.output().to_owned();
            let gradients = cpu.backward(tape, d_y.view(), None).unwrap();

            for (row, &length) in lengths.iter().enumerate() {
                x.slice_mut(s![length.., row, ..]).fill(f32::NAN);
                d_y.slice_mut(s![length.., row, ..]).fill(f32::NAN);
            }
            let of = |values: &Array3<f32>| buffer(&gpu, values.as_slice().unwrap());
            let ends = gpu.device().create_buffer_init(&wgpu::util::BufferInitDescriptor {
                label: None,
                contents: bytemuck::cast_slice(&lengths.map(|length| length as u32)),
                usage: of(&x).usage(),
            });
            let forward = ForwardBuffers {
                input: of(&x),
                lengths: Some(ends),
                start: Vec::new(),
                output: of(&y.map(|_| 7.0)),
                last: Vec::new(),
            };
            let d_input = of(&x);
            let (d_output, d_last, d_start) = (of(&d_y), Vec::new(), Vec::new());
            let backward = BackwardBuffers { d_output, d_last, d_start, d_input: Some(d_input.clone()) };
            let mut layer = RecurrentLayer::with_parameters(&gpu, &config, &parameters).unwrap();
            let sequence = layer.sequence(steps, batch, &forward, Some(&backward)).unwrap();
            encode(&gpu, |encoder| {
                layer.pack(encoder);
                sequence.forward(encoder);
                sequence.backward(encoder).unwrap();
            });

            // Both devices round.
            let name = |part: &str| format!("{config}: {part}");
            let found = Array3::from_shape_vec(y.dim(), read(&gpu, &forward.output)).unwrap();
            let tolerance = Tolerance::output(output_terms(&config)).times(2);
            assert_array(&name("output"), found.view(), y.view(), tolerance);
            let tolerance = Tolerance::gradient(gradient_terms(&config, steps, batch)).times(2);
            let found = Array3::from_shape_vec(x.dim(), read(&gpu, &d_input)).unwrap();
            assert_array(&name("d_input"), found.view(), gradients.input.view(), tolerance);
            for (parameter, wanted) in gradients.parameters.iter() {
                let slice = layer.gradient(parameter).unwrap();
                let from = (slice.offset_bytes / 4) as usize;
                let found = read(&gpu, &slice.buffer)[from..from + wanted.len()].to_vec();
                let found = ArrayD::from_shape_vec(wanted.raw_dim(), found).unwrap();
                assert_array(&name(parameter), found.view(), wanted.view(), tolerance);
            }
        });
    }
    failures.finish();
}

/// An RNN of 8 units, whose parameters and gradients have as many elements as four steps of four rows.
struct Square {
    layer: RecurrentLayer,
    forward: ForwardBuffers,
    backward: BackwardBuffers,
}

impl Square {
    const SHAPE: (usize, usize) = (4, 4);
    const LEN: usize = 4 * 4 * 8;

    fn new(gpu: &Gpu) -> Square {
        let config = RnnConfig::new(8).biases(Biases::None);
        let of = |value: f32| buffer(gpu, &[value; Square::LEN]);
        let (start, last) = (Vec::new(), Vec::new());
        let (d_last, d_start) = (Vec::new(), Vec::new());
        Square {
            layer: RecurrentLayer::new(gpu, 8, config, 1).unwrap(),
            forward: ForwardBuffers { input: of(0.5), lengths: None, start, output: of(7.0), last },
            backward: BackwardBuffers { d_output: of(1.0), d_last, d_start, d_input: Some(of(7.0)) },
        }
    }

    fn prepared(&mut self) -> Result<gatefold::embed::Sequence, Error> {
        let (steps, batch) = Square::SHAPE;
        self.layer.sequence(steps, batch, &self.forward, Some(&self.backward))
    }

    fn refused(&mut self, expected: &str) {
        let error = self.prepared().map(|_| ()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn buffers_that_do_not_fit_are_refused() {
    let Some(gpu) = test_gpu() else { return };
    let with = |change: &dyn Fn(&mut Square), expected: &str| {
        let mut square = Square::new(&gpu);
        change(&mut square);
        square.refused(expected);
        // The layer still works with other buffers.
        Square { layer: square.layer, ..Square::new(&gpu) }.prepared().unwrap();
    };
    let usage = |usage: wgpu::BufferUsages| {
        let size = 4 * Square::LEN as u64;
        let (label, mapped_at_creation) = (None, false);
        gpu.device().create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation })
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let copies = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;

    with(
        &|square| square.forward.input = buffer(&gpu, &[0.0; Square::LEN - 1]),
        "buffer input: expected [steps 4, batch 4, input 8], 512 bytes, found 508 bytes",
    );
    with(
        &|square| {
            let (h, c, y) = (buffer(&gpu, &[0.0; 33]), None, None);
            square.forward.last = vec![StateBuffers { h, c, y }];
        },
        "buffer last0.h: expected [slots 1, batch 4, h 8], 128 bytes, found 132 bytes",
    );
    // The requirements on a buffer are the same, whether it is bound or copied.
    let all = "expected the usages COPY_SRC, COPY_DST, STORAGE, found";
    with(
        &|square| square.forward.output = usage(storage),
        &format!("buffer output: {all} STORAGE; create it with all of them"),
    );
    with(
        &|square| square.forward.input = usage(copies),
        &format!("buffer input: {all} COPY_SRC, COPY_DST; create it with all of them"),
    );
    with(
        &|square| square.backward.d_input = Some(usage(copies)),
        &format!("buffer d_input: {all} COPY_SRC, COPY_DST; create it with all of them"),
    );
    with(
        &|square| square.forward.output = square.forward.input.clone(),
        "buffer output is the same as buffer input; expected a buffer for each",
    );
    // An output must not overwrite the parameters.
    with(
        &|square| {
            square.forward.output = square.layer.parameter("rnn0.weight_hh_l0").unwrap().buffer;
        },
        "buffer output is the same as buffer parameters; expected a buffer for each",
    );
    with(
        &|square| {
            square.backward.d_output = square.layer.gradient("rnn0.weight_hh_l0").unwrap().buffer;
        },
        "buffer d_output is the same as buffer gradients; expected a buffer for each",
    );
    let mut square = Square::new(&gpu);
    let same = buffer(&gpu, &[0.0; 32]);
    let error = square.layer.stream(4, &same, &same).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "buffer output is the same as buffer input; expected a buffer for each");
}

/// A device that the program opened itself.
fn own_device(adapter: &wgpu::Adapter, limits: wgpu::Limits) -> Gpu {
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    device.on_uncaptured_error(std::sync::Arc::new(|error: wgpu::Error| panic!("uncaptured: {error}")));
    Gpu::from_device(device, queue)
}

/// wgpu reports these errors only when an encoder is finished; the layer reports them before the caller has one.
#[test]
fn calls_that_cannot_be_recorded_are_refused() {
    if test_gpu().is_none() {
        return;
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.unwrap();
    let gpu = own_device(&adapter, wgpu::Limits::default());
    let other = own_device(&adapter, wgpu::Limits::default());
    // The input is bound, the output is copied to.
    let mut square = Square::new(&gpu);
    square.forward.input = buffer(&other, &[0.0; Square::LEN]);
    square.refused("doesn't match");
    let mut square = Square::new(&gpu);
    square.forward.output = buffer(&other, &[0.0; Square::LEN]);
    square.refused("doesn't match");

    // 35 columns of tiles are more workgroups than the program's device allows.
    let limits = wgpu::Limits { max_compute_workgroups_per_dimension: 32, ..Default::default() };
    let gpu = own_device(&adapter, limits);
    let wide = RecurrentLayer::new(&gpu, 2, RnnConfig::new(1100), 1).map(|_| ());
    let error = wide.unwrap_err();
    assert!(matches!(error, Error::Device(_)), "{error}");
    Square::new(&gpu).prepared().unwrap();
}

/// The kernels have the weights of the parameters that the layer was made with, without a call to pack them.
#[test]
fn a_new_layer_needs_no_packing() {
    let Some(gpu) = test_gpu() else { return };
    let run = |packed: bool| {
        let mut square = Square::new(&gpu);
        let (now, h) = (buffer(&gpu, &[0.5; 32]), buffer(&gpu, &[7.0; 32]));
        let (sequence, mut stream) = (square.prepared().unwrap(), square.layer.stream(4, &now, &h).unwrap());
        encode(&gpu, |encoder| {
            if packed {
                square.layer.pack(encoder);
            }
            sequence.forward(encoder);
            stream.step(encoder);
        });
        [read(&gpu, &square.forward.output), read(&gpu, &h)]
    };
    assert_eq!(run(false), run(true));
    assert!(run(true)[0].iter().all(|&h| h != 0.0));
}

#[test]
fn backward_needs_a_forward_for_each() {
    let Some(gpu) = test_gpu() else { return };
    let mut square = Square::new(&gpu);
    let sequence = square.prepared().unwrap();
    let refused = |encoder: &mut wgpu::CommandEncoder| {
        let error = sequence.backward(encoder).unwrap_err().to_string();
        assert!(error.contains("expected a forward call in front of each backward, found none"), "{error}");
    };
    let gradient = square.layer.gradient("rnn0.weight_hh_l0").unwrap().buffer;
    encode(&gpu, |encoder| {
        refused(encoder);
        sequence.forward(encoder);
        sequence.backward(encoder).unwrap();
    });
    let once = read(&gpu, &gradient);
    encode(&gpu, |encoder| {
        refused(encoder);
        square.layer.clear_gradients(encoder);
        sequence.forward(encoder);
        sequence.forward(encoder);
        sequence.backward(encoder).unwrap();
        refused(encoder);
    });
    assert_eq!(read(&gpu, &gradient), once, "refused calls recorded nothing");
}

/// The error comes before the host allocates memory for the parameters.
#[test]
fn layers_beyond_the_device_are_refused_by_name() {
    let Some(gpu) = test_gpu() else { return };
    let error = RecurrentLayer::new(&gpu, 2, LstmConfig::new(1 << 24), 1).map(|_| ()).unwrap_err();
    let named = matches!(&error, Error::TooLarge { tensor, .. } if tensor.starts_with("rnn0.weight_"));
    assert!(named, "{error}");
    let config = NetworkConfig::new(2, [LstmConfig::new(1 << 24).into()]).unwrap();
    let error = Network::new(&Device::Gpu(gpu), &config, 1).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
