//! Networks written as ONNX models and run by another program: rten, a runtime of ONNX models in Rust. It runs LSTM and
//! GRU with the default functions; it has no RNN, no reset gate before the product, no lengths, peepholes, clipping or
//! coupled gates, and no dropout. Those are compared with what onnxruntime gave for the same files, in `frozen.rs`.

use gatefold::{Device, Network, Sequences, States};
use gatefold_check::{Failures, Tolerance, assert_close};
use gatefold_model::{
    Activation, Biases, Bridge, Conv1dConfig, DecoderConfig, DenseConfig, Direction, EmbeddingConfig,
    Expansion, GruConfig, InitialState, LayerConfig, LstmConfig, Merge, NetworkConfig, ParallelConfig,
    Parameters, branch,
};
use gatefold_onnx::{ExportOptions, export};
use ndarray::{Array2, Array3, ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rten_tensor::AsView;

const STEPS: usize = 5;
const BATCH: usize = 3;

/// Numbers around 0, all different.
fn random(shape: &[usize], seed: u64) -> ArrayD<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    ArrayD::from_shape_simple_fn(IxDyn(shape), || random.random_range(-0.9..0.9))
}

fn parameters(config: &NetworkConfig) -> Parameters {
    let specs = config.parameter_specs().zip(100..);
    specs.map(|(spec, seed)| (spec.name.clone(), random(&spec.shape, seed))).collect()
}

fn tensor(array: &ArrayD<f32>) -> rten::Value {
    rten_tensor::Tensor::from_data(array.shape(), array.iter().copied().collect::<Vec<f32>>()).into()
}

/// Runs a model with rten.
fn rten_outputs(bytes: Vec<u8>, inputs: Vec<(&str, rten::Value)>, outputs: &[&str]) -> Vec<ArrayD<f32>> {
    let model = rten::Model::load(bytes).unwrap();
    let inputs =
        inputs.into_iter().map(|(name, value)| (model.node_id(name).unwrap(), value.into())).collect();
    let ids: Vec<_> = outputs.iter().map(|name| model.node_id(name).unwrap()).collect();
    let results = model.run(inputs, &ids, None).unwrap();
    let array = |value: rten::Value| {
        let tensor: rten_tensor::Tensor<f32> = value.try_into().unwrap();
        use rten_tensor::Layout;
        ArrayD::from_shape_vec(IxDyn(tensor.shape()), tensor.to_vec()).unwrap()
    };
    results.into_iter().map(array).collect()
}

/// The most terms of the sums that an element goes through: three layers of 20 inputs and states.
const TERMS: usize = 60;

fn check(name: &str, found: &ArrayD<f32>, expected: &ArrayD<f32>) {
    assert_eq!(found.shape(), expected.shape(), "{name}: the shape");
    let expected: Vec<f64> = expected.iter().map(|&value| f64::from(value)).collect();
    let found: Vec<f32> = found.iter().copied().collect();
    // Both programs round.
    assert_close(name, &[("element", expected.len())], &found, &expected, Tolerance::output(TERMS).times(2));
}

/// The engine's output in the model's shape: a single step has no axis.
fn own_output(network: &Network, sequences: &Sequences, states: Option<&States>) -> (ArrayD<f32>, States) {
    let forward = network.forward(sequences, states).unwrap();
    let output = forward.output.into_dyn();
    let single = matches!(network.config().timeline(), gatefold_model::Timeline::Single);
    let output = if single { output.index_axis_move(ndarray::Axis(0), 0) } else { output };
    (output, forward.states)
}

/// Compares the engine's output for a network with rten's.
fn compare(failures: &mut Failures, input: usize, layers: impl Into<Vec<LayerConfig>>) {
    let config = NetworkConfig::new(input, layers).unwrap();
    failures.check(config.to_string(), || {
        let parameters = parameters(&config);
        let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
        let x = random(&[STEPS, BATCH, input], 1);
        let sequences = Sequences::time_major(x.clone().into_dimensionality().unwrap());
        let (expected, _) = own_output(&network, &sequences, None);
        let bytes = export(&config, &parameters, ExportOptions::new()).unwrap();
        let found = rten_outputs(bytes, vec![("input", tensor(&x))], &["output"]);
        check("output", &found[0], &expected);
    });
}

#[test]
fn recurrent_layers_in_every_direction() {
    use Direction::{Bidirectional, BidirectionalSum, Forward, Reverse};
    let mut failures = Failures::new();
    for direction in [Forward, Reverse, Bidirectional, BidirectionalSum] {
        for biases in [Biases::Two, Biases::One, Biases::None] {
            compare(&mut failures, 4, [LstmConfig::new(5).direction(direction).biases(biases).into()]);
            compare(&mut failures, 4, [GruConfig::new(5).direction(direction).biases(biases).into()]);
        }
    }
    failures.finish();
}

#[test]
fn layers_around_recurrent_ones() {
    let mut failures = Failures::new();
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Affine { alpha: 0.5, beta: -0.25 },
        Activation::LeakyRelu { alpha: 0.2 },
        Activation::ScaledTanh { alpha: 0.7, beta: 0.6 },
        Activation::HardSigmoid { alpha: 0.3, beta: 0.4 },
        Activation::Elu { alpha: 0.8 },
        Activation::Softsign,
        Activation::Softplus,
    ] {
        compare(
            &mut failures,
            3,
            [DenseConfig::new(4).activation(activation).into(), LstmConfig::new(2).into()],
        );
    }
    let bidirectional = || LayerConfig::from(LstmConfig::new(3).direction(Direction::Bidirectional));
    compare(
        &mut failures,
        3,
        [bidirectional(), LayerConfig::FinalState, DenseConfig::new(2).into(), LayerConfig::Softmax],
    );
    compare(
        &mut failures,
        3,
        [bidirectional(), LayerConfig::LastStep, DenseConfig::new(2).bias(false).into()],
    );
    compare(&mut failures, 6, [bidirectional(), LayerConfig::Residual { from: 0 }]);
    let linear = [branch().gru(4).last_step().dense(2), branch().last_step().dense(2)];
    compare(&mut failures, 3, [ParallelConfig::new(Merge::Sum, linear).into()]);
    let inner =
        ParallelConfig::new(Merge::Sum, [branch().final_state().dense(3), branch().last_step().dense(3)]);
    let branches =
        [branch().layer(LstmConfig::new(4)).layer(inner), branch().last_step(), branch().gru(2).last_step()];
    compare(&mut failures, 3, [ParallelConfig::new(Merge::Concatenate, branches).into()]);
    let gru = |initial| LayerConfig::from(GruConfig::new(4).initial_state(initial));
    compare(
        &mut failures,
        3,
        [gru(InitialState::Learned), gru(InitialState::Constant(0.3)), bidirectional()],
    );
    for fill in [Expansion::Zeros, Expansion::Repeat] {
        let layers = [
            LstmConfig::new(4).into(),
            LayerConfig::LastStep,
            LayerConfig::Expand { steps: 4, fill },
            LstmConfig::new(3).into(),
        ];
        compare(&mut failures, 3, layers);
    }
    // The same layer twice.
    compare(&mut failures, 4, [GruConfig::new(4).into(), LayerConfig::Tied { to: 0 }]);
    failures.finish();
}

#[test]
fn convolutions() {
    let conv = |output, kernel| Conv1dConfig::new(output, kernel);
    let mut failures = Failures::new();
    compare(
        &mut failures,
        3,
        [conv(4, STEPS).activation(Activation::Relu).into(), DenseConfig::new(2).into()],
    );
    compare(&mut failures, 3, [conv(3, 2).causal().dilation(2).into(), LayerConfig::Residual { from: 0 }]);
    for padded in [conv(4, 3).padding(2, 1), conv(4, 2).padding(0, 3).stride(2).dilation(3).bias(false)] {
        let layers = [GruConfig::new(3).into(), padded.into(), LstmConfig::new(3).bidirectional().into()];
        compare(&mut failures, 2, layers);
    }
    failures.finish();
}

#[test]
fn tokens() {
    let layers = [EmbeddingConfig::new(7, 4).into(), LstmConfig::new(5).into(), DenseConfig::new(7).into()];
    let config = NetworkConfig::new(1, layers).unwrap();
    let parameters = parameters(&config);
    let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
    let tokens = Array2::from_shape_fn((STEPS, BATCH), |(t, b)| ((3 * t + 5 * b) % 7) as u32);
    let (expected, _) = own_output(&network, &Sequences::tokens(tokens.view()), None);
    let bytes = export(&config, &parameters, ExportOptions::new()).unwrap();
    // rten keeps whole numbers in 32 bits.
    let values = tokens.iter().map(|&token| token as i32).collect::<Vec<i32>>();
    let values: rten::Value = rten_tensor::Tensor::from_data(&[STEPS, BATCH], values).into();
    check("tokens", &rten_outputs(bytes, vec![("input", values)], &["output"])[0], &expected);
}

#[test]
fn states_in_and_out_and_the_batch_first() {
    let layers = [LstmConfig::new(4).direction(Direction::Bidirectional).into(), GruConfig::new(2).into()];
    let config = NetworkConfig::new(3, layers).unwrap();
    let parameters = parameters(&config);
    let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
    let x: Array3<f32> = random(&[BATCH, STEPS, 3], 1).into_dimensionality().unwrap();
    let mut states = States::zeros(&config, BATCH);
    let given = [random(&[2, BATCH, 4], 2), random(&[2, BATCH, 4], 3), random(&[1, BATCH, 2], 4)];
    let three = |array: &ArrayD<f32>| array.clone().into_dimensionality().unwrap();
    states.layers[0].h = three(&given[0]);
    states.layers[0].c = Some(three(&given[1]));
    states.layers[1].h = three(&given[2]);
    let (expected, finals) = own_output(&network, &Sequences::batch_first(x.view()), Some(&states));
    let bytes = export(&config, &parameters, ExportOptions::new().states(true).batch_first(true)).unwrap();
    let inputs = vec![
        ("input", tensor(&x.into_dyn())),
        ("initial_h0", tensor(&given[0])),
        ("initial_c0", tensor(&given[1])),
        ("initial_h1", tensor(&given[2])),
    ];
    let found = rten_outputs(bytes, inputs, &["output", "final_h0", "final_c0", "final_h1"]);
    let expected = expected.permuted_axes(vec![1, 0, 2]).as_standard_layout().into_owned();
    check("output", &found[0], &expected);
    check("final_h0", &found[1], &finals.layers[0].h.clone().into_dyn());
    check("final_c0", &found[2], &finals.layers[0].c.clone().unwrap().into_dyn());
    check("final_h1", &found[3], &finals.layers[1].h.clone().into_dyn());
}

#[test]
fn an_encoder_with_a_decoder() {
    let encoder = || LayerConfig::from(GruConfig::new(3).direction(Direction::Bidirectional));
    let dense = Bridge::Dense { activation: Activation::Tanh };
    let networks: [Vec<LayerConfig>; 2] = [
        vec![encoder(), DecoderConfig::new(2).into(), GruConfig::new(6).into(), DenseConfig::new(2).into()],
        vec![encoder(), DecoderConfig::new(2).bridge(dense).into(), LstmConfig::new(4).into()],
    ];
    let mut failures = Failures::new();
    for layers in networks {
        let config = NetworkConfig::new(3, layers).unwrap();
        failures.check(config.to_string(), || {
            let parameters = parameters(&config);
            let network = Network::with_parameters(&Device::cpu().unwrap(), &config, &parameters).unwrap();
            let (x, y) = (random(&[STEPS, BATCH, 3], 1), random(&[STEPS + 2, BATCH, 2], 2));
            let three =
                |array: &ArrayD<f32>| Sequences::time_major(array.clone().into_dimensionality().unwrap());
            let sequences = three(&x).with_decoder(three(&y));
            let (expected, _) = own_output(&network, &sequences, None);
            let bytes = export(&config, &parameters, ExportOptions::new()).unwrap();
            let inputs = vec![("input", tensor(&x)), ("decoder_input", tensor(&y))];
            check("output", &rten_outputs(bytes, inputs, &["output"])[0], &expected);
        });
    }
    failures.finish();
}
