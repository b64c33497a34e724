//! The worked example: learns a vibration signal of rotating machinery and continues it.
//!
//! The signal has 41,000 samples at 1000 Hz. The network reads ten steps of 100 samples and forecasts the next 100. It
//! has two LSTM layers of 100 units, a dense layer with relu and a linear one. It is trained by Adam at 2e-4 on the
//! squared error, with 2500 windows, one at a time, each five samples after the one before. Then the window at sample
//! 15000, which training never saw, forecasts samples 16000 to 16099, and ten such blocks with each forecast fed back
//! as input.
//!
//! ```text
//! cargo run --release --example rotating_machinery
//! cargo run --release --example rotating_machinery -- --data examples/data/ecg_360hz_41000.csv
//! ```

use clap::Parser;
use gatefold::layers::{Activation, DenseConfig, LayerConfig, LstmConfig};
use gatefold::{Device, DeviceChoice, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_series::plot::ForecastPlot;
use gatefold_series::{Fill, Table, TableOptions};
use ndarray::{Array3, ArrayView3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::StandardNormal;
use std::error::Error;
use std::f64::consts::TAU;
use std::path::PathBuf;

const SAMPLES: usize = 41_000;
const STEPS: usize = 10;
const BLOCK: usize = 100;
const WINDOW: usize = STEPS * BLOCK;
const STRIDE: usize = 5;
const ITERATIONS: usize = 2500;
const PRINT_EVERY: usize = 250;
const TEST_WINDOW: usize = 15_000;
const TEST_BLOCKS: usize = 10;
/// The published costs of the recipe, after every 250 iterations. Their signal was not published.
const PUBLISHED: [f64; 10] = [0.179, 0.138, 0.083, 0.076, 0.023, 0.0037, 0.0079, 0.086, 0.0031, 0.015];

/// Learn a vibration signal and continue it
#[derive(Parser)]
struct Arguments {
    /// A table whose last column is the signal, instead of the generated one
    #[arg(long, value_name = "TABLE")]
    data: Option<PathBuf>,
    /// auto, gpu, cpu, or part of an adapter's name
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Seed of the network's initial values and of the signal's noise
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the plot
    #[arg(long, default_value = "gatefold-out")]
    out: PathBuf,
}

/// A shaft at 8 Hz whose speed varies by 0.2 %, with two harmonics, a bearing's tone that the shaft modulates, and
/// noise.
fn rotor(seed: u64) -> Vec<f64> {
    const RATE: f64 = 1000.0;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut phase = 0.0;
    (0..SAMPLES)
        .map(|sample| {
            let t = sample as f64 / RATE;
            phase += TAU * 8.0 * (1.0 + 0.002 * (TAU * t / 7.3).sin()) / RATE;
            let bearing = 0.08 * (5.43 * phase).sin() * (1.0 + 0.5 * phase.sin());
            let noise: f64 = random.sample(StandardNormal);
            0.55 * phase.sin()
                + 0.25 * (2.0 * phase + 0.7).sin()
                + 0.12 * (3.0 * phase + 1.9).sin()
                + bearing
                + 0.03 * noise
        })
        .collect()
}

/// Centres a signal on zero and scales it to -1 to 1.
fn centred(mut signal: Vec<f64>) -> Vec<f32> {
    let mean = signal.iter().sum::<f64>() / signal.len() as f64;
    signal.iter_mut().for_each(|x| *x -= mean);
    let largest = signal.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    signal.into_iter().map(|x| (x / largest) as f32).collect()
}

/// `[steps, 1, 100]`
fn window(samples: &[f32]) -> ArrayView3<'_, f32> {
    ArrayView3::from_shape((samples.len() / BLOCK, 1, BLOCK), samples)
        .expect("windows consist of whole blocks")
}

fn squared_error(truth: &[f32], forecast: &[f32]) -> f64 {
    let sum: f64 = truth.iter().zip(forecast).map(|(y, f)| f64::from(y - f).powi(2)).sum();
    sum / truth.len() as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let signal = match &arguments.data {
        None => rotor(arguments.seed),
        Some(path) => {
            let table = Table::read(path, &TableOptions::new())?;
            table.numbers(table.last_numeric_name()?, Fill::Refuse)?
        }
    };
    let needed = TEST_WINDOW + WINDOW + TEST_BLOCKS * BLOCK;
    if signal.len() < needed {
        return Err(format!("the signal has {} samples; expected at least {needed}", signal.len()).into());
    }
    let signal = centred(signal);

    let config = NetworkConfig::new(
        BLOCK,
        [
            LstmConfig::new(100).into(),
            LstmConfig::new(100).into(),
            LayerConfig::LastStep,
            DenseConfig::new(100).activation(Activation::Relu).into(),
            DenseConfig::new(BLOCK).into(),
        ],
    )?;
    let device = Device::open(&arguments.device)?;
    println!("device   {}", device.summary());
    println!("network  {config}, {} parameters", config.parameter_count());

    let network = Network::new(&device, &config, arguments.seed)?;
    let mut trainer = Trainer::new(network, TrainConfig::new().learning_rate(2e-4))?;
    println!("\niteration      cost  published");
    for iteration in 0..ITERATIONS {
        let begin = iteration * STRIDE;
        let (input, target) = (&signal[begin..begin + WINDOW], &signal[begin + WINDOW..][..BLOCK]);
        trainer.step(window(input), window(target))?;
        if (iteration + 1) % PRINT_EVERY == 0 {
            let cost = *trainer.take_losses()?.last().expect("each step has a loss");
            println!("{:>9} {cost:>9.4} {:>10.4}", iteration + 1, PUBLISHED[iteration / PRINT_EVERY]);
        }
    }

    let forecast = continued(&mut trainer, &signal[TEST_WINDOW..TEST_WINDOW + WINDOW])?;
    let truth = &signal[TEST_WINDOW + WINDOW..][..TEST_BLOCKS * BLOCK];
    let last_block = &signal[TEST_WINDOW + WINDOW - BLOCK..][..BLOCK];
    let repeated: Vec<f32> = last_block.repeat(TEST_BLOCKS);
    println!("\nmean squared error        one block  ten blocks");
    for (name, values) in [("network, its own input", &forecast), ("repeat the last block", &repeated)] {
        let (one, ten) = (squared_error(&truth[..BLOCK], &values[..BLOCK]), squared_error(truth, values));
        println!("{name:<24} {one:>10.4} {ten:>11.4}");
    }
    let (one, ten) = (variance(&truth[..BLOCK]), variance(truth));
    println!("{:<24} {one:>10.4} {ten:>11.4}", "variance of the truth");

    let [truth, forecast, repeated] = [truth, &forecast, &repeated]
        .map(|values| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    let plot = ForecastPlot {
        title: "ten blocks, each forecast from those before",
        value: "signal",
        first_row: TEST_WINDOW + WINDOW,
        dates: None,
        truth: &truth,
        forecast: &forecast,
        baseline: ("repeat the last block", &repeated),
        newest: 3 * BLOCK,
    };
    std::fs::create_dir_all(&arguments.out)?;
    let path = arguments.out.join("rotating_machinery.svg");
    std::fs::write(&path, plot.svg()?)?;
    println!("\nplot     {}", path.display());
    Ok(())
}

/// Forecasts ten blocks in closed loop: the first from true samples, the others from earlier forecasts.
fn continued(trainer: &mut Trainer, past: &[f32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut samples = past.to_vec();
    for _ in 0..TEST_BLOCKS {
        let block: Array3<f32> = trainer.network().predict(window(&samples[samples.len() - WINDOW..]))?;
        samples.extend(block);
    }
    Ok(samples.split_off(past.len()))
}

fn variance(values: &[f32]) -> f64 {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    squared_error(values, &vec![mean; values.len()])
}
