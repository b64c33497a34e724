//! Recurrent cells by name, with usual options.

use crate::{Biases, Direction, GruConfig, LayerConfig, LayerNorm, LstmConfig, Reset, RnnConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A recurrent cell by its name, with the rates that its paper or its authors' code uses: a choice for people who do not
/// set each option of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellKind {
    /// A plain recurrent network with tanh.
    Rnn,
    /// Long short-term memory.
    Lstm,
    /// An LSTM whose gates see the cell state.
    LstmPeephole,
    /// The gated recurrent unit, reset after the product.
    #[default]
    Gru,
    /// The gated recurrent unit, reset before the product.
    GruBefore,
    /// An LSTM with layer normalisation within the step.
    LayernormLstm,
    /// A gated recurrent unit with layer normalisation within the step.
    LayernormGru,
    /// An LSTM with zoneout of 0.05 on `h` and 0.5 on `c`.
    ZoneoutLstm,
    /// An LSTM with recurrent dropout of 0.25, one mask a sequence.
    DropoutLstm,
    /// An LSTM with DropConnect of 0.5 on the recurrent weights.
    DropconnectLstm,
}

impl CellKind {
    /// All cells.
    pub const ALL: [CellKind; 10] = [
        CellKind::Rnn,
        CellKind::Lstm,
        CellKind::LstmPeephole,
        CellKind::Gru,
        CellKind::GruBefore,
        CellKind::LayernormLstm,
        CellKind::LayernormGru,
        CellKind::ZoneoutLstm,
        CellKind::DropoutLstm,
        CellKind::DropconnectLstm,
    ];

    /// The name: `layernorm-lstm`.
    pub fn name(self) -> &'static str {
        match self {
            CellKind::Rnn => "rnn",
            CellKind::Lstm => "lstm",
            CellKind::LstmPeephole => "lstm-peephole",
            CellKind::Gru => "gru",
            CellKind::GruBefore => "gru-before",
            CellKind::LayernormLstm => "layernorm-lstm",
            CellKind::LayernormGru => "layernorm-gru",
            CellKind::ZoneoutLstm => "zoneout-lstm",
            CellKind::DropoutLstm => "dropout-lstm",
            CellKind::DropconnectLstm => "dropconnect-lstm",
        }
    }

    /// Products with the input, and as many with the state, that a step takes for each unit.
    pub fn gates(self) -> usize {
        match self {
            CellKind::Rnn => 1,
            CellKind::Gru | CellKind::GruBefore | CellKind::LayernormGru => 3,
            CellKind::Lstm
            | CellKind::LstmPeephole
            | CellKind::LayernormLstm
            | CellKind::ZoneoutLstm
            | CellKind::DropoutLstm
            | CellKind::DropconnectLstm => 4,
        }
    }

    /// A layer of so many units, which reads its state `dilation` steps before. [`crate::NetworkConfig`] refuses a dilation
    /// other than 1 for cells with layer normalisation or noise.
    pub fn layer(self, hidden: usize, direction: Direction, biases: Biases, dilation: usize) -> LayerConfig {
        let lstm = LstmConfig::new(hidden).direction(direction).biases(biases).dilation(dilation);
        let gru = GruConfig::new(hidden).direction(direction).biases(biases).dilation(dilation);
        match self {
            CellKind::Rnn => {
                RnnConfig::new(hidden).direction(direction).biases(biases).dilation(dilation).into()
            }
            CellKind::Lstm => lstm.into(),
            CellKind::LstmPeephole => lstm.peephole().into(),
            CellKind::Gru => gru.into(),
            CellKind::GruBefore => gru.reset(Reset::Before).into(),
            CellKind::LayernormLstm => lstm.layer_norm(LayerNorm::default()).into(),
            CellKind::LayernormGru => gru.layer_norm(LayerNorm::default()).into(),
            CellKind::ZoneoutLstm => lstm.zoneout(0.05).zoneout_cell(0.5).into(),
            CellKind::DropoutLstm => lstm.recurrent_dropout(0.25).into(),
            CellKind::DropconnectLstm => lstm.drop_connect(0.5).into(),
        }
    }
}

impl fmt::Display for CellKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetworkConfig;

    #[test]
    fn every_name_gives_its_cell() {
        let layers = [
            "rnn 3",
            "lstm 3",
            "lstm 3 peephole",
            "gru 3",
            "gru 3 reset before",
            "lstm 3 layer norm",
            "gru 3 layer norm",
            "lstm 3 zoneout 0.05, cell zoneout 0.5",
            "lstm 3 recurrent dropout 0.25",
            "lstm 3 DropConnect 0.5",
        ];
        for (kind, expected) in CellKind::ALL.into_iter().zip(layers) {
            let layer = kind.layer(3, Direction::Forward, Biases::Two, 1);
            let config = NetworkConfig::new(2, [layer]).expect("the options go together");
            assert_eq!(config.to_string(), format!("2 -> {expected}"), "{kind}");
            // Files hold the name, and a step's products are the rows of its weights.
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
            let parameters = crate::Parameters::initial(&config, 1).unwrap();
            assert_eq!(parameters["rnn0.weight_hh_l0"].shape(), [kind.gates() * 3, 3], "{kind}");
        }
        let layer = CellKind::Gru.layer(3, Direction::Bidirectional, Biases::None, 2);
        let config = NetworkConfig::new(2, [layer]).unwrap().to_string();
        assert!(
            ["bidirectional", "no biases", "dilation 2"].iter().all(|text| config.contains(text)),
            "{config}"
        );
    }
}
