//! The schedule as data: what a layer lowers to, and all that `run` executes.
//!
//! A [`Plan`] is a list of clears, copies and dispatches on numbered buffers. It can be printed, a step a line, and
//! tested without a device. Lengths and offsets count elements of four bytes.

use crate::bounds;
use bytemuck::{Pod, bytes_of};
use gatefold_shaders::params::Params;
use gatefold_shaders::{Access, KernelVariant};
use std::fmt;

/// A buffer of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BufferId(pub(crate) usize);

/// What a plan says of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) len: usize,
    pub(crate) given: bool,
}

/// Part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) buffer: BufferId,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Zeros.
    Clear(Span),
    /// As many elements from one place to another.
    Copy { from: Span, to: Span },
    /// A kernel.
    Dispatch(Dispatch),
}

/// A kernel with everything it needs.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) kernel: KernelVariant,
    pub(crate) params: Vec<u8>,
    pub(crate) bindings: Vec<Span>,
    pub(crate) groups: [u32; 3],
    /// What distinguishes it from its neighbours, such as `t=3`.
    pub(crate) note: String,
    pub(crate) flops: u64,
}

/// A schedule.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub(crate) buffers: Vec<Declared>,
    pub(crate) steps: Vec<Step>,
    /// A place among the steps up to which, or from which on, a plan may be run alone.
    pub(crate) mark: usize,
}

impl Plan {
    /// A buffer that lives outside the plan and is found by its name when the plan is compiled.
    pub(crate) fn given<N: Into<String>>(&mut self, name: N, len: usize) -> Span {
        let name = name.into();
        if let Some(index) = self.buffers.iter().position(|buffer| buffer.given && buffer.name == name) {
            assert_eq!(self.buffers[index].len, len, "{name} is declared twice with two lengths");
            return Span { buffer: BufferId(index), offset: 0, len };
        }
        self.declare(name, len, true)
    }

    /// A buffer that lives while the plan uses it and may share its memory with others; its content is not zero at
    /// first.
    pub(crate) fn scratch<N: Into<String>>(&mut self, name: N, len: usize) -> Span {
        self.declare(name.into(), len, false)
    }

    fn declare(&mut self, name: String, len: usize, given: bool) -> Span {
        self.buffers.push(Declared { name, len, given });
        Span { buffer: BufferId(self.buffers.len() - 1), offset: 0, len }
    }

    pub(crate) fn clear(&mut self, span: Span) {
        self.check(&span);
        self.steps.push(Step::Clear(span));
    }

    pub(crate) fn copy(&mut self, from: Span, to: Span) {
        assert_eq!(from.len, to.len, "a copy keeps its length");
        assert_ne!(from.buffer, to.buffer, "a copy goes to another buffer");
        self.check(&from);
        self.check(&to);
        self.steps.push(Step::Copy { from, to });
    }

    pub(crate) fn dispatch<P: Params + Pod>(
        &mut self,
        kernel: KernelVariant,
        params: P,
        bindings: &[Span],
        groups: [u32; 3],
    ) -> &mut Dispatch {
        let spec = kernel.id.spec();
        assert_eq!(spec.params, P::WGSL_NAME, "{kernel} takes other params");
        assert_eq!(spec.bindings.len(), bindings.len(), "{kernel} has other bindings");
        for (at, access) in spec.bindings.iter().enumerate() {
            self.check(&bindings[at]);
            let twice = |other: usize| other != at && bindings[other].buffer == bindings[at].buffer;
            assert!(
                *access == Access::Read || !(0..bindings.len()).any(twice),
                "{kernel} writes {} and binds it twice",
                self.buffers[bindings[at].buffer.0].name
            );
        }
        assert!(
            groups.iter().all(|&count| (1..=MAX_GROUPS).contains(&count)),
            "{kernel}: {groups:?} workgroups"
        );
        let needed = bounds::needed_lens(&kernel, bytes_of(&params), groups);
        for (span, needed) in bindings.iter().zip(needed) {
            assert!(
                span.len as u64 >= needed,
                "{kernel} touches {needed} elements of {}, which has {}",
                self.name_of(span),
                span.len
            );
        }
        self.steps.push(Step::Dispatch(Dispatch {
            kernel,
            params: bytes_of(&params).into(),
            bindings: bindings.into(),
            groups,
            note: String::new(),
            flops: 0,
        }));
        match self.steps.last_mut() {
            Some(Step::Dispatch(dispatch)) => dispatch,
            _ => unreachable!("a dispatch was just added"),
        }
    }

    /// What to bind so that a kernel with an offset in its params sees the span, and that offset: bindings begin at
    /// multiples of 256 bytes, spans anywhere.
    pub(crate) fn bind(&self, span: Span) -> (Span, u32) {
        if span.offset.is_multiple_of(ALIGNMENT) {
            return (span, 0);
        }
        (Span { offset: 0, len: self.buffers[span.buffer.0].len, ..span }, span.offset as u32)
    }

    fn check(&self, span: &Span) {
        let declared = &self.buffers[span.buffer.0];
        assert!(
            span.offset + span.len <= declared.len,
            "{} has {} elements; {} from {} on do not fit",
            declared.name,
            declared.len,
            span.len,
            span.offset
        );
    }

    /// The steps of another plan behind these; given buffers of the same name are the same.
    pub(crate) fn append(&mut self, other: Plan) {
        let mut moved = Vec::with_capacity(other.buffers.len());
        for buffer in other.buffers {
            let Declared { name, len, given } = buffer;
            moved.push(if given { self.given(name, len) } else { self.scratch(name, len) }.buffer);
        }
        let place = |span: Span| Span { buffer: moved[span.buffer.0], ..span };
        self.steps.extend(other.steps.into_iter().map(|step| match step {
            Step::Clear(span) => Step::Clear(place(span)),
            Step::Copy { from, to } => Step::Copy { from: place(from), to: place(to) },
            Step::Dispatch(dispatch) => Step::Dispatch(Dispatch {
                bindings: dispatch.bindings.iter().map(|&span| place(span)).collect(),
                ..dispatch
            }),
        }));
    }

    /// How many kernels it starts.
    pub fn dispatches(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Dispatch(_))).count()
    }

    /// The kernels that it starts, in order; a kernel comes as often as it is started.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelVariant> {
        self.steps.iter().filter_map(|step| match step {
            Step::Dispatch(dispatch) => Some(&dispatch.kernel),
            Step::Clear(_) | Step::Copy { .. } => None,
        })
    }

    fn name_of(&self, span: &Span) -> String {
        let declared = &self.buffers[span.buffer.0];
        if span.len == declared.len {
            return declared.name.clone();
        }
        format!("{}[{}..{}]", declared.name, span.offset, span.offset + span.len)
    }
}

/// Bindings begin at multiples of 256 bytes on every device.
pub(crate) const ALIGNMENT: usize = 64;

/// Workgroups along one axis, in WebGPU.
pub(crate) const MAX_GROUPS: u32 = 65_535;

impl Span {
    /// A part of this part.
    pub(crate) fn part(self, offset: usize, len: usize) -> Span {
        assert!(offset + len <= self.len, "{len} elements from {offset} on do not fit into {}", self.len);
        Span { buffer: self.buffer, offset: self.offset + offset, len }
    }
}

impl Dispatch {
    pub(crate) fn note(&mut self, note: String) -> &mut Self {
        self.note = note;
        self
    }

    pub(crate) fn flops(&mut self, flops: usize) -> &mut Self {
        self.flops = flops as u64;
        self
    }
}

/// A line a step, aligned: what, on what, how many workgroups.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Clear(span) => writeln!(f, "{:<22} {}", "clear", self.name_of(span))?,
                Step::Copy { from, to } => {
                    writeln!(f, "{:<22} {} -> {}", "copy", self.name_of(from), self.name_of(to))?;
                }
                Step::Dispatch(dispatch) => {
                    let spec = dispatch.kernel.id.spec();
                    let names = |access: Access| {
                        let named = spec.bindings.iter().zip(&dispatch.bindings);
                        let chosen = named.filter(|(found, _)| **found == access);
                        let mut names: Vec<String> = chosen.map(|(_, span)| self.name_of(span)).collect();
                        names.dedup();
                        names.join(" ")
                    };
                    let mut what = names(Access::Read);
                    if !dispatch.note.is_empty() {
                        what = format!("{} {what}", dispatch.note);
                    }
                    let flow = format!("{} -> {}", what, names(Access::Write));
                    let [x, y, z] = dispatch.groups;
                    writeln!(f, "{:<22} {flow:<58} groups {x},{y},{z}", dispatch.kernel.to_string())?;
                }
            }
        }
        Ok(())
    }
}
