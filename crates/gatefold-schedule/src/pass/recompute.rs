//! A batch trained in chunks of its steps, so that only the values of one chunk are in memory.
//!
//! Forward, every chunk but the last advances the states, and the host keeps those at which each chunk begins. Backward
//! goes from the last chunk to the first: each starts from its kept states, computes its values again, and takes the
//! gradient with respect to its final states from the chunk after it.

use super::{Axis, InitialFrom, Part, Pass, PassPlan, carry, check_sizes, lowering, packing, train, update};
use crate::layer::Purpose;
use crate::{Error, MemoryNeed, ParameterLayout, ParameterSpans, Plan, StateLayout, Target, memory, network};
use gatefold_model::{NetworkConfig, TrainConfig};
use std::collections::BTreeMap;

/// The plans with which a batch is trained in chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkStage {
    /// Packs the weights, once a batch.
    Pack,
    /// Forward over a chunk, for nothing but its final states: they replace those that it starts from.
    Advance,
    /// Forward, loss and backward of a chunk; adds to the gradients. The gradient with respect to the initial states
    /// replaces that with respect to the final ones, in the buffer of [`StateSet::DFinal`](crate::StateSet::DFinal).
    Backward,
}

/// The chunks of a batch, in order; all have `steps` steps, but the last may have fewer.
///
/// # Panics
/// If `steps` is 0.
pub fn chunks(whole: &Pass, steps: usize) -> Vec<Pass> {
    let all = whole.shape.input.steps;
    let begins = (0..all).step_by(steps);
    let chunk = |begin: usize| {
        let axis = Axis { steps: steps.min(all - begin), ..whole.shape.input };
        let mut pass = Pass { carry: None, ..*whole };
        pass.shape.input = axis;
        if begin > 0 {
            pass.initial = InitialFrom::Given;
        }
        // States may be carried from the middle of the batch, if the next one overlaps it.
        if let Some(kept) = whole.carry.filter(|kept| (begin + 1..=begin + axis.steps).contains(kept)) {
            pass.carry = Some(kept - begin);
        }
        pass
    };
    begins.map(chunk).collect()
}

/// One of the plans for a chunk.
///
/// # Errors
/// [`Error::Shape`] for a batch that the network does not read; [`Error::TooLarge`] and [`Error::Limit`] for what the device
/// has no room for.
pub fn chunk(
    network: &NetworkConfig,
    config: &TrainConfig,
    target: &Target,
    pass: &Pass,
    stage: ChunkStage,
) -> Result<PassPlan, Error> {
    match stage {
        ChunkStage::Pack => {
            Ok(PassPlan::new(packing(network, target, Purpose::Training), target, Vec::new(), Vec::new()))
        }
        ChunkStage::Advance => advance(network, target, pass),
        ChunkStage::Backward => train::chunk(network, config, target, pass),
    }
}

fn advance(config: &NetworkConfig, target: &Target, pass: &Pass) -> Result<PassPlan, Error> {
    let pass = Pass { part: Part::Recurrent, carry: Some(pass.shape.input.steps), ..*pass };
    check_sizes(config, target, &pass)?;
    let mut plan = Plan::default();
    let layout = ParameterLayout::new(config, target);
    let parameters = ParameterSpans::new(&layout, |_| false);
    // As in training, so that both runs of a chunk have the same bits.
    let mut low = lowering(&mut plan, target, &parameters, Purpose::Training, &pass);
    let forward = network::forward(&mut low, config, &pass, false)?;
    carry(&mut low, config, &pass, &forward);
    Ok(PassPlan::new(plan, target, train::uploads(), Vec::new()))
}

/// The elements of the states that are kept: those at which each chunk begins, then those carried to the next batch.
pub fn kept_len(config: &NetworkConfig, whole: &Pass, steps: usize) -> usize {
    let chunks = whole.shape.input.steps.div_ceil(steps);
    (chunks + 1) * StateLayout::new(config, whole.shape.batch).len
}

/// The memory that a batch needs on the device, with the update.
pub(super) fn memory_need(
    network: &NetworkConfig,
    config: &TrainConfig,
    target: &Target,
    (whole, steps): (&Pass, usize),
) -> Result<MemoryNeed, Error> {
    let passes = chunks(whole, steps);
    let mut plans = BTreeMap::new();
    for (at, pass) in passes.iter().enumerate() {
        let stages = [(0, ChunkStage::Advance), (1, ChunkStage::Backward)];
        for (number, stage) in stages.into_iter().skip(usize::from(at + 1 == passes.len())) {
            let key = (number, pass.shape.input.steps, pass.initial == InitialFrom::Given);
            if let std::collections::btree_map::Entry::Vacant(place) = plans.entry(key) {
                place.insert(chunk(network, config, target, pass, stage)?);
            }
        }
    }
    let mut plans: Vec<PassPlan> = plans.into_values().collect();
    plans.push(chunk(network, config, target, whole, ChunkStage::Pack)?);
    plans.push(PassPlan::new(update(network, config, target), target, Vec::new(), Vec::new()));
    plans.iter().try_for_each(|planned| memory::check(&planned.plan, target))?;
    let planned: Vec<_> =
        plans.iter().map(|planned| (&planned.plan, |given: &_| planned.owns(given))).collect();
    let mut need = memory::need_together(&planned);
    let kept = 4 * kept_len(network, whole, steps) as u64;
    need.bytes += kept;
    need.unshared_bytes += kept;
    if kept > need.largest_bytes {
        (need.largest, need.largest_bytes) = ("kept states".into(), kept);
    }
    Ok(need)
}
