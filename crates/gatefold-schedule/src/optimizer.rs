//! An update lowered to plan steps: the gradient's norm, clipping, the optimiser, the moving average.

use crate::{Binding, Element, Given, ParameterLayout, Plan, STATUS_LEN, Span, Target, loss, product};
use bytemuck::cast_slice;
use gatefold_model::{Optimizer, TrainConfig};
use gatefold_shaders::params::{self, Hyper, Piece};
use gatefold_shaders::{KernelId, KernelVariant, MAX_PIECE_LEN, SOFTWARE_UPDATE_WG_SIZE, UPDATE_WG_SIZE};

/// Elements of [`Given::Hyper`].
pub const HYPER_LEN: usize = size_of::<Hyper>() / 4;

/// A piece is at least four elements for each invocation of its workgroup, so that the norm has few parts.
const SHORTEST_PIECE: usize = 4 * UPDATE_WG_SIZE as usize;
/// Pieces that fill a large device.
const ENOUGH_PIECES: usize = 1024;
/// Elements of a part of the norm.
const PARTIAL: usize = 4;

/// A kernel of the norm or an update. A software driver runs the invocations of a workgroup by turns, and joins the parts
/// of the norm on all of them at every halving, so few are faster there.
fn update_kernel(id: KernelId, target: &Target, consts: &[(&'static str, u32)]) -> KernelVariant {
    let wg_size = if target.software { SOFTWARE_UPDATE_WG_SIZE } else { UPDATE_WG_SIZE };
    KernelVariant::new(id, &[&[("WG_SIZE", wg_size)], consts].concat())
}

/// The pieces of a buffer of parameters, in a table on the device.
#[derive(Clone, Copy)]
struct Pieces {
    chunk: usize,
    table: Span,
    count: usize,
}

/// The parameters that are trained, cut into pieces that each lie within one parameter, by buffer of parameters.
fn pieces(layout: &ParameterLayout, config: &TrainConfig) -> Vec<Vec<Piece>> {
    let trained = || layout.entries.iter().filter(|entry| !config.rule(&entry.name).frozen);
    let elements: usize = trained().map(|entry| entry.len).sum();
    let enough = elements.div_ceil(ENOUGH_PIECES).next_multiple_of(UPDATE_WG_SIZE as usize);
    let piece_len = enough.clamp(SHORTEST_PIECE, MAX_PIECE_LEN as usize);
    let mut found = vec![Vec::new(); layout.chunks.len()];
    for entry in trained() {
        let rule = config.rule(&entry.name);
        let (Optimizer::Sgd { weight_decay: decay, .. }
        | Optimizer::RmsProp { weight_decay: decay, .. }
        | Optimizer::Adam { weight_decay: decay, .. }
        | Optimizer::AdamW { weight_decay: decay, .. }) = config.optimizer_of(rule);
        found[entry.chunk].extend((0..entry.len).step_by(piece_len).map(|begin| Piece {
            offset: (entry.offset + begin) as u32,
            len: piece_len.min(entry.len - begin) as u32,
            layer: entry.layer as u32,
            rate_factor: rule.learning_rate_factor,
            decay,
            ..Default::default()
        }));
    }
    found
}

/// Norm, clipping, optimiser, moving average; the gradient is cleared.
pub(crate) fn lower(plan: &mut Plan, layout: &ParameterLayout, config: &TrainConfig, target: &Target) {
    let hyper = plan.given_as(Given::Hyper, Element::U32, HYPER_LEN);
    let status = loss::report(plan).part(0, STATUS_LEN);
    let pieces: Vec<Pieces> = pieces(layout, config)
        .into_iter()
        .enumerate()
        .filter(|(_, pieces)| !pieces.is_empty())
        .map(|(chunk, pieces)| {
            let name = if chunk == 0 { "pieces".into() } else { format!("pieces{chunk}") };
            Pieces { chunk, table: plan.table(name, cast_slice(&pieces).into()), count: pieces.len() }
        })
        .collect();
    if pieces.is_empty() {
        return;
    }
    norm(plan, layout, config, target, (hyper, status), &pieces);
    // All trials come first: an update that overflows in any parameter changes none.
    for trial in [true, false] {
        for &pieces in &pieces {
            update(plan, layout, config, target, (hyper, status), pieces, trial);
        }
    }
    if config.average.is_some() {
        for &pieces in &pieces {
            average(plan, layout, target, (hyper, status), pieces);
        }
    }
}

fn norm(
    plan: &mut Plan,
    layout: &ParameterLayout,
    config: &TrainConfig,
    target: &Target,
    (hyper, status): (Span, Span),
    pieces: &[Pieces],
) {
    let all: usize = pieces.iter().map(|pieces| pieces.count).sum();
    let found = plan.scratch("norm.partials", PARTIAL * all);
    let mut first = 0;
    for &Pieces { chunk, table, count } in pieces {
        let gradients = plan.given(Given::Gradients(chunk), layout.chunks[chunk]);
        let (groups, groups_x) = product::groups(count);
        let params = params::GradientNorm {
            pieces: count as u32,
            groups_x,
            first,
            clip_value: config.clip_value.unwrap_or(0.0),
        };
        let bindings = [table.into(), gradients.into(), found.into()];
        plan.dispatch(update_kernel(KernelId::GradientNorm, target, &[]), params, &bindings, groups);
        first += count as u32;
    }
    let clip = config.clip_norm.unwrap_or(0.0);
    plan.dispatch(
        update_kernel(KernelId::FinishNorm, target, &[]),
        params::FinishNorm { partials: all as u32, clip, ..Default::default() },
        &[found.into(), hyper.into(), status.into()],
        [1, 1, 1],
    );
}

/// The moving average of all pieces of a buffer, in a dispatch of its own: RMSprop binds as many buffers as WebGPU
/// promises already.
fn average(
    plan: &mut Plan,
    layout: &ParameterLayout,
    target: &Target,
    (hyper, status): (Span, Span),
    Pieces { chunk, table, count }: Pieces,
) {
    let [values, averages] = [Given::Parameters(chunk), Given::Average(chunk)]
        .map(|given| plan.given(given, layout.chunks[chunk]));
    let (groups, groups_x) = product::groups(count);
    let params = params::Average { pieces: count as u32, groups_x, ..Default::default() };
    let bindings = [hyper, table, status, values, averages].map(Binding::from);
    plan.dispatch(update_kernel(KernelId::Average, target, &[]), params, &bindings, groups);
}

/// Copies the parameters to where their moving average is.
pub(crate) fn start_average(plan: &mut Plan, layout: &ParameterLayout) {
    for (chunk, &len) in layout.chunks.iter().enumerate() {
        let [values, averages] =
            [Given::Parameters(chunk), Given::Average(chunk)].map(|given| plan.given(given, len));
        plan.copy(values, averages);
    }
}

/// All pieces of a buffer in one dispatch, tried or written.
fn update(
    plan: &mut Plan,
    layout: &ParameterLayout,
    config: &TrainConfig,
    target: &Target,
    (hyper, status): (Span, Span),
    Pieces { chunk, table, count }: Pieces,
    trial: bool,
) {
    let whole = layout.chunks[chunk];
    let gradients = plan.given(Given::Gradients(chunk), whole);
    let values = plan.given(Given::Parameters(chunk), whole);
    let optimizer = config.optimizer;
    let kept = optimizer.moments();
    // A moment that this form of the optimiser does not keep is not read either.
    let mut moment = |name: &'static str| {
        let span = kept.contains(&name).then(|| plan.given(Given::Moment(name, chunk), whole));
        Binding::from(span)
    };
    let (groups, groups_x) = product::groups(count);
    let (pieces, trials) = (count as u32, u32::from(trial));
    let first_block = layout.first_block(chunk) as u32;
    let common = [hyper, table, status, gradients, values].map(Binding::from);
    let dispatch = match optimizer {
        Optimizer::Sgd { momentum, nesterov, .. } => {
            let bindings = [&common[..], &[moment(Optimizer::MOMENTUM)]].concat();
            let params = params::Sgd {
                pieces,
                groups_x,
                nesterov: u32::from(nesterov),
                momentum,
                trial: trials,
                first_block,
                ..Default::default()
            };
            plan.dispatch(update_kernel(KernelId::Sgd, target, &[]), params, &bindings, groups)
        }
        Optimizer::RmsProp { alpha, epsilon, momentum, centered, .. } => {
            let moments = [Optimizer::SECOND, Optimizer::MEAN, Optimizer::MOMENTUM].map(&mut moment);
            let bindings = [&common[..], &moments[..]].concat();
            let kernel = update_kernel(KernelId::RmsProp, target, &[("CENTERED", u32::from(centered))]);
            let params = params::RmsProp {
                pieces,
                groups_x,
                alpha,
                epsilon,
                momentum,
                trial: trials,
                first_block,
                ..Default::default()
            };
            plan.dispatch(kernel, params, &bindings, groups)
        }
        Optimizer::Adam { beta1, beta2, epsilon, .. } | Optimizer::AdamW { beta1, beta2, epsilon, .. } => {
            let moments = [Optimizer::FIRST, Optimizer::SECOND].map(&mut moment);
            let bindings = [&common[..], &moments[..]].concat();
            let decoupled = u32::from(matches!(optimizer, Optimizer::AdamW { .. }));
            let kernel = update_kernel(KernelId::Adam, target, &[("DECOUPLED", decoupled)]);
            let params = params::Adam {
                pieces,
                groups_x,
                beta1,
                beta2,
                epsilon,
                trial: trials,
                first_block,
                ..Default::default()
            };
            plan.dispatch(kernel, params, &bindings, groups)
        }
    };
    if trial {
        dispatch.note("trial".into());
    }
}
