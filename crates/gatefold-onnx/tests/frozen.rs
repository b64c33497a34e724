//! Networks written as ONNX models are byte for byte those in tests/fixtures/exported, and compute what onnxruntime
//! computed for them. They use what the runtime in `independent.rs` lacks.

use gatefold::{Device, Network, Sequences, States};
use gatefold_check::{Failures, Tolerance, assert_close};
use gatefold_model::{
    Activation, Conv1dConfig, Coupling, DenseConfig, Direction, GruActivations, GruConfig, LayerConfig,
    LstmActivations, LstmConfig, NetworkConfig, Parameters, Reset, RnnConfig, Timeline,
};
use gatefold_onnx::{ExportOptions, export};
use ndarray::{Array3, ArrayD, Axis, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/exported")
}

/// Name, network, and whether lengths and states are inputs.
fn networks() -> Vec<(&'static str, Vec<LayerConfig>, bool, bool)> {
    let bidirectional = Direction::Bidirectional;
    let hard = Activation::HardSigmoid { alpha: 0.3, beta: 0.4 };
    let affine = Activation::Affine { alpha: 0.8, beta: 0.1 };
    vec![
        ("rnn", vec![RnnConfig::new(5).into()], false, true),
        (
            "rnn_relu_bidirectional_lengths",
            vec![
                RnnConfig::new(5)
                    .direction(bidirectional)
                    .activation(Activation::Relu)
                    .reverse_activation(Activation::LeakyRelu { alpha: 0.1 })
                    .into(),
                LayerConfig::FinalState,
            ],
            true,
            true,
        ),
        (
            "rnn_clip_reverse",
            vec![RnnConfig::new(5).direction(Direction::Reverse).clip(0.4).into()],
            true,
            false,
        ),
        (
            "lstm_all",
            vec![
                LstmConfig::new(4)
                    .direction(bidirectional)
                    .peephole()
                    .coupled(Coupling::Input)
                    .clip(0.7)
                    .activations(LstmActivations {
                        gate: hard,
                        candidate: Activation::Tanh,
                        output: Activation::Softsign,
                    })
                    .into(),
            ],
            true,
            true,
        ),
        ("lstm_peephole", vec![LstmConfig::new(4).peephole().into()], false, false),
        (
            "gru_before_last_step",
            vec![
                GruConfig::new(4).reset(Reset::Before).direction(Direction::BidirectionalSum).into(),
                LayerConfig::LastStep,
                DenseConfig::new(3).activation(Activation::ThresholdedRelu { alpha: 0.2 }).into(),
            ],
            true,
            false,
        ),
        (
            "gru_functions",
            vec![
                GruConfig::new(4)
                    .activations(GruActivations { gate: hard, candidate: affine })
                    .clip(1.5)
                    .into(),
                LayerConfig::Dropout { rate: 0.25 },
                LstmConfig::new(3).into(),
            ],
            true,
            false,
        ),
        (
            "convolutions",
            vec![
                Conv1dConfig::new(4, 3)
                    .causal()
                    .dilation(2)
                    .activation(Activation::Elu { alpha: 0.8 })
                    .into(),
                RnnConfig::new(5).into(),
                Conv1dConfig::new(3, 2).padding(1, 2).stride(2).bias(false).into(),
                GruConfig::new(4).reset(Reset::Before).into(),
            ],
            false,
            true,
        ),
    ]
}

/// A fixed network's parameters.
fn parameters(config: &NetworkConfig) -> Parameters {
    let mut random = ChaCha8Rng::seed_from_u64(23);
    let mut array =
        |shape: &[usize]| ArrayD::from_shape_simple_fn(IxDyn(shape), || random.random_range(-0.9..0.9));
    config.parameter_specs().map(|spec| (spec.name.clone(), array(&spec.shape))).collect()
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn f32s(file: &SafeTensors, name: &str) -> ArrayD<f32> {
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    let values =
        view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap()
}

fn three(array: ArrayD<f32>) -> Array3<f32> {
    array.into_dimensionality().unwrap()
}

/// The most terms of the sums that an element goes through: two layers of 9 inputs and states, and a dense layer.
const TERMS: usize = 20;

fn check(name: &str, found: ArrayD<f32>, expected: &ArrayD<f32>) {
    assert_eq!(found.shape(), expected.shape(), "{name}: the shape");
    let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
    let found: Vec<f32> = found.iter().copied().collect();
    // Both programs round.
    assert_close(name, &[("element", expected.len())], &found, &expected, Tolerance::output(TERMS).times(2));
}

#[test]
fn written_models_are_those_that_onnxruntime_ran() {
    let freeze = std::env::var_os("GATEFOLD_FREEZE").is_some();
    let mut failures = Failures::new();
    for (name, layers, lengths, given) in networks() {
        failures.check(name, || {
            let config = NetworkConfig::new(3, layers).unwrap();
            let parameters = parameters(&config);
            let options = ExportOptions::new().lengths(lengths).states(given);
            let bytes = export(&config, &parameters, options).unwrap();
            if freeze {
                std::fs::write(folder().join(format!("{name}.onnx")), &bytes).unwrap();
                return;
            }
            assert!(
                bytes == read(&format!("{name}.onnx")),
                "{name}.onnx has other bytes; see run.py beside it"
            );

            let io = read(&format!("{name}.io.safetensors"));
            let io = SafeTensors::deserialize(&io).unwrap();
            let mut sequences = Sequences::time_major(three(f32s(&io, "input")));
            if lengths {
                let view = io.tensor("lengths").unwrap();
                let lengths =
                    view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as usize);
                sequences = sequences.with_lengths(lengths.collect::<Vec<_>>()).unwrap();
            }
            let mut states = States::zeros(&config, sequences.batch());
            if given {
                for (k, layer) in states.layers.iter_mut().enumerate() {
                    layer.h = three(f32s(&io, &format!("initial_h{k}")));
                    if let Some(c) = &mut layer.c {
                        *c = three(f32s(&io, &format!("initial_c{k}")));
                    }
                }
            }
            let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
            let forward = network.forward(&sequences, given.then_some(&states)).unwrap();
            let single = matches!(config.timeline(), Timeline::Single);
            let output = forward.output.into_dyn();
            let output = if single { output.index_axis_move(Axis(0), 0) } else { output };
            check("output", output, &f32s(&io, "output"));
            for (k, layer) in forward.states.layers.into_iter().enumerate().filter(|_| given) {
                let name = format!("final_h{k}");
                check(&name, layer.h.into_dyn(), &f32s(&io, &name));
                if let Some(c) = layer.c {
                    let name = format!("final_c{k}");
                    check(&name, c.into_dyn(), &f32s(&io, &name));
                }
            }
        });
    }
    failures.finish();
}
