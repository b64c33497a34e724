//! Joins dispatches: packs, and gradients put back, that follow one another with nothing between that minds the order
//! become one dispatch with a table of jobs. A dispatch costs a GPU 3 us that waits for another, and the host as much to
//! record.

use super::{BufferId, Dispatch, Plan, Span, Step};
use crate::Target;
use crate::product::{groups, joined_bindings, joined_kernel};
use bytemuck::cast_slice;
use gatefold_shaders::params::{Pack, PackJob, UnpackGradient, UnpackJob};
use gatefold_shaders::{ELEMENT_WG_SIZE, JOINED, KernelId, SOFTWARE_EACH};

/// The most elements that wait in scratch buffers for the last gradient of their dispatch: 64 MiB.
const MOST_WAITING: usize = 16 << 20;

/// Jobs that share a dispatch, which takes the place of the last of them.
struct Group {
    kernel: KernelId,
    /// The buffer that all jobs share: the parameters, or their gradients.
    shared: Span,
    /// Those of which each job has one: packed tensors, or slices of packed gradients.
    own: Vec<Span>,
    packs: Vec<PackJob>,
    unpacks: Vec<UnpackJob>,
    notes: Vec<String>,
    members: Vec<usize>,
}

impl Plan {
    /// Joins dispatches where that changes no result. Steps that share a buffer keep their order, and none moves past the
    /// mark. On a software driver, an invocation has several elements of a job.
    pub fn join(&mut self, target: &Target) {
        let each = if target.software { SOFTWARE_EACH } else { 1 };
        let groups = self.groups();
        let mut places: Vec<Option<Step>> = std::mem::take(&mut self.steps).into_iter().map(Some).collect();
        for group in groups.into_iter().filter(|group| group.members.len() > 1 || each > 1) {
            group.members.iter().for_each(|&at| places[at] = None);
            let last = group.members.last().copied();
            group.dispatch(self, each);
            places[last.expect("a group has members")] = self.steps.pop();
        }
        self.mark = places[..self.mark].iter().flatten().count();
        self.steps = places.into_iter().flatten().collect();
        self.drop_unused_tables();
    }

    /// The dispatches that may be joined, in groups.
    fn groups(&self) -> Vec<Group> {
        let (mut found, mut open): (Vec<Group>, Vec<Group>) = Default::default();
        for (at, step) in self.steps.iter().enumerate() {
            if at == self.mark {
                found.append(&mut open);
            }
            let alone = Group::of(self, at, step);
            // At most one group of each kernel is open, so that jobs keep their order.
            let joins = |group: &Group| alone.as_ref().is_some_and(|alone| group.takes(alone));
            let ends = |group: &Group| match &alone {
                Some(alone) if alone.kernel == group.kernel => !group.takes(alone),
                _ => group.minds(step),
            };
            let (ended, still) = open.into_iter().partition(ends);
            found.extend::<Vec<Group>>(ended);
            open = still;
            match (open.iter().position(joins), alone) {
                (Some(group), Some(alone)) => open[group].take(alone),
                (None, Some(alone)) => open.push(alone),
                (_, None) => {}
            }
        }
        found.append(&mut open);
        found
    }

    /// Removes the tables that no step reads any more.
    fn drop_unused_tables(&mut self) {
        let mut used = vec![false; self.buffers.len()];
        for step in &self.steps {
            step.spans().iter().for_each(|span| used[span.buffer.0] = true);
        }
        let mut moved = Vec::with_capacity(self.buffers.len());
        let mut kept = Vec::with_capacity(self.buffers.len());
        for (buffer, used) in std::mem::take(&mut self.buffers).into_iter().zip(used) {
            moved.push(BufferId(kept.len()));
            if used || buffer.content.is_none() {
                kept.push(buffer);
            }
        }
        self.buffers = kept;
        for step in &mut self.steps {
            let place = |span: Span| Span { buffer: moved[span.buffer.0], ..span };
            step.move_spans(place);
        }
    }
}

impl Group {
    /// The group of a dispatch by itself; `None` for a step that is never joined.
    fn of(plan: &Plan, at: usize, step: &Step) -> Option<Group> {
        let Step::Dispatch(Dispatch { kernel, bindings, note, .. }) = step else { return None };
        let (shared, own) = match kernel.id {
            KernelId::Pack => (&bindings[1], &bindings[2..]),
            KernelId::UnpackGradient => (&bindings[1 + JOINED], &bindings[1..=JOINED]),
            _ => return None,
        };
        let words = plan.buffers[bindings[0].span()?.buffer.0].content.as_ref()?;
        let is_pack = kernel.id == KernelId::Pack;
        Some(Group {
            kernel: kernel.id,
            shared: shared.span()?,
            own: own.iter().filter_map(|binding| binding.span()).collect(),
            packs: if is_pack { cast_slice(words).into() } else { Vec::new() },
            unpacks: if is_pack { Vec::new() } else { cast_slice(words).into() },
            notes: if note.is_empty() { Vec::new() } else { vec![note.clone()] },
            members: vec![at],
        })
    }

    /// Whether another group may join this one, and both may wait until the other's place.
    fn takes(&self, other: &Group) -> bool {
        let added = other.own.iter().filter(|span| !self.own.contains(span));
        let apart = |span: &Span| self.own.iter().all(|own| own == span || own.buffer != span.buffer);
        let waiting: usize = self.own.iter().map(|span| span.len).sum();
        // Jobs of a dispatch run in any order, so none adds to what another adds to. Packs never overlap.
        let meet =
            |a: &UnpackJob, b: &UnpackJob| a.d_begin < b.d_begin + b.d_len && b.d_begin < a.d_begin + a.d_len;
        self.kernel == other.kernel
            && self.shared == other.shared
            && self.own.len() + added.count() <= JOINED
            && other.own.iter().all(apart)
            && (self.kernel == KernelId::Pack || waiting <= MOST_WAITING)
            && !self.unpacks.iter().any(|a| other.unpacks.iter().any(|b| meet(a, b)))
    }

    fn take(&mut self, other: Group) {
        let Group { own, packs, unpacks, notes, members, .. } = other;
        let mut numbers = Vec::with_capacity(own.len());
        for span in own {
            numbers.push(self.own.iter().position(|found| *found == span).unwrap_or(self.own.len()) as u32);
            if numbers.last() == Some(&(self.own.len() as u32)) {
                self.own.push(span);
            }
        }
        self.packs.extend(
            packs.into_iter().map(|job| PackJob { out_number: numbers[job.out_number as usize], ..job }),
        );
        self.unpacks.extend(
            unpacks
                .into_iter()
                .map(|job| UnpackJob { source_number: numbers[job.source_number as usize], ..job }),
        );
        let last = self.notes.last().cloned();
        self.notes.extend(notes.into_iter().filter(|note| last.as_ref() != Some(note)));
        self.members.extend(members);
    }

    /// Whether a later step must stay after the jobs of this group: it reads or writes what they write, or writes what
    /// they read.
    fn minds(&self, step: &Step) -> bool {
        let own: Vec<BufferId> = self.own.iter().map(|span| span.buffer).collect();
        let (read, written) = match self.kernel {
            KernelId::Pack => (vec![self.shared.buffer], own),
            _ => (own, vec![self.shared.buffer]),
        };
        step.spans().iter().any(|span| written.contains(&span.buffer))
            || step.written().iter().any(|span| read.contains(&span.buffer))
    }

    /// Adds the joined dispatch at the end of a plan.
    fn dispatch(mut self, plan: &mut Plan, each: u32) {
        let mut all = 0;
        let mut first_group = |sizes: [u32; 3]| {
            let len: usize = sizes.iter().map(|&size| size as usize).product();
            let first: u32 = all;
            all += len.div_ceil((ELEMENT_WG_SIZE * each) as usize) as u32;
            first
        };
        for job in &mut self.packs {
            job.first_group = first_group([job.size0, job.size1, job.size2]);
        }
        for job in &mut self.unpacks {
            job.first_group = first_group([job.size0, job.size1, job.size2]);
        }
        let (groups, groups_x) = groups(all as usize);
        let own = joined_bindings(&self.own);
        let (kernel, shared, bound) =
            (joined_kernel(self.kernel, each), self.shared.into(), self.own.len() as u32);
        if self.kernel == KernelId::Pack {
            let table = plan.table("pack.jobs", cast_slice(&self.packs).into()).into();
            let bindings = [&[table, shared], &own[..]].concat();
            let params = Pack { jobs: self.packs.len() as u32, groups_x, outs: bound, ..Default::default() };
            plan.dispatch(kernel, params, &bindings, groups);
        } else {
            let table = plan.table("unpack.jobs", cast_slice(&self.unpacks).into()).into();
            let bindings = [&[table], &own[..], &[shared]].concat();
            let params = UnpackGradient {
                jobs: self.unpacks.len() as u32,
                groups_x,
                sources: bound,
                most_slices: self.unpacks.iter().map(|job| job.slices).max().unwrap_or(0),
            };
            plan.dispatch(kernel, params, &bindings, groups).note(self.notes.join("+"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Given;
    use crate::product::{self, Order};

    /// Gradients of four parameters of eight elements, put back one after another from slices of their own.
    fn plan_of(between: impl Fn(&mut Plan, usize, &[Span], Span)) -> Plan {
        let mut plan = Plan::default();
        let gradients = plan.given(Given::Gradients(0), 4 * 64);
        let parts: Vec<Span> = (0..4).map(|k| plan.scratch(format!("parts{k}"), 16)).collect();
        for k in 0..4 {
            plan.clear(parts[k]);
            between(&mut plan, k, &parts, gradients);
            product::unpack(
                &mut plan,
                &format!("p{k}"),
                parts[k],
                2,
                Order::same(8),
                gradients.part(64 * k, 8),
            );
        }
        plan
    }

    fn joined(mut plan: Plan) -> Vec<String> {
        plan.join(&Target::webgpu());
        plan.to_string()
            .lines()
            .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn gradients_wait_for_the_last_of_their_dispatch() {
        let mut plan = plan_of(|_, _, _, _| ());
        let found = joined(plan.clone());
        let clears = (0..4).map(|k| format!("clear parts{k}"));
        assert_eq!(found, clears.chain(["unpack_gradient p0+p1+p2+p3".into()]).collect::<Vec<_>>());
        plan.join(&Target::webgpu());
        let tables: Vec<&Vec<u32>> =
            plan.buffers().iter().filter_map(|buffer| buffer.content.as_ref()).collect();
        assert_eq!(tables.len(), 1, "tables that nothing reads any more are gone");
        let jobs: &[UnpackJob] = cast_slice(tables[0]);
        let rows = jobs.iter().map(|job| [job.first_group, job.source_number, job.d_begin, job.slices]);
        assert_eq!(rows.collect::<Vec<_>>(), [0, 1, 2, 3].map(|k| [k, k, 64 * k, 2]));
    }

    #[test]
    fn a_workgroup_of_a_software_driver_has_more_elements() {
        let (gpu, software) = (Target::webgpu(), Target { software: true, ..Target::webgpu() });
        let len = 2 * (ELEMENT_WG_SIZE * SOFTWARE_EACH) as usize + 1;
        for (target, each, groups) in [(gpu, 1, len.div_ceil(64)), (software, SOFTWARE_EACH, 3)] {
            for joined in [1, 2] {
                let mut plan = Plan::default();
                let source = plan.given(Given::Parameters(0), len);
                for k in 0..joined {
                    let out = plan.scratch(format!("out{k}"), len);
                    product::pack(&mut plan, source, None, Order::same(len), out);
                }
                plan.join(&target);
                let [Step::Dispatch(dispatch)] = plan.steps() else { panic!("{plan}") };
                assert_eq!(dispatch.kernel.constant("EACH"), each);
                assert_eq!(dispatch.groups, [(joined * groups) as u32, 1, 1]);
                let tables = plan.buffers().iter().filter_map(|buffer| buffer.content.as_ref());
                let jobs: Vec<u32> =
                    tables.flat_map(|words| cast_slice(words)).map(|job: &PackJob| job.first_group).collect();
                assert_eq!(jobs, [0, groups as u32][..joined]);
            }
        }
    }

    #[test]
    fn a_step_that_needs_the_order_ends_the_wait() {
        // The gradients are read after the second; the parts of the first are overwritten after the third.
        let read = plan_of(|plan, k, _, gradients| {
            if k == 2 {
                let seen = plan.scratch("seen", gradients.len);
                plan.copy(gradients, seen);
            }
        });
        let unpacks =
            |plan| joined(plan).into_iter().filter(|line| line.starts_with("unpack")).collect::<Vec<_>>();
        assert_eq!(unpacks(read), ["unpack_gradient p0+p1", "unpack_gradient p2+p3"]);
        let overwritten = plan_of(|plan, k, parts, _| {
            if k == 3 {
                plan.clear(parts[0]);
            }
        });
        assert_eq!(unpacks(overwritten), ["unpack_gradient p0+p1+p2", "unpack_gradient p3"]);
        let marked = plan_of(|plan, k, _, _| {
            if k == 1 {
                plan.set_mark();
            }
        });
        let mut plan = marked.clone();
        plan.join(&Target::webgpu());
        assert_eq!((marked.mark(), plan.mark()), (3, 3));
        assert_eq!(unpacks(marked), ["unpack_gradient p0", "unpack_gradient p1+p2+p3"]);
    }

    #[test]
    fn two_gradients_of_one_parameter_stay_apart() {
        let mut plan = Plan::default();
        let gradients = plan.given(Given::Gradients(0), 64);
        for k in 0..2 {
            let parts = plan.scratch(format!("parts{k}"), 16);
            plan.clear(parts);
            product::unpack(&mut plan, &format!("p{k}"), parts, 2, Order::same(8), gradients.part(4, 8));
        }
        assert_eq!(joined(plan).len(), 4);
    }

    #[test]
    fn no_more_are_joined_than_there_are_bindings() {
        let mut plan = Plan::default();
        let source = plan.given(Given::Parameters(0), 64);
        for k in 0..=JOINED {
            let out = plan.scratch(format!("out{k}"), 8);
            product::pack(&mut plan, source.part(8 * k, 8), None, Order::same(8), out);
        }
        assert_eq!(joined(plan), ["pack pack.jobs", "pack pack.jobs"]);
    }
}
