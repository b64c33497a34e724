//! Scans that run side by side: the two directions of a layer, and the layers of a stack, each some steps after the one
//! below it.

use crate::layer::recurrent::forms;
use gatefold_model::{Direction, Layer, NetworkConfig, Source};
use std::ops::Range;

/// The place of a scan among those that run beside it. Their buffers lie side by side, so that a dispatch can bind all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// The first layer of them.
    pub(crate) first: usize,
    /// The scan's number among them.
    pub(crate) member: usize,
    /// How many they are.
    pub(crate) members: usize,
}

/// The most layers of a stack: the values of all are in memory at once, and each begins a chunk of steps after the one below.
const MOST_LAYERS: usize = 4;

/// The stacks of a network: layers `first..end` that each read the one before and nothing else, whose output nobody else
/// reads, and that all go forward with equally many units of one kind of cell.
pub(crate) fn stacks(config: &NetworkConfig) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for layer in config.layers().iter().filter(|layer| may_stack(layer)) {
        let index = layer.index;
        match found.last_mut() {
            Some(stack) if stack.end == index && stack.len() < MOST_LAYERS && lies_on(config, index) => {
                stack.end += 1
            }
            _ => found.push(index..index + 1),
        }
    }
    found.retain(|stack| stack.len() > 1);
    found
}

/// The stack that begins with a layer.
pub(crate) fn stack_from(config: &NetworkConfig, first: usize) -> Option<Range<usize>> {
    stacks(config).into_iter().find(|stack| stack.start == first)
}

/// The stack that ends with a layer.
pub(crate) fn stack_to(config: &NetworkConfig, last: usize) -> Option<Range<usize>> {
    stacks(config).into_iter().find(|stack| stack.end == last + 1)
}

/// The place of each scan of each layer, by direction.
pub(crate) fn places(config: &NetworkConfig) -> Vec<[Beside; 2]> {
    let stacks = stacks(config);
    let place = |layer: &Layer, reverse: bool| {
        let directions = layer.recurrent().map_or(1, |recurrent| recurrent.direction.scans().len());
        let alone = Beside {
            first: layer.index,
            member: if directions > 1 { usize::from(reverse) } else { 0 },
            members: directions,
        };
        let stack = stacks.iter().find(|stack| stack.contains(&layer.index));
        stack.map_or(alone, |stack| Beside {
            first: stack.start,
            member: layer.index - stack.start,
            members: stack.len(),
        })
    };
    config.layers().iter().map(|layer| [false, true].map(|reverse| place(layer, reverse))).collect()
}

/// Whether a layer's steps are the plain ones of one scan forward, whose rows of h hold nothing but h.
fn may_stack(layer: &Layer) -> bool {
    let Some(form) = forms(layer).first().copied() else { return false };
    let recurrent = form.recurrent;
    form.is_plain()
        && !recurrent.is_dressed()
        && recurrent.direction == Direction::Forward
        && !recurrent.is_dilated()
}

/// Whether a layer reads the one before it and nothing else, and nobody else does.
fn lies_on(config: &NetworkConfig, index: usize) -> bool {
    let (below, graph) = (index - 1, config.graph());
    let [lower, upper] =
        [below, index].map(|at| config.layers()[at].recurrent().expect("both are recurrent"));
    graph.node(index).inputs == [Source::Output(below)]
        && graph.node(below).readers == [index]
        && (lower.hidden, lower.cell, lower.skip) == (upper.hidden, upper.cell, upper.skip)
}
