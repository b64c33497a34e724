use gatefold::layers::{Direction, GruConfig, LayerConfig, LstmConfig, RnnConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The cell of recurrent layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// Gated recurrent units.
    #[default]
    Gru,
    /// Long short-term memory.
    Lstm,
    /// Plain recurrence with tanh.
    Rnn,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cell::Gru => "gru",
            Cell::Lstm => "lstm",
            Cell::Rnn => "rnn",
        })
    }
}

/// Equal recurrent layers on top of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrent {
    /// Their cell.
    pub cell: Cell,
    /// Units of each layer, and of each direction if there are two.
    pub hidden: usize,
    /// Layers; at least one.
    pub layers: usize,
}

impl fmt::Display for Recurrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layers = if self.layers == 1 { String::new() } else { format!("{} layers of ", self.layers) };
        write!(f, "{layers}{} {}", self.cell, self.hidden)
    }
}

impl Recurrent {
    /// One such layer.
    pub fn layer(&self, direction: Direction) -> LayerConfig {
        match self.cell {
            Cell::Gru => GruConfig::new(self.hidden).direction(direction).into(),
            Cell::Lstm => LstmConfig::new(self.hidden).direction(direction).into(),
            Cell::Rnn => RnnConfig::new(self.hidden).direction(direction).into(),
        }
    }

    /// All layers, with dropout between them if `dropout` is above 0.
    pub fn stack(&self, direction: Direction, dropout: f32) -> Vec<LayerConfig> {
        let mut layers = Vec::new();
        for at in 0..self.layers {
            if at > 0 && dropout > 0.0 {
                layers.push(LayerConfig::Dropout { rate: dropout });
            }
            layers.push(self.layer(direction));
        }
        layers
    }
}
