//! The parts that reports of several commands share: losses, errors, residuals, series.

use super::{COLORS, Chart, Line, Shape, XAxis, note, table};
use crate::forecast::{Row, figure};
use gatefold_series::autocorrelation;

/// The most lines in one chart.
const LINES: usize = 6;
/// The most series in a table.
const SERIES: usize = 20;
/// Residuals, and looks at a training, that make a line.
const FEWEST: usize = 3;
/// Residuals from which an autocorrelation says something.
const RESIDUALS: usize = 12;

/// Loss, validation error and learning rate of the networks that were compared, and the losses of the last fit.
pub(crate) fn loss_charts(rows: &[Row]) -> Vec<Chart> {
    let mut charts = Vec::new();
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.is_trial()).collect();
    // Of the model that is called so where there are several of networks.
    let named = |row: &&&Row| row.model == "network";
    let Some(model) = rows.iter().find(named).or(rows.first()).map(|row| row.model.clone()) else {
        return charts;
    };
    let rows: Vec<&Row> = rows.into_iter().filter(|row| row.model == model).collect();
    let Some(first) = rows.first() else { return charts };
    let last = rows.last().unwrap_or(first);
    let chart = |title: &str, lines: Vec<Line>, logarithmic: bool| Chart {
        title: title.into(),
        wide: false,
        x: XAxis::Numbers("updates"),
        logarithmic,
        lines,
    };
    let of = |stage: &str| -> Vec<Vec<&Row>> {
        let mut networks: Vec<usize> =
            rows.iter().filter(|row| row.stage == stage).map(|row| row.network).collect();
        networks.sort_unstable();
        networks.dedup();
        let curve = |network: usize| {
            rows.iter().copied().filter(move |row| row.stage == stage && row.network == network)
        };
        networks.into_iter().take(LINES).map(|network| curve(network).collect()).collect()
    };
    for stage in [&first.stage, &last.stage] {
        let curves = of(stage);
        let mut lines = Vec::new();
        for (curve, color) in curves.iter().zip(COLORS) {
            let points =
                |value: fn(&Row) -> f64| curve.iter().map(|row| (row.update as f64, value(row))).collect();
            let raw: Vec<(f64, f64)> = points(|row| f64::from(row.loss));
            lines.push(Line::new(&format!("network {}", curve[0].network), color, Shape::Line(smooth(&raw))));
            lines.push(Line::new("", color, Shape::Thin(raw)));
        }
        charts.push(chart(
            &format!("Loss, smoothed over updates ({})", stage.replace('-', " ")),
            lines,
            true,
        ));
        if stage != &first.stage || charts.len() > 1 {
            break;
        }
        let looks = curves.iter().zip(COLORS).map(|(curve, color)| {
            let looked = curve.iter().filter_map(|row| Some((row.update as f64, row.validation?)));
            Line::new(&format!("network {}", curve[0].network), color, Shape::Line(looked.collect()))
        });
        let looks: Vec<Line> = looks.collect();
        if curves.iter().any(|curve| curve.iter().filter(|row| row.validation.is_some()).count() > 1) {
            charts.push(chart("Error on the part that chooses", looks, true));
        }
        let rate = curves[0].iter().map(|row| (row.update as f64, f64::from(row.learning_rate))).collect();
        charts.push(chart("Learning rate", vec![Line::new("", "c0", Shape::Line(rate))], false));
        if last.stage == first.stage {
            break;
        }
    }
    charts
}

/// The mean over neighbours, a fiftieth of the curve on both sides.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 50;
    let near = |at: usize| &points[at.saturating_sub(reach)..(at + reach + 1).min(points.len())];
    let mean = |near: &[(f64, f64)]| near.iter().map(|(_, value)| value).sum::<f64>() / near.len() as f64;
    points.iter().enumerate().map(|(at, (place, _))| (*place, mean(near(at)))).collect()
}

/// Lines of several models, the first ones if there are many.
pub(crate) fn model_chart(
    title: &str,
    wide: bool,
    x: &'static str,
    models: &[(String, Vec<(f64, f64)>)],
) -> Chart {
    let lines = models.iter().zip(COLORS).take(LINES);
    let lines =
        lines.map(|((name, points), color)| Line::new(name, color, Shape::Line(points.clone()))).collect();
    Chart { title: title.into(), wide, x: XAxis::Numbers(x), logarithmic: false, lines }
}

/// One-step errors over time, NaN where the truth is not known, and their autocorrelation with the bounds that noise keeps to at 95 % of the lags.
pub(crate) fn residual_charts(residuals: &[f64], labels: Vec<String>) -> Vec<Chart> {
    let known = residuals.iter().filter(|residual| !residual.is_nan()).count();
    if known < FEWEST {
        return Vec::new();
    }
    let points = residuals.iter().enumerate().map(|(at, value)| (at as f64, *value)).collect();
    let zero = (0..residuals.len()).map(|at| (at as f64, 0.0)).collect();
    let mut charts = vec![Chart {
        title: "Residuals one step ahead: forecast minus truth".into(),
        wide: false,
        x: XAxis::Labels(labels),
        logarithmic: false,
        lines: vec![Line::new("", "c4", Shape::Dashed(zero)), Line::new("", "c0", Shape::Line(points))],
    }];
    if known >= RESIDUALS {
        let lags = (residuals.len() / 4).clamp(3, 40);
        let found = autocorrelation(residuals, lags);
        let bound = 1.96 / (known as f64).sqrt();
        let level = |value: f64| (0..=lags + 1).map(|lag| (lag as f64, value)).collect::<Vec<_>>();
        let bars = found.iter().enumerate().map(|(at, value)| (at as f64 + 1.0, *value)).collect();
        charts.push(Chart {
            title: "Autocorrelation of the residuals".into(),
            wide: false,
            x: XAxis::Numbers("lag"),
            logarithmic: false,
            lines: vec![
                Line::new("", "c0", Shape::Bars(bars)),
                Line::new("95 % of noise", "c1", Shape::Dashed(level(bound))),
                Line::new("", "c1", Shape::Dashed(level(-bound))),
            ],
        });
    }
    charts
}

/// A number as it is shown, and with all its digits.
pub(crate) fn number(value: f64) -> (String, String) {
    if value.is_nan() { ("-".into(), String::new()) } else { (figure(value), value.to_string()) }
}

/// A share in per cent, and as it is.
pub(crate) fn percent(share: Option<f64>) -> (String, String) {
    share.map_or(("-".into(), String::new()), |share| (format!("{:.1}", 100.0 * share), share.to_string()))
}

/// The errors of each series, the worst first; `errors` holds the mean absolute one and the scaled one, and `file` all.
pub(crate) fn series_table(names: &[String], errors: &[[f64; 2]], file: &str) -> String {
    if names.len() < 2 {
        return String::new();
    }
    let mut order: Vec<usize> = (0..names.len()).collect();
    // A series without a measured error comes last.
    let size = |series: usize| if errors[series][1].is_nan() { -1.0 } else { errors[series][1] };
    order.sort_by(|a, b| size(*b).total_cmp(&size(*a)));
    let rows: Vec<Vec<(String, String)>> = order
        .iter()
        .take(SERIES)
        .map(|&series| {
            let name = (names[series].clone(), String::new());
            std::iter::once(name).chain(errors[series].map(number)).collect()
        })
        .collect();
    let what = match names.len() {
        all if all <= SERIES => {
            format!("All {all} series, the largest scaled error first; {file} has them too.")
        }
        all => format!("The {SERIES} of {all} series with the largest scaled error; {file} has all."),
    };
    note(&what) + &table(&["series", "MAE", "MASE"], &rows, None)
}

/// The scaled errors of many series in order: how many are far worse than the rest.
pub(crate) fn series_chart(errors: &[[f64; 2]]) -> Option<Chart> {
    if errors.len() < 3 {
        return None;
    }
    let mut sorted: Vec<f64> = errors.iter().map(|error| error[1]).filter(|error| !error.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let points = sorted.into_iter().enumerate().map(|(at, error)| (at as f64 + 1.0, error)).collect();
    Some(Chart {
        title: "MASE of every series, in order".into(),
        wide: false,
        x: XAxis::Numbers("series"),
        logarithmic: true,
        lines: vec![Line::new("", "c0", Shape::Line(points))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_line_and_its_ends() {
        let line: Vec<(f64, f64)> = (0..200).map(|at| (f64::from(at), 2.0 * f64::from(at))).collect();
        let found = smooth(&line);
        assert_eq!(found[100], (100.0, 200.0));
        assert_eq!(found[0], (0.0, 4.0)); // of the first five
        assert_eq!(smooth(&line[..3]), &line[..3]);
        assert!(smooth(&[]).is_empty());
    }

    #[test]
    fn few_residuals_have_no_autocorrelation() {
        let labels = |count: usize| (0..count).map(|at| at.to_string()).collect();
        assert_eq!(residual_charts(&[1.0; 5], labels(5)).len(), 1);
        assert_eq!(residual_charts(&[1.0; 40], labels(40)).len(), 2);
        assert!(residual_charts(&[1.0; 2], labels(2)).is_empty());
    }
}
