//! Results of classifiers, printed, drawn and as JSON.

use crate::failure::Failure;
use crate::forecast::Report;
use crate::task::{Run, csv_cell};
use gatefold_series::ConfusionMatrix;
use gatefold_series::plot::ConfusionPlot;
use gatefold_tasks::largest;
use ndarray::ArrayView1;
use serde_json::{Value, json};

/// The widest matrix that is printed.
const PRINTED: usize = 12;

/// A share in per cent, with one decimal.
pub(crate) fn share(value: f64) -> String {
    if value.is_nan() { "-".into() } else { format!("{:.1}", 100.0 * value) }
}

/// Prints the accuracy of several classifiers.
pub(crate) fn print_comparison(report: &Report, title: &str, rows: &[(String, ConfusionMatrix)]) {
    report.line(format!("\nOf {title}, in %:\n"));
    report.line(format!("{:<30}{:>10}{:>10}", "", "right", "balanced"));
    for (name, matrix) in rows {
        let (right, balanced) = (share(matrix.accuracy()), share(matrix.balanced_accuracy()));
        report.line(format!("{name:<30}{right:>10}{balanced:>10}"));
    }
    report.line("\nbalanced: the mean over the classes of the share that is found");
}

/// Prints precision and recall of each class, and the matrix if it is not too wide.
pub(crate) fn print_classes(report: &Report, matrix: &ConfusionMatrix) {
    let longest = (0..matrix.classes()).map(|class| matrix.name(class).chars().count()).max().unwrap_or(0);
    let width = longest.max(5) + 2;
    report.line(format!("\n{:<width$}{:>11}{:>9}{:>9}{:>9}", "class", "precision", "recall", "F1", "count"));
    for class in 0..matrix.classes() {
        let Some(found) = matrix.class(class) else { continue };
        let [precision, recall, f1] = [found.precision, found.recall, found.f1].map(share);
        let name = matrix.name(class);
        report.line(format!("{name:<width$}{precision:>11}{recall:>9}{f1:>9}{:>9}", found.support));
    }
    if matrix.classes() <= PRINTED {
        report.line(format!("\n{}", matrix.to_string().trim_end()));
    } else {
        report.line("\nThe confusion matrix is in confusion.svg.");
    }
}

/// Draws the matrix.
pub(crate) fn save_confusion(run: &Run, title: &str, matrix: &ConfusionMatrix) -> Result<(), Failure> {
    let plot = ConfusionPlot { title, matrix };
    run.save("confusion.svg", plot.svg()?)?;
    run.save("confusion.png", plot.png()?)
}

/// The scores of several classifiers as JSON; those of classes for the first.
pub(crate) fn scores(rows: &[(String, ConfusionMatrix)]) -> Value {
    let models: Vec<Value> = rows
        .iter()
        .map(|(name, matrix)| {
            json!({ "name": name, "accuracy": matrix.accuracy(), "balanced_accuracy": matrix.balanced_accuracy() })
        })
        .collect();
    let (_, matrix) = &rows[0];
    let classes: Vec<Value> = (0..matrix.classes())
        .map(|class| {
            let counts: Vec<u64> = (0..matrix.classes()).map(|found| matrix.count(class, found)).collect();
            json!({ "name": matrix.name(class), "metrics": matrix.class(class), "predicted_as": counts })
        })
        .collect();
    json!({
        "count": matrix.total(),
        "accuracy": matrix.accuracy(),
        "balanced_accuracy": matrix.balanced_accuracy(),
        "models": models,
        "classes": classes,
    })
}

/// The most probable class, its probability, and that of every class, as cells of a CSV file.
pub(crate) fn class_cells(classes: &[String], probabilities: ArrayView1<f64>) -> String {
    let best = largest(probabilities);
    let mut text = format!("{},{:.4}", csv_cell(&classes[best]), probabilities[best]);
    probabilities.iter().for_each(|p| text += &format!(",{p:.4}"));
    text
}
