use super::choices::Chosen;
use super::html;
use super::report::Report;
use super::samples::samples_csv;
use super::{Arguments, Data, Options};
use crate::failure::Failure;
use crate::page::{entry, table};
use gatefold::NetworkConfig;
use gatefold_forecast::{Calibration, Calibrations, Comparison, Future, Intervals, Judged, Plan};
use gatefold_model::file::write_atomically;
use gatefold_series::plot::{ForecastPlot, FuturePlot};
use ndarray::{Array2, ArrayView2, ArrayView3};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::ops::Range;

/// Rows of the future that are printed.
const SHOWN: usize = 12;
/// Series of the future that are printed.
const SHOWN_SERIES: usize = 3;
/// Targets whose errors are printed one by one.
const SHOWN_TARGETS: usize = 6;
/// Intervals that hold this much less of the test part than they should are worth a warning.
const MISSED: f64 = 0.1;

/// A calibration, and the multiples of its bands at each step.
type Reach<'a> = (&'a Calibration, Option<Vec<[f64; 2]>>);

/// The intervals around forecasts of a horizon, within the limits that the user knows.
pub(crate) struct Interval<'a> {
    /// For each series the calibration, and how many of its bands the interval reaches below and above the forecast at each
    /// step, if errors are known enough.
    series: Vec<Option<Reach<'a>>>,
    limits: (f64, f64),
}

impl<'a> Interval<'a> {
    /// The intervals of series with these numbers in the calibrations, `None` for one that they do not know; without calibrations
    /// there are none.
    pub(crate) fn new(
        calibrations: Option<&'a Calibrations>,
        options: &Options,
        series: impl Iterator<Item = Option<usize>>,
        horizon: usize,
    ) -> Self {
        let (level, limits) = (options.level / 100.0, options.limits());
        let reach = |of: &Calibration| match options.intervals.into() {
            Intervals::Calibrated => Some(vec![of.factor(level).map(|factor| [-factor, factor])?; horizon]),
            Intervals::Sampled => (0..horizon).map(|k| of.sampled(k, level)).collect(),
        };
        let of_series = |number: Option<usize>| {
            let of =
                calibrations.and_then(|all| number.map_or_else(|| all.of_new(), |number| all.of(number)));
            of.map(|of| (of, reach(of)))
        };
        Interval {
            series: series.map(of_series).collect(),
            limits: (limits.0.unwrap_or(f64::NEG_INFINITY), limits.1.unwrap_or(f64::INFINITY)),
        }
    }

    /// Whether errors are known enough for intervals.
    pub(crate) fn known(&self) -> bool {
        self.series.iter().flatten().any(|(_, reach)| reach.is_some())
    }

    /// The forecast within the limits, and the ends of its interval, for step `k` of a series with this unit. `band` is how
    /// far the model's own band lies below and above the forecast, if it has one.
    pub(crate) fn around(
        &self,
        forecast: f64,
        (series, k): (usize, usize),
        unit: f64,
        band: Option<[f64; 2]>,
    ) -> [f64; 3] {
        let ends = match &self.series[series] {
            Some((of, Some(multiples))) => {
                let [below, above] = of.band(k, unit, band);
                multiples[k].map(|multiple| multiple * if multiple > 0.0 { above } else { below })
            }
            _ => [f64::NAN; 2],
        };
        [forecast, forecast + ends[0], forecast + ends[1]].map(|value| self.kept(value))
    }

    /// A value within the limits. A NaN stays one: without errors to calibrate on there is no interval.
    fn kept(&self, value: f64) -> f64 {
        if value.is_nan() { value } else { value.clamp(self.limits.0, self.limits.1) }
    }
}

/// Forecasts of the future, `[series, horizon]`, with what their intervals need.
pub(crate) struct Outlook<'a> {
    pub(crate) forecasts: ArrayView2<'a, f64>,
    /// The model's own bands, `[2, series, horizon]`.
    pub(crate) bands: Option<ArrayView3<'a, f64>>,
    pub(crate) interval: &'a Interval<'a>,
    /// The unit of each series.
    pub(crate) units: &'a [f64],
}

impl Outlook<'_> {
    /// Forecast and interval at each step of a series.
    pub(crate) fn rows(&self, series: usize) -> Vec<[f64; 3]> {
        let band = |k: usize| self.bands.map(|bands| [0, 1].map(|end| bands[[end, series, k]]));
        let row = self.forecasts.row(series).into_iter().enumerate();
        row.map(|(k, value)| self.interval.around(*value, (series, k), self.units[series], band(k))).collect()
    }

    /// One future of a series, drawn by `random`; `None` without errors to draw from.
    pub(crate) fn draw(&self, series: usize, random: &mut ChaCha8Rng) -> Option<Vec<f64>> {
        let band = |k: usize| self.bands.map(|bands| [0, 1].map(|end| bands[[end, series, k]]));
        let forecast = self.forecasts.row(series).to_vec();
        let (calibration, _) = self.interval.series[series].as_ref()?;
        let drawn = calibration.draw(&forecast, self.units[series], band, random)?;
        Some(drawn.into_iter().map(|value| self.interval.kept(value)).collect())
    }
}

/// A finished run.
pub(super) struct Run<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) data: &'a Data,
    pub(super) chosen: &'a Chosen,
    pub(super) comparison: &'a Comparison,
    pub(super) future: &'a Future,
    pub(super) device: String,
    /// The networks that were trained, with the names of their models.
    pub(super) networks: Vec<(String, NetworkConfig)>,
}

impl Run<'_> {
    pub(super) fn best(&self) -> &Judged {
        &self.comparison.models[self.comparison.best]
    }

    pub(super) fn interval(&self) -> Interval<'_> {
        let options = &self.arguments.options;
        let series = (0..self.data.names().len()).map(Some);
        Interval::new(Some(&self.best().calibrations), options, series, self.comparison.plan.horizon)
    }

    /// Forecast and interval of the best model at step `k` of row `row` of a series' test part.
    pub(super) fn around(&self, interval: &Interval, series: usize, row: usize, k: usize) -> [f64; 3] {
        let best = self.best();
        let band = best.bands.as_ref().map(|bands| [0, 1].map(|end| bands[series][[end, row, k]]));
        interval.around(best.forecasts[series][[row, k]], (series, k), self.comparison.units[series], band)
    }

    pub(super) fn outlook<'a>(&'a self, interval: &'a Interval<'a>) -> Outlook<'a> {
        Outlook {
            forecasts: self.future.forecasts.view(),
            bands: self.future.bands.as_ref().map(|bands| bands.view()),
            interval,
            units: &self.comparison.units,
        }
    }
}

/// Writes the tables, the plots, the metrics and the report, and prints what they show.
pub(super) fn write(report: &Report, run: &Run) -> Result<(), Failure> {
    let &Run { arguments, data, comparison, .. } = run;
    let (options, best, interval) = (&arguments.options, run.best(), run.interval());
    let outlook = run.outlook(&interval);
    let save =
        |name: &str, content: &[u8]| Ok::<(), Failure>(write_atomically(arguments.out.join(name), content)?);
    save("forecast.csv", forecast_csv(data, &outlook).as_bytes())?;
    save("test.csv", test_csv(data, comparison).as_bytes())?;
    let samples = samples_csv(data, &outlook, options);
    if let Some(samples) = &samples {
        save("samples.csv", samples.as_bytes())?;
    }
    let plot = future_plot(data, &outlook, options.level, &best.name)?;
    save("forecast.svg", plot.0.as_bytes())?;
    save("forecast.png", &plot.1)?;
    save("test.svg", test_plot(data, comparison)?.as_bytes())?;
    let metrics = metrics(run);
    save("metrics.json", format!("{metrics:#}\n").as_bytes())?;
    save("report.html", html::page(run)?.as_bytes())?;
    print_table(report, data, comparison);
    if let Some(Held { coverage, .. }) = held(data, options, comparison, best) {
        report.line(format!(
            "The {}-% intervals held {:.1} % of the test part.",
            options.level,
            100.0 * coverage
        ));
        if coverage < options.level / 100.0 - MISSED {
            report.line("That is far from what they promise: the test part is unlike the");
            report.line("validation part, and the future may be too.");
        }
    }
    report.line("");
    print_forecast(report, data, &outlook, options.level, &best.name);
    report.line(format!("\nWritten to {}:", arguments.out.display()));
    report.line("  report.html  forecast.csv  forecast.svg  forecast.png");
    report.line("  test.csv  test.svg  metrics.json  log.csv  model.json  run.toml");
    match (options.samples, samples) {
        (Some(_), Some(_)) => report.line("  samples.csv"),
        (Some(_), None) => report.line("No samples: too few errors are known to draw from."),
        (None, _) => {}
    }
    let mut document = metrics;
    document["forecast"] = forecast_json(data, &outlook);
    document["out"] = json!(arguments.out.display().to_string());
    document["table"] = json!(data.dataset.report().lines().collect::<Vec<_>>());
    report.document(&document);
    Ok(())
}

/// The future as a list of objects: the rows of forecast.csv, with the series in each.
pub(crate) fn forecast_json(data: &Data, outlook: &Outlook) -> serde_json::Value {
    let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
    let lengths: Vec<usize> = data.series().iter().map(|values| values.len()).collect();
    let mut all = Vec::with_capacity(outlook.forecasts.len());
    for (series, name) in data.names().iter().enumerate() {
        let rows = outlook.rows(series);
        let labels = data.labels(series, lengths[series]..lengths[series] + rows.len());
        for (row, label) in rows.into_iter().zip(labels) {
            // A NaN is null: without errors to calibrate on there is no interval.
            let [forecast, low, high] = row.map(|value| rounded(value).parse::<f64>().ok());
            all.push(json!({ "series": name, time: label, "forecast": forecast, "low": low, "high": high }));
        }
    }
    all.into()
}

/// Ten significant digits: more than an f32 holds, without a tail of binary noise.
pub(crate) fn rounded(value: f64) -> String {
    if value.is_nan() {
        return String::new();
    }
    let value: f64 = format!("{value:.9e}").parse().unwrap_or(value);
    value.to_string()
}

/// The text, quoted if necessary: one odd name must not break the table.
pub(crate) fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

/// The future: series (where there are several), moment, forecast and the interval's ends.
pub(crate) fn forecast_csv(data: &Data, outlook: &Outlook) -> String {
    let several = data.names().len() > 1;
    let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
    let mut text = format!("{}{time},forecast,low,high\n", if several { "series," } else { "" });
    let lengths: Vec<usize> = data.series().iter().map(|values| values.len()).collect();
    for (series, &len) in lengths.iter().enumerate() {
        let rows = outlook.rows(series);
        let labels = data.labels(series, len..len + rows.len());
        for (row, label) in rows.into_iter().zip(&labels) {
            if several {
                text += &format!("{},", cell(&data.names()[series]));
            }
            let [forecast, low, high] = row.map(rounded);
            text += &format!("{},{forecast},{low},{high}\n", cell(label));
        }
    }
    text
}

/// Every forecast of the test part: series, moment, steps ahead, truth (empty where no error counts), then one column for each
/// model.
fn test_csv(data: &Data, comparison: &Comparison) -> String {
    let several = data.names().len() > 1;
    let column =
        |name: &str| name.replace([' ', '(', ')'], "_").replace("__", "_").trim_matches('_').to_owned();
    let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
    let mut text = format!("{}{time},step,truth", if several { "series," } else { "" });
    for model in &comparison.models {
        text += &format!(",{}", column(&model.name));
    }
    text += "\n";
    for (series, values) in data.series().into_iter().enumerate() {
        let labels = data.labels(series, 0..values.len());
        for (row, origin) in comparison.plan.test_origins(values.len()).into_iter().enumerate() {
            for k in 0..comparison.plan.horizon {
                if several {
                    text += &format!("{},", cell(&data.names()[series]));
                }
                let truth = comparison.plan.made_up.truth(series, values, origin, k);
                let truth = if truth.is_nan() { String::new() } else { truth.to_string() };
                text += &format!("{},{},{truth}", cell(&labels[origin + k]), k + 1);
                for model in &comparison.models {
                    text += &format!(",{}", rounded(model.forecasts[series][[row, k]]));
                }
                text += "\n";
            }
        }
    }
    text
}

/// The quality of intervals on the test part.
pub(super) struct Held {
    /// The share of values within them.
    pub(super) coverage: f64,
    /// The mean interval score over the unit of each series, averaged over series (Gneiting and Raftery 2007).
    pub(super) msis: f64,
}

/// Measures a model's intervals on the test part; `None` without intervals.
pub(super) fn held(data: &Data, options: &Options, comparison: &Comparison, model: &Judged) -> Option<Held> {
    let series = (0..data.names().len()).map(Some);
    let interval = Interval::new(Some(&model.calibrations), options, series, comparison.plan.horizon);
    if !interval.known() {
        return None;
    }
    let (plan, miss) = (&comparison.plan, 2.0 / (1.0 - options.level / 100.0));
    let (mut inside, mut count, mut msis, mut scored) = (0usize, 0usize, 0.0, 0u32);
    for (series, values) in data.series().into_iter().enumerate() {
        let (forecasts, unit) = (&model.forecasts[series], comparison.units[series]);
        let (mut score, before) = (0.0, count);
        for (row, origin) in plan.test_origins(values.len()).into_iter().enumerate() {
            for k in 0..plan.horizon {
                let band = model.bands.as_ref().map(|bands| [0, 1].map(|end| bands[series][[end, row, k]]));
                let [_, low, high] = interval.around(forecasts[[row, k]], (series, k), unit, band);
                let truth = plan.made_up.truth(series, values, origin, k);
                if low.is_nan() || truth.is_nan() {
                    continue;
                }
                count += 1;
                inside += usize::from((low..=high).contains(&truth));
                score += high - low + miss * ((low - truth).max(0.0) + (truth - high).max(0.0));
            }
        }
        if count > before {
            msis += score / (count - before) as f64 / unit;
            scored += 1;
        }
    }
    Some(Held { coverage: inside as f64 / count as f64, msis: msis / f64::from(scored) })
}

/// The mean absolute and the scaled error of a model on each series' test part; NaN where nothing was measured.
pub(super) fn by_series(data: &Data, comparison: &Comparison, model: &Judged) -> Vec<[f64; 2]> {
    let plan = &comparison.plan;
    let of_series = |(series, values): (usize, &[f64])| {
        let mut sums = vec![(0.0, 0); plan.horizon];
        add_errors(plan, (series, values), &model.forecasts[series], &mut sums);
        let (sum, count) = sums.iter().fold((0.0, 0), |(a, b), (sum, count)| (a + sum, b + count));
        let mae = sum / count as f64;
        [mae, mae / comparison.units[series]]
    };
    data.series().into_iter().enumerate().map(of_series).collect()
}

pub(crate) fn future_plot(
    data: &Data,
    outlook: &Outlook,
    level: f64,
    model: &str,
) -> Result<(String, Vec<u8>), Failure> {
    let horizon = outlook.forecasts.ncols();
    let values = data.series()[0];
    let history = values.len().min((4 * horizon).max(60));
    let from = values.len() - history;
    let rows = outlook.rows(0);
    let line = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<f64>>();
    let (forecast, low, high) = (line(0), line(1), line(2));
    let labels = data.labels(0, from..values.len() + horizon);
    let name = &data.names()[0];
    let plot = FuturePlot {
        title: &format!("{}: {model}, the next {horizon}", one_line(name)),
        value: &one_line(name),
        first_row: from + 1,
        dates: data.dataset.calendar().has_dates().then_some(labels.as_slice()),
        history: &values[from..],
        forecast: &forecast,
        interval: (low[0].is_finite()).then_some((&low, &high)),
        interval_name: &format!("{level} %"),
    };
    Ok((plot.svg()?, plot.png()?))
}

pub(crate) fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The samples of a series within a range; NaN for those that were made up.
pub(super) fn measured(data: &Data, comparison: &Comparison, series: usize, range: Range<usize>) -> Vec<f64> {
    let (values, made_up) = (data.series()[series], &comparison.plan.made_up);
    range.map(|at| if made_up.has(series, at) { f64::NAN } else { values[at] }).collect()
}

/// The test part of the first series, blocks end to end: the best model and the strongest other.
fn test_plot(data: &Data, comparison: &Comparison) -> Result<String, Failure> {
    let plan = &comparison.plan;
    let values = data.series()[0];
    let origins = plan.test_origins(values.len());
    let shown = origins[0]..values.len();
    let line = |model: &Judged| -> Vec<f64> {
        let value = |at: usize| {
            // The latest origin of a whole block before the sample, or else the last one that reaches it.
            let wanted = shown.start + (at - shown.start) / plan.horizon * plan.horizon;
            let row = origins.partition_point(|origin| *origin <= wanted).saturating_sub(1);
            let k = at - origins[row];
            if k < plan.horizon { model.forecasts[0][[row, k]] } else { f64::NAN }
        };
        shown.clone().map(value).collect()
    };
    let (best, other) = (comparison.best, strongest_other(comparison).unwrap_or(comparison.best));
    let labels = data.labels(0, shown.clone());
    let name = one_line(&data.names()[0]);
    let ahead =
        if plan.horizon == 1 { "one step ahead".into() } else { format!("{} steps ahead", plan.horizon) };
    let best = &comparison.models[best];
    let plot = ForecastPlot {
        title: &format!("{name}, {ahead}: {}", best.name),
        value: &name,
        first_row: shown.start + 1,
        dates: data.dataset.calendar().has_dates().then_some(labels.as_slice()),
        truth: &measured(data, comparison, 0, shown.clone()),
        forecast: &line(best),
        baseline: (&comparison.models[other].name, &line(&comparison.models[other])),
        newest: (3 * plan.horizon).max(60),
    };
    Ok(plot.svg()?)
}

/// The model with the least error on the test part, apart from the chosen one.
pub(super) fn strongest_other(comparison: &Comparison) -> Option<usize> {
    let error = |place: &usize| comparison.models[*place].scores.mase;
    let others = (0..comparison.models.len()).filter(|place| *place != comparison.best);
    others.min_by(|a, b| error(a).total_cmp(&error(b)))
}

fn print_table(report: &Report, data: &Data, comparison: &Comparison) {
    let plan = &comparison.plan;
    for (name, why) in &comparison.left_out {
        report.line(format!("left out  {name}: {why}"));
    }
    let ahead =
        if plan.horizon == 1 { "1 step ahead".into() } else { format!("{} steps ahead", plan.horizon) };
    let of =
        if data.names().len() == 1 { String::new() } else { format!(" of {} series", data.names().len()) };
    report.line(format!("\nThe last {} samples{of}, {ahead}:\n", plan.test));
    let row = |(place, model): (usize, &Judged)| {
        let mark = if place == comparison.best { " *" } else { "" };
        let of = &model.scores;
        let name = format!("{}{mark}", model.name);
        std::iter::once(name).chain([of.mae, of.rmse, of.mase, of.smape].map(figure)).collect()
    };
    let rows: Vec<Vec<String>> = comparison.models.iter().enumerate().map(row).collect();
    report.lines(table(&["model", "MAE", "RMSE", "MASE", "sMAPE %"], &rows));
    // Several targets have units of their own, which a mean hides.
    if data.dataset.targets().len() > 1 && data.names().len() <= SHOWN_TARGETS {
        report.line("\nMAE of each:\n");
        let row = |model: &Judged| {
            let errors = by_series(data, comparison, model).into_iter().map(|[mae, _]| figure(mae));
            std::iter::once(model.name.clone()).chain(errors).collect()
        };
        let rows: Vec<Vec<String>> = comparison.models.iter().map(row).collect();
        let names: Vec<String> = data.names().iter().map(|name| one_line(name)).collect();
        let head: Vec<&str> = std::iter::once("model").chain(names.iter().map(String::as_str)).collect();
        report.lines(table(&head, &rows));
    }
    let choices = comparison.models.iter().filter_map(|model| Some((&model.name, model.choice.as_ref()?)));
    for (at, (name, choice)) in choices.enumerate() {
        report.line(format!(
            "{}{}",
            if at == 0 { "\n" } else { "" },
            entry(&format!("{name:<12} "), 13, choice)
        ));
    }
    let best = &comparison.models[comparison.best];
    let clearly = comparison.models.iter().all(|model| best.validation <= model.validation);
    report.line(format!(
        "\n* {}: {}.",
        best.name,
        if clearly {
            "the best on the validation part"
        } else {
            "on the validation part, none is clearly better"
        }
    ));
    if let Some(other) = strongest_other(comparison) {
        let other = &comparison.models[other];
        report.line(verdict(best.scores.mase, &other.name, other.scores.mase));
    }
}

/// The error of the chosen model beside that of the strongest other.
pub(crate) fn verdict(chosen: f64, other: &str, error: f64) -> String {
    match 100.0 * (1.0 - chosen / error) {
        share if share.is_infinite() => {
            format!("Its error here is above that of the best,\n{other}, which has none.")
        }
        // Less than the digit that would be shown.
        share if share.is_nan() || share.abs() < 0.05 => {
            format!("Its error here is that of the next best,\n{other}.")
        }
        share if share >= 0.0 => {
            format!("Its error here is {share:.1} % below that of the next best,\n{other}.")
        }
        share => format!("Its error here is {:.1} % above that of the best,\n{other}.", -share),
    }
}

/// Prints the first rows of the future.
pub(crate) fn print_forecast(report: &Report, data: &Data, outlook: &Outlook, level: f64, model: &str) {
    let horizon = outlook.forecasts.ncols();
    let steps = if horizon == 1 { "sample".into() } else { format!("{horizon} samples") };
    let intervals = match outlook.interval.known() {
        true => format!("with {level}-% intervals:\n"),
        false => "without intervals, for too few errors are known:\n".into(),
    };
    report.line(format!("The next {steps}, by {model} fitted on everything,\n{intervals}"));
    let several = data.names().len() > 1;
    for series in 0..data.names().len().min(SHOWN_SERIES) {
        if several {
            report.line(one_line(&data.names()[series]));
        }
        let len = data.series()[series].len();
        let labels = data.labels(series, len..len + horizon);
        let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
        let shown = outlook.rows(series).into_iter().zip(&labels).take(SHOWN);
        let rows = shown.map(|(row, label)| std::iter::once(label.clone()).chain(row.map(figure)).collect());
        report.lines(table(&[time, "forecast", "low", "high"], &rows.collect::<Vec<_>>()));
        if horizon > SHOWN {
            report.line(format!("... and {} more in forecast.csv", horizon - SHOWN));
        }
    }
    if data.names().len() > SHOWN_SERIES {
        report.line(format!("... and {} more series in forecast.csv", data.names().len() - SHOWN_SERIES));
    }
}

/// Four significant digits, at most six decimals, and every digit before the point up to eight; exponents beyond.
pub(crate) fn figure(value: f64) -> String {
    if value.is_nan() {
        return "-".into();
    }
    let size = value.abs();
    let digits = if size > 0.0 { (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    let plain = format!("{value:.digits$}");
    if plain.len() > 9 || (size > 0.0 && size < 1e-3) { format!("{value:.3e}") } else { plain }
}

fn metrics(run: &Run) -> serde_json::Value {
    let &Run { arguments, data, chosen, comparison, .. } = run;
    let plan = &comparison.plan;
    let held = |model: &Judged| held(data, &arguments.options, comparison, model);
    let [in_validation, in_test] = chosen.made_up(&data.series());
    let models: Vec<_> = comparison
        .models
        .iter()
        .map(|model| {
            let held = held(model);
            json!({
                "name": model.name,
                "validation_mase": model.validation,
                "mae": model.scores.mae,
                "rmse": model.scores.rmse,
                "mase": model.scores.mase,
                "smape": model.scores.smape,
                "bias": model.scores.bias,
                "choice": model.choice,
                "coverage": held.as_ref().map(|held| held.coverage),
                "msis": held.as_ref().map(|held| held.msis),
                "mae_by_step": by_step(data, comparison, model),
                "seconds": model.took.as_secs_f64(),
                "of": model.members.iter().map(|place| comparison.models[*place].name.clone()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "command": "forecast",
        "version": env!("CARGO_PKG_VERSION"),
        "models": models,
        "best": comparison.models[comparison.best].name,
        "left_out": comparison.left_out,
        "level": arguments.options.level,
        "coverage": held(&comparison.models[comparison.best]).map(|held| held.coverage),
        "series": data.names(),
        "samples": data.series().iter().map(|values| values.len()).collect::<Vec<_>>(),
        "horizon": plan.horizon,
        "seasons": chosen.seasons.lengths,
        "test": plan.test,
        "validation": plan.validation,
        "stride": plan.stride,
        "made_up": { "validation": in_validation, "test": in_test },
        "settings": chosen.settings,
        "device": run.device,
    })
}

pub(super) fn by_step(data: &Data, comparison: &Comparison, model: &Judged) -> Vec<f64> {
    let plan = &comparison.plan;
    let mut sums = vec![(0.0, 0); plan.horizon];
    for (series, values) in data.series().into_iter().enumerate() {
        add_errors(plan, (series, values), &model.forecasts[series], &mut sums);
    }
    sums.iter().map(|(sum, count)| sum / *count as f64).collect()
}

/// Adds the absolute errors of a series at each step, and their number.
fn add_errors(
    plan: &Plan,
    (series, values): (usize, &[f64]),
    forecasts: &Array2<f64>,
    sums: &mut [(f64, usize)],
) {
    for (row, origin) in forecasts.rows().into_iter().zip(plan.test_origins(values.len())) {
        for (k, (sum, count)) in sums.iter_mut().enumerate() {
            let error = (row[k] - plan.made_up.truth(series, values, origin, k)).abs();
            if !error.is_nan() {
                *sum += error;
                *count += 1;
            }
        }
    }
}
