//! Recurrent layers with layer normalisation and noise against central differences, in f64: every option alone and
//! together, in every direction, with and without lengths, in training and in inference.

use crate::common::{Shape, check_case};
use gatefold_model::{
    Activation, Biases, Coupling, Direction, GruActivations, GruConfig, InitialState, LayerConfig, LayerNorm,
    LstmActivations, LstmConfig, RnnConfig,
};
use gatefold_reference::Failures;

/// A name, and the option that it sets on a plain layer.
type Choice<C> = (&'static str, fn(C) -> C);

/// A large epsilon keeps the derivatives of few units small, so that differences are exact.
const NORM: LayerNorm = LayerNorm { epsilon: 0.2 };

/// The options of every cell.
macro_rules! common_options {
    ($config:ident) => {{
        let options: Vec<Choice<$config>> = vec![
            ("layer norm", |c| c.layer_norm(NORM)),
            ("layer norm, one bias, clip", |c| c.layer_norm(NORM).biases(Biases::One).clip(0.9)),
            ("layer norm, no biases", |c| c.layer_norm(NORM).biases(Biases::None)),
            ("zoneout", |c| c.zoneout(0.4)),
            ("recurrent dropout", |c| c.recurrent_dropout(0.3)),
            ("DropConnect", |c| c.drop_connect(0.4)),
            ("layer norm and all noise, learned", |c| {
                c.layer_norm(NORM)
                    .zoneout(0.3)
                    .recurrent_dropout(0.4)
                    .drop_connect(0.2)
                    .initial_state(InitialState::Learned)
            }),
        ];
        options
    }};
}

fn check<C: Clone + Into<LayerConfig>>(
    family: &str,
    options: &[Choice<C>],
    new: impl Fn(usize) -> C,
    directed: fn(C, Direction) -> C,
) {
    let mut failures = Failures::new();
    for (name, chosen) in options {
        for (direction, lengths, dropout) in [
            (Direction::Forward, None, true),
            (Direction::Forward, Some(vec![2, 4, 0]), false),
            (Direction::Reverse, Some(vec![2, 4, 0]), true),
            (Direction::Bidirectional, Some(vec![3, 4, 1]), true),
            (Direction::BidirectionalSum, None, false),
        ] {
            let layer = |hidden| directed(chosen(new(hidden)), direction).into();
            for layers in [vec![layer(3)], vec![layer(2), layer(2)]] {
                let states = !name.contains("learned") && layers.len() == 1;
                let shape = Shape { lengths: lengths.clone(), states, dropout, ..Shape::new(2, 4, 3) };
                let case = format!("{family}, {name}, {direction:?}, {lengths:?}, {} layers", layers.len());
                check_case(&mut failures, &case, &shape, &layers);
            }
        }
    }
    failures.finish();
}

#[test]
fn vanilla() {
    let mut options = common_options!(RnnConfig);
    options.push(("relu, layer norm", |c| c.activation(Activation::Relu).layer_norm(NORM)));
    check("rnn", &options, RnnConfig::new, RnnConfig::direction);
}

#[test]
fn lstm() {
    let mut options = common_options!(LstmConfig);
    let own: Vec<Choice<LstmConfig>> = vec![
        ("zoneout of both", |c| c.zoneout(0.3).zoneout_cell(0.4)),
        ("zoneout of the cell, peephole", |c| c.zoneout_cell(0.4).peephole()),
        ("candidate", |c| c.candidate_dropout(0.4)),
        ("candidate, coupled, squashed", |c| c.candidate_dropout(0.3).coupled(Coupling::Input).squashed()),
        ("layer norm, peephole", |c| c.layer_norm(NORM).peephole()),
        ("layer norm, peephole, coupled, functions, all noise", |c| {
            c.layer_norm(NORM)
                .peephole()
                .coupled(Coupling::Forget)
                .activations(LstmActivations {
                    gate: Activation::Sigmoid,
                    candidate: Activation::Elu { alpha: -0.6 },
                    output: Activation::Softsign,
                })
                .zoneout(0.2)
                .zoneout_cell(0.3)
                .candidate_dropout(0.3)
                .recurrent_dropout(0.2)
                .drop_connect(0.3)
        }),
        ("layer norm, squashed", |c| c.layer_norm(NORM).squashed().biases(Biases::Two)),
        ("DropConnect, projection, skip", |c| c.drop_connect(0.4).projection(2).skip(2)),
    ];
    options.extend(own);
    check("lstm", &options, LstmConfig::new, LstmConfig::direction);
}

#[test]
fn gru() {
    let mut options = common_options!(GruConfig);
    let own: Vec<Choice<GruConfig>> = vec![
        ("candidate", |c| c.candidate_dropout(0.4)),
        ("layer norm, functions, all noise", |c| {
            c.layer_norm(NORM)
                .activations(GruActivations { gate: Activation::Sigmoid, candidate: Activation::Softsign })
                .zoneout(0.2)
                .candidate_dropout(0.3)
                .recurrent_dropout(0.2)
                .drop_connect(0.3)
        }),
        ("DropConnect, reset before", |c| c.drop_connect(0.4).reset(gatefold_model::Reset::Before)),
    ];
    options.extend(own);
    check("gru", &options, GruConfig::new, GruConfig::direction);
}
