use crate::ForecastError;
use gatefold::layers::{DenseConfig, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use gatefold::{NetworkConfig, Optimizer};
use serde::{Deserialize, Serialize};

/// The recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A gated recurrent unit.
    #[default]
    Gru,
    /// Long short-term memory.
    Lstm,
    /// A plain recurrent network with tanh.
    Rnn,
}

/// The loss of the median, in units of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MedianLoss {
    /// The absolute error.
    #[default]
    Absolute,
    /// Half the squared error: the output is then a mean.
    Squared,
    /// Half the square of errors up to 1, and linear beyond (Huber 1964).
    Huber,
}

impl MedianLoss {
    /// The loss of an error and its derivative.
    pub(crate) fn of(self, error: f32) -> (f32, f32) {
        match self {
            MedianLoss::Absolute if error == 0.0 => (0.0, 0.0),
            MedianLoss::Absolute => (error.abs(), error.signum()),
            MedianLoss::Huber if error.abs() > 1.0 => (error.abs() - 0.5, error.signum()),
            MedianLoss::Squared | MedianLoss::Huber => (0.5 * error * error, error),
        }
    }
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
    /// The recurrent cell.
    pub cell: Cell,
    /// Units in each recurrent layer.
    pub hidden: usize,
    /// Recurrent layers.
    pub layers: usize,
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
    /// The loss of the median.
    pub loss: MedianLoss,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Networks, each with a seed of its own.
    pub members: usize,
    /// The first network's seed.
    pub seed: u64,
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
            cell: Cell::Gru,
            hidden: if shared && total >= 50_000 { 128 } else { size },
            layers: 1,
            updates: if shared { 4_000 } else { 1_200 },
            stop_after: None,
            batch: if shared { 256 } else { 64 },
            learning_rate: 3e-3,
            mixing: if shared { 0.7 } else { 0.0 },
            average: 0.998,
            clip: 1.0,
            clip_value: None,
            loss: MedianLoss::default(),
            optimizer: OptimizerKind::default(),
            members: if shared { 4 } else { 3 },
            seed: 1,
        }
    }

    /// The layers: recurrent ones, their last step, a hidden dense layer where the series share a network, and three
    /// outputs for each step of the horizon, the median and what the interval's ends lie away from it.
    pub(crate) fn network(&self, width: usize) -> Result<NetworkConfig, ForecastError> {
        let recurrent = |hidden| -> LayerConfig {
            match self.cell {
                Cell::Gru => GruConfig::new(hidden).into(),
                Cell::Lstm => LstmConfig::new(hidden).into(),
                Cell::Rnn => RnnConfig::new(hidden).into(),
            }
        };
        let mut layers: Vec<LayerConfig> = vec![recurrent(self.hidden); self.layers];
        layers.push(LayerConfig::LastStep);
        if self.shared {
            layers.push(
                DenseConfig::new(self.hidden)
                    .activation(gatefold::layers::Activation::Elu { alpha: 1.0 })
                    .into(),
            );
        }
        layers.push(DenseConfig::new(3 * self.horizon).into());
        Ok(NetworkConfig::new(width, layers)?)
    }
}

/// Seven seasons, or fewer where the series are short: a window and a horizon must leave as much again to train on.
fn shared_window(season: Option<usize>, horizon: usize, typical: usize) -> Option<usize> {
    let season = season.filter(|season| *season > 1)?;
    let fits = |seasons: &usize| typical >= 2 * seasons * season + 2 * horizon;
    (2..=7).rev().find(fits).map(|seasons| seasons * season)
}
