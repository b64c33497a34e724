//! report.html of a backtest.

use super::output::{Run, error_lines};
use crate::failure::Failure;
use crate::forecast::{LOG, one_line, read_log};
use crate::html::{
    COLORS, Chart, Line, Page, Shape, XAxis, details, facts, layers, loss_charts, model_chart, note, number,
    percent, residual_charts, series_chart, series_table, table,
};
use gatefold_forecast::Refit;

/// Samples of history before the first window, in horizons, and at least.
const HISTORY: (usize, usize) = (2, 30);

pub(super) fn page(run: &Run) -> Result<String, Failure> {
    let (data, results) = (run.data, run.results);
    let best = &results.models[results.best];
    let mut page = Page::new(
        &format!("Backtest of {}", names(data.names())),
        &format!(
            "{}: {} models from {} moments, {} ahead each",
            run.arguments.table.display(),
            results.models.len(),
            results.plan.windows,
            results.plan.horizon
        ),
    );
    page.section("Models", &models(run));
    let about = format!("{} forecasts from each moment with what came before it.", best.name);
    page.charts("Windows", &note(&about), &[windows(run, 0)]);
    let mut charts = vec![model_chart("Mean absolute error", false, "steps ahead", &error_lines(results))];
    charts.extend(coverage(run));
    charts.push(by_window(run));
    page.charts("Error by steps ahead and by window", "", &charts);
    let of_series = results.by_series(results.best).iter().map(|of| [of.mae, of.mase]).collect::<Vec<_>>();
    page.section("Error by series", &series_table(data.names(), &of_series, "by_series.csv"));
    if let Some(chart) = series_chart(&of_series) {
        page.charts("Error over the series", "", &[chart]);
    }
    let origins = &results.origins[0];
    let labels = data.labels(0, origins[0]..data.series()[0].len());
    let labels = origins.iter().map(|origin| labels[origin - origins[0]].clone()).collect();
    let residuals: Vec<f64> = (&best.forecasts[0].column(0) - &results.truth[0].column(0)).to_vec();
    page.charts(&format!("Residuals of {}", best.name), "", &residual_charts(&residuals, labels));
    page.charts("Training", "", &loss_charts(&read_log(&run.arguments.out.join(LOG))?));
    for (name, config) in &run.networks {
        page.section(&format!("The model {name}"), &layers(config, run.chosen.settings.members));
    }
    page.section("What was run", &what(run));
    Ok(page.finish())
}

fn names(names: &[String]) -> String {
    match names {
        [one] => one_line(one),
        [first, ..] => format!("{} series from {} on", names.len(), one_line(first)),
        [] => "no series".into(),
    }
}

fn what(run: &Run) -> String {
    let plan = &run.results.plan;
    let report: Vec<String> = run.data.dataset.report().lines().collect();
    let fitted = match plan.refit {
        Refit::Never => "once, before the first window",
        Refit::Always => "for each window",
    };
    facts([
        ("command", "gatefold backtest".to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("device", run.device.clone()),
        ("horizon", plan.horizon.to_string()),
        ("windows", format!("{}, {} apart", plan.windows, plan.step)),
        ("fitted", fitted.to_owned()),
        ("intervals", format!("{} %, from errors that each origin knows", 100.0 * plan.level)),
    ]) + &details("The table as it was read", &report.join("\n"))
        + &details("Every option", &run.resolved)
}

fn models(run: &Run) -> String {
    let results = run.results;
    let some = |value: Option<f64>| number(value.unwrap_or(f64::NAN));
    let row = |place: usize| {
        let (of, model) = (results.measures(place), &results.models[place]);
        let mut cells = vec![(model.name.clone(), String::new())];
        cells.extend([of.mae, of.rmse, of.mase, of.smape, of.bias].map(number));
        cells.extend([of.quantile_loss, of.crps, of.msis].map(some));
        cells.push(percent(of.coverage));
        cells.push(number(model.validation));
        cells.push((format!("{:.1}", model.took.as_secs_f64()), String::new()));
        cells
    };
    let rows: Vec<_> = (0..results.models.len()).map(row).collect();
    let head = [
        "model",
        "MAE",
        "RMSE",
        "MASE",
        "sMAPE %",
        "bias",
        "quantile",
        "CRPS",
        "MSIS",
        "held %",
        "MASE before",
        "seconds",
    ];
    let mut text = table(&head, &rows, Some(results.best));
    text += &note(&format!(
        "Marked: {}, chosen on the calibration part (MASE before), which ends before the first window. Quantile: the mean \
         loss of the deciles. Held: the share of the truth within the intervals.",
        results.models[results.best].name
    ));
    let [calibration, windows] = run.chosen.made_up(&run.data.series());
    if calibration + windows > 0 {
        text += &note(&format!(
            "{calibration} samples of the calibration part and {windows} of the windows were made up to fill gaps: no error \
             counts there."
        ));
    }
    for (name, why) in &results.left_out {
        text += &note(&format!("Left out: {name}: {why}"));
    }
    text
}

/// History, truth, and the forecasts of windows that do not overlap, the last one among them.
fn windows(run: &Run, series: usize) -> Chart {
    let (results, plan) = (run.results, &run.results.plan);
    let values = run.data.series()[series];
    let origins = &results.origins[series];
    let from = origins[0].saturating_sub((HISTORY.0 * plan.horizon).max(HISTORY.1));
    let at = |sample: usize| (sample - from) as f64;
    let measured = |sample: usize| if plan.made_up.has(series, sample) { f64::NAN } else { values[sample] };
    let truth = (from..values.len()).map(|sample| (at(sample), measured(sample))).collect();
    let every = plan.horizon.div_ceil(plan.step);
    let (mut lines, mut forecast) = (Vec::new(), Vec::new());
    let mut interval_name = format!("{} % interval", 100.0 * plan.level);
    for window in (0..plan.windows).rev().step_by(every).collect::<Vec<_>>().into_iter().rev() {
        let rows = results.interval(results.best, series, window);
        let places = |k: usize| at(origins[window] + k);
        let band: Vec<_> =
            rows.iter().enumerate().map(|(k, [_, low, high])| (places(k), *low, *high)).collect();
        if band[0].1.is_finite() {
            lines.push(Line::new(&std::mem::take(&mut interval_name), "band", Shape::Band(band)));
        }
        forecast.extend(rows.iter().enumerate().map(|(k, [forecast, ..])| (places(k), *forecast)));
        forecast.push((places(plan.horizon - 1) + 0.5, f64::NAN)); // windows are not joined
    }
    lines.push(Line::new("truth", "truth", Shape::Line(truth)));
    lines.push(Line::new(&results.models[results.best].name, "c0", Shape::Line(forecast)));
    Chart {
        title: one_line(&run.data.names()[series]),
        wide: true,
        x: XAxis::Labels(run.data.labels(series, from..values.len())),
        logarithmic: false,
        lines,
    }
}

/// The coverage at each step ahead beside what it should be.
fn coverage(run: &Run) -> Option<Chart> {
    let results = run.results;
    let steps = results.by_step(results.best);
    let points: Vec<(f64, f64)> =
        steps.iter().enumerate().filter_map(|(k, of)| Some((k as f64 + 1.0, 100.0 * of.coverage?))).collect();
    if points.is_empty() {
        return None;
    }
    let level = 100.0 * results.plan.level;
    let wanted = points.iter().map(|(at, _)| (*at, level)).collect();
    Some(Chart {
        title: "Coverage of the intervals, %".into(),
        wide: false,
        x: XAxis::Numbers("steps ahead"),
        logarithmic: false,
        lines: vec![
            Line::new(&format!("wanted: {level}"), "c4", Shape::Dashed(wanted)),
            Line::new(&results.models[results.best].name, "c0", Shape::Line(points)),
        ],
    })
}

fn by_window(run: &Run) -> Chart {
    let results = run.results;
    let values = run.data.series()[0];
    let origins = &results.origins[0];
    let labels = run.data.labels(0, origins[0]..values.len());
    let labels = origins.iter().map(|origin| labels[origin - origins[0]].clone()).collect();
    let names: Vec<String> = error_lines(results).into_iter().map(|(name, _)| name).collect();
    let place = |name: &String| results.models.iter().position(|model| model.name == *name);
    let lines = names.iter().zip(COLORS).filter_map(|(name, color)| {
        let windows = results.by_window(place(name)?).into_iter().enumerate();
        let points = windows.map(|(window, of)| (window as f64, of.mae)).collect();
        Some(Line::new(name, color, Shape::Line(points)))
    });
    Chart {
        title: "Mean absolute error by window".into(),
        wide: true,
        x: XAxis::Labels(labels),
        logarithmic: false,
        lines: lines.collect(),
    }
}
