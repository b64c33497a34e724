//! Layer normalisation and noise, each option alone and together, in every direction, with and without lengths, in training
//! and in inference; and masks that do not depend on threads, parts, windows and chunks.

use crate::common::{Case, same_bits};
use gatefold_cpu::Batch;
use gatefold_model::{
    Activation, Biases, Coupling, Direction, Dropout, GruActivations, GruConfig, InitialState, LayerConfig,
    LayerNorm, LstmActivations, LstmConfig, Reset, RnnConfig,
};
use gatefold_reference::Failures;
use ndarray::s;

const MASKS: Option<Dropout> = Some(Dropout { seed: 5 << 33, batch: 3, first_step: 0 });

/// The options of every cell.
macro_rules! common_options {
    ($name:literal, $config:expr) => {
        [
            (concat!($name, ", layer norm"), $config.layer_norm(LayerNorm::default())),
            (
                concat!($name, ", layer norm, one bias, clip"),
                $config.layer_norm(LayerNorm { epsilon: 0.3 }).biases(Biases::One).clip(0.9),
            ),
            (
                concat!($name, ", layer norm, no biases"),
                $config.layer_norm(LayerNorm::default()).biases(Biases::None),
            ),
            (concat!($name, ", zoneout"), $config.zoneout(0.4)),
            (concat!($name, ", recurrent dropout"), $config.recurrent_dropout(0.3)),
            (concat!($name, ", DropConnect"), $config.drop_connect(0.4)),
            (
                concat!($name, ", layer norm and all noise, learned"),
                $config
                    .layer_norm(LayerNorm { epsilon: 1e-3 })
                    .zoneout(0.3)
                    .recurrent_dropout(0.4)
                    .drop_connect(0.2)
                    .initial_state(InitialState::Learned),
            ),
        ]
    };
}

fn layers(hidden: usize, direction: Direction) -> Vec<(&'static str, LayerConfig)> {
    let (rnn, lstm, gru) = (RnnConfig::new(hidden), LstmConfig::new(hidden), GruConfig::new(hidden));
    let norm = LayerNorm { epsilon: 1e-2 };
    let mut lstms: Vec<_> = common_options!("lstm", lstm.clone()).into();
    let plain = || lstm.clone();
    lstms.extend([
        ("lstm, zoneout of both", plain().zoneout(0.3).zoneout_cell(0.4)),
        ("lstm, zoneout of the cell, peephole", plain().zoneout_cell(0.4).peephole()),
        ("lstm, candidate", plain().candidate_dropout(0.4)),
        (
            "lstm, candidate, coupled, squashed",
            plain().candidate_dropout(0.3).coupled(Coupling::Input).squashed(),
        ),
        (
            "lstm, layer norm, peephole, coupled, functions, all noise",
            plain()
                .layer_norm(norm)
                .peephole()
                .coupled(Coupling::Forget)
                .activations(LstmActivations {
                    gate: Activation::HardSigmoid { alpha: 0.3, beta: 0.5 },
                    candidate: Activation::Elu { alpha: 0.6 },
                    output: Activation::Softsign,
                })
                .zoneout(0.2)
                .zoneout_cell(0.3)
                .candidate_dropout(0.3)
                .recurrent_dropout(0.2)
                .drop_connect(0.3),
        ),
        ("lstm, DropConnect, projection, skip", plain().drop_connect(0.4).projection(9).skip(2)),
    ]);
    let mut grus: Vec<_> = common_options!("gru", gru.clone()).into();
    grus.extend([
        ("gru, candidate", gru.clone().candidate_dropout(0.4)),
        (
            "gru, layer norm, functions, all noise",
            gru.clone()
                .layer_norm(norm)
                .activations(GruActivations { gate: Activation::Sigmoid, candidate: Activation::Softsign })
                .zoneout(0.2)
                .candidate_dropout(0.3)
                .recurrent_dropout(0.2)
                .drop_connect(0.3),
        ),
        ("gru, DropConnect, reset before", gru.clone().drop_connect(0.4).reset(Reset::Before)),
    ]);
    let mut all: Vec<(&'static str, LayerConfig)> = Vec::new();
    all.extend(lstms.into_iter().map(|(name, layer)| (name, layer.direction(direction).into())));
    all.extend(grus.into_iter().map(|(name, layer)| (name, layer.direction(direction).into())));
    let rnns = common_options!("rnn", rnn.clone());
    all.extend(rnns.into_iter().map(|(name, layer)| (name, layer.direction(direction).into())));
    all
}

fn lengths(batch: usize, steps: usize) -> Vec<usize> {
    (0..batch).map(|row| (7 * row + 3) % (steps + 1)).collect()
}

fn check_all(direction: Direction) {
    let mut failures = Failures::new();
    for (batch, steps, inputs, hidden) in [(1, 6, 3, 17), (5, 7, 2, 19), (9, 5, 4, 33)] {
        for (name, layer) in layers(hidden, direction) {
            for (lengths, dropout) in [(None, MASKS), (None, None), (Some(lengths(batch, steps)), MASKS)] {
                let name = format!("{name}, {direction:?}, B {batch} T {steps}, {lengths:?}, {dropout:?}");
                failures.check(name.as_str(), || {
                    let mut case = Case::new(inputs, std::slice::from_ref(&layer), batch, steps)
                        .lengths(lengths.as_deref())
                        .counted_states();
                    case.dropout = dropout;
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
fn two_ways() {
    check_all(Direction::Bidirectional);
    check_all(Direction::BidirectionalSum);
}

/// Chains of layers, whose windows go through threads, and parts of a batch.
#[test]
fn threads_change_no_bit() {
    let mut failures = Failures::new();
    for (batch, steps, hidden) in [(2, 40, 65), (33, 9, 31)] {
        for (name, layer) in layers(hidden, Direction::Forward) {
            failures.check(format!("{name}, B {batch}"), || {
                let layers = [layer.clone(), LayerConfig::Dropout { rate: 0.2 }, layer.clone()];
                let mut case = Case::new(3, &layers, batch, steps)
                    .lengths(Some(&lengths(batch, steps)))
                    .counted_states();
                case.dropout = MASKS;
                let found = case.run(1);
                for threads in [2, 5] {
                    assert!(case.run(threads) == found, "{threads} threads give other bits");
                }
            });
        }
    }
    failures.finish();
}

/// A sequence in two chunks, the second from the states of the first: the masks of steps are those of the whole.
#[test]
fn chunks_have_the_masks_of_the_whole() {
    let mut failures = Failures::new();
    for (name, layer) in layers(11, Direction::Forward) {
        if name.contains("learned") {
            continue;
        }
        failures.check(name, || {
            let mut case = Case::new(3, std::slice::from_ref(&layer), 5, 9);
            case.dropout = MASKS;
            let network = case.network(1);
            let (whole, _) = network.infer(&case.batch());
            let mut states = None;
            for (first, last) in [(0, 4), (4, 9)] {
                let dropout = MASKS.map(|masks| Dropout { first_step: first, ..masks });
                let input = case.input.slice(s![first..last, .., ..]);
                let batch = Batch { input, states: states.as_ref(), dropout, ..Batch::new(input) };
                let (output, finals) = network.infer(&batch);
                let expected = whole.slice(s![first..last, .., ..]).to_owned();
                assert!(same_bits(&output, &expected), "steps {first} to {last}");
                states = Some(finals);
            }
        });
    }
    failures.finish();
}

/// Steps of a stream have the bits of whole sequences in inference.
#[test]
fn streams_have_the_bits_of_sequences() {
    let mut failures = Failures::new();
    for (name, layer) in layers(11, Direction::Forward) {
        failures.check(name, || {
            let case = Case::new(3, std::slice::from_ref(&layer), 4, 5);
            let network = case.network(1);
            let (whole, _) = network.infer(&case.batch());
            let mut states = network.initial_states(4);
            for t in 0..5 {
                let output = network.step(&mut states, case.input.slice(s![t, .., ..])).unwrap();
                assert!(same_bits(&output, &whole.slice(s![t, .., ..]).to_owned()), "step {t}");
            }
        });
    }
    failures.finish();
}
