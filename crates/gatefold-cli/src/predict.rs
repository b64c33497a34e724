//! `gatefold predict`: forecasts the rows after a table with a model that `gatefold forecast` fitted.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::{
    Data, Folder, Interval, Outlook, Report, SavedModel, forecast_csv, forecast_json, print_forecast,
};
use gatefold::Device;
use gatefold_forecast::{Candidate, Fitted, NETWORKS, Seasons, Settings, candidates, mean_band};
use gatefold_model::file::write_atomically;
use ndarray::{Array2, Array3, s};
use serde_json::json;
use std::path::PathBuf;

/// Forecasts the samples that follow the last row of a table.
///
/// The model is the directory that `gatefold forecast` wrote to. Networks forecast with their parameters as they are;
/// classical models are fitted to the table again, which takes them no time. The table is read as the run's was.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The directory that `gatefold forecast` wrote to
    model: PathBuf,
    /// The table, with the columns of the one that the model was trained on
    table: PathBuf,
    /// The file for the forecast, as CSV
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Samples to forecast [default: the model's horizon]; more are forecast in closed loop, without intervals
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1 << 24))]
    steps: Option<usize>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Print the forecast as one JSON document, and everything else on stderr
    #[arg(long)]
    json: bool,
    /// Print nothing but errors, and the document of --json
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folder = Folder::new(&arguments.model);
    let saved = folder.model()?;
    let data = Data::read(&arguments.table, &saved.reading)?;
    check(arguments, &saved, &data)?;
    let report = Report::with_json(arguments.quiet, arguments.json);
    for line in data.dataset.report().lines() {
        report.line(line);
    }
    let device = arguments.compute.open(arguments.quiet)?;
    report.line(format!("model     {}", saved.best));
    report.line(format!("device    {}\n", device.summary()));
    let steps = arguments.steps.unwrap_or(saved.horizon);
    let mut known: Vec<Vec<f64>> = data.series().into_iter().map(<[f64]>::to_vec).collect();
    let mut forecasts = Array2::zeros((known.len(), steps));
    let (mut bands, mut done) = (None, 0);
    while done < steps {
        let series: Vec<&[f64]> = known.iter().map(Vec::as_slice).collect();
        let (block, block_bands) = forecast(&device, &folder, &saved, &series)?;
        bands = block_bands;
        let taken = block.ncols().min(steps - done);
        forecasts.slice_mut(s![.., done..done + taken]).assign(&block.slice(s![.., ..taken]));
        for (known, row) in known.iter_mut().zip(block.rows()) {
            known.extend(row.iter());
        }
        done += taken;
    }
    // Errors are known up to the horizon alone.
    let calibration = saved.calibration.as_ref().filter(|_| steps <= saved.horizon);
    let options = &saved.options;
    let interval = Interval::new(calibration, options.level(), options.limits());
    let outlook = Outlook {
        forecasts: forecasts.view(),
        bands: bands.as_ref().map(|bands| bands.view()).filter(|_| steps <= saved.horizon),
        interval: &interval,
        units: &saved.units,
    };
    print_forecast(&report, &data, &outlook, options.level(), &saved.best);
    if let Some(out) = &arguments.out {
        let text = forecast_csv(&data, &outlook);
        write_atomically(out, text.as_bytes())?;
        report.line(format!("\nwritten   {}", out.display()));
    }
    report.document(&json!({
        "command": "predict",
        "version": env!("CARGO_PKG_VERSION"),
        "model": saved.best,
        "of": saved.members,
        "level": options.level(),
        "series": data.names(),
        "samples": data.series().iter().map(|values| values.len()).collect::<Vec<_>>(),
        "horizon": steps,
        "device": device.summary(),
        "forecast": forecast_json(&data, &outlook),
        "table": data.dataset.report().lines().collect::<Vec<_>>(),
    }));
    Ok(())
}

/// Checks that the table holds the series that the model was fitted on.
fn check(arguments: &Arguments, saved: &SavedModel, data: &Data) -> Result<(), Failure> {
    let refuse = |problem: String| Err(Failure::failed(format!("{}: {problem}", arguments.table.display())));
    if data.names() != saved.names {
        return refuse(format!(
            "the model was fitted on {}, and this table has {}; give a table with the same series",
            listed(&saved.names),
            listed(data.names())
        ));
    }
    for (series, first) in saved.first.iter().enumerate() {
        let found = &data.labels(series, 0..1)[0];
        if found != first {
            return refuse(format!(
                "the first row of {} is {found}, and that of the model's table was {first}; give the whole table, with the \
                 new rows after it",
                data.names()[series]
            ));
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "no series".into(),
        [one] => format!("the series {one}"),
        [first, ..] => format!("{} series from {first} on", names.len()),
    }
}

/// One block of the horizon after each series, `[series, horizon]`, and its bands, `[2, series, horizon]`, if the model has
/// some.
type Block = (Array2<f64>, Option<Array3<f64>>);

fn forecast(
    device: &Device,
    folder: &Folder,
    saved: &SavedModel,
    series: &[&[f64]],
) -> Result<Block, Failure> {
    let names = if saved.members.is_empty() { std::slice::from_ref(&saved.best) } else { &saved.members };
    let mut sum = Array2::zeros((series.len(), saved.horizon));
    let mut bands = Vec::new();
    for name in names {
        let (forecasts, own) = forecast_by(device, folder, saved, series, name)?;
        sum += &forecasts;
        bands.extend(own);
    }
    Ok((sum / names.len() as f64, mean_band(bands.iter())))
}

fn forecast_by(
    device: &Device,
    folder: &Folder,
    saved: &SavedModel,
    series: &[&[f64]],
    name: &str,
) -> Result<Block, Failure> {
    if NETWORKS.contains(&name) {
        let fitted = Fitted::load(device, folder.path(), name)?;
        let known: Vec<(usize, &[f64])> = series.iter().copied().enumerate().collect();
        let (forecasts, bands) = fitted.forecast_bands(&known)?;
        return Ok((forecasts, Some(bands)));
    }
    let seasons = Seasons::new(&saved.seasons);
    let lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
    let settings = Settings::new(saved.horizon, seasons.shortest(), &lengths);
    let all = candidates(Some(&gatefold_forecast::MODELS.map(str::to_owned)), &seasons, &settings, series)?;
    let found = all.iter().find_map(|candidate| match candidate {
        Candidate::PerSeries(model) if model.name() == name => Some(model),
        _ => None,
    });
    let Some(model) = found else {
        return Err(Failure::failed(format!(
            "{}: the model {name} is not known to this version; train the model again",
            folder.path().display()
        )));
    };
    let mut forecasts = Array2::zeros((series.len(), saved.horizon));
    for (mut row, values) in forecasts.rows_mut().into_iter().zip(series) {
        let forecast = model.fit(values)?.forecast(values, saved.horizon)?;
        row.iter_mut().zip(&forecast).for_each(|(to, from)| *to = *from);
    }
    Ok((forecasts, None))
}
