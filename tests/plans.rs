//! Plans, read and counted without a device.

use gatefold::layers::{Activation, DenseConfig, LayerConfig, LstmConfig};
use gatefold::schedule::{MemoryNeed, Plan, Shape, Target, memory_need, schedule};
use gatefold::training::ParameterGroup;
use gatefold::{NetworkConfig, TrainConfig};
use gatefold_check::{Failures, test_gpu};

fn planned(config: &NetworkConfig, (steps, batch): (usize, usize), training: Option<&TrainConfig>) -> Plan {
    schedule(config, &Target::webgpu(), Shape::plain(config, steps, batch), training).unwrap()
}

fn need(
    config: &NetworkConfig,
    (steps, batch): (usize, usize),
    training: Option<&TrainConfig>,
) -> MemoryNeed {
    memory_need(config, &Target::webgpu(), Shape::plain(config, steps, batch), training).unwrap()
}

/// An LSTM, its last step, a dense layer.
fn small() -> NetworkConfig {
    let layers = [LstmConfig::new(4).into(), LayerConfig::LastStep, DenseConfig::new(2).into()];
    NetworkConfig::new(3, layers).unwrap()
}

/// Compares line by line, so that a failure shows the first difference.
fn assert_plan(found: &Plan, expected: &str) {
    let found = found.to_string();
    for (number, (found, expected)) in found.lines().zip(expected.trim_start().lines()).enumerate() {
        assert_eq!(found, expected, "line {number}");
    }
    assert_eq!(found.lines().count(), expected.trim_start().lines().count(), "{found}");
}

#[test]
fn a_prediction() {
    assert_plan(
        &planned(&small(), (2, 5), None),
        "
pack                   parameters[0..48] -> packed0.w                             groups 1,1,1
pack                   parameters[128..144] parameters[192..208] -> packed0.bias  groups 1,1,1
pack                   parameters[64..128] -> packed0.u                           groups 1,1,1
clear                  layer0.h[0..20]
clear                  layer0.state
matmul                 layer0.x input packed0.w packed0.bias -> layer0.gates      groups 1,10,1
lstm_step_forward      t=0 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
lstm_step_forward      t=1 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
matmul                 layer2 layer0.h parameters[256..264] parameters[320..322] -> layer2.y groups 1,5,1
copy                   layer2.y -> output
",
    );
}

#[test]
fn a_training_step() {
    assert_plan(
        &planned(&small(), (2, 5), Some(&TrainConfig::new())),
        "
pack                   parameters[0..48] -> packed0.w                             groups 1,1,1
pack                   parameters[0..48] -> packed0.wt                            groups 1,1,1
pack                   parameters[128..144] parameters[192..208] -> packed0.bias  groups 1,1,1
pack                   parameters[64..128] -> packed0.u                           groups 1,1,1
pack                   parameters[64..128] -> packed0.ut                          groups 1,1,1
clear                  layer0.h[0..20]
clear                  layer0.state[0..20]
matmul                 layer0.x input packed0.w packed0.bias -> layer0.gates      groups 1,10,1
lstm_step_forward      t=0 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
lstm_step_forward      t=1 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
matmul                 layer2 layer0.h parameters[256..264] parameters[320..322] -> layer2.y groups 1,5,1
copy                   layer2.y -> y
element_loss           y target weights -> d_y loss.parts                         groups 1,1,1
sum_loss               loss.parts -> losses                                       groups 1,1,1
matmul                 layer2.weight layer0.h d_y -> layer2.weight.slices         groups 1,4,1
unpack_gradient        layer2.weight layer2.weight.slices -> gradients[256..264]  groups 1,1,1
column_sum             layer2.bias d_y -> layer2.bias.sums                        groups 1,1,1
unpack_gradient        layer2.bias layer2.bias.sums -> gradients[320..322]        groups 1,1,1
matmul                 layer2.d_x d_y parameters[256..264] -> layer2.d_x          groups 1,5,1
clear                  layer1.d_x
copy                   layer2.d_x -> layer1.d_x[20..40]
clear                  layer0.carry
lstm_step_backward     t=1 packed0.ut layer0.state layer0.h layer1.d_x -> layer0.gates layer0.carry groups 1,5,1
lstm_step_backward     t=0 packed0.ut layer0.state layer0.h layer1.d_x -> layer0.gates layer0.carry groups 1,5,1
matmul                 layer0.w_ih input layer0.gates -> layer0.w_ih.slices       groups 1,3,1
unpack_gradient        layer0.w_ih layer0.w_ih.slices -> gradients[0..48]         groups 1,1,1
matmul                 layer0.w_hh layer0.h layer0.gates -> layer0.w_hh.slices    groups 1,4,1
unpack_gradient        layer0.w_hh layer0.w_hh.slices -> gradients[64..128]       groups 1,1,1
column_sum             layer0.bias layer0.gates -> layer0.bias.sums               groups 1,1,1
unpack_gradient        layer0.bias layer0.bias.sums -> gradients[128..144]        groups 1,1,1
unpack_gradient        layer0.bias layer0.bias.sums -> gradients[192..208]        groups 1,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 6,1,1
finish_norm            norm.partials hyper -> status                              groups 1,1,1
adam                   trial hyper gradients -> status parameters m v             groups 6,1,1
adam                   hyper gradients -> status parameters m v                   groups 6,1,1
clear                  gradients
",
    );
}

/// A stack of LSTM layers with a dense head.
fn stack(layers: usize) -> NetworkConfig {
    let mut configs: Vec<LayerConfig> = vec![LstmConfig::new(64).into(); layers];
    configs.push(DenseConfig::new(10).activation(Activation::Tanh).into());
    NetworkConfig::new(28, configs).unwrap()
}

/// A training step takes two kernels per step and layer, and no more around them than allowed here.
#[test]
fn a_training_step_runs_few_kernels() {
    let gpu = test_gpu();
    let gpu = gpu.map(|gpu| ("the adapter", gpu.target().clone()));
    let mut failures = Failures::new();
    for (name, target) in [("WebGPU", Target::webgpu())].into_iter().chain(gpu) {
        for layers in 1..=4 {
            for steps in [1, 10, 50] {
                failures.check(format!("{name}, {layers} layers, {steps} steps"), || {
                    let config = stack(layers);
                    let shape = Shape::plain(&config, steps, 32);
                    let plan = schedule(&config, &target, shape, Some(&TrainConfig::new())).unwrap();
                    let (found, allowed) = (plan.dispatches(), 2 * layers * steps + 16 * layers + 24);
                    assert!(found <= allowed, "{found} kernels, allowed {allowed}");
                    assert!(found >= 2 * layers * steps, "{found} kernels are too few");
                    let products = plan.to_string();
                    let backward =
                        products.lines().filter(|line| line.contains(".d_x") && line.contains("matmul"));
                    assert_eq!(backward.count(), layers, "one for every layer but the first");
                });
            }
        }
    }
    failures.finish();
}

/// A prediction keeps one state, whatever the number of steps; it saves no state per step for a backward pass.
#[test]
fn a_prediction_saves_nothing() {
    let config = NetworkConfig::new(3, [LstmConfig::new(4).into()]).unwrap();
    let (steps, batch) = (10, 5);
    // Each parameter is aligned to 64 elements.
    let parameters = 64 + 64 + 64 + 64;
    let packed = 4 * 4 * (3 + 4 + 1);
    let data = steps * batch * (3 + 4);
    let layer = |states: usize| batch * 4 * (4 * steps + (steps + 1) + states);
    let elements = parameters + packed + data + layer(1);
    let prediction = need(&config, (steps, batch), None);
    assert_eq!(prediction.bytes, 4 * elements as u64);
    assert_eq!((prediction.largest.as_str(), prediction.largest_bytes), ("layer0.gates", 4 * 800));
    let training = need(&config, (steps, batch), Some(&TrainConfig::new()));
    assert!(training.bytes >= prediction.bytes + 4 * (batch * 4 * steps) as u64, "{training:?}");
    assert!(!planned(&config, (steps, batch), None).to_string().contains("layer0.state["));
    assert!(
        planned(&config, (steps, batch), Some(&TrainConfig::new()))
            .to_string()
            .contains("layer0.state[0..20]")
    );
}

/// In a prediction a layer's buffers are free again once the next layer has run, so deep stacks share memory.
#[test]
fn layers_share_memory() {
    let bytes = |layers: usize| {
        let need = need(&stack(layers), (50, 32), None);
        assert!(need.bytes <= need.unshared_bytes);
        // The weights of each further layer, as parameters and packed, are not shared.
        need.bytes - (layers as u64 - 1) * 4 * 2 * (4 * 64 * (64 + 64) + 4 * 64)
    };
    let gates = 4 * 50 * 32 * 64 * 4;
    assert!(bytes(6) < bytes(2) + gates / 8, "six layers {}, two {}", bytes(6), bytes(2));
}

/// If only the head is trained, there is no backward pass below it.
#[test]
fn frozen_layers_have_no_backward() {
    let options = TrainConfig::new().group(ParameterGroup::new("rnn").frozen());
    let text = planned(&stack(2), (10, 4), Some(&options)).to_string();
    assert!(text.contains("dense0") || text.contains("layer2.weight"), "{text}");
    for absent in ["lstm_step_backward", "layer0.w_ih", "layer1.bias", "layer2.d_x"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    // If only a lower layer is trained, the layers above pass the gradient on without gradients of their own weights.
    let options = TrainConfig::new()
        .group(ParameterGroup::new("rnn0.weight_hh_l0"))
        .group(ParameterGroup::new("").frozen());
    let text = planned(&stack(2), (10, 4), Some(&options)).to_string();
    assert_eq!(text.matches("lstm_step_backward").count(), 20, "{text}");
    assert_eq!(text.matches("-> gradients[").count(), 1, "{text}");
    assert!(text.contains("layer0.w_hh.slices"), "{text}");
}
