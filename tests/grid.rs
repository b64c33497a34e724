//! Scans whose workgroups wait for each other: taken only after a probe, and computed again where a workgroup gave up.

use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::hooks::{probed, with_resident_groups, with_tuning};
use gatefold::layers::{DenseConfig, Direction, LstmConfig};
use gatefold::schedule::{Shape, Target, schedule};
use gatefold::{Device, Gpu, Network, NetworkConfig, Parameters, Sequences, States, TrainConfig, Trainer};
use gatefold_check::{Failures, SequenceCase, check_sequences, test_gpu_with, waves};
use ndarray::Array3;
use std::io::Write as _;

const STEPS: usize = 9;
const BATCH: usize = 3;

fn network(hidden: usize) -> NetworkConfig {
    let layer = LstmConfig::new(hidden).direction(Direction::Bidirectional);
    NetworkConfig::new(2, [layer.into(), DenseConfig::new(1).into()]).unwrap()
}

/// A GPU of the test's own that has shown that it runs several workgroups at the same time.
fn able() -> Option<Gpu> {
    let gpu = probed(&test_gpu_with(&GpuOptions::new().tuned(false))?).unwrap();
    if gpu.target().resident_groups < 2 {
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        let _ = writeln!(std::io::stderr(), "{test} skipped: {gpu:?} runs {}", gpu.target().resident_groups);
        return None;
    }
    Some(gpu)
}

fn kernels(target: &Target, config: &NetworkConfig) -> Vec<String> {
    let train = TrainConfig::new();
    let plan = schedule(config, target, Shape::plain(config, STEPS, BATCH), Some(&train)).unwrap();
    plan.kernels().map(ToString::to_string).collect()
}

#[test]
fn nobody_takes_a_grid_unasked() {
    let Some(gpu) = able() else { return };
    let config = network(8);
    let has_grid = |target: &Target| kernels(target, &config).iter().any(|name| name.contains("grid"));
    for scan in ScanChoice::ALL {
        let found = has_grid(&Target { scan, ..gpu.target().clone() });
        assert_eq!(found, scan == ScanChoice::Grid, "{scan} after a probe");
        assert!(!has_grid(&Target { scan, ..gpu.target().without_grids() }), "{scan} without a probe");
    }
    let opened = test_gpu_with(&GpuOptions::new().tuned(false)).unwrap();
    assert_eq!(opened.target().resident_groups, 0, "a device that nobody asks for grids is not probed");
    let asked = test_gpu_with(&GpuOptions::new().scan(ScanChoice::Grid)).unwrap();
    assert!(has_grid(asked.target()));
}

/// Runs cases with every scan in a grid that can be. Where a workgroup gives up, since its thread had to wait for a core, the
/// case is run again.
fn check_in_a_grid(cases: &[SequenceCase], name: &str) {
    let open = || test_gpu_with(&GpuOptions::new().scan(ScanChoice::Grid));
    let Some(mut gpu) = open() else { return };
    if able().is_none() {
        return;
    }
    let mut failures = Failures::new();
    for (at, case) in cases.iter().enumerate() {
        failures.check(format!("{name} {at}: {}", case.config), || {
            for _ in 0..10 {
                let checks = check_sequences(&Device::Gpu(gpu.clone()), std::slice::from_ref(case)).unwrap();
                checks.assert(name); // right in any case
                if gpu.grid_notice().is_none() {
                    return;
                }
                gpu = open().unwrap();
            }
            panic!("workgroups gave up ten times");
        });
    }
    failures.finish();
}

#[test]
fn cells_in_a_grid() {
    check_in_a_grid(&SequenceCase::cells(), "cells");
}

#[test]
fn networks_in_a_grid() {
    check_in_a_grid(&SequenceCase::networks(), "networks");
}

/// A GPU that takes a grid for some passes over up to four rows, with one workgroup more than run at the same time, and the
/// hidden units for which it does.
fn one_too_many(passes: &[&str]) -> Option<(Gpu, usize)> {
    let gpu = able()?;
    if !gpu.is_software() {
        // A card's probe is a lower bound: more may well run.
        let _ = writeln!(std::io::stderr(), "one workgroup too many skipped: {gpu:?} is no software driver");
        return None;
    }
    let groups = gpu.target().resident_groups + 1;
    let line = |pass: &&str| {
        let work = "1 parts 8 splits 64 invocations 0 kept";
        format!("lstm {pass} H {groups} B 4 = grid 4 rows {groups} sharers {work}\n")
    };
    let tuning: String = passes.iter().map(line).collect();
    Some((with_tuning(&with_resident_groups(&gpu, groups), &tuning).unwrap(), groups as usize))
}

/// Everything that comes out of a use of a network, as bits.
type Use = fn(&Device, &NetworkConfig) -> Vec<f32>;

/// The input of a batch, and a target for every step.
fn input(number: usize, batch: usize) -> (Array3<f32>, Array3<f32>) {
    let (input, _) = waves(number, (STEPS, batch), (2, 1));
    let target = Array3::from_shape_fn((STEPS, batch, 1), |(t, row, _)| 0.5 * input[[t, row, 0]]);
    (input, target)
}

fn flat<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<f32> {
    values.into_iter().copied().collect()
}

fn flat_parameters(parameters: &Parameters) -> Vec<f32> {
    parameters.iter().flat_map(|(_, values)| flat(values)).collect()
}

fn flat_states(states: &States) -> Vec<f32> {
    [states.h_n(), states.c_n()].iter().flatten().flat_map(flat).collect()
}

fn predict(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let network = Network::new(device, config, 1).unwrap();
    let input = Sequences::time_major(input(0, BATCH).0).with_lengths([9, 0, 4]).unwrap();
    let found = network.forward(input, None).unwrap();
    [flat(&found.output), flat_states(&found.states)].concat()
}

fn backward(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let network = Network::new(device, config, 1).unwrap();
    let tape = network.forward_training(input(0, BATCH).0.view(), None, None).unwrap();
    let d_output = tape.output().mapv(|y| 0.5 - y);
    let found = network.backward(tape, d_output.view(), None).unwrap().read().unwrap();
    [flat(&found.input), flat_parameters(&found.parameters), flat_states(&found.states)].concat()
}

/// Two batches an update. Those of eight rows take no grid; what they have added to gradients and losses must survive the others.
fn train_on(mut trainer: Trainer, batches: [usize; 2]) -> Vec<f32> {
    for number in 0..3 {
        for batch in batches {
            let (input, target) = input(number, batch);
            trainer.accumulate(input.view(), target.view()).unwrap();
        }
        trainer.update().unwrap();
    }
    let losses = trainer.take_losses().unwrap();
    [losses, flat_parameters(&trainer.network().parameters().unwrap())].concat()
}

fn train(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let network = Network::new(device, config, 1).unwrap();
    train_on(Trainer::new(network, TrainConfig::new()).unwrap(), [8, BATCH])
}

/// Each batch leaves its states where it found those of the one before, so they are put back too.
fn train_with_states(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let config = one_way(config);
    let before = Network::new(&Device::cpu().unwrap(), &config, 2).unwrap();
    let states = before.forward(input(7, BATCH).0.view(), None).unwrap().states;
    let network = Network::new(device, &config, 1).unwrap();
    let mut trainer = Trainer::new(network, TrainConfig::new()).unwrap();
    trainer.carry_state(true).unwrap();
    trainer.set_states(&states).unwrap();
    train_on(trainer, [BATCH, BATCH])
}

fn train_in_chunks(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let network = Network::new(device, &one_way(config), 1).unwrap();
    train_on(Trainer::new(network, TrainConfig::new().recompute(Some(4))).unwrap(), [8, BATCH])
}

fn one_way(config: &NetworkConfig) -> NetworkConfig {
    let hidden = config.layers()[0].recurrent().unwrap().hidden;
    NetworkConfig::new(2, [LstmConfig::new(hidden).into(), DenseConfig::new(1).into()]).unwrap()
}

/// Several steps of streams go on from states that the pass changes.
fn stream(device: &Device, config: &NetworkConfig) -> Vec<f32> {
    let network = Network::new(device, &one_way(config), 1).unwrap();
    let mut stream = network.stream(BATCH).unwrap();
    let mut found = Vec::new();
    for number in 0..3 {
        found.extend(stream.advance(input(number, BATCH).0.view()).unwrap());
    }
    found
}

#[test]
fn one_workgroup_too_many_is_found_out_and_the_pass_is_computed_again() {
    let Some(by_steps) = test_gpu_with(&GpuOptions::new().scan(ScanChoice::Step)) else { return };
    let by_steps = Device::Gpu(by_steps);
    let uses: [(&str, Use, &[&[&str]]); 6] = [
        ("predict", predict, &[&["forward"]]),
        ("backward", backward, &[&["forward"], &["backward"], &["forward", "backward"]]),
        ("train", train, &[&["forward"], &["backward"]]),
        ("train with states", train_with_states, &[&["forward"], &["backward"]]),
        ("train in chunks", train_in_chunks, &[&["forward"], &["backward"]]),
        ("stream", stream, &[&["forward"]]),
    ];
    let mut failures = Failures::new();
    for (name, run, all_passes) in uses {
        for passes in all_passes {
            failures.check(format!("{name}, {passes:?} in a grid"), || {
                let Some((gpu, hidden)) = one_too_many(passes) else { return };
                assert_eq!(gpu.grid_notice(), None);
                let found = run(&Device::Gpu(gpu.clone()), &network(hidden));
                let notice = gpu.grid_notice().expect("one workgroup waited for another that did not run");
                assert!(notice.contains("did not all run at the same time"), "{notice}");
                // The same kernels in the same order: the same bits.
                assert_eq!(found, run(&by_steps, &network(hidden)));
            });
        }
    }
    failures.finish();
}
