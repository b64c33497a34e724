//! Computes, while a model is read, what depends on none of its inputs.

use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Budget, Call};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// Evaluates every node that depends on no input, such as those that assemble weights from pieces; in the graphs inside
/// nodes too, where constants of the graphs around them count.
pub(crate) fn fold_constants(graph: &mut Graph) -> Result<(), OnnxError> {
    let mut budget = Budget::folding(graph.stored());
    fold(graph, None, &mut budget)
}

/// The constants that a graph may use, of itself and of those around it.
#[derive(Clone, Copy)]
struct Around<'a> {
    constants: &'a BTreeMap<String, Tensor>,
    captures: &'a BTreeSet<String>,
    outer: Option<&'a Around<'a>>,
}

impl<'a> Around<'a> {
    fn get(&self, name: &str) -> Option<&'a Tensor> {
        match self.constants.get(name) {
            None if self.captures.contains(name) => self.outer?.get(name),
            found => found,
        }
    }
}

fn fold(graph: &mut Graph, outer: Option<&Around>, budget: &mut Budget) -> Result<(), OnnxError> {
    let mut left = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        let around = Around { constants: &graph.constants, captures: &graph.captures, outer };
        for inner in node.graphs_mut() {
            fold(inner, Some(&around), budget)?;
        }
        let constant = |name: &String| around.get(name).is_some();
        if !operators::is_plain(&node.operator) || !node.inputs.iter().flatten().all(constant) {
            left.push(node);
            continue;
        }
        let inputs = node.inputs.iter().map(|name| name.as_ref().and_then(|name| around.get(name)));
        let call = Call { node: &node, opset: graph.opset, inputs: inputs.collect() };
        let results = operators::run(&call, budget).map_err(|problem| node.error(problem))?;
        let named = named(&node, results)?;
        graph.constants.extend(named);
    }
    graph.nodes = left;
    let read: BTreeSet<&str> = graph
        .nodes
        .iter()
        .flat_map(Node::reads)
        .chain(graph.outputs.iter().map(|port| port.name.as_str()))
        .collect();
    graph.constants.retain(|name, _| read.contains(name.as_str()));
    graph.captures.retain(|name| read.contains(name.as_str()));
    Ok(())
}

/// Results under the names of the node's outputs.
fn named(node: &Node, results: Vec<Tensor>) -> Result<Vec<(String, Tensor)>, OnnxError> {
    if node.outputs.iter().skip(results.len()).any(Option::is_some) {
        return Err(node.error(format!(
            "it has {} outputs; the operator has {}",
            node.outputs.len(),
            results.len()
        )));
    }
    let pairs = node.outputs.iter().zip(results);
    Ok(pairs.filter_map(|(name, tensor)| name.clone().map(|name| (name, tensor))).collect())
}
