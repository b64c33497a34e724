//! The engine's own cells, with every option.

use gatefold::NetworkConfig;
use gatefold::layers::{
    Activation, Biases, Coupling, Direction, GruActivations, GruConfig, InitialState, LayerConfig, LayerNorm,
    LstmActivations, LstmConfig, Reset, RnnConfig,
};

/// Every cell with every option once, `hidden` units wide; those with a readout that feeds back run in one direction
/// only.
pub(super) fn cells(hidden: usize) -> Vec<(LayerConfig, bool)> {
    let rnn = || RnnConfig::new(hidden);
    let lstm = || LstmConfig::new(hidden);
    let gru = || GruConfig::new(hidden);
    // Few units have small variances, which a larger epsilon keeps away from zero.
    let norm = LayerNorm { epsilon: 0.1 };
    // A lone unit's normalised state is zero whatever it was, and so are gradients that rounding alone fills.
    let normalised = LstmConfig::new(hidden.max(3)).layer_norm(norm);
    let functions = LstmActivations {
        gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        candidate: Activation::Softsign,
        output: Activation::ScaledTanh { alpha: 0.9, beta: 0.8 },
    };
    let gru_functions =
        GruActivations { gate: Activation::Sigmoid, candidate: Activation::Elu { alpha: 0.7 } };
    let two_ways: Vec<LayerConfig> = vec![
        rnn().into(),
        rnn().activation(Activation::LeakyRelu { alpha: 0.1 }).biases(Biases::One).into(),
        rnn().skip(3).initial_state(InitialState::Learned).into(),
        rnn().dilation(3).initial_state(InitialState::Learned).into(),
        lstm().into(),
        lstm().biases(Biases::None).initial_state(InitialState::Constant(0.5)).into(),
        lstm().peephole().into(),
        lstm().coupled(Coupling::Forget).initial_state(InitialState::Learned).into(),
        lstm().squashed().into(),
        lstm().activations(functions).into(),
        lstm().peephole().coupled(Coupling::Input).clip(0.6).activations(functions).into(),
        lstm().projection(hidden.div_ceil(2)).into(),
        lstm().projection(hidden + 1).peephole().skip(2).into(),
        lstm().skip(2).squashed().biases(Biases::Two).into(),
        lstm().dilation(2).peephole().initial_state(InitialState::Learned).into(),
        lstm().dilation(9).projection(hidden + 1).into(),
        gru().into(),
        gru().initial_state(InitialState::Learned).biases(Biases::One).into(),
        gru().activations(gru_functions).clip(0.5).into(),
        gru().skip(2).into(),
        gru().dilation(4).into(),
        gru().dilation(2).reset(Reset::Before).clip(0.6).into(),
        gru().reset(Reset::Before).into(),
        gru().reset(Reset::Before).activations(gru_functions).clip(0.4).biases(Biases::None).into(),
        normalised.clone().into(),
        normalised.clone().peephole().coupled(Coupling::Input).activations(functions).clip(0.9).into(),
        normalised.clone().biases(Biases::None).initial_state(InitialState::Learned).into(),
        gru().layer_norm(norm).into(),
        gru().layer_norm(norm).activations(gru_functions).biases(Biases::One).into(),
        rnn().layer_norm(norm).into(),
        lstm().zoneout(0.2).zoneout_cell(0.4).peephole().into(),
        gru().zoneout(0.3).initial_state(InitialState::Learned).into(),
        rnn().zoneout(0.3).into(),
        lstm().recurrent_dropout(0.4).into(),
        gru().recurrent_dropout(0.3).candidate_dropout(0.2).into(),
        lstm().candidate_dropout(0.4).squashed().into(),
        lstm().drop_connect(0.4).projection(hidden.div_ceil(2)).skip(2).into(),
        gru().drop_connect(0.3).reset(Reset::Before).into(),
        normalised
            .peephole()
            .zoneout(0.1)
            .zoneout_cell(0.2)
            .recurrent_dropout(0.3)
            .candidate_dropout(0.2)
            .drop_connect(0.3)
            .into(),
        gru()
            .layer_norm(norm)
            .zoneout(0.1)
            .recurrent_dropout(0.3)
            .candidate_dropout(0.2)
            .drop_connect(0.3)
            .initial_state(InitialState::Learned)
            .into(),
    ];
    let one_way: Vec<LayerConfig> = vec![
        rnn().feedback(3, Activation::Tanh).into(),
        lstm().feedback(2, Activation::Identity).peephole().into(),
        lstm().feedback(5, Activation::Sigmoid).skip(2).into(),
        gru().feedback(4, Activation::Tanh).initial_state(InitialState::Learned).into(),
        gru().reset(Reset::Before).feedback(3, Activation::Identity).into(),
    ];
    let both = two_ways.into_iter().map(|cell| (cell, true));
    both.chain(one_way.into_iter().map(|cell| (cell, false))).collect()
}

/// Whether a cell's layer is normalised within the step.
pub(super) fn is_normalised(cell: &LayerConfig) -> bool {
    let config = NetworkConfig::new(1, [cell.clone()]).expect("the cells are valid");
    config.layers()[0].recurrent().is_some_and(|recurrent| recurrent.norm.is_some())
}

/// A recurrent layer in this direction.
pub(super) fn directed(cell: LayerConfig, direction: Direction) -> LayerConfig {
    match cell {
        LayerConfig::Rnn(config) => config.direction(direction).into(),
        LayerConfig::Lstm(config) => config.direction(direction).into(),
        LayerConfig::Gru(config) => config.direction(direction).into(),
        LayerConfig::Custom(config) => config.direction(direction).into(),
        other => other,
    }
}
