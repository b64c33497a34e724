//! `gatefold tune`: finds the fastest way to run recurrent layers on a GPU.

use crate::ComputeArguments;
use crate::bench::Shape;
use crate::cell;
use crate::failure::Failure;
use crate::page::{entry, line};
use gatefold::devices::{Candidate, ScanChoice, TunedScan, tune};
use gatefold::layers::{DenseConfig, LayerConfig};
use gatefold::{Device, NetworkConfig};
use serde_json::json;

/// Times the ways in which a GPU can run recurrent layers, and keeps the fastest for later runs.
///
/// For each shape it times a recurrent layer with a dense layer on top, forward, then forward and backward, in each of
/// the few ways that suit the device: a dispatch per time step with more or fewer rows in an invocation, or all steps
/// in one dispatch with different tiles, also with several workgroups to a tile where a probe shows that they run at the
/// same time. A way counts only if its results agree with those of the plain one. The
/// fastest go into the user's cache folder, by adapter and driver; every command and program that opens this GPU takes
/// them for layers of the same cell and width and batches of about the same size. Training resumed from a checkpoint
/// keeps those it began with.
#[derive(clap::Args, Debug)]
#[command(after_help = NOTES)]
pub(crate) struct Arguments {
    /// Batch, time steps, inputs and hidden units, such as 32,50,16,64 [default: five shapes; two on a software driver]
    #[arg(long, value_name = "B,T,I,H")]
    shape: Option<Shape>,
    #[command(flatten)]
    recurrent: cell::Choice,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print one JSON object for each kind of layer instead of a table
    #[arg(long)]
    json: bool,
}

const NOTES: &str = "Columns: median of seven runs of the whole network in milliseconds, - where the first was three times as \
long as the best; * marks the fastest, which is kept if it gains more than 3 % over the plain one. GATEFOLD_CACHE moves \
the folder, or is off.";

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.compute.scan.scan != ScanChoice::Auto {
        return Err(Failure::Usage("tune tries every scan, and --scan names one; leave it out".into()));
    }
    let Device::Gpu(gpu) = arguments.compute.open(false)? else {
        return Err(Failure::Usage(
            "tune is for GPUs, and the CPU device has nothing to choose; name one with --device gpu".into(),
        ));
    };
    let usual = if gpu.is_software() { &Shape::ALL[..2] } else { &Shape::ALL[..] };
    let shapes = arguments.shape.map_or(usual.to_vec(), |shape| vec![shape]);
    if !arguments.json {
        line(entry("device", 9, &gpu.summary()));
    }
    let mut file = None;
    for Shape { batch, steps, input, hidden } in shapes {
        let layers: Vec<LayerConfig> = vec![arguments.recurrent.layer(hidden), DenseConfig::new(1).into()];
        let config = NetworkConfig::new(input, layers)?;
        let (scans, written) = tune(&gpu, &config, steps, batch)?;
        file = written;
        for scan in &scans {
            if arguments.json { line(as_json(scan)) } else { print(scan) }
        }
    }
    if !arguments.json {
        let kept =
            file.map_or("off (GATEFOLD_CACHE): nothing is kept".into(), |file| file.display().to_string());
        line("");
        line(entry("cache", 9, &kept));
    }
    Ok(())
}

fn print(TunedScan { kind, candidates, .. }: &TunedScan) {
    line("");
    line(format!("{kind:<68} {:>10}", "ms"));
    for candidate @ Candidate { strategy, agrees, chosen, .. } in candidates {
        let mark = if *chosen { "*" } else { " " };
        let time = milliseconds(candidate).map_or("-".into(), |time| format!("{time:.3}"));
        let problem = if *agrees { "" } else { "  WRONG" };
        line(format!("{mark} {strategy:<66} {time:>10}{problem}"));
    }
}

fn milliseconds(candidate: &Candidate) -> Option<f64> {
    candidate.time.map(|time| 1e3 * time.as_secs_f64())
}

fn as_json(TunedScan { kind, candidates, .. }: &TunedScan) -> String {
    let of = |candidate: &Candidate| {
        json!({
            "strategy": candidate.strategy,
            "ms": milliseconds(candidate),
            "agrees": candidate.agrees,
            "chosen": candidate.chosen,
        })
    };
    json!({ "kind": kind, "candidates": candidates.iter().map(of).collect::<Vec<_>>() }).to_string()
}
