//! `gatefold predict`: forecasts the rows after a table with a model that `gatefold forecast` fitted.

mod html;
mod later;
mod model;
mod series;

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::{
    Data, Folder, Interval, Outlook, Report, SavedModel, create_folder, figure, forecast_csv, forecast_json,
    future_plot, print_forecast, samples_csv,
};
use crate::image::Image;
use gatefold_forecast::{Seasons, Unseen, naive_error};
use gatefold_model::file::write_atomically;
use html::Shown;
use later::{Errors, Later};
use model::Models;
use ndarray::{Array2, Axis, s};
use serde_json::json;
pub(crate) use series::{delays, select};
use std::path::{Path, PathBuf};

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
    /// The file for a plot of the forecast after the end of the first series: .svg or .png
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// The file for the report, which a browser shows: history, forecasts, and errors on rows that came after the training
    #[arg(long, value_name = "FILE", default_value = "gatefold-predict/report.html")]
    report: PathBuf,
    /// The file for drawn futures, as CSV: as many as --samples of the run said, or 100
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
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

/// Values that the training did not have, as far as they are printed.
const UNSEEN: usize = 3;
/// Futures that are drawn unless the run said how many.
const SAMPLES: usize = 100;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let image = arguments.plot.as_deref().map(|path| Image::new("--plot", path)).transpose()?;
    let folder = Folder::new(&arguments.model);
    let saved = folder.model()?;
    let mut data = Data::read(&arguments.table, &saved.reading)?;
    let report = Report::with_json(arguments.quiet, arguments.json);
    report.lines(data.dataset.report().lines());
    series::check_frequency(&arguments.table, &saved, &data)?;
    let device = arguments.compute.open(arguments.quiet)?;
    let mut models = Models::load(&device, &folder, &saved)?;
    let mut known = series::matched(&arguments.table, &saved, &mut data, models.takes_new(), &report)?;
    let steps = arguments.steps.unwrap_or(saved.horizon);
    data.check_future(steps)?;
    let put = |models: &mut Models, data: &Data, known: &[Option<usize>], from: &[Option<usize>]| {
        // Blocks are whole horizons.
        let beside = saved.options.beside(data, steps.next_multiple_of(saved.horizon))?;
        let delays = match models.counts_moments() {
            true => delays(&arguments.table, &saved, data, known)?,
            false => vec![0; known.len()],
        };
        let lengths: Vec<usize> = data.series().iter().map(|values| values.len()).collect();
        models.put(beside, from, &lengths, delays)
    };
    put(&mut models, &data, &known, &known)?;
    report.lines(unseen_lines(&models.unseen(known.len()), &saved, &data));
    report.line(format!("model     {}", saved.best));
    report.line(format!("device    {}", device.summary()));
    let mut block = models.forecast(&data.series())?;
    if !block.failed.is_empty() {
        let kept = series::leave_out(&arguments.table, &mut data, &block.failed, &report)?;
        known = kept.iter().map(|at| known[*at]).collect();
        block.forecasts = block.forecasts.select(Axis(0), &kept);
        block.bands = block.bands.map(|bands| bands.select(Axis(1), &kept));
        let from: Vec<Option<usize>> = kept.into_iter().map(Some).collect();
        put(&mut models, &data, &known, &from)?;
    }
    let about = report.printed();
    report.line("");
    let mut values: Vec<Vec<f64>> = data.series().into_iter().map(<[f64]>::to_vec).collect();
    let mut forecasts = Array2::zeros((values.len(), steps));
    let mut done = 0;
    loop {
        let taken = saved.horizon.min(steps - done);
        forecasts.slice_mut(s![.., done..done + taken]).assign(&block.forecasts.slice(s![.., ..taken]));
        done += taken;
        if done == steps {
            break;
        }
        for (values, row) in values.iter_mut().zip(block.forecasts.rows()) {
            values.extend(row.iter());
        }
        block = models.forecast(&values.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    }
    let (bands, units) = (block.bands, units(&saved, &data, &known));
    // Errors are known up to the horizon alone.
    let calibrations = Some(&saved.calibrations).filter(|_| steps <= saved.horizon);
    let options = &saved.options;
    let interval = Interval::new(calibrations, options, known.iter().copied(), saved.horizon);
    let outlook = Outlook {
        forecasts: forecasts.view(),
        bands: bands.as_ref().map(|bands| bands.view()).filter(|_| steps <= saved.horizon),
        interval: &interval,
        units: &units,
    };
    print_forecast(&report, &data, &outlook, options.level(), &saved.best);
    let whole = Interval::new(Some(&saved.calibrations), options, known.iter().copied(), saved.horizon);
    // The forecast is good without it.
    let measured = Later::of(&models, &saved, (&data, &known), &whole, &units);
    let (later, unmeasured) = match measured {
        Ok((later, failed)) => {
            let named = |(series, why): (usize, String)| (Some(data.names()[series].clone()), why);
            (later, failed.into_iter().map(named).collect::<Vec<_>>())
        }
        Err(failure) => (None, vec![(None, failure.to_string())]),
    };
    report.lines(unmeasured_line(&unmeasured));
    report.lines(later.as_ref().map(|later| later_line(later, options.level())));
    let shown = Shown {
        folder: folder.path(),
        table: &arguments.table,
        saved: &saved,
        data: &data,
        outlook: &outlook,
        later: later.as_ref(),
        device: device.summary(),
        printed: &about,
    };
    report.line("");
    if let Some(out) = &arguments.out {
        let text = forecast_csv(&data, &outlook);
        write_atomically(out, text.as_bytes())?;
        report.line(format!("written   {}", out.display()));
    }
    if let Some(image) = image {
        let (svg, png) = future_plot(&data, &outlook, options.level(), &saved.best)?;
        image.write(|| Ok(svg), || Ok(png))?;
        report.line(format!("plotted   {image}"));
    }
    if let Some(path) = &arguments.samples {
        let options = options.clone().with_samples(options.samples().unwrap_or(SAMPLES));
        let text = samples_csv(&data, &outlook, &options).ok_or_else(|| {
            Failure::failed("no futures can be drawn: the model's errors are known up to its horizon alone, and only if it \
                             had a validation part")
        })?;
        write_atomically(path, text.as_bytes())?;
        report.line(format!("drawn     {}", path.display()));
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
        "since": later.as_ref().map(|later| since(later, &data)),
        "since_unmeasured": unmeasured.iter().map(|(series, why)| json!({ "series": series, "reason": why })).collect::<Vec<_>>(),
        "table": data.dataset.report().lines().collect::<Vec<_>>(),
    }));
    // Last: what was asked for is there, even where this cannot be written.
    write_report(&arguments.report, &shown.page())?;
    report.line(format!("report    {}", arguments.report.display()));
    Ok(())
}

/// A line about series, or all if there is no name, whose rows since the training could not be forecast.
fn unmeasured_line(unmeasured: &[(Option<String>, String)]) -> Option<String> {
    let (_, why) = unmeasured.first()?;
    let names: Vec<String> = unmeasured.iter().filter_map(|(series, _)| series.clone()).collect();
    let of = if names.is_empty() { String::new() } else { format!(" of {}", series::shown(&names)) };
    Some(format!("\nThe rows since the training{of} were not measured: {why}"))
}

fn write_report(path: &Path, page: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_folder(folder)?;
    }
    Ok(write_atomically(path, page.as_bytes())?)
}

/// A line about the errors on rows that came after the training.
fn later_line(later: &Later, level: f64) -> String {
    let errors = later.all();
    let rows = if later.samples == 1 { "row".to_owned() } else { format!("{} rows", later.samples) };
    let held = errors.coverage.map_or_else(String::new, |share| {
        format!(";\n{:.1} % within the {level}-% intervals", 100.0 * share)
    });
    format!(
        "\nOn the {rows} since the training: MAE {}, MASE {}{held}.",
        figure(errors.mae),
        figure(errors.mase)
    )
}

/// The same as JSON.
fn since(later: &Later, data: &Data) -> serde_json::Value {
    let mut value = json!(later.all());
    value["samples"] = json!(later.samples);
    value["by_step"] = json!(later.by_step());
    let named = |(series, errors): (usize, Errors)| {
        let mut value = json!(errors);
        value["series"] = json!(data.names()[series]);
        value
    };
    value["by_series"] = later.by_series().into_iter().map(named).collect();
    value
}

/// The unit of the errors of each series: that of the run, or that of its rows for a new one.
fn units(saved: &SavedModel, data: &Data, known: &[Option<usize>]) -> Vec<f64> {
    let (lag, made_up) = (Seasons::new(&saved.seasons).shortest().unwrap_or(1), saved.options.made_up(data));
    let unit = |(at, (number, values)): (usize, (&Option<usize>, &[f64]))| {
        number.map_or_else(|| naive_error(values, lag, at, &made_up), |number| saved.units[number])
    };
    known.iter().zip(data.series()).enumerate().map(unit).collect()
}

/// Lines about values of constant columns that the training did not have: which, of which series, and what is made of them.
fn unseen_lines(unseen: &[Unseen], saved: &SavedModel, data: &Data) -> Vec<String> {
    let mut all: Vec<(&Unseen, Vec<String>)> = Vec::new();
    for one in unseen {
        let name = data.names()[one.series / data.targets() * data.targets()].clone();
        match all.iter_mut().find(|(other, _)| (other.column, &other.value) == (one.column, &one.value)) {
            Some((_, names)) if names.last() == Some(&name) => {}
            Some((_, names)) => names.push(name),
            None => all.push((one, vec![name])),
        }
    }
    let line = |(one, names): &(&Unseen, Vec<String>)| {
        let column = &saved.options.constants()[one.column];
        let taken = match one.categories {
            0 => "no number, taken for the mean".to_owned(),
            categories => format!("not among the {categories} of the training, taken for their mean"),
        };
        format!("unseen    {column} '{}' of {}: {taken}", one.value, series::shown(names))
    };
    let mut lines: Vec<String> = all.iter().take(UNSEEN).map(line).collect();
    if all.len() > UNSEEN {
        lines.push(format!("unseen    ... and {} more values, taken for the mean", all.len() - UNSEEN));
    }
    lines
}
