//! `gatefold plot`: runs of forecast and backtest beside each other.

use crate::failure::Failure;
use crate::forecast::{LOG, Report, Row, cell, create_folder, figure, read_log, rounded};
use crate::page::table;
use gatefold_model::file::write_atomically;
use gatefold_series::plot::LinesPlot;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Compares runs of `gatefold forecast` and `gatefold backtest`: the errors of their best models in a table and by steps
/// ahead, and the losses of their networks.
///
/// Writes runs.csv, steps.svg and .png (errors), loss.svg and .png (the validation error of each run's first network, or its
/// loss).
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Directories that forecast or backtest wrote to
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// A model to compare, instead of the best one of each run
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The directory to write to
    #[arg(long, value_name = "DIR", default_value = "gatefold-plot")]
    out: PathBuf,
    /// Print the table as one JSON document
    #[arg(long)]
    json: bool,
    /// Print nothing but errors, and the document of --json
    #[arg(long, short)]
    quiet: bool,
}

/// A run and the model of it that is compared.
struct Run {
    name: String,
    metrics: Value,
    model: Value,
    log: Vec<Row>,
}

const MEASURES: [&str; 5] = ["mae", "rmse", "mase", "smape", "bias"];

impl Run {
    fn read(folder: &Path, name: String, model: Option<&str>) -> Result<Run, Failure> {
        let path = folder.join("metrics.json");
        let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                refuse("there is no such file; give directories that forecast or backtest wrote to".into())
            }
            _ => refuse(error.to_string()),
        })?;
        let metrics: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let models = metrics["models"].as_array().map_or(&[][..], Vec::as_slice);
        let wanted = model.or(metrics["best"].as_str()).unwrap_or_default();
        let Some(found) = models.iter().find(|model| model["name"] == wanted) else {
            let names: Vec<&str> = models.iter().filter_map(|model| model["name"].as_str()).collect();
            return Err(refuse(match names.as_slice() {
                [] => "it is not of forecast or backtest".into(),
                names => format!("the run has no model '{wanted}'; it has {}", names.join(", ")),
            }));
        };
        let log = folder.join(LOG);
        let log = if log.exists() { read_log(&log)? } else { Vec::new() };
        Ok(Run { name, model: found.clone(), metrics, log })
    }

    fn number(&self, name: &str) -> f64 {
        self.model[name].as_f64().unwrap_or(f64::NAN)
    }

    /// The mean absolute error at each step ahead, from a forecast's metrics or a backtest's.
    fn steps(&self) -> Vec<(f64, f64)> {
        let of_forecast = self.model["mae_by_step"].as_array();
        let steps = of_forecast.or(self.model["by_step"].as_array()).map_or(&[][..], Vec::as_slice);
        let error = |step: &Value| step.as_f64().or(step["mae"].as_f64()).unwrap_or(f64::NAN);
        steps.iter().enumerate().map(|(k, step)| (k as f64 + 1.0, error(step))).collect()
    }

    /// The first network of the log: its validation error, or its loss where nothing was validated.
    fn losses(&self) -> Vec<(f64, f64)> {
        let log = self.log.iter().filter(|row| !row.is_trial());
        let first = log.clone().next();
        let own = log.filter(|row| {
            first.is_some_and(|first| (&row.stage, row.network) == (&first.stage, first.network))
        });
        let own: Vec<&Row> = own.collect();
        let looks: Vec<(f64, f64)> =
            own.iter().filter_map(|row| Some((row.update as f64, row.validation?))).collect();
        if looks.is_empty() {
            return own.iter().map(|row| (row.update as f64, f64::from(row.loss))).collect();
        }
        looks
    }

    /// The samples that were forecast, which must be the same for a comparison.
    fn samples(&self) -> Value {
        let of = |name: &str| self.metrics[name].clone();
        json!([
            of("command"),
            of("series"),
            of("samples"),
            of("horizon"),
            of("test"),
            of("windows"),
            of("step")
        ])
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = Report::with_json(arguments.quiet, arguments.json);
    let read = |(folder, name): (&PathBuf, String)| Run::read(folder, name, arguments.model.as_deref());
    let runs: Vec<Run> =
        arguments.runs.iter().zip(names(&arguments.runs)).map(read).collect::<Result<_, _>>()?;
    create_folder(&arguments.out)?;
    let mut order: Vec<&Run> = runs.iter().collect();
    order.sort_by(|a, b| a.number("mase").total_cmp(&b.number("mase")));
    let rows = order.iter().map(|run| {
        let name = [run.name.clone(), run.model["name"].as_str().unwrap_or_default().to_owned()];
        name.into_iter().chain(MEASURES.map(|measure| figure(run.number(measure)))).collect::<Vec<_>>()
    });
    let head = ["run", "model", "MAE", "RMSE", "MASE", "sMAPE %", "bias"];
    report.lines(table(&head, &rows.collect::<Vec<_>>()));
    if runs.iter().any(|run| run.samples() != runs[0].samples()) {
        report.line("\nwarning   the runs did not forecast the same samples: their errors say");
        report.line("          nothing about each other");
    }
    save_plots(arguments, &report, &runs)?;
    let csv = order.iter().map(|run| {
        let numbers = MEASURES.map(|measure| rounded(run.number(measure))).join(",");
        format!("{},{},{numbers}\n", cell(&run.name), cell(run.model["name"].as_str().unwrap_or_default()))
    });
    let csv = format!("run,model,{}\n{}", MEASURES.join(","), csv.collect::<String>());
    write_atomically(arguments.out.join("runs.csv"), csv.as_bytes())?;
    report.line(format!("\nWritten to {}.", arguments.out.display()));
    let entry =
        |run: &&Run| json!({ "run": run.name, "command": run.metrics["command"], "model": run.model });
    report.document(&json!({
        "command": "plot",
        "version": env!("CARGO_PKG_VERSION"),
        "runs": order.iter().map(entry).collect::<Vec<_>>(),
        "out": arguments.out.display().to_string(),
    }));
    Ok(())
}

fn save_plots(arguments: &Arguments, report: &Report, runs: &[Run]) -> Result<(), Failure> {
    type Points = fn(&Run) -> Vec<(f64, f64)>;
    let plots: [(&str, &str, &str, &str, Points); 2] = [
        ("steps", "Mean absolute error", "steps ahead", "error", Run::steps),
        ("loss", "Validation error of the first network", "updates", "error", Run::losses),
    ];
    for (file, title, x, y, points) in plots {
        let points: Vec<Vec<(f64, f64)>> = runs.iter().map(points).collect();
        let lines = runs.iter().zip(&points).filter(|(_, points)| !points.is_empty());
        let lines: Vec<(&str, &[(f64, f64)])> =
            lines.map(|(run, points)| (run.name.as_str(), points.as_slice())).collect();
        if lines.is_empty() {
            report.line(format!("\n{file}.svg   left out: no run has a network"));
            continue;
        }
        let plot = LinesPlot { title, x, y, lines: &lines };
        write_atomically(arguments.out.join(format!("{file}.svg")), plot.svg()?.as_bytes())?;
        write_atomically(arguments.out.join(format!("{file}.png")), &plot.png()?)?;
    }
    Ok(())
}

/// Names that tell the runs apart: the ends of their paths, as short as possible.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let end = |path: &PathBuf, parts: usize| {
        let all: Vec<_> = path.components().collect();
        let end: PathBuf = all[all.len().saturating_sub(parts)..].iter().collect();
        end.display().to_string()
    };
    let longest = paths.iter().map(|path| path.components().count()).max().unwrap_or(1);
    for parts in 1..=longest {
        let mut names: Vec<String> = paths.iter().map(|path| end(path, parts)).collect();
        let found = names.clone();
        names.sort_unstable();
        names.dedup();
        if names.len() == paths.len() {
            return found;
        }
    }
    paths.iter().map(|path| path.display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_apart_by_the_ends_of_their_paths() {
        let found = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(found(&["out/a", "other/b/"]), ["a", "b"]);
        assert_eq!(found(&["one/run", "two/run"]), ["one/run", "two/run"]);
        assert_eq!(found(&["run", "run"]), ["run", "run"]);
    }
}
