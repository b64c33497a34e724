use super::Arguments;
use super::data::Data;
use super::report::Report;
use super::settings::Settings;
use super::training::Finished;
use crate::failure::Failure;
use crate::forecaster::{Forecaster, rounded};
use gatefold::Device;
use gatefold_model::file::write_atomically;
use gatefold_series::plot::{ForecastPlot, LossPlot};
use gatefold_series::{Baseline, Metrics};
use ndarray::Array2;
use serde_json::json;
use std::ops::Range;

/// A model's forecasts of the test part, `[origins, horizon]`, with their metrics.
struct Judged {
    name: String,
    forecasts: Array2<f64>,
    metrics: Metrics,
}

/// Forecasts the test part, compares with every baseline, writes the files and prints the table.
pub(super) fn write(
    report: &Report,
    arguments: &Arguments,
    data: &Data,
    forecaster: &Forecaster,
    settings: &Settings,
    finished: Finished,
    device: &Device,
) -> Result<(), Failure> {
    let horizon = forecaster.shape.horizon;
    let origins = data.split.origins(horizon);
    let judge = |name: String, forecasts: Array2<f64>| -> Result<Judged, Failure> {
        let past = &data.series[data.split.past()];
        let metrics = Metrics::of_forecasts(&data.series, origins.clone(), &forecasts, past)
            .map_err(|error| data.failure(&error))?;
        Ok(Judged { name, forecasts, metrics })
    };
    let ours = forecaster.forecasts(&finished.network, &data.series, origins.clone())?;
    let mut judged = vec![judge("lstm".into(), ours)?];
    for baseline in Baseline::all(settings.season) {
        let forecasts = baseline
            .forecasts(&data.series, origins.clone(), horizon)
            .map_err(|error| data.failure(&error))?;
        judged.push(judge(baseline.to_string(), forecasts)?);
    }

    let save =
        |name: &str, content: &[u8]| Ok::<(), Failure>(write_atomically(arguments.out.join(name), content)?);
    save("forecast.csv", table(data, &origins, &judged).as_bytes())?;
    save("forecast.svg", plot(data, forecaster, &origins, &judged)?.as_bytes())?;
    let losses = LossPlot {
        title: &format!("{}: epoch {} kept", forecaster.shape.target, finished.best_epoch + 1),
        loss: settings.loss.label(),
        training: &finished.training_loss,
        validation: &finished.validation_loss,
    };
    save("loss.svg", losses.svg()?.as_bytes())?;
    save("metrics.json", metrics_json(data, forecaster, settings, &finished, device, &judged).as_bytes())?;
    print(report, arguments, data, settings, &finished, horizon, &judged);
    Ok(())
}

/// Every forecast sample from every origin: `row` counts the table's rows from 1, `step` counts from the origin.
fn table(data: &Data, origins: &Range<usize>, judged: &[Judged]) -> String {
    let column = |name: &str| name.split(" (").next().unwrap_or(name).replace(' ', "_");
    let mut text = String::from("row,step");
    text += if data.dates.is_some() { ",date,truth,forecast" } else { ",truth,forecast" };
    for model in &judged[1..] {
        text += &format!(",{}", column(&model.name));
    }
    text += "\n";
    for (index, origin) in origins.clone().enumerate() {
        for step in 0..judged[0].forecasts.ncols() {
            let at = origin + step;
            text += &format!("{},{}", at + 1, step + 1);
            if let Some(dates) = &data.dates {
                text += &format!(",{}", cell(&dates[at]));
            }
            text += &format!(",{}", data.series[at]);
            for model in judged {
                text += &format!(",{}", rounded(model.forecasts[[index, step]]));
            }
            text += "\n";
        }
    }
    text
}

fn plot(
    data: &Data,
    forecaster: &Forecaster,
    origins: &Range<usize>,
    judged: &[Judged],
) -> Result<String, Failure> {
    let horizon = forecaster.shape.horizon;
    let test = data.split.test();
    // Blocks end to end. Where the last one would be cut off, the block that ends with the table takes its place.
    let line = |model: &Judged| -> Vec<f64> {
        let value = |at: usize| {
            let block = (at - test.start) / horizon * horizon;
            let origin = block.min(origins.len() - 1);
            model.forecasts[[origin, at - test.start - origin]]
        };
        test.clone().map(value).collect()
    };
    let best =
        judged[1..].iter().min_by(|a, b| a.metrics.mae.total_cmp(&b.metrics.mae)).unwrap_or(&judged[0]);
    let ahead = if horizon == 1 { "one step ahead".into() } else { format!("{horizon} steps ahead") };
    let plot = ForecastPlot {
        title: &format!("{}, {ahead}", forecaster.shape.target),
        value: &forecaster.shape.target,
        first_row: test.start + 1,
        dates: data.dates.as_ref().map(|dates| &dates[test.clone()]),
        truth: &data.series[test.clone()],
        forecast: &line(&judged[0]),
        baseline: (&best.name, &line(best)),
        newest: (3 * horizon).max(60), // three blocks, or five years of months
    };
    Ok(plot.svg()?)
}

fn metrics_json(
    data: &Data,
    forecaster: &Forecaster,
    settings: &Settings,
    finished: &Finished,
    device: &Device,
    judged: &[Judged],
) -> String {
    let models: Vec<_> = judged
        .iter()
        .map(|Judged { name, metrics, .. }| {
            json!({"name": name, "mae": metrics.mae, "rmse": metrics.rmse, "mase": metrics.mase, "smape": metrics.smape})
        })
        .collect();
    let shape = &forecaster.shape;
    let value = json!({
        "models": models,
        "target": shape.target,
        "rows": data.series.len(),
        "train_rows": data.split.train().len(),
        "validation_rows": data.split.validation().len(),
        "test_rows": data.split.test().len(),
        "origins": data.split.origins(shape.horizon).len(),
        "horizon": shape.horizon,
        "input": shape.input,
        "season": settings.season,
        "network": finished.network.config().to_string(),
        "parameters": finished.network.config().parameter_count(),
        "device": device.summary(),
        "seed": settings.seed,
        "loss": settings.loss,
        "optimizer": settings.optimizer,
        "epochs": finished.training_loss.len(),
        "best_epoch": finished.best_epoch + 1,
        "steps": finished.steps,
        "training_loss": finished.training_loss,
        "validation_loss": finished.validation_loss,
    });
    format!("{value:#}\n")
}

fn print(
    report: &Report,
    arguments: &Arguments,
    data: &Data,
    settings: &Settings,
    finished: &Finished,
    horizon: usize,
    judged: &[Judged],
) {
    let epochs = finished.training_loss.len();
    let early = if epochs < settings.epochs { ", until validation stopped improving" } else { "" };
    report.line(format!("trained   {epochs} epochs{early}"));
    report.line(format!("kept      epoch {}, the best in validation", finished.best_epoch + 1));
    let ahead = if horizon == 1 { "1 step ahead".into() } else { format!("{horizon} steps ahead") };
    report.line(format!("\nThe last {} rows, {ahead}:\n", data.split.test().len()));
    report.line(format!("{:<22}{:>9}{:>9}{:>8}{:>9}", "model", "MAE", "RMSE", "MASE", "sMAPE %"));
    for Judged { name, metrics, .. } in judged {
        report.line(format!(
            "{name:<22}{:>9}{:>9}{:>8.3}{:>9.2}",
            figure(metrics.mae),
            figure(metrics.rmse),
            metrics.mase,
            metrics.smape
        ));
    }
    let (ours, baselines) = (&judged[0], &judged[1..]);
    if let Some(best) = baselines.iter().min_by(|a, b| a.metrics.mae.total_cmp(&b.metrics.mae)) {
        let share = 100.0 * (1.0 - ours.metrics.mae / best.metrics.mae);
        report.line(if share > 0.0 {
            format!("\nMAE {share:.1} % below the best baseline's: {}.", best.name)
        } else {
            format!("\nNo better than the baseline '{}':\nuse that, or try other settings.", best.name)
        });
    }
    report.line(format!("\nWritten to {}:", arguments.out.display()));
    report.line(
        "  forecast.csv  forecast.svg  loss.svg  metrics.json\n  model.safetensors  checkpoint.safetensors",
    );
}

/// The text, quoted if necessary: one odd cell in a column of dates must not break the table.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

/// Four significant digits, at most six decimals, and every digit before the point; exponents for the extremes.
fn figure(value: f64) -> String {
    let digits = if value > 0.0 { (3.0 - value.log10().floor()).clamp(0.0, 6.0) as usize } else { 0 };
    let plain = format!("{value:.digits$}");
    if plain.len() > 8 || (value > 0.0 && value < 1e-3) { format!("{value:.2e}") } else { plain }
}
