//! Invariances: padding, splitting a sequence in two, and running step by step change nothing.

use crate::common::{Case, assert_close};
use gatefold_model::{
    Activation, Bridge, DecoderConfig, DenseConfig, Direction, EmbeddingConfig, Expansion, GruConfig,
    LayerConfig, LstmConfig, Merge, NetworkConfig, Reset, RnnConfig, branch,
};
use gatefold_model::{Dropout, LayerState, States};
use gatefold_reference::Failures;
use ndarray::{Array2, Array3, ArrayView3, Axis, s, stack};

fn cells(hidden: usize, direction: Direction) -> Vec<(&'static str, LayerConfig)> {
    let lstm = || LstmConfig::new(hidden).direction(direction);
    let gru = |reset| GruConfig::new(hidden).direction(direction).reset(reset);
    let rnn = || RnnConfig::new(hidden).direction(direction);
    let mut cells = vec![
        ("lstm", lstm().into()),
        ("lstm, peephole, clip, projection, skip", lstm().peephole().clip(0.8).projection(5).skip(3).into()),
        ("gru after, skip", gru(Reset::After).skip(2).into()),
        ("gru before", gru(Reset::Before).into()),
        ("lstm, dilation", lstm().dilation(3).peephole().into()),
        ("gru before, dilation", gru(Reset::Before).dilation(2).into()),
        ("rnn, relu", rnn().activation(Activation::Relu).into()),
    ];
    if direction.scans().len() == 1 {
        cells.push(("lstm, feedback", lstm().feedback(4, Activation::Tanh).into()));
        cells.push(("gru before, feedback", gru(Reset::Before).feedback(4, Activation::Tanh).into()));
        cells.push(("rnn, skip, feedback", rnn().skip(2).feedback(4, Activation::Tanh).into()));
    }
    cells
}

const DIRECTIONS: [Direction; 4] =
    [Direction::Forward, Direction::Reverse, Direction::Bidirectional, Direction::BidirectionalSum];

/// One row of the states.
fn row_of(states: &States, row: usize) -> States {
    let one = |rows: ArrayView3<f32>| rows.slice(s![.., row..row + 1, ..]).to_owned();
    let layer = |state: &LayerState| LayerState {
        h: one(state.h.view()),
        c: state.c.as_ref().map(|c| one(c.view())),
        y: state.y.as_ref().map(|y| one(y.view().insert_axis(Axis(0))).remove_axis(Axis(0))),
    };
    States { layers: states.layers.iter().map(layer).collect() }
}

/// Each row of a padded batch equals the same row alone, bit for bit, whatever its padding holds.
#[test]
fn padding_changes_no_bit() {
    let (batch, steps) = (7, 9);
    let mut failures = Failures::new();
    for lengths in [[9, 7, 7, 4, 2, 1, 0], [3, 0, 9, 1, 8, 9, 2]] {
        for direction in DIRECTIONS {
            for (name, layer) in cells(13, direction) {
                let name = format!("{name}, {direction:?}, {lengths:?}");
                failures.check(name.as_str(), || {
                    let layers = [layer, DenseConfig::new(5).activation(Activation::Tanh).into()];
                    let mut case = Case::new(4, &layers, batch, steps)
                        .lengths(Some(&lengths))
                        .given_states()
                        .counted_states();
                    for (row, &length) in lengths.iter().enumerate() {
                        case.input.slice_mut(s![length.., row, ..]).fill(f32::NAN);
                        case.d_output.slice_mut(s![length.., row, ..]).fill(f32::NAN);
                    }
                    let together = case.run(1);
                    let finite = |(_, gradient): (&String, &ndarray::ArrayD<f32>)| {
                        gradient.iter().all(|g| g.is_finite())
                    };
                    assert!(together.gradients.parameters.iter().all(finite), "{name}");
                    for (row, &length) in lengths.iter().enumerate() {
                        let name = format!("{name}, row {row}");
                        let padding = |sequence: &Array3<f32>| {
                            sequence.slice(s![length.., row, ..]).iter().all(|&value| value == 0.0)
                        };
                        assert!(padding(&together.output) && padding(&together.gradients.input), "{name}");
                        let (given, counted) =
                            (case.states.as_ref().unwrap(), case.d_states.as_ref().unwrap());
                        if length == 0 {
                            assert_eq!(row_of(&together.states, row), row_of(given, row), "{name}");
                            assert_eq!(
                                row_of(&together.gradients.states, row),
                                row_of(counted, row),
                                "{name}"
                            );
                            continue;
                        }
                        let alone = |sequence: &Array3<f32>| {
                            let row = sequence.slice(s![..length, row, ..]);
                            stack(Axis(1), &[row]).unwrap().as_standard_layout().into_owned()
                        };
                        let mut single = Case::new(4, &layers, 1, length);
                        single.parameters = case.parameters.clone();
                        single.input = alone(&case.input);
                        single.d_output = alone(&case.d_output);
                        single.states = Some(row_of(given, row));
                        single.d_states = Some(row_of(counted, row));
                        let single = single.run(1);
                        assert_eq!(single.output, alone(&together.output), "{name}");
                        assert_eq!(single.gradients.input, alone(&together.gradients.input), "{name}");
                        assert_eq!(single.states, row_of(&together.states, row), "{name}");
                        assert_eq!(
                            single.gradients.states,
                            row_of(&together.gradients.states, row),
                            "{name}"
                        );
                    }
                });
            }
        }
    }
    failures.finish();
}

/// Chains of layers within branches, and a layer that reads another across a branch, which is no chain.
#[test]
fn threads_in_branches_change_no_bit() {
    let (hidden, steps) = (40, 190);
    let gru = || branch().gru(hidden);
    let networks = [
        NetworkConfig::with_input(7)
            .gru(hidden)
            .parallel(Merge::Concatenate, [branch().final_state(), gru().last_step()]),
        NetworkConfig::with_input(7)
            .gru(hidden)
            .parallel(
                Merge::Sum,
                [gru().dropout(0.3).gru(hidden), branch().lstm(hidden).lstm(hidden), branch()],
            )
            .dense(3),
    ];
    let mut failures = Failures::new();
    for config in networks.map(|network| network.build().unwrap()) {
        for (batch, drops) in [(1, false), (3, true)] {
            failures.check(format!("{config}, {batch} rows"), || {
                let lengths = [190, 131, 2];
                let mut case = Case::new(7, config.layer_configs(), batch, steps)
                    .lengths(Some(&lengths[..batch]))
                    .given_states()
                    .counted_states();
                case.dropout = drops.then_some(Dropout { seed: 5, batch: 2, first_step: 0 });
                let alone = case.run(1);
                for threads in [2, 3, 8] {
                    assert!(case.run(threads) == alone, "{threads} threads give other bits");
                }
            });
        }
    }
    failures.finish();
}

/// Batches of one part, whose directions and layers the threads share: the same bits for any number of them.
#[test]
fn sharing_directions_and_layers_changes_no_bit() {
    // Long enough for several windows of a chain of layers, even with one lane per unit.
    let (hidden, steps) = (40, 190);
    let mut failures = Failures::new();
    for direction in DIRECTIONS {
        for (name, layer) in cells(hidden, direction) {
            for depth in 1..=3 {
                // One number of rows after another, ragged or not: each with every cell.
                let turn = depth + name.len() + direction as usize;
                let (batch, ragged) = (1 + turn % 4, (turn / 4).is_multiple_of(2));
                let name = format!("{depth} of {name}, {direction:?}, {batch} rows, ragged: {ragged}");
                failures.check(name.as_str(), || {
                    let lengths: Vec<usize> = [190, 131, 0, 2][..batch].to_vec();
                    let mut layers = vec![layer.clone(); depth];
                    if batch == 3 {
                        (1..depth).for_each(|at| {
                            layers.insert(2 * at - 1, LayerConfig::Dropout { rate: 0.3 });
                        });
                    }
                    let mut case = Case::new(7, &layers, batch, steps)
                        .lengths(ragged.then_some(&lengths))
                        .given_states()
                        .counted_states();
                    case.dropout = (batch == 3).then_some(Dropout { seed: 5, batch: 2, first_step: 0 });
                    let alone = case.run(1);
                    for threads in [2 + turn % 2, 8] {
                        assert!(case.run(threads) == alone, "{threads} threads give other bits");
                    }
                });
            }
        }
    }
    failures.finish();
}

/// Scans of a few rows, wide enough that threads share the products of single steps.
#[test]
fn sharing_the_products_of_steps_changes_no_bit() {
    let (hidden, steps) = (300, 6);
    let mut failures = Failures::new();
    for direction in DIRECTIONS {
        for (name, layer) in cells(hidden, direction) {
            for (batch, lengths) in [(1, None), (3, Some([6, 0, 3])), (4, None)] {
                failures.check(format!("{name}, {direction:?}, {batch} rows"), || {
                    let case = Case::new(7, std::slice::from_ref(&layer), batch, steps)
                        .lengths(lengths.as_ref().map(|lengths| &lengths[..]))
                        .given_states()
                        .counted_states();
                    let alone = case.run(1);
                    for threads in [2 + batch % 2, 8] {
                        assert!(case.run(threads) == alone, "{threads} threads give other bits");
                    }
                });
            }
        }
    }
    failures.finish();
}

/// Inference runs long sequences window by window, in both directions.
#[test]
fn inference_in_windows_has_the_bits_of_a_whole_pass() {
    // Long enough for several windows even in a layer with one lane per unit.
    let (batch, steps) = (40, 700);
    let lengths: Vec<usize> = (0..batch).map(|row| row * 1117 % (steps + 1)).collect();
    let mut failures = Failures::new();
    for direction in DIRECTIONS {
        for (name, layer) in cells(13, direction) {
            failures.check(format!("{name}, {direction:?}"), || {
                let case = Case::new(4, &[layer], batch, steps).lengths(Some(&lengths)).given_states();
                let network = case.network(2);
                let tape = network.forward(&case.batch());
                let (output, states) = network.infer(&case.batch());
                assert!(tape.output() == output, "{name}, {direction:?}");
                assert!(tape.states() == states, "{name}, {direction:?}");
            });
        }
    }
    failures.finish();
}

/// Two parts equal the whole if the state is carried over and the boundary's gradient is passed back: bit for bit
/// forward. Backward, the boundary's gradient is summed separately before it joins the output's.
#[test]
fn a_sequence_in_two_parts_is_the_whole() {
    let (batch, steps, cut) = (4, 9, 5);
    let mut failures = Failures::new();
    for (name, layer) in cells(13, Direction::Forward) {
        failures.check(name, || {
            let layers = [layer, GruConfig::new(5).into(), DenseConfig::new(5).into()];
            let case = Case::new(4, &layers, batch, steps).given_states().counted_states();
            let whole = case.run(1);
            let network = case.network(1);
            let (first, second) = (case.input.slice(s![..cut, .., ..]), case.input.slice(s![cut.., .., ..]));
            let run = |input, states| network.forward(&gatefold_cpu::Batch { input, states, ..case.batch() });
            let first = run(first, case.states.as_ref());
            let second = run(second, Some(&first.states()));
            assert_eq!(first.output(), whole.output.slice(s![..cut, .., ..]), "{name}");
            assert_eq!(second.output(), whole.output.slice(s![cut.., .., ..]), "{name}");
            assert_eq!(second.states(), whole.states, "{name}");
            let d_output = &case.d_output;
            let second = network.backward(second, d_output.slice(s![cut.., .., ..]), case.d_states.as_ref());
            let first = network.backward(first, d_output.slice(s![..cut, .., ..]), Some(&second.states));
            let (_, terms) = case.terms();
            let close = |part: &str, found: &Array3<f32>, expected: ArrayView3<f32>| {
                assert_close(&format!("{name}, {part}"), found, &expected.mapv(f64::from), terms);
            };
            close("d_input before the cut", &first.input, whole.gradients.input.slice(s![..cut, .., ..]));
            // After the cut nothing was split.
            assert_eq!(second.input, whole.gradients.input.slice(s![cut.., .., ..]), "{name}");
            for (found, expected) in first.states.layers.iter().zip(&whole.gradients.states.layers) {
                close("d_h", &found.h, expected.h.view());
                if let (Some(found), Some(expected)) = (&found.c, &expected.c) {
                    close("d_c", found, expected.view());
                }
            }
            for (part, gradient) in &whole.gradients.parameters {
                let sum = &first.parameters[part] + &second.parameters[part];
                assert_close(&format!("{name}, {part}"), &sum, &gradient.mapv(f64::from), terms);
            }
        });
    }
    failures.finish();
}

/// Reversing time twice, around a layer of the other direction, does not change a bit.
#[test]
fn a_reverse_layer_is_a_forward_one_on_reversed_time() {
    let mut failures = Failures::new();
    for ((name, forward), (_, reverse)) in
        cells(13, Direction::Forward).into_iter().zip(cells(13, Direction::Reverse))
    {
        failures.check(name, || {
            let forward = Case::new(4, &[forward], 5, 8).given_states().counted_states();
            let mut reversed = Case::new(4, &[reverse], 5, 8);
            let time =
                |sequence: &Array3<f32>| sequence.slice(s![..;-1, .., ..]).as_standard_layout().into_owned();
            reversed.parameters = forward
                .parameters
                .iter()
                .map(|(part, tensor)| (format!("{part}_reverse"), tensor.clone()))
                .collect();
            reversed.input = time(&forward.input);
            reversed.d_output = time(&forward.d_output);
            reversed.states = forward.states.clone();
            reversed.d_states = forward.d_states.clone();
            let (forward, reversed) = (forward.run(1), reversed.run(1));
            assert_eq!(forward.output, time(&reversed.output), "{name}");
            assert_eq!(forward.states, reversed.states, "{name}");
            assert_eq!(forward.gradients.input, time(&reversed.gradients.input), "{name}");
            assert_eq!(forward.gradients.states, reversed.gradients.states, "{name}");
        });
    }
    failures.finish();
}

/// Streams against whole sequences: the same bits for any number of streams and threads.
#[test]
fn single_steps_are_the_whole_sequence() {
    let dense = || DenseConfig::new(6).activation(Activation::Tanh).into();
    let mut networks: Vec<(&str, Vec<LayerConfig>)> = cells(13, Direction::Forward)
        .into_iter()
        .map(|(name, layer)| (name, vec![layer, GruConfig::new(6).into(), dense()]))
        .collect();
    let normalise = || LayerConfig::Normalise { epsilon: 1e-5 };
    networks.push((
        "normalised",
        vec![normalise(), GruConfig::new(6).into(), normalise(), LstmConfig::new(5).into(), normalise()],
    ));
    networks.push((
        "residual, softmax, dropout",
        vec![
            dense(),
            LstmConfig::new(6).into(),
            LayerConfig::Residual { from: 1 },
            LayerConfig::Dropout { rate: 0.5 },
            LayerConfig::Softmax,
        ],
    ));
    let mut failures = Failures::new();
    for (name, layers) in networks {
        for batch in [1, 2, 3, 9] {
            let name = format!("{name}, {batch} streams");
            failures.check(name.as_str(), || {
                let case = Case::new(4, &layers, batch, 7).given_states();
                let whole = case.run(1);
                let network = case.network(2);
                let mut states = case.states.clone().unwrap();
                for t in 0..7 {
                    let output = network.step(&mut states, case.input.index_axis(Axis(0), t)).unwrap();
                    let expected = whole.output.index_axis(Axis(0), t);
                    assert_eq!(output, expected, "{name}, step {t}");
                }
                assert_eq!(states, whole.states, "{name}");
            });
        }
    }
    failures.finish();
    // Enough streams for several threads.
    let case =
        Case::new(40, &[LstmConfig::new(120).into(), DenseConfig::new(9).into()], 70, 3).given_states();
    let whole = case.run(1);
    let mut failures = Failures::new();
    for threads in [1, 2, 5] {
        failures.check(format!("{threads} threads"), || {
            let mut states = case.states.clone().unwrap();
            let step = |t: usize| {
                case.network(threads).step(&mut states, case.input.index_axis(Axis(0), t)).unwrap()
            };
            let outputs: Vec<Array2<f32>> = (0..3).map(step).collect();
            for (t, output) in outputs.iter().enumerate() {
                assert_eq!(output, whole.output.index_axis(Axis(0), t), "{threads} threads, step {t}");
            }
            assert_eq!(states, whole.states, "{threads} threads");
        });
    }
    failures.finish();
}

/// A stream of a network that ends with a single step treats each step as the last.
#[test]
fn a_stream_ends_at_every_step() {
    let mut failures = Failures::new();
    for end in [LayerConfig::LastStep, LayerConfig::FinalState] {
        failures.check(format!("{end:?}"), || {
            let layers = [LstmConfig::new(9).into(), end.clone(), DenseConfig::new(5).into()];
            let case = Case::new(4, &layers, 3, 6).given_states();
            let mut states = case.states.clone().unwrap();
            for t in 0..6 {
                let network = case.network(1);
                let output = network.step(&mut states, case.input.index_axis(Axis(0), t)).unwrap();
                let upto =
                    gatefold_cpu::Batch { input: case.input.slice(s![..t + 1, .., ..]), ..case.batch() };
                assert_eq!(output, network.predict(&upto).index_axis(Axis(0), 0), "{end:?}, step {t}");
            }
        });
    }
    failures.finish();
}

#[test]
fn a_decoder_goes_step_by_step_from_the_encoder_s_states() {
    let layers = [
        LstmConfig::new(8).direction(Direction::Bidirectional).into(),
        DecoderConfig::new(1).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
        EmbeddingConfig::new(7, 5).into(),
        LstmConfig::new(9).skip(2).into(),
        LstmConfig::new(8).dilation(3).into(),
        DenseConfig::new(7).into(),
        LayerConfig::Softmax,
    ];
    let mut case = Case::new(4, &layers, 3, 6).decoder(5, None);
    let (tokens, _) = case.decoder.as_mut().unwrap();
    tokens.indexed_iter_mut().for_each(|((t, row, _), token)| *token = ((3 * t + row) % 7) as f32);
    let whole = case.run(1);
    let network = case.network(1);
    let mut states = network.encode(&case.batch()).unwrap();
    let (tokens, _) = case.decoder.as_ref().unwrap();
    for t in 0..5 {
        let output = network.step(&mut states, tokens.index_axis(Axis(0), t)).unwrap();
        assert_eq!(output, whole.output.index_axis(Axis(0), t), "step {t}");
    }
    assert_eq!(states.layers[1..], whole.states.layers[1..]);
}

#[test]
fn what_cannot_stream_is_refused_by_name() {
    let refusal = |layers: &[LayerConfig], states: usize, width: usize| {
        let case = Case::new(4, layers, 2, 1);
        let mut states = States::zeros(&case.config, states);
        case.network(1).step(&mut states, Array2::zeros((2, width)).view()).unwrap_err().to_string()
    };
    let reverse = LstmConfig::new(5).direction(Direction::Bidirectional).into();
    let expected = "layer 1 (lstm): it starts at the end of a sequence, which a stream does not have; use direction forward";
    assert_eq!(refusal(&[RnnConfig::new(5).into(), reverse], 2, 4), expected);
    let expand = LayerConfig::Expand { steps: 3, fill: Expansion::Zeros };
    let expected = "layer 0 (expand): it makes several steps of one; run whole sequences instead";
    assert_eq!(refusal(&[expand, RnnConfig::new(5).into()], 2, 4), expected);
    let expected = "layer 1 (max pool): it reads all steps of a row; run whole sequences instead";
    assert_eq!(refusal(&[RnnConfig::new(5).into(), LayerConfig::MaxPool], 2, 4), expected);
    assert!(refusal(&[RnnConfig::new(5).into()], 2, 3).contains("features 4"));
    assert!(refusal(&[RnnConfig::new(5).into()], 3, 4).contains("[1, 2, 5], found [1, 3, 5]"));
}
