//! `gatefold bench`: times a network, after checking its results.

mod floor;
mod growth;
mod rates;
mod timing;

use crate::ComputeArguments;
use crate::cell;
use crate::describe::Mode;
use crate::failure::Failure;
use crate::page::{entry, line};
use floor::{Floor, Work};
use gatefold::{Device, Error, Network, TrainConfig, Trainer, schedule};
use gatefold_check::{Checks, Workload};
use rates::Rates;
use serde_json::json;
use std::str::FromStr;
use timing::{Timing, time};

/// Times recurrent layers followed by a dense layer that gives one value per step.
///
/// Before timing anything, compares the results with the reference in f64 at the very shape that is timed: all
/// outputs, and for training the loss, every gradient and the updated parameters. A wrong result ends the command
/// with exit code 1. Then come two runs to warm up and at least seven that count, more if they are short.
/// At long and wide shapes the reference takes minutes; there `--unchecked` times a network that was checked with
/// fewer steps.
///
/// A run of inference uploads the input and reads back the output. A run of training uploads a batch, computes
/// forward, squared error, backward and Adam, and waits for the device until the loss has been read back: nothing is
/// still running when the clock stops.
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Batch, time steps, inputs and hidden units, such as 64,128,256,256 [default: five shapes, small to large]
    #[arg(long, value_name = "B,T,I,H")]
    shape: Option<Shape>,
    #[command(flatten)]
    recurrent: cell::Choice,
    /// Recurrent layers
    #[arg(long, value_name = "L", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    layers: u16,
    /// Use sequences whose lengths fall evenly from T to about T / B, the longest first, instead of T steps each
    #[arg(long)]
    lengths: bool,
    /// Skip the comparison
    #[arg(long)]
    unchecked: bool,
    /// Measure how fast the device computes, copies and starts kernels, and show which share of the least time that
    /// leaves each run has
    #[arg(long, conflicts_with = "lengths")]
    roofline: bool,
    /// Double T, H, B and the layers one at a time, twice, and show how time and least time grow [default shape:
    /// 32,50,16,64]
    #[arg(long, conflicts_with_all = ["lengths", "roofline"])]
    growth: bool,
    /// The passes to time [default: both]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

const NOTES: &str = "Columns: median in milliseconds; spread, half the distance between the quartiles as a share of the \
median; dispatches (kernels started) per run, - on the CPU and with --lengths; FLOP of the products divided by the \
median. A scan of G gates takes 2 G B T H (I + H) FLOP forward and twice as many backward, without the input gradient \
of the first layer, which training does not need.

With --roofline: floor, the least time in milliseconds, and its share of the median. The floor is the larger of FLOP / \
arithmetic rate and bytes / copy rate, plus dispatches x cost of a dispatch. The three rates are measured on the device \
first: independent fused multiply-adds in registers, a copy of a buffer larger than the caches, and tiny dispatches that \
wait for one another. Bytes count every tensor once for each pass over it; docs/benchmarks.md has the formulas. A share \
may exceed 100 % where tensors stay in caches, or where dispatches overlap.

With --growth: the shortest run, its multiple of the first row's, and that of its floor. All shapes take turns, in nine \
rounds. ! marks a time that grows faster than its floor, by more than 5 % in each third of the rounds.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    pub(crate) input: usize,
    pub(crate) hidden: usize,
}

impl Shape {
    /// In order: one window of the worked example; a small network; a medium one; a large one; a long and wide one.
    pub(crate) const ALL: [Shape; 5] = [
        Shape { batch: 1, steps: 25, input: 100, hidden: 100 },
        Shape { batch: 32, steps: 50, input: 16, hidden: 64 },
        Shape { batch: 64, steps: 100, input: 64, hidden: 128 },
        Shape { batch: 64, steps: 128, input: 256, hidden: 256 },
        Shape { batch: 32, steps: 256, input: 128, hidden: 512 },
    ];

    fn numbers(self) -> [usize; 4] {
        [self.batch, self.steps, self.input, self.hidden]
    }
}

/// `B,T,I,H`
impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refusal =
            || format!("expected four numbers from 1 to {}: B,T,I,H, such as 64,128,256,256", 1 << 16);
        let number = |part: &str| part.trim().parse().ok().filter(|number| (1..=1 << 16).contains(number));
        let numbers: Option<Vec<usize>> = text.split(',').map(number).collect();
        match numbers.as_deref() {
            Some(&[batch, steps, input, hidden]) => Ok(Shape { batch, steps, input, hidden }),
            _ => Err(refusal()),
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [batch, steps, input, hidden] = self.numbers();
        write!(f, "{batch},{steps},{input},{hidden}")
    }
}

impl Arguments {
    fn workload(&self, shape: Shape, layers: usize) -> Result<Workload, Failure> {
        let Shape { batch, steps, input, hidden } = shape;
        let stack = vec![self.recurrent.layer(hidden); layers];
        let workload = Workload::new((batch, steps, input), stack)?;
        Ok(if self.lengths { workload.with_falling_lengths() } else { workload })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.compute.open(false)?;
    let modes = arguments.mode.map_or(vec![Mode::Infer, Mode::Train], |mode| vec![mode]);
    let measured = arguments.roofline || arguments.growth;
    let rates = measured.then(|| Rates::measure(&device)).transpose()?;
    if !arguments.json {
        line(entry("device", 9, &device.summary()));
        if let Some(rates) = &rates {
            line(entry("rates", 9, &rates.summary()));
        }
        line("");
    }
    if let (true, Some(rates)) = (arguments.growth, &rates) {
        let base = arguments.shape.unwrap_or(Shape::ALL[1]);
        return growth::run(arguments, &device, rates, base, &modes);
    }
    table(arguments, &device, rates.as_ref(), &modes)
}

/// A line for each shape and mode.
fn table(
    arguments: &Arguments,
    device: &Device,
    rates: Option<&Rates>,
    modes: &[Mode],
) -> Result<(), Failure> {
    if !arguments.json {
        let floor = if rates.is_some() { format!("{:>10}{:>8}", "floor", "share") } else { String::new() };
        line(format!(
            "{:<17}{:<6}{:>11}{:>8}{:>8}{:>10}{floor}",
            "B,T,I,H", "mode", "median ms", "spread", "disp.", "GFLOP/s"
        ));
    }
    for shape in arguments.shape.map_or(Shape::ALL.to_vec(), |shape| vec![shape]) {
        let workload = arguments.workload(shape, arguments.layers.into())?;
        for &mode in modes {
            let found = measure(device, &workload, shape, mode, !arguments.unchecked)?;
            line(if arguments.json {
                found.json(device, &workload, shape, mode, rates)
            } else {
                found.row(shape, mode, rates)
            });
        }
    }
    Ok(())
}

/// A network ready to be timed, its results checked.
struct Prepared<'a> {
    /// One run, finished when it returns.
    run: Box<dyn FnMut() -> Result<(), Failure> + 'a>,
    /// `None` on the CPU, which starts no kernels, and where rows have lengths.
    dispatches: Option<usize>,
    work: Work,
    /// The worst error of the check, as a share of its tolerance; `None` with `--unchecked`.
    worst: Option<f64>,
}

fn prepare<'a>(
    device: &Device,
    workload: &'a Workload,
    shape: Shape,
    mode: Mode,
    checked: bool,
) -> Result<Prepared<'a>, Failure> {
    let mut network = Network::with_parameters(device, &workload.config, &workload.parameters)?;
    let dispatches = match workload.lengths {
        None => dispatches(device, &network, shape, mode)?,
        Some(_) => None,
    };
    let work = Work::of(workload, mode, dispatches.unwrap_or(0));
    let (worst, run): (_, Box<dyn FnMut() -> Result<(), Failure> + 'a>) = match mode {
        Mode::Infer => {
            let check = |network: &mut Network| accept(shape, mode, workload.check_inference(network)?);
            let worst = checked.then(|| check(&mut network)).transpose()?;
            let predict = workload.inference()?;
            (worst, Box::new(move || Ok(predict(&mut network).map(drop)?)))
        }
        Mode::Train => {
            let mut trainer = Trainer::new(network, training())?;
            let check = |trainer: &mut Trainer| accept(shape, mode, workload.check_training(trainer)?);
            let worst = checked.then(|| check(&mut trainer)).transpose()?;
            let accumulate = workload.training()?;
            let step = move || {
                accumulate(&mut trainer)?;
                trainer.update()?;
                Ok(trainer.take_losses().map(drop)?) // waits for the device
            };
            (worst, Box::new(step))
        }
    };
    Ok(Prepared { run, dispatches, work, worst })
}

/// A timing and the figures shown with it.
struct Measured {
    timing: Timing,
    dispatches: Option<usize>,
    work: Work,
    worst: Option<f64>,
}

fn measure(
    device: &Device,
    workload: &Workload,
    shape: Shape,
    mode: Mode,
    checked: bool,
) -> Result<Measured, Failure> {
    let Prepared { run, dispatches, work, worst } = prepare(device, workload, shape, mode, checked)?;
    Ok(Measured { timing: time(run)?, dispatches, work, worst })
}

/// Adam at its defaults, squared error, no clipping: the settings other programs are timed with.
fn training() -> TrainConfig {
    TrainConfig::new()
}

/// The worst error as a share of its tolerance; or, if it is too large, which tensor is wrong and by how much.
fn accept(shape: Shape, mode: Mode, checks: Checks) -> Result<f64, Failure> {
    let worst = checks.worst();
    match worst {
        Some(worst) if checks.passed() => Ok(worst.comparison.share),
        _ => {
            let what = worst.map_or("nothing was compared".into(), |worst| {
                format!("{}: {}", worst.what, worst.comparison)
            });
            let mode = if mode == Mode::Train { "training" } else { "inference" };
            Err(Failure::failed(format!(
                "{mode} at {shape} gives a wrong result and is not timed: {what}; see gatefold selfcheck"
            )))
        }
    }
}

/// The kernels that a run starts. Inference finds its weights packed already: they have not changed since the run
/// before.
fn dispatches(
    device: &Device,
    network: &Network,
    shape: Shape,
    mode: Mode,
) -> Result<Option<usize>, Failure> {
    Ok(match (device, mode) {
        (Device::Gpu(gpu), Mode::Train) => {
            let batch = schedule::Shape::plain(network.config(), shape.steps, shape.batch);
            let plan = schedule::schedule(network.config(), gpu.target(), batch, Some(&training()));
            Some(plan.map_err(Error::from)?.dispatches())
        }
        (_, Mode::Infer) => network.inference_dispatches(shape.steps, shape.batch)?,
        _ => None,
    })
}

impl Measured {
    fn gflops(&self) -> f64 {
        self.work.flop as f64 / (self.timing.median_ms * 1e6)
    }

    fn row(&self, shape: Shape, mode: Mode, rates: Option<&Rates>) -> String {
        let dispatches = self.dispatches.map_or("-".into(), |count| count.to_string());
        let floor = rates.map_or(String::new(), |rates| {
            let floor = Floor::of(self.work, rates).ms();
            let share = format!("{:.0} %", 100.0 * floor / self.timing.median_ms);
            format!("{:>10}{share:>8}", digits(floor))
        });
        format!(
            "{:<17}{:<6}{:>11}{:>8}{dispatches:>8}{:>10}{floor}",
            shape.to_string(),
            name(mode),
            digits(self.timing.median_ms),
            format!("{:.0} %", 100.0 * self.timing.spread()),
            digits(self.gflops())
        )
    }

    fn json(
        &self,
        device: &Device,
        workload: &Workload,
        shape: Shape,
        mode: Mode,
        rates: Option<&Rates>,
    ) -> String {
        let mut object = json!({
            "device": device.summary(),
            "mode": name(mode),
            "shape": shape.numbers(),
            "network": workload.config.to_string(),
            "row_steps": workload.row_steps(),
            "median_ms": self.timing.median_ms,
            "quartiles_ms": [self.timing.first_quartile_ms, self.timing.third_quartile_ms],
            "min_ms": self.timing.min_ms,
            "max_ms": self.timing.max_ms,
            "runs": self.timing.runs,
            "dispatches": self.dispatches.unwrap_or(0),
            "gflops": self.gflops(),
            "worst_error": self.worst,
        });
        if let Some(rates) = rates {
            object["rates"] = rates.json();
            object["floor"] = Floor::of(self.work, rates).json(self.timing.median_ms);
        }
        object.to_string()
    }
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Infer => "infer",
        Mode::Train => "train",
    }
}

/// Three significant digits, at most three decimals, and every digit before the point.
fn digits(value: f64) -> String {
    let decimals = if value > 0.0 { (2.0 - value.log10().floor()).clamp(0.0, 3.0) as usize } else { 0 };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold::layers::LstmConfig;

    fn workload(Shape { batch, steps, input, hidden }: Shape, layers: usize) -> Workload {
        let stack = vec![LstmConfig::new(hidden).into(); layers];
        Workload::new((batch, steps, input), stack).expect("a valid network")
    }

    #[test]
    fn shapes_are_four_numbers() {
        assert_eq!("64, 128,256,512".parse(), Ok(Shape { batch: 64, steps: 128, input: 256, hidden: 512 }));
        for text in ["", "1,2,3", "1,2,3,4,5", "1,2,3,0", "1,2,x,4", "1,2,3,65537", "-1,2,3,4"] {
            let error = text.parse::<Shape>().expect_err(text);
            assert!(error.starts_with("expected four numbers"), "{error}");
        }
    }

    #[test]
    fn a_wrong_result_is_refused() {
        let shape = Shape { batch: 4, steps: 3, input: 2, hidden: 5 };
        let workload = workload(shape, 1);
        let mut network =
            Network::with_parameters(&Device::cpu().unwrap(), &workload.config, &workload.parameters)
                .unwrap();
        let right = workload.check_inference(&mut network).unwrap();
        assert!(accept(shape, Mode::Infer, right).is_ok_and(|worst| worst <= 1.0));
        let mut parameters = workload.parameters.clone();
        parameters.get_mut("dense0.bias").unwrap()[[0]] += 0.01;
        network.set_parameters(&parameters).unwrap();
        let wrong = workload.check_inference(&mut network).unwrap();
        let error = accept(shape, Mode::Infer, wrong).unwrap_err().to_string();
        let expected = "inference at 4,3,2,5 gives a wrong result and is not timed: output: ";
        assert!(error.contains(expected) && error.contains("12 of 12 elements"), "{error}");
        assert!(accept(shape, Mode::Train, Checks::default()).is_err(), "nothing was compared");
    }

    #[test]
    fn numbers_keep_three_digits() {
        for (value, text) in
            [(0.01234, "0.012"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1234"), (0.0, "0")]
        {
            assert_eq!(digits(value), text);
        }
    }
}
