//! `gatefold predict`: forecasts the rows after a table with a model that `gatefold forecast` trained.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::load_for_use;
use crate::forecaster::{Forecaster, rounded};
use gatefold::Network;
use gatefold_model::file::write_atomically;
use gatefold_series::{Table, TableOptions, labels_after};
use std::path::PathBuf;

/// Forecasts the samples that follow the last row of a table.
///
/// The model may be model.safetensors or checkpoint.safetensors; the table needs the column that it was trained on.
/// Gives one block of the model's horizon, or with --steps any number of samples in closed loop: each block counts as
/// known for the next.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// model.safetensors or checkpoint.safetensors, written by `gatefold forecast`
    model: PathBuf,
    /// The table as CSV, oldest row first
    table: PathBuf,
    /// The file for the forecast, as CSV
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Samples to forecast [default: the model's horizon]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 24))]
    steps: Option<usize>,
    /// The column to forecast [default: the one that the model was trained on]
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = load_for_use(&arguments.model)?;
    let forecaster = Forecaster::from_metadata(&arguments.model, &model.metadata)?;
    let expected = forecaster.shape.network_widths();
    if (model.config.input(), model.config.output()) != expected {
        return Err(Failure::failed(format!(
            "{}: the network takes {} values and gives {}, but its settings say {} and {}; train it again",
            arguments.model.display(),
            model.config.input(),
            model.config.output(),
            expected.0,
            expected.1
        )));
    }
    let table = Table::read(&arguments.table, &TableOptions::new())?;
    let target = arguments.target.as_deref().unwrap_or(&forecaster.shape.target);
    let series = table.numbers(target, forecaster.shape.fill.into())?;
    if series.len() < forecaster.shape.input {
        return Err(Failure::failed(format!(
            "{}: the model sees {} rows before it forecasts; found {}; give a table with more rows",
            arguments.table.display(),
            forecaster.shape.input,
            series.len()
        )));
    }
    let device = arguments.compute.open(arguments.quiet)?;
    let network = Network::with_parameters(&device, &model.config, &model.parameters)?;
    let steps = arguments.steps.unwrap_or(forecaster.shape.horizon);
    let forecast = forecaster.continuation(&network, &series, steps)?;

    let dates = table.dates().and_then(|dates| labels_after(&dates, steps));
    let mut text = String::from(if dates.is_some() { "step,date,forecast\n" } else { "step,forecast\n" });
    for (index, value) in forecast.iter().enumerate() {
        let date = dates.as_ref().map_or_else(String::new, |dates| format!(",{}", dates[index]));
        text += &format!("{}{date},{}\n", index + 1, rounded(*value));
    }
    write_atomically(&arguments.out, text.as_bytes())?;
    if !arguments.quiet {
        use std::io::Write;
        let blocks = steps.div_ceil(forecaster.shape.horizon);
        let how = if blocks == 1 { "one block".into() } else { format!("{blocks} blocks in closed loop") };
        let _ = writeln!(
            std::io::stdout(),
            "data      {target}, {} rows\nmodel     {}\ndevice    {}\nforecast  {steps} {}, {how}\nwritten   {}",
            series.len(),
            model.config,
            device.summary(),
            if steps == 1 { "sample" } else { "samples" },
            arguments.out.display()
        );
    }
    Ok(())
}
