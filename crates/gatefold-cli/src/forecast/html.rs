//! report.html of a forecast.

use super::output::{Outlook, Run, by_series, by_step, held, measured, strongest_other, verdict};
use super::{CONFIG, Data, LOG, one_line, read_log};
use crate::failure::Failure;
use crate::html::{
    Chart, Line, Page, Shape, XAxis, details, facts, layers, loss_charts, model_chart, note, number, percent,
    residual_charts, series_chart, series_table, table,
};
use gatefold_forecast::Judged;
use std::fs;

/// Series whose future is drawn.
const DRAWN: usize = 5;
/// Samples of history before a forecast, in horizons, and at least.
const HISTORY: (usize, usize) = (4, 60);

pub(super) fn page(run: &Run) -> Result<String, Failure> {
    let (data, best) = (run.data, run.best());
    let table_name = run.arguments.table.display().to_string();
    let mut page = Page::new(
        &format!("Forecast of {}", names(data.names())),
        &format!("{}, by {}, chosen from {} models", table_name, best.name, run.comparison.models.len()),
    );
    let (interval, level) = (run.interval(), run.arguments.options.level());
    let outlook = run.outlook(&interval);
    let drawn = 0..data.names().len().min(DRAWN);
    let futures: Vec<Chart> = drawn.map(|series| future_chart(data, &outlook, level, series)).collect();
    page.charts("What follows the table", "", &futures);
    page.section("Models on the test part", &models(run));
    page.charts("The test part", &test_words(run), &[test(run)]);
    page.charts("Error by steps ahead", "", &[errors_by_step(run)]);
    let errors = by_series(run.data, run.comparison, run.best());
    page.section("Error by series", &series_table(data.names(), &errors, "test.csv"));
    if let Some(chart) = series_chart(&errors) {
        page.charts("Error over the series", "", &[chart]);
    }
    let (residuals, labels) = residuals(run);
    page.charts(&format!("Residuals of {}", best.name), "", &residual_charts(&residuals, labels));
    let rows = read_log(&run.arguments.out.join(LOG))?;
    page.charts("Training", "", &loss_charts(&rows));
    for (name, config) in &run.networks {
        page.section(&format!("The model {name}"), &layers(config, run.chosen.settings.members));
    }
    page.section("What was run", &what(run)?);
    Ok(page.finish())
}

fn names(names: &[String]) -> String {
    match names {
        [one] => one_line(one),
        [first, ..] => format!("{} series from {} on", names.len(), one_line(first)),
        [] => "no series".into(),
    }
}

/// The facts of a run that its reports begin with.
fn what(run: &Run) -> Result<String, Failure> {
    let plan = &run.comparison.plan;
    let report: Vec<String> = run.data.dataset.report().lines().collect();
    let all = [
        ("command", "gatefold forecast".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("device", run.device.clone()),
        ("horizon", plan.horizon.to_string()),
        ("parts", format!("validation {}, test {}", plan.validation, plan.test)),
    ];
    let path = run.arguments.out.join(CONFIG);
    let options =
        fs::read_to_string(&path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Ok(facts(all)
        + &details("The table as it was read", &report.join("\n"))
        + &details("Every option", &options))
}

fn models(run: &Run) -> String {
    let comparison = run.comparison;
    let options = &run.arguments.options;
    let row = |model: &Judged| {
        let (of, held) = (&model.scores, held(run.data, options, comparison, model));
        let name = (model.name.clone(), String::new());
        let mut cells = vec![name];
        cells.extend([of.mae, of.rmse, of.mase, of.smape, of.bias].map(number));
        cells.push(number(held.as_ref().map_or(f64::NAN, |held| held.msis)));
        cells.push(percent(held.map(|held| held.coverage)));
        cells.push(number(model.validation));
        cells.push((format!("{:.1}", model.took.as_secs_f64()), String::new()));
        cells
    };
    let rows: Vec<Vec<(String, String)>> = comparison.models.iter().map(row).collect();
    let head =
        ["model", "MAE", "RMSE", "MASE", "sMAPE %", "bias", "MSIS", "held %", "MASE before", "seconds"];
    let mut text = table(&head, &rows, Some(comparison.best));
    text += &note(&format!(
        "Marked: {}, chosen on the validation part (MASE before). Nothing was chosen by the test part. Held: the share of \
         the truth within intervals of {} %.",
        run.best().name,
        options.level()
    ));
    if let Some(place) = strongest_other(comparison) {
        let other = &comparison.models[place];
        text += &note(&verdict(run.best().scores.mase, &other.name, other.scores.mase).replace('\n', " "));
    }
    let choices =
        comparison.models.iter().filter_map(|model| Some((model.name.as_str(), model.choice.clone()?)));
    text += &facts(choices);
    let [validation, test] = run.chosen.made_up(&run.data.series());
    if validation + test > 0 {
        text += &note(&format!(
            "{validation} samples of the validation part and {test} of the test part were made up to fill gaps: no error \
             counts there."
        ));
    }
    for (name, why) in &comparison.left_out {
        text += &note(&format!("Left out: {name}: {why}"));
    }
    text
}

/// The end of a series, what follows it, and the interval of this level in per cent.
pub(crate) fn future_chart(data: &Data, outlook: &Outlook, level: f64, series: usize) -> Chart {
    let values = data.series()[series];
    let rows = outlook.rows(series);
    let horizon = rows.len();
    let history = values.len().min((HISTORY.0 * horizon).max(HISTORY.1));
    let from = values.len() - history;
    let past: Vec<(f64, f64)> =
        values[from..].iter().enumerate().map(|(at, value)| (at as f64, *value)).collect();
    let last = past[history - 1];
    let (mut line, mut band) = (vec![last], vec![(last.0, last.1, last.1)]);
    for (k, [forecast, low, high]) in rows.into_iter().enumerate() {
        let at = (history + k) as f64;
        line.push((at, forecast));
        band.push((at, low, high));
    }
    let mut lines = vec![
        Line::new("history", "truth", Shape::Line(past)),
        Line::new("forecast", "c0", Shape::Line(line)),
    ];
    if band[1].1.is_finite() {
        let name = format!("{level} % interval");
        lines.insert(0, Line::new(&name, "band", Shape::Band(band)));
    }
    Chart {
        title: format!("{}, the next {horizon}", one_line(&data.names()[series])),
        wide: series == 0,
        x: XAxis::Labels(data.labels(series, from..values.len() + horizon)),
        logarithmic: false,
        lines,
    }
}

fn test_words(run: &Run) -> String {
    let horizon = run.comparison.plan.horizon;
    let ahead = if horizon == 1 { "one step".into() } else { format!("1 to {horizon} steps") };
    note(&format!("Each forecast is {ahead} ahead, from the end of the one before."))
}

/// The test part of the first series: blocks of the horizon, end to end.
fn test(run: &Run) -> Chart {
    let (data, plan, interval) = (run.data, &run.comparison.plan, run.interval());
    let values = data.series()[0];
    let origins = plan.test_origins(values.len());
    let start = origins[0];
    let other = strongest_other(run.comparison).map(|place| &run.comparison.models[place]);
    let block = |at: usize| {
        let wanted = start + (at - start) / plan.horizon * plan.horizon;
        let row = origins.partition_point(|origin| *origin <= wanted).saturating_sub(1);
        (row, at - origins[row])
    };
    let value = |model: &Judged, at: usize| {
        let (row, k) = block(at);
        if k < plan.horizon { model.forecasts[0][[row, k]] } else { f64::NAN }
    };
    let places = || (start..values.len()).map(|at| ((at - start) as f64, at));
    let line = |model: &Judged| places().map(|(x, at)| (x, value(model, at))).collect::<Vec<_>>();
    let band = places().filter_map(|(x, at)| {
        let (row, k) = block(at);
        let [_, low, high] = (k < plan.horizon).then(|| run.around(&interval, 0, row, k))?;
        Some((x, low, high))
    });
    let band: Vec<_> = band.collect();
    let level = run.arguments.options.level();
    let mut lines = Vec::new();
    if band.iter().any(|(_, low, _)| low.is_finite()) {
        lines.push(Line::new(&format!("{level} % interval"), "band", Shape::Band(band)));
    }
    if let Some(other) = other {
        lines.push(Line::new(&other.name, "c1", Shape::Line(line(other))));
    }
    let truth = measured(data, run.comparison, 0, start..values.len());
    lines.push(Line::new(
        "truth",
        "truth",
        Shape::Line(places().zip(truth).map(|((x, _), y)| (x, y)).collect()),
    ));
    lines.push(Line::new(&run.best().name, "c0", Shape::Line(line(run.best()))));
    Chart {
        title: one_line(&data.names()[0]),
        wide: true,
        x: XAxis::Labels(data.labels(0, start..values.len())),
        logarithmic: false,
        lines,
    }
}

fn errors_by_step(run: &Run) -> Chart {
    let comparison = run.comparison;
    let mut order: Vec<usize> = (0..comparison.models.len()).collect();
    let error = |place: &usize| comparison.models[*place].scores.mase;
    order.sort_by(|a, b| {
        (*a != comparison.best).cmp(&(*b != comparison.best)).then(error(a).total_cmp(&error(b)))
    });
    let lines: Vec<(String, Vec<(f64, f64)>)> = order
        .into_iter()
        .map(|place| {
            let steps = by_step(run.data, comparison, &comparison.models[place]);
            let points = steps.into_iter().enumerate().map(|(k, error)| (k as f64 + 1.0, error));
            (comparison.models[place].name.clone(), points.collect())
        })
        .collect();
    model_chart("Mean absolute error on the test part", true, "steps ahead", &lines)
}

/// The errors one step ahead of the best model on the first series, with the moments of the samples.
fn residuals(run: &Run) -> (Vec<f64>, Vec<String>) {
    let values = run.data.series()[0];
    let origins = run.comparison.plan.test_origins(values.len());
    let labels = run.data.labels(0, origins[0]..values.len());
    let forecasts = run.best().forecasts[0].column(0);
    let truth = |origin: usize| run.comparison.plan.made_up.truth(0, values, origin, 0);
    let errors = forecasts.iter().zip(&origins).map(|(forecast, origin)| forecast - truth(*origin));
    (errors.collect(), origins.iter().map(|origin| labels[origin - origins[0]].clone()).collect())
}
