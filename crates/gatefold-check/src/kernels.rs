//! Each kernel against its mirror, over awkward sizes and every family of variants.

mod convolution;
mod embedding;
mod gradients;
mod linear;
mod loss;
mod matmul;
mod normalise;
mod optim;
mod pool;
mod row;
mod rows;
mod scan;
mod sequence;
mod stages;
mod tangent;
mod whole_scan;

pub(crate) use linear::{ACTIVATIONS_BOTH_WAYS, activation_consts};

use crate::selfcheck::Checks;
use gatefold::hooks::probed;
use gatefold::layers::CustomCell;
use gatefold::{Error, Gpu, wgpu};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, Lanes};
use stages::Subject;

/// Whether a device can run a kernel: those whose workgroups wait for each other take more than WebGPU promises.
///
/// # Errors
/// Any error of running a probe.
pub fn can_run(gpu: &Gpu, id: KernelId) -> Result<bool, Error> {
    Ok(!id.waits() || probed(gpu)?.target().resident_groups > 0)
}

/// Runs every case of a kernel and compares the results with its mirror in the reference. The match is exhaustive, so a
/// kernel without a mirror does not build.
///
/// # Errors
/// Any error of running a kernel.
pub fn check_kernel(gpu: &Gpu, id: KernelId) -> Result<Checks, Error> {
    let mut checks = Checks::default();
    match id {
        KernelId::StepForward => scan::step_forward(gpu, &mut checks, &Subject::all()),
        KernelId::StepTangent => tangent::step_tangent(gpu, &mut checks),
        KernelId::StepBackward => scan::step_backward(gpu, &mut checks, &Subject::with_recurrence()),
        KernelId::RowForward => row::row_forward(gpu, &mut checks),
        KernelId::RowBackward => row::row_backward(gpu, &mut checks),
        KernelId::RowScanForward => row::row_scan_forward(gpu, &mut checks),
        KernelId::RowScanBackward => row::row_scan_backward(gpu, &mut checks),
        KernelId::ScanForward => whole_scan::scan_forward(gpu, &mut checks, &whole_scan::subjects()),
        KernelId::ScanBackward => whole_scan::scan_backward(gpu, &mut checks, &whole_scan::subjects()),
        KernelId::GridForward => whole_scan::grid_forward(gpu, &mut checks, &whole_scan::some_subjects()),
        KernelId::GridBackward => whole_scan::grid_backward(gpu, &mut checks, &whole_scan::some_subjects()),
        KernelId::GridProbe => whole_scan::grid_probe(gpu, &mut checks),
        KernelId::InitialBackward => gradients::initial_backward(gpu, &mut checks),
        KernelId::StepBackwardInner => scan::step_backward_inner(gpu, &mut checks, &Subject::with_backward()),
        KernelId::ReadoutBackward => gradients::readout_backward(gpu, &mut checks),
        KernelId::PeepholeGradient => gradients::peephole_gradient(gpu, &mut checks),
        KernelId::InitialRows => rows::initial_rows(gpu, &mut checks),
        KernelId::FinalRows => rows::final_rows(gpu, &mut checks),
        KernelId::InterleavedLengths => rows::interleaved_lengths(gpu, &mut checks),
        KernelId::InterleavedRows => rows::interleaved_rows(gpu, &mut checks),
        KernelId::ScanOutput => rows::scan_output(gpu, &mut checks),
        KernelId::MatMul => matmul::matmul(gpu, &mut checks),
        KernelId::MatMulStaged => matmul::matmul_staged(gpu, &mut checks),
        KernelId::SumSlices => linear::sum_slices(gpu, &mut checks),
        KernelId::Pack => linear::pack(gpu, &mut checks),
        KernelId::UnpackGradient => linear::unpack_gradient(gpu, &mut checks),
        KernelId::ColumnSum => linear::column_sum(gpu, &mut checks),
        KernelId::ActivationBackward => linear::activation_backward(gpu, &mut checks),
        KernelId::ElementLoss => loss::element_loss(gpu, &mut checks),
        KernelId::CrossEntropy => loss::cross_entropy(gpu, &mut checks),
        KernelId::SumLoss => loss::sum_loss(gpu, &mut checks),
        KernelId::GradientNorm => optim::gradient_norm(gpu, &mut checks),
        KernelId::FinishNorm => optim::finish_norm(gpu, &mut checks),
        KernelId::Sgd => optim::sgd(gpu, &mut checks),
        KernelId::RmsProp => optim::rmsprop(gpu, &mut checks),
        KernelId::Adam => optim::adam(gpu, &mut checks),
        KernelId::Average => optim::average(gpu, &mut checks),
        KernelId::GatherRows => embedding::gather_rows(gpu, &mut checks),
        KernelId::RowCounts => embedding::row_counts(gpu, &mut checks),
        KernelId::RowPlaces => embedding::row_places(gpu, &mut checks),
        KernelId::PlaceRows => embedding::place_rows(gpu, &mut checks),
        KernelId::RunSums => embedding::run_sums(gpu, &mut checks),
        KernelId::AddRuns => embedding::add_runs(gpu, &mut checks),
        KernelId::Softmax => sequence::softmax(gpu, &mut checks),
        KernelId::SoftmaxBackward => sequence::softmax_backward(gpu, &mut checks),
        KernelId::NormaliseRows => normalise::normalise_rows(gpu, &mut checks),
        KernelId::NormaliseRowsBackward => normalise::normalise_rows_backward(gpu, &mut checks),
        KernelId::NormaliseRowsTangent => normalise::normalise_rows_tangent(gpu, &mut checks),
        KernelId::Pool => pool::pool(gpu, &mut checks),
        KernelId::PoolBackward => pool::pool_backward(gpu, &mut checks),
        KernelId::Dropout => sequence::dropout(gpu, &mut checks),
        KernelId::Add => sequence::add(gpu, &mut checks),
        KernelId::MaskRows => sequence::mask_rows(gpu, &mut checks),
        KernelId::LastRows => sequence::last_rows(gpu, &mut checks),
        KernelId::LastRowsBackward => sequence::last_rows_backward(gpu, &mut checks),
        KernelId::Unfold => convolution::unfold(gpu, &mut checks),
        KernelId::Fold => convolution::fold(gpu, &mut checks),
        KernelId::ConvolvedLengths => convolution::convolved_lengths(gpu, &mut checks),
        KernelId::CopyBlock => sequence::copy_block(gpu, &mut checks),
        KernelId::Repeat => sequence::repeat(gpu, &mut checks),
        KernelId::Fill => sequence::fill(gpu, &mut checks),
    }?;
    Ok(checks)
}

/// The kernels that a custom cell is joined with, each with the checks of its cases.
pub(crate) fn check_custom_kernels(gpu: &Gpu, cell: CustomCell) -> Vec<(KernelId, Result<Checks, Error>)> {
    type Check = fn(&Gpu, &mut Checks, &[Subject]) -> Result<(), Error>;
    let kernels: [(KernelId, Check); 7] = [
        (KernelId::StepForward, scan::step_forward),
        (KernelId::StepBackward, scan::step_backward),
        (KernelId::StepBackwardInner, scan::step_backward_inner),
        (KernelId::ScanForward, whole_scan::scan_forward),
        (KernelId::ScanBackward, whole_scan::scan_backward),
        (KernelId::GridForward, whole_scan::grid_forward),
        (KernelId::GridBackward, whole_scan::grid_backward),
    ];
    let run = |(id, check): (KernelId, Check)| {
        let mut checks = Checks::default();
        let result = check(gpu, &mut checks, &[Subject::custom(cell)]);
        (id, result.map(|()| checks))
    };
    let runs = |&(id, _): &(KernelId, Check)| can_run(gpu, id).unwrap_or(true);
    kernels.into_iter().filter(runs).map(run).collect()
}

/// The ways of sharing loads that the device supports.
fn lanes(gpu: &Gpu) -> Vec<Lanes> {
    let subgroups = gpu.device().features().contains(wgpu::Features::SUBGROUP);
    let wide = gpu.info().subgroup_min_size >= 8;
    if subgroups && wide { vec![Lanes::Single, Lanes::Subgroup] } else { vec![Lanes::Single] }
}

/// A kernel that treats each element on its own.
pub(crate) fn element_kernel(id: KernelId, consts: &[(&'static str, u32)]) -> KernelVariant {
    KernelVariant::new(id, &[&[("WG_SIZE", ELEMENT_WG_SIZE)], consts].concat())
}

/// Workgroups for `len` elements, at most `widest` of them along the first axis, so that even small tensors fill two
/// axes.
pub(crate) fn element_groups(len: usize, widest: u32) -> [u32; 3] {
    let groups = (len as u32).div_ceil(ELEMENT_WG_SIZE);
    let x = groups.min(widest);
    [x, groups.div_ceil(x), 1]
}

/// A tensor after `others` other elements of its buffer.
fn after_others(others: usize, values: &[f32]) -> Vec<f32> {
    [&vec![9.0; others], values].concat()
}

/// Lengths around the size of a workgroup, and one of many workgroups.
const LENGTHS: [usize; 6] = [1, 63, 64, 65, 131, 4099];

/// Most workgroups along x, in turn: all in one row, or several rows of two.
const WIDEST: [u32; 2] = [65_535, 2];
