//! One LSTM layer with a dense output for every step on the GPU and on the CPU device, at five shapes.
//!
//! Times what a caller waits for. Inference uploads the input and reads the output back. A training step uploads a batch,
//! runs forward, squared error, backward and Adam, and reads the loss back, so that no work is still pending. Before that,
//! all outputs, the loss, every gradient and an update are compared with the reference in f64, at the same shape and with
//! the same schedule; a device with wrong results is not timed.
//!
//! `gatefold bench` times the same in a minute and prints a table.

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use gatefold::layers::LstmConfig;
use gatefold::{Device, DeviceChoice, Network, TrainConfig, Trainer};
use gatefold_check::Workload;
use std::time::Duration;

/// Batch, steps, inputs, hidden units.
const SHAPES: [[usize; 4]; 5] = [
    [1, 25, 100, 100],   // one window of the worked example: latency
    [32, 50, 16, 64],    // a small forecaster
    [64, 100, 64, 128],  // the products begin to matter
    [64, 128, 256, 256], // wide: products of 256 x 1024
    [32, 256, 128, 512], // long and wide: the recurrent weights exceed the small caches
];

fn devices() -> Vec<(&'static str, Device)> {
    let gpu = Device::open(&DeviceChoice::Gpu);
    match gpu {
        Ok(gpu) => {
            eprintln!("gpu: {}\ncpu: {}", gpu.summary(), Device::cpu().unwrap().summary());
            vec![("gpu", gpu), ("cpu", Device::cpu().unwrap())]
        }
        Err(why) => {
            eprintln!("timing only the CPU: {why}");
            vec![("cpu", Device::cpu().unwrap())]
        }
    }
}

fn each_shape(
    criterion: &mut Criterion,
    mode: &str,
    products: u64,
    mut bench: impl FnMut(
        &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
        BenchmarkId,
        Network,
        &Workload,
    ),
) {
    let devices = devices();
    let mut group = criterion.benchmark_group(mode);
    for shape in SHAPES {
        let [batch, steps, input, hidden] = shape;
        let layers = vec![LstmConfig::new(hidden).into()];
        let workload = Workload::new((batch, steps, input), layers).expect("the shapes are valid");
        // Operations of the products, 8 B T H (I + H) forward. Criterion prints them as elements per second.
        group.throughput(Throughput::Elements(
            products * (8 * batch * steps * hidden * (input + hidden)) as u64,
        ));
        for (name, device) in &devices {
            let network = Network::with_parameters(device, &workload.config, &workload.parameters)
                .expect("the shapes fit the device");
            let id = BenchmarkId::new(*name, shape.map(|size| size.to_string()).join(","));
            bench(&mut group, id, network, &workload);
        }
    }
    group.finish();
}

fn infer(criterion: &mut Criterion) {
    each_shape(criterion, "infer", 1, |group, id, mut network, workload| {
        workload.check_inference(&mut network).expect("the network runs").assert("inference");
        group.bench_function(id, |bencher| {
            bencher.iter(|| network.predict(workload.input.view()).expect("it ran before"));
        });
    });
}

fn train(criterion: &mut Criterion) {
    each_shape(criterion, "train", 3, |group, id, network, workload| {
        let mut trainer = Trainer::new(network, TrainConfig::new()).expect("the defaults are valid");
        workload.check_training(&mut trainer).expect("the network trains").assert("training");
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                trainer.step(workload.input.view(), workload.target.view()).expect("it ran before");
                trainer.take_losses().expect("the gradient stays finite")
            });
        });
    });
}

/// Only ten samples, since a step at the largest shape takes seconds on a software driver.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
}

fn main() {
    let mut criterion = config().configure_from_args();
    infer(&mut criterion);
    train(&mut criterion);
    criterion.final_summary();
}
