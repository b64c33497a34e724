//! Every cell, direction and shape of network, on the CPU device and on a GPU, against the reference.

use gatefold::Device;
use gatefold::TrainConfig;
use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold::schedule::{Axis, Shape, Target, schedule};
use gatefold_check::{Failures, SequenceCase, check_sequences, test_gpu, test_gpu_with};

#[test]
fn cells_on_the_cpu() {
    check_sequences(&Device::cpu().unwrap(), &SequenceCase::cells()).unwrap().assert("cells");
}

#[test]
fn networks_on_the_cpu() {
    check_sequences(&Device::cpu().unwrap(), &SequenceCase::networks()).unwrap().assert("networks");
}

#[test]
fn cells_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_sequences(&Device::Gpu(gpu), &SequenceCase::cells()).unwrap().assert("cells");
}

#[test]
fn networks_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_sequences(&Device::Gpu(gpu), &SequenceCase::networks()).unwrap().assert("networks");
}

/// The stacks among them run side by side: some dispatch runs several layers.
#[test]
fn stacks_run_side_by_side() {
    let mut failures = Failures::new();
    for case in SequenceCase::stacks() {
        failures.check(format!("{:?}", case.config.layers().len()), || {
            let axis = |steps, lengths| Axis { steps, lengths };
            let mut shape = Shape::plain(&case.config, case.steps, case.batch);
            if let Some((steps, lengths)) = &case.decoder {
                shape.decoder = Some(axis(*steps, lengths.is_some()));
            }
            let target = Target { scan: ScanChoice::Step, ..Target::webgpu() };
            let plan = schedule(&case.config, &target, shape, Some(&TrainConfig::new())).unwrap();
            for kernel in ["step_forward", "step_backward"] {
                let mut members =
                    plan.kernels().filter(|found| found.id.name() == kernel).map(|found| found.members);
                assert!(members.any(|members| members > 1), "{kernel}");
            }
        });
    }
    failures.finish();
}

/// Every scan that a workgroup can run by itself, run so.
fn in_workgroups() -> Option<Device> {
    test_gpu_with(&GpuOptions::new().scan(ScanChoice::Workgroup)).map(Device::Gpu)
}

#[test]
fn cells_in_workgroups() {
    let Some(device) = in_workgroups() else { return };
    check_sequences(&device, &SequenceCase::cells()).unwrap().assert("cells");
}

#[test]
fn networks_in_workgroups() {
    let Some(device) = in_workgroups() else { return };
    check_sequences(&device, &SequenceCase::networks()).unwrap().assert("networks");
}

/// Signals of 1e-8 to 1e-2: errors are relative to them, forward and backward.
#[test]
fn small_signals_on_the_cpu() {
    check_sequences(&Device::cpu().unwrap(), &SequenceCase::small_signals()).unwrap().assert("small signals");
}

#[test]
fn small_signals_on_a_gpu() {
    let Some(gpu) = test_gpu() else { return };
    check_sequences(&Device::Gpu(gpu), &SequenceCase::small_signals()).unwrap().assert("small signals");
}
