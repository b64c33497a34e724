//! Runs a graph: plain operators here, the recurrent ones where the caller says.

use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Call};
use crate::tensor::{MAX_ELEMENTS, Tensor};
use std::collections::BTreeSet;

/// A plain operator's results.
pub(crate) fn plain(node: &Node, opset: i64, inputs: Vec<Option<&Tensor>>) -> Result<Vec<Tensor>, OnnxError> {
    operators::run(&Call { node, opset, inputs }).map_err(|problem| node.error(problem))
}

/// Results by the names that the node gives them.
fn named(node: &Node, results: Vec<Tensor>) -> Result<Vec<(String, Tensor)>, OnnxError> {
    if node.outputs.len() > results.len() {
        return Err(node.error(format!(
            "it has {} outputs; the operator gives {}",
            node.outputs.len(),
            results.len()
        )));
    }
    let pairs = node.outputs.iter().zip(results);
    Ok(pairs.filter_map(|(name, tensor)| name.clone().map(|name| (name, tensor))).collect())
}

/// Computes once what depends on no input, such as weights that an exporter left in pieces.
pub(crate) fn fold_constants(graph: &mut Graph) -> Result<(), OnnxError> {
    let mut live: usize = graph.constants.values().map(Tensor::len).sum();
    let given = live;
    let mut left = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes) {
        let constant = |name: &String| graph.constants.contains_key(name);
        if operators::is_recurrent(&node.operator) || !node.inputs.iter().flatten().all(constant) {
            left.push(node);
            continue;
        }
        let inputs = node.inputs.iter().map(|name| name.as_ref().and_then(|name| graph.constants.get(name)));
        let results = plain(&node, graph.opset, inputs.collect())?;
        for (name, tensor) in named(&node, results)? {
            live += tensor.len();
            graph.constants.insert(name, tensor);
        }
        if live - given > MAX_ELEMENTS {
            return Err(node
                .error(format!("constants of more than {MAX_ELEMENTS} elements are computed in the graph")));
        }
    }
    graph.nodes = left;
    let read: BTreeSet<&str> = graph
        .nodes
        .iter()
        .flat_map(|node| node.inputs.iter().flatten())
        .chain(graph.outputs.iter().map(|port| &port.name))
        .map(String::as_str)
        .collect();
    graph.constants.retain(|name, _| read.contains(name.as_str()));
    Ok(())
}
