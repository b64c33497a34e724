//! Shared by the pages: networks with given weights, tables and plots.

use gatefold::layers::LayerConfig;
use gatefold::{Device, Network, NetworkConfig, Parameters};
use gatefold_series::plot::LinesPlot;
use ndarray::Array3;
use std::error::Error;
use std::fs;
use std::path::Path;

/// The folder for pictures and models.
pub(crate) const OUT: &str = "gatefold-out";

/// A network on the CPU whose parameters are zero but for those given, row by row, by their names.
pub(crate) fn network(
    input: usize,
    layers: Vec<LayerConfig>,
    given: &[(&str, &[f32])],
) -> Result<Network, Box<dyn Error>> {
    let config = NetworkConfig::new(input, layers)?;
    let mut parameters = Parameters::zeros(&config)?;
    for (name, values) in given {
        let parameter = parameters.get_mut(name).ok_or_else(|| format!("no parameter {name}"))?;
        assert_eq!(parameter.len(), values.len(), "{name} has {:?} values", parameter.shape());
        parameter.iter_mut().zip(*values).for_each(|(to, value)| *to = *value);
    }
    Ok(Network::with_parameters(&Device::cpu()?, &config, &parameters)?)
}

/// A sequence `[steps, 1, 1]`.
pub(crate) fn sequence(values: &[f32]) -> Array3<f32> {
    Array3::from_shape_vec((values.len(), 1, 1), values.to_vec()).expect("one value a step")
}

/// The steps of a single row's output.
pub(crate) fn steps(output: &Array3<f32>) -> Vec<f32> {
    output.iter().copied().collect()
}

/// Prints a name and numbers with three decimals.
pub(crate) fn row(name: &str, values: impl IntoIterator<Item = impl Into<f64>>) {
    let numbers: String = values
        .into_iter()
        .map(|value| {
            let value = format!("{:.3}", value.into());
            // A rounding error has no sign.
            format!("{:>8}", if value == "-0.000" { "0.000" } else { &value })
        })
        .collect();
    println!("{name:<22}{numbers}");
}

/// Prints the heads of columns.
pub(crate) fn head(name: &str, columns: impl IntoIterator<Item = impl ToString>) {
    let columns: String = columns.into_iter().map(|column| format!("{:>8}", column.to_string())).collect();
    println!("{name:<22}{columns}");
}

/// Draws lines over the time steps from 0 into `gatefold-out/{name}.svg`.
pub(crate) fn plot(
    name: &str,
    (title, x, y): (&str, &str, &str),
    lines: &[(&str, Vec<f64>)],
) -> Result<(), Box<dyn Error>> {
    let points: Vec<Vec<(f64, f64)>> = lines
        .iter()
        .map(|(_, values)| values.iter().enumerate().map(|(step, value)| (step as f64, *value)).collect())
        .collect();
    let lines: Vec<(&str, &[(f64, f64)])> =
        lines.iter().zip(&points).map(|((name, _), points)| (*name, points.as_slice())).collect();
    draw(name, &LinesPlot { title, x, y, lines: &lines })
}

/// Writes a plot as `gatefold-out/{name}.svg`, and says so.
pub(crate) fn draw(name: &str, plot: &LinesPlot) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(OUT)?;
    let path = Path::new(OUT).join(name).with_extension("svg");
    fs::write(&path, plot.svg()?)?;
    println!("\npicture  {}", path.display());
    Ok(())
}
