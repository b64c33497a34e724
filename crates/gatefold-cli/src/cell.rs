//! The options that describe recurrent layers.

use clap::ValueEnum;
use gatefold::layers::{Biases, CellKind, Direction, LayerConfig};
use serde::{Deserialize, Serialize};

#[derive(clap::Args, Debug)]
#[group(id = "recurrent", multiple = true)]
pub(crate) struct Choice {
    /// The cell of the recurrent layers
    #[arg(long, value_name = "C", default_value = "lstm")]
    cell: CellChoice,
    /// Make the recurrent layers bidirectional, with both outputs side by side
    #[arg(long)]
    bidirectional: bool,
    /// Leave out all biases, those of dense layers too
    #[arg(long)]
    pub(crate) no_biases: bool,
}

/// The recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CellChoice {
    /// vanilla, h = tanh(W x + U h' + b)
    Rnn,
    /// long short-term memory
    Lstm,
    /// an LSTM whose gates see the cell state
    LstmPeephole,
    /// gated recurrent unit, reset after the product, as in PyTorch
    Gru,
    /// gated recurrent unit, reset before the product, as Cho et al. wrote it
    GruBefore,
    /// an LSTM with layer normalisation within the step (Ba et al. 2016)
    LayernormLstm,
    /// a gated recurrent unit with layer normalisation within the step
    LayernormGru,
    /// an LSTM with zoneout (Krueger et al. 2016): h keeps 5 % of its values, c half of them
    ZoneoutLstm,
    /// an LSTM with dropout of h on its way into the gates, one mask a sequence (Gal and Ghahramani 2016)
    DropoutLstm,
    /// an LSTM with DropConnect on the recurrent weights (Merity et al. 2018)
    DropconnectLstm,
}

impl Choice {
    /// A layer of this width.
    pub(crate) fn layer(&self, width: usize) -> LayerConfig {
        let biases = if self.no_biases { Biases::None } else { Biases::Two };
        let direction = if self.bidirectional { Direction::Bidirectional } else { Direction::Forward };
        CellKind::from(self.cell).layer(width, direction, biases, 1)
    }
}

impl From<CellChoice> for CellKind {
    fn from(choice: CellChoice) -> CellKind {
        match choice {
            CellChoice::Rnn => CellKind::Rnn,
            CellChoice::Lstm => CellKind::Lstm,
            CellChoice::LstmPeephole => CellKind::LstmPeephole,
            CellChoice::Gru => CellKind::Gru,
            CellChoice::GruBefore => CellKind::GruBefore,
            CellChoice::LayernormLstm => CellKind::LayernormLstm,
            CellChoice::LayernormGru => CellKind::LayernormGru,
            CellChoice::ZoneoutLstm => CellKind::ZoneoutLstm,
            CellChoice::DropoutLstm => CellKind::DropoutLstm,
            CellChoice::DropconnectLstm => CellKind::DropconnectLstm,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Choice;
    use clap::Parser;
    use gatefold::NetworkConfig;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recurrent: Choice,
    }

    #[test]
    fn every_name_gives_its_cell() {
        for (options, expected) in [
            ("", "lstm 3"),
            ("--cell rnn", "rnn 3"),
            ("--cell lstm", "lstm 3"),
            ("--cell lstm-peephole", "lstm 3 peephole"),
            ("--cell gru", "gru 3"),
            ("--cell gru-before", "gru 3 reset before"),
            ("--cell layernorm-lstm", "lstm 3 layer norm"),
            ("--cell layernorm-gru --bidirectional", "gru 3 layer norm, bidirectional"),
            ("--cell zoneout-lstm", "lstm 3 zoneout 0.05, cell zoneout 0.5"),
            ("--cell dropout-lstm", "lstm 3 recurrent dropout 0.25"),
            ("--cell dropconnect-lstm", "lstm 3 DropConnect 0.5"),
            ("--cell rnn --bidirectional", "rnn 3 bidirectional"),
            ("--cell gru --no-biases", "gru 3 no biases"),
            ("--cell lstm-peephole --no-biases --bidirectional", "lstm 3 peephole, no biases, bidirectional"),
        ] {
            let line = Line::parse_from(["bench"].into_iter().chain(options.split_whitespace()));
            let config = NetworkConfig::new(2, [line.recurrent.layer(3)]).expect("the options go together");
            assert_eq!(config.to_string(), format!("2 -> {expected}"), "{options}");
        }
    }
}
