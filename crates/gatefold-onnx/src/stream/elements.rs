//! The elements of states, followed one by one from the inputs to the initial states of recurrent nodes, and from their
//! final states to the outputs.
//!
//! Each element of an input and of a final state gets a number, and the operators that move elements are run on the
//! numbers. A node goes on from chunk to chunk if the next value of an input holds, in the place of each element of the
//! initial state, the same element of the final state.

use crate::graph::{Graph, Node, Port};
use crate::operators::{self, Budget, Call, Need};
use crate::recurrent::{INITIAL_C, INITIAL_H, Operator};
use crate::tensor::{Tensor, volume};
use crate::walk::identity;
use ndarray::{ArrayD, IxDyn};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The state of a recurrent node: its [`identity`], and h or c.
pub(super) type State = (usize, char);

/// Operators that only move elements of their first input; all inputs of Concat.
pub(super) const MOVES: [&str; 14] = [
    "Cast",
    "Concat",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// The number of elements that nobody looks for, such as zeros that pad a state.
const OTHER: i64 = -1;

/// The sizes and branches with which a graph is followed.
pub(super) struct Course<'s> {
    /// The shape of an input; `None` if it is not known.
    pub(super) shape: &'s dyn Fn(&Port) -> Option<Vec<usize>>,
    /// The conditions of If, by [`identity`], as far as they are known.
    pub(super) conditions: &'s BTreeMap<usize, bool>,
}

/// The numbers of a tensor's elements, in order.
#[derive(Debug)]
struct Numbers {
    shape: Vec<usize>,
    ids: Vec<i64>,
}

/// The elements of a graph's states.
#[derive(Debug, Default)]
pub(super) struct Elements {
    inputs: Vec<Option<Numbers>>,
    outputs: Vec<Option<Numbers>>,
    /// The elements with which states begin.
    initial: BTreeMap<State, Numbers>,
    /// The number of the first element of each final state; the others follow.
    finals: BTreeMap<State, i64>,
    /// The recurrent nodes, and whether they have a c.
    nodes: BTreeMap<usize, bool>,
}

impl Elements {
    /// Follows the elements of a graph. Those that cannot be followed are left out.
    pub(super) fn find(graph: &Graph, course: &Course) -> Elements {
        let mut wanted: BTreeSet<&str> = graph.outputs.iter().map(|port| port.name.as_str()).collect();
        want(graph, &mut wanted);
        let budget = Budget::walking(graph.stored());
        let mut walk = Walk { course, wanted, budget, next: 0, found: Elements::default() };
        let mut known = Known::new();
        for port in &graph.inputs {
            let shape = (course.shape)(port).filter(|_| walk.wanted.contains(port.name.as_str()));
            let ids = shape.and_then(|shape| walk.numbered(&shape));
            walk.found.inputs.push(ids.as_ref().map(Numbers::of));
            known.extend(ids.map(|ids| (port.name.as_str(), Value::Moved(ids))));
        }
        let known = walk.graph(graph, known, &Known::new());
        let outputs = graph.outputs.iter().map(|port| match known.get(port.name.as_str()) {
            Some(Value::Moved(ids)) => Some(Numbers::of(ids)),
            _ => None,
        });
        walk.found.outputs = outputs.collect();
        walk.found
    }

    /// Whether an output certainly holds final states in another order than that in which an input gives these states
    /// their first values.
    pub(super) fn are_reordered(&self, input: usize, output: usize, states: &BTreeSet<State>) -> bool {
        states.iter().any(|&state| {
            let count = self.initial.get(&state).map_or(0, |first| first.ids.len());
            (0..count).any(|at| self.goes_on(state, at, &[(input, output)]) == Some(false))
        })
    }

    /// The recurrent nodes that begin, in the next call, with their own final states, element for element. The pairs are
    /// the inputs and the outputs that carry them on.
    pub(super) fn going_on(&self, pairs: &[(usize, usize)]) -> BTreeSet<usize> {
        let all = |state: State| {
            self.initial.get(&state).is_some_and(|first| {
                (0..first.ids.len()).all(|at| self.goes_on(state, at, pairs) == Some(true))
            })
        };
        let nodes = self.nodes.iter();
        nodes
            .filter(|&(&node, &has_c)| all((node, 'h')) && (!has_c || all((node, 'c'))))
            .map(|(&node, _)| node)
            .collect()
    }

    /// Whether an element of a state begins the next call with its own final value; `None` if it is not known, or the state
    /// begins with none of the inputs.
    fn goes_on(&self, state: State, at: usize, pairs: &[(usize, usize)]) -> Option<bool> {
        let last = self.finals.get(&state)? + at as i64;
        let id = self.initial.get(&state)?.ids[at];
        pairs.iter().find_map(|&(input, output)| {
            let input = self.inputs[input].as_ref()?;
            // The numbers of an input follow one another.
            let place =
                usize::try_from(id - input.ids.first()?).ok().filter(|&place| place < input.ids.len())?;
            let next = self.outputs[output].as_ref()?;
            Some(next.shape == input.shape && next.ids[place] == last)
        })
    }
}

impl Numbers {
    fn of(ids: &ArrayD<i64>) -> Numbers {
        Numbers { shape: ids.shape().to_vec(), ids: ids.iter().copied().collect() }
    }
}

/// Adds the names from which the initial states and the names that are wanted are made, up to the final states.
fn want<'a>(graph: &'a Graph, wanted: &mut BTreeSet<&'a str>) {
    for node in graph.nodes.iter().rev() {
        let is_wanted = node.outputs.iter().flatten().any(|name| wanted.contains(name.as_str()));
        match &*node.operator {
            operator if operators::is_recurrent(operator) => {
                wanted.extend([INITIAL_H, INITIAL_C].into_iter().filter_map(|at| node.input_name(at)));
            }
            "If" => {
                for inner in node.graphs() {
                    wanted.extend(inner.outputs.iter().filter(|_| is_wanted).map(|port| port.name.as_str()));
                    want(inner, wanted);
                }
                wanted.extend(node.input_name(0));
            }
            "Loop" | "Scan" => {}
            _ if is_wanted => wanted.extend(node.reads()),
            _ => {}
        }
    }
}

/// A value, as far as it is followed.
#[derive(Clone)]
enum Value<'a> {
    Known(Cow<'a, Tensor>),
    /// Elements by their numbers.
    Moved(ArrayD<i64>),
}

/// The values followed so far, by the names of a graph and of those around it.
type Known<'a> = BTreeMap<&'a str, Value<'a>>;

struct Walk<'a, 'c> {
    course: &'c Course<'c>,
    wanted: BTreeSet<&'a str>,
    budget: Budget,
    /// The next number to give.
    next: i64,
    found: Elements,
}

impl<'a> Walk<'a, '_> {
    /// New numbers for a tensor's elements.
    fn numbered(&mut self, shape: &[usize]) -> Option<ArrayD<i64>> {
        let elements = volume(shape).ok()? as u64;
        self.budget.spend(Need { elements, work: elements }).ok()?;
        let first = self.next;
        self.next += elements as i64;
        ArrayD::from_shape_vec(IxDyn(shape), (first..self.next).collect()).ok()
    }

    /// Walks a graph; returns the values of its names.
    fn graph(&mut self, graph: &'a Graph, mut known: Known<'a>, around: &Known<'a>) -> Known<'a> {
        for name in &graph.captures {
            known.extend(around.get(name.as_str()).map(|value| (name.as_str(), value.clone())));
        }
        for (name, tensor) in &graph.constants {
            if self.wanted.contains(name.as_str()) {
                known.insert(name, Value::Known(Cow::Borrowed(tensor)));
            }
        }
        for node in &graph.nodes {
            let results = self.node(graph, node, &known);
            let named = node.outputs.iter().zip(results);
            known.extend(named.filter_map(|(name, value)| Some((name.as_deref()?, value?))));
        }
        known
    }

    fn node(&mut self, graph: &'a Graph, node: &'a Node, known: &Known<'a>) -> Vec<Option<Value<'a>>> {
        let is_wanted = node.outputs.iter().flatten().any(|name| self.wanted.contains(name.as_str()));
        match &*node.operator {
            operator if operators::is_recurrent(operator) => self.recurrent(node, known),
            "If" => self.branches(node, known),
            operator if is_wanted && operators::is_plain(operator) => {
                self.plain(graph, node, known).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// The final states of a node: new elements in the shape of its first ones.
    fn recurrent(&mut self, node: &'a Node, known: &Known<'a>) -> Vec<Option<Value<'a>>> {
        let has_c = node.operator == Operator::Lstm.name();
        self.found.nodes.insert(identity(node), has_c);
        let first = |at: usize| node.input_name(at).and_then(|name| known.get(name));
        let firsts = [('h', first(INITIAL_H)), ('c', first(INITIAL_C).filter(|_| has_c))];
        let shape = firsts.iter().find_map(|(_, value)| match value {
            Some(Value::Known(tensor)) => Some(tensor.shape().to_vec()),
            Some(Value::Moved(ids)) => Some(ids.shape().to_vec()),
            None => None,
        });
        let mut results = vec![None];
        for (state, value) in firsts {
            let state = (identity(node), state);
            if let Some(Value::Moved(ids)) = value {
                self.found.initial.insert(state, Numbers::of(ids));
            }
            let ids = shape.as_ref().and_then(|shape| self.numbered(shape));
            self.found.finals.extend(ids.as_ref().and_then(|ids| Some((state, *ids.first()?))));
            results.push(ids.map(Value::Moved));
        }
        results
    }

    /// The branch that was taken, or both, if they give the same.
    fn branches(&mut self, node: &'a Node, known: &Known<'a>) -> Vec<Option<Value<'a>>> {
        let condition = match node.input_name(0).and_then(|name| known.get(name)) {
            Some(Value::Known(tensor)) => match &**tensor {
                Tensor::Bool(values) => values.first().copied(),
                _ => None,
            },
            _ => None,
        };
        let taken = self.course.conditions.get(&identity(node)).copied().or(condition);
        let mut of = |key: &str| -> Vec<Option<Value<'a>>> {
            let Ok(inner) = node.graph(key) else { return Vec::new() };
            let inside = self.graph(inner, Known::new(), known);
            inner.outputs.iter().map(|port| inside.get(port.name.as_str()).cloned()).collect()
        };
        match taken {
            Some(true) => of("then_branch"),
            Some(false) => of("else_branch"),
            None => {
                let (then, other) = (of("then_branch"), of("else_branch"));
                let same = |(a, b): (Option<Value<'a>>, Option<Value<'a>>)| match (&a, &b) {
                    (Some(Value::Moved(one)), Some(Value::Moved(two))) if one == two => a,
                    _ => None,
                };
                then.into_iter().zip(other).map(same).collect()
            }
        }
    }

    /// An operator on arrays: run, if its inputs are known or it only moves elements.
    fn plain(&mut self, graph: &Graph, node: &'a Node, known: &Known<'a>) -> Option<Vec<Option<Value<'a>>>> {
        let operator = &*node.operator;
        let values: Vec<Option<&Value>> = node
            .inputs
            .iter()
            .map(|name| name.as_deref().map_or(Some(None), |name| known.get(name).map(Some)))
            .collect::<Option<_>>()?;
        let is_moved = |value: &&Value| matches!(value, Value::Moved(_));
        let gives_shape = ["Shape", "Size"].contains(&operator);
        let moves = values.iter().flatten().any(is_moved) && !gives_shape;
        let places = values.iter().skip(1).flatten().any(is_moved) && operator != "Concat";
        let rounds = operator == "Cast" && !matches!(node.int("to"), Ok(Some(1 | 10 | 11)));
        if moves && (!MOVES.contains(&operator) || places || rounds) {
            return None;
        }
        let number = |value: &'_ Value<'a>| match value {
            Value::Moved(ids) => Tensor::I64(ids.clone()),
            Value::Known(tensor) => Tensor::I64(ArrayD::from_elem(IxDyn(tensor.shape()), OTHER)),
        };
        let inputs = values.into_iter().map(|value| {
            value.map(|value| match value {
                Value::Known(tensor) if !moves || operator != "Concat" => Cow::Borrowed(&**tensor),
                other => Cow::Owned(number(other)),
            })
        });
        let inputs: Vec<Option<Cow<Tensor>>> = inputs.collect();
        let results = if moves && operator == "Cast" {
            vec![inputs.into_iter().next()??.into_owned()]
        } else {
            let given = inputs.iter().map(Option::as_deref).collect();
            let call = Call { node, opset: graph.opset, inputs: given };
            operators::run(&call, &mut self.budget).ok()?
        };
        let value = |tensor: Tensor| match tensor {
            tensor if !moves => Some(Value::Known(Cow::Owned(tensor))),
            Tensor::I64(ids) => Some(Value::Moved(ids)),
            // The mask of a Dropout.
            _ => None,
        };
        Some(results.into_iter().map(value).collect())
    }
}
