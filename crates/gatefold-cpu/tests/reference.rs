//! Outputs and all gradients of plain networks against the reference in f64, and the same bits for any number of
//! threads.

use crate::common::{Case, same_bits};
use gatefold_cpu::Tensors;
use gatefold_model::{Activation, Conv1dConfig, DenseConfig, LayerConfig, LstmConfig, Parameters};
use gatefold_reference::Failures;
use ndarray::{ArrayD, arr1};

fn zeros(parameters: &Parameters) -> Tensors {
    parameters.iter().map(|(name, tensor)| (name.to_owned(), ArrayD::zeros(tensor.raw_dim()))).collect()
}

fn lstm(hidden: usize) -> LayerConfig {
    LstmConfig::new(hidden).into()
}

fn dense(output: usize, activation: Activation) -> LayerConfig {
    DenseConfig::new(output).activation(activation).into()
}

#[test]
fn one_layer_over_awkward_sizes() {
    let mut failures = Failures::new();
    for (batch, steps, inputs, hidden) in [
        (1, 1, 1, 1),
        (1, 7, 3, 13),
        (2, 5, 1, 17),
        (5, 5, 1, 17), // two parts
        (31, 2, 7, 5),
        (33, 19, 11, 65), // threads, uneven shares
        (64, 23, 5, 37),
    ] {
        let name = format!("B {batch} T {steps} I {inputs} H {hidden}");
        failures
            .check(name.as_str(), || Case::new(inputs, &[lstm(hidden)], batch, steps).check_threads(&name));
    }
    failures.finish();
}

#[test]
fn whole_networks() {
    let mut failures = Failures::new();
    for (batch, steps) in [(1, 3), (5, 4), (40, 13)] {
        let mut check = |name: &str, inputs, layers: &[LayerConfig]| {
            let name = format!("{name}, B {batch} T {steps}");
            failures.check(name.as_str(), || Case::new(inputs, layers, batch, steps).check_threads(&name));
        };
        check("stacked", 3, &[lstm(32), lstm(32), lstm(7), dense(2, Activation::Identity)]);
        check(
            "last step",
            2,
            &[lstm(29), LayerConfig::LastStep, dense(64, Activation::Relu), dense(3, Activation::Tanh)],
        );
        check("dense first", 5, &[dense(9, Activation::Sigmoid), lstm(11)]);
        check(
            "tied",
            8,
            &[lstm(8), LayerConfig::Tied { to: 0 }, dense(8, Activation::Tanh), LayerConfig::Tied { to: 2 }],
        );
        let conv = |output, kernel| Conv1dConfig::new(output, kernel);
        check(
            "convolutions",
            7,
            &[
                conv(33, 3).causal().activation(Activation::Relu).into(),
                lstm(9),
                conv(5, 4).padding(1, 2).stride(2).into(),
            ],
        );
    }
    failures.finish();
}

/// Only one gradient is wanted; it stays the same.
#[test]
fn gradients_that_nobody_wants_are_left_out() {
    let case = Case::new(3, &[lstm(8), lstm(8), dense(2, Activation::Identity)], 4, 5);
    let all = case.run(1).gradients.parameters;
    let mut failures = Failures::new();
    for wanted in ["rnn0.weight_hh_l0", "rnn0.bias_hh_l1", "dense0.weight"] {
        failures.check(wanted, || {
            let network = case.network(1);
            let tape = network.forward(&case.batch());
            let mut gradients = zeros(&case.parameters);
            gradients.retain(|name, _| name == wanted);
            network.accumulate(tape, case.d_output.view(), None, &mut gradients);
            assert_eq!(gradients.len(), 1);
            assert_eq!(gradients[wanted], all[wanted]);
        });
    }
    failures.finish();
}

/// The comparison of inference with the pass that keeps its tape, used by every case here.
#[test]
fn bits_differ_where_a_nan_lies_elsewhere() {
    let nan = f32::NAN;
    let same = |found: [f32; 2], expected: [f32; 2]| same_bits(&arr1(&found), &arr1(&expected));
    assert!(same([nan, 1.0], [nan, 1.0]) && same([nan, 1.0], [-nan, 1.0]));
    let mut failures = Failures::new();
    for other in [[1.0, nan], [nan, nan], [1.0, 1.0], [nan, 1.0f32.next_up()], [nan, -1.0]] {
        failures.check(format!("{other:?}"), || {
            assert!(!same(other, [nan, 1.0]) && !same([nan, 1.0], other), "{other:?}");
        });
    }
    failures.finish();
    assert!(!same([0.0, 1.0], [-0.0, 1.0]));
    assert!(!same_bits(&arr1(&[nan]), &arr1(&[nan, nan])));
}

#[test]
fn nan_in_the_input_reaches_outputs_and_gradients() {
    let mut case = Case::new(3, &[lstm(8), dense(2, Activation::Relu)], 4, 5);
    case.input[[2, 1, 0]] = f32::NAN;
    let outcome = case.run(1);
    assert!(outcome.output[[4, 1, 0]].is_nan());
    assert!(outcome.output[[1, 1, 0]].is_finite() && outcome.output[[4, 0, 0]].is_finite());
    // The last bias sums the gradients of the output, which this test chose.
    let mut failures = Failures::new();
    for (name, gradient) in outcome.gradients.parameters.iter().filter(|(name, _)| *name != "dense0.bias") {
        failures.check(name.as_str(), || {
            assert!(gradient.iter().any(|g| g.is_nan()), "{name}");
        });
    }
    failures.finish();
}
