//! A cell of your own: JANET, "just another network" (van der Westhuizen and Lasenby, "The unreasonable effectiveness of the
//! forget gate", 2018). Of an LSTM it keeps the forget gate alone:
//!
//! ```text
//! s = W_f x + U_f h(t-1) + b_f    n = tanh(W_n x + U_n h(t-1) + b_n)    h = sigmoid(s) h(t-1) + (1 - sigmoid(s - 1)) n
//! ```
//!
//! One unit of one step is written twice, in Rust and in WGSL, forward and backward. The proofs of the engine's own cells
//! run on it, on the CPU device and on a GPU in every scan, and then a layer of it learns to forecast sunspots on each.
//!
//! ```text
//! cargo run --release --example own_cell
//! ```

mod arguments;

use arguments::{Arguments, data, print_network};
use clap::Parser;
use gatefold::custom::{self, CellDefinition, CustomGate, Real, UnitGradient, UnitStep, sigmoid};
use gatefold::training::Schedule;
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_check::prove_cell;
use gatefold_series::{Baseline, Fill, Scaler, Split, Table, TableOptions, WindowConfig, Windows};
use ndarray::Array3;
use std::error::Error;

/// Months of a forecast.
const YEAR: usize = 12;

struct Janet;

impl CellDefinition for Janet {
    const NAME: &'static str = "janet";
    const GATES: &'static [CustomGate] = &[CustomGate::summed("forget").bias(1.0), CustomGate::summed("new")];
    const WGSL: &'static str = "
        fn custom_forward(pre: vec4<f32>, prev: f32) -> CustomStep {
            let f = sigmoid(pre[0]);
            let g = sigmoid(pre[0] - 1.0);
            let n = bounded_tanh(pre[1]);
            return CustomStep(vec4(f, g, n, 0.0), f * prev + (1.0 - g) * n, 0.0);
        }

        fn custom_backward(saved: vec4<f32>, prev: f32, state: f32, d_h: f32, d_state: f32) -> CustomGradient {
            let f = saved[0];
            let g = saved[1];
            let n = saved[2];
            let d_s = d_h * (prev * f * (1.0 - f) - n * g * (1.0 - g));
            let d_n = d_h * (1.0 - g) * (1.0 - n * n);
            return CustomGradient(vec4(d_s, d_n, 0.0, 0.0), d_h * f);
        }
    ";

    fn forward<R: Real>(pre: [R; 4], prev: R) -> UnitStep<R> {
        let (f, g, n) = (sigmoid(pre[0]), sigmoid(pre[0] - R::ONE), pre[1].tanh());
        UnitStep { saved: [f, g, n, R::ZERO], h: f * prev + (R::ONE - g) * n, state: R::ZERO }
    }

    fn backward<R: Real>(saved: [R; 4], prev: R, _state: R, d_h: R, _d_state: R) -> UnitGradient<R> {
        let [f, g, n, _] = saved;
        let d_s = d_h * (prev * f * (R::ONE - f) - n * g * (R::ONE - g));
        let d_n = d_h * (R::ONE - g) * (R::ONE - n * n);
        UnitGradient { pre: [d_s, d_n, R::ZERO, R::ZERO], prev: d_h * f }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let janet = custom::register::<Janet>()?;
    let devices = arguments.every_device()?;
    for device in &devices {
        let report = prove_cell(janet, device);
        println!("{report}\n");
        if !report.passed() {
            return Err(report.failures().join("\n").into());
        }
    }

    let table = Table::read(data("sunspots_monthly.csv"), &TableOptions::new())?;
    let series = table.numbers("sunspots", Fill::Refuse)?;
    let split = Split::new(series.len(), 0.2, 0.15)?;
    let scaler = Scaler::standard(&series[split.train()])?;
    let scaled = scaler.scale(&series);
    let months = |part| Windows::new(&scaled, WindowConfig::new(60, 1, YEAR), part);
    let (training, test) = (months(split.train())?, months(split.test())?);
    let test = test.batch(&Vec::from_iter(0..test.len()));
    let sunspots = |scaled: &Array3<f32>| Vec::from_iter(scaled.iter().map(|&value| scaler.unscale(value)));
    let truth = sunspots(&test.target);
    let error = |forecast: &[f64]| {
        let squares = truth.iter().zip(forecast).map(|(truth, forecast)| (truth - forecast).powi(2));
        (squares.sum::<f64>() / truth.len() as f64).sqrt()
    };

    let config = NetworkConfig::with_input(1).custom(janet, 32).last_step().dense(YEAR).build()?;
    print_network(&config);
    let train = |device: &Device| -> Result<f64, Box<dyn Error>> {
        let epochs = arguments.choose(20, 4);
        let updates = (epochs * training.len().div_ceil(32)) as u64;
        let options = TrainConfig::new().learning_rate(3e-3).schedule(Schedule::cosine(updates));
        let options = options.clip_norm(Some(1.0));
        let mut trainer = Trainer::new(Network::new(device, &config, arguments.seed)?, options)?;
        for epoch in 0..epochs {
            for rows in training.order(arguments.seed, epoch as u64).chunks(32) {
                let batch = training.batch(rows);
                trainer.step(&batch.input, &batch.target)?;
            }
        }
        Ok(error(&sunspots(&trainer.network().predict(&test.input)?)))
    };
    println!("\nroot of the mean squared error of a year's forecasts");
    let repeated = Baseline::RepeatLast.forecasts(&series, split.origins(YEAR), YEAR)?;
    println!("repeat last             {:>6.2}", error(&Vec::from_iter(repeated)));
    for (name, device) in ["janet, CPU", "janet, GPU", "the same in workgroups"].into_iter().zip(&devices) {
        println!("{name:<24}{:>6.2}", train(device)?);
    }
    arguments.print_seconds();
    Ok(())
}
