//! `gatefold describe`: what a network is and what it costs, computing nothing.

pub(crate) mod flop;

use crate::DeviceArgument;
use crate::failure::Failure;
use crate::forecaster::Forecaster;
use crate::page::{entry, grouped, line};
use clap::ValueEnum;
use gatefold::{
    Activation, DenseConfig, Device, Error, LayerConfig, LayerKind, LstmConfig, MemoryNeed, NetworkConfig,
    Plan, Target, TrainConfig, memory_need, plan, wgpu,
};
use gatefold_model::file::Model;
use gatefold_model::{Layer, LstmGate};
use std::path::PathBuf;

/// Describes a network that is in a file, or one that the options say.
///
/// Layers with their shapes folded (all time steps at once) and unrolled (one step), parameters per matrix, FLOP of the
/// products, and what training (with Adam) and inference take on a device: memory, dispatches, and with --plan the
/// schedule itself. Exit code 1 when a tensor is too large for the device.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// model.safetensors or checkpoint.safetensors; without it, the options below say what the network is
    #[arg(conflicts_with_all = ["input", "hidden", "layers", "dense", "output", "every_step"])]
    model: Option<PathBuf>,
    /// Values of a time step that go in
    #[arg(long, value_name = "N", default_value = "1", value_parser = width())]
    input: usize,
    /// Units in each LSTM layer
    #[arg(long, value_name = "N", default_value = "32", value_parser = width())]
    hidden: usize,
    /// LSTM layers
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=1024))]
    layers: u16,
    /// Widths of dense layers with relu in front of the output, such as 100 or 64,32
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = width())]
    dense: Vec<usize>,
    /// Values that come out of the dense layer at the end
    #[arg(long, value_name = "N", default_value = "1", value_parser = width())]
    output: usize,
    /// An output for every time step, and not for the last alone
    #[arg(long)]
    every_step: bool,
    /// Time steps of a sequence [default: those that a forecaster was trained on, else 24]
    #[arg(long, value_name = "T", value_parser = count())]
    steps: Option<usize>,
    /// Sequences in a batch
    #[arg(long, value_name = "B", default_value = "32", value_parser = count())]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgument,
    /// Print the schedule too, a step a line: that of a training step or of inference
    #[arg(long, value_name = "OF", num_args = 0..=1, require_equals = true, default_missing_value = "train")]
    plan: Option<Mode>,
}

/// What a network is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// inference: outputs alone
    Infer,
    /// a training step: forward, loss, backward, optimiser
    Train,
}

// So bounded, no product of sizes overflows: an activation has at most 2^19 steps of 2^19 rows of 4 * 2^19 values.
fn width() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 19)
}

fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 19)
}

const DEFAULT_STEPS: usize = 24;
/// Time steps of all layers that are planned, one by one; a bound on memory and patience.
const MOST_STEPS: usize = 1 << 19;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (config, known_steps) = network(arguments)?;
    let steps = arguments.steps.or(known_steps).unwrap_or(DEFAULT_STEPS);
    let case = Case { config, steps, batch: arguments.batch };
    let recurrent = case.config.layers().iter().filter(|layer| matches!(layer.kind, LayerKind::Recurrent(_)));
    if steps.saturating_mul(recurrent.count()) > MOST_STEPS {
        return Err(Failure::Usage(format!(
            "--steps {steps}: a schedule of more than {MOST_STEPS} steps of layers is not written out; give fewer"
        )));
    }
    let place = Place::open(arguments)?;

    line(entry("network", 11, &case.config.to_string()));
    line(entry("sequences", 11, &format!("T = {steps} steps, B = {} rows", case.batch)));
    case.print_layers();
    case.print_parameters();
    case.print_flop();
    case.print_costs(&place)?;
    if let Some(mode) = arguments.plan {
        let what = if mode == Mode::Train { "a training step" } else { "inference" };
        line(format!("\nSchedule of {what}, {} dispatches\n", case.plan(&place, mode)?.dispatches()));
        line(case.plan(&place, mode)?.to_string().trim_end());
    }
    Ok(())
}

/// Columns of the names in front of each entry.
const NAMES: usize = 22;

/// The network, and the steps of its sequences where a file knows them.
fn network(arguments: &Arguments) -> Result<(NetworkConfig, Option<usize>), Failure> {
    if let Some(path) = &arguments.model {
        let model = Model::load(path)?;
        let forecaster = Forecaster::from_metadata(path, &model.metadata).ok();
        let steps = forecaster.map(|known| known.shape.input / known.shape.width);
        return Ok((model.config, steps));
    }
    let mut stack: Vec<LayerConfig> = vec![LstmConfig::new(arguments.hidden).into(); arguments.layers.into()];
    if !arguments.every_step {
        stack.push(LayerConfig::LastStep);
    }
    stack.extend(
        arguments.dense.iter().map(|&width| DenseConfig::new(width).activation(Activation::Relu).into()),
    );
    stack.push(DenseConfig::new(arguments.output).into());
    Ok((NetworkConfig::new(arguments.input, stack)?, None))
}

/// What the schedule is for.
struct Place {
    target: Target,
    limits: wgpu::Limits,
    /// In one line.
    name: String,
    is_cpu: bool,
}

impl Place {
    fn open(arguments: &Arguments) -> Result<Place, Failure> {
        Ok(match arguments.device.open(true)? {
            Device::Gpu(gpu) => Place {
                target: gpu.target().clone(),
                limits: gpu.device().limits(),
                name: gpu.summary(),
                is_cpu: false,
            },
            _ => Place {
                target: Target::webgpu(),
                limits: wgpu::Limits::default(),
                name: "the CPU, which has no schedule; this is that of a GPU with the WebGPU default limits"
                    .into(),
                is_cpu: true,
            },
        })
    }

    /// The engine's error; where no GPU was there, whose limit it is.
    fn failure(&self, error: &Error) -> Failure {
        let whose = if self.is_cpu { " (by the WebGPU default limits; the device cpu has none)" } else { "" };
        Failure::failed(format!("{error}{whose}"))
    }
}

struct Case {
    config: NetworkConfig,
    steps: usize,
    batch: usize,
}

impl Case {
    /// Time steps that a layer computes.
    fn layer_steps(&self, layer: &Layer) -> usize {
        let before = &self.config.layers()[..layer.index];
        if before.iter().any(|layer| layer.kind == LayerKind::LastStep) { 1 } else { self.steps }
    }

    fn print_layers(&self) {
        let Case { config, steps, batch, .. } = self;
        line("\nLayers, folded in time: [steps, batch, values]");
        line(entry("  input", NAMES, &format!("[{steps}, {batch}, {}]", config.input())));
        for layer in config.layers() {
            let out = if layer.kind == LayerKind::LastStep { 1 } else { self.layer_steps(layer) };
            let shared =
                if layer.owner == layer.index { String::new() } else { format!(" as layer {}", layer.owner) };
            let activation = match layer.kind {
                LayerKind::Dense { activation: Activation::Identity } => String::new(),
                LayerKind::Dense { activation } => format!(" {activation}"),
                _ => String::new(),
            };
            let text = format!("[{out}, {batch}, {}]{activation}{shared}", layer.output);
            line(entry(&format!("  {}", layer.place()), NAMES, &text));
        }
        line("\nLayers, unrolled: step t, [batch, values]");
        for layer in config.layers() {
            let (input, output) =
                (format!("[{batch}, {}]", layer.input), format!("[{batch}, {}]", layer.output));
            let when =
                if self.layer_steps(layer) == 1 { "t = T".into() } else { format!("t = 1 .. {steps}") };
            let text = match layer.kind {
                LayerKind::Recurrent(_) => {
                    format!(
                        "{when}: x(t) {input}, h(t-1) and c(t-1) {output} -> gates 4 x {output} -> h(t), c(t)"
                    )
                }
                LayerKind::LastStep => format!("t = T: {input} goes on, the steps before it end here"),
                _ => format!("{when}: {input} -> {output}"),
            };
            line(entry(&format!("  {}", layer.place()), NAMES, &text));
        }
    }

    fn print_parameters(&self) {
        line(format!("\n{:<26}{:>18}{:>16}", "Parameters", "shape", "count"));
        let row = |name: &str, shape: &str, count: usize| {
            line(format!("  {name:<24}{shape:>18}{:>16}", grouped(count as u128)));
        };
        for spec in self.config.parameter_specs() {
            row(&spec.name, &format!("{:?}", spec.shape), spec.len());
        }
        row("all", "", self.config.parameter_count());
        if self.config.layers().iter().any(|layer| matches!(layer.kind, LayerKind::Recurrent(_))) {
            let order = LstmGate::ALL.map(|gate| format!("{gate:?}").to_lowercase()).join(", ");
            line(entry("", 2, &format!("Rows of an LSTM's: {order}.")));
        }
    }

    fn print_flop(&self) {
        line(format!("\n{:<26}{:>17}{:>17}", "FLOP of the products", "forward", "backward"));
        let row = |name: &str, forward: u128| {
            line(format!("  {name:<24} {:>16} {:>16}", grouped(forward), grouped(2 * forward)));
        };
        let mut sequence = 0;
        for layer in self.config.layers() {
            let step = flop::forward_step(layer, self.batch);
            if step > 0 {
                row(&format!("{}, a step", layer.place()), step);
                sequence += step * self.layer_steps(layer) as u128;
            }
        }
        row("all, all steps", sequence);
        line("  for all rows of the batch; an LSTM: 8 B H (I + H)");
    }

    fn print_costs(&self, place: &Place) -> Result<(), Failure> {
        line(format!("\n{:<26}{:>17}{:>17}", "On the device", "training", "inference"));
        line(entry("  device", NAMES, &place.name));
        self.check_parameters(place).map_err(|error| place.failure(&error))?;
        let of = |mode| -> Result<(Plan, MemoryNeed), Failure> {
            let config = training(mode);
            let need = memory_need(&self.config, &place.target, self.steps, self.batch, config.as_ref())
                .map_err(|error| place.failure(&error))?;
            Ok((self.plan(place, mode)?, need))
        };
        let ((train_plan, train), (infer_plan, infer)) = (of(Mode::Train)?, of(Mode::Infer)?);
        let row = |name: &str, train: u128, infer: u128| {
            line(format!("  {name:<24}{:>17}{:>17}", grouped(train), grouped(infer)));
        };
        row("dispatches", train_plan.dispatches() as u128, infer_plan.dispatches() as u128);
        row("bytes", train.bytes.into(), infer.bytes.into());
        row("bytes, none shared", train.unshared_bytes.into(), infer.unshared_bytes.into());
        row("  largest buffer", train.largest_bytes.into(), infer.largest_bytes.into());
        line(entry(
            "    which is",
            NAMES,
            &format!("{} in training, {} in inference", train.largest, infer.largest),
        ));
        let allowed = [
            ("a buffer", place.limits.max_buffer_size),
            ("a binding", place.limits.max_storage_buffer_binding_size),
        ];
        for (what, bytes) in allowed {
            line(entry(&format!("  {what}"), NAMES, &format!("at most {} bytes", grouped(bytes.into()))));
        }
        Ok(())
    }

    /// That each parameter fits by itself: a clearer word on a huge layer than that it cannot be planned.
    fn check_parameters(&self, place: &Place) -> Result<(), Error> {
        let sizes = self.config.parameter_specs().map(|spec| (4 * spec.len() as u64, spec));
        sizes
            .max_by_key(|(bytes, _)| *bytes)
            .map_or(Ok(()), |(bytes, spec)| place.target.check_size(&spec.name, bytes))
    }

    fn plan(&self, place: &Place, mode: Mode) -> Result<Plan, Failure> {
        plan(&self.config, &place.target, self.steps, self.batch, training(mode).as_ref())
            .map_err(|error| place.failure(&error))
    }
}

/// Adam and a clipped gradient, as `gatefold forecast` trains.
fn training(mode: Mode) -> Option<TrainConfig> {
    (mode == Mode::Train).then(|| TrainConfig::new().clip_norm(Some(1.0)))
}
