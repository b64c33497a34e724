//! The parts of a training step on the GPU, one by one.
//!
//! Scans and products run on buffers that are already on the device, through the interface for callers who own it. The
//! time covers recording, submitting and waiting for the device, with nothing uploaded or read back, so it is the time of
//! a kernel as it is used. `forward` is the input product and a `step_forward` for every step. `backward` is a
//! `step_backward` for every step, the products for the gradients, their column sums and unpacking. Optimisers (with the
//! gradient's norm) run many updates between two waits. Before anything is timed, the kernels are compared with their
//! mirrors, and the scan at the shape to be timed.

use criterion::{BenchmarkId, Criterion, Throughput};
use gatefold::devices::GpuOptions;
use gatefold::embed::{self, BackwardBuffers, ForwardBuffers};
use gatefold::layers::{DenseConfig, LstmConfig};
use gatefold::wgpu::util::{BufferInitDescriptor, DeviceExt};
use gatefold::{
    Device, DeviceChoice, Gpu, Network, NetworkConfig, Optimizer, Parameters, TrainConfig, Trainer, wgpu,
};
use gatefold_check::{Random, Tolerance, check_kernel, compare, output_terms};
use gatefold_shaders::KernelId;
use ndarray::{Array3, Axis, s};
use std::time::{Duration, Instant};

/// Batch, steps, inputs, hidden units: fewer rows than a tile; tiles of 8 rows; tiles of 16 rows, within small caches and
/// beyond.
const SHAPES: [[usize; 4]; 4] = [[1, 32, 100, 100], [32, 32, 16, 64], [64, 32, 128, 128], [64, 32, 256, 256]];

/// The GPU, after its kernels were checked; `None` without an adapter.
fn gpu(kernels: &[KernelId]) -> Option<Gpu> {
    let gpu = match Gpu::request(&DeviceChoice::Gpu, &GpuOptions::new()) {
        Ok(Some(gpu)) => gpu,
        Ok(None) => return None,
        Err(why) => {
            eprintln!("nothing to time: {why}");
            return None;
        }
    };
    eprintln!("gpu: {}", gpu.summary());
    for &kernel in kernels {
        check_kernel(&gpu, kernel).expect("the kernel runs").assert(kernel.name());
    }
    Some(gpu)
}

/// Records, submits and waits.
fn submit(gpu: &Gpu, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    record(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
}

/// A layer with packed weights and the buffers for one sequence.
struct Scan {
    network: embed::Network,
    sequence: embed::Sequence,
    input: Array3<f32>,
    output: wgpu::Buffer,
    config: NetworkConfig,
    parameters: Parameters,
}

impl Scan {
    fn new(gpu: &Gpu, [batch, steps, inputs, hidden]: [usize; 4]) -> Scan {
        let config = NetworkConfig::new(inputs, [LstmConfig::new(hidden).into()]).expect("a valid layer");
        let parameters = Parameters::initial(&config, 1).unwrap();
        let network =
            embed::Network::with_parameters(gpu, &config, &parameters).expect("the layer fits the device");
        let buffer = |values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            gpu.device().create_buffer_init(&BufferInitDescriptor { label: None, contents: &bytes, usage })
        };
        let mut random = Random::new(1, 0);
        let input = random.sequence((steps, batch, inputs));
        let zeros = |len: usize| buffer(&vec![0.0; len]);
        let step = batch * hidden;
        let x = buffer(&input.iter().copied().collect::<Vec<f32>>());
        let output = zeros(steps * step);
        let forward = ForwardBuffers::new(&x, &output);
        let backward =
            BackwardBuffers::new(&buffer(&random.values(steps * step))).input(&zeros(steps * batch * inputs));
        let sequence = network.sequence(steps, batch, &forward, Some(&backward)).expect("it fits the device");
        submit(gpu, |encoder| network.pack(encoder));
        Scan { network, sequence, input, output, config, parameters }
    }

    fn forward(&self, gpu: &Gpu) {
        submit(gpu, |encoder| self.sequence.forward(encoder));
    }

    fn backward(&self, gpu: &Gpu) {
        submit(gpu, |encoder| self.sequence.backward(encoder).expect("it was prepared for backward"));
    }

    /// Checks all outputs of the last row, which is in the last tile.
    fn check(&self, gpu: &Gpu) {
        self.forward(gpu);
        let found = read(gpu, &self.output);
        let (steps, batch, _) = self.input.dim();
        let hidden = self.config.output();
        let found = Array3::from_shape_vec((steps, batch, hidden), found).expect("h has that shape");
        let found: Vec<f32> = found.slice(s![.., batch - 1, ..]).iter().copied().collect();
        let reference = gatefold_reference::Network::<f64>::new(&self.config, &self.parameters);
        let row = self.input.select(Axis(1), &[batch - 1]).mapv(f64::from);
        let want: Vec<f64> =
            reference.expect("the layer's parameters").predict(row.view()).into_iter().collect();
        let tolerance = Tolerance::output(output_terms(&self.config));
        let comparison = compare(&[("step", steps), ("unit", hidden)], &found, &want, tolerance);
        assert!(comparison.passed(), "not timed: h: {comparison}");
    }
}

fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    submit(gpu, |encoder| encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size()));
    staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("it can be mapped"));
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes");
    let view = staging.get_mapped_range(..).expect("it is mapped");
    view.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

/// The LSTM over time, with packed weights. Operations of its products are printed as elements per second.
fn scan(criterion: &mut Criterion) {
    use KernelId::{
        ColumnSum, InitialBackward, MatMul, MatMulStaged, Pack, StepBackward, StepForward, SumSlices,
        UnpackGradient,
    };
    let kernels = [
        StepForward,
        StepBackward,
        InitialBackward,
        MatMul,
        MatMulStaged,
        SumSlices,
        Pack,
        UnpackGradient,
        ColumnSum,
    ];
    let Some(gpu) = gpu(&kernels) else { return };
    let mut group = criterion.benchmark_group("lstm");
    for shape in SHAPES {
        let scan = Scan::new(&gpu, shape);
        scan.check(&gpu);
        let [batch, steps, inputs, hidden] = shape;
        let name = shape.map(|size| size.to_string()).join(",");
        let forward = (8 * batch * steps * hidden * (inputs + hidden)) as u64;
        group.throughput(Throughput::Elements(forward));
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter(|| scan.forward(&gpu))
        });
        group.throughput(Throughput::Elements(2 * forward));
        group.bench_function(BenchmarkId::new("backward", &name), |bencher| {
            bencher.iter_custom(|runs| {
                // Backward overwrites what forward saved, so each needs its own forward, which is not timed.
                let mut time = Duration::ZERO;
                for _ in 0..runs {
                    scan.forward(&gpu);
                    let start = Instant::now();
                    scan.backward(&gpu);
                    time += start.elapsed();
                }
                time
            });
        });
        group.throughput(Throughput::Bytes((4 * 4 * hidden * (inputs + hidden)) as u64));
        group.bench_function(BenchmarkId::new("pack", &name), |bencher| {
            bencher.iter(|| submit(&gpu, |encoder| scan.network.pack(encoder)));
        });
    }
    group.finish();
}

/// A matrix product with bias, as a dense layer's prediction, which also uploads the input and reads back the output. At
/// these sizes the transfers are a small share: the product takes `2 K` operations for each output.
fn dense(criterion: &mut Criterion) {
    let Some(gpu) = gpu(&[KernelId::MatMul]) else { return };
    let mut group = criterion.benchmark_group("dense, with transfers");
    // Columns by fours, and one at a time if the width is odd.
    for [rows, inner, columns] in [[1024, 512, 512], [512, 511, 509]] {
        let config = NetworkConfig::new(inner, [DenseConfig::new(columns).into()]).expect("a valid layer");
        let network = Network::new(&Device::Gpu(gpu.clone()), &config, 1).expect("it fits the device");
        let input = Random::new(1, 0).sequence((1, rows, inner));
        group.throughput(Throughput::Elements((2 * rows * inner * columns) as u64));
        group.bench_function(format!("{rows},{inner},{columns}"), |bencher| {
            bencher.iter(|| network.predict(input.view()).expect("it ran before"));
        });
    }
    group.finish();
}

/// The gradient's norm and an optimiser over a million parameters: many updates with a zero gradient, then one wait.
fn update(criterion: &mut Criterion) {
    let kernels = [KernelId::GradientNorm, KernelId::FinishNorm, KernelId::Sgd, KernelId::Adam];
    let Some(gpu) = gpu(&kernels) else { return };
    let config = NetworkConfig::new(1023, [DenseConfig::new(1024).into()]).expect("a valid layer");
    let momentum = Optimizer::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 };
    let optimizers = [
        ("sgd", Optimizer::sgd()),
        ("nesterov", momentum),
        ("adam", Optimizer::adam()),
        ("adamw", Optimizer::adamw()),
    ];
    let mut group = criterion.benchmark_group("update");
    group.throughput(Throughput::Elements(config.parameter_count() as u64));
    for (name, optimizer) in optimizers {
        let network = Network::new(&Device::Gpu(gpu.clone()), &config, 1).expect("it fits the device");
        let options = TrainConfig::new().optimizer(optimizer).clip_norm(Some(1.0));
        let mut trainer = Trainer::new(network, options).expect("valid options");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                let start = Instant::now();
                for _ in 0..runs {
                    trainer.update().expect("the gradient is finite");
                }
                trainer.take_losses().expect("the gradient is finite"); // reads back, so it waits
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// Short measurements, since there are many.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
}

fn main() {
    let mut criterion = config().configure_from_args();
    scan(&mut criterion);
    dense(&mut criterion);
    update(&mut criterion);
    criterion.final_summary();
}
