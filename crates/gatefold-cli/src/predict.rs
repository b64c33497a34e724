//! `gatefold predict`: forecasts the rows after a table with a model that `gatefold forecast` fitted.

use crate::ComputeArguments;
use crate::failure::Failure;
use crate::forecast::{
    Data, Folder, Interval, Outlook, Report, SavedModel, forecast_csv, forecast_json, future_plot,
    print_forecast, samples_csv,
};
use crate::image::Image;
use gatefold::Device;
use gatefold_forecast::{Beside, Candidate, Fitted, NETWORKS, Seasons, Settings, candidates, mean_band};
use gatefold_model::file::write_atomically;
use ndarray::{Array2, Array3, s};
use serde_json::json;
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

/// Futures that are drawn unless the run said how many.
const SAMPLES: usize = 100;

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let image = arguments.plot.as_deref().map(|path| Image::new("--plot", path)).transpose()?;
    let folder = Folder::new(&arguments.model);
    let saved = folder.model()?;
    let mut data = Data::read(&arguments.table, &saved.reading)?;
    let report = Report::with_json(arguments.quiet, arguments.json);
    report.lines(data.dataset.report().lines());
    let others = data.names().len().saturating_sub(saved.names.len());
    select(&arguments.table, &saved, &mut data)?;
    if others > 0 {
        report.line(format!("warning   {others} of the table's series are not the model's: no forecast"));
    }
    let delays = delays(&arguments.table, &saved, &data)?;
    let device = arguments.compute.open(arguments.quiet)?;
    report.line(format!("model     {}", saved.best));
    report.line(format!("device    {}\n", device.summary()));
    let steps = arguments.steps.unwrap_or(saved.horizon);
    data.check_future(steps)?;
    // Blocks are whole horizons.
    let beside = saved.options.beside(&data, steps.next_multiple_of(saved.horizon))?;
    let model = Fit { device: &device, folder: &folder, saved: &saved, beside: &beside, delays: &delays };
    let mut known: Vec<Vec<f64>> = data.series().into_iter().map(<[f64]>::to_vec).collect();
    let mut forecasts = Array2::zeros((known.len(), steps));
    let (mut bands, mut done) = (None, 0);
    while done < steps {
        let series: Vec<&[f64]> = known.iter().map(Vec::as_slice).collect();
        let (block, block_bands) = model.forecast(&series)?;
        bands = block_bands;
        let taken = block.ncols().min(steps - done);
        forecasts.slice_mut(s![.., done..done + taken]).assign(&block.slice(s![.., ..taken]));
        for (known, row) in known.iter_mut().zip(block.rows()) {
            known.extend(row.iter());
        }
        done += taken;
    }
    // Errors are known up to the horizon alone.
    let calibrations = Some(&saved.calibrations).filter(|_| steps <= saved.horizon);
    let options = &saved.options;
    let interval = Interval::new(calibrations, options, (known.len(), saved.horizon));
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
        "table": data.dataset.report().lines().collect::<Vec<_>>(),
    }));
    Ok(())
}

/// The most samples by which a table may start after the one that the model was fitted on.
const MOST_LATER: i64 = 1_000_000;

/// Keeps the series that the model was fitted on, in its order.
///
/// # Errors
/// A series that the table lacks, and samples that are not as far apart.
pub(crate) fn select(table: &Path, saved: &SavedModel, data: &mut Data) -> Result<(), Failure> {
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", table.display()));
    let frequency = data.dataset.calendar().frequency().to_string();
    if frequency != saved.frequency {
        return Err(refuse(format!(
            "its samples are {frequency}, and those that the model was fitted on were {}; give a table like that, or train \
             on this one",
            saved.frequency
        )));
    }
    let found = listed(data.names());
    data.select(&saved.names).map_err(|missing| {
        refuse(format!(
            "the model was fitted on {}, and this table has {found}; {missing} is missing: give a table that has it",
            listed(&saved.names)
        ))
    })
}

/// The samples by which each series starts later than the one that the model was fitted on.
pub(crate) fn delays(table: &Path, saved: &SavedModel, data: &Data) -> Result<Vec<usize>, Failure> {
    let refuse = |problem: String| Failure::failed(format!("{}: {problem}", table.display()));
    let calendar = data.dataset.calendar();
    let later = saved.first.iter().enumerate().map(|(series, first)| {
        let start = data.start(series);
        let found = calendar.label(start);
        if found == *first {
            return Ok(0);
        }
        // Rows without a time of their own say nothing about where the table starts.
        let most = if calendar.has_times() { MOST_LATER } else { 0 };
        (1..=most).find(|by| calendar.label(start - by) == *first).map(|by| by as usize).ok_or_else(|| {
            refuse(format!(
                "the first row of {} is {found}, and that of the model's table was {first}; start with that row, or a later \
                 one of the same calendar",
                data.names()[series]
            ))
        })
    });
    later.collect()
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

/// A saved model, and what it may read beside the series.
struct Fit<'a> {
    device: &'a Device,
    folder: &'a Folder,
    saved: &'a SavedModel,
    beside: &'a Beside,
    /// The samples by which each series starts later than the one that the model was fitted on.
    delays: &'a [usize],
}

impl Fit<'_> {
    fn forecast(&self, series: &[&[f64]]) -> Result<Block, Failure> {
        let saved = self.saved;
        let names = if saved.members.is_empty() { std::slice::from_ref(&saved.best) } else { &saved.members };
        let mut sum = Array2::zeros((series.len(), saved.horizon));
        let mut bands = Vec::new();
        for name in names {
            let (forecasts, own) = match NETWORKS.contains(&name.as_str()) {
                true => self.forecast_by_network(name, series)?,
                false => (self.forecast_by_model(name, series)?, None),
            };
            sum += &forecasts;
            bands.extend(own);
        }
        Ok((sum / names.len() as f64, mean_band(bands.iter())))
    }

    /// A network counts moments from the first sample that it was trained on.
    fn forecast_by_network(&self, name: &str, series: &[&[f64]]) -> Result<Block, Failure> {
        let mut fitted = Fitted::load(self.device, self.folder.path(), name)?;
        fitted.put_beside(&self.beside.delayed(self.delays));
        let delayed: Vec<Vec<f64>> = series
            .iter()
            .zip(self.delays)
            .map(|(values, by)| [vec![f64::NAN; *by].as_slice(), values].concat())
            .collect();
        if let Some((values, _)) =
            series.iter().zip(self.delays).find(|(values, _)| values.len() < fitted.needed())
        {
            return Err(Failure::failed(format!(
                "a forecast needs {} samples before it; found {}; give a table with more rows",
                fitted.needed(),
                values.len()
            )));
        }
        let known: Vec<(usize, &[f64])> = delayed.iter().map(Vec::as_slice).enumerate().collect();
        let (forecasts, bands) = fitted.forecast_bands(&known)?;
        Ok((forecasts, Some(bands)))
    }

    /// A classical model is fitted to the table again.
    fn forecast_by_model(&self, name: &str, series: &[&[f64]]) -> Result<Array2<f64>, Failure> {
        let saved = self.saved;
        let seasons = Seasons::new(&saved.seasons);
        let lengths: Vec<usize> = series.iter().map(|values| values.len()).collect();
        let settings = Settings {
            beside: self.beside.clone(),
            ..Settings::new(saved.horizon, seasons.shortest(), &lengths)
        };
        let names = gatefold_forecast::MODELS.map(str::to_owned);
        let all = candidates(Some(&names), &seasons, &settings, series)?;
        let found = all.iter().find_map(|candidate| match candidate {
            Candidate::PerSeries(model, beside) if model.name() == name => Some((model, beside)),
            _ => None,
        });
        let Some((model, beside)) = found else {
            return Err(Failure::failed(format!(
                "{}: the model {name} is not known to this version; train the model again",
                self.folder.path().display()
            )));
        };
        let mut forecasts = Array2::zeros((series.len(), saved.horizon));
        for (at, (mut row, values)) in forecasts.rows_mut().into_iter().zip(series).enumerate() {
            let (covariates, end) = (beside.covariates(at), values.len());
            let fitted = model.fit_with(values, covariates)?;
            row.assign(&fitted.forecasts_with(values, covariates, end..end + 1, saved.horizon)?.row(0));
        }
        Ok(forecasts)
    }
}
