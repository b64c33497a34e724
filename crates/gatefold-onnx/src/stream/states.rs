//! The states of a graph: which inputs an output carries on, and which recurrent nodes go on by themselves.

use super::StreamOptions;
use super::elements::{Course, Elements, MOVES, State};
use super::names::{canonical, without_numbers};
use crate::graph::{Axis, Graph, Node, Port};
use crate::recurrent::{INITIAL_C, INITIAL_H, Operator, RecurrentOperator, WEIGHTS};
use crate::walk::{Scope, StateNames, identity};
use crate::{OnnxError, operators};
use std::collections::{BTreeMap, BTreeSet};

/// How a graph's states stay between calls.
#[derive(Debug, Default)]
pub(super) struct States {
    /// Inputs and the outputs that give their next values, by number.
    pub(super) carried: Vec<(usize, usize)>,
    /// Inputs that only say where a node begins, which then keeps its state itself.
    pub(super) held: Vec<usize>,
    /// All of these: inputs and the outputs that give their next values, whoever keeps them.
    pub(super) pairs: Vec<(usize, usize)>,
    pub(super) scope: Scope,
}

impl States {
    /// The recurrent nodes that go on: those that keep their states, and those whose final states are, element for element,
    /// those that they begin with in the next call.
    pub(super) fn going_on(&self, graph: &Graph, course: &Course) -> BTreeSet<usize> {
        let mut nodes = Elements::find(graph, course).going_on(&self.pairs);
        nodes.extend(self.scope.keepers.keys());
        nodes
    }
}

/// A value, as far as it is followed.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// The inputs on whose elements it depends.
    inputs: BTreeSet<usize>,
    /// The inputs whose elements it is.
    moved: BTreeSet<usize>,
    /// The final states whose elements it is.
    finals: BTreeSet<State>,
}

/// A recurrent node, with what is known of its initial states.
struct Recurrent<'a> {
    node: &'a Node,
    opset: i64,
    /// The operator of the loop around it.
    loops: Option<&'a str>,
    constant: bool,
    h: Facts,
    c: Facts,
}

/// Finds the states of a graph.
///
/// # Errors
/// The node or input that cannot go on from call to call.
pub(super) fn find(graph: &Graph, options: &StreamOptions) -> Result<States, OnnxError> {
    let mut walk = Walk { recurrent: Vec::new(), loops: Vec::new() };
    let facts = walk.graph(graph, Facts::of_inputs(graph), &BTreeMap::new(), None);
    let mut states = States::default();
    pairs(graph, options, &walk, &facts, &mut states)?;
    states.pairs = states.carried.clone();
    let carried: BTreeSet<usize> = states.pairs.iter().map(|(input, _)| *input).collect();
    for found in &walk.recurrent {
        found.check(graph, &carried)?;
    }
    if carried.is_empty() {
        keep_own(&walk, &mut states)?;
    } else {
        keep_on_device(graph, &walk, &mut states)?;
    }
    if states.carried.is_empty() && states.scope.keepers.is_empty() {
        return Err(OnnxError::Input {
            name: graph.inputs.first().map(|port| port.name.clone()).unwrap_or_default(),
            expected: "a model with recurrent nodes, or with inputs that its outputs carry on".into(),
            found: "none of these; call Session::run instead".into(),
        });
    }
    Ok(states)
}

impl Facts {
    fn of_inputs(graph: &Graph) -> BTreeMap<&str, Facts> {
        let of = |at: usize| Facts { inputs: [at].into(), moved: [at].into(), finals: BTreeSet::new() };
        graph.inputs.iter().enumerate().map(|(at, port)| (port.name.as_str(), of(at))).collect()
    }

    fn join(&mut self, other: &Facts) {
        self.inputs.extend(&other.inputs);
        self.moved.extend(&other.moved);
        self.finals.extend(&other.finals);
    }
}

/// The values followed so far, by the names of a graph and of those around it.
type Known<'a> = BTreeMap<&'a str, Facts>;

struct Walk<'a> {
    recurrent: Vec<Recurrent<'a>>,
    /// Loops that carry values, with the inputs on which their first values depend.
    loops: Vec<(&'a Node, BTreeSet<usize>)>,
}

impl<'a> Walk<'a> {
    /// Walks a graph; returns what is known of its names.
    fn graph(
        &mut self,
        graph: &'a Graph,
        mut known: Known<'a>,
        around: &Known<'a>,
        loops: Option<&'a str>,
    ) -> Known<'a> {
        for name in &graph.captures {
            if let Some(facts) = around.get(name.as_str()) {
                known.insert(name, facts.clone());
            }
        }
        for node in &graph.nodes {
            let all: Vec<Facts> = self.node(graph, node, &known, loops);
            known.extend(
                node.outputs.iter().zip(all).filter_map(|(name, facts)| Some((name.as_deref()?, facts))),
            );
        }
        known
    }

    /// The outputs of a node, followed from its inputs.
    fn node(
        &mut self,
        graph: &'a Graph,
        node: &'a Node,
        known: &Known<'a>,
        loops: Option<&'a str>,
    ) -> Vec<Facts> {
        let of =
            |at: usize| node.input_name(at).and_then(|name| known.get(name)).cloned().unwrap_or_default();
        let mut all = Facts::default();
        for name in node.reads() {
            if let Some(facts) = known.get(name) {
                all.inputs.extend(&facts.inputs);
            }
        }
        let count = node.outputs.len();
        match &*node.operator {
            "Shape" | "Size" => vec![Facts::default(); count],
            operator if operators::is_recurrent(operator) => {
                let constant = WEIGHTS
                    .into_iter()
                    .filter_map(|at| node.input_name(at))
                    .all(|name| graph.constants.contains_key(name) || !known.contains_key(name));
                let (h, c) = (of(INITIAL_H), of(INITIAL_C));
                self.recurrent.push(Recurrent { node, opset: graph.opset, loops, constant, h, c });
                let of = |state: char| Facts { finals: [(identity(node), state)].into(), ..all.clone() };
                vec![all.clone(), of('h'), of('c')]
            }
            "If" => {
                let mut results = vec![all; count];
                for inner in node.graphs() {
                    let inside = self.graph(inner, Known::new(), known, loops);
                    for (result, port) in results.iter_mut().zip(&inner.outputs) {
                        let facts = inside.get(port.name.as_str()).or_else(|| known.get(port.name.as_str()));
                        result.join(facts.unwrap_or(&Facts::default()));
                    }
                }
                results
            }
            "Loop" | "Scan" => {
                self.of_loop(node, known);
                vec![all; count]
            }
            operator if MOVES.contains(&operator) => {
                let mut result = Facts { inputs: all.inputs, ..of(0) };
                for at in 1..if operator == "Concat" { node.inputs.len() } else { 0 } {
                    result.join(&of(at));
                }
                vec![result; count]
            }
            _ => vec![all; count],
        }
    }

    /// The states that begin with elements of an input.
    fn begun(&self, input: usize) -> BTreeSet<State> {
        let mut found = BTreeSet::new();
        for recurrent in &self.recurrent {
            for (state, facts) in [('h', &recurrent.h), ('c', &recurrent.c)] {
                if facts.moved.contains(&input) {
                    found.insert((identity(recurrent.node), state));
                }
            }
        }
        found
    }

    fn of_loop(&mut self, node: &'a Node, known: &Known<'a>) {
        let scanned = node.int_or("num_scan_inputs", 0).ok().and_then(|count| usize::try_from(count).ok());
        let carried = match &*node.operator {
            "Loop" => 2..node.inputs.len().max(2),
            _ => 0..node.inputs.len().saturating_sub(scanned.unwrap_or(0)),
        };
        if !carried.is_empty() {
            let facts = carried.filter_map(|at| known.get(node.input_name(at)?));
            self.loops.push((node, facts.flat_map(|facts| facts.inputs.iter().copied()).collect()));
        }
        for inner in node.graphs() {
            self.graph(inner, Known::new(), known, Some(&node.operator));
        }
    }
}

impl Recurrent<'_> {
    /// Refuses a node that begins with something computed from data.
    fn check(&self, graph: &Graph, carried: &BTreeSet<usize>) -> Result<(), OnnxError> {
        let from: BTreeSet<usize> = self.h.inputs.union(&self.c.inputs).copied().collect();
        match from.iter().find(|input| !carried.contains(input)) {
            None => Ok(()),
            Some(&input) => Err(self.node.error(format!(
                "its initial state comes from the input {}, and no output is known to carry that on; name the output \
                 with StreamOptions::carry (--state INPUT=OUTPUT)",
                graph.inputs[input].name
            ))),
        }
    }

    /// The reason why the node cannot keep its state itself.
    fn problem(&self) -> Result<Option<String>, OnnxError> {
        let operator =
            RecurrentOperator::of_node(self.node, self.opset).map_err(|problem| self.node.error(problem))?;
        Ok(if operator.direction != gatefold_model::Direction::Forward {
            Some("it reads the sequence from its end, so it cannot go on where the call before ended".into())
        } else if let Some(around) = self.loops {
            Some(format!("it is inside a {around}, where it begins anew in each trip"))
        } else if !self.constant {
            Some("its weights are given or computed in each call".into())
        } else {
            None
        })
    }

    /// Its states, in the order of the operator's inputs.
    fn states(&self) -> &'static [char] {
        if self.node.operator == Operator::Lstm.name() { &['h', 'c'] } else { &['h'] }
    }
}

/// Pairs inputs with the outputs that give their next values: those that the caller names, those of the same states of
/// recurrent nodes, and those of corresponding names.
fn pairs(
    graph: &Graph,
    options: &StreamOptions,
    walk: &Walk,
    facts: &Known,
    states: &mut States,
) -> Result<(), OnnxError> {
    let place = |ports: &[Port], name: &str, what: &str| {
        ports.iter().position(|port| port.name == name).ok_or_else(|| OnnxError::Input {
            name: name.into(),
            expected: format!(
                "one of the model's {what}s {}",
                ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
            found: format!("no {what} of this name"),
        })
    };
    for (input, output) in &options.carried {
        let pair = (place(&graph.inputs, input, "input")?, place(&graph.outputs, output, "output")?);
        if !fits(&graph.inputs[pair.0], &graph.outputs[pair.1]) {
            return Err(OnnxError::Input {
                name: input.clone(),
                expected: graph.inputs[pair.0].to_string(),
                found: graph.outputs[pair.1].to_string(),
            });
        }
        states.carried.push(pair);
    }
    let data: Vec<usize> = options
        .not_carried
        .iter()
        .map(|name| place(&graph.inputs, name, "input"))
        .collect::<Result<_, _>>()?;
    for (at, &(input, output)) in states.carried.iter().enumerate() {
        let twice = states.carried[..at].iter().any(|&(i, o)| i == input || o == output);
        if twice || data.contains(&input) {
            let expected = "one partner, and no word that it is not carried".into();
            let (name, found) = (graph.inputs[input].name.clone(), graph.outputs[output].name.clone());
            return Err(OnnxError::Input { name, expected, found: format!("{found} and others") });
        }
    }
    let of_output = |at: usize| facts.get(graph.outputs[at].name.as_str());
    let has_finals = |input: usize, output: usize| {
        let begun = walk.begun(input);
        !data.contains(&input)
            && !begun.is_empty()
            && of_output(output).is_some_and(|facts| facts.finals == begun)
    };
    let elements = elements(graph, options);
    let reordered = |input: usize, output: usize| elements.are_reordered(input, output, &walk.begun(input));
    add(graph, states, |input, output| has_finals(input, output) && !reordered(input, output));
    let mut others = States { carried: states.carried.clone(), ..States::default() };
    add(graph, &mut others, has_finals);
    if let Some(&(input, output)) = others.carried.get(states.carried.len()) {
        let (input, output) = (&graph.inputs[input].name, &graph.outputs[output].name);
        return Err(OnnxError::Input {
            name: input.clone(),
            expected: format!(
                "its next value in {output}, each element of the final states in the place of the first"
            ),
            found: "the same elements in another order; export them in the order of the input".into(),
        });
    }
    let sure = states.carried.clone();
    for name in [canonical, without_numbers] {
        let names = |ports: &[Port]| ports.iter().map(|port| name(&port.name)).collect::<Vec<_>>();
        let (inputs, outputs) = (names(&graph.inputs), names(&graph.outputs));
        let alone = |names: &[Option<String>], at: usize| {
            names[at].is_some() && names.iter().filter(|name| **name == names[at]).count() == 1
        };
        add(graph, states, |input, output| {
            inputs[input] == outputs[output]
                && !data.contains(&input)
                && alone(&inputs, input)
                && alone(&outputs, output)
                && of_output(output).is_some_and(|facts| facts.inputs.contains(&input))
        });
    }
    if states.carried.len() == graph.inputs.len() {
        // Some input is data, so the names mislead.
        states.carried = sure;
    }
    Ok(())
}

/// The elements of the states as far as they are known before a run.
fn elements(graph: &Graph, options: &StreamOptions) -> Elements {
    let len = |axis: &Axis| if let Axis::Fixed(len) = axis { *len } else { options.batch };
    let shape = |port: &Port| port.shape.as_ref().map(|axes| axes.iter().map(len).collect());
    Elements::find(graph, &Course { shape: &shape, conditions: &BTreeMap::new() })
}

/// Adds the pairs of inputs and outputs without a partner that belong together.
fn add(graph: &Graph, states: &mut States, belong: impl Fn(usize, usize) -> bool) {
    for input in 0..graph.inputs.len() {
        let open = |output: usize| states.carried.iter().all(|(i, o)| *i != input && *o != output);
        let partner = (0..graph.outputs.len()).find(|&output| {
            open(output) && fits(&graph.inputs[input], &graph.outputs[output]) && belong(input, output)
        });
        states.carried.extend(partner.map(|output| (input, output)));
    }
}

/// Whether an output may be an input of the next call.
fn fits(input: &Port, output: &Port) -> bool {
    let element = input.element.zip(output.element).is_none_or(|(a, b)| a.stored() == b.stored());
    let axis = |pair: (&Axis, &Axis)| match pair {
        (Axis::Fixed(a), Axis::Fixed(b)) => a == b,
        _ => true,
    };
    let shape = input
        .shape
        .as_ref()
        .zip(output.shape.as_ref())
        .is_none_or(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(axis));
    element && shape
}

/// Without any state among the inputs, every recurrent node keeps its own.
fn keep_own(walk: &Walk, states: &mut States) -> Result<(), OnnxError> {
    if let Some((node, _)) = walk.loops.first() {
        return Err(node.error("the values that it carries begin anew in each call"));
    }
    let mut taken = BTreeSet::new();
    for found in &walk.recurrent {
        if let Some(problem) = found.problem()? {
            return Err(found.node.error(problem));
        }
        let mut name = found.node.name.clone();
        while !taken.insert(name.clone()) {
            name.push('\'');
        }
        let c = (found.states().len() == 2).then(|| format!("{name}.c"));
        states.scope.keepers.insert(identity(found.node), StateNames { h: format!("{name}.h"), c });
    }
    Ok(())
}

/// Where inputs are the initial states of a node and outputs its final ones as they are, the node keeps them itself, on
/// its device.
fn keep_on_device(graph: &Graph, walk: &Walk, states: &mut States) -> Result<(), OnnxError> {
    for found in &walk.recurrent {
        let node = found.node;
        let of = |state: char| {
            let (input, output) = if state == 'h' { (INITIAL_H, 1) } else { (INITIAL_C, 2) };
            let (input, output) = (node.input_name(input)?, node.outputs.get(output)?.as_ref()?);
            let read_once =
                graph.nodes.iter().flat_map(Node::reads).filter(|name| *name == input).count() == 1;
            let pair = states.carried.iter().position(|&(i, o)| {
                graph.inputs[i].name == input && graph.outputs[o].name == *output && read_once
            });
            pair.map(|at| states.carried[at])
        };
        let direct: Option<Vec<(usize, usize)>> = found.states().iter().map(|&state| of(state)).collect();
        let Some(direct) = direct.filter(|_| graph.nodes.iter().any(|own| std::ptr::eq(own, node))) else {
            continue;
        };
        if found.problem()?.is_some() {
            continue;
        }
        let name = |at: usize| direct.get(at).map(|&(input, _)| graph.inputs[input].name.clone());
        if let Some(h) = name(0) {
            states.scope.keepers.insert(identity(node), StateNames { h, c: name(1) });
        }
        states.scope.dropped.extend(direct.iter().map(|&(_, output)| graph.outputs[output].name.clone()));
        states.held.extend(direct.iter().map(|&(input, _)| input));
        states.carried.retain(|pair| !direct.contains(pair));
    }
    Ok(())
}
