//! Merges dispatches: what several members do, which do not depend on each other, in one dispatch. The two directions of a
//! layer are such members. A step of a small network does not fill a GPU, and each dispatch that waits for the one before
//! costs it 3 us; so two directions merged take little longer than one.

use super::{ALIGNMENT, Binding, Dispatch, Plan, Span, Step};
use crate::Target;
use gatefold_shaders::{Access, Place};

/// The buffers of members: one buffer for each part that all have, so that a merged dispatch can bind it for all.
#[derive(Debug)]
pub(crate) struct Members {
    /// Their name in plans.
    label: String,
    count: usize,
    /// The elements that a binding may have.
    most: usize,
    /// The name of each part, its length for one member, and the buffer.
    wholes: Vec<(&'static str, usize, Span)>,
}

impl Members {
    /// So many members on a device.
    pub(crate) fn new(target: &Target, label: String, count: usize) -> Members {
        Members { label, count, most: most_elements(target), wholes: Vec::new() }
    }

    /// A part of a member, who is called `own` in plans. The buffer of all members is made by `declare`, from a name and a
    /// length, when the first asks for its part. A part that has another length for this member, or is too large for one
    /// binding, has a buffer of its own.
    pub(crate) fn part(
        &mut self,
        (member, own): (usize, &str),
        part: &'static str,
        len: usize,
        declare: impl FnOnce(String, usize) -> Span,
    ) -> Span {
        let alone = format!("{own}.{part}");
        let Some(whole) = whole_len(self.count, len).filter(|whole| *whole <= self.most) else {
            return declare(alone, len);
        };
        let begin = member * len.next_multiple_of(ALIGNMENT);
        match self.wholes.iter().find(|(found, ..)| *found == part) {
            Some((_, found, buffer)) if *found == len => buffer.part(begin, len),
            Some(_) => declare(alone, len),
            None => {
                let buffer = declare(format!("{}.{part}", self.label), whole);
                self.wholes.push((part, len, buffer));
                buffer.part(begin, len)
            }
        }
    }
}

/// The elements that a binding may have on a device.
pub(crate) fn most_elements(target: &Target) -> usize {
    (target.max_buffer_bytes.min(target.max_binding_bytes) / 4) as usize
}

/// The length of a buffer with a part of this length for each of several members; `None` for one, which needs no other
/// buffer. Each part begins where a binding may begin.
pub(crate) fn whole_len(members: usize, len: usize) -> Option<usize> {
    (members > 1).then(|| (members - 1) * len.next_multiple_of(ALIGNMENT) + len)
}

impl Plan {
    /// The number of steps so far, for [`Plan::merge`].
    pub(crate) fn here(&self) -> usize {
        self.steps.len()
    }

    /// Merges the steps of members that do not depend on each other; those of each begin at one of `begins` and end where
    /// the next begin. Dispatches at the same place of each, that differ in nothing but params and parts of the same
    /// buffers, become one; the others stay one after the other, and where none can be merged, so do the members. The kernels
    /// are made for `most` members, of which some may rest.
    pub(crate) fn merge(&mut self, begins: &[usize], most: usize) {
        let mut members: Vec<Vec<Step>> =
            begins.iter().rev().map(|&begin| self.steps.split_off(begin)).collect();
        members.reverse();
        let turns = members.iter().map(Vec::len).max().unwrap_or(0);
        let turn = |n: usize| members.iter().filter_map(|steps| steps.get(n).cloned()).collect();
        let turns: Vec<Vec<Step>> = (0..turns).map(turn).collect();
        let merged: Vec<Option<Dispatch>> = turns.iter().map(|turn| self.merged(turn, most)).collect();
        if merged.iter().all(Option::is_none) {
            self.steps.extend(members.into_iter().flatten());
            return;
        }
        for (turn, merged) in turns.into_iter().zip(merged) {
            match merged {
                Some(dispatch) => self.steps.push(Step::Dispatch(dispatch)),
                None => self.steps.extend(turn),
            }
        }
    }

    /// One dispatch for all of these, if there can be one.
    fn merged(&self, turn: &[Step], most: usize) -> Option<Dispatch> {
        let all: Vec<&Dispatch> = turn
            .iter()
            .map(|step| if let Step::Dispatch(dispatch) = step { Some(dispatch) } else { None })
            .collect::<Option<_>>()?;
        let (first, count) = (all[0], all.len());
        let (kernel, [x, y, z]) = (&first.kernel, first.groups);
        let alike = |one: &&Dispatch| one.kernel == *kernel && one.groups == first.groups;
        let spec = kernel.id.spec();
        if most < 2 || spec.places.is_empty() || kernel.members > 1 || z > 1 || !all.iter().all(alike) {
            return None;
        }
        let mut params: Vec<Vec<u8>> = all.iter().map(|one| one.params.clone()).collect();
        let mut bindings = Vec::with_capacity(spec.bindings.len());
        for (at, (access, place)) in spec.bindings.iter().zip(spec.places).enumerate() {
            let parts: Vec<Binding> = all.iter().map(|one| one.bindings[at]).collect();
            if *access == Access::Read && parts.iter().all(|part| *part == parts[0]) {
                bindings.push(parts[0]);
                continue;
            }
            if parts.iter().all(|part| *part == Binding::Unused) {
                bindings.push(Binding::Unused);
                continue;
            }
            let spans: Vec<Span> = parts.iter().map(|part| part.span()).collect::<Option<_>>()?;
            let width = kernel.place_width(*place);
            if !lie_in_one_buffer(&spans, *access)
                || spans.iter().any(|span| !span.offset.is_multiple_of(width))
            {
                return None;
            }
            let field = match place {
                Place::Shared => return None,
                Place::Values(name) | Place::Slots(name) | Place::Products(name) => spec.field(name),
            };
            for (params, span) in params.iter_mut().zip(&spans) {
                let begin = (span.offset / width) as u32;
                params[4 * field..][..4].copy_from_slice(&begin.to_le_bytes());
            }
            bindings.push(self.whole(spans[0]).into());
        }
        params.resize(most, vec![0; spec.params_bytes]);
        let notes: Vec<&str> = all.iter().map(|one| one.note.as_str()).collect();
        Some(Dispatch {
            kernel: kernel.clone().of_members(most as u32),
            params: params.concat(),
            bindings: Some(bindings).filter(|bound| is_bound_once(spec.bindings, bound))?,
            groups: [x, y, count as u32],
            iterations: all.iter().map(|one| one.iterations).max().unwrap_or(0),
            touched: all.iter().map(|one| one.touched).sum(),
            note: notes.join(" | "),
            flops: all.iter().map(|one| one.flops).sum(),
        })
    }
}

/// Whether all lie in one buffer, and apart if they are written.
fn lie_in_one_buffer(spans: &[Span], access: Access) -> bool {
    let mut sorted: Vec<(usize, usize)> =
        spans.iter().map(|span| (span.offset, span.offset + span.len)).collect();
    sorted.sort_unstable();
    let apart = sorted.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    spans.iter().all(|span| span.buffer == spans[0].buffer) && (access == Access::Read || apart)
}

/// Whether no buffer that is written is bound twice.
fn is_bound_once(accesses: &[Access], bindings: &[Binding]) -> bool {
    let buffers: Vec<_> = bindings.iter().map(|bound| bound.span().map(|span| span.buffer)).collect();
    accesses.iter().zip(&buffers).all(|(access, buffer)| {
        let times = buffers.iter().flatten().filter(|other| Some(**other) == *buffer).count();
        *access == Access::Read || times <= 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_shaders::{CellStage, KernelId, KernelVariant, params};

    const LEN: usize = 6; // of a step: two rows, three units

    /// A step of a vanilla cell for each member, in the parts of `h` that `part` gives, over gates and weights of their own.
    fn steps(plan: &mut Plan, mut part: impl FnMut(&mut Plan, usize) -> Span) -> Vec<usize> {
        let target = Target::webgpu();
        let mut members = Members::new(&target, "all".into(), 2);
        let consts = [
            ("WG_SIZE", 32),
            ("ROWS", 1),
            ("UNITS", 0),
            ("SEGMENTS", 1),
            ("LENGTHS", 0),
            ("SAVE", 0),
            ("ACTIVATION", 0),
            ("ALPHA", 0),
            ("BETA", 0),
            ("CLIP", 0),
        ];
        let kernel = KernelVariant {
            cell: Some(CellStage::Rnn),
            ..KernelVariant::new(KernelId::StepForward, &consts)
        };
        let mut begins = Vec::new();
        for member in 0..2 {
            let mut own = |plan: &mut Plan, part, len| {
                members.part((member, "own"), part, len, |name, len| plan.scratch(name, len))
            };
            let (u, gates, h) = (own(plan, "u", 9), own(plan, "gates", LEN), part(plan, member));
            let unused = Binding::Unused;
            let bindings = [u.into(), unused, unused, gates.into(), unused, h.into()];
            let (batch, hidden, t) = (2, 3, member as u32);
            let params =
                params::StepForward { batch, hidden, width: 3, r_len: 3, h_to: 1, ..Default::default() };
            begins.push(plan.here());
            plan.dispatch(kernel.clone(), params, &bindings, [1, 2, 1]).note(format!("t={t}")).flops(10);
        }
        begins
    }

    #[test]
    fn members_that_differ_in_parts_of_buffers_become_one_dispatch() {
        let mut plan = Plan::default();
        let mut both = Members::new(&Target::webgpu(), "all".into(), 2);
        let mut found = Vec::new();
        let begins = steps(&mut plan, |plan, member| {
            found.push(both.part((member, "own"), "h", 2 * LEN, |name, len| plan.scratch(name, len)));
            found[member]
        });
        plan.merge(&begins, 2);
        let [Step::Dispatch(merged)] = plan.steps() else { panic!("{plan}") };
        assert_eq!((merged.kernel.members, merged.groups, merged.flops), (2, [1, 2, 2], 20));
        assert_eq!(merged.note, "t=0 | t=1");
        assert_eq!(merged.bindings[5].span(), Some(plan.whole(found[0])), "h of both");
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let words: Vec<u32> = merged.params.chunks_exact(4).map(word).collect();
        let one = words.len() / 2;
        let spec = merged.kernel.id.spec();
        for name in ["u_at", "gates_at", "h_at"] {
            let at = spec.field(name);
            assert_eq!((words[at], words[one + at]), (0, ALIGNMENT as u32), "{name}");
        }
    }

    #[test]
    fn members_with_buffers_of_their_own_stay_apart() {
        let mut plan = Plan::default();
        let begins = steps(&mut plan, |plan, member| plan.scratch(format!("h{member}"), 2 * LEN));
        plan.merge(&begins, 2);
        assert_eq!(plan.dispatches(), 2);
    }

    #[test]
    fn members_that_write_the_same_elements_stay_apart() {
        let mut plan = Plan::default();
        let h = plan.scratch("h", 3 * LEN);
        let begins = steps(&mut plan, |_, member| h.part(member * LEN, 2 * LEN));
        plan.merge(&begins, 2);
        assert_eq!(plan.dispatches(), 2);
    }

    #[test]
    fn a_part_that_is_too_large_for_a_binding_has_its_own_buffer() {
        let target = Target { max_binding_bytes: 4 * 100, ..Target::webgpu() };
        let mut names = Vec::new();
        for len in [36, 37] {
            let mut members = Members::new(&target, "all".into(), 2);
            let mut plan = Plan::default();
            for member in 0..2 {
                members.part((member, &format!("own{member}")), "h", len, |name, len| {
                    names.push(name.clone());
                    plan.scratch(name, len)
                });
            }
        }
        assert_eq!(names, ["all.h", "own0.h", "own1.h"]);
    }
}
