//! The schedule as data: the result of lowering layers, and all that an executor must know.
//!
//! A [`Plan`] is a list of clears, copies and dispatches on numbered buffers. It can be printed, one line per step, and
//! tested without a device. Lengths and offsets count elements of four bytes.

mod join;
mod merge;

pub(crate) use merge::{Members, most_elements, whole_len};

use crate::Given;
use bytemuck::{Pod, bytes_of};
use gatefold_shaders::params::Params;
use gatefold_shaders::{Access, Extents, KernelVariant};
use std::fmt;

/// A buffer of a plan, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Single precision.
    F32,
    /// Lengths, token places, and structs of words.
    U32,
}

impl Element {
    /// The bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::U32 => 4,
        }
    }
}

/// A buffer of a plan as it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name in printed plans and errors.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// The number of elements.
    pub len: usize,
    /// The buffer outside the plan that it stands for; `None` for scratch, which lives only while the plan uses it.
    pub given: Option<Given>,
    /// Its content, if it is a table that belongs to the plan and never changes.
    pub content: Option<Vec<u32>>,
}

impl Declared {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.element.bytes() as u64 * self.len as u64
    }

    /// Whether it lives only while the plan uses it, and may share its memory with others.
    pub fn is_scratch(&self) -> bool {
        self.given.is_none() && self.content.is_none()
    }
}

/// Part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The buffer.
    pub buffer: BufferId,
    /// Its first element.
    pub offset: usize,
    /// The number of elements.
    pub len: usize,
}

/// One storage buffer of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// Part of a buffer.
    Used(Span),
    /// Nothing: this variant of the kernel does not read it.
    Unused,
}

impl Binding {
    /// The part of a buffer, unless the binding is unused.
    pub fn span(self) -> Option<Span> {
        match self {
            Binding::Used(span) => Some(span),
            Binding::Unused => None,
        }
    }
}

impl From<Span> for Binding {
    fn from(span: Span) -> Self {
        Binding::Used(span)
    }
}

impl From<Option<Span>> for Binding {
    fn from(span: Option<Span>) -> Self {
        span.map_or(Binding::Unused, Binding::Used)
    }
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub enum Step {
    /// Fills with zeros.
    Clear(Span),
    /// A copy of equal length, between two buffers.
    Copy {
        /// The elements read.
        from: Span,
        /// The elements written.
        to: Span,
    },
    /// A kernel.
    Dispatch(Dispatch),
}

impl Step {
    /// Every part of a buffer that the step touches.
    pub fn spans(&self) -> Vec<Span> {
        match self {
            Step::Clear(span) => vec![*span],
            Step::Copy { from, to } => vec![*from, *to],
            Step::Dispatch(dispatch) => {
                dispatch.bindings.iter().filter_map(|binding| binding.span()).collect()
            }
        }
    }
}

impl Step {
    /// The parts of buffers that the step writes.
    pub fn written(&self) -> Vec<Span> {
        match self {
            Step::Clear(span) | Step::Copy { to: span, .. } => vec![*span],
            Step::Dispatch(dispatch) => {
                let bound = dispatch.kernel.id.spec().bindings.iter().zip(&dispatch.bindings);
                bound
                    .filter(|(access, _)| **access == Access::Write)
                    .filter_map(|(_, bound)| bound.span())
                    .collect()
            }
        }
    }

    /// Replaces every part of a buffer that the step touches.
    fn move_spans(&mut self, place: impl Fn(Span) -> Span) {
        match self {
            Step::Clear(span) => *span = place(*span),
            Step::Copy { from, to } => (*from, *to) = (place(*from), place(*to)),
            Step::Dispatch(dispatch) => {
                dispatch.bindings.iter_mut().for_each(|bound| *bound = bound.span().map(&place).into());
            }
        }
    }
}

/// A kernel with everything it needs.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The kernel and its constants.
    pub kernel: KernelVariant,
    /// Its params, as WGSL lays them out.
    pub params: Vec<u8>,
    /// A buffer for each of its bindings.
    pub bindings: Vec<Binding>,
    /// Workgroups along each axis.
    pub groups: [u32; 3],
    /// Loop iterations of the busiest invocation.
    pub iterations: u64,
    /// Elements of all bindings that it reads or writes, each counted once.
    pub touched: u64,
    /// A note that tells it apart from its neighbours, such as `t=3`.
    pub note: String,
    /// Floating-point operations, where they are worth counting.
    pub flops: u64,
}

/// A schedule.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    buffers: Vec<Declared>,
    steps: Vec<Step>,
    mark: usize,
}

impl Plan {
    /// The buffers, by their numbers.
    pub fn buffers(&self) -> &[Declared] {
        &self.buffers
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The number of steps before the mark; 0 without one. The parts before and after the mark may be run separately.
    pub fn mark(&self) -> usize {
        self.mark
    }

    /// Sets the mark after the steps so far.
    pub fn set_mark(&mut self) {
        self.mark = self.steps.len();
    }

    /// The kernel of each dispatch, in order.
    pub fn kernels(&self) -> impl Iterator<Item = &KernelVariant> {
        self.steps.iter().filter_map(|step| match step {
            Step::Dispatch(dispatch) => Some(&dispatch.kernel),
            _ => None,
        })
    }

    /// Declares a buffer of `f32` that lives outside the plan.
    pub fn given(&mut self, given: Given, len: usize) -> Span {
        self.given_as(given, Element::F32, len)
    }

    /// Declares a buffer that lives outside the plan; declaring it again returns the same buffer.
    ///
    /// # Panics
    /// If it was declared before with another length or element.
    pub fn given_as(&mut self, given: Given, element: Element, len: usize) -> Span {
        let found = self.buffers.iter().position(|buffer| buffer.given.as_ref() == Some(&given));
        if let Some(index) = found {
            let before = &self.buffers[index];
            assert_eq!((before.element, before.len), (element, len), "{given} is declared in two ways");
            return Span { buffer: BufferId(index), offset: 0, len };
        }
        self.declare(Declared { name: given.to_string(), element, len, given: Some(given), content: None })
    }

    /// Declares a buffer of `f32` that lives while the plan uses it and may share its memory with others; it is not
    /// zeroed at first.
    pub fn scratch<N: Into<String>>(&mut self, name: N, len: usize) -> Span {
        self.scratch_as(name, Element::F32, len)
    }

    /// [`Plan::scratch`] of other elements.
    pub fn scratch_as<N: Into<String>>(&mut self, name: N, element: Element, len: usize) -> Span {
        self.declare(Declared { name: name.into(), element, len, given: None, content: None })
    }

    /// Declares a table of words that kernels read and none writes; it is filled when the plan is made ready.
    pub fn table<N: Into<String>>(&mut self, name: N, words: Vec<u32>) -> Span {
        let (len, element) = (words.len(), Element::U32);
        self.declare(Declared { name: name.into(), element, len, given: None, content: Some(words) })
    }

    fn declare(&mut self, declared: Declared) -> Span {
        let len = declared.len;
        self.buffers.push(declared);
        Span { buffer: BufferId(self.buffers.len() - 1), offset: 0, len }
    }

    /// The whole buffer that a span is part of.
    pub fn whole(&self, span: Span) -> Span {
        Span { offset: 0, len: self.buffers[span.buffer.0].len, ..span }
    }

    /// Adds a step that fills a span with zeros.
    pub fn clear(&mut self, span: Span) {
        self.check(&span);
        self.steps.push(Step::Clear(span));
    }

    /// Adds a copy of equal length between two buffers.
    ///
    /// # Panics
    /// If lengths differ, both lie in one buffer, or one lies outside of its buffer.
    pub fn copy(&mut self, from: Span, to: Span) {
        assert_eq!(from.len, to.len, "a copy keeps its length");
        assert_ne!(from.buffer, to.buffer, "a copy goes to another buffer");
        self.check(&from);
        self.check(&to);
        self.steps.push(Step::Copy { from, to });
    }

    /// Adds a dispatch.
    ///
    /// # Panics
    /// If params or bindings are not the kernel's, if it would touch elements past a binding's end, if a buffer that is
    /// written is bound twice, or if a binding that the variant touches is unused.
    pub fn dispatch<P: Params + Pod>(
        &mut self,
        kernel: KernelVariant,
        params: P,
        bindings: &[Binding],
        groups: [u32; 3],
    ) -> &mut Dispatch {
        let spec = kernel.id.spec();
        assert_eq!(spec.params, P::WGSL_NAME, "{kernel} takes other params");
        assert_eq!(spec.bindings.len(), bindings.len(), "{kernel} has other bindings");
        let spans: Vec<Option<Span>> = bindings.iter().map(|binding| binding.span()).collect();
        for (at, access) in spec.bindings.iter().enumerate() {
            let Some(span) = spans[at] else { continue };
            self.check(&span);
            let bound = spans.iter().flatten().filter(|other| other.buffer == span.buffer).count();
            assert!(
                *access == Access::Read || bound == 1,
                "{kernel} writes {} and binds it twice",
                self.buffers[span.buffer.0].name
            );
            assert!(
                *access == Access::Read || self.buffers[span.buffer.0].content.is_none(),
                "{kernel} writes the table {}",
                self.buffers[span.buffer.0].name
            );
        }
        assert!(
            groups.iter().all(|&count| (1..=MAX_GROUPS).contains(&count)),
            "{kernel}: {groups:?} workgroups"
        );
        let Extents { lens, iterations } = params.extents(&kernel, groups);
        for (at, (span, needed)) in spans.iter().zip(lens).enumerate() {
            match span {
                Some(span) => assert!(
                    span.len as u64 >= needed,
                    "{kernel} touches {needed} elements of {}, which has {}",
                    self.name_of(span),
                    span.len
                ),
                None => assert_eq!(needed, 0, "{kernel} touches its binding {at}, which is unused"),
            }
        }
        let touched = params.touched(&kernel, groups).iter().sum();
        self.steps.push(Step::Dispatch(Dispatch {
            kernel,
            params: bytes_of(&params).into(),
            bindings: bindings.into(),
            groups,
            iterations,
            touched,
            note: String::new(),
            flops: 0,
        }));
        match self.steps.last_mut() {
            Some(Step::Dispatch(dispatch)) => dispatch,
            _ => unreachable!("a dispatch was just added"),
        }
    }

    /// The part of a buffer to bind so that a kernel sees the span, and the offset to give it in its params: bindings
    /// begin at multiples of 256 bytes, spans anywhere.
    pub fn bind(&self, span: Span) -> (Span, u32) {
        if span.offset.is_multiple_of(ALIGNMENT) {
            return (span, 0);
        }
        (self.whole(span), span.offset as u32)
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

    /// Appends the steps of another plan; given buffers of the same name become one.
    pub fn append(&mut self, other: Plan) {
        let mut moved = Vec::with_capacity(other.buffers.len());
        for buffer in other.buffers {
            let span = match buffer.given {
                Some(given) => self.given_as(given, buffer.element, buffer.len),
                None => self.declare(buffer),
            };
            moved.push(span.buffer);
        }
        let place = |span: Span| Span { buffer: moved[span.buffer.0], ..span };
        self.steps.extend(other.steps.into_iter().map(|mut step| {
            step.move_spans(place);
            step
        }));
    }

    /// The number of kernels that the plan starts.
    pub fn dispatches(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Dispatch(_))).count()
    }

    /// The number of kernels that the plan starts before its mark.
    pub fn dispatches_before_mark(&self) -> usize {
        self.steps[..self.mark].iter().filter(|step| matches!(step, Step::Dispatch(_))).count()
    }

    /// The name of a span: its buffer's, followed by the range of elements if it is only a part.
    pub fn name_of(&self, span: &Span) -> String {
        let declared = &self.buffers[span.buffer.0];
        if span.len == declared.len {
            return declared.name.clone();
        }
        format!("{}[{}..{}]", declared.name, span.offset, span.offset + span.len)
    }
}

/// Elements between the places where bindings may begin: multiples of 256 bytes on every device.
pub const ALIGNMENT: usize = 64;

/// The most workgroups along one axis, in WebGPU.
pub(crate) const MAX_GROUPS: u32 = 65_535;

impl Span {
    /// A part of this part.
    ///
    /// # Panics
    /// If it reaches past the end.
    pub fn part(self, offset: usize, len: usize) -> Span {
        assert!(offset + len <= self.len, "{len} elements from {offset} on do not fit into {}", self.len);
        Span { buffer: self.buffer, offset: self.offset + offset, len }
    }
}

impl Dispatch {
    /// Sets the note.
    pub fn note(&mut self, note: String) -> &mut Self {
        self.note = note;
        self
    }

    /// Sets the floating-point operations.
    pub fn flops(&mut self, flops: usize) -> &mut Self {
        self.flops = flops as u64;
        self
    }
}

/// One line a step, aligned: the kernel, what it reads and writes, its workgroups.
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
                        let mut names: Vec<String> = chosen
                            .filter_map(|(_, binding)| binding.span())
                            .map(|span| self.name_of(&span))
                            .collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use gatefold_shaders::{ELEMENT_WG_SIZE, ElementLossKind, KernelId, params};

    /// The column sums of a [3, 5] matrix in two slices, with buffers of these lengths.
    fn column_sums(x_len: usize, out_len: usize) {
        let mut plan = Plan::default();
        let (x, out) = (plan.scratch("x", x_len), plan.scratch("out", out_len));
        let kernel = KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", ELEMENT_WG_SIZE)]);
        let params = params::ColumnSum { m: 3, n: 5, slice_len: 2, ..Default::default() };
        plan.dispatch(kernel, params, &[x.into(), out.into()], [1, 2, 1]);
    }

    #[test]
    fn buffers_that_are_long_enough_are_taken() {
        column_sums(15, 10);
    }

    #[test]
    #[should_panic(expected = "column_sum touches 15 elements of x, which has 14")]
    fn too_short_an_input_is_refused() {
        column_sums(14, 10);
    }

    #[test]
    #[should_panic(expected = "column_sum touches 10 elements of out, which has 9")]
    fn too_short_an_output_is_refused() {
        column_sums(15, 9);
    }

    #[test]
    #[should_panic(expected = "column_sum touches its binding 0, which is unused")]
    fn a_binding_that_is_read_is_not_unused() {
        let mut plan = Plan::default();
        let out = plan.scratch("out", 5);
        let kernel = KernelVariant::new(KernelId::ColumnSum, &[("WG_SIZE", ELEMENT_WG_SIZE)]);
        let params = params::ColumnSum { m: 3, n: 5, slice_len: 3, ..Default::default() };
        plan.dispatch(kernel, params, &[Binding::Unused, out.into()], [1, 1, 1]);
    }

    /// The middle feature of three of 5 rows, in a row's outputs from the second on: a mean and a variance where Gaussian.
    fn element_loss(kind: ElementLossKind, outputs: usize, weights: usize, parts: usize) {
        let mut plan = Plan::default();
        let [y, d_y] = ["y", "d_y"].map(|name| plan.scratch(name, outputs));
        let (wanted, weights) = (plan.scratch("wanted", 5), plan.scratch("weights", weights));
        let parts = plan.scratch("parts", parts);
        let kernel =
            KernelVariant::new(KernelId::ElementLoss, &[("WG_SIZE", ELEMENT_WG_SIZE), ("LOSS", kind as u32)]);
        let params = params::ElementLoss {
            len: 5,
            features: 1,
            stride: 3,
            offset: 1,
            parts: 4,
            first_part: 2,
            ..Default::default()
        };
        let bindings = [y, wanted, weights, d_y, parts].map(Binding::from);
        plan.dispatch(kernel, params, &bindings, [1, 1, 1]);
    }

    #[test]
    fn a_loss_may_end_before_the_last_output() {
        element_loss(ElementLossKind::Huber, 14, 5, 6);
        element_loss(ElementLossKind::Gaussian, 15, 5, 6);
    }

    #[test]
    #[should_panic(expected = "element_loss touches 15 elements of y, which has 14")]
    fn a_gaussian_takes_two_blocks() {
        element_loss(ElementLossKind::Gaussian, 14, 5, 6);
    }

    #[test]
    #[should_panic(expected = "element_loss touches 5 elements of weights, which has 4")]
    fn a_loss_takes_a_weight_for_each_row() {
        element_loss(ElementLossKind::Huber, 14, 4, 6);
    }

    #[test]
    #[should_panic(expected = "element_loss touches 6 elements of parts, which has 5")]
    fn a_loss_writes_its_parts_after_those_of_others() {
        element_loss(ElementLossKind::Huber, 14, 5, 5);
    }
}
