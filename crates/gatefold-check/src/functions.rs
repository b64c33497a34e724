//! Every activation and its slope over all of `f32`, with errors relative to each result.

use crate::compare::Tolerance;
use crate::kernels::{ACTIVATIONS_BOTH_WAYS, activation_consts, element_groups, element_kernel};
use crate::selfcheck::Checks;
use gatefold::hooks::run_kernel;
use gatefold::layers::Activation;
use gatefold::{Error, Gpu};
use gatefold_reference::activation;
use gatefold_shaders::{KernelId, params};

/// The elements of a dispatch: 4 MiB, far below the smallest limit of a binding.
const PART: usize = 1 << 20;

/// Compares every activation, and its slope, at every `stride`-th bit pattern that is a finite `f32`, of either sign.
///
/// # Errors
/// Any error of running a kernel.
///
/// # Panics
/// If the stride is 0.
pub fn check_functions(gpu: &Gpu, stride: usize) -> Result<Checks, Error> {
    let arguments: Vec<f32> =
        (0..=u32::MAX).step_by(stride).map(f32::from_bits).filter(|x| x.is_finite()).collect();
    let mut checks = Checks::default();
    for function in ACTIVATIONS_BOTH_WAYS {
        checks.case(format!("{function} at {} numbers", arguments.len()));
        for x in arguments.chunks(PART) {
            values(gpu, &mut checks, function, x)?;
            slopes(gpu, &mut checks, function, x)?;
        }
    }
    Ok(checks)
}

/// The sum of one slice is the slice, to which the kernel applies a function.
fn values(gpu: &Gpu, checks: &mut Checks, function: Activation, x: &[f32]) -> Result<(), Error> {
    let groups = element_groups(x.len(), u32::from(u16::MAX));
    let consts = [&[("BIAS", 0)][..], &activation_consts(function)].concat();
    let kernel = element_kernel(KernelId::SumSlices, &consts);
    let params = params::SumSlices { m: x.len() as u32, n: 1, slices: 1, groups_x: groups[0] };
    let found = run_kernel(gpu, &kernel, params, &[x, &[0.0], &vec![7.0; x.len()]], groups)?;
    let want: Vec<f64> = x.iter().map(|&x| activation::apply(function, f64::from(x))).collect();
    let tolerance = match function {
        // Where such a sum is near 0, the errors of its terms remain.
        Activation::Affine { beta, .. } | Activation::HardSigmoid { beta, .. } => {
            Tolerance::function(4, beta)
        }
        _ => Tolerance::function(0, 0.0),
    };
    checks.tensor("y", &[("number", x.len())], &found[2], &want, tolerance);
    Ok(())
}

/// Slopes at what backward keeps: `y` or, where they do not follow from it, `x`.
fn slopes(gpu: &Gpu, checks: &mut Checks, function: Activation, x: &[f32]) -> Result<(), Error> {
    let keep_pre = !function.slope_from_output();
    let value = |&x: &f32| activation::apply(function, f64::from(x)) as f32;
    let saved: Vec<f32> = if keep_pre { x.to_vec() } else { x.iter().map(value).collect() };
    // A driver may take what is not a normal number for 0, which is on the other side of a kink.
    let saved: Vec<f32> = saved.into_iter().filter(|saved| !saved.is_subnormal()).collect();
    if saved.is_empty() {
        return Ok(());
    }
    let groups = element_groups(saved.len(), u32::from(u16::MAX));
    let consts = [&[("KEEP_PRE", u32::from(keep_pre))][..], &activation_consts(function)].concat();
    let kernel = element_kernel(KernelId::ActivationBackward, &consts);
    let params =
        params::ActivationBackward { len: saved.len() as u32, groups_x: groups[0], ..Default::default() };
    let ones = vec![1.0; saved.len()];
    let found = run_kernel(gpu, &kernel, params, &[&saved, &ones, &vec![7.0; saved.len()]], groups)?;
    let slope = if keep_pre { activation::slope } else { activation::derivative };
    let want: Vec<f64> = saved.iter().map(|&saved| slope(function, f64::from(saved))).collect();
    let tolerance = match function {
        // 1 - y^2 where y is near 1: the error of the square remains, and for the scaled one that of y / alpha twice.
        Activation::Tanh => Tolerance::function(2, 1.0),
        Activation::ScaledTanh { alpha, beta } => Tolerance::function(12, alpha * beta),
        // y + alpha where y is near -alpha; y is computed from x.
        Activation::Elu { alpha } if keep_pre => Tolerance::function(12, alpha),
        _ => Tolerance::function(0, 0.0),
    };
    checks.tensor("slope", &[("number", saved.len())], &found[2], &want, tolerance);
    Ok(())
}
