use gatefold::layers::{Biases, CellKind, Direction, LayerConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Equal recurrent layers on top of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrent {
    /// Their cell.
    pub cell: CellKind,
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
        self.cell.layer(self.hidden, direction, Biases::default(), 1)
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
