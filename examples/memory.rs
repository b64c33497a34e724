//! How long, and how much, do models of a series remember?
//!
//! The first series is noise, with a pulse of plus or minus one now and then. Some steps after a pulse, the series repeats
//! its sign, so what comes next depends on an input so many steps back, and on nothing else. A convolution, or a dense
//! network on a window, knows nothing that is farther back than it is wide. A plain recurrent network could keep the sign
//! for ever, but its gradient vanishes on the way back (Bengio, Simard and Frasconi 1994). A GRU and an LSTM have gates
//! that let it through (Hochreiter and Schmidhuber 1997); the LSTM's forget gates start nearly open.
//!
//! In the second series, every value comes back after `bits` steps, but for one in twenty that is flipped, so `bits` values
//! are to be kept at a time. A hidden Markov model of N states knows log2 N bits about its past, and not one more. It is
//! fitted by the algorithm of Baum and Welch from a start that remembers as many values as its states can tell apart.
//!
//! Both series are drawn afresh for every batch, so nothing can be learnt by heart. Each score is the share of values that
//! were foretold right; guessing gives a half.
//!
//! ```text
//! cargo run --release --example memory
//! ```

mod arguments;

use arguments::{Arguments, cosine};
use clap::Parser;
use gatefold::layers::{Activation, Conv1dConfig, DenseConfig, LstmConfig};
use gatefold::{Device, Loss, Network, NetworkConfig, Sequences, Targets, TrainConfig, Trainer};
use gatefold_series::plot::LinesPlot;
use ndarray::{Array2, Array3};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use std::error::Error;
use std::path::{Path, PathBuf};

const HIDDEN: usize = 32;
const BATCH: usize = 32;
const LEARNING_RATE: f32 = 0.01;
/// With the usual bias of 1, a forget gate halves what it holds in two steps, and with this one in a hundred.
const FORGET_BIAS: f32 = 5.0;
/// The largest value of the noise between pulses.
const NOISE: f32 = 0.3;
/// The widths of the two models that see a window only.
const NARROW: usize = 12;
const WIDE: usize = 40;
/// The share of values of the second series that are flipped when they come back.
const FLIPPED: f64 = 0.05;
const TEST_ROWS: usize = 400;

/// Input `[T, B, 1]`, the truth `[T, B, 1]` as plus or minus one, and 1 where it counts `[T, B]`.
struct Examples {
    input: Array3<f32>,
    truth: Array3<f32>,
    counts: Array2<f32>,
}

fn sign(random: &mut ChaCha8Rng) -> f32 {
    if random.random::<bool>() { 1.0 } else { -1.0 }
}

/// Rows of noise and pulses; `lag` steps after a pulse, its sign is the truth.
fn pulses(lag: usize, rows: usize, random: &mut ChaCha8Rng) -> Examples {
    let steps = 2 * lag + 20;
    let mut input = Array3::from_shape_simple_fn((steps, rows, 1), || random.random_range(-NOISE..NOISE));
    let (mut truth, mut counts) = (Array3::zeros((steps, rows, 1)), Array2::zeros((steps, rows)));
    for row in 0..rows {
        let mut pulse = random.random_range(0..10);
        while pulse < steps {
            let sign = sign(random);
            input[[pulse, row, 0]] = sign;
            if pulse + lag < steps {
                truth[[pulse + lag, row, 0]] = sign;
                counts[[pulse + lag, row]] = 1.0;
            }
            // The next pulse comes after the truth of this one.
            pulse += lag + random.random_range(1..10);
        }
    }
    Examples { input, truth, counts }
}

/// A series in which each value is the one `bits` steps before, except for one in twenty.
fn returning(bits: usize, steps: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut series: Vec<f32> = Vec::with_capacity(steps);
    for t in 0..steps {
        let flipped = if random.random::<f64>() < FLIPPED { -1.0 } else { 1.0 };
        series.push(if t < bits { sign(random) } else { flipped * series[t - bits] });
    }
    series
}

/// Rows of such series, each value after the values before.
fn series(bits: usize, rows: usize, random: &mut ChaCha8Rng) -> Examples {
    let steps = 60;
    let all: Vec<Vec<f32>> = (0..rows).map(|_| returning(bits, steps + 1, random)).collect();
    Examples {
        input: Array3::from_shape_fn((steps, rows, 1), |(t, row, _)| all[row][t]),
        truth: Array3::from_shape_fn((steps, rows, 1), |(t, row, _)| all[row][t + 1]),
        counts: Array2::from_shape_fn((steps, rows), |(t, _)| if t + 1 < bits { 0.0 } else { 1.0 }),
    }
}

/// The networks, by the names of their rows in the table.
fn networks() -> Result<Vec<(String, NetworkConfig)>, gatefold::ModelError> {
    let begin = || NetworkConfig::with_input(1);
    let relu = Activation::Relu;
    let window = |width| Conv1dConfig::new(HIDDEN, width).causal().activation(relu);
    Ok(vec![
        (format!("convolution, {NARROW}"), begin().layer(window(NARROW)).dense(1).build()?),
        (
            format!("dense, {WIDE}"),
            begin().layer(window(WIDE)).layer(DenseConfig::new(HIDDEN).activation(relu)).dense(1).build()?,
        ),
        ("rnn".into(), begin().rnn(HIDDEN).dense(1).build()?),
        ("gru".into(), begin().gru(HIDDEN).dense(1).build()?),
        ("lstm".into(), begin().layer(LstmConfig::new(HIDDEN).forget_bias(FORGET_BIAS)).dense(1).build()?),
    ])
}

/// Trains a network on examples and returns the share of new ones that it gets right, in per cent.
fn score(
    device: &Device,
    config: &NetworkConfig,
    seed: u64,
    updates: usize,
    draw: impl Fn(usize, &mut ChaCha8Rng) -> Examples,
) -> Result<f64, Box<dyn Error>> {
    let rule = TrainConfig::new().loss(Loss::SquaredError).clip_norm(Some(1.0));
    let mut trainer = Trainer::new(Network::new(device, config, seed)?, rule)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for update in 0..updates {
        let Examples { input, truth, counts } = draw(BATCH, &mut random);
        trainer.set_learning_rate(cosine(LEARNING_RATE, update, updates));
        trainer.step(Sequences::from(input), Targets::values(truth).with_weights(counts)?)?;
    }
    trainer.take_losses()?;
    let Examples { input, truth, counts } = draw(TEST_ROWS, &mut random);
    let found = trainer.network().predict(&input)?;
    let right = found.indexed_iter().map(|((t, row, _), found)| {
        let same = found.is_sign_positive() == truth[[t, row, 0]].is_sign_positive();
        f64::from(counts[[t, row]]) * f64::from(u8::from(same))
    });
    Ok(100.0 * right.sum::<f64>() / f64::from(counts.sum()))
}

/// A hidden Markov model of values plus or minus one.
struct Hmm {
    /// `[from, to]`
    transition: Array2<f64>,
    /// The probability of plus one in each state.
    plus: Vec<f64>,
}

impl Hmm {
    /// `2^bits` states that stand for the last `bits` values, nearly: any other transition is possible too.
    fn new(bits: usize, random: &mut ChaCha8Rng) -> Hmm {
        let states = 1 << bits;
        let mut transition =
            Array2::from_shape_fn((states, states), |_| 0.05 * random.random::<f64>() / states as f64);
        for from in 0..states {
            for newest in 0..2 {
                transition[[from, (2 * from + newest) % states]] += 0.5 + 0.05 * random.random::<f64>();
            }
            let sum: f64 = transition.row(from).sum();
            transition.row_mut(from).mapv_inplace(|p| p / sum);
        }
        Hmm { transition, plus: (0..states).map(|state| if state % 2 == 1 { 0.9 } else { 0.1 }).collect() }
    }

    fn emission(&self, state: usize, value: f32) -> f64 {
        if value > 0.0 { self.plus[state] } else { 1.0 - self.plus[state] }
    }

    /// The probabilities of the states after each value, from equal ones before the first, and the scale of each step
    /// (Rabiner 1989, section V.A).
    fn filtered(&self, series: &[f32]) -> (Array2<f64>, Vec<f64>) {
        let states = self.plus.len();
        let mut filtered = Array2::zeros((series.len(), states));
        let mut scales = Vec::with_capacity(series.len());
        let mut known = ndarray::Array1::from_elem(states, 1.0 / states as f64);
        for (t, value) in series.iter().enumerate() {
            let mut now = if t == 0 { known.clone() } else { known.dot(&self.transition) };
            now.iter_mut().enumerate().for_each(|(state, p)| *p *= self.emission(state, *value));
            let scale = now.sum();
            known = now / scale;
            filtered.row_mut(t).assign(&known);
            scales.push(scale);
        }
        (filtered, scales)
    }

    /// One iteration of Baum and Welch's algorithm.
    fn refit(&mut self, series: &[f32]) {
        let states = self.plus.len();
        let (filtered, scales) = self.filtered(series);
        let mut after = ndarray::Array1::<f64>::ones(states);
        let mut pairs = Array2::zeros((states, states));
        let mut emitted = vec![[0.0; 2]; states];
        for t in (0..series.len()).rev() {
            let place = usize::from(series[t] > 0.0);
            (0..states).for_each(|state| emitted[state][place] += filtered[[t, state]] * after[state]);
            if t == 0 {
                break;
            }
            let seen = ndarray::Array1::from_shape_fn(states, |to| {
                self.emission(to, series[t]) * after[to] / scales[t]
            });
            for from in 0..states {
                let p = filtered[[t - 1, from]];
                if p > 1e-9 {
                    pairs.row_mut(from).scaled_add(p, &(&self.transition.row(from) * &seen));
                }
            }
            after = self.transition.dot(&seen);
        }
        for (from, row) in pairs.rows().into_iter().enumerate() {
            if row.sum() > 0.0 {
                self.transition.row_mut(from).assign(&(&row / row.sum()));
            }
        }
        for (plus, [minus_count, plus_count]) in self.plus.iter_mut().zip(emitted) {
            *plus = ((plus_count + 1e-3) / (minus_count + plus_count + 2e-3)).clamp(1e-6, 1.0 - 1e-6);
        }
    }

    /// The share of values that the one before foretells, in per cent.
    fn score(&self, series: &[f32]) -> f64 {
        let (filtered, _) = self.filtered(series);
        let next = filtered.dot(&self.transition).dot(&ndarray::Array1::from(self.plus.clone()));
        let right = next.iter().zip(&series[1..]).filter(|(plus, value)| (**plus > 0.5) == (**value > 0.0));
        100.0 * right.count() as f64 / (series.len() - 1) as f64
    }
}

/// The score of a model of `2^states_bits` states.
fn hmm_score(states_bits: usize, bits: usize, samples: usize, iterations: usize, seed: u64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (known, new) = (returning(bits, samples, &mut random), returning(bits, samples, &mut random));
    let mut model = Hmm::new(states_bits, &mut random);
    (0..iterations).for_each(|_| model.refit(&known));
    model.score(&new)
}

/// A model's name, and its score for each setting.
type Row = (String, Vec<f64>);

/// Prints the scores and draws them.
fn report(names: [&str; 3], settings: &[usize], rows: &[Row], out: &Path) -> Result<(), Box<dyn Error>> {
    let [file, title, x] = names;
    println!("\n{title}: % right, by {x}\n");
    println!("{:<16}{}", "", settings.iter().map(|setting| format!("{setting:>7}")).collect::<String>());
    for (name, scores) in rows {
        println!("{name:<16}{}", scores.iter().map(|score| format!("{score:>7.1}")).collect::<String>());
    }
    let points = |scores: &[f64]| settings.iter().map(|at| *at as f64).zip(scores.iter().copied()).collect();
    let points: Vec<Vec<(f64, f64)>> = rows.iter().map(|(_, scores)| points(scores)).collect();
    let lines: Vec<(&str, &[(f64, f64)])> =
        rows.iter().zip(&points).map(|((name, _), points)| (name.as_str(), points.as_slice())).collect();
    let plot = LinesPlot { title, x, y: "% right", lines: &lines };
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join(file).with_extension("svg"), plot.svg()?)?;
    std::fs::write(out.join(file).with_extension("png"), plot.png()?)?;
    Ok(())
}

/// The scores of every network, with a column for each setting.
fn network_rows(
    device: &Device,
    seed: u64,
    updates: usize,
    settings: &[usize],
    draw: fn(usize, usize, &mut ChaCha8Rng) -> Examples,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = Vec::new();
    for (name, config) in networks()? {
        let of = |setting: &usize| {
            score(device, &config, seed, updates, |rows, random| draw(*setting, rows, random))
        };
        rows.push((name, settings.iter().map(of).collect::<Result<_, _>>()?));
    }
    Ok(rows)
}

/// How long, and how much, do models of a series remember?
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    arguments: Arguments,
    /// Folder for the plots
    #[arg(long, default_value = "gatefold-out")]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { arguments, out } = Options::parse();
    let device = arguments.open()?;
    let seed = arguments.seed;

    let lags: &[usize] = if arguments.quick { &[5, 20] } else { &[5, 20, 100] };
    let mut rows = network_rows(&device, seed, arguments.choose(2500, 200), lags, pulses)?;
    rows.push(("guess".into(), vec![50.0; lags.len()]));
    report(["memory-long", "A pulse that comes back", "steps between"], lags, &rows, &out)?;

    let bits: &[usize] = if arguments.quick { &[2, 4] } else { &[2, 4, 6, 8, 12] };
    let mut rows = network_rows(&device, seed, arguments.choose(600, 100), bits, series)?;
    for known in [2, 4, 6] {
        let (samples, iterations) = (arguments.choose(4000, 1000), arguments.choose(20, 5));
        let of = |bits: &usize| hmm_score(known, *bits, samples, iterations, seed);
        rows.push((format!("hmm, {} states", 1 << known), bits.iter().map(of).collect()));
    }
    rows.push(("guess".into(), vec![50.0; bits.len()]));
    report(["memory-much", "Values that come back", "values at a time"], bits, &rows, &out)?;
    println!("\nplots    {}", out.join("memory-long.svg").display());
    println!("         {}", out.join("memory-much.svg").display());
    arguments.print_seconds();
    Ok(())
}
