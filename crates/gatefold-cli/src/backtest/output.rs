use super::{Arguments, Chosen, html};
use crate::failure::Failure;
use crate::forecast::{Data, Report, cell, figure, rounded, verdict};
use crate::page::table;
use gatefold::NetworkConfig;
use gatefold_forecast::{Backtest, Measures, Refit};
use gatefold_model::file::write_atomically;
use gatefold_series::plot::LinesPlot;
use serde_json::{Value, json};

/// A finished backtest.
pub(super) struct Run<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) data: &'a Data,
    pub(super) chosen: &'a Chosen,
    pub(super) results: &'a Backtest,
    pub(super) device: String,
    pub(super) resolved: String,
    /// The networks that were trained, with the names of their models.
    pub(super) networks: Vec<(String, NetworkConfig)>,
}

/// The most models in the plot of errors.
const LINES: usize = 6;

/// Writes tables, plots, metrics and report, and prints what they show.
pub(super) fn write(report: &Report, run: &Run) -> Result<(), Failure> {
    let out = &run.arguments.out;
    let save = |name: &str, content: &[u8]| Ok::<(), Failure>(write_atomically(out.join(name), content)?);
    save("backtest.csv", forecasts_csv(run).as_bytes())?;
    save("by_step.csv", by_step_csv(run.results).as_bytes())?;
    save("by_series.csv", by_series_csv(run).as_bytes())?;
    let metrics = metrics(run);
    save("metrics.json", format!("{metrics:#}\n").as_bytes())?;
    let lines = error_lines(run.results);
    let lines: Vec<(&str, &[(f64, f64)])> =
        lines.iter().map(|(name, points)| (name.as_str(), points.as_slice())).collect();
    let plot = LinesPlot {
        title: &format!("Mean absolute error over {} windows", run.results.plan.windows),
        x: "steps ahead",
        y: "error",
        lines: &lines,
    };
    save("by_step.svg", plot.svg()?.as_bytes())?;
    save("by_step.png", &plot.png()?)?;
    save("report.html", html::page(run)?.as_bytes())?;
    report.lines(lines_of_table(run));
    report.line(format!("\nWritten to {}:", out.display()));
    report.line("  report.html  backtest.csv  by_step.csv  by_series.csv");
    report.line("  by_step.svg  by_step.png  metrics.json  log.csv  run.toml");
    let mut document = metrics;
    document["out"] = json!(out.display().to_string());
    document["table"] = json!(run.data.dataset.report().lines().collect::<Vec<_>>());
    report.document(&document);
    Ok(())
}

/// The best model and those that did best in the windows, each with its error at every step ahead.
pub(super) fn error_lines(results: &Backtest) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut order: Vec<usize> = (0..results.models.len()).collect();
    let error = |place: &usize| results.measures(*place).mase;
    order.sort_by(|a, b| (*a != results.best).cmp(&(*b != results.best)).then(error(a).total_cmp(&error(b))));
    let line = |place: usize| {
        let steps = results.by_step(place).into_iter().enumerate();
        (results.models[place].name.clone(), steps.map(|(k, step)| (k as f64 + 1.0, step.mae)).collect())
    };
    order.into_iter().take(LINES).map(line).collect()
}

fn lines_of_table(run: &Run) -> Vec<String> {
    let results = run.results;
    let mut lines: Vec<String> =
        results.left_out.iter().map(|(name, why)| format!("left out  {name}: {why}")).collect();
    let level = 100.0 * results.plan.level;
    let some = |value: Option<f64>| value.map_or_else(|| "-".into(), figure);
    let row = |place: usize| {
        let of = results.measures(place);
        let mark = if place == results.best { " *" } else { "" };
        vec![
            format!("{}{mark}", results.models[place].name),
            figure(of.mae),
            figure(of.rmse),
            figure(of.mase),
            figure(of.smape),
            figure(of.bias),
            some(of.quantile_loss),
            some(of.crps),
            some(of.msis),
            of.coverage.map_or_else(|| "-".into(), |share| format!("{:.1}", 100.0 * share)),
        ]
    };
    let rows: Vec<Vec<String>> = (0..results.models.len()).map(row).collect();
    let head = ["model", "MAE", "RMSE", "MASE", "sMAPE %", "bias", "quantile", "CRPS", "MSIS", "held %"];
    lines.push(String::new());
    lines.extend(table(&head, &rows));
    lines.push(String::new());
    lines.push(format!("* {}: chosen on the calibration part, before", results.models[results.best].name));
    lines.push(format!("the first window. Intervals of {level} %."));
    let error = |place: usize| results.measures(place).mase;
    let others = (0..results.models.len()).filter(|place| *place != results.best);
    if let Some(other) = others.min_by(|a, b| error(*a).total_cmp(&error(*b))) {
        lines.push(verdict(error(results.best), &results.models[other].name, error(other)));
    }
    let forecasts = results.measures(results.best);
    if forecasts.with_intervals < forecasts.forecasts {
        lines.push(format!(
            "{} of {} forecasts have no interval, for want of errors.",
            forecasts.forecasts - forecasts.with_intervals,
            forecasts.forecasts
        ));
    }
    lines
}

const MEASURES: &str = "mae,rmse,mase,smape,bias,quantile_loss,crps,msis,coverage,forecasts";

fn measures_cells(of: &Measures) -> String {
    let some = |value: Option<f64>| value.map_or_else(String::new, rounded);
    let plain = [of.mae, of.rmse, of.mase, of.smape, of.bias].map(rounded).join(",");
    let spread = [of.quantile_loss, of.crps, of.msis, of.coverage].map(some).join(",");
    format!("{plain},{spread},{}", of.forecasts)
}

fn by_step_csv(results: &Backtest) -> String {
    let mut text = format!("model,step,{MEASURES}\n");
    for (place, model) in results.models.iter().enumerate() {
        for (k, of) in results.by_step(place).iter().enumerate() {
            text += &format!("{},{},{}\n", cell(&model.name), k + 1, measures_cells(of));
        }
    }
    text
}

fn by_series_csv(run: &Run) -> String {
    let mut text = format!("model,series,{MEASURES}\n");
    for (place, model) in run.results.models.iter().enumerate() {
        for (name, of) in run.data.names().iter().zip(run.results.by_series(place)) {
            text += &format!("{},{},{}\n", cell(&model.name), cell(name), measures_cells(&of));
        }
    }
    text
}

/// Every forecast: the origin is the last known sample. The truth is empty where no error counts.
fn forecasts_csv(run: &Run) -> String {
    let (data, results) = (run.data, run.results);
    let time = if data.dataset.calendar().has_dates() { "date" } else { "row" };
    let mut text = format!("model,series,origin,step,{time},truth,forecast,lower,upper\n");
    let lengths: Vec<usize> = data.series().iter().map(|values| values.len()).collect();
    let labels: Vec<Vec<String>> = (0..lengths.len())
        .map(|series| data.labels(series, results.origins[series][0] - 1..lengths[series]))
        .collect();
    for (place, model) in results.models.iter().enumerate() {
        for (series, labels) in labels.iter().enumerate() {
            let before = results.origins[series][0] - 1;
            for (window, origin) in results.origins[series].iter().enumerate() {
                for (k, row) in results.interval(place, series, window).into_iter().enumerate() {
                    let [forecast, lower, upper] = row.map(rounded);
                    let truth = results.truth[series][[window, k]];
                    let truth = if truth.is_nan() { String::new() } else { truth.to_string() };
                    text += &format!(
                        "{},{},{},{},{},{},{forecast},{lower},{upper}\n",
                        cell(&model.name),
                        cell(&data.names()[series]),
                        cell(&labels[origin - 1 - before]),
                        k + 1,
                        cell(&labels[origin + k - before]),
                        truth
                    );
                }
            }
        }
    }
    text
}

fn metrics(run: &Run) -> Value {
    let (results, data, plan) = (run.results, run.data, &run.results.plan);
    let [in_calibration, in_windows] = run.chosen.made_up(&data.series());
    let model = |place: usize| {
        let model = &results.models[place];
        let mut value = json!(results.measures(place));
        value["name"] = json!(model.name);
        value["validation_mase"] = json!(model.validation);
        value["by_step"] = json!(results.by_step(place));
        value["by_series"] = json!(results.by_series(place));
        value["by_window"] = json!(results.by_window(place));
        value["seconds"] = json!(model.took.as_secs_f64());
        let members = model.members.iter().map(|member| results.models[*member].name.clone());
        value["of"] = json!(members.collect::<Vec<_>>());
        value
    };
    json!({
        "command": "backtest",
        "version": env!("CARGO_PKG_VERSION"),
        "models": (0..results.models.len()).map(model).collect::<Vec<_>>(),
        "best": results.models[results.best].name,
        "left_out": results.left_out,
        "level": run.arguments.options.level(),
        "series": data.names(),
        "samples": data.series().iter().map(|values| values.len()).collect::<Vec<_>>(),
        "horizon": plan.horizon,
        "seasons": run.chosen.seasons.lengths,
        "lag": plan.lag,
        "windows": plan.windows,
        "step": plan.step,
        "refit": match plan.refit { Refit::Always => "always", Refit::Never => "never" },
        "calibration": plan.calibration,
        "made_up": { "calibration": in_calibration, "windows": in_windows },
        "settings": run.chosen.settings,
        "device": run.device,
    })
}
