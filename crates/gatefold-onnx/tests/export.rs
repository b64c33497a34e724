//! Networks written as ONNX models and read again.

use gatefold::{Device, Network};
use gatefold_check::Failures;
use gatefold_model::{
    Activation, Biases, Bridge, Conv1dConfig, Coupling, DecoderConfig, DenseConfig, Direction,
    EmbeddingConfig, Expansion, GruActivations, GruConfig, InitialState, LayerConfig, LayerNorm,
    LstmActivations, LstmConfig, Merge, NetworkConfig, ParallelConfig, Parameters, Reset, RnnConfig,
    Timeline, branch,
};
use gatefold_onnx::{ExportOptions, Layout, OnnxModel, Tensor, export};
use ndarray::{Array3, ArrayD, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// A network with random parameters, so that none in a wrong place goes unnoticed.
fn network(input: usize, layers: impl Into<Vec<LayerConfig>>) -> (NetworkConfig, Parameters) {
    let config = NetworkConfig::new(input, layers).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let parameters = config
        .parameter_specs()
        .map(|spec| {
            let values = (0..spec.len()).map(|_| random.random_range(-0.8..0.8)).collect();
            (spec.name.clone(), ArrayD::from_shape_vec(spec.shape.clone(), values).unwrap())
        })
        .collect();
    (config, parameters)
}

fn written(config: &NetworkConfig, parameters: &Parameters, options: ExportOptions) -> OnnxModel {
    let bytes = export(config, parameters, options).unwrap();
    OnnxModel::from_bytes(bytes, Path::new("written.onnx")).unwrap()
}

/// Networks that read back unchanged.
fn networks() -> Vec<(NetworkConfig, Parameters)> {
    let scaled = Activation::ScaledTanh { alpha: 0.7, beta: 0.6 };
    let hard = Activation::HardSigmoid { alpha: 0.3, beta: 0.4 };
    vec![
        network(3, [LstmConfig::new(4).into(), LayerConfig::LastStep, DenseConfig::new(2).into()]),
        network(3, [LstmConfig::new(4).direction(Direction::Bidirectional).biases(Biases::None).into()]),
        network(3, [LstmConfig::new(4).direction(Direction::Reverse).peephole().clip(0.7).into()]),
        network(
            3,
            [
                LstmConfig::new(4).coupled(Coupling::Input).direction(Direction::BidirectionalSum).into(),
                GruConfig::new(5).reset(Reset::Before).initial_state(InitialState::Learned).into(),
                GruConfig::new(5).direction(Direction::Bidirectional).into(),
                LayerConfig::FinalState,
                DenseConfig::new(3).activation(Activation::Relu).into(),
                LayerConfig::Softmax,
            ],
        ),
        network(
            2,
            [
                RnnConfig::new(3)
                    .direction(Direction::Bidirectional)
                    .activation(scaled)
                    .reverse_activation(Activation::Relu)
                    .into(),
                LayerConfig::Dropout { rate: 0.25 },
                LstmConfig::new(3)
                    .activations(LstmActivations {
                        gate: hard,
                        candidate: Activation::Softsign,
                        output: scaled,
                    })
                    .initial_state(InitialState::Learned)
                    .into(),
                GruConfig::new(2)
                    .activations(GruActivations {
                        gate: hard,
                        candidate: Activation::Affine { alpha: 0.5, beta: 0.1 },
                    })
                    .into(),
            ],
        ),
        network(
            3,
            [
                DenseConfig::new(4).activation(Activation::Affine { alpha: 0.5, beta: 0.1 }).into(),
                GruConfig::new(4).into(),
                DenseConfig::new(2).activation(scaled).into(),
            ],
        ),
        network(
            1,
            [
                EmbeddingConfig::new(7, 4).into(),
                LstmConfig::new(4).into(),
                LayerConfig::Residual { from: 1 },
                DenseConfig::new(4).bias(false).into(),
                DenseConfig::new(7).activation(Activation::LeakyRelu { alpha: 0.2 }).bias(false).into(),
            ],
        ),
    ]
}

/// Convolutions before, between and after recurrent layers, over a whole window and over periods.
fn convolutions() -> Vec<(NetworkConfig, Parameters)> {
    let conv = |output, kernel| Conv1dConfig::new(output, kernel);
    let scaled = Activation::ScaledTanh { alpha: 0.7, beta: 0.6 };
    vec![
        network(3, [conv(4, 3).activation(Activation::Relu).into(), LstmConfig::new(5).into()]),
        network(
            3,
            [
                conv(3, 4).causal().dilation(2).bias(false).into(),
                LayerConfig::Residual { from: 0 },
                conv(2, 24).stride(24).activation(scaled).into(),
                LstmConfig::new(2).bidirectional().into(),
                LayerConfig::LastStep,
                DenseConfig::new(2).into(),
            ],
        ),
        network(
            2,
            [
                GruConfig::new(3).into(),
                conv(4, 5)
                    .padding(1, 3)
                    .stride(2)
                    .activation(Activation::Affine { alpha: 0.5, beta: 0.1 })
                    .into(),
                conv(2, 1).into(),
                GruConfig::new(3).into(),
                LayerConfig::FinalState,
            ],
        ),
    ]
}

/// Normalised values, and pools over the steps.
fn pools() -> Vec<(NetworkConfig, Parameters)> {
    let normalise = |epsilon| LayerConfig::Normalise { epsilon };
    let both = || LstmConfig::new(4).direction(Direction::Bidirectional);
    vec![
        network(
            3,
            [
                normalise(1e-5),
                both().into(),
                normalise(0.01),
                LayerConfig::MaxPool,
                DenseConfig::new(2).into(),
            ],
        ),
        network(3, [GruConfig::new(4).into(), LayerConfig::MeanPool, normalise(1e-5)]),
        network(3, [both().into(), LayerConfig::MaxPool]),
    ]
}

#[test]
fn lengths_and_a_pool_are_refused() {
    for (layer, name) in [(LayerConfig::MaxPool, "max pool"), (LayerConfig::MeanPool, "mean pool")] {
        let (config, parameters) = network(3, [GruConfig::new(2).into(), layer]);
        let refused = export(&config, &parameters, ExportOptions::new().lengths(true)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "layer 1 ({name}): ONNX's ReduceMax and ReduceMean know no lengths and read past the ends of rows; write the \
                 network without lengths"
            )
        );
    }
}

/// The graph of a network that pools, run as a graph, gives the network's outputs.
#[test]
fn pools_compute_the_same_as_their_graphs() {
    let device = Device::cpu().unwrap();
    let mut failures = Failures::new();
    for (config, parameters) in pools() {
        failures.check(config.to_string(), || {
            let x = Array3::from_shape_fn((6, 2, 3), |(t, b, k)| ((t * 7 + b * 3 + k) as f32 * 0.61).sin());
            let model = written(&config, &parameters, ExportOptions::new());
            let inputs = [("input".to_owned(), Tensor::from(x.clone()))].into_iter().collect();
            let outputs = model.run(&device, &inputs).unwrap();
            let Some(Tensor::F32(expected)) = outputs.values().next() else { panic!("an output of float32") };
            let network = Network::with_parameters(&device, &config, &parameters).unwrap();
            let found = network.predict(&x).unwrap();
            assert_eq!(found.len(), expected.len());
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "off by {worst}");
        });
    }
    failures.finish();
}

#[test]
fn lengths_and_a_convolution_are_refused() {
    let (config, parameters) = network(3, [Conv1dConfig::new(2, 3).causal().into()]);
    let refused = export(&config, &parameters, ExportOptions::new().lengths(true)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "layer 0 (conv1d): ONNX's Conv knows no lengths and reads past the ends of rows; write the network without lengths"
    );
}

#[test]
fn a_written_network_reads_back_unchanged() {
    let mut failures = Failures::new();
    for (config, parameters) in networks().into_iter().chain(convolutions()).chain(pools()) {
        for batch_first in [false, true] {
            failures.check(format!("{config}, batch first {batch_first}"), || {
                let options = ExportOptions::new().batch_first(batch_first);
                let model = written(&config, &parameters, options);
                let imported = model.import().unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(imported.config.to_string(), config.to_string());
                assert_eq!(imported.parameters, parameters);
                let layout = if batch_first { Layout::BatchFirst } else { Layout::TimeMajor };
                assert_eq!(imported.input, ("input".into(), layout));
            });
        }
    }
    failures.finish();
}

#[test]
fn lengths_and_states_are_inputs_if_the_options_say_so() {
    let layers = [LstmConfig::new(4).direction(Direction::Bidirectional).into(), GruConfig::new(2).into()];
    let (config, parameters) = network(3, layers);
    let model = written(&config, &parameters, ExportOptions::new().lengths(true).states(true));
    let names =
        |ports: &[gatefold_onnx::Port]| -> Vec<String> { ports.iter().map(|p| p.to_string()).collect() };
    assert_eq!(
        names(model.inputs()),
        [
            "input float32 [steps, batch, 3]",
            "lengths int32 [batch]",
            "initial_h0 float32 [2, batch, 4]",
            "initial_c0 float32 [2, batch, 4]",
            "initial_h1 float32 [1, batch, 2]",
        ]
    );
    assert_eq!(
        names(model.outputs()),
        [
            "output float32 [steps, batch, 2]",
            "final_h0 float32 [2, batch, 4]",
            "final_c0 float32 [2, batch, 4]",
            "final_h1 float32 [1, batch, 2]",
        ]
    );
    let imported = model.import().unwrap();
    assert_eq!(imported.lengths.as_deref(), Some("lengths"));
    assert_eq!(imported.states.len(), 3);
    assert_eq!(imported.parameters, parameters);
}

#[test]
fn the_last_step_of_rows_of_any_length_reads_back() {
    let mut failures = Failures::new();
    for layers in [
        vec![LstmConfig::new(4).direction(Direction::Bidirectional).into(), LayerConfig::LastStep],
        vec![
            GruConfig::new(4).into(),
            DenseConfig::new(3).activation(Activation::Relu).into(),
            LayerConfig::LastStep,
            DenseConfig::new(2).into(),
            LayerConfig::Softmax,
        ],
    ] {
        let (config, parameters) = network(3, layers);
        for batch_first in [false, true] {
            failures.check(format!("{config}, batch first {batch_first}"), || {
                let options = ExportOptions::new().lengths(true).batch_first(batch_first);
                let imported = written(&config, &parameters, options).import().unwrap();
                assert_eq!(imported.config.to_string(), config.to_string());
                assert_eq!(imported.parameters, parameters);
                assert_eq!(imported.output.1, Layout::OneStep);
            });
        }
    }
    failures.finish();
}

#[test]
fn one_bias_becomes_two_and_a_constant_initial_state_a_learned_one() {
    let (config, parameters) =
        network(3, [GruConfig::new(4).biases(Biases::One).initial_state(InitialState::Constant(0.5)).into()]);
    let imported = written(&config, &parameters, ExportOptions::new()).import().unwrap();
    assert_eq!(imported.config.to_string(), "3 -> gru 4 learned initial state");
    assert_eq!(imported.parameters["rnn0.bias_ih_l0"], parameters["rnn0.bias_ih_l0"]);
    assert!(imported.parameters["rnn0.bias_hh_l0"].iter().all(|&value| value == 0.0));
    assert!(imported.parameters["rnn0.h0_l0"].iter().all(|&value| value == 0.5));
}

#[test]
fn what_onnx_lacks_is_refused_by_name() {
    let dense = || LayerConfig::from(DenseConfig::new(2));
    let lstm = || LstmConfig::new(4);
    let without =
        |what: &str| format!("{what}; save the network as .safetensors, or build the layer without it");
    let mut failures = Failures::new();
    for (layers, problem) in [
        (vec![lstm().projection(2).into()], without("layer 0 (lstm): ONNX's LSTM has no projection")),
        (
            vec![dense(), lstm().squashed().into()],
            without("layer 1 (lstm): ONNX's LSTM has no squashed cell"),
        ),
        (
            vec![lstm().coupled(Coupling::Forget).into()],
            "layer 0 (lstm): ONNX's LSTM couples its gates only as f = 1 - i".into(),
        ),
        (
            vec![RnnConfig::new(4).skip(3).into()],
            without("layer 0 (rnn): ONNX's RNN has no second recurrence"),
        ),
        (
            vec![GruConfig::new(4).dilation(3).bidirectional().into()],
            "layer 0 (gru): ONNX has no dilation, and it can be written in direction forward only".into(),
        ),
        (
            vec![GruConfig::new(4).feedback(2, Activation::Identity).into()],
            without("layer 0 (gru): ONNX's GRU has no readout that feeds back"),
        ),
        (
            vec![dense(), lstm().layer_norm(LayerNorm::default()).into()],
            without("layer 1 (lstm): ONNX's LSTM has no layer normalisation"),
        ),
        (
            vec![GruConfig::new(4).layer_norm(LayerNorm::default()).bidirectional().into()],
            without("layer 0 (gru): ONNX's GRU has no layer normalisation"),
        ),
        (
            vec![lstm().zoneout(0.1).into()],
            without("layer 0 (lstm): ONNX's LSTM has no zoneout, which inference averages"),
        ),
        (
            vec![lstm().into(), lstm().zoneout_cell(0.1).into()],
            without("layer 1 (lstm): ONNX's LSTM has no zoneout, which inference averages"),
        ),
        (
            vec![RnnConfig::new(4).zoneout(0.2).into()],
            without("layer 0 (rnn): ONNX's RNN has no zoneout, which inference averages"),
        ),
    ] {
        failures.check(problem.clone(), || {
            let (config, parameters) = network(3, layers);
            let error = export(&config, &parameters, ExportOptions::new()).unwrap_err();
            assert_eq!(error.to_string(), problem);
        });
    }
    failures.finish();
    let (config, _) = network(3, [dense()]);
    assert!(export(&config, &Parameters::default(), ExportOptions::new()).is_err());
}

/// Masks end with training, so the graph of such a layer is that of the plain one.
#[test]
fn noise_of_training_leaves_no_trace() {
    let mut failures = Failures::new();
    let layers: [(LayerConfig, LayerConfig); 3] = [
        (LstmConfig::new(4).recurrent_dropout(0.3).candidate_dropout(0.2).into(), LstmConfig::new(4).into()),
        (GruConfig::new(4).drop_connect(0.5).into(), GruConfig::new(4).into()),
        (RnnConfig::new(4).recurrent_dropout(0.3).into(), RnnConfig::new(4).into()),
    ];
    for (noisy, plain) in layers {
        let (config, parameters) = network(3, [noisy]);
        failures.check(config.to_string(), || {
            let imported = written(&config, &parameters, ExportOptions::new()).import().unwrap();
            assert_eq!(imported.config, NetworkConfig::new(3, [plain]).unwrap());
            assert_eq!(imported.parameters, parameters);
        });
    }
    failures.finish();
}

/// A dilated layer becomes a plain operator between two changes of shape, at any number of steps.
#[test]
fn a_dilated_layer_is_a_plain_one_over_interleaved_sequences() {
    let learned = InitialState::Learned;
    let stack = || {
        vec![
            LstmConfig::new(4).dilation(3).initial_state(learned).into(),
            GruConfig::new(4).dilation(2).into(),
            LayerConfig::Residual { from: 1 },
            RnnConfig::new(3).dilation(5).initial_state(InitialState::Constant(0.5)).into(),
        ]
    };
    let mut failures = Failures::new();
    for end in [None, Some(LayerConfig::LastStep), Some(LayerConfig::FinalState)] {
        let (config, parameters) = network(2, [stack(), end.into_iter().collect()].concat());
        let device = Device::cpu().unwrap();
        let engine = Network::with_parameters(&device, &config, &parameters).unwrap();
        let model = written(&config, &parameters, ExportOptions::new());
        assert!(model.import().is_err(), "what it would be read back as has no dilation");
        let mut session = model.on(&device);
        for steps in [1, 2, 6, 7, 15] {
            failures.check(format!("{config}, {steps} steps"), || {
                let input =
                    Array3::from_shape_fn((steps, 3, 2), |(t, b, k)| ((7 * t + 3 * b + k) as f32).sin());
                let inputs = [("input".to_owned(), Tensor::F32(input.clone().into_dyn()))];
                let found = session.run(&inputs.into()).unwrap();
                let expected = engine.predict(&input).unwrap();
                let expected = if config.timeline() == Timeline::Single {
                    expected.index_axis_move(Axis(0), 0).into_dyn()
                } else {
                    expected.into_dyn()
                };
                let Tensor::F32(found) = &found["output"] else { panic!("an output of another type") };
                assert_eq!(found.shape(), expected.shape());
                for (found, expected) in found.iter().zip(&expected) {
                    // Both run the same products on the CPU, over other groups of rows.
                    assert!((found - expected).abs() <= 1e-6, "found {found}, expected {expected}");
                }
            });
        }
    }
    failures.finish();
}

#[test]
fn a_dilated_layer_with_lengths_states_or_a_decoder_is_refused() {
    let (config, parameters) = network(3, [LstmConfig::new(4).dilation(2).into()]);
    let decoder = network(
        3,
        [LstmConfig::new(4).dilation(2).into(), DecoderConfig::new(2).into(), LstmConfig::new(4).into()],
    );
    for (config, parameters, options, how) in [
        (&config, &parameters, ExportOptions::new().lengths(true), "without lengths only"),
        (&config, &parameters, ExportOptions::new().states(true), "without its states only"),
        (&decoder.0, &decoder.1, ExportOptions::new(), "in a network without a decoder only"),
    ] {
        let refused = export(config, parameters, options).unwrap_err().to_string();
        let expected = format!("layer 0 (lstm): ONNX has no dilation, and it can be written {how}");
        assert_eq!(refused, expected);
    }
}

/// A chain of layers is all that a graph is turned into; what it would make of branches would be another network.
#[test]
fn branches_are_not_read_back() {
    let mut failures = Failures::new();
    for merge in [Merge::Sum, Merge::Concatenate] {
        for branches in [
            [branch().gru(3), branch().dense(3)],
            [branch().dense(3), branch().gru(3)],
            [branch().dense(3), branch().dense(3)],
            [branch().gru(3).last_step(), branch().last_step()],
        ] {
            let (config, parameters) = network(3, [ParallelConfig::new(merge, branches).into()]);
            failures.check(config.to_string(), || {
                let refused = written(&config, &parameters, ExportOptions::new()).import().unwrap_err();
                let refused = refused.to_string();
                let reasons = ["branches are not supported", "it is not a residual connection"];
                assert!(reasons.iter().any(|reason| refused.contains(reason)), "{refused}");
            });
        }
    }
    failures.finish();
}

#[test]
fn an_encoder_and_a_decoder_are_one_graph() {
    let (config, parameters) = network(
        3,
        [
            LstmConfig::new(4).direction(Direction::Bidirectional).into(),
            DecoderConfig::new(2).bridge(Bridge::Dense { activation: Activation::Tanh }).into(),
            LstmConfig::new(5).into(),
            DenseConfig::new(2).into(),
        ],
    );
    let model = written(&config, &parameters, ExportOptions::new());
    let names: Vec<String> = model.inputs().iter().map(|port| port.to_string()).collect();
    assert_eq!(names, ["input float32 [steps, batch, 3]", "decoder_input float32 [decoder_steps, batch, 2]"]);
    let layers = [LayerConfig::Expand { steps: 3, fill: Expansion::Zeros }, RnnConfig::new(2).into()];
    let (config, parameters) = network(3, layers);
    let model = written(&config, &parameters, ExportOptions::new());
    assert_eq!(model.inputs()[0].to_string(), "input float32 [1, batch, 3]");
    assert_eq!(model.outputs()[0].to_string(), "output float32 [3, batch, 2]");
}
