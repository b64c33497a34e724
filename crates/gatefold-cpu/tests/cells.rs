//! Every cell and option in every direction, with and without lengths, over awkward sizes.

use crate::common::Case;
use gatefold_model::{
    Activation, Biases, Coupling, Direction, GruActivations, GruConfig, InitialState, LayerConfig,
    LstmActivations, LstmConfig, Reset, RnnConfig,
};
use gatefold_reference::Failures;

const SCALED: Activation = Activation::ScaledTanh { alpha: 0.7, beta: 1.3 };
/// The width of a readout.
const FEEDBACK: usize = 9;
/// Its slope does not follow from its value.
const BENT: Activation = Activation::LeakyRelu { alpha: -0.2 };

fn lstm_activations() -> LstmActivations {
    LstmActivations {
        gate: Activation::HardSigmoid { alpha: 0.3, beta: 0.5 },
        candidate: SCALED,
        output: Activation::Softsign,
    }
}

/// Every option of an LSTM, alone and in combinations.
fn lstms(hidden: usize) -> Vec<(&'static str, LstmConfig)> {
    let lstm = || LstmConfig::new(hidden);
    let projected = hidden.div_ceil(2);
    vec![
        ("lstm", lstm()),
        ("lstm, one bias", lstm().biases(Biases::One)),
        ("lstm, no biases", lstm().biases(Biases::None)),
        ("lstm, peephole", lstm().peephole()),
        ("lstm, f = 1 - i", lstm().coupled(Coupling::Input)),
        ("lstm, i = 1 - f", lstm().coupled(Coupling::Forget)),
        ("lstm, squashed", lstm().squashed()),
        ("lstm, clip", lstm().clip(0.6)),
        ("lstm, projection", lstm().projection(projected)),
        ("lstm, skip", lstm().skip(3)),
        ("lstm, dilation", lstm().dilation(3)),
        (
            "lstm, projection, dilation, peephole, learned initial state",
            lstm().projection(projected).dilation(2).peephole().initial_state(InitialState::Learned),
        ),
        ("lstm, feedback", lstm().feedback(FEEDBACK, Activation::Tanh)),
        ("lstm, functions", lstm().activations(lstm_activations())),
        ("lstm, constant initial state", lstm().initial_state(InitialState::Constant(0.3))),
        ("lstm, learned initial state", lstm().initial_state(InitialState::Learned)),
        (
            "lstm, peephole, f = 1 - i, clip, functions",
            lstm().peephole().coupled(Coupling::Input).clip(0.7).activations(lstm_activations()),
        ),
        (
            "lstm, squashed, peephole, i = 1 - f, bent output",
            lstm()
                .squashed()
                .peephole()
                .coupled(Coupling::Forget)
                .activations(LstmActivations { output: BENT, ..LstmActivations::default() }),
        ),
        (
            "lstm, projection, skip, peephole, learned initial state",
            lstm().projection(projected).skip(2).peephole().initial_state(InitialState::Learned),
        ),
        ("lstm, skip, feedback, clip", lstm().skip(2).feedback(FEEDBACK, BENT).clip(0.9)),
    ]
}

fn grus(hidden: usize) -> Vec<(&'static str, GruConfig)> {
    let gru = |reset| GruConfig::new(hidden).reset(reset);
    let functions =
        GruActivations { gate: Activation::HardSigmoid { alpha: 0.4, beta: 0.5 }, candidate: SCALED };
    let bent = GruActivations { gate: Activation::Sigmoid, candidate: BENT };
    vec![
        ("gru after", gru(Reset::After)),
        ("gru after, one bias", gru(Reset::After).biases(Biases::One)),
        ("gru after, no biases", gru(Reset::After).biases(Biases::None)),
        ("gru after, clip", gru(Reset::After).clip(0.5)),
        ("gru after, functions", gru(Reset::After).activations(functions)),
        (
            "gru after, skip, learned initial state",
            gru(Reset::After).skip(2).initial_state(InitialState::Learned),
        ),
        ("gru after, dilation", gru(Reset::After).dilation(4)),
        ("gru before, dilation", gru(Reset::Before).dilation(2)),
        ("gru after, feedback", gru(Reset::After).feedback(FEEDBACK, SCALED)),
        (
            "gru after, skip, feedback, clip",
            gru(Reset::After).skip(3).feedback(FEEDBACK, Activation::Softplus).clip(0.8),
        ),
        ("gru before", gru(Reset::Before)),
        ("gru before, one bias", gru(Reset::Before).biases(Biases::One)),
        ("gru before, clip, bent", gru(Reset::Before).clip(0.5).activations(bent)),
        ("gru before, functions, learned initial state", {
            gru(Reset::Before).activations(functions).initial_state(InitialState::Learned)
        }),
        ("gru before, feedback", gru(Reset::Before).feedback(FEEDBACK, Activation::Sigmoid)),
    ]
}

fn rnns(hidden: usize) -> Vec<(&'static str, RnnConfig)> {
    let rnn = || RnnConfig::new(hidden);
    let mut rnns = vec![
        ("rnn", rnn()),
        ("rnn, no biases", rnn().biases(Biases::None)),
        ("rnn, clip", rnn().clip(0.6)),
        ("rnn, skip", rnn().skip(2)),
        ("rnn, dilation", rnn().dilation(2)),
        ("rnn, dilation beyond the sequence", rnn().dilation(50)),
        ("rnn, feedback", rnn().feedback(FEEDBACK, Activation::Tanh)),
        ("rnn, skip, feedback, clip, learned initial state", {
            rnn().skip(4).feedback(FEEDBACK, BENT).clip(0.8).initial_state(InitialState::Learned)
        }),
        ("rnn, bent", rnn().activation(BENT)),
        ("rnn, thresholded below zero", rnn().activation(Activation::ThresholdedRelu { alpha: -0.4 })),
        ("rnn, elu upside down", rnn().activation(Activation::Elu { alpha: -0.5 })),
    ];
    rnns.extend(Activation::ALL.map(|activation| (activation.name(), rnn().activation(activation))));
    rnns
}

/// All of them in one direction.
fn layers(hidden: usize, direction: Direction) -> Vec<(&'static str, LayerConfig)> {
    let mut all: Vec<(&'static str, LayerConfig)> = Vec::new();
    all.extend(lstms(hidden).into_iter().map(|(name, lstm)| (name, lstm.direction(direction).into())));
    all.extend(grus(hidden).into_iter().map(|(name, gru)| (name, gru.direction(direction).into())));
    all.extend(rnns(hidden).into_iter().map(|(name, rnn)| (name, rnn.direction(direction).into())));
    // The step before has two outputs, but there is only one feedback.
    let two_ways = direction.scans().len() == 2;
    all.retain(|(name, _)| !(two_ways && name.contains("feedback")));
    all
}

/// Sorted, unsorted with an empty row, shorter than the padding, and none at all.
fn lengths(batch: usize, steps: usize) -> Vec<Option<Vec<usize>>> {
    let mixed: Vec<usize> = (0..batch).map(|row| (7 * row + 3) % (steps + 1)).collect();
    let mut sorted = mixed.clone();
    sorted.sort_by_key(|&length| std::cmp::Reverse(length));
    let short = mixed.iter().map(|&length| length.min(steps - 1)).collect();
    vec![None, Some(sorted), Some(mixed), Some(short)]
}

fn check_all(direction: Direction) {
    // A tensor's scale shows the size of its sums only if it has enough elements. Of 9 random sums, the largest is
    // below 0.4 of their standard deviation, where the tolerance would be too small, in one of 37,000 tensors. So no
    // width is below 9.
    let mut failures = Failures::new();
    for (batch, steps, inputs, hidden) in [(1, 6, 3, 17), (5, 7, 2, 19), (9, 5, 1, 33)] {
        for (name, layer) in layers(hidden, direction) {
            for lengths in lengths(batch, steps) {
                let name = format!("{name}, {direction:?}, B {batch} T {steps}, lengths {lengths:?}");
                failures.check(name.as_str(), || {
                    let case = Case::new(inputs, std::slice::from_ref(&layer), batch, steps)
                        .lengths(lengths.as_deref())
                        .counted_states();
                    case.check(&name);
                    case.given_states().check(&format!("{name}, given states"));
                });
            }
        }
    }
    failures.finish();
}

#[test]
fn forward() {
    check_all(Direction::Forward);
}

#[test]
fn reverse() {
    check_all(Direction::Reverse);
}

#[test]
fn bidirectional() {
    check_all(Direction::Bidirectional);
}

#[test]
fn bidirectional_sum() {
    check_all(Direction::BidirectionalSum);
}

/// Large enough that several threads share the parts of the batch.
#[test]
fn threads_change_no_bit() {
    let (batch, steps, hidden) = (33, 6, 61);
    let mut failures = Failures::new();
    for direction in [Direction::Forward, Direction::Bidirectional] {
        for (name, layer) in layers(hidden, direction) {
            for lengths in lengths(batch, steps).into_iter().step_by(2) {
                let name = format!("{name}, {direction:?}, lengths {lengths:?}");
                failures.check(name.as_str(), || {
                    let case = Case::new(7, std::slice::from_ref(&layer), batch, steps);
                    case.lengths(lengths.as_deref()).counted_states().check_threads(&name);
                });
            }
        }
    }
    failures.finish();
}

/// Separate activations for the reverse scan.
#[test]
fn the_reverse_scan_may_have_other_functions() {
    let other = LstmActivations {
        gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        ..LstmActivations::default()
    };
    let mut failures = Failures::new();
    for layer in [
        LayerConfig::from(LstmConfig::new(5).direction(Direction::Bidirectional).reverse_activations(other)),
        RnnConfig::new(5).direction(Direction::BidirectionalSum).reverse_activation(Activation::Relu).into(),
    ] {
        failures.check(format!("{layer:?}"), || {
            Case::new(3, std::slice::from_ref(&layer), 4, 6)
                .lengths(Some(&[6, 2, 0, 5]))
                .check(&format!("{layer:?}"));
        });
    }
    failures.finish();
}
