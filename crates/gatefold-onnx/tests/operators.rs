//! Layouts and optional inputs of RNN, GRU and LSTM, through the conversion that the importer uses: two ways to say the
//! same give the same bits.

use gatefold::{Device, Network};
use gatefold_check::Failures;
use gatefold_onnx::recurrent::{Operator, Outputs, RecurrentOperator, Weights};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix3};

const STEPS: usize = 4;
const BATCH: usize = 3;
const INPUT: usize = 2;
const HIDDEN: usize = 5;

/// Numbers around 0, all different.
fn waves(shape: [usize; 3], seed: f32) -> Array3<f32> {
    let mut k = 0.0;
    Array3::from_shape_simple_fn(shape, || {
        k += 1.0;
        (k * 0.7 + seed).sin() * 0.8
    })
}

fn flat(shape: [usize; 2], seed: f32) -> Array2<f32> {
    waves([1, shape[0], shape[1]], seed).index_axis_move(Axis(0), 0)
}

/// Every operator in every direction.
fn operators() -> Vec<RecurrentOperator> {
    let mut operators = Vec::new();
    for operator in [Operator::Rnn, Operator::Gru, Operator::Lstm] {
        for direction in ["forward", "reverse", "bidirectional"] {
            operators.push(RecurrentOperator::new(operator).direction(direction).unwrap());
        }
    }
    operators
}

fn weights(operator: &RecurrentOperator, gates: usize) -> Weights {
    let (directions, rows) = (operator.directions(), gates * HIDDEN);
    Weights {
        w: waves([directions, rows, INPUT], 1.0),
        r: waves([directions, rows, HIDDEN], 2.0),
        b: Some(flat([directions, 2 * rows], 3.0)),
        p: (gates == 4).then(|| flat([directions, 3 * HIDDEN], 4.0)),
    }
}

/// Inputs other than X and the weights.
#[derive(Clone, Default)]
struct Given {
    lengths: Option<Vec<i64>>,
    h: Option<ArrayD<f32>>,
    c: Option<ArrayD<f32>>,
}

fn run(operator: &RecurrentOperator, weights: &Weights, x: &ArrayD<f32>, given: &Given) -> Outputs {
    let (config, parameters) = operator.network(weights).unwrap();
    let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
    let sequences = operator.sequences(x, given.lengths.as_deref()).unwrap();
    let states = operator.states(given.h.as_ref(), given.c.as_ref(), BATCH, HIDDEN).unwrap();
    let forward = network.forward(&sequences, Some(&states)).unwrap();
    operator.outputs(forward.output, forward.states, sequences.lengths())
}

fn gates(operator: &RecurrentOperator) -> usize {
    let name = format!("{operator:?}");
    if name.contains("Lstm") {
        4
    } else if name.contains("Gru") {
        3
    } else {
        1
    }
}

fn state(operator: &RecurrentOperator, seed: f32) -> ArrayD<f32> {
    waves([operator.directions(), BATCH, HIDDEN], seed).into_dyn()
}

fn turned(array: &ArrayD<f32>) -> ArrayD<f32> {
    let three = array.view().into_dimensionality::<Ix3>().unwrap();
    three.permuted_axes([1, 0, 2]).as_standard_layout().into_owned().into_dyn()
}

#[test]
fn with_layout_1_the_batch_is_first_everywhere() {
    let mut failures = Failures::new();
    for operator in operators() {
        failures.check(format!("{operator:?}"), || {
            let weights = weights(&operator, gates(&operator));
            let x = waves([STEPS, BATCH, INPUT], 5.0).into_dyn();
            let given = Given {
                lengths: Some(vec![4, 2, 1]),
                h: Some(state(&operator, 6.0)),
                c: Some(state(&operator, 7.0)),
            };
            let plain = run(&operator, &weights, &x, &given);
            let batch_first = operator.clone().batch_first(true);
            let given = Given {
                lengths: given.lengths,
                h: given.h.as_ref().map(turned),
                c: given.c.as_ref().map(turned),
            };
            let first = run(&batch_first, &weights, &turned(&x), &given);
            // [T, D, B, H] as [B, T, D, H]
            let directions = operator.directions();
            assert_eq!(first.y.dim(), (BATCH, STEPS, directions, HIDDEN));
            assert_eq!(first.y.view().permuted_axes([1, 2, 0, 3]), plain.y, "Y");
            assert_eq!(first.y_h.view().permuted_axes([1, 0, 2]), plain.y_h, "Y_h");
            assert_eq!(first.y_c.is_some(), plain.y_c.is_some());
            if let (Some(first), Some(plain)) = (&first.y_c, &plain.y_c) {
                assert_eq!(first.view().permuted_axes([1, 0, 2]), plain, "Y_c");
            }
            // Past a row's end the output is zero.
            assert!(plain.y.slice(ndarray::s![2.., .., 1, ..]).iter().all(|&value| value == 0.0));
        });
    }
    failures.finish();
}

#[test]
fn omitted_inputs_are_zero_and_omitted_lengths_are_all_steps() {
    let mut failures = Failures::new();
    for operator in operators() {
        failures.check(format!("{operator:?}"), || {
            let gates = gates(&operator);
            let directions = operator.directions();
            let x = waves([STEPS, BATCH, INPUT], 5.0).into_dyn();
            let bare = Weights { b: None, p: None, ..weights(&operator, gates) };
            let full = Weights {
                b: Some(Array2::zeros((directions, 2 * gates * HIDDEN))),
                p: (gates == 4).then(|| Array2::zeros((directions, 3 * HIDDEN))),
                ..bare.clone()
            };
            let zeros = ArrayD::zeros(vec![directions, BATCH, HIDDEN]);
            let said = Given {
                lengths: Some(vec![STEPS as i64; BATCH]),
                h: Some(zeros.clone()),
                c: Some(zeros.clone()),
            };
            let expected = run(&operator, &full, &x, &said);
            assert_eq!(run(&operator, &bare, &x, &Given::default()), expected, "everything omitted");
            let no_lengths = Given { lengths: None, ..said.clone() };
            assert_eq!(run(&operator, &full, &x, &no_lengths), expected, "no lengths");
            // One state without the other.
            let h = Some(state(&operator, 6.0));
            let one = run(&operator, &bare, &x, &Given { h: h.clone(), ..Given::default() });
            let both = run(&operator, &bare, &x, &Given { h, c: Some(zeros), ..Given::default() });
            assert_eq!(one, both, "no initial_c");
            assert_ne!(one, expected, "an initial_h");
        });
    }
    failures.finish();
}

/// A choice of ONNX runtimes; the engine's own networks return the initial state.
#[test]
fn a_row_of_length_zero_ends_in_zeros() {
    let mut failures = Failures::new();
    for operator in operators() {
        failures.check(format!("{operator:?}"), || {
            let weights = weights(&operator, gates(&operator));
            let x = waves([STEPS, BATCH, INPUT], 5.0).into_dyn();
            let (h, c) = (Some(state(&operator, 6.0)), Some(state(&operator, 7.0)));
            let outputs = run(&operator, &weights, &x, &Given { lengths: Some(vec![4, 0, 2]), h, c });
            for state in [Some(&outputs.y_h), outputs.y_c.as_ref()].into_iter().flatten() {
                assert!(state.index_axis(Axis(1), 1).iter().all(|&value| value == 0.0), "the empty row");
                assert!(state.index_axis(Axis(1), 0).iter().all(|&value| value != 0.0), "another row");
            }
        });
    }
    failures.finish();
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let operator = RecurrentOperator::new(Operator::Gru);
    let weights = weights(&operator, 3);
    let problem = |change: &dyn Fn(&mut Weights)| {
        let mut weights = weights.clone();
        change(&mut weights);
        operator.network(&weights).unwrap_err().to_string()
    };
    assert!(
        problem(&|w| w.w = Array3::zeros((1, 14, 2)))
            .contains("GRU: W: expected shape [1, 15, 2], found [1, 14, 2]")
    );
    assert!(problem(&|w| w.r = Array3::zeros((2, 15, 5))).contains("R: expected shape [1, 15, 5]"));
    assert!(problem(&|w| w.b = Some(Array2::zeros((1, 15)))).contains("B: expected shape [1, 30]"));
    assert!(problem(&|w| w.p = Some(Array2::zeros((1, 15)))).contains("only the LSTM has peepholes"));
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| name.to_string()).collect() };
    let functions = |list: &[&str], alpha: &[f32]| {
        RecurrentOperator::new(Operator::Gru).activations(&names(list), alpha, &[]).unwrap_err()
    };
    assert!(functions(&["Tanh"], &[]).contains("expected 2 for each of 1 directions, found 1"));
    assert!(functions(&["Tanh", "Swish"], &[]).contains("Swish is not an activation"));
    assert!(
        RecurrentOperator::new(Operator::Gru).activations(&names(&["Tanh", "Tanh"]), &[0.5], &[]).is_ok()
    );
    assert!(functions(&["Tanh", "ScaledTanh"], &[0.5]).contains("no default"));
    assert!(RecurrentOperator::new(Operator::Gru).direction("both").is_err());
}
