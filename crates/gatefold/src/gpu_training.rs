//! Training on a GPU: a batch's gradient and an update as two plans; losses and failures stay there until asked for.

use crate::buffer::DeviceBuffer;
use crate::cpu::replaced;
use crate::gpu::Target;
use crate::gpu_loss::{self, LOSS_CAPACITY, LOSSES, TARGET, WEIGHTS};
use crate::gpu_network::{GpuNetwork, Kept, Prepared, check_sizes, pack_all, upload};
use crate::gpu_pass;
use crate::layer::{DROPOUT, Lowering, Purpose};
use crate::lower::{self, DECODER_INPUT, DECODER_LENGTHS, From, INPUT, LENGTHS, Part, Pass, Shape, Wanted};
use crate::parameters::{GRADIENTS, ParameterEntry, ParameterLayout, ParameterSpans, VALUES};
use crate::plan::{Plan, Span};
use crate::product;
use crate::train::{Rule, TrainBatch, TrainConfig};
use crate::{Error, Optimizer};
use gatefold_model::{NetworkConfig, Parameters};
use gatefold_shaders::params::{self, Hyper, Piece, Status};
use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, MAX_PIECE_LEN};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

const HYPER: &str = "hyper";
const STATUS: &str = "status";
const PIECES: &str = "pieces";

const PIECE_LEN: usize = MAX_PIECE_LEN as usize;
/// Batches that may be under way: enough to keep the device busy, and few, since each holds its inputs in memory.
const MAX_UNDER_WAY: usize = 3;
const HYPER_LEN: usize = size_of::<Hyper>() / 4;
const STATUS_LEN: usize = size_of::<Status>() / 4;

/// A batch's plan, and the weights of rows that its buffer holds.
#[derive(Debug)]
struct Batch {
    prepared: Prepared,
    weights: Vec<f32>,
}

/// What training keeps on the device beside the network's parameters.
#[derive(Debug)]
pub(crate) struct GpuTraining {
    batches: Kept<Pass, Batch>,
    update: Prepared,
    gradients: Arc<DeviceBuffer>,
    moments: BTreeMap<&'static str, Arc<DeviceBuffer>>,
    /// The values of the network in training: plans hold them.
    values: Arc<DeviceBuffer>,
    losses: Arc<DeviceBuffer>,
    hyper: Arc<DeviceBuffer>,
    status: Arc<DeviceBuffer>,
    /// Batches that may not be done yet, the oldest first.
    under_way: VecDeque<wgpu::SubmissionIndex>,
    /// Losses that are on the device.
    waiting: usize,
    /// Losses that were fetched and not taken.
    fetched: Vec<f32>,
}

impl GpuTraining {
    pub(crate) fn new(network: &mut GpuNetwork, config: &TrainConfig) -> Result<Self, Error> {
        let plan = update_plan(network.config(), config);
        let (gpu, shared, len) = (&network.gpu, &mut network.shared, network.layout.len);
        // A trainer before this one may have left its own state under these names.
        shared.forget(&[GRADIENTS, LOSSES, HYPER, STATUS, PIECES, "mean", "momentum", "m", "v"]);
        let pieces = pieces(&network.layout, config);
        shared.get(gpu, PIECES, pieces.len().max(1) * size_of::<Piece>() / 4)?.write(0, &pieces)?;
        let mut moments = BTreeMap::new();
        for &name in config.optimizer.moments() {
            moments.insert(name, shared.get(gpu, name, len)?);
        }
        Ok(GpuTraining {
            gradients: shared.get(gpu, GRADIENTS, len)?,
            values: Arc::clone(&network.values),
            losses: shared.get(gpu, LOSSES, 1 + LOSS_CAPACITY)?,
            hyper: shared.get(gpu, HYPER, HYPER_LEN)?,
            status: shared.get(gpu, STATUS, STATUS_LEN)?,
            update: Prepared::new(gpu, &plan, shared, &[])?,
            moments,
            batches: Kept::default(),
            under_way: VecDeque::new(),
            waiting: 0,
            fetched: Vec::new(),
        })
    }

    /// Adds a batch's gradients and its loss.
    pub(crate) fn accumulate(
        &mut self,
        network: &mut GpuNetwork,
        config: &TrainConfig,
        given: TrainBatch<'_>,
    ) -> Result<(), Error> {
        self.check_same(network)?;
        if self.waiting == LOSS_CAPACITY {
            self.fetch_losses()?;
        }
        let TrainBatch { input, target, weights, dropout, carry } = given;
        let pass = Pass {
            from: if carry.read { From::Buffers } else { From::Layers },
            carry: carry.keep,
            dropout: dropout.is_some(),
            ..Pass::whole(Shape::of_part(Part::Whole, input))
        };
        let (gpu, described, shared) = (&network.gpu, &network.config, &mut network.shared);
        let kept = self.batches.get_or_make(pass, || {
            let plan = batch_plan(described, config, gpu.target(), &pass)?;
            let own = [INPUT, LENGTHS, DECODER_INPUT, DECODER_LENGTHS, DROPOUT, TARGET, WEIGHTS];
            let prepared = Prepared::new(gpu, &plan, shared, &own.map(String::from))?;
            Ok(Batch { prepared, weights: Vec::new() })
        })?;
        gpu_pass::upload(&kept.prepared, &pass, input, dropout)?;
        upload(&kept.prepared.own[TARGET], target)?;
        if kept.weights != weights {
            kept.prepared.own[WEIGHTS].write(0, &weights)?;
            kept.weights = weights;
        }
        self.under_way.extend(kept.prepared.compiled.submit()?);
        self.waiting += 1;
        if self.under_way.len() > MAX_UNDER_WAY
            && let Some(oldest) = self.under_way.pop_front()
        {
            network.gpu.wait_for(oldest)?;
        }
        Ok(())
    }

    /// Clips the gradients, changes the parameters by them, and clears them. `step` counts updates from 1.
    pub(crate) fn update(
        &mut self,
        network: &mut GpuNetwork,
        config: &TrainConfig,
        rate: f32,
        step: u64,
    ) -> Result<(), Error> {
        self.check_same(network)?;
        let correction = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
        let (correction1, correction2) = match config.optimizer {
            Optimizer::Sgd { .. } | Optimizer::RmsProp { .. } => (1.0, 1.0),
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
                (correction(beta1), correction(beta2))
            }
        };
        let step = u32::try_from(step).unwrap_or(u32::MAX);
        let clip_value = config.clip_value.unwrap_or(0.0);
        let hyper =
            Hyper { step, learning_rate: rate, correction1, correction2, clip_value, ..Default::default() };
        self.hyper.write(0, &[hyper])?;
        self.update.compiled.submit()?;
        network.parameters_changed();
        Ok(())
    }

    fn check_same(&self, network: &GpuNetwork) -> Result<(), Error> {
        if Arc::ptr_eq(&self.values, &network.values) { Ok(()) } else { Err(replaced()) }
    }

    pub(crate) fn take_losses(&mut self, network: &GpuNetwork) -> Result<Vec<f32>, Error> {
        self.fetch_losses()?;
        self.check_finite(network)?;
        Ok(std::mem::take(&mut self.fetched))
    }

    fn fetch_losses(&mut self) -> Result<(), Error> {
        if self.waiting > 0 {
            let found = self.losses.read(0, 1 + self.waiting)?;
            self.fetched.extend(&found[1..]);
            self.losses.write(0, &[0u32])?;
            self.waiting = 0;
        }
        Ok(())
    }

    /// The failure that the device remembers, if there was one.
    pub(crate) fn check_finite(&self, network: &GpuNetwork) -> Result<(), Error> {
        let status = self.status.read(0, STATUS_LEN)?;
        let status: Status = bytemuck::cast_slice(&status)[0];
        if status.failed_step == 0 {
            return Ok(());
        }
        let layer = network.config().layers()[status.failed_layer as usize].place();
        Err(Error::NotFinite { step: u64::from(status.failed_step), layer })
    }

    pub(crate) fn gradients(&self, network: &GpuNetwork) -> Result<Parameters, Error> {
        Ok(network.layout.unflatten(&self.gradients.read(0, network.layout.len)?))
    }

    pub(crate) fn moments(&self, network: &GpuNetwork) -> Result<BTreeMap<String, Parameters>, Error> {
        self.check_finite(network)?;
        let mut found = BTreeMap::new();
        for (name, buffer) in &self.moments {
            let flat = buffer.read(0, network.layout.len)?;
            found.insert(name.to_string(), network.layout.unflatten(&flat));
        }
        Ok(found)
    }

    /// Every moment of the optimiser, under the names of a checkpoint.
    pub(crate) fn set_moments(
        &mut self,
        network: &GpuNetwork,
        moments: &BTreeMap<String, Parameters>,
    ) -> Result<(), Error> {
        for (name, buffer) in &self.moments {
            buffer.write(0, &network.layout.flatten(&moments[*name]))?;
        }
        Ok(())
    }
}

/// Forward, loss and backward of one batch, from the parameters as they are.
pub(crate) fn batch_plan(
    network: &NetworkConfig,
    config: &TrainConfig,
    target: &Target,
    pass: &Pass,
) -> Result<Plan, Error> {
    check_sizes(network, target, pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(network);
    let parameters = ParameterSpans::new(&layout, |name| !config.rule(name).frozen);
    pack_all(&mut plan, target, network, &parameters, Purpose::Training);
    let mut low = Lowering {
        plan: &mut plan,
        target,
        parameters: &parameters,
        purpose: Purpose::Training,
        drops: pass.dropout,
    };
    let forward = lower::forward(&mut low, network, pass, false)?;
    let y = forward.output.expect("the whole network has an output");
    let d_y = gpu_loss::lower(low.plan, &config.loss, y)?;
    lower::backward(&mut low, network, &forward, Some(d_y), BTreeMap::new(), Wanted::default())?;
    gpu_pass::carry(&mut low, network, pass, &forward);
    Ok(plan)
}

/// Stretches of the gradient that count for its norm, each within one parameter.
fn pieces(layout: &ParameterLayout, config: &TrainConfig) -> Vec<Piece> {
    let trained = layout.entries.iter().filter(|entry| !config.rule(&entry.name).frozen);
    trained
        .flat_map(|entry| {
            (0..entry.len).step_by(PIECE_LEN).map(|begin| Piece {
                offset: (entry.offset + begin) as u32,
                len: PIECE_LEN.min(entry.len - begin) as u32,
                layer: entry.layer as u32,
                _pad: 0,
            })
        })
        .collect()
}

/// Neighbouring parameters that are treated alike, as one run: first element, elements, rule.
fn runs(layout: &ParameterLayout, config: &TrainConfig) -> Vec<(usize, usize, Rule)> {
    let mut runs: Vec<(usize, usize, Rule)> = Vec::new();
    for ParameterEntry { name, offset, len, .. } in &layout.entries {
        let rule = config.rule(name);
        match runs.last_mut() {
            Some((begin, run, last)) if *last == rule => *run = offset + len - *begin,
            _ => runs.push((*offset, *len, rule)),
        }
    }
    runs.retain(|(_, _, rule)| !rule.frozen);
    runs
}

/// Norm, clipping, optimiser; the gradient is zero behind it.
pub(crate) fn update_plan(network: &NetworkConfig, config: &TrainConfig) -> Plan {
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(network);
    let gradients = plan.given(GRADIENTS, layout.len);
    let values = plan.given(VALUES, layout.len);
    let hyper = plan.given(HYPER, HYPER_LEN);
    let status = plan.given(STATUS, STATUS_LEN);
    let count = pieces(&layout, config).len();
    if count > 0 {
        norm(&mut plan, gradients, (hyper, status), count, config);
    }
    for (offset, len, rule) in runs(&layout, config) {
        optimizer(&mut plan, &config.optimizer, (hyper, status, gradients, values), (offset, len), rule);
    }
    plan.clear(gradients);
    plan
}

fn norm(plan: &mut Plan, gradients: Span, (hyper, status): (Span, Span), count: usize, config: &TrainConfig) {
    let consts = [("WG_SIZE", ELEMENT_WG_SIZE)];
    let pieces = plan.given(PIECES, count * size_of::<Piece>() / 4);
    let partials = count * ELEMENT_WG_SIZE as usize;
    let found = plan.scratch("norm.partials", 4 * partials);
    let (groups, groups_x) = product::element_groups(count * ELEMENT_WG_SIZE as usize);
    plan.dispatch(
        KernelVariant::new(KernelId::GradientNorm, &consts),
        params::GradientNorm {
            pieces: count as u32,
            groups_x,
            clip_value: config.clip_value.unwrap_or(0.0),
            ..Default::default()
        },
        &[pieces, gradients, found],
        groups,
    );
    plan.dispatch(
        KernelVariant::new(KernelId::FinishNorm, &consts),
        params::FinishNorm {
            partials: partials as u32,
            clip: config.clip_norm.unwrap_or(0.0),
            ..Default::default()
        },
        &[found, hyper, status],
        [1, 1, 1],
    );
}

fn optimizer(
    plan: &mut Plan,
    optimizer: &Optimizer,
    (hyper, status, gradients, values): (Span, Span, Span, Span),
    (offset, len): (usize, usize),
    rule: Rule,
) {
    let (groups, groups_x) = product::element_groups(len);
    let (offset, len, rate_factor) = (offset as u32, len as u32, rule.learning_rate_factor);
    match *optimizer {
        Optimizer::Sgd { momentum, nesterov, weight_decay } => {
            // Without momentum the buffer is bound and left alone.
            let name = if momentum > 0.0 { "momentum" } else { "unused" };
            let buffer = plan.given(name, if momentum > 0.0 { values.len } else { 1 });
            plan.dispatch(
                KernelVariant::new(KernelId::Sgd, &[("WG_SIZE", ELEMENT_WG_SIZE)]),
                params::Sgd {
                    offset,
                    len,
                    groups_x,
                    nesterov: u32::from(nesterov),
                    rate_factor,
                    momentum,
                    decay: weight_decay,
                    ..Default::default()
                },
                &[hyper, status, gradients, values, buffer],
                groups,
            );
        }
        Optimizer::RmsProp { alpha, epsilon, momentum, centered, weight_decay: decay } => {
            // What a form does not keep is bound and left alone; no buffer may be bound twice.
            let mut moment = |name, unused, keeps| {
                if keeps { plan.given(name, values.len) } else { plan.given(unused, 1) }
            };
            let mean = moment("mean", "unused.mean", centered);
            let buffer = moment("momentum", "unused", momentum > 0.0);
            let v = plan.given("v", values.len);
            plan.dispatch(
                KernelVariant::new(
                    KernelId::RmsProp,
                    &[("WG_SIZE", ELEMENT_WG_SIZE), ("CENTERED", u32::from(centered))],
                ),
                params::RmsProp { offset, len, groups_x, rate_factor, alpha, epsilon, momentum, decay },
                &[hyper, status, gradients, values, v, mean, buffer],
                groups,
            );
        }
        Optimizer::Adam { beta1, beta2, epsilon, weight_decay: decay }
        | Optimizer::AdamW { beta1, beta2, epsilon, weight_decay: decay } => {
            let decoupled = u32::from(matches!(optimizer, Optimizer::AdamW { .. }));
            let (m, v) = (plan.given("m", values.len), plan.given("v", values.len));
            plan.dispatch(
                KernelVariant::new(KernelId::Adam, &[("WG_SIZE", ELEMENT_WG_SIZE), ("DECOUPLED", decoupled)]),
                params::Adam { offset, len, groups_x, rate_factor, beta1, beta2, epsilon, decay },
                &[hyper, status, gradients, values, m, v],
                groups,
            );
        }
    }
}
