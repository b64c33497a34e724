//! Plans, read and counted without a device.

use gatefold::devices::ScanChoice;
use gatefold::hooks::{Step, assign};
use gatefold::layers::{
    Activation, Conv1dConfig, DenseConfig, Direction, GruConfig, LayerConfig, LstmConfig, Merge, Reset,
    branch,
};
use gatefold::schedule::{Axis, MemoryNeed, Plan, Shape, Target, memory_need, schedule};
use gatefold::training::ParameterGroup;
use gatefold::{NetworkConfig, TrainConfig};
use gatefold_check::{Failures, test_gpu};
use std::sync::Arc;

/// The least device, with a dispatch for each step.
fn by_steps() -> Target {
    Target { scan: ScanChoice::Step, ..Target::webgpu() }
}

fn planned(config: &NetworkConfig, (steps, batch): (usize, usize), training: Option<&TrainConfig>) -> Plan {
    schedule(config, &by_steps(), Shape::plain(config, steps, batch), training).unwrap()
}

fn need(
    config: &NetworkConfig,
    (steps, batch): (usize, usize),
    training: Option<&TrainConfig>,
) -> MemoryNeed {
    memory_need(config, &by_steps(), Shape::plain(config, steps, batch), training).unwrap()
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
pack                   pack.jobs parameters -> packed0.w packed0.bias packed0.u   groups 3,1,1
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
pack                   pack.jobs parameters -> packed0.w packed0.wt packed0.bias packed0.u packed0.ut groups 5,1,1
clear                  layer0.h[0..20]
clear                  layer0.state[0..20]
matmul                 layer0.x input packed0.w packed0.bias -> layer0.gates      groups 1,10,1
lstm_step_forward      t=0 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
lstm_step_forward      t=1 packed0.u -> layer0.gates layer0.state layer0.h        groups 1,5,1
matmul                 layer2 layer0.h parameters[256..264] parameters[320..322] -> layer2.y groups 1,5,1
element_loss           layer2.y target weights -> d_y loss.parts                  groups 1,1,1
sum_loss               loss.parts -> report[64..1089]                             groups 1,1,1
matmul                 layer2.weight layer0.h d_y -> layer2.weight.slices         groups 1,4,1
column_sum             layer2.bias d_y -> layer2.bias.sums                        groups 1,1,1
matmul                 layer2.d_x d_y parameters[256..264] -> layer2.d_x          groups 1,5,1
clear                  layer1.d_x
copy                   layer2.d_x -> layer1.d_x[20..40]
clear                  layer0.carry
lstm_step_backward     t=1 packed0.ut layer0.state layer0.h layer1.d_x -> layer0.gates layer0.carry groups 1,5,1
lstm_step_backward     t=0 packed0.ut layer0.state layer0.h layer1.d_x -> layer0.gates layer0.carry groups 1,5,1
matmul                 layer0.w_ih input layer0.gates -> layer0.w_ih.slices       groups 1,3,1
matmul                 layer0.w_hh layer0.h layer0.gates -> layer0.w_hh.slices    groups 1,4,1
column_sum             layer0.bias layer0.gates -> layer0.bias.sums               groups 1,1,1
unpack_gradient        layer2.weight+layer2.bias+layer0.w_ih+layer0.w_hh+layer0.bias unpack.jobs layer2.weight.slices layer2.bias.sums layer0.w_ih.slices layer0.w_hh.slices layer0.bias.sums -> gradients groups 6,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 6,1,1
finish_norm            norm.partials hyper -> report[0..8]                        groups 1,1,1
adam                   trial hyper pieces -> report[0..8] gradients parameters m v groups 6,1,1
adam                   hyper pieces -> report[0..8] gradients parameters m v      groups 6,1,1
",
    );
}

/// Values normalised, and pooled over the steps of each row.
#[test]
fn a_training_step_of_normalised_and_pooled_values() {
    let config = NetworkConfig::with_input(3).normalise().max_pool().build().unwrap();
    let shape = Shape::plain(&config, 2, 5);
    let shape = Shape { input: Axis { lengths: true, ..shape.input }, ..shape };
    let plan = schedule(&config, &by_steps(), shape, Some(&TrainConfig::new())).unwrap();
    assert_plan(
        &plan, "
normalise_rows         input parameters[0..3] parameters[64..67] -> layer0.y      groups 1,1,1
pool                   lengths layer0.y -> layer1.y                               groups 1,1,1
element_loss           layer1.y target weights -> d_y loss.parts                  groups 1,1,1
sum_loss               loss.parts -> report[64..1089]                             groups 1,1,1
pool_backward          lengths layer0.y d_y -> layer1.d_x                         groups 1,1,1
normalise_rows_backward input parameters[0..3] layer1.d_x -> layer0.d_x layer0.products groups 1,1,1
column_sum             layer0.weight layer0.products -> layer0.weight.sums        groups 1,1,1
column_sum             layer0.bias layer1.d_x -> layer0.bias.sums                 groups 1,1,1
unpack_gradient        layer0.weight+layer0.bias unpack.jobs layer0.weight.sums layer0.bias.sums -> gradients groups 2,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 2,1,1
finish_norm            norm.partials hyper -> report[0..8]                        groups 1,1,1
adam                   trial hyper pieces -> report[0..8] gradients parameters m v groups 2,1,1
adam                   hyper pieces -> report[0..8] gradients parameters m v      groups 2,1,1
",
    );
}

/// The dispatches of a kernel, and the most members of one.
fn counted(plan: &Plan, kernel: &str) -> (usize, u32) {
    let all: Vec<u32> =
        plan.kernels().filter(|found| found.id.name() == kernel).map(|found| found.members).collect();
    (all.len(), all.into_iter().max().unwrap_or(0))
}

/// Both directions of a layer run in one dispatch for each step and stage, whatever the cell.
#[test]
fn two_directions_share_their_dispatches() {
    let lstm = || LstmConfig::new(4).direction(Direction::Bidirectional);
    let gru = || GruConfig::new(4).direction(Direction::BidirectionalSum);
    let cases: [(&str, LayerConfig, [usize; 3]); 4] = [
        ("lstm", lstm().into(), [7, 7, 0]),
        ("with a skip connection", lstm().skip(2).into(), [7, 7, 0]),
        ("projected", lstm().projection(2).into(), [14, 0, 7]),
        ("reset before the product", gru().reset(Reset::Before).into(), [14, 7, 7]),
    ];
    let mut failures = Failures::new();
    for (name, layer, expected) in cases {
        let config = NetworkConfig::new(3, [layer, DenseConfig::new(2).into()]).unwrap();
        let plan = planned(&config, (7, 5), Some(&TrainConfig::new()));
        let kernels = ["step_forward", "step_backward", "step_backward_inner"];
        for (kernel, expected) in kernels.into_iter().zip(expected) {
            let (found, members) = counted(&plan, kernel);
            failures.check(name, || {
                assert_eq!(found, expected, "{kernel}");
                assert_eq!(members, if expected == 0 { 0 } else { 2 }, "{kernel}");
            });
        }
    }
    failures.finish();
}

/// The layers of a stack run side by side: ten chunks of ten steps, each layer a chunk after the one below it. Another reader
/// of a layer, or another width, and they run one after another.
#[test]
fn a_stack_runs_in_diagonals() {
    let lstm = |width| LayerConfig::from(LstmConfig::new(width));
    let residual = LayerConfig::Residual { from: 1 };
    let cases: [(&str, Vec<LayerConfig>, usize, u32); 4] = [
        ("three alike", vec![lstm(16), lstm(16), lstm(16)], 100 + 2 * 10, 3),
        ("two alike", vec![lstm(16), lstm(16), lstm(8)], 100 + 10 + 100, 2),
        ("another reader", vec![lstm(16), lstm(16), residual], 200, 1),
        ("dropout between", vec![lstm(16), LayerConfig::Dropout { rate: 0.5 }, lstm(16)], 200, 1),
    ];
    let mut failures = Failures::new();
    for (name, mut layers, dispatches, members) in cases {
        layers.push(DenseConfig::new(2).into());
        let config = NetworkConfig::new(3, layers).unwrap();
        let plan = planned(&config, (100, 4), Some(&TrainConfig::new()));
        failures.check(name, || {
            assert_eq!(counted(&plan, "step_forward"), (dispatches, members));
            assert_eq!(counted(&plan, "step_backward"), (dispatches, members));
        });
    }
    failures.finish();
}

/// A convolution gathers what its steps read, and adds up the gradients of that; between the two it is a dense layer. With
/// lengths, those of its output are made on the device.
#[test]
fn a_convolution() {
    let layers = [DenseConfig::new(3).into(), Conv1dConfig::new(4, 3).stride(2).into()];
    let config = NetworkConfig::new(2, layers).unwrap();
    assert_plan(
        &planned(&config, (7, 5), None),
        "
matmul                 layer0 input parameters[0..6] parameters[64..67] -> layer0.y groups 1,35,1
unfold                 layer0.y -> layer1.read                                    groups 3,1,1
matmul                 layer1 layer1.read parameters[128..164] parameters[192..196] -> layer1.y groups 1,15,1
copy                   layer1.y -> output
",
    );
    assert_plan(
        &planned(&config, (7, 5), Some(&TrainConfig::new())),
        "
matmul                 layer0 input parameters[0..6] parameters[64..67] -> layer0.y groups 1,35,1
unfold                 layer0.y -> layer1.read                                    groups 3,1,1
matmul                 layer1 layer1.read parameters[128..164] parameters[192..196] -> layer1.y groups 1,15,1
element_loss           layer1.y target weights -> d_y loss.parts                  groups 1,1,1
sum_loss               loss.parts -> report[64..1089]                             groups 1,1,1
matmul                 layer1.weight layer1.read d_y -> layer1.weight.slices      groups 1,9,1
column_sum             layer1.bias d_y -> layer1.bias.sums                        groups 1,1,1
matmul                 layer1.d_x d_y parameters[128..164] -> layer1.d_x          groups 1,15,1
fold                   layer1.d_x -> layer1.d_folded                              groups 2,1,1
matmul                 layer0.weight input layer1.d_folded -> layer0.weight.slices groups 1,2,1
column_sum             layer0.bias layer1.d_folded -> layer0.bias.sums            groups 1,1,1
unpack_gradient        layer1.weight+layer1.bias+layer0.weight+layer0.bias unpack.jobs layer1.weight.slices layer1.bias.sums layer0.weight.slices layer0.bias.sums -> gradients groups 4,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 4,1,1
finish_norm            norm.partials hyper -> report[0..8]                        groups 1,1,1
adam                   trial hyper pieces -> report[0..8] gradients parameters m v groups 4,1,1
adam                   hyper pieces -> report[0..8] gradients parameters m v      groups 4,1,1
",
    );
    let axis = Axis { steps: 7, lengths: true };
    let ragged = Shape { batch: 5, input: axis, decoder: None };
    let plan = schedule(&config, &by_steps(), ragged, None).unwrap();
    assert_plan(
        &plan,
        "
matmul                 layer0 input parameters[0..6] parameters[64..67] lengths -> layer0.y groups 1,35,1
convolved_lengths      lengths -> layer1.lengths                                  groups 1,1,1
unfold                 lengths layer0.y -> layer1.read                            groups 3,1,1
matmul                 layer1 layer1.read parameters[128..164] parameters[192..196] layer1.lengths -> layer1.y groups 1,15,1
copy                   layer1.y -> output
mask_rows              layer1.lengths -> output                                   groups 1,1,1
",
    );
}

/// The steps of a dilated layer are those of a plain one over three times as many rows, whose lengths say that the last of
/// the two has one sequence of three. Products over all steps have the four steps.
#[test]
fn a_dilated_layer() {
    let config = NetworkConfig::new(2, [LstmConfig::new(3).dilation(3).into()]).unwrap();
    assert_plan(
        &planned(&config, (4, 2), None),
        "
pack                   pack.jobs parameters -> packed0.w packed0.bias packed0.u   groups 3,1,1
interleaved_lengths     -> layer0.interleaved_lengths                             groups 1,1,1
clear                  layer0.h[0..18]
clear                  layer0.state
matmul                 layer0.x input packed0.w packed0.bias -> layer0.gates[0..96] groups 1,8,1
lstm_step_forward      t=0 packed0.u layer0.interleaved_lengths -> layer0.gates layer0.state layer0.h groups 1,6,1
lstm_step_forward      t=1 packed0.u layer0.interleaved_lengths -> layer0.gates layer0.state layer0.h groups 1,6,1
copy                   layer0.h[18..42] -> output
",
    );
    assert_plan(
        &planned(&config, (4, 2), Some(&TrainConfig::new())),
        "
pack                   pack.jobs parameters -> packed0.w packed0.wt packed0.bias packed0.u packed0.ut groups 5,1,1
interleaved_lengths     -> layer0.interleaved_lengths                             groups 1,1,1
clear                  layer0.h[0..18]
clear                  layer0.state[0..18]
matmul                 layer0.x input packed0.w packed0.bias -> layer0.gates[0..96] groups 1,8,1
lstm_step_forward      t=0 packed0.u layer0.interleaved_lengths -> layer0.gates layer0.state layer0.h groups 1,6,1
lstm_step_forward      t=1 packed0.u layer0.interleaved_lengths -> layer0.gates layer0.state layer0.h groups 1,6,1
copy                   layer0.h[18..42] -> y
element_loss           y target weights -> d_y loss.parts                         groups 1,1,1
sum_loss               loss.parts -> report[64..1089]                             groups 1,1,1
clear                  layer0.carry
copy                   d_y -> layer0.d_out_all[0..24]
lstm_step_backward     t=1 packed0.ut layer0.interleaved_lengths layer0.state layer0.h layer0.d_out_all -> layer0.gates layer0.carry groups 1,6,1
lstm_step_backward     t=0 packed0.ut layer0.interleaved_lengths layer0.state layer0.h layer0.d_out_all -> layer0.gates layer0.carry groups 1,6,1
matmul                 layer0.w_ih input layer0.gates[0..96] -> layer0.w_ih.slices groups 1,2,1
matmul                 layer0.w_hh layer0.h layer0.gates[0..96] -> layer0.w_hh.slices groups 1,3,1
column_sum             layer0.bias layer0.gates[0..96] -> layer0.bias.sums        groups 1,1,1
unpack_gradient        layer0.w_ih+layer0.w_hh+layer0.bias unpack.jobs layer0.w_ih.slices layer0.w_hh.slices layer0.bias.sums -> gradients groups 4,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 4,1,1
finish_norm            norm.partials hyper -> report[0..8]                        groups 1,1,1
adam                   trial hyper pieces -> report[0..8] gradients parameters m v groups 4,1,1
adam                   hyper pieces -> report[0..8] gradients parameters m v      groups 4,1,1
",
    );
}

/// Branches side by side: each part is copied in, and its gradient out; the gradients of two readers of a value meet.
#[test]
fn branches_of_a_training_step() {
    let config = NetworkConfig::with_input(3)
        .dense(2)
        .parallel(Merge::Concatenate, [branch().dense(4), branch(), branch().dense(1)])
        .build()
        .unwrap();
    let training = TrainConfig::new().average(Some(0.9));
    assert_plan(
        &planned(&config, (2, 5), Some(&training)),
        "
matmul                 layer0 input parameters[0..6] parameters[64..66] -> layer0.y groups 1,10,1
matmul                 layer1 layer0.y parameters[128..136] parameters[192..196] -> layer1.y groups 1,10,1
matmul                 layer2 layer0.y parameters[256..258] parameters[320..321] -> layer2.y groups 1,10,1
copy_block             layer1.y -> layer3.y                                       groups 1,1,1
copy_block             layer0.y -> layer3.y                                       groups 1,1,1
copy_block             layer2.y -> layer3.y                                       groups 1,1,1
element_loss           layer3.y target weights -> d_y loss.parts                  groups 2,1,1
sum_loss               loss.parts -> report[64..1089]                             groups 1,1,1
copy_block             d_y -> layer3.columns0                                     groups 1,1,1
copy_block             d_y -> layer3.columns4                                     groups 1,1,1
copy_block             d_y -> layer3.columns6                                     groups 1,1,1
matmul                 layer2.weight layer0.y layer3.columns6 -> layer2.weight.slices groups 1,2,1
column_sum             layer2.bias layer3.columns6 -> layer2.bias.sums            groups 1,1,1
matmul                 layer2.d_x layer3.columns6 parameters[256..258] -> layer2.d_x groups 1,10,1
add                    layer2.d_x layer3.columns4 -> layer2.d_met.sum             groups 1,1,1
matmul                 layer1.weight layer0.y layer3.columns0 -> layer1.weight.slices groups 1,2,1
column_sum             layer1.bias layer3.columns0 -> layer1.bias.sums            groups 1,1,1
matmul                 layer1.d_x layer3.columns0 parameters[128..136] -> layer1.d_x groups 1,10,1
add                    layer1.d_x layer2.d_met.sum -> layer1.d_met.sum            groups 1,1,1
matmul                 layer0.weight input layer1.d_met.sum -> layer0.weight.slices groups 1,3,1
unpack_gradient        layer2.weight+layer2.bias+layer1.weight+layer1.bias+layer0.weight unpack.jobs layer2.weight.slices layer2.bias.sums layer1.weight.slices layer1.bias.sums layer0.weight.slices -> gradients groups 5,1,1
column_sum             layer0.bias layer1.d_met.sum -> layer0.bias.sums           groups 1,1,1
unpack_gradient        layer0.bias unpack.jobs layer0.bias.sums -> gradients      groups 1,1,1
gradient_norm          pieces gradients -> norm.partials                          groups 6,1,1
finish_norm            norm.partials hyper -> report[0..8]                        groups 1,1,1
adam                   trial hyper pieces -> report[0..8] gradients parameters m v groups 6,1,1
adam                   hyper pieces -> report[0..8] gradients parameters m v      groups 6,1,1
average                hyper pieces parameters -> report[0..8] average            groups 6,1,1
",
    );
}

/// The dispatches of scans in a plan for a target.
fn scan_lines(
    config: &NetworkConfig,
    target: &Target,
    shape: Shape,
    training: Option<&TrainConfig>,
) -> Vec<String> {
    let plan = schedule(config, target, shape, training).unwrap().to_string();
    let of_scan = |line: &&str| line.contains("_scan_") || line.contains("_step_");
    plan.lines()
        .filter(of_scan)
        .map(|line| line.split("packed").next().unwrap_or(line).trim().into())
        .collect()
}

/// On a GPU, a small layer is one dispatch each way, and two where it has more steps than a dispatch may run; a layer that
/// a workgroup cannot run by itself, and any layer on a software driver, is a dispatch a step.
#[test]
fn a_small_scan_is_one_dispatch() {
    let (target, training) = (Target::webgpu(), TrainConfig::new());
    let lines = |config: &NetworkConfig, target: &Target, steps: usize| {
        scan_lines(config, target, Shape::plain(config, steps, 5), Some(&training))
    };
    assert_eq!(
        lines(&small(), &target, 2),
        ["lstm_scan_forward      steps 0..2", "lstm_scan_backward     steps 0..2"]
    );
    assert_eq!(
        lines(&small(), &target, 1025),
        [
            "lstm_scan_forward      steps 0..1024",
            "lstm_scan_forward      steps 1024..1025",
            "lstm_scan_backward     steps 0..1024",
            "lstm_scan_backward     steps 1024..1025",
        ]
    );
    let both = NetworkConfig::new(3, [GruConfig::new(4).direction(Direction::Bidirectional).into()]).unwrap();
    assert_eq!(lines(&both, &target, 50).len(), 2, "one for both directions, each way");
    let reset_before = NetworkConfig::new(3, [GruConfig::new(4).reset(Reset::Before).into()]).unwrap();
    assert_eq!(lines(&reset_before, &target, 2).len(), 8, "two stages, each way");
    for plain in [by_steps(), Target { software: true, ..Target::webgpu() }] {
        assert_eq!(lines(&small(), &plain, 7).len(), 14);
    }
    let forced = Target { software: true, scan: ScanChoice::Workgroup, ..Target::webgpu() };
    assert_eq!(lines(&small(), &forced, 7).len(), 2);
}

/// A strategy that timing found is taken where it fits, and only for its own kind of scan.
#[test]
fn tuning_decides_where_it_fits() {
    let tuned = |text: &str| Target { tuning: Arc::new(text.parse().unwrap()), ..Target::webgpu() };
    let count = |target: &Target, batch: usize| {
        scan_lines(&small(), target, Shape::plain(&small(), 6, batch), None).len()
    };
    assert_eq!(count(&tuned("lstm forward H 4 B 8 = step"), 5), 6);
    assert_eq!(count(&tuned("lstm forward H 4 B 8 = step"), 9), 1, "another batch");
    assert_eq!(count(&tuned("gru forward H 4 B 8 = step"), 5), 1, "another cell");
    let too_wide = "lstm forward H 4 B 8 = workgroup 1 rows 4 parts 512 invocations 0 kept";
    let plan = schedule(&small(), &tuned(too_wide), Shape::plain(&small(), 6, 5), None).unwrap();
    let scan = plan.kernels().find(|kernel| kernel.cell.is_some()).unwrap();
    assert!(scan.constant("WG_SIZE") <= 256, "the rule of thumb, within the device's limits: {scan:?}");
    let software = Target {
        software: true,
        ..tuned("lstm forward H 4 B 8 = workgroup 2 rows 1 parts 64 invocations 0 kept")
    };
    assert_eq!(count(&software, 5), 1);
}

/// A stack of LSTM layers with a dense head.
fn stack(layers: usize) -> NetworkConfig {
    let mut configs: Vec<LayerConfig> = vec![LstmConfig::new(64).into(); layers];
    configs.push(DenseConfig::new(10).activation(Activation::Tanh).into());
    NetworkConfig::new(28, configs).unwrap()
}

/// A training step takes at most two kernels per step and layer, and no more around them than allowed here: chunks of a
/// stack cost products, but save more steps.
#[test]
fn a_training_step_runs_few_kernels() {
    let gpu = test_gpu();
    let gpu = gpu.map(|gpu| ("the adapter", Target { scan: ScanChoice::Step, ..gpu.target().clone() }));
    let mut failures = Failures::new();
    for (name, target) in [("WebGPU", by_steps())].into_iter().chain(gpu) {
        for layers in 1..=4 {
            for steps in [1, 10, 50] {
                failures.check(format!("{name}, {layers} layers, {steps} steps"), || {
                    let config = stack(layers);
                    let shape = Shape::plain(&config, steps, 32);
                    let plan = schedule(&config, &target, shape, Some(&TrainConfig::new())).unwrap();
                    let (found, allowed) = (plan.dispatches(), 2 * layers * steps + 7 * layers + 11);
                    assert!(found <= allowed, "{found} kernels, allowed {allowed}");
                    assert!(found >= 2 * steps, "{found} kernels are too few");
                    let products = plan.to_string();
                    let backward =
                        products.lines().filter(|line| line.contains(".d_x") && line.contains("matmul"));
                    // Chunks of seven steps at 50.
                    let chunks = if steps == 50 { 8 } else { 1 };
                    assert_eq!(
                        backward.count(),
                        1 + chunks * (layers - 1),
                        "one for every layer but the first"
                    );
                });
            }
        }
    }
    failures.finish();
}

type Row = ((usize, usize, usize, usize), bool, usize, usize, usize, usize, u64, u64);

/// `(B, T, I, H)`, GRU or LSTM, layers; dispatches, transfers, buffers, bytes, bytes bound.
#[rustfmt::skip]
const AROUND: [Row; 20] = [
    ((1, 25, 100, 100), false, 1, 16, 3, 24, 2_328_192, 5_255_032),
    ((1, 25, 100, 100), false, 2, 23, 6, 32, 4_328_128, 12_610_200),
    ((1, 25, 100, 100), true, 1, 16, 2, 23, 2_003_568, 4_362_216),
    ((1, 25, 100, 100), true, 2, 23, 4, 30, 3_668_880, 10_500_984),
    ((32, 50, 16, 64), false, 1, 16, 3, 24, 3_519_732, 10_819_496),
    ((32, 50, 16, 64), false, 2, 37, 7, 30, 7_617_396, 59_517_672),
    ((32, 50, 16, 64), true, 1, 16, 2, 23, 3_206_228, 10_579_752),
    ((32, 50, 16, 64), true, 2, 37, 5, 29, 6_564_308, 58_794_088),
    ((64, 100, 64, 128), false, 1, 16, 3, 24, 30_384_280, 94_307_056),
    ((64, 100, 64, 128), false, 2, 41, 7, 30, 56_621_848, 549_479_472),
    ((64, 100, 64, 128), true, 1, 16, 2, 23, 29_953_432, 93_178_608),
    ((64, 100, 64, 128), true, 2, 41, 5, 29, 52_352_024, 546_398_256),
    ((64, 128, 256, 256), false, 1, 16, 3, 24, 96_762_020, 281_015_560),
    ((64, 128, 256, 256), false, 2, 57, 7, 30, 159_986_084, 1_707_560_008),
    ((64, 128, 256, 256), true, 1, 16, 2, 23, 94_587_044, 275_143_944),
    ((64, 128, 256, 256), true, 2, 57, 5, 29, 147_254_052, 1_693_737_544),
    ((32, 256, 128, 512), false, 1, 16, 3, 24, 153_502_628, 481_580_296),
    ((32, 256, 128, 512), false, 2, 69, 7, 30, 338_326_084, 4_228_414_152),
    ((32, 256, 128, 512), true, 1, 16, 2, 23, 148_115_684, 467_065_352),
    ((32, 256, 128, 512), true, 2, 69, 5, 29, 290_977_860, 4_183_880_392),
];

/// The work of a training step outside the scans.
#[derive(Debug, PartialEq)]
struct Around {
    /// Dispatches that are not steps of a scan.
    dispatches: usize,
    /// Clears and copies.
    transfers: usize,
    /// Buffers that the plans own or share with others.
    buffers: usize,
    /// The bytes of all buffers, shared space counted once.
    bytes: u64,
    /// The bytes that dispatches around the scans, clears and copies have bound.
    bound_bytes: u64,
}

/// Recurrent layers `[I, H, ..]` with a dense layer of one output, trained on a batch `[T, B, I]`.
fn around(gru: bool, layers: usize, (batch, steps, input, hidden): (usize, usize, usize, usize)) -> Around {
    let recurrent = || -> LayerConfig {
        if gru { GruConfig::new(hidden).into() } else { LstmConfig::new(hidden).into() }
    };
    let mut configs: Vec<LayerConfig> = (0..layers).map(|_| recurrent()).collect();
    configs.push(DenseConfig::new(1).into());
    let config = NetworkConfig::new(input, configs).unwrap();
    let plan = planned(&config, (steps, batch), Some(&TrainConfig::new()));
    let is_scan = |step: &&Step| matches!(step, Step::Dispatch(dispatch) if dispatch.kernel.cell.is_some());
    let others: Vec<&Step> = plan.steps().iter().filter(|step| !is_scan(step)).collect();
    let dispatches = others.iter().filter(|step| matches!(step, Step::Dispatch(_))).count();
    let assigned = assign(&plan);
    let kept = plan.buffers().iter().filter(|buffer| !buffer.is_scratch()).count();
    Around {
        dispatches,
        transfers: others.len() - dispatches,
        buffers: assigned.slot_lens.len() + kept,
        bytes: need(&config, (steps, batch), Some(&TrainConfig::new())).bytes,
        bound_bytes: others.iter().flat_map(|step| step.spans()).map(|span| 4 * span.len as u64).sum(),
    }
}

/// The work around the scans does not depend on the shape, except for sums that are split and the products of a stack's
/// chunks.
#[test]
fn the_work_around_the_scans_is_small() {
    let mut failures = Failures::new();
    for (shape, gru, layers, dispatches, transfers, buffers, bytes, bound_bytes) in AROUND {
        failures.check(format!("{shape:?}, {layers} layers, gru {gru}"), || {
            let expected = Around { dispatches, transfers, buffers, bytes, bound_bytes };
            assert_eq!(around(gru, layers, shape), expected);
        });
    }
    failures.finish();
}

/// Settings of a group are rows of a table, so groups cost no dispatch.
#[test]
fn groups_of_parameters_cost_no_dispatch() {
    let alike = planned(&small(), (2, 5), Some(&TrainConfig::new()));
    let groups = TrainConfig::new()
        .group(ParameterGroup::new("rnn.weight").weight_decay(0.1))
        .group(ParameterGroup::new("rnn.bias").learning_rate_factor(0.5));
    let apart = planned(&small(), (2, 5), Some(&groups));
    assert_eq!(apart.dispatches(), alike.dispatches());
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
    // Packing has a table with three jobs.
    let elements = parameters + packed + 3 * 16 + data + layer(1);
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

/// In a prediction a layer's buffers are free again once the next layer has run, or the next stack of four layers that run
/// side by side, so deep networks share memory.
#[test]
fn layers_share_memory() {
    let bytes = |layers: usize| {
        let need = need(&stack(layers), (50, 32), None);
        assert!(need.bytes <= need.unshared_bytes);
        // The weights of each further layer, as parameters and packed, are not shared.
        need.bytes - (layers as u64 - 1) * 4 * 2 * (4 * 64 * (64 + 64) + 4 * 64)
    };
    let gates = 4 * 50 * 32 * 64 * 4;
    assert!(bytes(12) < bytes(8) + gates / 8, "twelve layers {}, eight {}", bytes(12), bytes(8));
    let bytes = |layers: usize| {
        // Too few steps for stacks.
        let need = need(&stack(layers), (15, 32), None);
        need.bytes - (layers as u64 - 1) * 4 * 2 * (4 * 64 * (64 + 64) + 4 * 64)
    };
    let gates = 4 * 15 * 32 * 64 * 4;
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
    assert_eq!(text.matches("-> gradients ").count(), 1, "{text}");
    assert!(text.contains("layer0.w_hh.slices"), "{text}");
}
