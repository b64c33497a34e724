use crate::plan::MANY;
use crate::{Beside, ForecastError, Ids, Loss};
use gatefold::layers::{
    Activation, Biases, CellKind, Conv1dConfig, DenseConfig, Direction, LayerConfig, Merge, ParallelConfig,
};
use gatefold::{NetworkConfig, Optimizer};
use serde::{Deserialize, Serialize};

/// The layers of a network's branch beside the linear one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Recurrent layers, and their last step.
    #[default]
    Recurrent,
    /// A dense network on the whole window.
    Dense,
    /// Dilated causal convolutions over time, and their last step: a predictor that slides along the series and sees a
    /// fixed number of steps (Bai, Kolter and Koltun 2018).
    Convolution,
}

/// The optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam.
    #[default]
    Adam,
    /// Adam with a weight decay of 0.01.
    Adamw,
    /// RMSprop.
    Rmsprop,
    /// Gradient descent with a momentum of 0.9.
    Sgd,
}

impl From<OptimizerKind> for Optimizer {
    fn from(kind: OptimizerKind) -> Optimizer {
        match kind {
            OptimizerKind::Adam => Optimizer::adam(),
            OptimizerKind::Adamw => Optimizer::adamw(),
            OptimizerKind::Rmsprop => Optimizer::rmsprop(),
            OptimizerKind::Sgd => Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        }
    }
}

/// Networks of an ensemble, where time allows it.
const MEMBERS: usize = 3;
/// The same for those that many series share.
const SHARED_MEMBERS: usize = 4;
/// Operations of one training beyond which one network must do: ten minutes at 30 billion a second.
const AFFORDABLE: f64 = 2e13;
/// The longest window that the regression chooses for a network.
pub(crate) const MOST_CHOSEN: usize = 120;

/// How a network is built and trained. With the series, these settings and the device determine every bit of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Samples to forecast at once.
    pub horizon: usize,
    /// Samples per season for the window, the last season that is repeated, and the scale of errors.
    pub season: Option<usize>,
    /// Samples per season of the Fourier terms, such as 365.25: the longest season that the calendar has.
    pub longest_season: Option<f64>,
    /// Whether the series share one window and its units, as many long series do.
    pub shared: bool,
    /// Samples that the network sees; `None` to take those that the linear regression chose.
    pub window: Option<usize>,
    /// The layers of the branch beside the linear one.
    pub architecture: Architecture,
    /// The recurrent cell.
    pub cell: CellKind,
    /// Units or channels in each layer.
    pub hidden: usize,
    /// Recurrent layers, unless `dilations` says how many.
    pub layers: usize,
    /// A recurrent layer for each of these, which reads its state that many steps before, as in the dilated stacks of
    /// Chang et al. 2017 and Smyl 2020. What a layer after the first reads is added to its output. Empty for plain layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dilations: Vec<usize>,
    /// Updates of each network that the learning rate is spread over.
    pub updates: u64,
    /// Updates after which training ends nevertheless, because a validation part said so; `None` for all.
    pub stop_after: Option<u64>,
    /// Windows per update.
    pub batch: usize,
    /// The highest learning rate; it rises over 100 updates and falls along a cosine to zero.
    pub learning_rate: f32,
    /// The share of windows that are blended with another one.
    pub mixing: f64,
    /// The decay of the average of parameters, from update to update.
    pub average: f32,
    /// The limit of the gradient's norm.
    pub clip: f32,
    /// The limit of each element of the gradient, before its norm is taken; `None` for no limit.
    pub clip_value: Option<f32>,
    /// The loss.
    pub loss: Loss,
    /// Whether values are forecast by their logarithms.
    #[serde(default)]
    pub logarithm: bool,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Networks, each with a seed of its own.
    pub members: usize,
    /// The first network's seed.
    pub seed: u64,
    /// Whether a network that the series share reads which series a window is of.
    #[serde(default)]
    pub ids: Ids,
    /// Covariates and constant values of the series; not kept in files.
    #[serde(skip)]
    pub beside: Beside,
}

impl Settings {
    /// Settings that follow from the number and length of the series (samples to train on).
    pub fn new(horizon: usize, season: Option<usize>, lengths: &[usize]) -> Self {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let (total, typical) =
            (sorted.iter().sum::<usize>(), sorted.get(sorted.len() / 2).copied().unwrap_or(0));
        // Many series that are long beside a season teach one network what a window of their own cannot.
        let window = shared_window(season, horizon, typical);
        let shared = lengths.len() >= 10 && window.is_some();
        let size = match total {
            0..2_000 => 16,
            2_000..8_000 => 32,
            _ => 64,
        };
        Settings {
            horizon,
            season,
            longest_season: season.map(|season| season as f64),
            shared,
            window: window.filter(|_| shared),
            architecture: Architecture::Recurrent,
            cell: CellKind::Gru,
            hidden: if shared && total >= 50_000 { 128 } else { size },
            layers: 1,
            dilations: Vec::new(),
            updates: if shared { 4_000 } else { 1_200 },
            stop_after: None,
            batch: if shared { 256 } else { 64 },
            learning_rate: 3e-3,
            mixing: if shared { 0.7 } else { 0.0 },
            average: 0.998,
            clip: 1.0,
            clip_value: None,
            loss: Loss::default(),
            logarithm: false,
            optimizer: OptimizerKind::default(),
            members: if shared { SHARED_MEMBERS } else { MEMBERS },
            seed: 1,
            ids: Ids::default(),
            beside: Beside::default(),
        }
    }

    /// The networks that are worth their time: three, or four that many series share, and one where training takes more than
    /// some 10 minutes of one core.
    pub fn affordable_members(&self) -> usize {
        match self.operations() {
            operations if operations > AFFORDABLE => 1,
            _ if self.shared => SHARED_MEMBERS,
            _ => MEMBERS,
        }
    }

    /// Multiplications and additions in training one network, about: three times those forward, mostly of the recurrent
    /// layers.
    fn operations(&self) -> f64 {
        let window = self.window.unwrap_or(MOST_CHOSEN);
        // A step of a shared network is a season.
        let (steps, width) = match self.season.filter(|_| self.shared) {
            Some(season) => (window.div_ceil(season), season),
            None => (window, 1),
        };
        let layers = if self.dilations.is_empty() { self.layers } else { self.dilations.len() };
        let inputs = width + (2 * layers - 1) * self.hidden;
        let step = 2 * self.cell.gates() * self.hidden * inputs;
        let head = 2 * (window + self.hidden) * self.loss.outputs() * self.horizon;
        3.0 * self.updates as f64 * self.batch as f64 * (steps as f64 * step as f64 + head as f64)
    }

    /// Whether the networks' own bands make the intervals of so many series. Beside ten regressions or more, one for each
    /// series, they do not: a network learns its bands from what regressions leave of the samples that they were fitted to,
    /// and how much less that is than on new samples changes with the length of the series. So bands that were calibrated
    /// beside one fit would be too narrow beside the next.
    pub(crate) fn gives_bands(&self, series: usize) -> bool {
        self.shared || series < MANY
    }

    /// Checks that a series suits the loss and the logarithm.
    ///
    /// # Errors
    /// [`ForecastError::Settings`] with the first sample of `name` that does not.
    pub fn check(&self, name: &str, series: &[f64]) -> Result<(), ForecastError> {
        self.loss.check(name, series)?;
        match series.iter().position(|value| *value <= 0.0).filter(|_| self.logarithm) {
            Some(at) => Err(ForecastError::Settings(format!(
                "there is no logarithm of {}, sample {} of {name}; forecast without logarithms",
                series[at],
                at + 1
            ))),
            None => Ok(()),
        }
    }

    /// The network for windows of `steps` steps of `width` values: two branches whose outputs are added. The linear one is
    /// a convolution that reads the whole window. The other one has the layers of the architecture, a hidden dense layer
    /// where the series share a network, and a dense layer. Both have, for each step of the horizon, the outputs that the
    /// loss asks for: a median and numbers that say how far the interval's ends lie away from it, or a distribution.
    pub(crate) fn network(&self, (steps, width): (usize, usize)) -> Result<NetworkConfig, ForecastError> {
        let outputs = self.loss.outputs() * self.horizon;
        let linear: Vec<LayerConfig> = vec![Conv1dConfig::new(outputs, steps).into(), LayerConfig::LastStep];
        let mut layers = match self.architecture {
            Architecture::Recurrent if !self.dilations.is_empty() => self.dilated(linear.len()),
            Architecture::Recurrent => vec![self.recurrent(1); self.layers],
            Architecture::Dense => {
                // A dense layer on the whole window, as a convolution that has one output step.
                vec![Conv1dConfig::new(self.hidden, steps).activation(Activation::Relu).into()]
            }
            Architecture::Convolution => self.convolutions(steps),
        };
        layers.push(LayerConfig::LastStep);
        if self.shared || self.architecture == Architecture::Dense {
            layers.push(DenseConfig::new(self.hidden).activation(Activation::Relu).into());
        }
        layers.push(DenseConfig::new(outputs).into());
        Ok(NetworkConfig::new(width, [ParallelConfig::new(Merge::Sum, [linear, layers]).into()])?)
    }

    fn recurrent(&self, dilation: usize) -> LayerConfig {
        self.cell.layer(self.hidden, Direction::Forward, Biases::default(), dilation)
    }

    /// A recurrent layer for each dilation, with a residual connection around every one past the first, where the widths
    /// agree. The network has `before` layers before them.
    fn dilated(&self, before: usize) -> Vec<LayerConfig> {
        let mut layers = Vec::new();
        for (at, &dilation) in self.dilations.iter().enumerate() {
            let from = before + layers.len();
            layers.push(self.recurrent(dilation));
            if at > 0 {
                layers.push(LayerConfig::Residual { from });
            }
        }
        layers
    }

    /// Causal convolutions of three steps each, every one with three times the dilation of the one before, so that the last
    /// step sees `3^layers` steps: the whole window, up to 81.
    fn convolutions(&self, steps: usize) -> Vec<LayerConfig> {
        let dilations = [1, 3, 9, 27].into_iter().take_while(|dilation| *dilation < steps.max(2));
        let layer = |dilation| {
            Conv1dConfig::new(self.hidden, 3).causal().dilation(dilation).activation(Activation::Relu).into()
        };
        dilations.map(layer).collect()
    }
}

/// Seven seasons, or fewer where the series are short: a window and a horizon must leave as much again to train on.
fn shared_window(season: Option<usize>, horizon: usize, typical: usize) -> Option<usize> {
    let season = season.filter(|season| *season > 1)?;
    let fits = |seasons: &usize| typical >= 2 * seasons * season + 2 * horizon;
    (2..=7).rev().find(fits).map(|seasons| seasons * season)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dilations_are_layers_with_residuals_and_none_changes_nothing() {
        let plain = Settings { hidden: 8, layers: 2, ..Settings::new(3, None, &[200]) };
        let network = plain.network((10, 1)).unwrap().to_string();
        assert!(network.contains("gru 8 -> gru 8 -> last step"), "{network}");
        let dilated = Settings { dilations: vec![1, 3, 6], cell: CellKind::Lstm, ..plain };
        let config = dilated.network((10, 1)).unwrap();
        let network = config.to_string();
        let layers = "lstm 8 -> lstm 8 dilation 3 -> residual from layer 3 -> lstm 8 dilation 6 -> residual from layer 5";
        assert!(network.contains(layers), "{network}");
        let text = serde_json::to_string(&dilated).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&text).unwrap(), dilated);
    }

    #[test]
    fn an_ensemble_is_as_large_as_its_time_allows() {
        let months = Settings::new(12, Some(12), &[480]);
        assert_eq!(months.affordable_members(), 3);
        let large = Settings { hidden: 512, layers: 2, ..months.clone() };
        assert_eq!(large.affordable_members(), 1);
        let deep = Settings { hidden: 512, dilations: vec![1, 3, 6], ..months.clone() };
        assert_eq!(deep.affordable_members(), 1);
        // A plain network does a third of the arithmetic of a GRU.
        let of = |cell| Settings { cell, ..months.clone() }.operations();
        assert!(of(CellKind::Gru) < of(CellKind::Lstm) && of(CellKind::Rnn) < 0.5 * of(CellKind::Gru));
        // M4's hourly series, also with the updates that docs/forecasting.md recommends.
        let hourly = Settings::new(48, Some(24), &[700; 414]);
        assert_eq!((hourly.shared, hourly.affordable_members()), (true, 4));
        assert_eq!(Settings { updates: 10_000, ..hourly }.affordable_members(), 4);
    }
}
