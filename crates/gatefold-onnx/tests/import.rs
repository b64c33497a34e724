//! The networks that other programs' models become. `run.rs` checks that they compute the same as the models.

use gatefold_check::Failures;
use gatefold_onnx::Layout::{BatchFirst, OneStep, TimeMajor};
use gatefold_onnx::{GivenState, Layout, OnnxModel};
use std::path::Path;

fn read(name: &str) -> OnnxModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    OnnxModel::read(folder.join(format!("{name}.onnx"))).unwrap()
}

/// Models in tests/fixtures/onnx: name, network, layouts of its input and output, whether it has an input of lengths,
/// and its number of given initial states.
#[rustfmt::skip]
const NETWORKS: [(&str, &str, Layout, Layout, bool, usize); 67] = [
    ("dynamo_conv_causal_18", "3 -> conv1d 4, kernel 3, stride 2, dilation 2, causal, tanh, no bias -> gru 5", TimeMajor, TimeMajor, false, 0),
    ("dynamo_conv_lstm_20", "3 -> conv1d 4, kernel 3, padding 1 1, relu -> lstm 5 -> last step -> dense 2", BatchFirst, OneStep, false, 0),
    ("dynamo_conv_window_22", "3 -> conv1d 6, kernel 12, relu -> dense 2", BatchFirst, OneStep, false, 0),
    ("dynamo_every_step_22", "3 -> gru 5 bidirectional -> gru 5 bidirectional -> dense 4 -> softmax", TimeMajor, TimeMajor, false, 0),
    ("dynamo_final_state_21", "3 -> gru 4 bidirectional -> gru 4 bidirectional -> final state -> dense 2 tanh", BatchFirst, OneStep, false, 0),
    ("dynamo_gru_batch_first_18", "3 -> gru 4", BatchFirst, BatchFirst, false, 0),
    ("dynamo_last_step_18", "3 -> lstm 6 -> last step -> dense 4 -> softmax", BatchFirst, OneStep, false, 0),
    ("dynamo_lstm_2_bi_18", "2 -> lstm 3 bidirectional -> lstm 3 bidirectional", TimeMajor, TimeMajor, false, 0),
    ("dynamo_lstm_states_20", "3 -> lstm 5", TimeMajor, TimeMajor, false, 2),
    ("dynamo_residual_19", "4 -> lstm 4 -> residual from layer 0 -> dense 6 relu -> dense 2 sigmoid", TimeMajor, TimeMajor, false, 0),
    ("dynamo_rnn_relu_22", "3 -> rnn 5 relu", TimeMajor, TimeMajor, false, 0),
    ("dynamo_tokens_20", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11", BatchFirst, BatchFirst, false, 0),
    ("keras2_bidirectional_gru_13", "3 -> gru 4 bidirectional -> dense 2", BatchFirst, BatchFirst, false, 0),
    ("keras2_bidirectional_lstm_15", "3 -> lstm 4 bidirectional -> dense 3 tanh", BatchFirst, BatchFirst, false, 0),
    ("keras2_bidirectional_lstm_last_15", "3 -> lstm 4 bidirectional -> final state -> dense 2", BatchFirst, OneStep, false, 0),
    ("keras2_fixed_length_15", "3 -> lstm 5 -> dense 2 relu", BatchFirst, BatchFirst, false, 0),
    ("keras2_gru_15", "3 -> gru 5", BatchFirst, BatchFirst, false, 0),
    ("keras2_gru_last_15", "3 -> gru 4 -> last step -> dense 3 -> softmax", BatchFirst, OneStep, false, 0),
    ("keras2_no_bias_15", "3 -> lstm 4", BatchFirst, BatchFirst, false, 0),
    ("keras2_per_step_15", "3 -> gru 4 -> dense 3 relu", BatchFirst, BatchFirst, false, 0),
    ("keras2_stacked_12", "3 -> lstm 6 -> lstm 4 -> last step -> dense 5 -> softmax", BatchFirst, OneStep, false, 0),
    ("keras2_tokens_12", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11 -> softmax", BatchFirst, BatchFirst, false, 0),
    ("keras3_bidirectional_gru_15", "3 -> gru 4 bidirectional -> dense 2", BatchFirst, BatchFirst, false, 0),
    ("keras3_bidirectional_gru_last_18", "3 -> gru 4 bidirectional -> final state -> dense 2 sigmoid", BatchFirst, OneStep, false, 0),
    ("keras3_bidirectional_lstm_15", "3 -> lstm 4 bidirectional -> dense 3 tanh", BatchFirst, BatchFirst, false, 0),
    ("keras3_bidirectional_lstm_last_15", "3 -> lstm 4 bidirectional -> final state -> dense 2", BatchFirst, OneStep, false, 0),
    ("keras3_bidirectional_lstm_sum_15", "3 -> lstm 4 bidirectional sum", BatchFirst, BatchFirst, false, 0),
    ("keras3_fixed_length_18", "3 -> lstm 5 -> dense 2 relu", BatchFirst, BatchFirst, false, 0),
    ("keras3_gru_18", "3 -> gru 5", BatchFirst, BatchFirst, false, 0),
    ("keras3_gru_backwards_15", "3 -> gru 4 reverse -> final state -> dense 2", BatchFirst, OneStep, false, 0),
    ("keras3_hard_sigmoid_15", "3 -> lstm 4 hard_sigmoid(0.16666667, 0.5) softsign softsign, bidirectional", BatchFirst, BatchFirst, false, 0),
    ("keras3_loops_without_bias_15", "3 -> gru 4 no biases -> rnn 4 no biases", BatchFirst, BatchFirst, false, 0),
    ("keras3_lstm_15", "3 -> lstm 5", BatchFirst, BatchFirst, false, 0),
    ("keras3_lstm_last_15", "3 -> lstm 4 -> last step -> dense 2 sigmoid", BatchFirst, OneStep, false, 0),
    ("keras3_masked_15", "3 -> gru 4 -> last step -> dense 2", BatchFirst, OneStep, false, 0),
    ("keras3_masked_bidirectional_15", "3 -> lstm 4 bidirectional -> gru 3 -> last step", BatchFirst, OneStep, false, 0),
    ("keras3_masked_tokens_18", "1 -> embedding 4 of 11 tokens -> gru 6 -> last step -> dense 1 sigmoid", BatchFirst, OneStep, false, 0),
    ("keras3_stacked_15", "3 -> lstm 6 -> lstm 4 -> last step -> dense 5 -> softmax", BatchFirst, OneStep, false, 0),
    ("keras3_stacked_loops_15", "3 -> gru 5 -> rnn 4 relu -> gru 3 reset before -> last step -> dense 2 -> softmax", BatchFirst, OneStep, false, 0),
    ("keras3_tokens_15", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11 -> softmax", BatchFirst, BatchFirst, false, 0),
    ("keras3_unrolled_18", "3 -> lstm 4 -> gru 3 -> last step -> dense 2 tanh", BatchFirst, OneStep, false, 0),
    ("keras3_unrolled_bidirectional_18", "3 -> gru 4 bidirectional -> rnn 3 -> dense 2", BatchFirst, BatchFirst, false, 0),
    ("pytorch_conv_causal_17", "3 -> conv1d 4, kernel 3, stride 2, dilation 2, causal, tanh, no bias -> gru 5", TimeMajor, TimeMajor, false, 0),
    ("pytorch_conv_lstm_11", "3 -> conv1d 4, kernel 3, padding 1 1, relu -> lstm 5 -> last step -> dense 2", BatchFirst, OneStep, false, 0),
    ("pytorch_conv_window_13", "3 -> conv1d 6, kernel 12, relu -> dense 2", BatchFirst, OneStep, false, 0),
    ("pytorch_every_step_12", "3 -> gru 5 bidirectional -> gru 5 bidirectional -> dense 4 -> softmax", TimeMajor, TimeMajor, false, 0),
    ("pytorch_every_step_15", "3 -> gru 5 bidirectional -> gru 5 bidirectional -> dense 4 -> softmax", TimeMajor, TimeMajor, false, 0),
    ("pytorch_final_state_11", "3 -> gru 4 bidirectional -> gru 4 bidirectional -> final state -> dense 2 tanh", BatchFirst, OneStep, false, 0),
    ("pytorch_final_state_17", "3 -> gru 4 bidirectional -> gru 4 bidirectional -> final state -> dense 2 tanh", BatchFirst, OneStep, false, 0),
    ("pytorch_gru_2_bi_batch_first_16", "3 -> gru 4 bidirectional -> gru 4 bidirectional", BatchFirst, BatchFirst, false, 0),
    ("pytorch_gru_lengths_14", "3 -> gru 4 -> gru 4", BatchFirst, BatchFirst, true, 0),
    ("pytorch_gru_states_12", "3 -> gru 5 -> gru 5", TimeMajor, TimeMajor, false, 2),
    ("pytorch_gru_states_8", "3 -> gru 5", TimeMajor, TimeMajor, false, 1),
    ("pytorch_last_step_13", "3 -> lstm 6 -> last step -> dense 4 -> softmax", BatchFirst, OneStep, false, 0),
    ("pytorch_last_step_18", "3 -> lstm 6 -> last step -> dense 4 -> softmax", BatchFirst, OneStep, false, 0),
    ("pytorch_last_step_9", "3 -> lstm 6 -> last step -> dense 4 -> softmax", BatchFirst, OneStep, false, 0),
    ("pytorch_lstm_2_bi_10", "2 -> lstm 3 bidirectional -> lstm 3 bidirectional", TimeMajor, TimeMajor, false, 0),
    ("pytorch_lstm_batch_first_11", "4 -> lstm 7", BatchFirst, BatchFirst, false, 0),
    ("pytorch_lstm_lengths_9", "3 -> lstm 4 bidirectional", TimeMajor, TimeMajor, true, 0),
    ("pytorch_lstm_nobias_17", "3 -> lstm 4 no biases -> lstm 4 no biases", TimeMajor, TimeMajor, false, 0),
    ("pytorch_lstm_states_7", "3 -> lstm 5", TimeMajor, TimeMajor, false, 2),
    ("pytorch_lstm_states_9", "3 -> lstm 5", TimeMajor, TimeMajor, false, 2),
    ("pytorch_residual_14", "4 -> lstm 4 -> residual from layer 0 -> dense 6 relu -> dense 2 sigmoid", TimeMajor, TimeMajor, false, 0),
    ("pytorch_rnn_relu_bi_14", "3 -> rnn 4 relu, bidirectional", TimeMajor, TimeMajor, false, 0),
    ("pytorch_rnn_tanh_13", "3 -> rnn 5 -> rnn 5", TimeMajor, TimeMajor, false, 0),
    ("pytorch_tokens_15", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11", BatchFirst, BatchFirst, false, 0),
    ("pytorch_tokens_9", "1 -> embedding 4 of 11 tokens -> lstm 6 -> dense 11", BatchFirst, BatchFirst, false, 0),
];

/// Models that run but are not a network of ours: an output from the last step to the first, and a candidate with a
/// function that no cell here has.
const OTHERS: [(&str, &str); 2] = [
    ("keras2_lstm_reverse_13", "its rows are not ordered by steps and batch"),
    (
        "keras3_swish_18",
        "nor is it part of a cell that is written out: its terms are not those of h = z h' + (1 - z) n",
    ),
];

#[test]
fn exported_models_become_networks() {
    let mut failures = Failures::new();
    for (name, network, input, output, lengths, states) in NETWORKS {
        failures.check(name, || {
            let imported = read(name).import().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(imported.config.to_string(), network);
            assert_eq!((imported.input.1, imported.output.1), (input, output), "layouts");
            assert_eq!((imported.lengths.is_some(), imported.states.len()), (lengths, states));
            imported.parameters.check(&imported.config).unwrap();
        });
    }
    failures.finish();
}

#[test]
fn every_model_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let missing = names.filter_map(|name| {
        let name = name.strip_suffix(".onnx")?;
        let listed = NETWORKS.iter().any(|row| row.0 == name) || OTHERS.iter().any(|row| row.0 == name);
        // ONNX's node cases take their weights as inputs.
        (!listed && !name.starts_with("test_")).then(|| name.to_owned())
    });
    assert_eq!(missing.collect::<Vec<String>>(), Vec::<String>::new());
}

#[test]
fn a_graph_that_is_no_chain_is_refused_with_the_node() {
    let mut failures = Failures::new();
    for (name, problem) in OTHERS {
        failures.check(name, || {
            let error = read(name).import().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        });
    }
    failures.finish();
    let error = read("test_lstm_defaults").import().unwrap_err().to_string();
    assert_eq!(error, "node Y_h (LSTM): its weights are not constant");
}

#[test]
fn a_mask_is_the_number_that_the_model_looks_for() {
    let mask = |name: &str| read(name).import().unwrap().mask;
    assert_eq!(mask("keras3_masked_15"), Some(0.0));
    assert_eq!(mask("keras3_masked_bidirectional_15"), Some(-1.0));
    assert_eq!(mask("keras3_masked_tokens_18"), Some(0.0));
    assert_eq!(mask("keras3_gru_18"), None);
}

#[test]
fn states_are_rows_of_the_inputs() {
    let state = |input: &str, row, layer, cell| GivenState { input: input.into(), row, layer, cell };
    let given = |name: &str| read(name).import().unwrap().states;
    assert_eq!(given("pytorch_gru_states_12"), [state("h0", 0, 0, false), state("h0", 1, 1, false)]);
    assert_eq!(given("pytorch_lstm_states_9"), [state("h0", 0, 0, false), state("c0", 0, 0, true)]);
}
