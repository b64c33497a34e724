//! Computes, while a model is read, what depends on none of its inputs.

use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Budget, Call};
use crate::tensor::Tensor;
use std::collections::BTreeSet;

/// Evaluates every node that depends on no input, such as those that assemble weights from pieces; in the graphs inside
/// nodes too.
pub(crate) fn fold_constants(graph: &mut Graph) -> Result<(), OnnxError> {
    let mut budget = Budget::folding(graph.stored());
    fold(graph, &mut budget)
}

fn fold(graph: &mut Graph, budget: &mut Budget) -> Result<(), OnnxError> {
    let mut left = Vec::with_capacity(graph.nodes.len());
    for mut node in std::mem::take(&mut graph.nodes) {
        for inner in node.graphs_mut() {
            fold(inner, budget)?;
        }
        let constant = |name: &String| graph.constants.contains_key(name);
        if !operators::is_plain(&node.operator) || !node.inputs.iter().flatten().all(constant) {
            left.push(node);
            continue;
        }
        let inputs = node.inputs.iter().map(|name| name.as_ref().and_then(|name| graph.constants.get(name)));
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
