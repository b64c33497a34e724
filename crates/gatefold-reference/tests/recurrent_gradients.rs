//! Recurrent layers against central differences, in f64: every cell with its options, in every direction, with and
//! without lengths, alone and stacked. Checks every parameter, the input, and the initial states, given or learned.

use crate::common::{Shape, check_case};
use gatefold_model::{
    Activation, Biases, Coupling, Direction, GruActivations, GruConfig, InitialState, LayerConfig,
    LstmActivations, LstmConfig, Reset, RnnConfig,
};
use gatefold_reference::Failures;

/// A name, and the option that it sets on a plain layer.
type Choice<C> = (&'static str, fn(C) -> C);
type Options<C> = Vec<Choice<C>>;

/// The options of every cell. Feedback needs a single direction, and reset before the product has no skip.
macro_rules! common_options {
    ($config:ident) => {{
        let options: Options<$config> = vec![
            ("plain", |c| c),
            ("one bias", |c| c.biases(Biases::One)),
            ("no biases", |c| c.biases(Biases::None)),
            ("clip", |c| c.clip(0.7)),
            ("constant initial state", |c| c.initial_state(InitialState::Constant(0.5))),
            ("learned initial state", |c| c.initial_state(InitialState::Learned)),
            ("skip 2", |c| c.skip(2)),
            ("skip 3, learned", |c| c.skip(3).initial_state(InitialState::Learned)),
            ("dilation 2", |c| c.dilation(2)),
            ("dilation 3, clip, learned", |c| c.dilation(3).clip(0.9).initial_state(InitialState::Learned)),
            ("dilation 6, constant", |c| c.dilation(6).initial_state(InitialState::Constant(0.4))),
            ("feedback", |c| c.feedback(2, Activation::Sigmoid)),
            ("feedback, odd slope", |c| c.feedback(2, Activation::Elu { alpha: -0.6 })),
            ("skip, feedback, clip, learned", |c| {
                c.skip(2).feedback(1, Activation::Identity).clip(0.9).initial_state(InitialState::Learned)
            }),
        ];
        options
    }};
}

/// Every direction, with and without lengths, alone and stacked, with given states and with the layer's own.
fn check<C: Clone + Into<LayerConfig>>(
    failures: &mut Failures,
    family: &str,
    options: &[Choice<C>],
    new: impl Fn(usize) -> C,
    directed: fn(C, Direction) -> C,
) {
    for (name, chosen) in options {
        for direction in
            [Direction::Forward, Direction::Reverse, Direction::Bidirectional, Direction::BidirectionalSum]
        {
            if name.contains("feedback") && !matches!(direction, Direction::Forward | Direction::Reverse) {
                continue;
            }
            let layer = |hidden| directed(chosen(new(hidden)), direction).into();
            for lengths in [None, Some(vec![2, 4, 0])] {
                for layers in [vec![layer(3)], vec![layer(2), layer(2)]] {
                    let states = !name.contains("learned") && layers.len() == 1;
                    let shape = Shape { lengths: lengths.clone(), states, ..Shape::new(2, 4, 3) };
                    let case =
                        format!("{family}, {name}, {direction:?}, {lengths:?}, {} layers", layers.len());
                    check_case(failures, &case, &shape, &layers);
                }
            }
        }
    }
}

/// Parameters for which the slope does not follow from the value.
const ODD: [Activation; 2] = [Activation::Elu { alpha: -0.6 }, Activation::LeakyRelu { alpha: -0.3 }];

#[test]
fn vanilla() {
    let mut list = Failures::new();
    let failures = &mut list;
    let mut options = common_options!(RnnConfig);
    options.push(("relu", |c| c.activation(Activation::Relu)));
    check(failures, "rnn", &options, RnnConfig::new, RnnConfig::direction);
    for activation in Activation::ALL.into_iter().chain(ODD) {
        let options = [("plain", (|c| c) as fn(RnnConfig) -> RnnConfig), ("clip", |c| c.clip(0.6))];
        for (name, chosen) in options {
            let layer = chosen(RnnConfig::new(3).activation(activation));
            check_case(failures, &format!("rnn {activation}, {name}"), &Shape::new(2, 3, 2), &[layer.into()]);
        }
    }
    list.finish();
}

#[test]
fn lstm() {
    let mut list = Failures::new();
    let failures = &mut list;
    let mut options = common_options!(LstmConfig);
    let own: Options<LstmConfig> = vec![
        ("peephole", |c| c.peephole()),
        ("f = 1 - i", |c| c.coupled(Coupling::Input)),
        ("i = 1 - f", |c| c.coupled(Coupling::Forget)),
        ("squashed", |c| c.squashed()),
        ("projection", |c| c.projection(2)),
        ("projection, skip", |c| c.projection(4).skip(2)),
        ("projection, peephole, dilation", |c| c.projection(2).peephole().dilation(3)),
        ("functions", |c| {
            c.activations(LstmActivations {
                gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
                candidate: Activation::Softsign,
                output: Activation::LeakyRelu { alpha: 0.1 },
            })
        }),
        ("functions with odd slopes", |c| {
            c.activations(LstmActivations { gate: ODD[0], candidate: ODD[1], output: ODD[0] })
        }),
        ("peephole, coupled, clip", |c| c.peephole().coupled(Coupling::Input).clip(0.7)),
        ("peephole, squashed, coupled", |c| c.peephole().squashed().coupled(Coupling::Forget)),
        ("everything, learned", |c| {
            c.peephole()
                .coupled(Coupling::Forget)
                .squashed()
                .biases(Biases::Two)
                .clip(0.8)
                .projection(2)
                .skip(2)
                .activations(LstmActivations {
                    gate: Activation::Sigmoid,
                    candidate: Activation::Softplus,
                    output: Activation::ScaledTanh { alpha: 0.7, beta: 1.3 },
                })
                .initial_state(InitialState::Learned)
        }),
    ];
    options.extend(own);
    check(failures, "lstm", &options, LstmConfig::new, LstmConfig::direction);
    list.finish();
}

fn gru_options() -> Options<GruConfig> {
    let mut options = common_options!(GruConfig);
    let own: Options<GruConfig> = vec![
        ("functions", |c| {
            c.activations(GruActivations {
                gate: Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
                candidate: Activation::Softsign,
            })
        }),
        ("functions with odd slopes", |c| {
            c.activations(GruActivations { gate: Activation::Sigmoid, candidate: ODD[0] })
        }),
    ];
    options.extend(own);
    options
}

#[test]
fn gru_with_reset_after() {
    let mut list = Failures::new();
    let failures = &mut list;
    check(failures, "gru", &gru_options(), GruConfig::new, GruConfig::direction);
    list.finish();
}

#[test]
fn gru_with_reset_before() {
    let mut list = Failures::new();
    let failures = &mut list;
    let options: Vec<_> = gru_options().into_iter().filter(|(name, _)| !name.contains("skip")).collect();
    check(
        failures,
        "gru, reset before",
        &options,
        |hidden| GruConfig::new(hidden).reset(Reset::Before),
        GruConfig::direction,
    );
    list.finish();
}

/// The reverse scan may have activations of its own.
#[test]
fn functions_of_the_reverse_scan() {
    let mut list = Failures::new();
    let failures = &mut list;
    let layers: [LayerConfig; 3] = [
        RnnConfig::new(3).direction(Direction::Bidirectional).reverse_activation(Activation::Sigmoid).into(),
        LstmConfig::new(2)
            .direction(Direction::BidirectionalSum)
            .reverse_activations(LstmActivations {
                gate: Activation::Softsign,
                candidate: ODD[0],
                output: Activation::Sigmoid,
            })
            .into(),
        GruConfig::new(2)
            .direction(Direction::Reverse)
            .reverse_activations(GruActivations {
                gate: Activation::Sigmoid,
                candidate: Activation::Softplus,
            })
            .into(),
    ];
    check_case(failures, "reverse functions", &Shape { states: true, ..Shape::new(2, 3, 2) }, &layers);
    list.finish();
}

/// Learned states that are not used have no gradient.
#[test]
fn given_states_take_the_place_of_learned_ones() {
    let mut list = Failures::new();
    let failures = &mut list;
    let learned = LstmConfig::new(3).initial_state(InitialState::Learned).direction(Direction::Bidirectional);
    let shape = Shape { states: true, lengths: Some(vec![3, 0]), ..Shape::new(2, 3, 2) };
    check_case(failures, "learned and given", &shape, &[learned.into()]);
    list.finish();
}
