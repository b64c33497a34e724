//! Which buffers of a plan may share space, from the plan's lifetimes.

use crate::gpu::Target;
use crate::plan::{Plan, Span, Step};
use crate::{Error, bounds};

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

/// That every buffer of a plan fits the device, and that it bears every loop, before anything is made.
pub(crate) fn check(plan: &Plan, target: &Target) -> Result<(), Error> {
    plan.buffers.iter().try_for_each(|buffer| target.check_size(&buffer.name, 4 * buffer.len as u64))?;
    let Some(limit) = target.max_loop_iterations else { return Ok(()) };
    for step in &plan.steps {
        if let Step::Dispatch(dispatch) = step {
            let iterations = bounds::iterations(&dispatch.kernel, &dispatch.params);
            if iterations > u64::from(limit) {
                return Err(Error::Device(format!(
                    "kernel {} {}: an invocation runs {iterations} iterations, and this driver ends loops after {limit}; use a \
                     smaller batch, fewer steps or device \"cpu\"",
                    dispatch.kernel, dispatch.note
                )));
            }
        }
    }
    Ok(())
}

impl Target {
    /// That a tensor fits into one buffer and one binding of the device.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the tensor's name.
    pub fn check_size(&self, tensor: &str, needed_bytes: u64) -> Result<(), Error> {
        let (buffer_bytes, binding_bytes) = (self.max_buffer_bytes, self.max_binding_bytes);
        if needed_bytes <= buffer_bytes.min(binding_bytes) {
            return Ok(());
        }
        Err(Error::TooLarge { tensor: tensor.into(), needed_bytes, buffer_bytes, binding_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};
    use proptest::prelude::*;

    /// A plan of clears, copies and kernels that read two buffers and write a third, from random numbers.
    fn random_plan(buffers: &[(usize, bool)], steps: &[(u8, usize, usize, usize)]) -> Plan {
        let mut plan = Plan::default();
        let spans: Vec<Span> = buffers
            .iter()
            .enumerate()
            .map(|(index, &(len, given))| {
                let name = format!("buffer{index}");
                if given { plan.given(name, len) } else { plan.scratch(name, len) }
            })
            .collect();
        for &(kind, a, b, c) in steps {
            let [a, b, c] = [a, b, c].map(|index| spans[index % spans.len()]);
            let shorter = a.len.min(c.len);
            match kind {
                0 => plan.clear(a),
                1 if a.buffer != c.buffer => plan.copy(a.part(0, shorter), c.part(0, shorter)),
                2 if a.buffer != c.buffer && b.buffer != c.buffer => {
                    let kernel = KernelVariant::new(
                        KernelId::Pack,
                        &[("WG_SIZE", ELEMENT_WG_SIZE), ("WITH_OTHER", 1)],
                    );
                    plan.dispatch(kernel, params::Pack::default(), &[a, b, c], [1, 1, 1]);
                }
                _ => {}
            }
        }
        plan
    }

    /// Every step that touches the buffer, looked up the slow way.
    fn touched(plan: &Plan, index: usize) -> Vec<usize> {
        let uses = |step: &Step| match step {
            Step::Clear(span) => span.buffer.0 == index,
            Step::Copy { from, to } => from.buffer.0 == index || to.buffer.0 == index,
            Step::Dispatch(dispatch) => dispatch.bindings.iter().any(|span| span.buffer.0 == index),
        };
        (0..plan.steps.len()).filter(|&at| uses(&plan.steps[at])).collect()
    }

    proptest! {
        #[test]
        fn buffers_in_one_slot_never_live_at_the_same_time(
            buffers in proptest::collection::vec((1usize..100, proptest::bool::weighted(0.2)), 1..12),
            steps in proptest::collection::vec((0u8..3, 0usize..99, 0usize..99, 0usize..99), 0..40),
        ) {
            let plan = random_plan(&buffers, &steps);
            let Assignment { slot_of, slot_lens } = assign(&plan);
            prop_assert_eq!(slot_of.len(), buffers.len());
            for a in 0..buffers.len() {
                let life = touched(&plan, a);
                let scratch = !buffers[a].1 && !life.is_empty();
                prop_assert_eq!(slot_of[a].is_some(), scratch, "buffer {}", a);
                let Some(slot) = slot_of[a] else { continue };
                prop_assert!(slot_lens[slot] >= buffers[a].0, "buffer {} fits its slot", a);
                for b in (0..a).filter(|&b| slot_of[b] == Some(slot)) {
                    let other = touched(&plan, b);
                    let apart = life.last() < other.first() || other.last() < life.first();
                    prop_assert!(apart, "{a} at {life:?} and {b} at {other:?} share slot {slot}");
                }
            }
            // No slot is larger than what it holds, and sharing never costs.
            for (slot, &len) in slot_lens.iter().enumerate() {
                let held = (0..buffers.len()).filter(|&a| slot_of[a] == Some(slot)).map(|a| buffers[a].0);
                prop_assert_eq!(held.max(), Some(len), "slot {}", slot);
            }
            let found = need(&plan);
            prop_assert!(found.bytes <= found.unshared_bytes);
        }
    }

    #[test]
    fn what_is_done_with_makes_room() {
        // Each kernel reads the buffer of the one before: two slots are enough, whatever the length of the chain.
        let buffers = [(9, false), (8, false), (7, false), (6, false), (5, false)];
        let steps: Vec<_> = (0..4).map(|k| (2, k, k, k + 1)).collect();
        let plan = random_plan(&buffers, &steps);
        assert_eq!(assign(&plan).slot_lens, [9, 8]);
        assert_eq!(need(&plan).bytes, 4 * 17);
        assert_eq!(need(&plan).unshared_bytes, 4 * 35);
    }

    #[test]
    fn both_limits_are_named_and_the_tighter_counts() {
        let target = Target::webgpu();
        assert!(target.check_size("h", 128 << 20).is_ok());
        let error = target.check_size("h", (128 << 20) + 1).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "h needs 134217729 bytes; the device allows 268435456 in a buffer and 134217728"
            )
        );
    }

    #[test]
    fn a_loop_that_the_driver_would_end_is_refused() {
        let (mut plan, kernel) =
            (Plan::default(), KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", 64)]));
        let rows = 1000;
        let (x, out) = (plan.scratch("x", rows), plan.scratch("out", 1));
        let params = params::ColumnSum { m: rows as u32, n: 1, slice_len: rows as u32, ..Default::default() };
        plan.dispatch(kernel, params, &[x, out], [1, 1, 1]);
        let limited = |limit| Target { max_loop_iterations: limit, ..Target::webgpu() };
        assert!(check(&plan, &limited(None)).is_ok());
        assert!(check(&plan, &limited(Some(1000))).is_ok());
        let error = check(&plan, &limited(Some(999))).unwrap_err().to_string();
        assert!(error.contains("column_sum") && error.contains("1000 iterations"), "{error}");
    }
}
