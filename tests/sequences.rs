//! Every cell, direction and shape of network, on the CPU device and on a GPU, against the reference.

use gatefold::Device;
use gatefold::devices::{GpuOptions, ScanChoice};
use gatefold_check::{SequenceCase, check_sequences, test_gpu, test_gpu_with};

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
