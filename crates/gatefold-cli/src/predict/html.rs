//! report.html of a prediction.

use super::later::{Errors, Later};
use crate::forecast::{Data, Outlook, SavedModel, future_chart, one_line};
use crate::html::{
    Chart, Line, Page, Shape, XAxis, details, facts, model_chart, note, number, percent, series_chart,
    series_table, table,
};
use std::path::Path;

/// Series whose future is drawn.
const DRAWN: usize = 5;
/// Samples before the later ones that are drawn.
const BEFORE: usize = 30;

/// Everything that the page shows.
pub(super) struct Shown<'a> {
    pub(super) folder: &'a Path,
    pub(super) table: &'a Path,
    pub(super) saved: &'a SavedModel,
    pub(super) data: &'a Data,
    pub(super) outlook: &'a Outlook<'a>,
    pub(super) later: Option<&'a Later>,
    pub(super) device: String,
    /// The lines that were printed about the table and its series.
    pub(super) printed: &'a [String],
}

impl Shown<'_> {
    /// The whole document.
    pub(super) fn page(&self) -> String {
        let (data, saved) = (self.data, self.saved);
        let of = match data.names() {
            [one] => one_line(one),
            names => format!("{} series from {} on", names.len(), one_line(&names[0])),
        };
        let about = format!("{}, by {} of {}", self.table.display(), saved.best, self.folder.display());
        let mut page = Page::new(&format!("Forecast of {of}"), &about);
        let drawn = 0..data.names().len().min(DRAWN);
        let level = saved.options.level();
        let futures: Vec<Chart> =
            drawn.map(|series| future_chart(data, self.outlook, level, series)).collect();
        page.charts("What follows the table", "", &futures);
        if let Some(later) = self.later {
            self.errors(&mut page, later);
        }
        let members = match saved.members.as_slice() {
            [] => saved.best.clone(),
            members => format!("{}: {}", saved.best, members.join(", ")),
        };
        let facts = facts([
            ("command", "gatefold predict".to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("model", members),
            ("device", self.device.clone()),
            ("horizon", self.outlook.forecasts.ncols().to_string()),
        ]);
        page.section(
            "What was run",
            &(facts + &details("The table as it was read", &self.printed.join("\n"))),
        );
        page.finish()
    }

    /// The errors on rows that the model was not fitted on.
    fn errors(&self, page: &mut Page, later: &Later) {
        let (data, best) = (self.data, &self.saved.best);
        let row = |of: Errors| {
            let mut cells = vec![(best.clone(), String::new())];
            cells.extend([of.mae, of.rmse, of.mase, of.smape, of.bias].map(number));
            cells.extend([percent(of.coverage), (of.forecasts.to_string(), String::new())]);
            cells
        };
        let head = ["model", "MAE", "RMSE", "MASE", "sMAPE %", "bias", "held %", "forecasts"];
        let about = format!(
            "Errors on rows that the model was not fitted on, {} of a series at most, forecast from the end of those it was and \
             from later moments. Held: the share of the truth within intervals of {} %.",
            later.samples,
            self.saved.options.level()
        );
        page.section(
            "Since the model was trained",
            &(table(&head, &[row(later.all())], None) + &note(&about)),
        );
        let errors = later.by_step().into_iter().enumerate().map(|(k, of)| (k as f64 + 1.0, of.mae));
        let mut charts = vec![self.later_chart(later)];
        let errors: Vec<(f64, f64)> = errors.collect();
        if errors.len() > 1 {
            charts.push(model_chart("Mean absolute error", false, "steps ahead", &[(best.clone(), errors)]));
        }
        page.charts("Later rows", "", &charts);
        let by_series = later.by_series();
        let names: Vec<String> = by_series.iter().map(|(series, _)| data.names()[*series].clone()).collect();
        let errors: Vec<[f64; 2]> = by_series.iter().map(|(_, of)| [of.mae, of.mase]).collect();
        page.section("Error by series", &series_table(&names, &errors, "--json"));
        if let Some(chart) = series_chart(&errors) {
            page.charts("Error over the series", "", &[chart]);
        }
    }

    /// The later rows of the first series that has some, and the forecasts of them.
    fn later_chart(&self, later: &Later) -> Chart {
        let (series, start, around) = later.first();
        let (data, level) = (self.data, self.saved.options.level());
        let values = data.series()[series];
        let from = start.saturating_sub(BEFORE);
        let made_up = data.made_up(false);
        let measured = |at: usize| if made_up.has(series, at) { f64::NAN } else { values[at] };
        let truth = (from..values.len()).map(|at| ((at - from) as f64, measured(at))).collect();
        let known = values.len() - start;
        let places =
            || around.iter().take(known).enumerate().map(|(k, around)| ((start - from + k) as f64, around));
        let mut lines = Vec::new();
        if around.iter().any(|[_, low, _]| low.is_finite()) {
            let band = places().map(|(at, [_, low, high])| (at, *low, *high)).collect();
            lines.push(Line::new(&format!("{level} % interval"), "band", Shape::Band(band)));
        }
        lines.push(Line::new("truth", "truth", Shape::Line(truth)));
        let forecast = places().map(|(at, [forecast, ..])| (at, *forecast)).collect();
        lines.push(Line::new(&self.saved.best, "c0", Shape::Line(forecast)));
        Chart {
            title: format!("{}, the rows since the training", one_line(&data.names()[series])),
            wide: true,
            x: XAxis::Labels(data.labels(series, from..values.len())),
            logarithmic: false,
            lines,
        }
    }
}
