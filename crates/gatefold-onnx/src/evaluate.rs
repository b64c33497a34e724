//! Runs a graph: plain operators here, recurrent ones through the caller.

use crate::OnnxError;
use crate::graph::{Graph, Node};
use crate::operators::{self, Call};
use crate::tensor::{MAX_ELEMENTS, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// The most elements of all tensors alive at one time while a graph runs.
const MAX_LIVE: usize = 2 * MAX_ELEMENTS;

/// Runs a recurrent node, given its number in the graph, the node and its inputs; returns one tensor per output of the
/// operator.
pub(crate) type Recurrent<'a> =
    &'a mut dyn FnMut(usize, &Node, &[Option<&Tensor>]) -> Result<Vec<Tensor>, OnnxError>;

/// Returns the outputs by name. Each tensor is dropped after its last reader.
pub(crate) fn evaluate(
    graph: &Graph,
    mut inputs: BTreeMap<String, Tensor>,
    recurrent: Recurrent,
) -> Result<BTreeMap<String, Tensor>, OnnxError> {
    let kept: BTreeSet<&str> = graph.outputs.iter().map(|port| port.name.as_str()).collect();
    let mut last_reader: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        for input in node.inputs.iter().flatten() {
            last_reader.insert(input, place);
        }
    }
    let mut live: usize = inputs.values().map(Tensor::len).sum();
    for (place, node) in graph.nodes.iter().enumerate() {
        let given: Vec<Option<&Tensor>> = node
            .inputs
            .iter()
            .map(|name| name.as_ref().and_then(|name| inputs.get(name).or_else(|| graph.constants.get(name))))
            .collect();
        let results = if operators::is_recurrent(&node.operator) {
            recurrent(place, node, &given)?
        } else {
            plain(node, graph.opset, given)?
        };
        for (name, tensor) in named(node, results)? {
            live += tensor.len();
            inputs.insert(name, tensor);
        }
        if live > MAX_LIVE {
            return Err(node.error(format!("more than {MAX_LIVE} elements at one time; use smaller inputs")));
        }
        for input in node.inputs.iter().flatten() {
            if last_reader.get(input.as_str()) == Some(&place) && !kept.contains(input.as_str()) {
                live -= inputs.remove(input).map_or(0, |tensor| tensor.len());
            }
        }
    }
    let mut outputs = BTreeMap::new();
    for port in &graph.outputs {
        let tensor = inputs.remove(&port.name).or_else(|| graph.constants.get(&port.name).cloned());
        let missing =
            || OnnxError::Input { name: port.name.clone(), expected: "a value".into(), found: "none".into() };
        outputs.insert(port.name.clone(), tensor.ok_or_else(missing)?);
    }
    Ok(outputs)
}

/// Runs a plain operator.
pub(crate) fn plain(node: &Node, opset: i64, inputs: Vec<Option<&Tensor>>) -> Result<Vec<Tensor>, OnnxError> {
    operators::run(&Call { node, opset, inputs }).map_err(|problem| node.error(problem))
}

/// Results under the names of the node's outputs.
fn named(node: &Node, results: Vec<Tensor>) -> Result<Vec<(String, Tensor)>, OnnxError> {
    if node.outputs.len() > results.len() {
        return Err(node.error(format!(
            "it has {} outputs; the operator has {}",
            node.outputs.len(),
            results.len()
        )));
    }
    let pairs = node.outputs.iter().zip(results);
    Ok(pairs.filter_map(|(name, tensor)| name.clone().map(|name| (name, tensor))).collect())
}

/// Evaluates every node that depends on no input, such as those that assemble weights from pieces.
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
