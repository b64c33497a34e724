//! Long memory without gates: a tanh RNN trained by Hessian-free optimisation (Martens and Sutskever 2011) on tasks of
//! Hochreiter and Schmidhuber (1997), beside Adam, SGD with momentum, and the careful initialisation with Nesterov's momentum
//! of Sutskever et al. (2013).
//!
//! In the adding problem two of T numbers are marked, and the answer is their sum; an answer is right if it is off by less
//! than 0.04. In the temporal order problem an X or a Y comes early and another later, among other symbols, and the answer
//! says which came in which order. Every method has the same processor time, on one thread. The program prints the share of
//! right answers to other sequences; the paper counts a run with less than 1 % of wrong ones as a success.
//!
//! ```text
//! cargo run --release --example hessian_free -- --seeds 5
//! ```

mod arguments;

use arguments::{Arguments, largest};
use clap::Parser;
use gatefold::training::{HessianFree, HessianFreeConfig, Loss, Optimizer};
use gatefold::{Device, Network, NetworkConfig, Parameters, Sequences, Targets, TrainConfig, Trainer};
use ndarray::{Array2, Array3, ArrayD, Axis};
use rand::RngExt;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const HIDDEN: usize = 50;
/// Connections of a unit in the sparse initialisation, and the spectral radius of all.
const CONNECTIONS: usize = 15;
const RADIUS: f64 = 1.1;
/// The share of right answers above which a run succeeds.
const SUCCESS: f64 = 0.99;
const TEST_SEQUENCES: usize = 500;
const TEST_SEED: u64 = u64::MAX;

/// Long tasks for a tanh RNN; see the comment at the top of its source
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Arguments,
    /// Number of runs of each method, with seeds one after another from --seed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
}

#[derive(Clone, Copy)]
enum Task {
    Adding(usize),
    TemporalOrder(usize),
}

/// Sequences with their targets.
struct Batch {
    input: Sequences<'static>,
    targets: Targets<'static>,
    answers: Vec<f32>,
}

impl Task {
    fn network(self) -> Result<NetworkConfig, gatefold::Error> {
        let (inputs, outputs) = match self {
            Task::Adding(_) => (2, 1),
            Task::TemporalOrder(_) => (6, 4),
        };
        Ok(NetworkConfig::with_input(inputs).rnn(HIDDEN).last_step().dense(outputs).build()?)
    }

    fn loss(self) -> Loss {
        match self {
            Task::Adding(_) => Loss::SquaredError,
            Task::TemporalOrder(_) => Loss::CrossEntropy,
        }
    }

    fn name(self) -> String {
        match self {
            Task::Adding(steps) => format!("adding, T = {steps}"),
            Task::TemporalOrder(steps) => format!("temporal order, T = {steps}"),
        }
    }

    fn batch(self, rows: usize, random: &mut ChaCha8Rng) -> Batch {
        match self {
            Task::Adding(steps) => {
                let mut input = Array3::zeros((steps, rows, 2));
                let mut sums = vec![0.0; rows];
                for (row, sum) in sums.iter_mut().enumerate() {
                    for step in 0..steps {
                        input[[step, row, 0]] = random.random_range(0.0..1.0);
                    }
                    for half in [0..steps / 2, steps / 2..steps] {
                        let marked = random.random_range(half);
                        input[[marked, row, 1]] = 1.0;
                        *sum += input[[marked, row, 0]];
                    }
                }
                let target = Array3::from_shape_fn((1, rows, 1), |(_, row, _)| sums[row]);
                Batch { input: input.into(), targets: target.into(), answers: sums }
            }
            Task::TemporalOrder(steps) => {
                let mut input = Array3::zeros((steps, rows, 6));
                let mut classes = Array2::zeros((1, rows));
                for row in 0..rows {
                    let places = [steps / 10..steps / 5, steps / 2..steps * 3 / 5];
                    let places = places.map(|part| random.random_range(part));
                    for step in 0..steps {
                        let symbol = match places.iter().position(|&place| place == step) {
                            Some(order) => {
                                let symbol = random.random_range(0..2usize);
                                classes[[0, row]] += (symbol << order) as i64;
                                symbol
                            }
                            None => random.random_range(2..6),
                        };
                        input[[step, row, symbol]] = 1.0;
                    }
                }
                let answers = classes.iter().map(|&class| class as f32).collect();
                Batch { input: input.into(), targets: (&classes).into(), answers }
            }
        }
    }

    /// The share of right answers.
    fn score(self, network: &Network) -> Result<f64, gatefold::Error> {
        let test = self.batch(TEST_SEQUENCES, &mut ChaCha8Rng::seed_from_u64(TEST_SEED));
        let found = network.predict(&test.input)?;
        let found = found.index_axis(Axis(0), 0);
        let right = found.outer_iter().zip(&test.answers).filter(|(found, answer)| match self {
            Task::Adding(_) => (found[0] - **answer).abs() < 0.04,
            Task::TemporalOrder(_) => largest(found.view()) == **answer as usize,
        });
        Ok(right.count() as f64 / TEST_SEQUENCES as f64)
    }
}

/// The processor time of this thread so far where the system counts it, else the time since the first call.
fn processor_time() -> Duration {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = counted.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| FIRST.elapsed(), Duration::from_nanos)
}

/// A normal number (Box and Muller 1958).
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - random.random_range(0.0..1.0), random.random_range(0.0..1.0));
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

/// The growth of a vector multiplied by a matrix again and again: the modulus of its largest eigenvalue.
fn spectral_radius(w: &Array2<f64>, random: &mut ChaCha8Rng) -> f64 {
    let mut x = ndarray::Array1::from_shape_fn(w.nrows(), |_| normal(random));
    let (rounds, mut growth) = (400, 0.0);
    for round in 0..rounds {
        x = w.dot(&x);
        let norm = x.dot(&x).sqrt();
        x /= norm;
        if round >= rounds / 2 {
            growth += norm.ln();
        }
    }
    (growth / (rounds / 2) as f64).exp()
}

/// The sparse initialisation of Sutskever et al. (2013): few connections, of a chosen spectral radius.
fn sparse(config: &NetworkConfig, seed: u64) -> Result<Parameters, gatefold::Error> {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut parameters = Parameters::initial(config, seed)?;
    let recurrent = config.parameter_specs().find(|spec| spec.name.contains("weight_hh"));
    let name = &recurrent.expect("the network has an RNN").name;
    let mut w = Array2::<f64>::zeros((HIDDEN, HIDDEN));
    for mut row in w.rows_mut() {
        for unit in sample(random, HIDDEN, CONNECTIONS) {
            row[unit] = normal(random);
        }
    }
    w *= RADIUS / spectral_radius(&w, random);
    parameters.insert(name.clone(), w.mapv(|w| w as f32).into_dyn());
    for spec in config.parameter_specs().filter(|spec| spec.shape.len() == 1) {
        parameters.insert(spec.name.clone(), ArrayD::zeros(spec.shape.clone()));
    }
    Ok(parameters)
}

/// Trains by Hessian-free optimisation until the time is up; returns the number of updates.
fn hessian_free(
    device: &Device,
    task: Task,
    seed: u64,
    time: Duration,
) -> Result<(Network, usize), Box<dyn Error>> {
    let (end, config) = (processor_time() + time, task.network()?);
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let options = HessianFreeConfig::new().loss(task.loss()).damping(0.1).structural_damping(0.01).seed(seed);
    let network = Network::with_parameters(device, &config, &sparse(&config, seed)?)?;
    let mut training = HessianFree::new(network, options)?;
    let mut updates = 0;
    while processor_time() < end {
        let (gradient, curvature) = (task.batch(1000, random), task.batch(100, random));
        training.update((&gradient.input, &gradient.targets), (&curvature.input, &curvature.targets))?;
        updates += 1;
    }
    Ok((Network::with_parameters(device, &config, &training.network().parameters()?)?, updates))
}

/// Trains with a first-order optimiser, likewise.
fn first_order(
    device: &Device,
    task: Task,
    (parameters, training): (Parameters, TrainConfig),
    seed: u64,
    time: Duration,
) -> Result<(Network, usize), Box<dyn Error>> {
    let (end, config) = (processor_time() + time, task.network()?);
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let network = Network::with_parameters(device, &config, &parameters)?;
    let mut trainer = Trainer::new(network, training.loss(task.loss()).clip_norm(Some(1.0)))?;
    let mut updates = 0;
    while processor_time() < end {
        let batch = task.batch(20, random);
        trainer.step(&batch.input, &batch.targets)?;
        updates += 1;
    }
    trainer.take_losses()?;
    Ok((Network::with_parameters(device, &config, &trainer.network().parameters()?)?, updates))
}

/// A method's name, and its training from a seed.
type Method<'a> = (&'static str, Box<dyn Fn(u64) -> Result<(Network, usize), Box<dyn Error>> + 'a>);

fn methods(device: &Device, task: Task, time: Duration) -> Result<[Method<'_>; 4], Box<dyn Error>> {
    let config = task.network()?;
    let sgd = |momentum, nesterov| Optimizer::Sgd { momentum, nesterov, weight_decay: 0.0 };
    let rate = |optimizer, rate| TrainConfig::new().optimizer(optimizer).learning_rate(rate);
    let first = |training: TrainConfig,
                 initial: fn(&NetworkConfig, u64) -> Result<Parameters, gatefold::Error>| {
        let config = config.clone();
        Box::new(move |seed| {
            first_order(device, task, (initial(&config, seed)?, training.clone()), seed, time)
        })
    };
    let plain = |config: &NetworkConfig, seed| Ok(Parameters::initial(config, seed)?);
    Ok([
        ("hessian-free", Box::new(move |seed| hessian_free(device, task, seed, time))),
        ("adam", first(TrainConfig::new().learning_rate(0.001), plain)),
        ("sgd, momentum", first(rate(sgd(0.9, false), 0.01), plain)),
        ("sparse, nesterov", first(rate(sgd(0.98, true), 0.003), sparse)),
    ])
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { common: arguments, seeds } = Options::parse();
    let device = Device::cpu_with_threads(1)?;
    let seconds = arguments.choose(300, 3);
    let tasks = match arguments.quick {
        true => vec![Task::Adding(10)],
        false => vec![Task::Adding(100), Task::Adding(200), Task::TemporalOrder(100)],
    };
    let time = Duration::from_secs(seconds as u64);
    println!("task     tanh RNN of {HIDDEN} units, {seconds} seconds of one processor for each run");
    for task in tasks {
        println!("\n{}", task.name());
        let methods = methods(&device, task, time)?;
        let mut successes = [0; 4];
        for seed in (0..seeds).map(|of| arguments.seed.wrapping_add(of)) {
            for ((name, train), successes) in methods.iter().zip(&mut successes) {
                let (network, updates) = train(seed)?;
                let right = task.score(&network)?;
                *successes += u64::from(right > SUCCESS);
                println!("{name:<17} {:>6.1} % right, {updates} updates, seed {seed}", 100.0 * right);
            }
        }
        for ((name, _), successes) in methods.iter().zip(successes) {
            println!("{name:<17} {successes} of {seeds} runs succeed");
        }
    }
    arguments.print_seconds();
    Ok(())
}
