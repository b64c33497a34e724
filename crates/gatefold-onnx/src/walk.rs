//! Runs a graph: its nodes in order, with the graphs inside them.
//!
//! A graph is compiled once: each name becomes a place in a frame, and each node knows which places nothing reads after
//! it. A tensor is dropped after its last reader, which may overwrite it unless the tensor is the caller's.

use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Budget, Given, Kernel};
use crate::tensor::Tensor;
use gatefold::Device;
use rten::RunOptions;
use std::collections::{BTreeMap, BTreeSet};

mod chain;
mod control;
mod fold;
mod layer;
mod lists;
#[cfg(test)]
mod tests;

use chain::{Chain, Constants, Readers};
pub(crate) use control::{check, stacked};
pub(crate) use fold::fold_constants;
use layer::Layer;
pub(crate) use layer::{Keeper, StateNames};

/// The most bytes of all tensors alive at one time while a graph runs on large inputs.
const MAX_LIVE: usize = 2 << 30;
/// The most of them however small the model and its inputs are, and for each element of those.
const BASE_LIVE: usize = 64 << 20;
const LIVE_FOR_EACH: usize = 4 << 10;
/// The most trips of all loops in a run, beyond one for each element that is given.
const MAX_TRIPS: usize = 1 << 18;

/// A value of a name.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Tensor(Tensor),
    List(Vec<Tensor>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Value::Tensor(tensor) => tensor.bytes(),
            Value::List(tensors) => tensors.iter().map(Tensor::bytes).sum(),
        }
    }
}

/// A value of a name, where it is.
#[derive(Clone, Copy)]
pub(crate) enum ValueRef<'v> {
    Tensor(&'v Tensor),
    List(&'v [Tensor]),
}

impl ValueRef<'_> {
    fn to_value(self) -> Value {
        match self {
            ValueRef::Tensor(tensor) => Value::Tensor(tensor.clone()),
            ValueRef::List(tensors) => Value::List(tensors.to_vec()),
        }
    }
}

/// A place in a frame.
pub(crate) enum Cell<'v> {
    Empty,
    Own(Value),
    /// A value of the caller, or of the graph around this one.
    Lent(ValueRef<'v>),
}

impl Cell<'_> {
    fn value(&self) -> Option<ValueRef<'_>> {
        match self {
            Cell::Empty => None,
            Cell::Own(Value::Tensor(tensor)) => Some(ValueRef::Tensor(tensor)),
            Cell::Own(Value::List(tensors)) => Some(ValueRef::List(tensors)),
            Cell::Lent(value) => Some(*value),
        }
    }
}

/// Where the value of a name is.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Slot(usize),
    Constant(&'a Tensor),
}

/// A graph ready to run.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    steps: Vec<Step<'a>>,
    slots: usize,
    /// The place of each input.
    inputs: Vec<usize>,
    /// Places in the frame around this one, and here.
    captures: Vec<(usize, usize)>,
    outputs: Vec<(&'a str, Source<'a>)>,
}

/// A node ready to run.
#[derive(Debug)]
struct Step<'a> {
    node: &'a Node,
    opset: i64,
    inputs: Vec<Option<Source<'a>>>,
    outputs: Vec<Option<usize>>,
    /// The places that nothing reads after this node.
    last: Vec<usize>,
    work: Work<'a>,
    /// Of a recurrent node that goes on where it ended: its states.
    keeper: Option<Box<Keeper>>,
}

#[derive(Debug)]
enum Work<'a> {
    Plain(Kernel),
    /// With the network, once it has run, if its weights are constant.
    Recurrent(Option<Box<Layer>>),
    /// This node and those after it that are one network.
    Chain(Box<Chain<'a>>),
    /// The graphs inside a node: of If, the branch that is taken first.
    Control(Vec<Program<'a>>),
    List,
}

/// The state that the graphs of a run share.
pub(crate) struct Host<'h> {
    device: &'h Device,
    /// The threads on which the library computes.
    options: &'h RunOptions,
    pub(crate) budget: Budget,
    live: usize,
    most_live: usize,
    trips_left: usize,
    /// Notes on the run, if they are wanted.
    pub(crate) seen: Option<Seen>,
}

/// The course of a run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The shapes of all values.
    pub(crate) shapes: BTreeMap<String, Vec<usize>>,
    /// The condition of each If, by [`identity`].
    pub(crate) conditions: BTreeMap<usize, bool>,
}

impl<'h> Host<'h> {
    /// For a run on `given` elements of inputs with `stored` elements of weights.
    pub(crate) fn new(device: &'h Device, options: &'h RunOptions, given: usize, stored: usize) -> Host<'h> {
        let each = given.saturating_add(stored).saturating_mul(LIVE_FOR_EACH);
        Host {
            device,
            options,
            budget: Budget::running(given, stored),
            live: 0,
            most_live: BASE_LIVE.saturating_add(each).min(MAX_LIVE),
            trips_left: MAX_TRIPS.saturating_add(given),
            seen: None,
        }
    }

    fn free(&mut self, value: &Value) {
        self.live = self.live.saturating_sub(value.bytes());
    }

    /// Notes the shape of a value, if that is wanted.
    fn note(&mut self, name: Option<&String>, shape: &[usize]) {
        if let (Some(seen), Some(name)) = (&mut self.seen, name) {
            seen.shapes.insert(name.clone(), shape.to_vec());
        }
    }
}

/// The names of a graph while it is compiled.
type Names<'a> = BTreeMap<&'a str, Source<'a>>;

/// The part of a graph to run, and what stays between runs.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    /// Outputs that nobody asks for.
    pub(crate) dropped: BTreeSet<String>,
    /// The recurrent nodes that go on where they ended, by [`identity`].
    pub(crate) keepers: BTreeMap<usize, StateNames>,
}

/// A number for a node, as long as its graph stays where it is.
pub(crate) fn identity(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

impl<'a> Program<'a> {
    /// Compiles a checked graph.
    pub(crate) fn new(graph: &'a Graph, scope: &Scope) -> Program<'a> {
        Program::inside(graph, &Names::new(), scope)
    }

    fn inside(graph: &'a Graph, around: &Names<'a>, scope: &Scope) -> Program<'a> {
        let wanted = || graph.outputs.iter().filter(|port| !scope.dropped.contains(&port.name));
        let needed = needed(graph, wanted().map(|port| port.name.as_str()));
        let readers = Readers::of(graph, &needed, wanted().map(|port| port.name.as_str()));
        let mut slots = 0;
        let mut slot = || {
            slots += 1;
            slots - 1
        };
        let mut names: Names = BTreeMap::new();
        let mut captures = Vec::new();
        for name in &graph.captures {
            names.insert(
                name,
                match around[name.as_str()] {
                    Source::Slot(outer) => {
                        let inner = slot();
                        captures.push((outer, inner));
                        Source::Slot(inner)
                    }
                    constant => constant,
                },
            );
        }
        names.extend(graph.constants.iter().map(|(name, tensor)| (name.as_str(), Source::Constant(tensor))));
        let mut inputs = Vec::new();
        for port in &graph.inputs {
            inputs.push(slot());
            names.insert(&port.name, Source::Slot(inputs[inputs.len() - 1]));
        }
        let mut steps = Vec::with_capacity(graph.nodes.len());
        let mut done: BTreeSet<usize> = BTreeSet::new();
        for node in graph.nodes.iter().filter(|node| is_needed(node, &needed)) {
            if done.contains(&identity(node)) {
                continue;
            }
            let source = |name: &Option<String>| name.as_ref().map(|name| names[name.as_str()]);
            let read = node.inputs.iter().map(source).collect();
            let constants = Constants { names: &names, opset: graph.opset };
            let work = match Chain::from(node, constants, &readers) {
                Some(chain) => Work::Chain(Box::new(chain)),
                None => Work::of(node, &names, scope),
            };
            if let Work::Chain(chain) = &work {
                done.extend(chain.nodes().map(identity));
            }
            let mut outputs = Vec::new();
            for name in &work.last(node).outputs {
                let name = name.as_ref().filter(|name| needed.contains(name.as_str()));
                let place = name.map(|_| slot());
                if let (Some(name), Some(place)) = (name, place) {
                    names.insert(name, Source::Slot(place));
                }
                outputs.push(place);
            }
            let keeper =
                scope.keepers.get(&identity(node)).cloned().map(|names| Box::new(Keeper::new(names)));
            steps.push(Step {
                node,
                opset: graph.opset,
                inputs: read,
                outputs,
                last: Vec::new(),
                work,
                keeper,
            });
        }
        let outputs: Vec<_> = wanted().map(|port| (port.name.as_str(), names[port.name.as_str()])).collect();
        let mut program = Program { steps, slots, inputs, captures, outputs };
        program.find_last_readers();
        program
    }

    /// Whether the library computes anything in it.
    pub(crate) fn needs_library(&self) -> bool {
        self.steps.iter().any(|step| match &step.work {
            Work::Plain(_) => !operators::moves_alone(&step.node.operator),
            Work::Control(programs) => programs.iter().any(Program::needs_library),
            Work::Recurrent(_) | Work::Chain(_) | Work::List => false,
        })
    }

    /// The names of its outputs, in order.
    pub(crate) fn output_names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.outputs.iter().map(|(name, _)| *name)
    }

    /// The states that stay between runs.
    pub(crate) fn keepers(&mut self) -> Vec<&mut Keeper> {
        let mut found = Vec::new();
        for step in &mut self.steps {
            found.extend(step.keeper.as_deref_mut());
            if let Work::Control(programs) = &mut step.work {
                found.extend(programs.iter_mut().flat_map(Program::keepers));
            }
        }
        found
    }

    fn find_last_readers(&mut self) {
        let mut last: Vec<Option<usize>> = vec![None; self.slots];
        for (place, step) in self.steps.iter().enumerate() {
            for slot in step.outputs.iter().flatten().copied().chain(step.reads()) {
                last[slot] = Some(place);
            }
        }
        for (_, output) in &self.outputs {
            if let Source::Slot(slot) = output {
                last[*slot] = None;
            }
        }
        for (slot, place) in last.into_iter().enumerate() {
            if let Some(place) = place {
                self.steps[place].last.push(slot);
            }
        }
    }

    /// Runs on inputs in the graph's order; returns the outputs in its order.
    pub(crate) fn run(&mut self, inputs: Vec<Cell>, host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        self.run_inside(inputs, &[], host)
    }

    /// Runs inside a node, with the values that it takes from the frame around it.
    fn run_inside<'v>(
        &mut self,
        inputs: impl IntoIterator<Item = Cell<'v>>,
        captured: &[ValueRef<'v>],
        host: &mut Host,
    ) -> Result<Vec<Value>, OnnxError> {
        let mut frame: Vec<Cell<'v>> = Vec::new();
        frame.resize_with(self.slots, || Cell::Empty);
        for (&slot, cell) in self.inputs.iter().zip(inputs) {
            frame[slot] = cell;
        }
        for (&(_, slot), &value) in self.captures.iter().zip(captured) {
            frame[slot] = Cell::Lent(value);
        }
        for step in &mut self.steps {
            step.run(&mut frame, host)?;
        }
        let mut results = Vec::with_capacity(self.outputs.len());
        for (at, (name, output)) in self.outputs.iter().enumerate() {
            let again = self.outputs[at + 1..].iter().any(|(_, other)| same_slot(other, output));
            let value = match output {
                Source::Constant(tensor) => Some(Value::Tensor((*tensor).clone())),
                Source::Slot(slot) if !again && matches!(frame[*slot], Cell::Own(_)) => {
                    match std::mem::replace(&mut frame[*slot], Cell::Empty) {
                        Cell::Own(value) => Some(value),
                        _ => None,
                    }
                }
                Source::Slot(slot) => frame[*slot].value().map(ValueRef::to_value),
            };
            results.push(value.ok_or_else(|| OnnxError::Input {
                name: (*name).into(),
                expected: "a value".into(),
                found: "none".into(),
            })?);
        }
        frame.iter().for_each(|cell| {
            if let Cell::Own(value) = cell {
                host.free(value);
            }
        });
        Ok(results)
    }
}

/// The names that some outputs depend on, themselves included.
fn needed<'a>(graph: &'a Graph, outputs: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut needed: BTreeSet<&str> = outputs.collect();
    for node in graph.nodes.iter().rev() {
        if is_needed(node, &needed) {
            needed.extend(node.reads());
        }
    }
    needed
}

/// Whether a node makes one of the names that are needed.
fn is_needed(node: &Node, needed: &BTreeSet<&str>) -> bool {
    node.outputs.iter().flatten().any(|name| needed.contains(name.as_str()))
}

fn same_slot(a: &Source, b: &Source) -> bool {
    matches!((a, b), (Source::Slot(a), Source::Slot(b)) if a == b)
}

impl<'a> Work<'a> {
    fn of(node: &'a Node, names: &Names<'a>, scope: &Scope) -> Work<'a> {
        let operator = &*node.operator;
        if operators::is_recurrent(operator) {
            Work::Recurrent(None)
        } else if operators::CONTROL.contains(&operator) {
            let keys: &[&str] = if operator == "If" { &["then_branch", "else_branch"] } else { &["body"] };
            let graphs = keys.iter().filter_map(|key| node.graph(key).ok());
            Work::Control(graphs.map(|graph| Program::inside(graph, names, scope)).collect())
        } else if operators::LISTS.contains(&operator) {
            Work::List
        } else {
            Work::Plain(Kernel::default())
        }
    }

    /// The node whose outputs a step has that begins with this node.
    fn last<'n>(&self, node: &'n Node) -> &'n Node
    where
        'a: 'n,
    {
        if let Work::Chain(chain) = self { chain.last() } else { node }
    }
}

impl Step<'_> {
    /// The places that it reads.
    fn reads(&self) -> Vec<usize> {
        let own = self.inputs.iter().filter_map(|source| match source {
            Some(Source::Slot(slot)) => Some(*slot),
            _ => None,
        });
        let inside: Vec<usize> = match &self.work {
            Work::Control(programs) => {
                programs.iter().flat_map(|program| program.captures.iter().map(|(outer, _)| *outer)).collect()
            }
            _ => Vec::new(),
        };
        own.chain(inside).collect()
    }

    fn run(&mut self, frame: &mut [Cell], host: &mut Host) -> Result<(), OnnxError> {
        host.budget.leave(host.most_live.saturating_sub(host.live));
        let before = host.live;
        let results = match &mut self.work {
            Work::Plain(_) => self.plain(frame, host)?,
            Work::Recurrent(_) => self.recurrent(frame, host)?,
            Work::Chain(_) => self.chain(frame, host)?,
            Work::Control(_) => {
                let results = self.control(frame, host)?;
                host.live = before;
                results
            }
            Work::List => self.list(frame).map_err(|problem| self.node.error(problem))?,
        };
        self.store(results, frame, host)
    }

    /// Keeps results that are used and drops what nothing reads any more.
    fn store(&mut self, results: Vec<Value>, frame: &mut [Cell], host: &mut Host) -> Result<(), OnnxError> {
        let names = &self.work.last(self.node).outputs;
        let missing = self.outputs.iter().skip(results.len()).any(Option::is_some);
        if missing {
            let (found, given) = (self.outputs.len(), results.len());
            return Err(self.node.error(format!("it has {found} outputs; the operator has {given}")));
        }
        for (at, (slot, value)) in self.outputs.iter().zip(results).enumerate() {
            if let Some(slot) = slot {
                if let Value::Tensor(tensor) = &value {
                    host.note(names[at].as_ref(), tensor.shape());
                }
                host.live += value.bytes();
                frame[*slot] = Cell::Own(value);
            }
        }
        if host.live > host.most_live {
            let most = host.most_live;
            return Err(self
                .node
                .error(format!("more than {most} bytes of tensors at one time; use smaller inputs")));
        }
        for &slot in &self.last {
            if let Cell::Own(value) = std::mem::replace(&mut frame[slot], Cell::Empty) {
                host.free(&value);
            }
        }
        Ok(())
    }

    fn plain(&mut self, frame: &mut [Cell], host: &mut Host) -> Result<Vec<Value>, OnnxError> {
        let node = self.node;
        let mut owned = self.take(frame, host);
        let mut given: Vec<Option<Given>> = Vec::with_capacity(self.inputs.len());
        for (at, source) in self.inputs.iter().enumerate() {
            given.push(match (owned[at].take(), source) {
                (Some(tensor), _) => Some(Given::Owned(tensor)),
                (None, None) => None,
                (None, Some(Source::Constant(tensor))) => Some(Given::Constant(tensor)),
                (None, Some(Source::Slot(slot))) => match frame[*slot].value() {
                    Some(ValueRef::Tensor(tensor)) => Some(Given::Lent(tensor)),
                    Some(ValueRef::List(_)) => {
                        return Err(node.error(format!("its input {at} is a list of tensors")));
                    }
                    None => None,
                },
            });
        }
        let Work::Plain(kernel) = &mut self.work else { return Ok(Vec::new()) };
        let results = kernel
            .run(node, self.opset, given, &mut host.budget, host.options)
            .map_err(|problem| node.error(problem))?;
        Ok(results.into_iter().map(Value::Tensor).collect())
    }

    /// Takes the tensors that nothing reads after this node out of the frame.
    fn take(&self, frame: &mut [Cell], host: &mut Host) -> Vec<Option<Tensor>> {
        let reads = |slot: usize| {
            self.inputs
                .iter()
                .filter(|source| matches!(source, Some(Source::Slot(other)) if *other == slot))
                .count()
        };
        let mut take = |source: &Option<Source>| -> Option<Tensor> {
            let Some(Source::Slot(slot)) = *source else { return None };
            let takes = self.last.contains(&slot)
                && matches!(frame[slot], Cell::Own(Value::Tensor(_)))
                && reads(slot) == 1;
            if !takes {
                return None;
            }
            match std::mem::replace(&mut frame[slot], Cell::Empty) {
                Cell::Own(Value::Tensor(tensor)) => {
                    host.live = host.live.saturating_sub(tensor.bytes());
                    Some(tensor)
                }
                _ => None,
            }
        };
        self.inputs.iter().map(&mut take).collect()
    }

    /// The tensor of an input, if it has one.
    fn tensor<'f>(&'f self, at: usize, frame: &'f [Cell]) -> Result<Option<&'f Tensor>, String> {
        tensor_of(&self.inputs, at, frame)
    }

    /// A copy of the value of an input.
    fn value(&self, at: usize, frame: &[Cell]) -> Result<Value, String> {
        let value = match self.inputs.get(at).copied().flatten() {
            Some(Source::Constant(tensor)) => Some(Value::Tensor(tensor.clone())),
            Some(Source::Slot(slot)) => frame[slot].value().map(ValueRef::to_value),
            None => None,
        };
        value.ok_or_else(|| format!("its input {at} is missing"))
    }
}

/// The tensor of an input, if it has one.
fn tensor_of<'f>(
    inputs: &'f [Option<Source>],
    at: usize,
    frame: &'f [Cell],
) -> Result<Option<&'f Tensor>, String> {
    match inputs.get(at).copied().flatten() {
        None => Ok(None),
        Some(Source::Constant(tensor)) => Ok(Some(tensor)),
        Some(Source::Slot(slot)) => match frame[slot].value() {
            Some(ValueRef::Tensor(tensor)) => Ok(Some(tensor)),
            Some(ValueRef::List(_)) => Err(format!("its input {at} is a list of tensors")),
            None => Ok(None),
        },
    }
}
