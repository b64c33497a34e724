//! A loss lowered to plan steps: outputs, targets and weights in, the loss into the list of losses, the gradient out.

use crate::layer::Sequence;
use crate::plan::ALIGNMENT;
use crate::{Element, Given, Plan, Span, product};
use gatefold_model::Loss;
use gatefold_shaders::params::{self, Status};
use gatefold_shaders::{ELEMENT_WG_SIZE, ElementLossKind, KernelId, KernelVariant};

/// The most losses that wait on the device; after that, the host fetches them unasked.
pub const LOSS_CAPACITY: usize = 1024;
/// Elements of the status in [`Given::Report`].
pub const STATUS_LEN: usize = size_of::<Status>() / 4;
/// The place of the losses there: their count, then the losses.
pub const LOSSES_AT: usize = ALIGNMENT;
const _: () = assert!(STATUS_LEN <= LOSSES_AT, "the status ends before the losses");
/// Elements of [`Given::Report`].
pub const REPORT_LEN: usize = LOSSES_AT + 1 + LOSS_CAPACITY;

/// The report, declared in a plan.
pub(crate) fn report(plan: &mut Plan) -> Span {
    plan.given_as(Given::Report, Element::U32, REPORT_LEN)
}

/// Invocations that add up a loss.
const LOSS_PARTS: usize = 1024;
const CONSTS: (&str, u32) = ("WG_SIZE", ELEMENT_WG_SIZE);

/// Puts the loss into the list of losses; returns the gradient with respect to the outputs.
///
/// # Panics
/// If the outputs do not have a width that the loss takes.
pub(crate) fn lower(plan: &mut Plan, loss: &Loss, y: Sequence) -> Sequence {
    let rows = y.steps * y.batch;
    let features = loss.target_width(y.width).expect("training checks the loss against the network");
    let wanted = plan.given(Given::Target, rows * features);
    let weights = plan.given(Given::Weights, rows);
    let d_y = plan.scratch("d_y", y.len());
    let outputs = match plan.bind(y.span) {
        (outputs, 0) => outputs,
        // The output of a scan begins after its initial value, where perhaps no binding can begin.
        _ => {
            let outputs = plan.scratch("y", y.len());
            plan.copy(y.span, outputs);
            outputs
        }
    };
    let data = [outputs, wanted, weights, d_y];
    let element = |plan: &mut Plan, kind, blocks: &[(usize, f32)]| {
        elements(plan, kind, data, (rows, features, y.width), blocks)
    };
    let sums = match loss {
        Loss::SquaredError => element(plan, ElementLossKind::Squared, &[(0, 0.0)]),
        Loss::AbsoluteError => element(plan, ElementLossKind::Absolute, &[(0, 0.0)]),
        Loss::Huber { delta } => element(plan, ElementLossKind::Huber, &[(0, *delta)]),
        Loss::GaussianLikelihood => element(plan, ElementLossKind::Gaussian, &[(0, 0.0)]),
        Loss::Quantile { levels } => {
            let blocks: Vec<(usize, f32)> =
                levels.iter().enumerate().map(|(k, level)| (k * features, *level)).collect();
            element(plan, ElementLossKind::Quantile, &blocks)
        }
        Loss::CrossEntropy => cross_entropy(plan, data, (rows, y.width)),
    };
    let losses = report(plan).part(LOSSES_AT, 1 + LOSS_CAPACITY);
    let (parts, capacity) = (sums.len as u32, LOSS_CAPACITY as u32);
    plan.dispatch(
        KernelVariant::new(KernelId::SumLoss, &[CONSTS]),
        params::SumLoss { parts, capacity, ..Default::default() },
        &[sums.into(), losses.into()],
        [1, 1, 1],
    );
    Sequence { span: d_y, ..y }
}

/// A dispatch for each block of outputs, given as its first output and the loss's option; returns the sums by parts.
fn elements(
    plan: &mut Plan,
    kind: ElementLossKind,
    [y, wanted, weights, d_y]: [Span; 4],
    (rows, features, stride): (usize, usize, usize),
    blocks: &[(usize, f32)],
) -> Span {
    let len = rows * features;
    let parts = LOSS_PARTS.min(len);
    let sums = plan.scratch("loss.parts", blocks.len() * parts);
    for (k, &(offset, option)) in blocks.iter().enumerate() {
        plan.dispatch(
            KernelVariant::new(KernelId::ElementLoss, &[CONSTS, ("LOSS", kind as u32)]),
            params::ElementLoss {
                len: len as u32,
                features: features as u32,
                stride: stride as u32,
                offset: offset as u32,
                parts: parts as u32,
                first_part: (k * parts) as u32,
                option,
                ..Default::default()
            },
            &[y.into(), wanted.into(), weights.into(), d_y.into(), sums.into()],
            [parts.div_ceil(ELEMENT_WG_SIZE as usize) as u32, 1, 1],
        );
    }
    sums
}

/// Returns the weighted cost of each row.
fn cross_entropy(
    plan: &mut Plan,
    [y, wanted, weights, d_y]: [Span; 4],
    (rows, classes): (usize, usize),
) -> Span {
    // If a row has work for every invocation of a workgroup, they share it.
    let wide = classes > ELEMENT_WG_SIZE as usize;
    let costs = plan.scratch("loss.rows", rows);
    let invocations = if wide { rows * ELEMENT_WG_SIZE as usize } else { rows };
    let (groups, groups_x) = product::element_groups(invocations);
    plan.dispatch(
        KernelVariant::new(KernelId::CrossEntropy, &[CONSTS, ("WIDE", u32::from(wide))]),
        params::CrossEntropy { rows: rows as u32, classes: classes as u32, groups_x, ..Default::default() },
        &[y.into(), wanted.into(), weights.into(), d_y.into(), costs.into()],
        groups,
    );
    costs
}
