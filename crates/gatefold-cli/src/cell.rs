//! Recurrent layers that options say.

use clap::ValueEnum;
use gatefold::{Biases, Direction, GruConfig, LayerConfig, LstmConfig, Reset, RnnConfig};

#[derive(clap::Args, Debug)]
#[group(id = "recurrent", multiple = true)]
pub(crate) struct Choice {
    /// What the recurrent layers are made of
    #[arg(long, value_name = "C", default_value = "lstm")]
    cell: Cell,
    /// Recurrent layers that go through time both ways, outputs side by side
    #[arg(long)]
    bidirectional: bool,
    /// Layers without biases, the dense ones too
    #[arg(long)]
    pub(crate) no_biases: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cell {
    /// vanilla, h = tanh(W x + U h' + b)
    Rnn,
    /// long short-term memory
    Lstm,
    /// an LSTM whose gates see the cell
    LstmPeephole,
    /// gated recurrent unit, reset after the product, as in PyTorch
    Gru,
    /// gated recurrent unit, reset before the product, as Cho et al. wrote it
    GruBefore,
}

impl Choice {
    /// A layer of that width.
    pub(crate) fn layer(&self, width: usize) -> LayerConfig {
        let biases = if self.no_biases { Biases::None } else { Biases::Two };
        let direction = if self.bidirectional { Direction::Bidirectional } else { Direction::Forward };
        let (lstm, gru) = (LstmConfig::new(width), GruConfig::new(width));
        match self.cell {
            Cell::Rnn => RnnConfig::new(width).biases(biases).direction(direction).into(),
            Cell::Lstm => lstm.biases(biases).direction(direction).into(),
            Cell::LstmPeephole => lstm.peephole().biases(biases).direction(direction).into(),
            Cell::Gru => gru.biases(biases).direction(direction).into(),
            Cell::GruBefore => gru.reset(Reset::Before).biases(biases).direction(direction).into(),
        }
    }
}
