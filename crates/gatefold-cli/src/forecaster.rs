//! How a series becomes a network's input, and its output a forecast. The same for training and for use.

use crate::failure::Failure;
use gatefold::{DenseConfig, LayerConfig, LstmConfig, Network, NetworkConfig};
use gatefold_series::{Batch, Fill, Scaler, WindowConfig, Windows};
use ndarray::{Array2, Array3, Axis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Under these keys a model file keeps what is not a tensor.
const SETTINGS: &str = "forecast";
const SCALER: &str = "scaler";
/// Windows in one call of the network outside training: a bound on memory, not on the result.
const PREDICTED_AT_ONCE: usize = 512;

/// What must be known to forecast with a trained network, besides its parameters and its scaler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// The column.
    pub(crate) target: String,
    /// Samples that go in.
    pub(crate) input: usize,
    /// Samples that make one time step.
    pub(crate) width: usize,
    /// Samples that come out.
    pub(crate) horizon: usize,
    /// What was put into missing cells.
    pub(crate) fill: FillChoice,
}

/// What to put into missing cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FillChoice {
    /// nothing: a missing cell is an error
    #[default]
    Refuse,
    /// the value before it
    Previous,
    /// a line between the values around it, which looks ahead
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

    /// Values a time step that go into the network, and that come out of it.
    pub(crate) fn network_widths(&self) -> (usize, usize) {
        (self.width, self.horizon)
    }

    /// LSTM layers, the last step, and a dense layer with an output for each step of the horizon.
    pub(crate) fn network(&self, hidden: usize, layers: usize) -> Result<NetworkConfig, Failure> {
        let mut stack: Vec<LayerConfig> = vec![LstmConfig::new(hidden).into(); layers];
        stack.push(LayerConfig::LastStep);
        stack.push(DenseConfig::new(self.horizon).into());
        Ok(NetworkConfig::new(self.network_widths().0, stack)?)
    }
}

/// A network between the values of a table.
///
/// It sees scaled samples and learns the difference between each sample of the block and the last one before it:
/// a network that knows nothing yet then repeats the last value, and everything it learns is beyond that.
#[derive(Debug)]
pub(crate) struct Forecaster {
    pub(crate) shape: Shape,
    pub(crate) scaler: Scaler,
}

impl Forecaster {
    /// What training needs of a batch: `[T, B, width]` in and `[1, B, horizon]` out.
    pub(crate) fn encode(&self, batch: Batch) -> (Array3<f32>, Array3<f32>) {
        let Batch { input, mut target } = batch;
        let last = input.index_axis(Axis(0), input.len_of(Axis(0)) - 1);
        let last = last.index_axis(Axis(1), self.shape.width - 1);
        for (mut block, last) in target.axis_iter_mut(Axis(1)).zip(last) {
            block -= *last;
        }
        (input, target)
    }

    /// The block from each origin on, `[origins, horizon]`, in the unit of the table. An origin is the number of
    /// samples known.
    pub(crate) fn forecasts(
        &self,
        network: &mut Network,
        series: &[f64],
        origins: Range<usize>,
    ) -> Result<Array2<f64>, Failure> {
        let scaled = self.scaler.scale(series);
        let (input, horizon) = (self.shape.input, self.shape.horizon);
        if origins.start < input || origins.end > series.len() + 1 {
            return Err(Failure::failed(format!(
                "a forecast needs {input} samples before it; found {}; give a table with more rows",
                origins.start.min(series.len())
            )));
        }
        let mut out = Array2::zeros((origins.len(), horizon));
        let all: Vec<usize> = origins.clone().collect();
        for (chunk, known) in all.chunks(PREDICTED_AT_ONCE).enumerate() {
            let steps = input / self.shape.width;
            let inputs = Array3::from_shape_fn((steps, known.len(), self.shape.width), |(t, row, k)| {
                scaled[known[row] - input + t * self.shape.width + k]
            });
            let outputs = network.predict(inputs.view())?;
            for (row, origin) in known.iter().enumerate() {
                for k in 0..horizon {
                    let change = self.scaler.unscale_difference(outputs[[0, row, k]]);
                    out[[chunk * PREDICTED_AT_ONCE + row, k]] = series[origin - 1] + change;
                }
            }
        }
        Ok(out)
    }

    /// The mean squared error of the network's own output over windows, the loss of training.
    pub(crate) fn loss(&self, network: &mut Network, windows: &Windows) -> Result<f64, Failure> {
        let all: Vec<usize> = (0..windows.len()).collect();
        let mut sum = 0.0;
        for indices in all.chunks(PREDICTED_AT_ONCE) {
            let (input, target) = self.encode(windows.batch(indices));
            let output = network.predict(input.view())?;
            sum += output.iter().zip(&target).map(|(y, t)| f64::from(y - t).powi(2)).sum::<f64>();
        }
        Ok(sum / (windows.len() * self.shape.horizon) as f64)
    }

    /// `steps` samples that follow the series: one block, or several in closed loop, where each block is taken as
    /// known for the next.
    pub(crate) fn continuation(
        &self,
        network: &mut Network,
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

    /// Adds what [`Forecaster::from_metadata`] reads.
    pub(crate) fn write_metadata(&self, metadata: &mut BTreeMap<String, String>) {
        metadata
            .insert(SETTINGS.into(), serde_json::to_string(&self.shape).expect("numbers and names are JSON"));
        metadata.insert(SCALER.into(), self.scaler.to_json());
    }

    pub(crate) fn from_metadata(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let refuse = |problem: String| Failure::failed(format!("{}: {problem}", path.display()));
        let foreign =
            || refuse("it was not written by 'gatefold forecast'; train a model with that first".into());
        let settings = metadata.get(SETTINGS).ok_or_else(foreign)?;
        let scaler = Scaler::from_json(metadata.get(SCALER).ok_or_else(foreign)?)
            .map_err(|error| refuse(error.to_string()))?;
        let shape: Shape = serde_json::from_str(settings).map_err(|error| {
            refuse(format!("its forecast settings cannot be read: {error}; train it again"))
        })?;
        if shape.width == 0
            || shape.input == 0
            || !shape.input.is_multiple_of(shape.width)
            || shape.horizon == 0
        {
            return Err(refuse(format!("its forecast settings make no sense: {settings}; train it again")));
        }
        Ok(Forecaster { shape, scaler })
    }
}

/// Ten significant digits: more than an f32 holds, and no tail of binary noise in a file.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.9e}").parse().unwrap_or(value)
}
