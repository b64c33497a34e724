//! Networks with every kind of layer: outputs, states and all gradients against the reference, and dropout's masks.

use crate::common::{Case, random, widen};
use gatefold_cpu::Batch;
use gatefold_model::{
    Activation, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion,
    GruConfig, InitialState, LayerConfig, LstmConfig, RnnConfig,
};
use gatefold_model::{Dropout, Parameters, States};
use gatefold_reference as reference;
use gatefold_reference::Failures;
use ndarray::{Array3, s};

const LENGTHS: [usize; 6] = [3, 8, 0, 5, 8, 1];
const DECODER_LENGTHS: [usize; 6] = [4, 0, 9, 9, 2, 5];
const NORMALISE: LayerConfig = LayerConfig::Normalise { epsilon: 1e-5 };
const TANH: Bridge = Bridge::Dense { activation: Activation::Tanh };

fn lstm(hidden: usize) -> LstmConfig {
    LstmConfig::new(hidden)
}

fn conv(output: usize, kernel: usize) -> Conv1dConfig {
    Conv1dConfig::new(output, kernel)
}

fn both(hidden: usize) -> LayerConfig {
    lstm(hidden).direction(Direction::Bidirectional).into()
}

fn dense(output: usize, activation: Activation) -> LayerConfig {
    DenseConfig::new(output).activation(activation).into()
}

/// Networks for inputs of 9 values.
fn networks() -> Vec<(&'static str, Vec<LayerConfig>)> {
    let residual = |from| LayerConfig::Residual { from };
    let learned = InitialState::Learned;
    let expand = |fill| LayerConfig::Expand { steps: 4, fill };
    vec![
        ("stack of directions", vec![both(11), both(13), dense(10, Activation::Relu)]),
        ("softmax", vec![lstm(12).into(), dense(9, Activation::Identity), LayerConfig::Softmax]),
        ("softmax inside", vec![LayerConfig::Softmax, lstm(12).into()]),
        (
            "normalised",
            vec![NORMALISE, lstm(12).into(), NORMALISE, dense(9, Activation::Tanh), residual(1), NORMALISE],
        ),
        ("normalised and tied", vec![NORMALISE, RnnConfig::new(9).into(), LayerConfig::Tied { to: 0 }]),
        ("max pool", vec![both(10), NORMALISE, LayerConfig::MaxPool, dense(11, Activation::Sigmoid)]),
        ("mean pool", vec![both(10), LayerConfig::MeanPool, NORMALISE, dense(11, Activation::Sigmoid)]),
        (
            "max pool of equal steps",
            vec![
                LayerConfig::LastStep,
                expand(Expansion::Repeat),
                dense(9, Activation::Tanh),
                LayerConfig::MaxPool,
            ],
        ),
        ("max pool alone", vec![LayerConfig::MaxPool]),
        (
            "pools of an expansion",
            vec![
                lstm(10).into(),
                LayerConfig::MeanPool,
                expand(Expansion::Repeat),
                GruConfig::new(9).into(),
                LayerConfig::MaxPool,
            ],
        ),
        ("last step", vec![both(10), LayerConfig::LastStep, dense(11, Activation::Sigmoid)]),
        ("final state", vec![both(10), LayerConfig::FinalState, dense(12, Activation::Tanh)]),
        (
            "final state of a skip with projection",
            vec![lstm(20).skip(3).projection(10).initial_state(learned).into(), LayerConfig::FinalState],
        ),
        (
            "dilations with residuals",
            vec![
                lstm(9).into(),
                lstm(9).dilation(2).into(),
                lstm(9).dilation(4).into(),
                residual(1),
                GruConfig::new(9).dilation(3).direction(Direction::BidirectionalSum).into(),
                residual(4),
            ],
        ),
        (
            "final state of a dilation",
            vec![lstm(20).dilation(3).projection(10).initial_state(learned).into(), LayerConfig::FinalState],
        ),
        ("final state at the end", vec![GruConfig::new(10).into(), LayerConfig::FinalState]),
        (
            "residual",
            vec![
                GruConfig::new(9).into(),
                residual(0),
                RnnConfig::new(9).into(),
                dense(9, Activation::Tanh),
                residual(1),
                residual(3),
                residual(0),
            ],
        ),
        (
            "residual of one step",
            vec![lstm(10).into(), LayerConfig::LastStep, dense(10, Activation::Tanh), residual(2)],
        ),
        (
            "vector to sequence",
            vec![
                lstm(10).into(),
                LayerConfig::LastStep,
                expand(Expansion::Zeros),
                GruConfig::new(10).direction(Direction::Reverse).into(),
                residual(3),
                dense(9, Activation::Identity),
            ],
        ),
        (
            "repeated",
            vec![both(10), LayerConfig::FinalState, expand(Expansion::Repeat), RnnConfig::new(9).into()],
        ),
        (
            "expanded and ended again",
            vec![
                lstm(10).into(),
                LayerConfig::FinalState,
                expand(Expansion::Repeat),
                GruConfig::new(9).into(),
                LayerConfig::LastStep,
            ],
        ),
        (
            "tied with learned states",
            vec![
                lstm(9).initial_state(learned).into(),
                LayerConfig::Tied { to: 0 },
                dense(9, Activation::Tanh),
            ],
        ),
        (
            "dropout without a generator",
            vec![lstm(10).into(), LayerConfig::Dropout { rate: 0.5 }, dense(9, Activation::Identity)],
        ),
        (
            "dense with a slope of its own",
            vec![dense(12, Activation::LeakyRelu { alpha: -0.3 }), lstm(9).into()],
        ),
        (
            "causal convolutions",
            vec![
                conv(9, 3).causal().activation(Activation::Relu).into(),
                residual(0),
                conv(9, 2).causal().dilation(3).into(),
                lstm(10).into(),
                conv(13, 2).causal().stride(2).bias(false).into(),
            ],
        ),
        (
            "padded convolutions",
            vec![
                conv(10, 4).padding(2, 3).stride(3).activation(Activation::Elu { alpha: -0.4 }).into(),
                both(9),
                conv(9, 2).padding(0, 5).dilation(2).into(),
                LayerConfig::LastStep,
                conv(10, 1).activation(Activation::Tanh).into(),
            ],
        ),
        (
            "convolutions tied, of known steps, and of a single output",
            vec![
                conv(9, 2).causal().into(),
                LayerConfig::Tied { to: 0 },
                lstm(9).into(),
                LayerConfig::FinalState,
                expand(Expansion::Repeat),
                RnnConfig::new(9).into(),
                conv(1, 3).into(),
            ],
        ),
    ]
}

/// Rows that end early, none of them shorter than what an output step reads, and windows of one output step.
#[test]
fn convolutions_without_padding() {
    let mut failures = Failures::new();
    let ragged = [4, 8, 0, 5, 8, 6];
    let strided = || vec![conv(10, 4).stride(3).into(), lstm(9).into()];
    let window = vec![conv(10, 8).activation(Activation::Relu).into(), dense(2, Activation::Identity)];
    let dilated = vec![both(9), conv(3, 3).dilation(3).into(), LayerConfig::LastStep];
    for (name, layers, lengths) in [
        ("strided", strided(), Some(&ragged)),
        ("strided", strided(), None),
        ("window", window, None),
        ("dilated", dilated, None),
    ] {
        failures.check(format!("{name}, lengths {lengths:?}"), || {
            let lengths = lengths.map(|lengths| &lengths[..]);
            case(&layers, 6).lengths(lengths).counted_states().check(name);
        });
    }
    failures.finish();
}

/// Products in several windows of steps, and a sum over more rows than one of them has.
#[test]
fn convolutions_of_long_sequences() {
    let mut failures = Failures::new();
    for (name, layer) in
        [("dense", conv(5, 90).activation(Activation::Tanh)), ("sparse", conv(3, 7).stride(5))]
    {
        failures
            .check(name, || Case::new(9, &[layer.into(), DenseConfig::new(1).into()], 5, 700).check(name));
    }
    failures.finish();
}

fn case(layers: &[LayerConfig], batch: usize) -> Case {
    Case::new(9, layers, batch, 8)
}

#[test]
fn networks_of_every_layer() {
    let mut failures = Failures::new();
    for (name, layers) in networks() {
        failures.check(name, || {
            for batch in [6, 1] {
                case(&layers, batch).counted_states().check(&format!("{name}, B {batch}"));
            }
            let case = case(&layers, 6).lengths(Some(&LENGTHS)).counted_states();
            case.check(&format!("{name}, lengths"));
            case.given_states().check(&format!("{name}, lengths, given states"));
        });
    }
    failures.finish();
}

#[test]
fn embeddings() {
    let layers = [EmbeddingConfig::new(12, 10).into(), lstm(11).into(), dense(9, Activation::Identity)];
    let case = Case::new(1, &layers, 6, 8).tokens(12);
    case.check("embedding");
    let mut case = case.lengths(Some(&LENGTHS));
    // Values past a row's end are never read.
    case.input.slice_mut(s![3.., 0, ..]).fill(7.0);
    let found = case.check("embedding, lengths");
    case.input.slice_mut(s![3.., 0, ..]).fill(2.0);
    assert_eq!(case.run(1), found);
}

#[test]
fn one_step_expanded() {
    let layers = [LayerConfig::Expand { steps: 5, fill: Expansion::Repeat }, lstm(11).into()];
    Case::new(10, &layers, 4, 1).counted_states().check("one to many");
    Case::new(10, &layers, 4, 1).lengths(Some(&[1, 0, 1, 1])).check("one to many, an empty row");
}

fn decoders() -> Vec<(&'static str, Vec<LayerConfig>)> {
    let decoder = |bridge| DecoderConfig::new(9).bridge(bridge).into();
    vec![
        (
            "as it is",
            vec![lstm(10).into(), decoder(Bridge::Same), lstm(10).into(), dense(9, Activation::Identity)],
        ),
        (
            "directions side by side",
            vec![both(10), decoder(Bridge::Same), lstm(20).into(), dense(9, Activation::Tanh)],
        ),
        (
            "c from h, and layers without a partner",
            vec![
                GruConfig::new(10).skip(2).initial_state(InitialState::Learned).into(),
                decoder(TANH),
                lstm(11).skip(3).into(),
                RnnConfig::new(12).into(),
                lstm(13).projection(9).into(),
            ],
        ),
        (
            "dilations",
            vec![
                lstm(10).dilation(2).direction(Direction::Bidirectional).into(),
                GruConfig::new(11).dilation(4).into(),
                decoder(TANH),
                GruConfig::new(12).dilation(2).into(),
                lstm(9).dilation(3).into(),
            ],
        ),
        (
            "two and two, feedback",
            vec![
                both(10),
                LayerConfig::Dropout { rate: 0.3 },
                GruConfig::new(11).direction(Direction::Reverse).into(),
                decoder(Bridge::Dense { activation: Activation::LeakyRelu { alpha: -0.5 } }),
                lstm(12).feedback(9, Activation::Tanh).into(),
                GruConfig::new(9).into(),
                LayerConfig::Residual { from: 5 },
                dense(10, Activation::Identity),
                LayerConfig::Softmax,
            ],
        ),
    ]
}

#[test]
fn encoders_and_decoders() {
    let mut failures = Failures::new();
    for (name, layers) in decoders() {
        failures.check(name, || {
            let case = case(&layers, 6).decoder(9, None).counted_states();
            case.check(name);
            let case = case.lengths(Some(&LENGTHS)).decoder(9, Some(&DECODER_LENGTHS)).given_states();
            case.check(&format!("{name}, lengths, given states"));
            let mut dropped = case;
            dropped.dropout = Some(Dropout { seed: 5, batch: 1, first_step: 0 });
            dropped.check(&format!("{name}, dropout"));
        });
    }
    failures.finish();
}

/// A network that ran other batches gives what a new one gives: what it keeps of a pass does not reach the next.
#[test]
fn a_batch_changes_nothing_for_the_next() {
    let mut failures = Failures::new();
    for (name, layers) in decoders() {
        failures.check(name, || {
            let case = || case(&layers, 6).counted_states();
            let cases = [
                case().decoder(9, None),
                case().decoder(9, Some(&DECODER_LENGTHS)),
                case().decoder(5, None),
                case().lengths(Some(&LENGTHS)).decoder(9, None),
            ];
            let network = cases[0].network(1);
            for (n, case) in cases.iter().chain(&cases).enumerate() {
                let fresh = case.network(1);
                let (tape, expected) = (network.forward(&case.batch()), fresh.forward(&case.batch()));
                assert_eq!(tape.output(), expected.output(), "{name}, {n}");
                assert_eq!(network.predict(&case.batch()), expected.output(), "{name}, {n}");
                let found = network.backward(tape, case.d_output.view(), None);
                assert_eq!(found, fresh.backward(expected, case.d_output.view(), None), "{name}, {n}");
            }
        });
    }
    failures.finish();
}

/// The encoder and then the decoder, run separately, give what the whole network gives. Four rows are one part of a batch,
/// so the gradients are sums in one order.
#[test]
fn halves_make_the_whole() {
    let mut failures = Failures::new();
    for (name, layers) in decoders() {
        failures.check(name, || {
            let mut case = case(&layers, 4)
                .lengths(Some(&LENGTHS[..4]))
                .decoder(9, Some(&DECODER_LENGTHS[..4]))
                .counted_states();
            case.d_states = None;
            let whole = case.run(1);
            let network = case.network(1);
            let states = network.encode(&case.batch()).unwrap();
            states.check(&case.config, 4).unwrap();
            let (input, lengths) = case.decoder.as_ref().unwrap();
            let tape = network.forward_decoder(input.view(), lengths.as_deref(), &states, None).unwrap();
            assert_eq!(tape.output(), whole.output.view(), "{name}");
            let at = case.config.decoder().unwrap();
            let encoder = case.config.recurrent_layers().filter(|layer| layer.index < at).count();
            assert_eq!(tape.states().layers[encoder..], whole.states.layers[encoder..], "{name}");
            let half = network.backward(tape, case.d_output.view(), None);
            assert_eq!(Some(half.input), whole.gradients.decoder_input, "{name}");
            assert_eq!(half.states.layers[encoder..], whole.gradients.states.layers[encoder..], "{name}");
            for layer in &case.config.layers()[at + 1..] {
                for spec in &layer.parameters {
                    assert_eq!(half.parameters[&spec.name], whole.gradients.parameters[&spec.name], "{name}");
                }
            }
        });
    }
    failures.finish();
    let plain = Case::new(9, &[lstm(9).into()], 2, 3);
    let network = plain.network(1);
    assert!(network.encode(&plain.batch()).unwrap_err().to_string().contains("no decoder"));
    assert!(
        network.forward_decoder(plain.input.view(), None, &States::zeros(&plain.config, 2), None).is_err()
    );
}

/// The masks are those of the reference, element by element; other batches get other masks.
#[test]
fn dropout_draws_the_pinned_masks() {
    let drop = |rate| LayerConfig::Dropout { rate };
    let layers = [drop(0.25), lstm(9).into(), drop(0.5), dense(11, Activation::Identity), drop(0.75)];
    let mut outputs = Vec::new();
    let mut failures = Failures::new();
    for dropout in [(1, 0), (1, 1), (2, 0), (1 << 40, 7)] {
        for lengths in [None, Some(&LENGTHS[..])] {
            failures.check(format!("{dropout:?}, {lengths:?}"), || {
                let mut case = Case::new(9, &layers, 6, 8).lengths(lengths).counted_states();
                case.dropout = Some(Dropout { seed: dropout.0, batch: dropout.1, first_step: 0 });
                let found = case.check(&format!("dropout, {dropout:?}, {lengths:?}"));
                assert_eq!(case.run(2), found);
                if lengths.is_none() {
                    outputs.push(found.output);
                }
            });
        }
    }
    failures.finish();
    for (n, output) in outputs.iter().enumerate() {
        let zeros = output.iter().filter(|&&y| y == 0.0).count();
        assert!((0.6..0.9).contains(&(zeros as f64 / output.len() as f64)), "{zeros} zeros");
        assert!(outputs[..n].iter().all(|other| other != output), "{n}");
    }
}

/// Inputs, lengths and states that do not fit are reported in one line.
#[test]
fn what_does_not_fit_is_named() {
    let mut case = Case::new(9, &[lstm(10).into()], 6, 8);
    let problem = |batch: &Batch| batch.check(&case.config).unwrap_err();
    let batch = case.batch();
    let wide = Array3::zeros((8, 6, 5));
    let expected = "input: expected [steps, batch, features 9], none of them 0, found [8, 6, 5]";
    assert_eq!(problem(&Batch { input: wide.view(), ..batch }), expected);
    let empty = Array3::zeros((8, 0, 9));
    assert!(problem(&Batch { input: empty.view(), ..batch }).contains("found [8, 0, 9]"));
    let expected = "lengths of the input: expected one for each of 6 rows, found 2";
    assert_eq!(problem(&Batch { lengths: Some(&[8, 8]), ..batch }), expected);
    let expected = "lengths of the input: expected at most 8 steps, found 9 in row 5";
    assert_eq!(problem(&Batch { lengths: Some(&[8, 8, 0, 1, 2, 9]), ..batch }), expected);
    let convolved = Case::new(9, &[lstm(4).into(), conv(2, 5).padding(0, 1).into()], 6, 8);
    let refused = |batch: &Batch| batch.check(&convolved.config).unwrap_err();
    let short = convolved.input.slice(s![..3, .., ..]);
    let expected = "input: expected at least 4 steps for layer 1 (conv1d), found 3";
    assert_eq!(refused(&Batch { input: short, ..convolved.batch() }), expected);
    let expected = "input, row 2: expected at least 4 steps for layer 1 (conv1d), found 3";
    assert_eq!(refused(&Batch { lengths: Some(&[8, 0, 3, 4, 5, 6]), ..convolved.batch() }), expected);
    let states = States::zeros(&case.config, 5);
    let expected =
        "layer 0 (lstm): state h: expected [directions x slots, rows, width] [1, 6, 10], found [1, 5, 10]";
    assert_eq!(problem(&Batch { states: Some(&states), ..batch }), expected);
    let expected = "states: expected one for each of 1 recurrent layers, found 0";
    assert_eq!(problem(&Batch { states: Some(&States::default()), ..batch }), expected);
    let second = Some((case.input.view(), None));
    assert!(problem(&Batch { decoder: second, ..batch }).contains("has no decoder"));

    let embedding = Case::new(1, &[EmbeddingConfig::new(5, 9).into()], 2, 3).tokens(5);
    let mut failures = Failures::new();
    for bad in [5.0, -1.0, 0.5, f32::NAN] {
        failures.check(bad.to_string(), || {
            let mut input = embedding.input.clone();
            input[[2, 1, 0]] = bad;
            let batch = Batch::new(input.view());
            let expected = format!("input: expected tokens 0 to 4, found {bad} at step 2, row 1");
            assert_eq!(batch.check(&embedding.config).unwrap_err(), expected);
            assert!(Batch { lengths: Some(&[3, 2]), ..batch }.check(&embedding.config).is_ok());
        });
    }
    failures.finish();
    case.input = random((1, 6, 9), 1.0, &mut case.rng);
    let layers = [LayerConfig::Expand { steps: 3, fill: Expansion::Zeros }, lstm(9).into()];
    let expanding = Case::new(9, &layers, 6, 2);
    assert!(
        expanding.batch().check(&expanding.config).unwrap_err().contains("the one step that is expanded")
    );
}

/// States where a caller gives none.
#[test]
fn initial_states_are_as_the_layers_say() {
    let layers = [
        lstm(9).direction(Direction::Bidirectional).initial_state(InitialState::Learned).skip(2).into(),
        GruConfig::new(10).initial_state(InitialState::Constant(0.4)).into(),
        RnnConfig::new(9).into(),
    ];
    let case = Case::new(9, &layers, 3, 4);
    let states = States::initial(&case.config, &case.parameters, 3);
    states.check(&case.config, 3).unwrap();
    assert_eq!(states, case.network(1).initial_states(3));
    for slot in 0..4 {
        let name = if slot < 2 { "rnn0.h0_l0" } else { "rnn0.h0_l0_reverse" };
        for row in 0..3 {
            assert_eq!(states.layers[0].h.slice(s![slot, row, ..]).into_dyn(), case.parameters[name]);
        }
    }
    assert!(states.layers[1].h.iter().all(|&h| h == 0.4) && states.layers[1].c.is_none());
    assert_eq!(states.layers[2].h, Array3::<f32>::zeros((1, 3, 9)));
    // Given by the caller, the same states give the same results, but learned states get no gradient.
    let own = case.run(1);
    let given = Case { states: Some(states), ..case }.run(1);
    assert_eq!(own.output, given.output);
    assert_eq!(own.gradients.states, given.gradients.states);
    assert!(own.gradients.parameters["rnn0.c0_l0"].iter().any(|&g| g != 0.0));
    assert!(given.gradients.parameters["rnn0.c0_l0"].iter().all(|&g| g == 0.0));
    let _: reference::States<f64> = widen(&own.states);
}

/// Weights are packed once for many passes; a network whose parameters change computes as a new one with these does.
#[test]
fn changed_parameters_are_packed_again() {
    let layers = [lstm(9).into(), dense(4, Activation::Tanh)];
    let mut case = case(&layers, 6);
    let other = Parameters::initial(&case.config, 99).unwrap();
    let mut network = case.network(1);
    let run = |network: &gatefold_cpu::Network, case: &Case| {
        let tape = network.forward(&case.batch());
        let output = tape.output().to_owned();
        (network.predict(&case.batch()), output, network.backward(tape, case.d_output.view(), None))
    };
    let before = run(&network, &case);
    for (name, tensor) in network.parameters_mut() {
        tensor.assign(&other[name.as_str()]);
    }
    case.parameters = other;
    let (after, fresh) = (run(&network, &case), run(&case.network(1), &case));
    assert_eq!(after, fresh);
    assert_ne!(after, before);
}
