//! `gatefold gradients`: how the gradient of a trained network fares on its way back through time.

mod source;

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::Report;
use crate::image::Image;
use crate::page::table;
use crate::table::FormatArguments;
use gatefold::training::{GradientFlow, LayerFlow};
use gatefold_model::file::write_atomically;
use gatefold_series::plot::{GradientLayer, GradientPlot};
use source::{Found, Source};
use std::fmt::Write;
use std::path::PathBuf;

/// Shows how the gradient of a network's loss fares on its way back through time.
///
/// The model is a directory that `gatefold forecast`, `impute`, `classify`, `label`, `score`, `generate` or `translate`
/// wrote to, and the table the one that it was trained on or another one like it: for `generate` a text.
/// For each recurrent layer and time step, prints the norm of the loss's gradient with respect to h and, in an
/// LSTM, c; the spectral norm of the Jacobian of the last state with respect to the state before the step; and the share of
/// the gates that are within a tenth of an end of their range. A gradient that falls towards the first step vanishes, one
/// that grows explodes.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The directory of the run that trained the network
    model: PathBuf,
    /// The table, with the columns of the one that the model was trained on
    table: PathBuf,
    /// Windows or sequences of the table, evenly spaced, whose loss is followed
    #[arg(long, value_name = "N", default_value = "32", value_parser = crate::forecast::count())]
    windows: usize,
    /// The network, counted from 1, of a run with several
    #[arg(long, value_name = "N", default_value = "1", value_parser = crate::forecast::count())]
    member: usize,
    /// The file for every number, as CSV
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file for a plot of norms and gates over time: .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArguments,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// The most steps in the printed table.
const ROWS: usize = 9;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let image = arguments.plot.as_deref().map(|path| Image::new("--plot", path)).transpose()?;
    let source = Source::of(arguments)?;
    let device = arguments.compute.open(arguments.quiet)?;
    let Found { network, rows: count, kind, flow } = source.follow(&device, arguments)?;
    let report = Report::new(arguments.quiet);
    report.line(format!("network   {network}"));
    report.line(format!("device    {}", device.summary()));
    let plural = if count == 1 { "" } else { "s" };
    report.line(format!("loss      {:.4} over {count} {kind}{plural}", flow.loss));
    for layer in &flow.layers {
        report.line(format!("\n{}, {} steps", layer.place, layer.hidden.len()));
        report.lines(rows(layer));
    }
    let mut letters: Vec<&str> = Vec::new();
    for letter in flow.layers.iter().flat_map(|layer| layer.gates.iter().map(|gate| letter(layer, gate.gate)))
    {
        if !letters.contains(&letter) {
            letters.push(letter);
        }
    }
    report.line(format!("\n{}: per cent of units within a tenth of", letters.join(", ")));
    report.line("an end of the gate's range");
    if let Some(out) = &arguments.out {
        write_atomically(out, csv(&flow).as_bytes())?;
        report.line(format!("\nwritten   {}", out.display()));
    }
    if let Some(image) = image {
        let layers: Vec<GradientLayer> = flow.layers.iter().map(picture).collect();
        let plot = GradientPlot { layers: &layers };
        image.write(|| plot.svg(), || plot.png())?;
        report.line(format!("plotted   {image}"));
    }
    Ok(())
}

/// The norms of a layer, each with its name and a value for each step.
fn measures(layer: &LayerFlow) -> Vec<(&'static str, &[f64])> {
    let mut measures = vec![("dL/dh", layer.hidden.as_slice())];
    measures.extend(layer.cell.as_ref().map(|cell| ("dL/dc", cell.as_slice())));
    measures.push(("Jacobian", &layer.jacobian));
    measures
}

/// The letter of a gate in the equations.
fn letter(layer: &LayerFlow, gate: &str) -> &'static str {
    match gate {
        "input" => "i",
        "forget" => "f",
        "cell" => "g",
        "output" if layer.gates.len() > 1 => "o",
        "output" => "h",
        "reset" => "r",
        "update" => "z",
        _ => "n",
    }
}

/// The printed table of a layer: some of its steps, the first and the last among them.
fn rows(layer: &LayerFlow) -> Vec<String> {
    let measures = measures(layer);
    let mut head = vec!["step"];
    head.extend(measures.iter().map(|(name, _)| *name));
    head.extend(layer.gates.iter().map(|gate| letter(layer, gate.gate)));
    let steps = layer.hidden.len();
    let shown = ROWS.min(steps);
    let rows: Vec<Vec<String>> = (0..shown)
        .map(|row| {
            let step = if shown == 1 { 0 } else { row * (steps - 1) / (shown - 1) };
            let norms = measures
                .iter()
                .map(|(_, values)| values.get(step).map_or("".into(), |norm| format!("{norm:.1e}")));
            let gates =
                layer.gates.iter().map(|gate| format!("{:.0}", 100.0 * (gate.low[step] + gate.high[step])));
            std::iter::once((step + 1).to_string()).chain(norms).chain(gates).collect()
        })
        .collect();
    table(&head, &rows)
}

/// Every number, one a line.
fn csv(flow: &GradientFlow) -> String {
    let mut text = "layer,step,measure,value\n".to_owned();
    let mut put = |place: &str, measure: &str, values: &[f64]| {
        for (step, value) in values.iter().enumerate() {
            let _ = writeln!(text, "{place},{},{measure},{value}", step + 1);
        }
    };
    for layer in &flow.layers {
        for (name, values) in measures(layer) {
            put(&layer.place, name, values);
        }
        for gate in &layer.gates {
            put(&layer.place, &format!("{} low", gate.gate), &gate.low);
            put(&layer.place, &format!("{} high", gate.gate), &gate.high);
        }
    }
    text
}

/// A layer in the plot.
fn picture(layer: &LayerFlow) -> GradientLayer {
    let norms = measures(layer).into_iter().map(|(name, values)| (name.to_owned(), values.to_vec()));
    let gates = layer.gates.iter().flat_map(|gate| {
        [
            (format!("{}, low end", gate.gate), gate.low.clone()),
            (format!("{}, high end", gate.gate), gate.high.clone()),
        ]
    });
    GradientLayer { title: layer.place.clone(), norms: norms.collect(), shares: gates.collect() }
}
