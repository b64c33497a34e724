//! Why recurrent networks forget, made visible: how much of a loss's gradient reaches each step on its way back through
//! time (Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013).
//!
//! The loss is that of the last step alone, so every number is about one thing: how the gradient with respect to h fares on
//! its way from there to the first step. At each step back it is multiplied by a Jacobian. Where that matrix makes vectors
//! shorter the gradient vanishes, where it makes them longer it explodes, whatever the task. A plain recurrent network
//! does one or the other, depending on how its weights were drawn. A gate that is open passes on what comes to it: an LSTM
//! whose forget gates start at 1 keeps its gradient far longer than one whose gates start half open.
//!
//! Prints the norms at some steps, for networks as they are drawn and after some training on the adding problem, and
//! writes both as plots.
//!
//! ```text
//! cargo run --release --example vanishing_gradients
//! ```

mod arguments;

use arguments::Arguments;
use clap::Parser;
use gatefold::layers::{Activation, DenseConfig, GruConfig, Init, LayerConfig, LstmConfig, RnnConfig};
use gatefold::training::GradientFlow;
use gatefold::{Device, Network, NetworkConfig, TrainConfig, Trainer};
use gatefold_series::plot::LinesPlot;
use ndarray::{Array3, s};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;
use std::path::Path;

const HIDDEN: usize = 50;
const BATCH: usize = 32;
const LEARNING_RATE: f32 = 1e-3;

/// The networks, with the names that the table and the plots give them.
fn networks() -> [(&'static str, LayerConfig); 6] {
    let rnn = || RnnConfig::new(HIDDEN);
    [
        ("rnn, normal 0.1", rnn().recurrent_init(Init::Normal(0.1)).into()),
        ("rnn, orthogonal", rnn().recurrent_init(Init::Orthogonal).into()),
        ("rnn relu, identity", rnn().activation(Activation::Relu).recurrent_init(Init::Identity).into()),
        ("lstm, forget bias 0", LstmConfig::new(HIDDEN).forget_bias(0.0).into()),
        ("lstm, forget bias 1", LstmConfig::new(HIDDEN).forget_bias(1.0).into()),
        ("gru", GruConfig::new(HIDDEN).into()),
    ]
}

/// Sequences `[steps, rows, 2]` of numbers and of two marks, and the sums `[1, rows, 1]` of the marked numbers.
fn sequences(steps: usize, random: &mut ChaCha8Rng) -> (Array3<f32>, Array3<f32>) {
    let (mut input, mut sums) = (Array3::zeros((steps, BATCH, 2)), Array3::zeros((1, BATCH, 1)));
    for row in 0..BATCH {
        input.slice_mut(s![.., row, 0]).mapv_inplace(|_: f32| random.random::<f32>());
        for half in [0..steps / 2, steps / 2..steps] {
            let marked = random.random_range(half);
            input[[marked, row, 1]] = 1.0;
            sums[[0, row, 0]] += input[[marked, row, 0]];
        }
    }
    (input, sums)
}

/// The gradient's way back, in a network as it is drawn and after so many updates.
fn flows(
    device: &Device,
    layer: LayerConfig,
    steps: usize,
    updates: usize,
    seed: u64,
) -> Result<[GradientFlow; 2], Box<dyn Error>> {
    let config = NetworkConfig::new(2, [layer, LayerConfig::LastStep, DenseConfig::new(1).into()])?;
    let options = TrainConfig::new().learning_rate(LEARNING_RATE).clip_norm(Some(1.0));
    let mut trainer = Trainer::new(Network::new(device, &config, seed)?, options)?;
    let (input, sums) = sequences(steps, &mut ChaCha8Rng::seed_from_u64(seed + 1000));
    let drawn = trainer.gradient_flow(&input, &sums)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..updates {
        let (input, sums) = sequences(steps, &mut random);
        trainer.step(&input, &sums)?;
    }
    Ok([drawn, trainer.gradient_flow(&input, &sums)?])
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let device = arguments.open()?;
    let (steps, updates) = (arguments.choose(150, 40), arguments.choose(500, 40));
    let shown: Vec<usize> = (0..4).map(|quarter| quarter * steps / 4).chain([steps - 1]).collect();
    let mut found = Vec::new();
    for (name, layer) in networks() {
        found.push((name, flows(&device, layer, steps, updates, arguments.seed)?));
    }
    for (at, when) in [(0, "as drawn"), (1, "trained")] {
        println!("\nnorm of the gradient with respect to h before a step, {when}");
        let heads = shown.iter().map(|step| format!("{:>10}", format!("step {step}"))).collect::<String>();
        println!("{:<20}{heads}{:>12}", "", "Jacobian");
        for (name, flows) in &found {
            let layer = &flows[at].layers[0];
            let norms =
                shown.iter().map(|step| format!("{:>10.1e}", layer.hidden[*step])).collect::<String>();
            println!("{name:<20}{norms}{:>12.1e}", layer.jacobian[0]);
        }
    }
    println!("\nshare of gates near an end of their range, before and after training");
    for (name, [drawn, trained]) in &found {
        let share = |flow: &GradientFlow| {
            let gates = &flow.layers[0].gates;
            let ends = gates.iter().flat_map(|gate| gate.low.iter().zip(&gate.high)).map(|(a, b)| a + b);
            ends.sum::<f64>() / (gates.len() * steps) as f64
        };
        println!("{name:<20}{:>9.1} % {:>7.1} %", 100.0 * share(drawn), 100.0 * share(trained));
    }
    println!();
    for (at, title, file) in [
        (0, "Norm of the gradient on its way back, as drawn", "gradients-drawn"),
        (1, "Norm of the gradient on its way back, trained", "gradients-trained"),
    ] {
        let flows: Vec<_> = found.iter().map(|(name, flows)| (*name, &flows[at])).collect();
        write(Path::new("gatefold-out"), file, title, &flows)?;
    }
    arguments.print_seconds();
    Ok(())
}

/// Writes a plot as SVG and PNG.
fn write(out: &Path, file: &str, title: &str, flows: &[(&str, &GradientFlow)]) -> Result<(), Box<dyn Error>> {
    let points: Vec<Vec<(f64, f64)>> = flows
        .iter()
        .map(|(_, flow)| {
            let norms = flow.layers[0].hidden.iter().enumerate();
            norms.map(|(step, norm)| (step as f64, *norm)).filter(|(_, norm)| *norm > 0.0).collect()
        })
        .collect();
    let lines: Vec<(&str, &[(f64, f64)])> =
        flows.iter().zip(&points).map(|((name, _), points)| (*name, points.as_slice())).collect();
    let plot = LinesPlot { title, x: "time step", y: "norm of the gradient", lines: &lines };
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join(file).with_extension("svg"), plot.svg()?)?;
    std::fs::write(out.join(file).with_extension("png"), plot.png()?)?;
    println!("plot     {}", out.join(file).with_extension("svg").display());
    Ok(())
}
