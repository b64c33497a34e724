//! Memory that the buffers of a plan share, given their lifetimes; and whether a device has room for a plan.

use crate::plan::{Plan, Step};
use crate::{Error, Given, Target};
use std::collections::BTreeSet;

/// The slots of a plan's scratch buffers.
#[derive(Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The slot of every buffer of the plan; `None` for tables and for those that are given or never used.
    pub slot_of: Vec<Option<usize>>,
    /// The elements of each slot.
    pub slot_lens: Vec<usize>,
}

/// The first and the last step that touch each buffer.
fn lifetimes(plan: &Plan) -> Vec<Option<(usize, usize)>> {
    let mut found: Vec<Option<(usize, usize)>> = vec![None; plan.buffers().len()];
    for (at, step) in plan.steps().iter().enumerate() {
        for span in step.spans() {
            let life = &mut found[span.buffer.0];
            *life = Some(life.map_or((at, at), |(first, _)| (first, at)));
        }
    }
    found
}

/// Gives every scratch buffer a slot, the largest first, each in the first slot in which no other lives at the same
/// time. Every slot is a separate buffer: wgpu tracks whole buffers, and refuses one that a dispatch both reads and
/// writes.
pub fn assign(plan: &Plan) -> Assignment {
    let lives = lifetimes(plan);
    let mut order: Vec<(usize, (usize, usize))> = lives
        .iter()
        .enumerate()
        .filter(|(index, _)| plan.buffers()[*index].is_scratch())
        .filter_map(|(index, life)| life.map(|life| (index, life)))
        .collect();
    order.sort_by_key(|(index, _)| (std::cmp::Reverse(plan.buffers()[*index].len), *index));

    let mut slots: Vec<(usize, Vec<(usize, usize)>)> = Vec::new(); // length, lifetimes in it
    let mut slot_of = vec![None; plan.buffers().len()];
    for (index, (first, last)) in order {
        let free = |taken: &[(usize, usize)]| taken.iter().all(|&(begin, end)| last < begin || end < first);
        let slot = slots.iter().position(|(_, taken)| free(taken)).unwrap_or_else(|| {
            slots.push((plan.buffers()[index].len, Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push((first, last));
        slot_of[index] = Some(slot);
    }
    Assignment { slot_of, slot_lens: slots.into_iter().map(|(len, _)| len).collect() }
}

/// The memory that a plan needs on the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryNeed {
    /// All of it, shared space counted once.
    pub bytes: u64,
    /// The same without sharing.
    pub unshared_bytes: u64,
    /// The name of the largest buffer.
    pub largest: String,
    /// Its size.
    pub largest_bytes: u64,
}

/// The memory that the plan needs, given buffers and tables included.
pub fn need(plan: &Plan) -> MemoryNeed {
    let kept = plan.buffers().iter().filter(|buffer| !buffer.is_scratch()).map(|buffer| buffer.bytes());
    let scratch: u64 = assign(plan).slot_lens.into_iter().map(|len| 4 * len as u64).sum();
    let largest = plan.buffers().iter().max_by_key(|buffer| buffer.bytes());
    MemoryNeed {
        bytes: kept.sum::<u64>() + scratch,
        unshared_bytes: plan.buffers().iter().map(|buffer| buffer.bytes()).sum(),
        largest: largest.map_or_else(String::new, |buffer| buffer.name.clone()),
        largest_bytes: largest.map_or(0, |buffer| buffer.bytes()),
    }
}

/// The memory that several plans need that are kept side by side: each has its own scratch and the given buffers that it
/// owns, they share the other given ones.
pub(crate) fn need_together<F: Fn(&Given) -> bool>(plans: &[(&Plan, F)]) -> MemoryNeed {
    let mut shared = BTreeSet::new();
    let mut all = MemoryNeed::default();
    for (plan, owns) in plans {
        let one = need(plan);
        if one.largest_bytes > all.largest_bytes {
            (all.largest, all.largest_bytes) = (one.largest, one.largest_bytes);
        }
        all.bytes += one.bytes;
        all.unshared_bytes += one.unshared_bytes;
        for buffer in plan.buffers() {
            let Some(given) = buffer.given.as_ref().filter(|given| !owns(given)) else { continue };
            if !shared.insert(given.clone()) {
                all.bytes -= buffer.bytes();
                all.unshared_bytes -= buffer.bytes();
            }
        }
    }
    all
}

/// Checks that the device has room for every buffer of a plan and bears every loop, before anything is made.
///
/// # Errors
/// [`Error::TooLarge`] names the tensor, [`Error::Limit`] the kernel.
pub fn check(plan: &Plan, target: &Target) -> Result<(), Error> {
    plan.buffers().iter().try_for_each(|buffer| target.check_size(&buffer.name, buffer.bytes()))?;
    let Some(limit) = target.max_loop_iterations else { return Ok(()) };
    for step in plan.steps() {
        if let Step::Dispatch(dispatch) = step
            && dispatch.iterations > u64::from(limit)
        {
            return Err(Error::limit(
                format!("kernel {} {}", dispatch.kernel, dispatch.note).trim_end().into(),
                format!("{} iterations in an invocation", dispatch.iterations),
                format!("{limit}, after which this driver ends loops"),
                "use a smaller batch, fewer steps or device \"cpu\"",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Binding, Span};
    use gatefold_shaders::{ELEMENT_WG_SIZE, KernelId, KernelVariant, params};
    use proptest::prelude::*;

    /// A plan of clears, copies and kernels that read two buffers and write a third, from random numbers.
    fn random_plan(buffers: &[(usize, bool)], steps: &[(u8, usize, usize, usize)]) -> Plan {
        let mut plan = Plan::default();
        let spans: Vec<Span> = buffers
            .iter()
            .enumerate()
            .map(|(index, &(len, given))| {
                if given {
                    plan.given(Given::Argument(index), len)
                } else {
                    plan.scratch(format!("buffer{index}"), len)
                }
            })
            .collect();
        for &(kind, a, b, c) in steps {
            let [a, b, c] = [a, b, c].map(|index| spans[index % spans.len()]);
            let shorter = a.len.min(c.len);
            match kind {
                0 => plan.clear(a),
                1 if a.buffer != c.buffer => plan.copy(a.part(0, shorter), c.part(0, shorter)),
                2 if a.buffer != c.buffer && b.buffer != c.buffer => {
                    let kernel =
                        KernelVariant::new(KernelId::Add, &[("WG_SIZE", ELEMENT_WG_SIZE), ("INTO", 0)]);
                    let bindings = [a, b, c].map(Binding::from);
                    plan.dispatch(kernel, params::Add::default(), &bindings, [1, 1, 1]);
                }
                _ => {}
            }
        }
        plan
    }

    /// Every step that touches the buffer, found the slow way.
    fn touched(plan: &Plan, index: usize) -> Vec<usize> {
        let uses = |step: &Step| match step {
            Step::Clear(span) => span.buffer.0 == index,
            Step::Copy { from, to } => from.buffer.0 == index || to.buffer.0 == index,
            Step::Dispatch(dispatch) => dispatch
                .bindings
                .iter()
                .any(|binding| binding.span().is_some_and(|span| span.buffer.0 == index)),
        };
        (0..plan.steps().len()).filter(|&at| uses(&plan.steps()[at])).collect()
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
    fn a_loop_that_the_driver_would_end_is_refused() {
        let (mut plan, kernel) =
            (Plan::default(), KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", 64)]));
        let rows = 1000;
        let (x, out) = (plan.scratch("x", rows), plan.scratch("out", 1));
        let params = params::ColumnSum { m: rows as u32, n: 1, slice_len: rows as u32, ..Default::default() };
        plan.dispatch(kernel, params, &[x.into(), out.into()], [1, 1, 1]);
        let limited = |limit| Target { max_loop_iterations: limit, ..Target::webgpu() };
        assert!(check(&plan, &limited(None)).is_ok());
        assert!(check(&plan, &limited(Some(1000))).is_ok());
        let error = check(&plan, &limited(Some(999))).unwrap_err().to_string();
        assert!(error.contains("column_sum") && error.contains("1000 iterations"), "{error}");
    }
}
