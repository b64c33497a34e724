//! Properties of every recurrent network, whatever its sizes: padding changes nothing, reversing time twice changes
//! nothing, and a sequence may be cut if its state is carried over.

use crate::common::{Case, Shape, row, row_states};
use gatefold_model::{
    Activation, Biases, Coupling, DenseConfig, Direction, GruConfig, InitialState, LayerConfig, LstmConfig,
    NetworkConfig, Parameters, Reset, RnnConfig,
};
use gatefold_reference::network::{Gradients, Tensors};
use gatefold_reference::{Batch, Network, States};
use ndarray::{Array, Array3, Dimension, concatenate, s};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Layers with every option; `h` is what the next one reads.
const LAYERS: [fn(usize, Direction) -> LayerConfig; 12] = [
    |h, d| RnnConfig::new(h).direction(d).into(),
    |h, d| RnnConfig::new(h).direction(d).activation(Activation::Softsign).skip(3).into(),
    |h, d| LstmConfig::new(h).direction(d).into(),
    |h, d| {
        let lstm = LstmConfig::new(h).peephole().coupled(Coupling::Input).clip(0.7).projection(2).skip(2);
        lstm.direction(d).initial_state(InitialState::Learned).into()
    },
    |h, d| LstmConfig::new(h).squashed().direction(d).initial_state(InitialState::Constant(0.5)).into(),
    |h, d| GruConfig::new(h).direction(d).into(),
    |h, d| GruConfig::new(h).reset(Reset::Before).biases(Biases::One).direction(d).into(),
    |h, d| GruConfig::new(h).skip(2).initial_state(InitialState::Learned).direction(d).into(),
    |h, d| LstmConfig::new(h).dilation(2).peephole().initial_state(InitialState::Learned).direction(d).into(),
    |h, d| GruConfig::new(h).dilation(3).reset(Reset::Before).direction(d).into(),
    |h, d| RnnConfig::new(h).dilation(5).direction(d).into(),
    |h, d| {
        let direction = if d == Direction::Reverse { d } else { Direction::Forward };
        RnnConfig::new(h).feedback(2, Activation::Tanh).direction(direction).into()
    },
];

const DIRECTIONS: [Direction; 4] =
    [Direction::Forward, Direction::Reverse, Direction::Bidirectional, Direction::BidirectionalSum];

/// One or two layers, a batch, the length of each row, and a seed.
#[derive(Clone, Debug)]
struct Drawn {
    dense: bool,                        // a dense layer in front
    layers: Vec<(usize, usize, usize)>, // which layer, its width, its direction
    inputs: usize,
    steps: usize,
    lengths: Vec<usize>,
    states: bool,
    seed: u64,
}

impl Drawn {
    fn layers(&self, direction: Option<Direction>) -> Vec<LayerConfig> {
        let dense = self.dense.then(|| DenseConfig::new(3).activation(Activation::Tanh).into());
        let recurrent = self.layers.iter();
        let recurrent = recurrent.map(|&(k, h, d)| LAYERS[k](h, direction.unwrap_or(DIRECTIONS[d])));
        dense.into_iter().chain(recurrent).collect()
    }

    fn case(&self, direction: Option<Direction>) -> Case {
        let shape = Shape {
            lengths: Some(self.lengths.clone()),
            states: self.states,
            ..Shape::new(self.inputs, self.steps, self.lengths.len())
        };
        Case::new(&shape, &self.layers(direction), self.seed)
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let layers = proptest::collection::vec((0..LAYERS.len(), 1..5usize, 0..DIRECTIONS.len()), 1..3);
    (layers, 1..4usize, 1..7usize, any::<[bool; 2]>(), any::<u64>()).prop_flat_map(
        |(layers, inputs, steps, [dense, states], seed)| {
            proptest::collection::vec(0..=steps, 1..5).prop_map(move |lengths| Drawn {
                dense,
                layers: layers.clone(),
                inputs,
                steps,
                lengths,
                states,
                seed,
            })
        },
    )
}

/// A rounding error of 1e-16 grows by the weights' norm, about 3, in each of at most 12 successive products: 5e-11.
fn assert_close<D: Dimension>(what: &str, found: &Array<f64, D>, expected: &Array<f64, D>) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let scale = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    for (k, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= 1e-10 * scale, "{what}, element {k}: found {found}, expected {expected}");
    }
}

fn assert_states(what: &str, found: &States<f64>, expected: &States<f64>) {
    assert_eq!(found.layers.len(), expected.layers.len(), "{what}");
    for (n, (found, expected)) in found.layers.iter().zip(&expected.layers).enumerate() {
        assert_close(&format!("{what}, h {n}"), &found.h, &expected.h);
        for (found, expected) in found.c.iter().zip(&expected.c) {
            assert_close(&format!("{what}, c {n}"), found, expected);
        }
        for (found, expected) in found.y.iter().zip(&expected.y) {
            assert_close(&format!("{what}, y {n}"), found, expected);
        }
    }
}

fn assert_parameters(found: &Tensors<f64>, expected: &Tensors<f64>) {
    assert!(found.keys().eq(expected.keys()));
    for (name, expected) in expected {
        assert_close(name, &found[name], expected);
    }
}

fn add(sum: &mut Tensors<f64>, tensors: &Tensors<f64>) {
    for (name, tensor) in tensors {
        match sum.get_mut(name) {
            Some(sum) => *sum += tensor,
            None => _ = sum.insert(name.clone(), tensor.clone()),
        }
    }
}

/// Each row of a batch against the same row computed alone, with NaN in the padding. A row without steps computes
/// nothing.
fn check_padding(drawn: &Drawn) {
    let mut case = drawn.case(None);
    for (t, row) in (0..drawn.steps).flat_map(|t| (0..drawn.lengths.len()).map(move |row| (t, row))) {
        if t >= drawn.lengths[row] {
            case.input.slice_mut(s![t, row, ..]).fill(f64::NAN);
            case.d_output.slice_mut(s![t, row, ..]).fill(f64::NAN);
        }
    }
    let (tape, whole) = (case.tape(), case.gradients());
    let mut parameters = Tensors::new();
    for (name, tensor) in case.network.parameters() {
        parameters.insert(name.clone(), ndarray::ArrayD::zeros(tensor.raw_dim()));
    }
    for (b, &length) in drawn.lengths.iter().enumerate() {
        let output = row(&tape.output().to_owned(), b, drawn.steps);
        let d_input = row(&whole.input, b, drawn.steps);
        let padded = s![length.., .., ..];
        assert!(
            output.slice(padded).iter().chain(d_input.slice(padded)).all(|&value| value == 0.0),
            "padding"
        );
        let (final_states, d_states) = (row_states(tape.states(), b), row_states(&whole.states, b));
        let given = case.states.as_ref().map(|states| row_states(states, b));
        let d_final = row_states(&case.d_states, b);
        if length == 0 {
            assert_states(
                "the states of an empty row",
                &final_states,
                &row_states(&initial_states(&case), b),
            );
            assert_states("the derivatives of an empty row", &d_states, &d_final);
            if case.states.is_none() {
                add(&mut parameters, &learned(&case, &d_states));
            }
            continue;
        }
        let input = row(&case.input, b, length);
        let alone = Batch { states: given.as_ref(), ..Batch::new(input.view()) };
        let alone_tape = case.network.forward(&alone);
        let d_output = row(&case.d_output, b, length);
        let alone_gradients = case.network.backward(&alone_tape, d_output.view(), Some(&d_final));
        assert_close("output", &row(&output, 0, length), &alone_tape.output().to_owned());
        assert_states("final states", &final_states, alone_tape.states());
        assert_close("d_input", &row(&d_input, 0, length), &alone_gradients.input);
        assert_states("d_states", &d_states, &alone_gradients.states);
        add(&mut parameters, &alone_gradients.parameters);
    }
    assert_parameters(&whole.parameters, &parameters);
}

/// The initial states, which are also the final states of rows without steps.
fn initial_states(case: &Case) -> States<f64> {
    case.states.clone().unwrap_or_else(|| {
        let lengths = vec![0; case.input.dim().1];
        let empty = Batch { lengths: Some(&lengths), ..Batch::new(case.input.view()) };
        case.network.forward(&empty).states().clone()
    })
}

/// The gradients of learned states, of one row without steps.
fn learned(case: &Case, d_states: &States<f64>) -> Tensors<f64> {
    let mut gradients = Tensors::new();
    for (layer, d) in case.network.config().recurrent_layers().zip(&d_states.layers) {
        let recurrent = layer.recurrent().unwrap();
        let k = recurrent.history();
        for (n, &reverse) in recurrent.direction.scans().iter().enumerate() {
            if let Some(h0) = layer.find(gatefold_model::Role::InitialH, reverse) {
                let d = d.h.slice(s![n * k..(n + 1) * k, 0, ..]).sum_axis(ndarray::Axis(0));
                gradients.insert(h0.name.clone(), d.into_dyn());
            }
            if let (Some(c0), Some(d_c)) = (layer.find(gatefold_model::Role::InitialC, reverse), &d.c) {
                let slots = recurrent.dilation;
                let d_c = d_c.slice(s![n * slots..(n + 1) * slots, 0, ..]).sum_axis(ndarray::Axis(0));
                gradients.insert(c0.name.clone(), d_c.into_dyn());
            }
        }
    }
    gradients
}

/// Each row's own steps in reverse order.
fn reversed(sequence: &Array3<f64>, lengths: &[usize]) -> Array3<f64> {
    Array3::from_shape_fn(sequence.dim(), |(t, b, f)| {
        let t = if t < lengths[b] { lengths[b] - 1 - t } else { t };
        sequence[[t, b, f]]
    })
}

/// A network whose layers run forward, and the same network with all of them in reverse.
fn check_reversal(drawn: &Drawn) {
    let forward = drawn.case(Some(Direction::Forward));
    let config = NetworkConfig::new(drawn.inputs, drawn.layers(Some(Direction::Reverse))).unwrap();
    let mut network = Network::<f64>::new(&config, &Parameters::initial(&config, 1).unwrap()).unwrap();
    for (name, tensor) in network.parameters_mut() {
        *tensor = forward.network.parameters()[name.trim_end_matches("_reverse")].clone();
    }
    let turned = |sequence: &Array3<f64>| reversed(sequence, &drawn.lengths);
    let input = turned(&forward.input);
    let batch = Batch { input: input.view(), ..forward.batch() };
    let (tape, forward_tape) = (network.forward(&batch), forward.tape());
    assert_close("output", &turned(&tape.output().to_owned()), &forward_tape.output().to_owned());
    assert_states("final states", tape.states(), forward_tape.states());
    let d_output = turned(&forward.d_output);
    let found = network.backward(&tape, d_output.view(), Some(&forward.d_states));
    let expected = forward.gradients();
    assert_close("d_input", &turned(&found.input), &expected.input);
    assert_states("d_states", &found.states, &expected.states);
    let names = found.parameters.into_iter();
    let found = names.map(|(name, tensor)| (name.trim_end_matches("_reverse").to_owned(), tensor)).collect();
    assert_parameters(&found, &expected.parameters);
}

/// Runs the sequence up to `at`, then the rest from the final states of the first part.
fn check_cut(drawn: &Drawn, at: usize) {
    let case = drawn.case(Some(Direction::Forward));
    let whole_tape = case.tape();
    let whole = case.gradients();

    let part =
        |sequence: &Array3<f64>, range: std::ops::Range<usize>| sequence.slice(s![range, .., ..]).to_owned();
    let first_lengths: Vec<usize> = drawn.lengths.iter().map(|&length| length.min(at)).collect();
    let second_lengths: Vec<usize> = drawn.lengths.iter().map(|&length| length.saturating_sub(at)).collect();
    let (first_input, second_input) = (part(&case.input, 0..at), part(&case.input, at..drawn.steps));
    let first = case.network.forward(&Batch {
        input: first_input.view(),
        lengths: Some(&first_lengths),
        ..case.batch()
    });
    let second = case.network.forward(&Batch {
        input: second_input.view(),
        lengths: Some(&second_lengths),
        states: Some(first.states()),
        ..case.batch()
    });
    let output = concatenate(ndarray::Axis(0), &[first.output(), second.output()]).unwrap();
    assert_close("output", &output, &whole_tape.output().to_owned());
    assert_states("final states", second.states(), whole_tape.states());

    let d_second = part(&case.d_output, at..drawn.steps);
    let back_second = case.network.backward(&second, d_second.view(), Some(&case.d_states));
    let d_first = part(&case.d_output, 0..at);
    let Gradients { mut parameters, input, states, .. } =
        case.network.backward(&first, d_first.view(), Some(&back_second.states));
    let d_input = concatenate(ndarray::Axis(0), &[input.view(), back_second.input.view()]).unwrap();
    assert_close("d_input", &d_input, &whole.input);
    assert_states("d_states", &states, &whole.states);
    add(&mut parameters, &back_second.parameters);
    assert_parameters(&parameters, &whole.parameters);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(3),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn padding_changes_nothing(drawn in drawn()) {
        check_padding(&drawn);
    }

    #[test]
    fn time_reversed_twice_is_time(drawn in drawn()) {
        check_reversal(&drawn);
    }

    #[test]
    fn a_sequence_may_be_cut_where_its_state_is_carried(drawn in drawn(), share in 0.0..1.0f64) {
        if drawn.steps > 1 {
            check_cut(&drawn, 1 + (share * (drawn.steps - 1) as f64) as usize);
        }
    }
}
