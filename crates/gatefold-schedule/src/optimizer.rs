//! An update lowered to plan steps: the gradient's norm, clipping, the optimiser.

use crate::{Binding, Element, Given, ParameterEntry, ParameterLayout, Plan, Span, product};
use gatefold_model::{Optimizer, ParameterRule, TrainConfig};
use gatefold_shaders::params::{self, Hyper, Piece, Status};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, MAX_PIECE_LEN};

const PIECE_LEN: usize = MAX_PIECE_LEN as usize;
/// Elements of [`Given::Hyper`].
pub const HYPER_LEN: usize = size_of::<Hyper>() / 4;
/// Elements of [`Given::Status`].
pub const STATUS_LEN: usize = size_of::<Status>() / 4;

/// The stretches of the gradient that count for its norm, each within one parameter, by buffer of gradients.
pub fn pieces(layout: &ParameterLayout, config: &TrainConfig) -> Vec<Vec<Piece>> {
    let mut found = vec![Vec::new(); layout.chunks.len()];
    for entry in layout.entries.iter().filter(|entry| !config.rule(&entry.name).frozen) {
        found[entry.chunk].extend((0..entry.len).step_by(PIECE_LEN).map(|begin| Piece {
            offset: (entry.offset + begin) as u32,
            len: PIECE_LEN.min(entry.len - begin) as u32,
            layer: entry.layer as u32,
            _pad: 0,
        }));
    }
    found
}

/// Neighbouring parameters that are treated alike.
struct Run {
    chunk: usize,
    offset: usize,
    len: usize,
    rule: ParameterRule,
}

fn runs(layout: &ParameterLayout, config: &TrainConfig) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &ParameterEntry { ref name, chunk, offset, len, .. } in &layout.entries {
        let rule = config.rule(name);
        match runs.last_mut() {
            Some(run) if run.rule == rule && run.chunk == chunk => run.len = offset + len - run.offset,
            _ => runs.push(Run { chunk, offset, len, rule }),
        }
    }
    runs.retain(|run| !run.rule.frozen);
    runs
}

/// Norm, clipping, optimiser; clears the gradient afterwards.
pub(crate) fn lower(plan: &mut Plan, layout: &ParameterLayout, config: &TrainConfig) {
    let hyper = plan.given_as(Given::Hyper, Element::U32, HYPER_LEN);
    let status = plan.given_as(Given::Status, Element::U32, STATUS_LEN);
    norm(plan, layout, config, (hyper, status));
    let runs = runs(layout, config);
    // All trials come first: an update that overflows in any parameter changes none.
    for trial in [true, false] {
        for run in &runs {
            update(plan, layout, config, (hyper, status), run, trial);
        }
    }
    for (chunk, &len) in layout.chunks.iter().enumerate() {
        let gradients = plan.given(Given::Gradients(chunk), len);
        plan.clear(gradients);
    }
}

fn norm(plan: &mut Plan, layout: &ParameterLayout, config: &TrainConfig, (hyper, status): (Span, Span)) {
    let consts = [("WG_SIZE", ELEMENT_WG_SIZE)];
    let counts: Vec<usize> = pieces(layout, config).iter().map(Vec::len).collect();
    // An invocation of a piece's workgroup leaves four elements.
    let partials = |pieces: usize| pieces * ELEMENT_WG_SIZE as usize;
    let all = partials(counts.iter().sum());
    if all == 0 {
        return;
    }
    let found = plan.scratch("norm.partials", 4 * all);
    let mut begin = 0;
    for (chunk, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let pieces = plan.given_as(Given::Pieces(chunk), Element::U32, count * size_of::<Piece>() / 4);
        let gradients = plan.given(Given::Gradients(chunk), layout.chunks[chunk]);
        let (groups, groups_x) = product::element_groups(partials(count));
        let params = params::GradientNorm {
            pieces: count as u32,
            groups_x,
            clip_value: config.clip_value.unwrap_or(0.0),
            ..Default::default()
        };
        let to = found.part(begin, 4 * partials(count));
        let bindings = [pieces.into(), gradients.into(), to.into()];
        plan.dispatch(KernelVariant::new(KernelId::GradientNorm, &consts), params, &bindings, groups);
        begin += to.len;
    }
    let clip = config.clip_norm.unwrap_or(0.0);
    plan.dispatch(
        KernelVariant::new(KernelId::FinishNorm, &consts),
        params::FinishNorm { partials: all as u32, clip, ..Default::default() },
        &[found.into(), hyper.into(), status.into()],
        [1, 1, 1],
    );
}

fn update(
    plan: &mut Plan,
    layout: &ParameterLayout,
    config: &TrainConfig,
    (hyper, status): (Span, Span),
    &Run { chunk, offset, len, rule }: &Run,
    trial: bool,
) {
    let whole = layout.chunks[chunk];
    let gradients = plan.given(Given::Gradients(chunk), whole);
    let values = plan.given(Given::Parameters(chunk), whole);
    let optimizer = config.optimizer_of(rule);
    let kept = optimizer.moments();
    // A moment that this form of the optimiser does not keep is not read either.
    let mut moment = |name: &'static str| {
        let span = kept.contains(&name).then(|| plan.given(Given::Moment(name, chunk), whole));
        Binding::from(span)
    };
    let (groups, groups_x) = product::element_groups(len);
    let (offset, len, rate_factor) = (offset as u32, len as u32, rule.learning_rate_factor);
    let first_block = layout.first_block(chunk) as u32;
    let common = [hyper, status, gradients, values].map(Binding::from);
    let own = ("WG_SIZE", ELEMENT_WG_SIZE);
    let dispatch = match optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay } => {
            let bindings = [&common[..], &[moment(Optimizer::MOMENTUM)]].concat();
            let params = params::Sgd {
                offset,
                len,
                groups_x,
                nesterov: u32::from(nesterov),
                rate_factor,
                momentum,
                decay: weight_decay,
                trial: u32::from(trial),
                first_block,
                ..Default::default()
            };
            plan.dispatch(KernelVariant::new(KernelId::Sgd, &[own]), params, &bindings, groups)
        }
        Optimizer::RmsProp { alpha, epsilon, momentum, centered, weight_decay: decay } => {
            let moments = [Optimizer::SECOND, Optimizer::MEAN, Optimizer::MOMENTUM].map(&mut moment);
            let bindings = [&common[..], &moments[..]].concat();
            let kernel = KernelVariant::new(KernelId::RmsProp, &[own, ("CENTERED", u32::from(centered))]);
            let params = params::RmsProp {
                offset,
                len,
                groups_x,
                rate_factor,
                alpha,
                epsilon,
                momentum,
                decay,
                trial: u32::from(trial),
                first_block,
                ..Default::default()
            };
            plan.dispatch(kernel, params, &bindings, groups)
        }
        Optimizer::Adam { beta1, beta2, epsilon, weight_decay: decay }
        | Optimizer::AdamW { beta1, beta2, epsilon, weight_decay: decay } => {
            let moments = [Optimizer::FIRST, Optimizer::SECOND].map(&mut moment);
            let bindings = [&common[..], &moments[..]].concat();
            let decoupled = u32::from(matches!(optimizer, Optimizer::AdamW { .. }));
            let kernel = KernelVariant::new(KernelId::Adam, &[own, ("DECOUPLED", decoupled)]);
            let params = params::Adam {
                offset,
                len,
                groups_x,
                rate_factor,
                beta1,
                beta2,
                epsilon,
                decay,
                trial: u32::from(trial),
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
