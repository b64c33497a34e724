//! Turns a series into a network's input, and the network's output into a forecast; in training as in use.

use crate::failure::Failure;
use gatefold::layers::{DenseConfig, LayerConfig, LstmConfig};
use gatefold::training::Reduction;
use gatefold::{Loss, Network, NetworkConfig, Targets};
use gatefold_series::{Fill, Scaler, SeriesError, WindowConfig, returns_to_level};
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Keys under which a model file keeps what is not a tensor.
const SETTINGS: &str = "forecast";
const SCALER: &str = "scaler";
const ENCODING: &str = "encoding";
/// Windows per call of the network outside training: bounds memory, changes no result.
const PREDICTED_AT_ONCE: usize = 512;

/// The data needed to forecast with a trained network, besides its parameters and its scaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The column.
    pub(crate) target: String,
    /// Input samples.
    pub(crate) input: usize,
    /// Samples per time step.
    pub(crate) width: usize,
    /// Output samples.
    pub(crate) horizon: usize,
    /// How missing cells were filled.
    pub(crate) fill: FillChoice,
}

/// How to fill missing cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FillChoice {
    /// not at all: a missing cell is an error
    #[default]
    Refuse,
    /// with the value before
    Previous,
    /// on a line between the values before and after, which looks ahead
    Linear,
}

impl From<FillChoice> for Fill {
    fn from(choice: FillChoice) -> Fill {
        match choice {
            FillChoice::Refuse => Fill::Refuse,
            FillChoice::Previous => Fill::Previous,
            FillChoice::Linear => Fill::Linear,
        }
    }
}

impl Shape {
    pub(crate) fn window(&self) -> WindowConfig {
        WindowConfig::new(self.input / self.width, self.width, self.horizon)
    }

    /// Values per time step of the network's input and output.
    pub(crate) fn network_widths(&self) -> (usize, usize) {
        (2 * self.width, self.horizon)
    }

    /// LSTM layers, the last step, and a dense layer with an output for each step of the horizon.
    pub(crate) fn network(&self, hidden: usize, layers: usize) -> Result<NetworkConfig, Failure> {
        let mut stack: Vec<LayerConfig> = vec![LstmConfig::new(hidden).into(); layers];
        stack.push(LayerConfig::LastStep);
        stack.push(DenseConfig::new(self.horizon).into());
        Ok(NetworkConfig::new(self.network_widths().0, stack)?)
    }
}

/// Encodes the values of a table for a network, and decodes its outputs.
///
/// At each sample the network sees two numbers: the value, and the change since the sample before. If the series
/// returns to a level, the value is scaled as it is; otherwise it is taken relative to the last sample of the input,
/// because a trend leads to values that training never saw. The network learns the difference between each sample of
/// the block and the last sample before the block, so an untrained network nearly repeats the last value.
#[derive(Clone, Debug)]
pub(crate) struct Forecaster {
    pub(crate) shape: Shape,
    scaler: Scaler,
    encoding: Encoding,
}

/// Units of the network's inputs and targets, from the training part, so that each has a mean square of about 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Encoding {
    /// Whether the network sees the value as it is, in the scaler's unit.
    level: bool,
    /// The unit of a value relative to the last of its window.
    relative: f64,
    /// The unit of a change from one sample to the next.
    change: f64,
    /// The unit of the difference between the block's samples and the last sample before it.
    target: f64,
}

impl Forecaster {
    /// Learns the units from the training part.
    pub(crate) fn fit(shape: Shape, train: &[f64]) -> Result<Self, SeriesError> {
        let scaler = Scaler::standard(train)?;
        // Root mean square of the differences at these lags; lags longer than the series add nothing.
        let unit = |lags: Range<usize>| {
            let differences = lags.flat_map(|lag| train.iter().zip(train.iter().skip(lag)));
            let (sum, count) =
                differences.fold((0.0, 0usize), |(sum, count), (a, b)| (sum + (b - a).powi(2), count + 1));
            let unit = (sum / count.max(1) as f64).sqrt();
            if unit.is_normal() { unit } else { 1.0 }
        };
        let encoding = Encoding {
            level: returns_to_level(train),
            relative: unit(1..shape.input),
            change: unit(1..2),
            target: unit(1..shape.horizon + 1),
        };
        Ok(Forecaster { shape, scaler, encoding })
    }

    /// The network's input before each origin, `[T, B, 2 width]`: the value and the change of each sample in a step.
    /// An origin is the number of known samples. Differences are taken before rounding to f32.
    pub(crate) fn inputs(&self, series: &[f64], origins: &[usize]) -> Array3<f32> {
        let Shape { input, width, .. } = self.shape;
        let mut out = Array3::zeros((input / width, origins.len(), 2 * width));
        for (row, &origin) in origins.iter().enumerate() {
            let window = &series[origin - input..origin];
            let scaled = if self.encoding.level { self.scaler.scale(window) } else { Vec::new() };
            let last = window[input - 1];
            for (at, value) in window.iter().enumerate() {
                let (t, k) = (at / width, 2 * (at % width));
                let relative = || ((value - last) / self.encoding.relative) as f32;
                out[[t, row, k]] = scaled.get(at).copied().unwrap_or_else(relative);
                let before = if at > 0 { window[at - 1] } else { *value };
                out[[t, row, k + 1]] = ((value - before) / self.encoding.change) as f32;
            }
        }
        out
    }

    /// The targets of the network at each origin, `[1, B, horizon]`.
    pub(crate) fn targets(&self, series: &[f64], origins: &[usize]) -> Array3<f32> {
        Array3::from_shape_fn((1, origins.len(), self.shape.horizon), |(_, row, k)| {
            let origin = origins[row];
            ((series[origin + k] - series[origin - 1]) / self.encoding.target) as f32
        })
    }

    /// The forecast block after each origin, `[origins, horizon]`, in the unit of the table.
    pub(crate) fn forecasts(
        &self,
        network: &Network,
        series: &[f64],
        origins: Range<usize>,
    ) -> Result<Array2<f64>, Failure> {
        let (input, horizon) = (self.shape.input, self.shape.horizon);
        if origins.start < input || origins.end > series.len() + 1 {
            return Err(Failure::failed(format!(
                "a forecast needs {input} samples before it; found {}; give a table with more rows",
                origins.start.min(series.len())
            )));
        }
        let mut out = Array2::zeros((origins.len(), horizon));
        let first = origins.start;
        let all: Vec<usize> = origins.collect();
        for known in all.chunks(PREDICTED_AT_ONCE) {
            let outputs = network.predict(self.inputs(series, known).view())?;
            for (row, &origin) in known.iter().enumerate() {
                for k in 0..horizon {
                    let change = f64::from(outputs[[0, row, k]]) * self.encoding.target;
                    out[[origin - first, k]] = series[origin - 1] + change;
                }
            }
        }
        Ok(out)
    }

    /// The mean loss of the network's output at these origins, as in training.
    pub(crate) fn loss(
        &self,
        network: &Network,
        loss: &Loss,
        series: &[f64],
        origins: &[usize],
    ) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for origins in origins.chunks(PREDICTED_AT_ONCE) {
            let output = network.predict(self.inputs(series, origins).view())?;
            let targets = Targets::values(self.targets(series, origins));
            sum += targets.loss(loss, Reduction::Sum, output.view())?;
        }
        Ok(sum / (origins.len() * self.shape.horizon) as f64)
    }

    /// The `steps` samples after the series: one block, or several in closed loop, where each block counts as known
    /// for the next.
    pub(crate) fn continuation(
        &self,
        network: &Network,
        series: &[f64],
        steps: usize,
    ) -> Result<Vec<f64>, Failure> {
        let mut known = series[series.len().saturating_sub(self.shape.input)..].to_vec();
        let start = known.len();
        while known.len() < start + steps {
            let now = known.len();
            let block = self.forecasts(network, &known, now..now + 1)?;
            known.extend(block.iter());
        }
        Ok(known[start..start + steps].to_vec())
    }

    /// Adds the entries that [`Forecaster::from_metadata`] reads.
    pub(crate) fn write_metadata(&self, metadata: &mut BTreeMap<String, String>) {
        metadata
            .insert(SETTINGS.into(), serde_json::to_string(&self.shape).expect("numbers and names are JSON"));
        metadata.insert(SCALER.into(), self.scaler.to_json());
        metadata.insert(ENCODING.into(), serde_json::to_string(&self.encoding).expect("numbers are JSON"));
    }

    pub(crate) fn from_metadata(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
        let foreign =
            || refuse("it was not written by 'gatefold forecast'; train a model with that first".into());
        let text = |key: &str| metadata.get(key).ok_or_else(foreign);
        let (shape, encoding) = (text(SETTINGS)?, text(ENCODING)?);
        let scaler = Scaler::from_json(text(SCALER)?).map_err(|error| refuse(error.to_string()))?;
        let unreadable =
            |error| refuse(format!("its forecast settings cannot be read: {error}; train it again"));
        let shape: Shape = serde_json::from_str(shape).map_err(unreadable)?;
        let encoding: Encoding = serde_json::from_str(encoding).map_err(unreadable)?;
        let units = [encoding.relative, encoding.change, encoding.target];
        let divides = shape.width > 0 && shape.input > 0 && shape.input.is_multiple_of(shape.width);
        if !divides || shape.horizon == 0 || !units.iter().all(|unit| unit.is_normal() && *unit > 0.0) {
            return Err(refuse("its forecast settings make no sense; train it again".into()));
        }
        Ok(Forecaster { shape, scaler, encoding })
    }
}

/// Ten significant digits: more than an f32 holds, without a tail of binary noise.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.9e}").parse().unwrap_or(value)
}
