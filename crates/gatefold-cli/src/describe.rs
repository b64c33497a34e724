//! `gatefold describe`: describes a network and its cost, computing nothing.

mod draw;
pub(crate) mod flop;
mod layers;
mod network;
mod wgsl;

use crate::cell;
use crate::failure::Failure;
use crate::image::Image;
use crate::model_file::{ModelFile, ModulesArgument, about};
use crate::page::{entry, grouped, line};
use crate::{DeviceArgument, ProductArgument, ScanArgument};
use clap::ValueEnum;
use gatefold::devices::GpuOptions;
use gatefold::layers::Cell;
use gatefold::schedule::{MemoryNeed, Plan, Shape, Target, memory_need, schedule};
use gatefold::{Device, Error, Gpu, NetworkConfig, TrainConfig, wgpu};
use gatefold_model::{GruGate, Layer, LstmGate};
use gatefold_onnx::OnnxModel;
use layers::Shaped;
use std::path::PathBuf;

/// Describes a network, read from a file of any kind or given by the options.
///
/// Prints the layers with their shapes folded (all time steps at once) and unrolled (one step), the parameters of each
/// matrix, the FLOP of the products, and the memory and dispatches that training (with Adam) and inference take on a
/// device; with --plan, the schedule itself. Exit code 1 when a tensor is too large for the device.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A model: ours or a PyTorch state_dict (.safetensors, .pt, .pth), Keras' (.keras, .weights.h5), or ONNX (.onnx); without it, the options below describe
    /// the network
    #[arg(conflicts_with_all = ["network", "recurrent"])]
    model: Option<PathBuf>,
    #[command(flatten)]
    modules: ModulesArgument,
    #[command(flatten)]
    recurrent: cell::Choice,
    #[command(flatten)]
    network: network::Arguments,
    /// Time steps of a sequence [default: as many as a forecaster was trained on, else 24]
    #[arg(long, value_name = "T", value_parser = count())]
    steps: Option<usize>,
    /// Time steps of the decoder's own input [default: the same as --steps]
    #[arg(long, value_name = "T", value_parser = count())]
    decoder_steps: Option<usize>,
    /// Sequences in a batch
    #[arg(long, value_name = "B", default_value = "32", value_parser = count())]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgument,
    #[command(flatten)]
    scan: ScanArgument,
    #[command(flatten)]
    product: ProductArgument,
    /// Print the schedule too, one step per line: that of a training step or of inference
    #[arg(long, value_name = "OF", num_args = 0..=1, require_equals = true, default_missing_value = "train")]
    plan: Option<Mode>,
    /// Print only the WGSL of this kernel, named as in the schedule: every variant that training and inference use, or
    /// only one of the two with --plan=OF
    #[arg(long, value_name = "KERNEL")]
    wgsl: Option<String>,
    /// The file for a drawing of the network, folded and unrolled: .svg or .png
    #[arg(long, value_name = "FILE", conflicts_with = "wgsl")]
    draw: Option<PathBuf>,
}

/// The use of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// inference: outputs only
    Infer,
    /// a training step: forward, loss, backward, optimiser
    Train,
}

fn count() -> clap::builder::RangedU64ValueParser<usize> {
    clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 19)
}

const DEFAULT_STEPS: usize = 24;
/// The most time steps to plan, over all layers; a bound on memory and patience.
const MOST_STEPS: usize = 1 << 19;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let image = arguments.draw.as_deref().map(|path| Image::new("--draw", path)).transpose()?;
    let Some((config, known_steps)) = network(arguments)? else {
        return match image {
            Some(_) => Err(Failure::failed("--draw: the model is no chain of layers, and cannot be drawn")),
            None => Ok(()),
        };
    };
    let case = Case::new(config, known_steps, arguments)?;
    let place = Place::open(arguments)?;
    if let Some(kernel) = &arguments.wgsl {
        return case.print_wgsl(&place, kernel, arguments.plan);
    }

    line(entry("network", 11, &case.config.to_string()));
    line(entry("sequences", 11, &case.sequences()));
    case.print_layers();
    case.print_parameters();
    case.print_flop();
    case.print_costs(&place)?;
    if let Some(mode) = arguments.plan {
        let what = if mode == Mode::Train { "a training step" } else { "inference" };
        line(format!("\nSchedule of {what}, {} dispatches\n", case.plan(&place, mode)?.dispatches()));
        line(case.plan(&place, mode)?.to_string().trim_end());
    }
    if let Some(image) = image {
        let diagram = draw::drawing(&case.shaped())?;
        image.write(|| diagram.svg(), || diagram.png())?;
        line(entry("\ndrawn", 12, &image.to_string()));
    }
    Ok(())
}

/// Columns of the names in front of each entry.
const NAMES: usize = 24;

/// The network, and the steps of its sequences if the file gives them. Prints the graph of an ONNX model; gives `None`
/// for one that is no chain of layers, or an error if a kernel is asked for.
fn network(arguments: &Arguments) -> Result<Option<(NetworkConfig, Option<usize>)>, Failure> {
    let Some(path) = &arguments.model else {
        return Ok(Some((arguments.network.config(&arguments.recurrent)?, None)));
    };
    match ModelFile::read(path, &arguments.modules)? {
        ModelFile::Network(model, _) => {
            let steps = gatefold_forecast::input_steps(&model.metadata);
            Ok(Some((model.config, steps)))
        }
        ModelFile::Onnx(onnx) => {
            if arguments.wgsl.is_none() {
                print_graph(&onnx);
            }
            match onnx.import() {
                Ok(imported) => Ok(Some((imported.config, None))),
                Err(error) if arguments.wgsl.is_some() => Err(error.into()),
                Err(error) => {
                    line(entry("network", 11, &error.to_string()));
                    Ok(None)
                }
            }
        }
    }
}

/// Prints the inputs and outputs of an ONNX model, under its own names.
fn print_graph(onnx: &OnnxModel) {
    line(entry("model", 11, &about(onnx)));
    for (what, ports) in [("takes", onnx.inputs()), ("gives", onnx.outputs())] {
        let mut name = what;
        for port in ports {
            line(entry(name, 11, &port.to_string()));
            name = "";
        }
    }
}

/// The device that the schedule is for.
struct Place {
    target: Target,
    limits: wgpu::Limits,
    /// The device in one line.
    name: String,
    is_cpu: bool,
}

impl Place {
    fn open(arguments: &Arguments) -> Result<Place, Failure> {
        let (scan, product) = (arguments.scan.scan, arguments.product.product);
        let options = GpuOptions::default().scan(scan).product(product);
        Ok(match Gpu::request(&arguments.device.device, &options)? {
            Some(gpu) => Place {
                target: gpu.target().clone(),
                limits: gpu.device().limits(),
                name: gpu.summary(),
                is_cpu: false,
            },
            None => {
                Device::cpu()?; // wrong variables are told here too
                Place {
                    target: Target { scan, product, ..Target::webgpu() },
                    limits: wgpu::Limits::default(),
                    name:
                        "the CPU, which has no schedule; this one is for a GPU with the WebGPU default limits"
                            .into(),
                    is_cpu: true,
                }
            }
        })
    }

    /// The engine's error; without a GPU, it also says whose limit was exceeded.
    fn failure(&self, error: &Error) -> Failure {
        let whose = if self.is_cpu { " (by the WebGPU default limits; the device cpu has none)" } else { "" };
        Failure::failed(format!("{error}{whose}"))
    }
}

struct Case {
    config: NetworkConfig,
    steps: usize,
    decoder_steps: usize,
    batch: usize,
}

impl Case {
    /// `known_steps` come from the model's file.
    fn new(
        config: NetworkConfig,
        known_steps: Option<usize>,
        arguments: &Arguments,
    ) -> Result<Case, Failure> {
        let steps = arguments.steps.or(known_steps).unwrap_or(DEFAULT_STEPS);
        if let Some(given) = arguments.decoder_steps.filter(|_| config.decoder().is_none()) {
            return Err(Failure::Usage(format!("--decoder-steps {given}: {config} has no decoder")));
        }
        let decoder_steps = arguments.decoder_steps.unwrap_or(steps);
        let case = Case { config, steps, decoder_steps, batch: arguments.batch };
        let scanned: usize = case.config.recurrent_layers().map(|layer| case.shaped().scanned(layer)).sum();
        if scanned > MOST_STEPS {
            let given = match case.config.decoder() {
                Some(_) => format!("--steps {steps} --decoder-steps {decoder_steps}"),
                None => format!("--steps {steps}"),
            };
            return Err(Failure::Usage(format!(
                "{given}: a schedule of more than {MOST_STEPS} steps over all layers is not written out; give fewer steps"
            )));
        }
        Ok(case)
    }

    fn shaped(&self) -> Shaped<'_> {
        let Case { config, steps, decoder_steps, batch } = self;
        Shaped { config, steps: *steps, decoder_steps: *decoder_steps, batch: *batch }
    }

    /// `T = 24 steps, B = 32 rows`
    fn sequences(&self) -> String {
        let Case { steps, decoder_steps, batch, .. } = self;
        match self.config.decoder() {
            Some(_) => format!("T = {steps} steps, {decoder_steps} for the decoder, B = {batch} rows"),
            None => format!("T = {steps} steps, B = {batch} rows"),
        }
    }

    fn print_layers(&self) {
        let shaped = self.shaped();
        line("\nLayers, folded in time: [steps, batch, values]");
        line(entry("  input", NAMES, &shaped.input()));
        for layer in self.config.layers() {
            line(entry(&format!("  {}", layer.place()), NAMES, &shaped.folded(layer)));
        }
        line("\nLayers, unrolled: step t, [batch, values]");
        for layer in self.config.layers() {
            let mut name = format!("  {}", layer.place());
            for text in shaped.unrolled(layer) {
                line(entry(&name, NAMES, &text));
                name.clear();
            }
        }
    }

    fn print_parameters(&self) {
        line(format!("\n{:<26}{:>18}{:>16}", "Parameters", "shape", "count"));
        for spec in self.config.parameter_specs() {
            line(parameter_row(&spec.name, &format!("{:?}", spec.shape), spec.len()));
        }
        line(parameter_row("all", "", self.config.parameter_count()));
        let lstm = LstmGate::ALL.map(|gate| format!("{gate:?}").to_lowercase()).join(", ");
        let gru = GruGate::ALL.map(|gate| format!("{gate:?}").to_lowercase()).join(", ");
        if self.cells().any(|cell| matches!(cell, Cell::Lstm(_))) {
            line(entry("", 2, &format!("Rows of an LSTM's: {lstm}.")));
        }
        if self.cells().any(|cell| matches!(cell, Cell::Gru(_))) {
            line(entry("", 2, &format!("Rows of a GRU's: {gru}.")));
        }
    }

    fn cells(&self) -> impl Iterator<Item = Cell> {
        self.config.recurrent_layers().filter_map(Layer::recurrent).map(|recurrent| recurrent.cell)
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
                let steps = self.shaped().steps_of(layer);
                let how_often = if steps == 1 { "once" } else { "a step" };
                row(&format!("{}, {how_often}", layer.place()), step);
                sequence += step * steps as u128;
            }
        }
        row("all, all steps", sequence);
        let mut note = "Over all rows of the batch.".to_owned();
        if self.cells().next().is_some() {
            note += " Each scan: 2 B G H (I + R), with G gates of H units, I inputs and R values of h; \
                skip, feedback and projection add more.";
        }
        note += " Backward includes the gradient of the input.";
        line(entry("", 2, &note));
    }

    fn print_costs(&self, place: &Place) -> Result<(), Failure> {
        line(format!("\n{:<26}{:>17}{:>17}", "On the device", "training", "inference"));
        line(entry("  device", NAMES, &place.name));
        self.check_parameters(place).map_err(|error| place.failure(&error))?;
        let of = |mode| -> Result<(Plan, MemoryNeed), Failure> {
            let config = training(mode);
            let need = memory_need(&self.config, &place.target, self.shape(), config.as_ref())
                .map_err(|error| place.failure(&error.into()))?;
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

    /// Checks that each parameter fits by itself: for a huge layer, this gives a clearer error than the planner does.
    fn check_parameters(&self, place: &Place) -> Result<(), Error> {
        let sizes = self.config.parameter_specs().map(|spec| (4 * spec.len() as u64, spec));
        sizes
            .max_by_key(|(bytes, _)| *bytes)
            .map_or(Ok(()), |(bytes, spec)| Ok(place.target.check_size(&spec.name, bytes)?))
    }

    fn plan(&self, place: &Place, mode: Mode) -> Result<Plan, Failure> {
        schedule(&self.config, &place.target, self.shape(), training(mode).as_ref())
            .map_err(|error| place.failure(&error.into()))
    }

    fn shape(&self) -> Shape {
        Shape::plain(&self.config, self.steps, self.batch).with_decoder_steps(self.decoder_steps)
    }

    fn print_wgsl(&self, place: &Place, kernel: &str, mode: Option<Mode>) -> Result<(), Failure> {
        let modes = mode.map_or_else(|| vec![Mode::Train, Mode::Infer], |mode| vec![mode]);
        let plans: Vec<Plan> =
            modes.into_iter().map(|mode| self.plan(place, mode)).collect::<Result<_, Failure>>()?;
        line(wgsl::texts(&plans, kernel, place.target.params)?.join("\n\n"));
        Ok(())
    }
}

/// Columns before the count in a row of parameters.
const BEFORE_COUNT: usize = 44;

/// A parameter in one line, or in two if its name is long.
fn parameter_row(name: &str, shape: &str, count: usize) -> String {
    let room = BEFORE_COUNT.saturating_sub(2 + name.chars().count());
    let count = grouped(count as u128);
    if room > shape.len() {
        return format!("  {name}{shape:>room$}{count:>16}");
    }
    format!("  {name}\n{shape:>BEFORE_COUNT$}{count:>16}")
}

/// Adam with a clipped gradient, as `gatefold forecast` trains.
fn training(mode: Mode) -> Option<TrainConfig> {
    (mode == Mode::Train).then(|| TrainConfig::new().clip_norm(Some(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn config(options: &str) -> Result<NetworkConfig, Failure> {
        let line = Line::try_parse_from(["describe"].into_iter().chain(options.split_whitespace()));
        let Arguments { network, recurrent, .. } = line.expect("options that are understood").arguments;
        network.config(&recurrent)
    }

    #[test]
    fn a_vanilla_network_without_biases_has_the_parameters_of_its_matrices() {
        let config = config("--cell rnn --no-biases --input 234 --hidden 1024,512 --output 15").unwrap();
        let counts: Vec<(&str, usize)> =
            config.parameter_specs().map(|spec| (spec.name.as_str(), spec.len())).collect();
        assert_eq!(
            counts,
            [
                ("rnn0.weight_ih_l0", 239_616),
                ("rnn0.weight_hh_l0", 1_048_576),
                ("rnn1.weight_ih_l0", 524_288),
                ("rnn1.weight_hh_l0", 262_144),
                ("dense0.weight", 7_680),
            ]
        );
    }

    #[test]
    fn options_describe_any_stack() {
        let said =
            |options| config(options).map(|config| config.to_string()).map_err(|error| error.to_string());
        assert_eq!(said(""), Ok("1 -> lstm 32 -> lstm 32 -> last step -> dense 1".into()));
        assert_eq!(
            said(
                "--input 3 --cell gru --hidden 5 --layers 1 --bidirectional --every-step --dense 4 --output 2"
            ),
            Ok("3 -> gru 5 bidirectional -> dense 4 relu -> dense 2".into())
        );
        assert_eq!(
            said("--hidden 5,6 --layers 2"),
            Err("error: --layers 2: --hidden already lists 2 layers; leave out one of the two options".into())
        );
    }

    #[test]
    fn rows_of_parameters_are_narrow() {
        assert_eq!(
            parameter_row("rnn0.weight_ih_l0", "[20, 3]", 60),
            format!("  {:<24}{:>18}{:>16}", "rnn0.weight_ih_l0", "[20, 3]", "60")
        );
        for name in ["rnn0.weight_ih_l10_reverse", "bridge0.weight_h0", &"x".repeat(42)] {
            let row = parameter_row(name, "[2048, 524288]", 1 << 30);
            assert!(row.lines().all(|line| line.chars().count() <= crate::page::WIDTH), "{row}");
        }
        let long = parameter_row(&"x".repeat(40), "[1]", 1);
        assert_eq!(long.lines().count(), 2, "{long}");
    }
}
