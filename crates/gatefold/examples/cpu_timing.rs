//! How long the CPU device takes for one LSTM layer and a dense layer, at a few sizes.
//!
//! ```text
//! cargo run --release -p gatefold --no-default-features --example cpu_timing
//! ```

use gatefold::{
    DenseConfig, Device, DeviceChoice, Error, LstmConfig, Network, NetworkConfig, Optimizer, TrainConfig,
    Trainer,
};
use ndarray::Array3;
use std::time::{Duration, Instant};

/// Batch, steps, inputs, hidden units.
const SHAPES: [(usize, usize, usize, usize); 5] = [
    (1, 25, 100, 100),   // the worked example: too small for threads
    (32, 50, 16, 64),    // a small forecaster
    (64, 100, 64, 128),  // a usual one
    (64, 128, 256, 256), // products dominate
    (32, 256, 128, 512), // recurrent weights beyond the caches of a core
];

fn main() -> Result<(), Error> {
    println!("{}", Device::open(&DeviceChoice::Cpu)?.summary());
    println!(
        "{:>20}  {:>34}  {:>34}",
        "B,T,I,H", "infer ms: median (min, max)", "train ms: median (min, max)"
    );
    for (batch, steps, inputs, hidden) in SHAPES {
        let config =
            NetworkConfig::new(inputs, [LstmConfig::new(hidden).into(), DenseConfig::new(inputs).into()])?;
        let device = Device::open(&DeviceChoice::Cpu)?;
        let mut network = Network::new(&device, &config, 1)?;
        let input =
            Array3::from_shape_fn((steps, batch, inputs), |(t, b, i)| ((t * 7 + b * 3 + i) as f32).sin());

        let infer = times(|| network.predict(input.view()).map(drop))?;
        let options = TrainConfig::new().optimizer(Optimizer::sgd()).learning_rate(1e-4);
        let mut trainer = Trainer::new(network, options)?;
        let train = times(|| trainer.step(input.view(), input.view()))?;
        let shape = format!("{batch},{steps},{inputs},{hidden}");
        println!("{shape:>20}  {:>34}  {:>34}", line(&infer), line(&train));
    }
    Ok(())
}

/// Sorted times of at least 5 calls and 2 seconds, after one to warm up.
fn times(mut call: impl FnMut() -> Result<(), Error>) -> Result<Vec<Duration>, Error> {
    call()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 5 || begin.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times)
}

fn line(times: &[Duration]) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{:.3} ({:.3}, {:.3})", ms(times[times.len() / 2]), ms(times[0]), ms(times[times.len() - 1]))
}
