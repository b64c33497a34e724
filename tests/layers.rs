//! Whole networks on the GPU, forward and backward, against the reference.

use gatefold::devices::GpuOptions;
use gatefold_check::{NetworkCase, check_backward, check_forward, test_gpu, test_gpu_with};

#[test]
fn networks_forward_match_the_reference() {
    let Some(gpu) = test_gpu() else { return };
    check_forward(&gpu, &NetworkCase::all()).unwrap().assert("forward");
}

#[test]
fn networks_backward_match_the_reference() {
    let Some(gpu) = test_gpu() else { return };
    check_backward(&gpu, &NetworkCase::all()).unwrap().assert("backward");
}

/// A device without immediates and subgroups, within WebGPU's default limits.
#[test]
fn networks_match_on_the_least_device() {
    let least = GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    check_forward(&gpu, &NetworkCase::all()).unwrap().assert("forward");
    check_backward(&gpu, &NetworkCase::all()).unwrap().assert("backward");
}
