//! Which buffers of a plan may share space, from the plan's lifetimes.

use crate::Error;
use crate::gpu::Target;
use crate::plan::{Plan, Span, Step};

/// Where a plan's scratch buffers go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// For every buffer of the plan its slot; none for those that are given or never used.
    pub(crate) slot_of: Vec<Option<usize>>,
    /// Elements of each slot.
    pub(crate) slot_lens: Vec<usize>,
}

/// First and last step that touch each buffer.
fn lifetimes(plan: &Plan) -> Vec<Option<(usize, usize)>> {
    let mut found: Vec<Option<(usize, usize)>> = vec![None; plan.buffers.len()];
    for (at, step) in plan.steps.iter().enumerate() {
        let mut touch = |span: &Span| {
            let life = &mut found[span.buffer.0];
            *life = Some(life.map_or((at, at), |(first, _)| (first, at)));
        };
        match step {
            Step::Clear(span) => touch(span),
            Step::Copy { from, to } => [from, to].into_iter().for_each(&mut touch),
            Step::Dispatch(dispatch) => dispatch.bindings.iter().for_each(&mut touch),
        }
    }
    found
}

/// Gives every scratch buffer a slot, the largest first, each in the first slot in which no other lives at the same
/// time. A slot is a buffer of its own: wgpu tracks whole buffers, and refuses one that a dispatch both reads and writes.
pub(crate) fn assign(plan: &Plan) -> Assignment {
    let lives = lifetimes(plan);
    let mut order: Vec<(usize, (usize, usize))> = lives
        .iter()
        .enumerate()
        .filter(|(index, _)| !plan.buffers[*index].given)
        .filter_map(|(index, life)| life.map(|life| (index, life)))
        .collect();
    order.sort_by_key(|(index, _)| (std::cmp::Reverse(plan.buffers[*index].len), *index));

    let mut slots: Vec<(usize, Vec<(usize, usize)>)> = Vec::new(); // length, lifetimes in it
    let mut slot_of = vec![None; plan.buffers.len()];
    for (index, (first, last)) in order {
        let free = |taken: &[(usize, usize)]| taken.iter().all(|&(begin, end)| last < begin || end < first);
        let slot = slots.iter().position(|(_, taken)| free(taken)).unwrap_or_else(|| {
            slots.push((plan.buffers[index].len, Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push((first, last));
        slot_of[index] = Some(slot);
    }
    Assignment { slot_of, slot_lens: slots.into_iter().map(|(len, _)| len).collect() }
}

/// What a plan needs on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryNeed {
    /// All of it, buffers that share space counted once.
    pub bytes: u64,
    /// What it would be if none shared.
    pub unshared_bytes: u64,
    /// The name of the largest buffer.
    pub largest: String,
    /// Its size.
    pub largest_bytes: u64,
}

/// What the plan needs, given buffers included.
pub(crate) fn need(plan: &Plan) -> MemoryNeed {
    let bytes = |len: usize| 4 * len as u64;
    let given: u64 = plan.buffers.iter().filter(|buffer| buffer.given).map(|buffer| bytes(buffer.len)).sum();
    let scratch: u64 = assign(plan).slot_lens.into_iter().map(bytes).sum();
    let largest = plan.buffers.iter().max_by_key(|buffer| buffer.len);
    MemoryNeed {
        bytes: given + scratch,
        unshared_bytes: plan.buffers.iter().map(|buffer| bytes(buffer.len)).sum(),
        largest: largest.map_or_else(String::new, |buffer| buffer.name.clone()),
        largest_bytes: largest.map_or(0, |buffer| bytes(buffer.len)),
    }
}

/// That every buffer of a plan fits the device, before anything is made.
pub(crate) fn check(plan: &Plan, target: &Target) -> Result<(), Error> {
    plan.buffers.iter().try_for_each(|buffer| check_size(target, &buffer.name, 4 * buffer.len as u64))
}

/// That a tensor fits into one buffer and one binding.
pub(crate) fn check_size(target: &Target, name: &str, needed_bytes: u64) -> Result<(), Error> {
    let limits = [
        (target.max_buffer_bytes, "its largest buffer"),
        (target.max_binding_bytes, "its largest storage binding"),
    ];
    // The tightest of them: what fits the other alone would be refused again.
    let exceeded = limits.into_iter().filter(|(allowed, _)| needed_bytes > *allowed);
    match exceeded.min_by_key(|(allowed, _)| *allowed) {
        Some((allowed_bytes, limit)) => {
            Err(Error::TooLarge { tensor: name.into(), needed_bytes, allowed_bytes, limit })
        }
        None => Ok(()),
    }
}
