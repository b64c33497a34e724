//! Every kernel on the GPU against its mirror in the reference, with params as immediates and in a uniform buffer.

use gatefold::Gpu;
use gatefold::devices::GpuOptions;
use gatefold_check::{Failures, can_run, check_functions, check_kernel, test_gpu, test_gpu_with};
use gatefold_shaders::KernelId;
use std::io::Write as _;

fn check_all(gpu: &Gpu, ids: &[KernelId]) {
    let mut failures = Failures::new();
    for &id in ids {
        failures.check(id.name(), || {
            let checks = check_kernel(gpu, id).unwrap_or_else(|error| panic!("{error}"));
            checks.assert(id.name());
        });
    }
    failures.finish();
}

const SCANS: [KernelId; 12] = [
    KernelId::StepForward,
    KernelId::StepTangent,
    KernelId::StepBackward,
    KernelId::StepBackwardInner,
    KernelId::ScanForward,
    KernelId::ScanBackward,
    KernelId::ReadoutBackward,
    KernelId::InitialBackward,
    KernelId::InitialRows,
    KernelId::FinalRows,
    KernelId::ScanOutput,
    KernelId::PeepholeGradient,
];

#[test]
fn scans_match_the_reference() {
    let Some(gpu) = test_gpu() else { return };
    check_all(&gpu, &SCANS);
}

const PRODUCTS: [KernelId; 2] = [KernelId::MatMul, KernelId::MatMulStaged];

#[test]
fn matrix_products_match_the_reference() {
    let Some(gpu) = test_gpu() else { return };
    check_all(&gpu, &PRODUCTS);
}

#[test]
fn all_other_kernels_match_the_reference() {
    let Some(gpu) = test_gpu() else { return };
    let elsewhere = |id: &KernelId| SCANS.contains(id) || GRIDS.contains(id) || PRODUCTS.contains(id);
    let others: Vec<KernelId> = KernelId::ALL.into_iter().filter(|id| !elsewhere(id)).collect();
    assert_eq!(others.len(), KernelId::ALL.len() - SCANS.len() - GRIDS.len() - PRODUCTS.len());
    check_all(&gpu, &others);
}

const GRIDS: [KernelId; 3] = [KernelId::GridForward, KernelId::GridBackward, KernelId::GridProbe];

/// With and without subgroups and immediates.
#[test]
fn scans_of_workgroups_that_wait_for_each_other_match_the_reference() {
    for gpu in [test_gpu(), test_gpu_with(&GpuOptions::new().immediates(false).subgroups(false))] {
        let Some(gpu) = gpu else { return };
        if can_run(&gpu, KernelId::GridForward).unwrap() {
            check_all(&gpu, &GRIDS);
        } else {
            let _ = writeln!(std::io::stderr(), "grids skipped: {gpu:?} has no coherent storage");
        }
    }
}

/// Four million arguments, of every exponent and either sign, for each function. The stride is a prime, so that fractions
/// differ from exponent to exponent.
#[test]
fn functions_are_exact_in_relative_terms_over_all_of_f32() {
    let Some(gpu) = test_gpu() else { return };
    check_functions(&gpu, 1_021).unwrap().assert("functions");
}

/// A device without immediates and subgroups, within WebGPU's default limits.
#[test]
fn every_kernel_matches_on_the_least_device() {
    let least = GpuOptions::new().immediates(false).subgroups(false).webgpu_limits(true);
    let Some(gpu) = test_gpu_with(&least) else { return };
    let able: Vec<KernelId> = KernelId::ALL.into_iter().filter(|&id| can_run(&gpu, id).unwrap()).collect();
    assert_eq!(able.len(), KernelId::ALL.len() - GRIDS.len(), "a grid takes more than WebGPU promises");
    check_all(&gpu, &able);
}
